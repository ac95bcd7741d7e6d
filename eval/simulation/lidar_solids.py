"""What a ray can hit: upright boxes, and the shapes road users are made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

import numpy as np

from planner.scene import AgentClass


class Material(IntEnum):
    """What a box is made of; a LiDAR needs reflectivity and porosity alone, a camera this."""

    PLAIN = 0
    KERB = 1
    WALL = 2
    POLE = 3
    TRUNK = 4
    LEAVES = 5
    BODY = 6
    CABIN = 7
    ROOF = 8
    WHEEL = 9
    CARGO = 10
    CAB = 11
    CHASSIS = 12
    COACH = 13
    COACH_WINDOWS = 14
    CYCLE = 15
    TORSO = 16
    LEGS = 17
    HEAD = 18
    OBSTACLE = 19


NOBODY = -1
"""`Solids.owner` of what is no road user."""

# Parts of a road user as fractions of its box: (x from, x to, |y| up to, z from, z to, reflectivity, porosity,
# material), x from -0.5 (rear) to 0.5 (front), y up to 0.5 (side), z from 0 (ground) to 1 (top). Porosity: share of
# rays that pass (glass, spokes, foliage). Every shape touches the front, rear, sides and top of its box somewhere.
_PARTS: dict[AgentClass, tuple[tuple[float, ...], ...]] = {
    AgentClass.CAR: (
        (-0.5, 0.5, 0.5, 0.13, 0.57, 0.30, 0.0, Material.BODY),
        (-0.42, 0.22, 0.44, 0.57, 0.98, 0.15, 0.45, Material.CABIN),
        (-0.30, 0.10, 0.40, 0.92, 1.0, 0.30, 0.0, Material.ROOF),
        (-0.38, -0.25, 0.48, 0.0, 0.30, 0.08, 0.0, Material.WHEEL),
        (0.25, 0.38, 0.48, 0.0, 0.30, 0.08, 0.0, Material.WHEEL),
    ),
    AgentClass.TRUCK: (
        (-0.5, 0.22, 0.5, 0.28, 1.0, 0.35, 0.0, Material.CARGO),
        (0.25, 0.5, 0.47, 0.12, 0.82, 0.30, 0.05, Material.CAB),
        (-0.45, 0.45, 0.42, 0.06, 0.28, 0.10, 0.3, Material.CHASSIS),
    ),
    AgentClass.BUS: (
        (-0.5, 0.5, 0.5, 0.09, 0.42, 0.30, 0.0, Material.COACH),
        (-0.5, 0.5, 0.49, 0.42, 1.0, 0.20, 0.2, Material.COACH_WINDOWS),
    ),
    AgentClass.MOTORCYCLE: (
        (-0.5, 0.5, 0.2, 0.0, 0.55, 0.20, 0.25, Material.CYCLE),
        (-0.25, 0.2, 0.5, 0.45, 1.0, 0.25, 0.0, Material.TORSO),
    ),
    AgentClass.BICYCLE: (
        (-0.5, 0.5, 0.08, 0.0, 0.55, 0.20, 0.6, Material.CYCLE),
        (-0.2, 0.25, 0.5, 0.45, 1.0, 0.25, 0.0, Material.TORSO),
    ),
    AgentClass.PEDESTRIAN: (
        (-0.5, 0.5, 0.30, 0.0, 0.48, 0.20, 0.25, Material.LEGS),
        (-0.35, 0.35, 0.5, 0.45, 0.86, 0.25, 0.0, Material.TORSO),
        (-0.2, 0.2, 0.2, 0.86, 1.0, 0.25, 0.0, Material.HEAD),
    ),
    AgentClass.STATIC: ((-0.5, 0.5, 0.5, 0.0, 1.0, 0.35, 0.0, Material.OBSTACLE),),
}


@dataclass(frozen=True)
class Solids:
    """``N`` upright boxes, global frame, SI units.

    centre ``[N, 2]``; yaw ``[N]``; half ``[N, 2]``: half length and width; bottom, top ``[N]``: heights above the
    ground under the centre; velocity ``[N, 2]``; reflectivity ``[N]`` in (0, 1]; porosity ``[N]``: share of rays let
    through; material ``[N]`` Material values; owner ``[N]``: track id of the road user it is a part of, or NOBODY.
    """

    centre: np.ndarray
    yaw: np.ndarray
    half: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    velocity: np.ndarray
    reflectivity: np.ndarray
    porosity: np.ndarray
    material: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    def __getitem__(self, index: np.ndarray) -> Self:
        return type(self)(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def concatenate(cls, items: list[Self]) -> Self:
        """All boxes of all items; at least one item."""
        return cls(*(np.concatenate([getattr(item, f.name) for item in items]) for f in fields(cls)))

    @classmethod
    def from_rows(cls, rows: list[tuple[float, ...]]) -> Self:
        """From (x, y, yaw, half length, half width, bottom, top, reflectivity, porosity[, material]); at rest."""
        a = np.array([(*row, Material.PLAIN)[:10] for row in rows], dtype=float).reshape(-1, 10)
        zero, nobody = np.zeros((len(a), 2)), np.full(len(a), NOBODY)
        return cls(a[:, :2], a[:, 2], a[:, 3:5], a[:, 5], a[:, 6], zero, a[:, 7], a[:, 8], a[:, 9].astype(int), nobody)

    def near(self, xy: np.ndarray, distance: float | np.ndarray) -> Self:
        """Those that reach within `distance` (m, ``[N]`` or one for all) of the point ``[2]``."""
        reach = distance + np.hypot(*self.half.T)
        return self[((self.centre - xy) ** 2).sum(1) < reach**2]


def road_users(
    pose: np.ndarray,
    size: np.ndarray,
    height: np.ndarray,
    velocity: np.ndarray,
    agent_class: np.ndarray,
    track_id: np.ndarray | None = None,
) -> Solids:
    """Road users as solids, several per user.

    pose ``[N, 3]`` box centre and yaw, size ``[N, 2]`` length and width, height ``[N]``, velocity ``[N, 2]``; global
    frame, SI units. agent_class ``[N]``; track_id ``[N]``, by default their order.
    """
    track_id = np.arange(len(pose)) if track_id is None else np.asarray(track_id)
    parts = [_PARTS[AgentClass(int(kind))] for kind in agent_class]
    owner = np.repeat(np.arange(len(parts)), [len(p) for p in parts]).astype(int)
    part = np.array([row for rows in parts for row in rows], dtype=float).reshape(-1, 8)
    along, yaw = part[:, :2] * size[owner, :1], pose[owner, 2]
    ahead = along.mean(1)
    return Solids(
        centre=pose[owner, :2] + ahead[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], -1),
        yaw=yaw,
        half=np.stack([(along[:, 1] - along[:, 0]) / 2, part[:, 2] * size[owner, 1]], -1),
        bottom=part[:, 3] * height[owner],
        top=part[:, 4] * height[owner],
        velocity=velocity[owner],
        reflectivity=part[:, 5],
        porosity=part[:, 6],
        material=part[:, 7].astype(int),
        owner=track_id[owner].astype(int),
    )

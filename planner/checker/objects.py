"""The road users the checker looks at: those of the scene, and raw obstacles that the scene does not explain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.checker.arrays import array, wrapped
from planner.checker.assumptions import RAW
from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes, boxes_from_poses
from planner.scene import AgentClass, RawObstacles, RawStatus, VectorScene

FIRST_RAW_ID = -2
"""track_id of the first raw obstacle; further ones count down. -1 stands for no object."""
_OBJECT_RANGE = 100.0  # m around ego; what is farther cannot matter within the tail of a 25 m/s vehicle
_IS_VEHICLE = np.array([c.is_vehicle for c in sorted(AgentClass)] + [False])  # by class; RAW, as -1, finds the last


@dataclass(frozen=True)
class Objects:
    """Pose ``[A, 3]`` m, m, rad; size ``[A, 2]`` m; velocity ``[A, 2]`` m/s; kind ``[A]`` AgentClass values or RAW;
    track_id ``[A]``; turn_rate ``[A]`` rad/s at present."""

    pose: np.ndarray
    size: np.ndarray
    velocity: np.ndarray
    kind: np.ndarray
    track_id: np.ndarray
    turn_rate: np.ndarray

    def __len__(self) -> int:
        return len(self.pose)

    @cached_property
    def speed(self) -> np.ndarray:
        """``[A]`` m/s."""
        return np.hypot(self.velocity[:, 0], self.velocity[:, 1])

    @cached_property
    def drives(self) -> np.ndarray:
        """``[A]``: vehicles of the scene."""
        return _IS_VEHICLE[self.kind]

    @cached_property
    def boxes(self) -> Boxes:
        """``[A]``: their rectangles."""
        return boxes_from_poses(self.pose, self.size[:, 0], self.size[:, 1])

    def joined(self, other: Objects) -> Objects:
        """These, then the others."""
        return Objects(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in self.__dataclass_fields__))


def scene_objects(scene: VectorScene, config: CheckerConfig) -> tuple[np.ndarray, Objects]:
    """Indices of the scene's agents that are near and likely enough to matter, and the agents."""
    agents, futures = scene.agents, scene.futures
    box = array(agents.box).astype(np.float64)
    x, y = float(scene.ego.x), float(scene.ego.y)
    near = np.hypot(box[:, 0] - x, box[:, 1] - y) < _OBJECT_RANGE
    kept = np.flatnonzero(array(agents.valid) & near & (array(agents.existence) >= config.existence))
    yaw = array(futures.yaw)[kept].astype(np.float64)
    valid, probability = array(futures.valid)[kept], array(futures.probability)[kept].astype(np.float64)
    turn_rate = np.zeros(len(kept))
    time = array(futures.time).astype(np.float64)
    if len(kept) and len(time):
        # Perception reports no yaw rate; the beginning of its forecast is its estimate of the present one.
        early = min(int(np.searchsorted(time, 0.5)), len(time) - 1)
        change = wrapped(yaw[:, :, early] - box[kept, 2][:, None])
        weight = probability * valid[:, :, early]
        turn_rate = (weight * change).sum(1) / np.maximum(weight.sum(1), 1e-9) / time[early]
    objects = Objects(
        pose=box[kept, :3],
        size=box[kept, 3:5],
        velocity=array(agents.velocity)[kept].astype(np.float64),
        kind=array(agents.agent_class)[kept],
        track_id=array(agents.track_id)[kept],
        turn_rate=turn_rate,
    )
    return kept, objects


def unexplained(raw: RawObstacles | None, objects: Objects, ego: np.ndarray, config: CheckerConfig) -> Objects:
    """Raw obstacles that do not lie within a scene object's box (widened by `raw_explained`), or move where it is said
    to stand (`raw_velocity`); none without the channel.

    ego: x, y, yaw, ... in the scene's frame, which the raw obstacles are given relative to. The last known obstacles
    count where the channel is not OK: forgetting them would be the bolder assumption. An obstacle whose velocity is not
    known yet stands.
    """
    if raw is None or raw.status is RawStatus.ABSENT:
        return _nothing()
    there = array(raw.valid)
    centre, yaw = array(raw.centre)[there].astype(np.float64), array(raw.yaw)[there].astype(np.float64)
    size = np.stack([array(raw.length)[there], array(raw.width)[there]], -1).astype(np.float64)
    velocity = array(raw.velocity)[there].astype(np.float64)
    c, s = np.cos(ego[2]), np.sin(ego[2])
    rotation = np.array([[c, -s], [s, c]])
    pose = np.concatenate([centre @ rotation.T + ego[:2], (yaw + ego[2])[:, None]], 1)
    found = Objects(
        pose,
        size,
        velocity @ rotation.T,
        np.full(len(pose), RAW),
        FIRST_RAW_ID - np.flatnonzero(there),
        np.zeros(len(pose)),
    )
    known = array(raw.velocity_known)[there]
    new = ~_within(found, objects, config, known) & (np.hypot(*centre.T) < _OBJECT_RANGE)
    return Objects(*(getattr(found, n)[new] for n in found.__dataclass_fields__))


def _within(inner: Objects, outer: Objects, config: CheckerConfig, known: np.ndarray) -> np.ndarray:
    """Which of the inner rectangles lie with all corners within some outer one that moves alike; known ``[n]``: whether
    the inner ones' velocities are.
    """
    margin = config.raw_explained
    # Only pairs whose centres are close enough for it are looked at corner by corner.
    x, y = (inner.pose[:, None, j] - outer.pose[:, j] for j in (0, 1))
    reach = np.hypot(outer.size[:, 0] / 2 + margin, outer.size[:, 1] / 2 + margin) + 1e-6
    i, o = np.nonzero(x * x + y * y <= reach * reach)
    to = inner.boxes.corners[i] - outer.pose[o, None, :2]
    c, s = np.cos(outer.pose[o, 2])[:, None], np.sin(outer.pose[o, 2])[:, None]
    x, y, half = to[..., 0], to[..., 1], outer.size[o, None] / 2 + margin
    inside = (np.abs(c * x + s * y) <= half[..., 0]) & (np.abs(c * y - s * x) <= half[..., 1])
    found = np.zeros(len(inner), bool)
    # Only who is said to stand: what is measured of fast vehicles, seen in part, may be metres per second off.
    apart = np.hypot(*(inner.velocity[i] - outer.velocity[o]).T)
    alike = (apart <= config.raw_velocity) | (np.hypot(*outer.velocity[o].T) > config.raw_velocity)
    found[i[inside.all(-1) & (alike | ~known[i])]] = True
    return found


def _nothing() -> Objects:
    i = np.zeros(0, np.int64)
    return Objects(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 2)), i, i, np.zeros(0))

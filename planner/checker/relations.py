"""Objects seen from ego's route, as RSS needs them: how far along and beside it, how fast, in which constellation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from planner.checker.assumptions import Assumptions
from planner.checker.footprint import boxes_from_poses
from planner.checker.objects import Objects
from planner.checker.route_frame import RouteFrame
from planner.checker.rss import Party
from planner.scene import VehicleParameters

_ACROSS = np.pi / 4  # rad: what heads less than this across the route drives along it


class Constellation(IntEnum):
    """How an object moves relative to ego's route."""

    SAME = 0  # along it, or not by itself in any direction of a lane: people, things, what stands
    OPPOSITE = 1
    CROSSING = 2


@dataclass(frozen=True)
class Extent:
    """Rectangles in the route frame, ``[...]`` m: station from rear to front, offset from right to left; speed m/s
    along and to the left."""

    rear: np.ndarray
    front: np.ndarray
    right: np.ndarray
    left: np.ndarray
    along: np.ndarray
    aside: np.ndarray

    def later(self, time: float) -> Extent:
        """After `time` (s) at constant speed."""
        s, d = self.along * time, self.aside * time
        return Extent(self.rear + s, self.front + s, self.right + d, self.left + d, self.along, self.aside)


@dataclass(frozen=True)
class Relations:
    """``A`` objects. extent, kind (Constellation), party ``[A]``.

    place, place_reach ``[A]`` m: where along the route a crossing object's way meets it, and how far the shared place
    extends from there; way, way_reach ``[A]`` m: the same along the object's own way, from its centre.
    half ``[A]`` m: half its length. speed ``[A]`` m/s. stands ``[A]``: below the class's standing speed.
    """

    frame: RouteFrame
    extent: Extent
    kind: np.ndarray
    party: Party
    place: np.ndarray
    place_reach: np.ndarray
    way: np.ndarray
    way_reach: np.ndarray
    half: np.ndarray
    speed: np.ndarray
    stands: np.ndarray


def relate(
    frame: RouteFrame,
    objects: Objects,
    ego: np.ndarray,
    vehicle: VehicleParameters,
    table: Assumptions,
) -> Relations:
    """Every object of a scene relative to the route of ego (x, y, yaw, ...)."""
    bounds = [table.of(int(k)) for k in objects.kind]
    get = lambda name: np.array([getattr(b, name) for b in bounds], dtype=np.float64)  # noqa: E731
    brakes = lambda name: np.maximum(get(name), 1e-3)  # noqa: E731  # a zero stands for what does not move
    party = Party(
        get("response_time"), get("acceleration"), get("speed_max"), brakes("braking_min"), brakes("braking_correct"),
        brakes("braking"), get("lateral_acceleration"), brakes("lateral_braking"), get("lateral_margin"),
    )  # fmt: skip
    _, _, heading = frame.project(objects.pose[:, :2])
    extent = extent_of(frame, objects.pose, objects.size, objects.velocity)
    angle = np.abs(np.angle(np.exp(1j * (objects.pose[:, 2] - heading))))
    speed = objects.speed
    stands = speed < get("standing_speed")
    moving = objects.drives & ~stands
    kind = np.where(~moving | (angle < _ACROSS), Constellation.SAME, Constellation.OPPOSITE)
    kind = np.where(moving & (angle >= _ACROSS) & (angle <= np.pi - _ACROSS), Constellation.CROSSING, kind)
    shared = _shared_place(frame, objects, ego, vehicle)
    return Relations(frame, extent, kind, party, *shared, objects.size[:, 0] / 2, speed, stands)


def extent_of(frame: RouteFrame, pose: np.ndarray, size: np.ndarray, velocity: np.ndarray) -> Extent:
    """Rectangles of size ``[..., 2]`` centred at poses ``[..., 3]``, moving with ``[..., 2]`` m/s."""
    corners = boxes_from_poses(pose, size[..., 0], size[..., 1]).corners
    station, offset, _ = frame.project(corners)
    _, _, heading = frame.project(pose[..., :2])
    c, s = np.cos(heading), np.sin(heading)
    x, y = velocity[..., 0], velocity[..., 1]
    return Extent(
        station.min(-1), station.max(-1), offset.min(-1), offset.max(-1), c * x + s * y, c * y - s * x
    )  # fmt: skip


def _shared_place(
    frame: RouteFrame, objects: Objects, ego: np.ndarray, vehicle: VehicleParameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the straight ways of the objects meet the route ahead of ego's rear: `Relations.place` and so on."""
    here, _, _ = frame.project(ego[:2])
    c, s = np.cos(objects.pose[:, 2]), np.sin(objects.pose[:, 2])
    x = frame.xy[:, 0] - objects.pose[:, 0:1]
    y = frame.xy[:, 1] - objects.pose[:, 1:2]
    along, aside = x * c[:, None] + y * s[:, None], y * c[:, None] - x * s[:, None]
    turns = aside[:, :-1] * aside[:, 1:] <= 0
    share = aside[:, :-1] / np.where(aside[:, :-1] == aside[:, 1:], 1.0, aside[:, :-1] - aside[:, 1:])
    station = frame.station[:-1] + share * np.diff(frame.station)
    way = along[:, :-1] + share * np.diff(along, axis=1)
    meets = turns & (station > here - vehicle.rear) & (way > -objects.size[:, 0:1])
    station = np.where(meets, station, np.inf)
    i = station.argmin(1)
    row = np.arange(len(objects))
    angle = frame.heading[i] - objects.pose[:, 2]
    sine, cosine = np.maximum(np.abs(np.sin(angle)), 0.2), np.abs(np.cos(angle))
    width = objects.size[:, 1]
    place_reach = (width + vehicle.width * cosine) / (2 * sine)
    way_reach = (vehicle.width + width * cosine) / (2 * sine)
    return station[row, i], place_reach, np.where(np.isfinite(station[row, i]), way[row, i], np.inf), way_reach

"""Objects seen from ego's route, as RSS needs them: how far along and beside it, how fast, in which constellation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from planner.checker.arrays import wrapped
from planner.checker.assumptions import Assumptions
from planner.checker.footprint import Boxes
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
    extends from there; way, way_reach ``[A]`` m: the same along the object's own way, from its centre; inf for others.
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
    get = lambda name: table.column(name, objects.kind)  # noqa: E731
    brakes = lambda name: np.maximum(get(name), 1e-3)  # noqa: E731  # a zero stands for what does not move
    party = Party(
        get("response_time"), get("acceleration"), get("speed_max"), brakes("braking_min"), brakes("braking_correct"),
        brakes("braking"), get("lateral_acceleration"), brakes("lateral_braking"), get("lateral_margin"),
    )  # fmt: skip
    extent, heading = extent_of(frame, objects.boxes, objects.velocity)
    angle = np.abs(wrapped(objects.pose[:, 2] - heading))
    speed = objects.speed
    stands = speed < get("standing_speed")
    moving = objects.drives & ~stands
    kind = np.where(~moving | (angle < _ACROSS), Constellation.SAME, Constellation.OPPOSITE)
    kind = np.where(moving & (angle >= _ACROSS) & (angle <= np.pi - _ACROSS), Constellation.CROSSING, kind)
    shared = _shared_place(frame, objects, kind == Constellation.CROSSING, ego, vehicle)
    return Relations(frame, extent, kind, party, *shared, objects.size[:, 0] / 2, speed, stands)


def extent_of(frame: RouteFrame, boxes: Boxes, velocity: np.ndarray) -> tuple[Extent, np.ndarray]:
    """Rectangles ``[A]`` that move with ``[A, 2]`` m/s, and the route's heading ``[A]`` (rad) at their centres."""
    middle, corners = frame.project_boxes(boxes.center, boxes.corners)
    c, s = np.cos(middle.heading), np.sin(middle.heading)
    x, y = velocity[:, 0], velocity[:, 1]
    station, offset = corners.station, corners.offset
    extent = Extent(
        station.min(-1), station.max(-1), offset.min(-1), offset.max(-1), c * x + s * y, c * y - s * x
    )  # fmt: skip
    return extent, middle.heading


def _shared_place(
    frame: RouteFrame, objects: Objects, crossing: np.ndarray, ego: np.ndarray, vehicle: VehicleParameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the straight ways of crossing objects meet the route ahead of ego's rear: `Relations.place` and so on."""
    found = np.full((4, len(objects)), np.inf)
    who = np.flatnonzero(crossing)
    if not len(who):
        return tuple(found)  # type: ignore[return-value]
    pose, size = objects.pose[who], objects.size[who]
    here = frame.project(ego[:2]).station
    c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    x = frame.xy[:, 0] - pose[:, 0:1]
    y = frame.xy[:, 1] - pose[:, 1:2]
    along, aside = x * c[:, None] + y * s[:, None], y * c[:, None] - x * s[:, None]
    turns = aside[:, :-1] * aside[:, 1:] <= 0
    share = aside[:, :-1] / np.where(aside[:, :-1] == aside[:, 1:], 1.0, aside[:, :-1] - aside[:, 1:])
    station = frame.station[:-1] + share * np.diff(frame.station)
    way = along[:, :-1] + share * np.diff(along, axis=1)
    meets = turns & (station > here - vehicle.rear) & (way > -size[:, 0:1])
    station = np.where(meets, station, np.inf)
    i = station.argmin(1)
    row = np.arange(len(who))
    angle = frame.heading[i] - pose[:, 2]
    sine, cosine = np.maximum(np.abs(np.sin(angle)), 0.2), np.abs(np.cos(angle))
    place, width = station[row, i], size[:, 1]
    found[0, who], found[1, who] = place, (width + vehicle.width * cosine) / (2 * sine)
    found[2, who] = np.where(np.isfinite(place), way[row, i], np.inf)
    found[3, who] = (vehicle.width + width * cosine) / (2 * sine)
    return tuple(found)  # type: ignore[return-value]

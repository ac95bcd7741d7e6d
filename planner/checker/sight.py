"""Unknown space: how far ego sees in every direction, and who may come out of where it does not.

Sight is measured by the raw channel where there is one; the boxes of cars, trucks and buses limit it in any case. Its
origin is the ego frame's. Phantoms (Orzechowski et al., ITSC 2018) stand for road users behind an occluder: people at
its far corner, vehicles on a lane across ego's way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.arrays import array
from planner.checker.assumptions import PhantomBounds
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects
from planner.checker.relations import Constellation, Relations
from planner.checker.route_frame import RouteFrame
from planner.scene import AgentClass, RawObstacles

SECTORS = 360
_HIDES = np.array([c in (AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS) for c in sorted(AgentClass)] + [False])
_AHEAD = 60.0  # m along the route: phantoms farther than any tail reaches do not matter
_SAME = 1.0  # m
_BESIDE = 6.0  # m: walkers farther beside are seen in time
_LANE = 3.5  # m: width of a crossing lane
_PHANTOM_LENGTH = 4.5  # m


@dataclass(frozen=True)
class Sight:
    """origin ``[3]``: x, y (m), yaw (rad). reach ``[K]`` m: free range per sector of equal width, the first centred on
    straight ahead, counter-clockwise; inf where nothing limits it. lasting ``[K]`` m: the same without what moves: it
    hides a place for moments only, and who was seen there is still known. passing ``[K]``: what limits `reach` drives
    on ahead of ego, so that the space behind it is reached only after it has gone."""

    origin: np.ndarray
    reach: np.ndarray
    lasting: np.ndarray
    passing: np.ndarray

    def sees(self, point: np.ndarray, margin: float) -> np.ndarray:
        """Whether the points ``[..., 2]`` are no more than `margin` (m) behind what limits the sight towards them, or
        behind what drives on ahead of ego."""
        k, distance = self._polar(point)
        return (distance <= self.reach[k] + margin) | self.passing[k]

    def sees_always(self, point: np.ndarray, margin: float) -> np.ndarray:
        """Whether the points ``[..., 2]`` are no more than `margin` (m) behind anything that stands."""
        k, distance = self._polar(point)
        return distance <= self.lasting[k] + margin  # type: ignore[no-any-return]

    def _polar(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = point[..., 0] - self.origin[0], point[..., 1] - self.origin[1]
        turn = np.arctan2(y, x) - self.origin[2]
        k = np.rint(turn / (2 * np.pi) * len(self.reach)).astype(np.int64) % len(self.reach)
        return k, np.hypot(x, y)


def sight_of(objects: Objects, relations: Relations, ego: np.ndarray, raw: RawObstacles | None) -> Sight:
    """From the boxes, and from the raw channel's measured sectors. ego: x, y, yaw, ..."""
    hides = np.flatnonzero(_HIDES[objects.kind])
    hit = _ray_ranges(ego, objects.pose[hides], objects.size[hides])
    stands = relations.stands[hides]
    reach, lasting = hit.min(0, initial=np.inf), hit[stands].min(0, initial=np.inf)
    leads = (relations.kind[hides] == Constellation.SAME) & ~stands
    passing = np.zeros(SECTORS, bool)
    if len(hides):
        passing = np.isfinite(reach) & leads[hit.argmin(0)]
    if raw is not None and raw.sectors and bool(raw.sight_valid.any()):
        k = np.rint(np.arange(SECTORS) * raw.sectors / SECTORS).astype(np.int64) % raw.sectors
        measured = np.where(array(raw.sight_valid)[k], array(raw.sight)[k].astype(np.float64), np.inf)
        # The sensor meets the side of a known box where the box says, within a metre: then it is the same obstacle.
        nearer = measured < reach - _SAME
        reach, passing = np.minimum(reach, measured), passing & ~nearer
        lasting = np.where(nearer, np.minimum(lasting, measured), lasting)
    return Sight(ego[:3], reach, lasting, passing)


def _ray_ranges(ego: np.ndarray, pose: np.ndarray, size: np.ndarray) -> np.ndarray:
    """``[A, K]`` m: where the rays through the sectors' middles enter rectangles; inf for a miss or a begin inside."""
    i, k = _sectors(ego, pose, size)
    sector = ego[2] + 2 * np.pi * np.arange(SECTORS) / SECTORS
    ca, sa, c, s = np.cos(sector)[k], np.sin(sector)[k], np.cos(pose[:, 2])[i], np.sin(pose[:, 2])[i]
    x, y = (ego[:2] - pose[:, :2])[i].T
    enter, leave = np.full(len(i), -np.inf), np.full(len(i), np.inf)
    # The slabs along and across the rectangle.
    for start, direction, half in (
        (c * x + s * y, c * ca + s * sa, size[i, 0] / 2),
        (c * y - s * x, c * sa - s * ca, size[i, 1] / 2),
    ):
        direction = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
        first, second = (-half - start) / direction, (half - start) / direction
        enter, leave = np.maximum(enter, np.minimum(first, second)), np.minimum(leave, np.maximum(first, second))
    found = np.full((len(pose), SECTORS), np.inf)
    found[i, k] = np.where((enter > 0) & (enter <= leave), enter, np.inf)
    return found


def _sectors(ego: np.ndarray, pose: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a rectangle and a sector whose ray may meet the circle around it."""
    x, y = (pose[:, :2] - ego[:2]).T
    radius, distance = 0.5 * np.hypot(size[:, 0], size[:, 1]) + 1e-6, np.hypot(x, y)
    half = np.where(distance > radius, np.arcsin(np.minimum(radius / np.maximum(distance, 1e-9), 1.0)), np.pi)
    middle = np.arctan2(y, x) - ego[2]
    first = np.floor((middle - half) * (SECTORS / (2 * np.pi))).astype(np.int64)
    last = np.ceil((middle + half) * (SECTORS / (2 * np.pi))).astype(np.int64)
    count = np.minimum(last - first + 1, SECTORS)
    i = np.repeat(np.arange(len(pose)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, (first[i] + within) % SECTORS


@dataclass(frozen=True)
class Phantoms:
    """Places along the route that somebody unseen may enter.

    walkers ``[W, 3]``: station (m) of an occluder's far end, how far beside ego's way (m) a walker steps out there, and
    whose end it is. drivers ``[D, 4]``: begin and end (m) of the place on the route, and the
    first and last time (s) at which a phantom that cannot stop any more is in it.
    """

    walkers: np.ndarray
    drivers: np.ndarray


def phantoms(
    objects: Objects,
    relations: Relations,
    lanes: LaneGraph,
    sight: Sight,
    ego: np.ndarray,
    half_width: float,
    priority: bool,
    table: PhantomBounds,
) -> Phantoms:
    """Everybody who may be hidden near the route ahead of ego. priority: whoever crosses the route has to give way."""
    frame = relations.frame
    at = frame.project(ego[:2])
    here = float(at.station)
    return Phantoms(
        _walkers(objects, relations, here, float(at.offset), half_width, table),
        np.zeros((0, 4)) if priority else _drivers(frame, lanes, sight, here, table),
    )


def _walkers(
    objects: Objects, r: Relations, here: float, offset: float, half_width: float, table: PhantomBounds
) -> np.ndarray:
    standing = _HIDES[objects.kind] & r.stands
    gap = np.maximum(r.extent.right - offset, offset - r.extent.left) - half_width
    near = standing & (r.extent.front > here) & (r.extent.front < here + _AHEAD)
    i = np.flatnonzero(near & (gap > 0.0) & (gap < _BESIDE))
    return np.stack([r.extent.front[i], np.maximum(gap[i], table.walking_side), i.astype(float)], 1)


def _drivers(frame: RouteFrame, lanes: LaneGraph, sight: Sight, here: float, table: PhantomBounds) -> np.ndarray:
    """A phantom on every lane across the route, at the first place up the lane that ego does not see."""
    found = []
    speed = table.driving_speed
    stopping = speed * table.driving_response + speed**2 / (2 * table.driving_braking)
    inside = (frame.station > here - 1.0) & (frame.station < here + _AHEAD)
    route = frame.xy[inside]
    if len(route) < 2:
        return np.zeros((0, 4))
    for station, sine, up in lanes.crossings(route, frame.station[inside], stopping + _LANE):
        hidden = np.flatnonzero(~sight.sees_always(up[:, :2], _SAME))
        if not len(hidden):
            continue
        distance = float(up[hidden[0], 2])
        half = _LANE / 2 / sine
        if distance - half < stopping:
            first = max(distance - half, 0.0) / speed
            last = (stopping + 2 * half + _PHANTOM_LENGTH) / speed
            found.append((station - half, station + half, first, last))
    return np.array(found).reshape(-1, 4)

"""Where a tail may come to rest: not where others need the place."""

from __future__ import annotations

import numpy as np

from planner.checker.arrays import wrapped
from planner.checker.assumptions import Assumptions
from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes, boxes_from_poses, standing, sweep_segment_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets
from planner.checker.ways import STATION
from planner.scene import AgentClass, VehicleParameters

_LANE = 1.5  # m: half of a lane's width, less what a car in it leaves free


def resting_place(sets: SceneSets, tail: Motion, vehicle: VehicleParameters, config: CheckerConfig) -> Finding:
    """The rectangle at the tail's end is clear of the ways of cross traffic that comes, and of crosswalks in use.

    Cross traffic: vehicles on the move whose way leads through the place within `claim_time`, across ego's heading
    there. Left out: who gives way to ego, and what ego stands on already. A place on a lane across ego's way that
    nobody comes to is recorded, not refused: who comes later finds ego there before deciding.
    """
    found = Finding()
    end = tail.pose[-1:]
    rest = boxes_from_poses(end, vehicle.length, vehicle.width, vehicle.rear_axle_to_center)
    now = boxes_from_poses(sets.ego[None, :3], vehicle.length, vehicle.width, vehicle.rear_axle_to_center)
    time = float(tail.time[-1])
    owner, way = sets.occupancy.ways()
    table = config.assumptions
    # Most ways lead nowhere near: only those that pass within a vehicle's and a half are looked at point by point.
    apart = np.hypot(way[..., 0] - rest.center[0, 0], way[..., 1] - rest.center[0, 1]).min(-1, initial=np.inf)
    close = apart < rest.reach[0] + sets.objects.size[owner, 1] / 2 + STATION
    for n in np.flatnonzero((sets.objects.drives & ~sets.waits)[owner] & close):
        i = int(owner[n])
        length = int(sets.objects.speed[i] * table.claim_time) + 1
        path = way[n, : max(length, 2)]
        across = np.abs(wrapped(path[:, 2] - end[0, 2])) > table.claim_angle
        half = sets.objects.size[i, 1] / 2 + config.clearance
        gap = _distance(rest.center[0], rest.axis[0], rest.half[0], path[:, :2]) - half
        claimed = across & (gap < 0)
        if claimed.any() and not (_distance(now.center[0], now.axis[0], now.half[0], path[:, :2]) < half).any():
            track = int(sets.objects.track_id[i])
            detail = "comes to rest in the way of cross traffic"
            found.violations.append(Violation("tail_place", track, time, float(gap[claimed].min()), detail))
    found.violations += _on_crosswalks(sets, rest, now, time, table)
    lane = sets.lane
    near = _distance(rest.center[0], rest.axis[0], rest.half[0], lane.middle) - _LANE
    # Only centrelines that near can be said to cross it.
    close = np.flatnonzero(near < 0)
    step = lane.ends[close, 1] - lane.ends[close, 0]
    turn = np.abs(wrapped(np.arctan2(step[:, 1], step[:, 0]) - end[0, 2]))
    crossing = close[(turn > table.claim_angle) & (turn < np.pi - table.claim_angle)]
    if len(crossing):
        margin = float(near[crossing].min())
        found.records.append(Violation("tail_place_on_crossing_lane", -1, time, margin, "a lane crosses here"))
    return found


def _on_crosswalks(sets: SceneSets, rest: Boxes, now: Boxes, time: float, table: Assumptions) -> list[Violation]:
    """Resting on a crosswalk that somebody is on or comes to, unless ego stands on it already."""
    found = []
    low, high = rest.center[0] - rest.reach[0], rest.center[0] + rest.reach[0]
    for outline in sets.crosswalks:
        if (outline.max(0) < low).any() or (outline.min(0) > high).any():
            continue
        depth = _on(rest, outline)
        if depth >= 0 or _on(now, outline) < 0:
            continue
        reach = np.minimum(sets.objects.speed * table.claim_time, 5.0)
        people = np.isin(sets.objects.kind, [int(AgentClass.PEDESTRIAN), int(AgentClass.BICYCLE)])
        for i in np.flatnonzero(people & (_outline_distance(outline, sets.objects.pose[:, :2]) <= reach)):
            track = int(sets.objects.track_id[i])
            found.append(Violation("tail_place", track, time, depth, "comes to rest on a crosswalk in use"))
    return found


def _distance(center: np.ndarray, axis: np.ndarray, half: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Distance ``[n]`` (m) of points from a rectangle; 0 inside."""
    x, y = point[:, 0] - center[0], point[:, 1] - center[1]
    along, across = np.abs(x * axis[0] + y * axis[1]) - half[0], np.abs(y * axis[0] - x * axis[1]) - half[1]
    return np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0))  # type: ignore[no-any-return]


def _on(box: Boxes, outline: np.ndarray) -> float:
    """How far (m, negative) a rectangle ``[1]`` reaches into an outline; 0 outside."""
    sides = np.stack([outline, np.roll(outline, -1, 0)], 1)
    apart = float(sweep_segment_separation(standing(box.corners), np.zeros(len(sides), np.int64), sides).min())
    inside = bool(_inside(outline, box.center)[0])
    return min(apart, -1e-3 if inside else 0.0)


def _inside(outline: np.ndarray, point: np.ndarray) -> np.ndarray:
    """``[n]``: points within the outline, by the even-odd rule."""
    a, b = outline, np.roll(outline, -1, 0)
    x, y = point[:, 0:1], point[:, 1:2]
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    level = np.where(a[:, 1] == b[:, 1], 1.0, b[:, 1] - a[:, 1])
    return (spans & (x < a[:, 0] + (y - a[:, 1]) / level * (b[:, 0] - a[:, 0]))).sum(1) % 2 == 1  # type: ignore[no-any-return]


def _outline_distance(outline: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Distance ``[n]`` (m) of points from an outline's area; 0 inside."""
    a, along = outline, np.roll(outline, -1, 0) - outline
    to = point[:, None] - a
    u = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0.0, 1.0)
    gap = np.linalg.norm(to - u[..., None] * along, axis=-1).min(1)
    return np.where(_inside(outline, point), 0.0, gap)  # type: ignore[no-any-return]

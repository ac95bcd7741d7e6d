"""The road: drivable boundary, closed stop lines, speed limit, direction of travel."""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.edges import beyond_boundary
from planner.checker.footprint import Sweeps, settle, sweep_segment_distance, sweep_segment_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets
from planner.scene import VehicleParameters

_LOOK = 1.0  # m: boundary margins are reported up to here
_GIVING_UP = 1.0  # m/s^2: who drives against its route brakes at least this hard


def boundary(
    sets: SceneSets, motion: Motion, sweeps: Sweeps, vehicle: VehicleParameters, config: CheckerConfig, rule: str
) -> Finding:
    """The footprint never crosses the edge of the drivable area; if it already does, not deeper."""
    found = Finding()
    if not len(sets.boundary):
        found.records.append(Violation("no_boundary", -1, 0.0, 0.0, "the scene has no drivable boundary"))
        return found
    if sets.over_edge:
        return _not_deeper(sets, motion, vehicle, config, rule)
    moving = np.flatnonzero(np.maximum(np.abs(motion.v[:-1]), np.abs(motion.v[1:])) > config.rest_speed)
    apart, time = _segment_margin(sets.boundary, sweeps, moving, motion)
    found.margin = apart - config.boundary_clearance
    if found.margin < 0:
        found.violations.append(Violation(rule, -1, time, found.margin, f"gap {apart:.2f} m to the edge of the road"))
    return found


def stop_line(sets: SceneSets, motion: Motion, sweeps: Sweeps, config: CheckerConfig, rule: str) -> Finding:
    """The footprint does not reach a closed stop line that it is not already on."""
    found = Finding()
    if not len(sets.stop_line):
        return found
    moving = np.flatnonzero(np.maximum(np.abs(motion.v[:-1]), np.abs(motion.v[1:])) > config.rest_speed)
    apart, time = _segment_margin(sets.stop_line, sweeps, moving, motion)
    if apart < 0:
        found.violations.append(Violation(rule, -1, time, apart, "passes a closed stop line"))
    return found


def speed_limit(sets: SceneSets, motion: Motion, config: CheckerConfig) -> Finding:
    """Intended speed against the route's limit; above it only while getting slower from the start."""
    found = Finding()
    if not len(sets.route_xy):
        return found
    distance2 = ((motion.pose[:, None, :2] - sets.route_xy[None]) ** 2).sum(-1)
    allowed = config.speed_factor * sets.route_limit[distance2.argmin(1)] + config.speed_extra
    slowing = np.minimum.accumulate(motion.v) + 0.05
    allowed = np.maximum(allowed, np.minimum(slowing, motion.v[0] + 0.05))
    found.limit("speed_limit", motion.time, allowed - motion.v, f"{motion.v.max():.1f} m/s")
    return found


def wrong_way(sets: SceneSets, motion: Motion, config: CheckerConfig) -> Finding:
    """Never turned against the route, and never onto a lane of the opposite direction beyond the surface that the
    route may use; on that surface it is a record.
    """
    found = Finding()
    moving = np.abs(motion.v) > config.rest_speed
    if not len(sets.route_xy) or not moving.any():
        return found
    _, offset, heading = sets.relations.frame.project(motion.pose[:, :2])
    turned = np.abs(np.angle(np.exp(1j * (motion.pose[:, 2] - heading))))
    # Who goes the wrong way already cannot turn round at once, but must slow down.
    slowing = motion.v <= motion.v[0] - _GIVING_UP * motion.time + 0.05
    tolerated = (turned[0] > config.wrong_way_angle) & slowing & (turned <= turned[0] + 0.05)
    counts = moving & ~tolerated
    found.limit("wrong_way", motion.time[counts], (config.wrong_way_angle - turned)[counts], "drives against its route")
    oncoming = _on_oncoming_lane(sets, motion)
    if not oncoming[-1]:
        return found
    near = np.hypot(*(sets.route_xy - motion.pose[-1, :2]).T).argmin()
    outside = max(offset[-1] - sets.route_left[near], -offset[-1] - sets.route_right[near])
    about = Violation("wrong_way", -1, float(motion.time[-1]), -float(max(outside, 0.0)), "on an oncoming lane")
    if outside > 0 and not oncoming[0]:
        found.violations.append(about)
    else:
        found.records.append(about)
    return found


def _on_oncoming_lane(sets: SceneSets, motion: Motion) -> np.ndarray:
    """First and last pose: the nearest centreline piece is within 1.5 m and heads the other way."""
    if not len(sets.lane):
        return np.zeros(2, bool)
    ends = motion.pose[[0, -1]]
    along = sets.lane[:, 1] - sets.lane[:, 0]
    gap = np.hypot(*np.moveaxis(0.5 * (sets.lane[:, 0] + sets.lane[:, 1]) - ends[:, None, :2], -1, 0))
    i = gap.argmin(1)
    facing = along[i, 0] * np.cos(ends[:, 2]) + along[i, 1] * np.sin(ends[:, 2])
    return (gap.min(1) < 1.5) & (facing < -0.5 * np.hypot(along[i, 0], along[i, 1]))  # type: ignore[no-any-return]


def _segment_margin(segments: np.ndarray, sweeps: Sweeps, rows: np.ndarray, motion: Motion) -> tuple[float, float]:
    """Smallest distance (m, up to `_LOOK`) of the sweeps `rows` from the segments, and when (s)."""
    if not len(rows) or not len(segments):
        return np.inf, 0.0
    center, half = 0.5 * (segments[:, 0] + segments[:, 1]), np.hypot(*(segments[:, 1] - segments[:, 0]).T) / 2
    # First against the box around the whole motion: most of a map is far from any one plan.
    low = (sweeps.center[rows] - sweeps.reach[rows, None]).min(0) - _LOOK
    high = (sweeps.center[rows] + sweeps.reach[rows, None]).max(0) + _LOOK
    x, y = center[:, 0], center[:, 1]
    near = np.flatnonzero((x + half > low[0]) & (x - half < high[0]) & (y + half > low[1]) & (y - half < high[1]))
    if not len(near):
        return np.inf, 0.0
    distance = np.hypot(sweeps.center[rows, 0:1] - x[near], sweeps.center[rows, 1:2] - y[near])
    k, s = np.nonzero(distance < sweeps.reach[rows][:, None] + half[near] + _LOOK)
    if not len(k):
        return np.inf, 0.0
    k, piece = rows[k], segments[near[s]]
    apart = sweep_segment_separation(sweeps, k, piece)
    apart = settle(apart, 0.0, lambda p: sweep_segment_distance(sweeps, k[p], piece[p]))
    worst = int(apart.argmin())
    return float(apart[worst]), float(motion.time[k[worst]])


def _not_deeper(
    sets: SceneSets, motion: Motion, vehicle: VehicleParameters, config: CheckerConfig, rule: str
) -> Finding:
    """Ego is over the edge already: no part of its outline may get farther out than the farthest is now."""
    found = Finding()
    now = sets.beyond_edge
    found.records.append(Violation(f"{rule}_outside_now", -1, 0.0, -now, "over the edge before the plan"))
    deeper = now + 5 * config.touching_tolerance - beyond_boundary(sets.boundary, motion.pose, vehicle)
    found.limit(rule, motion.time, deeper, "gets farther over the edge of the road")
    found.margin = min(float(deeper.min()), 0.0)
    return found

"""The road: drivable boundary, closed stop lines, speed limit, direction of travel."""

from __future__ import annotations

import numpy as np

from planner.checker.arrays import wrapped
from planner.checker.config import CheckerConfig
from planner.checker.edges import Segments, beyond_boundary
from planner.checker.footprint import Sweeps, settle, sweep_segment_gap, sweep_segment_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.route_frame import Along
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
    apart, time = _segment_margin(sets.boundary, sweeps, motion.moving(config.rest_speed), motion)
    found.margin = apart - config.boundary_clearance
    if found.margin < 0:
        found.violations.append(Violation(rule, -1, time, found.margin, f"gap {apart:.2f} m to the edge of the road"))
    return found


def stop_line(sets: SceneSets, motion: Motion, sweeps: Sweeps, config: CheckerConfig, rule: str) -> Finding:
    """The footprint does not reach a closed stop line that it is not already on."""
    found = Finding()
    if not len(sets.stop_line):
        return found
    apart, time = _segment_margin(sets.stop_line, sweeps, motion.moving(config.rest_speed), motion)
    if apart < 0:
        found.violations.append(Violation(rule, -1, time, apart, "passes a closed stop line"))
    return found


def speed_limit(sets: SceneSets, motion: Motion, config: CheckerConfig) -> Finding:
    """Intended speed against the route's limit; above it only while getting slower from the start."""
    found = Finding()
    if not len(sets.route_xy):
        return found
    x, y = (motion.pose[:, j, None] - sets.route_xy[:, j] for j in (0, 1))
    allowed = config.speed_factor * sets.route_limit[(x * x + y * y).argmin(1)] + config.speed_extra
    slowing = np.minimum.accumulate(motion.v) + 0.05
    allowed = np.maximum(allowed, np.minimum(slowing, motion.v[0] + 0.05))
    found.limit("speed_limit", motion.time, allowed - motion.v, f"{motion.v.max():.1f} m/s")
    return found


def wrong_way(sets: SceneSets, motion: Motion, along: Along, config: CheckerConfig) -> Finding:
    """Never turned against the route, and never onto a lane of the opposite direction beyond the surface that the
    route may use; on that surface it is a record. along: where the motion is relative to the route.
    """
    found = Finding()
    moving = np.abs(motion.v) > config.rest_speed
    if not len(sets.route_xy) or not moving.any():
        return found
    turned = np.abs(wrapped(motion.pose[:, 2] - along.heading))
    # Who goes the wrong way already cannot turn round at once, but must slow down.
    slowing = motion.v <= motion.v[0] - _GIVING_UP * motion.time + 0.05
    tolerated = (turned[0] > config.wrong_way_angle) & slowing & (turned <= turned[0] + 0.05)
    counts = moving & ~tolerated
    found.limit("wrong_way", motion.time[counts], (config.wrong_way_angle - turned)[counts], "drives against its route")
    if not _on_oncoming_lane(sets, motion.pose[-1]):
        return found
    near = np.hypot(*(sets.route_xy - motion.pose[-1, :2]).T).argmin()
    outside = max(along.offset[-1] - sets.route_left[near], -along.offset[-1] - sets.route_right[near])
    about = Violation("wrong_way", -1, float(motion.time[-1]), -float(max(outside, 0.0)), "on an oncoming lane")
    if outside > 0 and not _on_oncoming_lane(sets, motion.pose[0]):
        found.violations.append(about)
    else:
        found.records.append(about)
    return found


def _on_oncoming_lane(sets: SceneSets, pose: np.ndarray) -> bool:
    """Whether the centreline piece nearest to a pose is within 1.5 m and heads the other way."""
    if not len(sets.lane):
        return False
    x, y = sets.lane.middle[:, 0] - pose[0], sets.lane.middle[:, 1] - pose[1]
    squared = x * x + y * y
    i = int(squared.argmin())
    along = sets.lane.ends[i, 1] - sets.lane.ends[i, 0]
    facing = along[0] * np.cos(pose[2]) + along[1] * np.sin(pose[2])
    return bool(squared[i] < 1.5**2 and facing < -0.5 * np.hypot(along[0], along[1]))


def _segment_margin(segments: Segments, sweeps: Sweeps, rows: np.ndarray, motion: Motion) -> tuple[float, float]:
    """Smallest distance (m, up to `_LOOK`) of the sweeps `rows` from the segments, and when (s)."""
    if not len(rows) or not len(segments):
        return np.inf, 0.0
    # First against the box around the whole motion: most of a map is far from any one plan.
    center, reach = sweeps.center[rows], sweeps.reach[rows, None]
    near = segments.around((center - reach).min(0) - _LOOK, (center + reach).max(0) + _LOOK)
    x, y = center[:, 0:1] - segments.middle[near, 0], center[:, 1:2] - segments.middle[near, 1]
    reach = reach + segments.half[near] + _LOOK
    k, s = np.nonzero(x * x + y * y < reach * reach)
    if not len(k):
        return np.inf, 0.0
    k, piece = rows[k], segments.ends[near[s]]
    apart = sweep_segment_separation(sweeps, k, piece)
    apart = settle(apart, 0.0, lambda p: sweep_segment_gap(sweeps, k[p], piece[p]))
    worst = int(apart.argmin())
    return float(apart[worst]), float(motion.time[k[worst]])


def _not_deeper(
    sets: SceneSets, motion: Motion, vehicle: VehicleParameters, config: CheckerConfig, rule: str
) -> Finding:
    """Ego is over the edge already: no part of its outline may get farther out than the farthest is now."""
    found = Finding()
    now = sets.beyond_edge
    found.records.append(Violation(f"{rule}_outside_now", -1, 0.0, -now, "over the edge before the plan"))
    deeper = now + 5 * config.touching_tolerance - beyond_boundary(sets.boundary.ends, motion.pose, vehicle)
    found.limit(rule, motion.time, deeper, "gets farther over the edge of the road")
    found.margin = min(float(deeper.min()), 0.0)
    return found

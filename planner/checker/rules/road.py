"""The road: drivable boundary, closed stop lines, speed limit, direction of travel."""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.footprint import Sweeps, settle, sweep_segment_distance, sweep_segment_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets, beyond_boundary
from planner.scene import VehicleParameters

_LOOK = 1.0  # m: boundary margins are reported up to here


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
    """A record (never a violation) when the intended motion ends on a centreline of the opposite direction."""
    found = Finding()
    end = motion.pose[-1]
    heading = np.array([np.cos(end[2]), np.sin(end[2])])
    if not len(sets.lane):
        return found
    along = sets.lane[:, 1] - sets.lane[:, 0]
    gap = np.hypot(*(0.5 * (sets.lane[:, 0] + sets.lane[:, 1]) - end[:2]).T)
    i = int(gap.argmin())
    nearest, facing = float(gap[i]), float(along[i] @ heading) / max(float(np.hypot(*along[i])), 1e-9)
    if nearest < 1.5 and facing < -0.5:
        found.records.append(Violation("wrong_way", -1, float(motion.time[-1]), facing, "on an oncoming lane"))
    return found


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

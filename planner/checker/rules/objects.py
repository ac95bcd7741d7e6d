"""Other road users: forecasts for the intended motion, worst-case sets for the tail.

Ego answers for its own motion only: an interval in which it stands is not checked, and what comes
from behind is the follower's duty (both recorded). What already touches at time 0 must not come closer.
"""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes, Sweeps, boxes_from_poses, sweep_box_distance, sweep_box_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets

_LOOK = 3.0  # m: margins are reported up to here


def nominal_objects(sets: SceneSets, motion: Motion, sweeps: Sweeps, config: CheckerConfig) -> Finding:
    """The first `nominal_horizon` seconds against every likely mode of every object."""
    steps = min(len(sweeps), len(sets.predicted.center))
    return _against(sets, motion, sweeps, steps, sets.predicted, sets.predicted_owner, "nominal_object", config)


def tail_objects(sets: SceneSets, tail: Motion, sweeps: Sweeps, config: CheckerConfig) -> Finding:
    """The tail against the occupancy sets until it is at rest."""
    boxes = sets.occupancy.boxes(len(sweeps))
    return _against(sets, tail, sweeps, len(sweeps), boxes, sets.occupancy.owner, "tail_object", config)


def _against(
    sets: SceneSets,
    motion: Motion,
    sweeps: Sweeps,
    steps: int,
    boxes: Boxes,
    owner: np.ndarray,
    rule: str,
    config: CheckerConfig,
) -> Finding:
    found = Finding()
    count = len(sets.objects)
    if not count or not steps:
        return found
    moving = np.maximum(np.abs(motion.v[:-1]), np.abs(motion.v[1:]))[:steps] > config.rest_speed
    excluded = _their_duty(sets, motion, config)
    looked_at = ~(excluded | sets.touching)[owner]
    near = np.linalg.norm(boxes.center[:steps] - sweeps.center[:steps, None], axis=-1)
    near = near < boxes.reach[:steps] + sweeps.reach[:steps, None] + _LOOK
    k, n = np.nonzero(near & looked_at & moving[:, None])
    margin = np.full(count, np.inf)
    if len(k):
        close = boxes.take((k, n))
        apart = sweep_box_separation(sweeps, k, close)
        # The separation is a lower bound: the exact distance is needed only where it decides something.
        unsure = np.flatnonzero(apart < max(config.clearance, float(apart.min()) + 0.3))
        apart[unsure] = sweep_box_distance(sweeps, k[unsure], close.take(unsure))
        for p in np.lexsort((apart, owner[n])):
            i = owner[n[p]]
            if apart[p] < margin[i]:
                margin[i] = apart[p]
                if apart[p] < config.clearance:
                    short = float(apart[p] - config.clearance)
                    found.violations.append(_about(sets, rule, i, motion.time[k[p]], short, f"gap {apart[p]:.2f} m"))
    found.margin = float(margin.min()) - config.clearance
    for i in np.flatnonzero(excluded):
        found.records.append(_about(sets, f"{rule}_their_duty", i, 0.0, float(sets.gap[i]), "comes from behind"))
    found.add(_touching(sets, motion, sweeps, rule, config))
    return found


def _touching(sets: SceneSets, motion: Motion, sweeps: Sweeps, rule: str, config: CheckerConfig) -> Finding:
    """Objects whose clearance is broken now: ego must not come closer to where they are now."""
    found = Finding()
    for i in np.flatnonzero(sets.touching):
        found.records.append(_about(sets, f"{rule}_touching", i, 0.0, float(sets.gap[i]), "too close before the plan"))
        box = boxes_from_poses(sets.objects.pose[[i]], *sets.objects.size[[i]].T)
        k = np.arange(len(sweeps))
        gap = sweep_box_distance(sweeps, k, box.take(np.zeros(len(sweeps), np.int64)))
        worst = int(gap.argmin())
        # The first sweep contains the present position, so only rounding and the bulge may come off.
        closer = float(gap[worst] - min(sets.gap[i], config.clearance)) + config.touching_tolerance
        if closer + float(sweeps.disc[worst]) < 0:
            found.violations.append(
                _about(sets, rule, i, motion.time[worst], closer, "comes closer to what it touches")
            )
    return found


def _their_duty(sets: SceneSets, motion: Motion, config: CheckerConfig) -> np.ndarray:
    """``[A]``: objects behind that must keep their distance; those beside ego's track only while ego keeps to it."""
    if not sets.behind.any():
        return sets.behind
    return sets.following | (sets.behind & (_side_move(sets, motion) <= config.side_move))


def _side_move(sets: SceneSets, motion: Motion) -> float:
    """How far (m) the rear axle moves sideways relative to the route; relative to its own start without one."""
    if len(sets.route_xy) < 2:
        c, s = np.cos(sets.ego[2]), np.sin(sets.ego[2])
        off = motion.pose[:, :2] - sets.ego[:2]
        return float(np.abs(c * off[:, 1] - s * off[:, 0]).max())
    start, along = sets.route_xy[:-1], np.diff(sets.route_xy, axis=0)
    size2 = np.maximum((along**2).sum(1), 1e-12)
    to = motion.pose[:, None, :2] - start
    u = np.clip((to * along).sum(-1) / size2, 0.0, 1.0)
    gap2 = ((to - u[..., None] * along) ** 2).sum(-1)
    i = gap2.argmin(1)
    rows = np.arange(len(to))
    cross = along[i, 0] * to[rows, i, 1] - along[i, 1] * to[rows, i, 0]
    offset = np.sign(cross) * np.sqrt(gap2[rows, i])
    return float(np.abs(offset - offset[0]).max())


def _about(sets: SceneSets, rule: str, i: int, time: float, margin: float, detail: str) -> Violation:
    return Violation(rule, int(sets.objects.track_id[i]), float(time), margin, detail)

"""Other road users: forecasts for the intended motion, worst-case sets for the tail.

Ego answers for its own motion only: an interval in which it stands is not checked, and what comes
from behind is the follower's duty (both recorded). What already touches at time 0 must not come closer.
"""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes, Sweeps, boxes_from_poses, settle, sweep_box_distance, sweep_box_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets

_LOOK = 2.0  # m: margins are reported up to here


def nominal_objects(sets: SceneSets, motion: Motion, sweeps: Sweeps, config: CheckerConfig) -> Finding:
    """The first `nominal_horizon` seconds against every likely mode of every object.

    Before `config.early` every such mode counts; later those of an object together must be likely.
    """
    rule, owner, probability = "nominal_object", sets.predicted_owner, sets.predicted_probability
    steps = min(len(sweeps), len(sets.predicted.center))
    excluded = _their_duty(sets, motion, config)
    k, n, gap = _gaps(sets, motion, sweeps, steps, sets.predicted, owner, excluded, config)
    conflict = gap < config.clearance
    late = motion.time[k] >= config.early - 1e-9
    modes = np.unique(n[conflict])
    weight = np.bincount(owner[modes], probability[modes], len(sets.objects))
    counts = ~late | ~conflict | (weight[owner[n]] >= config.likely - 1e-9)
    found = _worst_of_each(sets, motion, rule, k[counts], owner[n[counts]], gap[counts], config)
    for i in np.unique(owner[n[~counts]]):
        found.records.append(_about(sets, f"{rule}_unlikely", i, 0.0, float(weight[i]), "conflict in unlikely modes"))
    found.add(_duties(sets, excluded, rule))
    found.add(_touching(sets, motion, sweeps, rule, config))
    return found


def tail_objects(sets: SceneSets, tail: Motion, sweeps: Sweeps, config: CheckerConfig) -> Finding:
    """The tail against the occupancy sets until it is at rest."""
    rule, owner = "tail_object", sets.occupancy.owner
    boxes = sets.occupancy.boxes(len(sweeps))
    excluded = _their_duty(sets, tail, config)
    k, n, gap = _gaps(sets, tail, sweeps, len(sweeps), boxes, owner, excluded, config)
    found = _worst_of_each(sets, tail, rule, k, owner[n], gap, config)
    found.add(_duties(sets, excluded, rule))
    found.add(_touching(sets, tail, sweeps, rule, config))
    return found


def _gaps(
    sets: SceneSets,
    motion: Motion,
    sweeps: Sweeps,
    steps: int,
    boxes: Boxes,
    owner: np.ndarray,
    excluded: np.ndarray,
    config: CheckerConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step, box and gap (m) of every pair that is near; gaps that decide something are exact, others a lower bound."""
    moving = np.maximum(np.abs(motion.v[:-1]), np.abs(motion.v[1:]))[:steps] > config.rest_speed
    columns = np.flatnonzero(~(excluded | sets.touching)[owner])
    # First against the circle around the whole motion: most objects are far from any one plan.
    middle = 0.5 * (sweeps.center[:steps].min(0) + sweeps.center[:steps].max(0)) if steps else np.zeros(2)
    around = np.linalg.norm(sweeps.center[:steps] - middle, axis=-1).max(initial=0.0)
    reach = boxes.reach[:steps] + sweeps.reach[:steps, None] + _LOOK
    x, y = boxes.center[:steps, :, 0], boxes.center[:steps, :, 1]
    within = np.maximum(np.abs(x - middle[0]), np.abs(y - middle[1])) < reach + around
    columns = columns[within[:, columns].any(0)]
    apart = np.hypot(x[:, columns] - sweeps.center[:steps, 0:1], y[:, columns] - sweeps.center[:steps, 1:2])
    k, n = np.nonzero((apart < reach[:, columns]) & moving[:, None])
    n = columns[n]
    if not len(k):
        return k, n, np.zeros(0)
    close = boxes.take((k, n))
    gap = sweep_box_separation(sweeps, k, close)
    gap = settle(gap, config.clearance, lambda p: sweep_box_distance(sweeps, k[p], close.take(p)))
    return k, n, gap


def _worst_of_each(
    sets: SceneSets, motion: Motion, rule: str, k: np.ndarray, who: np.ndarray, gap: np.ndarray, config: CheckerConfig
) -> Finding:
    """One violation per object at its smallest gap, if that is below the clearance."""
    found = Finding()
    if not len(gap):
        return found
    found.margin = float(gap.min()) - config.clearance
    broken = np.flatnonzero(gap < config.clearance)
    for p in broken[np.argsort(gap[broken], kind="stable")]:
        i = int(who[p])
        if all(v.track_id != sets.objects.track_id[i] for v in found.violations):
            short = float(gap[p] - config.clearance)
            found.violations.append(_about(sets, rule, i, motion.time[k[p]], short, f"gap {gap[p]:.2f} m"))
    return found


def _duties(sets: SceneSets, excluded: np.ndarray, rule: str) -> Finding:
    """Records of what was left to others."""
    about = [
        _about(sets, f"{rule}_their_duty", i, 0.0, float(sets.gap[i]), "comes from behind")
        for i in np.flatnonzero(excluded)
    ]
    return Finding(records=about)


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
    """How far (m) the rear axle moves sideways relative to the route."""
    _, offset, _ = sets.relations.frame.project(motion.pose[:, :2])
    return float(np.abs(offset - offset[0]).max())


def _about(sets: SceneSets, rule: str, i: int, time: float, margin: float, detail: str) -> Violation:
    return Violation(rule, int(sets.objects.track_id[i]), float(time), margin, detail)

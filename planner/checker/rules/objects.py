"""Other road users: forecasts for the intended motion, worst-case sets for the tail.

Ego answers for its own motion only: an interval in which it stands is not checked, and what comes
from behind is the follower's duty (both recorded). What already touches at time 0 must not come closer.
"""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.followers import modes_behind, ways_behind
from planner.checker.footprint import Boxes, Sweeps, settle, sweep_box_distance, sweep_box_gap, sweep_box_separation
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.route_frame import Along
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets

_LOOK = 2.0  # m: margins are reported up to here


def nominal_objects(sets: SceneSets, motion: Motion, sweeps: Sweeps, along: Along, config: CheckerConfig) -> Finding:
    """The first `nominal_horizon` seconds against every likely mode of every object.

    Before `config.early` every such mode counts; later those of an object together must be likely.
    along: where the motion is relative to the route.
    """
    rule, said = "nominal_object", sets.forecasts
    excluded = _their_duty(sets, along, config)
    rows = motion.moving(config.rest_speed)
    k, boxes, mode = said.near(sweeps, rows[rows < said.intervals], ~(excluded | sets.touching), _LOOK)
    gap, who = _gaps(sweeps, k, boxes, config), said.owner[mode]
    conflict = gap < config.clearance
    if conflict.any() and _keeps_to_its_way(along, config):
        modes = np.unique(mode[conflict & (sets.objects.drives & _passed(sets, motion))[who]])
        follow = np.isin(mode, modes[modes_behind(said, modes, sweeps, config.clearance)])
        k, mode, gap, who, conflict = (f[~follow] for f in (k, mode, gap, who, conflict))
    late = motion.time[k] >= config.early - 1e-9
    modes = np.unique(mode[conflict])
    weight = np.bincount(said.owner[modes], said.probability[modes], len(sets.objects))
    counts = ~late | ~conflict | (weight[who] >= config.likely - 1e-9)
    found = _worst_of_each(sets, motion, rule, k[counts], who[counts], gap[counts], config)
    found.likely_contact = _first_contact(motion, k[counts], gap[counts])
    for i in np.unique(who[~counts]):
        found.records.append(_about(sets, f"{rule}_unlikely", i, 0.0, float(weight[i]), "conflict in unlikely modes"))
    found.add(_duties(sets, excluded, rule))
    found.add(_touching(sets, motion, sweeps, rule, config))
    return found


def tail_objects(sets: SceneSets, tail: Motion, sweeps: Sweeps, along: Along, config: CheckerConfig) -> Finding:
    """The tail against the occupancy sets until it is at rest. along: where it is relative to the route."""
    rule = "tail_object"
    excluded = _their_duty(sets, along, config)
    rows = tail.moving(config.rest_speed)
    k, boxes, who = sets.occupancy.near(sweeps, rows, ~(excluded | sets.touching), _LOOK)
    gap, followers = _gaps(sweeps, k, boxes, config), np.zeros(len(sets.objects), bool)
    followers[who[gap < config.clearance]] = True
    if followers.any() and _keeps_to_its_way(along, config):
        behind = ways_behind(sets.occupancy, followers & _passed(sets, tail), sweeps, config.clearance)
        if behind.any():
            others = ~followers[who]
            again, boxes, whose = sets.occupancy.near(sweeps, rows, followers, _LOOK, behind)
            gap = np.concatenate([gap[others], _gaps(sweeps, again, boxes, config)])
            k, who = np.concatenate([k[others], again]), np.concatenate([who[others], whose])
    found = _worst_of_each(sets, tail, rule, k, who, gap, config)
    found.contact = _first_contact(tail, k, gap)
    found.add(_duties(sets, excluded, rule))
    found.add(_touching(sets, tail, sweeps, rule, config))
    return found


def _gaps(sweeps: Sweeps, k: np.ndarray, boxes: Boxes, config: CheckerConfig) -> np.ndarray:
    """Gap (m) of sweep k[p] and box p; gaps that decide something are exact, others a lower bound."""
    if not len(k):
        return np.zeros(0)
    gap = sweep_box_separation(sweeps, k, boxes)
    return settle(gap, config.clearance, lambda p: sweep_box_gap(sweeps, k[p], boxes.take(p)))


def _first_contact(motion: Motion, k: np.ndarray, gap: np.ndarray) -> float:
    """When (s) the first of the sweeps k touches; inf if none does."""
    return float(motion.time[k[gap < 0]].min(initial=np.inf))


def _worst_of_each(
    sets: SceneSets, motion: Motion, rule: str, k: np.ndarray, who: np.ndarray, gap: np.ndarray, config: CheckerConfig
) -> Finding:
    """One violation per object at its smallest gap, if that is below the clearance."""
    found = Finding()
    if not len(gap):
        return found
    found.margin = float(gap.min()) - config.clearance
    broken = np.flatnonzero(gap < config.clearance)
    # Of gaps that differ by rounding alone the first in time.
    for p in broken[np.argsort(gap[broken].round(9), kind="stable")]:
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
        gap = sweep_box_distance(sweeps, np.arange(len(sweeps)), sets.objects.boxes.take(np.full(len(sweeps), i)))
        worst = int(gap.argmin())
        # The first sweep contains the present position, so only rounding and the bulge may come off.
        closer = float(gap[worst] - min(sets.gap[i], config.clearance)) + config.touching_tolerance
        if closer + float(sweeps.disc[worst]) < 0:
            found.violations.append(
                _about(sets, rule, i, motion.time[worst], closer, "comes closer to what it touches")
            )
    return found


def _their_duty(sets: SceneSets, along: Along, config: CheckerConfig) -> np.ndarray:
    """``[A]``: objects behind that must keep their distance; those beside ego's track only while ego keeps to it."""
    if not sets.behind.any():
        return sets.behind
    return sets.following | (sets.behind & _keeps_to_its_way(along, config))


def _passed(sets: SceneSets, motion: Motion) -> np.ndarray:
    """``[A]``: whose place now lies behind where ego ends; nobody drives backwards, so nobody else gets behind."""
    x, y, yaw = motion.pose[-1]
    away = sets.objects.pose[:, :2] - (x, y)
    return np.asarray(away @ (np.cos(yaw), np.sin(yaw)) < 0.0)


def _keeps_to_its_way(along: Along, config: CheckerConfig) -> bool:
    """Whether ego moves no farther sideways than those beside and behind have to expect."""
    return bool(np.abs(along.offset - along.offset[0]).max() <= config.side_move)


def _about(sets: SceneSets, rule: str, i: int, time: float, margin: float, detail: str) -> Violation:
    return Violation(rule, int(sets.objects.track_id[i]), float(time), margin, detail)

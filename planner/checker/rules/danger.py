"""RSS: a dangerous situation must be answered.

A pair is dangerous when its longitudinal and its lateral distance are both unsafe now (`planner.checker.rss`), or
when two crossing ways are not safe from each other. That alone breaks no rule: others bring it about, too. What breaks
the rule is a plan that, when ego's response time is over and the danger with it is not, neither brakes as hard as
ego's `braking_min` nor, where the danger lies beside ego, has ended every motion towards it. What stands is also
answered by a plan that leads past it: it comes no closer, and whether the way there is clear is judged exactly
(`rules.objects`).

Stateless: which distance became unsafe first is not remembered. The lateral answer therefore counts only towards who
is alongside, behind or coming closer sideways; whoever is ahead is answered by braking. What comes from behind in
ego's own track keeps its distance itself. At rest nothing is asked of ego.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker import rss
from planner.checker.config import CheckerConfig
from planner.checker.footprint import boxes_from_poses
from planner.checker.motion import Motion
from planner.checker.relations import Constellation, Extent, Relations, extent_of
from planner.checker.report import Violation
from planner.checker.rss import Party
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets
from planner.scene import VehicleParameters


@dataclass(frozen=True)
class Danger:
    """Per object ``[A]``: dangerous; ahead, alongside (neither ahead nor behind); gap beside, what would be
    safe (m), how fast it closes (m/s); longitudinal distance and what would be safe (m)."""

    dangerous: np.ndarray
    ahead: np.ndarray
    alongside: np.ndarray
    beside: np.ndarray
    aside: np.ndarray
    closing: np.ndarray
    distance: np.ndarray
    safe: np.ndarray


def danger(sets: SceneSets, motion: Motion, vehicle: VehicleParameters, config: CheckerConfig, time: float) -> Danger:
    """Of every object at `time` (s): ego where the plan has it, the others gone on at their present speed."""
    r, table = sets.relations, config.assumptions.ego
    at = motion.at(np.array([time]))
    ego, v = _ego_extent(r, at, vehicle), float(max(at.v[0], 0.0))
    other = r.extent.later(time)
    until = motion.time <= time + table.response_time + 1e-9
    party = Party(
        table.response_time, max(float(motion.a[until].max(initial=0.0)), 0.0), vehicle.speed_max, table.braking_min,
        table.braking_correct, vehicle.braking_max, table.lateral_acceleration, table.lateral_braking,
        table.lateral_margin,
    )  # fmt: skip
    left = other.right > ego.left
    beside = np.maximum(other.right - ego.left, ego.right - other.left)
    towards = np.where(left, ego.aside, -ego.aside)
    approach = np.where(left, -other.aside, other.aside)
    # `lateral` wants speeds to the right; the pair may be mirrored, so both are given as approaching.
    aside = rss.lateral(towards, -approach, party, r.party)
    # What stands does not come closer, and where ego goes is known exactly: only the wandering of both is left.
    aside = np.where(r.stands, 0.5 * (party.lateral_margin + r.party.lateral_margin), aside)
    ahead, behind = other.rear >= ego.front, other.front <= ego.rear
    distance = np.where(ahead, other.rear - ego.front, np.where(behind, ego.rear - other.front, 0.0))
    forward = np.maximum(other.along, 0.0)
    safe = np.where(
        ahead,
        rss.same_direction(np.full(len(forward), v), forward, party, r.party),
        rss.same_direction(forward, np.full(len(forward), v), r.party, party),
    )
    meeting = (r.kind == Constellation.OPPOSITE) & ahead
    if meeting.any():
        coming = np.maximum(-other.along, 0.0)
        ours = np.full(len(coming), v)
        if -sets.own_side[1] <= 0.5 * (ego.right[0] + ego.left[0]) <= sets.own_side[0]:
            opposite = rss.opposite_direction(ours, coming, party, r.party)
        else:
            opposite = rss.opposite_direction(coming, ours, r.party, party)
        safe = np.where(meeting, opposite, safe)
    dangerous = (beside <= aside) & (distance <= safe) & (r.kind != Constellation.CROSSING)
    dangerous &= ~(behind & ((beside <= 0) | (r.kind == Constellation.OPPOSITE)))
    crossing = (r.kind == Constellation.CROSSING) & np.isfinite(r.place)
    if crossing.any():
        dangerous |= crossing & ~_crossing_safe(r, ego, v, party, time)
    return Danger(dangerous, ahead, ~ahead & ~behind, beside, aside, towards + approach, distance, safe)


def rss_response(sets: SceneSets, motion: Motion, vehicle: VehicleParameters, config: CheckerConfig) -> Finding:
    """The plan's answer to whatever is dangerous now."""
    found, table = Finding(), config.assumptions.ego
    if not len(sets.objects) or abs(sets.ego[3]) <= config.rest_speed:
        return found
    now = danger(sets, motion, vehicle, config, 0.0)
    if not now.dangerous.any():
        return found
    time = min(table.response_time, float(motion.time[-1]))
    then = danger(sets, motion, vehicle, config, time)
    answer = motion.at(np.array([time]))
    kind = sets.relations.kind
    # What touches already must not come closer (`rules.objects`); a distance that is gone cannot be kept.
    for i in np.flatnonzero(now.dangerous & ~sets.touching):
        name = _NAMES[Constellation(kind[i])]
        short = float(now.distance[i] - now.safe[i])
        detail = _detail(sets, now, i)
        track = int(sets.objects.track_id[i])
        found.records.append(Violation(f"rss_{name}_danger", track, 0.0, short, detail))
        if not then.dangerous[i] or answer.v[0] <= config.rest_speed:
            continue
        needed = table.braking_correct if kind[i] == Constellation.OPPOSITE else table.braking_min
        braking = -needed - float(answer.a[0])
        towards = _towards(sets.relations, answer, vehicle, i)
        sideways = kind[i] != Constellation.CROSSING and (
            now.beside[i] > 0 and (not now.ahead[i] or now.closing[i] > config.rss_sideways)
        )
        if sideways and towards <= config.rss_sideways:
            continue
        if sets.relations.stands[i] and now.ahead[i] and _leads_past(sets.relations, motion, vehicle, config, i, now):
            continue
        if now.ahead[i] or now.alongside[i] or kind[i] == Constellation.CROSSING:
            if braking >= -config.rss_braking:
                continue
            found.violations.append(Violation(f"rss_{name}", track, time, braking, f"{detail}; not answered"))
        else:
            found.violations.append(
                Violation("rss_lateral", track, time, config.rss_sideways - towards, f"{detail}; moves towards it")
            )
    return found


_NAMES = {Constellation.SAME: "same", Constellation.OPPOSITE: "opposite", Constellation.CROSSING: "crossing"}


def _detail(sets: SceneSets, now: Danger, i: int) -> str:
    if sets.relations.kind[i] == Constellation.CROSSING:
        return f"its way meets ego's in {sets.relations.way[i]:.0f} m"
    along = f"distance {now.distance[i]:.1f} m, safe {now.safe[i]:.1f} m"
    return f"{along}; {now.beside[i]:.2f} m beside, safe {now.aside[i]:.2f} m"


def _ego_extent(r: Relations, at: Motion, vehicle: VehicleParameters) -> Extent:
    box = boxes_from_poses(at.pose, vehicle.length, vehicle.width, vehicle.rear_axle_to_center)
    return extent_of(r.frame, box, at.v[:, None] * box.axis)[0]


def _towards(r: Relations, at: Motion, vehicle: VehicleParameters, i: int) -> float:
    """Speed (m/s) of ego towards the side on which object i is now."""
    ego = _ego_extent(r, at, vehicle)
    left = r.extent.right[i] + r.extent.left[i] > ego.right[0] + ego.left[0]
    return float(ego.aside[0] if left else -ego.aside[0])


def _leads_past(
    r: Relations, motion: Motion, vehicle: VehicleParameters, config: CheckerConfig, i: int, now: Danger
) -> bool:
    """Whether ego is safely beside object i, or past it, where the intended part ends."""
    end = motion.at(np.array([min(config.nominal_horizon, float(motion.time[-1]))]))
    ego, other = _ego_extent(r, end, vehicle), r.extent
    beside = max(float(other.right[i] - ego.left[0]), float(ego.right[0] - other.left[i]))
    return beside > float(now.aside[i]) or float(ego.rear[0]) > float(other.front[i])


def _crossing_safe(r: Relations, ego: Extent, v: float, party: Party, time: float) -> np.ndarray:
    speed = np.full(len(r.place), v)
    gone = r.speed * time
    place, way = np.where(np.isfinite(r.place), r.place, 0.0), np.where(np.isfinite(r.way), r.way, 0.0)
    mine = np.maximum(place - r.place_reach - ego.front, 0.0), np.maximum(place + r.place_reach - ego.rear, 0.0)
    theirs = (
        np.maximum(way - r.way_reach - r.half - gone, 0.0),
        np.maximum(way + r.way_reach + r.half - gone, 0.0),
    )
    none = np.zeros(len(r.place), bool)  # no signs in the scene: who may stop, may be expected to
    passed = (mine[1] <= 0) | (theirs[1] <= 0)
    return passed | rss.crossing_safe(
        speed, r.speed, party, r.party, (mine[0], theirs[0]), (mine[1], theirs[1]), (none, none)
    )

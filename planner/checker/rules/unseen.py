"""Sight: a tail ends where ego sees, and clear of whoever may come out of where it does not."""

from __future__ import annotations

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.motion import Motion
from planner.checker.report import Violation
from planner.checker.route_frame import Along
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets
from planner.scene import VehicleParameters


def tail_sight(sets: SceneSets, tail: Motion, vehicle: VehicleParameters, config: CheckerConfig) -> Finding:
    """The middle of ego's front never gets more than `sight_margin` behind what limits the sight now.

    Exempt: the space behind vehicles that drive on ahead of ego; the tail is clear of their sets, so it gets there only
    after they have passed through.
    """
    found = Finding()
    heading = np.stack([np.cos(tail.pose[:, 2]), np.sin(tail.pose[:, 2])], 1)
    front = tail.pose[:, :2] + vehicle.front * heading
    hidden = np.flatnonzero(~sets.sight.sees(front, config.sight_margin))
    if len(hidden) and tail.v[hidden[0]] > config.rest_speed:
        first = int(hidden[0])
        over = float(np.hypot(*(front[-1] - front[first])))
        detail = f"stops {over:.1f} m behind the end of the sight"
        found.violations.append(Violation("tail_sight", -1, float(tail.time[first]), -over, detail))
    return found


def phantom_drivers(
    sets: SceneSets, tail: Motion, along: Along, vehicle: VehicleParameters, config: CheckerConfig
) -> Finding:
    """No part of ego is in a lane across its way while a vehicle that nobody sees yet and that cannot stop may be.

    along: where the tail is relative to the route.
    """
    found = Finding()
    if not len(sets.phantoms.drivers):
        return found
    station = along.station
    moving = np.abs(tail.v) > config.rest_speed
    for begin, end, first, last in sets.phantoms.drivers:
        inside = (station + vehicle.front > begin) & (station - vehicle.rear < end)
        if inside[0]:
            continue  # already there: the sooner out of it, the better
        met = np.flatnonzero(inside & moving & (tail.time >= first) & (tail.time <= last))
        if len(met):
            margin = begin - float(station[inside.nonzero()[0]].max()) - vehicle.front
            detail = f"a lane from where nobody is seen crosses {begin:.0f} m along the route"
            found.violations.append(Violation("tail_phantom_driver", -1, float(tail.time[met[0]]), margin, detail))
    return found


def phantom_walkers(
    sets: SceneSets, motion: Motion, along: Along, vehicle: VehicleParameters, config: CheckerConfig
) -> Finding:
    """Past an occluder only so fast that a walker stepping out from behind it is met slowly or not at all.

    Seen at the occluder's far corner, with the gap g to ego's way to go at `walking_speed`, ego brakes after its shared
    part and the build-up of its brakes: v^2 - 2 b (v g / walking_speed - v t) <= walking_impact^2. along: where the
    motion is relative to the route.
    """
    found, table = Finding(), config.assumptions.phantom
    if not len(sets.phantoms.walkers):
        return found
    front = along.station + vehicle.front
    delay = config.shared_time + vehicle.braking_max / (2 * vehicle.jerk_max)
    for place, gap, owner in sets.phantoms.walkers:
        cap = walker_cap(float(gap), delay, vehicle.braking_max, table.walking_speed, table.walking_impact)
        time = gap / table.walking_speed
        # Whoever steps out now meets ego there if it is this far away; later ones do, too, until it has passed.
        here = (front < place) & (front > place - np.maximum(motion.v, 0.0) * time - 1.0)
        if (
            here.any()
            and (fast := motion.v[here].max() - max(cap, 0.0)) > 0
            and motion.v[here].max() > motion.v[0] - 0.05
        ):
            k = int(np.flatnonzero(here)[motion.v[here].argmax()])
            detail = f"{motion.v[k]:.1f} m/s past an occluder, a walker {gap:.1f} m beside, {cap:.1f} m/s would do"
            track = int(sets.objects.track_id[int(owner)])
            found.violations.append(Violation("phantom_walker", track, float(motion.time[k]), -float(fast), detail))
    return found


def walker_cap(gap: float, delay: float, braking: float, walking: float, impact: float) -> float:
    """Highest speed (m/s) at which a walker who steps out `gap` (m) beside is met no faster than `impact` (m/s)."""
    room = braking * (gap / walking - delay)
    return room + float(np.sqrt(room**2 + impact**2)) if room > 0 else impact

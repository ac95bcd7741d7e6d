"""UN R157 (automated lane keeping): cut-in, cut-out and braking lead, as in its ASAM interpretation.

Source of the parameters: asam-oss/OSC-ALKS-scenarios, 4.3 to 4.5 (gap bumper to bumper, lateral speed the largest of a
sinusoidal lane change, cut-out behind a leader with 2 s headway). The lead-in before the event is short, so that a
driver who keeps away from others beforehand does not turn the test into another one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.simulation.generate.protocols.track import (
    CAR,
    EGO,
    KMH,
    LANE_WIDTH,
    Road,
    along,
    braking,
    half_cosine,
    parked,
    times,
    track_scene,
)
from perception.recording import Recording

LEAD_IN = 0.8  # s
HEADWAY = {7.2: 1.0, 10: 1.1, 20: 1.2, 30: 1.3, 40: 1.4, 50: 1.5, 60: 1.6}
"""Time headway (s) by speed (km/h) at which the regulation has ego follow."""
WANDERING = 0.375  # m; who has left the middle of the lane by more than this is seen to change lanes


def cut_in(name: str, ego_kmh: float, relative_kmh: float, gap: float, lateral: float, side: float = 1.0) -> Recording:
    """A slower vehicle beside ego's lane changes into it. gap (m) when it begins; side: 1 from the left, -1 right."""
    v, u = ego_kmh * KMH, (ego_kmh + relative_kmh) * KMH
    if u < 0:
        raise ValueError(f"cut_in: expected a cutting-in vehicle that does not drive backwards, got {u:.1f} m/s")
    if lateral >= u:
        raise ValueError("cut_in: expected a lateral speed below the forward speed")
    lasts = np.pi / 2 * LANE_WIDTH / lateral
    t = times(LEAD_IN + min(lasts, 4.0) + 2.5)
    front = EGO.front + v * LEAD_IN + gap + CAR.length / 2
    y = side * (LANE_WIDTH - half_cosine(t, LEAD_IN, LANE_WIDTH, lateral))
    mover = along("cutter", CAR, front + u * (t - LEAD_IN), y)
    hazard = {"actor": "cutter", "onset": LEAD_IN, "in_lane": False, "models": True, "kind": "cut-in"}
    road = Road(forward=2, index=1 if side > 0 else 0, backward=0)
    return track_scene(name, v, t, [mover], hazard, road)


def cut_out(name: str, ego_kmh: float, distance: float, lateral: float) -> Recording:
    """The leader changes lanes and uncovers a standing vehicle, `distance` (m) ahead of the leader when it begins."""
    v = ego_kmh * KMH
    gap = max(2.0 * v, 2.0)
    t = times(LEAD_IN + min((gap + distance) / v + 1.5, 7.0))
    leader_x = EGO.front + gap + CAR.length / 2 + v * t
    at = EGO.front + gap + CAR.length + v * LEAD_IN + distance + CAR.length / 2
    offset = half_cosine(t, LEAD_IN, LANE_WIDTH, lateral)
    beside = (np.abs(leader_x - at) < CAR.length) & (offset < CAR.width)
    if beside.any():
        raise ValueError("cut_out: the leader would run into the standing vehicle")
    seen = LEAD_IN + float(np.interp(WANDERING, offset, t - LEAD_IN))
    movers = [along("leader", CAR, leader_x, offset), parked("standing", CAR, at, 0.0, t)]
    hazard = {"actor": "standing", "onset": seen, "in_lane": True, "models": True, "kind": "cut-out"}
    return track_scene(name, v, t, movers, hazard, Road(forward=2, index=1, backward=0))


def braking_lead(name: str, ego_kmh: float, deceleration: float, headway: float = 0.0) -> Recording:
    """The leader brakes to rest. headway (s): 0 takes the regulation's for the speed."""
    v = ego_kmh * KMH
    headway = headway or float(np.interp(ego_kmh, list(HEADWAY), list(HEADWAY.values())))
    t = times(LEAD_IN + v / deceleration + 3.0)
    start = EGO.front + max(headway * v, 2.0) + CAR.length / 2
    mover = along("leader", CAR, start + braking(t, LEAD_IN, v, 0.0, deceleration), 0.0)
    hazard = {"actor": "leader", "onset": LEAD_IN, "in_lane": True, "models": True, "kind": "braking lead"}
    return track_scene(name, v, t, [mover], hazard, Road(forward=2, index=1, backward=0))


BUILDERS: dict[str, Callable[..., Recording]] = {
    "r157_cut_in": cut_in,
    "r157_cut_out": cut_out,
    "r157_braking_lead": braking_lead,
}

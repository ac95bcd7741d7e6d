"""Euro NCAP 2026, frontal crash avoidance: car-to-car and vulnerable-road-user families.

Source of the parameters: vectorgrp/OSC-NCAP-scenarios, CA-FC_2026, standard ranges. Kept: speeds, impact locations
(share of ego's width from its near side), walking and riding distances, obstructing vehicles. Changed, because our ego
plans and would otherwise have half a minute to prepare: the drive begins `BEFORE` seconds ahead of the nominal impact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.simulation.generate.actors import Body
from eval.simulation.generate.protocols.track import (
    BICYCLE,
    CHILD,
    EGO,
    KMH,
    LANE_WIDTH,
    PEDESTRIAN,
    Mover,
    Road,
    across,
    along,
    braking,
    parked,
    road_path,
    times,
    track_scene,
)
from perception.recording import Recording
from planner.scene import AgentClass

BEFORE, AFTER = 4.5, 1.5  # s, before and after the nominal impact
TARGET = Body(AgentClass.CAR, 4.02, 1.71, 1.45)  # Global Vehicle Target
LARGE, SMALL = Body(AgentClass.CAR, 4.418, 1.82, 1.6), Body(AgentClass.CAR, 4.316, 1.79, 1.5)  # obstructing vehicles
PARKED_BESIDE = 1.0  # m between ego's side and the obstructing vehicles


def rear_standing(name: str, ego_kmh: float, overlap: float = 50.0) -> Recording:
    """CCRs: a standing car ahead. overlap: where along ego's width (%) its middle is."""
    v, t = ego_kmh * KMH, times(BEFORE + AFTER)
    mover = parked("target", TARGET, EGO.front + v * BEFORE + TARGET.length / 2, _offset(overlap), t)
    return _rear(name, v, t, mover, 0.0)


def rear_moving(name: str, ego_kmh: float, target_kmh: float = 20.0, overlap: float = 50.0) -> Recording:
    """CCRm: a slower car ahead."""
    v, u, t = ego_kmh * KMH, target_kmh * KMH, times(BEFORE + AFTER)
    start = EGO.front + (v - u) * BEFORE + TARGET.length / 2
    return _rear(name, v, t, along("target", TARGET, start + u * t, _offset(overlap)), 0.0)


def rear_braking(name: str, ego_kmh: float, overlap: float = 50.0) -> Recording:
    """CCRb: the car ahead brakes with 4 m/s^2 to 2 km/h from 1 s of headway."""
    v, brakes = ego_kmh * KMH, 1.0
    t = times(brakes + v / 4.0 + AFTER)
    start = EGO.front + v * 1.0 + TARGET.length / 2
    mover = along("target", TARGET, start + braking(t, brakes, v, 2.0 * KMH, 4.0), _offset(overlap))
    return _rear(name, v, t, mover, brakes)


def head_on(name: str, ego_kmh: float, target_kmh: float, overlap: float = 50.0) -> Recording:
    """CCFhos: a car comes in ego's lane and does nothing about it."""
    v, u, t = ego_kmh * KMH, target_kmh * KMH, times(BEFORE + AFTER)
    x = EGO.front + (v + u) * BEFORE + TARGET.length / 2 - u * t
    mover = Mover("target", TARGET, np.stack([x, np.full_like(x, _offset(overlap))], -1), np.full_like(x, np.pi))
    return track_scene(name, v, t, [mover], _hazard("target", 0.0, models=False))


def crossing_car(name: str, ego_kmh: float, target_kmh: float) -> Recording:
    """CCCscp: a car from the right side road goes straight across ego's way."""
    v, u, t = ego_kmh * KMH, target_kmh * KMH, times(BEFORE + AFTER)
    x = EGO.front + v * BEFORE + TARGET.width / 2
    y = u * (t - BEFORE) - TARGET.length / 4  # its front quarter is in ego's way at the nominal impact
    mover = across("target", TARGET, x, y, leftwards=True)
    return track_scene(name, v, t, [mover], _hazard("target", 0.0, models=False), Road(junction=x - LANE_WIDTH / 2))


def turning_across(name: str, ego_kmh: float, target_kmh: float) -> Recording:
    """CCFtap: ego turns left, a car comes straight on from ahead."""
    v, u = ego_kmh * KMH, target_kmh * KMH
    t = times(BEFORE + AFTER)
    road = Road(junction=EGO.front + v * BEFORE, turn=True)
    route = road_path(name, road, v, 160.0)
    ahead = route.s[route.xy[:, 1] <= LANE_WIDTH].max()  # where ego's route meets the middle of the oncoming lane
    meets = route.point(ahead)[0]
    arrives = (ahead - EGO.front - float(route.project(np.zeros((1, 2)))[0][0])) / v
    x = meets - u * (t - arrives)
    mover = Mover("target", TARGET, np.stack([x, np.full_like(x, LANE_WIDTH)], -1), np.full_like(x, np.pi))
    return track_scene(name, v, t, [mover], _hazard("target", 0.0, models=False), road)


def crossing_pedestrian(name: str, ego_kmh: float, impact: float = 50.0, far: float = 0.0) -> Recording:
    """CPNA (near side, 5 km/h from 4 m) or CPFA (far side, a runner, 8 km/h from 6 m)."""
    speed, distance, ramp = (8.0, 6.0, 1.5) if far else (5.0, 4.0, 1.0)
    return _crossing(name, ego_kmh, PEDESTRIAN, speed, distance, ramp, impact, bool(far), models=True)


def obstructed_child(name: str, ego_kmh: float, impact: float = 50.0) -> Recording:
    """CPNCO: a child, 5 km/h, from behind two parked cars."""
    return _crossing(name, ego_kmh, CHILD, 5.0, 4.0, 1.0, impact, False, models=True, hidden=True)


def crossing_cyclist(name: str, ego_kmh: float, impact: float = 50.0, far: float = 0.0) -> Recording:
    """CBNA (near side, 15 km/h) or CBFA (far side, 20 km/h; without its obstructing vehicles), at a crossing."""
    speed, distance = (20.0, 25.5) if far else (15.0, 20.5)
    return _crossing(name, ego_kmh, BICYCLE, speed, distance, 3.5, impact, bool(far), models=True, crossing=True)


def obstructed_cyclist(name: str, ego_kmh: float, impact: float = 50.0) -> Recording:
    """CBNAO: a cyclist, 10 km/h, from a side road in which two cars stand in the way of seeing him."""
    return _crossing(
        name, ego_kmh, BICYCLE, 10.0, 7.0, 2.0, impact, False, models=True, crossing=True, hidden=True
    )  # fmt: skip


def in_lane(name: str, ego_kmh: float, rider: float = 0.0) -> Recording:
    """CPLA (5 km/h) or CBLA (rider 1: 15 km/h): somebody goes along in the middle of ego's lane."""
    body, u = (BICYCLE, 15 * KMH) if rider else (PEDESTRIAN, 5 * KMH)
    v, t = ego_kmh * KMH, times(BEFORE + AFTER)
    start = EGO.front + max(v - u, 0.5) * BEFORE + body.length / 2
    return _rear(name, v, t, along("target", body, start + u * t, 0.0), 0.0)


def _crossing(
    name: str, ego_kmh: float, body: Body, speed_kmh: float, distance: float, ramp: float, impact: float, far: bool,
    *, models: bool, hidden: bool = False, crossing: bool = False,
) -> Recording:  # fmt: skip
    """Somebody starts `distance` (m) beside the middle of ego's lane, speeds up over `ramp` (m), and is hit at `impact`
    (% of ego's width from the side where he comes from) if ego does nothing."""
    v, u = ego_kmh * KMH, speed_kmh * KMH
    way = distance + _offset(impact)  # from the start to the place of impact
    lasts = 2 * ramp / u + (way - ramp) / u
    before = max(BEFORE, lasts + 0.3)
    t = times(before + AFTER)
    since = np.clip(t - (before - lasts), 0.0, None)
    gone = np.where(since < 2 * ramp / u, u**2 / (4 * ramp) * since**2, u * since - ramp)
    side = 1.0 if far else -1.0
    x = EGO.front + v * before + body.width / 2
    movers = [across("target", body, x, side * (distance - gone), leftwards=not far)]
    road, shown = Road(), before - lasts
    if crossing:
        road = Road(junction=x - LANE_WIDTH / 2)
    if hidden and crossing:
        behind = x - body.width / 2 - 4.8 - LARGE.width / 2
        ends = 3.55
        for label, car in (("large", LARGE), ("small", SMALL)):
            y = np.full_like(t, -(ends + car.length / 2))
            movers.append(across(label, car, behind, y, leftwards=True))
            ends += car.length + 0.2
    elif hidden:
        beside = -(EGO.width / 2 + PARKED_BESIDE + LARGE.width / 2)
        front = x - body.width / 2 - 1.0
        for label, car in (("small", SMALL), ("large", LARGE)):
            movers.append(parked(label, car, front - car.length / 2, beside, t))
            front -= car.length + 1.0
        road = Road(parking=(x - 25.0, x + 8.0))
    return track_scene(name, v, t, movers, _hazard("target", shown, models=models), road)


def _offset(percent: float) -> float:
    """m from the middle of ego to a place given as a share of its width from its right side."""
    return EGO.width * (percent / 100 - 0.5)


def _hazard(actor: str, onset: float, *, in_lane: bool = False, models: bool = True) -> dict[str, Any]:
    return {"actor": actor, "onset": onset, "in_lane": in_lane, "models": models, "kind": "rating"}


def _rear(name: str, v: float, t: np.ndarray, mover: Mover, onset: float) -> Recording:
    return track_scene(name, v, t, [mover], _hazard("target", onset, in_lane=True))


BUILDERS: dict[str, Callable[..., Recording]] = {
    "CCRs": rear_standing,
    "CCRm": rear_moving,
    "CCRb": rear_braking,
    "CCFhos": head_on,
    "CCFtap": turning_across,
    "CCCscp": crossing_car,
    "CPNA": crossing_pedestrian,
    "CPNCO": obstructed_child,
    "CPLA": in_lane,
    "CBNA": crossing_cyclist,
    "CBNAO": obstructed_cyclist,
}

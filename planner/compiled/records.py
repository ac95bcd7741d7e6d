"""What the compiled decisions read, as C structs: compiled/obstacles.hpp, compiled/encounters.hpp."""

from __future__ import annotations

import ctypes

from torch import Tensor

from planner import compiled
from planner.config import PlannerConfig
from planner.manoeuvres import Manoeuvres
from planner.obstacles import Obstacles
from planner.right_of_way import band_half
from planner.scene import VehicleParameters
from planner.surface import Start, Surface

_OBSTACLES = compiled.record("Obstacles", "nnnnn T TTTT TT B T TT B I")
_WAYS = compiled.record("Ways", "nn T I B T B")
_START = compiled.record("Start", "TTTT")
_RULES = compiled.record("Rules", "fff f ffffff ffff ff ffff")


def obstacles_record(obstacles: Obstacles) -> ctypes.Structure:
    """Made once for all that read it."""
    kept = obstacles.__dict__
    if "_record" not in kept:
        o = obstacles
        kept["_record"] = _OBSTACLES(
            *o.s_lo.shape, o.node_time, *(stored(x) for x in (o.s_lo, o.s_hi, o.d_lo, o.d_hi)), o.sigma_s,
            o.relative_heading, o.active, o.weight, o.speed_s, o.speed, o.standing, o.agent_class,
        )  # fmt: skip
    return kept["_record"]  # type: ignore[no-any-return]


def stored(interval: Tensor) -> Tensor:
    """Interval ends ``[S, A, M, N, P]`` in the order in which they are stored: S, A, P, M, N."""
    return interval.movedim(-1, 2)


def ways_record(manoeuvres: Manoeuvres, surface: Surface) -> ctypes.Structure:
    """The ways to go and the grid they stand on."""
    m = manoeuvres
    return _WAYS(*m.profile.shape[1:], m.profile, m.side, m.valid, surface.s, surface.straight)


def start_record(start: Start) -> ctypes.Structure:
    """Where ego is and how it moves."""
    return _START(start.s, start.d, start.v, start.a)


def rules_record(vehicle: VehicleParameters, config: PlannerConfig) -> ctypes.Structure:
    """What conflicts are judged by."""
    limits, worst, margins = config.limits, config.worst_case, config.margins
    return _RULES(
        vehicle.front, vehicle.rear, vehicle.width, band_half(vehicle, config),
        limits.acceleration_max, limits.braking_max, limits.jerk_max, limits.tail_braking_max, limits.tail_jerk_max,
        config.horizon.shared, worst.lateral, worst.pedestrian_acceleration, worst.vehicle_braking, worst.probability,
        config.risk.hit_probability, config.risk.longitudinal_max,
        margins.ahead, margins.behind, margins.zone_time, margins.zone_time_walking,
    )  # fmt: skip

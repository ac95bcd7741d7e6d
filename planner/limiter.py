"""The last and smallest module: no command leaves the envelope of the vehicle, whoever asked for it.

Stateless; knows nothing of scene, plan or checker. Order matters and is the order of the code: a command
that is not a number becomes maximum braking, then the acceleration and the curvature rate are clamped.
Standing still has the last word on acceleration, so a limited command never drives backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from planner.scene import VehicleParameters

LATERAL_JERK_MAX = 20.0
"""m/s^3: v^2 times curvature rate. A full swerve of 5 m/s^2 builds up in a quarter of a second."""


@dataclass(frozen=True)
class Command:
    """What the actuators are asked for during one period: acceleration (m/s^2), curvature_rate (1/(m s))."""

    acceleration: float
    curvature_rate: float


class MovingState(Protocol):
    """Present speed (m/s), acceleration (m/s^2) and curvature (1/m): an EgoState or plain floats."""

    @property
    def v(self) -> Any: ...
    @property
    def a(self) -> Any: ...
    @property
    def curvature(self) -> Any: ...


def limit(
    command: Command, state: MovingState, dt: float, vehicle: VehicleParameters | None = None
) -> tuple[Command, tuple[str, ...]]:
    """The nearest command inside the envelope, and what had to be changed (empty: nothing).

    dt (s): how long the command will be applied. Raises ValueError unless dt is finite and positive.
    """
    vehicle = vehicle or VehicleParameters()
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"limit: expected dt > 0 s, got {dt}")
    v, a, curvature = float(state.v), float(state.a), float(state.curvature)
    if not (math.isfinite(v) and math.isfinite(a) and math.isfinite(curvature)):
        # Nothing is known about the vehicle: brake fully, hold the steering.
        return Command(-vehicle.braking_max, 0.0), ("state is not finite",)
    reasons: list[str] = []
    acceleration, rate = float(command.acceleration), float(command.curvature_rate)
    if not (math.isfinite(acceleration) and math.isfinite(rate)):
        reasons.append("command is not finite")
        acceleration, rate = -vehicle.braking_max, 0.0
    acceleration = _limit_acceleration(acceleration, v, a, dt, vehicle, reasons)
    rate = _limit_curvature_rate(rate, v + acceleration * dt, v, curvature, dt, vehicle, reasons)
    return Command(acceleration, rate), tuple(reasons)


def _limit_acceleration(
    wanted: float, v: float, a: float, dt: float, vehicle: VehicleParameters, reasons: list[str]
) -> float:
    """Range, then jerk, then top speed, then standstill."""
    value = _clamp(wanted, -vehicle.braking_max, vehicle.acceleration_max, "acceleration", reasons)
    step = vehicle.jerk_max * dt
    value = _clamp(value, a - step, a + step, "jerk", reasons)
    # A measured acceleration outside the range must not be handed on through the jerk limit.
    value = min(max(value, -vehicle.braking_max), vehicle.acceleration_max)
    fastest = max((vehicle.speed_max - v) / dt, -vehicle.braking_max)
    value = _clamp(value, -math.inf, fastest, "speed_max", reasons)
    return _clamp(value, min(-v / dt, 0.0) if v > 0 else 0.0, math.inf, "standstill", reasons)


def _limit_curvature_rate(
    wanted: float, v_next: float, v: float, curvature: float, dt: float, vehicle: VehicleParameters, reasons: list[str]
) -> float:
    """Steering rate and lateral jerk, then the curvature that mechanics and grip allow after dt.

    A curvature already beyond its bound is brought back as fast as the rate allows.
    """
    fastest, after = max(v, v_next, 0.1), max(v_next, 0.1)
    # Products, not powers: a power of a huge float raises, a product is infinite and clamps to nothing.
    rate = min(vehicle.curvature_rate_max, LATERAL_JERK_MAX / (fastest * fastest))
    bound = min(vehicle.curvature_max, vehicle.lateral_acceleration_max / (after * after))
    value = _clamp(wanted, -rate, rate, "curvature_rate", reasons)
    value = _clamp(value, (-bound - curvature) / dt, (bound - curvature) / dt, "curvature", reasons)
    return min(max(value, -rate), rate)


def _clamp(value: float, low: float, high: float, name: str, reasons: list[str]) -> float:
    """`value` within [low, high]; appends `name` when it was outside."""
    clamped = min(max(value, low), high)
    if clamped != value:
        reasons.append(name)
    return clamped

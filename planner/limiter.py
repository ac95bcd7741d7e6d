"""The last and smallest module: no command leaves the envelope of the vehicle, whoever asked for it.

Knows nothing of scene, plan or checker. `limit` is stateless; order matters and is the order of the code: a command
that is not a number becomes maximum braking, then the acceleration and the curvature rate are clamped. Standing still
has the last word on acceleration, so a limited command never drives backwards.
`Gate` stands before it at the actuators: orders must be new, fresh and in order. When they stop coming, it drives the
stop that came with the last one, from its own memory; when no check is passed any more, ego may only get slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from planner.scene import VehicleParameters

LATERAL_JERK_MAX = 20.0
"""m/s^3: v^2 times curvature rate. A full swerve of 5 m/s^2 builds up in a quarter of a second."""


_ROUNDING = 1e-6  # s, of clocks
WATCHDOG_BRAKING = 2.0
"""m/s^2: at least this much is braked while the watchdog has expired."""


@dataclass(frozen=True)
class Command:
    """What the actuators are asked for during one period: acceleration (m/s^2), curvature_rate (1/(m s))."""

    acceleration: float
    curvature_rate: float


@dataclass(frozen=True)
class Order:
    """A command with what protects it. counter: 1, 2, ...; time (s): when it was given, by the actuators' clock.

    stop: commands of `stop_step` s each from `time` on, which bring ego to rest if no further order comes.
    """

    counter: int
    time: float
    command: Command
    stop: tuple[Command, ...] = ()
    stop_step: float = 0.1


class MovingState(Protocol):
    """Present speed (m/s), acceleration (m/s^2) and curvature (1/m): an EgoState or plain floats."""

    @property
    def v(self) -> Any: ...
    @property
    def a(self) -> Any: ...
    @property
    def curvature(self) -> Any: ...


class Gate:
    """The actuators' side: one per vehicle. age_max (s): an order older than this is not obeyed."""

    def __init__(self, vehicle: VehicleParameters | None = None, age_max: float = 0.2) -> None:
        self.vehicle, self.age_max = vehicle or VehicleParameters(), age_max
        self._last: Order | None = None

    def command(
        self, order: object, now: float, state: MovingState, dt: float, served: bool = True
    ) -> tuple[Command, tuple[str, ...]]:
        """What the actuators do for the next `dt` s, and why it is not simply what was ordered.

        order: None between orders. now (s): by the actuators' clock. served: the watchdog has not expired. Never raises
        for anything in `order`; ValueError as `limit`.
        """
        reasons = []
        if order is not None:
            judged = self._judge(order, now)
            if isinstance(judged, str):
                reasons.append(judged)
            else:
                self._last = judged
        if self._last is None:
            reasons.append("nothing ordered yet")
            command = self._hardest
        elif self._fresh(self._last, now):
            command = self._last.command
        else:
            reasons.append("orders have stopped")
            command = self._stop(self._last, now)
        if not served:
            reasons.append("watchdog")
            command = Command(min(command.acceleration, -WATCHDOG_BRAKING), command.curvature_rate)
        limited, changed = limit(command, state, dt, self.vehicle)
        return limited, (*reasons, *changed)

    def _judge(self, order: object, now: float) -> Order | str:
        """The order, or why it is not obeyed."""
        if not isinstance(order, Order):
            return "order is malformed"
        try:
            numbers = [order.time, order.stop_step]
            for command in (order.command, *order.stop):
                numbers += [command.acceleration, command.curvature_rate]
            finite = all(math.isfinite(number) for number in numbers)
            behind = self._last is not None and int(order.counter) <= self._last.counter
        except (TypeError, ValueError, AttributeError, OverflowError):
            return "order is malformed"
        if not finite or order.stop_step <= 0.0:
            return "order is not finite"
        if behind:
            return "order is out of order"
        return order if self._fresh(order, now) else "order is stale"

    def _fresh(self, order: Order, now: float) -> bool:
        """Neither too old nor from the future; rounding of the clock is forgiven."""
        return -_ROUNDING <= now - order.time <= self.age_max + _ROUNDING

    def _stop(self, order: Order, now: float) -> Command:
        """The order's stop at this moment; its end, or its lack, is full braking."""
        passed = (now - order.time + _ROUNDING) / order.stop_step
        return order.stop[int(passed)] if 0.0 <= passed < len(order.stop) else self._hardest

    @property
    def _hardest(self) -> Command:
        return Command(-self.vehicle.braking_max, 0.0)


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
    return _clamp(value, min(-v / dt, 0.0), math.inf, "standstill", reasons)


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

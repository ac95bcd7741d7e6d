"""Mutated orders at the actuators."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.fuzz.cases import Verdict
from planner.limiter import Command, Gate, Order
from planner.scene import VehicleParameters

WAYS = ("nan", "inf", "denormal", "huge", "wrong type", "stale", "future", "reordered", "truncated", "state not finite")
HARMLESS = {"denormal", "huge", "truncated", "state not finite"}
"""Obeyed within the envelope: a huge command is clamped, a stop without commands is full braking."""
_V = VehicleParameters()


def judge(way: str, rng: np.random.Generator) -> tuple[Verdict, str]:
    """One mutated order after a sound one, then two periods without any."""
    gate, dt, now = Gate(_V), 0.1, float(rng.uniform(0, 1e6))
    v, a, k = float(rng.uniform(0, 25)), float(rng.uniform(-8, 3)), float(rng.uniform(-0.2, 0.2))
    state = SimpleNamespace(v=v, a=a, curvature=k)
    stop = tuple(Command(-4.0, 0.0) for _ in range(30))
    gate.command(Order(5, now - 0.1, Command(0.0, 0.0), stop), now - 0.1, state, dt)
    order = _mutated(way, Order(6, now, Command(float(rng.normal()), float(rng.normal())), stop), now, rng)
    if way == "state not finite":
        setattr(state, str(rng.choice(["v", "a", "curvature"])), float(rng.choice([math.nan, math.inf, -math.inf])))
    try:
        for what, later in ((order, 0.0), (None, 0.1), (None, 0.35)):
            command, reasons = gate.command(what, now + later, state, dt, served=bool(rng.integers(2)))
            if wrong := _outside(command, state, dt):
                return Verdict.ESCAPED, f"{way}: {wrong}"
            if what is not None and way not in HARMLESS and not any(r.startswith("order is") for r in reasons):
                return Verdict.ESCAPED, f"{way}: obeyed"
    except Exception as error:
        return Verdict.CRASHED, f"{way}: {type(error).__name__}: {error}"
    return (Verdict.HARMLESS if way in HARMLESS else Verdict.REFUSED), ""


def _mutated(way: str, sound: Order, now: float, rng: np.random.Generator) -> Any:
    number = {
        "nan": math.nan, "inf": float(rng.choice([math.inf, -math.inf])), "denormal": 5e-324,
        "huge": float(rng.choice([1e30, -1e300, 1.7e308])),
    }.get(way)  # fmt: skip
    command, stop, place = sound.command, sound.stop, int(rng.integers(4))
    if number is not None:
        if place == 0:
            return Order(6, now, Command(number, command.curvature_rate), stop)
        if place == 1:
            return Order(6, now, Command(command.acceleration, number), stop)
        if place == 2 or way in HARMLESS:
            return Order(6, now, command, (*stop[:2], Command(number, number), *stop[2:]))
        return Order(6, number, command, stop)
    if way == "wrong type":
        wrong = (
            3, "order", object(), command, Order(6, now, None, stop), Order(6, now, Command("x", 0.0), stop),  # type: ignore[arg-type]
            Order("six", now, command, stop), Order(6, None, command, stop), Order(6, now, command, None),  # type: ignore[arg-type]
            Order(6, now, command, (None,)), Order(6, now, command, stop, "x"),  # type: ignore[arg-type]
        )  # fmt: skip
        return wrong[int(rng.integers(len(wrong)))]
    if way == "stale":
        return Order(6, now - float(rng.uniform(0.21, 1e4)), command, stop)
    if way == "future":
        return Order(6, now + float(rng.uniform(1e-3, 1e4)), command, stop)
    if way == "reordered":
        return Order(int(rng.integers(-10, 6)), now, command, stop)
    return Order(6, now, command, stop[: int(rng.integers(3))] if way == "truncated" else stop)


def _outside(command: Command, state: Any, dt: float) -> str:
    """What is wrong with a command; the envelope written down again, not taken from the limiter."""
    a, rate = command.acceleration, command.curvature_rate
    if not (math.isfinite(a) and math.isfinite(rate)):
        return "not finite"
    if not -8.0 <= a <= 3.0 or abs(rate) > 0.25:
        return "outside the range"
    if all(map(math.isfinite, (state.v, state.a, state.curvature))):
        v_next = state.v + a * dt
        if v_next < -1e-9 or v_next > 25.0 + 1e-9:
            return "backwards, or too fast"
        if abs(a - state.a) > 12.0 * dt + 1e-9 and v_next > 1e-9 and state.v < 25.0 - 3.0 * dt:
            return "jerk"
        if abs(rate) * max(state.v, v_next) ** 2 > 20.0 + 1e-6:
            return "lateral jerk"
    return ""

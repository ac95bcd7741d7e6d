"""The stop in the actuators' memory: when the supervisor falls silent, the vehicle stops along the tail by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checker_scenes import drive, with_tail

from eval.simulation.tracker import PlannedMotion, Tracker
from eval.simulation.vehicle import Bicycle, VehicleState
from planner import fallback
from planner.deployed.orders import order
from planner.limiter import Command, Gate
from planner.scene import EgoState, VehicleParameters

V = VehicleParameters()
DT = 0.1


def silence(curvature: float, after: int, step: float = DT) -> tuple[np.ndarray, np.ndarray]:
    """Driven and kept path ``[T, 2]`` when orders stop after so many cycles of driving an arc at 8 m/s."""
    gate, tracker, car = Gate(V), Tracker(V), Bicycle(V)
    state = VehicleState(0.0, 0.0, 0.0, 8.0, 0.0, curvature)
    driven, kept, begun = [], None, VehicleState(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for k in range(round(8.0 / step)):
        now, what = k * step, None
        if now < after * DT - 1e-9:
            motion = drive(state.v, curvature=curvature)
            kept, begun = with_tail(motion), state
            planned = PlannedMotion.from_trajectory(motion, np.array(state.pose))
            what = order(k + 1, now, tracker.track(state, planned, 0.0, step).command, kept)
        command, reasons = gate.command(what, now, state, step)
        assert not {"curvature_rate", "curvature", "acceleration", "speed_max"} & set(reasons)
        if now > after * DT + 0.11:
            assert "orders have stopped" in reasons
        state = car.step(state, command, step)
        driven.append((state.x, state.y))
    assert state.v == 0.0
    c, s = math.cos(begun.yaw), math.sin(begun.yaw)
    x, y = kept.x.numpy(), kept.y.numpy()
    return np.array(driven), np.stack([begun.x + c * x - s * y, begun.y + s * x + c * y], -1)


@pytest.mark.parametrize("curvature", [0.0, 0.03, -0.05])
def test_silence_ends_at_rest_within_a_third_of_a_metre_of_the_tail(curvature: float) -> None:
    driven, tail = silence(curvature, after=7)
    fine = np.stack([np.interp(np.linspace(0, 1, 2000), np.linspace(0, 1, len(tail)), tail[:, i]) for i in (0, 1)], -1)
    off = np.sqrt(((driven[7:, None] - fine[None]) ** 2).sum(-1)).min(1)
    assert off.max() < 0.3, "open loop, yet in its lane"
    assert np.hypot(*(driven[-1] - tail[-1])) < 0.3


def test_the_stop_ends_with_the_tail() -> None:
    tail = fallback.brake_in_path(EgoState.at_origin(8.0), drive(8.0), braking=4.0)
    made = order(3, 5.0, Command(0.0, 0.0), tail)
    assert (made.counter, made.time, made.stop_step) == (3, 5.0, 0.1)
    assert len(made.stop) == pytest.approx(float(tail.time[-1]) / 0.1, abs=1.01)
    assert min(command.acceleration for command in made.stop) == pytest.approx(-4.0, abs=1e-6)
    assert made.stop[-1].acceleration == pytest.approx(0.0, abs=1e-9)

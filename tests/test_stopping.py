"""How far ego drives until it stands, against step-by-step simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.config import MotionLimits, PlannerConfig
from planner.decisions.stopping import STEP, braking_distance, full_stop, shortest_stop
from planner.path.surface import Start

STATES = st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(-9.0, 4.0)), min_size=1, max_size=5)
CONFIGS = [PlannerConfig(), PlannerConfig(limits=MotionLimits(tail_braking_max=8.0, tail_jerk_max=20.0, jerk_max=2.0))]


def starting(states: list[tuple[float, float]]) -> Start:
    v, a = (torch.tensor(column, dtype=torch.float64) for column in zip(*states))
    zero = torch.zeros_like(v)
    return Start(zero, zero, zero, zero, v, a, zero)


def simulated(v: float, a: float, config: PlannerConfig) -> float:
    """The tail's hardest braking, step by step."""
    limits, t, distance = config.limits, 0.0, 0.0
    while v > 0.0:
        shared = t < config.horizon.shared - 1e-9
        jerk, brake = (
            (limits.jerk_max, limits.braking_max) if shared else (limits.tail_jerk_max, limits.tail_braking_max)
        )
        a = max(a - jerk * STEP, -brake)
        distance += max(v * STEP + a * STEP**2 / 2, 0.0)
        v, t = v + a * STEP, t + STEP
    return distance


@pytest.mark.parametrize("config", CONFIGS)
@given(states=STATES)
@settings(max_examples=120, deadline=None)
def test_the_shortest_stop_is_the_simulated_one_and_a_little(config: PlannerConfig, states) -> None:
    expected = [simulated(v, a, config) + 0.4 for v, a in states]
    assert shortest_stop(starting(states), config) == pytest.approx(expected, abs=1e-9)


def test_stops_grow_with_speed_and_the_tail_stops_shorter() -> None:
    config, states = PlannerConfig(), [(float(v), 0.0) for v in np.linspace(3.0, 25.0, 23)]
    short, full = shortest_stop(starting(states), config), full_stop(starting(states), config)
    assert (np.diff(short) > 0).all()
    assert (np.diff(full) > 0).all()
    assert (short[5:] < full[5:]).all()


def test_braking_distance_is_that_of_constant_braking_and_then_rest() -> None:
    t = np.linspace(0.0, 6.0, 13)
    got = braking_distance(np.array([8.0, 0.0]), 2.0, t)
    assert got[0] == pytest.approx(np.where(t < 4.0, 8.0 * t - t**2, 16.0))
    assert not got[1].any()

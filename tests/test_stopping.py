"""How far ego drives until it stands, against step-by-step simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.config import MotionLimits, PlannerConfig
from planner.decisions.stopping import (
    CRAWLING,
    STANDING_ROOM,
    STEP,
    braking_distance,
    crawling_stop,
    full_stop,
    shortest_stop,
)
from planner.grid import make_grid
from planner.path.surface import Start
from planner.programs.safe_distance import full_braking

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


@given(states=st.lists(st.tuples(st.floats(0.0, 1.5), st.floats(-2.0, 2.0)), min_size=1, max_size=5))
@example(states=[(0.125, -2.0)])
@settings(max_examples=100, deadline=None)
def test_a_crawling_stop_is_a_motion_within_the_limits_of_the_tail_and_ends(states) -> None:
    """The motion behind it, integrated finely: never backwards, within braking and jerk, and no longer than it says."""
    config, grid = PlannerConfig(), make_grid(PlannerConfig().horizon)
    limits = config.limits
    room = crawling_stop(starting(states), config)
    firm = replace(config, limits=limits.firm())
    v0, a0 = (np.array(column) for column in zip(*states))
    jerks, _ = full_braking(v0, a0, grid, firm)
    for (v, a), own, jerk in zip(states, room, jerks):
        if v >= CRAWLING:
            assert own == -np.inf
            continue
        way, furthest = 0.0, 0.0
        for j, h in zip(jerk, grid.node_dt.numpy()):
            assert abs(j) <= limits.tail_jerk_max + 1e-9
            for _ in range(200):
                step = h / 200
                way += v * step + a * step**2 / 2 + j * step**3 / 6
                v, a = v + a * step + j * step**2 / 2, a + j * step
                furthest = max(furthest, way)
            assert a >= -limits.tail_braking_max - 1e-9
        assert v == pytest.approx(0.0, abs=1e-6) or a < 0 or v < 0  # too hard a brake at the start rolls back a little
        assert own == pytest.approx(furthest + STANDING_ROOM, abs=2e-3)


def test_crawling_ends_at_a_metre_per_second_and_takes_centimetres_more_than_the_stop_itself() -> None:
    """Just inside and just outside; who stands needs two centimetres, who crawls those beside the way of the stop."""
    config = PlannerConfig()
    limits = config.limits
    inside, outside = crawling_stop(starting([(0.99, 0.0)]), config), crawling_stop(starting([(1.0, 0.0)]), config)
    assert np.isfinite(inside).all()
    assert (outside == -np.inf).all()
    assert crawling_stop(starting([(0.0, 0.0)]), config) == pytest.approx([0.02], abs=1e-9)
    # The shortest stop there is: braking grows until ego stands.
    v = 0.5
    assert (2 * v * limits.tail_jerk_max) ** 0.5 < limits.tail_braking_max, "never reaches full braking"
    t = (2 * v / limits.tail_jerk_max) ** 0.5
    least = v * t - limits.tail_jerk_max * t**3 / 6
    interval = float(make_grid(config.horizon).node_dt[0])
    assert least + 0.02 < crawling_stop(starting([(v, 0.0)]), config)[0] < least + 0.02 + v * interval / 2

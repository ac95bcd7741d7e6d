"""The soak's verdict on memory: what warms up is no leak, what grows is one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.soak import GROWTH_MAX, LEAST, WARM_UP, growth

SCENARIOS = 5
NEED = np.array([600.0, 603.0, 640.0, 601.0, 602.0])
"""MiB that each scenario's drive asks for."""


def kept(rounds: int) -> np.ndarray:
    """An allocator that keeps the most that was ever asked for."""
    return np.maximum.accumulate(np.tile(NEED, rounds))


def test_the_hardest_scenario_is_met_in_the_warm_up_and_is_no_growth() -> None:
    samples = kept(9)
    assert samples[0] < samples[-1]
    assert growth(samples.tolist(), SCENARIOS) == 0.0
    # A sawtooth with the period of a round is none either, wherever the run ends within a round.
    for more in range(SCENARIOS):
        assert growth(np.tile(NEED, 10)[: 9 * SCENARIOS + more].tolist(), SCENARIOS) == pytest.approx(0.0)


@pytest.mark.parametrize(("leak", "found"), [(0.9, False), (1.1, True)])
def test_a_leak_is_told_just_inside_and_just_outside_the_limit(leak: float, found: bool) -> None:
    """From the middle of the first third of the rounds after the warm-up to that of the last third."""
    rounds = WARM_UP + 12
    per_round = leak / 100 * 600.0 / 8
    samples = 600.0 + per_round * np.arange(rounds).repeat(SCENARIOS)
    samples -= per_round * (WARM_UP + 1.5)  # the first third then has 600 MiB in the mean
    value = growth(samples.tolist(), SCENARIOS)
    assert value == pytest.approx(leak)
    assert (value >= GROWTH_MAX) is found


def test_too_few_rounds_tell_nothing() -> None:
    enough = (WARM_UP + LEAST) * SCENARIOS
    assert math.isnan(growth([600.0] * (enough - 1), SCENARIOS))
    assert growth([600.0] * enough, SCENARIOS) == 0.0

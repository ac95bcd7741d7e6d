"""Rows that keep the safe distance: they imply the exact inequality, and never leave ego without a way out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_stage_formulation import CONFIG, F64, GRID, INF, WEIGHTS, F, N, free_bounds, n, random, rolled

from planner.path.surface import Start
from planner.programs.longitudinal import (
    LIMIT_RULES,
    SAFE_RULE,
    LongitudinalBounds,
    build_longitudinal,
    limit_ids,
    limit_rules,
    with_progress,
)
from planner.programs.longitudinal_constants import ACCELERATION, JERK, S, V
from planner.programs.safe_distance import CHORDS, SPARE, SafeDistance, chords, full_braking
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions, solve

RESPONSE, BRAKING = 0.3, 4.0


def ego(v: float, a: float = 0.0) -> Start:
    one = torch.ones(1, dtype=F64)
    return Start(20 * one, 0 * one, 0 * one, 0 * one, v * one, a * one, 0 * one)


def behind(limit: torch.Tensor, v_cap: float = 30.0) -> LongitudinalBounds:
    bounds = free_bounds(1, v_ref=15.0, v_cap=torch.full((1, N), v_cap, dtype=F64))
    bounds.safe = SafeDistance(limit[None], torch.arange(N)[None], RESPONSE, BRAKING)
    return bounds


def lacking(z: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """By how much (m) the exact inequality is broken at the nominal nodes."""
    s, v = z[0, :N, S] + 20.0, z[0, :N, V].clamp(min=0)
    return s + v * RESPONSE + v**2 / (2 * BRAKING) - limit


@given(st.floats(0.1, 40), st.floats(0, 2), st.floats(1, 10), st.floats(0, 1))
def test_chords_lie_above_the_parabola_and_not_far(top: float, response: float, braking: float, part: float) -> None:
    gain, offset = chords(np.array([[top]]), response, braking)
    v = part * top
    above = float((gain * v - offset).max() - v * response - v**2 / (2 * braking))
    assert -1e-9 * top**2 <= above <= (top / CHORDS) ** 2 / (8 * braking) + 1e-9 * top**2


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 25), st.floats(-3.9, 1.9), st.integers(0, 1000))
def test_a_program_without_a_safe_distance_left_still_allows_full_braking(v: float, a: float, seed: int) -> None:
    assume(v > max(-a, 0.0) ** 2 / (2 * CONFIG.limits.jerk_max) + 0.2)
    rho = 0.8 + 0.4 * torch.rand(1, 2, F, dtype=F64, generator=torch.Generator().manual_seed(seed))
    here = ego(v, a)
    program = build_longitudinal(behind(torch.full((N,), -INF, dtype=F64)), here, rho, WEIGHTS, CONFIG)
    inputs = torch.zeros(1, n, 2, dtype=F64)
    inputs[:, :N, 0] = torch.from_numpy(full_braking(here.v.numpy(), here.a.numpy(), GRID, CONFIG)[0])
    z = rolled(program, inputs)
    lower, upper, _ = program.limits()
    value = program.limit_values(z)[:, :N]
    assert float((value - upper[:, :N])[..., len(LIMIT_RULES) :].max()) <= -SPARE + 1e-9
    assert float((value - upper[:, :N])[..., : JERK + 1].max()) <= 1e-9
    assert float((lower[:, :N] - value)[..., : JERK + 1].max()) <= 1e-9
    assert float(z[0, N - 1, V]) >= -1e-3
    if v < 12.0:
        assert z[0, N - 1, [V, ACCELERATION]].tolist() == pytest.approx([0.0, 0.0], abs=0.3)


@settings(max_examples=15, deadline=None)
@given(st.floats(3, 15), st.floats(15, 60), st.floats(0, 12))
def test_what_the_rows_allow_keeps_the_exact_safe_distance(v: float, gap: float, leader: float) -> None:
    limit = 20.0 + gap + leader * GRID.node_time + leader**2 / (2 * 8.0)
    reach = v * RESPONSE + v**2 / (2 * BRAKING) + 2 * v + 3.0
    assume(gap > reach)  # kept now, with room for the build-up of the brake: no row has to give way
    program = build_longitudinal(behind(limit), ego(v), None, WEIGHTS, CONFIG)
    answer = solve(free_of_the_tail(program), SolveOptions(backend="torch"))
    assert bool(answer.solved.all())
    assert float(lacking(answer.z, limit).max()) <= 1e-7


def free_of_the_tail(program: StageProgram) -> StageProgram:
    """Without the tail's demands, which are not the matter here."""
    program.z_upper[:, N:, :3], program.z_lower[:, N:, :3] = INF, -INF
    return program


def test_the_rows_bind_behind_a_slow_leader() -> None:
    limit = 20.0 + 25.0 + 4.0 * GRID.node_time + 4.0**2 / (2 * 8.0)
    free = build_longitudinal(free_bounds(1, v_ref=15.0), ego(8.0), None, WEIGHTS, CONFIG)
    held = build_longitudinal(behind(limit), ego(8.0), None, WEIGHTS, CONFIG)
    options = SolveOptions(backend="torch")
    before, after = (lacking(solve(free_of_the_tail(p), options).z, limit).max() for p in (free, held))
    assert float(before) > 5.0
    assert -3.0 < float(after) <= 1e-7


def test_they_are_named_and_only_where_they_are_wanted() -> None:
    bounds = behind(torch.full((N,), 60.0, dtype=F64))
    program = build_longitudinal(bounds, ego(8.0), None, WEIGHTS, CONFIG)
    assert limit_rules(bounds) == (*LIMIT_RULES, *(SAFE_RULE,) * CHORDS)
    assert limit_rules(free_bounds(1)) == LIMIT_RULES
    assert program.limits()[0].shape[-1] == len(limit_rules(bounds))
    assert limit_ids(bounds, GRID)[1][0, [0, 5, N], -1].tolist() == [0, 5, -1]
    assert bool(torch.isinf(program.upper[:, N:]).all())
    with pytest.raises(ValueError, match="built anew"):
        with_progress(program, torch.ones(1, 2, F, dtype=F64), CONFIG)


def test_a_leader_further_ahead_has_a_gradient_unless_the_row_gives_way() -> None:
    limit = (60.0 + 0 * random(N)).requires_grad_(True)
    program = build_longitudinal(behind(limit), ego(8.0), None, WEIGHTS, CONFIG)
    (grad,) = torch.autograd.grad(program.upper[0, :N, -1].sum(), limit)
    assert grad.tolist() == [1.0] * N
    gone = torch.zeros(N, dtype=F64, requires_grad=True)
    program = build_longitudinal(behind(gone), ego(8.0), None, WEIGHTS, CONFIG)
    (grad,) = torch.autograd.grad(program.upper[0, :N, -1].sum(), gone)
    assert grad.tolist() == [0.0] * N

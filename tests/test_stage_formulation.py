"""The two stage programs against the motion they stand for: simulation, differential equation, cost by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from planner.config import CostWeights, Horizon, PlannerConfig
from planner.grid import make_grid
from planner.path.surface import Start
from planner.programs.kinematics import integrate
from planner.programs.lateral import LateralBounds, LateralState, build_lateral, lateral_state
from planner.programs.longitudinal import (
    LIMIT_RULES,
    LongitudinalBounds,
    LongitudinalMotion,
    build_longitudinal,
    limit_ids,
    longitudinal_motion,
    stop_time,
    with_progress,
)
from planner.programs.longitudinal_constants import EXCESS, JERK, S, V
from planner.programs.tracking import TrackingReference
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions, solve
from planner.scene import VehicleParameters

F64 = torch.float64
CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
GRID = make_grid(CONFIG.horizon)
N, n, F = len(GRID.node), GRID.stages, len(GRID.time)
WEIGHTS = torch.tensor([1.0, 1.0, 0.6, 4.0, 1.0, 4.0, 60.0, 60.0], dtype=F64)
INF = float("inf")


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * scale


def start(rows: int, v: float = 8.0, seed: int = 0) -> Start:
    s, d, psi, kappa, a, bend = (random(rows, seed=seed + i, scale=0.05) for i in range(6))
    return Start(s + 20.0, d, psi, kappa, v + 10 * d.abs(), a, bend)


def free_bounds(rows: int, v_ref: float = 8.0, **given: torch.Tensor) -> LongitudinalBounds:
    full = lambda *shape, value=INF: torch.full((rows, *shape), value, dtype=F64)  # noqa: E731
    nobody = torch.full((rows, 2, N), -1)
    values = {
        "s_upper": full(2, N), "s_lower": full(2, N, value=-INF), "upper_id": nobody, "lower_id": nobody,
        "gap_s": full(N), "gap_headway": full(N, value=0.0), "gap_speed": full(N, value=0.0),
        "v_ref": full(N, value=v_ref), "v_cap": full(N, value=30.0),
    }  # fmt: skip
    return LongitudinalBounds(**{**values, **given})


def wide_corridor(rows: int, d_ref: float = 0.0) -> LateralBounds:
    room = torch.full((rows, 2, N, 5), 50.0, dtype=F64)
    nobody = torch.full(room.shape, -1)
    aim = torch.full((rows, 2, N), d_ref, dtype=F64)
    return LateralBounds(-room, room, nobody, nobody, aim, torch.zeros_like(aim))


def rolled(program: StageProgram, inputs: torch.Tensor) -> torch.Tensor:
    """z for given inputs ``[R, n, nu]``, stage by stage."""
    states: list[torch.Tensor] = []
    for t, p in enumerate(program.parent):
        before = states[p] if p >= 0 else program.x0
        step = program.A[:, t] @ before[..., None] + program.B[:, t] @ inputs[:, t, :, None]
        states.append(step[..., 0] + program.c[:, t])
    return torch.cat([torch.stack(states, 1), inputs], -1)


def test_the_tree_has_the_nominal_nodes_then_the_tails_own() -> None:
    assert (N, n, F) == (18, 34, 60)
    assert GRID.parent[:3] == (-1, 0, 1)
    assert GRID.parent[N : N + 2] == (1, N)
    assert GRID.stage_time[[1, N, n - 1]].tolist() == pytest.approx([0.4, 0.6, 6.0])
    for t, p in enumerate(GRID.parent):
        before = 0.0 if p < 0 else float(GRID.stage_time[p])
        assert float(GRID.stage_time[t]) - before == pytest.approx(float(GRID.stage_dt[t]))
    assert sorted(GRID.by_step.tolist()) == list(range(F))
    assert GRID.by_step[GRID.by_time].tolist() == list(range(F))


@pytest.mark.parametrize(
    ("horizon", "message"),
    [
        (Horizon(shared=0.3), "does not end at an interval"),
        (Horizon(tail=((0.2, 5), (0.5, 10))), "same intervals"),
        (Horizon(tail=((0.2, 10),)), "same duration"),
        (Horizon(shared=6.0), "horizon.shared"),
    ],
)
def test_a_horizon_that_does_not_fit_together_is_refused(horizon: Horizon, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_grid(horizon)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 20))
def test_the_longitudinal_stages_are_the_simulated_motion(seed: int, v: float) -> None:
    here, rho = start(3, v, seed), 0.5 + torch.rand(3, 2, F, dtype=F64)
    rho[:, 1, :4] = rho[:, 0, :4]  # the branches are one in their shared part
    program = build_longitudinal(free_bounds(3), here, rho, WEIGHTS, CONFIG)
    z = rolled(program, random(3, n, 2, seed=seed))
    motion = longitudinal_motion(z, here, rho, CONFIG)
    s, speed, a = (x.clone() for x in (here.s, here.v, here.a))
    for f in range(F):  # nominal branch, by exact integration of constant jerk
        j, h, end = motion.jerk[:, 0, f], GRID.step, 0
        s = s + rho[:, 0, f] * (speed * h + a * h**2 / 2 + j * h**3 / 6)
        speed, a = speed + a * h + j * h**2 / 2, a + j * h
        for mine, theirs in ((motion.s, s), (motion.v, speed), (motion.a, a)):
            assert mine[:, 0, f].numpy() == pytest.approx(theirs.numpy(), abs=1e-9)
        end = f
    assert end == F - 1
    nodes = GRID.at_stages(torch.stack([motion.s, motion.v, motion.a], -1)[:, :, GRID.node])
    relative = nodes - torch.tensor([1.0, 0.0, 0.0], dtype=F64) * here.s[:, None, None]
    assert z[..., :3].numpy() == pytest.approx(relative.numpy(), abs=1e-9)


def test_without_progress_the_dynamics_are_shared_and_with_it_only_they_change() -> None:
    here = start(4)
    shared = build_longitudinal(free_bounds(4), here, None, WEIGHTS, CONFIG)
    assert shared.A.stride(0) == shared.B.stride(0) == shared.H.stride(0) == 0
    rho = 0.9 + 0.1 * torch.rand(4, 2, F, dtype=F64)
    built, changed = build_longitudinal(free_bounds(4), here, rho, WEIGHTS, CONFIG), with_progress(shared, rho, CONFIG)
    for a, b in zip(built.tensors(), changed.tensors()):
        assert torch.equal(a, b)
    ones = with_progress(shared, torch.ones_like(rho), CONFIG)
    assert torch.allclose(ones.A, shared.A, atol=1e-14)


def test_the_longitudinal_cost_is_the_weighted_sum_over_the_nodes() -> None:
    here = start(2)
    bounds, w = free_bounds(2, v_ref=9.0), CostWeights()
    program = build_longitudinal(bounds, here, None, WEIGHTS, CONFIG)
    z = rolled(program, random(2, n, 2))
    z[:, N:, EXCESS] = 0.0  # idle in the tail
    cost = (0.5 * (z[..., None, :] @ program.H @ z[..., None])[..., 0, 0] + (program.g * z).sum(-1)).sum(1)
    dt, t = GRID.stage_dt, GRID.stage_time
    _, v, a, jerk, excess = z.unbind(-1)
    nominal = w.speed * (v**2 - 2 * 9.0 * v) + w.acceleration * a**2 + w.jerk * jerk**2 + w.gap * excess**2
    slow = (here.v[:, None] - 6.0 * (t - CONFIG.horizon.shared)).clamp(min=0)
    tail = 0.3 * (v**2 - 2 * slow * v) + 0.02 * a**2 + 0.05 * w.jerk * jerk**2
    by_hand = 0.5 * (dt * torch.where(GRID.stage_tail, tail, nominal)).sum(1)
    assert cost.numpy() == pytest.approx(by_hand.numpy(), rel=1e-12)


def test_learned_weights_per_row_reach_the_cost_with_gradients() -> None:
    factors = torch.ones(2, 8, dtype=F64, requires_grad=True)
    here = start(2)
    program = build_longitudinal(free_bounds(2), here, None, WEIGHTS * factors, CONFIG)
    (program.H[1, 0, V, V] + program.g[1, 0, V]).backward()
    assert factors.grad is not None
    dt = float(GRID.node_dt[0])
    assert factors.grad[1, 0].item() == pytest.approx(dt - 8.0 * dt)
    assert float(factors.grad[0].abs().sum()) == 0.0


def test_arrays_and_tensors_give_the_same_programs() -> None:
    here, rho = start(3), 0.9 + 0.1 * torch.rand(3, 2, F, dtype=F64)
    gap = {"gap_s": 40 + random(3, N), "gap_headway": random(3, N).abs(), "gap_speed": 3 * random(3, N, seed=1).abs()}
    plain = build_longitudinal(free_bounds(3, **gap), here, rho, WEIGHTS, CONFIG)
    here.s.requires_grad_(True)
    taped = build_longitudinal(free_bounds(3, **gap), here, rho.clone().requires_grad_(True), WEIGHTS, CONFIG)
    for a, b in zip(plain.tensors(), taped.tensors()):
        assert torch.allclose(a, b, atol=1e-12)
    motion = longitudinal_motion(rolled(plain, random(3, n, 2)), start(3), rho, CONFIG)
    bend, about = random(3, 2, F, scale=0.02), LateralState(*(random(3, 2, F, seed=i, scale=0.1) for i in range(3)))
    across = [build_lateral(wide_corridor(3), motion, bend, about, start(3), WEIGHTS, CONFIG, VEHICLE)]
    bend.requires_grad_(True)
    across.append(build_lateral(wide_corridor(3), motion, bend, about, start(3), WEIGHTS, CONFIG, VEHICLE))
    for a, b in zip(*(x.problem.tensors() for x in across)):
        assert torch.allclose(a, b, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 25), st.floats(-8, 3))
def test_bounds_never_contradict_the_start(v: float, a: float) -> None:
    one = torch.ones(1, dtype=F64)
    here = Start(one, 0 * one, 0 * one, 0 * one, v * one, a * one, 0 * one)
    if v < (min(a, 0.0) ** 2) / (2 * CONFIG.limits.jerk_max) + 0.3:
        return  # it comes to rest or rolls back whatever is done
    program = build_longitudinal(free_bounds(1), here, None, WEIGHTS, CONFIG)
    program.z_upper[:, N:, V] = INF  # the tail cannot always come to rest in time
    assert bool(solve(program, SolveOptions(backend="torch")).solved.all())


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 25), st.floats(-4, 2), st.floats(0, 10))
def test_no_cap_asks_for_more_than_full_braking(v: float, a: float, cap: float) -> None:
    """Above a cap the program still has a solution, and the cap stays near what ideal braking reaches."""
    one, limits = torch.ones(1, dtype=F64), CONFIG.limits
    here = Start(one, 0 * one, 0 * one, 0 * one, v * one, a * one, 0 * one)
    program = build_longitudinal(free_bounds(1, v_cap=cap * torch.ones(1, N, dtype=F64)), here, None, WEIGHTS, CONFIG)
    fine = np.arange(0, 6.0005, 0.001)
    speed = v + np.cumsum(np.maximum(a - limits.jerk_max * fine, -limits.braking_max)) * 0.001
    at = np.interp(GRID.node_time.numpy(), fine + 0.001, speed)
    given = program.z_upper[0, :N, V].numpy()
    ideal = np.maximum(cap, at.clip(0))
    # Releasing the brake at the largest jerk costs braking^2 / (2 jerk); building it up in steps a little.
    assert (given >= ideal - 1e-9).all()
    assert (given <= ideal + limits.braking_max**2 / (2 * limits.jerk_max) + 0.3).all()
    assert (given[ideal > limits.braking_max**2 / limits.jerk_max] <= ideal[ideal > 4.0] + 0.5).all()
    if v >= (min(a, 0.0) ** 2) / (2 * limits.jerk_max) + 0.3:
        program.z_upper[:, N:, V] = INF  # the tail cannot always come to rest in time
        assert bool(solve(program, SolveOptions(backend="torch")).solved.all())


def test_the_excess_is_what_the_comfortable_gap_lacks() -> None:
    here = start(1, v=10.0)
    gap = {
        "gap_s": torch.full((1, N), 45.0, dtype=F64),
        "gap_headway": torch.full((1, N), 1.2, dtype=F64),
        "gap_speed": torch.full((1, N), 4.0, dtype=F64),
    }
    program = build_longitudinal(free_bounds(1, v_ref=10.0, **gap), here, None, WEIGHTS, CONFIG)
    answer = solve(program, SolveOptions(backend="torch"))
    assert bool(answer.solved.all())
    s, v, excess = (answer.z[0, :N, i] for i in (S, V, EXCESS))
    b, top = CONFIG.comfort.braking, float(here.v[0])
    asks = [s + here.s + 1.2 * v - 45.0]
    for touch in (0.5 * top, top):
        asks.append(s + here.s + (1.2 + touch / b) * v - 45.0 - (touch**2 + 4.0**2) / (2 * b))
    lacking = torch.stack(asks).amax(0).clamp(min=0)
    assert float(lacking.max()) > 0.5
    assert excess.numpy() == pytest.approx(lacking.numpy(), abs=1e-5)


def test_the_tail_rests_when_it_should_and_limits_carry_the_track_that_sets_them() -> None:
    ids = torch.arange(2 * N).reshape(1, 2, N)
    bounds = free_bounds(1, upper_id=ids, lower_id=ids + 100)
    here = start(1, v=6.0)
    program = build_longitudinal(bounds, here, None, WEIGHTS, CONFIG)
    at_rest = program.z_upper[0, N:, V] == 0.02
    due = GRID.stage_time[N:] >= float(stop_time(here.v, CONFIG)[0])
    due[-1] = True
    assert at_rest.tolist() == due.tolist()
    lower, upper = limit_ids(bounds, GRID)
    assert lower.shape == (1, n, len(LIMIT_RULES)) == (1, n, program.limits()[0].shape[-1])
    assert upper[0, [0, N], S].tolist() == [0, N + 2]
    assert lower[0, [0, N], S].tolist() == [100, N + 102]
    assert bool((upper[..., 1:] == -1).all())


def lateral_case(rows: int = 2, seed: int = 0) -> tuple[LongitudinalMotion, torch.Tensor, LateralState, Start]:
    here = start(rows, seed=seed)
    program = build_longitudinal(free_bounds(rows), here, None, WEIGHTS, CONFIG)
    z = rolled(program, 0.3 * random(rows, n, 2, seed=seed))
    motion = longitudinal_motion(z, here, None, CONFIG)
    bend = 0.01 + random(rows, 2, F, seed=seed + 1, scale=0.002)
    about = LateralState(*(random(rows, 2, F, seed=seed + i, scale=0.05) for i in (2, 3, 4)))
    about.d[:, 1, :4], about.psi[:, 1, :4], bend[:, 1, :4] = about.d[:, 0, :4], about.psi[:, 0, :4], bend[:, 0, :4]
    return motion, bend, about, here


def test_the_fine_states_are_those_of_the_stages_at_their_nodes() -> None:
    motion, bend, about, here = lateral_case(3)
    across = build_lateral(wide_corridor(3), motion, bend, about, here, WEIGHTS, CONFIG, VEHICLE)
    z = rolled(across.problem, random(3, n, 1, scale=0.02))
    state = lateral_state(z, across)
    fine = torch.stack([state.d, state.psi, state.kappa], -1)
    assert GRID.at_stages(fine[:, :, GRID.node]).numpy() == pytest.approx(z[..., :3].numpy(), abs=1e-11)


def test_about_its_own_solution_the_linear_model_is_the_differential_equation() -> None:
    v, bend, rate = 8.0, 0.015, 0.01
    one = torch.ones(1, 2, F, dtype=F64)
    motion = LongitudinalMotion(0 * one, v * one, 0 * one, 0 * one)
    here = Start(*(torch.full((1,), x, dtype=F64) for x in (0.0, 0.3, -0.05, 0.01, v, 0.0, bend)))

    def slope(_: float, x: np.ndarray) -> list[float]:
        d, psi, kappa = x
        return [v * np.sin(psi), v * kappa - v * bend * np.cos(psi) / (1 - bend * d), rate]

    exact = solve_ivp(slope, (0, 2.0), [0.3, -0.05, 0.01], t_eval=GRID.time[:20], rtol=1e-10, atol=1e-12).y
    about = LateralState(0 * one, 0 * one, 0 * one)
    for _ in range(4):
        across = build_lateral(wide_corridor(1), motion, bend * one, about, here, WEIGHTS, CONFIG, VEHICLE)
        about = lateral_state(rolled(across.problem, torch.full((1, n, 1), rate, dtype=F64)), across)
    found = torch.stack([about.d, about.psi, about.kappa])[:, 0, 0, :20]
    assert found.numpy() == pytest.approx(exact, abs=2e-4)


def test_the_hand_written_derivatives_of_the_trajectory_are_right() -> None:
    v = torch.rand(3, 2, 7, dtype=F64) * 3 - 0.3
    v[2, 1, 4:] = 0.01  # the tail has come to rest
    others = [random(3, 2, 7, seed=i, scale=s).requires_grad_(True) for i, s in enumerate((1.0, 1.0, 0.2))]
    now = random(3, 6, seed=9).requires_grad_(True)

    def states(v, a, jerk, kappa, now):  # type: ignore[no-untyped-def]
        path = integrate(LongitudinalMotion(0 * v, v, a, jerk), kappa, now, 0.1)
        return path.x, path.y, path.yaw, path.v, path.a, path.curvature

    assert torch.autograd.gradcheck(states, (v.requires_grad_(True), *others, now), atol=1e-7)


def test_a_feasible_proposal_is_followed_and_the_tail_aims_for_rest_as_before() -> None:
    here, t = start(1, v=8.0), GRID.node_time
    here.a, here.psi, here.kappa = 0 * here.a, 0 * here.psi, 0 * here.kappa
    wish = longitudinal_motion(0 * random(1, n, 5), here, None, CONFIG)
    s, v = wish.s[:, 0, GRID.node], wish.v[:, 0, GRID.node]
    x = (t / 5.0).clamp(max=1)
    d = here.d[:, None] + 0.5 * x**3 * (10 - 15 * x + 6 * x**2)
    heavy = torch.full((1,), 100.0, dtype=F64)
    follow = TrackingReference(s, v, d, 0 * d, heavy, heavy, heavy, 0 * heavy, comfort=1e-3)
    program = build_longitudinal(free_bounds(1, v_ref=20.0), here, None, WEIGHTS, CONFIG, follow)
    plain = build_longitudinal(free_bounds(1, v_ref=20.0), here, None, WEIGHTS, CONFIG)
    assert torch.equal(program.g[:, N:], plain.g[:, N:])
    assert torch.equal(program.H[:, N:, :3, :3], plain.H[:, N:, :3, :3])
    z = solve(program, SolveOptions(backend="torch")).z
    assert (z[:, :N, S] + here.s).numpy() == pytest.approx(s.numpy(), abs=0.01)
    motion = longitudinal_motion(z, here, None, CONFIG)
    bend = torch.zeros(1, 2, F, dtype=F64)
    bounds = wide_corridor(1)
    across = build_lateral(bounds, motion, bend, None, here, WEIGHTS, CONFIG, VEHICLE, follow)
    aside = build_lateral(bounds, motion, bend, None, here, WEIGHTS, CONFIG, VEHICLE)
    assert torch.equal(across.problem.H[:, N:], aside.problem.H[:, N:])
    found = solve(across.problem, SolveOptions(backend="torch")).z
    assert found[:, :N, 0].numpy() == pytest.approx(d.numpy(), abs=0.02)
    with pytest.raises(ValueError, match="comfort"):
        TrackingReference(s, v, d, d, heavy, heavy, heavy, heavy, comfort=0.0)


def test_inputs_of_the_jerk_stay_within_their_limits() -> None:
    program = build_longitudinal(free_bounds(1), start(1), None, WEIGHTS, CONFIG)
    limits = CONFIG.limits
    assert program.z_upper[0, :N, JERK].unique().tolist() == [limits.jerk_max]
    assert program.z_lower[0, N:, JERK].unique().tolist() == [-limits.tail_jerk_max]

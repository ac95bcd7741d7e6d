"""The compiled programs and the trajectory against their plain twins, and against central differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from stage_twins import assert_stage_twins, values_and_gradients, with_leaves
from torch import Tensor
from twins import needs_library

from planner.config import Horizon, PlannerConfig
from planner.grid import make_grid
from planner.path.surface import Start
from planner.programs import kinematics, lateral, longitudinal
from planner.programs.kinematics import integrate
from planner.programs.lateral import LateralBounds, LateralState, build_lateral, lateral_state
from planner.programs.longitudinal import (
    LongitudinalBounds,
    LongitudinalMotion,
    build_longitudinal,
    longitudinal_motion,
)
from planner.programs.tracking import TrackingReference
from planner.scene import VehicleParameters

pytestmark = needs_library
PROGRAM = [(lateral, name) for name in ("_BUILD", "_BUILD_ADJOINT", "_STATE", "_STATE_ADJOINT")]
F64 = torch.float64
CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
SMALL = replace(CONFIG, horizon=Horizon(nominal=((0.2, 2), (0.3, 2)), tail=((0.2, 2), (0.3, 2)), shared=0.2))


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * scale


def motion(rows: int, fine: int, speed: float, seed: int = 0) -> LongitudinalMotion:
    v = speed + random(rows, 2, fine, seed=seed, scale=0.3 * speed + 0.02)
    return LongitudinalMotion(v.cumsum(-1) * 0.1, v, random(rows, 2, fine, seed=seed + 1, scale=3.0), v * 0.1)


def lateral_case(config: PlannerConfig, rows: int, speed: float, proposal: bool, seed: int = 0) -> tuple[Any, ...]:
    """Arguments of build_lateral up to the weights, and a solution."""
    grid = make_grid(config.horizon)
    fine, nodes, n = len(grid.time), len(grid.node), grid.stages
    draw = lambda i, scale, *shape: random(rows, *shape, seed=100 * seed + i, scale=scale)  # noqa: E731
    lower = draw(1, 2.0, 2, nodes, 5) - 2.0
    lower[0, :, 1] = -torch.inf
    ids = torch.zeros(lower.shape, dtype=torch.int64)
    bounds = LateralBounds(lower, lower + 3.0, ids, ids, draw(2, 0.5, 2, nodes), draw(3, 0.1, 2, nodes))
    about = LateralState(draw(4, 2.0, 2, fine), draw(5, 0.3, 2, fine), draw(6, 0.02, 2, fine))
    start = Start(*(draw(10 + i, scale) for i, scale in enumerate((5.0, 0.5, 0.1, 0.05, 2.0, 1.0, 0.02))))
    weights = draw(7, 1.0, 8).abs() + 0.1
    follow = None
    if proposal:
        wishes = [draw(20 + i, 0.5, nodes) for i in range(4)]
        heavy = [draw(30 + i, 1.0, nodes).abs() for i in range(4)]
        follow = TrackingReference(*wishes, *heavy, comfort=0.3)
    bend = draw(8, 0.3, 2, fine)  # sharp enough that 1 - bend * d is cut off at some places
    return (motion(rows, fine, speed, seed), bend, about, start, weights, bounds, follow), draw(9, 0.3, n, 4)


def lateral_program(config: PlannerConfig, case: tuple[Any, ...], z: Tensor) -> dict[str, Tensor]:
    along, bend, about, start, weights, bounds, follow = case
    across = build_lateral(bounds, along, bend, about, start, weights, config, VEHICLE, follow)
    state = lateral_state(z, across)
    names = ("x0", "A", "B", "c", "H", "g", "z_lower", "z_upper", "C", "lower", "upper", "compliance")
    named = {name: getattr(across.problem, name) for name in names}
    return {**named, "d": state.d, "psi": state.psi, "kappa": state.kappa}


@pytest.mark.parametrize(
    ("rows", "speed", "proposal", "config"),
    [
        (1, 8.0, False, CONFIG),
        (3, 0.0, False, CONFIG),
        (100, 12.0, False, CONFIG),
        (3, 5.0, True, CONFIG),
        (3, 0.6, False, replace(CONFIG, horizon=Horizon(shared=0.0))),
        (2, 3.0, True, SMALL),
    ],
)
def test_the_lateral_program_is_its_twin(rows: int, speed: float, proposal: bool, config: PlannerConfig) -> None:
    inputs = lateral_case(config, rows, speed, proposal)
    assert_stage_twins(lambda *x: lateral_program(config, *x), inputs, *PROGRAM)


def test_shared_weights_and_no_linearisation_point() -> None:
    (along, bend, _, start, weights, bounds, _), z = lateral_case(CONFIG, 3, 6.0, False)
    inputs = (along, bend, None, start, weights[0], bounds, None), z
    assert_stage_twins(lambda *x: lateral_program(CONFIG, *x), inputs, *PROGRAM)


def slopes_agree(function: Any, inputs: Any, relative: float = 1e-5) -> None:
    """The gradient along a random direction is the central difference."""
    _, gradients = values_and_gradients(function, inputs)
    own, leaves = with_leaves(inputs)
    directions = [random(*x.shape, seed=i, scale=1e-6) for i, x in enumerate(leaves)]
    ends = []
    with torch.no_grad():
        for sign in (1, -2):
            for x, d in zip(leaves, directions):
                x += sign * d
            total = 0.0
            for i, value in enumerate(function(*own).values()):
                weight = torch.randn(value.shape, dtype=F64, generator=torch.Generator().manual_seed(i))
                total += float((torch.where(torch.isfinite(value), value, 0.0) * weight).sum())
            ends.append(total)
    exact = sum(float((g * d).sum()) for g, d in zip(gradients, directions))
    assert exact == pytest.approx((ends[0] - ends[1]) / 2, rel=relative)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_the_lateral_program_is_its_slope(seed: int) -> None:
    def function(case: Any, z: Tensor) -> dict[str, Tensor]:
        found = lateral_program(SMALL, case, z)
        return {name: found[name] for name in ("A", "c", "H", "g", "z_upper", "upper", "d", "psi", "kappa")}

    slopes_agree(function, lateral_case(SMALL, 2, 6.0, seed == 1, seed))


def trajectory_case(rows: int, fine: int, speed: float, yaw: float = 0.3) -> tuple[Any, ...]:
    along = motion(rows, fine, speed)
    along.v[-1, 1, fine // 2 :] = 0.01  # the tail has come to rest
    along.v[-1, 0, 2] = 0.0
    start = random(rows, 6, seed=5)
    start[:, 2] += yaw
    return along, random(rows, 2, fine, seed=6, scale=0.1), start


def trajectory(along: LongitudinalMotion, kappa: Tensor, start: Tensor) -> dict[str, Tensor]:
    found = integrate(along, kappa, start, 0.1, threads=2)
    return {name: getattr(found, name) for name in ("x", "y", "yaw", "v", "a", "curvature", "time")}


@pytest.mark.parametrize(
    ("rows", "fine", "speed", "yaw"),
    [(1, 60, 8.0, 0.0), (3, 7, 0.03, 3.0), (200, 60, 6.0, -2.0), (4, 30, 3.0, 1e6), (2, 30, 3.0, -9e4)],
)
def test_the_trajectory_is_its_twin(rows: int, fine: int, speed: float, yaw: float) -> None:
    inputs = trajectory_case(rows, fine, speed, yaw)
    assert_stage_twins(trajectory, inputs, (kinematics, "_FORWARD"), (kinematics, "_BACKWARD"))


def test_nan_goes_through_and_stays_in_its_row() -> None:
    along, kappa, start = trajectory_case(3, 20, 5.0)
    whole = trajectory(along, kappa, start)
    along.v[1, 0, 4] = torch.nan
    found = trajectory(along, kappa, start)
    assert bool(found["x"][1, 0, 5:].isnan().all())
    for name in ("x", "yaw", "v"):
        assert torch.equal(found[name][[0, 2]], whole[name][[0, 2]])


def test_threads_and_neighbours_change_nothing() -> None:
    case, z = lateral_case(CONFIG, 100, 7.0, False)
    many = replace(CONFIG, solver=replace(CONFIG.solver, threads=4))
    single = replace(CONFIG, solver=replace(CONFIG.solver, threads=1))
    found = values_and_gradients(lambda *x: lateral_program(many, *x), (case, z))
    other = values_and_gradients(lambda *x: lateral_program(single, *x), (case, z))
    assert all(torch.equal(found[0][name], other[0][name]) for name in found[0])
    assert all(torch.equal(a, b) for a, b in zip(found[1], other[1]))
    row = slice(50, 51)
    along, bend, about, start, weights, bounds, _ = case
    cut = lambda part: type(part)(*(x[row] for x in vars(part).values()))  # noqa: E731
    one = cut(along), bend[row], cut(about), cut(start), weights[row], cut(bounds), None
    alone = lateral_program(single, one, z[row])
    assert all(torch.equal(alone[name], found[0][name][row]) for name in alone)


ALONG = [(longitudinal, name) for name in ("_BUILD", "_BUILD_ADJOINT", "_MOTION", "_MOTION_ADJOINT")]
PROGRESS = [(longitudinal, name) for name in ("_PROGRESS", "_PROGRESS_ADJOINT")]


def along_case(rows: int, speed: float, proposal: bool, seed: int = 0) -> tuple[Any, ...]:
    """Bounds, start, progress, weights, a proposal, and a solution."""
    grid = make_grid(CONFIG.horizon)
    nodes, fine, n = len(grid.node), len(grid.time), grid.stages
    draw = lambda i, scale, *shape: random(rows, *shape, seed=200 * seed + i, scale=scale)  # noqa: E731
    upper = 30 + draw(1, 10.0, 2, nodes)
    upper[0, :, 3] = torch.inf
    ids = torch.zeros(rows, 2, nodes, dtype=torch.int64)
    bounds = LongitudinalBounds(
        upper, upper - 60, ids, ids, 40 + draw(2, 5.0, nodes), draw(3, 0.5, nodes).abs(), draw(4, 4.0, nodes).abs(),
        speed + draw(5, 1.0, nodes), speed + draw(6, 2.0, nodes),
    )  # fmt: skip
    small = [draw(10 + i, scale) for i, scale in enumerate((5.0, 0.5, 0.1, 0.05, 1.0, 1.5, 0.02))]
    start = Start(*small)
    start.v = speed + start.v.abs()
    follow = None
    if proposal:
        heavy = [draw(30 + i, 1.0, nodes).abs() for i in range(4)]
        follow = TrackingReference(*(draw(20 + i, 3.0, nodes) for i in range(4)), *heavy, comfort=0.3)
    rho = 0.9 + 0.05 * draw(7, 1.0, 2, fine)
    return bounds, start, rho, draw(8, 1.0, 8).abs() + 0.1, follow, draw(9, 1.0, n, 5)


def longitudinal_program(bounds: Any, start: Any, rho: Any, weights: Any, follow: Any, z: Any) -> dict[str, Tensor]:
    program = build_longitudinal(bounds, start, rho, weights, CONFIG, follow)
    found = vars(longitudinal_motion(z, start, rho, CONFIG))
    return {**{f"motion {k}": v for k, v in found.items()}, **{k: v for k, v in vars(program).items() if k != "parent"}}


@pytest.mark.parametrize(
    ("rows", "speed", "proposal"), [(1, 9.0, False), (3, 0.0, False), (130, 14.0, False), (3, 4.0, True)]
)
def test_the_longitudinal_program_is_its_twin(rows: int, speed: float, proposal: bool) -> None:
    inputs = along_case(rows, speed, proposal)
    assert_stage_twins(longitudinal_program, inputs, *ALONG, *PROGRESS)
    bounds, start, _, weights, follow, z = inputs
    assert_stage_twins(longitudinal_program, (bounds, start, None, weights[0], follow, z), *ALONG)


def test_the_gradient_of_the_longitudinal_program_is_its_slope() -> None:
    bounds, start, rho, weights, _, z = along_case(3, 6.0, False)

    def function(
        s_lower: Any, gap_speed: Any, s0: Any, v_ref: Any, rho: Any, weights: Any, z: Any
    ) -> dict[str, Tensor]:
        own = replace(bounds, s_lower=s_lower, gap_speed=gap_speed, v_ref=v_ref)
        return longitudinal_program(own, replace(start, s=s0), rho, weights, None, z)

    slopes_agree(function, (bounds.s_lower, bounds.gap_speed, start.s, bounds.v_ref, rho, weights, z))


def test_what_needs_no_gradient_gets_none() -> None:
    bounds, start, _, weights, _, _ = along_case(2, 6.0, False)
    bounds.s_upper.requires_grad_(True)
    program = build_longitudinal(bounds, start, None, weights[0], CONFIG)
    assert program.z_upper.requires_grad
    assert not any(x.requires_grad for x in (program.H, program.C, program.A))
    assert program.H.stride(0) == program.A.stride(0) == 0

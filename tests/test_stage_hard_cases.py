"""Programs as nasty as those of Maros and Meszaros: each has a defined answer, no hang and no NaN; both kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from stage_problems import KERNELS, batch_of, random_program
from torch import Tensor

from planner.qp.layer import solve_differentiable
from planner.qp.problem import SolveStatus, StageProgram, StageSolution, certify
from planner.qp.solver import SolveOptions, solve

COUNT = 8
INF = torch.inf
LONG = tuple(range(-1, 39))


@pytest.fixture(scope="module", params=KERNELS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def many(change: Callable[[StageProgram, np.random.Generator], StageProgram], **family) -> StageProgram:
    rng = np.random.default_rng(1)
    return batch_of([change(random_program(rng, **family), rng) for _ in range(COUNT)])


def judged(problem: StageProgram, backend: str) -> StageSolution:
    """The solution, once it has been checked for NaN, time and honesty: what is called solved is."""
    begun = time.perf_counter()
    s = solve(problem, SolveOptions(backend=backend))
    assert time.perf_counter() - begun < 20
    for tensor in (s.z, s.dual_lower, s.dual_upper, s.costate, s.violation, s.proof):
        assert bool(torch.isfinite(tensor).all())
    assert set(s.status.tolist()) <= {int(status) for status in SolveStatus}
    primal, dual, gap = certify(problem, s.z, s.dual_lower, s.dual_upper, s.costate)
    limit = 1 + max(float(t[t.isfinite()].abs().max()) if bool(t.isfinite().any()) else 0 for t in problem.limits()[:2])
    for i in s.solved.nonzero()[:, 0].tolist():
        assert float(primal[i]) <= 1e-8 * max(limit, 1 + float(s.z[i].abs().max()))
        assert max(float(dual[i]), float(gap[i])) <= 1e-6
    assert float(s.proof[s.status != int(SolveStatus.INFEASIBLE)].abs().sum()) == 0
    return s


def in_units(p: StageProgram, unit: Tensor) -> StageProgram:
    """The same program with entry i of z counted in 1 / unit[i]."""
    nx = p.x0.shape[-1]
    x, u = unit[:nx], unit[nx:]
    return replace(
        p, x0=p.x0 * x, c=p.c * x, A=p.A * x[:, None] / x, B=p.B * x[:, None] / u, H=p.H / unit[:, None] / unit,
        g=p.g / unit, z_lower=p.z_lower * unit, z_upper=p.z_upper * unit, C=p.C / unit,
    )  # fmt: skip


def cost_times(factor: float) -> Callable[..., StageProgram]:
    return lambda p, _: replace(p, H=p.H * factor, g=p.g * factor, compliance=p.compliance / factor)


def rows_times(factor: float) -> Callable[..., StageProgram]:
    return lambda p, _: replace(
        p, C=p.C * factor, lower=p.lower * factor, upper=p.upper * factor, compliance=p.compliance * factor**2
    )


def units_times(factor: float) -> Callable[..., StageProgram]:
    return lambda p, _: in_units(p, torch.full_like(p.g[0, 0], factor))


def mixed_units(p: StageProgram, rng: np.random.Generator) -> StageProgram:
    return in_units(p, torch.from_numpy(10.0 ** rng.uniform(-4, 4, p.g.shape[-1])))


def ill_conditioned(p: StageProgram, rng: np.random.Generator) -> StageProgram:
    return replace(p, H=torch.diag_embed(torch.from_numpy(10.0 ** rng.uniform(-6, 6, tuple(p.g.shape)))))


def nearly_free_input(p: StageProgram, _: np.random.Generator) -> StageProgram:
    H = torch.zeros_like(p.H)
    H[..., -1, -1] = 1e-8
    return replace(p, H=H)


def redundant(p: StageProgram, _: np.random.Generator) -> StageProgram:
    """Every row three times."""
    thrice = {name: torch.cat([getattr(p, name)] * 3, 2) for name in ("C", "lower", "upper", "compliance")}
    return replace(p, **thrice)


def zero_rows(low: float, high: float) -> Callable[..., StageProgram]:
    return lambda p, _: replace(
        p, C=torch.zeros_like(p.C), lower=torch.full_like(p.lower, low), upper=torch.full_like(p.upper, high),
        compliance=torch.zeros_like(p.compliance),
    )  # fmt: skip


def corridor(width: float) -> Callable[..., StageProgram]:
    """The first row confined to a width around a value that can be had."""

    def change(p: StageProgram, _: np.random.Generator) -> StageProgram:
        value = p.limit_values(solve(p).z)[..., p.g.shape[-1] :]
        lower, upper = p.lower.clone(), p.upper.clone()
        lower[..., 0], upper[..., 0] = value[..., 0] - width / 2, value[..., 0] + width / 2
        return replace(p, lower=lower, upper=upper)

    return change


def unbounded(p: StageProgram, _: np.random.Generator) -> StageProgram:
    return replace(
        p, z_lower=torch.full_like(p.g, -INF), z_upper=torch.full_like(p.g, INF),
        lower=torch.full_like(p.lower, -INF), upper=torch.full_like(p.upper, INF),
    )  # fmt: skip


def free_inputs(p: StageProgram, _: np.random.Generator) -> StageProgram:
    z_lower, z_upper = p.z_lower.clone(), p.z_upper.clone()
    z_lower[..., 3:], z_upper[..., 3:] = -INF, INF
    return replace(p, z_lower=z_lower, z_upper=z_upper)


def one_input_fixed(p: StageProgram, _: np.random.Generator) -> StageProgram:
    value = solve(p).z
    z_lower, z_upper = p.z_lower.clone(), p.z_upper.clone()
    z_lower[:, 3, 3:] = z_upper[:, 3, 3:] = value[:, 3, 3:]
    return replace(p, z_lower=z_lower, z_upper=z_upper)


def distant(limit: float) -> Callable[..., StageProgram]:
    return lambda p, _: replace(
        p, z_lower=p.z_lower.clamp(min=-limit), z_upper=p.z_upper.clamp(max=limit), upper=p.upper.clamp(max=limit)
    )


def compliance_of(value: float) -> Callable[..., StageProgram]:
    return lambda p, _: replace(p, compliance=torch.full_like(p.compliance, value))


def unstable(growth: float) -> Callable[..., StageProgram]:
    """Spectral radius `growth` at every stage, nothing limited but the cost."""

    def change(p: StageProgram, rng: np.random.Generator) -> StageProgram:
        radius = torch.linalg.eigvals(p.A).abs().amax(-1)[..., None, None]
        free = unbounded(p, rng)
        return replace(free, A=p.A / radius * growth, H=p.H + 0.1 * torch.eye(4, dtype=p.H.dtype))

    return change


def same(p: StageProgram, _: np.random.Generator) -> StageProgram:
    return p


HAS_POINT: dict[str, Callable[[], StageProgram]] = {
    "cost x 1e-8": lambda: many(cost_times(1e-8)),
    "cost x 1e8": lambda: many(cost_times(1e8)),
    "rows x 1e-6": lambda: many(rows_times(1e-6)),
    "rows x 1e6": lambda: many(rows_times(1e6)),
    "units x 1e-4": lambda: many(units_times(1e-4)),
    "units x 1e6": lambda: many(units_times(1e6)),
    "mixed units": lambda: many(mixed_units),
    "condition 1e12": lambda: many(ill_conditioned),
    "input weight 1e-8": lambda: many(nearly_free_input),
    "redundant rows": lambda: many(redundant),
    "redundant equations": lambda: many(redundant, equations=0.3, soft=0.0),
    "rows of zeros": lambda: many(zero_rows(-1.0, 1.0)),
    "equations of zeros": lambda: many(zero_rows(0.0, 0.0)),
    "no room": lambda: many(same, room=0.0),
    "room 1e-11": lambda: many(same, room=1e-11),
    "room 1e-9": lambda: many(same, room=1e-9),
    "room 1e-6": lambda: many(same, room=1e-6),
    "corridor 0": lambda: many(corridor(0.0), soft=0.0, room=2.0),
    "corridor 1e-11": lambda: many(corridor(1e-11), soft=0.0, room=2.0),
    "corridor 1e-9": lambda: many(corridor(1e-9), soft=0.0, room=2.0),
    "corridor 1e-6": lambda: many(corridor(1e-6), soft=0.0, room=2.0),
    "all bounds infinite": lambda: many(unbounded),
    "inputs unbounded": lambda: many(free_inputs),
    "one input fixed": lambda: many(one_input_fixed),
    "limits at 1e9": lambda: many(distant(1e9)),
    "limits at 1e20": lambda: many(distant(1e20)),
    "compliance 1e-9": lambda: many(compliance_of(1e-9)),
    "compliance 1e9": lambda: many(compliance_of(1e9)),
    "unstable 1.3, 40 stages": lambda: many(unstable(1.3), parent=LONG),
}


@pytest.mark.parametrize("name", HAS_POINT)
def test_hard_but_solvable(backend: str, name: str) -> None:
    assert judged(HAS_POINT[name](), backend).solved.all()


def outside(p: StageProgram, _: np.random.Generator) -> StageProgram:
    """The initial state so far from the states' bounds that the first stage cannot meet them."""
    return replace(p, x0=p.x0 + 100)


def fixed_astray(p: StageProgram, _: np.random.Generator) -> StageProgram:
    """All inputs fixed at a bound; a state then misses a bound by a metre."""
    z_lower, z_upper = p.z_lower.clone(), p.z_upper.clone()
    z_upper[..., 3:] = z_lower[..., 3:]
    x = p.x0
    for t in range(4):
        x = (p.A[:, t] @ x[..., None] + p.B[:, t] @ z_lower[:, t, 3:, None])[..., 0] + p.c[:, t]
    z_lower[:, 3, 0], z_upper[:, 3, 0] = x[:, 0] + 1, INF
    return replace(p, z_lower=z_lower, z_upper=z_upper)


EMPTY: dict[str, Callable[[], StageProgram]] = {
    "initial state outside": lambda: many(outside),
    "inputs fixed astray": lambda: many(fixed_astray),
    "rows of zeros that exclude zero": lambda: many(zero_rows(1.0, 2.0)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_hard_and_empty(backend: str, name: str) -> None:
    s = judged(EMPTY[name](), backend)
    assert (s.status == int(SolveStatus.INFEASIBLE)).all()
    assert bool((s.proof > 0).all())


@pytest.mark.parametrize("growth", [1.6, 2.0, 3.0])
def test_violently_unstable(backend: str, growth: float) -> None:
    """Over forty stages 1.6 grows by 1e8 and 3 by 1e19, beyond float64: any honest word will do but "infeasible"."""
    s = judged(many(unstable(growth), parent=LONG), backend)
    assert not (s.status == int(SolveStatus.INFEASIBLE)).any()


def test_sides_that_cross_by_rounding_are_an_equation(backend: str) -> None:
    problem = many(corridor(0.0), soft=0.0, room=2.0)
    upper = problem.upper.clone()
    upper[..., 0] = torch.nextafter(problem.lower[..., 0], torch.tensor(-INF, dtype=upper.dtype))
    assert judged(replace(problem, upper=upper), backend).solved.all()


def test_soft_sides_may_cross(backend: str) -> None:
    """A soft row between 1 and -1 is a pull to the middle, not a contradiction."""
    soft = many(compliance_of(1.0), room=3.0)
    problem = replace(soft, lower=torch.full_like(soft.lower, 1.0), upper=torch.full_like(soft.upper, -1.0))
    assert judged(problem, backend).solved.all()


def test_absurd_data_end_with_a_status(backend: str) -> None:
    problem = many(same)
    s = judged(replace(problem, g=problem.g * 1e300), backend)
    assert not s.solved.any()
    assert not (s.status == int(SolveStatus.INFEASIBLE)).any()


@pytest.mark.parametrize("name", ["redundant rows", "redundant equations", "no room", "corridor 1e-9", "mixed units"])
def test_gradients_of_hard_cases_are_finite(backend: str, name: str) -> None:
    problem = HAS_POINT[name]()
    leaves = [t.clone().requires_grad_(True) for t in problem.tensors()]
    z, report = solve_differentiable(problem.with_tensors(leaves), SolveOptions(backend=backend))
    (z / (1e-9 + z.detach().abs().amax((0, 1)))).sum().backward()
    for leaf in leaves:
        assert bool(torch.isfinite(leaf.grad).all())
        assert float(leaf.grad[~report.trusted].abs().sum()) == 0


def test_degenerate_active_set_keeps_its_gradient(backend: str) -> None:
    """Rows three times over: multipliers are not unique, but z and its derivative are those of the rows once."""
    plain = many(same, soft=0.0)
    gradients = []
    for problem in (plain, redundant(plain, np.random.default_rng(0))):
        g = problem.g.clone().requires_grad_(True)
        z, report = solve_differentiable(replace(problem, g=g), SolveOptions(backend=backend, tolerance=1e-12))
        z.square().sum().backward()
        gradients.append((g.grad, report.trusted))
    both = gradients[0][1] & gradients[1][1]
    assert int(both.sum()) >= COUNT // 2
    assert torch.allclose(gradients[0][0][both], gradients[1][0][both], rtol=1e-4, atol=1e-5)

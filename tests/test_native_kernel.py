"""The compiled kernel: exact against another solver, and the same however it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_trees import by_clarabel, member, random_program
from torch import Tensor

from planner.qp import native
from planner.qp.kernel import KernelOptions, KernelSolution, Outcome
from planner.qp.native import Level, NativeKernel
from planner.qp.problem import certify

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_not())

TIGHT = KernelOptions(tolerance=1e-12)
LEVELS = [level for level in Level if native.available() and level <= native.best_level()]


@pytest.mark.parametrize(
    ("nx", "nu", "rows"), [(3, 1, 3), (3, 2, 2), (6, 2, 4), (4, 2, 0), (2, 1, 1), (5, 3, 2), (1, 1, 1)]
)
def test_the_optimum_is_that_of_another_solver(nx: int, nu: int, rows: int) -> None:
    found = 0
    for seed in range(4):
        p = random_program(seed, stages=5 + 2 * seed, nx=nx, nu=nu, rows=rows)
        solution = NativeKernel().solve(p, None, KernelOptions())
        primal, dual, gap = certify(p, solution.z, solution.dual_lower, solution.dual_upper, solution.costate)
        for b in range(len(p.x0)):
            reference = by_clarabel(p, b)
            assert (reference is not None) == (solution.outcome[b] == Outcome.CONVERGED)
            if reference is None:
                continue
            found += 1
            assert (solution.z[b] - reference).abs().max() <= 1e-5 * (1 + reference.abs().max())
            assert max(primal[b], dual[b], gap[b]) <= 1e-8
    assert found >= 8


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_set_gives_the_same_answer(level: Level) -> None:
    p = random_program(11, batch=11, nx=6, nu=2)
    wide, other = (NativeKernel(which).solve(p, None, TIGHT) for which in (Level.AUTO, level))
    assert torch.equal(wide.outcome, other.outcome)
    torch.testing.assert_close(other.z, wide.z, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(other.dual_upper, wide.dual_upper, rtol=1e-5, atol=1e-5)


def test_a_level_that_the_cpu_lacks_is_refused() -> None:
    if native.best_level() == Level.AVX512:
        pytest.skip("this CPU has every level")
    with pytest.raises(ValueError, match="no AVX512"):
        NativeKernel(Level.AVX512)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_members_one_by_one(threads: int) -> None:
    p = random_program(5, batch=21)
    together = NativeKernel().solve(p, None, replace(TIGHT, threads=threads))
    for b in range(21):
        pair = p.with_tensors([t[[b, b - 1]] for t in p.tensors()])
        beside = NativeKernel().solve(pair, None, TIGHT)
        assert beside.outcome[0] == together.outcome[b]
        assert beside.iterations[0] == together.iterations[b]
        torch.testing.assert_close(beside.z[0], together.z[b], rtol=1e-7, atol=1e-7)
        # By itself it may end another way: at the same point, if it arrives at one.
        alone = NativeKernel().solve(member(p, b), None, TIGHT)
        assert alone.outcome[0] == together.outcome[b]
        if alone.outcome[0] == Outcome.CONVERGED:
            torch.testing.assert_close(alone.z[0], together.z[b], rtol=1e-7, atol=1e-7)
    g = torch.ones_like(together.z)
    gradients = NativeKernel().adjoint(p, together, g, TIGHT)
    one = KernelSolution(**{name: value[20:] for name, value in vars(together).items()})
    alone = NativeKernel().adjoint(member(p, 20), one, g[20:], TIGHT)
    torch.testing.assert_close(alone.dz[0], gradients.dz[20], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(alone.kink[0], gradients.kink[20])


def test_shared_data_are_read_in_place() -> None:
    p = member(random_program(7), 0)
    x0 = p.x0 + 0.1 * torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared = p.with_tensors([x0, *(t.expand(9, *t.shape[1:]) for t in p.tensors()[1:])])
    copied = shared.with_tensors([t.contiguous() for t in shared.tensors()])
    odd = shared.with_tensors([t.mT.contiguous().mT if t.dim() > 2 else t for t in copied.tensors()])
    expected = NativeKernel().solve(copied, None, KernelOptions())
    for program in (shared, odd):
        found = NativeKernel().solve(program, None, KernelOptions())
        assert torch.equal(found.z, expected.z)
        assert torch.equal(found.dual_upper, expected.dual_upper)


def test_other_types_than_float64_are_refused() -> None:
    p = random_program(1)
    with pytest.raises(ValueError, match="float64"):
        NativeKernel().solve(p.with_tensors([t.float() for t in p.tensors()]), None, KernelOptions())


def test_bad_members_harm_nobody() -> None:
    p = random_program(3, batch=8, equations=False)
    good = NativeKernel().solve(p, None, TIGHT)
    assert (good.outcome == Outcome.CONVERGED).all()
    crossed, broken, empty, huge = 1, 3, 4, 6
    q = p.with_tensors([t.clone() for t in p.tensors()])
    q.z_lower[crossed, 2, 0], q.z_upper[crossed, 2, 0] = 1.0, 0.5
    q.g[broken, 1, 0] = torch.nan
    q.z_lower[empty, 3, -1], q.z_upper[empty, 3, -1] = -1.0, 1.0
    q.A[empty, 3], q.B[empty, 3], q.c[empty, 3] = 0.0, 1.0, 0.0
    q.z_lower[empty, 3, :3], q.z_upper[empty, 3, :3] = 50.0, 60.0  # where an input of 1 leads to at most 1
    q.g[huge] *= 1e280
    found = NativeKernel().solve(q, None, TIGHT)
    assert found.outcome[crossed] == Outcome.DIVERGING
    assert found.outcome[empty] == Outcome.DIVERGING
    assert found.outcome[broken] == Outcome.NUMERICAL
    assert found.iterations[crossed] == 0
    for value in (found.z, found.costate, found.dual_lower, found.dual_upper):
        assert torch.isfinite(value).all()
    rest = [b for b in range(8) if b not in (crossed, broken, empty, huge)]
    torch.testing.assert_close(found.z[rest], good.z[rest], rtol=0, atol=0)
    gradient = NativeKernel().adjoint(q, found, torch.ones_like(found.z), TIGHT)
    for value in (gradient.dz, gradient.dcostate, gradient.dlower, gradient.dupper, gradient.kink):
        assert torch.isfinite(value).all()
    assert torch.isinf(gradient.residual[broken]) or gradient.residual[broken] < 1e-6


def test_an_empty_batch_is_answered() -> None:
    p = random_program(1)
    none = p.with_tensors([t[:0] for t in p.tensors()])
    assert NativeKernel().solve(none, None, KernelOptions()).z.shape == (0, 8, 4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cost=st.floats(-8, 8),
    size=st.floats(-4, 4),
    width=st.sampled_from([0.0, 1e-9, 1e-4, 1.0]),
)
def test_hard_cases_end_defined_and_finite(seed: int, cost: float, size: float, width: float) -> None:
    """Costs and lengths in odd units, corridors of no width, doubled rows, starts outside the limits."""
    p = random_program(seed, batch=2, stages=6, nx=2, nu=1, rows=2, equations=False)
    middle = 0.1 * p.C[..., 0]
    narrow = replace(
        p, H=p.H * 10**cost, g=p.g * 10 ** (cost + size), x0=p.x0 * 10 * 10**size, c=p.c * 10**size,
        z_lower=p.z_lower * 10**size, z_upper=p.z_upper * 10**size, C=p.C[:, :, :1].expand(-1, -1, 2, -1),
        lower=(middle - width) * 10**size, upper=(middle + width) * 10**size, compliance=p.compliance * 10**-cost,
    )  # fmt: skip
    found = NativeKernel().solve(narrow, None, KernelOptions())
    gradient = NativeKernel().adjoint(narrow, found, torch.ones_like(found.z), KernelOptions())
    for value in (found.z, found.costate, found.dual_lower, found.dual_upper, gradient.dz, gradient.dupper):
        assert torch.isfinite(value).all()
    ok = found.outcome == Outcome.CONVERGED
    primal, dual, _ = certify(narrow, found.z, found.dual_lower, found.dual_upper, found.costate)
    assert (primal[ok] <= 1e-8 * (1 + 10 * 10**size)).all()
    assert (dual[ok] <= 1e-8).all()


def test_soft_bounds_give_the_least_squares_compromise() -> None:
    p = random_program(3, batch=2, equations=False)
    H = torch.zeros_like(p.H)
    H[..., 3, 3] = 1e-7
    p = replace(
        p, H=H, g=torch.zeros_like(p.g), compliance=torch.ones_like(p.compliance),
        z_lower=p.z_lower.clone().index_fill_(2, torch.tensor(0), 5.0), z_upper=p.z_upper + 5.0,
    )  # fmt: skip
    soft = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).expand_as(p.z_lower)
    found = NativeKernel().solve(p, soft, KernelOptions())
    assert (found.outcome == Outcome.CONVERGED).all()
    excess = (p.z_lower - found.z)[..., 0]
    torch.testing.assert_close(found.dual_lower[..., 0], excess.clamp(min=0), rtol=1e-6, atol=1e-7)
    assert excess.max() > 0.1


@pytest.mark.parametrize("mu", [1e-2, 1e-5])
def test_smoothing_ends_on_the_central_path(mu: float) -> None:
    p = random_program(9, equations=False)
    found = NativeKernel().solve(p, None, KernelOptions(smoothing=mu))
    assert (found.outcome == Outcome.CONVERGED).all()
    lower, upper, compliance = p.limits()
    value = p.limit_values(found.z)
    for bound, slack, dual in (
        (upper, upper - value + compliance * found.dual_upper, found.dual_upper),
        (lower, value - lower + compliance * found.dual_lower, found.dual_lower),
    ):
        finite = torch.isfinite(bound)
        torch.testing.assert_close((slack * dual)[finite], torch.full_like(dual[finite], mu), rtol=1e-3, atol=0)
        assert (dual[~finite] == 0).all()


def test_a_warm_start_needs_fewer_iterations_for_the_same_answer() -> None:
    p = random_program(13, batch=9)
    cold = NativeKernel().solve(p, None, TIGHT)
    moved = replace(p, x0=p.x0 + 1e-3)
    warm, again = (NativeKernel().solve(moved, None, TIGHT, start) for start in (cold, None))
    assert (warm.outcome == again.outcome).all()
    assert warm.iterations.sum() < 0.75 * again.iterations.sum()
    torch.testing.assert_close(warm.z, again.z, rtol=1e-6, atol=1e-6)


def test_out_of_time_and_out_of_iterations() -> None:
    p = random_program(2, batch=9)
    late = NativeKernel().solve(p, None, KernelOptions(deadline=0.0))
    assert (late.outcome == Outcome.OUT_OF_TIME).all()
    assert (late.iterations == 0).all()
    short = NativeKernel().solve(p, None, KernelOptions(iterations=2))
    assert (short.outcome == Outcome.ITERATION_LIMIT).all()
    assert (short.iterations == 2).all()
    assert torch.isfinite(short.z).all()


@pytest.mark.parametrize("mu", [0.0, 1e-3])
@pytest.mark.parametrize("name", ["g", "c", "x0", "z_lower", "z_upper", "lower", "upper"])
def test_the_adjoint_is_the_central_difference(name: str, mu: float) -> None:
    p = random_program(21, batch=12, nx=3, nu=2)
    g = torch.Generator().manual_seed(4)
    options = replace(TIGHT, smoothing=mu)
    found = NativeKernel().solve(p, None, options)
    weight = torch.randn(found.z.shape, generator=g, dtype=torch.float64)
    a = NativeKernel().adjoint(p, found, weight, options)
    assert (a.residual <= 1e-9).all()
    nz = p.g.shape[-1]
    roots = torch.tensor([t for t, past in enumerate(p.parent) if past < 0])
    gradient = {
        "g": a.dz, "c": a.dcostate, "x0": (p.A[:, roots].mT @ a.dcostate[:, roots, :, None])[..., 0].sum(1),
        "z_lower": a.dlower[..., :nz], "z_upper": a.dupper[..., :nz],
        "lower": a.dlower[..., nz:], "upper": a.dupper[..., nz:],
    }[name]  # fmt: skip
    base = getattr(p, name)
    equal = (p.limits()[1] - p.limits()[0]) <= 1e-12
    equal = torch.cat([equal[..., :nz]], -1) if name.startswith("z_") else equal[..., nz:]
    fixed = ~torch.isfinite(base) | (equal if base.shape == equal.shape else False)
    direction = torch.where(fixed, 0.0, torch.randn(base.shape, generator=g, dtype=torch.float64))

    def value(step: float) -> Tensor:
        moved = replace(p, **{name: base + step * direction})
        return (NativeKernel().solve(moved, None, options).z * weight).sum((1, 2))

    fine, coarse = ((value(h) - value(-h)) / (2 * h) for h in (1e-6, 4e-6))
    expected = (gradient * direction).flatten(1).sum(1)
    smooth = (found.outcome == Outcome.CONVERGED) & ((fine - coarse).abs() <= 1e-6 * (1 + fine.abs()))
    smooth &= a.kink < 1e-3
    assert smooth.sum() >= 8
    error = (expected - fine).abs() / (1 + fine.abs())
    assert error[smooth].max() <= 1e-5


def test_an_equation_passes_its_gradient_on() -> None:
    p = random_program(21, batch=6, nx=3, nu=2)
    equal = (p.upper == p.lower).nonzero()
    assert len(equal) > 0
    found = NativeKernel().solve(p, None, TIGHT)
    a = NativeKernel().adjoint(p, found, torch.ones_like(found.z), TIGHT)
    b, t, row = equal[0].tolist()
    moved = [replace(p, lower=p.lower.clone(), upper=p.upper.clone()) for _ in range(2)]
    for program, step in zip(moved, (1e-5, -1e-5)):
        program.lower[b, t, row] += step
        program.upper[b, t, row] += step
    up, down = (NativeKernel().solve(program, None, TIGHT).z[b].sum() for program in moved)
    nz = p.g.shape[-1]
    total = a.dlower[b, t, nz + row] + a.dupper[b, t, nz + row]
    assert total == pytest.approx(((up - down) / 2e-5).item(), rel=1e-5, abs=1e-6)

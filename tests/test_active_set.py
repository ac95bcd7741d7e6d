"""The compiled kernel's end on a guessed active set: for an instance by itself, where the set is beyond doubt."""

from __future__ import annotations

import pytest
import torch
from random_trees import INF, by_clarabel, member, random_program
from torch import Tensor

from planner.qp import native
from planner.qp.kernel import KernelOptions, KernelSolution, Outcome
from planner.qp.native import NativeKernel
from planner.qp.problem import StageProgram

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_not())
TIGHT = KernelOptions(tolerance=1e-12)
SIZES = [(6, 2, 4), (3, 1, 3), (2, 1, 0), (4, 2, 3), (5, 3, 2)]
"""States, inputs, rows: of kernels compiled for the size, and of the one that reads it at run time."""


def one_by_one(p: StageProgram, options: KernelOptions = TIGHT) -> KernelSolution:
    found = [vars(NativeKernel().solve(member(p, b), None, options)) for b in range(len(p.B))]
    return KernelSolution(**{name: torch.cat([f[name] for f in found]) for name in found[0]})


def clear_of_the_optimum(room: float) -> StageProgram:
    """min 1/2 (u - 1)^2 with u <= 1 + room, the one input of one stage; its state is free."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    bound = torch.tensor([[[INF, 1.0 + room]]], dtype=torch.float64)
    return StageProgram(
        (-1,), 0 * one[..., 0, 0], one, one, 0 * one[..., 0], torch.diag(torch.tensor([0.0, 1.0])).double()[None, None],
        torch.tensor([[[0.0, -1.0]]], dtype=torch.float64), -INF * bound.abs(), bound, torch.zeros(1, 1, 0, 2).double(),
        *(torch.zeros(3, 1, 1, 0).double()),
    ).validate()  # fmt: skip


def share_of_exact_zeros(p: StageProgram, found: KernelSolution) -> Tensor:
    """``[B]``: of the multipliers of the sides that exist."""
    lower, upper, _ = p.limits()
    there, dual = torch.isfinite(torch.stack([lower, upper])), torch.stack([found.dual_lower, found.dual_upper])
    return ((dual == 0) & there).sum((0, 2, 3)) / there.sum((0, 2, 3))


@pytest.mark.parametrize(("nx", "nu", "rows"), SIZES)
def test_an_instance_by_itself_ends_sooner_at_the_same_point(nx: int, nu: int, rows: int) -> None:
    p = random_program(41, batch=24, stages=12, nx=nx, nu=nu, rows=rows, equations=rows != 3)
    together, alone = NativeKernel().solve(p, None, TIGHT), one_by_one(p)
    assert (alone.outcome == together.outcome).all()
    good = alone.outcome == Outcome.CONVERGED
    assert good.sum() >= 20
    torch.testing.assert_close(alone.z[good], together.z[good], rtol=1e-7, atol=1e-7)
    assert alone.iterations[good].sum() < 0.85 * together.iterations[good].sum()
    # A limit that does not hold costs nothing at all: the mark of a set. An interior point never gets there.
    assert (share_of_exact_zeros(p, alone)[good] > 0.3).sum() > 0.7 * good.sum()
    assert (share_of_exact_zeros(p, together)[good] < 0.1).all()


def test_the_end_is_that_of_another_solver() -> None:
    p = random_program(43, batch=6, stages=10, nx=6, nu=2, rows=4)
    found = one_by_one(p)
    for b in range(6):
        reference = by_clarabel(p, b)
        assert (reference is None) == (found.outcome[b] != Outcome.CONVERGED)
        if reference is not None:
            torch.testing.assert_close(found.z[b], reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("room", "undecided"), [(0.0, True), (1e-9, True), (-1e-9, True), (3e-3, False), (-3e-3, False)]
)
def test_a_limit_that_touches_the_optimum_stays_undecided(room: float, undecided: bool) -> None:
    p = clear_of_the_optimum(room)
    found = NativeKernel().solve(p, None, TIGHT)
    assert found.outcome[0] == Outcome.CONVERGED
    assert abs(float(found.z[0, 0, 1]) - (1 + min(room, 0.0))) < 1e-5
    kink = float(NativeKernel().adjoint(p, found, torch.ones_like(found.z), TIGHT).kink[0])
    assert (kink > 1e-2) == undecided


def test_the_central_path_is_not_cut_short() -> None:
    p = random_program(47, batch=4, nx=6, nu=2, equations=False)
    mu = 1e-5
    found = one_by_one(p, KernelOptions(tolerance=1e-12, smoothing=mu))
    assert (found.outcome == Outcome.CONVERGED).all()
    lower, upper, compliance = p.limits()
    value = p.limit_values(found.z)
    for slack, dual in ((upper - value, found.dual_upper), (value - lower, found.dual_lower)):
        product = ((slack + compliance * dual) * dual)[torch.isfinite(slack)]
        torch.testing.assert_close(product, torch.full_like(product, mu), rtol=1e-5, atol=0)

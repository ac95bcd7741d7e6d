"""The compiled calls that solve and judge, and that differentiate and pull back: the same numbers as step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_trees import random_program
from torch import Tensor

from planner.qp import native
from planner.qp.judge import acceptable, residuals_in_torch, standard
from planner.qp.kernel import KernelAdjoint, KernelOptions
from planner.qp.layer import (
    KINK_TRUSTED,
    RESIDUAL_TRUSTED,
    _gradients_in_torch,
    _kept,
    solve_differentiable,
)
from planner.qp.native import Described, DescribedAtOnce, NativeKernel
from planner.qp.problem import SolveStatus, StageProgram
from planner.qp.solver import SolveOptions, solve

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_not())

OPTIONS = KernelOptions(tolerance=1e-12)
EVERY = (True,) * 12


def with_an_empty_member(seed: int, batch: int = 11) -> StageProgram:
    """Random trees; member 3 has bounds on its first input that no motion meets beside its rows."""
    p = random_program(seed, batch=batch, stages=9)
    lower, upper = p.lower.clone(), p.upper.clone()
    lower[3, 2, 0], upper[3, 2, 0] = 1e3, 1e3 + 1.0
    compliance = p.compliance.clone()
    compliance[3, 2, 0] = 0.0
    return replace(p, lower=lower, upper=upper, compliance=compliance)


@pytest.mark.parametrize("smoothing", [0.0, 1e-3])
@pytest.mark.parametrize("threads", [1, 3])
def test_judged_at_once_like_afterwards(smoothing: float, threads: int) -> None:
    for seed in range(6):
        p = with_an_empty_member(seed)
        options = replace(OPTIONS, smoothing=smoothing, threads=threads)
        found = NativeKernel().solve_judged(Described(p), options, None, standard(smoothing))
        assert found is not None
        claim, numbers, status, refused = found
        alone = NativeKernel().solve(p, None, options)
        assert torch.equal(claim.z, alone.z)
        assert torch.equal(claim.dual_upper, alone.dual_upper)
        worth = residuals_in_torch(p, alone)
        for mine, theirs in zip(numbers, (worth.primal, worth.scaled, worth.dual, worth.gap)):
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-15)
        good = acceptable(alone, worth, smoothing)
        assert torch.equal(status == 0, good)
        assert refused == int((~good).sum())
        assert not good[3]


@pytest.mark.parametrize("datum", ["x0", "A", "H", "C", "compliance", "z_lower", "upper"])
@pytest.mark.parametrize("shared", [False, True])
def test_invalid_data_are_refused_member_by_member_and_shared(datum: str, shared: bool) -> None:
    p = random_program(1, batch=9)
    wrong = getattr(p, datum)[:1].clone() if shared else getattr(p, datum).clone()
    wrong[(-1,) + (0,) * (wrong.ndim - 1)] = -1.0 if datum == "compliance" else torch.nan
    p = replace(p, **{datum: wrong.expand(9, *wrong.shape[1:]) if shared else wrong})
    assert NativeKernel().solve_judged(Described(p), OPTIONS, None, standard(0.0)) is None
    with pytest.raises(ValueError, match=datum):
        solve(p, SolveOptions(backend="native"))


@pytest.mark.parametrize("threads", [1, 3])
def test_differentiated_at_once_like_step_by_step(threads: int) -> None:
    for seed in range(6):
        p, options = with_an_empty_member(seed), replace(OPTIONS, threads=threads)
        s = solve(p, SolveOptions(backend="native", effort=0))
        point = (s.z, s.costate, s.dual_lower, s.dual_upper)
        grad = torch.randn(s.z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        shapes = [t.shape for t in p.tensors()]
        trust = (RESIDUAL_TRUSTED, KINK_TRUSTED)
        made, trusted = NativeKernel().differentiate(Described(p), shapes, point, s.status, grad, trust, options)
        found = adjoint(p, point, grad, options)
        expected = (s.status == 0) & (found.residual <= RESIDUAL_TRUSTED) & (found.kink <= KINK_TRUSTED)
        assert torch.equal(trusted, expected)
        assert not trusted[3]
        assert bool(trusted.any())
        plain = _gradients_in_torch(p, point, _kept(found, expected), EVERY)
        for mine, theirs in zip(made, plain):
            assert mine is not None
            assert theirs is not None
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)
            assert not mine[3].any()


def adjoint(p: StageProgram, point: tuple[Tensor, ...], grad: Tensor, options: KernelOptions) -> KernelAdjoint:
    s = NativeKernel().solve(p, None, options)
    z, costate, dual_lower, dual_upper = point
    claim = replace(s, z=z, costate=costate, dual_lower=dual_lower, dual_upper=dual_upper)
    return NativeKernel().adjoint(p, claim, grad, options)


def test_the_layer_uses_both(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"solve_judged": 0, "differentiate": 0}
    for name in calls:
        whole = getattr(NativeKernel, name)

        def counted(self, *given, _whole=whole, _name=name):  # type: ignore[no-untyped-def]
            calls[_name] += 1
            return _whole(self, *given)

        monkeypatch.setattr(NativeKernel, name, counted)
    p = random_program(0)
    leaf = p.g.clone().requires_grad_(True)
    z, _ = solve_differentiable(replace(p, g=leaf), SolveOptions(backend="native"))
    z.sum().backward()
    assert calls == {"solve_judged": 1, "differentiate": 1}
    assert leaf.grad is not None


def test_data_of_other_forms_give_the_same() -> None:
    """Not contiguous, in float32, shared: described in another way, and kept until the backward pass."""
    p = random_program(5, batch=4)
    assert DescribedAtOnce(p).exact
    turned = replace(p, A=p.A.mT.contiguous().mT, H=p.H[:1].expand(4, -1, -1, -1), g=p.g.float())
    assert not DescribedAtOnce(turned).exact
    plain = replace(p, H=p.H[:1].repeat(4, 1, 1, 1), g=p.g.float().double())
    results = []
    for program in (turned, plain):
        leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_(True) for t in program.tensors()]
        z, report = solve_differentiable(program.with_tensors(leaves), SolveOptions(backend="native"))
        torch.empty(1 << 20).fill_(0.5)  # freed memory does not stay what it was
        z.double().square().sum().backward()
        assert bool((report.solution.status == int(SolveStatus.SOLVED)).all())
        results.append((z.double(), leaves[1].grad, leaves[5].grad.double()))
    for mine, theirs in zip(*results):
        assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-6)

"""What a claimed solution is worth: residuals from the raw data, in few operations.

The numbers of `planner.qp.problem.certify`, which is the readable form, plus the primal residual relative to each
limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planner.qp.kernel import KernelSolution, Outcome
from planner.qp.native import judge as compiled
from planner.qp.problem import StageProgram

PRIMAL_TOLERANCE = 1e-8
"""Largest violation, divided by 1 + |limit|, of an answer that counts as solved."""
ROUNDED = 1e-9
"""Of all three, for an answer whose kernel stopped short of its own tolerance."""
DUAL_TOLERANCE = 1e-6
"""Largest stationarity residual and largest multiplier x slack, both relative."""


@dataclass
class Residuals:
    """``[B]`` each. primal, dual, gap: as `planner.qp.problem.certify`; scaled: the primal residual, that of each limit
    divided by 1 + |limit| and that of each state by 1 + |state|."""

    primal: Tensor
    scaled: Tensor
    dual: Tensor
    gap: Tensor


def residuals(problem: StageProgram, claim: KernelSolution) -> Residuals:
    """problem: float64 and without gradients. NaN in a claim gives NaN residuals.

    Compiled where that is possible. Raises ValueError where the problem's data are not valid.
    """
    if problem.g.device.type == "cpu" and compiled.library() is not None:
        found = compiled.judge(problem, claim)
        if found is None:
            problem.validate()
            raise ValueError("StageProgram: invalid data")
        return Residuals(*found)
    return residuals_in_torch(problem, claim)


def residuals_in_torch(problem: StageProgram, claim: KernelSolution) -> Residuals:
    """The same anywhere, without looking at the data's validity."""
    p, z, costate = problem, claim.z, claim.costate
    nx, nz = costate.shape[-1], z.shape[-1]
    batch, n = z.shape[:2]
    dual = torch.stack([claim.dual_upper, claim.dual_lower])
    x, u = z[..., :nx], z[..., nx:]
    parent = p.parent_index
    past = torch.cat([x, p.x0[:, None].expand(batch, 1, nx)], 1)[:, parent]
    astray = (x - _times(p.A, past) - _times(p.B, u) - p.c).abs()

    lower, upper, compliance = p.limits()
    value = torch.cat([z, _times(p.C, z)], -1)
    limit = torch.stack([upper, -lower])
    excess = torch.stack([value, -value]) - limit - compliance * dual
    finite = limit != torch.inf
    over = excess.clamp(min=0)
    size = torch.where(finite, limit, 0.0).abs() + 1
    primal = torch.maximum(over.amax((0, 2, 3)), astray.amax((1, 2)))
    scaled = torch.maximum((over / size).amax((0, 2, 3)), (astray / (1 + x.abs())).amax((1, 2)))

    y = dual[0] - dual[1]
    hz = _times(p.H, z)
    push = y[..., :nz] + _transposed_times(p.C, y[..., nz:])
    gradient = hz + p.g + push
    from_children = torch.zeros(batch, n + 1, nx, dtype=z.dtype, device=z.device)
    from_children.index_add_(1, parent % (n + 1), _transposed_times(p.A, costate))
    in_state = gradient[..., :nx] + from_children[:, :-1] - costate
    in_input = gradient[..., nx:] + _transposed_times(p.B, costate)
    terms = torch.maximum(torch.maximum(hz.abs(), p.g.abs()), push.abs()).amax((1, 2))
    left = torch.maximum(in_state.abs().amax((1, 2)), in_input.abs().amax((1, 2)))
    wrong = torch.maximum(torch.where(finite, 0.0, dual), -dual).amax((0, 2, 3)).clamp(min=0)
    paid = torch.where(finite, dual.clamp(min=0) * excess.abs(), 0.0).amax((0, 2, 3))
    cost = (z * (0.5 * hz + p.g)).sum((1, 2)).abs()
    return Residuals(primal, scaled, (left + wrong) / (1 + terms), paid / (1 + cost))


def standard(smoothing: float, slackening: float = 1.0) -> tuple[float, float, float, float]:
    """What `acceptable` asks for, as dd_standard in judge.hpp: scaled primal, dual, gap, and ROUNDED."""
    if smoothing:
        return PRIMAL_TOLERANCE * slackening, DUAL_TOLERANCE * slackening, float("inf"), -1.0
    return PRIMAL_TOLERANCE * slackening, DUAL_TOLERANCE * slackening, DUAL_TOLERANCE * slackening, ROUNDED


def acceptable(claim: KernelSolution, worth: Residuals, smoothing: float, slackening: float = 1.0) -> Tensor:
    """``[B]``: converged, and the recomputed residuals agree. NaN compares false and is refused.

    Where rounding kept a kernel from the tolerance it was asked for, residuals below ROUNDED speak for themselves.
    """
    good = (claim.outcome == int(Outcome.CONVERGED)) & (worth.scaled <= PRIMAL_TOLERANCE * slackening)
    good &= worth.dual <= DUAL_TOLERANCE * slackening
    if smoothing:
        return good
    good &= worth.gap <= DUAL_TOLERANCE * slackening
    if bool(good.all()):
        return good
    stopped = (claim.outcome == int(Outcome.ITERATION_LIMIT)) | (claim.outcome == int(Outcome.NUMERICAL))
    small = torch.stack([worth.scaled, worth.dual, worth.gap]).amax(0) <= ROUNDED
    return good | (stopped & small)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix * vector[..., None, :]).sum(-1)


def _transposed_times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix * vector[..., None]).sum(-2)

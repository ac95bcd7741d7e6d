"""Is a program empty? The least-squares violation of its hard limits, and what that proves.

    min  1/2 sum of violations^2  over inputs within their own bounds.

At the minimum the violations themselves are weights of a Farkas certificate: no admissible input brings the weighted
sum of violations below `planner.qp.problem.infeasibility_margin`, which is recomputed from the raw data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from planner.qp.kernel import Kernel, KernelOptions, KernelSolution, Outcome
from planner.qp.problem import StageProgram, infeasibility_margin

ROUNDS = 3
PROXIMITY = (1e-8, 1e-10, 1e-11)
"""Curvature in the inputs, about the inputs of the round before, as a share of a violation's."""
NEGLIGIBLE = 1e-7
"""Violations below this share of the largest carry no weight."""
PROVEN = 1e-9
"""A margin counts when it exceeds this times the weighted size of the limits, well above rounding."""


@dataclass
class Emptiness:
    """violation ``[B, N, L]``: signed, negative at the lower side; proof ``[B]``: margin > 0 or zero; z ``[B, N, nz]``:
    the compromise; outcome ``[B]``: of the kernel."""

    violation: Tensor
    proof: Tensor
    z: Tensor
    outcome: Tensor


def find_violation(problem: StageProgram, kernel: Kernel, options: KernelOptions) -> Emptiness:
    """problem: float64 and without gradients. A proof of zero says nothing: not proven empty.

    Where a hard limit's own two sides cross, no weights are needed: the proof is by how much they do, and that limit
    carries half of it as its violation. Sides that cross by rounding alone are left as they are.
    """
    end = time.perf_counter() + options.deadline
    lower, upper, compliance = problem.limits()
    batch = len(lower)
    violation, proof = torch.zeros_like(lower), torch.zeros(batch, dtype=lower.dtype, device=lower.device)
    z = torch.zeros_like(problem.g)
    outcome = torch.full((batch,), int(Outcome.DIVERGING), dtype=torch.int64, device=lower.device)

    gap = torch.where((compliance == 0) & (lower > upper), lower - upper, 0.0)
    widest, where = torch.where(gap > PROVEN * (1 + lower.abs()), gap, 0.0).flatten(1).max(1)
    crossed = widest > 0
    violation.view(batch, -1)[crossed, where[crossed]] = 0.5 * widest[crossed]
    proof[crossed] = widest[crossed]
    open_ = (~crossed).nonzero()[:, 0]
    unit = torch.ones(batch, dtype=lower.dtype, device=lower.device)
    for k in range(ROUNDS):
        if not len(open_) or time.perf_counter() > end:
            break
        part = problem.with_tensors([t[open_] for t in problem.tensors()])
        answer = _compromise(part, unit[open_], z[open_], PROXIMITY[k], kernel, options)
        z[open_], outcome[open_] = answer.z, answer.outcome
        broken, certain, margin = _proof(part, answer.z)
        violation[open_] = broken
        proof[open_[certain]] = margin[certain]
        largest = broken.abs().flatten(1).amax(1)
        # Multipliers of about one let the kernel's absolute tolerance see small violations.
        unit[open_] = largest.clamp(1e-6, 1e6)
        open_ = open_[~certain & (largest > 0)]
    violation[proof == 0] = 0.0
    return Emptiness(violation, proof, z, outcome)


def _compromise(
    problem: StageProgram,
    unit: Tensor,
    centre: Tensor,
    proximity: float,
    kernel: Kernel,
    options: KernelOptions,
) -> KernelSolution:
    """The least-squares compromise, with costs violation^2 / (2 unit) and a pull to the inputs of `centre`."""
    nx = problem.x0.shape[-1]
    price = (proximity / unit)[:, None, None]
    H, g = torch.zeros_like(problem.H), torch.zeros_like(problem.g)
    H.diagonal(dim1=-2, dim2=-1)[..., nx:] = price
    g[..., nx:] = -price * centre[..., nx:]
    free = problem.compliance > 0
    each = unit[:, None, None]
    bounds = torch.zeros_like(problem.g)
    bounds[..., :nx] = each
    soft = StageProgram(
        problem.parent, problem.x0, problem.A, problem.B, problem.c, H, g, problem.z_lower, problem.z_upper, problem.C,
        torch.where(free, -torch.inf, problem.lower), torch.where(free, torch.inf, problem.upper),
        torch.where(free, 0.0, each.expand_as(problem.lower)),
    )  # fmt: skip
    return kernel.solve(soft, bounds, options)


def _proof(problem: StageProgram, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signed violations of the hard limits at z ``[B, N, L]``; ``[B]``: whether they prove emptiness; the margin."""
    lower, upper, compliance = problem.limits()
    value = problem.limit_values(z)
    hard = compliance == 0
    hard[..., problem.x0.shape[-1] : problem.g.shape[-1]] = False
    above = torch.where(hard, (value - upper).clamp(min=0), 0.0)
    below = torch.where(hard, (lower - value).clamp(min=0), 0.0)
    floor = NEGLIGIBLE * torch.maximum(above, below).flatten(1).amax(1)[:, None, None]
    above, below = torch.where(above > floor, above, 0.0), torch.where(below > floor, below, 0.0)
    margin = infeasibility_margin(problem, below, above)
    size = torch.where(above > 0, above * (1 + upper.abs()), 0.0) + torch.where(
        below > 0, below * (1 + lower.abs()), 0.0
    )
    return above - below, (margin > PROVEN * size.sum((1, 2))) & margin.isfinite(), margin

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
from planner.qp.native import judge as compiled
from planner.qp.problem import StageProgram, infeasibility_margin

ROUNDS = 3
PROXIMITY = (1e-8, 1e-10, 1e-11)
"""Curvature in the inputs, about the inputs of the round before, as a share of a violation's."""
NEGLIGIBLE = 1e-7
"""Violations below this share of the largest carry no weight."""
PROVEN = 1e-9
"""A margin counts when it exceeds this times the weighted size of the limits, ..."""
ROUNDING = 1e-13
"""... plus this times the size of the terms that cancel in it, which an unstable system makes large."""


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
        broken = _broken(part, answer.z)
        violation[open_], proof[open_] = broken, proof_of(part, broken)
        largest = broken.abs().flatten(1).amax(1)
        # Multipliers of about one let the kernel's absolute tolerance see small violations.
        unit[open_] = largest.clamp(1e-6, 1e6)
        open_ = open_[(proof[open_] == 0) & (largest > 0)]
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


def proof_of(problem: StageProgram, violation: Tensor) -> Tensor:
    """``[B]``: the margin that signed weights ``[B, N, L]`` leave, zero where it is no proof.

    A hard limit whose own sides cross, which weights of one sign cannot express, proves by how much it does.
    """
    lower, upper, compliance = problem.limits()
    at_crossing = (violation != 0) & (compliance == 0) & (lower > upper)
    crossing = torch.where(at_crossing, lower - upper, 0.0)
    crossing = torch.where(crossing > PROVEN * (1 + lower.abs()), crossing, 0.0).flatten(1).amax(1)
    above, below = violation.clamp(min=0), (-violation).clamp(min=0)
    margin, needed = _margin(problem, below, above)
    proven = (margin > needed) & margin.isfinite() & needed.isfinite()
    return torch.where(proven, margin, crossing)


def _broken(problem: StageProgram, z: Tensor) -> Tensor:
    """Signed violations ``[B, N, L]`` of the hard limits at z but the inputs' bounds, the negligible ones left out."""
    lower, upper, compliance = problem.limits()
    value = problem.limit_values(z)
    hard = compliance == 0
    hard[..., problem.x0.shape[-1] : problem.g.shape[-1]] = False
    above = torch.where(hard, (value - upper).clamp(min=0), 0.0)
    below = torch.where(hard, (lower - value).clamp(min=0), 0.0)
    broken = above - below
    return torch.where(broken.abs() > NEGLIGIBLE * broken.abs().flatten(1).amax(1)[:, None, None], broken, 0.0)


def _margin(problem: StageProgram, weight_lower: Tensor, weight_upper: Tensor) -> tuple[Tensor, Tensor]:
    """The margin and what it has to exceed, ``[B]`` each; compiled where that is possible."""
    if problem.g.device.type == "cpu" and compiled.library() is not None:
        margin, size, terms = compiled.margin(problem, weight_lower, weight_upper)
        return margin, PROVEN * size + ROUNDING * terms
    margin = infeasibility_margin(problem, weight_lower, weight_upper)
    return margin, margin_needed(problem, weight_lower, weight_upper)


def margin_needed(problem: StageProgram, weight_lower: Tensor, weight_upper: Tensor) -> Tensor:
    """``[B]``: what `infeasibility_margin` of these weights has to exceed to be a proof in floating point."""
    p = problem
    nx, nz = p.x0.shape[-1], p.g.shape[-1]
    lower, upper, compliance = p.limits()
    usable = compliance == 0
    usable[..., nx:nz] = False
    weight_lower = torch.where(usable & torch.isfinite(lower), weight_lower, 0.0)
    weight_upper = torch.where(usable & torch.isfinite(upper), weight_upper, 0.0)
    size = torch.where(weight_upper > 0, weight_upper * (1 + upper.abs()), 0.0)
    size = size + torch.where(weight_lower > 0, weight_lower * (1 + lower.abs()), 0.0)
    weight = weight_lower + weight_upper
    slope = weight[..., :nz] + (p.C.abs().mT @ weight[..., nz:, None])[..., 0]
    total = slope[..., :nx].clone()
    terms = torch.zeros_like(total[:, 0, 0])
    for t in range(len(p.parent) - 1, -1, -1):
        carried = (p.A[:, t].abs().mT @ total[:, t, :, None])[..., 0]
        if p.parent[t] >= 0:
            total[:, p.parent[t]] += carried
        else:
            terms = terms + (carried * p.x0.abs()).sum(-1)
    reach = torch.maximum(p.z_lower[..., nx:].abs(), p.z_upper[..., nx:].abs())
    reach = torch.where(torch.isfinite(reach), reach, 0.0)
    per_input = slope[..., nx:] + (p.B.abs().mT @ total[..., None])[..., 0]
    terms = terms + (p.c.abs() * total).sum((1, 2)) + (reach * per_input).sum((1, 2))
    return PROVEN * size.sum((1, 2)) + ROUNDING * terms

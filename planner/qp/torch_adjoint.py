"""The adjoint of a stage program's solution in plain torch: see `planner.qp.kernel.KernelAdjoint`."""

from __future__ import annotations

import torch
from torch import Tensor

from planner.qp.kernel import KernelAdjoint, KernelOptions, KernelSolution
from planner.qp.riccati import TINY, Workspace

CAP = 1e7
"""Largest weight of a limit in the factorisation, in units of the cost's scale over the limit's squared."""
REFINEMENTS = 6
UNDECIDED = 1e-3
"""A limit whose slack and multiplier, scaled, differ by more than this factor is taken as active or idle altogether."""
TOLERANCE = 1e-10
"""Relative residual at which refinement ends."""


def adjoint(
    w: Workspace, solution: KernelSolution, grad_z: Tensor, options: KernelOptions, fixed: bool
) -> KernelAdjoint:
    """Minimise 1/2 a'(H + J'WJ)a + grad_z'a over steps a along the dynamics, J the limits' Jacobian.

    W = 1 / (s/lambda + r) spans twenty orders of magnitude, so it is capped in the factorisation; refinement against

        H a + J' eta = -grad_z (projected),    J a = (s/lambda + r) eta

    restores the true ratios (the method of multipliers on the adjoint problem). Where the optimum itself is wanted, the
    ratio of a limit that is clearly active is zero, and one that is clearly idle drops out.
    """
    take = lambda t: t.detach().double().transpose(0, 1)[w.tree.order]  # noqa: E731
    z, gradient = take(solution.z), take(grad_z)
    dual = torch.stack([take(solution.dual_upper), take(solution.dual_lower)])
    signed = dual[0] - dual[1]
    dual = dual * w.mask
    unit = w.price[:, None] / w.scale**2
    # Slacks are recomputed from z; those that drown in rounding are active beyond the cap anyway.
    slack = torch.where(w.side, w.limit - w.sign * w.values(z) + w.r * dual, 1.0).clamp(min=1e-16)
    if options.smoothing:
        slack = torch.where(w.side, options.smoothing / dual.clamp(min=TINY), 1.0)
    push, room = dual * w.scale / w.price[:, None], slack / w.scale
    doubt = torch.minimum(push, room) / torch.maximum(push, room) * w.mask
    decided = (doubt < UNDECIDED) & (not options.smoothing)
    give = w.r + torch.where(decided, 0.0, slack / dual.clamp(min=TINY))
    sided = torch.where(decided & (push < room), 0.0, w.mask / give.clamp(min=1e-30))
    total = sided.sum(0)
    cap = CAP * unit
    weight = torch.where(w.equal, 1 / torch.maximum(w.r, 1 / cap), torch.minimum(total, cap))
    relief = torch.where(w.equal, weight * w.r, torch.where(total > cap, cap / total.clamp(min=TINY), 1.0))

    size = gradient.abs().amax((0, 2)).clamp(min=TINY)
    floor = torch.maximum(weight, unit) * w.scale / w.price[:, None]
    a, eta, factor = torch.zeros_like(gradient), torch.zeros_like(total), None
    best, smallest = [a, eta, torch.zeros_like(a[..., : w.nx])], torch.full_like(size, torch.inf)
    for k in range(REFINEMENTS + 1):
        tension = weight * w.values(a)
        rest = gradient + (w.H @ a[..., None])[..., 0] + w.push(eta)
        costate, left = w.costate(rest)
        miss = (tension - relief * eta).abs() / floor
        residual = torch.maximum(left.abs().amax((0, 2)), miss.amax((0, 2))) / size
        better = (residual < smallest)[:, None]
        best = [torch.where(better, new, old) for new, old in zip((a, eta, costate), best)]
        smallest = torch.where(residual < smallest, residual, smallest)
        if k == REFINEMENTS or (not fixed and bool((smallest < TOLERANCE).all())):
            break
        push = rest + w.push(tension - relief * eta)
        if factor is None:
            factor = w.factor(weight, push)
            a = a + factor.step()
        else:
            a = a + factor.solve(push)
        eta = weight * w.values(a) + (1 - relief) * eta
    a, eta, costate = best
    share = sided / total.clamp(min=TINY)
    upper = torch.where(w.equal, (signed >= 0).double(), share[0])
    lower = torch.where(w.equal, (signed < 0).double(), share[1])
    kink = torch.zeros_like(size) if options.smoothing else doubt.amax((0, 1, 3))
    back = lambda t: t[w.tree.back].transpose(0, 1).contiguous()  # noqa: E731
    return KernelAdjoint(back(a), back(costate), back(-eta * lower), back(-eta * upper), smallest, kink)

"""The stage-structured interior point in plain torch: any device, float64, batched over members.

Mehrotra's predictor-corrector (Mehrotra 1992; Wright 1997 ch. 10). Both sides of a limit v = z or Cz are one
elementwise array with sign = +1 (upper) and -1 (lower),

    sign v + s - r lambda = sign limit,   s, lambda > 0,   s lambda = mu,

r being the compliance. Eliminating s and lambda leaves a tree-structured linear-quadratic problem with
weights 1 / (s/lambda + r), solved by a Riccati recursion (Rao, Wright and Rawlings 1998) in `planner.qp.riccati`. Equal
bounds are equations: a fixed small ratio takes the place of s/lambda and the multiplier steps towards exactness
(proximal method of multipliers).

With `fixed_iterations` no control flow depends on data, as CUDA graphs require. No GPU was at hand: on one this is
untested.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from planner.qp.kernel import KernelAdjoint, KernelOptions, KernelSolution, Outcome
from planner.qp.problem import StageProgram
from planner.qp.riccati import TINY, Factor, Workspace, finite_members
from planner.qp.torch_adjoint import adjoint

START_SLACK = 0.3
"""Smallest slack at the start, of the limit's scale."""
ATTAINABLE = 1e-11
"""Residuals need not be smaller, however small the products are asked to be: the rest is rounding."""
ROUNDING = 1e-9
"""Residuals that pass for converged where the wanted tolerance turns out to be beyond rounding."""
JAMMED = 0.1
"""A step shorter than this was blocked by a limit too close to its boundary for its multiplier."""
WARM = 1e-2
"""Smallest slack and product of a warm start, in the limit's and the cost's scale."""


@dataclass
class _Iterate:
    """z ``[N, B, nz]``; slack, dual ``[2, N, B, L]`` (1 and 0 at infinite sides); equation ``[N, B, L]``: multipliers
    of the equations."""

    z: Tensor
    slack: Tensor
    dual: Tensor
    equation: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.z, self.slack, self.dual, self.equation


@dataclass
class _Residual:
    """What is left of the optimality conditions at an iterate, and their size per member ``[B]``.

    side ``[2, N, B, L]``, equation ``[N, B, L]``: of the limits; gradient ``[N, B, nz]``: of the Lagrangian in z with
    the dynamics left out; costate ``[N, B, nx]``. primal and dual: largest entries, relative; mean, spread: of the
    products slack x dual, the spread being the largest distance from the target; finite: no NaN anywhere.
    """

    side: Tensor
    equation: Tensor
    gradient: Tensor
    costate: Tensor
    primal: Tensor
    dual: Tensor
    mean: Tensor
    spread: Tensor


def _residual(w: Workspace, it: _Iterate, target: float) -> _Residual:
    value = w.values(it.z)
    side = (w.sign * value + it.slack - w.limit - w.r * it.dual) * w.mask
    equation = torch.where(w.equal, value - w.level - w.r * it.equation, 0.0)
    y = it.dual[0] - it.dual[1] + it.equation
    hz, push = (w.H @ it.z[..., None])[..., 0], w.push(y)
    gradient = hz + w.g + push
    costate, rest = w.costate(gradient)
    size = torch.maximum(torch.maximum(hz.abs(), w.g.abs()), push.abs()).amax((0, 2))
    product = it.slack * it.dual
    primal = torch.maximum(
        (side.abs() / (w.scale + w.limit.abs())).amax((0, 1, 3)),
        (equation.abs() / (w.scale + w.level.abs())).amax((0, 2)),
    )
    spread = (product - target * w.mask).abs().amax((0, 1, 3))
    return _Residual(
        side, equation, gradient, costate, primal, rest.abs().amax((0, 2)) / (w.price + size),
        product.sum((0, 1, 3)) / w.count, spread,
    )  # fmt: skip


class _Direction:
    """Newton's direction at an iterate: one factorisation, right-hand sides that differ in the products wanted."""

    def __init__(self, w: Workspace, it: _Iterate, rest: _Residual) -> None:
        self.w, self.it, self.rest = w, it, rest
        self.inverse = w.mask / (it.slack + w.r * it.dual)
        self.pull = it.dual * rest.side
        self.rigid = torch.where(w.equal, 1 / (w.delta + w.r), 0.0)
        self.weight = (it.dual * self.inverse).sum(0) + self.rigid
        self.factor: Factor | None = None

    def __call__(self, product: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Steps in z, slack, dual and equation; product ``[2, N, B, L]``: what of slack x dual has to go."""
        w, rest = self.w, self.rest
        known = (w.sign * self.inverse * (self.pull - product)).sum(0) + self.rigid * rest.equation
        gradient = rest.gradient + w.push(known)
        if self.factor is None:
            self.factor = w.factor(self.weight, gradient)
            dz = self.factor.step()
        else:
            dz = self.factor.solve(gradient)
        dv = w.values(dz)
        moved = w.sign * dv
        d_dual = self.inverse * (self.it.dual * moved + self.pull - product)
        d_slack = (w.r * d_dual - rest.side - moved) * w.mask
        return dz, d_slack, d_dual, self.rigid * (dv + rest.equation)


def _longest(w: Workspace, it: _Iterate, d_slack: Tensor, d_dual: Tensor) -> Tensor:
    """``[B]``: inverse of the step at which the first slack or multiplier reaches zero."""
    ratio = torch.maximum(-d_slack / it.slack, -d_dual / (it.dual + (1.0 - w.mask)))
    return ratio.amax((0, 1, 3)).clamp(min=TINY)


class TorchKernel:
    """See `planner.qp.kernel.Kernel`. fixed_iterations: run the option's number of iterations, no more and no fewer,
    and never look at the data on the host, so that a CUDA graph can capture the call (untested on a GPU)."""

    name = "torch"

    def __init__(self, fixed_iterations: bool = False) -> None:
        self.fixed_iterations = fixed_iterations

    def solve(
        self,
        problem: StageProgram,
        bound_compliance: Tensor | None,
        options: KernelOptions,
        start: KernelSolution | None = None,
    ) -> KernelSolution:
        """Members are frozen once they are done. See `planner.qp.kernel.Kernel.solve`."""
        end = time.perf_counter() + options.deadline
        w = Workspace(problem, bound_compliance)
        it = _cold_start(w) if start is None else _warm_start(w, start)
        target = options.smoothing
        # Products need not fall far below the tolerance; weights beyond it would only cost digits.
        floor = (0.1 * options.tolerance * w.price.clamp(max=1.0)).clamp(min=target)[:, None]
        converged = int(Outcome.CONVERGED)
        running = -torch.ones(w.batch, dtype=torch.int64, device=w.g.device)
        outcome = torch.where(w.crossed, int(Outcome.DIVERGING), running)
        count = torch.zeros_like(outcome)
        watch = _Watch(w)
        for k in range(options.iterations + 1):
            rest = _residual(w, it, target)
            said, enough = watch.judge(rest, it, options)
            outcome = torch.where(outcome < 0, said, outcome)
            active = outcome < 0
            if not self.fixed_iterations:
                if not bool(active.any()):
                    break
                if time.perf_counter() > end:
                    outcome = torch.where(active, int(Outcome.OUT_OF_TIME), outcome)
                    break
            if k == options.iterations:
                outcome = torch.where(active, torch.where(enough, converged, int(Outcome.ITERATION_LIMIT)), outcome)
                break
            moved, length = _iterate(w, it, rest, floor, watch.jammed)
            fine = active & finite_members(moved.tensors())
            it = _Iterate(*(torch.where(fine[:, None], new, old) for new, old in zip(moved.tensors(), it.tensors())))
            watch.moved(length)
            failed = torch.where(enough, converged, int(Outcome.NUMERICAL))
            outcome = torch.where(active & ~fine, failed, outcome)
            count += fine
        return _finish(w, it, rest, outcome, count)

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """See `planner.qp.kernel.Kernel.adjoint`. Members that did not converge carry whatever comes out, finite."""
        return adjoint(Workspace(problem), solution, grad_z, options, self.fixed_iterations)


def _iterate(w: Workspace, it: _Iterate, rest: _Residual, target: Tensor, jammed: Tensor) -> tuple[_Iterate, Tensor]:
    """Predictor and corrector from one factorisation; members whose last step was short go for the centre instead."""
    direction = _Direction(w, it, rest)
    product = it.slack * it.dual
    _, d_slack, d_dual, _ = direction(product - target * w.mask)
    step = _longest(w, it, d_slack, d_dual).clamp(min=1.0).reciprocal()[:, None]
    ahead = ((it.slack + step * d_slack) * (it.dual + step * d_dual)).sum((0, 1, 3)) / w.count
    wanted = torch.maximum(((ahead / rest.mean.clamp(min=TINY)) ** 3 * rest.mean)[:, None], target)
    wanted = torch.where(jammed[:, None], torch.maximum(0.5 * rest.mean[:, None], target), wanted)
    product = product + torch.where(jammed[:, None], 0.0, d_slack * d_dual) - wanted * w.mask
    dz, d_slack, d_dual, d_equation = direction(product)
    # Closer to the boundary as the products vanish, so that convergence is superlinear.
    keep = 1.0 - torch.clamp(0.01 * rest.mean / w.price, 1e-6, 0.01)
    length = torch.clamp(keep / _longest(w, it, d_slack, d_dual), max=1.0)
    a = length[:, None]
    return _Iterate(it.z + a * dz, it.slack + a * d_slack, it.dual + a * d_dual, it.equation + a * d_equation), length


class _Watch:
    """Decides when a member is done; keeps what that takes from earlier iterations."""

    def __init__(self, w: Workspace) -> None:
        self.w = w
        self.jammed = torch.zeros(w.batch, dtype=torch.bool, device=w.g.device)
        self.short = torch.zeros(w.batch, dtype=torch.float64, device=w.g.device)

    def moved(self, length: Tensor) -> None:
        """Take note of a step's length."""
        self.jammed = length < JAMMED
        self.short = torch.where(length < 1e-3, self.short + 1, 0.0)

    def judge(self, rest: _Residual, it: _Iterate, options: KernelOptions) -> tuple[Tensor, Tensor]:
        """``[B]``: an Outcome, or -1 to go on; and whether the iterate would do if rounding forbids a better one."""
        w = self.w

        def within(tolerance: float, share: float) -> Tensor:
            mean = rest.spread <= share * options.smoothing if options.smoothing else rest.mean <= tolerance * small
            return (torch.maximum(rest.primal, rest.dual) <= max(tolerance, ATTAINABLE)) & mean

        small = w.price.clamp(max=1.0)
        converged, enough = within(options.tolerance, 1e-8), within(max(ROUNDING, options.tolerance), 1e-6)
        worth = ((it.dual.amax(0) + it.equation.abs()) * w.scale).amax((0, 2)) / w.price
        diverging = ((worth > 1e8) | (self.short >= 3)) & (rest.primal > 1e-7)
        stuck = self.short >= 5
        out = torch.full_like(rest.mean, -1.0)
        out = torch.where(stuck, float(Outcome.NUMERICAL), out)
        out = torch.where(diverging, float(Outcome.DIVERGING), out)
        return torch.where(converged | (stuck & enough), float(Outcome.CONVERGED), out).long(), enough


def _cold_start(w: Workspace) -> _Iterate:
    """Inputs nearest zero, then one Newton step from there; only its z is kept."""
    u = slice(w.nx, w.nz)
    high = torch.where(w.side[0, ..., u], w.limit[0, ..., u], torch.inf)
    low = torch.where(w.side[1, ..., u], -w.limit[1, ..., u], -torch.inf)
    z = w.rollout(torch.zeros_like(high).clamp(low, high) + w.level[..., u])
    it = _interior(w, z)
    dz, _, _, _ = _Direction(w, it, _residual(w, it, 0.0))(it.slack * it.dual)
    return _interior(w, torch.where(finite_members((dz,))[:, None], z + dz, z))


def _interior(w: Workspace, z: Tensor) -> _Iterate:
    """Slacks of at least START_SLACK of each limit's scale, all products equal to the cost's scale."""
    slack = torch.maximum(w.limit - w.sign * w.values(z), START_SLACK * w.scale)
    slack = torch.where(w.side, slack, 1.0)
    return _Iterate(z, slack, w.price[:, None] * w.mask / slack, torch.zeros_like(w.level))


def _warm_start(w: Workspace, start: KernelSolution) -> _Iterate:
    """The former inputs, slacks and multipliers, kept away from the boundary."""
    take = lambda t: t.detach().double().transpose(0, 1)[w.tree.order]  # noqa: E731
    z = w.rollout(take(start.z)[..., w.nx :])
    price = w.price[:, None]
    slack = torch.maximum(w.limit - w.sign * w.values(z), WARM * w.scale)
    slack = torch.where(w.side, slack, 1.0)
    former = torch.stack([take(start.dual_upper), take(start.dual_lower)])
    dual = torch.maximum(former, WARM * price / slack) * w.mask
    return _Iterate(z, slack, dual, torch.where(w.equal, former[0] - former[1], 0.0))


def _finish(w: Workspace, it: _Iterate, rest: _Residual, outcome: Tensor, count: Tensor) -> KernelSolution:
    back = lambda t: t[w.tree.back].transpose(0, 1).contiguous()  # noqa: E731
    lower, upper = it.dual[1] + (-it.equation).clamp(min=0), it.dual[0] + it.equation.clamp(min=0)
    return KernelSolution(back(it.z), back(rest.costate), back(lower), back(upper), outcome, count)

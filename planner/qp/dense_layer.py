"""The solve as a differentiable function: implicit differentiation at the optimum.

At a solution the active rows G (multiplier above a threshold) hold with equality,

    P x + q + G' l = 0,    G x = g,

so a gradient v = dL/dx pulls back through one linear system,

    [P  G'] [u]   [-v]
    [G  0 ] [w] = [ 0],

and dL/dq = u, dL/dg = -w, dL/dP = (u x' + x u') / 2, dL/dG = w x' + l u'  (Amos and Kolter 2017, eq. 8, with the
inactive rows dropped). Rows that are active with a vanishing multiplier have one-sided derivatives; they count as
inactive.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planner.qp.dense import QPSolution, QuadraticProgram, SolveStatus
from planner.qp.dense_solver import solve

MULTIPLIER_THRESHOLD = 1e-7
"""Multipliers below this times the largest one do not count as active."""


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, box: dict[str, Any], *tensors: Tensor) -> Tensor:
        solution: QPSolution = solve(QuadraticProgram(*tensors), **box["options"])
        box["solution"] = solution
        ctx.save_for_backward(*tensors, solution.x, solution.y, solution.z)
        ctx.box = box
        return solution.x.to(tensors[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_x: Tensor) -> tuple[Tensor | None, ...]:
        P, q, A, lower, upper, x_lower, x_upper, x, y, z = ctx.saved_tensors
        grads = [torch.zeros_like(t, dtype=torch.float64) for t in (P, q, A, lower, upper, x_lower, x_upper)]
        trusted = torch.zeros(len(q), dtype=torch.bool)
        for i, status in enumerate(ctx.box["solution"].status):
            if status is SolveStatus.SOLVED:
                member = _backward_member(P[i].double(), A[i].double(), x[i], y[i], z[i], grad_x[i].double())
                if member is not None:
                    trusted[i] = True
                    for total, part in zip(grads, member):
                        total[i] = part
        ctx.box["trusted"] = trusted
        return None, *(g.to(t) for g, t in zip(grads, (P, q, A, lower, upper, x_lower, x_upper)))


def _backward_member(P: Tensor, A: Tensor, x: Tensor, y: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, ...] | None:
    n = len(x)
    dual = torch.cat([y, z])
    active = dual.abs() > MULTIPLIER_THRESHOLD * max(1.0, float(dual.abs().amax()))
    index = active.nonzero()[:, 0]
    rows = torch.cat([A, torch.eye(n, dtype=A.dtype)])[index]
    k = len(index)
    kkt = torch.zeros(n + k, n + k, dtype=torch.float64)
    kkt[:n, :n], kkt[:n, n:], kkt[n:, :n] = P, rows.T, rows
    right = torch.cat([-v, torch.zeros(k, dtype=torch.float64)])
    answer, info = torch.linalg.solve_ex(kkt, right)
    if int(info) != 0 or not bool(torch.isfinite(answer).all()):
        # Dependent active rows: the multipliers are not unique but x is; least squares picks the smallest.
        answer = torch.linalg.lstsq(kkt, right, driver="gelsd").solution
    residual = (kkt @ answer - right).abs().amax() / (1e-12 + right.abs().amax())
    if not bool(torch.isfinite(answer).all()) or float(residual) > 1e-6:
        return None
    u, w = answer[:n], torch.zeros(len(dual), dtype=torch.float64)
    w[index] = answer[n:]
    at_upper, at_lower = active & (dual > 0), active & (dual < 0)
    m = len(y)
    bound = lambda side: torch.where(side, -w, torch.zeros_like(w))  # noqa: E731
    upper, lower = bound(at_upper), bound(at_lower)
    grad_a = w[:m, None] * x[None, :] + (y * active[:m])[:, None] * u[None, :]
    grad_p = 0.5 * (u[:, None] * x[None, :] + x[:, None] * u[None, :])
    return grad_p, u, grad_a, lower[:m], upper[:m], lower[m:], upper[m:]


def solve_differentiable(problem: QuadraticProgram, **options: Any) -> tuple[Tensor, dict[str, Any]]:
    """x ``[B, n]`` with gradients to every datum of the problem, and a report.

    options: those of `planner.qp.dense_solver.solve`. The report holds "solution" (QPSolution) and, after a backward
    pass, "trusted" ``[B]``: False for members whose gradient was set to zero (not solved, or a singular
    system). Differentiating twice raises RuntimeError.
    """
    report: dict[str, Any] = {"options": options}
    x = _Solve.apply(report, *problem.tensors())
    return x, report

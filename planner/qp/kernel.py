"""What a kernel computes: the numbers of one interior-point solve and of its adjoint, without any judgement.

Two kernels implement these two functions, one compiled (`planner.qp.native`), one in plain torch
(`planner.qp.torch_kernel`). `planner.qp.solver` judges what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from torch import Tensor

from planner.qp.problem import StageProgram


class Outcome(IntEnum):
    """What a kernel believes of a member."""

    CONVERGED = 0
    DIVERGING = 1  # the multipliers grow without the violations falling: probably empty
    ITERATION_LIMIT = 2
    NUMERICAL = 3
    OUT_OF_TIME = 4


@dataclass(frozen=True)
class KernelOptions:
    """tolerance: of the mean complementarity product and of the scaled residuals. iterations: cap.

    smoothing: 0 for the exact optimum, else the value mu > 0 of all products multiplier x slack at which to stop (a
    point on the central path). deadline (s): from the call on; members not converged by then are OUT_OF_TIME.
    threads: at most this many, for this call only.
    """

    tolerance: float = 1e-10
    iterations: int = 60
    smoothing: float = 0.0
    deadline: float = float("inf")
    threads: int = 1


@dataclass
class KernelSolution:
    """z ``[B, N, nz]``, costate ``[B, N, nx]``, dual_lower, dual_upper ``[B, N, L]``, outcome and iterations ``[B]``.

    float64 and int64; fields as in `planner.qp.problem.StageSolution`. Members that did not converge carry their last
    iterate, finite.
    """

    z: Tensor
    costate: Tensor
    dual_lower: Tensor
    dual_upper: Tensor
    outcome: Tensor
    iterations: Tensor


@dataclass
class KernelAdjoint:
    """Derivatives of a scalar f(z) with respect to the data that enter linearly; the layer forms the rest from them.

    dz ``[B, N, nz]``: with respect to g. dcostate ``[B, N, nx]``: with respect to c.
    dlower, dupper ``[B, N, L]``: with respect to the limits. residual ``[B]``: of the full linear system, relative to
    grad_z. kink ``[B]``: how undecided the least decided limit is: the largest min(dual, slack) / max(dual, slack) over
    the limits, scaled, in [0, 1]; near 1 the derivative is one-sided. Zero where the smoothing is positive.
    """

    dz: Tensor
    dcostate: Tensor
    dlower: Tensor
    dupper: Tensor
    residual: Tensor
    kink: Tensor


class Kernel(Protocol):
    """Two functions, both free of side effects and safe to call from several threads."""

    name: str

    def solve(
        self,
        problem: StageProgram,
        bound_compliance: Tensor | None,
        options: KernelOptions,
        start: KernelSolution | None = None,
    ) -> KernelSolution:
        """problem: float64, validated. bound_compliance ``[B, N, nz]``: softness of the bounds on z, None for hard.

        start: a former solution of a similar problem to begin from.
        """

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """Implicit differentiation at a solution, on the weights of the last factorisation."""

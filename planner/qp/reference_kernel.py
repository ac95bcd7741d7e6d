"""Stage programs through solvers that others wrote, one dense program at a time: oracles for tests and benchmarks."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from planner.qp.backends import REFERENCES, Answer, cvxpylayers_solution
from planner.qp.condense import Condensed, condense
from planner.qp.kernel import KernelAdjoint, KernelOptions, KernelSolution, Outcome
from planner.qp.problem import StageProgram
from planner.qp.riccati import Workspace
from planner.qp.torch_adjoint import adjoint

_OUTCOMES = {
    "solved": Outcome.CONVERGED,
    "infeasible": Outcome.DIVERGING,
    "iteration_limit": Outcome.ITERATION_LIMIT,
    "numerical": Outcome.NUMERICAL,
}


class ReferenceKernel:
    """See `planner.qp.kernel.Kernel`; backend: a name in `planner.qp.backends.REFERENCES`.

    Tolerance, iterations, threads and start are the backend's own business. No central path: smoothing raises
    ValueError, and so does a compliance of bounds. The adjoint is that of the torch kernel at the backend's solution.
    """

    def __init__(self, backend: str) -> None:
        self.name = backend

    def solve(
        self,
        problem: StageProgram,
        bound_compliance: Tensor | None,
        options: KernelOptions,
        start: KernelSolution | None = None,
    ) -> KernelSolution:
        """See `planner.qp.kernel.Kernel.solve`."""
        del start
        if bound_compliance is not None or options.smoothing:
            raise ValueError(f"backend {self.name!r}: knows neither soft bounds nor the central path")
        end = time.perf_counter() + options.deadline
        batch, n, nx, nu, m = problem.size
        condensed = condense(problem)
        x = torch.zeros(batch, condensed.program.q.shape[1], dtype=torch.float64)
        signed = torch.zeros(batch, n, nx + nu + m, dtype=torch.float64)
        outcome = torch.zeros(batch, dtype=torch.int64)
        for i in range(batch):
            answer = self._member(condensed, i) if time.perf_counter() < end else ("out_of_time", None, None, None)
            outcome[i] = int(_OUTCOMES.get(answer[0], Outcome.OUT_OF_TIME))
            if answer[1] is not None and answer[2] is not None and answer[3] is not None:
                x[i] = torch.from_numpy(answer[1])
                own = signed[i].view(-1)
                own.index_add_(0, condensed.row_limit, torch.from_numpy(answer[2]))
                signed[i, :, nx : nx + nu] = torch.from_numpy(answer[3])[: n * nu].view(n, nu)
        z = torch.where((outcome == 0)[:, None, None], condensed.trajectory(x), 0.0)
        work = Workspace(problem)
        y = signed.transpose(0, 1)[work.tree.order]
        at = z.transpose(0, 1)[work.tree.order]
        costate, _ = work.costate((work.H @ at[..., None])[..., 0] + work.g + work.push(y))
        costate = costate[work.tree.back].transpose(0, 1)
        iterations = torch.zeros_like(outcome)
        return KernelSolution(z, costate, (-signed).clamp(min=0), signed.clamp(min=0), outcome, iterations)

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """See `planner.qp.kernel.Kernel.adjoint`."""
        return adjoint(Workspace(problem), solution, grad_z, options, fixed=False)

    def _member(self, condensed: Condensed, i: int) -> Answer:
        member = [t[i].numpy() for t in condensed.program.tensors()]
        if (member[3] > member[4]).any() or (member[5] > member[6]).any():
            return "infeasible", None, None, None
        return REFERENCES[self.name](*member)


def cvxpylayers_trajectory(problem: StageProgram) -> Tensor:
    """z ``[B, N, nz]``, solved and differentiated by cvxpylayers (diffcp, Clarabel) through condensation.

    Raises whatever cvxpylayers raises if a member has no solution; needs the extra `reference`.
    """
    condensed = condense(problem)
    return condensed.trajectory(cvxpylayers_solution(condensed.program))

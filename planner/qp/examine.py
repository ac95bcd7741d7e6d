"""Members that the first attempt did not solve: proven empty, solved in another way, or refused with a reason."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from planner.qp.judge import acceptable, residuals
from planner.qp.kernel import Kernel, KernelOptions, KernelSolution, Outcome
from planner.qp.phase_one import find_violation, proof_of
from planner.qp.problem import SolveStatus, StageProgram, StageSolution
from planner.qp.scaling import Scaled, equilibrated
from planner.qp.torch_kernel import TorchKernel

DISTANT = 1e7
"""Of a limit, in the equilibrated program's units."""
_SPOKEN = {
    Outcome.ITERATION_LIMIT: SolveStatus.ITERATION_LIMIT,
    Outcome.OUT_OF_TIME: SolveStatus.OUT_OF_TIME,
}


class Examination:
    """Works on the members of `answer` whose status is negative and fills them in.

    data: float64 without gradients. claim: what the first attempt said. options: of that attempt, its deadline being a
    `time.perf_counter()` value here. All judgement is on the raw data, whatever units an attempt used.
    """

    def __init__(
        self, data: StageProgram, claim: KernelSolution, answer: StageSolution, kernel: Kernel, options: KernelOptions
    ) -> None:
        self.data, self.answer, self.kernel, self.options = data, answer, kernel, options
        self.reason = claim.outcome.clone()
        self.inner = torch.zeros_like(claim.z)
        answer.violation = torch.zeros_like(claim.dual_upper)

    def run(self, depth: int) -> None:
        """depth 0: only say what is known; 1: proof of emptiness; 2: then further attempts, from the least violation
        and in other units; 3: at last the torch kernel's second opinion on the compiled one (slow, rarely needed).
        """
        if depth >= 1:
            self._prove(scaled=False)
        if depth >= 2:
            self._solve(scaled=False, inner=True)
            if not self.options.smoothing:
                self._solve(scaled=True, inner=False)
                self._prove(scaled=True)
                self._solve(scaled=True, inner=True)
                if depth >= 3 and not isinstance(self.kernel, TorchKernel):
                    self.kernel = TorchKernel()
                    self._solve(scaled=True, inner=False)
        self._say()

    def _open(self) -> tuple[Tensor, StageProgram, KernelOptions] | None:
        """Members still open, their data and options with the time left; None if there is nothing to do."""
        members = (self.answer.status < 0).nonzero()[:, 0]
        left = self.options.deadline - time.perf_counter()
        if not len(members):
            return None
        if left <= 0:
            self.reason[members] = int(Outcome.OUT_OF_TIME)
            return None
        patient = replace(self.options, iterations=2 * self.options.iterations, deadline=left)
        return members, self.data.with_tensors([t[members] for t in self.data.tensors()]), patient

    def _prove(self, scaled: bool) -> None:
        found = self._open()
        if found is None:
            return
        members, part, options = found
        units = equilibrated(part) if scaled else None
        emptiness = find_violation(units.problem if units else part, self.kernel, replace(options, smoothing=0.0))
        self.inner[members] = emptiness.z * units.unit if units else emptiness.z
        proof, violation = emptiness.proof, emptiness.violation
        if units:
            violation = units.weights_back(violation)
            proof = torch.where(proof > 0, proof_of(part, violation), 0.0)
        empty = proof > 0
        self.answer.violation[members] = torch.where(empty[:, None, None], violation, 0.0)
        self.answer.proof[members] = proof
        self.answer.status[members[empty]] = int(SolveStatus.INFEASIBLE)

    def _solve(self, scaled: bool, inner: bool) -> None:
        found = self._open()
        if found is None:
            return
        members, part, options = found
        units = equilibrated(_uncrossed(part)) if scaled else None
        # Distant limits only spoil the numbers; if one is broken after all, the judge refuses.
        problem = _without_distant(units.problem) if units else _uncrossed(part)
        claim = self.kernel.solve(problem, None, options, self._start(members, units) if inner else None)
        claim = units.back(claim) if units else claim
        worth = residuals(part, claim)
        good = acceptable(claim, worth, options.smoothing)
        to, answer = members[good], self.answer
        for name in ("z", "dual_lower", "dual_upper", "costate", "iterations"):
            getattr(answer, name)[to] = getattr(claim, name)[good]
        for name, value in (("primal_residual", worth.primal), ("dual_residual", worth.dual), ("gap", worth.gap)):
            getattr(answer, name)[to] = value[good]
        answer.status[to] = int(SolveStatus.SOLVED)
        self.reason[members] = claim.outcome

    def _start(self, members: Tensor, units: Scaled | None) -> KernelSolution:
        z = self.inner[members]
        z = z / units.unit if units else z
        none, status = torch.zeros_like(self.answer.violation[members]), self.reason[members]
        return KernelSolution(z, torch.zeros_like(self.data.c[members]), none, none, status, status)

    def _say(self) -> None:
        answer = self.answer
        spoken = torch.full_like(self.reason, int(SolveStatus.NUMERICAL))
        for outcome, status in _SPOKEN.items():
            spoken = torch.where(self.reason == int(outcome), int(status), spoken)
        answer.status = torch.where(answer.status < 0, spoken, answer.status)
        members = (answer.status != int(SolveStatus.SOLVED)).nonzero()[:, 0]
        for name in ("z", "dual_lower", "dual_upper", "costate"):
            getattr(answer, name)[members] = 0.0


def _without_distant(p: StageProgram) -> StageProgram:
    """Limits beyond DISTANT dropped."""
    return replace(
        p, z_lower=torch.where(p.z_lower < -DISTANT, -torch.inf, p.z_lower),
        z_upper=torch.where(p.z_upper > DISTANT, torch.inf, p.z_upper),
        lower=torch.where(p.lower < -DISTANT, -torch.inf, p.lower),
        upper=torch.where(p.upper > DISTANT, torch.inf, p.upper),
    )  # fmt: skip


def _uncrossed(p: StageProgram) -> StageProgram:
    """Sides that cross (by rounding alone, the others are proven empty by then) become an equation."""
    middle_z, middle = 0.5 * (p.z_lower + p.z_upper), 0.5 * (p.lower + p.upper)
    over_z, over = p.z_lower > p.z_upper, (p.lower > p.upper) & (p.compliance == 0)
    return replace(
        p, z_lower=torch.where(over_z, middle_z, p.z_lower), z_upper=torch.where(over_z, middle_z, p.z_upper),
        lower=torch.where(over, middle, p.lower), upper=torch.where(over, middle, p.upper),
    )  # fmt: skip

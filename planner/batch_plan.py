"""All candidates of several scenes after planning: tensors for training, results for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.certificate import SolvedProgram, blocked_by, certificate, explain, phase1_slack
from planner.decisions.candidates import CandidateSet
from planner.decisions.contradictions import EmptyCandidates
from planner.decisions.preference import softmin
from planner.path.reference_path import ReferencePath
from planner.qp.layer import SolveReport
from planner.qp.problem import SolveStatus
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import Trajectory

_STATUS = {int(s): PlanStatus[s.name] for s in SolveStatus}


@dataclass
class BatchPlan:
    """R candidates of S scenes, flat; `candidates.scene` ``[R]`` tells whose.

    trajectory, tail ``[R, F + 1]``: meaningful where `solved`. cost ``[R]``: comparable within a scene. programs:
    the longitudinal and the lateral one; reports: of all solves. speed, free_speed ``[S]`` m/s: ego's now, and what the
    road allows at the end of the horizon. solve_time, total_time: s, of the whole batch. empty: further candidates,
    not solved because their limits contradict each other; `result` tells of them.
    """

    count: int
    candidates: CandidateSet
    trajectory: Trajectory
    tail: Trajectory
    cost: Float[Tensor, " R"]
    programs: tuple[SolvedProgram, SolvedProgram]
    reports: tuple[SolveReport, ...]
    path: ReferencePath
    speed: Float[Tensor, " S"]
    free_speed: Float[Tensor, " S"]
    solve_time: float
    total_time: float
    empty: EmptyCandidates | None = None

    @property
    def trusted(self) -> Bool[Tensor, " R"]:
        """Gradients of the candidate are exact through all its solves; after a backward pass its residual counts."""
        return torch.stack([report.trusted for report in self.reports]).all(0)

    @property
    def scene(self) -> Int[Tensor, " R"]:
        """Which scene each candidate belongs to."""
        return self.candidates.scene

    @cached_property
    def status(self) -> Int[Tensor, " R"]:
        """SolveStatus of each candidate: of the first program that failed."""
        first, second = (p.solution.status for p in self.programs)
        return torch.where(first == int(SolveStatus.SOLVED), second, first)

    @property
    def solved(self) -> Bool[Tensor, " R"]:
        """The candidates with a usable trajectory."""
        return self.status == int(SolveStatus.SOLVED)

    @cached_property
    def chosen(self) -> Int[Tensor, " S"]:
        """The cheapest solved candidate of every scene, -1 where there is none. Discrete, no gradient."""
        cost = torch.where(self.solved, self.cost.detach(), torch.inf)
        table = torch.full((self.count, len(cost)), torch.inf, dtype=cost.dtype)
        table[self.scene, torch.arange(len(cost))] = cost
        least, index = table.min(1)
        return torch.where(torch.isfinite(least), index, -1)

    def weights(self, temperature: float = 1.0) -> Float[Tensor, " R"]:
        """Softmin of the costs within each scene, zero for unsolved candidates: a choice with a gradient."""
        cost = torch.where(self.solved, self.cost, torch.inf)
        return softmin(cost, self.scene, self.count, temperature)

    def results(self) -> list[PlanResult]:
        """One PlanResult per scene."""
        return [self.result(i) for i in range(self.count)]

    def result(self, scene: int) -> PlanResult:
        """The answer for one scene; what is costly to write down is only made when it is read."""
        found = sorted((self._candidate(i) for i in self._members[scene]), key=_preference)
        found += self._empty(scene)
        any_solved = bool(found) and found[0].status is PlanStatus.SOLVED
        statuses = {c.status for c in found}
        status = PlanStatus.SOLVED if any_solved else _whole(statuses)
        knots = self.path.knots[scene, : int(self.path.count[scene])].detach()
        result = PlanResult(status, found, knots, self.solve_time, self.total_time)
        result.explanation = explain(result, self._speeds[0][scene], self._speeds[1][scene])
        return result

    @cached_property
    def _members(self) -> list[list[int]]:
        out: list[list[int]] = [[] for _ in range(self.count)]
        for i, scene in enumerate(self.scene.tolist()):
            out[scene].append(i)
        return out

    @cached_property
    def _speeds(self) -> tuple[list[float], list[float]]:
        return self.speed.detach().tolist(), self.free_speed.detach().tolist()

    @cached_property
    def _lists(self) -> tuple[list[int], list[float]]:
        return self.status.tolist(), self.cost.detach().tolist()

    def _candidate(self, i: int) -> Candidate:
        c, programs = self.candidates, self.programs
        status = _STATUS[self._lists[0][i]]
        duties = lambda: c.duties[i]  # noqa: E731
        trusted = lambda: bool(self.trusted[i])  # noqa: E731
        if status is not PlanStatus.SOLVED:
            return Candidate(
                lambda: c.name(i), c.kind[i], duties, status, trusted=trusted,
                blocked_by=lambda: blocked_by(programs, i), phase1_slack=lambda: phase1_slack(programs, i),  # type: ignore[arg-type,return-value]
            )  # fmt: skip
        cost = self.cost[i] if self.cost.requires_grad else self._lists[1][i]
        return Candidate(
            lambda: c.name(i), c.kind[i], duties, status, cost,
            lambda: self.trajectory[i], lambda: self.tail[i],
            lambda: certificate(programs, i, tail=False), lambda: certificate(programs, i, tail=True), trusted=trusted,
        )  # fmt: skip

    def _empty(self, scene: int) -> list[Candidate]:
        if self.empty is None:
            return []
        given, gap, label = self.empty.candidates, self.empty.gap, self.empty.label

        def refused(i: int) -> Candidate:
            return Candidate(
                lambda: given.name(i), given.kind[i], lambda: given.duties[i], PlanStatus.INFEASIBLE, trusted=False,
                blocked_by=(label[i],), phase1_slack=gap[i] / 2,
            )  # fmt: skip

        return [refused(i) for i, own in enumerate(given.scene.tolist()) if own == scene]


def _preference(candidate: Candidate) -> tuple[bool, float]:
    cost = candidate.cost
    return candidate.status is not PlanStatus.SOLVED, float(cost.detach() if isinstance(cost, Tensor) else cost or 0.0)


def _whole(statuses: set[PlanStatus]) -> PlanStatus:
    """Of a scene without a solved candidate: INFEASIBLE only if all are."""
    for status in (PlanStatus.OUT_OF_TIME, PlanStatus.ITERATION_LIMIT, PlanStatus.NUMERICAL):
        if status in statuses:
            return status
    return PlanStatus.INFEASIBLE

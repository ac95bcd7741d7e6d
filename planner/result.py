"""What the planner returns: per scene and per candidate, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor

from planner.scene import Trajectory

if TYPE_CHECKING:
    from planner.sensitivity import Sensitivity


class PlanStatus(StrEnum):
    """Outcome of a candidate, or of a scene (SOLVED if any candidate is)."""

    SOLVED = "solved"
    INFEASIBLE = "infeasible"  # the hard rows contradict each other, proven
    ITERATION_LIMIT = "iteration_limit"
    NUMERICAL = "numerical"  # the solver failed, or its answer did not survive the recomputation
    OUT_OF_TIME = "out_of_time"


@dataclass(frozen=True)
class RowLabel:
    """Which rule a row states, about which object, at what time (s). track_id -1: no object."""

    rule: str
    track_id: int = -1
    time: float = 0.0


@dataclass(frozen=True)
class ActiveRow:
    """A hard row that shapes the plan: its label, its margin (m, m/s ... of the row) and its price.

    dual >= 0: cost saved per unit by which the row would be relaxed.
    """

    label: RowLabel
    margin: float
    dual: float


@dataclass(frozen=True)
class Certificate:
    """Recomputed in float64 from the raw problem data, outside the solver.

    primal_residual: largest violation of a hard row, in the row's unit. dual_residual: largest
    entry of the stationarity residual, relative to the cost's gradient. gap: complementarity.
    worst: the row with the smallest margin, of equal ones that with the largest multiplier, and worst_margin.
    """

    primal_residual: float
    dual_residual: float
    gap: float
    worst: RowLabel
    worst_margin: float = 0.0
    active: tuple[ActiveRow, ...] = ()


T = TypeVar("T")


class _Lazy(Generic[T]):
    """An attribute given as a value or as a function without arguments, which is called when it is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = "_" + name

    def __get__(self, instance: Any, owner: type) -> T:
        value = instance.__dict__[self.name]
        if callable(value):
            value = instance.__dict__[self.name] = value()
        return value  # type: ignore[no-any-return]

    def __set__(self, instance: Any, value: T | Callable[[], T]) -> None:
        instance.__dict__[self.name] = value


class Candidate:
    """One decision, made convex and solved.

    decision: for people, e.g. "yield to 12, pass 7 on the left". kind: its main manoeuvre
    ("yield", "hold", "pass", "left", "right", "oncoming").
    duties: track_id -> what this candidate does about it ("yield", "pass", "left", "right", or
        "ignored", "insist" or "yield" with ": their duty").
    status, cost: cost is comparable between candidates of a scene; None unless solved; a scalar tensor with history
    from `plan_differentiable`.
    trajectory: the intended motion, time[0] = 0. tail: shares its first steps with the trajectory and
    then comes to rest; time[0] = 0 as well. Both None unless solved.
    certificate, tail_certificate: None unless solved.
    blocked_by: for INFEASIBLE, the rows that cause it, worst first; phase1_slack (m, m/s ...): by how much the worst
    one is broken in the least-squares compromise.
    trusted: gradients through this candidate's programs are exact; False where they are zero or one-sided.
    The name and everything after `status` may be handed over as a function, which is called on first use.
    """

    decision = _Lazy[str]()
    duties = _Lazy[dict[int, str]]()
    trajectory = _Lazy["Trajectory | None"]()
    tail = _Lazy["Trajectory | None"]()
    certificate = _Lazy["Certificate | None"]()
    tail_certificate = _Lazy["Certificate | None"]()
    blocked_by = _Lazy[tuple[RowLabel, ...]]()
    phase1_slack = _Lazy["float | None"]()
    trusted = _Lazy[bool]()

    def __init__(
        self,
        decision: str | Callable[[], str],
        kind: str,
        duties: dict[int, str] | Callable[[], dict[int, str]],
        status: PlanStatus,
        cost: float | Tensor | None = None,
        trajectory: Trajectory | Callable[[], Trajectory] | None = None,
        tail: Trajectory | Callable[[], Trajectory] | None = None,
        certificate: Certificate | Callable[[], Certificate] | None = None,
        tail_certificate: Certificate | Callable[[], Certificate] | None = None,
        blocked_by: tuple[RowLabel, ...] | Callable[[], tuple[RowLabel, ...]] = (),
        phase1_slack: float | Callable[[], float] | None = None,
        trusted: bool | Callable[[], bool] = True,
    ) -> None:
        self.decision, self.kind, self.status, self.cost = decision, kind, status, cost
        self.duties, self.trajectory, self.tail = duties, trajectory, tail
        self.certificate, self.tail_certificate = certificate, tail_certificate
        self.blocked_by, self.phase1_slack, self.trusted = blocked_by, phase1_slack, trusted

    def __repr__(self) -> str:
        return f"Candidate({self.decision!r}, {self.kind!r}, {self.status.value}, cost={self.cost})"


@dataclass
class PlanResult:
    """The planner's answer for one scene.

    candidates: in order of preference: solved ones by cost, then the others.
    reference_xy: ``[n, 2]`` reference path in the scene's frame, for pictures.
    times in seconds: solve_time (inside the QP solver), total_time (whole cycle, of the batch the scene was in).
    explanation: one or two sentences about the preferred candidate.
    """

    status: PlanStatus
    candidates: list[Candidate]
    reference_xy: torch.Tensor
    solve_time: float
    total_time: float
    explanation: str = ""
    notes: list[str] = field(default_factory=list)
    replay: Callable[[PlanResult, int], Sensitivity] | None = None

    @property
    def chosen(self) -> Candidate | None:
        """The cheapest solved candidate; what is driven is decided by `planner.supervise`."""
        first = self.candidates[0] if self.candidates else None
        return first if first is not None and first.status is PlanStatus.SOLVED else None

    def sensitivity(self, track_id: int) -> Sensitivity:
        """How the chosen plan and its cost change with one road user's state; see `planner.sensitivity.Sensitivity`.

        Plans the scene once more, with gradients, under the chosen decision. Raises ValueError for an unknown track id,
        or when there is no chosen candidate or no planner behind the result.
        """
        if self.chosen is None or self.replay is None:
            raise ValueError("sensitivity: expected a result of ConvexPlanner with a chosen candidate")
        return self.replay(self, track_id)

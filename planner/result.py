"""What the planner returns: per scene and per candidate, with reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from planner.scene import Trajectory


class PlanStatus(StrEnum):
    """Outcome of a candidate, or of a scene (SOLVED if any candidate is)."""

    SOLVED = "solved"
    INFEASIBLE = "infeasible"  # the hard rows contradict each other
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
    worst: the row with the smallest margin.
    """

    primal_residual: float
    dual_residual: float
    gap: float
    worst: RowLabel
    active: tuple[ActiveRow, ...] = ()


@dataclass
class Candidate:
    """One decision, made convex and solved.

    decision: for people, e.g. "yield to 12, pass 7 on the left". kind: its main manoeuvre
    ("yield", "hold", "pass", "left", "right", "oncoming", "stop").
    duties: track_id -> what this candidate does about it ("yield", "pass", "left", "right", "ignored: behind ego").
    status, cost: cost is comparable between candidates of a scene; None unless solved; a scalar tensor with history
    from `plan_differentiable`.
    trajectory: the intended motion, time[0] = 0. tail: shares its first steps with the trajectory and
    then comes to rest; time[0] = 0 as well. Both None unless solved.
    blocked_by: for INFEASIBLE, the rows that cause it, worst first; phase1_slack (m) how far off.
    """

    decision: str
    kind: str
    duties: dict[int, str]
    status: PlanStatus
    cost: float | Tensor | None = None
    trajectory: Trajectory | None = None
    tail: Trajectory | None = None
    certificate: Certificate | None = None
    tail_certificate: Certificate | None = None
    blocked_by: tuple[RowLabel, ...] = ()
    phase1_slack: float | None = None


@dataclass
class PlanResult:
    """The planner's answer for one scene.

    candidates: in order of preference: solved ones by cost, then the others.
    reference_xy: ``[n, 2]`` reference path in the scene's frame, for pictures.
    times in seconds: solve_time (inside the QP solver), total_time (whole cycle).
    explanation: one or two sentences about the preferred candidate.
    """

    status: PlanStatus
    candidates: list[Candidate]
    reference_xy: torch.Tensor
    solve_time: float
    total_time: float
    explanation: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> Candidate | None:
        """The cheapest solved candidate; what is driven is decided by `planner.supervise`."""
        first = self.candidates[0] if self.candidates else None
        return first if first is not None and first.status is PlanStatus.SOLVED else None

"""Certificates and explanations: which rows shape a plan, whose they are, and what they cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planner.grid import Grid
from planner.lateral import LateralBounds
from planner.longitudinal import LongitudinalBounds
from planner.qp.dense import QPSolution, QuadraticProgram, SolveStatus
from planner.result import ActiveRow, Candidate, Certificate, PlanResult, PlanStatus, RowLabel

ACTIVE_DUAL = 1e-4
"""Multipliers above this are reported."""
MOST_ACTIVE = 12

RowNames = tuple[list[RowLabel], Tensor, Tensor]
"""Labels of the rows, and the track ids behind their lower and their upper sides."""


def row_ids(labels: list[RowLabel], bounds: LongitudinalBounds | LateralBounds, grid: Grid) -> list[RowNames]:
    """Per candidate, the labels and the track ids behind the lower and the upper side of every row (-1: nobody)."""
    longitudinal = isinstance(bounds, LongitudinalBounds)
    rule = "obstacle ahead" if longitudinal else "corridor"
    k = len(bounds.upper_id)
    lower = torch.full((k, len(labels)), -1, dtype=torch.int64)
    upper = lower.clone()
    position = {round(t, 2): i for i, t in enumerate(grid.node_time.tolist())}
    seen: dict[tuple[int, float], int] = {}
    for row, label in enumerate(labels):
        if label.rule not in (rule, rule + " (tail)"):
            continue
        branch, node = int(label.rule.endswith("(tail)")), position[label.time]
        if longitudinal:
            lower[:, row], upper[:, row] = bounds.lower_id[:, branch, node], bounds.upper_id[:, branch, node]
        else:
            circle = seen.get((branch, label.time), 0)
            seen[branch, label.time] = circle + 1
            lower[:, row] = bounds.lower_id[:, branch, node, circle]
            upper[:, row] = bounds.upper_id[:, branch, node, circle]
    return [(labels, lower[i], upper[i]) for i in range(k)]


def candidate_certificate(candidate: Candidate, i: int, solved: Any) -> None:
    """Fill in the candidate's certificates, or what blocks it."""
    lon, lat = solved.longitudinal, solved.lateral
    if candidate.status is PlanStatus.SOLVED:
        parts = [
            _active(problem, solution, i, labels[i])
            for problem, solution, labels in zip(
                solved.residuals, (lon, lat), (solved.longitudinal_labels, solved.lateral_labels)
            )
        ]
        active = sorted((row for rows, _ in parts for row in rows), key=lambda r: -r.dual)
        worst = min((w for _, w in parts), key=lambda pair: pair[1])[0]
        whole = Certificate(
            max(float(lon.primal_residual[i]), float(lat.primal_residual[i])),
            max(float(lon.dual_residual[i]), float(lat.dual_residual[i])),
            max(float(lon.gap[i]), float(lat.gap[i])),
            worst,
            tuple(r for r in active if not r.label.rule.endswith("(tail)"))[:MOST_ACTIVE],
        )
        tail_rows = tuple(r for r in active if r.label.rule.endswith("(tail)"))[:MOST_ACTIVE]
        candidate.certificate = whole
        candidate.tail_certificate = Certificate(
            whole.primal_residual, whole.dual_residual, whole.gap, worst, tail_rows
        )
        return
    for solution, labels in ((lon, solved.longitudinal_labels), (lat, solved.lateral_labels)):
        if solution.status[i] is SolveStatus.INFEASIBLE:
            names, lower, upper = labels[i]
            weight = solution.blocking[i]
            top = [r for r in weight.argsort(descending=True).tolist() if float(weight[r]) > 0.02][:4]
            candidate.blocked_by = tuple(_named(names[r], lower[r], upper[r], both=True) for r in top)
            candidate.phase1_slack = float(solution.relaxation[i])
            return


def _active(
    problem: QuadraticProgram, solution: QPSolution, i: int, labels: Any
) -> tuple[list[ActiveRow], tuple[RowLabel, float]]:
    names, lower_id, upper_id = labels
    value = (problem.A[i].detach() @ solution.x[i]).detach()
    below, above = value - problem.lower[i].detach(), problem.upper[i].detach() - value
    y = solution.y[i]
    rows = []
    for r in (y.abs() > ACTIVE_DUAL).nonzero()[:, 0].tolist():
        if names[r].rule == "comfortable gap":
            continue
        at_upper = float(y[r]) > 0
        who = upper_id[r] if at_upper else lower_id[r]
        margin = float(above[r] if at_upper else below[r])
        rows.append(ActiveRow(RowLabel(names[r].rule, int(who), names[r].time), margin, abs(float(y[r]))))
    margins = torch.minimum(below, above)
    worst = int(margins.argmin())
    side = upper_id if float(above[worst]) <= float(below[worst]) else lower_id
    return rows, (RowLabel(names[worst].rule, int(side[worst]), names[worst].time), float(margins[worst]))


def _named(label: RowLabel, lower: Tensor, upper: Tensor, both: bool) -> RowLabel:
    who = int(upper) if int(upper) >= 0 else int(lower)
    return RowLabel(label.rule, who, label.time)


def explain(result: PlanResult, speed: float, free: float) -> str:
    """One or two sentences about the preferred candidate, or about why there is none."""
    chosen = result.chosen
    if chosen is None:
        blocked = [c for c in result.candidates if c.blocked_by]
        if not blocked:
            return "No candidate was solved and none could be shown to be empty."
        best = min(blocked, key=lambda c: c.phase1_slack or 0.0)
        who = _phrase(best.blocked_by[0])
        return f"No decision leaves room: the nearest one ({best.decision}) misses by {best.phase1_slack:.2f} m, {who}."
    reason = ""
    assert chosen.certificate is not None
    objects = [r for r in chosen.certificate.active if r.label.track_id >= 0]
    if objects:
        first = objects[0]
        reason = f" Held back by {_phrase(first.label)} (price {first.dual:.2f} per metre)."
    assert chosen.trajectory is not None
    final = float(chosen.trajectory.v[-1].detach())
    change = "keeps" if abs(final - speed) < 0.5 else ("speeds up to" if final > speed else "slows to")
    what = chosen.decision[0].upper() + chosen.decision[1:]
    return f"{what}: {change} {final:.1f} m/s of {free:.1f} m/s allowed.{reason}"


def _phrase(label: RowLabel) -> str:
    who = f" of object {label.track_id}" if label.track_id >= 0 else ""
    return f"'{label.rule}'{who} at {label.time:.1f} s"

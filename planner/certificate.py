"""Certificates and explanations: which rows shape a plan, whose they are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from planner.qp.problem import StageProgram, StageSolution
from planner.result import ActiveRow, Candidate, Certificate, PlanResult, RowLabel

ACTIVE_DUAL = 1e-4
"""Multipliers above this are reported."""
MOST_ACTIVE = 12
BLOCKING_SHARE = 0.02
"""Limits with less than this share of the proof's weight are not named."""
MOST_BLOCKING = 4


@dataclass
class SolvedProgram:
    """One of the two programs of all R candidates, with the names of its limits. n stages, L limits per stage.

    rules: by limit; "" for what is no hard rule (comfort). time (s), in_tail: by stage.
    lower_id, upper_id ``[R, n, L]``: track ids behind the two sides, -1 for nobody.
    """

    problem: StageProgram
    solution: StageSolution
    rules: tuple[str, ...]
    time: tuple[float, ...]
    in_tail: tuple[bool, ...]
    lower_id: Int[Tensor, "R n L"]
    upper_id: Int[Tensor, "R n L"]

    @cached_property
    def margins(self) -> tuple[Tensor, Tensor]:
        """``[R, n, L]`` each: room to the lower and to the upper side; infinite for what is no hard rule."""
        with torch.no_grad():
            lower, upper, _ = self.problem.limits()
            value = self.problem.limit_values(self.solution.z)
            comfort = torch.tensor([not rule for rule in self.rules])
            return (
                torch.where(comfort, torch.inf, value - lower),
                torch.where(comfort, torch.inf, upper - value),
            )

    @cached_property
    def worst(self) -> list[tuple[float, int]]:
        """Per candidate: the smallest margin and its place in the flattened limits."""
        least, place = torch.minimum(*self.margins).flatten(1).min(1)
        return list(zip(least.tolist(), place.tolist()))

    @cached_property
    def active(self) -> list[list[ActiveRow]]:
        """Per candidate: the limits with a price, dearest first."""
        dual = self.solution.dual.detach()
        below, above = self.margins
        use = (dual.abs() > ACTIVE_DUAL) & torch.isfinite(torch.minimum(below, above).clamp(max=1e6))
        use = use & torch.tensor([bool(rule) for rule in self.rules])
        rows, stages, limits = use.nonzero(as_tuple=True)
        price = dual[rows, stages, limits]
        margin = torch.where(price > 0, above[rows, stages, limits], below[rows, stages, limits])
        who = torch.where(price > 0, self.upper_id[rows, stages, limits], self.lower_id[rows, stages, limits])
        out: list[list[ActiveRow]] = [[] for _ in range(len(dual))]
        columns = (rows, stages, limits, price.abs(), margin, who)
        for r, t, limit, cost, room, track in zip(*(c.tolist() for c in columns)):
            out[r].append(ActiveRow(self.label(t, limit, track), room, cost))
        return [sorted(found, key=lambda row: -row.dual) for found in out]

    def label(self, stage: int, limit: int, track_id: int) -> RowLabel:
        """The name of one limit."""
        rule = self.rules[limit] + (" (tail)" if self.in_tail[stage] else "")
        return RowLabel(rule, track_id, self.time[stage])

    def worst_label(self, i: int) -> RowLabel:
        """The name of the limit with the least room."""
        stage, limit = divmod(self.worst[i][1], len(self.rules))
        below, above = self.margins
        nearer = self.upper_id if float(above[i, stage, limit]) <= float(below[i, stage, limit]) else self.lower_id
        return self.label(stage, limit, int(nearer[i, stage, limit]))

    def blocking(self, i: int) -> tuple[RowLabel, ...]:
        """The limits that no motion can meet together, worst first; empty unless proven infeasible."""
        violation = self.solution.violation[i].flatten()
        total = float(violation.abs().sum())
        if total == 0.0:
            return ()
        order = violation.abs().argsort(descending=True)[:MOST_BLOCKING].tolist()
        out = []
        for place in order:
            if abs(float(violation[place])) < BLOCKING_SHARE * total:
                continue
            stage, limit = divmod(place, len(self.rules))
            upper, lower = int(self.upper_id[i, stage, limit]), int(self.lower_id[i, stage, limit])
            out.append(self.label(stage, limit, upper if float(violation[place]) > 0 else lower))
        return tuple(out)


def certificate(programs: tuple[SolvedProgram, ...], i: int, tail: bool) -> Certificate:
    """Of candidate i: the worst of all its programs; active rows of the intended motion or of the tail."""
    solutions = [p.solution for p in programs]
    nearest = min(programs, key=lambda p: p.worst[i][0])
    rows = sorted((row for p in programs for row in p.active[i]), key=lambda row: -row.dual)
    return Certificate(
        max(float(s.primal_residual[i]) for s in solutions),
        max(float(s.dual_residual[i]) for s in solutions),
        max(float(s.gap[i]) for s in solutions),
        nearest.worst_label(i),
        nearest.worst[i][0],
        tuple(r for r in rows if r.label.rule.endswith("(tail)") == tail)[:MOST_ACTIVE],
    )


def blocked_by(programs: tuple[SolvedProgram, ...], i: int) -> tuple[RowLabel, ...]:
    """What makes candidate i empty: of the first program that is."""
    return next((rows for p in programs if (rows := p.blocking(i))), ())


def phase1_slack(programs: tuple[SolvedProgram, ...], i: int) -> float | None:
    """The largest violation of the least-squares compromise, in the unit of that limit; None if nothing is proven."""
    return next((float(v) for p in programs if float(v := p.solution.violation[i].abs().max()) > 0), None)


def explain(result: PlanResult, speed: float, free: float) -> str:
    """One or two sentences about the preferred candidate, or about why there is none. Speeds in m/s."""
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
    held = next((r for r in chosen.certificate.active if r.label.track_id >= 0), None)
    if held is not None:
        reason = f" Held back by {_phrase(held.label)} (price {held.dual:.2f} per metre)."
    assert chosen.trajectory is not None
    final = float(chosen.trajectory.v[-1].detach())
    change = "keeps" if abs(final - speed) < 0.5 else ("speeds up to" if final > speed else "slows to")
    what = chosen.decision[0].upper() + chosen.decision[1:]
    return f"{what}: {change} {final:.1f} m/s of {free:.1f} m/s allowed.{reason}"


def price_of_error(candidate: Candidate, track_id: int) -> float:
    """First-order cost (per metre) of an error that moves all rows of one road user against ego: the sum of its duals,

    those of the tail included. 0 unless solved.
    """
    certificates = [c for c in (candidate.certificate, candidate.tail_certificate) if c is not None]
    return sum(row.dual for c in certificates for row in c.active if row.label.track_id == track_id)


def _phrase(label: RowLabel) -> str:
    who = f" of object {label.track_id}" if label.track_id >= 0 else ""
    return f"'{label.rule}'{who} at {label.time:.1f} s"

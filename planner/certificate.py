"""Certificates and explanations: which rows shape a plan, whose they are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from planner.qp.problem import StageProgram, StageSolution
from planner.result import ActiveRow, Candidate, Certificate, PlanResult, RowLabel

ACTIVE_DUAL = 1e-4
"""Multipliers above this are reported."""
MOST_ACTIVE = 12
TIE = 1e-6
"""Margins closer than this are one: which is the smaller, rounding would decide."""
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
    _margins: dict[int, Any] = field(default_factory=dict, init=False, repr=False)
    _active: dict[int, list[ActiveRow]] = field(default_factory=dict, init=False, repr=False)
    _worst: dict[int, tuple[float, int, float]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _hard(self) -> np.ndarray:
        return np.array([bool(rule) for rule in self.rules])

    @cached_property
    def _data(self) -> tuple[np.ndarray, ...]:
        """z, C and the lower and upper sides of bounds and rows, of all candidates; dual; ids of both sides."""
        p, s = self.problem, self.solution
        tensors = (s.z, p.C, p.z_lower, p.lower, p.z_upper, p.upper, s.dual_upper, s.dual_lower)
        return *(x.detach().numpy() for x in tensors), self.lower_id.numpy(), self.upper_id.numpy()

    def margins(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Of candidate i, ``[n, L]`` each: room to the lower and the upper side; infinite for what is no hard rule."""
        if i not in self._margins:
            z, C, *sides = (x[i] for x in self._data[:6])
            value = np.concatenate([z, (C @ z[..., None])[..., 0]], -1)
            lower, upper = np.concatenate(sides[:2], -1), np.concatenate(sides[2:], -1)
            self._margins[i] = tuple(np.where(self._hard, x, np.inf) for x in (value - lower, upper - value))
        return self._margins[i]

    def worst(self, i: int) -> tuple[float, int, float]:
        """The smallest margin of candidate i, its place in the flattened limits, and its price, 0 below ACTIVE_DUAL.

        Of equal ones, the place of the dearest.
        """
        if i not in self._worst:
            margin = np.minimum(*self.margins(i)).reshape(-1)
            least = float(margin.min())
            near = (~(margin > least + TIE)).nonzero()[0]
            dual_upper, dual_lower = (x[i].reshape(-1)[near] for x in self._data[6:8])
            price = np.abs(dual_upper - dual_lower)
            price[price <= ACTIVE_DUAL] = 0.0
            dearest = int(price.argmax())
            self._worst[i] = least, int(near[dearest]), float(price[dearest])
        return self._worst[i]

    def residuals(self, i: int) -> tuple[float, float, float]:
        """Primal residual, dual residual and gap of candidate i."""
        primal, dual, gap = self._residuals
        return float(primal[i]), float(dual[i]), float(gap[i])

    @cached_property
    def _residuals(self) -> tuple[np.ndarray, ...]:
        s = self.solution
        return tuple(x.numpy() for x in (s.primal_residual, s.dual_residual, s.gap))

    def active(self, i: int) -> list[ActiveRow]:
        """The limits of candidate i with a price, dearest first."""
        if i in self._active:
            return self._active[i]
        below, above = self.margins(i)
        dual_upper, dual_lower, lower_id, upper_id = (x[i] for x in self._data[6:])
        dual = dual_upper - dual_lower
        use = (np.abs(dual) > ACTIVE_DUAL) & self._hard & (np.minimum(below, above) > -np.inf)
        out = []
        for t, limit in zip(*(x.tolist() for x in use.nonzero())):
            price = float(dual[t, limit])
            margin, who = (above, upper_id) if price > 0 else (below, lower_id)
            out.append(ActiveRow(self.label(t, limit, int(who[t, limit])), float(margin[t, limit]), abs(price)))
        self._active[i] = sorted(out, key=lambda row: -row.dual)
        return self._active[i]

    def label(self, stage: int, limit: int, track_id: int) -> RowLabel:
        """The name of one limit."""
        rule = self.rules[limit] + (" (tail)" if self.in_tail[stage] else "")
        return RowLabel(rule, track_id, self.time[stage])

    def worst_label(self, i: int) -> RowLabel:
        """The name of the limit with the least room."""
        stage, limit = divmod(self.worst(i)[1], len(self.rules))
        below, above = self.margins(i)
        nearer = self.upper_id if above[stage, limit] <= below[stage, limit] else self.lower_id
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
    primal, dual, gap = (max(each) for each in zip(*(p.residuals(i) for p in programs)))
    least = min(p.worst(i)[0] for p in programs)
    nearest = max((p for p in programs if p.worst(i)[0] <= least + TIE), key=lambda p: p.worst(i)[2])
    rows = sorted((row for p in programs for row in p.active(i)), key=lambda row: -row.dual)
    return Certificate(
        primal,
        dual,
        gap,
        nearest.worst_label(i),
        least,
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

"""What the checker answers: accepted or not, and every violation with its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Violation:
    """One broken rule (or, in `CheckReport.records`, one thing worth knowing).

    rule: e.g. "tail_object", "boundary", "jerk". track_id: the object, -1 for none.
    time (s) after the scene's time, of the worst moment. margin: how far inside (positive) or
    outside (negative) the rule, in the rule's own unit (m, m/s, m/s^2 ...). detail: for people.
    """

    rule: str
    track_id: int
    time: float
    margin: float
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Verdict on one (trajectory, tail) pair.

    worst_margin (m): smallest distance margin to any object, occupancy set or boundary that the rules
    look at; negative where one is broken, inf where nothing is near. time_s: spent checking.
    records: exclusions and observations that do not count against the plan. likely_contact, contact (s): first time at
    which a likely forecast, and at which a forecast or a set touches ego; inf for never.
    """

    accepted: bool
    violations: tuple[Violation, ...]
    worst_margin: float
    time_s: float
    records: tuple[Violation, ...] = ()
    likely_contact: float = math.inf
    contact: float = math.inf

    @classmethod
    def refused(cls, detail: str) -> Self:
        """A plan that could not even be looked at."""
        return cls(False, (Violation("malformed", -1, 0.0, -math.inf, detail),), -math.inf, 0.0)

    @property
    def reason(self) -> str:
        """The worst violation in a few words; empty when accepted."""
        if not self.violations:
            return ""
        worst = min(self.violations, key=lambda v: v.margin)
        about = f" object {worst.track_id}" if worst.track_id >= 0 else ""
        return f"{worst.rule}{about} at {worst.time:.1f} s, margin {worst.margin:.2f}"

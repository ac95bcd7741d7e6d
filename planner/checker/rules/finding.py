"""What a rule hands back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.checker.report import Violation


@dataclass
class Finding:
    """Violations, records that do not count, the smallest distance margin (m) seen, and the first time (s) at which
    ego may touch an object: one of the likely forecasts, any set."""

    violations: list[Violation] = field(default_factory=list)
    records: list[Violation] = field(default_factory=list)
    margin: float = np.inf
    likely_contact: float = np.inf
    contact: float = np.inf

    def add(self, other: Finding) -> None:
        """Take in another rule's finding."""
        self.violations += other.violations
        self.records += other.records
        self.margin = min(self.margin, other.margin)
        self.likely_contact = min(self.likely_contact, other.likely_contact)
        self.contact = min(self.contact, other.contact)

    def limit(self, rule: str, time: np.ndarray, margin: np.ndarray, detail: str) -> None:
        """A violation at the smallest of `margin` ``[n]`` if that is negative; `time` ``[n]`` s."""
        if len(margin) and margin[worst := int(margin.argmin())] < 0:
            self.violations.append(Violation(rule, -1, float(time[worst]), float(margin[worst]), detail))

"""What a rule hands back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.checker.report import Violation


@dataclass
class Finding:
    """Violations, records that do not count, and the smallest distance margin (m) seen."""

    violations: list[Violation] = field(default_factory=list)
    records: list[Violation] = field(default_factory=list)
    margin: float = np.inf

    def add(self, other: Finding) -> None:
        """Take in another rule's finding."""
        self.violations += other.violations
        self.records += other.records
        self.margin = min(self.margin, other.margin)

    def limit(self, rule: str, time: np.ndarray, margin: np.ndarray, detail: str) -> None:
        """A violation at the smallest of `margin` ``[n]`` if that is negative; `time` ``[n]`` s."""
        if len(margin) and margin[worst := int(margin.argmin())] < 0:
            self.violations.append(Violation(rule, -1, float(time[worst]), float(margin[worst]), detail))

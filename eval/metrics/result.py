"""What a metric returns: a number, whether to trust it, its unit, and the story behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricResult:
    """One metric of one drive.

    value: the number, in `unit` ("score" is 0 to 1; "count"; SI units else).
    valid: False where the data cannot carry the statement (drive too short, annotation gaps,
    nothing to measure); `detail["why"]` then says so and the value is the neutral one.
    detail: JSON-able facts for reports, e.g. which object was hit when.
    """

    value: float
    valid: bool
    unit: str
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary; a value that is not finite becomes None, which JSON can hold."""
        value = float(self.value) if math.isfinite(self.value) else None
        return {"value": value, "valid": bool(self.valid), "unit": self.unit, "detail": self.detail}

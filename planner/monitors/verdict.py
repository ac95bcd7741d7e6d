"""What every monitor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MonitorLevel(StrEnum):
    """The supervisor's state that a verdict asks for, from harmless to worst."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    MINIMAL_RISK = "MINIMAL_RISK"
    EMERGENCY = "EMERGENCY"


@dataclass(frozen=True)
class MonitorVerdict:
    """name: of the monitor. reason: a sentence, empty only for OK. value, limit: what was measured and what was
    allowed, in the unit the reason names."""

    name: str
    level: MonitorLevel
    reason: str = ""
    value: float = 0.0
    limit: float = 0.0


def graded(name: str, value: float, limits: tuple[float, float], what: str) -> MonitorVerdict:
    """DEGRADED above the first limit, MINIMAL_RISK above the second; what: the sentence, with {value} and {limit}.

    A value that is not a number is above every limit.
    """
    degraded, minimal_risk = limits
    if value <= degraded:
        return MonitorVerdict(name, MonitorLevel.OK, "", value, degraded)
    level, limit = (
        (MonitorLevel.DEGRADED, degraded) if value <= minimal_risk else (MonitorLevel.MINIMAL_RISK, minimal_risk)
    )
    return MonitorVerdict(name, level, what.format(value=value, limit=limit), value, limit)

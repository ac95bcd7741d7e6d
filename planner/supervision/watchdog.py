"""The watchdog: served by the success of a check and by nothing else.

A timer thread that serves a watchdog proves that a timer thread is alive. Here `serve` takes the report of the check
that was passed, and the supervisor calls it in one place only: where what is driven passed the checker in this cycle.
Whoever holds the actuators asks `expired` and, once it is, no longer waits for commands (`planner.limiter.Gate`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from planner.checker import CheckReport


class Watchdog:
    """limit (s): without a passed check for longer than this it has expired. clock: seconds, monotonic."""

    def __init__(self, limit: float = 0.5, clock: Callable[[], float] = time.monotonic) -> None:
        if not limit > 0:
            raise ValueError(f"Watchdog: expected a limit > 0 s, got {limit}")
        self.limit, self._clock = limit, clock
        self._served: float | None = None

    def serve(self, report: CheckReport) -> None:
        """The check was passed just now. Raises ValueError for a report that does not accept."""
        if not report.accepted:
            raise ValueError("Watchdog: expected the report of a passed check")
        self._served = self._clock()

    @property
    def age(self) -> float:
        """Seconds since the last passed check; infinite before the first."""
        return float("inf") if self._served is None else self._clock() - self._served

    @property
    def expired(self) -> bool:
        """Whether the last passed check is too old."""
        return not self.age <= self.limit

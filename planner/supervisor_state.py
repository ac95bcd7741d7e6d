"""The supervisor's state: how much trust the last cycles have earned, with hysteresis.

NORMAL        a plan was accepted; the usual case.
DEGRADED      entry: a cycle without an accepted plan (the kept tail is driven), or release from below.
              exit to NORMAL: `recover_after` cycles in a row with an accepted plan.
MINIMAL_RISK  entry: `minimal_risk_after` cycles in a row on fallbacks; the vehicle is coming to rest. Latched.
EMERGENCY     entry: braking outside the kept tail while moving, or no usable scene and nothing kept. Latched.
Latched: while the kept tail still passes, accepted plans are counted but not driven until there are
`release_after` in a row (the health check); then DEGRADED. If the tail no longer passes and a plan does, the
plan is driven at once: the latch never outweighs the check. Nothing is latched before the first
accepted plan, so a drive can begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """See the module."""

    NORMAL = "NORMAL"
    DEGRADED = "DEGRADED"
    MINIMAL_RISK = "MINIMAL_RISK"
    EMERGENCY = "EMERGENCY"


@dataclass(frozen=True)
class StateConfig:
    """Numbers of cycles; see the module."""

    recover_after: int = 10  # accepted plans in a row, from DEGRADED to NORMAL
    release_after: int = 3  # accepted plans in a row that release a latched state
    minimal_risk_after: int = 5  # fallbacks in a row, to MINIMAL_RISK


class StateMachine:
    """Counts accepted plans and fallbacks; see the module."""

    def __init__(self, config: StateConfig | None = None) -> None:
        self._config = config or StateConfig()
        self.state = State.NORMAL
        self._good = 0
        self._bad = 0

    @property
    def latched(self) -> bool:
        """Whether leaving the state takes a health check."""
        return self.state in (State.MINIMAL_RISK, State.EMERGENCY)

    def holds_back(self, tail_passes: bool) -> bool:
        """Whether an accepted plan must wait although it could be driven."""
        return self.latched and tail_passes and self._good + 1 < self._config.release_after

    def accepted(self) -> State:
        """A plan was accepted and is driven."""
        self._good += 1
        self._bad = 0
        if self.latched and self._good >= self._config.release_after:
            self.state = State.DEGRADED
        if self.state is State.DEGRADED and self._good >= self._config.recover_after:
            self.state = State.NORMAL
        return self.state

    def health_check(self) -> None:
        """A plan was accepted but held back."""
        self._good += 1

    def failed_check(self) -> None:
        """No plan was accepted."""
        self._good = 0

    def fell_back(self, emergency: bool) -> State:
        """A fallback is driven. Only `accepted` leads back up."""
        self._bad += 1
        if emergency:
            self.state = State.EMERGENCY
        elif not self.latched:
            steady = self._bad < self._config.minimal_risk_after
            self.state = State.DEGRADED if steady else State.MINIMAL_RISK
        return self.state

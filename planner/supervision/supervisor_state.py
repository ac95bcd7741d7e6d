"""The supervisor's state machine: how much trust the last cycles have earned. Its rules are the table `RULES`.

NORMAL        the first accepted candidate is driven.
DEGRADED      slower and with wider margins, in what is planned and in what is accepted (`Restrictions`).
MINIMAL_RISK  the kept tail is driven to rest; then stopped and secured until the health check passes.
EMERGENCY     the stop that replaced the kept tail; where our own system is the cause, the hardest one that passes.

Down at once, up with patience: every rule that leads up counts healthy cycles in a row, and one bad cycle starts the
count again. Every transition names its rule, and the documentation's table is written from `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum


class State(StrEnum):
    """See the module."""

    NORMAL = "NORMAL"
    DEGRADED = "DEGRADED"
    MINIMAL_RISK = "MINIMAL_RISK"
    EMERGENCY = "EMERGENCY"


class Level(IntEnum):
    """How bad a monitor's verdict is, by the state it asks for."""

    OK = 0
    DEGRADED = 1
    MINIMAL_RISK = 2
    EMERGENCY = 3

    @classmethod
    def of(cls, level: object) -> Level:
        """From anything with the name of a level; what cannot be read is the worst: a broken monitor is no monitor."""
        name = str(getattr(level, "name", level)).upper()
        return cls[name] if name in cls.__members__ else cls.EMERGENCY


class Outcome(StrEnum):
    """What became of the planner's answer."""

    ACCEPTED = "accepted"  # a candidate passed the checker
    REFUSED = "refused"  # the planner answered in time, but nothing passed
    FAULT = "fault"  # no answer, late, malformed, dead; or no usable scene


@dataclass(frozen=True)
class StateConfig:
    """Hysteresis, in cycles in a row. Faults are of our own system, refusals are hard situations."""

    fault_degrades: int = 1  # faults, to DEGRADED
    fault_minimal_risk: int = 5  # faults, to MINIMAL_RISK
    refusal_degrades: int = 3  # cycles without an accepted plan, to DEGRADED
    refusal_minimal_risk: int = 20  # cycles without an accepted plan, to MINIMAL_RISK
    recover_after: int = 20  # healthy cycles, from DEGRADED to NORMAL
    release_after: int = 5  # healthy cycles, from EMERGENCY or MINIMAL_RISK to DEGRADED
    rest_after: int = 10  # cycles at rest before the health check of MINIMAL_RISK can pass


@dataclass(frozen=True)
class Restrictions:
    """What DEGRADED changes.

    speed_factor: of the speed limit, for planner and checker, reached over `ramp` cycles so that slowing down is no
    braking. margin_time (s), margin_max (m): clearance added is speed times margin_time, at most margin_max; at walking
    pace almost nothing, so that ego can leave a narrow place.
    """

    speed_factor: float = 0.7
    ramp: int = 30
    margin_time: float = 0.03
    margin_max: float = 0.3

    def speed(self, cycles: int) -> float:
        """Factor on the speed limit, `cycles` after DEGRADED was entered."""
        return 1.0 - (1.0 - self.speed_factor) * min(max(cycles, 0) / max(self.ramp, 1), 1.0)

    def margin(self, v: float) -> float:
        """Clearance to add (m) at the speed v (m/s)."""
        return min(self.margin_max, self.margin_time * max(v, 0.0))


@dataclass(frozen=True)
class Cycle:
    """What one cycle showed. off_tail: braking outside the kept tail while moving, or moving with nothing to drive on;
    blind: that, because there was no usable scene. level: the worst monitor verdict. at_rest: ego stands.
    """

    outcome: Outcome
    level: Level = Level.OK
    off_tail: bool = False
    blind: bool = False
    at_rest: bool = False


@dataclass
class Counters:
    """Cycles in a row. healthy: a plan was accepted and no monitor asks for more than DEGRADED; clean: none asks for
    anything. fault_emergency: the EMERGENCY was caused by our own system, not by the world.
    """

    healthy: int = 0
    clean: int = 0
    faults: int = 0
    unaccepted: int = 0
    at_rest: int = 0
    in_state: int = 0
    fault_emergency: bool = False

    def count(self, cycle: Cycle) -> None:
        """Add a cycle."""
        good = cycle.outcome is Outcome.ACCEPTED
        self.healthy = self.healthy + 1 if good and cycle.level <= Level.DEGRADED else 0
        self.clean = self.clean + 1 if good and cycle.level is Level.OK else 0
        self.faults = self.faults + 1 if cycle.outcome is Outcome.FAULT else 0
        self.unaccepted = 0 if good else self.unaccepted + 1
        self.at_rest = self.at_rest + 1 if cycle.at_rest else 0


Guard = Callable[[Cycle, Counters, StateConfig], bool]


@dataclass(frozen=True)
class Rule:
    """A transition. when: in words, with the names of StateConfig in braces; guard: the same in code."""

    name: str
    sources: tuple[State, ...]
    target: State
    when: str
    guard: Guard = field(repr=False)


_UP_TO_MINIMAL = (State.NORMAL, State.DEGRADED)
_BELOW_EMERGENCY = (*_UP_TO_MINIMAL, State.MINIMAL_RISK)

RULES: tuple[Rule, ...] = (
    Rule(
        "monitor_emergency", _BELOW_EMERGENCY, State.EMERGENCY,
        "a monitor asks for EMERGENCY, or its verdict cannot be read, and ego moves",
        lambda c, n, k: c.level >= Level.EMERGENCY and not c.at_rest,
    ),
    Rule(
        "off_tail", _BELOW_EMERGENCY, State.EMERGENCY,
        "ego brakes outside the kept tail while moving, or moves with no usable scene and nothing kept",
        lambda c, n, k: c.off_tail,
    ),
    Rule(
        "came_to_rest", (State.EMERGENCY,), State.MINIMAL_RISK,
        "ego stands",
        lambda c, n, k: c.at_rest,
    ),
    Rule(
        "emergency_over", (State.EMERGENCY,), State.DEGRADED,
        "the cause was in the world, and {release_after} healthy cycles in a row",
        lambda c, n, k: not n.fault_emergency and n.healthy >= k.release_after,
    ),
    Rule(
        "monitor_minimal_risk", _UP_TO_MINIMAL, State.MINIMAL_RISK,
        "a monitor asks for MINIMAL_RISK (or EMERGENCY, at rest)",
        lambda c, n, k: c.level >= Level.MINIMAL_RISK,
    ),
    Rule(
        "faults", _UP_TO_MINIMAL, State.MINIMAL_RISK,
        "{fault_minimal_risk} faults in a row (planner late, dead, malformed; scene unusable)",
        lambda c, n, k: n.faults >= k.fault_minimal_risk,
    ),
    Rule(
        "refusals", _UP_TO_MINIMAL, State.MINIMAL_RISK,
        "{refusal_minimal_risk} cycles in a row without an accepted plan",
        lambda c, n, k: n.unaccepted >= k.refusal_minimal_risk,
    ),
    Rule(
        "health_check", (State.MINIMAL_RISK,), State.DEGRADED,
        "at rest for {rest_after} cycles, and {release_after} healthy cycles in a row",
        lambda c, n, k: n.at_rest >= k.rest_after and n.healthy >= k.release_after,
    ),
    Rule(
        "monitor_degraded", (State.NORMAL,), State.DEGRADED,
        "a monitor asks for DEGRADED",
        lambda c, n, k: c.level >= Level.DEGRADED,
    ),
    Rule(
        "fault", (State.NORMAL,), State.DEGRADED,
        "{fault_degrades} fault in a row",
        lambda c, n, k: n.faults >= k.fault_degrades,
    ),
    Rule(
        "refusal", (State.NORMAL,), State.DEGRADED,
        "{refusal_degrades} cycles in a row without an accepted plan",
        lambda c, n, k: n.unaccepted >= k.refusal_degrades,
    ),
    Rule(
        "recovered", (State.DEGRADED,), State.NORMAL,
        "{recover_after} healthy cycles in a row in DEGRADED, every monitor at OK in all of them",
        lambda c, n, k: min(n.clean, n.in_state) >= k.recover_after,
    ),
)  # fmt: skip
"""In the order in which they are tried; at most one fires at a time."""

_BY_MONITOR = tuple(rule for rule in RULES if rule.name.startswith("monitor"))


@dataclass(frozen=True)
class Transition:
    """A change of state: the rule that fired, and the reason as logged."""

    source: State
    target: State
    rule: str
    reason: str


class StateMachine:
    """Applies `RULES`: first to the monitors at the beginning of a cycle, then to what the cycle showed."""

    def __init__(self, config: StateConfig | None = None) -> None:
        self.config = config or StateConfig()
        self.state = State.NORMAL
        self.counters = Counters()

    @property
    def latched(self) -> bool:
        """Whether accepted plans are only counted, not driven."""
        return self.state in (State.MINIMAL_RISK, State.EMERGENCY)

    @property
    def hardest(self) -> bool:
        """Whether the hardest stop is to be driven: an EMERGENCY of our own system, not of the world."""
        return self.state is State.EMERGENCY and self.counters.fault_emergency

    def listen(self, level: Level, at_rest: bool, reason: str) -> Transition | None:
        """The monitors' worst verdict, before anything is decided: it acts in the same cycle."""
        return self._fire(_BY_MONITOR, Cycle(Outcome.ACCEPTED, level, at_rest=at_rest), reason)

    def conclude(self, cycle: Cycle, reason: str) -> Transition | None:
        """What the cycle showed, after everything is decided."""
        self.counters.count(cycle)
        self.counters.in_state += 1
        return self._fire(RULES, cycle, reason)

    def _fire(self, rules: tuple[Rule, ...], cycle: Cycle, reason: str) -> Transition | None:
        for rule in rules:
            if self.state in rule.sources and rule.guard(cycle, self.counters, self.config):
                moved = Transition(self.state, rule.target, rule.name, reason)
                self.state, self.counters.in_state = rule.target, 0
                if rule.target is State.EMERGENCY:
                    self.counters.fault_emergency = cycle.blind or cycle.level >= Level.EMERGENCY
                    self.counters.healthy = 0
                return moved
        return None


def rules_table(config: StateConfig | None = None) -> str:
    """The rules as a Markdown table, for the documentation."""
    values = {f.name: getattr(config or StateConfig(), f.name) for f in fields(StateConfig)}
    lines = ["| rule | from | to | when |", "|---|---|---|---|"]
    for rule in RULES:
        sources = ", ".join(rule.sources)
        lines.append(f"| `{rule.name}` | {sources} | {rule.target} | {rule.when.format(**values)} |")
    return "\n".join(lines)

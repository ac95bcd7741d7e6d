"""The state machine: every rule, its patience just reached and just not, and the table in the documentation."""

from __future__ import annotations

import itertools

import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from planner.supervision.supervisor_state import (
    RULES,
    Counters,
    Cycle,
    Level,
    Outcome,
    Restrictions,
    State,
    StateConfig,
    StateMachine,
    rules_table,
)

K = StateConfig()
GOOD, REFUSED, FAULT = (Cycle(outcome) for outcome in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.FAULT))


def machine(state: State = State.NORMAL, **counters) -> StateMachine:
    m = StateMachine()
    m.state, m.counters = state, Counters(**counters)
    return m


def after(m: StateMachine, *cycles: Cycle) -> State:
    for cycle in cycles:
        m.conclude(cycle, "because")
    return m.state


@pytest.mark.parametrize(
    ("start", "cycle", "patience", "target"),
    [
        (State.NORMAL, FAULT, K.fault_degrades, State.DEGRADED),
        (State.NORMAL, REFUSED, K.refusal_degrades, State.DEGRADED),
        (State.DEGRADED, FAULT, K.fault_minimal_risk, State.MINIMAL_RISK),
        (State.DEGRADED, REFUSED, K.refusal_minimal_risk, State.MINIMAL_RISK),
        (State.DEGRADED, GOOD, K.recover_after, State.NORMAL),
        (State.EMERGENCY, GOOD, K.release_after, State.DEGRADED),
        (State.EMERGENCY, Cycle(Outcome.FAULT, at_rest=True), 1, State.MINIMAL_RISK),
        (State.MINIMAL_RISK, Cycle(Outcome.ACCEPTED, at_rest=True), K.rest_after, State.DEGRADED),
        (State.NORMAL, Cycle(Outcome.REFUSED, off_tail=True), 1, State.EMERGENCY),
        (State.MINIMAL_RISK, Cycle(Outcome.FAULT, off_tail=True), 1, State.EMERGENCY),
        (State.NORMAL, Cycle(Outcome.ACCEPTED, Level.DEGRADED), 1, State.DEGRADED),
        (State.DEGRADED, Cycle(Outcome.ACCEPTED, Level.MINIMAL_RISK), 1, State.MINIMAL_RISK),
        (State.DEGRADED, Cycle(Outcome.ACCEPTED, Level.EMERGENCY), 1, State.EMERGENCY),
        (State.DEGRADED, Cycle(Outcome.ACCEPTED, Level.EMERGENCY, at_rest=True), 1, State.MINIMAL_RISK),
    ],
)
def test_each_rule_fires_with_its_patience_and_not_before(
    start: State, cycle: Cycle, patience: int, target: State
) -> None:
    m = machine(start)
    assert after(m, *[cycle] * (patience - 1)) == start
    moved = m.conclude(cycle, "because")
    assert (m.state, moved.source, moved.target, moved.reason) == (target, start, target, "because")


@pytest.mark.parametrize(
    ("start", "breaker"),
    [
        (State.DEGRADED, REFUSED),
        (State.DEGRADED, FAULT),
        (State.DEGRADED, Cycle(Outcome.ACCEPTED, Level.DEGRADED)),
        (State.EMERGENCY, REFUSED),
        (State.EMERGENCY, Cycle(Outcome.ACCEPTED, Level.MINIMAL_RISK)),
    ],
)
def test_one_bad_cycle_starts_the_count_again(start: State, breaker: Cycle) -> None:
    m = machine(start)
    patience = K.recover_after if start is State.DEGRADED else K.release_after
    assert after(m, *[GOOD] * (patience - 1), breaker, *[GOOD] * (patience - 1)) == start
    assert after(m, GOOD) != start


def test_minimal_risk_is_not_left_while_moving_whatever_is_accepted() -> None:
    assert after(machine(State.MINIMAL_RISK), *[GOOD] * 1000) == State.MINIMAL_RISK
    standing = Cycle(Outcome.ACCEPTED, at_rest=True)
    m = machine(State.MINIMAL_RISK)
    assert after(m, *[GOOD] * 100, *[standing] * (K.rest_after - 1)) == State.MINIMAL_RISK
    assert after(m, standing) == State.DEGRADED


@pytest.mark.parametrize("blind", [True, False])
def test_only_an_emergency_of_the_world_ends_while_moving(blind: bool) -> None:
    m = machine()
    after(m, Cycle(Outcome.FAULT, off_tail=True, blind=blind))
    assert m.hardest == blind
    assert after(m, *[GOOD] * 50) == (State.EMERGENCY if blind else State.NORMAL)


def test_monitors_act_at_the_beginning_of_the_cycle_but_never_lead_up() -> None:
    m = machine()
    assert m.listen(Level.DEGRADED, False, "lidar").rule == "monitor_degraded"
    assert m.listen(Level.OK, False, "") is None
    assert m.listen(Level.MINIMAL_RISK, False, "lidar").target is State.MINIMAL_RISK
    assert m.listen(Level.EMERGENCY, True, "lidar") is None, "ego stands already"
    assert m.listen(Level.EMERGENCY, False, "lidar").target is State.EMERGENCY
    for level in Level:
        assert m.listen(level, False, "") is None


ORDER = list(State)
cycles = st.builds(
    Cycle, st.sampled_from(list(Outcome)), st.sampled_from(list(Level)), st.booleans(), st.booleans(), st.booleans()
)


@given(st.lists(cycles, max_size=80))
def test_up_is_earned_and_by_one_rule_at_a_time(history: list[Cycle]) -> None:
    """Independent of the rules' code: the way up from a latched state needs its own full run of healthy cycles."""
    m, run = StateMachine(), 0
    for cycle in history:
        before = m.state
        moved = m.conclude(cycle, "x")
        run = run + 1 if cycle.outcome is Outcome.ACCEPTED and cycle.level <= Level.DEGRADED else 0
        assert (moved is not None) == (m.state is not before)
        if ORDER.index(m.state) < ORDER.index(before) and (before, m.state) != (State.EMERGENCY, State.MINIMAL_RISK):
            assert run >= min(K.release_after, K.recover_after)
            assert ORDER.index(before) - ORDER.index(m.state) == (2 if before is State.EMERGENCY else 1)
        if cycle.level >= Level.MINIMAL_RISK:
            assert m.latched
        if cycle.outcome is Outcome.FAULT:
            assert m.state is not State.NORMAL


def test_every_state_has_a_way_in_and_a_way_out() -> None:
    for state in State:
        assert any(rule.target is state for rule in RULES)
        assert any(state in rule.sources for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_no_rule_is_shadowed() -> None:
    """Every rule fires for some cycle and counters: an earlier one with the same meaning would make it dead."""
    fired = set()
    numbers = (0, 1, 5, 20)
    for rule, cycle in itertools.product(
        RULES, [Cycle(o, lv, t, False, r) for o in Outcome for lv in Level for t in (0, 1) for r in (0, 1)]
    ):
        for healthy, faults, unaccepted in itertools.product(numbers, repeat=3):
            for source in rule.sources:
                m = machine(source, healthy=healthy, clean=healthy, faults=faults, unaccepted=unaccepted,
                            at_rest=20, in_state=20)  # fmt: skip
                if moved := m.conclude(cycle, ""):
                    fired.add(moved.rule)
    assert fired == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("level", "read"),
    [("OK", 0), ("ok", 0), ("DEGRADED", 1), (Level.MINIMAL_RISK, 2), ("emergency", 3), ("fine", 3), (None, 3), (0, 3)],
)
def test_levels_are_read_by_name_and_the_unreadable_is_the_worst(level: object, read: int) -> None:
    assert Level.of(level) == read


def test_restrictions() -> None:
    r = Restrictions(speed_factor=0.6, ramp=4, margin_time=0.1, margin_max=0.5)
    assert [r.speed(k) for k in (-1, 0, 2, 4, 9)] == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.6])
    assert [r.margin(v) for v in (-1.0, 0.0, 4.0, 5.0, 30.0)] == pytest.approx([0.0, 0.0, 0.4, 0.5, 0.5])


def test_the_documentation_holds_the_rules_as_they_are() -> None:
    assert rules_table() in (REPOSITORY / "docs" / "safety.md").read_text(), "run `make docs`"

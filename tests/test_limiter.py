"""The limiter: every limit just inside and just outside, nothing odd, old or out of order gets through."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.limiter import LATERAL_JERK_MAX, WATCHDOG_BRAKING, Command, Gate, Order, limit
from planner.scene import EgoState, VehicleParameters

V = VehicleParameters()
DT = 0.1
E = 1e-6


def state(v: float = 10.0, a: float = 0.0, curvature: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(v=v, a=a, curvature=curvature)


def unchanged(command: Command, at: SimpleNamespace, vehicle: VehicleParameters = V) -> bool:
    out, reasons = limit(command, at, DT, vehicle)
    assert (out == command) == (not reasons)
    return out == command


def test_what_is_inside_passes_untouched() -> None:
    assert unchanged(Command(0.0, 0.0), state())
    assert unchanged(Command(-1.0, 0.05), EgoState.at_origin(8.0, -0.5, 0.01))


@pytest.mark.parametrize(
    ("inside", "outside", "at", "reason"),
    [
        (Command(3.0, 0), Command(3.0 + E, 0), state(a=3.0), "acceleration"),
        (Command(-8.0, 0), Command(-8.0 - E, 0), state(a=-8.0), "acceleration"),
        (Command(1.2, 0), Command(1.2 + E, 0), state(a=0.0), "jerk"),
        (Command(-1.2, 0), Command(-1.2 - E, 0), state(a=0.0), "jerk"),
        (Command(0.5, 0), Command(0.5 + E, 0), state(v=24.95), "speed_max"),
        (Command(-1.0, 0), Command(-1.0 - E, 0), state(v=0.1, a=-1.0), "standstill"),
        (Command(0, 0.2), Command(0, 0.2 + E), state(v=10.0), "curvature_rate"),
        (Command(0, -0.2), Command(0, -0.2 - E), state(v=10.0), "curvature_rate"),
        (Command(0, 0.25), Command(0, 0.25 + E), state(v=2.0), "curvature_rate"),
        (Command(0, 0.1), Command(0, 0.1 + E), state(v=2.0, curvature=0.19), "curvature"),
        (Command(0, -0.1), Command(0, -0.1 - E), state(v=2.0, curvature=-0.19), "curvature"),
        (Command(0, 0.1), Command(0, 0.1 + E), state(v=10.0, curvature=0.04), "curvature"),
        (Command(0, -0.1), Command(0, -0.1 - E), state(v=10.0, curvature=-0.04), "curvature"),
    ],
)
def test_each_limit_just_inside_and_just_outside(
    inside: Command, outside: Command, at: SimpleNamespace, reason: str
) -> None:
    out, reasons = limit(inside, at, DT, V)
    assert out.acceleration == pytest.approx(inside.acceleration, abs=1e-12)
    assert out.curvature_rate == pytest.approx(inside.curvature_rate, abs=1e-12)
    out, reasons = limit(outside, at, DT, V)
    assert reason in reasons
    assert out.acceleration == pytest.approx(inside.acceleration, abs=1e-9)
    assert out.curvature_rate == pytest.approx(inside.curvature_rate, abs=1e-9)


def test_lateral_jerk_tightens_steering_with_speed() -> None:
    out, reasons = limit(Command(0.0, 0.25), state(v=20.0), DT, V)
    assert out.curvature_rate == pytest.approx(LATERAL_JERK_MAX / 400)
    assert reasons == ("curvature_rate",)
    # Speeding up within the period counts with the speed at its end.
    out, _ = limit(Command(1.0, 0.25), state(v=20.0), DT, V)
    assert out.curvature_rate == pytest.approx(LATERAL_JERK_MAX / 20.1**2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_command_that_is_not_a_number_becomes_maximum_braking(bad: float) -> None:
    for command in (Command(bad, 0.0), Command(0.0, bad)):
        out, reasons = limit(command, state(a=-8.0), DT, V)
        assert out == Command(-8.0, 0.0)
        assert reasons == ("command is not finite",)
        out, reasons = limit(command, state(a=0.0), DT, V)
        assert out.acceleration == pytest.approx(-1.2)
        assert reasons == ("command is not finite", "jerk")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["v", "a", "curvature"])
def test_an_unknown_state_means_full_braking_and_steering_held(bad: float, name: str) -> None:
    out, reasons = limit(Command(1.0, 0.1), state(**{name: bad}), DT, V)
    assert out == Command(-V.braking_max, 0.0)
    assert reasons == ("state is not finite",)


@pytest.mark.parametrize("dt", [0.0, -0.1, math.nan, math.inf])
def test_a_period_that_is_none_is_refused(dt: float) -> None:
    with pytest.raises(ValueError, match="dt > 0"):
        limit(Command(0, 0), state(), dt, V)


def test_measured_excess_is_not_handed_on() -> None:
    assert limit(Command(-8.0, 0.0), state(a=-20.0), DT, V)[0].acceleration == -8.0
    assert limit(Command(3.0, 0.0), state(v=5.0, a=20.0), DT, V)[0].acceleration == 3.0


def test_standing_or_rolling_back_never_reverses() -> None:
    assert limit(Command(-5.0, 0.0), state(v=0.0, a=-5.0), DT, V)[0].acceleration == 0.0
    assert limit(Command(-5.0, 0.0), state(v=-0.5, a=-5.0), DT, V)[0].acceleration == 0.0


def test_excess_speed_is_braked_off() -> None:
    out, reasons = limit(Command(0.0, 0.0), state(v=30.0), DT, V)
    assert out.acceleration == -8.0
    assert reasons == ("speed_max",)


def test_excess_curvature_is_steered_back_as_fast_as_allowed() -> None:
    out, reasons = limit(Command(0.0, 0.0), state(v=2.0, curvature=0.3), DT, V)
    assert out.curvature_rate == -0.25
    assert reasons == ("curvature",)


numbers = st.floats(allow_nan=True, allow_infinity=True)
sane = {"v": st.floats(0, 25), "a": st.floats(-8, 3), "curvature": st.floats(-0.2, 0.2)}


@given(a=numbers, rate=numbers, at=st.fixed_dictionaries(sane))
def test_whatever_comes_the_result_is_inside_the_envelope(a: float, rate: float, at: dict) -> None:
    out, _ = limit(Command(a, rate), state(**at), DT)
    v_next = at["v"] + out.acceleration * DT
    assert -V.braking_max <= out.acceleration <= V.acceleration_max
    # Standing still and top speed may cut acceleration faster than the jerk limit.
    assert out.acceleration <= at["a"] + V.jerk_max * DT + 1e-9 or v_next <= 1e-9
    assert -1e-9 <= v_next <= V.speed_max + 1e-9
    assert abs(out.curvature_rate) <= V.curvature_rate_max
    # The fastest speed in the period bounds the lateral jerk.
    assert abs(out.curvature_rate) * max(at["v"], v_next) ** 2 <= LATERAL_JERK_MAX * (1 + 1e-9)


@given(a=numbers, rate=numbers, at=st.fixed_dictionaries({n: numbers for n in sane}))
def test_nothing_but_finite_commands_leaves_even_from_nonsense(a: float, rate: float, at: dict) -> None:
    out, _ = limit(Command(a, rate), state(**at), DT)
    assert math.isfinite(out.acceleration)
    assert math.isfinite(out.curvature_rate)
    assert out.acceleration >= -V.braking_max
    assert abs(out.curvature_rate) <= V.curvature_rate_max


# -- the gate ------------------------------------------------------------------------------

STOP = tuple(Command(-1.0 - 0.1 * k, 0.001 * k) for k in range(5))


def order(counter: int = 1, time: float = 10.0, a: float = 0.5, rate: float = 0.01, **more) -> Order:
    return Order(counter, time, Command(a, rate), **{"stop": STOP, **more})


def asked(gate: Gate, what: object, now: float, at: SimpleNamespace | None = None, **more):
    return gate.command(what, now, at or state(a=-1.0 if what is None else 0.0), DT, **more)


def test_fresh_orders_in_order_pass_untouched() -> None:
    gate = Gate(V)
    for k in range(1, 5):
        assert asked(gate, order(k, 10.0 + 0.1 * k), 10.0 + 0.1 * k) == (Command(0.5, 0.01), ())


def test_before_the_first_order_is_full_braking() -> None:
    gate = Gate()
    assert asked(gate, None, 0.0, state(a=-8.0)) == (Command(-8.0, 0.0), ("nothing ordered yet",))
    assert gate.command("go", 0.0, state(a=-8.0), DT)[1] == ("order is malformed", "nothing ordered yet")
    assert Gate(VehicleParameters(braking_max=5.0)).command(None, 0.0, state(a=-5.0), DT)[0].acceleration == -5.0


@pytest.mark.parametrize(
    ("age", "obeyed"), [(0.0, True), (0.2, True), (0.2001, False), (-5e-7, True), (-2e-6, False), (-1.0, False)]
)
def test_age_just_inside_and_just_outside(age: float, obeyed: bool) -> None:
    out, reasons = asked(Gate(V), order(), 10.0 + age, state(a=0.0))
    assert reasons == (() if obeyed else ("order is stale", "nothing ordered yet", "jerk"))
    assert out == (Command(0.5, 0.01) if obeyed else Command(pytest.approx(-1.2), 0.0))


def test_the_age_limit_is_a_setting() -> None:
    assert asked(Gate(V, age_max=1.0), order(), 11.0)[1] == ()
    assert asked(Gate(V, age_max=1.0), order(), 11.001)[1][0] == "order is stale"


@pytest.mark.parametrize("counter", [5, 4, 0, -3])
def test_repeated_and_reordered_orders_are_not_obeyed(counter: int) -> None:
    gate = Gate(V)
    assert asked(gate, order(5), 10.0)[1] == ()
    out, reasons = asked(gate, order(counter, 10.05, a=3.0), 10.05)
    assert (out.acceleration, reasons) == (0.5, ("order is out of order",)), "the last good one goes on"
    assert asked(gate, order(6, 10.1, a=0.3), 10.1) == (Command(0.3, 0.01), ())


def test_between_orders_the_last_one_goes_on_then_its_stop_then_full_braking() -> None:
    gate = Gate(V)
    asked(gate, order(), 10.0)
    at = lambda now, a: asked(gate, None, now, state(a=a))  # noqa: E731
    assert at(10.2, 0.0) == (Command(0.5, 0.01), ())
    assert at(10.2001, -1.2) == (STOP[2], ("orders have stopped",)), "where the stop should be by now"
    assert at(10.3 - 1e-9, -1.2) == (STOP[3], ("orders have stopped",)), "rounding of clocks is not a step too late"
    assert at(10.35, -1.2) == (STOP[3], ("orders have stopped",))
    assert at(10.4999, -1.4) == (STOP[4], ("orders have stopped",))
    assert at(10.5001, -8.0) == (Command(-8.0, 0.0), ("orders have stopped",))
    assert at(99.0, -8.0) == (Command(-8.0, 0.0), ("orders have stopped",))
    assert at(9.0, -8.0) == (Command(-8.0, 0.0), ("orders have stopped",)), "the clock went back"
    assert at(math.nan, -8.0) == (Command(-8.0, 0.0), ("orders have stopped",))
    assert asked(gate, order(2, 20.0), 20.0) == (Command(0.5, 0.01), ())


def test_exactly_on_the_boundaries_of_time() -> None:
    rounding = 1e-6
    assert asked(Gate(V), order(time=rounding), 0.0)[1] == (), "as far in the future as clocks are forgiven"
    assert asked(Gate(V), order(time=0.0), 0.2 + rounding)[1] == (), "as old as is allowed"
    gate = Gate(V)
    asked(gate, order(time=0.0, stop_step=1.0), 0.0)
    assert asked(gate, None, 5.0 - rounding, state(a=-8.0))[0] == Command(-8.0, 0.0), "the stop is over"
    assert asked(gate, None, -0.5, state(a=-8.0))[0] == Command(-8.0, 0.0), "the clock went back by half a step"
    gate = Gate(V, age_max=0.05)
    asked(gate, order(time=0.0), 0.0)
    assert asked(gate, None, 0.08, state(a=-1.0))[0] == STOP[0], "the stop begins with its first command"
    gate = Gate(V)
    asked(gate, order(time=3.0, stop_step=1.0), 3.0)
    assert asked(gate, None, 10.0, state(a=-8.0))[0] == Command(-8.0, 0.0), "seven steps into a stop of five"


def test_commands_and_orders_cannot_be_changed_on_their_way() -> None:
    with pytest.raises(FrozenInstanceError):
        STOP[0].acceleration = 3.0
    with pytest.raises(FrozenInstanceError):
        order().time = 3.0


def test_lateral_limits_hold_at_walking_pace_too() -> None:
    agile = VehicleParameters(curvature_max=1e3, curvature_rate_max=1e3)
    assert limit(Command(0.0, 900.0), state(v=0.5), DT, agile)[0].curvature_rate == pytest.approx(20 / 0.25)
    at = state(v=0.5, curvature=19.0)
    assert limit(Command(0.0, 70.0), at, DT, agile)[0].curvature_rate == pytest.approx((5 / 0.25 - 19.0) / DT)
    assert limit(Command(0.0, 1e4), state(v=0.0), DT, agile)[0].curvature_rate == pytest.approx(1e3)


def test_the_stop_may_have_another_step() -> None:
    gate = Gate(V)
    asked(gate, order(stop_step=0.25), 10.0)
    assert asked(gate, None, 10.6, state(a=-1.2))[0] == STOP[2]
    asked(gate, order(2, 11.0, stop=()), 11.0)
    assert asked(gate, None, 11.3, state(a=-8.0))[0] == Command(-8.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_orders_that_are_not_finite_are_not_obeyed(bad: float) -> None:
    for what in (
        order(a=bad), order(rate=bad), order(time=bad), order(stop_step=bad), order(stop=(Command(bad, 0.0),)),
        order(stop=(*STOP, Command(0.0, bad))),
    ):  # fmt: skip
        assert asked(Gate(V), what, 10.0)[1][0] == "order is not finite"


@pytest.mark.parametrize("step", [0.0, -0.1])
def test_a_stop_without_duration_is_not_obeyed(step: float) -> None:
    assert asked(Gate(V), order(stop_step=step), 10.0)[1][0] == "order is not finite"
    assert asked(Gate(V), order(stop_step=1e-9), 10.0)[1] == ()


@pytest.mark.parametrize(
    "bad",
    [
        "stop", 7, Command(0, 0), order(a="x"), order(rate=None), order(time=None), order(stop=None),
        order(stop=(None,)), order(stop=3), order(counter="seven"), order(counter=math.nan), order(counter=math.inf),
        Order(1, 10.0, None),
    ],
)  # fmt: skip
def test_malformed_orders_are_not_obeyed(bad: object) -> None:
    gate = Gate(V)
    asked(gate, order(0), 10.0)
    out, reasons = asked(gate, bad, 10.0)
    assert reasons == ("order is malformed",)
    assert out == Command(0.5, 0.01)


def test_while_the_watchdog_has_expired_ego_only_gets_slower() -> None:
    gate = Gate(V)
    assert asked(gate, order(1, a=1.0), 10.0, state(a=-2.0), served=False) == (Command(-2.0, 0.01), ("watchdog",))
    assert asked(gate, order(2, a=-6.0), 10.0, state(a=-6.0), served=False) == (Command(-6.0, 0.01), ("watchdog",))
    assert WATCHDOG_BRAKING == 2.0
    out, reasons = asked(gate, None, 10.05, state(a=0.0), served=False)
    assert (out.acceleration, reasons) == (pytest.approx(-1.2), ("watchdog", "jerk"))


numbers_or_not = st.one_of(numbers, st.none(), st.text(max_size=2))


@given(
    data=st.lists(
        st.tuples(st.integers(-3, 20), numbers_or_not, numbers_or_not, numbers_or_not, st.booleans()), max_size=12
    )
)
def test_whatever_is_ordered_finite_commands_inside_the_envelope_come_out(data: list) -> None:
    gate, at = Gate(V), state(v=10.0, a=0.0)
    for k, (counter, time, a, rate, served) in enumerate(data):
        out, _ = gate.command(Order(counter, time, Command(a, rate), STOP), 0.1 * k, at, DT, served)
        assert -V.braking_max <= out.acceleration <= V.acceleration_max
        assert abs(out.acceleration - at.a) <= V.jerk_max * DT + 1e-9 or at.v + out.acceleration * DT <= 1e-9
        assert abs(out.curvature_rate) <= V.curvature_rate_max
        at = state(max(at.v + out.acceleration * DT, 0.0), out.acceleration, at.curvature + out.curvature_rate * DT)

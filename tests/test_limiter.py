"""The limiter: every limit just inside and just outside, nothing odd gets through."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.limiter import LATERAL_JERK_MAX, Command, limit
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

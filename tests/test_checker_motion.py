"""Motion and what the vehicle can do: numerically integrated motions are the witness, each margin is worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checker_scenes import F64, drive
from scipy.integrate import solve_ivp

from planner.checker import CheckerConfig, Violation
from planner.checker.footprint import Boxes
from planner.checker.motion import Motion, grid
from planner.checker.rules import kinematics
from planner.checker.rules.finding import Finding
from planner.scene import Trajectory, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()


def integrated(
    step: np.ndarray, jerk: np.ndarray, rate: np.ndarray, v: float = 8.0, a: float = 0.5, curvature: float = 0.02
) -> Motion:
    """Steps (s) of constant jerk (m/s^3) and curvature rate (1/(m s)), integrated numerically from a turned pose."""
    rows = [(0.0, 3.0, -2.0, 0.7, v, a, curvature)]
    for h, j, r in zip(step, jerk, rate):
        t, x, y, yaw, v, a, k = rows[-1]
        speed = lambda s, v=v, a=a, j=j: v + a * s + 0.5 * j * s**2  # noqa: E731
        flow = lambda s, q, k=k, r=r, speed=speed: (  # noqa: E731
            speed(s) * np.cos(q[2]), speed(s) * np.sin(q[2]), speed(s) * (k + r * s)
        )  # fmt: skip
        end = solve_ivp(flow, (0.0, h), (x, y, yaw), rtol=1e-11, atol=1e-12).y[:, -1]
        rows.append((t + h, *end, speed(h), a + j * h, k + r * h))
    time, x, y, yaw, v_, a_, k_ = np.array(rows).T
    return Motion(time, np.stack([x, y, yaw], 1), v_, a_, k_)


def winding(seed: int = 0, count: int = 12) -> Motion:
    rng = np.random.default_rng(seed)
    return integrated(rng.uniform(0.05, 0.25, count), rng.uniform(-4, 4, count), rng.uniform(-0.1, 0.1, count))


def margin(found: Finding, rule: str) -> float:
    """The reported margin of the one violation of a rule; inf without one."""
    about = [v for v in found.violations if v.rule == rule]
    assert len(about) <= 1
    return about[0].margin if about else np.inf


def at(found: Finding, rule: str) -> Violation:
    (about,) = (v for v in found.violations if v.rule == rule)
    assert about.track_id == -1
    return about


# -- the motion between its entries ---------------------------------------------------------------


def test_between_entries_the_motion_is_the_integrated_one() -> None:
    for seed in range(3):
        fine = integrated(np.full(40, 0.02), *np.repeat(np.random.default_rng(seed).uniform(-1, 1, (2, 4)), 10, 1)
                          * np.array([[6.0], [0.2]]))  # fmt: skip
        coarse = Motion(fine.time[::10], fine.pose[::10], fine.v[::10], fine.a[::10], fine.curvature[::10])
        found = coarse.at(fine.time)
        np.testing.assert_allclose(found.pose, fine.pose, atol=1e-4)
        np.testing.assert_allclose(found.v, fine.v, atol=1e-9)
        np.testing.assert_allclose(found.a, fine.a, atol=1e-9)
        np.testing.assert_allclose(found.curvature, fine.curvature, atol=1e-9)
        np.testing.assert_array_equal(found.time, fine.time)


def test_before_and_beyond_its_entries_a_motion_is_held() -> None:
    m = winding()
    held = m.at(np.array([-1.0, m.time[-1], m.time[-1] + 5.0]))
    for name in ("pose", "v", "a", "curvature"):
        values = getattr(m, name)
        np.testing.assert_allclose(getattr(held, name), values[[0, -1, -1]], atol=1e-12)


def test_a_heading_that_jumps_by_a_turn_is_the_same_heading() -> None:
    plan = drive(5.0, 3.0, curvature=0.1, yaw=2.9)
    wrapped = plan.replace(yaw=torch.remainder(plan.yaw + np.pi, 2 * np.pi) - np.pi)
    assert float(wrapped.yaw.min()) < -2.0
    np.testing.assert_allclose(Motion.of(wrapped).pose, Motion.of(plan).pose, atol=1e-12)
    assert Motion.of(plan).pose.dtype == np.float64


def test_a_motion_is_one_trajectory_of_two_entries_or_more() -> None:
    plan = drive(5.0)
    assert len(Motion.of(plan.apply(lambda t: t[:2])).time) == 2
    for broken in (plan.apply(lambda t: t[:1]), plan.apply(lambda t: t.expand(2, -1)), plan.apply(lambda t: t[0])):
        with pytest.raises(ValueError, match="T >= 2"):
            Motion.of(broken)
    names = ("time", "x", "y", "yaw", "v", "a", "curvature")
    fields = {name: getattr(plan, name) for name in names}
    for name, field in fields.items():
        for other in (field[:-1], torch.cat([field, field[-1:]])):
            with pytest.raises(ValueError, match="T >= 2"):
                Motion.of(Trajectory(**fields | {name: other}))


def test_when_a_motion_comes_to_rest() -> None:
    m = winding()
    for v, rest in (
        ((2.0, 1.0, 0.05, 0.0, 0.0), 2), ((2.0, 1.0, 0.051, 0.05, 0.0), 3), ((0.0, 0.0, 0.0, 0.0, 0.0), 0),
        ((0.0, 1.0, 0.0, -0.06, 0.0), 4), ((1.0, 0.0, 0.0, 0.0, 0.06), None), ((0.05, -0.05, 0.0, 0.0, 0.0), 0),
    ):  # fmt: skip
        motion = Motion(m.time[1:6], m.pose[:5], np.array(v), m.a[:5], m.curvature[:5])
        assert motion.rest_time(0.05) == (np.inf if rest is None else m.time[1 + rest])


def test_the_checkers_grid_reaches_to_the_end_and_no_farther() -> None:
    for duration, last in (
        (0.0, 0.1),
        (0.04, 0.1),
        (0.1, 0.1),
        (0.1 + 1e-12, 0.1),
        (0.11, 0.2),
        (3.0, 3.0),
        (2.95, 3.0),
    ):
        times = grid(duration, C)
        np.testing.assert_allclose(times, np.linspace(0.0, last, round(last / 0.1) + 1), atol=1e-12)
    np.testing.assert_allclose(grid(1.0, replace(C, step=0.25)), [0.0, 0.25, 0.5, 0.75, 1.0])


def test_the_bulge_by_hand_for_each_of_its_causes() -> None:
    """h^2 / 8 times the largest acceleration across the chord of the farthest corner, cause by cause."""
    corner = np.hypot(V.front, V.width / 2)

    def disc(h: float, v: tuple, a: tuple, k: tuple) -> float:
        entries = Motion(np.array([0.0, h]), np.zeros((2, 3)), *(np.array(f, float) for f in (v, a, k)))
        return float(entries.sweeps(V).disc[0])

    assert disc(0.1, (8, 9), (3, -4), (0, 0)) == 0.0
    turn = 8 * 0.05
    for sign in (1, -1):
        steady = disc(0.1, (8, 8), (0, 0), (sign * 0.05, sign * 0.05))
        assert steady == pytest.approx(0.01 / 8 * (8 * turn + corner * turn**2))
        steering = disc(0.2, (8, 8), (0, 0), (0.0, sign * 0.05))
        assert steering == pytest.approx(0.04 / 8 * (8 * turn + corner * (turn**2 + 8 * 0.05 / 0.2)))
        assert disc(0.2, (8, 8), (0, 0), (sign * 0.05, 0.0)) == pytest.approx(steering)
        braking = disc(0.1, (8, 7.8), (sign * 2.0, sign * 1.0), (0.05, 0.05))
        assert braking == pytest.approx(0.01 / 8 * (8 * turn + 2.0 * turn * 0.1 + corner * (turn**2 + 2.0 * 0.05)))


def test_the_enclosing_circles_hold_the_widened_rectangles() -> None:
    """Of a sweep and of a box: the farthest corner from the middle, and the disc around it."""
    sweeps = winding().sweeps(V)
    assert (sweeps.disc > 0.01).any()
    farthest = np.hypot(*(sweeps.points - sweeps.center[:, None]).transpose(2, 0, 1)).max(1)
    np.testing.assert_allclose(sweeps.reach, farthest + sweeps.disc)
    boxes = Boxes(np.array([[3.0, 1.0]]), np.array([[0.6, 0.8]]), np.array([[2.0, 1.5]]), np.array([0.4]))
    assert boxes.reach == pytest.approx(2.9)
    np.testing.assert_allclose(boxes.corners, [[[3.0, 3.5], [0.6, 0.3], [3.0, -1.5], [5.4, 1.7]]], atol=1e-12)
    empty = boxes.take(np.zeros(0, np.int64))
    assert empty.reach.shape == (0,)


# -- well formed ------------------------------------------------------------------------------


def test_times_start_at_zero_and_increase_just_inside_and_outside() -> None:
    m = winding()
    assert not kinematics.well_formed(m, "n").violations
    for first, ok in ((9e-7, True), (-9e-7, True), (2e-6, False), (-2e-6, False)):
        found = kinematics.well_formed(replace(m, time=np.concatenate([[first], m.time[1:]])), "n")
        assert (not found.violations) is ok
        assert ok or at(found, "n_time").margin == pytest.approx(-1e-6, abs=1e-9)
    for step, ok in ((2e-6, True), (5e-7, False), (-0.1, False)):
        time = m.time.copy()
        time[4] = time[3] + step
        found = kinematics.well_formed(replace(m, time=np.sort(time) if ok else time), "n")
        assert (not found.violations) is ok
        if not ok:
            assert at(found, "n_time").margin == pytest.approx(step - 1e-6)
            assert at(found, "n_time").time == time[4]


@pytest.mark.parametrize("name", ["time", "pose", "v", "a", "curvature"])
def test_nothing_else_is_judged_where_a_number_is_none(name: str) -> None:
    values = getattr(winding(), name).copy()
    values.flat[-1] = np.nan
    found = kinematics.well_formed(replace(winding(), **{name: values}), "n")
    assert [(v.rule, v.time, v.margin) for v in found.violations] == [("n_finite", 0.0, -1.0)]


# -- where a plan starts ------------------------------------------------------------------------


def test_the_margin_at_the_start_is_the_tolerance_less_the_difference() -> None:
    m = winding()
    ego = np.array([*m.pose[0], m.v[0], m.a[0], m.curvature[0]])
    assert not kinematics.start_state(m, ego, C, False, "n").violations
    off = ego + np.array([0.3, -0.4, 2 * np.pi - 0.05, 0.5, -1.5, 0.05])
    found = kinematics.start_state(m, off, C, False, "n")
    expected = {"position": 0.1 - 0.5, "yaw": 0.03 - 0.05, "speed": 0.2 - 0.5, "acceleration": 1.0 - 1.5,
                "curvature": 0.03 - 0.05}  # fmt: skip
    assert {v.rule: v.margin for v in found.violations} == pytest.approx(
        {f"n_start_{k}": v for k, v in expected.items()}
    )
    assert all(v.time == 0.0 for v in found.violations)
    assert not kinematics.start_state(m, off, C, True, "n").violations, "six times as much for a kept tail"


@pytest.mark.parametrize("turn", [np.pi, np.pi / 2, -2.0, 3 * np.pi])
def test_a_plan_that_points_elsewhere_does_not_start_at_ego(turn: float) -> None:
    m = winding()
    ego = np.array([*m.pose[0], m.v[0], m.a[0], m.curvature[0]])
    (about,) = kinematics.start_state(m, ego + np.array([0, 0, turn, 0, 0, 0]), C, False, "n").violations
    assert about.rule == "n_start_yaw"
    assert about.margin == pytest.approx(C.start_yaw - min(abs(turn), np.pi))


# -- the numbers agree with each other -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_an_integrated_motion_is_consistent_to_rounding(seed: int) -> None:
    tight = replace(C, step_position=1e-7, step_yaw=1e-9, step_speed=1e-9, drift=1e-6)
    assert not kinematics.consistency(winding(seed), tight, "n").violations


def test_the_margin_of_an_inconsistent_step_is_what_the_step_lacks() -> None:
    m = winding()
    for i in (5, 11):
        pose = m.pose.copy()
        pose[i:, :2] += [0.06, -0.08]
        found = kinematics.consistency(replace(m, pose=pose), C, "n")
        assert margin(found, "n_consistent_position") == pytest.approx(C.step_position - 0.1, abs=1e-7)
        assert at(found, "n_consistent_position").time == m.time[i]
        # Turned as a whole from entry i on: the steps after it lead elsewhere, too; alone it is the yaw's error.
        pose = m.pose.copy()
        pose[i:, 2] -= 0.05
        found = kinematics.consistency(replace(m, pose=pose), C, "n")
        assert margin(found, "n_consistent_yaw") == pytest.approx(C.step_yaw - 0.05, abs=1e-9)
        assert at(found, "n_consistent_yaw").time == m.time[i]
        v = m.v.copy()
        v[i:] += 0.15
        found = kinematics.consistency(replace(m, v=v), C, "n")
        assert margin(found, "n_consistent_speed") == pytest.approx(C.step_speed - 0.15, abs=1e-9)
        assert at(found, "n_consistent_speed").time == m.time[i]


def test_drift_is_what_adds_up_within_a_second() -> None:
    m = integrated(np.full(30, 0.1), np.zeros(30), np.zeros(30), a=0.0)
    every = np.array([0.024, 0.018])  # 0.03 m a step, 0.3 m a second
    for share, ok in ((0.999, True), (1.02, False)):
        pose = m.pose.copy()
        pose[:, :2] += share * np.arange(31)[:, None] * every
        found = kinematics.consistency(replace(m, pose=pose), C, "n")
        assert (not found.violations) is ok
        assert ok or margin(found, "n_drift") == pytest.approx(C.drift * (1 - share), abs=1e-6)
    pose = m.pose.copy()
    pose[15:19, 0] += 0.11 * np.array([1, 2, 3, 3])
    pose[19:, 0] += 0.33
    found = kinematics.consistency(replace(m, pose=pose), replace(C, step_position=0.2), "n")
    assert margin(found, "n_drift") == pytest.approx(C.drift - 0.33, abs=1e-6)
    # Two errors more than a second apart do not add up.
    pose = m.pose.copy()
    pose[5:, 0] += 0.2
    pose[17:, 0] += 0.2
    found = kinematics.consistency(replace(m, pose=pose), replace(C, step_position=0.25), "n")
    assert margin(found, "n_drift") == np.inf


def test_at_standstill_the_brake_holds_against_any_acceleration() -> None:
    still = Motion(np.arange(6) * 0.2, np.zeros((6, 3)), np.full(6, 0.05), np.zeros(6), np.zeros(6))
    still.pose[:, 0] = 0.05 * still.time
    assert not kinematics.consistency(replace(still, a=np.full(6, -3.0)), C, "n").violations
    faster = replace(still, a=np.full(6, -3.0), v=np.full(6, 0.06))
    assert margin(kinematics.consistency(faster, C, "n"), "n_consistent_speed") == pytest.approx(0.1 - 0.6)


def test_a_speed_may_end_within_a_step_only_by_braking_as_hard_as_that() -> None:
    """Braking 4 m/s^2 ends 0.3 m/s in 0.075 s of a step of 0.2 s: v does not follow from a, and need not."""

    def stopping(v0: float, v1: float, a0: float, a1: float = 0.0) -> Finding:
        way = v0**2 / (2 * abs(a0)) if a0 else 0.0
        pose = np.array([[0.0, 0, 0], [way, 0, 0]])
        m = Motion(np.array([0.0, 0.2]), pose, np.array([v0, v1]), np.array([a0, a1]), np.zeros(2))
        return kinematics.consistency(m, replace(C, step_position=1.0), "n")

    assert not stopping(0.6, 0.0, -4.0).violations
    assert not stopping(0.6, 0.05, -4.0).violations
    assert stopping(0.6, 0.06, -4.0).violations, "does not stand then"
    assert stopping(0.6, 0.0, 4.0).violations, "was not braking"
    assert stopping(0.09, 0.0, 0.0, -8.0).violations, "nor was this"
    # What the braking leaves at the end may be as much as the tolerance of v.
    assert not stopping(0.89, 0.0, -4.0).violations
    assert stopping(0.95, 0.0, -4.0).violations


def test_braking_to_rest_within_a_step_drives_no_step_backwards() -> None:
    """Between entries speed does not fall below zero: the position stays where it stops."""
    m = Motion(
        np.array([0.0, 0.5]), np.array([[0.0, 0, 0], [0.0, 0, 0]]), np.array([0.5, 0.0]), np.array([-5.0, 0.0]),
        np.zeros(2),
    )  # fmt: skip
    found = kinematics.consistency(m, replace(C, step_position=1e-9), "n")
    lacks = C.step_position - margin(found, "n_consistent_position")
    t = np.linspace(0, 0.5, 100001)
    driven = np.maximum(0.5 - 5 * t + 5 * t**2, 0.0)
    assert lacks == pytest.approx(C.step_position + float(((driven[1:] + driven[:-1]) / 2 * 5e-6).sum()), rel=0.1)


# -- actuators and grip ----------------------------------------------------------------------------


def steady(v: float = 10.0, a: float = 0.0, curvature: float = 0.0, count: int = 11, h: float = 0.1) -> Motion:
    full = lambda x: np.full(count, float(x))  # noqa: E731
    return Motion(h * np.arange(count), np.zeros((count, 3)), full(v), full(a), full(curvature))


def changed(m: Motion, name: str, value: float, i: int = 6) -> Motion:
    """One field set from entry i on."""
    values = getattr(m, name).copy()
    values[i:] = value
    return replace(m, **{name: values})


SLACK = C.envelope


@pytest.mark.parametrize(("rule", "m", "expected", "time"), [
    ("n_reverse", changed(steady(0.0), "v", -0.05), 0.02 - 0.05, 0.6),
    ("n_speed_max", changed(steady(), "v", 27.0), SLACK * 25.0 - 27.0, 0.6),
    ("n_acceleration", changed(steady(), "a", 3.4), SLACK * 3.0 - 3.4, 0.6),
    ("n_braking", changed(steady(), "a", -8.9), SLACK * 8.0 - 8.9, 0.6),
    ("n_jerk", changed(steady(), "a", 2.0), SLACK * 12.0 - 20.0, 0.6),
    ("n_jerk", changed(steady(), "a", -2.0), SLACK * 12.0 - 20.0, 0.6),
    ("n_curvature", changed(steady(1.0), "curvature", 0.22), SLACK * 0.2 - 0.22, 0.6),
    ("n_curvature", changed(steady(1.0), "curvature", -0.22), SLACK * 0.2 - 0.22, 0.6),
    ("n_curvature_rate", changed(steady(1.0), "curvature", 0.03), SLACK * 0.25 - 0.3, 0.6),
    ("n_curvature_rate", changed(steady(1.0), "curvature", -0.03), SLACK * 0.25 - 0.3, 0.6),
    ("n_lateral_jerk", changed(changed(steady(16.0), "v", 17.0), "curvature", 0.01), SLACK * 20.0 - 28.9, 0.6),
    ("n_lateral_jerk", changed(changed(steady(17.0), "v", 16.0), "curvature", 0.01), SLACK * 20.0 - 28.9, 0.6),
    ("n_lateral_jerk", changed(changed(changed(steady(5.0), "v", 17.0, 4), "v", 16.0), "curvature", 0.01),
     SLACK * 20.0 - 28.9, 0.6),
    ("n_lateral_acceleration", changed(steady(), "curvature", 0.06), SLACK * 5.0 - 6.0, 0.6),
    ("n_lateral_acceleration", changed(steady(), "curvature", -0.06), SLACK * 5.0 - 6.0, 0.6),
    ("n_grip", changed(changed(steady(), "curvature", 0.04), "a", -6.0), SLACK - np.hypot(0.75, 0.8), 0.6),
    ("n_grip", changed(changed(steady(), "curvature", -0.045), "a", 5.0), SLACK - np.hypot(0.625, 0.9), 0.6),
])  # fmt: skip
def test_each_limits_margin_by_hand(rule: str, m: Motion, expected: float, time: float) -> None:
    assert (V.speed_max, V.acceleration_max, V.braking_max, V.jerk_max) == (25.0, 3.0, 8.0, 12.0)
    assert (V.curvature_max, V.curvature_rate_max, V.lateral_acceleration_max) == (0.2, 0.25, 5.0)
    found = kinematics.envelope(m, V, C, "n")
    assert at(found, rule).margin == pytest.approx(expected, abs=1e-9)
    assert at(found, rule).time == pytest.approx(time)


def test_what_is_there_at_the_start_may_stay_but_not_get_worse() -> None:
    fast = steady(10.0, 0.0, 0.07)
    assert not kinematics.envelope(fast, V, C, "n").violations
    names = {v.rule for v in kinematics.envelope(changed(fast, "curvature", 0.0701), V, C, "n").violations}
    assert names == {"n_lateral_acceleration", "n_grip"}
    bent = steady(1.0, 0.0, 0.25)
    assert not kinematics.envelope(bent, V, C, "n").violations
    assert "n_curvature" in {
        v.rule for v in kinematics.envelope(changed(bent, "curvature", 0.2501), V, C, "n").violations
    }
    gas = replace(steady(5.0), a=np.linspace(4.0, 3.2, 11))
    assert not kinematics.envelope(gas, V, C, "n").violations
    again = gas.a.copy()
    again[5] = again[4] + 1e-3
    assert at(kinematics.envelope(replace(gas, a=again), V, C, "n"), "n_acceleration").time == pytest.approx(0.5)
    more = replace(gas, a=np.linspace(3.2, 4.0, 11))
    assert margin(kinematics.envelope(more, V, C, "n"), "n_acceleration") == pytest.approx(SLACK * 3.0 - 4.0)


def test_jerk_does_not_count_at_standstill_nor_where_the_speed_ends() -> None:
    grips = lambda v: changed(steady(v), "a", -3.0)  # noqa: E731
    assert "n_jerk" not in {v.rule for v in kinematics.envelope(grips(0.3), V, C, "n").violations}
    assert "n_jerk" in {v.rule for v in kinematics.envelope(grips(0.31), V, C, "n").violations}
    # The step in which a stop ends: v falls to 0, and a with it.
    stop = replace(steady(10.0, -4.0), v=np.maximum(2.4 - 0.4 * np.arange(11), 0.0))
    ended = replace(stop, a=np.where(np.arange(11) < 6, -4.0, 0.0))
    assert not kinematics.envelope(ended, V, C, "n").violations
    early = replace(stop, a=np.where(np.arange(11) < 4, -4.0, 0.0))
    assert at(kinematics.envelope(early, V, C, "n"), "n_jerk").margin == pytest.approx(SLACK * 12.0 - 40.0)
    starting = replace(steady(0.0), v=0.4 * np.arange(11), a=np.where(np.arange(11) < 1, 0.0, 3.0))
    assert "n_jerk" in {v.rule for v in kinematics.envelope(starting, V, C, "n").violations}


# -- the tail ----------------------------------------------------------------------------------


def test_the_tail_ends_at_rest_by_the_horizon_just_inside_and_outside() -> None:
    slow = replace(steady(10.0, h=0.5), v=np.concatenate([np.full(8, 5.0), np.zeros(3)]))
    assert not kinematics.ends_at_rest(slow, replace(C, tail_horizon=4.0)).violations
    late = at(kinematics.ends_at_rest(slow, replace(C, tail_horizon=3.7)), "tail_rest")
    assert (late.time, late.margin) == pytest.approx((4.0, -0.3))
    for v, ok in ((0.05, True), (0.06, False), (-0.06, False)):
        last = slow.v.copy()
        last[-1] = v
        found = kinematics.ends_at_rest(replace(slow, v=last), C)
        assert (not found.violations) is ok
        if not ok:
            assert (at(found, "tail_rest").time, at(found, "tail_rest").margin) == pytest.approx((5.0, 0.05 - abs(v)))


def test_trajectory_and_tail_share_the_beginning_just_inside_and_outside() -> None:
    one = Motion.of(drive(8.0, 2.0))
    for shift, ok in (((0.012, -0.0159), True), ((0.0121, -0.0161), False)):
        pose = one.pose.copy()
        pose[3:, :2] += shift
        found = kinematics.shared_start(one, replace(one, pose=pose), C)
        assert (not found.violations) is ok
        if not ok:
            worst = at(found, "tail_shared")
            assert (worst.time, worst.margin) == pytest.approx((0.3, 0.02 - np.hypot(*shift)))
    pose = one.pose.copy()
    pose[4:, 0] += 0.5
    assert not kinematics.shared_start(one, replace(one, pose=pose), C).violations, "0.4 s is another cycle's"
    for by, ok in ((0.099, True), (-0.099, True), (0.11, False), (-0.11, False)):
        v = one.v.copy()
        v[2] += by
        found = kinematics.shared_start(one, replace(one, v=v), replace(C, shared_time=0.2))
        speeds = [x for x in found.violations if "speed" in x.detail]
        assert (not speeds) is ok
        assert ok or (speeds[0].time, speeds[0].margin) == pytest.approx((0.2, 0.1 - abs(by)))


def test_the_worst_of_several_moments_is_reported() -> None:
    found = Finding()
    found.limit("r", np.array([0.0, 1.0, 2.0]), np.array([0.0, -2.0, -1.0]), "d")
    found.limit("s", np.array([0.0, 1.0]), np.array([0.0, 3.0]), "d")
    found.limit("t", np.zeros(0), np.zeros(0), "d")
    assert found.violations == [Violation("r", -1, 1.0, -2.0, "d")]
    other = Finding([], [Violation("q", 3, 0.0, 0.0, "")], 0.4)
    found.add(other)
    found.add(Finding(margin=0.7))
    assert (len(found.violations), found.records, found.margin) == (1, other.records, 0.4)


def test_the_entries_of_a_plan_are_doubles() -> None:
    single = drive(8.0).apply(lambda t: t.float())
    assert Motion.of(single).v.dtype == np.float64
    assert F64 == torch.float64

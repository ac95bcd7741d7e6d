"""The simulated vehicle never leaves its limits, moves exactly, and follows plans closely."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.simulation.simulation_config import TrackerConfig
from eval.simulation.tracker import PlannedMotion, Tracker, tracking_error
from eval.simulation.vehicle import Bicycle, VehicleState, advance, curvature_bound
from planner.limiter import Command, limit
from planner.scene import Trajectory, VehicleParameters

DT = 0.1
VEHICLE = VehicleParameters()

states = st.builds(
    lambda v, a, share: VehicleState(3.0, -2.0, 0.4, v, a if v > 0 else 0.0, share * curvature_bound(v, VEHICLE)),
    v=st.floats(0, 25),
    a=st.floats(-8, 3),
    share=st.floats(-1, 1),
)
commands = st.builds(Command, acceleration=st.floats(-30, 30), curvature_rate=st.floats(-3, 3))


@settings(max_examples=150, deadline=None)
@given(state=states, sequence=st.lists(commands, min_size=1, max_size=8), lag=st.sampled_from([0.0, 0.15]))
def test_no_command_leaves_the_limits(state, sequence, lag):
    bicycle = Bicycle(VEHICLE, lag)
    for command in sequence:
        after = bicycle.step(state, command, DT)
        assert 0.0 <= after.v <= VEHICLE.speed_max
        assert -VEHICLE.braking_max - 1e-9 <= after.a <= VEHICLE.acceleration_max + 1e-9
        assert abs(after.curvature) <= curvature_bound(after.v, VEHICLE) + 1e-9
        if 0.0 < after.v < VEHICLE.speed_max:
            assert abs(after.a - state.a) <= VEHICLE.jerk_max * DT + 1e-9
        grip = abs(state.curvature) - curvature_bound(after.v, VEHICLE)  # what the tyres cannot hold is lost at once
        assert abs(after.curvature - state.curvature) <= max(VEHICLE.curvature_rate_max * DT, grip) + 1e-9
        forward = (after.x - state.x) * math.cos(state.yaw) + (after.y - state.y) * math.sin(state.yaw)
        assert forward >= -1e-9 or abs(after.yaw - state.yaw) > math.pi / 4
        state = after


@settings(max_examples=100, deadline=None)
@given(state=states, jerk=st.floats(-10, 10), rate=st.floats(-0.2, 0.2), cut=st.floats(0.05, 0.95))
def test_motion_does_not_depend_on_how_time_is_cut(state, jerk, rate, cut):
    whole = advance(state, jerk, rate, 0.6)
    half = advance(state, jerk, rate, 0.6 * cut)
    parts = advance(half, jerk, rate, 0.6 * (1 - cut))
    if whole.v > 0 and parts.v > 0 and half.v > 0:
        assert np.allclose(dataclasses.astuple(parts)[:2], dataclasses.astuple(whole)[:2], atol=1e-8)
        assert np.allclose(dataclasses.astuple(parts)[2:], dataclasses.astuple(whole)[2:], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(state=states, jerk=st.floats(-8, 8), rate=st.floats(-0.2, 0.2))
def test_motion_solves_the_bicycle_equations(state, jerk, rate):
    steps = 400
    h = 0.4 / steps
    y = np.array([state.x, state.y, state.yaw])

    def slope(y: np.ndarray, t: float) -> np.ndarray:
        v, k = state.v + state.a * t + jerk * t * t / 2, state.curvature + rate * t
        return np.array([v * math.cos(y[2]), v * math.sin(y[2]), v * k])

    speeds = state.v + state.a * np.linspace(0, 0.4, 50) + jerk * np.linspace(0, 0.4, 50) ** 2 / 2
    if speeds.min() < 1e-3:
        return
    for i in range(steps):
        t = i * h
        k1 = slope(y, t)
        k2 = slope(y + h / 2 * k1, t + h / 2)
        k3 = slope(y + h / 2 * k2, t + h / 2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(y + h * k3, t + h))
    exact = advance(state, jerk, rate, 0.4)
    turned = exact.yaw - y[2]
    assert np.hypot(exact.x - y[0], exact.y - y[1]) < 1e-7
    assert abs(turned - 2 * math.pi * round(turned / (2 * math.pi))) < 1e-8


@settings(max_examples=100, deadline=None)
@given(state=states, change=st.floats(-1.19, 1.19), rate=st.floats(-0.24, 0.24))
def test_the_command_read_off_a_feasible_motion_reproduces_it(state, change, rate):
    wanted = advance(state, change / DT, rate, DT)
    fastest = state.v + DT * max(state.a, wanted.a, 0.0)  # also between the ends
    inside = -8 <= state.a + change <= 3 and 1e-3 < wanted.v and fastest < 25
    if not inside or abs(wanted.curvature) > curvature_bound(wanted.v, VEHICLE):
        return
    command = Command(wanted.a, (wanted.curvature - state.curvature) / DT)
    driven = Bicycle(VEHICLE).step(state, command, DT)
    assert np.allclose(dataclasses.astuple(driven), dataclasses.astuple(wanted), atol=1e-9)


def test_full_braking_ends_at_exactly_zero_and_stays_there():
    state = VehicleState(0.0, 0.0, 0.0, 10.0, 0.0, 0.02)
    bicycle = Bicycle(VEHICLE)
    places = []
    for _ in range(60):
        state = bicycle.step(state, Command(-VEHICLE.braking_max, 0.0), DT)
        places.append(state.x)
    # jerk ramp of 8/12 s to 8 m/s^2, then constant braking
    ramp = 8.0 / 12.0
    after_ramp = 10.0 - 12.0 * ramp**2 / 2
    expected = 10.0 * ramp - 12.0 * ramp**3 / 6 + after_ramp**2 / 16.0
    assert state.v == 0.0
    assert state.a == 0.0
    assert math.hypot(state.x, state.y) == pytest.approx(expected, abs=0.1)
    assert np.ptp(places[-30:]) == 0.0


def test_speed_limit_of_the_vehicle_is_reached_and_held():
    state = VehicleState(0.0, 0.0, 0.0, 24.0, 0.0, 0.0)
    for _ in range(30):
        state = Bicycle(VEHICLE).step(state, Command(3.0, 0.0), DT)
    assert state.v == VEHICLE.speed_max


def test_too_fast_for_the_bend_runs_wide():
    state = VehicleState(0.0, 0.0, 0.0, 5.0, 0.0, 0.2)
    for _ in range(30):
        state = Bicycle(VEHICLE).step(state, Command(3.0, 0.25), DT)
        assert state.v**2 * abs(state.curvature) <= VEHICLE.lateral_acceleration_max + 1e-9


@pytest.mark.parametrize("command", [Command(math.nan, 0.0), Command(0.0, math.inf)])
def test_commands_that_are_no_numbers_are_refused(command):
    with pytest.raises(ValueError, match="finite command"):
        Bicycle(VEHICLE).step(VehicleState(0, 0, 0, 5, 0, 0), command, DT)


# -- tracking ------------------------------------------------------------------------


def sample_plan(seed: int, steps: int = 60) -> PlannedMotion:
    """A random lively plan that the vehicle can drive: |a| <= 3 m/s^2, |jerk| <= 4, lateral <= 2.5 m/s^2."""
    rng = np.random.default_rng(seed)
    state = VehicleState(10.0, 5.0, rng.uniform(-3, 3), rng.uniform(0, 14), 0.0, 0.0)
    entries, bicycle = [state], Bicycle(VEHICLE)
    for i in range(steps):
        if i % 5 == 0:
            a, k = rng.uniform(-3, 2), rng.uniform(-1, 1) * min(0.15, 2.5 / max(state.v, 1) ** 2)
        jump = float(np.clip(a - state.a, -0.4, 0.4))
        rate = float(np.clip((k - state.curvature) / DT, -0.08, 0.08))
        state = bicycle.step(state, Command(state.a + jump, rate), DT)
        entries.append(state)
    table = np.array([dataclasses.astuple(entry) for entry in entries])
    table[:, 2] = np.unwrap(table[:, 2])
    return PlannedMotion(np.arange(steps + 1) * DT, table)


def follow(plan: PlannedMotion, start: VehicleState, steps: int, lag: float = 0.0) -> tuple[VehicleState, np.ndarray]:
    """Track a plan; the final state and the errors ``[steps, 3]`` after each step."""
    tracker, bicycle, state, errors = Tracker(VEHICLE, TrackerConfig(), lag), Bicycle(VEHICLE, lag), start, []
    for k in range(steps):
        command, _ = limit(tracker.track(state, plan, k * DT, DT).command, state, DT, VEHICLE)
        state = bicycle.step(state, command, DT)
        errors.append(tracking_error(state, plan.at((k + 1) * DT)))
    return state, np.array(errors)


@pytest.mark.parametrize("seed", range(20))
def test_feasible_plans_are_followed_closely(seed):
    plan = sample_plan(seed)
    _, errors = follow(plan, plan.at(0.0), 50)
    along, left, turned = np.abs(errors).max(0)
    assert along <= 0.10
    assert left <= 0.05
    assert turned <= 0.02


@pytest.mark.parametrize("seed", range(10))
def test_an_initial_error_dies_away_without_overshooting(seed):
    plan = sample_plan(seed)
    if plan.state[:, 3].min() < 2.0:
        return
    s = plan.at(0.0)
    start = dataclasses.replace(s, x=s.x - 0.2 * math.sin(s.yaw), y=s.y + 0.2 * math.cos(s.yaw), v=s.v + 0.3)
    _, errors = follow(plan, start, 55)
    assert np.abs(errors[-1]).max() < 0.05
    assert errors[:, 1].min() > -0.05


@pytest.mark.parametrize("seed", range(5))
def test_slow_actuators_are_compensated(seed):
    plan = sample_plan(seed)
    _, errors = follow(plan, plan.at(0.0), 10, lag=0.1)
    assert np.abs(errors[-1, 0]) <= 0.10
    assert np.abs(errors[-1, 1]) <= 0.10


def stop_plan(v: float, hold: float = 4.0) -> PlannedMotion:
    """Constant jerk to -2 m/s^2 and back to a soft stop, then standing; 0.1 s grid."""
    state = VehicleState(0.0, 0.0, 0.3, v, 0.0, 0.0)
    entries = [state]
    while state.v > 1e-9 and len(entries) < 200:
        # the softest braking that still ends at rest: v = a^2 / (2 j) on the last stretch
        jerk = 1.5
        a = max(-2.0, -math.sqrt(2 * jerk * state.v))
        step = float(np.clip(a - state.a, -jerk * DT, jerk * DT))
        state = advance(state, step / DT, 0.0, DT)
        entries.append(state)
    entries += [dataclasses.replace(state, v=0.0, a=0.0)] * int(hold / DT)
    return PlannedMotion(np.arange(len(entries)) * DT, np.array([dataclasses.astuple(e) for e in entries]))


@pytest.mark.parametrize("lag", [0.0, 0.15])
def test_a_planned_stop_ends_at_zero_speed_without_creeping_or_swinging(lag):
    plan = stop_plan(6.0)
    tracker, bicycle = Tracker(VEHICLE, TrackerConfig(), lag), Bicycle(VEHICLE, lag)
    state, speeds = plan.at(0.0), []
    for k in range(len(plan.time) - 1):
        state = bicycle.step(state, tracker.track(state, plan, k * DT, DT).command, DT)
        speeds.append(state.v)
    stopped = speeds.index(0.0)
    assert max(speeds[stopped:]) == 0.0
    assert (np.diff(speeds[:stopped]) < 0.02).all()
    assert math.hypot(state.x - plan.state[-1, 0], state.y - plan.state[-1, 1]) < 0.15


def test_standing_still_ignores_a_planner_that_trembles():
    state = VehicleState(0.0, 0.0, 0.0, 0.0, 0.0, 0.01)
    time = np.arange(41) * DT
    for k in range(50):
        tremble = 0.004 * (1 + math.sin(k))
        table = np.zeros((41, 6))
        table[:, 3], table[:, 0] = tremble, tremble * time
        table[:, 5] = 0.01
        plan = PlannedMotion(time, table)
        state = Bicycle(VEHICLE).step(state, Tracker(VEHICLE).track(state, plan, 0.0, DT).command, DT)
    assert state.v == 0.0
    assert state.x == 0.0


def test_drives_off_from_rest_when_the_plan_does():
    entry, entries = VehicleState(0.0, 0.0, 0.0, 0.0, 0.0, 0.0), []
    for k in range(41):
        entries.append(entry)
        entry = advance(entry, 1.0 if k < 15 else 0.0, 0.0, DT)
    plan = PlannedMotion(np.arange(41) * DT, np.array([dataclasses.astuple(e) for e in entries]))
    state, errors = follow(plan, plan.at(0.0), 40)
    assert state.v == pytest.approx(plan.state[-1, 3], abs=0.02)
    assert np.abs(errors[:, 0]).max() < 0.1


def test_what_the_vehicle_cannot_do_is_named():
    plan = PlannedMotion(np.array([0.0, 1.0]), np.array([[0, 0, 0, 5, 0, 0.0], [20, 0, 0, 20, 15, 0.5]]))
    tracked = Tracker(VEHICLE).track(VehicleState(0, 0, 0, 5, 0, 0), plan, 0.0, DT)
    assert "jerk" in tracked.saturated
    assert "curvature_rate" in tracked.saturated
    calm = sample_plan(1)
    assert Tracker(VEHICLE).track(calm.at(0.0), calm, 0.0, DT).saturated == ()


# -- plans as data -------------------------------------------------------------------


def as_trajectory(plan: PlannedMotion, stride: int = 1) -> Trajectory:
    columns = [torch.from_numpy(np.ascontiguousarray(plan.state[::stride, i])) for i in range(6)]
    return Trajectory(torch.from_numpy(plan.time[::stride].copy()), *columns)


def test_coarse_plans_mean_the_same_motion_as_fine_ones():
    start, entries = VehicleState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0), []
    for k in range(41):
        entries.append(start)
        block = k // 10
        start = advance(start, (-1.0, 0.5, 1.0, -0.5)[min(block, 3)], (0.02, -0.03, 0.01, 0.0)[min(block, 3)], DT)
    fine = PlannedMotion(np.arange(41) * DT, np.array([dataclasses.astuple(e) for e in entries]))
    coarse = PlannedMotion.from_trajectory(as_trajectory(fine, 10), np.zeros(3))
    for t in (0.05, 0.37, 1.0, 2.21, 3.99):
        assert np.allclose(dataclasses.astuple(coarse.at(t)), dataclasses.astuple(fine.at(t)), atol=1e-8)


def test_plans_are_placed_in_the_global_frame():
    plan = PlannedMotion(np.array([0.0, 1.0]), np.array([[0, 0, 0, 5, 0, 0.0], [5, 0, 0, 5, 0, 0.0]]))
    placed = PlannedMotion.from_trajectory(as_trajectory(plan), np.array([100.0, 50.0, math.pi / 2]))
    end = placed.at(1.0)
    assert (end.x, end.y, end.yaw) == pytest.approx((100.0, 55.0, math.pi / 2))
    assert placed.at(1.5).y == pytest.approx(57.5)


@pytest.mark.parametrize("broken", ["nan", "late", "single"])
def test_broken_plans_are_refused(broken):
    trajectory = as_trajectory(sample_plan(0))
    if broken == "nan":
        trajectory = trajectory.replace(v=trajectory.v * math.nan)
    elif broken == "late":
        trajectory = trajectory.replace(time=trajectory.time + 0.1)
    else:
        trajectory = trajectory.replace(time=trajectory.time[None])
    with pytest.raises(ValueError, match="planned trajectory"):
        PlannedMotion.from_trajectory(trajectory, np.zeros(3))

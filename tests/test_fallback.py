"""Minimal-risk motions: always an answer, drivable by the checker's own rules, at rest at the end."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from checker_scenes import drive
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import fallback
from planner.checker import CheckerConfig
from planner.checker.motion import Motion
from planner.checker.rules import kinematics
from planner.scene import EgoState, Trajectory, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()


def judge(stop: Trajectory, ego: EgoState) -> list:
    """Violations of the checker's kinematic rules; it shares no code with the fallback."""
    motion = Motion.of(stop.validate())
    found = kinematics.well_formed(motion, "tail")
    state = np.array([float(f) for f in (ego.x, ego.y, ego.yaw, ego.v, ego.a, ego.curvature)])
    found.add(kinematics.start_state(motion, state, C, False, "tail"))
    found.add(kinematics.consistency(motion, C, "tail"))
    found.add(kinematics.envelope(motion, V, C, "tail"))
    found.add(kinematics.ends_at_rest(motion, C))
    return found.violations


def stopping_distance(v: float, a: float, braking: float, jerk: float) -> float:
    """Independent: forward simulation with the best jerk-limited release, searched by bisection on when to release."""

    def distance(release: float) -> tuple[float, float]:
        dt, s, t, speed, acc = 1e-4, 0.0, 0.0, v, a
        while speed > 0 and t < 20:
            acc = max(acc - jerk * dt, -braking) if t < release else min(acc + jerk * dt, 0.0)
            speed += acc * dt
            s += speed * dt
            t += dt
            if t >= release and acc >= 0:
                return s, speed
        return s, 0.0

    low, high = 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if distance(middle)[1] > 1e-3 else (low, middle)
    return distance(high)[0]


@pytest.mark.parametrize(("v", "a"), [(15.0, 0.0), (8.0, 2.0), (3.0, -2.0), (1.0, 1.0), (20.0, -8.0)])
def test_maximum_braking_is_as_short_as_jerk_allows(v: float, a: float) -> None:
    stop = fallback.maximum_braking(EgoState.at_origin(v, a))
    best = stopping_distance(v, a, V.braking_max, V.jerk_max)
    assert best - 0.02 <= float(stop.x[-1]) <= 1.05 * best + 0.05


@settings(max_examples=200, deadline=None)
@given(v=st.floats(0, 25), a=st.floats(-8, 3), lateral=st.floats(-4.7, 4.7))
def test_every_state_within_the_limits_gets_a_drivable_stop(v: float, a: float, lateral: float) -> None:
    room = math.sqrt(max(0.0, 1 - (lateral / 5) ** 2))
    a = max(a, -8 * room)
    curvature = float(np.clip(lateral / max(v, 0.5) ** 2, -0.19, 0.19))
    ego = EgoState.at_origin(v, a, curvature)
    stop = fallback.maximum_braking(ego)
    assert not judge(stop, ego)
    assert float(stop.v[-1]) == 0.0
    assert float(stop.a[-1]) == 0.0


@settings(max_examples=60, deadline=None)
@given(v=st.floats(2, 14), radius=st.floats(15, 200), side=st.floats(-0.4, 0.4), turn=st.floats(-0.05, 0.05))
def test_braking_in_path_stays_on_the_way(v: float, radius: float, side: float, turn: float) -> None:
    curvature = 1 / max(radius, v * v / 3.5)
    path = drive(v, 5.0, curvature=curvature)
    ego = EgoState.at_origin(v, 0.0, curvature)
    ego = ego.replace(y=torch.tensor(side, dtype=torch.float64), yaw=torch.tensor(turn, dtype=torch.float64))
    stop = fallback.brake_in_path(ego, path, braking=4.0)
    assert not judge(stop, ego)
    from_center = np.hypot(stop.x.numpy(), stop.y.numpy() - 1 / curvature) - 1 / curvature
    assert np.abs(from_center).max() <= abs(side) + 0.5 * abs(turn) * v + 0.05, "never farther off than it starts"


def test_an_unsteady_start_is_drivable_too() -> None:
    """A curvature that the grip does not allow while braking is unwound, not kept."""
    for v, curvature in ((15.0, 0.03), (10.0, 0.06), (5.0, 0.2)):
        ego = EgoState.at_origin(v, 0.0, curvature)
        names = {x.rule for x in judge(fallback.maximum_braking(ego), ego)}
        assert not names


def test_standing_stays_standing() -> None:
    stop = fallback.maximum_braking(EgoState.at_origin(0.0, 0.0, 0.1))
    assert float(stop.x.abs().max()) == 0.0
    assert float(stop.time[-1]) >= 0.5


def test_reverse_motion_is_stopped_at_once() -> None:
    assert float(fallback.maximum_braking(EgoState.at_origin(-0.5)).v.abs().max()) == 0.0


def test_too_late_to_release_the_brake_ends_at_rest_anyway() -> None:
    ego = EgoState.at_origin(1.0, -7.0)
    stop = fallback.maximum_braking(ego)
    assert not judge(stop, ego)


def test_a_useless_path_is_ignored() -> None:
    ego = EgoState.at_origin(5.0)
    standing = fallback.maximum_braking(EgoState.at_origin(0.0))
    broken = drive(5.0).replace(x=torch.full_like(drive(5.0).x, torch.nan))
    for path in (standing, broken):
        assert float(fallback.maximum_braking(ego, V, path).y.abs().max()) == 0.0


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="braking > 0"):
        fallback.brake_in_path(EgoState.at_origin(5.0), drive(5.0), braking=0.0)
    with pytest.raises(ValueError, match="finite ego state"):
        fallback.maximum_braking(EgoState.at_origin(math.nan))


def test_integration_agrees_with_a_fine_one(rng: np.random.Generator) -> None:
    for _ in range(50):
        v, a, j = rng.uniform(2, 15), rng.uniform(-3, 3), rng.uniform(-10, 10)
        k, r = rng.uniform(-0.1, 0.1), rng.uniform(-0.2, 0.2)
        x = y = yaw = 0.0
        n, h = 4000, 0.1
        for i in range(n):
            t = (i + 0.5) * h / n
            speed = v + a * t + 0.5 * j * t * t
            middle = yaw + 0.5 * h / n * speed * (k + r * t)
            x, y = x + h / n * speed * math.cos(middle), y + h / n * speed * math.sin(middle)
            yaw += h / n * speed * (k + r * t)
        np.testing.assert_allclose(fallback.advance(0, 0, 0, v, a, j, k, r, h), (x, y, yaw), atol=1e-8)


def test_it_is_quick() -> None:
    ego = EgoState.at_origin(14.0, 1.0, 0.01)
    path = drive(14.0, 6.0, curvature=0.01)
    spent = []
    for _ in range(20):
        begin = time.process_time()
        fallback.maximum_braking(ego, V, path)
        spent.append(time.process_time() - begin)
    assert sorted(spent)[10] < 0.02

"""Minimal-risk motions: always an answer, drivable by the checker's own rules, at rest at the end."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from checker_scenes import drive
from hypothesis import example, given, settings
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


@pytest.mark.parametrize(("v", "a"), [(15.0, 0.0), (8.0, 2.0), (3.9, -7.76), (3.0, -2.0), (1.0, 1.0), (0.2, 1.0)])
def test_held_braking_stands_where_building_up_and_then_keeping_it_does(v: float, a: float) -> None:
    """Against the formula: constant jerk down to the limit, then constant braking until rest; no release."""
    jerk, braking = 0.99 * V.jerk_max, min(V.braking_max, 0.97 * V.braking_max)
    t = (braking + a) / jerk
    reached = v + a * t - jerk * t**2 / 2
    if reached > 0:
        way = v * t + a * t**2 / 2 - jerk * t**3 / 6 + reached**2 / (2 * braking)
        t += reached / braking
    else:  # stands while the brake still builds up
        t = (a + math.sqrt(a * a + 2 * jerk * v)) / jerk
        way = v * t + a * t**2 / 2 - jerk * t**3 / 6
    ego = EgoState.at_origin(v, a)
    stop = fallback.maximum_braking(ego, held=True)
    assert not judge(stop, ego)
    assert float(stop.x[-1]) == pytest.approx(way, abs=5e-3)
    assert float(stop.time[(stop.v <= 1e-6).nonzero()[0, 0]]) == pytest.approx(t, abs=2e-2)
    assert float(stop.x[-1]) < float(fallback.maximum_braking(ego).x[-1])


@settings(max_examples=100, deadline=None)
@given(v=st.floats(0, 25), a=st.floats(-8, 3), lateral=st.floats(-4.7, 4.7))
def test_a_held_stop_is_drivable_and_never_the_longer_one(v: float, a: float, lateral: float) -> None:
    a = max(a, -8 * math.sqrt(max(0.0, 1 - (lateral / 5) ** 2)))
    ego = EgoState.at_origin(v, a, float(np.clip(lateral / max(v, 0.5) ** 2, -0.19, 0.19)))
    stop, smooth = fallback.maximum_braking(ego, held=True), fallback.maximum_braking(ego)
    assert not judge(stop, ego)
    assert float(stop.v[-1]) == float(stop.a[-1]) == 0.0
    assert length(stop) <= length(smooth) + 0.01


@pytest.mark.parametrize(("v", "a"), [(15.0, 0.0), (8.0, 2.0), (3.0, -2.0), (1.0, 1.0), (20.0, -8.0)])
def test_maximum_braking_is_as_short_as_jerk_allows(v: float, a: float) -> None:
    stop = fallback.maximum_braking(EgoState.at_origin(v, a))
    best = stopping_distance(v, a, V.braking_max, V.jerk_max)
    assert best - 0.02 <= float(stop.x[-1]) <= 1.05 * best + 0.05


@settings(max_examples=200, deadline=None)
@given(v=st.floats(0, 25), a=st.floats(-8, 3), lateral=st.floats(-4.7, 4.7))
@example(v=24.0, a=0.0, lateral=4.6875)
def test_every_state_within_the_limits_gets_a_drivable_stop(v: float, a: float, lateral: float) -> None:
    room = math.sqrt(max(0.0, 1 - (lateral / 5) ** 2))
    a = max(a, -8 * room)
    curvature = float(np.clip(lateral / max(v, 0.5) ** 2, -0.19, 0.19))
    ego = EgoState.at_origin(v, a, curvature)
    stop = fallback.maximum_braking(ego)
    assert not judge(stop, ego)
    assert float(stop.v[-1]) == 0.0
    assert float(stop.a[-1]) == 0.0


def length(stop: Trajectory) -> float:
    """Of the way driven (m)."""
    return float(((stop.v[1:] + stop.v[:-1]) / 2 * torch.diff(stop.time)).sum())


def shortest_in_a_bend(v: float, a: float, curvature: float) -> float:
    """Independent: fine forward simulation of the hardest braking in the ellipse, for 1 401 moments of releasing it."""
    release, step = np.linspace(0.0, 14.0, 1401), 1e-3
    speed, acc, way = np.full_like(release, v), np.full_like(release, a), np.zeros_like(release)
    over, good = np.zeros(len(release), bool), np.zeros(len(release), bool)
    for t in np.arange(0.0, 15.0, step):
        limit = V.braking_max * np.sqrt(np.maximum(1 - (speed**2 * curvature / V.lateral_acceleration_max) ** 2, 0))
        harder = np.maximum(acc - V.jerk_max * step, np.minimum(-limit, acc + V.jerk_max * step))
        acc = np.where(over, acc, np.where(t < release, harder, np.minimum(acc + V.jerk_max * step, 0.0)))
        speed = np.where(over, speed, np.maximum(speed + acc * step, 0.0))
        way += np.where(over, 0.0, speed * step)
        released = (t >= release) & (acc >= 0)
        good |= released & ~over & (speed < 0.1)
        over |= released | (speed <= 0)
        if over.all():
            break
    return float(way[good].min())


@pytest.mark.parametrize(
    ("v", "lateral", "a"),
    [(24.0, 4.6875, 0.0), (25.0, 4.7, 0.0), (15.0, -4.5, 1.0), (10.0, 4.5, -2.0), (20.0, 3.0, 0.0), (12.0, 2.0, 2.0)],
)
def test_braking_grows_as_the_bend_gives_grip_back(v: float, lateral: float, a: float) -> None:
    """Within 7 % of the best that the whole ellipse and the whole jerk allow; the reserves are 3 % and 1 %."""
    stop = fallback.maximum_braking(EgoState.at_origin(v, a, lateral / v**2))
    best = shortest_in_a_bend(v, a, lateral / v**2)
    assert best - 0.02 <= length(stop) <= 1.07 * best


def tightening(first: float, last: float, begin: float, over: float) -> Trajectory:
    """A way of 90 m whose curvature (1/m) changes from first to last over `over` metres from `begin` on."""
    s = np.arange(0.0, 90.0, 0.25)
    k = first + (last - first) * np.clip((s - begin) / over, 0, 1)
    yaw = np.concatenate([[0], np.cumsum((k[1:] + k[:-1]) / 2 * 0.25)])
    middle = (yaw[1:] + yaw[:-1]) / 2
    x, y = (np.concatenate([[0], np.cumsum(f(middle) * 0.25)]) for f in (np.cos, np.sin))
    return Trajectory(*(torch.from_numpy(c) for c in (s / 10, x, y, yaw, np.full_like(s, 10.0), 0 * s, k)))


@settings(max_examples=60, deadline=None)
@given(
    v=st.floats(4, 22), first=st.floats(-0.9, 0.9), last=st.floats(-1.25, 1.25),
    begin=st.floats(0, 30), over=st.floats(16, 30),
)  # fmt: skip
@example(v=19.5, first=0.0, last=-1.17, begin=12.0, over=16.0)
def test_braking_in_a_tightening_bend_is_short_and_stays_on_it(
    v: float, first: float, last: float, begin: float, over: float
) -> None:
    """first, last: lateral acceleration at the present speed, as a share of the grip; more than 1 needs braking first.

    Not faster than steering can follow. The bound is the ellipse alone, without any limit on jerk, after half the time
    that braking takes to build up.
    """
    lateral = 0.97 * V.lateral_acceleration_max
    bends = [float(np.clip(share * lateral / v**2, -0.18, 0.18)) for share in (first, last)]
    path, ego = tightening(*bends, begin, over), EgoState.at_origin(v, 0.0, bends[0])
    stop = fallback.maximum_braking(ego, V, path)
    assert not judge(stop, ego)
    bound, speed, step, possible = 0.0, v, 0.02, True
    while speed > 0.05:
        bend = bends[0] + (bends[1] - bends[0]) * min(max((bound - begin) / over, 0), 1)
        share = speed**2 * abs(bend) / lateral
        possible &= share < 0.9
        left = math.sqrt(max(1 - share**2, 0))
        speed = math.sqrt(max(speed**2 - 2 * max(0.97 * V.braking_max * left, 0.05) * step, 0))
        bound += step
    bound += v * V.braking_max / V.jerk_max / 2
    assert length(stop) <= 1.55 * bound
    way = torch.stack([path.x, path.y], -1)
    off = torch.cdist(torch.stack([stop.x, stop.y], -1), way).min(1).values.max()
    # A bend that even the hardest braking meets too fast is left; the way's points are 0.25 m apart.
    assert not possible or float(off) <= 0.6


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


@pytest.mark.parametrize("aside", [0.6, -0.6])
@pytest.mark.parametrize("v", [3.0, 8.0, 15.0, 24.0])
def test_bearing_away_is_drivable_and_goes_no_farther_than_asked(v: float, aside: float) -> None:
    ego = EgoState.at_origin(v)
    stop = fallback.maximum_braking(ego, V, drive(v, 5.0), aside)
    assert not judge(stop, ego)
    reached = float(stop.y[stop.y.abs().argmax()]) / aside
    assert (0.45 if v >= 8 else 0.05) < reached < 1.05, "braking takes grip, and a short way ends early"
    straight = fallback.maximum_braking(ego, V, drive(v, 5.0))
    assert length(stop) <= length(straight) + 0.05


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

"""Monitors: each rule just inside and just outside, how soon it finds, how often it cries wolf."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from planner_scenes import make_scene
from scipy import stats

from planner.monitors import (
    ContentMonitor,
    CoverageMonitor,
    DeviationMonitor,
    DisagreementMonitor,
    GripMonitor,
    LocalisationMonitor,
    MonitorLevel,
    Monitors,
    MonitorsConfig,
    RawChannelMonitor,
)
from planner.monitors.coverage import CoverageConfig
from planner.monitors.forecast_scores import ForecastScores
from planner.monitors.grip import GripConfig
from planner.scene import AgentFutures, AgentTracks, RawObstacles, RawStatus, Trajectory, VectorScene, frames
from planner.supervision.supervisor_state import Level

OK, DEGRADED, MINIMAL_RISK = MonitorLevel.OK, MonitorLevel.DEGRADED, MonitorLevel.MINIMAL_RISK


def test_the_supervisor_knows_every_level() -> None:
    assert [Level.of(level).name for level in MonitorLevel] == [str(level) for level in MonitorLevel]


# -- coverage -----------------------------------------------------------------------------------------------


def until_found(miss: float, rng: np.random.Generator, most: int, before: int = 0) -> int:
    """Samples until a shortfall is said, after `before` sound ones; `most` if it is not."""
    monitor = CoverageMonitor()
    if monitor.update(np.where(rng.random(before) < 0.02, 1.5, 0.5)).level is not OK:
        return most  # a false alarm is no finding
    for n, missed in enumerate(rng.random(most) < miss, 1):
        if monitor.update(np.array([1.5 if missed else 0.5])).level is not OK:
            return n
    return most


@pytest.mark.parametrize("before", [0, 300])
def test_a_shortfall_of_15_points_is_found_within_100_samples(before: int) -> None:
    """98 % promised, 83 % kept. The lower limit of the 95 % interval of the share found in time is above 0.9."""
    rng = np.random.default_rng(1)
    found = sum(until_found(0.17, rng, 101, before) <= 100 for _ in range(200))
    assert stats.binomtest(found, 200).proportion_ci(0.95, "wilson").low > 0.9


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Mean time to a false alarm at exactly the nominal rate: at least `patience` samples, so that of 100 runs of 500
    samples fewer than 1 - exp(-500/2000) = 22 % may end in one (upper limit of the 95 % interval)."""
    rng = np.random.default_rng(2)
    alarms = sum(until_found(0.02, rng, 501) <= 500 for _ in range(100))
    assert stats.binomtest(alarms, 100).proportion_ci(0.95, "wilson").high < 0.25


def test_sets_are_widened_to_what_would_have_held_and_released_when_it_holds_again() -> None:
    monitor, rng = CoverageMonitor(), np.random.default_rng(3)
    verdict = monitor.update(rng.uniform(0, 1.5, 400))
    assert verdict.level is DEGRADED
    assert monitor.widening == pytest.approx(0.98 * 1.5, abs=0.05)
    assert "widened" in verdict.reason
    held = rng.uniform(0, 0.9, 200)
    assert monitor.update(held[:150]).level is DEGRADED
    assert monitor.update(held[150:]).level is OK
    assert monitor.widening == 1.0


@pytest.mark.parametrize(("worst", "level"), [(2.9, DEGRADED), (3.1, MINIMAL_RISK)])
def test_a_widening_beyond_belief_stops_the_vehicle(worst: float, level: MonitorLevel) -> None:
    monitor = CoverageMonitor()
    verdict = monitor.update(np.full(20, worst))
    assert verdict.level is level
    assert monitor.widening <= 3.0


def test_a_score_on_the_rim_holds_and_nan_is_a_miss() -> None:
    assert CoverageMonitor().update(np.full(3000, 1.0)).level is OK
    assert CoverageMonitor().update(np.full(30, np.nan)).level is MINIMAL_RISK
    assert CoverageMonitor(CoverageConfig()).update(np.zeros(0)).level is OK


def moving_scene(seconds: float, x: float, ego_x: float = 0.0, forecast_v: float = 5.0) -> VectorScene:
    """One car at global x, forecast straight on at a speed (m/s); ego at global ego_x."""
    scene = make_scene(v=8.0).double()
    f = lambda *rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    time = torch.arange(1, 11, dtype=torch.float64) * 0.2
    mean = torch.stack([x - ego_x + forecast_v * time, torch.full_like(time, 3.5)], -1)[None, None]
    one = torch.ones(1, dtype=torch.bool)
    agents = AgentTracks(
        f([x - ego_x, 3.5, 0.0, 4.5, 1.8]), f([forecast_v, 0.0]), 0.01 * torch.eye(2).double()[None],
        torch.zeros(1, dtype=torch.int64), torch.ones(1).double(), torch.tensor([7]), one,
    )  # fmt: skip
    futures = AgentFutures(
        mean, torch.zeros(1, 1, 10).double(), (0.15**2 * torch.eye(2).double()).expand(1, 1, 10, 2, 2),
        torch.ones(1, 1).double(), time, torch.ones(1, 1, 10, dtype=torch.bool),
    )  # fmt: skip
    ego = scene.ego.replace(time_us=torch.tensor(round(seconds * 1e6)))
    pose = torch.tensor([ego_x, 0.0, 0.0], dtype=torch.float64)
    return scene.replace(ego=ego, agents=agents, futures=futures, global_from_ego=pose).validate()


def test_forecasts_are_judged_a_second_later_where_they_were_made_for() -> None:
    scores = ForecastScores()
    got = [scores.update(moving_scene(0.1 * k, 20 + 0.5 * k, 0.8 * k)) for k in range(21)]
    assert [k for k, s in enumerate(got) if len(s)] == [10, 20]
    assert got[10][0] == pytest.approx(0.0, abs=1e-6)
    scores = ForecastScores()
    got = [scores.update(moving_scene(0.1 * k, 20 + 0.5 * k + (1.0 if k == 10 else 0.0))) for k in range(11)]
    assert got[10][0] == pytest.approx(1.0 / math.hypot(0.15, 0.25) / 2.8, rel=1e-6)


# -- liveness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silent_ms", "level"), [(150, OK), (151, DEGRADED), (250, DEGRADED), (251, MINIMAL_RISK)])
def test_frozen_content_just_inside_and_just_outside(silent_ms: int, level: MonitorLevel) -> None:
    monitor = ContentMonitor("scene")
    monitor.update(b"a", 0, 0)
    now = silent_ms * 1000
    assert monitor.update(b"a", now, now).level is level
    assert monitor.update(b"b", now + 1000, now + 1000).level is OK


def test_at_10_hz_a_freeze_is_found_after_200_ms_and_ends_the_drive_after_300() -> None:
    monitor = ContentMonitor("scene")
    levels = [monitor.update(b"same", k * 100_000, k * 100_000).level for k in range(7)]
    assert levels == [OK, OK, DEGRADED, MINIMAL_RISK, MINIMAL_RISK, MINIMAL_RISK, MINIMAL_RISK]


@pytest.mark.parametrize(("moved", "level"), [(0.0, OK), (0.02, OK), (0.06, DEGRADED)])
def test_without_noise_content_may_stay_the_same_while_ego_stands(moved: float, level: MonitorLevel) -> None:
    monitor = ContentMonitor("scene")
    for k in range(3):
        verdict = monitor.update(b"same", k * 100_000, k * 100_000, moved)
    assert verdict.level is level


def test_silence_old_stamps_and_messages_out_of_order_are_no_news() -> None:
    for content, stamp in ((None, 0), (b"x", 0), (b"y", -50_000)):
        monitor = ContentMonitor("scene")
        monitor.update(b"x", 0, 0)
        verdict = monitor.update(content, stamp, 200_000)
        assert verdict.level is DEGRADED
        assert "0.2" in verdict.reason


def test_a_stuck_detector_is_found_although_the_map_moves_on() -> None:
    """The same object in ego's frame while the map passes by; the rounding of a transform there and back is no news."""
    monitors, levels = Monitors(), []
    for k in range(6):
        scene = moving_scene(0.1 * k, 20.0 + 1e-9 * k)
        xy = scene.map.xy.clone()
        xy[..., 0] -= 0.8 * k
        said = monitors.update(scene.replace(map=scene.map.replace(xy=xy)), None, now_us=k * 100_000, with_raw=False)
        levels.append({v.name: v.level for v in said})
    assert {level["scene"] for level in levels} == {OK}
    assert [level["objects"] for level in levels] == [OK, OK, DEGRADED, MINIMAL_RISK, MINIMAL_RISK, MINIMAL_RISK]


def test_an_empty_road_is_no_stuck_detector() -> None:
    monitors = Monitors()
    for k in range(6):
        scene = moving_scene(0.1 * k, 20.0, 0.8 * k)
        nobody = scene.agents.replace(valid=torch.zeros_like(scene.agents.valid))
        futures = scene.futures.replace(valid=torch.zeros_like(scene.futures.valid))
        said = monitors.update(scene.replace(agents=nobody, futures=futures), None, now_us=k * 100_000, with_raw=False)
        assert {v.name: v.level for v in said}["objects"] is OK


# -- grip ---------------------------------------------------------------------------------------------------


def asked(acceleration: float, curvature: float = 0.0, v: float = 10.0) -> Trajectory:
    """A plan that is at `acceleration` and `curvature` 0.1 s from now."""
    f = lambda *values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    zero = f(0, 0, 0)
    return Trajectory(f(0, 0.1, 1.0), zero, zero, zero, f(v, v, v), f(0, acceleration, 0), f(0, curvature, 0))


@pytest.mark.parametrize(("came", "found"), [(-5.0 + 0.59, False), (-5.0 + 0.61, True)])
def test_braking_that_does_not_come_bounds_the_grip_just_inside_and_outside(came: float, found: bool) -> None:
    monitor = GripMonitor()
    verdicts = [monitor.update(asked(-5.0), 10.0, came, 0.0, 0.1, k * 100_000) for k in range(5)]
    assert [v.level for v in verdicts[:3]] == [OK] * 3, "the actuators' lag"
    assert (verdicts[3].level is DEGRADED) is found
    assert monitor.share == (pytest.approx(-came / 8.0) if found else 1.0)


def test_turning_that_does_not_come_bounds_the_grip() -> None:
    monitor = GripMonitor()
    for k in range(4):
        verdict = monitor.update(asked(0.0, 0.04), 10.0, 0.0, 0.015, 0.1, k * 100_000)
    assert monitor.share == pytest.approx(0.3)
    assert "0.30 of the grip" in verdict.reason


def test_a_share_of_the_grip_rises_with_what_is_seen_and_is_forgotten_in_the_end() -> None:
    monitor = GripMonitor()
    for k in range(4):
        monitor.update(asked(-6.0), 10.0, -2.4, 0.0, 0.1, k * 100_000)
    assert monitor.share == pytest.approx(0.3)
    monitor.update(asked(-4.0), 8.0, -4.0, 0.0, 0.1, 500_000)
    assert monitor.share == pytest.approx(0.5)
    assert monitor.update(asked(0.0), 8.0, 0.0, 0.0, 0.1, 60_000_000).level is DEGRADED
    assert monitor.update(asked(0.0), 8.0, 0.0, 0.0, 0.1, 60_400_000).level is OK


def test_a_grip_that_is_known_from_elsewhere_is_believed_from_the_first_cycle_on() -> None:
    config = GripConfig(prior=0.4)
    monitor, told = GripMonitor(config), Monitors(MonitorsConfig(grip=config))
    assert monitor.share == told.grip == 0.4
    assert monitor.update(asked(-1.0), 10.0, -1.0, 0.0, 0.1, 0).level is DEGRADED
    monitor.update(asked(-4.0), 10.0, -4.0, 0.0, 0.1, 100_000)
    assert monitor.share == pytest.approx(0.5), "more is seen"
    for k in range(2, 6):
        monitor.update(asked(-4.0), 10.0, -1.6, 0.0, 0.1, k * 100_000)
    assert monitor.share == pytest.approx(0.2), "less is seen"
    monitor.update(asked(0.0), 10.0, 0.0, 0.0, 0.1, 61_000_000)
    assert monitor.share == 0.4, "what was seen is long ago"
    for wrong in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match=r"GripConfig\.prior"):
            GripConfig(prior=wrong)


def test_a_lagging_brake_a_bump_and_walking_pace_are_no_ice() -> None:
    lag = GripMonitor()
    planned = [min(1.2 * k, 7.8) for k in range(20)]
    for k, wanted in enumerate(planned):
        came = planned[max(k - 2, 0)]
        assert lag.update(asked(-wanted), 15.0 - k * 0.5, -came, 0.0, 0.1, k * 100_000).level is OK
    bump, slow = GripMonitor(), GripMonitor()
    for k in range(10):
        wanted = 0.0 if k % 3 == 0 else 5.0
        assert bump.update(asked(-wanted), 10.0, 0.0, 0.0, 0.1, k * 100_000).level is OK
        assert slow.update(asked(-5.0), 1.4, 0.0, 0.0, 0.1, k * 100_000).level is OK


Boxes = tuple[tuple[float, float, float, float], ...]


def raw(
    status: RawStatus = RawStatus.OK, boxes: Boxes = (), sight: float = 18.0, seen: int = 5, at: int = 0
) -> RawObstacles:
    """boxes: (x, y, length, width)."""
    rows = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    n, ok = len(rows), status is RawStatus.OK
    return RawObstacles(
        rows[:, :2], torch.zeros(n).double(), rows[:, 2], rows[:, 3], torch.zeros(n, 2).double(),
        torch.zeros(n, dtype=torch.bool), torch.full((n,), seen), torch.ones(n, dtype=torch.bool),
        torch.full((180,), sight).double(), torch.full((180,), ok), torch.tensor(at), status, "" if ok else "because",
    ).validate()  # fmt: skip


@pytest.mark.parametrize(
    ("status", "levels"),
    [
        (RawStatus.OK, [OK, DEGRADED, *[MINIMAL_RISK] * 4]),  # always the same report
        (RawStatus.STALE, [OK, DEGRADED, *[MINIMAL_RISK] * 4]),
        (RawStatus.FROZEN, [DEGRADED] * 2 + [MINIMAL_RISK] * 4),
    ],
)
def test_a_raw_channel_that_is_not_ok(status: RawStatus, levels: list[MonitorLevel]) -> None:
    monitor = RawChannelMonitor()
    monitor.update(raw(), 0)
    assert [monitor.update(raw(status), k * 100_000).level for k in range(1, 7)] == levels
    assert monitor.update(raw(at=800_000), 800_000).level is OK


# -- localisation -------------------------------------------------------------------------------------------


def localised(steps: int, error, v: float = 10.0) -> list[MonitorLevel]:
    """Straight on at v (m/s) with an error (m along, m across, rad) of the pose as a function of the step."""
    monitor = LocalisationMonitor()
    levels = []
    for k in range(steps):
        pose = np.array([v * 0.1 * k, 0.0, 0.0]) + np.array(error(k))
        levels.append(monitor.update(pose, v, 0.0, k * 100_000).level)
    return levels


@pytest.mark.parametrize(
    ("jump", "level"), [(0.38, OK), (0.42, DEGRADED), (1.08, DEGRADED), (1.12, MINIMAL_RISK), (math.nan, MINIMAL_RISK)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_jump_just_inside_and_just_outside(jump: float, level: MonitorLevel, axis: int) -> None:
    """Limits 0.3 and 1.0 m beyond what odometry may be wrong: 0.05 m and 5 % of a metre."""
    levels = localised(4, lambda k: [jump * (k >= 3) if a == axis and k >= 3 else 0.0 for a in range(3)])
    assert levels[3] is level


@pytest.mark.parametrize(("turn", "level"), [(0.055, OK), (0.065, DEGRADED), (0.155, DEGRADED), (0.165, MINIMAL_RISK)])
def test_a_jump_of_the_heading(turn: float, level: MonitorLevel) -> None:
    assert localised(4, lambda k: (0.0, 0.0, turn * (k >= 3)))[3] is level


def test_a_jump_that_is_taken_back_is_held_for_a_second_and_then_forgotten() -> None:
    levels = localised(30, lambda k: (0.0, 0.6 * (3 <= k < 8), 0.0))
    assert levels[2] is OK
    assert levels[3:18] == [DEGRADED] * 15
    assert levels[20:] == [OK] * 10


@pytest.mark.parametrize("size", [0.5, 5.0])
def test_a_jump_that_is_not_taken_back_ends_at_minimal_risk_until_it_is(size: float) -> None:
    """0.8 s later at the latest, whatever its size; standing still changes nothing."""
    levels = localised(60, lambda k: (0.0, size * (3 <= k < 40), 0.0), v=4.0)
    assert levels[3:11] == ([DEGRADED] if size < 1.0 else [MINIMAL_RISK]) * 8
    assert levels[11:40] == [MINIMAL_RISK] * 29
    assert levels[51:] == [OK] * 9


def test_a_drift_that_is_taken_back_at_once_is_over() -> None:
    """What had summed up meanwhile is not held against the good pose."""
    monitor, v = LocalisationMonitor(), 4.0
    for k in range(80):
        error = 0.05 * min(k, 50) if k < 60 else 0.0
        level = monitor.update(np.array([v * 0.1 * k, error, 0.0]), v, 0.0, k * 100_000)
        if k == 59:
            assert (level.level, monitor.reckoned is None) == (MINIMAL_RISK, False)
        if k >= 60:
            assert monitor.reckoned is None
    assert level.level is OK


@pytest.mark.parametrize(("gap_us", "reckoned"), [(500_000, True), (510_000, False)])
def test_over_a_long_gap_nothing_is_reckoned(gap_us: int, reckoned: bool) -> None:
    monitor = LocalisationMonitor()
    monitor.update(np.zeros(3), 5.0, 0.0, 0)
    verdict = monitor.update(np.array([5.0 * gap_us * 1e-6, 4.0, 0.0]), 5.0, 0.0, gap_us)
    assert (monitor.reckoned is not None) is reckoned
    assert verdict.level is MINIMAL_RISK


@pytest.mark.parametrize(
    ("along", "across", "back"), [(1.25, 0.0, True), (1.4, 0.0, False), (0.0, 0.45, True), (0.0, 0.6, False)]
)
def test_back_is_who_is_as_near_as_the_odometry_can_tell(along: float, across: float, back: bool) -> None:
    """After 20 m: 0.3 m and 5 % of the way along, 1 % across."""
    monitor = LocalisationMonitor()
    for k in range(24):
        error = (0.0, 0.0) if k < 3 else (along, across) if k == 23 else (0.0, 5.0)
        monitor.update(np.array([1.0 * k + error[0], error[1], 0.0]), 10.0, 0.0, k * 100_000)
    assert (monitor.reckoned is None) is back


def test_after_a_jump_ego_is_where_the_odometry_leads_on_a_bend() -> None:
    monitor, v, rate = LocalisationMonitor(), 8.0, 0.3
    for k in range(40):
        t = 0.1 * k
        true = np.array([v / rate * math.sin(rate * t), v / rate * (1 - math.cos(rate * t)), rate * t])
        left = 5.0 * np.array([-math.sin(true[2]), math.cos(true[2]), 0.02])
        monitor.update(true + left * (k >= 10), v, rate, k * 100_000)
        if k < 10:
            assert monitor.reckoned is None
        else:
            assert monitor.reckoned == pytest.approx(true, abs=0.01)


@pytest.mark.parametrize(("rate", "within"), [(0.5, 30), (1.0, 9)])
def test_a_drift_is_found_although_no_step_shows_it(rate: float, within: int) -> None:
    levels = localised(within + 3, lambda k: (0.0, rate * 0.1 * k, 0.0))
    first = next(k for k, level in enumerate(levels) if level is not OK)
    assert first <= within


@pytest.mark.parametrize("rate", [0.5, -1.0])
def test_a_drift_is_reckoned_from_where_it_began_to_show(rate: float) -> None:
    """What had gone unnoticed by then stays: the slack of the sum and its first limit."""
    monitor, v = LocalisationMonitor(), 4.0
    levels, away = [], []
    for k in range(60):
        level = monitor.update(np.array([v * 0.1 * k, rate * 0.1 * max(k - 10, 0), 0.0]), v, 0.0, k * 100_000).level
        levels.append(level)
        away.append(math.nan if monitor.reckoned is None else abs(float(monitor.reckoned[1])))
    begin = levels.index(DEGRADED)
    slack = 0.06 + 0.02 * v
    unnoticed = slack * (begin - 10) * 0.1
    assert np.isnan(away[:begin]).all()
    assert away[begin:] == pytest.approx([unnoticed] * (60 - begin), abs=1e-9)
    assert set(levels[begin : begin + 8]) == {DEGRADED}
    assert set(levels[begin + 8 :]) == {MINIMAL_RISK}


def test_ordinary_noise_and_a_wrong_wheel_radius_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (600, 3)) * [1, 1, 0.05]
    assert set(localised(600, lambda k: noise[k] + [0.01 * k, 0.0, 0.0])) == {OK}


def test_a_steady_turn_is_explained_by_the_yaw_rate() -> None:
    monitor = LocalisationMonitor()
    v, rate = 8.0, 0.5
    for k in range(50):
        a = rate * 0.1 * k
        pose = np.array([v / rate * math.sin(a), v / rate * (1 - math.cos(a)), a])
        assert monitor.update(pose, v, rate, k * 100_000).level is OK


# -- deviation ----------------------------------------------------------------------------------------------


def plan(v: float = 10.0) -> Trajectory:
    time = torch.arange(0, 3.01, 0.1, dtype=torch.float64)
    zero = torch.zeros_like(time)
    return Trajectory(time, v * time, zero, zero, torch.full_like(time, v), zero, zero)


@pytest.mark.parametrize(
    ("offset", "speed", "level"),
    [
        ((0.0, 0.119, 0.0), 0.0, OK), ((0.0, 0.121, 0.0), 0.0, DEGRADED), ((0.0, -0.36, 0.0), 0.0, MINIMAL_RISK),
        ((0.249, 0.0, 0.0), 0.0, OK), ((-0.251, 0.0, 0.0), 0.0, DEGRADED), ((0.71, 0.0, 0.0), 0.0, MINIMAL_RISK),
        ((0.0, 0.0, 0.029), 0.0, OK), ((0.0, 0.0, -0.031), 0.0, DEGRADED), ((0.0, 0.0, 0.11), 0.0, MINIMAL_RISK),
        ((0.0, 0.0, 0.0), 0.79, OK), ((0.0, 0.0, 0.0), -0.81, DEGRADED), ((0.0, 0.0, 0.0), 2.1, MINIMAL_RISK),
        ((math.nan, 0.0, 0.0), 0.0, MINIMAL_RISK),
    ],
)  # fmt: skip
def test_deviation_just_inside_and_just_outside(offset, speed: float, level: MonitorLevel) -> None:
    monitor = DeviationMonitor()
    step = np.array([1.0, 0.0, 0.0]) + offset
    assert monitor.update(plan(), step, 10.0 + speed, 0.1).level is OK  # once may be a bump
    assert monitor.update(plan(), step, 10.0 + speed, 0.1).level is level


def test_one_bump_in_three_cycles_is_none() -> None:
    monitor = DeviationMonitor()
    for k in range(9):
        step = np.array([1.0, 0.5 * (k % 3 == 0), 0.0])
        assert monitor.update(plan(), step, 10.0, 0.1).level is OK


# -- disagreement -------------------------------------------------------------------------------------------


def disagree(report: RawObstacles, cycles: int, agents: tuple[tuple[float, float], ...] = ()) -> list[MonitorLevel]:
    scene = make_scene(v=8.0).double()
    n = len(agents)
    box = torch.tensor([[x, y, 0.0, 4.5, 1.8] for x, y in agents], dtype=torch.float64).reshape(n, 5)
    tracks = AgentTracks(
        box, torch.zeros(n, 2).double(), torch.zeros(n, 2, 2).double(), torch.zeros(n, dtype=torch.int64),
        torch.ones(n).double(), torch.arange(n), torch.ones(n, dtype=torch.bool),
    )  # fmt: skip
    scene = scene.replace(agents=tracks)
    monitor = DisagreementMonitor()
    return [monitor.update(scene, report).level for _ in range(cycles)]


def test_what_only_the_raw_channel_has_on_the_way_is_said_after_three_cycles() -> None:
    levels = disagree(raw(boxes=((20.0, 0.0, 0.6, 0.6),)), 30)
    assert levels == [OK] * 2 + [DEGRADED] * 27 + [MINIMAL_RISK]


@pytest.mark.parametrize(
    ("x", "y", "seen", "level"),
    [
        (20.0, 0.0, 3, DEGRADED),
        (20.0, 0.0, 2, OK),  # not yet sure
        (44.0, 0.0, 5, DEGRADED),
        (47.0, 0.0, 5, OK),  # too far
        (-8.0, 0.0, 5, OK),  # behind
        (20.0, 30.0, 5, OK),  # beside the road
    ],
)
def test_where_and_when_a_raw_obstacle_counts(x: float, y: float, seen: int, level: MonitorLevel) -> None:
    assert disagree(raw(boxes=((x, y, 0.4, 0.4),), seen=seen), 3)[-1] is level


def test_objects_both_have_agree_and_parts_of_them_too() -> None:
    parts = ((18.0, 0.0, 0.3, 1.8), (20.0, 0.9, 4.0, 0.3))
    assert disagree(raw(boxes=parts, sight=17.0), 5, ((20.0, 0.0),))[-1] is OK


@pytest.mark.parametrize(("sight", "level"), [(22.8, OK), (23.1, DEGRADED)])
def test_a_ghost_is_an_object_with_ground_behind_it(sight: float, level: MonitorLevel) -> None:
    """The car's middle is at 20 m and its corners 2.42 m from it; half a metre more must be seen."""
    assert disagree(raw(sight=sight), 3, ((20.0, 0.0),))[-1] is level


def test_a_blind_raw_channel_has_no_opinion() -> None:
    assert disagree(raw(RawStatus.BROKEN), 5, ((20.0, 0.0),))[-1] is OK


# -- all together -------------------------------------------------------------------------------------------


def test_the_bank_is_silent_on_a_sound_drive_and_names_what_breaks() -> None:
    monitors = Monitors()
    for k in range(15):
        scene = moving_scene(0.1 * k, 20 + 0.5 * k, 0.8 * k)
        said = monitors.update(scene, raw(at=k * 100_000), now_us=k * 100_000)
        assert all(verdict.level is OK for verdict in said), said
        monitors.driven(scene, plan(8.0))
    assert {verdict.name for verdict in said} == {
        "localisation", "map", "scene", "objects", "grip", "coverage", "plan deviation", "raw channel", "disagreement"
    }  # fmt: skip
    jumped = moving_scene(1.5, 27.5, 0.8 * 15 + 2.0)
    bad = [v.name for v in monitors.update(jumped, raw(at=1_500_000), now_us=1_500_000) if v.level is not OK]
    assert bad == ["localisation"]


def test_a_bank_without_a_raw_channel_does_not_miss_it_and_a_failure_is_a_verdict() -> None:
    said = Monitors().update(moving_scene(0.0, 20.0), None, now_us=0, with_raw=False)
    assert all(verdict.level is OK for verdict in said)
    broken = Monitors()
    broken.coverage = None  # type: ignore[assignment]
    (failed,) = broken.update(moving_scene(0.0, 20.0), None, now_us=0)
    assert failed.level is MINIMAL_RISK
    assert "failed" in failed.reason


def test_a_scene_that_does_not_validate_is_no_message_and_leaves_no_trace() -> None:
    monitors, sound = Monitors(), moving_scene(0.0, 20.0)
    nan = sound.replace(global_from_ego=sound.global_from_ego * math.nan)
    levels = []
    for k, scene in enumerate((sound, nan, nan, moving_scene(0.3, 21.5, 2.4))):
        levels.append({v.name: v.level for v in monitors.update(scene, None, now_us=k * 100_000, with_raw=False)})
    assert [level["scene"] for level in levels] == [OK, OK, DEGRADED, OK]
    assert levels[3]["localisation"] is OK


def test_after_a_jump_map_and_route_are_seen_from_where_ego_is() -> None:
    """A scene as the wrong pose shows it becomes the true one again; what ego measures itself stays."""
    monitors, jump = Monitors(), torch.tensor([0.4, 5.0, 0.1], dtype=torch.float64)
    for k in range(6):
        true = moving_scene(0.1 * k, 20.0, ego_x=0.8 * k)
        shown = true
        if k >= 3:  # localised by `jump` aside, so that the map lies the other way
            moved = true.transformed(frames.inverse(jump))
            believed = frames.compose(true.global_from_ego, jump)
            shown = true.replace(map=moved.map, route=moved.route, global_from_ego=believed)
        levels = {v.name: v.level for v in monitors.update(shown, None, now_us=k * 100_000, with_raw=False)}
        seen = monitors.trusted(shown)
        assert torch.allclose(seen.global_from_ego, true.global_from_ego, atol=1e-6)
        assert torch.allclose(seen.map.xy, true.map.xy, atol=1e-6)
        assert torch.allclose(seen.route.xy, true.route.xy, atol=1e-6)
        assert torch.equal(seen.agents.box, true.agents.box)
        assert torch.equal(seen.futures.mean, true.futures.mean)
        assert (seen is shown) is (k < 3)
        assert levels["localisation"] is (OK if k < 3 else MINIMAL_RISK)
        seen.validate()
    assert monitors.trusted("nothing") == "nothing"  # type: ignore[arg-type,comparison-overlap]

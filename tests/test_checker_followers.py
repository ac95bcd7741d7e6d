"""Who gets onto ego's way only behind ego keeps its distance like any follower; nobody else is excused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from checker_scenes import agent, drive, make_scene, with_tail
from test_checker_sets import NONE, STEP, users

from planner.checker import Assumptions, CheckerConfig, check, followers, prepare
from planner.checker.followers import modes_behind, ways_behind
from planner.checker.footprint import boxes_from_poses, sweep
from planner.checker.motion import Motion, grid
from planner.checker.occupancy import Occupancy, answered
from planner.checker.rules import objects
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters

V, C, TABLE = VehicleParameters(), CheckerConfig(), Assumptions()
B = TABLE.bounds[AgentClass.CAR]


def cutting_in(x: float, v: float = 8.0, ego: float = 14.0, kind: AgentClass = AgentClass.CAR) -> VectorScene:
    """A car in the lane on the left that comes over with 0.8 m/s; its centre x m ahead of ego's rear axle."""
    return make_scene(ego, (agent(x, 3.1, -0.1, v, kind, track_id=7),), half_width=8.0, limit=20.0)


def late_stop(ego: float = 14.0, begins: float = 1.2) -> tuple[Trajectory, Trajectory]:
    plan = drive(ego, 8.0)
    return plan, with_tail(plan, 6.0, begins)


def refused_for(scene: VectorScene, tail: tuple[Trajectory, Trajectory], config: CheckerConfig = C) -> list[str]:
    return [v.rule for v in check(scene, *tail, V, config).violations if v.track_id == 7]


def test_a_car_that_ego_passes_before_it_is_over_follows_and_one_ahead_does_not() -> None:
    """Golden scene. Ego, 6 m/s faster, is past before the car can be in its lane, or not."""
    assert refused_for(cutting_in(-1.0), late_stop()) == []
    assert refused_for(cutting_in(6.0), late_stop()) != []
    assert refused_for(cutting_in(-1.0, ego=9.0), late_stop(9.0)) != [], "beside, hardly faster: not past"


def test_without_the_rule_the_same_tail_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "LEFT_BEHIND", 1000)
    assert "tail_object" in refused_for(cutting_in(-1.0), late_stop())


def test_a_follower_that_cannot_stop_any_more_counts() -> None:
    """Both get behind; the one answers within ego's way to rest, ego brakes too soon for the other."""
    scene = cutting_in(-4.0, v=11.0)
    assert refused_for(scene, late_stop(begins=2.5)) == []
    assert refused_for(scene, late_stop(begins=0.3)) != []


@pytest.mark.parametrize("kind", [AgentClass.PEDESTRIAN])
def test_people_on_foot_are_never_followers(kind: AgentClass) -> None:
    occupancy = Occupancy(users((-1.0, 3.1, -0.1, 4.0), kinds=(kind,)), TABLE, NONE, STEP, 80.0)
    assert not len(occupancy.ways_of(np.array([True])))


@pytest.mark.parametrize("x", [-3.0, -1.0, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("v", [3.0, 8.0, 11.0])
def test_whoever_is_excused_cannot_touch_ego_while_it_keeps_to_the_assumption(
    x: float, v: float, rng: np.random.Generator
) -> None:
    """Witness: motions within the bounds, drawn and integrated finely, that answer as RSS has it; rectangles by
    shapely every 0.02 s. None touches ego before it stands where the tail was accepted."""
    plan, tail = late_stop()
    if refused_for(cutting_in(x, v), (plan, tail)):
        return
    motion = Motion.of(tail)
    time = np.arange(0.0, motion.rest_time(C.rest_speed), 0.02)
    ego = shapely.polygons(boxes_from_poses(motion.at(time).pose, V.length, V.width, V.rear_axle_to_center).corners)
    for number in range(60):
        speed, s, side = v, 0.0, rng.choice([0.0, 1.0])
        accelerations = rng.uniform(-B.braking, B.acceleration, 3) if number % 3 else np.full(3, B.acceleration)
        brakes = rng.uniform(B.braking_min, B.braking) if number % 2 else B.braking_min
        pose = []
        for t in time:
            a = accelerations[int(t / B.response_time * 2.99)] if t < B.response_time else -brakes
            speed = max(speed + a * 0.02, 0.0)
            s += speed * 0.02
            aside = side * min(0.5 * B.lateral_acceleration * t * t, B.lateral_deviation)
            pose.append((x + s * np.cos(-0.1), 3.1 + s * np.sin(-0.1) - aside, -0.1))
        other = shapely.polygons(boxes_from_poses(np.array(pose), 4.5, 1.9).corners)
        assert not shapely.intersects(ego, other).any(), number


def test_the_witness_is_not_empty() -> None:
    """Of the encounters above some are accepted, and some are not."""
    verdicts = {not refused_for(cutting_in(x, v), late_stop()) for x in (-3.0, 0.5, 4.0) for v in (3.0, 8.0, 11.0)}
    assert verdicts == {True, False}


def test_ego_must_have_left_the_place_just_inside_and_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict turns where the margin exceeds the time between ego's leaving and the other's coming."""
    motion = Motion.of(late_stop()[1])
    sweeps = motion.at(grid(motion.rest_time(C.rest_speed), C)).sweeps(V)
    occupancy = prepare(cutting_in(-1.0).double(), V, C).occupancy
    way = int(occupancy.ways_of(np.array([True]))[0])
    fastest = shapely.polygons(occupancy.fastest(way, len(sweeps)).corners)
    places = shapely.convex_hull(shapely.multipoints(sweeps.points))
    meets = shapely.distance(fastest[:, None], places[None]) < C.clearance + sweeps.disc
    first = int(meets.any(1).argmax())
    since = first - int(np.flatnonzero(meets[first]).max())
    assert since > 1
    for steps, excused in ((since - 1, True), (since, False)):
        monkeypatch.setattr(followers, "LEFT_BEHIND", steps)
        assert ways_behind(occupancy, np.array([True]), sweeps, C.clearance)[way] == excused


def test_a_forecast_that_ends_behind_ego_does_not_count_and_one_ahead_does() -> None:
    """Straight on with its drift; ego stops 25 m on, the forecast, which answers to nothing, drives into its rear."""
    plan, tail = drive(14.0, 8.0), with_tail(drive(14.0, 8.0), 8.0, 0.3)
    for x, excused in ((-8.0, True), (8.0, False)):
        sets = prepare(cutting_in(x, 13.0).double(), V, C)
        sweeps = Motion.of(tail).at(grid(C.nominal_horizon, C)).sweeps(V)
        assert modes_behind(sets.forecasts, np.array([0]), sweeps, C.clearance).tolist() == [excused], x
    beside = cutting_in(-8.0, 13.0)
    assert "nominal_object" not in refused_for(beside, (tail, tail))
    assert "nominal_object" in refused_for(cutting_in(4.0, 13.0), (plan, tail)), "beside, it drives into ego's side"


def test_a_forecast_that_says_nothing_late_says_nothing_about_getting_behind() -> None:
    """Where it ends before it reaches ego's way there is nothing to excuse."""
    sets = prepare(cutting_in(-4.0, 13.0).double(), V, C)
    known = sets.forecasts.known.copy()
    known[:, 3:] = False
    sweeps = Motion.of(late_stop()[1]).at(grid(C.nominal_horizon, C)).sweeps(V)
    short = replace(sets.forecasts, known=known)
    assert len(short.boxes(0, 30).center) == 3
    assert not modes_behind(short, np.array([0]), sweeps, C.clearance)[0]


def test_the_answer_agrees_with_integrated_motion(rng: np.random.Generator) -> None:
    v, a, response, braking = (rng.uniform(*span, 8) for span in ((0, 15), (0.2, 3), (0.2, 2), (2, 6)))
    time, fine = np.linspace(0, 6, 25), np.linspace(0, 6, 60001)
    found = answered(v, time, a, response, braking)
    for i in range(8):
        top = v[i] + a[i] * response[i]
        speed = np.where(fine < response[i], v[i] + a[i] * fine, np.maximum(top - braking[i] * (fine - response[i]), 0))
        driven = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 1e-4)])
        np.testing.assert_allclose(found[i], driven[::2500], atol=1e-3)


def test_answering_shortens_the_set_and_only_its_front() -> None:
    occupancy = Occupancy(users((0.0, 0.0, 0.0, 10.0)), TABLE, NONE, STEP, 80.0)
    n = np.zeros(1, np.int64)
    low, high, grow = occupancy._spans(n, 40)
    shorter_low, shorter, same = occupancy._spans(n, 40, np.array([True]))
    np.testing.assert_array_equal(low, shorter_low)
    np.testing.assert_array_equal(grow, same)
    first = round(B.response_time / STEP)
    np.testing.assert_allclose(high[:first], shorter[:first])
    assert (shorter[first + 1 :] < high[first + 1 :]).all()
    np.testing.assert_allclose(occupancy._spans(n, 40, np.array([False]))[1], high)


@pytest.mark.parametrize(("aside", "excused"), [(0.74, True), (0.76, False)])
def test_who_moves_aside_itself_has_no_followers_just_inside_and_outside(aside: float, excused: bool) -> None:
    """Ego bears away to the right while it stops; the road is wide."""
    scene = make_scene(14.0, (agent(-1.0, 3.1, -0.1, 8.0, track_id=7),), half_width=8.0, right_edge=8.0, limit=20.0)
    plan, tail = late_stop()
    bent = tail.replace(y=-aside * torch.clamp(tail.x / tail.x[-1], 0, 1) ** 2)
    found = {v.rule for v in check(scene, plan, bent, V, C).violations if v.track_id == 7}
    assert ("tail_object" not in found) is excused


@pytest.mark.parametrize(
    ("places", "behind"),
    [
        # By interval, the place (interval of ego) at which the other then is; nowhere before.
        ({6: 4, 7: 7}, True),  # ego left it two steps before; what is later does not count
        ({6: 5, 7: 5}, False),  # one step before is too close
        ({6: 6}, False),  # ego is there
        ({6: 9}, False),  # ego comes there
        ({3: 1, 6: 6}, True),
        ({3: 2, 6: 1}, False),
        ({}, False),
    ],
)
def test_the_first_place_on_egos_way_decides(places: dict[int, int], behind: bool) -> None:
    """Ego, half a metre long, goes a metre a step; the other is small enough to be at one of its places at a time."""
    steps = 12
    pose = np.stack([np.arange(steps + 1.0), np.zeros(steps + 1), np.zeros(steps + 1)], 1)
    sweeps = sweep(boxes_from_poses(pose, 0.5, 1.0).corners, np.zeros(steps))
    other = np.tile([0.0, 50.0, 0.0], (steps, 1))
    for k, j in places.items():
        other[k, :2] = j + 0.5, 0.3
    assert followers._gets_behind(boxes_from_poses(other, 0.2, 0.2), sweeps, 0.05) is behind


def test_a_walker_whose_forecast_ends_behind_ego_counts_all_the_same() -> None:
    """Ego creeps along; somebody comes onto its way behind it and catches up, on foot or in a tiny car."""
    slow = drive(1.5, 6.0)
    for kind, counts in ((AgentClass.PEDESTRIAN, True), (AgentClass.CAR, False)):
        scene = make_scene(1.5, (agent(-2.2, 2.0, -0.55, 2.8, kind, (0.7, 0.7), track_id=7),), half_width=8.0)
        sweeps = Motion.of(slow).at(grid(C.nominal_horizon, C)).sweeps(V)
        assert modes_behind(prepare(scene.double(), V, C).forecasts, np.array([0]), sweeps, C.clearance)[0]
        found = check(scene, slow, with_tail(slow), V, C)
        assert ("nominal_object" in {v.rule for v in found.violations}) is counts


def test_who_is_ahead_of_where_ego_ends_does_not_get_behind_it() -> None:
    tail = Motion.of(late_stop()[1])
    end = float(tail.pose[-1, 0])
    scene = make_scene(14.0, (agent(end - 0.1, 3.1, 0, 8.0), agent(end + 0.1, 3.1, 0, 8.0, track_id=1)), half_width=8.0)
    assert objects._passed(prepare(scene.double(), V, C), tail).tolist() == [True, False]


def test_near_is_no_contact() -> None:
    """A car goes along beside ego, 1 m away."""
    scene = make_scene(8.0, (agent(2.0, 2.9, 0.0, 8.0),), half_width=8.0)
    found = check(scene, drive(8.0), with_tail(drive(8.0)), V, C)
    assert found.worst_margin < 1.0
    assert (found.likely_contact, found.contact) == (np.inf, np.inf)


def test_contact_is_the_first_touch_of_the_likely_and_of_the_worst_case() -> None:
    """A wall 10 m ahead of ego's front at 8 m/s; a car beside that may, but hardly will, come over."""
    wall = make_scene(8.0, (agent(V.front + 10.5, 0.0, size=(1.0, 6.0)),))
    into = check(wall, drive(8.0), with_tail(drive(8.0)), V, C)
    assert into.likely_contact == pytest.approx(1.2, abs=0.11)
    assert into.contact <= into.likely_contact
    scene = make_scene(8.0, (agent(3.0, 2.2, 0.0, 8.0),), half_width=8.0)
    beside = check(scene, drive(8.0), with_tail(drive(8.0), 3.0), V, C)
    assert beside.likely_contact == np.inf
    # 0.32 m between the sides, closed by half of 0.5 m/s^2 t^2.
    assert beside.contact == pytest.approx(np.sqrt(2 * (2.2 - 0.95 - V.width / 2) / 0.5), abs=0.11)


def test_who_pushes_from_behind_and_touches_is_still_the_followers_duty() -> None:
    scene = make_scene(8.0, (agent(-V.rear - 2.25 - 0.03, 0.0, 0.0, 8.0, track_id=7),))
    found = check(scene, drive(8.0), with_tail(drive(8.0)), V, C)
    assert found.accepted, found.reason

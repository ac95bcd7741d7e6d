"""What ego sees and who may be hidden: rays against shapely, phantoms by hand, each limit just inside and outside."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import torch
from checker_probe import phantom_walkers
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner.checker import Assumptions, CheckerConfig, SceneSets, Violation, check_prepared, prepare
from planner.checker.motion import Motion
from planner.checker.rules.unseen import tail_sight, walker_cap
from planner.checker.sight import SECTORS, Sight
from planner.scene import AgentClass, PolylineType, RawObstacles, RawStatus, Trajectory, VectorScene, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions().phantom


def wide(v: float = 8.0, agents: tuple = (), lines: tuple = ()) -> VectorScene:
    return make_scene(v, agents, lines=lines, half_width=60.0, right_edge=60.0)


def sets(scene: VectorScene, raw: RawObstacles | None = None) -> SceneSets:
    return prepare(scene, V, C, raw)


def measured(reach: dict[int, float], sectors: int = 180, elsewhere: float = 80.0, blind: tuple = ()) -> RawObstacles:
    """A raw channel without obstacles that sees `elsewhere` m, but `reach` m in some sectors."""
    sight = torch.full((sectors,), elsewhere, dtype=F64)
    for k, r in reach.items():
        sight[k] = r
    valid = torch.ones(sectors, dtype=torch.bool)
    valid[list(blind)] = False
    empty = RawObstacles.nothing(0, sectors=sectors)
    return replace(empty, sight=sight, sight_valid=valid, status=RawStatus.OK, reason="")


# -- sight -------------------------------------------------------------------------------------


def test_rays_end_where_shapely_says(rng: np.random.Generator) -> None:
    """Cars, trucks and buses limit the sight, people and things do not; moving ones only for the moment."""
    limited = 0
    for _ in range(6):
        agents = []
        for i in range(12):
            kind = AgentClass(int(rng.integers(len(AgentClass))))
            at, bearing = rng.uniform(6.0, 60.0), rng.uniform(-np.pi, np.pi)
            size = (rng.uniform(0.5, 12.0), rng.uniform(0.5, 2.6))
            agents.append(
                agent(at * np.cos(bearing), at * np.sin(bearing), rng.choice([0.0, rng.uniform(-3, 3)]),
                      rng.choice([0.0, 6.0]), kind, size, track_id=i)
            )  # fmt: skip
        scene = wide(8.0, tuple(agents))
        angle = rng.uniform(-3, 3)
        scene = scene.transformed(torch.tensor([30.0, -20.0, angle], dtype=F64))
        found = sets(scene).sight
        x, y, yaw = (float(f) for f in (scene.ego.x, scene.ego.y, scene.ego.yaw))
        np.testing.assert_allclose(found.origin[:3], [x, y, yaw])
        assert len(found.reach) == SECTORS == 360
        bodies = []
        for j, a in enumerate(agents):
            box = scene.agents.box[j].numpy()
            c, s = np.cos(box[2]), np.sin(box[2])
            corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * box[3:5] / 2
            body = shapely.Polygon(corners @ np.array([[c, s], [-s, c]]) + box[:2])
            if a["kind"] in (AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS):
                bodies.append((body, a["v"] > 0))
        for k in range(SECTORS):
            way = yaw + 2 * np.pi * k / SECTORS
            ray = shapely.LineString([(x, y), (x + 200 * np.cos(way), y + 200 * np.sin(way))])
            parts = [(ray.intersection(b), moving) for b, moving in bodies]
            ranges = [(shapely.Point(x, y).distance(p), moving) for p, moving in parts if not p.is_empty]
            nearest = min((r for r, _ in ranges), default=np.inf)
            standing = min((r for r, moving in ranges if not moving), default=np.inf)
            if all(p.is_empty or p.length > 1e-3 for p, _ in parts):  # a grazed corner is either
                assert found.reach[k] == pytest.approx(nearest, abs=1e-6)
                assert found.lasting[k] == pytest.approx(standing, abs=1e-6)
                limited += np.isfinite(nearest)
    assert limited > 100


def test_a_point_is_seen_just_before_and_not_just_behind_what_limits_the_sight() -> None:
    reach = np.full(360, 50.0)
    reach[90], reach[180], reach[359] = 10.0, 20.0, 30.0
    lasting, passing = np.full(360, np.inf), np.zeros(360, bool)
    lasting[90], passing[180] = 15.0, True
    sight = Sight(np.array([100.0, 50.0, np.pi / 2]), reach, lasting, passing)

    def point(sector: float, distance: float) -> np.ndarray:
        angle = np.pi / 2 + 2 * np.pi * sector / 360
        return np.array([100.0 + distance * np.cos(angle), 50.0 + distance * np.sin(angle)])

    for sector, distance, seen in (
        (90, 11.9, True), (90, 12.1, False), (90.4, 12.1, False), (89.6, 12.1, False), (90.6, 12.1, True),
        (89.4, 12.1, True), (180, 49.0, True), (0, 51.9, True), (0, 52.1, False), (-0.6, 32.1, False),
        (-0.4, 32.1, True), (359, 32.1, False),
    ):  # fmt: skip
        assert bool(sight.sees(point(sector, distance), 2.0)) is seen, (sector, distance)
    for sector, distance, seen in ((90, 15.9, True), (90, 16.1, False), (180, 200.0, True)):
        assert bool(sight.sees_always(point(sector, distance), 1.0)) is seen
    ahead = Sight(np.zeros(3), np.full(4, 10.0), np.full(4, 15.0), np.zeros(4, bool))
    assert bool(ahead.sees(np.array([12.0, 0.0]), 2.0)), "the margin itself is within it"
    assert bool(ahead.sees_always(np.array([0.0, 16.0]), 1.0))
    both = np.stack([[point(90, 11.9), point(90, 12.1)], [point(180, 60.0), point(0, 60.0)]])
    np.testing.assert_array_equal(sight.sees(both, 2.0), [[True, False], [True, False]])


def test_only_who_drives_on_ahead_clears_the_space_behind_it() -> None:
    for v, yaw, clears in ((8.0, 0.0, True), (8.0, np.pi, False), (8.0, np.pi / 2, False), (0.0, 0.0, False)):
        found = sets(wide(8.0, (agent(20.0, 0.0, yaw, v, track_id=3),))).sight
        assert bool(found.passing[0]) is clears
        assert not found.passing[180]
        assert np.isfinite(found.lasting[0]) == (v == 0.0)
    # A parked car before the leader: that is what limits the sight.
    found = sets(wide(8.0, (agent(20.0, 0.0, 0.0, 8.0, track_id=3), agent(10.0, 0.0, track_id=4)))).sight
    assert not found.passing[0]
    found = sets(wide(8.0, (agent(20.0, 0.0, 0.0, 8.0, track_id=3), agent(30.0, 0.0, track_id=4)))).sight
    assert found.passing[0]


def test_the_measured_sight_counts_where_it_is_nearer() -> None:
    leader, parked = agent(20.0, 0.0, 0.0, 8.0, track_id=3), agent(-20.0, 0.0, track_id=4)
    scene = wide(8.0, (leader, parked))
    for ahead, passing in ((17.0, True), (16.7, False)):
        found = sets(scene, measured({0: ahead, 90: ahead + 1.0})).sight
        assert found.reach[0] == ahead
        assert bool(found.passing[0]) is passing, "up to a metre before its rear it is the leader that was measured"
        assert found.lasting[0] == (np.inf if passing else ahead)
        assert found.reach[180] == pytest.approx(min(ahead + 1.0, 17.75))
        assert found.lasting[180] == pytest.approx(17.75 if ahead + 1.0 > 16.75 else ahead + 1.0)
        assert found.reach[60] == 80.0
        assert found.lasting[60] == 80.0
    behind = sets(scene, measured({0: 40.0})).sight
    assert behind.reach[0] == pytest.approx(17.75)
    assert behind.passing[0]


def test_measured_sectors_of_another_width_are_laid_over_ours() -> None:
    found = sets(wide(), measured({1: 11.0, 71: 12.0}, sectors=72)).sight
    assert [found.reach[k] for k in (2, 3, 5, 7, 8, 352, 353, 355, 357, 358)] == [
        80.0, 11.0, 11.0, 11.0, 80.0, 80.0, 12.0, 12.0, 12.0, 80.0
    ]  # fmt: skip
    blind = sets(wide(), measured({1: 11.0}, sectors=72, blind=(1,))).sight
    assert np.isinf(blind.reach[5])
    none = sets(wide(), measured({}, sectors=72, blind=tuple(range(72)))).sight
    assert np.isinf(none.reach).all()


def test_the_front_of_a_tail_stays_within_the_margin_of_the_sight() -> None:
    """The distance is that of the middle of the front, and the violation says where it gets out of sight."""
    plan = drive(9.0)
    tail = with_tail(plan, 6.0)
    front = tail.x.numpy() + V.front
    for free, ok in ((front[-1] - C.sight_margin + 1e-3, True), (front[-1] - C.sight_margin - 1e-1, False)):
        report = check_prepared(sets(wide(9.0), measured({0: float(free)})), plan, tail, V, C)
        hidden = [v for v in report.violations if v.rule == "tail_sight"]
        assert bool(hidden) is not ok
    free = 6.0
    report = check_prepared(sets(wide(9.0), measured({0: free})), plan, tail, V, C)
    (hidden,) = (v for v in report.violations if v.rule == "tail_sight")
    first = int(np.argmax(front > free + C.sight_margin))
    assert hidden.time == pytest.approx(float(tail.time[first]), abs=0.06)
    assert hidden.margin == pytest.approx(front[first] - front[-1], abs=0.5)
    assert hidden.track_id == -1


def test_at_rest_out_of_sight_is_no_violation() -> None:
    """Who stands with the front in the dark already, only creeping to rest, is not told to stop earlier."""
    plan = drive(0.04, 2.0)
    still = plan.replace(v=torch.full_like(plan.v, 0.04))
    report = check_prepared(sets(wide(0.3), measured({0: 0.5})), drive(0.3, 2.0, a=-0.15), still, V, C)
    assert "tail_sight" not in {v.rule for v in report.violations}


# -- walkers -----------------------------------------------------------------------------------


def parked(x: float, gap: float, kind: AgentClass = AgentClass.CAR, v: float = 0.0, side: int = -1) -> dict:
    """Its side facing ego is `gap` m beside ego's."""
    return agent(x, side * (V.width / 2 + gap + 0.95), 0.0, v, kind, (4.5, 1.9), track_id=7)


@pytest.mark.parametrize(("gap", "side", "walks"), [
    (0.01, -1, True), (-0.01, -1, False), (5.99, -1, True), (6.01, -1, False), (3.0, 1, True), (-0.1, 1, False),
])  # fmt: skip
def test_who_may_step_out_beside_ego_just_inside_and_outside(gap: float, side: int, walks: bool) -> None:
    found = sets(wide(8.0, (parked(20.0, gap, side=side),))).phantoms.walkers
    if not walks:
        assert found.shape == (0, 3)
    else:
        np.testing.assert_allclose(found, [[25.0 + 22.25, max(gap, TABLE.walking_side), 0.0]], atol=1e-9)


@pytest.mark.parametrize(("x", "walks"), [(-2.2, True), (-2.3, False), (57.7, True), (57.8, False)])
def test_walkers_are_looked_for_along_the_way_ahead(x: float, walks: bool) -> None:
    assert bool(len(sets(wide(8.0, (parked(x, 2.5),))).phantoms.walkers)) is walks


@pytest.mark.parametrize(("kind", "v", "walks"), [
    (AgentClass.CAR, 0.0, True), (AgentClass.TRUCK, 0.0, True), (AgentClass.BUS, 0.0, True),
    (AgentClass.MOTORCYCLE, 0.0, False), (AgentClass.STATIC, 0.0, False), (AgentClass.PEDESTRIAN, 0.0, False),
    (AgentClass.CAR, 0.49, True), (AgentClass.CAR, 0.51, False),
])  # fmt: skip
def test_who_hides_a_walker(kind: AgentClass, v: float, walks: bool) -> None:
    assert bool(len(sets(wide(8.0, (parked(20.0, 2.5, kind, v),))).phantoms.walkers)) is walks


def test_walkers_are_beside_ego_not_beside_the_route() -> None:
    """Ego drives 0.7 m to the left of the route: the gap on its right is wider by as much."""
    scene = wide(8.0, (parked(20.0, 2.5), {**parked(30.0, 2.5, side=1), "id": 8}))
    aside = scene.replace(route=scene.route.replace(xy=scene.route.xy - torch.tensor([0.0, 0.7], dtype=F64)))
    np.testing.assert_allclose(sets(aside).phantoms.walkers, sets(scene).phantoms.walkers, atol=1e-9)


def walked(report_v: float, x: float, gap: float = 2.5, a: float = 0.0, duration: float = 5.0) -> list[Violation]:
    plan = drive(report_v, duration, a=a)
    scene = make_scene(report_v, (parked(x, gap),), a=a, half_width=60.0, right_edge=60.0, limit=30.0)
    report = check_prepared(sets(scene), plan, with_tail(plan, 6.0), V, C)
    return [v for v in report.violations if v.rule == "phantom_walker"]


def cap(gap: float) -> float:
    delay = C.shared_time + V.braking_max / (2 * V.jerk_max)
    return walker_cap(gap, delay, V.braking_max, TABLE.walking_speed, TABLE.walking_impact)


@pytest.mark.parametrize("gap", [2.0, 2.5, 3.0])
def test_the_speed_past_an_occluder_just_inside_and_outside(gap: float) -> None:
    assert not walked(cap(gap) - 0.02, 25.0, gap)
    (fast,) = walked(cap(gap) + 0.3, 25.0, gap)
    assert fast.margin == pytest.approx(-0.3, abs=1e-6)
    assert fast.track_id == 7


def test_the_walkers_cap_by_simulation() -> None:
    """Who drives at the cap, waits for the delay and brakes meets the walker at the speed of impact."""
    for gap, delay, braking in ((2.0, 0.63, 8.0), (3.5, 0.4, 6.0), (1.5, 1.0, 9.0)):
        v = walker_cap(gap, delay, braking, 1.4, 2.8)
        room, step, t, s, speed = v * gap / 1.4, 1e-4, 0.0, 0.0, v
        while s < room and speed > 0:
            speed -= braking * step * (t >= delay)
            s, t = s + speed * step, t + step
        assert speed == pytest.approx(2.8, abs=0.02)
    assert walker_cap(1.4, 1.0, 8.0, 1.4, 2.8) == 2.8, "no time to brake: the speed of impact itself"
    assert walker_cap(1.4, 1.1, 8.0, 1.4, 2.8) == 2.8
    assert walker_cap(1.4, 0.99, 8.0, 1.4, 2.8) == pytest.approx(0.08 + np.sqrt(0.08**2 + 2.8**2))


def test_whoever_has_passed_an_occluder_may_be_fast_again() -> None:
    """The far end of the parked car is 2 m behind the front from the start, or reached in the plan."""
    v = cap(2.5) + 1.0
    assert not walked(v, V.front - 0.1 - 2.25, 2.5)
    assert walked(v, V.front + 0.1 - 2.25 + 0.5 * v, 2.5)


def test_an_occluder_counts_from_where_a_walker_meets_ego() -> None:
    """v times the walker's time, and a metre, before the end of the occluder: not earlier."""
    v, duration = cap(2.0) + 0.5, 1.0
    reach = V.front + v * duration + v * 2.0 / TABLE.walking_speed + 1.0
    assert walked(v, reach - 0.1 - 2.25, 2.0, duration=duration)
    assert not walked(v, reach + 0.1 - 2.25, 2.0, duration=duration)


def test_who_is_too_fast_already_must_get_slower() -> None:
    x, v = 48.0, cap(2.5) + 2.0
    assert walked(v, x, 2.5)
    assert not walked(v, x, 2.5, a=-3.0, duration=3.0)
    assert walked(v, x - 10.0, 2.5, a=-3.0, duration=3.0), "too near from the beginning"


def test_getting_slower_means_by_a_hair_at_least() -> None:
    """Too fast from the start: while it matters, slower than at the start by 0.05 m/s or more."""
    fast, x = cap(2.5) + 2.0, 48.0
    motion = Motion.of(drive(fast, 3.0))
    scene = sets(make_scene(fast, (parked(x, 2.5),), half_width=60.0, right_edge=60.0))
    begins = x + 2.25 - fast * 2.5 / TABLE.walking_speed - 1.0
    matters = motion.pose[:, 0] + V.front > begins - 2.0
    assert 3 < int(matters.argmax()) < 20
    for slower, ok in ((0.06, True), (0.04, False)):
        found = phantom_walkers(scene, replace(motion, v=np.where(matters, fast - slower, fast)))
        assert (not found.violations) is ok


def test_a_stop_is_the_answer_to_an_occluder_that_has_only_just_come_near() -> None:
    """Ego is beside it already and too fast: driving on is refused, a stop or the kept tail is not, and says so."""
    v = cap(2.0) + 0.6
    scene = sets(make_scene(v, (parked(4.0, 2.0),), half_width=60.0, right_edge=60.0, limit=30.0))
    on, tail = drive(v, 5.0), with_tail(drive(v, 5.0), 5.0)
    for plan, kept, allowed in ((on, False, False), (tail, False, True), (tail, True, True)):
        report = check_prepared(scene, plan, tail, V, C, kept=kept)
        said = [v.rule for v in (report.records if allowed else report.violations)]
        assert "phantom_walker" in said
        assert report.accepted is allowed


# -- drivers -----------------------------------------------------------------------------------


def lane(*points: tuple[float, float]) -> tuple[torch.Tensor, PolylineType]:
    return torch.tensor(points, dtype=F64), PolylineType.CENTERLINE


def crossing_scene(
    hidden_from: float | None, v: float = 8.0, angle: float = np.pi / 2, at: float = 20.0
) -> VectorScene:
    """Ego's route bends far ahead, so nobody gives way; a lane from the right crosses at `at` m, hidden by a wall of a
    bus that ends `hidden_from` m before the route."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    start, end = (np.array([at, 0.0]) + s * direction for s in (-60.0, 60.0))
    bus = ()
    if hidden_from is not None:
        bus = (agent(at - 4.0, -hidden_from - 10.0, np.pi / 2, kind=AgentClass.BUS, size=(20.0, 0.5), track_id=9),)
    scene = wide(v, bus, (lane(tuple(start), tuple(end)),))
    xy = scene.route.xy.clone()
    far = xy[:, 0] > 30.0
    xy[far, 1] += 1.5 * (xy[far, 0] - 30.0)
    return scene.replace(route=scene.route.replace(xy=xy))


STOPPING = TABLE.driving_speed * TABLE.driving_response + TABLE.driving_speed**2 / (2 * TABLE.driving_braking)
SHARED = 3.5 / 2


def test_a_hidden_lane_holds_a_phantom_while_it_cannot_stop() -> None:
    hidden = crossing_scene(5.0)
    up = np.stack([np.full(30, 20.0), -np.arange(30.0)], 1)
    seen = sets(hidden).sight.sees_always(up, 1.0)
    distance = float(np.argmin(seen))
    assert 5.0 <= distance < 9.0
    ((begin, end, first, last),) = sets(hidden).phantoms.drivers
    assert begin == pytest.approx(25.0 + 20.0 - SHARED)
    assert end == pytest.approx(25.0 + 20.0 + SHARED)
    assert first == pytest.approx((distance - SHARED) / TABLE.driving_speed)
    assert last == pytest.approx((STOPPING + 2 * SHARED + 4.5) / TABLE.driving_speed)
    assert not len(sets(crossing_scene(None)).phantoms.drivers), "nothing hides it"
    straight = wide(8.0, (), (lane((20.0, -60.0), (20.0, 60.0)),))
    assert not len(sets(straight, measured({}, elsewhere=6.0)).phantoms.drivers), "they give way"


def test_a_lane_at_an_angle_shares_a_longer_place() -> None:
    for angle in (1.0, 2.2):
        scene = crossing_scene(None, angle=angle)
        drivers = sets(scene, measured({}, elsewhere=6.0)).phantoms.drivers
        # The route bends across other lanes, too; this one is at 20 m.
        ((begin, end, first, last),) = (d for d in drivers if d[0] < 45.0 < d[1])
        half = SHARED / np.sin(angle)
        assert end - begin == pytest.approx(2 * half)
        assert first == 0.0
        assert last == pytest.approx((STOPPING + 2 * half + 4.5) / TABLE.driving_speed)


def drivers_at(at: float) -> np.ndarray:
    found = sets(crossing_scene(None, at=at), measured({}, elsewhere=6.0)).phantoms.drivers
    return found[np.abs(found[:, 0] + SHARED - 25.0 - at) < 1.0]


def test_lanes_across_are_looked_for_from_ego_to_sixty_metres_ahead() -> None:
    """The route bends at 30 m, so that a lane at x = 45 is 57 m along it, one at 50 m 66 m."""
    along = lambda x: 55.0 + (x - 30.0) * np.hypot(1.0, 1.5)  # noqa: E731
    for x, counts in ((45.0, True), (50.0, False)):
        found = sets(crossing_scene(None, at=x), measured({}, elsewhere=6.0)).phantoms.drivers
        assert bool(len([d for d in found if d[0] < along(x) < d[1]])) is counts
    assert len(drivers_at(12.0)) == 1
    assert len(drivers_at(0.3)) == 1, "on the piece of the route that ego is on, which begins half a metre behind it"
    assert len(drivers_at(-8.0)) == 0
    straight = sets(wide(8.0, (), (lane((20.0, -60.0), (20.0, 60.0)),)), measured({}, elsewhere=6.0))
    assert straight.phantoms.drivers.shape == (0, 4)


def test_a_lane_in_full_sight_does_not_hide_the_next_one() -> None:
    scene = crossing_scene(5.0)
    both = wide(8.0, (agent(16.0, -15.0, np.pi / 2, kind=AgentClass.BUS, size=(20.0, 0.5), track_id=9),),
                (lane((10.0, -60.0), (10.0, 60.0)), lane((20.0, -60.0), (20.0, 60.0))))  # fmt: skip
    both = both.replace(route=scene.route)
    np.testing.assert_allclose(sets(both).phantoms.drivers, sets(scene).phantoms.drivers)


@pytest.mark.parametrize(("beyond", "counts"), [(-1.5, True), (0.6, False)])
def test_a_phantom_that_can_still_stop_gives_way(beyond: float, counts: bool) -> None:
    """The wall hides the lane from just before, or beyond, what stopping takes."""
    up = STOPPING + SHARED + beyond
    # The ray from ego past the wall's near end meets the lane `up` m before the route (and a metre is always seen).
    near = (up - 0.5) * 16.25 / 20.0
    drivers = sets(crossing_scene(near)).phantoms.drivers
    assert bool(len(drivers)) is counts


def judged(scene: VectorScene, plan: Trajectory, tail: Trajectory, raw: RawObstacles | None = None) -> list[Violation]:
    report = check_prepared(sets(scene, raw), plan, tail, V, C)
    return [v for v in report.violations if v.rule == "tail_phantom_driver"]


def test_a_tail_stays_out_of_a_hidden_lane_just_inside_and_outside() -> None:
    plan = drive(8.0)
    tail = with_tail(plan, 5.0)
    rest = float(tail.x[-1]) + V.front
    for gap, ok in ((0.05, True), (-0.05, False)):
        scene = crossing_scene(None, at=rest + SHARED + gap)
        found = judged(scene, plan, tail, measured({}, elsewhere=7.0))
        assert (not found) is ok
        if found:
            assert found[0].track_id == -1
            assert found[0].margin == pytest.approx(gap, abs=1e-4)


def test_who_leaves_a_hidden_lane_behind_before_anybody_can_be_there_may_pass() -> None:
    """The tail stops behind the lane: free if the phantom comes later than ego's rear is out of it."""
    plan = drive(8.0)
    tail = with_tail(plan, 3.0)
    at = 6.0
    arrives = float(np.interp(at + SHARED + V.rear, tail.x.numpy(), tail.time.numpy()))
    assert float(tail.x[-1]) > at + SHARED + V.rear
    scene = crossing_scene(5.0, at=at)
    found = sets(scene)
    assert not judged(scene, plan, tail), "one stands in it already, or nobody is hidden"
    for first, ok in ((arrives + 0.15, True), (arrives - 0.15, False)):
        drivers = np.array([[25.0 + at - SHARED, 25.0 + at + SHARED, first, 9.0]])
        changed = replace(found, phantoms=replace(found.phantoms, drivers=drivers))
        report = check_prepared(changed, plan, tail, V, C)
        assert ("tail_phantom_driver" not in {v.rule for v in report.violations}) is ok
    enters = float(np.interp(at - SHARED - V.front, tail.x.numpy(), tail.time.numpy()))
    for last, ok in ((enters - 0.15, True), (enters + 0.15, False)):
        drivers = np.array([[25.0 + at - SHARED, 25.0 + at + SHARED, 0.0, last]])
        changed = replace(found, phantoms=replace(found.phantoms, drivers=drivers))
        report = check_prepared(changed, plan, tail, V, C)
        assert ("tail_phantom_driver" not in {v.rule for v in report.violations}) is ok


def test_who_rests_in_a_hidden_lane_before_anybody_comes_is_seen_in_time() -> None:
    plan = drive(8.0)
    tail = with_tail(plan, 5.0)
    rest = Motion.of(tail).rest_time(C.rest_speed)
    begin = 25.0 + float(tail.x[-1]) + V.front - 1.0
    found = sets(crossing_scene(5.0))
    for first, ok in ((rest + 0.15, True), (rest - 0.25, False)):
        drivers = np.array([[begin, begin + 2 * SHARED, first, 9.0]])
        changed = replace(found, phantoms=replace(found.phantoms, drivers=drivers))
        report = check_prepared(changed, plan, tail, V, C)
        assert ("tail_phantom_driver" not in {v.rule for v in report.violations}) is ok


def test_who_stands_in_a_hidden_lane_already_goes_on() -> None:
    plan = drive(8.0)
    raw = measured({}, elsewhere=7.0)
    for at, inside in ((V.front - 0.1 - SHARED + 3.5, True), (V.front + 0.1 + SHARED, False)):
        assert (not judged(crossing_scene(None, at=at), plan, with_tail(plan, 5.0), raw)) is inside


@pytest.mark.parametrize(("v", "ok"), [((6.0, 2.0, 0.0), False), ((6.0, 0.0, 0.0), True)])
def test_a_tail_that_still_moves_at_its_first_step_behind_the_sight_is_refused(v, ok) -> None:
    """Also where it stands at the next step; and one that only stands there is none, however it came to."""
    x = np.array([0.0, 4.0, 4.5])
    pose = np.stack([x, np.zeros(3), np.zeros(3)], 1)
    tail = SimpleNamespace(time=np.array([0.0, 1.0, 1.5]), pose=pose, v=np.array(v))
    limit = V.front + 3.0
    seen = SimpleNamespace(sight=SimpleNamespace(sees=lambda front, margin: front[:, 0] <= limit))
    violations = tail_sight(seen, tail, V, C).violations
    assert not violations if ok else [w.time for w in violations] == [1.0]
    assert ok or violations[0].margin == pytest.approx(-0.5)

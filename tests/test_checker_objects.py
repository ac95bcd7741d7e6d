"""The road users of a scene: who counts, what they are forecast to do, who gives way; by hand and by plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from checker_probe import predicted
from checker_scenes import F64, agent, make_scene

from planner.checker import Assumptions, CheckerConfig, SceneSets, prepare
from planner.checker.objects import Objects
from planner.checker.priority import gives_way, goes_straight, waits
from planner.scene import AgentClass, RawObstacles, RawStatus, VectorScene, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions()
CAR = AgentClass.CAR


def sets(scene: VectorScene, raw: RawObstacles | None = None, **config: float) -> SceneSets:
    return prepare(scene, V, replace(C, **config), raw)


def wide(v: float = 8.0, agents: tuple = (), **more) -> VectorScene:
    return make_scene(v, agents, half_width=60.0, right_edge=60.0, **more)


# -- who counts ----------------------------------------------------------------------------------


def test_objects_count_up_to_a_hundred_metres_around_ego() -> None:
    for x, y, counts in ((99.9, 0.0, True), (100.1, 0.0, False), (0.0, -99.9, True), (0.0, -100.1, False),
                         (71.0, 71.0, False), (-70.0, 70.0, True)):  # fmt: skip
        scene = wide(8.0, (agent(x, y, track_id=3),))
        assert len(sets(scene).objects) == counts
        moved = scene.transformed(torch.tensor([300.0, -200.0, 0.4], dtype=F64))
        assert len(sets(moved).objects) == counts


def test_the_likelihood_from_which_an_object_counts() -> None:
    scene = wide(8.0, (agent(20.0, 0.0),))
    for existence, counts in ((C.existence, True), (C.existence - 1e-6, False)):
        maybe = scene.agents.replace(existence=torch.tensor([existence], dtype=F64))
        assert len(sets(scene.replace(agents=maybe)).objects) == counts


def test_objects_are_what_the_scene_says_in_its_order() -> None:
    a, b = (
        agent(20.0, 3.0, 0.5, 4.0, CAR, (4.4, 1.8), 7),
        agent(-5.0, 2.0, -2.0, 1.0, AgentClass.BICYCLE, (1.8, 0.6), 9),
    )
    ghost = agent(400.0, 0.0, track_id=8)
    o = sets(wide(8.0, (a, ghost, b))).objects
    np.testing.assert_allclose(o.pose, [a["pose"], b["pose"]])
    np.testing.assert_allclose(o.size, [a["size"], b["size"]])
    np.testing.assert_allclose(
        o.velocity, [[4 * np.cos(0.5), 4 * np.sin(0.5)], [np.cos(2.0), -np.sin(2.0)]], atol=1e-12
    )
    np.testing.assert_allclose(o.speed, [4.0, 1.0])
    assert o.kind.tolist() == [int(CAR), int(AgentClass.BICYCLE)]
    assert o.track_id.tolist() == [7, 9]
    assert [bool(d) for d in sets(wide(8.0, tuple(agent(9.0 * i, 9.0, kind=k) for i, k in enumerate(AgentClass))))
            .objects.drives] == [k.is_vehicle for k in AgentClass]  # fmt: skip


def with_modes(scene: VectorScene, count: int) -> VectorScene:
    f = scene.futures
    return scene.replace(futures=f.replace(
        mean=f.mean.repeat(1, count, 1, 1), yaw=f.yaw.repeat(1, count, 1),
        covariance=f.covariance.repeat(1, count, 1, 1, 1), valid=f.valid.repeat(1, count, 1),
        probability=torch.full((len(scene.agents.valid), count), 1.0 / count, dtype=F64),
    ))  # fmt: skip


def test_the_present_turn_rate_is_the_forecasts_over_half_a_second() -> None:
    """Modes weigh as much as they are likely; those that say nothing about half a second say nothing."""
    scene = with_modes(wide(8.0, (agent(20.0, 0.0, 3.1, 5.0),)), 3)
    f = scene.futures
    at = int(np.searchsorted(f.time.numpy(), 0.5))
    assert float(f.time[at]) == pytest.approx(0.6)
    yaw = f.yaw.clone()
    for mode, change in enumerate((0.06, 0.12, -0.3)):
        yaw[0, mode, at:] = 3.1 + change
        yaw[0, mode, at + 1 :] = 0.0  # later does not matter
    wrapped = torch.remainder(yaw + np.pi, 2 * np.pi) - np.pi
    valid = f.valid.clone()
    valid[0, 2, at] = False
    probability = torch.tensor([[0.5, 0.25, 0.25]], dtype=F64)
    changed = scene.replace(futures=f.replace(yaw=wrapped, valid=valid, probability=probability))
    assert sets(changed).objects.turn_rate == pytest.approx([(0.5 * 0.06 + 0.25 * 0.12) / 0.75 / 0.6])
    silent = changed.replace(futures=changed.futures.replace(valid=torch.zeros_like(valid)))
    assert sets(silent).objects.turn_rate == pytest.approx([0.0])
    short = scene.futures
    first = scene.replace(futures=short.replace(
        mean=short.mean[:, :, :1], yaw=wrapped[:, :, :1] + 0.04, covariance=short.covariance[:, :, :1],
        time=short.time[:1], valid=short.valid[:, :, :1],
    ))  # fmt: skip
    assert sets(first).objects.turn_rate == pytest.approx([0.04 / 0.2]), "the last there is, where all are earlier"


def raw(
    places: list[tuple[float, float]], status: RawStatus = RawStatus.OK, hidden: tuple = (), v: float = 2.0
) -> RawObstacles:
    count = len(places)
    full = lambda value: torch.full((count,), float(value), dtype=F64)  # noqa: E731
    there = torch.ones(count, dtype=torch.bool)
    there[list(hidden)] = False
    return replace(
        RawObstacles.nothing(0, status, "" if status is RawStatus.OK else "why"),
        centre=torch.tensor(places, dtype=F64).reshape(count, 2), yaw=full(0.3), length=full(0.8), width=full(0.4),
        velocity=torch.tensor([[v, 0.0]] * count, dtype=F64).reshape(count, 2), velocity_known=there.clone(),
        observed=torch.full((count,), 5), valid=there,
    ).validate()  # fmt: skip


def test_raw_obstacles_count_down_from_minus_two_by_their_own_place() -> None:
    scene = wide(8.0, (agent(14.0, 3.2, 0.0, 2.0, track_id=4),))
    o = sets(scene, raw([(20.0, 0.0), (14.2, 3.3), (30.0, 2.0), (99.0, 0.0), (101.0, 0.0)], hidden=(0,))).objects
    assert o.track_id.tolist() == [4, -4, -5]
    assert o.kind.tolist() == [int(CAR), -1, -1]
    np.testing.assert_allclose(o.pose[1:], [[30.0, 2.0, 0.3], [99.0, 0.0, 0.3]])
    np.testing.assert_allclose(o.size[1:], [[0.8, 0.4]] * 2)
    np.testing.assert_allclose(o.velocity[1:], [[2.0, 0.0]] * 2)
    assert o.turn_rate[1:].tolist() == [0.0, 0.0]


def test_a_raw_obstacle_is_explained_by_a_box_that_holds_all_its_corners(rng: np.random.Generator) -> None:
    """Against shapely: rectangles within a scene object's box widened by `raw_explained`."""
    counts = {True: 0, False: 0}
    for _ in range(60):
        pose = (rng.uniform(5, 30), rng.uniform(-6, 6), rng.uniform(-3, 3))
        scene = wide(8.0, (agent(*pose, size=(4.5, 1.9), track_id=4),))
        centre = np.array(pose[:2]) + rng.uniform(-2.4, 2.4, 2)
        half = np.array([2.25, 0.95]) + C.raw_explained
        turn = lambda a: np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])  # noqa: E731
        signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        outer = shapely.Polygon((signs * half) @ turn(pose[2]) + pose[:2])
        inner = shapely.Polygon((signs * [0.4, 0.2]) @ turn(0.3) + centre)
        explained = len(sets(scene, raw([tuple(centre)], v=0.0)).objects) == 1
        assert explained == outer.covers(inner)
        counts[explained] += 1
    assert min(counts.values()) > 10
    assert len(sets(wide(), raw([(9.0, 0.0)])).objects) == 1, "nothing explains it where there is nobody"


@pytest.mark.parametrize("size", [(4.5, 1.9), (12.0, 2.6), (0.7, 0.7), (0.4, 2.4)])
@pytest.mark.parametrize("inside", [True, False])
def test_a_raw_obstacle_in_a_corner_of_a_widened_box_just_inside_and_outside(size, inside) -> None:
    half = np.array(size) / 2 + C.raw_explained - (1e-4 if inside else -1e-4)
    c, s = np.cos(0.3), np.sin(0.3)
    scene = wide(8.0, (agent(25.0, 2.0, 0.3, size=size, track_id=4),))  # turned as the raw obstacles are
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        along, across = signs * (half - [0.4, 0.2])
        centre = (25.0 + c * along - s * across, 2.0 + s * along + c * across)
        assert (len(sets(scene, raw([centre], v=0.0)).objects) == 1) is inside, signs


def test_a_raw_obstacle_that_moves_where_somebody_is_said_to_stand_is_not_explained() -> None:
    """A first channel that has somebody stand who walks must not hide what the second one sees; inside and outside."""
    count = lambda said, seen: len(  # noqa: E731
        sets(wide(8.0, (agent(14.0, 3.2, 0.0, said, track_id=4),)), raw([(14.0, 3.2)], v=seen)).objects
    )
    limit = C.raw_velocity
    assert [count(0.0, limit - 0.01), count(0.0, limit + 0.01), count(0.0, -limit - 0.01)] == [1, 2, 2]
    assert [count(limit - 0.01, 3.0), count(limit + 0.01, 3.0)] == [2, 1], "what moves is measured too roughly"
    unknown = raw([(14.0, 3.2)], v=0.0)
    unknown = replace(unknown, velocity_known=torch.zeros_like(unknown.velocity_known))
    standing = wide(8.0, (agent(14.0, 3.2, track_id=4),))
    assert len(sets(standing, unknown).objects) == 1, "what is not known contradicts nobody"


def test_an_absent_channel_says_why_and_nothing_else() -> None:
    assert sets(wide(), raw([(9.0, 0.0)])).raw_note == ""
    assert sets(wide()).raw_note == ""
    assert len(sets(wide(), raw([(9.0, 0.0)], RawStatus.FROZEN)).objects) == 1
    absent = RawObstacles.nothing(0)
    assert len(sets(wide(), replace(raw([(9.0, 0.0)]), status=RawStatus.ABSENT)).objects) == 0
    assert ("absent" in sets(wide(), absent).raw_note.lower()) or not absent.reason


# -- where things are relative to ego --------------------------------------------------------------


def test_who_is_behind_and_who_follows_just_inside_and_outside() -> None:
    """Wholly behind the rear, within 30 degrees of straight back; in its own track up to half a metre beside ego's."""
    place = lambda x, y, yaw=0.0: sets(wide(8.0, (agent(x, y, yaw, 9.0),)))  # noqa: E731
    rear = -V.rear - 2.25
    for x, y, behind, follows in (
        (rear - 0.01, 0.0, True, True), (rear + 0.01, 0.0, False, False),
        (-15.0, (V.width + 1.9) / 2 + 0.49, True, True), (-15.0, (V.width + 1.9) / 2 + 0.51, True, False),
        (-15.0, -(V.width + 1.9) / 2 - 0.51, True, False), (-15.0, -(V.width + 1.9) / 2 - 0.49, True, True),
        (-15.0, 15.0 * np.tan(np.pi - C.rear_bearing) - 0.05, True, False),
        (-15.0, 15.0 * np.tan(np.pi - C.rear_bearing) + 0.05, False, False),
        (-15.0, -15.0 * np.tan(np.pi - C.rear_bearing) + 0.05, True, False),
        (-15.0, -15.0 * np.tan(np.pi - C.rear_bearing) - 0.05, False, False), (15.0, 0.0, False, False),
    ):  # fmt: skip
        for found in (place(x, y), sets(wide(8.0, (agent(x, y, 0.0, 9.0),)).transformed(
                torch.tensor([20.0, 7.0, 2.3], dtype=F64)))):  # fmt: skip
            assert (bool(found.behind[0]), bool(found.following[0])) == (behind, follows), (x, y)
    # Turned across: its corner decides.
    assert bool(place(-V.rear - 0.95 - 0.01, 0.0, np.pi / 2).behind[0])
    assert not bool(place(-V.rear - 0.95 + 0.01, 0.0, np.pi / 2).behind[0])


def test_the_gap_to_ego_now_is_exact_and_below_the_clearance_it_touches() -> None:
    for gap, touching in ((C.clearance + 1e-6, False), (C.clearance - 1e-6, True), (-0.2, True)):
        found = sets(wide(8.0, (agent(V.front + gap + 2.25, 0.3),)))
        assert found.gap[0] == pytest.approx(gap)
        assert bool(found.touching[0]) is touching
    corner = sets(wide(8.0, (agent(V.front + 3.0 + 2.25, V.width / 2 + 4.0 + 0.95),)))
    assert corner.gap[0] == pytest.approx(5.0)


# -- forecasts -------------------------------------------------------------------------------------


def polygon(x: float, y: float, yaw: float, size: np.ndarray) -> shapely.Polygon:
    c, s = np.cos(yaw), np.sin(yaw)
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * size / 2
    return shapely.Polygon(half @ np.array([[c, s], [-s, c]]) + [x, y])


def test_forecast_boxes_hold_what_is_forecast_and_hardly_more(rng: np.random.Generator) -> None:
    """Every pose between now and the forecast's own times, by plain interpolation; the box is hardly larger."""
    scene = with_modes(wide(8.0, (agent(20.0, 3.0, 0.4, 6.0, track_id=2), agent(9.0, -3.0, 3.1, 2.0, track_id=5))), 2)
    f = scene.futures
    t = f.time.numpy()
    yaw, mean = f.yaw.numpy().copy(), f.mean.numpy().copy()
    for a in range(2):
        for m in range(2):
            bend = rng.uniform(-0.5, 0.5)
            yaw[a, m] = yaw[a, m] + bend * t
            mean[a, m] = mean[a, m] + 0.4 * np.stack([np.sin(t), bend * t**2], 1)
    wrapped = np.mod(yaw + np.pi, 2 * np.pi) - np.pi
    scene = scene.replace(futures=f.replace(yaw=torch.from_numpy(wrapped), mean=torch.from_numpy(mean)))
    found = sets(scene)
    assert predicted(found).owner.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(predicted(found).probability, 0.5)
    assert predicted(found).center.shape == (30, 4, 2)
    time = np.concatenate([[0.0], t])
    for n, (a, m) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        now = scene.agents.box[a].numpy()
        xy, turn = np.concatenate([now[None, :2], mean[a, m]]), np.concatenate([now[2:3], yaw[a, m]])
        for k in range(30):
            box = shapely.Polygon(predicted(found).boxes.corners[k, n]).buffer(1e-9)
            at = 0.1 * (k + np.linspace(0, 1, 5))
            rows = zip(*(np.interp(at, time, values) for values in (xy[:, 0], xy[:, 1], turn)))
            poses = [polygon(*row, now[3:5]) for row in rows]
            assert all(box.covers(p) for p in poses)
            assert box.area <= shapely.union_all(poses).convex_hull.area + 0.9


def test_a_straight_forecasts_box_is_exact() -> None:
    for yaw, v in ((0.0, 5.0), (2.0, 3.0), (-1.0, 0.0)):
        found = predicted(sets(wide(8.0, (agent(20.0, 3.0, yaw, v),))))
        np.testing.assert_allclose(found.boxes.half[:, 0], [[2.25 + 0.05 * v, 0.95]] * 30, atol=1e-9)
        np.testing.assert_allclose(found.boxes.axis[:, 0], [[np.cos(yaw), np.sin(yaw)]] * 30, atol=1e-9)
        middle = (0.1 * np.arange(30) + 0.05)[:, None] * v * np.array([np.cos(yaw), np.sin(yaw)])
        np.testing.assert_allclose(found.center[:, 0], np.array([20.0, 3.0]) + middle, atol=1e-9)
        assert not found.boxes.disc.any()
    # A move aside of its heading widens it by half of the move.
    scene = wide(8.0, (agent(20.0, 3.0, 0.0, 0.0),))
    f = scene.futures
    mean = f.mean + torch.tensor([0.0, 2.0], dtype=F64) * f.time[:, None]
    aside = predicted(sets(scene.replace(futures=f.replace(mean=mean))))
    np.testing.assert_allclose(aside.boxes.half[:, 0], [[2.25, 0.95 + 0.1]] * 30, atol=1e-9)
    # A turn on the spot: the corners' reach at half of the turn.
    turning = predicted(sets(scene.replace(futures=f.replace(yaw=f.yaw + 0.6 * f.time))))
    c, s = np.cos(0.03), np.sin(0.03)
    np.testing.assert_allclose(turning.boxes.half[:, 0], [[c * 2.25 + s * 0.95, s * 2.25 + c * 0.95]] * 30, atol=1e-9)
    np.testing.assert_allclose(turning.boxes.axis[:, 0, 1], np.sin(0.06 * (np.arange(30) + 0.5)), atol=1e-9)


def test_modes_count_from_their_probability_and_where_they_say_something() -> None:
    scene = with_modes(wide(8.0, (agent(20.0, 3.0, 0.0, 5.0),)), 3)
    f = scene.futures
    probability = torch.tensor([[C.mode_probability, C.mode_probability - 1e-6, 0.8]], dtype=F64)
    valid = f.valid.clone()
    valid[0, 2, 4] = False
    valid[0, 0, 12:] = False
    found = sets(scene.replace(futures=f.replace(probability=probability, valid=valid)))
    np.testing.assert_allclose(predicted(found).probability, [C.mode_probability, 0.8])
    x = predicted(found).center[:, :, 0]
    # Mode 1 says nothing at 1.0 s: nothing between 0.8 and 1.2 s. Mode 0 ends at 2.4 s.
    away = np.flatnonzero(x[:, 1] > 1e5).tolist()
    assert away == [8, 9, 10, 11]
    away = np.flatnonzero(x[:, 0] > 1e5).tolist()
    assert away == list(range(24, 30))
    silent = scene.replace(futures=f.replace(valid=torch.zeros_like(valid)))
    assert predicted(sets(silent)).center.shape == (30, 0, 2)


def test_a_forecast_ends_with_its_last_time() -> None:
    scene = wide(8.0, (agent(20.0, 3.0, 0.0, 5.0),))
    f = scene.futures
    for count, last in ((5, 10), (1, 2)):
        short = f.replace(mean=f.mean[:, :, :count], yaw=f.yaw[:, :, :count], covariance=f.covariance[:, :, :count],
                          time=f.time[:count], valid=f.valid[:, :, :count])  # fmt: skip
        x = predicted(sets(scene.replace(futures=short))).center[:, 0, 0]
        np.testing.assert_allclose(x[:last], 20.0 + 5.0 * 0.1 * (np.arange(last) + 0.5))
        assert (x[last:] > 1e5).all()
    none = f.replace(mean=f.mean[:, :, :0], yaw=f.yaw[:, :, :0], covariance=f.covariance[:, :, :0], time=f.time[:0],
                     valid=f.valid[:, :, :0])  # fmt: skip
    assert predicted(sets(scene.replace(futures=none))).center.shape == (30, 0, 2)
    assert predicted(sets(wide())).center.shape == (30, 0, 2)


def test_obstacles_without_a_forecast_go_on_straight() -> None:
    scene = wide(8.0, (agent(20.0, 3.0, 0.0, 5.0),))
    found = sets(scene, raw([(12.0, -4.0)]))
    assert predicted(found).owner.tolist() == [0, 1]
    assert predicted(found).probability.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(predicted(found).center[:, 1, 0], 12.0 + 2.0 * 0.1 * (np.arange(30) + 0.5))
    np.testing.assert_allclose(predicted(found).center[:, 1, 1], -4.0)
    np.testing.assert_allclose(predicted(found).boxes.axis[:, 1], [[np.cos(0.3), np.sin(0.3)]] * 30)
    longer = sets(scene, raw([(12.0, -4.0)]), nominal_horizon=2.05)
    assert len(predicted(longer).center) == 21


# -- who gives way ---------------------------------------------------------------------------------

EGO = np.array([10.0, 0.0, 0.0, 8.0, 0.0, 0.0])


def route(bend_at: float, turn: float, count: int = 101) -> np.ndarray:
    """Along x from 0, a point every metre, turned by `turn` at `bend_at`."""
    s = np.arange(count, dtype=float)
    after = np.maximum(s - bend_at, 0.0)
    return np.stack([np.minimum(s, bend_at) + after * np.cos(turn), after * np.sin(turn)], 1)


def users(*rows: tuple[float, float, float, float], kind: AgentClass = CAR, rate: float = 0.0) -> Objects:
    """x, y, yaw, speed of each."""
    pose = np.array([r[:3] for r in rows], float).reshape(-1, 3)
    v = np.array([r[3] for r in rows], float)[:, None] * np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], 1)
    count = len(rows)
    return Objects(pose, np.array([[4.5, 1.9]] * count).reshape(-1, 2), v, np.full(count, int(kind)), np.arange(count),
                   np.full(count, rate))  # fmt: skip


@pytest.mark.parametrize(("bend_at", "turn", "straight"), [
    (30.0, 0.59, True), (30.0, 0.61, False), (30.0, -0.59, True), (30.0, -0.61, False),
    (48.0, 1.0, False), (51.0, 1.0, True), (9.0, 1.0, True), (5.0, -1.0, True), (11.0, 1.0, False),
])  # fmt: skip
def test_ego_goes_straight_on_over_the_distance_ahead(bend_at: float, turn: float, straight: bool) -> None:
    """40 m ahead of the route's point nearest to ego at 10 m; what is behind does not matter."""
    xy = route(bend_at, turn)
    ego = EGO.copy()
    if bend_at < 10.0:
        ego[:2] = xy[10]
    for c, s in ((1.0, 0.0), (np.cos(2.9), np.sin(2.9)), (0.0, 1.0)):
        turned = np.array([[c, s], [-s, c]])
        there = np.array([*(ego[:2] @ turned), *ego[2:]])
        assert goes_straight(there, xy @ turned + 0.0, TABLE) is straight


def test_a_route_of_one_piece_is_enough_to_wait_beside() -> None:
    xy = np.array([[0.0, 0.0], [60.0, 0.0]])
    assert waits(xy, users((1.0, 8.0, -np.pi / 2, 1.0)), TABLE).tolist() == [True]


def test_without_a_route_nobody_gives_way() -> None:
    for xy in (np.zeros((0, 2)), np.zeros((1, 2))):
        assert goes_straight(EGO, xy, TABLE) is False
        assert not gives_way(EGO, xy, users((30.0, 3.5, np.pi, 5.0)), TABLE).any()
        assert not waits(xy, users((30.0, 8.0, -np.pi / 2, 1.0)), TABLE).any()
    assert waits(route(90.0, 0.0), users(), TABLE).shape == (0,)


def test_oncoming_vehicles_give_way_just_inside_and_outside() -> None:
    xy = route(90.0, 0.0)
    yaws = np.array([2.51, 2.49, -2.51, -2.49, np.pi, 0.0])
    found = gives_way(EGO, xy, users(*((30.0, 3.5, y, 5.0) for y in yaws)), TABLE)
    assert found.tolist() == [True, False, True, False, True, False]
    for rate, gives in ((0.099, True), (0.101, False), (-0.099, True), (-0.101, False)):
        assert bool(gives_way(EGO, xy, users((30.0, 3.5, np.pi, 5.0), rate=rate), TABLE)[0]) is gives
    assert not gives_way(EGO, xy, users((30.0, 3.5, np.pi, 1.0), kind=AgentClass.PEDESTRIAN), TABLE).any()
    assert not gives_way(EGO, route(30.0, 1.0), users((30.0, 3.5, np.pi, 5.0)), TABLE).any()
    # The heading is the route's where ego is: here it has turned by a right angle behind ego.
    bent = route(5.0, np.pi / 2)
    ego = np.array([5.0, 10.0, np.pi / 2, 8.0, 0.0, 0.0])
    assert gives_way(ego, bent, users((2.0, 40.0, -np.pi / 2, 5.0), (2.0, 40.0, np.pi, 5.0)), TABLE).tolist() == [
        True, False
    ]  # fmt: skip


@pytest.mark.parametrize("side", [1, -1])
def test_who_waits_beside_the_way_just_inside_and_outside(side: int) -> None:
    """Slower than 2 m/s, pointing at the route by more than 0.6 rad, its nearest corner more than 2.5 m beside it."""
    xy = route(90.0, 0.0)
    across = -side * np.pi / 2
    wait = lambda x, y, yaw, v, **more: bool(waits(xy, users((x, side * y, yaw, v), **more), TABLE)[0])  # noqa: E731
    assert wait(30.4, 8.0, across, 1.99)
    assert not wait(30.4, 8.0, across, 2.0)
    assert not wait(30.4, 8.0, -across, 1.0), "points away"
    assert wait(30.4, 8.0, -side * 0.61, 1.0)
    assert not wait(30.4, 8.0, -side * 0.59, 1.0)
    assert wait(30.4, 8.0, -side * (np.pi - 0.61), 1.0)
    assert not wait(30.4, 8.0, -side * (np.pi - 0.59), 1.0)
    assert wait(30.4, 2.5 + 2.25 + 0.01, across, 1.0)
    assert not wait(30.4, 2.5 + 2.25 - 0.01, across, 1.0)
    reach = np.sin(1.0) * 2.25 + np.cos(1.0) * 0.95
    assert wait(30.4, 2.5 + reach + 0.01, -side * 1.0, 1.0)
    assert not wait(30.4, 2.5 + reach - 0.01, -side * 1.0, 1.0)
    assert not wait(30.4, 8.0, across, 1.0, kind=AgentClass.PEDESTRIAN)


def test_who_waits_is_judged_by_the_piece_of_the_route_nearest_to_it() -> None:
    xy = route(30.0, np.pi / 2)
    found = waits(xy, users((22.0, 40.0, 0.0, 1.0), (22.0, 40.0, np.pi / 2, 1.0), (15.0, -8.0, np.pi / 2, 1.0),
                            (15.0, -8.0, 0.0, 1.0)), TABLE)  # fmt: skip
    assert found.tolist() == [True, False, True, False]

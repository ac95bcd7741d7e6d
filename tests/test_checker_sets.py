"""Worst-case sets: their exact extent by hand and against finely integrated motion, nothing less and hardly more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from scipy.integrate import solve_ivp

from planner.checker import Assumptions, occupancy, ways
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects
from planner.checker.occupancy import Occupancy, distance_bounds
from planner.scene import AgentClass

TABLE = Assumptions()
STEP, COUNT = 0.1, 40
NONE = LaneGraph.from_lists([], 1.0)
CAR, WALKER = AgentClass.CAR, AgentClass.PEDESTRIAN


def users(*rows: tuple, kinds: tuple = (), turn: float = 0.0, size: tuple = (4.5, 1.9)) -> Objects:
    """x, y, yaw, speed of each; cars unless said otherwise."""
    count = len(rows)
    pose = np.array([r[:3] for r in rows], float).reshape(-1, 3)
    v = np.array([r[3] for r in rows], float)[:, None] * np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], 1)
    kind = np.array([int(k) for k in (kinds or (CAR,) * count)], dtype=np.int64)
    return Objects(pose, np.array([size] * count, float).reshape(-1, 2), v, kind, np.arange(count) + 5,
                   np.full(count, turn))  # fmt: skip


def sets(objects: Objects, lanes: LaneGraph = NONE, table: Assumptions = TABLE, **more) -> Occupancy:
    return Occupancy(objects, table, lanes, STEP, 80.0, **more)


def areas(occupancy: Occupancy, owner: int = 0, count: int = COUNT) -> list[shapely.Geometry]:
    """One geometry per interval."""
    boxes, mine = occupancy.boxes(count), occupancy.owner == owner
    parts = shapely.buffer(shapely.polygons(boxes.corners[:count, mine]), boxes.disc[:count, mine], quad_segs=32)
    return [shapely.union_all(row) for row in parts]


def least_and_most(v: float, t: float, braking: float, acceleration: float, top: float) -> tuple[float, float]:
    stop = min(t, v / braking)
    gain = min(t, max(top - v, 0.0) / acceleration)
    return v * stop - braking * stop**2 / 2, v * gain + acceleration * gain**2 / 2 + max(top, v) * (t - gain)


# -- standing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CAR, AgentClass.BUS, AgentClass.BICYCLE])
@pytest.mark.parametrize("yaw", [0.0, 2.5])
def test_a_standing_vehicle_creeps_forward_within_its_bound(kind: AgentClass, yaw: float) -> None:
    bounds = TABLE.bounds[kind]
    found = sets(users((10.0, 4.0, yaw, 0.0), kinds=(kind,)))
    boxes = found.boxes(COUNT)
    assert found.owner.tolist() == [0]
    for k in (0, 9, 15, COUNT - 1):
        grown = min(0.5 * bounds.standing_acceleration * (STEP * (k + 1)) ** 2, bounds.standing_deviation)
        ahead = np.array([np.cos(yaw), np.sin(yaw)])
        np.testing.assert_allclose(boxes.center[k, 0], [10.0, 4.0] + 0.5 * grown * ahead, atol=1e-12)
        np.testing.assert_allclose(boxes.half[k, 0], [2.25 + 0.5 * grown, 0.95])
        np.testing.assert_allclose(boxes.axis[k, 0], ahead)
        assert boxes.disc[k, 0] == 0.0


def test_a_standing_walker_may_step_anywhere_and_a_wall_nowhere() -> None:
    bounds = TABLE.bounds[WALKER]
    boxes = sets(users((1.0, 2.0, 0.4, 0.0), kinds=(WALKER,), size=(0.6, 0.5))).boxes(COUNT)
    for k in (0, 9, 15, COUNT - 1):
        grown = min(0.5 * bounds.standing_acceleration * (STEP * (k + 1)) ** 2, bounds.standing_deviation)
        np.testing.assert_allclose(boxes.center[k, 0], [1.0, 2.0])
        np.testing.assert_allclose(boxes.half[k, 0], [0.3, 0.25])
        assert boxes.disc[k, 0] == pytest.approx(grown)
    wall = sets(users((1.0, 2.0, 0.4, 0.0), kinds=(AgentClass.STATIC,))).boxes(COUNT)
    np.testing.assert_allclose(wall.half[-1, 0], [2.25, 0.95])
    np.testing.assert_allclose(wall.center[-1, 0], [1.0, 2.0])


def test_who_stands_and_who_moves_just_inside_and_outside() -> None:
    for v, pieces in ((0.49, 1), (0.5, TABLE.pieces)):
        assert len(sets(users((0.0, 0.0, 0.0, v))).owner) == pieces
    both = sets(users((0, 0, 0, 5.0), (20, 0, 0, 0.0), (40, 0, 0, 3.0)))
    assert both.owner.tolist() == [1] + [0] * TABLE.pieces + [2] * TABLE.pieces
    assert both.boxes(10).center.shape[1] == len(both.owner)
    centre = both.boxes(10).center[0, :, 0]
    assert centre[0] == pytest.approx(20.0, abs=0.01)
    assert np.abs(centre[1 : 1 + TABLE.pieces]).max() < 1.0
    assert np.abs(centre[1 + TABLE.pieces :] - 40).max() < 1.0


# -- moving straight on ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "v"), [(CAR, 8.0), (CAR, 24.5), (AgentClass.TRUCK, 1.0), (AgentClass.BICYCLE, 9.8)])
def test_a_vehicle_is_between_full_braking_and_full_acceleration(kind: AgentClass, v: float) -> None:
    b = TABLE.bounds[kind]
    for yaw in (0.0, -2.0):
        turn = shapely.affinity.rotate
        for k, area in enumerate(areas(sets(users((3.0, 2.0, yaw, v), kinds=(kind,))))):
            flat = turn(area, -yaw, origin=(3.0, 2.0), use_radians=True)
            low, _ = least_and_most(v, STEP * k, b.braking, b.acceleration, b.speed_max)
            _, high = least_and_most(v, STEP * (k + 1), b.braking, b.acceleration, b.speed_max)
            side = min(0.5 * b.lateral_acceleration * (STEP * (k + 1)) ** 2, b.lateral_deviation)
            np.testing.assert_allclose(
                flat.bounds, [3.0 + low - 2.25, 2.0 - 0.95 - side, 3.0 + high + 2.25, 2.0 + 0.95 + side], atol=1e-6
            )
            assert area.area == pytest.approx((high - low + 4.5) * (1.9 + 2 * side), rel=1e-6), "the pieces are one box"


@pytest.mark.parametrize("v", [0.5, 1.4, 3.9, 5.0])
def test_a_walker_is_along_its_velocity_and_a_growing_disc_around(v: float) -> None:
    b = TABLE.bounds[WALKER]
    for k, area in enumerate(areas(sets(users((0.0, 0.0, 0.0, v), kinds=(WALKER,), size=(0.6, 0.6))))):
        end = STEP * (k + 1)
        low, _ = least_and_most(v, STEP * k, b.braking, b.acceleration, b.speed_max)
        _, high = least_and_most(v, end, b.braking, b.acceleration, b.speed_max)
        disc = min(0.5 * b.lateral_acceleration * end**2, b.lateral_deviation)
        far = max(v * end, high - disc)
        np.testing.assert_allclose(
            area.bounds, [low - 0.3 - disc, -0.3 - disc, far + 0.3 + disc, 0.3 + disc], atol=2e-3
        )


def test_whoever_waits_gains_speed_slowly() -> None:
    for waiting in (True, False):
        a = TABLE.waiting_acceleration if waiting else TABLE.bounds[CAR].acceleration
        for widening in (1.0, 2.0):
            found = areas(sets(users((0, 0, 0, 1.0)), waiting=np.array([waiting]), widening=widening))
            t = STEP * COUNT
            assert found[-1].bounds[2] == pytest.approx(2.25 + t + 0.5 * widening * a * t**2)


def test_widening_scales_every_acceleration_and_deviation() -> None:
    b = TABLE.bounds[CAR]
    found = areas(sets(users((0, 0, 0, 10.0)), widening=1.5))[29]
    low, _ = least_and_most(10.0, 2.9, 1.5 * b.braking, 1.0, 1.0)
    _, high = least_and_most(10.0, 3.0, 1.0, 1.5 * b.acceleration, b.speed_max)
    side = 1.5 * min(0.5 * b.lateral_acceleration * 9, b.lateral_deviation)
    np.testing.assert_allclose(found.bounds, [low - 2.25, -0.95 - side, high + 2.25, 0.95 + side], atol=1e-6)
    standing = sets(users((0, 0, 0, 0.0)), widening=1.5).boxes(40)
    assert standing.half[39, 0, 0] - 2.25 == pytest.approx(0.5 * 1.5 * b.standing_deviation)
    assert standing.half[9, 0, 0] - 2.25 == pytest.approx(0.25 * 1.5 * b.standing_acceleration)


def test_distance_bounds_agree_with_integrated_motion(rng: np.random.Generator) -> None:
    v, b, a = rng.uniform(0, 15, 8), rng.uniform(0.5, 6, 8), rng.uniform(0.2, 3, 8)
    top = v + rng.uniform(-3, 3, 8)
    time = np.linspace(0, 6, 25)
    least, most = distance_bounds(v, time, b, a, top)
    fine = np.linspace(0, 6, 60001)
    for i in range(8):
        slow = np.maximum(v[i] - b[i] * fine, 0.0)
        fast = np.minimum(v[i] + a[i] * fine, max(v[i], top[i]))
        for speed, found in ((slow, least[i]), (fast, most[i])):
            driven = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 1e-4)])
            np.testing.assert_allclose(found, driven[::2500], atol=1e-4)
    still = distance_bounds(np.array([2.0]), time, np.zeros(1), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(still[0][0], 2 * time)
    np.testing.assert_allclose(still[1][0], 2 * time)


# -- turning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("v", "rate"), [(6.0, 0.3), (6.0, -0.5), (3.0, 2.0), (0.6, 0.1)])
def test_the_arc_of_a_turning_vehicle_is_the_integrated_one(v: float, rate: float) -> None:
    """Turns at its rate (as sharply as its class can) for a second, then straightens over another."""
    sharpest = TABLE.bounds[CAR].curvature_max
    bend = np.clip(rate / max(v, 1.0), -sharpest, sharpest)
    hold, fade = TABLE.turn_hold, TABLE.turn_fade
    share = lambda s: np.clip(1.0 - (s / v - hold) / fade, 0.0, 1.0)  # noqa: E731
    flow = lambda s, q: (np.cos(q[2]), np.sin(q[2]), bend * share(s))  # noqa: E731
    way = solve_ivp(flow, (0.0, 40.0), (3.0, -1.0, 0.5), max_step=0.05, dense_output=True).sol
    found = sets(users((3.0, -1.0, 0.5, v), turn=rate))
    owner, ways = found.ways()
    assert owner.tolist() == [0]
    for s in range(0, 31, 3):
        np.testing.assert_allclose(ways[0, s], way(s), atol=0.25)
    for k, area in enumerate(areas(found, count=25)):
        low, _ = least_and_most(v, STEP * k, 5.0, 1.5, 25.0)
        _, high = least_and_most(v, STEP * (k + 1), 5.0, 1.5, 25.0)
        side = min(0.25 * (STEP * (k + 1)) ** 2, 0.5)
        bodies = []
        for s in np.linspace(low, high, 25):
            x, y, yaw = way(s)
            half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [2.25, 0.95 + side]
            bodies.append(
                shapely.Polygon(half @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]) + [x, y])
            )
        truth = shapely.union_all(bodies)
        assert area.buffer(0.12).covers(truth), k
        assert area.area <= truth.area * 1.25 + 0.3, k


# -- along lanes -----------------------------------------------------------------------------------


def bend(radius: float, before: float, after: float = 60.0, angle: float = np.pi / 2) -> np.ndarray:
    """Straight along x for `before` m, an arc to the left, straight on; a point every half metre."""
    s = np.arange(0.0, before + radius * angle + after, 0.5)
    turned = np.clip((s - before) / radius, 0.0, angle)
    x = np.minimum(s, before) + radius * np.sin(turned)
    y = radius * (1 - np.cos(turned))
    rest = np.maximum(s - before - radius * angle, 0.0)
    return np.stack([x + rest * np.cos(angle), y + rest * np.sin(angle)], 1)


def test_nobody_takes_a_bend_faster_than_cornering_allows() -> None:
    """The farthest place along a lane by a time: numerically, braking for the bend and accelerating out of it."""
    radius, before, v = 12.0, 25.0, 9.0
    b = TABLE.bounds[CAR]
    lane = bend(radius, before)
    found = sets(users((0.0, 0.0, 0.0, v)), LaneGraph.from_lists([lane], 1.0))
    s = np.arange(0.0, 80.0, 0.01)
    allowed = np.where((s > before) & (s < before + radius * np.pi / 2), TABLE.cornering * radius, np.inf)
    square = np.minimum(v**2 + 2 * b.acceleration * s, allowed)
    for i in range(len(s) - 2, -1, -1):
        square[i] = min(square[i], square[i + 1] + 2 * b.braking * 0.01)
    for i in range(1, len(s)):
        square[i] = min(square[i], square[i - 1] + 2 * b.acceleration * 0.01)
    time = np.concatenate([[0.0], np.cumsum(0.01 / np.sqrt((square[1:] + square[:-1]) / 2))])
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(lane, axis=0).T))])
    for k, area in enumerate(areas(found, count=60)):
        most = np.interp(STEP * (k + 1), time, s)
        tip = np.array([np.interp(most + 2.0, length, lane[:, c]) for c in (0, 1)])
        if most > 29.0:  # round the bend, where only the lane leads
            assert area.buffer(0.8).covers(shapely.Point(tip)), k
            beyond = np.array([np.interp(most + 2.25 + 2.2, length, lane[:, c]) for c in (0, 1)])
            assert not area.covers(shapely.Point(beyond)), k


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_pieces_of_a_bend_hold_every_place_between(side: float) -> None:
    """Some brake to rest before it, some drive on through it: long pieces around a tight bend, and no gap."""
    lane = bend(12.0, 6.0) * [1.0, side]
    found = sets(users((0.0, 0.0, 0.0, 5.0), size=(4.5, 0.4)), LaneGraph.from_lists([lane], 1.0))
    _, (way,) = found.ways()
    for k, area in enumerate(areas(found, count=45)):
        low, _ = least_and_most(5.0, STEP * k, 5.0, 1.5, 25.0)
        for s in np.linspace(low, 5.0 * STEP * (k + 1), 40):
            x, y, yaw = (np.interp(s, np.arange(len(way)), way[:, c]) for c in range(3))
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            grown = min(0.25 * (STEP * (k + 1)) ** 2, 0.5)
            half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [2.25, 0.2 + grown]
            assert area.buffer(0.03).covers(shapely.Polygon(half @ turn + [x, y])), (k, s)


@pytest.mark.parametrize(("v", "follows"), [(7.0, True), (7.4, False)])
def test_a_lane_too_sharp_for_the_present_speed_is_not_followed(v: float, follows: bool) -> None:
    """In a circle of 10 m, up to 1.3 times the square of what 4 m/s^2 allow: 7.2 m/s."""
    angle = np.linspace(-1.0, 3.0, 161)
    circle = np.stack([10 * np.sin(angle), 10 - 10 * np.cos(angle)], 1)
    found = sets(users((0.0, 0.0, 0.0, v)), LaneGraph.from_lists([circle], 1.0))
    assert len(found.owner) == (1 + follows) * TABLE.pieces


def test_who_gives_way_does_not_turn_off_its_way() -> None:
    lanes = [bend(20.0, 10.0, angle=turn) for turn in (0.55, 0.65, -0.0)]
    graph = LaneGraph.from_lists(lanes, 1.0)
    for yielding, count in ((True, 3), (False, 4)):
        found = sets(users((0.0, 0.0, 0.0, 6.0)), graph, yielding=np.array([yielding]))
        assert len(found.owner) == count * TABLE.pieces


@pytest.mark.parametrize(("kind", "follows"), [(CAR, True), (AgentClass.BICYCLE, True), (WALKER, False), (-1, True)])
def test_who_follows_lanes(kind: int, follows: bool) -> None:
    """Vehicles, and what nobody has a class for."""
    found = sets(users((0.0, 0.3, 0.0, 3.0), kinds=(kind,)), LaneGraph.from_lists([bend(20.0, 10.0)], 1.0))
    owner, way = found.ways()
    assert owner.tolist() == [0]
    assert bool(abs(way[0, 60, 2] - np.pi / 2) < 0.1) is follows


def test_the_ways_are_lanes_where_there_are_any_and_arcs_elsewhere() -> None:
    objects = users((0.0, 0.0, 0.0, 5.0), (0.0, 40.0, 0.0, 5.0), (5.0, 0.5, 0.0, 5.0), (30.0, 3.0, 0.0, 0.0))
    graph = LaneGraph.from_lists([bend(20.0, 10.0), bend(20.0, 10.0, angle=0.4)], 1.0)
    owner, way = sets(objects, graph).ways()
    assert owner.tolist() == [1, 0, 0, 2, 2]
    np.testing.assert_allclose(way[0, :20, :2], [[x, 40.0] for x in range(20)], atol=1e-9)
    ends = np.round(way[1:, 70, 2], 2).tolist()
    assert ends == [1.57, 0.4, 1.57, 0.4]
    assert way.shape[1] == 82


def test_a_car_that_does_not_point_along_its_lane_is_carried_turned() -> None:
    """Moves along the lane, its body at an angle to it: the sets hold the turned body."""
    pose, v = np.array([[0.0, 0.0, 0.3]]), np.array([[6.0, 0.0]])
    objects = Objects(pose, np.array([[4.5, 1.9]]), v, np.array([int(CAR)]), np.array([5]), np.zeros(1))
    for lanes in (NONE, LaneGraph.from_lists([np.array([[-5.0, 0.0], [100.0, 0.0]])], 1.0)):
        for k, area in enumerate(areas(sets(objects, lanes))):
            side = min(0.25 * (STEP * (k + 1)) ** 2, 0.5)
            across = np.sin(0.3) * 2.25 + np.cos(0.3) * 0.95
            along = np.cos(0.3) * 2.25 + np.sin(0.3) * 0.95
            low, _ = least_and_most(6.0, STEP * k, 5.0, 1.5, 25.0)
            _, high = least_and_most(6.0, STEP * (k + 1), 5.0, 1.5, 25.0)
            np.testing.assert_allclose(
                area.bounds, [low - along, -across - side, high + along, across + side], atol=1e-6
            )


@pytest.mark.parametrize(("v", "sharpest"), [(2.0, 0.2), (8.0, 1.3 * 4.0 / 64)])
@pytest.mark.parametrize("yaw", [0.3, -0.25])
@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_a_lane_is_turned_into_as_sharply_as_can_be(v: float, sharpest: float, yaw: float, turn: float) -> None:
    """From where it is, as it points, along a parabola to the lane's direction: half of angle times way aside."""
    lane = np.stack([np.arange(-5.0, 90.0), np.zeros(95)], 1)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    start = np.array([3.0, 0.4]) @ rotation
    found = sets(users((*start, turn + yaw, v)), LaneGraph.from_lists([lane @ rotation], 1.0))
    _, (way,) = found.ways()
    flat = way[:, :2] @ rotation.T
    length = abs(yaw) / sharpest
    s = np.minimum(np.arange(len(way)), length)
    np.testing.assert_allclose(way[:, 2], turn + yaw * (1 - s / length), atol=1e-9)
    np.testing.assert_allclose(flat[:, 1], 0.4 + yaw * (s - s**2 / (2 * length)), atol=1e-9)
    np.testing.assert_allclose(flat[:, 0], 3.0 + np.arange(len(way)), atol=1e-9)


def test_beyond_the_end_of_its_samples_a_way_goes_straight_on() -> None:
    found = Occupancy(users((0.0, 0.0, 0.7, 20.0)), TABLE, NONE, STEP, 10.0)
    area = areas(found, count=40)[-1]
    _, high = least_and_most(20.0, 4.0, 5.0, 1.5, 25.0)
    tip = (high + 2.25) * np.array([np.cos(0.7), np.sin(0.7)])
    assert area.buffer(1e-6).covers(shapely.Point(tip - 1e-3))
    assert not area.covers(shapely.Point(1.001 * tip + 1e-3))


def test_sets_hardly_depend_on_how_finely_ways_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arcs, and a lane that is braked for, sampled every metre or every half."""
    lanes = LaneGraph.from_lists([bend(12.0, 25.0)], 1.0)
    objects = users((0.0, 0.3, 0.0, 9.0), (0.0, 30.0, 0.3, 6.0), turn=0.2)
    plain = sets(objects, lanes)
    coarse = [areas(plain, owner, 45) for owner in (0, 1)]
    for module in (ways, occupancy):
        monkeypatch.setattr(module, "STATION", 0.5)
    half = sets(objects, lanes)
    assert half.ways()[1].shape[1] == 2 * plain.ways()[1].shape[1] - 2
    for owner in (0, 1):
        for one, two in zip(coarse[owner], areas(half, owner, 45)):
            assert one.hausdorff_distance(two) < 0.5
            assert one.symmetric_difference(two).area < 0.08 * one.area


def test_sets_of_longer_horizons_begin_with_those_of_shorter_ones() -> None:
    found = sets(users((0, 0, 0, 5.0), (9, 3, 0, 0.0)))
    longer = found.boxes(45)
    for count in (4, 30, 31):
        shorter = found.boxes(count)
        assert len(shorter.center) >= count
        for name in ("center", "axis", "half", "disc"):
            np.testing.assert_allclose(getattr(longer, name)[:count], getattr(shorter, name)[:count])


def test_no_objects_have_no_sets() -> None:
    nothing = users()
    found = sets(nothing)
    assert found.boxes(30).center.shape == (30, 0, 2)
    assert found.ways()[0].tolist() == []
    assert len(sets(users((0, 0, 0, 5.0)), table=replace(TABLE, pieces=3)).owner) == 3

"""Worst-case sets: every bounded motion stays inside, and every assumption in the table matters."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import shapely

from planner.checker.assumptions import DEFAULT_BOUNDS, RAW, Assumptions
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects
from planner.checker.occupancy import Occupancy, distance_bounds
from planner.scene import AgentClass

STEP, COUNT = 0.1, 40
NO_LANES = LaneGraph.from_lists([], 1.0)
TABLE = Assumptions()


def one(
    kind: AgentClass, v: float, pose: tuple = (0.0, 0.0, 0.0), turn: float = 0.0, size: tuple = (4.5, 1.9)
) -> Objects:
    direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
    return Objects(
        np.array([pose], dtype=float), np.array([size]), v * direction[None], np.array([int(kind)]), np.array([7]),
        np.array([turn]),
    )  # fmt: skip


def sets_of(objects: Objects, table: Assumptions = TABLE, lanes: LaneGraph = NO_LANES) -> list:
    """One shapely geometry per interval."""
    boxes = Occupancy(objects, table, lanes, STEP, 80.0).boxes(COUNT)
    parts = shapely.polygons(boxes.corners[:COUNT])
    parts = shapely.buffer(parts, boxes.disc[:COUNT], quad_segs=24)
    sets = [shapely.union_all(row).buffer(1e-6) for row in parts]
    shapely.prepare(sets)
    return sets


def box_at(x: float, y: float, yaw: float, size: tuple) -> shapely.Polygon:
    c, s = np.cos(yaw), np.sin(yaw)
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array(size) / 2
    return shapely.Polygon(half @ np.array([[c, s], [-s, c]]) + [x, y])


def travelled(rng: np.random.Generator, v: float, kind: AgentClass) -> np.ndarray:
    """Distances at the interval ends of a random motion within the class's longitudinal bounds."""
    b = TABLE.bounds[kind]
    fine, s, out = 0.01, 0.0, [0.0]
    accelerations = rng.choice([-b.braking, b.acceleration, 0.0, rng.uniform(-b.braking, b.acceleration)], 8)
    for i in range(1, round(STEP * COUNT / fine) + 1):
        a = accelerations[min(i // 60, 7)]
        new = min(max(v + a * fine, 0.0), max(b.speed_max, v))
        s, v = s + 0.5 * (v + new) * fine, new
        if i % round(STEP / fine) == 0:
            out.append(s)
    return np.array(out)


@pytest.mark.parametrize("kind", [AgentClass.CAR, AgentClass.BUS, AgentClass.MOTORCYCLE, AgentClass.BICYCLE])
@pytest.mark.parametrize("turn", [0.0, 0.25, -0.4])
def test_vehicles_moving_along_their_arc_stay_inside(rng: np.random.Generator, kind: AgentClass, turn: float) -> None:
    for v in (1.0, 5.0, 9.0):
        objects = one(kind, v, turn=turn)
        occupied = sets_of(objects)
        path = Occupancy(objects, TABLE, NO_LANES, STEP, 80.0)._path[0]
        bounds = TABLE.bounds[kind]
        for _ in range(6):
            s = travelled(rng, v, kind)
            side = rng.uniform(-1, 1)
            for k in range(COUNT):
                for end in (k, k + 1):
                    grown = min(0.5 * bounds.lateral_acceleration * (end * STEP) ** 2, bounds.lateral_deviation)
                    x, y, yaw = (np.interp(s[end], np.arange(len(path)), path[:, c]) for c in range(3))
                    x, y = x - side * grown * np.sin(yaw), y + side * grown * np.cos(yaw)
                    assert occupied[k].covers(box_at(x, y, yaw, (4.5, 1.9)).buffer(-0.03)), (kind, v, k)


def test_pedestrians_changing_their_velocity_stay_inside(rng: np.random.Generator) -> None:
    bounds = TABLE.bounds[AgentClass.PEDESTRIAN]
    for v in (0.5, 1.4, 2.5):
        occupied = sets_of(one(AgentClass.PEDESTRIAN, v, (0, 0, 0.5), size=(0.6, 0.6)))
        for _ in range(20):
            start = np.array([np.cos(0.5), np.sin(0.5)]) * v
            angle, size = rng.uniform(-np.pi, np.pi), rng.uniform(0, bounds.acceleration)
            push = size * np.array([np.cos(angle), np.sin(angle)])
            for k in range(COUNT):
                t = STEP * (k + 1)
                shift = 0.5 * push * t**2
                shift *= min(1.0, bounds.lateral_deviation / max(np.hypot(*shift), 1e-9))
                assert occupied[k].covers(box_at(*(start * t + shift), 0.5, (0.6, 0.6)).buffer(-0.02))
        stop = min(v / bounds.braking, 1.0)
        reached = v * stop - 0.5 * bounds.braking * stop**2
        place = box_at(reached * np.cos(0.5), reached * np.sin(0.5), 0.5, (0.6, 0.6)).buffer(-0.01)
        assert all(o.covers(place) for o in occupied[round(stop / STEP) + 1 :]), "one who stops at once stays inside"


def test_vehicles_following_any_branch_of_the_lanes_stay_inside(rng: np.random.Generator) -> None:
    straight = np.stack([np.linspace(-10, 20, 31), np.zeros(31)], 1)
    ahead = np.stack([np.linspace(20, 90, 71), np.zeros(71)], 1)
    angle = np.linspace(0, np.pi / 2, 30)
    bend = np.stack([20 + 15 * np.sin(angle), 15 - 15 * np.cos(angle)], 1)
    lanes = LaneGraph.from_lists([straight, ahead, bend], 1.0)
    objects = one(AgentClass.CAR, 7.0, (0.0, 0.4, 0.0))
    occupancy = Occupancy(objects, TABLE, lanes, STEP, 80.0)
    assert len(occupancy._owner) == 3, "the arc and both branches"
    occupied = sets_of(objects, lanes=lanes)
    for path in occupancy._path[1:]:
        for share in (0.0, 0.5, 1.0):
            for k in range(COUNT):
                t = k * STEP
                least, most = 7.0 * t - 2.5 * min(t, 1.4) ** 2, 7.0 * t
                s = share * most + (1 - share) * max(least if t < 1.4 else 4.9, 0.0)
                x, y, yaw = (np.interp(s, np.arange(len(path)), path[:, c]) for c in range(3))
                assert occupied[k].covers(box_at(x, y, yaw, (4.5, 1.9)).buffer(-0.05)), (share, k)


@pytest.mark.parametrize("angle", [0.3, -0.3])
@pytest.mark.parametrize("v", [4.0, 8.0, 12.0])
def test_a_lane_at_an_angle_is_turned_into_as_sharply_as_cornering_allows(v: float, angle: float) -> None:
    """Turned into at the limit and followed, a car stays inside; nothing is farther aside than the sharpest turn."""
    c, s = np.cos(angle), np.sin(angle)
    lane = LaneGraph.from_lists([np.linspace(-30, 90, 121)[:, None] * [c, s]], 1.0)
    objects = one(AgentClass.CAR, v)
    occupied = sets_of(objects, lanes=lane)
    bend = min(1.3 * TABLE.cornering / v**2, TABLE.bounds[AgentClass.CAR].curvature_max)
    turned = lambda d: min(bend * d, abs(angle)) * np.sign(angle)  # noqa: E731
    x = y = travelled_m = 0.0
    for k in range(COUNT):
        assert occupied[k].covers(box_at(x, y, turned(travelled_m), (4.5, 1.9)).buffer(-0.05)), k
        for _ in range(100):
            h = turned(travelled_m)
            x, y, travelled_m = x + 0.001 * v * np.cos(h), y + 0.001 * v * np.sin(h), travelled_m + 0.001 * v
        assert occupied[k].covers(box_at(x, y, turned(travelled_m), (4.5, 1.9)).buffer(-0.05)), k
    for k in (2, 4):
        farthest = v * (k + 1) * STEP + 0.5 * 1.5 * ((k + 1) * STEP) ** 2
        corner = min(bend * farthest**2 / 2, abs(angle) * farthest) + 2.25 * np.sin(abs(turned(farthest))) + 0.95
        grown = TABLE.bounds[AgentClass.CAR].lateral_acceleration * ((k + 1) * STEP) ** 2 / 2
        bounds = occupied[k].bounds
        assert max(-bounds[1], bounds[3]) <= corner + grown + 0.2


@pytest.mark.parametrize("angle", [0.3, -0.3])
def test_what_nobody_recognised_may_turn_into_a_lane_as_a_car_may(angle: float) -> None:
    """On the lane once the turn must be over; one that could only go on straight would be metres off."""
    lane = LaneGraph.from_lists([np.linspace(-30, 90, 121)[:, None] * [np.cos(angle), np.sin(angle)]], 1.0)
    unknown = replace(one(AgentClass.CAR, 8.0), kind=np.array([RAW]))
    occupied = sets_of(unknown, lanes=lane)
    bend = 1.3 * TABLE.cornering / 8.0**2
    aside = angle * abs(angle) / bend / 2  # lost to the side of the lane until the turn is over
    for k in range(15, COUNT):
        along = 8.0 * (k + 0.5) * STEP
        x, y = along * np.cos(angle) + aside * np.sin(angle), along * np.sin(angle) - aside * np.cos(angle)
        assert occupied[k].covers(box_at(x, y, angle, (4.5, 1.9)).buffer(-0.05)), k


def test_too_fast_for_a_bend_means_not_taking_it() -> None:
    straight = np.stack([np.linspace(-10, 6, 17), np.zeros(17)], 1)
    angle = np.linspace(0, np.pi / 2, 20)
    bend = np.stack([6 + 8 * np.sin(angle), 8 - 8 * np.cos(angle)], 1)
    lanes = LaneGraph.from_lists([straight, bend], 1.0)
    paths = lambda v: len(Occupancy(one(AgentClass.CAR, v), TABLE, lanes, STEP, 80.0)._owner)  # noqa: E731
    assert paths(6.0) == 2
    assert paths(14.0) == 1, "14 m/s cannot be braked to 5.7 m/s within 6 m"


def test_what_stands_creeps_forward_only_and_static_things_never() -> None:
    car = sets_of(one(AgentClass.CAR, 0.1))
    assert car[-1].bounds[0] >= -2.25 - 1e-5
    assert car[-1].bounds[2] == pytest.approx(2.25 + 0.5, abs=1e-5)
    cone = sets_of(one(AgentClass.STATIC, 0.0))
    assert cone[-1].symmetric_difference(box_at(0, 0, 0, (4.5, 1.9))).area < 1e-4
    person = sets_of(one(AgentClass.PEDESTRIAN, 0.0, size=(0.6, 0.6)))
    assert person[-1].bounds[0] == pytest.approx(-0.3 - 0.4, abs=1e-3)


def test_nobody_drives_backwards() -> None:
    for k, occupied in enumerate(sets_of(one(AgentClass.CAR, 5.0))):
        assert occupied.bounds[0] >= -2.25 - 1e-5, k


def test_distance_bounds_reach_their_ends() -> None:
    one_value = lambda x: np.array([x])  # noqa: E731
    least, most = distance_bounds(
        one_value(10.0), np.array([0.0, 1.0, 4.0]), one_value(5.0), one_value(1.5), one_value(25.0)
    )
    np.testing.assert_allclose(least[0], [0.0, 7.5, 10.0])
    np.testing.assert_allclose(most[0], [0.0, 10.75, 52.0])
    _, capped = distance_bounds(one_value(10.0), np.array([4.0]), one_value(5.0), one_value(2.0), one_value(12.0))
    assert capped[0, 0] == pytest.approx(10 + 1 + 12 * 3)


SETS = [f.name for f in fields(DEFAULT_BOUNDS[AgentClass.CAR])][:9]  # the others belong to RSS


@pytest.mark.parametrize("name", [name for name in SETS if name != "curvature_max"])
@pytest.mark.parametrize("kind", [AgentClass.CAR, AgentClass.PEDESTRIAN])
def test_every_assumption_changes_the_sets(name: str, kind: AgentClass) -> None:
    bounds = TABLE.bounds[kind]
    changed = replace(bounds, **{name: 0.4 * getattr(bounds, name)})
    other = Assumptions(bounds={**TABLE.bounds, kind: changed})
    different = False
    for v in (0.0, 0.2, 3.0, 0.9 * bounds.speed_max):
        a, b = sets_of(one(kind, v), TABLE), sets_of(one(kind, v), other)
        different |= any(x.symmetric_difference(y).area > 0.01 for x, y in zip(a, b))
    assert different


def test_longer_horizons_extend_the_same_sets() -> None:
    occupancy = Occupancy(one(AgentClass.CAR, 5.0), TABLE, NO_LANES, STEP, 80.0)
    short, long = occupancy.boxes(10), occupancy.boxes(60)
    assert len(long.center) >= 60
    np.testing.assert_allclose(long.half[: len(short.half)], short.half)

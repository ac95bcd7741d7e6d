"""Hulls of any two rectangles against shapely's, and the search for what is near against looking at every pair."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
import torch
from checker_probe import body, nominal_objects, predicted, tail_objects
from checker_scenes import F64, agent, drive, make_scene

from planner.checker import CheckerConfig, followers, prepare
from planner.checker.footprint import Boxes, Sweeps, boxes_from_poses, hulls, settle, standing, sweep_box_distance
from planner.checker.motion import Motion
from planner.scene import AgentClass, PolylineType, VehicleParameters, frames

V, C = VehicleParameters(), CheckerConfig()


def rectangles(pose: np.ndarray, length: np.ndarray | float = 4.0, width: np.ndarray | float = 2.0) -> Boxes:
    return boxes_from_poses(np.asarray(pose, float), length, width)


def sweeps_of(first: Boxes, second: Boxes) -> Sweeps:
    return hulls(first.corners, second.corners, np.linspace(0.0, 0.3, len(first.center)))


def pairs(rng: np.random.Generator) -> tuple[Boxes, Boxes]:
    """Anything to anything: sizes, places and turns of their own, and turns and moves that are exact."""
    count = 400
    pose, shift = rng.uniform(-2, 2, (count, 3)) * [1, 1, np.pi / 2], rng.uniform(-2, 2, (count, 3)) * [1, 1, np.pi / 2]
    kind = np.arange(count) % 8
    shift[kind == 1, 2] = 0.0
    shift[kind == 2, 2] = rng.choice([-2, -1, 1, 2], (kind == 2).sum()) * np.pi / 2
    shift[kind == 3, 2] = rng.choice([-3, -1, 1, 3], (kind == 3).sum()) * np.pi / 4
    shift[kind == 4] = 0.0
    shift[kind == 5, :2] = 0.0
    along = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], 1)
    shift[kind == 6] = np.concatenate([rng.uniform(-2, 2, (count, 1)) * along, np.zeros((count, 1))], 1)[kind == 6]
    length, width = rng.uniform(0.5, 6, count), rng.uniform(0.3, 3, count)
    other = np.where(kind == 7, rng.uniform(0.3, 2.0, count), 1.0)
    return rectangles(pose, length, width), rectangles(pose + shift, length * other, width * other)


def test_hulls_of_any_two_rectangles_are_shapelys(rng: np.random.Generator) -> None:
    first, second = pairs(rng)
    sweeps = sweeps_of(first, second)
    corners = np.concatenate([first.corners, second.corners], 1)
    for i, hull in enumerate(shapely.convex_hull(shapely.multipoints(corners))):
        start, end = sweeps.edge[i, :, 0], sweeps.edge[i, :, 1]
        length = np.hypot(*(end - start).T)
        sides = shapely.linestrings(sweeps.edge[i][length > 1e-7])
        assert shapely.union_all(sides).buffer(1e-7).covers(hull.exterior), i
        assert hull.exterior.buffer(1e-7).covers(shapely.union_all(sides)), i
        # Outward unit normals, counter-clockwise: every corner is on the left of every side.
        normal, real = sweeps.normal[i], np.isfinite(sweeps.support[i])
        np.testing.assert_array_equal(real, length > 1e-9)
        np.testing.assert_allclose(np.hypot(*normal[real].T), 1.0)
        np.testing.assert_allclose(normal[~real], 0.0)
        np.testing.assert_allclose(((end - start) * normal).sum(1), 0.0, atol=1e-9)
        np.testing.assert_allclose((start * normal).sum(1)[real], sweeps.support[i][real], atol=1e-9)
        assert ((corners[i] @ normal[real].T) <= sweeps.support[i][real] + 1e-9).all()
        reach = np.hypot(*(corners[i] - sweeps.center[i]).T).max() + sweeps.disc[i]
        assert sweeps.reach[i] == pytest.approx(reach)
    np.testing.assert_allclose(np.sort(sweeps.points, 1), np.sort(corners, 1))
    assert len(sweeps) == len(corners)
    part = sweeps.part(slice(3, 5))
    for name in part.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(part, name), getattr(sweeps, name)[3:5])


def test_distances_of_any_two_rectangles_hulls_are_shapelys(rng: np.random.Generator) -> None:
    first, second = pairs(rng)
    sweeps = sweeps_of(first, second)
    other = rectangles(rng.uniform(-5, 5, (len(sweeps), 3)), rng.uniform(0.2, 4, len(sweeps)), 0.8)
    found = sweep_box_distance(sweeps, np.arange(len(sweeps)), other)
    hull = shapely.convex_hull(shapely.multipoints(np.concatenate([first.corners, second.corners], 1)))
    truth = shapely.distance(hull, shapely.polygons(other.corners))
    apart = truth > 0
    np.testing.assert_allclose(found[apart], (truth - sweeps.disc)[apart], atol=1e-9)
    assert (found[~apart] <= -sweeps.disc[~apart] + 1e-9).all()
    assert apart.sum() > 50
    assert (~apart).sum() > 50


@pytest.mark.parametrize(("length", "width"), [(4.0, 0.0), (0.0, 2.0), (0.0, 0.0)])
def test_sides_without_length_separate_nothing(length: float, width: float) -> None:
    """A rectangle shrunk to a line or a point, at rest and moved: clear of a box beside, deep in one around it."""
    place = rectangles([[1.0, 0.5, 0.4]] * 2, length, width)
    for shift in (0.0, 1.0):
        sweeps = hulls(place.corners, place.corners + shift, np.zeros(2))
        for other, apart in (([[1.5, 1.0, 0.0]] * 2, -0.1), ([[1.0, 9.0, 0.0]] * 2, 0.5)):
            boxes = rectangles(other, 8.0, 8.0)
            found = sweep_box_distance(sweeps, np.arange(2), boxes)
            assert (np.sign(found) == np.sign(apart)).all()
            hull = shapely.multipoints(np.concatenate([place.corners[0], place.corners[0] + shift])).convex_hull
            if apart > 0:
                np.testing.assert_allclose(found, hull.distance(shapely.Polygon(boxes.corners[0])))


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("yaw", [0.0, 0.3])
def test_each_side_of_a_rectangle_at_rest_separates(side: int, yaw: float) -> None:
    """A corner of a turned square just before, just within each side, whose normals are exact where yaw is 0."""
    normal = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])[side]
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    sweeps = standing(rectangles([[0.0, 0.0, yaw]]).corners)
    for gap in (0.01, -0.01):
        centre = (np.abs(normal) @ [2.0, 1.0] + gap + 0.5) * normal @ turn
        square = rectangles([[*centre, yaw + np.pi / 4]], np.sqrt(0.5), np.sqrt(0.5))
        assert sweep_box_distance(sweeps, np.array([0]), square)[0] == pytest.approx(gap, abs=1e-9)


def test_boxes_joined_are_one_after_the_other() -> None:
    one, two = rectangles([[0, 0, 0], [1, 2, 0.5]]), rectangles([[5, 5, 1.0]], 3.0, 1.0)
    assert (one.center.shape, one.axis.shape, one.half.shape, one.disc.shape) == ((2, 2), (2, 2), (2, 2), (2,))
    many = rectangles(np.zeros((3, 2, 3)))
    assert (many.center.shape, many.half.shape, many.disc.shape) == ((3, 2, 2), (3, 2, 2), (3, 2))
    both = one.joined(two)
    for name in both.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(both, name)[:2], getattr(one, name))
        np.testing.assert_array_equal(getattr(both, name)[2:], getattr(two, name))


def test_settling_asks_for_few_and_decides_all(rng: np.random.Generator) -> None:
    """Every verdict below the limit and the smallest distance are those of the exact ones; nothing is asked twice."""
    asked = total = 0
    for _ in range(200):
        count = int(rng.integers(1, 40))
        exact = rng.uniform(-0.5, 3.0, count)
        lower = np.where(exact < 0, exact, exact * rng.uniform(0.0, 1.0, count))
        seen: list[int] = []

        def ask(p: np.ndarray, exact: np.ndarray = exact, seen: list[int] = seen) -> np.ndarray:
            seen.extend(p.tolist())
            return exact[p]

        limit = rng.choice([-0.2, 0.0, 0.05, 1.0])
        found = settle(lower.copy(), limit, ask)
        assert found.min() == exact.min()
        np.testing.assert_array_equal(found < limit, exact < limit)
        assert (found >= lower).all()
        assert (found <= exact).all()
        assert len(set(seen)) == len(seen)
        assert not len(seen) or (lower[seen] >= 0).all()
        asked, total = asked + len(seen), total + count
    assert asked < 0.6 * total


@pytest.mark.parametrize("seed", range(16))
def test_what_is_near_is_what_looking_at_every_pair_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving and standing road users of every class on bending lanes: margins, verdicts and times of both rules.

    Nobody gets behind ego here (`test_checker_followers.py`).
    """
    monkeypatch.setattr(followers, "LEFT_BEHIND", 1000)
    rng = np.random.default_rng(seed)
    v, bend = rng.uniform(4, 11), rng.uniform(-0.03, 0.03)
    plan = Motion.of(drive(v, 3.0, curvature=bend))
    kinds = list(AgentClass)
    users = []
    for i in range(8):
        x, y = plan.pose[int(rng.integers(10, 31)), :2] + rng.uniform(-7, 7, 2)
        yaw, speed, time = rng.uniform(-3, 3), rng.choice([0.0, 0.2, rng.uniform(0.5, 9.0)]), rng.uniform(0.5, 3.0)
        users.append(agent(x - speed * time * np.cos(yaw), y - speed * time * np.sin(yaw), yaw, speed,
                           kinds[int(rng.integers(len(kinds)))], track_id=i))  # fmt: skip
    s = np.linspace(0.0, 60.0, 61)
    lanes = []
    for user in users[:4]:
        x, y, yaw = user["pose"]
        heading = yaw + rng.uniform(-0.04, 0.04) * np.maximum(s - 4.0, 0.0)
        step = np.stack([np.cos(heading), np.sin(heading)], 1)
        lanes.append((torch.from_numpy(np.cumsum(step, 0) + np.array([x, y])).to(F64), PolylineType.CENTERLINE))
    scene = make_scene(v, tuple(users), lines=tuple(lanes), half_width=90.0, right_edge=90.0, curvature=bend)
    # Numbers around zero, too: the origin where most of them are.
    here = torch.tensor([-float(plan.pose[20, 0]), -float(plan.pose[20, 1]), 0.0], dtype=F64)
    if seed % 2:
        scene, plan = scene.transformed(here), replace(plan, pose=plan.pose + here.numpy())
    sets = prepare(scene, V, C)
    disc = plan.sweeps(V).disc
    outline = [shapely.union_all([body(a), body(b)]).convex_hull for a, b in pairwise(plan.pose)]
    left_out = sets.touching | sets.behind
    said = predicted(sets)
    predicted_boxes = Boxes(said.center, said.boxes.axis, said.boxes.half, said.boxes.disc)
    for boxes, owner, rule in (
        (sets.occupancy.boxes(30), sets.occupancy.owner, tail_objects), (predicted_boxes, said.owner, nominal_objects)
    ):  # fmt: skip
        gap = np.full((30, len(users)), np.inf)
        for k in range(30):
            away = shapely.distance(outline[k], shapely.polygons(boxes.corners[k]))
            np.minimum.at(gap[k], owner, away - boxes.disc[k] - disc[k])
        gap[:, left_out] = np.inf
        found = rule(sets, plan)
        nearest = gap.min()
        judged = [x for x in found.violations if not left_out[x.track_id]]
        assert {x.track_id for x in judged} == set(np.flatnonzero((gap < C.clearance).any(0)))
        if nearest > 0:
            assert min(found.margin, 1.9) == pytest.approx(min(nearest - C.clearance, 1.9), abs=1e-6)
        for x in judged:
            assert gap[round(x.time / 0.1), x.track_id] < C.clearance
            if gap[:, x.track_id].min() > 0:
                assert x.margin == pytest.approx(gap[:, x.track_id].min() - C.clearance, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shift", [0.0, 0.3, -0.3, 0.02])
def test_who_is_in_the_way_is_met_wherever_the_origin_lies(axis: int, shift: float) -> None:
    """A slow car ahead in ego's lane, the origin of all numbers within it."""
    scene = make_scene(8.0, (agent(14.0, 0.2, 0.0, 1.0, track_id=1),), half_width=90.0, right_edge=90.0)
    turn = axis * np.pi / 2
    pose = torch.tensor([*(-(14.0 + shift) * np.array([np.cos(turn), np.sin(turn)])), turn], dtype=F64)
    plan = drive(8.0, 3.0)
    xy = frames.transform_points(pose, plan.xy)
    motion = Motion.of(plan.replace(x=xy[:, 0], y=xy[:, 1], yaw=plan.yaw + turn))
    here, there = prepare(scene, V, C), prepare(scene.transformed(pose), V, C)
    for rule in (tail_objects, nominal_objects):
        (met,), (same,) = rule(here, Motion.of(plan)).violations, rule(there, motion).violations
        assert (same.track_id, same.time) == (met.track_id, met.time)
        assert same.margin == pytest.approx(met.margin, abs=1e-6)


@pytest.mark.parametrize(("v", "met"), [(8.4, True), (7.9, False)])
def test_forecasts_say_nothing_beyond_their_horizon(v: float, met: bool) -> None:
    """A longer motion is judged by them for as long as they last: a wall that is reached just before, just after."""
    wall = agent(V.front + 24.5 + 0.25, 0.0, 0.0, 0.0, AgentClass.STATIC, track_id=1)
    scene = make_scene(v, (wall,), half_width=90.0, right_edge=90.0)
    plan = Motion.of(drive(v, 5.0))
    assert plan.time[-1] > C.nominal_horizon
    found = nominal_objects(prepare(scene, V, C), plan)
    assert [x.track_id for x in found.violations] == ([1] if met else [])

"""The road: edges, lines, limits and direction, against shapely and by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
import torch
from checker_probe import about, body, lines, polyline, sets, wide, wrong_way
from checker_scenes import F64, drive, make_scene

from planner.checker import Assumptions, CheckerConfig, Violation
from planner.checker.edges import beyond_boundary, segments
from planner.checker.motion import Motion
from planner.checker.rules import road
from planner.scene import AgentClass, PolylineType, VehicleParameters, frames

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions()
CAR, WALKER, BICYCLE = AgentClass.CAR, AgentClass.PEDESTRIAN, AgentClass.BICYCLE


# -- lines of the map --------------------------------------------------------------------------


def test_segments_are_those_of_the_chosen_lines_without_padding() -> None:
    xy = np.arange(24.0).reshape(3, 4, 2)
    found = segments(xy, np.array([4, 2, 3]), np.array([False, True, True]))
    np.testing.assert_allclose(found, [xy[1, :2], xy[2, :2], xy[2, 1:3]])
    assert segments(xy, np.array([4, 1, 0]), np.array([False, True, True])).shape == (0, 2, 2)


def test_how_far_over_the_edge_agrees_with_shapely(rng: np.random.Generator) -> None:
    """A road between two winding edges, its surface on their left: the outermost of corners and middles of sides."""
    for _ in range(6):
        x = np.linspace(-40, 60, 41)
        right, left = (np.stack([x, y + np.sin(x / 9 + rng.uniform(0, 6))], 1) for y in (-4.0, 4.0))
        left = left[::-1]
        surface = shapely.Polygon(np.concatenate([right, left]))
        edges = [shapely.LineString(right), shapely.LineString(left)]
        boundary = np.concatenate([np.stack([e[:-1], e[1:]], 1) for e in (right, left)])
        pose = np.stack([rng.uniform(0, 20, 30), rng.uniform(-6, 6, 30), rng.uniform(-3, 3, 30)], 1)
        found = beyond_boundary(boundary, pose, V)
        for p, over in zip(pose, found):
            corners = np.array(body(p).exterior.coords)
            outline = [*corners[:-1], *(corners[1:] + corners[:-1]) / 2]
            signed = []
            for point in map(shapely.Point, outline):
                gap = min(e.distance(point) for e in edges)
                signed.append(-gap if surface.covers(point) else gap)
            assert over == pytest.approx(max(signed), abs=1e-6)


def test_the_side_of_edges_with_corners_agrees_with_shapely(rng: np.random.Generator) -> None:
    """Surfaces with spikes and notches, of long and short edges: at a corner two of them are nearest."""
    inside = {True: 0, False: 0}
    for _ in range(40):
        count = int(rng.integers(4, 9))
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        ring = rng.uniform(3.0, 25.0, (count, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
        surface = shapely.Polygon(ring)
        if not surface.is_valid or np.diff(angle, append=angle[0] + 2 * np.pi).max() > 2.8:
            continue
        boundary = np.stack([ring, np.roll(ring, -1, 0)], 1)
        for pose in np.concatenate([rng.uniform(-15, 15, (20, 2)), rng.uniform(-3, 3, (20, 1))], 1):
            corners = np.array(body(pose).exterior.coords)
            outline = [shapely.Point(p) for p in (*corners[:-1], *(corners[1:] + corners[:-1]) / 2)]
            signed = [surface.exterior.distance(p) * (-1 if surface.covers(p) else 1) for p in outline]
            assert beyond_boundary(boundary, pose[None], V)[0] == pytest.approx(max(signed), abs=1e-6)
            inside[max(signed) < 0] += 1
    assert min(inside.values()) > 20


@pytest.mark.parametrize("side", range(4))
def test_an_edge_that_pokes_into_a_side_of_ego_is_found_there(side: int) -> None:
    """A wedge of 60 degrees reaches 0.4 m into the middle of one side, between the corners."""
    turn = side * np.pi / 2
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    middle = np.array([V.rear_axle_to_center, 0.0])
    tip = middle + ((V.length if side % 2 == 0 else V.width) / 2 - 0.4) * along
    lower, upper = (tip + 20 * (np.cos(np.pi / 6) * along + s * 0.5 * across) for s in (-1, 1))
    boundary = np.array([[lower, tip], [tip, upper]])  # the surface is on the left of each
    assert beyond_boundary(boundary, np.zeros((1, 3)), V) == pytest.approx([0.4 * 0.5])
    assert beyond_boundary(boundary + 0.5 * along, np.zeros((1, 3)), V)[0] == pytest.approx(-0.1)


@pytest.mark.parametrize(("edge", "over"), [(V.width / 2 + 0.01, False), (V.width / 2 - 0.01, True), (-1.2, True)])
def test_whether_ego_stands_over_the_edge(edge: float, over: bool) -> None:
    found = sets(wide(8.0, right_edge=edge))
    assert found.over_edge is over
    assert found.beyond_edge == pytest.approx(V.width / 2 - edge)


def test_an_edge_far_away_says_nothing_about_where_ego_stands() -> None:
    for x, known in ((29.0, True), (31.0, False)):
        found = sets(
            make_scene(8.0, boundary=False, lines=(polyline([[x, 5], [x, 0], [x, -5]], PolylineType.BOUNDARY),))
        )
        assert np.isfinite(found.beyond_edge) == known
    assert len(found.boundary) == 2


def test_lines_of_each_kind_go_where_they_belong() -> None:
    lines = (
        polyline([[20, -2], [20, 0], [20, 2]], PolylineType.STOP_LINE),
        polyline([[30, -2], [30, 2]], PolylineType.STOP_LINE),
        polyline([[V.front - 0.01, -2], [V.front - 0.01, 2]], PolylineType.STOP_LINE),
        polyline([[V.front + 0.01, -2], [V.front + 0.01, 2]], PolylineType.STOP_LINE),
        polyline([[9, -4], [11, -4], [11, 4]], PolylineType.CROSSING),
        polyline([[9, -4], [11, -4]], PolylineType.CROSSING),
        polyline([[0, 9], [5, 9]], PolylineType.CENTERLINE),
    )  # fmt: skip
    scene = make_scene(8.0, lines=lines)
    closed = (scene.map.kind == int(PolylineType.STOP_LINE)) & (scene.map.xy[:, 0, 0] < 25)
    found = sets(scene.replace(map=scene.map.replace(closed=closed)))
    np.testing.assert_allclose(found.stop_line.ends[:, :, 0], [[20, 20], [20, 20], [V.front + 0.01] * 2])
    (outline,) = found.crosswalks
    np.testing.assert_allclose(outline, [[9, -4], [11, -4], [11, 4]])
    assert len(found.lane) == 201
    assert len(found.boundary) == 200


def test_the_route_is_its_valid_points_with_what_ego_may_use_beside() -> None:
    scene = wide()
    r = scene.route
    count = len(r.xy)
    ramp = torch.linspace(0.0, 1.0, count, dtype=F64)
    valid = torch.ones(count, dtype=torch.bool)
    valid[50:] = False
    scene = scene.replace(route=r.replace(
        left=1.0 + ramp, right=2.0 + ramp, left_oncoming=3.0 + ramp, right_oncoming=4.0 + ramp, speed_limit=5 + ramp,
        valid=valid,
    ))  # fmt: skip
    found = sets(scene)
    part = ramp.numpy()[:50]
    np.testing.assert_allclose(found.route_xy, r.xy.numpy()[:50])
    np.testing.assert_allclose(found.route_left, 4.0 + 2 * part)
    np.testing.assert_allclose(found.route_right, 6.0 + 2 * part)
    np.testing.assert_allclose(found.route_limit, 5.0 + part)
    here = int(np.abs(r.xy.numpy()[:50, 0]).argmin())
    assert found.own_side == pytest.approx((1.0 + part[here], 2.0 + part[here]))
    nowhere = sets(scene.replace(route=scene.route.replace(valid=torch.zeros_like(valid))))
    assert nowhere.own_side == (np.inf, np.inf)
    assert nowhere.route_xy.shape == (0, 2)


# -- boundary and stop line --------------------------------------------------------------------


def swept(motion: Motion) -> list[shapely.Geometry]:
    return [shapely.union_all(pair).convex_hull for pair in pairwise(map(body, motion.pose))]


def test_the_margin_to_the_edge_is_that_of_the_swept_footprint(rng: np.random.Generator) -> None:
    """Against shapely's hulls of consecutive outlines, less the disc: edges in every direction."""
    seen = {"crossed": 0, "near": 0, "far": 0}
    for _ in range(120):
        curvature, v = rng.uniform(-0.03, 0.03), rng.uniform(2.0, 9.0)
        motion = Motion.of(drive(v, 3.0, curvature=curvature, yaw=rng.uniform(-3, 3)))
        middle = motion.pose[int(rng.integers(31)), :2] + rng.uniform(-6, 6, 2)
        angle, half = rng.uniform(-3, 3), rng.choice([0.1, rng.uniform(0.2, 8.0)])
        step = half * np.array([np.cos(angle), np.sin(angle)])
        edge = np.array([middle - step, middle + step])
        scene = sets(wide(8.0))
        scene = replace(scene, boundary=lines(edge[None]), over_edge=False)
        scene = replace(scene, stop_line=lines(edge[None]))
        sweeps = motion.sweeps(V)
        hulls, wall = swept(motion), shapely.LineString(edge)
        truth = np.array([h.distance(wall) for h in hulls]) - sweeps.disc
        found = road.boundary(scene, motion, sweeps, V, C, "edge")
        stopped = road.stop_line(scene, motion, sweeps, C, "line")
        if truth.min() > 1.0 + 0.1:
            assert found.margin > 1.0
            seen["far"] += 1
        elif truth.min() > 0:
            assert found.margin == pytest.approx(truth.min(), abs=1e-6)
            assert not found.violations
            assert not stopped.violations
            seen["near"] += 1
        else:
            for finding, rule in ((found, "edge"), (stopped, "line")):
                worst = about(finding.violations, rule)
                assert worst.margin < 0
                k = round(worst.time / 0.1)
                assert hulls[k].distance(wall) <= sweeps.disc[k]
                assert worst.margin <= truth.min() + 1e-9
            seen["crossed"] += 1
    assert min(seen.values()) > 8


def test_the_boundary_clearance_widens_the_edge() -> None:
    motion = Motion.of(drive(6.0, 3.0))
    scene = sets(wide(6.0, right_edge=V.width / 2 + 0.2))
    found = road.boundary(scene, motion, motion.sweeps(V), V, replace(C, boundary_clearance=0.15), "edge")
    assert found.margin == pytest.approx(0.05)
    found = road.boundary(scene, motion, motion.sweeps(V), V, replace(C, boundary_clearance=0.25), "edge")
    assert about(found.violations, "edge").margin == pytest.approx(-0.05)


def test_at_rest_no_edge_and_no_line_is_crossed() -> None:
    edge = np.array([[[0.0, -0.5], [0.0, 0.5]]])
    scene = sets(wide(8.0))
    edges, stops = lines(edge), lines(edge)
    scene = replace(scene, boundary=edges, stop_line=stops, over_edge=False)
    for v, crosses in ((C.rest_speed, False), (C.rest_speed + 1e-3, True)):
        motion = Motion.of(drive(v, 1.0))
        assert bool(road.boundary(scene, motion, motion.sweeps(V), V, C, "edge").violations) is crosses
        assert bool(road.stop_line(scene, motion, motion.sweeps(V), C, "line").violations) is crosses


def test_over_the_edge_no_part_gets_farther_out_just_inside_and_outside() -> None:
    scene = sets(wide(4.0, right_edge=0.5))
    now = V.width / 2 - 0.5
    straight = Motion.of(drive(4.0, 3.0))
    for y, ok in ((-5 * C.touching_tolerance + 1e-6, True), (-5 * C.touching_tolerance - 1e-6, False), (0.3, True)):
        pose = straight.pose.copy()
        pose[7:, 1] = y
        found = road.boundary(scene, replace(straight, pose=pose), straight.sweeps(V), V, C, "edge")
        record = about(found.records, "edge_outside_now")
        assert record.margin == pytest.approx(-now)
        assert (not found.violations) is ok
        if not ok:
            worst = about(found.violations, "edge")
            assert (worst.time, worst.margin) == pytest.approx((0.7, -1e-6), abs=1e-8)
            assert found.margin == pytest.approx(-1e-6, abs=1e-8)
        else:
            assert found.margin == 0.0


# -- speed limit -----------------------------------------------------------------------------------


def speeding(v: np.ndarray, limit: float = 8.0, place: float = 0.0) -> list[Violation]:
    motion = Motion.of(drive(8.0, 2.0))
    pose = motion.pose.copy()
    pose[:, 0] += place
    scene = sets(make_scene(8.0, limit=limit))
    return road.speed_limit(scene, replace(motion, v=np.asarray(v), pose=pose), C).violations


def test_the_speed_limit_just_inside_and_outside() -> None:
    allowed = C.speed_factor * 8.0 + C.speed_extra
    v = np.full(21, 8.0)
    v[12] = allowed
    assert not speeding(v - 1e-9)
    v[12] = allowed + 0.2
    worst = about(speeding(v), "speed_limit")
    assert (worst.time, worst.margin) == pytest.approx((1.2, -0.2))
    # Too fast from the start: as long as it only gets slower, to 0.05 m/s.
    falling = np.linspace(12.0, 10.0, 21)
    assert not speeding(falling)
    again = falling.copy()
    again[15] = falling[14] + 0.049
    assert not speeding(again)
    again[15] = falling[:15].min() + 0.051 + 0.1
    worst = about(speeding(again), "speed_limit")
    assert worst.margin == pytest.approx(-0.101, abs=1e-9)
    # Who is slow at first may not call it slowing down later.
    late = np.concatenate([[9.0], np.linspace(12.0, 10.0, 20)])
    assert about(speeding(late), "speed_limit").margin == pytest.approx(allowed - 12.0)


@pytest.mark.parametrize("turn", [0.0, np.pi / 2, -2.0])
def test_the_limit_is_that_of_the_nearest_point_of_the_route(turn: float) -> None:
    scene = wide(8.0)
    r = scene.route
    xy = r.xy.numpy()
    slow = torch.where(r.xy[:, 0] > 10.0, 5.0, 20.0).to(F64)
    pose = torch.tensor([7.0, -3.0, turn], dtype=F64)
    found = sets(scene.replace(route=r.replace(speed_limit=slow)).transformed(pose))
    straight = drive(8.0, 2.0)
    there = frames.transform_points(pose, straight.xy)
    motion = Motion.of(straight.replace(x=there[:, 0], y=there[:, 1], yaw=straight.yaw + turn))
    first = next(k for k, x in enumerate(straight.x.numpy()) if xy[np.abs(xy[:, 0] - x).argmin(), 0] > 10.0)
    v = np.where(np.arange(21) == 1, 5.0, 8.0)  # slow once, so that nothing later is slowing down
    late = about(road.speed_limit(found, replace(motion, v=v), C).violations, "speed_limit")
    assert late.time == pytest.approx(0.1 * first)
    assert late.margin == pytest.approx(C.speed_factor * 5 + C.speed_extra - 8.0)
    none = replace(found, route_xy=np.zeros((0, 2)), route_limit=np.zeros(0))
    assert not road.speed_limit(none, motion, C).violations


# -- direction -------------------------------------------------------------------------------------


def turned(yaw: np.ndarray | float, v: np.ndarray | float = 8.0, y: np.ndarray | float = 0.0) -> Motion:
    motion = Motion.of(drive(8.0, 2.0))
    pose = motion.pose.copy()
    pose[:, 1], pose[:, 2] = y, yaw
    return replace(motion, pose=pose, v=np.broadcast_to(np.asarray(v, float), motion.v.shape).copy())


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_turned_against_the_route_just_inside_and_outside(side: float) -> None:
    scene = sets(wide(8.0))
    yaw = np.zeros(21)
    yaw[9] = side * (C.wrong_way_angle - 1e-6)
    assert not wrong_way(scene, turned(yaw)).violations
    yaw[9] = side * (C.wrong_way_angle + 0.2)
    worst = about(wrong_way(scene, turned(yaw)).violations, "wrong_way")
    assert (worst.time, worst.margin) == pytest.approx((0.9, -0.2))
    yaw[9] = side * (2 * np.pi - 0.1)
    assert not wrong_way(scene, turned(yaw)).violations, "a whole turn"
    v = np.full(21, 8.0)
    yaw[9], v[9] = side * 3.0, C.rest_speed
    assert not wrong_way(scene, turned(yaw, v)).violations, "stands there"


def test_who_goes_the_wrong_way_already_slows_down_and_turns_no_farther() -> None:
    scene = sets(wide(8.0))
    time = np.arange(21) * 0.1
    slowing = 8.0 - 1.0 * time + 0.04 * (time > 0)
    assert not wrong_way(scene, turned(2.5, slowing)).violations
    late = slowing.copy()
    late[14] += 0.02
    assert about(wrong_way(scene, turned(2.5, late)).violations, "wrong_way").time == pytest.approx(1.4)
    for more, ok in ((0.049, True), (0.051, False)):
        yaw = np.full(21, 2.5)
        yaw[6] += more
        assert (not wrong_way(scene, turned(yaw, slowing)).violations) is ok
    begins = np.full(21, 2.5)
    begins[0] = 1.9
    assert wrong_way(scene, turned(begins, slowing)).violations, "was not turned so at the start"
    no_route = replace(scene, route_xy=np.zeros((0, 2)))
    assert not wrong_way(no_route, turned(3.0)).violations


def test_ending_on_an_oncoming_lane_just_inside_and_outside() -> None:
    """The opposite lane is at y = 3.5; the route may use 1.75 + 3.5 m to its left, or only so much as it says."""
    scene = sets(wide(8.0))
    y = np.linspace(0.0, 3.5, 21)
    assert about(wrong_way(scene, turned(0.0, y=y)).records, "wrong_way").margin == 0.0
    for surface, ok in ((3.51, True), (3.4, False)):
        less = replace(scene, route_left=np.full(len(scene.route_xy), surface))
        found = wrong_way(less, turned(0.0, y=y))
        assert (not found.violations) is ok
        said = about(found.records if ok else found.violations, "wrong_way")
        assert said.margin == pytest.approx(0.0 if ok else -0.1)
        assert said.time == pytest.approx(2.0)
        assert not wrong_way(less, turned(0.0, y=3.5)).violations, "was there from the start"
    # Mirrored: traffic from ahead on the right.
    mirror = lambda f: f * [1.0, -1.0]  # noqa: E731
    right = replace(scene, lane=lines(mirror(scene.lane.ends)), route_right=np.full(len(scene.route_xy), 3.0))
    assert about(wrong_way(right, turned(0.0, y=-y)).violations, "wrong_way").margin == pytest.approx(-0.5)
    # 1.5 m from the lane's pieces, and facing them by more than 120 degrees.
    near = lambda end, yaw=0.0: wrong_way(scene, turned(yaw, y=np.linspace(0.0, end, 21))).records  # noqa: E731
    pieces = scene.lane.ends
    piece = pieces[np.abs(pieces[:, :, 1] - 3.5).max(1) < 0.1].mean(1)
    motion_end = Motion.of(drive(8.0, 2.0)).pose[-1, 0]
    along = np.abs(piece[:, 0] - motion_end).min()
    reach = np.sqrt(1.5**2 - along**2)
    assert near(3.5 - reach + 0.01)
    assert not near(3.5 - reach - 0.01)
    assert near(3.5, np.linspace(0.0, np.pi / 3 - 0.01, 21))
    assert not near(3.5, np.linspace(0.0, np.pi / 3 + 0.01, 21))
    assert near(3.5, np.linspace(0.0, -np.pi / 3 + 0.01, 21))
    assert not near(3.5, np.linspace(0.0, -np.pi / 3 - 0.01, 21))
    lawless = replace(scene, lane=lines(np.zeros((0, 2, 2))))
    assert not wrong_way(lawless, turned(0.0, y=y)).records

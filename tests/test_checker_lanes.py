"""Route and lanes as lines of reference, with shapely and plain loops as the witnesses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
from checker_probe import lane_ways, nearest_lanes, projected

from planner.checker import Assumptions
from planner.checker.footprint import boxes_from_poses
from planner.checker.lanes import LaneGraph
from planner.checker.route_frame import RouteFrame

TABLE = Assumptions()
EGO = np.array([3.0, -2.0, 0.5, 0.0, 0.0, 0.0])


def winding(rng: np.random.Generator, count: int, bend: float = 0.12, start: float | None = None) -> np.ndarray:
    """A line ``[count, 2]`` with steps of unequal length that turns a little at every point."""
    heading = (rng.uniform(-np.pi, np.pi) if start is None else start) + np.cumsum(rng.uniform(-bend, bend, count - 1))
    step = rng.uniform(0.5, 3.0, count - 1)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)]) + rng.uniform(-5, 5, 2)


def beside(line: np.ndarray, i: int, share: float, left: float) -> np.ndarray:
    """A point `left` m to the left of segment i."""
    along = line[i + 1] - line[i]
    along_unit = along / np.hypot(*along)
    return line[i] + share * along + left * np.array([-along_unit[1], along_unit[0]])


# -- the route ---------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.6, 1.5, 3.0])
@pytest.mark.parametrize("away", [0.0, 1.0, 6.0])
def test_a_corner_belongs_to_the_leg_of_the_route_it_is_nearer_to(radius: float, away: float) -> None:
    """A route that comes back beside itself, a square between the legs with one corner just before, just beyond the
    middle between them; its centre is as much nearer to the first leg as can be."""
    center = np.array([[away, 0.0], [away, 4.0]])
    boxes = boxes_from_poses(np.column_stack([center, [np.pi / 4] * 2]), radius * np.sqrt(2), radius * np.sqrt(2))
    for beyond in (-0.02, 0.02):
        width = 2 * (away + radius) - beyond
        frame = RouteFrame.of(np.array([[0.0, -50.0], [0.0, 50.0], [width, 50.0], [width, -50.0]]), EGO)
        middle, corners = frame.project_boxes(boxes.center, boxes.corners)
        np.testing.assert_allclose(middle.offset, [-away] * 2, atol=1e-9)
        farthest = boxes.corners[..., 0].argmax(1)
        for box, corner in enumerate(farthest):
            second = beyond > 0
            assert corners.heading[box, corner] == pytest.approx(-np.pi / 2 if second else np.pi / 2)
            apart = width - away - radius if second else away + radius
            assert corners.offset[box, corner] == pytest.approx(-apart)


def test_projection_on_the_route_agrees_with_shapely(rng: np.random.Generator) -> None:
    for _ in range(12):
        xy = winding(rng, 15)
        frame = RouteFrame.of(xy, EGO)
        first, last = xy[1] - xy[0], xy[-1] - xy[-2]
        before, after = xy[0] - 40 * first / np.hypot(*first), xy[-1] + 40 * last / np.hypot(*last)
        longer = shapely.LineString([before, *xy[1:-1], after])
        points = np.array([
            beside(xy, int(rng.integers(14)), rng.uniform(-0.2, 1.2), rng.uniform(-4, 4)) for _ in range(40)
        ])  # fmt: skip
        points = np.concatenate([points, [xy[0] - 6 * first + [0.3, 0.1], xy[-1] + 5 * last - [0.2, 0.4]]])
        station, offset, heading = projected(frame, points.reshape(2, 21, 2))
        assert station.shape == offset.shape == heading.shape == (2, 21)
        for p, s, d, h in zip(points, station.ravel(), offset.ravel(), heading.ravel()):
            point = shapely.Point(p)
            assert s == pytest.approx(longer.project(point) - 40, abs=1e-9)
            assert abs(d) == pytest.approx(longer.distance(point), abs=1e-9)
            # The foot point, gone back along the offset; left of the heading is positive.
            foot = np.array(longer.interpolate(s + 40).coords[0])
            assert np.cos(h) * (p - foot)[1] - np.sin(h) * (p - foot)[0] == pytest.approx(d, abs=0.02 + 0.07 * abs(d))
            inside = np.clip(np.searchsorted(frame.station, s) - 1, 0, 13)
            near = np.arctan2(*np.diff(xy, axis=0)[[max(inside - 1, 0), inside, min(inside + 1, 13)]].T[::-1])
            assert np.abs(near - h).min() < 1e-9


def test_the_side_and_the_heading_of_the_route_by_hand() -> None:
    frame = RouteFrame.of(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 20.0]]), EGO)
    np.testing.assert_allclose(frame.station, [0.0, 10.0, 30.0])
    np.testing.assert_allclose(frame.heading, [0.0, np.pi / 2])
    for point, expected in (
        ((4.0, 1.5), (4.0, 1.5, 0.0)),
        ((-3.0, -2.0), (-3.0, -2.0, 0.0)),
        ((8.5, 12.0), (22.0, 1.5, np.pi / 2)),
        ((11.0, 25.0), (35.0, -1.0, np.pi / 2)),
    ):
        np.testing.assert_allclose(projected(frame, np.array(point)), expected, atol=1e-12)


def test_a_route_without_length_leads_straight_ahead_of_ego() -> None:
    ahead = np.array([np.cos(0.5), np.sin(0.5)])
    for xy in (np.zeros((0, 2)), np.zeros((1, 2)), np.zeros((4, 2)), np.array([[1.0, 1.0], [1.0, 1.0 + 1e-7]])):
        frame = RouteFrame.of(xy, EGO)
        np.testing.assert_allclose(frame.xy, [EGO[:2] - 20 * ahead, EGO[:2] + 100 * ahead])
        np.testing.assert_allclose(projected(frame, EGO[:2] + 7 * ahead), (27.0, 0.0, 0.5), atol=1e-9)


def test_two_points_are_a_route() -> None:
    frame = RouteFrame.of(np.array([[0.0, 0.0], [0.0, 5.0]]), EGO)
    np.testing.assert_allclose(projected(frame, np.array([-1.0, 7.0])), (7.0, 1.0, np.pi / 2), atol=1e-12)


def test_points_that_repeat_are_left_out_of_the_route() -> None:
    xy = np.array([[0.0, 0.0], [0.0, 0.0], [4.0, 0.0], [4.0, 1e-8], [4.0, 3.0]])
    frame = RouteFrame.of(xy, EGO)
    np.testing.assert_allclose(frame.xy, [[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]])
    np.testing.assert_allclose(frame.station, [0.0, 4.0, 7.0])


# -- lanes near a pose ---------------------------------------------------------------------------


def nearest_by_loop(
    lines: list[np.ndarray], point: np.ndarray, heading: float, distance: float, angle: float
) -> list[tuple[int, float, float]]:
    found = []
    for number, line in enumerate(lines):
        best = None
        arc = 0.0
        for a, b in pairwise(line):
            size = float(np.hypot(*(b - a)))
            turn = np.angle(np.exp(1j * (np.arctan2(*(b - a)[::-1]) - heading)))
            if abs(turn) < angle:
                piece = shapely.LineString([a, b])
                gap = piece.distance(shapely.Point(point))
                if gap <= distance and (best is None or gap < best[0]):
                    left = float(((b - a)[0] * (point - a)[1] - (b - a)[1] * (point - a)[0]) / size)
                    best = (gap, arc + piece.project(shapely.Point(point)), left)
            arc += size
        if best:
            found.append((number, best[1], best[2]))
    return found


def test_the_lanes_near_a_pose_are_those_a_plain_loop_finds(rng: np.random.Generator) -> None:
    met = 0
    for _ in range(25):
        lines = [winding(rng, int(rng.integers(2, 14))) for _ in range(8)]
        graph = LaneGraph.from_lists(lines, 1.0)
        for _ in range(12):
            line = lines[int(rng.integers(8))]
            i = int(rng.integers(len(line) - 1))
            point = beside(line, i, rng.uniform(0, 1), rng.uniform(-2.5, 2.5))
            heading = float(np.arctan2(*(line[i + 1] - line[i])[::-1])) + rng.uniform(-0.6, 0.6)
            found = nearest_lanes(graph, point, heading, 1.75, 0.35)
            expected = nearest_by_loop(lines, point, heading, 1.75, 0.35)
            assert [f[0] for f in found] == [e[0] for e in expected]
            np.testing.assert_allclose(found, expected, atol=1e-9) if found else None
            met += len(found)
    assert met > 100
    assert nearest_lanes(LaneGraph.from_lists([], 1.0), np.zeros(2), 0.0, 5.0, 1.0) == []


def test_near_a_lane_just_inside_and_just_outside() -> None:
    graph = LaneGraph.from_lists([np.array([[0.0, 0.0], [14.0, 0.0], [28.0, 0.0]])], 1.0)
    for y, near in ((1.75 - 1e-6, True), (1.75 + 1e-6, False), (-1.75 + 1e-6, True), (-1.75 - 1e-6, False)):
        assert bool(nearest_lanes(graph, np.array([9.0, y]), 0.0, 1.75, 0.35)) is near
    for turn, near in ((0.35 - 1e-6, True), (0.35 + 1e-6, False), (-0.35 + 1e-6, True), (-0.35 - 1e-6, False)):
        assert bool(nearest_lanes(graph, np.array([9.0, 0.5]), turn, 1.75, 0.35)) is near
    assert nearest_lanes(graph, np.array([15.0, -0.5]), 0.0, 1.75, 0.35) == [(0, 15.0, -0.5)]


# -- ways along lanes ----------------------------------------------------------------------------


def straight(x: float, y: float, angle: float, length: float, step: float = 1.0) -> np.ndarray:
    s = np.arange(0.0, length + 1e-9, step)[:, None]
    return np.array([[x, y]]) + s * np.array([[np.cos(angle), np.sin(angle)]])


def ways(lines: list[np.ndarray], point: tuple, heading: float, samples: int = 40, station: float = 1.0, **table):
    graph = LaneGraph.from_lists(lines, 1.0)
    return lane_ways(graph, np.array(point), heading, samples, station, replace(TABLE, **table))


def test_a_way_along_a_lane_keeps_its_offset_and_goes_straight_on_at_the_end() -> None:
    for offset in (0.8, -1.2):
        lane = straight(2.0, 1.0, 0.3, 12.0)
        along, across = np.array([np.cos(0.3), np.sin(0.3)]), np.array([-np.sin(0.3), np.cos(0.3)])
        (way,) = ways([lane], lane[3] + offset * across, 0.3, samples=30, station=0.5)
        s = 3.0 + 0.5 * np.arange(30)
        np.testing.assert_allclose(way[:, :2], lane[0] + s[:, None] * along + offset * across, atol=1e-9)
        np.testing.assert_allclose(way[:, 2], 0.3)


def test_a_way_through_a_bend_stays_parallel_to_it() -> None:
    """Along a quarter circle of 20 m, then a straight lane: the radius is 20 m less the offset to the left."""
    angle = np.linspace(0.0, np.pi / 2, 64)
    bend = np.stack([20 * np.sin(angle), 20 - 20 * np.cos(angle)], 1)
    after = straight(20.0, 20.0, np.pi / 2, 30.0)
    (way,) = ways([bend, after], (2.0, 1.1), 0.1, samples=50)
    radius = np.hypot(way[:, 0], way[:, 1] - 20)
    turning = way[:, 1] < 19.0
    left = 20 - np.hypot(2.0, 18.9)
    np.testing.assert_allclose(radius[turning], 20 - left, atol=5e-3)
    np.testing.assert_allclose(way[~turning][2:, 0], 20 - left, atol=2e-3)
    (alone,) = ways([bend], (2.0, 1.1), 0.1, samples=60)
    np.testing.assert_allclose(alone[35:, 0], 20 - left, atol=0.4)
    np.testing.assert_allclose(np.diff(alone[35:, 1]), 1.0, atol=1e-3)
    begin = np.arctan2(2.0, 18.9)
    np.testing.assert_allclose(way[:25, 2], begin + np.arange(25) / 20, atol=0.02)
    assert way[-1, 2] == pytest.approx(np.pi / 2)


def test_every_continuation_is_followed_and_no_more_than_allowed() -> None:
    into = straight(0.0, 0.0, 0.0, 10.0)
    branches = [straight(10.3, 0.1, turn, 60.0) for turn in (-0.4, -0.2, 0.0, 0.2, 0.4)]
    found = ways([into, *branches], (4.0, 0.0), 0.0)
    assert len(found) == TABLE.paths_max == 4
    np.testing.assert_allclose([w[-1, 2] for w in found], [-0.4, -0.2, 0.0, 0.2], atol=1e-9)
    assert len(ways([into, *branches], (4.0, 0.0), 0.0, paths_max=9)) == 5
    assert len(ways([into, *branches], (4.0, 0.0), 0.0, paths_max=1)) == 1
    # The lane is continued no farther than the way goes: 6 m from 3.5 m on end within the first 10 m, 7 m from 4 m on
    # do not.
    assert len(ways([into, *branches], (3.5, 0.0), 0.0, samples=6, paths_max=9)) == 1
    assert len(ways([into, *branches], (4.0, 0.0), 0.0, samples=14, station=0.5, paths_max=9)) == 5


def test_branches_of_branches_share_the_limit() -> None:
    tree = [straight(0.0, 0.0, 0.0, 10.0), straight(10.0, 0.0, 0.3, 10.0), straight(10.0, 0.0, -0.3, 10.0)]
    for side in (1, -1):
        end = tree[1 if side == 1 else 2][-1]
        tree += [straight(*end, side * turn, 60.0) for turn in (0.2, 0.3, 0.4)]
    for most in range(1, 7):
        found = ways(tree, (4.0, 0.0), 0.0, paths_max=most)
        np.testing.assert_allclose([w[-1, 2] for w in found], [0.2, 0.3, 0.4, -0.2, -0.3, -0.4][:most], atol=1e-9)


def test_branches_of_several_lanes_share_the_limit() -> None:
    beside_it = [straight(0.0, y, 0.0, 10.0) for y in (0.0, 1.0)]
    branches = [straight(10.0, y, turn, 60.0) for y, turn in ((0.0, 0.1), (0.0, -0.1), (1.0, 0.3), (1.0, -0.3))]
    # Each of the two lanes leads into all four branches: their ends are within a metre.
    for most in range(1, 9):
        assert len(ways([*beside_it, *branches], (4.0, 0.5), 0.0, paths_max=most)) == most


def test_lanes_in_a_ring_are_followed_once_round() -> None:
    angle = np.linspace(0, np.pi, 33)
    half = np.stack([8 * np.cos(angle), 8 * np.sin(angle)], 1)
    (way,) = ways([half, -half], (0.0, 8.0), np.pi, samples=200)
    np.testing.assert_allclose(way[:37, 2], np.pi + np.arange(37) / 8, atol=0.1)
    np.testing.assert_allclose(way[39:, 2], way[39, 2])
    assert np.hypot(*(way[-1, :2] - way[60, :2])) == pytest.approx(139.0, abs=0.1), "straight on after one round"


@pytest.mark.parametrize(("gap", "angle", "joins"), [
    (0.99, 0.0, True), (1.01, 0.0, False), (0.5, 0.79, True), (0.5, 0.8, False), (0.5, -0.79, True), (0.5, -0.8, False),
])  # fmt: skip
def test_lanes_join_just_inside_and_just_outside(gap: float, angle: float, joins: bool) -> None:
    """Ends within a metre that head the same way: the cosine between them is above 0.7 (0.795 rad)."""
    lines = [straight(0.0, 0.0, 0.0, 10.0), straight(10.0, gap, angle, 80.0, step=2.0)]
    (way,) = ways(lines, (5.0, 0.0), 0.0, samples=30)
    if angle:
        assert bool(abs(way[-1, 2] - angle) < 1e-6) is joins
    else:
        assert bool(abs(way[-1, 1] - gap) < 1e-6) is joins


def test_polylines_of_unequal_length_keep_their_own_points() -> None:
    """Padding after a shorter line is no part of it."""
    short, long = straight(50.0, 50.0, 1.0, 5.0), straight(0.0, 0.0, 0.0, 30.0)
    graph = LaneGraph.from_lists([short, long], 1.0)
    assert nearest_lanes(graph, np.zeros(2), 0.0, 1.0, 0.3) == [(1, 0.0, 0.0)]
    (way,) = lane_ways(graph, short[2], 1.0, 20, 1.0, TABLE)
    np.testing.assert_allclose(way[:, :2], straight(short[2][0], short[2][1], 1.0, 19.0), atol=1e-9)


# -- lanes across the route ----------------------------------------------------------------------

ROUTE = np.array([[0.0, 0.0], [10.0, 0.0], [25.0, 0.0], [40.0, 0.0]])


def across(lines: list[np.ndarray], up: float = 12.0, route: np.ndarray = ROUTE, begin: float = 100.0):
    station = begin + np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(route, axis=0).T))])
    return LaneGraph.from_lists(lines, 1.0).crossings(route, station, up)


@pytest.mark.parametrize("angle", [np.pi / 2, -np.pi / 2, 0.6, 2.4, -0.7])
def test_where_a_lane_crosses_and_the_way_up_it(angle: float) -> None:
    direction = np.array([np.cos(angle), np.sin(angle)])
    lane = np.array([17.0, 0.0]) + np.array([-30.0, -8.25, 1.5, 20.0])[:, None] * direction
    ((station, sine, up),) = across([lane])
    assert station == pytest.approx(117.0)
    assert sine == pytest.approx(abs(np.sin(angle)))
    np.testing.assert_allclose(up[:, 2], np.arange(13))
    np.testing.assert_allclose(up[:, :2], np.array([17.0, 0.0]) - np.arange(13)[:, None] * direction, atol=1e-9)


def test_crossings_are_those_shapely_finds(rng: np.random.Generator) -> None:
    total = 0
    for _ in range(40):
        route = winding(rng, 12, 0.2, 0.0)
        lines = [winding(rng, 12, 0.2) for _ in range(6)]
        found = across(lines, route=route, begin=0.0)
        whole = shapely.LineString(route)
        expected = []
        for line in lines:
            for a, b in pairwise(line):
                for c, d in pairwise(route):
                    point = shapely.LineString([a, b]).intersection(shapely.LineString([c, d]))
                    turn = np.arctan2(*(b - a)[::-1]) - np.arctan2(*(d - c)[::-1])
                    if not point.is_empty and abs(np.sin(turn)) > 0.48:
                        expected.append((whole.project(point), abs(np.sin(turn))))
        np.testing.assert_allclose(sorted((f[0], f[1]) for f in found), sorted(expected), atol=1e-7)
        total += len(expected)
    assert total > 20


@pytest.mark.parametrize(("angle", "counts"), [(np.arcsin(0.481), True), (np.arcsin(0.479), False)])
def test_a_lane_that_runs_almost_along_the_route_does_not_cross_it(angle: float, counts: bool) -> None:
    for turn in (angle, -angle, np.pi - angle):
        direction = np.array([np.cos(turn), np.sin(turn)])
        assert bool(across([np.array([20.0, 0.0]) + np.array([[-9.0], [9.0]]) * direction])) is counts


def test_lanes_along_the_route_and_pieces_without_length_cross_nothing() -> None:
    """Parallel lines never meet, and asking so divides by nothing."""
    with np.errstate(all="raise"):
        assert not across([np.array([[5.0, 1.0], [30.0, 1.0]]), np.array([[30.0, -1.0], [5.0, -1.0]])])
        twice = np.array([[20.0, -5.0], [20.0, -2.0], [20.0, -2.0], [20.0, 5.0]])
        assert len(across([twice])) == 1


def test_a_crossing_at_a_joint_of_the_route_counts_once() -> None:
    assert len(across([np.array([[10.0, -5.0], [10.0, 0.0], [10.0, 5.0]])])) == 1
    assert len(across([np.array([[0.0, -5.0], [0.0, 5.0]])])) == 1
    assert not across([np.array([[40.0, -5.0], [40.0, 5.0]])]), "the end belongs to no segment"
    assert not across([np.array([[10.0, -5.0], [10.0, -0.01]])])
    assert not across([np.array([[10.0, 0.01], [10.0, 5.0]])])
    assert not across([np.array([[-1.0, -5.0], [-0.01, 5.0]])])


def test_the_way_up_goes_through_every_lane_that_leads_in() -> None:
    last = np.array([[20.0, -4.0], [20.0, 6.0]])
    before = [np.array([[20.0, -10.0], [20.0, -4.0]]), np.array([[16.4, -8.8], [18.2, -6.4], [20.0, -4.0]])]
    first = np.array([[20.0, -30.0], [20.0, -10.0]])
    ((_, _, up),) = across([last, *before, first], up=14.0)
    assert (np.diff(up[:, 2]) >= 0).all()
    on_last = straight(20.0, 0.0, -np.pi / 2, 4.0)
    on_first = straight(20.0, -10.0, -np.pi / 2, 4.0)
    slant = np.array([20.0, -4.0]) - np.arange(7)[:, None] * np.array([0.6, 0.8])
    expected = [*zip(on_last, range(5)), *zip(straight(20.0, -4.0, -np.pi / 2, 6.0), range(4, 11)),
                *zip(slant, range(4, 11)), *zip(on_first, range(10, 15))]  # fmt: skip
    rows = sorted([*map(float, np.round(p, 6)), float(d)] for p, d in expected)
    np.testing.assert_allclose(sorted(np.round(up, 6).tolist()), rows, atol=1e-6)


def test_the_way_up_a_ring_ends() -> None:
    ring = [np.array([[20.0, -6.0], [20.0, 6.0]]), np.array([[20.0, 6.0], [20.1, 6.2]]),
            np.array([[20.0, -6.2], [20.0, -6.0]])]  # fmt: skip
    loop = [*ring, np.array([[20.1, 6.2], [20.05, 40.0], [20.02, -40.0], [20.0, -6.2]])]
    found = across(loop, up=400.0)
    own = next(up for _, _, up in found if len(up))
    assert own[:, 2].max() <= 400.0

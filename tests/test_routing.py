"""Routes and side ranges: on a synthetic town whose answers are known, and on the seven real scenes."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes_files import MINI, load_mini

from perception.map_matching import path_between, straightest
from perception.polyline import arc_length, heading, project, resample, without_repeats, wrap
from perception.recording import Recording
from perception.road_map import Lane, RoadMap
from perception.routing import RouteSurface, find_route


def lane(
    name: str, points: list[tuple[float, float]], after: list[str], connector: bool = False, width: float = 3.5
) -> Lane:
    line = resample(np.array(points, float), 1.0)
    surface = shapely.LineString(line).buffer(width / 2, cap_style="flat")
    return Lane(name, line, surface, 13.4, connector=connector, successors=after)


def town(lanes: list[Lane], drivable: shapely.Geometry | None = None) -> RoadMap:
    by_id = {x.id: x for x in lanes}
    for x in lanes:
        for after in x.successors:
            if after in by_id:
                by_id[after].predecessors.append(x.id)
    area = drivable if drivable is not None else shapely.union_all([x.polygon for x in lanes])
    return RoadMap("town", by_id, area)


def straight_town() -> RoadMap:
    """East: two lanes R (y=0), L (y=3.5); oncoming O (y=7); a crossing connector X over the road at x=100.

    Drivable: y from -4 to 8.75; R and L are cut in two at x = 90..110 by connectors.
    """
    lanes = [
        lane("R1", [(0, 0), (90, 0)], ["R2"]),
        lane("R2", [(90, 0), (110, 0)], ["R3"], connector=True),
        lane("R3", [(110, 0), (500, 0)], []),
        lane("L1", [(0, 3.5), (90, 3.5)], ["L2"]),
        lane("L2", [(90, 3.5), (110, 3.5)], ["L3"], connector=True),
        lane("L3", [(110, 3.5), (500, 3.5)], []),
        lane("O", [(500, 7), (0, 7)], []),
        lane("X", [(100, -4), (100, 8.75)], [], connector=True),
    ]
    for a, b in (("R1", "L1"), ("R2", "L2"), ("R3", "L3")):
        next(x for x in lanes if x.id == a).left = b
        next(x for x in lanes if x.id == b).right = a
    return town(lanes, shapely.box(0, -4, 500, 8.75))


def track(points: list[tuple[float, float]], spacing: float = 0.8) -> np.ndarray:
    xy = resample(np.array(points, float), spacing)
    return np.column_stack([xy, heading(xy)])


# --- polylines --------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=8), st.floats(0.3, 5))
def test_resample_keeps_ends_and_spacing(points: list[tuple[float, float]], spacing: float) -> None:
    xy = without_repeats(np.array(points))
    if len(xy) < 2:
        return
    out = resample(xy, spacing)
    np.testing.assert_allclose(out[[0, -1]], xy[[0, -1]], atol=1e-9)
    assert np.linalg.norm(np.diff(out, axis=0), axis=1).max() <= spacing + 1e-9


def test_project_signs_and_ends() -> None:
    s, d = project(np.array([[0.0, 0], [10, 0]]), np.array([[3.0, 2], [4, -1], [12, 0.0], [5, 0]]))
    np.testing.assert_allclose(s, [3, 4, 10, 5])
    np.testing.assert_allclose(d, [2, -1, 2, 0])


# --- routes -----------------------------------------------------------------------------------


def test_route_along_one_lane() -> None:
    road = straight_town()
    ids, xy = find_route(road, track([(40, 0.4), (180, 0.4)]))
    assert ids == ["R1", "R2", "R3"]
    assert np.abs(xy[:, 1]).max() < 1e-9
    assert xy[0, 0] == pytest.approx(10, abs=1)
    assert xy[-1, 0] >= 180 + 200
    assert np.linalg.norm(np.diff(xy, axis=0), axis=1) == pytest.approx(1.0, abs=0.02)
    assert road.repairs == []


def test_lane_change_of_the_driver_is_a_smooth_one_in_the_route() -> None:
    ids, xy = find_route(straight_town(), track([(20, 0), (140, 0), (165, 3.5), (250, 3.5)]))
    assert ids[:4] == ["R1", "R2", "R3", "L3"]
    assert np.abs(xy[xy[:, 0] < 130, 1]).max() < 0.05
    assert np.abs(xy[xy[:, 0] > 175, 1] - 3.5).max() < 0.05
    angle = np.unwrap(heading(xy))
    assert np.abs(np.diff(angle)).max() < 0.06  # 1/m at 1 m spacing: drivable at 8 m/s with 4 m/s^2
    assert np.abs(angle).max() < 0.3


def test_standing_ego_gets_a_route_along_its_heading() -> None:
    road = straight_town()
    ids, xy = find_route(road, np.tile([60.0, 6.8, np.pi], (50, 1)))
    assert ids == ["O"]
    assert (np.diff(xy[:, 0]) < 0).all()
    ids, xy = find_route(road, np.tile([60.0, 0.2, 0.1], (50, 1)))
    assert ids[0] == "R1"
    assert (np.diff(xy[:, 0]) > 0).all()


def test_straightest_of_several_ways_on() -> None:
    lanes = [
        lane("in", [(0, 0), (50, 0)], ["left", "straight", "right"]),
        lane("left", [(50, 0), (60, 3), (63, 15), (63, 300)], []),
        lane("straight", [(50, 0), (350, 5)], []),
        lane("right", [(50, 0), (60, -3), (63, -15), (63, -300)], []),
    ]
    road = town(lanes)
    assert straightest(road, "in", 200) == ["straight"]
    assert find_route(road, track([(5, 0), (30, 0)]))[0] == ["in", "straight"]


def test_way_that_reaches_far_enough_beats_a_straight_dead_end() -> None:
    lanes = [
        lane("in", [(0, 0), (50, 0)], ["stub", "turn"]),
        lane("stub", [(50, 0), (70, 0)], []),
        lane("turn", [(50, 0), (60, 3), (63, 15), (63, 300)], []),
    ]
    assert find_route(town(lanes), track([(5, 0), (30, 0)]))[0] == ["in", "turn"]


def test_hole_in_the_lane_graph_is_bridged() -> None:
    road = straight_town()
    road.lanes["R1"].successors.remove("R2")
    ids, xy = find_route(road, track([(40, 0), (180, 0)]))
    assert {"R1", "R3"} <= set(ids)
    assert np.abs(xy[:, 1]).max() < 0.5
    assert (np.diff(xy[:, 0]) > 0.5).all()
    assert xy[-1, 0] >= 380


def test_missing_lane_is_bridged_with_the_track() -> None:
    """A gap of 60 m without any lane: the route is where the driver drove, and says so."""
    road = town([lane("a", [(0, 0), (60, 0)], []), lane("b", [(120, 4), (500, 4)], [])], shapely.box(0, -5, 500, 9))
    driven = track([(20, 0), (60, 0), (90, 2.5), (120, 4), (200, 4)])
    ids, xy = find_route(road, driven)
    assert ids == ["a", "b"]
    assert np.abs(project(xy, driven[:, :2])[1]).max() < 1.0
    assert any("driven track is used" in line for line in road.repairs)


def test_lanes_that_end_early_go_on_over_drivable_surface() -> None:
    """The lane ends 50 m after the drive; the surface bends left on a radius of 100 m."""
    angle = np.linspace(0, 2.2, 200)
    bend = np.column_stack([150 + 100 * np.sin(angle), 100 - 100 * np.cos(angle)])
    surface = shapely.LineString([(0, 0), (150, 0)]).union(shapely.LineString(bend)).buffer(5)
    road = town([lane("a", [(0, 0), (150, 0)], [])], surface)
    _, xy = find_route(road, track([(20, 0), (100, 0)]))
    assert arc_length(xy)[-1] >= 20 + 80 + 200
    assert shapely.contains_xy(surface, xy[xy[:, 0] > 0.5]).all()
    assert any("it goes on without a lane" in line for line in road.repairs)


def test_drive_on_no_lane_at_all() -> None:
    road = town([lane("far", [(0, 500), (100, 500)], [])], shapely.box(-100, -100, 600, 600))
    driven = track([(0, 0), (50, 0), (80, 30)])
    ids, xy = find_route(road, driven)
    assert ids == ["far"]
    assert np.abs(project(xy, driven[:, :2])[1]).max() < 0.5
    assert arc_length(xy)[-1] > 250
    ids, xy = find_route(RoadMap("empty", {}, shapely.box(-1, -1, 1, 1)), driven[:1])
    assert ids == ["none"]
    assert len(xy) > 200


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-20, 480), st.floats(-8, 12), st.floats(-np.pi, np.pi), st.lists(st.floats(-0.15, 0.15), max_size=60),
    st.sets(st.sampled_from(["R1", "R2", "R3", "L1", "L2", "L3", "O", "X"]), max_size=5),
)  # fmt: skip
def test_any_drive_gets_a_usable_route(x: float, y: float, yaw: float, turns: list[float], gone: set[str]) -> None:
    """Whatever was driven, over whatever is left of the town: finite, 1 m apart, long enough, no exception."""
    road = straight_town()
    for name in gone:
        del road.lanes[name]
    angle = yaw + np.cumsum([0.0, *turns])
    step = np.stack([np.cos(angle), np.sin(angle)], 1)
    driven = np.column_stack([np.array([x, y]) + np.cumsum(step, 0) - step[:1], angle])
    ids, xy = find_route(road, driven)
    assert ids
    assert set(ids) <= set(road.lanes) | {"none"}
    assert np.isfinite(xy).all()
    spacing = np.linalg.norm(np.diff(xy, axis=0), axis=1)
    assert spacing.max() < 1.05
    assert spacing.min() > 0.5
    last = np.linalg.norm(xy - driven[-1, :2], axis=1)
    assert arc_length(xy)[-1] - arc_length(xy)[last.argmin()] >= 200
    RouteSurface(road, ids, xy).local(driven[0]).validate()


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((4, 2)), np.array([[0.0, np.nan, 0]])])
def test_misuse_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="ego_xyyaw"):
        find_route(straight_town(), bad)


def test_links_to_lanes_that_are_not_there_do_no_harm() -> None:
    road = straight_town()
    road.lanes["R3"].successors = ["gone"]
    road.lanes["R1"].left = "gone"
    ids, _ = find_route(road, track([(40, 0), (250, 0)]))
    assert ids == ["R1", "R2", "R3"]


def test_path_between() -> None:
    road = straight_town()
    assert path_between(road, "R1", "R3") == ["R1", "R2", "R3"]
    assert path_between(road, "R1", "R3", limit=19.0) is None
    assert path_between(road, "R1", "O") is None


# --- side ranges ------------------------------------------------------------------------------


def test_ranges_of_the_straight_town() -> None:
    """In the right lane: to the right 4 m of surface; to the left the neighbour's edge, then the oncoming lane."""
    road = straight_town()
    surface = RouteSurface(road, ["R1", "R2", "R3"], np.column_stack([np.arange(10.0, 400), np.zeros(390)]))
    np.testing.assert_allclose(surface.right, 4.0, atol=1e-6)
    plain = (surface.xy[:, 0] < 98) | (surface.xy[:, 0] > 102)
    assert (surface.left[plain] >= 5.05).all()
    assert (surface.left[plain] <= 5.25 + 1e-6).all()
    np.testing.assert_allclose((surface.left + surface.left_oncoming)[plain], 8.75, atol=1e-6)
    assert (surface.right_oncoming == 0).all()
    assert surface.junction.tolist() == [90 <= x <= 110 for x in surface.xy[:, 0]] or surface.junction.sum() in (20, 21)
    assert [road.lane_ids[k] for k in surface.lane_id[[0, 90, 200]]] == ["R1", "R2", "R3"]
    assert (surface.speed_limit == 13.4).all()


def test_crossing_lane_limits_outside_junctions_only() -> None:
    lanes = [lane("a", [(0, 0), (200, 0)], []), lane("x", [(100, 2), (100, 40)], [])]
    area = shapely.box(0, -3, 200, 12)
    line = np.column_stack([np.arange(0.0, 200), np.zeros(200)])
    apart = RouteSurface(town(lanes, area), ["a"], line)
    assert apart.left[100] <= 2.1
    assert apart.left[50] == pytest.approx(8.0)
    lanes[0].connector = True
    assert RouteSurface(town(lanes, area), ["a"], line).left[100] == pytest.approx(8.0)


def test_range_ends_at_a_hole_in_the_surface() -> None:
    road = town([lane("a", [(0, 0), (100, 0)], [])], shapely.box(0, -6, 100, 6) - shapely.box(40, 3, 60, 4))
    surface = RouteSurface(road, ["a"], np.column_stack([np.arange(0.0, 100), np.zeros(100)]))
    assert surface.left[50] == pytest.approx(3.0)
    assert surface.left[20] == pytest.approx(6.0)


def test_point_off_the_surface_has_no_range() -> None:
    road = town([lane("a", [(0, 0), (100, 0)], [])], shapely.box(0, -6, 50, 6))
    surface = RouteSurface(road, ["a"], np.column_stack([np.arange(0.0, 100), np.zeros(100)]))
    assert surface.left[80] == surface.right[80] == 0


def test_local_is_in_the_ego_frame_and_valid() -> None:
    road = straight_town()
    surface = RouteSurface(road, ["R1", "R2", "R3"], np.column_stack([np.arange(10.0, 400), np.zeros(390)]))
    pose = np.array([100.0, -1.0, np.pi / 2])
    route = surface.local(pose, behind=25, ahead=150)
    route.validate()
    xy = route.xy.numpy()
    # The ego looks north from 1 m south of the route: east is to its right, the route 1 m ahead.
    np.testing.assert_allclose(xy[:, 0], 1.0, atol=1e-9)
    np.testing.assert_allclose(xy[0, 1], 25.0, atol=1.0)
    np.testing.assert_allclose(xy[-1, 1], -150.0, atol=1.0)
    assert str(route.xy.dtype) == "torch.float64"


def test_local_at_the_ends_still_has_two_points() -> None:
    surface = RouteSurface(straight_town(), ["R1"], np.column_stack([np.arange(0.0, 50), np.zeros(50)]))
    for x in (-500.0, 0.0, 49.0, 900.0):
        surface.reset()
        route = surface.local(np.array([x, 0.0, 0.0]), behind=0.0, ahead=0.5)
        route.validate()
        assert len(route.xy) >= 2


def test_progress_does_not_jump_where_the_route_crosses_itself() -> None:
    """A figure of eight: driving it, the nearest index grows steadily through the crossing."""
    u = np.linspace(0, 2 * np.pi, 400)
    eight = resample(np.column_stack([80 * np.sin(u), 80 * np.sin(u) * np.cos(u)]), 1.0)
    road = RoadMap("eight", {}, shapely.LineString(eight).buffer(4))
    surface = RouteSurface(road, ["none"], eight)
    found = [surface.nearest(p) for p in eight[5:-5] + np.array([0.4, -0.3])]
    assert np.abs(np.diff(found)).max() <= 3
    surface.reset()
    assert surface.nearest(eight[100]) == 100


# --- the real scenes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini(nuscenes_root: Path) -> dict[str, tuple[Recording, RouteSurface]]:
    recordings = load_mini(nuscenes_root)
    return {scene: (r, RouteSurface(r.road, r.route, r.route_xy)) for scene, r in recordings.items()}


@pytest.mark.nuscenes
@pytest.mark.parametrize("scene", MINI)
def test_real_route_follows_the_drive_and_goes_on(mini, scene: str) -> None:
    r, surface = mini[scene]
    s, d = project(r.route_xy, r.ego.pose[:, :2])
    assert (np.diff(s) > -0.05).all()
    assert np.abs(d).max() < 1.8  # within the lane the driver was in
    assert surface.s[-1] - s[-1] >= 200
    assert s[0] >= 20
    along = np.interp(s, surface.s, surface.heading)
    assert np.abs(wrap(along - r.ego.pose[:, 2])).max() < np.deg2rad(25)
    changes = [(a, b) for a, b in pairwise(r.route) if b not in r.road.lanes[a].successors]
    assert len(changes) <= 2
    assert all(r.road.lanes[a].polygon.distance(r.road.lanes[b].polygon) < 1.0 for a, b in changes)
    assert len(set(r.route)) == len(r.route)


@pytest.mark.nuscenes
@pytest.mark.parametrize("scene", MINI)
def test_real_route_is_on_the_road_and_can_be_driven(mini, scene: str) -> None:
    """Where the ego can get during the log (100 m beyond its end) the route is drivable."""
    r, surface = mini[scene]
    s, _ = project(r.route_xy, r.ego.pose[:, :2])
    near = surface.s < s[-1] + 100
    assert shapely.contains_xy(r.road.drivable, surface.xy[near]).all()
    assert (surface.left[near] > 1.0).all()
    assert (surface.right[near] > 1.0).all()
    assert (surface.left + surface.right)[near].min() > 2.85  # ego 1.85 m and half a metre on both sides
    assert np.abs(np.diff(surface.heading) / np.diff(surface.s))[near[1:]].max() < 0.2  # what the vehicle can steer


@pytest.mark.nuscenes
@pytest.mark.parametrize("scene", MINI)
def test_real_expert_stays_within_the_side_ranges(mini, scene: str) -> None:
    """The recorded driver uses no oncoming surface in these scenes; his corners lie within left and right."""
    r, surface = mini[scene]
    x, y, yaw = r.ego.pose.T
    for ahead, side in ((3.442, 0.925), (3.442, -0.925), (-0.642, 0.925), (-0.642, -0.925)):
        corner = np.stack(
            [x + np.cos(yaw) * ahead - np.sin(yaw) * side, y + np.sin(yaw) * ahead + np.cos(yaw) * side], 1
        )
        s, d = project(surface.xy, corner)
        at = np.clip(np.searchsorted(surface.s, s), 1, len(surface.s) - 1)
        left = np.minimum(surface.left[at], surface.left[at - 1])
        right = np.minimum(surface.right[at], surface.right[at - 1])
        assert (d <= left + 0.05).all()
        assert (-d <= right + 0.05).all()


@pytest.mark.nuscenes
@pytest.mark.parametrize("scene", MINI)
def test_real_ranges_never_leave_the_drivable_area(mini, scene: str) -> None:
    """Against shapely, point by point: the whole segment across the road is covered by the drivable polygon."""
    r, surface = mini[scene]
    area = shapely.buffer(r.road.drivable, 1e-3)
    shapely.prepare(area)
    normal = np.column_stack([-np.sin(surface.heading), np.cos(surface.heading)])
    on = surface.left + surface.right > 0
    to_left = surface.xy + normal * (surface.left + surface.left_oncoming)[:, None]
    to_right = surface.xy - normal * (surface.right + surface.right_oncoming)[:, None]
    across = shapely.linestrings(np.stack([to_right, to_left], 1)[on])
    assert shapely.covers(area, across).all()
    assert (surface.left <= 8).all()
    assert (surface.right <= 8).all()
    assert min(surface.left_oncoming.min(), surface.right_oncoming.min()) >= 0


@pytest.mark.nuscenes
def test_real_speed_of_surface_and_local(mini) -> None:
    r, surface = mini["scene-0061"]
    start = time.perf_counter()
    RouteSurface(r.road, r.route, r.route_xy)
    assert time.perf_counter() - start < 2.0
    took = []
    for pose in r.ego.pose:
        start = time.perf_counter()
        surface.local(pose)
        took.append(time.perf_counter() - start)
    assert np.median(took) < 1e-3

"""Oracle perception: who is seen, the map window, and the frame of everything."""

from __future__ import annotations

import dataclasses
import gc
import time as clock
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_roads import fork, join, line, make_lane, objects, straight_road

from perception.forecast import forecast
from perception.map_polylines import boundary_rings, cut, map_window
from perception.oracle import OracleConfig, OraclePerception, oracle_scene, visible
from perception.recording import ObjectStates, Recording
from perception.road_map import RoadMap
from planner.scene import AgentClass, EgoState, PolylineType, Route, VectorScene, frames

CONFIG = OracleConfig()
CAR, PEDESTRIAN, STATIC = AgentClass.CAR, AgentClass.PEDESTRIAN, AgentClass.STATIC


class AheadRoute:
    """A route straight ahead of wherever the ego is."""

    def local(self, ego_pose: np.ndarray) -> Route:
        count = 60
        full = lambda value: torch.full((count,), value, dtype=torch.float64)  # noqa: E731
        return Route(
            xy=torch.stack([torch.arange(count, dtype=torch.float64), full(0.0)], -1), speed_limit=full(14.0),
            lane_id=torch.zeros(count, dtype=torch.int64), left=full(1.75), right=full(1.75),
            left_oncoming=full(3.5), right_oncoming=full(0.0), junction=torch.zeros(count, dtype=torch.bool),
            valid=torch.ones(count, dtype=torch.bool),
        )  # fmt: skip


def ego_at(x: float, y: float, yaw: float = 0.0, v: float = 5.0, time_us: int = 7) -> EgoState:
    state = EgoState.at_origin(v, a=0.3, curvature=0.01, time_us=time_us, source="poses")
    place = [torch.tensor(value, dtype=torch.float64) for value in (x, y, yaw)]
    return state.replace(x=place[0], y=place[1], yaw=place[2])


def observe(seen: ObjectStates, ego: EgoState, road: RoadMap | None = None, **changes: float) -> VectorScene:
    config = dataclasses.replace(CONFIG, **changes)
    return OraclePerception(road or straight_road(), AheadRoute(), config).observe(ego, seen, "here")


# -- the scene ---------------------------------------------------------------------------------


def test_a_scene_is_complete_and_in_the_ego_frame() -> None:
    seen = objects((CAR, 30, 3.5, np.pi, 8), (PEDESTRIAN, 10, -5, np.pi / 2, 1.2))
    scene = observe(seen, ego_at(10, 0, np.pi / 2), road=fork())
    assert scene.validate() is scene
    assert scene.name == "here"
    assert [float(scene.ego.x), float(scene.ego.y), float(scene.ego.yaw)] == [0.0, 0.0, 0.0]
    assert int(scene.ego.time_us) == 7
    assert float(scene.ego.v) == 5.0
    assert scene.ego.v_source == "poses"
    assert scene.global_from_ego.tolist() == pytest.approx([10, 0, np.pi / 2])
    # The ego looks along y: what lies 5 m below is 5 m behind, what drives along -x drives to the left.
    person, car = scene.agents.box
    assert person[:3].tolist() == pytest.approx([-5, 0, 0])
    assert car[:3].tolist() == pytest.approx([3.5, -20, np.pi / 2])
    assert scene.agents.velocity[1].tolist() == pytest.approx([0, 8])
    assert car[3:].tolist() == [4.5, 1.9]
    assert scene.agents.track_id.tolist() == [2, 1]
    assert scene.agents.agent_class.tolist() == [PEDESTRIAN, CAR]
    assert scene.agents.existence.tolist() == [1.0, 1.0]
    assert scene.futures.time.tolist() == pytest.approx(np.arange(1, 31) * 0.2)
    assert all(t.dtype in (torch.float64, torch.int64, torch.bool) for t in scene_tensors(scene))


def scene_tensors(scene: VectorScene) -> list[torch.Tensor]:
    out: list[torch.Tensor] = []
    scene.apply(lambda t: (out.append(t), t)[1])
    return out


@settings(max_examples=25, deadline=None)
@given(st.floats(-30, 130), st.floats(-20, 20), st.floats(-7, 7))
def test_forecasts_and_boxes_agree_with_the_global_ones(x: float, y: float, yaw: float) -> None:
    road = fork()
    seen = objects((CAR, 40, 0.4, 0.1, 7), (CAR, 20, 0, 0, 0), (PEDESTRIAN, 50, 5, 2, 1.2), (STATIC, 45, -4, 1, 0))
    scene = observe(seen, ego_at(x, y, yaw), road, radius=1e3)
    row = {int(i): n for n, i in enumerate(scene.agents.track_id)}
    order = [row[i] for i in seen.track_id.tolist()]
    wanted = forecast(seen, road, CONFIG.time, CONFIG.forecast)
    pose = scene.global_from_ego
    boxes, futures = scene.agents.box[order], scene.futures
    assert frames.transform_points(pose, boxes[:, :2]).numpy() == pytest.approx(seen.pose[:, :2], abs=1e-9)
    said = wanted.valid
    assert (futures.valid[order].numpy() == said).all()
    mean = frames.transform_points(pose, futures.mean[order]).numpy()
    assert mean[said] == pytest.approx(wanted.mean[said], abs=1e-9)
    turned = frames.transform_covariance(pose[2], futures.covariance[order]).numpy()
    assert turned == pytest.approx(wanted.covariance, abs=1e-9)
    gap = frames.wrap_angle(futures.yaw[order] + pose[2] - torch.from_numpy(wanted.yaw)).numpy()
    assert np.abs(gap[said]).max() < 1e-9
    assert futures.probability[order].numpy() == pytest.approx(wanted.probability)


def test_the_object_is_the_function() -> None:
    road, ego, seen = fork(), ego_at(20, 0), objects((CAR, 40, 0, 0, 7))
    route = AheadRoute().local(np.zeros(3))
    again = oracle_scene(ego, seen, road, route, CONFIG, "here")
    assert again.to_json() == observe(seen, ego, road).to_json()


def test_covariance_grows_from_todays_error() -> None:
    scene = observe(objects((CAR, 40, 0, 0, 7)), ego_at(0, 0))
    now = scene.agents.position_covariance[0]
    assert now.numpy() == pytest.approx(np.eye(2) * CONFIG.position_sigma**2)
    later = scene.futures.covariance[0, 0]
    assert bool((torch.linalg.eigvalsh(later - now) >= 0).all())


def test_nobody_around() -> None:
    scene = observe(objects(), ego_at(5, 0))
    assert scene.agents.box.shape == (0, 5)
    assert scene.futures.mean.shape[0] == 0
    assert scene.map.xy.shape[0] > 0


def test_a_batch_of_ego_states_is_refused() -> None:
    batch = EgoState.stack([ego_at(0, 0), ego_at(1, 0)])
    with pytest.raises(ValueError, match=r"expected a single state, got batch shape \(2,\)"):
        observe(objects(), batch)


@pytest.mark.parametrize("name", ["pose", "velocity", "size"])
def test_an_object_with_numbers_that_are_not_finite_is_refused_not_overlooked(name: str) -> None:
    seen = objects((CAR, 10, 0, 0, 5), (CAR, 20, 0, 0, 5))
    getattr(seen, name)[1, 0] = np.nan
    with pytest.raises(ValueError, match=name):
        observe(seen, ego_at(0, 0))


# -- who is seen -------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [-0.01, 0.01])
def test_the_radius_counts_to_the_box(beyond: float) -> None:
    reach = np.hypot(4.5, 1.9) / 2
    seen = visible(objects((CAR, CONFIG.radius + reach + beyond, 0, 0, 0)), np.zeros(3), CONFIG)
    assert len(seen) == (beyond < 0)


def test_nearest_first_and_no_more_than_asked_for() -> None:
    rng = np.random.default_rng(1)
    rows = [(STATIC, x, y, 0.0, 0.0) for x, y in rng.uniform(-60, 60, (200, 2)) if np.hypot(x, y) > 42]
    seen = visible(objects(*rows), np.zeros(3), CONFIG)
    distance = np.hypot(*seen.pose[:, :2].T)
    assert len(seen) == CONFIG.max_agents
    assert (np.diff(distance) >= 0).all()
    left_out = sorted(np.hypot(x, y) for _, x, y, *_ in rows)[CONFIG.max_agents]
    assert distance.max() <= left_out


def test_who_is_near_or_comes_closer_is_never_left_out() -> None:
    crowd = [(STATIC, 30 + 0.02 * i, 0.0, 0.0, 0.0) for i in range(100)]
    coming, leaving, crossing = (CAR, 70, 1, np.pi, 5), (CAR, 69, 1, 0.0, 5), (CAR, 68, 0, np.pi / 2, 9)
    seen = visible(objects(*crowd, coming, leaving, crossing), np.zeros(3), CONFIG)
    assert set(range(1, 101)) <= set(seen.track_id.tolist()), "all of the crowd within 40 m"
    assert seen.track_id[100:].tolist() == [101], "and the one who comes closer"


@pytest.mark.parametrize("speed", [CONFIG.closing_speed - 0.01, CONFIG.closing_speed + 0.01])
def test_coming_closer_begins_at_its_speed(speed: float) -> None:
    crowd = [(STATIC, 30.0, 0.1 * i, 0.0, 0.0) for i in range(64)]
    seen = visible(objects(*crowd, (CAR, 70, 0, np.pi, speed)), np.zeros(3), CONFIG)
    assert len(seen) == 64 + (speed > CONFIG.closing_speed)


# -- the map -----------------------------------------------------------------------------------


def lines_of(scene: VectorScene, kind: PolylineType) -> list[np.ndarray]:
    rows = np.flatnonzero(scene.map.kind.numpy() == kind)
    return [scene.map.xy[i][scene.map.valid[i]].numpy() for i in rows]


def test_the_map_holds_all_kinds_of_lines() -> None:
    road = dataclasses.replace(
        fork(), dividers=[line(0, 1.75, 40, 1.75)], crossings=[np.array([[44, -2], [46, -2], [46, 2], [44, 2.0]])]
    )
    scene = observe(objects(), ego_at(40, 0), road)
    kinds = {PolylineType(int(k)) for k in scene.map.kind}
    assert kinds == set(PolylineType)
    (stop,) = lines_of(scene, PolylineType.STOP_LINE)
    assert stop == pytest.approx(np.array([[8.0, -1.75], [8.0, 1.75]]))
    assert not scene.map.closed.any()
    assert scene.map.xy.shape[1] <= CONFIG.points
    assert bool((scene.map.xy[~scene.map.valid] == 0).all())


def test_centrelines_run_in_driving_direction_and_stay_in_place() -> None:
    road = fork()
    scene = observe(objects(), ego_at(40, 0), road)
    pieces = lines_of(scene, PolylineType.CENTERLINE)
    whole = shapely.union_all([shapely.LineString(lane.centerline) for lane in road.lanes.values()])
    for piece in pieces:
        there = shapely.LineString(piece + np.array([40.0, 0.0]))
        assert shapely.hausdorff_distance(there, whole & there.buffer(0.06), densify=0.01) < 0.061
    incoming = next(p for p in pieces if abs(p[0, 0] + 40) < 1e-9)
    assert incoming[-1] == pytest.approx([10, 0])


@pytest.mark.parametrize("beyond", [-0.5, 0.5])
def test_the_window_ends_at_its_radius(beyond: float) -> None:
    road = join("far", [make_lane("near", line(0, 0, 20, 0)), make_lane("far", line(90 + beyond, 0, 120, 0))])
    scene = observe(objects(), ego_at(10, 0), road)
    assert len(lines_of(scene, PolylineType.CENTERLINE)) == (2 if beyond < 0 else 1)


def test_a_road_without_lanes_or_surface() -> None:
    scene = observe(objects((CAR, 5, 0, 0, 3)), ego_at(0, 0), RoadMap("void", {}, shapely.Polygon()))
    assert scene.map.xy.shape[0] == 0


# -- the drivable area -------------------------------------------------------------------------


def area_of(rings: list[np.ndarray]) -> shapely.geometry.base.BaseGeometry:
    """The surface on the left of the rings: outer minus holes, by their direction."""
    outer = [r for r in rings if shapely.LinearRing(r).is_ccw]
    holes = [r for r in rings if not shapely.LinearRing(r).is_ccw]
    return shapely.union_all([shapely.Polygon(r) for r in outer]) - shapely.union_all(
        [shapely.Polygon(r) for r in holes]
    )


def blob(rng: np.random.Generator, x: float, y: float, radius: float, corners: int = 60) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = radius * (1 + 0.05 * rng.normal(size=corners))
    return shapely.Polygon(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_boundary_never_enlarges_the_drivable_area(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = (blob(rng, 0, 0, 20, 200) | blob(rng, 15, 5, 20, 200)) - blob(rng, 5, 0, 6)
    kept = area_of(boundary_rings(truth))
    # Only gaps narrower than 2 cm are filled, so nothing kept is farther than 1 cm from the true surface.
    assert shapely.difference(kept, truth.buffer(0.0101)).area < 1e-9
    assert shapely.difference(truth, kept).area < 0.03 * truth.length, "and loses a few centimetres only"


def test_outer_edges_run_counter_clockwise_and_holes_clockwise() -> None:
    truth = shapely.box(0, 0, 40, 40) - shapely.box(10, 10, 20, 20)
    outer, hole = sorted(boundary_rings(truth), key=lambda r: -shapely.Polygon(r).area)
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    # Either way the surface lies on the left.
    for ring in (outer, hole):
        step = np.diff(ring, axis=0)
        left = np.stack([-step[:, 1], step[:, 0]], -1) / np.linalg.norm(step, axis=1)[:, None]
        middle = (ring[1:] + ring[:-1]) / 2
        assert shapely.contains_xy(truth, *(middle + 0.1 * left).T).all()
        assert not shapely.contains_xy(truth, *(middle - 0.1 * left).T).any()


def test_seams_between_parts_are_no_edges() -> None:
    """Overlapping lanes and a gap of 1 cm are one surface; a gap of 10 cm is an edge."""
    parts = [shapely.box(0, 0, 10, 4), shapely.box(9, 0, 20, 4), shapely.box(20.01, 0, 30, 4)]
    assert len(boundary_rings(shapely.MultiPolygon(parts))) == 1
    assert len(boundary_rings(shapely.MultiPolygon([shapely.box(0, 0, 10, 4), shapely.box(10.1, 0, 20, 4)]))) == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 100), st.integers(2, 30))
def test_pieces_share_their_end_points(count: int, points: int) -> None:
    xy = np.random.default_rng(count).normal(size=(count, 2))
    pieces = cut(xy, points)
    assert all(2 <= len(piece) <= points for piece in pieces)
    for before, after in pairwise(pieces):
        assert np.array_equal(before[-1], after[0])
    assert np.array_equal(np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])]), xy)


def test_boundary_pieces_close_around_the_ego() -> None:
    """Within the window the pieces of a scene are the whole edge, with the ego on their left."""
    road = straight_road(100)
    scene = observe(objects(), ego_at(50, 1, 0.5), road)
    pieces = lines_of(scene, PolylineType.BOUNDARY)
    pose = scene.global_from_ego.numpy()
    turn = np.array([[np.cos(pose[2]), np.sin(pose[2])], [-np.sin(pose[2]), np.cos(pose[2])]])
    length = sum(shapely.LineString(piece).length for piece in pieces)
    assert length == pytest.approx(road.drivable.length, abs=0.5)
    for piece in pieces:
        there = shapely.LineString(piece @ turn + pose[:2])
        assert there.hausdorff_distance(shapely.intersection(road.drivable.boundary.buffer(0.05), there)) < 0.05


# -- once per road, and fast -------------------------------------------------------------------


def test_static_geometry_is_built_once_per_road_and_freed_with_it() -> None:
    road = fork()
    assert map_window(road, 20) is map_window(road, 20)
    assert map_window(road, 20) is not map_window(road, 10)
    assert map_window(road, 20) is not map_window(fork(), 20)
    alive = weakref.ref(road)
    del road
    gc.collect()
    assert alive() is None


def test_observing_is_fast() -> None:
    """The budget is 15 ms on a free core; the test allows for a machine that is shared."""
    rng = np.random.default_rng(0)
    rows = [(AgentClass(i % 7), *rng.uniform([0, -20, -3, 0], [100, 20, 3, 10])) for i in range(120)]
    seen, ego, times = objects(*rows), ego_at(40, 0), []
    oracle = OraclePerception(fork(), AheadRoute())
    for _ in range(12):
        begin = clock.perf_counter()
        oracle.observe(ego, seen)
        times.append(clock.perf_counter() - begin)
    assert min(times) < 0.045


# -- against recordings ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(nuscenes_root: Path) -> Recording:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from perception.nuscenes import load_recording

    return load_recording(nuscenes_root, "v1.0-mini", "scene-0061")


@pytest.mark.nuscenes
def test_real_scenes_are_valid_and_the_recorded_ego_is_on_the_surface(recording: Recording) -> None:
    from perception.route_surface import RouteSurface

    oracle = OraclePerception(recording.road, RouteSurface(recording.road, recording.route, recording.route_xy))
    log = recording.agents
    for k in range(0, len(recording.time), 20):
        who = log.valid[:, k]
        seen = ObjectStates(
            log.track_id[who], log.agent_class[who], log.size[who], log.pose[who, k], log.velocity[who, k]
        )
        state = ego_at(*recording.ego.pose[k].tolist(), v=float(recording.ego.v[k]))
        scene = oracle.observe(state, seen, recording.name)
        assert 0 < scene.map.xy.shape[0] < 400
        assert scene.agents.box.shape[0] <= len(seen)
        # The nearest piece of the edge has the ego on its left.
        best = min(
            ((np.linalg.norm(a - np.clip(a @ (a - b) / ((b - a) @ (b - a)), 0, 1) * (a - b)), a, b)
             for piece in lines_of(scene, PolylineType.BOUNDARY) for a, b in pairwise(piece)),
            key=lambda item: item[0],
        )  # fmt: skip
        assert best[0] > 0.5
        assert (best[2] - best[1])[0] * -best[1][1] - (best[2] - best[1])[1] * -best[1][0] > 0


@pytest.mark.nuscenes
def test_the_real_boundary_lies_within_the_real_area(recording: Recording) -> None:
    kept = area_of(boundary_rings(recording.road.drivable))
    outside = shapely.difference(kept, recording.road.drivable)
    assert shapely.difference(outside, recording.road.drivable.buffer(0.02)).area < 1e-6
    assert outside.area < 1.0

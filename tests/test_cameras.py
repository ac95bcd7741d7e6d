"""Rendered cameras: pixels computed by hand, depth order against shapely, light, and the frame they are part of."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import shapely
from sim_scenes import agent, box, recording, straight_road, straight_track

from eval.simulation.lidar_solids import Solids, road_users
from eval.simulation.record.moments import at_step
from eval.simulation.sensing.camera import Stage, photograph
from eval.simulation.sensing.camera_rig import CameraRig, nominal_rig
from eval.simulation.sensing.conditions import KINDS, Conditions, draw_conditions
from eval.simulation.sensing.depth_buffer import first_hits
from eval.simulation.sensing.lane_paint import Painted, lane_paint
from eval.simulation.sensing.raster import rastered
from eval.simulation.sensing.rendered_cameras import CameraConfig, RenderedCameras, ego_pose
from eval.simulation.sensing.street import draw_street
from eval.simulation.sensors import SensorConfig, SensorSuite
from eval.simulation.world import World
from perception.recording import Recording
from perception.sensor_frame import project, transform
from planner.scene import AgentClass

NOON = Conditions("clear", (0.0, 0.0, 1.0), (0.8,) * 3, (0.3,) * 3, (0.7,) * 3, (0.4,) * 3, 0.0, 1e6, noise=0.0)
SIZE = (90, 160)


def drive(*agents: dict, name: str = "synthetic") -> Recording:
    return recording(straight_track(np.arange(80) * 0.8), *agents, name=name)


def hits_of(solids: Solids, pose: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int] = SIZE):
    """Depth and box ``[H, W]`` without any ground."""
    v, u = np.mgrid[: size[0], : size[1]]
    pixel = np.stack([u.ravel() + 0.5, v.ravel() + 0.5, np.ones(u.size)])
    rays = (pose[:3, :3] @ np.linalg.inv(intrinsics) @ pixel).astype(np.float32)
    nothing = np.full(u.size, np.inf, dtype=np.float32)
    found = first_hits(solids, np.linalg.inv(pose), intrinsics, size, rays, nothing)
    return found.depth.reshape(size), found.box.reshape(size), rays.reshape(3, *size)


# --- the rig ----------------------------------------------------------------------------------


def test_six_cameras_look_around_level_from_above_the_ground() -> None:
    rig = nominal_rig(900, 1600)
    heading = {
        name: np.rad2deg(np.arctan2(pose[1, 2], pose[0, 2])) % 360
        for name, pose in zip(rig.channel, rig.ego_from_camera)
    }
    assert heading == pytest.approx(
        {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_BACK_LEFT": 110, "CAM_BACK": 180, "CAM_BACK_RIGHT": 250,
         "CAM_FRONT_RIGHT": 305}
    )  # fmt: skip
    for pose, k in zip(rig.ego_from_camera, rig.intrinsics):
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        ahead = pose[:3, 3] + 10 * pose[:3, 2]
        assert ahead[2] == pytest.approx(pose[2, 3])
        pixels, depth = project(k, transform(np.linalg.inv(pose), ahead))
        np.testing.assert_allclose(pixels, [816, 491])
        assert depth == pytest.approx(10)


def test_a_resized_rig_sees_the_same_field_of_view() -> None:
    full, small = nominal_rig(900, 1600), nominal_rig(96, 160)
    point = np.array([2.0, 1.0, 10.0])
    for a, b in zip(full.intrinsics, small.intrinsics):
        np.testing.assert_allclose(project(b, point)[0], project(a, point)[0] * [160 / 1600, 96 / 900])


def test_cameras_fire_as_the_lidar_sweeps_past_them() -> None:
    """Clockwise from the left within the 50 ms before the turn ends: the front after a quarter of the turn."""
    rig = nominal_rig(*SIZE)
    trigger = dict(zip(rig.channel, rig.trigger()))
    assert trigger["CAM_FRONT"] == pytest.approx(-0.05 * 0.75)
    assert trigger["CAM_BACK"] == pytest.approx(-0.05 * 0.25)
    order = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT"]
    assert sorted(trigger, key=trigger.__getitem__) == order


# --- depth ------------------------------------------------------------------------------------


def test_a_box_straight_ahead_covers_the_pixels_computed_by_hand() -> None:
    """Focal length 126.6 px, camera at (1.7, 0, 1.51): a face 2 m wide and high, 10 m ahead, from height 0.51 to 2.51.

    It spans 12.66 px to each side of the principal point (81.6, 49.1): columns 69 to 93 and rows 36 to 61 have their
    middles inside.
    """
    rig = nominal_rig(*SIZE)
    solids = Solids.from_rows([(12.7, 0.0, 0.0, 1.0, 1.0, 0.51, 2.51, 0.3, 0.0)])
    depth, which, _ = hits_of(solids, rig.ego_from_camera[0], rig.intrinsics[0])
    rows, columns = np.nonzero(which == 0)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (69, 93, 36, 61)
    assert len(rows) == 25 * 26
    np.testing.assert_allclose(depth[rows, columns], 10.0, rtol=1e-5)
    assert np.isinf(depth[which < 0]).all()


def test_what_is_nearer_hides_what_is_farther_whatever_their_order() -> None:
    near = (12.0, 0.0, 0.0, 0.5, 1.0, 0.0, 1.5, 0.3, 0.0)
    far = (22.0, 0.0, 0.0, 0.5, 1.0, 0.0, 4.0, 0.3, 0.0)
    rig = nominal_rig(*SIZE)
    for rows in ([near, far], [far, near]):
        depth, which, _ = hits_of(Solids.from_rows(rows), rig.ego_from_camera[0], rig.intrinsics[0])
        front = rows.index(near)
        column = which[:, 81]
        seen = [i for k, i in enumerate(column) if i >= 0 and (k == 0 or column[k - 1] != i)]
        assert seen == [1 - front, front]  # from above: the tall one behind, then the low one before it
        assert depth[which == front].max() < depth[which == 1 - front].min()


@pytest.mark.parametrize("seed", range(4))
def test_depths_agree_with_plan_view_geometry(seed: int) -> None:
    """Every pixel of a tilted camera among random boxes, some of them cut by the image plane, against shapely."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-15, 15, (25, 2))
    place = place[np.hypot(*place.T) > 3.5]
    n = len(place)
    rows = np.c_[
        place, rng.uniform(-4, 4, n), rng.uniform(0.1, 2.0, (n, 2)), rng.uniform(0, 1, n), rng.uniform(1, 4, n),
        np.full(n, 0.3), np.zeros(n),
    ]  # fmt: skip
    wall = (0.0, 3.5, 0.1, 25.0, 0.3, 0.0, 2.2, 0.3, 0.0)  # reaches from behind the camera past it
    solids = Solids.from_rows([*(tuple(row) for row in rows), wall])
    yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-0.2, 0.2)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(forward, right), forward], 1), [0.0, 0.0, 1.5]
    size, k = (24, 32), np.array([[20.0, 0, 16], [0, 20.0, 12], [0, 0, 1]])
    depth, _, rays = hits_of(solids, pose, k, size)
    outlines = [box(np.array([*c, a]), 2 * h) for c, a, h in zip(solids.centre, solids.yaw, solids.half)]
    compared = 0
    for row in range(0, 24, 2):
        for column in range(0, 32, 2):
            ray = rays[:, row, column].astype(float)
            expected, doubt = np.inf, False
            for i, outline in enumerate(outlines):
                cut = shapely.LineString([(0, 0), 60 * ray[:2]]).intersection(outline)
                if cut.is_empty or cut.geom_type != "LineString":
                    continue
                doubt |= cut.length < 0.05  # a corner grazed: decided by rounding
                ends = sorted(np.hypot(*np.array(p)) / np.hypot(*ray[:2]) for p in cut.coords)
                levels = sorted((z - 1.5) / ray[2] for z in (solids.bottom[i], solids.top[i]))
                enter, leave = max(ends[0], levels[0]), min(ends[1], levels[1])
                doubt |= abs(leave - enter) < 0.02
                if enter < leave and enter > 0.2:
                    expected = min(expected, enter)
            if not doubt:
                assert depth[row, column] == pytest.approx(expected, rel=1e-4)
                compared += np.isfinite(expected)
    assert compared > 10


def test_a_box_around_the_camera_is_not_drawn() -> None:
    rig = nominal_rig(*SIZE)
    rows = [(2.0, 0.0, 0.0, 1.0, 1.0, 0.0, 3.0, 0.3, 0.0), (9.0, 0.0, 0.0, 1.0, 9.0, 0.0, 9.0, 0.3, 0.0)]
    _, which, _ = hits_of(Solids.from_rows(rows), rig.ego_from_camera[0], rig.intrinsics[0])
    assert set(np.unique(which)) <= {-1, 1}
    assert (which == 1).mean() > 0.5


def test_a_box_without_height_or_width_is_a_box_like_any_other() -> None:
    """Annotations have them; what stands behind stays as it was, and nothing is divided by zero."""
    rig = nominal_rig(*SIZE)
    behind = (12.7, 0.0, 0.0, 1.0, 1.0, 0.51, 2.51, 0.3, 0.0)
    flat, thin = (8.0, 3.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.3, 0.0), (8.0, -3.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.3, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        depth, which, _ = hits_of(Solids.from_rows([behind, flat, thin]), rig.ego_from_camera[0], rig.intrinsics[0])
    alone, _, _ = hits_of(Solids.from_rows([behind]), rig.ego_from_camera[0], rig.intrinsics[0])
    assert np.array_equal(depth[which == 0], alone[which == 0])
    assert (which == 0).any()


def test_each_camera_shows_objects_where_they_are_when_it_fires() -> None:
    """A cone passes 12 m ahead at 20 m/s; the front camera fires 37.5 ms earlier, when it was 0.75 m to the right."""
    track = straight_track(np.full(80, 12.0), (np.arange(80) - 40) * 2.0)
    rec = drive(agent(track, AgentClass.STATIC))
    rec.ego.pose[:, 0] = 0.0
    rec.ego.v[:] = 0.0
    ego, objects = at_step(rec, 40)
    assert objects.velocity[0] == pytest.approx([0.0, 20.0])
    cameras = RenderedCameras(rec, CameraConfig(height=450, width=800, weather="clear"))
    shot = cameras.shots(ego, objects)[0]
    on_cone = (shot.solids.owner[shot.hits.box] == 1) & (shot.hits.box >= 0)
    column = np.flatnonzero(on_cone) % 800 + 0.5
    k, camera = cameras.rig.intrinsics[0], cameras.rig.ego_from_camera[0][:3, 3]
    edge = k[0, 2] + k[0, 0] * np.array([0.75 - 0.25, 0.75 + 0.25]) / (12.0 - 0.25 - camera[0])
    assert column.min() == pytest.approx(edge[0], abs=2.0)
    assert column.max() == pytest.approx(edge[1], abs=2.0)


# --- ground and light -------------------------------------------------------------------------


def test_the_raster_of_any_area_agrees_with_shapely(rng: np.random.Generator) -> None:
    area = shapely.union_all(shapely.buffer(shapely.points(rng.uniform(0, 40, (12, 2))), rng.uniform(1, 6, 12)))
    area = area.difference(shapely.box(10, 10, 14, 30))
    low, cells = np.array([-2.0, 3.0]), np.array([90, 70])
    inside = rastered(area, low, cells, 0.5)
    x, y = np.meshgrid(low[0] + (np.arange(90) + 0.5) / 2, low[1] + (np.arange(70) + 0.5) / 2, indexing="ij")
    np.testing.assert_array_equal(inside, shapely.contains_xy(area, x, y))
    assert not rastered(shapely.Polygon(), low, cells, 0.5).any()


def stage_of(rec: Recording, solids: Solids, light: Conditions, seed: int, paint: Painted = ()) -> Stage:
    street = draw_street(rec, Solids.from_rows([]), paint, light, np.random.default_rng(seed))
    return Stage(solids, np.zeros(len(solids), bool), street, light, np.zeros((256, 256), np.float32), 0)


@pytest.mark.parametrize("seed", range(3))
def test_lane_paint_is_seen_where_it_lies(seed: int) -> None:
    """Pixels whose ground point (by hand: height over slope) is well inside paint are bright, those off it are not."""
    road = straight_road()
    road.dividers = [np.array([[-100.0, 1.75], [600.0, 1.75]])]
    road.crossings = [np.array([[9.0, -1.75], [12.0, -1.75], [12.0, 5.25], [9.0, 5.25], [9.0, -1.75]])]
    rec = recording(straight_track(np.arange(80) * 0.8), road=road)
    window = shapely.box(-70, -70, 130, 70)
    drivable = road.drivable.intersection(window)
    painted = lane_paint(np.random.default_rng(seed), road, drivable, window)
    paint = shapely.union_all([area for area, _ in painted])
    rig = nominal_rig(450, 800)
    image, hits = photograph(
        stage_of(rec, Solids.from_rows([]), NOON, seed, painted), rig.ego_from_camera[0], rig.intrinsics[0], (450, 800),
        np.random.default_rng(0),
    )  # fmt: skip
    k, camera = rig.intrinsics[0], rig.ego_from_camera[0][:3, 3]
    sampled = np.random.default_rng(seed)
    v, u = sampled.integers(320, 450, 4000), sampled.integers(100, 700, 4000)
    ahead = k[1, 1] * camera[2] / (v + 0.5 - k[1, 2])
    side = -(u + 0.5 - k[0, 2]) / k[0, 0] * ahead
    points = shapely.points(camera[0] + ahead, side)
    inside = shapely.contains(paint.buffer(-0.07), points)
    outside = (shapely.distance(paint, points) > 0.3) & shapely.contains(drivable.buffer(-0.3), points)
    grey = image.astype(float).mean(-1)[v, u]
    np.testing.assert_allclose(hits.depth.reshape(450, 800)[v, u], ahead, rtol=1e-4)
    assert inside.sum() > 30
    assert outside.sum() > 300
    assert np.quantile(grey[inside], 0.05) > np.quantile(grey[outside], 0.95)


def test_a_road_user_throws_its_shadow_away_from_the_sun() -> None:
    """Sun ahead, 45 degrees high; a box 2 m high from x = 10 on: its shadow reaches from there back to x = 8."""
    low = replace(NOON, to_sun=(np.sqrt(0.5), 0.0, np.sqrt(0.5)), sky=(0.2,) * 3)
    solids = road_users(
        np.array([[12.0, 0.0, 0.0]]), np.array([[4.0, 2.0]]), np.array([2.0]), np.zeros((1, 2)),
        np.array([AgentClass.STATIC]),
    )  # fmt: skip
    rig = nominal_rig(450, 800)
    rec = drive()
    rec.road.dividers = []
    image, _ = photograph(
        stage_of(rec, solids, low, 1), rig.ego_from_camera[0], rig.intrinsics[0], (450, 800), np.random.default_rng(0)
    )
    k, camera = rig.intrinsics[0], rig.ego_from_camera[0][:3, 3]

    def grey(x: float, y: float) -> float:
        u, v = k[0, 2] - k[0, 0] * y / (x - camera[0]), k[1, 2] + k[1, 1] * camera[2] / (x - camera[0])
        return float(image[int(v) - 1 : int(v) + 2, int(u) - 4 : int(u) + 5].mean())

    assert grey(8.6, 0.0) < 0.75 * grey(7.2, 0.0)
    assert grey(8.6, 0.0) < 0.75 * grey(8.6, 1.5)


def test_what_stands_still_shades_the_ground_for_good() -> None:
    """Sun in the east, 45 degrees high; a wall 6 m high along x = 20: shade from there to x = 14, the ground darker."""
    light = replace(NOON, to_sun=(np.sqrt(0.5), 0.0, np.sqrt(0.5)), sky=(0.2,) * 3)
    wall = Solids.from_rows([(20.0, 10.0, 0.0, 0.1, 8.0, 0.0, 6.0, 0.3, 0.0)])
    shaded, bare = (draw_street(drive(), still, (), light, np.random.default_rng(0)) for still in (wall, wall[[False]]))
    xy = np.array([[14.6, 10.0], [19.0, 10.0], [17.0, 16.5], [13.4, 10.0], [20.8, 10.0], [17.0, 19.0]])
    assert shaded.shade(xy).tolist() == [True, True, True, False, False, False]
    assert not bare.shade(xy).any()
    width = np.full(len(xy), 0.1, dtype=np.float32)
    with_wall, without = (s.at((xy - s.low).astype(np.float32), width).astype(float).mean(1) for s in (shaded, bare))
    share = 0.2 / (0.2 + 0.8 * np.sqrt(0.5))
    np.testing.assert_allclose(with_wall / without, [share] * 3 + [1.0] * 3, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weather_gives_a_picture_with_contrast(kind: str) -> None:
    rec = drive(agent(straight_track(np.arange(80) * 0.8 + 14)), name=kind)
    world, cameras = World(rec, "log_replay"), RenderedCameras(rec, CameraConfig(weather=kind))
    assert cameras.light.kind == kind
    for image in cameras.images(world.ego_state(), world.objects()).validate().image:
        assert image.shape == (96, 160, 3)
        assert image.std() > 4
        assert 4 < image.mean() < 245


def test_weather_is_drawn_by_the_seed_and_unknown_weather_is_refused() -> None:
    kinds = {draw_conditions(np.random.default_rng(seed)).kind for seed in range(80)}
    assert kinds == set(KINDS)
    with pytest.raises(ValueError, match=r"weather: expected one of clear, .* got 'snow'"):
        draw_conditions(np.random.default_rng(0), "snow")


# --- the frame --------------------------------------------------------------------------------


def test_a_frame_depends_on_the_moment_alone_and_is_complete() -> None:
    rec = drive(agent(straight_track(np.arange(80) * 0.8 + 15)))
    world = World(rec, "log_replay")
    suite = SensorSuite(rec, SensorConfig(past_sweeps=2))
    moments = []
    for _ in range(3):
        moments.append((world.ego_state(), world.objects()))
        world.replay_ego()
    frames = [suite.frame(*moment).validate() for moment in moments]
    again = SensorSuite(rec, SensorConfig(past_sweeps=2)).frame(*moments[2])
    for a, b in zip(frames[2].cameras.image, again.cameras.image):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(frames[2].lidar.points, again.lidar.points)
    assert not np.array_equal(frames[1].cameras.image[0], frames[2].cameras.image[0])
    other = SensorSuite(rec, SensorConfig(seed=1)).frame(*moments[2])
    assert not np.array_equal(other.cameras.image[0], again.cameras.image[0])
    assert [s.time_us - again.time_us for s in again.past] == [-50_000, -100_000]
    # 8 m/s: the front camera fired 37.5 ms before the turn ended, 0.3 m farther back.
    moved = again.global_from_ego[0, 3] - again.cameras.global_from_ego[0][0, 3]
    assert moved == pytest.approx(8.0 * 0.0375, abs=1e-3)


def test_sensors_that_are_not_simulated_are_named() -> None:
    rec = drive()
    world = World(rec, "log_replay")
    blind = SensorSuite(rec, SensorConfig(with_cameras=False)).frame(world.ego_state(), world.objects())
    assert blind.cameras is None
    assert blind.missing == ("cameras: not simulated",)
    deaf = SensorSuite(rec, SensorConfig(with_lidar=False)).frame(world.ego_state(), world.objects())
    assert deaf.lidar is None
    assert deaf.past == ()


def test_camera_and_lidar_see_a_car_at_the_same_place() -> None:
    """LiDAR returns on a crossing car, projected at each exposure, fall on pixels as far away."""
    track = straight_track(np.full(80, 14.0), np.linspace(-30, 30, 80))
    track[:, 2] = np.pi / 2
    rec = drive(agent(track))
    world = World(rec, "log_replay")
    for _ in range(38):
        world.replay_ego()
    rec.ego.pose[:, 0] = 0.0
    world.ego = type(world.ego)(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ego, objects = world.ego_state(), world.objects()
    suite = SensorSuite(rec)
    frame = suite.frame(ego, objects)
    points = frame.lidar.points_in_global()
    car = points[
        (np.abs(points[:, 0] - 14) < 1.0) & (np.abs(points[:, 1] - objects.pose[0, 1]) < 2.2) & (points[:, 2] > 0.2)
    ]
    assert len(car) > 100
    hits = suite.cameras.shots(ego, objects)[0].hits
    pixels, depth = frame.cameras.project(0, car)
    column, row = pixels.astype(int).T
    seen = hits.depth.reshape(96, 160)[row, column]
    assert np.median(np.abs(seen - depth)) < 0.15


def test_camera_and_lidar_see_the_same_paint() -> None:
    """Ground points that shine for the LiDAR fall on pixels that are brighter than those of the others."""
    road = straight_road()
    road.crossings = [np.array([[9.0, -1.75], [13.0, -1.75], [13.0, 5.25], [9.0, 5.25], [9.0, -1.75]])]
    rec = recording(straight_track(np.arange(80) * 0.8), road=road)
    cameras = CameraConfig(height=450, width=800, weather="overcast")
    world = World(rec, "log_replay")
    suite = SensorSuite(rec, SensorConfig(cameras=cameras))
    frame = suite.frame(world.ego_state(), world.objects())
    points, shine = frame.lidar.points_in_global(), frame.lidar.intensity
    drivable = road.drivable.buffer(-0.5)
    kept = shapely.contains_xy(drivable, points[:, 0], points[:, 1]) & (np.abs(points[:, 2]) < 0.1)
    kept &= (points[:, 0] > 6) & (points[:, 0] < 14)
    pixels, _ = frame.cameras.project(0, points[kept])
    column, row = pixels.astype(int).T
    inside = (column >= 0) & (column < 800) & (row >= 0) & (row < 450)
    grey = frame.cameras.image[0].astype(float).mean(-1)[row[inside], column[inside]]
    bright = shine[kept][inside] > 28
    assert min(bright.sum(), (~bright).sum()) > 40
    assert np.median(grey[bright]) > 1.5 * np.median(grey[~bright])


def test_a_whole_frame_is_fast_enough_for_the_closed_loop() -> None:
    crowd = (agent(straight_track(np.full(80, 8.0 + 6 * i), 6.5 * (-1) ** i)) for i in range(40))
    rec = drive(*crowd)
    world, suite = World(rec, "log_replay"), SensorSuite(rec)
    spent = []
    for _ in range(5):
        begin = time.process_time()
        suite.frame(world.ego_state(), world.objects())
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.15


@pytest.mark.nuscenes
def test_the_nominal_rig_is_close_to_a_real_one(nuscenes_root) -> None:
    """Beside the calibration and the trigger times of scene-0061's first key frame."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from perception.nuscenes_sensors import first_sample, load_sensor_frame

    real = load_sensor_frame(nuscenes_root, "v1.0-mini", first_sample(nuscenes_root, "v1.0-mini", "scene-0061"))
    if real.cameras is None or real.lidar is None:
        pytest.skip("the key frame's sensor files are absent")
    rig = nominal_rig(900, 1600)
    assert real.cameras.channel == rig.channel
    np.testing.assert_allclose(rig.ego_from_camera[:, :3, 3], real.cameras.ego_from_camera[:, :3, 3], atol=0.04)
    cosine = (rig.ego_from_camera[:, :3, 2] * real.cameras.ego_from_camera[:, :3, 2]).sum(1)
    assert np.rad2deg(np.arccos(cosine)).max() < 2.5
    np.testing.assert_allclose(rig.intrinsics[:, 0, 0], real.cameras.intrinsics[:, 0, 0], rtol=0.01)
    late = (real.cameras.time_us - real.lidar.time_us) / 1e6 - rig.trigger()
    assert np.abs(late).max() < 0.004
    size = np.full(6, 900), np.full(6, 1600)
    same = CameraRig(real.cameras.channel, *size, real.cameras.intrinsics, real.cameras.ego_from_camera).trigger()
    assert np.ptp((real.cameras.time_us - real.lidar.time_us) / 1e6 - same) < 0.002


def test_ego_pose_goes_back_along_its_arc() -> None:
    """10 m/s at 0.5 rad/s: an arc of 20 m radius around (0, 20); 0.2 s before, ego was 0.1 rad back on it."""
    world = World(drive(), "log_replay")
    ego = world.ego_state()
    f = lambda value: ego.x * 0 + value  # noqa: E731
    turning = ego.replace(x=f(0.0), y=f(0.0), yaw=f(0.0), v=f(10.0), yaw_rate=f(0.5))
    pose = ego_pose(turning, -0.2)
    np.testing.assert_allclose(pose[:2, 3], [-20 * np.sin(0.1), 20 - 20 * np.cos(0.1)], atol=1e-3)
    np.testing.assert_allclose(pose[:2, 0], [np.cos(0.1), -np.sin(0.1)])

"""The LiDAR ray caster: geometry against shapely, the sensor's pattern, a real sweep where there is one."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
from sim_scenes import agent, box, recording, straight_track

from eval.simulation.lidar import Lidar, LidarConfig, SensorMotion
from eval.simulation.lidar_solids import Solids, road_users
from eval.simulation.lidar_surroundings import Ground, Surroundings, SurroundingsConfig
from eval.simulation.rendered_lidar import RenderedLidar
from perception.sensor_frame import LidarSweep, transform
from planner.scene import AgentClass, VehicleParameters

EXACT = LidarConfig(range_noise=0.0, dropout=0.0, reach=1e6)
FLAT = SurroundingsConfig(kerb=0.14, relief=0.0)
ROAD = shapely.box(-149.0, -149.0, 149.0, 149.0)


def flat_ground(area: shapely.Polygon = ROAD) -> Ground:
    return Ground(area, np.array([-150.0, -150.0]), np.array([150.0, 150.0]), FLAT)


def cast(
    solids: Solids, motion: SensorMotion | None = None, config: LidarConfig = EXACT, ground: Ground | None = None
) -> LidarSweep:
    motion = motion or SensorMotion(np.zeros(3), 0.0, 0.0, 0)
    return Lidar(config).sweep(solids, ground or flat_ground(), motion, np.random.default_rng(0)).validate()


def in_ego(sweep: LidarSweep) -> np.ndarray:
    return transform(sweep.ego_from_lidar, sweep.points)


def random_boxes(rng: np.random.Generator, count: int) -> Solids:
    place = rng.uniform(-25, 25, (count, 2))
    place = place[np.hypot(*place.T) > 6.0]
    n = len(place)
    rows = np.c_[
        place, rng.uniform(-4, 4, n), rng.uniform(0.1, 3.0, (n, 2)), rng.uniform(0, 1, n), rng.uniform(1, 4, n),
        np.full(n, 0.3), np.zeros(n),
    ]  # fmt: skip
    solids = Solids.from_rows([tuple(row) for row in rows])
    return replace(solids, velocity=rng.uniform(-15, 15, (n, 2)))


def witness(solids: Solids, motion: SensorMotion, column: int, ring: int) -> float:
    """Range (m) of one ray by plan view (shapely) and height, float64; ground at 0; infinite for none."""
    c = EXACT
    t = -c.period * (1 - (column + 1) / c.columns)
    turned = motion.yaw_rate * t
    arc = motion.v * t
    pose = motion.pose[2] + turned
    back = np.array([np.cos(motion.pose[2] + turned / 2), np.sin(motion.pose[2] + turned / 2)]) * arc
    sensor = motion.pose[:2] + back + np.array([np.cos(pose), np.sin(pose)]) * c.mount[0]
    elevation = np.deg2rad(c.lowest_deg + ring * (c.highest_deg - c.lowest_deg) / (c.rings - 1))
    # The sensor's first column looks to the vehicle's left (its x points right), turning clockwise.
    azimuth = pose + np.pi / 2 - 2 * np.pi * (column + 0.5) / c.columns
    level, slope = np.array([np.cos(azimuth), np.sin(azimuth)]), np.tan(elevation)
    line = shapely.LineString([sensor, sensor + 150.0 * level])
    best = c.mount[2] / -slope if slope < 0 else np.inf
    for i in range(len(solids)):
        at = solids.centre[i] + solids.velocity[i] * t
        cut = line.intersection(box(np.array([*at, solids.yaw[i]]), 2 * solids.half[i]))
        if cut.is_empty or cut.geom_type != "LineString":
            continue
        near, far = sorted(np.hypot(*(np.array(p) - sensor)) for p in (cut.coords[0], cut.coords[-1]))
        heights = c.mount[2] + slope * np.array([near, far])
        low, top = solids.bottom[i], solids.top[i]
        if low <= heights[0] <= top:
            best = min(best, near)
        elif heights[0] > top > heights[1]:
            best = min(best, (top - c.mount[2]) / slope)
        elif heights[0] < low < heights[1]:
            best = min(best, (low - c.mount[2]) / slope)
    return best / np.cos(elevation)


@pytest.mark.parametrize("seed", range(4))
def test_ranges_agree_with_plan_view_geometry_while_everything_moves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    solids = random_boxes(rng, 30)
    motion = SensorMotion(np.array([1.0, -2.0, rng.uniform(-3, 3)]), 14.0, 0.4, 0)
    sweep = cast(solids, motion)
    points = in_ego(sweep).reshape(EXACT.columns, EXACT.rings, 3)
    compared = 0
    for column, ring in zip(rng.integers(0, EXACT.columns, 250), rng.integers(8, EXACT.rings, 250)):
        expected = witness(solids, motion, column, ring)
        t = -EXACT.period * (1 - (column + 1) / EXACT.columns)
        turned, arc = motion.yaw_rate * t, motion.v * t
        origin = arc * np.array([np.cos(turned / 2), np.sin(turned / 2)])
        origin = origin + EXACT.mount[0] * np.array([np.cos(turned), np.sin(turned)])
        measured = np.linalg.norm(points[column, ring] - [*origin, EXACT.mount[2]])
        if 0.2 < measured < 1.5:  # the own roof
            continue
        if expected > EXACT.range_max:
            assert measured < 1e-3
        else:
            assert measured == pytest.approx(expected, abs=2e-3, rel=2e-4)
            compared += 1
    assert compared > 100


def test_all_rays_are_written_column_by_column_and_misses_lie_where_the_sensor_was() -> None:
    motion = SensorMotion(np.zeros(3), 10.0, 0.0, 7)
    sweep = cast(Solids.from_rows([]), motion)
    assert len(sweep.points) == 32 * 1084
    assert (np.bincount(sweep.ring) == 1084).all()
    sky = sweep.ring == 31
    # 10 m/s for a turn of 50 ms: the first column fired half a metre farther back (the sensor's y looks forward).
    assert sweep.points[sky][0] == pytest.approx([0.0, -0.5, 0.0], abs=1e-3)
    assert sweep.points[sky][-1] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert sweep.time_us == 7


def test_the_ground_is_where_it_is_and_the_pavement_one_kerb_higher() -> None:
    points = in_ego(cast(Solids.from_rows([]), ground=flat_ground(shapely.box(-60.0, -5.0, 60.0, 5.0))))
    far = (np.hypot(*points[:, :2].T) > 3.0) & (np.abs(points[:, 0]) < 50.0)
    road = far & (np.abs(points[:, 1]) < 4.5)
    beside = far & (np.abs(points[:, 1]) > 5.5)
    assert np.abs(points[road, 2]).max() < 1e-3
    assert points[beside, 2] == pytest.approx(0.14, abs=1e-3)


def test_the_vehicle_sees_its_own_roof_and_bonnet_and_nothing_else_of_itself() -> None:
    points = in_ego(cast(Solids.from_rows([])))
    own = (points[:, 2] > 0.3) & (points[:, 2] < 1.8)
    vehicle = VehicleParameters()
    assert own.sum() > 1000
    assert (points[own, 0] < vehicle.front).all()
    assert (points[own, 0] > -vehicle.rear).all()
    assert (np.abs(points[own, 1]) < vehicle.width / 2).all()


@pytest.mark.parametrize("kind", list(AgentClass))
def test_a_road_user_fills_its_box_and_never_leaves_it(kind: AgentClass) -> None:
    size = {AgentClass.PEDESTRIAN: (0.7, 0.7, 1.75), AgentClass.BUS: (11.0, 2.9, 3.4)}.get(kind, (3.0, 1.4, 1.6))
    pose = np.array([[10.0, 1.0, 0.7]])
    users = road_users(pose, np.array([size[:2]]), np.array([size[2]]), np.zeros((1, 2)), np.array([kind]))
    points = in_ego(cast(users))
    own = points[(points[:, 2] > 0.05) & (points[:, 0] > 3.0)]
    assert len(own) > 20
    outline = box(pose[0], size[:2])
    assert max(outline.distance(shapely.points(own[:, :2]))) < 1e-3
    assert own[:, 2].max() < size[2] + 1e-3
    assert own[:, 2].max() > 0.75 * size[2]


def test_noise_and_dropout_are_as_configured() -> None:
    config = LidarConfig(range_noise=0.02, dropout=0.1, reach=1e6)
    still, noisy = cast(Solids.from_rows([])), cast(Solids.from_rows([]), config=config)
    r = [np.linalg.norm(s.points, axis=1) for s in (still, noisy)]
    back = r[0] > 0.2
    assert (r[1][back] == 0).mean() == pytest.approx(0.1, abs=0.01)
    kept = back & (r[1] > 0)
    assert (r[1] - r[0])[kept].std() == pytest.approx(0.02, rel=0.03)


def test_far_dark_ground_fades_out_before_a_near_wall() -> None:
    fading = LidarConfig(dropout=0.0)
    wall = Solids.from_rows([(25.0, 0.0, 0.0, 0.2, 30.0, 0.0, 8.0, 0.4, 0.0)])
    sweep = cast(wall, config=fading)
    points = in_ego(sweep)
    assert ((points[:, 0] > 24) & (points[:, 2] > 0.5)).sum() > 3000
    # Ring 21 looks 2.67 degrees down: 39 m to the ground; ring 22 half as much: 79 m.
    back = points[:, 0] < 0
    seen = [(back & (sweep.ring == ring) & (np.hypot(*points[:, :2].T) > 5)).sum() / (1084 / 2) for ring in (21, 22)]
    assert 0.75 < seen[0] < 0.95
    assert seen[1] < 0.2


def test_the_surroundings_leave_the_road_and_everybody_free_and_are_the_same_every_time() -> None:
    x = np.arange(80) * 0.8
    rec = recording(straight_track(x), agent(straight_track(x + 20, 9.0)), agent(straight_track(x * 0 + 30, -6.0)))
    first, again = Surroundings.of(rec), Surroundings.of(rec)
    assert len(first.solids) > 40
    assert np.array_equal(first.solids.centre, again.solids.centre)
    other = Surroundings.of(rec, SurroundingsConfig(seed=1)).solids.centre
    assert other.shape != first.solids.centre.shape or not np.array_equal(other, first.solids.centre)
    tall = first.solids[(first.solids.top > 0.3) & (first.solids.bottom < 2.0)]
    outlines = [box(np.array([*c, yaw]), 2 * h) for c, yaw, h in zip(tall.centre, tall.yaw, tall.half)]
    assert not any(outline.intersects(rec.road.drivable) for outline in outlines)
    everybody = [box(p, rec.agents.size[i]) for i in range(2) for p in rec.agents.pose[i, ::10]]
    assert min(o.distance(e) for o in outlines for e in everybody) > 1.0


def test_the_raster_of_the_drivable_area_agrees_with_shapely(rng: np.random.Generator) -> None:
    area = shapely.Point(3.0, 4.0).buffer(30.0).difference(shapely.box(0.0, 0.0, 9.0, 5.0))
    ground = flat_ground(area)
    points = rng.uniform(-40, 45, (4000, 2))
    inside = shapely.contains_xy(area, *points.T)
    clear = shapely.distance(area.boundary, shapely.points(points)) > 0.2
    assert np.array_equal(ground.on_road(points)[clear], inside[clear])


def test_paint_on_the_road_shines_where_it_lies() -> None:
    """Two stripes and a crossing, one of them yellow: bright points are those on them, by plan view."""
    lines = shapely.union_all([shapely.box(-40, 2.9, 40, 3.1), shapely.box(8, -6, 12, 2)])
    yellow = shapely.box(-40, -3.1, 40, -2.9)
    paint = [(lines, np.array([0.6, 0.6, 0.6])), (yellow.difference(lines), np.array([0.6, 0.38, 0.06]))]
    low, high = np.array([-150.0, -150.0]), np.array([150.0, 150.0])
    ground = Ground(ROAD, low, high, FLAT, paint, bare=(0.1, 0.3))
    for wanted, other in ((lines, yellow), (yellow, lines)):
        places = np.random.default_rng(0).uniform(-20, 20, (4000, 2))
        at = shapely.points(places)
        well_in = shapely.contains(wanted.buffer(-0.07), at)
        off = (shapely.distance(shapely.union_all([wanted, other]), at) > 0.2) & (np.abs(places) < 140).all(1)
        assert well_in.sum() > 5
        assert (np.abs(ground.reflectivity(places)[well_in] - 0.6) < 1e-3).all()
        assert (ground.reflectivity(places)[off] == 0.1).all()
    assert ground.reflectivity(np.array([[500.0, 500.0]])) == 0.1
    sweep = cast(Solids.from_rows([]), ground=ground)
    xyz = in_ego(sweep)
    near = (np.hypot(*xyz[:, :2].T) < 25) & (np.abs(xyz[:, 2]) < 0.05)
    at, shine = shapely.points(xyz[near, :2]), sweep.intensity[near]
    on = shapely.contains(shapely.union_all([lines, yellow]).buffer(-0.07), at)
    off = shapely.distance(shapely.union_all([lines, yellow]), at) > 0.2
    assert on.sum() > 100
    assert np.median(shine[on]) > 4 * np.median(shine[off])
    assert np.quantile(shine[on], 0.1) > np.quantile(shine[off], 0.9)


def test_a_sweep_depends_on_the_moment_alone() -> None:
    x = np.arange(80) * 0.8
    rec = recording(straight_track(x), agent(straight_track(x + 20)))
    from eval.simulation.world import World

    world, lidar = World(rec, "log_replay"), RenderedLidar(rec)
    a = lidar.sweep(world.ego_state(), world.objects())
    world.replay_ego()
    b = lidar.sweep(world.ego_state(), world.objects())
    again = RenderedLidar(rec).sweep(world.ego_state(), world.objects())
    assert np.array_equal(b.points, again.points)
    assert not np.array_equal(a.points, b.points)


def test_a_sweep_is_fast_enough_for_the_closed_loop() -> None:
    x = np.arange(80) * 0.8
    rec = recording(straight_track(x), *(agent(straight_track(x * 0 + 8 + 6 * i, 6.5 * (-1) ** i)) for i in range(40)))
    from eval.simulation.world import World

    world, lidar = World(rec, "log_replay"), RenderedLidar(rec)
    spent = []
    for _ in range(5):
        begin = time.process_time()
        lidar.sweep(world.ego_state(), world.objects())
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.06


@pytest.mark.nuscenes
def test_the_real_sweep_has_the_same_pattern(nuscenes_root) -> None:
    """What the rendered sweep of scene-0061's first key frame shares with the recorded one: rings, points per ring,
    ground ranges ring by ring, own body, ground height, order of the range histogram."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from nuscenes_files import VERSION, load_mini

    from eval.simulation.world import World
    from perception.nuscenes_sensors import first_sample, load_sensor_frame

    real = load_sensor_frame(nuscenes_root, VERSION, first_sample(nuscenes_root, VERSION, "scene-0061")).lidar
    if real is None:
        pytest.skip("the key frame's LiDAR file is absent")
    rec = load_mini(nuscenes_root)["scene-0061"]
    world = World(rec, "log_replay")
    ours = RenderedLidar(rec, ego_from_lidar=real.ego_from_lidar).sweep(world.ego_state(), world.objects())
    assert np.array_equal(np.bincount(ours.ring), np.bincount(real.ring))
    assert np.array_equal(ours.ring, real.ring)
    distance = [np.linalg.norm(s.points, axis=1) for s in (real, ours)]
    far = [d > 2.5 for d in distance]
    for ring in range(2, 18):
        a, b = (np.median(d[f & (s.ring == ring)]) for d, f, s in zip(distance, far, (real, ours)))
        assert b == pytest.approx(a, rel=0.15), f"median range of ring {ring}"
    points = [in_ego(s) for s in (real, ours)]
    near = [(np.hypot(*p[:, :2].T) < 8) & (np.abs(p[:, 2]) < 0.4) & f for p, f in zip(points, far)]
    a, b = (np.median(p[n, 2]) for p, n in zip(points, near))
    assert b == pytest.approx(a, abs=0.05)
    count = [int((~f).sum()) for f in far]
    assert count[1] == pytest.approx(count[0], rel=0.25), "rays that hit nothing or the own body"
    edges = [2.5, 5, 10, 20, 30, 50, 80]
    a, b = (np.histogram(d, edges)[0] / f.sum() for d, f in zip(distance, far))
    assert np.abs(a - b).max() < 0.06
    # Intensity: within a factor of 2.5 of the real one at every distance, ground of all kinds.
    for least, most in ((3, 5), (5, 8), (8, 12), (12, 20)):
        a, b = (
            np.median(s.intensity[f & (np.abs(p[:, 2]) < 0.3) & (reach >= least) & (reach < most)])
            for p, f, s in zip(points, far, (real, ours))
            for reach in [np.hypot(*p[:, :2].T)]
        )
        assert 0.4 < b / a < 2.5, f"median intensity of the ground from {least} to {most} m"


def test_a_run_renders_the_lidar_where_its_configuration_says_so() -> None:
    from eval.simulation.observer_config import ObserverConfig
    from eval.simulation.observers import make_observer
    from eval.simulation.simulation_config import SimulationConfig

    x = np.arange(80) * 0.8
    rec = recording(straight_track(x), agent(straight_track(x + 20)))
    for asked in (False, True):
        _, sensors = make_observer(rec, "oracle", ObserverConfig(), SimulationConfig(render_lidar=asked), asked)
        assert (sensors is not None) == asked

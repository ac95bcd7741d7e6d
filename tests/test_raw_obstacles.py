"""The second perception channel: what it finds, how far it sees, and what it says about itself."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from sim_scenes import box

from eval.simulation.lidar import Lidar, LidarConfig, SensorMotion
from eval.simulation.lidar_solids import Solids, road_users
from eval.simulation.lidar_surroundings import Ground, SurroundingsConfig
from perception.raw_obstacles import RawObstacleChannel
from perception.raw_obstacles_config import GroundConfig
from perception.raw_obstacles_ground import height_above_ground
from perception.sensor_frame import LidarSweep
from planner.scene import AgentClass, RawObstacles, RawStatus

STEP_US = 100_000
AREA = shapely.box(-149.0, -149.0, 149.0, 149.0)
GROUND = Ground(AREA, np.array([-150.0, -150.0]), np.array([150.0, 150.0]), SurroundingsConfig(relief=0.04))
SENSOR = Lidar(LidarConfig())
NOBODY = Solids.from_rows([])
# House fronts far off, so that a turn has returns all around.
STREET = Solids.from_rows(
    [(0.0, 25.0, 0.0, 100.0, 0.2, 0.0, 9.0, 0.3, 0.0), (0.0, -25.0, 0.0, 100.0, 0.2, 0.0, 9.0, 0.3, 0.0)]
)


def sweep(solids: Solids = STREET, x: float = 0.0, v: float = 0.0, time_us: int = 0, yaw: float = 0.0) -> LidarSweep:
    motion = SensorMotion(np.array([x, 0.0, yaw]), v, 0.0, time_us)
    return SENSOR.sweep(solids, GROUND, motion, np.random.default_rng([time_us, 1]))


def user(
    kind: AgentClass, x: float, y: float, size: tuple[float, float, float], yaw: float = 0.0, v: float = 0.0
) -> Solids:
    velocity = np.array([[np.cos(yaw), np.sin(yaw)]]) * v
    pose = np.array([[x, y, yaw]])
    return road_users(pose, np.array([size[:2]]), np.array([size[2]]), velocity, np.array([kind]))


def at(solids: Solids, seconds: float) -> Solids:
    return replace(solids, centre=solids.centre + solids.velocity * seconds)


def watch(others: Solids, v: float, sweeps: int = 10) -> tuple[RawObstacles, float]:
    """The channel's last word after some cycles of driving straight on at v (m/s), and ego's x (m) then."""
    channel, world = RawObstacleChannel(), Solids.concatenate([STREET, others])
    for k in range(sweeps):
        seconds = k * 0.1
        seen = sweep(at(world, seconds), v * seconds, v, k * STEP_US)
        raw = channel.observe(seen, k * STEP_US, v, 0.0).validate()
    return raw, v * seconds


def outlines(raw: RawObstacles) -> list[shapely.Polygon]:
    pose = torch.cat([raw.centre, raw.yaw[:, None]], -1).numpy()
    return [box(p, size) for p, size in zip(pose, torch.stack([raw.length, raw.width], -1).numpy())]


def longest_seen(raw: RawObstacles, where: shapely.Polygon) -> int:
    """Index of the obstacle seen for the most sweeps of those that touch a place."""
    touching = [i for i, outline in enumerate(outlines(raw)) if outline.intersects(where)]
    assert touching, f"nothing at {where.centroid}"
    return max(touching, key=lambda i: int(raw.observed[i]))


CAR, PERSON, TRUCK = (4.5, 1.8, 1.5), (0.6, 0.6, 1.75), (17.0, 2.55, 3.6)


@pytest.mark.parametrize("ego_v", [0.0, 12.0])
@pytest.mark.parametrize(
    ("kind", "size", "yaw", "v", "place"),
    [
        (AgentClass.CAR, CAR, 0.0, 0.0, (40.0, 0.0)),
        (AgentClass.CAR, CAR, 0.0, 8.0, (30.0, 3.5)),
        (AgentClass.CAR, CAR, np.pi, 10.0, (45.0, 4.0)),
        (AgentClass.PEDESTRIAN, PERSON, np.pi / 2, 1.5, (28.0, -5.0)),
        (AgentClass.BICYCLE, (1.8, 0.6, 1.7), np.pi / 2, 4.0, (30.0, -6.0)),
    ],
)
def test_who_is_there_is_found_with_a_velocity(kind, size, yaw, v, place, ego_v) -> None:
    raw, x = watch(user(kind, *place, size, yaw, v), ego_v)
    seconds = 0.9
    where = np.array(place) + v * seconds * np.array([np.cos(yaw), np.sin(yaw)]) - [x, 0.0]
    outline = box(np.array([*where, yaw]), size[:2])
    i = longest_seen(raw, outline)
    truth = v * np.array([np.cos(yaw), np.sin(yaw)])
    far = float(np.hypot(*where)) > 22.0
    assert raw.observed[i] >= (3 if far else 8)
    assert raw.velocity_known[i] or far
    if raw.velocity_known[i]:
        assert np.abs(raw.velocity[i].numpy() - truth).max() < (1.2 if far else 0.7)
    assert outlines(raw)[i].difference(outline.buffer(0.9 if far else 0.3)).area < 0.05


def test_the_seen_corner_of_a_bus_gives_a_box_along_the_bus_and_not_across_the_next_lane() -> None:
    bus = user(AgentClass.BUS, 16.6, 4.3, (11.7, 2.5, 3.2), np.pi - 0.04)
    raw, _ = watch(bus, 0.0, 2)
    outline = box(np.array([16.6, 4.3, np.pi - 0.04]), np.array([11.7, 2.5]))
    touching = [o for o in outlines(raw) if o.intersects(outline)]
    assert max(o.area for o in touching) > 4.0
    assert all(outline.buffer(0.4).contains(o) for o in touching)


def test_the_middle_of_a_long_flank_is_not_known_to_stand_still() -> None:
    raw, _ = watch(user(AgentClass.TRUCK, -4.0, 4.0, TRUCK, 0.0, 6.0), 0.0)
    beside = (raw.centre[:, 1] - 3.0).abs().lt(1.5) & raw.centre[:, 0].abs().lt(9.0)
    assert beside.sum() >= 3
    claimed = raw.velocity_known & beside
    assert (raw.velocity[claimed, 0] - 6.0).abs().lt(1.5).all()


def test_house_fronts_are_known_to_stand_still_although_ego_drives_along_them() -> None:
    raw, _ = watch(NOBODY, 12.0)
    wall = raw.centre[:, 1].abs().sub(25.0).abs().lt(1.0) & raw.velocity_known
    assert wall.sum() > 10
    assert raw.velocity[wall].abs().max() == 0


@pytest.mark.parametrize(
    ("bottom", "top", "found"), [(0.0, 0.25, False), (0.0, 0.6, True), (2.6, 3.5, False), (1.2, 3.5, True)]
)
def test_only_what_is_in_the_way_of_a_vehicle_is_an_obstacle(bottom: float, top: float, found: bool) -> None:
    plate = Solids.from_rows([(15.0, 0.0, 0.0, 0.5, 2.0, bottom, top, 0.4, 0.0)])
    raw, _ = watch(plate, 0.0, 2)
    ahead = (raw.centre - torch.tensor([15.0, 0.0])).norm(dim=-1) < 2.5
    assert bool(ahead.any()) == found


@pytest.mark.parametrize(("slope", "steep"), [(0.05, False), (-0.05, False), (0.30, True)])
def test_a_sloping_road_is_ground_and_a_ramp_too_steep_to_drive_is_not(slope: float, steep: bool) -> None:
    radius, angle = np.meshgrid(np.r_[2.2:50.0:0.7], np.linspace(-np.pi, np.pi, 360, endpoint=False))
    x, y = radius.ravel() * np.cos(angle.ravel()), radius.ravel() * np.sin(angle.ravel())
    height = height_above_ground(np.stack([x, y, slope * np.hypot(x, y)], -1), GroundConfig(), 60.0)
    assert (height.max() > 0.3) == steep


def test_sight_ends_at_obstacles_and_where_the_ground_was_no_longer_seen() -> None:
    raw, _ = watch(Solids.from_rows([(20.0, 0.0, 0.0, 0.1, 4.0, 0.0, 3.0, 0.4, 0.0)]), 0.0, 1)
    assert raw.sight_valid.all()
    assert float(raw.sight[0]) == pytest.approx(19.9, abs=0.1)
    behind = raw.sectors // 2
    assert 35.0 < float(raw.sight[behind]) < 60.0
    left = raw.sectors // 4
    assert float(raw.sight[left]) == pytest.approx(24.8, abs=4.0)
    assert float(raw.sight[left]) < 25.0


def test_a_direction_without_any_return_is_not_measured() -> None:
    whole = sweep()
    azimuth = np.arctan2(whole.points[:, 0], whole.points[:, 1])  # of the sensor: y ahead, x right
    taped = replace(whole, points=np.where((np.abs(azimuth) < 0.3)[:, None], 0, whole.points).astype(np.float32))
    raw = RawObstacleChannel().observe(taped, 0, 0.0, 0.0).validate()
    assert raw.status is RawStatus.OK
    assert not raw.sight_valid[0]
    assert raw.sight_valid[raw.sectors // 4]


def test_neither_the_own_body_nor_rays_without_return_are_obstacles() -> None:
    raw, _ = watch(NOBODY, 14.0, 3)
    assert raw.centre.norm(dim=-1).min() > 10.0


def test_a_jump_of_the_localisation_moves_nothing() -> None:
    world = Solids.concatenate([STREET, user(AgentClass.CAR, 15.0, 3.0, CAR)])
    honest, jumped = RawObstacleChannel(), RawObstacleChannel()
    for k in range(8):
        seen = sweep(world, 0.5 * k, 5.0, k * STEP_US)
        moved = np.array(seen.global_from_ego)
        moved[:2, 3] += 7.0 * (k > 4)
        a = honest.observe(seen, k * STEP_US, 5.0, 0.0)
        b = jumped.observe(replace(seen, global_from_ego=moved), k * STEP_US, 5.0, 0.0)
        assert torch.equal(a.centre, b.centre)
        assert torch.equal(a.velocity, b.velocity)


def test_where_the_vehicle_is_on_the_map_and_how_it_is_turned_changes_nothing() -> None:
    world = user(AgentClass.CAR, 12.0, -3.0, CAR, 0.4)
    turn = 2.0
    c, s = np.cos(turn), np.sin(turn)
    turned = replace(world, centre=world.centre @ np.array([[c, s], [-s, c]]), yaw=world.yaw + turn)
    flat = Ground(AREA, np.array([-150.0, -150.0]), np.array([150.0, 150.0]), SurroundingsConfig(relief=0.0))
    a, b = (
        RawObstacleChannel().observe(
            SENSOR.sweep(solids, flat, SensorMotion(np.array([0, 0, yaw]), 0.0, 0.0, 0), np.random.default_rng(3)),
            0,
            0,
            0,
        )
        for solids, yaw in ((world, 0.0), (turned, turn))
    )
    assert len(a.yaw) == len(b.yaw)
    assert torch.allclose(a.centre, b.centre, atol=0.02)


# -- what it says about itself ------------------------------------------------------------------------------


def fed(*sweeps: tuple[LidarSweep | None, int]) -> list[RawObstacles]:
    channel = RawObstacleChannel()
    return [channel.observe(seen, now, 5.0, 0.0).validate() for seen, now in sweeps]


def test_without_a_sweep_it_is_absent_and_after_one_stale() -> None:
    absent, sound, stale = fed((None, 0), (sweep(time_us=0), 0), (None, STEP_US))
    assert (absent.status, sound.status, stale.status) == (RawStatus.ABSENT, RawStatus.OK, RawStatus.STALE)
    assert torch.equal(stale.centre, sound.centre)
    assert not stale.sight_valid.any()
    assert "0.10 s" in stale.reason


@pytest.mark.parametrize(
    ("age", "status"),
    [(0.149, RawStatus.OK), (0.151, RawStatus.STALE), (-0.019, RawStatus.OK), (-0.021, RawStatus.BROKEN)],
)
def test_age_just_inside_and_just_outside(age: float, status: RawStatus) -> None:
    (raw,) = fed((sweep(time_us=1_000_000), round((1 + age) * 1e6)))
    assert raw.status is status


def test_the_same_content_under_a_new_stamp_is_frozen_and_ends_with_new_content() -> None:
    first = sweep(time_us=0)
    again = replace(first, points=first.points.copy(), time_us=STEP_US)
    results = fed((first, 0), (again, STEP_US), (sweep(time_us=2 * STEP_US), 2 * STEP_US))
    assert [r.status for r in results] == [RawStatus.OK, RawStatus.FROZEN, RawStatus.OK]


@pytest.mark.parametrize(("share", "status"), [(0.45, RawStatus.OK), (0.55, RawStatus.FROZEN)])
def test_partly_frozen_content_just_inside_and_just_outside(share: float, status: RawStatus) -> None:
    first, second = sweep(time_us=0), sweep(time_us=STEP_US)
    kept = np.random.default_rng(0).random(len(first.points)) < share
    mixed = replace(second, points=np.where(kept[:, None], first.points, second.points))
    assert fed((first, 0), (mixed, STEP_US))[1].status is status


def test_a_standing_vehicle_in_a_still_world_is_not_frozen() -> None:
    results = fed(*((sweep(time_us=k * STEP_US), k * STEP_US) for k in range(4)))
    assert all(r.status is RawStatus.OK for r in results)


def test_an_older_sweep_after_a_newer_one_is_stale() -> None:
    results = fed((sweep(time_us=STEP_US), STEP_US), (sweep(time_us=STEP_US // 2), STEP_US))
    assert results[1].status is RawStatus.STALE
    assert "older" in results[1].reason


def broken(kind: str) -> LidarSweep:
    s = sweep()
    points, ring = s.points.copy(), s.ring
    if kind == "nan":
        points[7, 1] = np.nan
    elif kind == "empty":
        return replace(s, points=points[:0], intensity=s.intensity[:0], ring=ring[:0])
    elif kind == "shape":
        points = points[:, :2]
    elif kind == "rings":
        points[ring >= 22] = 0.0
    elif kind == "calibration":
        return replace(s, ego_from_lidar=2.0 * np.eye(4))
    return replace(s, points=points)


@pytest.mark.parametrize("kind", ["nan", "empty", "shape", "rings", "calibration"])
def test_what_cannot_be_a_turn_of_the_sensor_is_broken_and_forgotten(kind: str) -> None:
    bad, good = fed((broken(kind), 0), (sweep(time_us=STEP_US), STEP_US))
    assert bad.status is RawStatus.BROKEN
    assert good.status is RawStatus.OK


@pytest.mark.parametrize(("rings", "status"), [(24, RawStatus.OK), (23, RawStatus.BROKEN)])
def test_rings_just_enough_and_just_too_few(rings: int, status: RawStatus) -> None:
    s = sweep()
    lost = s.ring >= rings
    assert fed((replace(s, points=np.where(lost[:, None], 0, s.points).astype(np.float32)), 0))[0].status is status


@pytest.mark.parametrize(("share", "status"), [(0.55, RawStatus.OK), (0.42, RawStatus.BROKEN)])
def test_directions_just_enough_and_just_too_few(share: float, status: RawStatus) -> None:
    s = sweep()
    lost = np.arange(len(s.points)) >= share * len(s.points)  # rays are stored in the order of their directions
    assert fed((replace(s, points=np.where(lost[:, None], 0, s.points).astype(np.float32)), 0))[0].status is status


def test_a_cycle_is_fast() -> None:
    world = Solids.concatenate([STREET, *(user(AgentClass.CAR, 7.0 * k - 70, 5.0 * (-1) ** k, CAR) for k in range(20))])
    channel, spent = RawObstacleChannel(), []
    for k in range(6):
        seen = sweep(world, 0.5 * k, 5.0, k * STEP_US)
        begin = time.process_time()
        channel.observe(seen, k * STEP_US, 5.0, 0.0)
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.02


@pytest.mark.nuscenes
def test_annotated_objects_of_the_real_sweep_are_found(nuscenes_root) -> None:
    """Of all annotated objects within 60 m with at least two returns in their box, at least 95 % touch an obstacle."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from nuscenes_files import VERSION

    from perception.nuscenes_sensors import first_sample, load_boxes, load_sensor_frame

    token = first_sample(nuscenes_root, VERSION, "scene-0061")
    frame, boxes = load_sensor_frame(nuscenes_root, VERSION, token), load_boxes(nuscenes_root, VERSION, token)
    if frame.lidar is None:
        pytest.skip("the key frame's LiDAR file is absent")
    raw = RawObstacleChannel().observe(frame.lidar, frame.lidar.time_us, float(frame.ego.v), 0.0).validate()
    assert raw.status is RawStatus.OK
    ego_from_global = np.linalg.inv(frame.lidar.global_from_ego)
    returns = np.linalg.norm(frame.lidar.points, axis=1) > 2.5
    inside = boxes.contains(frame.lidar.points_in_global()[returns]).sum(1)
    middle = boxes.center @ ego_from_global[:3, :3].T + ego_from_global[:3, 3]
    yaw = boxes.yaw + np.arctan2(ego_from_global[1, 0], ego_from_global[0, 0])
    tree = shapely.STRtree(outlines(raw))
    there = [i for i in range(len(yaw)) if inside[i] >= 2 and np.hypot(*middle[i, :2]) < 60.0]
    outline = [box(np.array([*middle[i, :2], yaw[i]]), boxes.size[i, :2]) for i in there]
    found = [len(tree.query(o, predicate="intersects")) > 0 for o in outline]
    assert len(there) > 30
    assert np.mean(found) >= 0.95

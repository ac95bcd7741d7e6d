"""Small scenes for the learned perception: boxes on a straight road with points on their sides, and a small network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from perception.config import CLASSES, LINE_KINDS, TINY, PerceptionConfig, Preprocessing
from perception.heads import AgentOutputs, EgoOutputs
from perception.heads_lines import LineOutputs
from perception.network import NetworkOutputs
from perception.raw_outputs import SIZE
from perception.sample import Sample, make_sample
from perception.sensor_frame import CameraImages, LidarSweep, SensorFrame
from perception.targets import Targets, windowed
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoProposal,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    Trajectory,
    VectorScene,
)

F64 = torch.float64
SMALL = replace(
    TINY,
    preprocessing=Preprocessing(
        extent=25.6, pillar=0.8, points=4096, image=(32, 48), cameras=("CAM_FRONT", "CAM_BACK")
    ),
    channels=(16, 24, 32), blocks=(0, 0, 0), neck=24, image_channels=(8, 8, 16, 16), lift_channels=16,
    lift_heights=(0.2, 1.0), query=32,
    heads=2, layers=1, agents=16, lines=12, line_range=(20.0, 12.0), refinements=1,
)  # fmt: skip
"""Everything the network has, in a size for tests."""
NOW = 1_700_000_000_000_000
Agent = tuple[float, float, float, float, AgentClass]  # x, y, yaw, v, class
DIMENSIONS = {AgentClass.CAR: (4.5, 1.9), AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.TRUCK: (8.0, 2.5)}


def scene_of(agents: list[Agent], config: PerceptionConfig = SMALL, seen: list[bool] | None = None) -> VectorScene:
    """A straight road, agents that go straight on, an expert at 6 m/s; futures as training wants them."""
    count, time = len(agents), torch.arange(1, config.steps + 1, dtype=F64) * (config.horizon / config.steps)
    table = torch.tensor([[x, y, yaw, *DIMENSIONS[kind]] for x, y, yaw, _, kind in agents], dtype=F64).reshape(count, 5)
    speed = torch.tensor([v for _, _, _, v, _ in agents], dtype=F64)
    velocity = speed[:, None] * torch.stack([table[:, 2].cos(), table[:, 2].sin()], 1)
    mean = table[:, None, None, :2] + velocity[:, None, None] * time[:, None]
    tracks = AgentTracks(
        table, velocity, torch.zeros(count, 2, 2, dtype=F64), torch.tensor([int(a[4]) for a in agents]).long(),
        torch.tensor([1.0] * count if seen is None else [float(s) for s in seen], dtype=F64),
        torch.arange(count), torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    futures = AgentFutures(
        mean, table[:, 2][:, None, None].expand(count, 1, len(time)).clone(),
        torch.zeros(count, 1, len(time), 2, 2, dtype=F64), torch.ones(count, 1, dtype=F64), time,
        torch.ones(count, 1, len(time), dtype=torch.bool),
    )  # fmt: skip
    line = lambda y, way=1: torch.tensor([[-60.0 * way, y], [0.0, y], [60.0 * way, y]], dtype=F64)  # noqa: E731
    crossing = torch.tensor([[10.0, -6.0], [13.0, -6.0], [13.0, 6.0], [10.0, 6.0], [10.0, -6.0]], dtype=F64)
    polylines = MapPolylines.from_lists([
        (line(0.0), PolylineType.CENTERLINE), (line(1.75), PolylineType.DIVIDER), (line(-6.0), PolylineType.BOUNDARY),
        (line(6.0, -1), PolylineType.BOUNDARY), (crossing, PolylineType.CROSSING),
    ])  # fmt: skip
    moments = torch.arange(0, config.horizon + 0.05, 0.1, dtype=F64)
    still = torch.zeros_like(moments)
    drive = Trajectory(moments, 6.0 * moments, still, still, still + 6.0, still, still)
    return VectorScene(
        EgoState.at_origin(6.0, time_us=NOW), tracks, futures, polylines, straight_route(),
        torch.zeros(3, dtype=F64), EgoProposal(reference=drive), "straight",
    ).validate()  # fmt: skip


def straight_route(length: float = 120.0) -> Route:
    """Along the x axis, 3 m of surface to the right, 1.75 m to the left."""
    x = torch.arange(-10.0, length, 2.0, dtype=F64)
    flat = lambda value: torch.full_like(x, value)  # noqa: E731
    no = torch.zeros(len(x), dtype=torch.bool)
    return Route(
        torch.stack([x, flat(0.0)], 1), flat(13.0), torch.zeros(len(x)).long(), flat(1.75), flat(3.0), flat(4.0),
        flat(0.0), no, ~no,
    )  # fmt: skip


def frame_of(scene: VectorScene, seed: int = 0, cameras: bool = False, ago: float = 0.0) -> SensorFrame:
    """Points on the sides of all agents and on the ground; ago (s): as it was then, seen from ego's place then."""
    rng = np.random.default_rng(seed)
    ego_x = -float(scene.ego.v) * ago
    points = [np.c_[rng.uniform(-25, 25, (600, 2)), rng.normal(0, 0.02, 600)]]
    for (x, y, yaw, length, width), velocity in zip(scene.agents.box.tolist(), scene.agents.velocity.tolist()):
        side = rng.uniform(-0.5, 0.5, (60, 2))
        side[np.arange(60), rng.integers(0, 2, 60)] = rng.choice([-0.5, 0.5], 60)
        local = side * [length, width]
        c, s = np.cos(yaw), np.sin(yaw)
        xy = local @ np.array([[c, s], [-s, c]]) + [x - velocity[0] * ago, y - velocity[1] * ago]
        points.append(np.c_[xy, rng.uniform(0.3, 1.6, 60)])
    xyz = np.concatenate(points)
    lidar_from_ego = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3, :3], ego_from_lidar[:3, 3] = lidar_from_ego.T, [0.9, 0.0, 1.8]
    global_from_ego = np.eye(4)
    global_from_ego[0, 3] = ego_x
    in_lidar = (xyz - [ego_x + 0.9, 0.0, 1.8]) @ lidar_from_ego.T
    time_us = NOW - round(ago * 1e6)
    sweep = LidarSweep(
        in_lidar.astype(np.float32), np.full(len(xyz), 20.0, np.float32), np.full(len(xyz), -1), ego_from_lidar,
        global_from_ego, time_us,
    )  # fmt: skip
    images = two_cameras(rng, global_from_ego, time_us) if cameras else None
    return SensorFrame(time_us, global_from_ego, scene.ego, lidar=sweep, cameras=images, name="frame").validate()


def two_cameras(rng: np.random.Generator, global_from_ego: np.ndarray, time_us: int) -> CameraImages:
    """One looks forward, one back; of different sizes."""
    forward = np.array([[0.0, 0.0, 1.0, 1.7], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]])
    back = np.diag([-1.0, -1.0, 1.0, 1.0]) @ forward
    pixels = np.array([[120.0, 0.0, 96.0], [0.0, 120.0, 64.0], [0.0, 0.0, 1.0]])
    return CameraImages(
        ("CAM_FRONT", "CAM_BACK"),
        [rng.integers(0, 255, size, dtype=np.uint8) for size in ((128, 192, 3), (64, 96, 3))],
        np.stack([pixels, np.diag([0.5, 0.5, 1.0]) @ pixels]),
        np.stack([forward, back]),
        np.stack([global_from_ego] * 2),
        np.array([time_us] * 2),
    )


def sample_of(agents: list[Agent], seed: int = 0, cameras: bool = False, config: PerceptionConfig = SMALL) -> Sample:
    """A training sample with one past sweep."""
    scene = scene_of(agents, config)
    past = frame_of(scene, seed + 1000, ago=0.5).lidar
    assert past is not None
    return make_sample(replace(frame_of(scene, seed, cameras), past=(past,)), scene, config)


def random_agents(rng: np.random.Generator, count: int) -> list[Agent]:
    """Cars and pedestrians at least 6 m from each other."""
    out: list[Agent] = []
    while len(out) < count:
        x, y = rng.uniform(-20, 20), rng.uniform(-10, 10)
        if all(np.hypot(x - a[0], y - a[1]) > 6.0 for a in out) and np.hypot(x, y) > 5.0:
            car = bool(rng.random() < 0.6)
            kind = AgentClass.CAR if car else AgentClass.PEDESTRIAN
            out.append((x, y, float(rng.choice([0.0, np.pi])), 5.0 if car else 1.0, kind))
    return out


def ideal_outputs(targets: Targets, config: PerceptionConfig = SMALL) -> NetworkOutputs:
    """What a network that knows everything would say of one scene."""
    q, line_count, size = config.agents, config.lines, config.preprocessing.cells // 2
    out = AgentOutputs(
        torch.full((1, CLASSES, size, size), -9.0), torch.zeros(1, q, 2), torch.full((1, q, CLASSES), -9.0),
        torch.zeros(1, q, 10), torch.zeros(1, q, config.modes, config.steps, 4), torch.zeros(1, q, config.modes),
    )  # fmt: skip
    time = torch.arange(1, config.steps + 1) * (config.horizon / config.steps)
    for i, (box, v, kind, future) in enumerate(zip(targets.box, targets.velocity, targets.kind, targets.future)):
        x, y, yaw, length, width = map(float, box)
        out.place[0, i] = torch.tensor([x - 0.2, y + 0.1])
        out.box[0, i, :2] = torch.tensor([0.2, -0.1])
        out.box[0, i, 2:6] = torch.tensor([np.sin(yaw), np.cos(yaw), np.log(length / SIZE), np.log(width / SIZE)])
        out.box[0, i, 6:8] = torch.tensor(v) / 10
        out.box[0, i, 8:] = -9.0
        out.class_logit[0, i, kind] = 9.0
        away = torch.tensor(future[:, :2] - box[:2]) - torch.tensor(v) * time[:, None]
        turn = torch.tensor([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        out.future[0, i, 0, :, :2] = ((away @ turn) / time[:, None]).float()
        out.future[0, i, :, :, 2:] = -9.0
        out.mode_logit[0, i, 0] = 20.0
    points, kinds = windowed(targets, config)
    rows, columns = (
        2 * round(half / (4 * config.preprocessing.extent / config.preprocessing.cells)) for half in config.line_range
    )
    lines = LineOutputs(
        torch.full((1, len(LINE_KINDS), rows, columns), -9.0), torch.zeros(1, 3 * len(LINE_KINDS), rows, columns),
        torch.zeros(1, line_count, 2), torch.full((1, line_count, len(LINE_KINDS)), -9.0),
        torch.zeros(config.refinements + 1, 1, line_count, config.line_points, 2),
    )  # fmt: skip
    for i, (xy, kind) in enumerate(zip(points, kinds)):
        lines.points[:, 0, i] = torch.from_numpy(xy)
        lines.kind_logit[0, i, kind] = 9.0
    ego = EgoOutputs(torch.zeros(1, 8), torch.zeros(1, 6), torch.zeros(1, config.steps, 2))
    return NetworkOutputs(out, lines, ego)

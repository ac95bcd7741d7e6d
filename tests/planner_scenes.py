"""Scenes a person could draw, for the planner's tests: a road along x or an arc, and a few others on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from shapely import affinity
from shapely.geometry import Polygon, box

from planner import ConvexPlanner, PlannerConfig
from planner.result import Candidate, PlanResult
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    Trajectory,
    VectorScene,
    VehicleParameters,
)

F64 = torch.float64
FUTURE_TIME = torch.arange(1, 31, dtype=F64) * 0.2
SIZES = {AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.STATIC: (1.0, 1.0), AgentClass.BUS: (12.0, 2.9)}


@dataclass(frozen=True)
class Other:
    """Another road user at a box centre (m), heading yaw (rad), driving v (m/s) straight on.

    modes: (probability, speed m/s) of its forecasts, all straight along yaw. sigma (m) now, growing by spread (m/s).
    """

    x: float
    y: float
    yaw: float = 0.0
    v: float = 0.0
    kind: AgentClass = AgentClass.CAR
    size: tuple[float, float] | None = None
    track_id: int = 1
    existence: float = 1.0
    modes: tuple[tuple[float, float], ...] = ()
    sigma: float = 0.1
    spread: float = 0.1


def make_scene(
    v: float = 8.0,
    others: tuple[Other, ...] = (),
    *,
    a: float = 0.0,
    limit: float = 10.0,
    left: float = 1.75,
    right: float = 1.75,
    left_oncoming: float = 0.0,
    bend: float = 0.0,
    time_us: int = 0,
) -> VectorScene:
    """Ego at the origin heading along +x, on a road from 25 m behind to 150 m ahead, of curvature `bend` (1/m).

    left, right, left_oncoming as in Route; the edges of the surface are boundaries of the map.
    """
    s = torch.arange(-25.0, 150.0, 1.0, dtype=F64)
    point, normal = arc(s, bend)
    one, count = torch.ones(len(s), dtype=F64), len(s)
    route = Route(
        point, limit * one, torch.zeros(count, dtype=torch.int64), left * one, right * one, left_oncoming * one,
        0 * one, torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    edges = [point - right * normal, (point + (left + left_oncoming) * normal).flip(0)]
    boundaries = MapPolylines.from_lists([(edge, PolylineType.BOUNDARY) for edge in edges])
    agents, futures = tracks_and_futures(others)
    ego = EgoState.at_origin(v, a, bend, time_us)
    return VectorScene(ego, agents, futures, boundaries, route, torch.zeros(3, dtype=F64)).validate()


def arc(s: torch.Tensor, bend: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (m) of a path through the origin along +x, and its left normals, at arc lengths s."""
    heading = s * bend
    # sin(x)/x and (1 - cos(x))/x stay exact for a straight road.
    half = torch.sinc(heading / (2 * math.pi)) * s
    point = torch.stack([half * torch.cos(heading / 2), half * torch.sin(heading / 2)], -1)
    return point, torch.stack([-torch.sin(heading), torch.cos(heading)], -1)


def tracks_and_futures(others: tuple[Other, ...]) -> tuple[AgentTracks, AgentFutures]:
    """The contract's form of the others; agents with fewer modes than the most are padded with invalid ones."""
    if not others:
        return AgentTracks.empty(), AgentFutures.empty(FUTURE_TIME)
    count, steps = len(others), len(FUTURE_TIME)
    most = max(max(len(o.modes), 1) for o in others)
    forward = torch.tensor([[math.cos(o.yaw), math.sin(o.yaw)] for o in others], dtype=F64)
    sizes = [o.size or SIZES.get(o.kind, (4.5, 1.9)) for o in others]
    boxes = torch.tensor([[o.x, o.y, o.yaw, *size] for o, size in zip(others, sizes)], dtype=F64)
    probability, speed = torch.zeros(count, most, dtype=F64), torch.zeros(count, most, dtype=F64)
    valid = torch.zeros(count, most, steps, dtype=torch.bool)
    for i, o in enumerate(others):
        for j, (p, mode_speed) in enumerate(o.modes or ((1.0, o.v),)):
            probability[i, j], speed[i, j], valid[i, j] = p, mode_speed, True
    mean = boxes[:, None, None, :2] + forward[:, None, None] * speed[..., None, None] * FUTURE_TIME[:, None]
    sigma = torch.tensor([[o.sigma, o.spread] for o in others], dtype=F64)
    variance = sigma[:, :1] ** 2 + (sigma[:, 1:] * FUTURE_TIME) ** 2
    eye = torch.eye(2, dtype=F64)
    tracks = AgentTracks(
        box=boxes,
        velocity=forward * torch.tensor([[o.v] for o in others], dtype=F64),
        position_covariance=sigma[:, :1, None] ** 2 * eye,
        agent_class=torch.tensor([int(o.kind) for o in others]),
        existence=torch.tensor([o.existence for o in others], dtype=F64),
        track_id=torch.tensor([o.track_id for o in others]),
        valid=torch.ones(count, dtype=torch.bool),
    )
    futures = AgentFutures(
        mean=mean,
        yaw=boxes[:, None, None, 2].expand(count, most, steps).clone(),
        covariance=(variance[:, None, :, None, None] * eye).expand(count, most, steps, 2, 2).clone(),
        probability=probability,
        time=FUTURE_TIME,
        valid=valid,
    )
    return tracks, futures


def rectangle(x: float, y: float, yaw: float, length: float, width: float) -> Polygon:
    """A box by its centre (m), heading (rad) and size (m)."""
    shape = affinity.rotate(box(-length / 2, -width / 2, length / 2, width / 2), yaw, (0, 0), use_radians=True)
    return affinity.translate(shape, x, y)


def ego_rectangles(trajectory: Trajectory, vehicle: VehicleParameters | None = None) -> list[Polygon]:
    """Ego's outline at every time of a trajectory of the rear axle."""
    p = vehicle or VehicleParameters()
    x, y, yaw = (getattr(trajectory, name).detach().numpy() for name in ("x", "y", "yaw"))
    x, y = x + p.rear_axle_to_center * np.cos(yaw), y + p.rear_axle_to_center * np.sin(yaw)
    return [rectangle(*pose, p.length, p.width) for pose in zip(x, y, yaw)]


def agent_rectangles(scene: VectorScene, agent: int, mode: int, time: np.ndarray) -> list[Polygon]:
    """An agent's forecast mean boxes at the given times (s), linear between the forecast's."""
    future, now = scene.futures, scene.agents.box[agent].numpy()
    grid = np.concatenate([[0.0], future.time.numpy()])
    poses = np.concatenate([future.mean[agent, mode].numpy(), future.yaw[agent, mode, :, None].numpy()], 1)
    poses = np.concatenate([now[None, :3], poses])
    at = np.stack([np.interp(time, grid, poses[:, i]) for i in range(3)], 1)
    return [rectangle(*pose, now[3], now[4]) for pose in at]


def front_bumper(trajectory: Trajectory, vehicle: VehicleParameters | None = None) -> torch.Tensor:
    """x (m) of the front bumper's middle along a road in x."""
    p = vehicle or VehicleParameters()
    return trajectory.x + p.front * torch.cos(trajectory.yaw)


CONFIG = PlannerConfig()
VEHICLE = VehicleParameters()
WALKER = AgentClass.PEDESTRIAN
UP, DOWN = math.pi / 2, -math.pi / 2
"""Headings (rad) across the road."""

SCENES: dict[str, VectorScene] = {
    "free road": make_scene(8.0),
    "bend": make_scene(8.0, bend=0.03, left=2.0, right=2.0),
    "setting off": make_scene(0.0),
    "braking start": make_scene(8.0, a=-2.0),
    "leader": make_scene(8.0, (Other(22.0, 0.0, v=5.0),)),
    "cone": make_scene(8.0, (Other(30.0, 0.0, kind=AgentClass.STATIC),)),
    "standing car": make_scene(8.0, (Other(32.0, 0.0),)),
    "crossing pedestrian": make_scene(8.0, (Other(25.0, -5.0, UP, 1.4, WALKER),)),
    "crossing car": make_scene(8.0, (Other(35.0, -18.0, UP, 6.0),)),
    "parked on the right": make_scene(8.0, (Other(30.0, -1.9),), left=3.5),
    "parked on the left": make_scene(8.0, (Other(30.0, 1.9),), right=3.5),
    "two crossing": make_scene(6.0, (Other(22.0, -14.0, UP, 6.0), Other(40.0, 20.0, DOWN, 6.0, track_id=2)), left=3.0),
    "follower": make_scene(8.0, (Other(-9.0, 0.0, v=8.0),)),
    "close behind a standing bus": make_scene(0.0, (Other(11.0, 0.0, kind=AgentClass.BUS),)),
}


def plan(scene: VectorScene, config: PlannerConfig = CONFIG) -> PlanResult:
    """By a planner without a past."""
    return ConvexPlanner(config, VEHICLE).plan(scene)


def chosen(scene: VectorScene) -> Candidate:
    """The preferred candidate, which has to exist."""
    best = plan(scene).chosen
    assert best is not None
    assert best.trajectory is not None
    assert best.tail is not None
    return best

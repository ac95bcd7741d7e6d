"""Perfect perception: today's annotated boxes and the map, with rule-based forecasts; nothing from the future."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from perception.forecast import ForecastConfig, forecast, road_network
from perception.lane_following import wrap
from perception.map_polylines import map_window
from perception.recording import ObjectStates
from perception.road_map import RoadMap
from planner.scene import AgentFutures, AgentTracks, EgoState, Route, VectorScene


class LocalRoute(Protocol):
    """What gives the route around a pose; `perception.routing.RouteSurface` is one."""

    def local(self, ego_pose: np.ndarray) -> Route:
        """The route in the frame of the pose ``[3]`` (x m, y m, yaw rad; global frame)."""
        ...


@dataclass(frozen=True)
class OracleConfig:
    """What is seen and how far. SI units.

    radius: objects whose box reaches within it are seen. max_agents: the nearest ones; those within always_radius or
    coming closer by themselves at closing_speed or more are kept beyond that number.
    map_radius: half-side of the map's window. points: most points per map polyline.
    position_sigma: of the boxes, each axis. horizon, step: the forecast's time grid step, 2 step, ... horizon.
    """

    radius: float = 80.0
    max_agents: int = 64
    always_radius: float = 40.0
    closing_speed: float = 0.5
    map_radius: float = 80.0
    points: int = 20
    position_sigma: float = 0.05
    horizon: float = 6.0
    step: float = 0.2
    forecast: ForecastConfig = field(default_factory=ForecastConfig)

    @property
    def time(self) -> np.ndarray:
        """The forecast's times, ``[T]`` s."""
        return np.arange(1, round(self.horizon / self.step) + 1) * self.step


class OraclePerception:
    """Turns the state of the world into the planner's scene, step after step, on one road."""

    def __init__(self, road: RoadMap, surface: LocalRoute, config: OracleConfig | None = None) -> None:
        self.road, self.surface, self.config = road, surface, config or OracleConfig()
        # Built here, so that the first step of a drive takes no longer than the others.
        map_window(road, self.config.points)
        road_network(road, self.config.forecast)

    def observe(self, ego_global: EgoState, objects: ObjectStates, name: str = "") -> VectorScene:
        """The scene seen from the ego (a single state in the global frame), validated; float64."""
        route = self.surface.local(_pose(ego_global))
        return oracle_scene(ego_global, objects, self.road, route, self.config, name)


def oracle_scene(
    ego: EgoState, objects: ObjectStates, road: RoadMap, route: Route, config: OracleConfig, name: str = ""
) -> VectorScene:
    """The scene around a single ego state (global frame) on a route (ego frame); objects in the global frame.

    Agents are ordered by distance. Raises ValueError when a number is not finite or a shape is wrong.
    """
    pose = _pose(ego)
    objects = visible(objects, pose, config)
    agents, futures = agents_of(objects, road, pose, config)
    zero = torch.zeros((), dtype=torch.float64)
    return VectorScene(
        ego=ego.replace(x=zero, y=zero.clone(), yaw=zero.clone()).double(),
        agents=agents,
        futures=futures,
        map=map_window(road, config.points).local(pose, config.map_radius),
        route=route,
        global_from_ego=torch.from_numpy(pose),
        name=name,
    ).validate()


def visible(objects: ObjectStates, pose: np.ndarray, config: OracleConfig) -> ObjectStates:
    """The objects that the planner is told about, nearest first.

    Raises ValueError for numbers that are not finite: they compare as far away, and the object would be overlooked.
    """
    for name in ("pose", "velocity", "size"):
        if not np.isfinite(values := getattr(objects, name)).all():
            bad = objects.track_id[~np.isfinite(values).all(-1)].tolist()
            raise ValueError(f"objects.{name}: expected finite numbers, got NaN or infinite ones for track_id {bad}")
    away = objects.pose[:, :2] - pose[:2]
    center = np.hypot(away[:, 0], away[:, 1])
    distance = center - np.hypot(objects.size[:, 0], objects.size[:, 1]) / 2
    closing = -(objects.velocity * away).sum(1) / np.maximum(center, 1e-6)
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= config.radius]
    certain = (distance[order] <= config.always_radius) | (closing[order] >= config.closing_speed)
    kept = order[certain | (np.arange(len(order)) < config.max_agents)]
    return ObjectStates(
        objects.track_id[kept],
        objects.agent_class[kept],
        objects.size[kept],
        objects.pose[kept],
        objects.velocity[kept],
    )


def agents_of(
    objects: ObjectStates, road: RoadMap, pose: np.ndarray, config: OracleConfig
) -> tuple[AgentTracks, AgentFutures]:
    """Objects (global frame) as certain agents with rule-based forecasts, in the frame of the pose ``[3]``."""
    predicted = forecast(objects, road, config.time, config.forecast)
    count, tensor = len(objects), torch.from_numpy
    xy, yaw = _turn(objects.pose[:, :2] - pose[:2], -pose[2]), wrap(objects.pose[:, 2] - pose[2])
    covariance = np.broadcast_to(np.eye(2) * config.position_sigma**2, (count, 2, 2)).copy()
    agents = AgentTracks(
        box=tensor(np.concatenate([xy, yaw[:, None], objects.size], 1)),
        velocity=tensor(_turn(objects.velocity, -pose[2])),
        position_covariance=tensor(covariance),
        agent_class=tensor(objects.agent_class.astype(np.int64)),
        existence=torch.ones(count, dtype=torch.float64),
        track_id=tensor(objects.track_id.astype(np.int64)),
        valid=torch.ones(count, dtype=torch.bool),
    )
    said = predicted.valid
    futures = AgentFutures(
        mean=tensor(_turn(predicted.mean - pose[:2], -pose[2]) * said[..., None]),
        yaw=tensor(wrap(predicted.yaw - pose[2]) * said),
        covariance=tensor(_turn_covariance(predicted.covariance, -pose[2])),
        probability=tensor(predicted.probability),
        time=tensor(predicted.time),
        valid=tensor(said),
    )
    return agents, futures


def _turn(vectors: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _turn_covariance(covariance: np.ndarray, angle: float) -> np.ndarray:
    """R C R^T, written out: a stack of 2x2 products is several times slower."""
    cos, sin = np.cos(angle), np.sin(angle)
    xx, xy, yy = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    out = np.empty_like(covariance)
    out[..., 0, 0] = cos**2 * xx - 2 * cos * sin * xy + sin**2 * yy
    out[..., 1, 1] = sin**2 * xx + 2 * cos * sin * xy + cos**2 * yy
    out[..., 0, 1] = out[..., 1, 0] = cos * sin * (xx - yy) + (cos**2 - sin**2) * xy
    return out


def _pose(ego: EgoState) -> np.ndarray:
    values: list[Tensor] = [ego.x, ego.y, ego.yaw]
    if ego.batch_shape:
        raise ValueError(f"ego: expected a single state, got batch shape {ego.batch_shape}")
    return np.array([float(v) for v in values])

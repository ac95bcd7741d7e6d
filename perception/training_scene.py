"""Recording -> the scene that perception shall see: present boxes and the map, and what really happened next."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from perception.config import PerceptionConfig
from perception.map_polylines import map_window
from perception.oracle import LocalRoute
from perception.recording import AgentLog, Recording
from perception.sensor_frame import LidarSweep, transform
from planner.scene import AgentFutures, AgentTracks, EgoProposal, EgoState, Trajectory, VectorScene

MAP_POINTS = 20
"""Most points per piece of a map line, as the oracle's."""
ABOVE_GROUND = 0.25
"""m: returns below this may be the road's."""


def ego_state(recording: Recording, k: int) -> EgoState:
    """The recorded ego at time index k, global frame."""
    e, f = recording.ego, lambda value: torch.tensor(float(value), dtype=torch.float64)
    x, y, yaw = map(f, e.pose[k])
    time_us = recording.start_us + round(float(recording.time[k] - recording.time[0]) * 1e6)
    return EgoState(
        x=x, y=y, yaw=yaw, v=f(e.v[k]), a=f(e.a[k]), curvature=f(e.curvature[k]), yaw_rate=f(e.yaw_rate[k]),
        time_us=torch.tensor(time_us), v_source=e.source, a_source=e.source,
    )  # fmt: skip


def training_scene(
    recording: Recording, k: int, surface: LocalRoute, config: PerceptionConfig, lidar: LidarSweep | None
) -> VectorScene:
    """At time index k, float64: agents whose centre lies in the grid, with their true futures as the one mode.

    existence is 1 where a return of the sweep lies on the agent and 0 where none does: it is there, but cannot be asked
    for (without a sweep it is 1 everywhere). proposal.reference is what the recorded driver did next.
    """
    ego = ego_state(recording, k)
    pose = recording.ego.pose[k]
    time = np.arange(1, config.steps + 1) * (config.horizon / config.steps)
    agents, futures = _agents(recording.agents, k, pose, time, recording.dt, config, lidar)
    zero = torch.zeros((), dtype=torch.float64)
    return VectorScene(
        ego=ego.replace(x=zero, y=zero.clone(), yaw=zero.clone()),
        agents=agents,
        futures=futures,
        map=map_window(recording.road, MAP_POINTS).local(pose, config.preprocessing.extent),
        route=surface.local(pose),
        global_from_ego=torch.from_numpy(pose.copy()),
        proposal=EgoProposal(reference=_driven(recording, k, config)),
        name=f"{recording.name}@{k}",
    ).validate()


def _agents(
    log: AgentLog,
    k: int,
    pose: np.ndarray,
    time: np.ndarray,
    dt: float,
    config: PerceptionConfig,
    lidar: LidarSweep | None,
) -> tuple[AgentTracks, AgentFutures]:
    here = _local(log.pose[:, k], pose)
    chosen = np.flatnonzero(log.valid[:, k] & (np.abs(here[:, :2]) < config.preprocessing.extent).all(1))
    box = np.concatenate([here[chosen], log.size[chosen]], 1)
    seen = np.ones(len(chosen)) if lidar is None else _hit(box, log.height[chosen], lidar, pose)
    index = k + np.round(time / dt).astype(int)
    inside = index < log.pose.shape[1]
    clipped = np.minimum(index, log.pose.shape[1] - 1)
    valid = log.valid[chosen][:, clipped] & inside
    future = _local(log.pose[chosen][:, clipped], pose) * valid[..., None]
    count, tensor, zero = len(chosen), torch.from_numpy, torch.zeros
    agents = AgentTracks(
        box=tensor(box), velocity=tensor(_turned(log.velocity[chosen, k], -pose[2])),
        position_covariance=zero(count, 2, 2, dtype=torch.float64), agent_class=tensor(log.agent_class[chosen]),
        existence=tensor(seen), track_id=tensor(log.track_id[chosen]), valid=torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    futures = AgentFutures(
        mean=tensor(future[:, None, :, :2].copy()), yaw=tensor(future[:, None, :, 2].copy()),
        covariance=zero(count, 1, len(time), 2, 2, dtype=torch.float64),
        probability=torch.ones(count, 1, dtype=torch.float64), time=tensor(time), valid=tensor(valid[:, None].copy()),
    )  # fmt: skip
    return agents, futures


def _driven(recording: Recording, k: int, config: PerceptionConfig) -> Trajectory | None:
    """What the recorded driver did from k on, ego frame; None at the recording's end."""
    e, stop = recording.ego, k + round(config.horizon / recording.dt) + 1
    if len(e.v) - k < 2:
        return None
    pose = _local(e.pose[k:stop], e.pose[k])

    def tensor(value: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(value, float))

    time = np.arange(len(pose)) * recording.dt
    motion = [e.v[k:stop], e.a[k:stop], e.curvature[k:stop]]
    return Trajectory(tensor(time), *(tensor(column) for column in (*pose.T, *motion)))


def _hit(box: np.ndarray, height: np.ndarray, lidar: LidarSweep, pose: np.ndarray) -> np.ndarray:
    """``[A]``: 1 where a return lies in the box (0.1 m larger all around), above the ground, below its top."""
    ego_from_lidar = lidar.ego_from_lidar
    points = transform(lidar.global_from_ego @ ego_from_lidar, lidar.points)
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    xy = (points[:, :2] - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])
    high = points[:, 2] - lidar.global_from_ego[2, 3]
    above = high > ABOVE_GROUND
    xy, high = xy[above], high[above]
    out = np.zeros(len(box))
    for i, ((x, y, yaw, length, width), top) in enumerate(zip(box, height)):
        away = xy - [x, y]
        near = (np.abs(away) < length + width).all(1)
        local = away[near] @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        on = (np.abs(local) <= np.array([length, width]) / 2 + 0.1).all(1) & (high[near] < top + 0.2)
        out[i] = float(on.any())
    return out


def _local(pose: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses ``[..., 3]`` of the global frame seen from `origin` ``[3]``."""
    yaw = (pose[..., 2:] - origin[2] + np.pi) % (2 * np.pi) - np.pi
    return np.concatenate([_turned(pose[..., :2] - origin[:2], -origin[2]), yaw], -1)


def _turned(vectors: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * vectors[..., 0] - sin * vectors[..., 1], sin * vectors[..., 0] + cos * vectors[..., 1]], -1)

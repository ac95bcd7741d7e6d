"""A recorded drive: what a data set or the simulator's generator hands to everything downstream.

Global frame, uniform time grid (10 Hz). This is ground truth: the simulator replays it and the
metrics judge by it, but perception may only show the planner what is in it up to "now".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from perception.road_map import RoadMap
from planner.scene import AgentClass, VehicleParameters

PAST = 5
"""Steps over which the velocity of an annotated object is measured: the distance between two key frames at 10 Hz."""


@dataclass
class EgoTrack:
    """Rear axle over ``T`` times: pose ``[T, 3]`` (x m, y m, yaw rad), v, a, curvature, yaw_rate ``[T]``.

    source: where v and a come from ("poses", "can_bus", "simulation").
    """

    pose: np.ndarray
    v: np.ndarray
    a: np.ndarray
    curvature: np.ndarray
    yaw_rate: np.ndarray
    source: str


@dataclass
class AgentLog:
    """``N`` agents over ``T`` times.

    pose ``[N, T, 3]`` box centre x, y (m), yaw (rad); velocity ``[N, T, 2]`` (m/s);
    size ``[N, 2]`` length, width (m); height ``[N]`` (m); agent_class ``[N]`` AgentClass values;
    valid ``[N, T]`` bool: present at that time. id: ``N`` strings, stable; track_id ``[N]`` int64.
    Numbers where valid is False mean nothing.
    """

    id: list[str]
    track_id: np.ndarray
    agent_class: np.ndarray
    size: np.ndarray
    height: np.ndarray
    pose: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def past_velocity(self, k: int, dt: float) -> np.ndarray:
        """``[N, 2]`` m/s at time index k, from positions up to then: over `PAST` steps of dt (s), newcomers over fewer.

        `velocity` itself where there is no past. What a sensor could know: `velocity` of annotated data is a central
        difference and knows half a second of the future.
        """
        velocity = self.velocity[:, k].copy()
        for back in range(1, min(PAST, k) + 1):
            known = self.valid[:, k] & self.valid[:, k - back]
            velocity[known] = (self.pose[known, k, :2] - self.pose[known, k - back, :2]) / (back * dt)
        return velocity

    @classmethod
    def empty(cls, times: int) -> AgentLog:
        return cls(
            [], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0),
            np.zeros((0, times, 3)), np.zeros((0, times, 2)), np.zeros((0, times), bool),
        )  # fmt: skip


@dataclass
class Recording:
    """One scene to drive.

    name: unique. source: "nuscenes" or "generated". time ``[T]`` s from the scene's start, 0.1 s
    apart. start_us: absolute time of the first entry.
    ego: the recorded (or, for generated scenes, reference) driver.
    route: lane ids in order, along the ego's way and on beyond the end of the recording.
    route_xy ``[n, 2]``: centreline of the route, global frame.
    keyframe: bool ``[T]``, true at annotated key frames (all of them for generated scenes).
    metadata: family, seed, parameters, `avoidable` with its argument, notes on data quality.
    """

    name: str
    source: str
    time: np.ndarray
    start_us: int
    ego: EgoTrack
    agents: AgentLog
    road: RoadMap
    route: list[str]
    route_xy: np.ndarray
    keyframe: np.ndarray
    vehicle: VehicleParameters = field(default_factory=VehicleParameters)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def dt(self) -> float:
        return float(self.time[1] - self.time[0])

    def validate(self) -> Self:
        """Check shapes, finiteness and classes. Raises ValueError naming the field."""
        times, agents = len(self.time), len(self.agents)
        expected: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
            "ego.pose": (self.ego.pose, (times, 3)),
            "ego.v": (self.ego.v, (times,)),
            "ego.a": (self.ego.a, (times,)),
            "ego.curvature": (self.ego.curvature, (times,)),
            "ego.yaw_rate": (self.ego.yaw_rate, (times,)),
            "agents.pose": (self.agents.pose, (agents, times, 3)),
            "agents.velocity": (self.agents.velocity, (agents, times, 2)),
            "agents.size": (self.agents.size, (agents, 2)),
            "agents.valid": (self.agents.valid, (agents, times)),
            "keyframe": (self.keyframe, (times,)),
        }
        for name, (array, shape) in expected.items():
            if array.shape != shape:
                raise ValueError(f"recording {self.name}: {name} has shape {array.shape}, expected {shape}")
            shown = array[self.agents.valid] if name in ("agents.pose", "agents.velocity") else array
            if not np.isfinite(shown).all():
                raise ValueError(f"recording {self.name}: {name} has NaN or infinite values")
        if times < 2 or not np.allclose(np.diff(self.time), self.dt, atol=1e-6):
            raise ValueError(f"recording {self.name}: time is not a uniform grid of at least 2 entries")
        if agents and not set(np.unique(self.agents.agent_class)) <= set(map(int, AgentClass)):
            raise ValueError(f"recording {self.name}: agents.agent_class has unknown values")
        if not self.route or len(self.route_xy) < 2:
            raise ValueError(f"recording {self.name}: the route is empty")
        return self


@dataclass
class ObjectStates:
    """All other road users and obstacles at one moment, global frame: what a perfect sensor would see.

    track_id ``[N]`` int64; agent_class ``[N]`` AgentClass values; size ``[N, 2]`` length, width (m);
    pose ``[N, 3]`` box centre x, y (m), yaw (rad); velocity ``[N, 2]`` (m/s).
    """

    track_id: np.ndarray
    agent_class: np.ndarray
    size: np.ndarray
    pose: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.track_id)

"""The LiDAR on the simulated ego: a recording's still surroundings, everybody who is there now, one sweep."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from eval.simulation.lidar import Lidar, LidarConfig, SensorMotion
from eval.simulation.lidar_solids import Solids, road_users
from eval.simulation.lidar_surroundings import Surroundings, SurroundingsConfig
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from planner.scene import EgoState


@dataclass(frozen=True)
class RenderedLidarConfig:
    """lidar: the sensor. surroundings: what stands beside the road. seed: of its noise."""

    lidar: LidarConfig = field(default_factory=LidarConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    seed: int = 0


class RenderedLidar:
    """Sweeps of one recording's world. The same moment gives the same sweep, in any order of calls."""

    def __init__(
        self,
        recording: Recording,
        config: RenderedLidarConfig | None = None,
        ego_from_lidar: np.ndarray | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """ego_from_lidar ``[4, 4]``: a calibration instead of the configured mount. surroundings: if drawn already."""
        self.config = config or RenderedLidarConfig()
        self.sensor = Lidar(self.config.lidar, ego_from_lidar)
        self.surroundings = surroundings or Surroundings.of(recording, self.config.surroundings)
        agents = recording.agents
        self._height = dict(zip(agents.track_id.tolist(), agents.height.tolist()))
        self._name = zlib.crc32(recording.name.encode())

    def sweep(self, ego: EgoState, objects: ObjectStates) -> LidarSweep:
        """The turn that ends now. ego: single state in the global frame; objects: everybody there, seen or not."""
        time_us = int(ego.time_us)
        pose = np.array([float(ego.x), float(ego.y), float(ego.yaw)])
        height = np.array([self._height[int(track)] for track in objects.track_id])
        users = road_users(objects.pose, objects.size, height, objects.velocity, objects.agent_class, objects.track_id)
        world = Solids.concatenate([self.surroundings.solids, users])
        motion = SensorMotion(pose, float(ego.v), float(ego.yaw_rate), time_us)
        rng = np.random.default_rng([self.config.seed, self._name, time_us % 2**63])
        return self.sensor.sweep(world, self.surroundings.ground, motion, rng)

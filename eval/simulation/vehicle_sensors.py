"""The sensors of one simulated vehicle, exposed once per cycle, and the second channel that hears the LiDAR.

One LiDAR for both channels: what the network looks at and what the raw channel measures is the same turn, with the
same faults. The rays hit everybody who is there, kerbs, walls and plants; what the first channel reports of them makes
no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from eval.simulation.sensing.rendered_cameras import ego_pose
from eval.simulation.sensors import SensorConfig, SensorSuite
from perception.raw_obstacles import RawObstacleChannel
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep, SensorFrame
from planner.scene import EgoState, RawObstacles

LIDAR_ONLY = SensorConfig(with_cameras=False)


class VehicleSensors:
    """One per drive. `expose` comes first in every cycle; then anybody may ask for `frame`, and one for `raw`."""

    def __init__(self, recording: Recording, config: SensorConfig = LIDAR_ONLY, second_channel: bool = True) -> None:
        """second_channel: whether there is one; it needs the LiDAR. Raises ValueError where that is missing."""
        if second_channel and not config.with_lidar:
            raise ValueError("second_channel: expected a LiDAR for it, got with_lidar=False")
        self._suite = SensorSuite(recording, config)
        self._channel = RawObstacleChannel(recording.vehicle) if second_channel else None
        self._frame: SensorFrame | None = None

    def expose(
        self,
        ego: EgoState,
        objects: ObjectStates,
        through: Callable[[LidarSweep], LidarSweep | None] = lambda sweep: sweep,
        name: str = "",
    ) -> None:
        """One cycle's measurements. ego: the true state, global frame; objects: everybody there. through: the sweep on
        its way from the sensor; what comes out may be broken, old or nothing."""
        frame = self._suite.frame(ego, objects, name)
        if (true := frame.lidar) is not None:
            turn = through(true)
            if turn is None:
                frame = replace(frame, lidar=None, missing=(*frame.missing, "LIDAR_TOP: no turn"))
            else:  # poses are looked up by the stamp, whatever the points under it are
                pose = true.global_from_ego if turn.time_us == true.time_us else turn.global_from_ego
                frame = replace(frame, lidar=replace(turn, global_from_ego=pose))
        self._frame = frame

    def frame(self, ego: EgoState) -> SensorFrame:
        """This cycle's measurements as the vehicle stamps them: with the poses that its localisation believes.

        ego: that belief, global frame. Raises RuntimeError before the first `expose`.
        """
        frame = self._exposed()
        told = ego_pose(ego, 0.0)
        if np.array_equal(told, frame.global_from_ego):
            return replace(frame, ego=ego)
        believed_from_true = told @ np.linalg.inv(frame.global_from_ego)
        lidar, cameras = frame.lidar, frame.cameras
        if lidar is not None:
            lidar = replace(lidar, global_from_ego=believed_from_true @ lidar.global_from_ego)
        if cameras is not None:
            cameras = replace(cameras, global_from_ego=believed_from_true @ cameras.global_from_ego)
        return replace(frame, ego=ego, global_from_ego=told, lidar=lidar, cameras=cameras)

    def raw(self) -> RawObstacles | None:
        """What the second channel says about this cycle's turn; None without one. Once a cycle, in order of time."""
        if self._channel is None:
            return None
        frame = self._exposed()
        return self._channel.observe(frame.lidar, frame.time_us, float(frame.ego.v), float(frame.ego.yaw_rate))

    def _exposed(self) -> SensorFrame:
        if self._frame is None:
            raise RuntimeError("sensors: expected `expose` before the first question")
        return self._frame

"""The sensors of one simulated vehicle, exposed once per cycle, and the second channel that hears the LiDAR.

One LiDAR for both channels: what the network looks at and what the raw channel measures is the same turn, with the
same faults. The rays hit everybody who is there, kerbs, walls and plants; what the first channel reports of them makes
no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from eval.simulation.sensing.rendered_cameras import ego_pose
from eval.simulation.sensors import SensorConfig, SensorSuite, moved
from perception.raw_obstacles import RawObstacleChannel
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep, SensorFrame
from planner.scene import EgoState, RawObstacles

LIDAR_ONLY = SensorConfig(with_cameras=False)


class VehicleSensors:
    """One per drive. `expose` comes first in every cycle; then anybody may ask for `frame`, and one for `raw`."""

    def __init__(
        self,
        recording: Recording,
        config: SensorConfig = LIDAR_ONLY,
        second_channel: bool = True,
        lead_in: Sequence[float] = (),
    ) -> None:
        """second_channel: whether there is one; it needs the LiDAR. lead_in: how long before the first moment (s,
        oldest first) measurements were made that `before` hands out. Raises ValueError where the LiDAR is missing."""
        if second_channel and not config.with_lidar:
            raise ValueError("second_channel: expected a LiDAR for it, got with_lidar=False")
        self._suite = SensorSuite(recording, config)
        self._channel = RawObstacleChannel(recording.vehicle) if second_channel else None
        self._frame: SensorFrame | None = None
        self._lead_in, self._before = lead_in, list[SensorFrame]()

    def expose(
        self,
        ego: EgoState,
        objects: ObjectStates,
        through: Callable[[LidarSweep], LidarSweep | None] = lambda sweep: sweep,
        name: str = "",
    ) -> None:
        """One cycle's measurements. ego: the true state, global frame; objects: everybody there. through: the sweep on
        its way from the sensor; what comes out may be broken, old or nothing."""
        if self._frame is None:
            moments = [moved(ego, objects, -after) for after in self._lead_in]
            self._before = [self._suite.frame(*moment, name) for moment in moments]
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
        return replace(_believed(self._exposed(), self._belief(ego)), ego=ego)

    def before(self, ego: EgoState) -> list[SensorFrame]:
        """What was measured before the drive began, oldest first, told once: a vehicle that moves has been looking.

        Ego and objects come from where their speeds of the first moment lead back to. ego: as for `frame`.
        """
        frames, self._before = self._before, []
        return [_believed(frame, self._belief(ego)) for frame in frames]

    def _belief(self, ego: EgoState) -> np.ndarray:
        """believed_from_true ``[4, 4]``, global frames; exactly the identity where localisation is right."""
        true = self._exposed().global_from_ego
        told = ego_pose(ego, 0.0)
        return np.eye(4) if np.array_equal(told, true) else told @ np.linalg.inv(true)

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


def _believed(frame: SensorFrame, believed_from_true: np.ndarray) -> SensorFrame:
    """All poses of a frame as localisation has them."""
    lidar, cameras = frame.lidar, frame.cameras
    if lidar is not None:
        lidar = replace(lidar, global_from_ego=believed_from_true @ lidar.global_from_ego)
    if cameras is not None:
        cameras = replace(cameras, global_from_ego=believed_from_true @ cameras.global_from_ego)
    return replace(frame, global_from_ego=believed_from_true @ frame.global_from_ego, lidar=lidar, cameras=cameras)

"""All sensors of the simulated ego: world -> `SensorFrame`, in the layout in which nuScenes key frames are read.

LiDAR: `eval.simulation.lidar`. Cameras: `eval.simulation.sensing.camera`. Both look at the same still surroundings and
at everybody who is there, whether the oracle would report them or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from eval.simulation.lidar import LidarConfig
from eval.simulation.lidar_surroundings import Surroundings, SurroundingsConfig
from eval.simulation.rendered_lidar import RenderedLidar, RenderedLidarConfig
from eval.simulation.sensing.camera_rig import CameraRig
from eval.simulation.sensing.rendered_cameras import CameraConfig, RenderedCameras, ego_pose
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import SensorFrame
from planner.scene import EgoState

TURN = 0.05  # s between the ends of two turns of the LiDAR


@dataclass(frozen=True)
class SensorConfig:
    """with_lidar, with_cameras: which sensors there are. past_sweeps: earlier turns of the LiDAR that a frame carries.
    seed: of noise, light, weather, paint and surroundings, together with the recording's name; it replaces the seeds
    in `cameras` and `surroundings`.
    """

    with_lidar: bool = True
    with_cameras: bool = True
    past_sweeps: int = 0
    seed: int = 0
    lidar: LidarConfig = field(default_factory=LidarConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)


class SensorSuite:
    """The sensors on one recording's ego. The same moment gives the same frame, in any order of calls."""

    def __init__(
        self,
        recording: Recording,
        config: SensorConfig | None = None,
        ego_from_lidar: np.ndarray | None = None,
        rig: CameraRig | None = None,
    ) -> None:
        """ego_from_lidar ``[4, 4]``, rig: calibrations instead of the nominal ones."""
        self.config = config = config or SensorConfig()
        still = replace(config.surroundings, seed=config.seed)
        surroundings = Surroundings.of(recording, still)
        self.lidar: RenderedLidar | None = None
        self.cameras: RenderedCameras | None = None
        if config.with_lidar:
            settings = RenderedLidarConfig(config.lidar, still, config.seed)
            self.lidar = RenderedLidar(recording, settings, ego_from_lidar, surroundings)
        if config.with_cameras:
            cameras = replace(config.cameras, seed=config.seed)
            self.cameras = RenderedCameras(recording, cameras, rig, surroundings)

    def frame(self, ego: EgoState, objects: ObjectStates, name: str = "") -> SensorFrame:
        """What all sensors deliver for the LiDAR's turn that ends now.

        ego: its true state, single, global frame. objects: everybody who is there, seen or not. Earlier turns are
        rendered from where ego and objects came at the speed they have now.
        """
        moments = [-TURN * k for k in range(self.config.past_sweeps + 1)]
        turns = [self.lidar.sweep(*moved(ego, objects, after)) for after in moments] if self.lidar is not None else []
        missing = [] if self.lidar is not None else ["LIDAR_TOP: not simulated"]
        missing += [] if self.cameras is not None else ["cameras: not simulated"]
        return SensorFrame(
            time_us=int(ego.time_us),
            global_from_ego=ego_pose(ego, 0.0),
            ego=ego,
            lidar=turns[0] if turns else None,
            cameras=self.cameras.images(ego, objects) if self.cameras is not None else None,
            missing=tuple(missing),
            name=name,
            past=tuple(turns[1:]),
        )


def moved(ego: EgoState, objects: ObjectStates, after: float) -> tuple[EgoState, ObjectStates]:
    """Ego and objects `after` (s; negative: before) their time, at constant speed and yaw rate."""
    if after == 0.0:
        return ego, objects
    pose = ego_pose(ego, after)
    there = ego.replace(
        x=ego.x * 0 + pose[0, 3],
        y=ego.y * 0 + pose[1, 3],
        yaw=ego.yaw * 0 + float(np.arctan2(pose[1, 0], pose[0, 0])),
        time_us=ego.time_us + round(after * 1e6),
    )
    where = objects.pose.copy()
    where[:, :2] += after * objects.velocity
    return there, replace(objects, pose=where)

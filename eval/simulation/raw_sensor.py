"""The second perception channel in the simulator: rays through the simulated world, then the channel as on a vehicle.

Nothing of the first channel is used: the rays hit everybody who is there, kerbs, walls and plants. Which of them the
first channel reports, misses or invents makes no difference here.
"""

from __future__ import annotations

from collections.abc import Callable

from eval.simulation.rendered_lidar import RenderedLidar, RenderedLidarConfig
from perception.raw_obstacles import RawObstacleChannel
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from planner.scene import EgoState, RawObstacles


class RawSensor:
    """One per drive; called once per step, in order of time."""

    def __init__(self, recording: Recording, config: RenderedLidarConfig | None = None) -> None:
        self._lidar, self._channel = RenderedLidar(recording, config), RawObstacleChannel(recording.vehicle)

    def __call__(
        self, ego: EgoState, objects: ObjectStates, through: Callable[[LidarSweep], LidarSweep | None]
    ) -> RawObstacles:
        """What the channel says now. ego: the true state; objects: everybody there. through: the sweep on its way to
        the channel; what comes out may be broken, old or nothing."""
        sweep = through(self._lidar.sweep(ego, objects))
        return self._channel.observe(sweep, int(ego.time_us), float(ego.v), float(ego.yaw_rate))

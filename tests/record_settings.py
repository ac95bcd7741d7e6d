"""Small recordings for the tests of `dualdrive record`."""

from __future__ import annotations

from eval.simulation.lidar import LidarConfig
from eval.simulation.record.config import RecordConfig
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig

TINY = SensorConfig(lidar=LidarConfig(columns=360), cameras=CameraConfig(height=24, width=40, weather="clear"))
CONFIG = RecordConfig(families=("cut_in",), train_seeds=(0,), val_seeds=(1000,), past_sweeps=1, sensors=TINY)

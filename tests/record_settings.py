"""Small recordings for the tests of `dualdrive record`."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.simulation.lidar import LidarConfig
from eval.simulation.record.config import RecordConfig
from eval.simulation.record.dataset import join_parts, plan_scenes, record_part
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig

TINY = SensorConfig(lidar=LidarConfig(columns=360), cameras=CameraConfig(height=24, width=40, weather="clear"))
CONFIG = RecordConfig(families=("cut_in",), train_seeds=(0,), val_seeds=(1000,), past_sweeps=1, sensors=TINY)


def recorded(folder: Path) -> Path:
    """Two scenes by CONFIG, whole. Skips the test where the devkit or pillow is missing."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    pytest.importorskip("PIL", reason="needs pillow")
    plans = plan_scenes(CONFIG)
    for plan in plans:
        record_part(plan, CONFIG, folder)
    join_parts(plans, CONFIG, folder)
    return folder

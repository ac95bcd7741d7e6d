"""One prepared training sample, and its file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception.config import PerceptionConfig
from perception.nuscenes_tables import reading
from perception.preprocess import SensorArrays, ego_numbers, route_numbers, sensor_arrays
from perception.sensor_frame import SensorFrame
from perception.targets import Targets, encode
from planner.scene import VectorScene

SCHEMA = 1
"""Version of the prepared samples' files."""


@dataclass
class Sample:
    """One moment: what sensors saw, what is to be seen, ego's state and route, and the scene for the planner (None
    where it was not asked for, or a mirror image has turned its traffic rules around)."""

    sensors: SensorArrays
    targets: Targets
    scene: VectorScene | None
    ego: np.ndarray
    route: np.ndarray


def make_sample(frame: SensorFrame, scene: VectorScene, config: PerceptionConfig) -> Sample:
    """From a frame with its past sweeps and the scene that shall be seen (`perception.training_scene`)."""
    sensors = sensor_arrays(frame, config.preprocessing)
    return Sample(sensors, encode(scene, config), scene, ego_numbers(scene.ego), route_numbers(scene.route))


def save_sample(path: Path, sample: Sample) -> None:
    """Write one prepared sample; it appears under its name only when it is complete."""
    if sample.scene is None:
        raise ValueError(f"{path}: a sample without its scene is not kept")
    arrays = {f"scene.{key}": value for key, value in sample.scene.to_arrays().items()}
    sensors, targets = sample.sensors, sample.targets
    for number, points in enumerate(sensors.points):
        if points is not None:
            # Centimetres and 1/255: what a sensor resolves, at a third of the size.
            arrays[f"xyz.{number}"] = np.round(points[:, :3] * 100).clip(-32767, 32767).astype(np.int16)
            arrays[f"intensity.{number}"] = np.round(points[:, 3] * 255).clip(0, 255).astype(np.uint8)
    arrays |= {"images": sensors.images, "image_from_ego": sensors.image_from_ego, "camera_seen": sensors.camera_seen}
    for name, value in vars(targets).items():
        if name == "line":
            arrays["line"] = np.concatenate([*value, np.zeros((0, 2))])
            arrays["line_length"] = np.array([len(xy) for xy in value], np.int64)
        else:
            arrays[name] = value
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(partial, "wb") as file:
        np.savez(file, schema=SCHEMA, sweeps=len(sensors.points), ego_numbers=sample.ego, route=sample.route, **arrays)
    partial.replace(path)


def load_sample(path: Path, with_scene: bool = True) -> Sample:
    """Read what `save_sample` wrote; the scene (slow) only if wanted. Raises DatasetError: damaged, another schema."""
    with reading(path, "remove it: the same command prepares it again"), np.load(path, allow_pickle=False) as stored:
        if int(stored["schema"]) != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {int(stored['schema'])}")
        points = [
            np.concatenate(
                [stored[f"xyz.{i}"].astype(np.float32) / 100, stored[f"intensity.{i}"][:, None] / np.float32(255)], 1
            )
            if f"xyz.{i}" in stored
            else None
            for i in range(int(stored["sweeps"]))
        ]
        sensors = SensorArrays(points, stored["images"], stored["image_from_ego"], stored["camera_seen"])
        plain = {name: stored[name] for name in Targets.__dataclass_fields__ if name != "line"}
        line = np.split(stored["line"], np.cumsum(stored["line_length"])[:-1]) if len(stored["line_length"]) else []
        scene = None
        if with_scene:
            scene = VectorScene.from_arrays({k[6:]: stored[k] for k in stored.files if k.startswith("scene.")})
        return Sample(sensors, Targets(line=line, **plain), scene, stored["ego_numbers"], stored["route"])

"""Training samples: prepared once per key frame, kept on disk, augmented and joined when they are read.

    paths = prepare_scene(dataroot, version, scene, folder, config)  # perception.training_data
    batch = load_batch([paths[i] for i in (3, 1)], config, Augmentation(), seed=(0, 0))

A prepared sample holds points, small images and the scene that shall be seen; two cores can read and augment it faster
than they train. Its name says what it was made from and how, so that a changed setting makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from perception.config import PerceptionConfig
from perception.heads import ROUTE_POINTS
from perception.network import NetworkInputs
from perception.preprocess import ROUTE_STEP, SensorArrays, ego_numbers, network_inputs, route_numbers, sensor_arrays
from perception.sensor_frame import SensorFrame
from perception.targets import Targets, encode, turned
from planner.scene import VectorScene

SCHEMA = 1
"""Version of the prepared samples' files."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a sample.

    rotation (rad), shift (m): largest, both ways. mirror: probability; it turns driving on the right into driving on
    the left. tilt (rad): largest slope of the ground against what is annotated, in any direction. thin: largest share
    of points taken away. shine, light: largest change of the logarithm of LiDAR intensity and of image brightness.
    drop_lidar, drop_past, drop_cameras: probability that all sweeps, the past ones, all images are missing;
    drop_camera: of each single one. Never all sensors at once.
    """

    rotation: float = 0.4
    shift: float = 1.0
    mirror: float = 0.0
    tilt: float = 0.01
    thin: float = 0.3
    shine: float = 0.7
    light: float = 0.3
    drop_lidar: float = 0.05
    drop_past: float = 0.1
    drop_cameras: float = 0.15
    drop_camera: float = 0.05


@dataclass
class Sample:
    """One moment: what sensors saw, what is to be seen, ego's state and route, and the scene for the planner (None
    where it was not asked for, or a mirror image has turned its traffic rules around)."""

    sensors: SensorArrays
    targets: Targets
    scene: VectorScene | None
    ego: np.ndarray
    route: np.ndarray


@dataclass
class Batch:
    """inputs: of the network; targets and scenes: one per sample, in the frame of the inputs."""

    inputs: NetworkInputs
    targets: list[Targets]
    scenes: list[VectorScene | None]


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
    """Read what `save_sample` wrote; the scene (slow) only if wanted. Raises ValueError for another schema."""
    with np.load(path, allow_pickle=False) as stored:
        if int(stored["schema"]) != SCHEMA:
            raise ValueError(f"{path}: expected schema {SCHEMA}, got {int(stored['schema'])}: prepare the data again")
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


def augmented(sample: Sample, how: Augmentation, rng: np.random.Generator) -> Sample:
    """The sample turned, moved, perhaps mirrored, with sensors taken away."""
    yaw, shift = rng.uniform(-how.rotation, how.rotation), rng.uniform(-how.shift, how.shift, 2)
    mirror, chance = bool(rng.random() < how.mirror), rng.random(3)
    lost = rng.random(len(sample.sensors.camera_seen)) < how.drop_camera
    pose = np.array([*shift, yaw])
    cos, sin = np.cos(yaw), np.sin(yaw)
    new_from_old = np.eye(4)
    new_from_old[:2, :2] = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if mirror else 1.0])
    new_from_old[:2, 3] = shift
    move = new_from_old.astype(np.float32)
    old = sample.sensors
    slope, shine = rng.uniform(-how.tilt, how.tilt, 2), np.exp(rng.uniform(-how.shine, how.shine))
    points = [None if p is None else _changed(p, move, slope, shine, rng.uniform(0, how.thin), rng) for p in old.points]
    light = np.exp(rng.uniform(-how.light, how.light))
    images = old.images if how.light == 0 else np.clip(old.images * light, 0, 255).astype(np.uint8)
    lidar, camera = points[0] is not None, bool(old.camera_seen.any())
    if chance[0] < how.drop_lidar and camera:
        points = [None] * len(points)
    elif chance[1] < how.drop_past:
        points = [points[0], *[None] * (len(points) - 1)]
    without = chance[2] < how.drop_cameras and lidar and points[0] is not None
    seen = np.zeros_like(old.camera_seen) if without else old.camera_seen & ~(lost & (points[0] is not None))
    sensors = SensorArrays(points, images, old.image_from_ego @ np.linalg.inv(new_from_old), seen)
    targets = turned(sample.targets, pose, mirror)
    ego, route = sample.ego.copy(), sample.route.copy()
    ego[4:] = [*targets.ego[:2], np.sin(targets.ego[2]), np.cos(targets.ego[2])]
    route[:, :2] = route[:, :2] @ move[:2, :2].T + move[:2, 3]
    if mirror:
        ego[2:4] = -ego[2:4]
        route[:, 2:] = route[:, 3:1:-1]
    scene = None if mirror or sample.scene is None else sample.scene.transformed(torch.from_numpy(pose))
    return Sample(sensors, targets, scene, ego, route)


def _changed(
    points: np.ndarray, move: np.ndarray, slope: np.ndarray, shine: float, thin: float, rng: np.random.Generator
) -> np.ndarray:
    """Points ``[n, 4]`` moved, on tilted ground, fewer, of another brightness."""
    kept = points[rng.random(len(points)) >= thin]
    xyz = kept[:, :3] @ move[:3, :3].T + move[:3, 3]
    xyz[:, 2] += xyz[:, :2] @ slope
    return np.concatenate([xyz, np.minimum(kept[:, 3:] * shine, 1.0)], 1).astype(np.float32)


def load_batch(
    samples: Sequence[Path],
    config: PerceptionConfig,
    augment: Augmentation | None = None,
    seed: tuple[int, ...] = (),
    with_scenes: bool = True,
) -> Batch:
    """Read, augment (with a generator of its own per sample and seed, whatever was read before) and join samples."""
    loaded = [load_sample(path, with_scenes) for path in samples]
    if augment is not None:
        loaded = [augmented(s, augment, np.random.default_rng([*seed, _number(p)])) for s, p in zip(loaded, samples)]
    return join(loaded, config)


def join(samples: Sequence[Sample], config: PerceptionConfig) -> Batch:
    """A batch of samples, which may differ in points, sensors, agents and lines."""
    inputs = network_inputs(
        [s.sensors for s in samples], [s.ego for s in samples], [s.route for s in samples], config.preprocessing
    )
    return Batch(inputs, [s.targets for s in samples], [s.scene for s in samples])


def data_hash(samples: Sequence[Path]) -> str:
    """16 hexadecimal digits of the list of samples: their names, which carry sources and preprocessing."""
    return hashlib.sha256(json.dumps([path.name for path in samples]).encode()).hexdigest()[:16]


def prepared(
    names: Sequence[str], folder: Path, config: PerceptionConfig, make: Callable[[str], Sample], origin: str
) -> list[Path]:
    """Paths of the samples called `names`, made where they are missing. origin: what they are made from."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = (config.horizon, config.steps, config.line_range, ROUTE_POINTS, ROUTE_STEP)
    key = hashlib.sha256(f"{SCHEMA} {origin} {config.preprocessing.hash} {asked}".encode()).hexdigest()[:12]
    paths = [folder / f"{name}.{key}.npz" for name in names]
    for name, path in zip(names, paths):
        if not path.exists():
            save_sample(path, make(name))
    return paths


def _number(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little")

"""Random changes of training samples: the world turned, tilted and dimmed, sensors taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from perception.preprocess import SensorArrays
from perception.sample import Sample
from perception.targets import turned


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

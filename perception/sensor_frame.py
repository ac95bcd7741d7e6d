"""What the sensors deliver at one moment: LiDAR points, camera images, calibration, ego state.

Frames: *ego* (rear axle on the ground, x forward, y left, z up) at the time of the *sensor*,
because the vehicle moves between the exposures; *global* is the map's. Transforms are 4x4 matrices
named ``a_from_b``. A camera's frame has x right, y down, z forward. Metres, microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from planner.scene import EgoState


@dataclass
class LidarSweep:
    """One turn of a LiDAR.

    points ``[N, 3]`` float32 (m) in the sensor's frame; intensity ``[N]`` (0 to 255); ring ``[N]``
    int (-1 unknown). ego_from_lidar ``[4, 4]``; global_from_ego ``[4, 4]`` at time_us.
    """

    points: np.ndarray
    intensity: np.ndarray
    ring: np.ndarray
    ego_from_lidar: np.ndarray
    global_from_ego: np.ndarray
    time_us: int
    channel: str = "LIDAR_TOP"

    def validate(self) -> Self:
        """Check shapes, finite points and rigid transforms. Raises ValueError naming the field."""
        count = len(self.points)
        _expect_shape(f"{self.channel}.points", self.points, (count, 3))
        _expect_shape(f"{self.channel}.intensity", self.intensity, (count,))
        _expect_shape(f"{self.channel}.ring", self.ring, (count,))
        if not np.isfinite(self.points).all():
            raise ValueError(f"{self.channel}.points: expected finite numbers")
        expect_rigid(f"{self.channel}.ego_from_lidar", self.ego_from_lidar)
        expect_rigid(f"{self.channel}.global_from_ego", self.global_from_ego)
        return self

    def points_in_global(self) -> np.ndarray:
        """``[N, 3]`` float64."""
        return transform(self.global_from_ego @ self.ego_from_lidar, self.points)

    def returned(self, closest: float = 1.0) -> np.ndarray:
        """``[N]`` bool: not a miss (range zero) and not within `closest` (m) of the sensor, where the own roof is."""
        return (self.points**2).sum(1) > closest**2


@dataclass
class CameraImages:
    """``C`` cameras; each may have its own image size and time.

    image: C arrays ``[H, W, 3]`` uint8 RGB. intrinsics ``[C, 3, 3]`` pixels; ego_from_camera
    ``[C, 4, 4]``; global_from_ego ``[C, 4, 4]`` and time_us ``[C]`` at each exposure.
    """

    channel: tuple[str, ...]
    image: list[np.ndarray]
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    global_from_ego: np.ndarray
    time_us: np.ndarray

    def __len__(self) -> int:
        return len(self.channel)

    def validate(self) -> Self:
        """Check shapes, image types, intrinsics and rigid transforms. Raises ValueError naming the field."""
        count = len(self.channel)
        if len(self.image) != count:
            raise ValueError(f"cameras.image: expected {count} images, got {len(self.image)}")
        _expect_shape("cameras.intrinsics", self.intrinsics, (count, 3, 3))
        _expect_shape("cameras.ego_from_camera", self.ego_from_camera, (count, 4, 4))
        _expect_shape("cameras.global_from_ego", self.global_from_ego, (count, 4, 4))
        _expect_shape("cameras.time_us", self.time_us, (count,))
        for name, image, k, ego_from_camera, global_from_ego in zip(
            self.channel, self.image, self.intrinsics, self.ego_from_camera, self.global_from_ego
        ):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(f"{name}.image: expected [H, W, 3] uint8, got {image.shape} {image.dtype}")
            if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0 or not np.allclose(k[2], [0, 0, 1]):
                raise ValueError(f"{name}.intrinsics: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0")
            expect_rigid(f"{name}.ego_from_camera", ego_from_camera)
            expect_rigid(f"{name}.global_from_ego", global_from_ego)
        return self

    def camera_from_global(self, index: int) -> np.ndarray:
        """``[4, 4]`` at the exposure of one camera."""
        return np.linalg.inv(self.global_from_ego[index] @ self.ego_from_camera[index])

    def project(self, index: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``[..., 2]`` and depth ``[...]`` (m) of global points ``[..., 3]``; NaN pixels behind the camera."""
        return project(self.intrinsics[index], transform(self.camera_from_global(index), points))


@dataclass
class SensorFrame:
    """All sensors around one moment.

    time_us; global_from_ego ``[4, 4]`` at that time; ego: its state in the global frame.
    lidar, cameras: None where there is no file. past: earlier turns of the same LiDAR, the newest first, each with
    its own time and pose; empty unless asked for. missing: one sentence per sensor that is absent.
    name: of the sample.
    """

    time_us: int
    global_from_ego: np.ndarray
    ego: EgoState
    lidar: LidarSweep | None = None
    cameras: CameraImages | None = None
    missing: tuple[str, ...] = ()
    name: str = ""
    past: tuple[LidarSweep, ...] = ()

    def validate(self) -> Self:
        """Check everything that is there. Raises ValueError naming sensor and field."""
        expect_rigid("global_from_ego", self.global_from_ego)
        if self.lidar is not None:
            self.lidar.validate()
        if self.cameras is not None:
            self.cameras.validate()
        for sweep in self.past:
            sweep.validate()
        return self

    def lidar_in_ego(self, closest: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All returns of `lidar` and `past`: points ``[N, 3]`` float32 (m) in the ego frame of the frame's own time,
        intensity ``[N]`` float32 (0 to 255), time ``[N]`` float32 (s; 0 for `time_us`, negative before it).

        The ego's motion between the turns is taken out, that of others is not. closest: see `LidarSweep.returned`.
        All empty where there is no LiDAR.
        """
        sweeps = [s for s in (self.lidar, *self.past) if s is not None]
        ego_from_global = np.linalg.inv(self.global_from_ego)
        rows = [np.zeros((0, 5))]
        for sweep in sweeps:
            kept = sweep.returned(closest)
            ego_from_lidar = ego_from_global @ sweep.global_from_ego @ sweep.ego_from_lidar
            time = np.full(kept.sum(), (sweep.time_us - self.time_us) / 1e6)
            rows.append(np.c_[transform(ego_from_lidar, sweep.points[kept]), sweep.intensity[kept], time])
        row = np.concatenate(rows).astype(np.float32)
        return row[:, :3], row[:, 3], row[:, 4]


@dataclass
class Boxes3D:
    """``N`` upright boxes in the global frame.

    center ``[N, 3]`` m (middle of the box); size ``[N, 3]`` length, width, height m; yaw ``[N]`` rad;
    agent_class ``[N]`` AgentClass values; id: N strings.
    """

    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    agent_class: np.ndarray
    id: Sequence[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.yaw)

    def corners(self) -> np.ndarray:
        """``[N, 8, 3]``: bottom front-left, front-right, rear-right, rear-left, then the top likewise."""
        unit = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
        offset = np.concatenate([np.c_[unit, np.full(4, -0.5)], np.c_[unit, np.full(4, 0.5)]])
        local = offset[None] * self.size[:, None]
        return self.center[:, None] + np.einsum("nij,nkj->nki", _yaw_rotation(self.yaw), local)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """``[N, M]`` bool: which global points ``[M, 3]`` lie in which box."""
        away = points[None] - self.center[:, None]
        local = np.einsum("nji,nmj->nmi", _yaw_rotation(self.yaw), away)
        return (np.abs(local) <= self.size[:, None] / 2).all(-1)


def transform(a_from_b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points ``[..., 3]`` of frame b in frame a, float64."""
    return np.asarray(points, dtype=float) @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def project(intrinsics: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pinhole projection of camera-frame points ``[..., 3]``: pixels ``[..., 2]`` (u right, v down), depth ``[...]``.

    u = fx x/z + s y/z + cx, v = fy y/z + cy. Pixels of points with depth <= 0.1 m are NaN.
    """
    depth = points[..., 2]
    seen = depth > 0.1
    ray = points / np.where(seen, depth, np.nan)[..., None]
    return (ray @ intrinsics.T)[..., :2], depth


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """``[4, 4]`` from a quaternion (w, x, y, z), normalised here, and a translation ``[3]``."""
    w, x, y, z = np.asarray(rotation, dtype=float) / np.linalg.norm(rotation)
    out = np.eye(4)
    out[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    out[:3, 3] = translation
    return out


def expect_rigid(name: str, matrix: np.ndarray) -> None:
    """Raises ValueError unless the matrix is a 4x4 rotation and translation."""
    ok = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.allclose(matrix[3], [0, 0, 0, 1])
    if ok:
        r = matrix[:3, :3]
        ok = np.allclose(r @ r.T, np.eye(3), atol=1e-6) and np.linalg.det(r) > 0
    if not ok:
        raise ValueError(f"{name}: expected a 4x4 rigid transform, got\n{matrix}")


def _yaw_rotation(yaw: np.ndarray) -> np.ndarray:
    c, s, o, i = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    return np.stack([np.stack([c, -s, o], -1), np.stack([s, c, o], -1), np.stack([o, o, i], -1)], -2)


def _expect_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")

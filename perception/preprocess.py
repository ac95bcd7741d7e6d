"""Sensor frames to the network's inputs: the same code for training, evaluation and driving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perception.config import Preprocessing
from perception.encoders import pillars
from perception.heads import ROUTE_POINTS
from perception.network import NetworkInputs
from perception.sensor_frame import CameraImages, LidarSweep, SensorFrame
from planner.scene import EgoState, Route

ROUTE_STEP = 5.0
"""m between the route's points that the network is told."""
_AXLE_TO_MIDDLE = 1.4  # m, of the own body


@dataclass
class SensorArrays:
    """One moment, ready for the network but for pillars; the form that is cached on disk.

    points: per sweep ``[n, 4]`` float32 x, y, z (m, present ego frame), intensity (0 to 1), or None where there is
    none. images ``[C, h, w, 3]`` uint8; image_from_ego ``[C, 3, 4]``: pixels of these images from present ego
    coordinates; camera_seen ``[C]`` bool.
    """

    points: list[np.ndarray | None]
    images: np.ndarray
    image_from_ego: np.ndarray
    camera_seen: np.ndarray


def sensor_arrays(frame: SensorFrame, config: Preprocessing, past: Sequence[LidarSweep] = ()) -> SensorArrays:
    """What of a frame the network looks at. past: earlier sweeps besides the frame's own; the fitting ones are used.

    Sensors that are absent stay absent. Channels that the configuration does not name are ignored.
    """
    ego_from_global = np.linalg.inv(frame.global_from_ego)
    sweeps = [sweep for sweep in (frame.lidar, *frame.past, *past) if sweep is not None]
    points = [
        None
        if (sweep := _of_age(sweeps, frame.time_us, lag, config)) is None
        else _points(sweep, ego_from_global, config)
        for lag in config.lidar_lags
    ]
    count, (height, width) = len(config.cameras), config.image
    images = np.zeros((count, height, width, 3), np.uint8)
    image_from_ego, seen = np.zeros((count, 3, 4)), np.zeros(count, bool)
    image_from_ego[:, 2, 3] = -1.0  # everything lies behind a camera that is not there
    if (cameras := frame.cameras) is not None:
        for number, channel in enumerate(config.cameras):
            if channel in cameras.channel:
                index = cameras.channel.index(channel)
                images[number] = resized(cameras.image[index], height, width)
                image_from_ego[number] = _projection(cameras, index, frame.global_from_ego, config)
                seen[number] = True
    return SensorArrays(points, images, image_from_ego, seen)


def network_inputs(
    samples: Sequence[SensorArrays], ego: Sequence[np.ndarray], route: Sequence[np.ndarray], config: Preprocessing
) -> NetworkInputs:
    """A batch. ego: `ego_numbers` of each scene; route: `route_numbers`. Samples may differ in points and sensors."""
    count = min(max((len(p) for s in samples for p in s.points if p is not None), default=1), config.points)
    points = np.full((len(samples), len(config.lidar_lags), max(count, 1), 4), np.nan, np.float32)
    seen = np.zeros((len(samples), len(config.lidar_lags)), np.float32)
    for b, sample in enumerate(samples):
        for f, given in enumerate(sample.points):
            if given is not None:
                kept = given if len(given) <= count else given[np.linspace(0, len(given) - 1, count).astype(int)]
                points[b, f, : len(kept)], seen[b, f] = kept, 1.0
    # Channels last in memory: convolutions on processors are several times faster on it.
    images = torch.from_numpy(np.stack([s.images for s in samples])).permute(0, 1, 4, 2, 3)
    image = pillars(torch.from_numpy(points), config).contiguous(memory_format=torch.channels_last)
    return NetworkInputs(
        pillars=image,
        lidar_seen=torch.from_numpy(seen),
        images=images.float() / 127.5 - 1.0,
        image_from_ego=torch.from_numpy(np.stack([s.image_from_ego for s in samples])).float(),
        camera_seen=torch.from_numpy(np.stack([s.camera_seen for s in samples])).float(),
        ego=torch.from_numpy(np.stack(ego)).float(),
        route=torch.from_numpy(np.stack(route)).float(),
    )


def ego_numbers(ego: EgoState, pose: np.ndarray | None = None) -> np.ndarray:
    """``[8]``: what ego's query knows; pose ``[3]``: of ego in the frame of the inputs, by default its origin."""
    x, y, yaw = (0.0, 0.0, 0.0) if pose is None else pose
    motion = [float(ego.v) / 10, float(ego.a) / 3, 10 * float(ego.curvature), float(ego.yaw_rate)]
    return np.array([*motion, x, y, np.sin(yaw), np.cos(yaw)], np.float32)


def route_numbers(route: Route) -> np.ndarray:
    """``[24, 4]``: x, y, left, right (m) of the route from ego on, every 5 m; its last point repeated."""
    valid = route.valid.numpy()
    table = torch.stack([route.xy[:, 0], route.xy[:, 1], route.left, route.right], 1).numpy()[valid]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(table[:, :2], axis=0).T))])
    here = s[np.argmin((table[:, :2] ** 2).sum(1))]
    wanted = here + ROUTE_STEP * np.arange(ROUTE_POINTS)
    return np.stack([np.interp(wanted, s, column) for column in table.T], 1).astype(np.float32)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[height, width, 3]`` uint8: the whole image, every pixel the mean of what it covers."""
    if image.shape[:2] == (height, width):
        return image
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(tensor, (height, width), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _of_age(sweeps: list[LidarSweep], now_us: int, lag: float, config: Preprocessing) -> LidarSweep | None:
    """The sweep whose age is nearest to the lag (s); none where all miss it by more than the tolerance."""
    miss = [abs((now_us - sweep.time_us) / 1e6 - lag) for sweep in sweeps]
    tolerance = config.lag_tolerance if lag > 0 else 0.1
    return sweeps[int(np.argmin(miss))] if miss and min(miss) <= tolerance else None


def _points(sweep: LidarSweep, ego_from_global: np.ndarray, config: Preprocessing) -> np.ndarray:
    """``[n, 4]`` float32 in the present ego frame, without the own body's returns and what lies far outside."""
    # Both frames in one product of single precision: poses are put together in double before, distances are short.
    own_from_lidar = sweep.ego_from_lidar
    now_from_lidar = ego_from_global @ sweep.global_from_ego @ own_from_lidar
    both = np.concatenate([own_from_lidar[:2], now_from_lidar[:3]]).astype(np.float32)
    x, y, *xyz = both[:, :3] @ sweep.points.T + both[:, 3:]
    half, reach = config.own_body, config.extent * 1.5  # turned by augmentation, corners come into view
    outside = (np.abs(x - _AXLE_TO_MIDDLE) > half[0]) | (np.abs(y) > half[1])
    kept = outside & (np.abs(x) < reach) & (np.abs(y) < reach)
    return np.stack([*xyz, sweep.intensity / np.float32(255)], 1)[kept].astype(np.float32, copy=False)


def _projection(cameras: CameraImages, index: int, global_from_ego: np.ndarray, config: Preprocessing) -> np.ndarray:
    """``[3, 4]``: pixels of the resized image from points of the present ego frame, the vehicle's motion included."""
    height, width = cameras.image[index].shape[:2]
    scale = np.diag([config.image[1] / width, config.image[0] / height, 1.0])
    return scale @ cameras.intrinsics[index] @ (cameras.camera_from_global(index) @ global_from_ego)[:3]

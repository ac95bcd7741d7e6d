"""Six cameras as nuScenes mounts them, at any image size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception.nuscenes_sensors import CAMERAS

FULL_SIZE = (900, 1600)
"""Height and width (pixels) of a nuScenes image."""

# Nominal mount of each camera: x, y, z (m, ego frame), heading (degrees, left positive), focal length (pixels of the
# full size). Rounded from the calibrations that nuScenes publishes; single vehicles differ by centimetres and degrees.
_MOUNT = {
    "CAM_FRONT": (1.70, 0.0, 1.51, 0.0, 1266.0),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -55.0, 1260.0),
    "CAM_BACK_RIGHT": (1.02, -0.48, 1.56, -110.0, 1260.0),
    "CAM_BACK": (0.03, 0.0, 1.58, 180.0, 809.0),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.59, 110.0, 1257.0),
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 1270.0),
}
_PRINCIPAL_POINT = (816.0, 491.0)
_TURN = 0.05  # s: the LiDAR's turn, which triggers each camera as it sweeps past its axis


@dataclass(frozen=True)
class CameraRig:
    """``C`` pinhole cameras. A camera's frame has x right, y down, z forward; pixel centres lie at whole numbers + 0.5.

    channel: names. height, width ``[C]`` pixels. intrinsics ``[C, 3, 3]`` pixels; ego_from_camera ``[C, 4, 4]``.
    """

    channel: tuple[str, ...]
    height: np.ndarray
    width: np.ndarray
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray

    def __len__(self) -> int:
        return len(self.channel)

    def trigger(self) -> np.ndarray:
        """``[C]`` s, from -0.05 to 0: when each camera exposes, relative to the end of the LiDAR's turn.

        The LiDAR starts on the vehicle's left and turns clockwise. (In the recorded key frame of scene-0061 the
        cameras fire 2 ms later than this.)
        """
        axis = self.ego_from_camera[:, :3, 2]
        left_behind = (np.pi / 2 - np.arctan2(axis[:, 1], axis[:, 0])) % (2 * np.pi)
        return _TURN * (left_behind / (2 * np.pi) - 1.0)

    def resized(self, height: int, width: int) -> CameraRig:
        """The same fields of view in images of another size; pixels may become oblong."""
        scale = np.tile(np.eye(3), (len(self), 1, 1))
        scale[:, 0, 0], scale[:, 1, 1] = width / self.width, height / self.height
        size = (np.full(len(self), height), np.full(len(self), width))
        return CameraRig(self.channel, *size, scale @ self.intrinsics, self.ego_from_camera)


def nominal_rig(height: int, width: int) -> CameraRig:
    """The six nuScenes cameras at their nominal places, looking level."""
    count = len(CAMERAS)
    intrinsics, ego_from_camera = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    for i, channel in enumerate(CAMERAS):
        x, y, z, heading, focal = _MOUNT[channel]
        c, s = np.cos(np.deg2rad(heading)), np.sin(np.deg2rad(heading))
        intrinsics[i, [0, 1], [0, 1]], intrinsics[i, :2, 2] = focal, _PRINCIPAL_POINT
        ego_from_camera[i, :3, :3] = np.array([[s, 0.0, c], [-c, 0.0, s], [0.0, -1.0, 0.0]])
        ego_from_camera[i, :3, 3] = x, y, z
    full = (np.full(count, FULL_SIZE[0]), np.full(count, FULL_SIZE[1]))
    return CameraRig(CAMERAS, *full, intrinsics, ego_from_camera).resized(height, width)

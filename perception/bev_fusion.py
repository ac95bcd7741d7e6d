"""All sensors on one bird's-eye grid: cameras lifted by sampling, LiDAR added, one trunk over both.

Past sweeps come as further channels of the pillars, already in the present ego frame; so would past images, whose
projections lead from the present ego frame. What is missing is zero, and the network is told that it is missing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perception.config import PerceptionConfig
from perception.encoders import CameraEncoder, Conv, LidarEncoder, pillar_channels, stage

NEAR = 0.5
"""m: nearest depth at which a camera sees a point."""


class CameraLift(nn.Module):
    """Image features sampled where the points above each cell are seen: no depth has to be guessed.

    A cell's features are the mean over the cameras that see it, per height; heights are then joined.
    """

    def __init__(self, into: int, out: int, config: PerceptionConfig) -> None:
        super().__init__()
        self.image = config.preprocessing.image
        side, extent = config.preprocessing.cells // 4, config.preprocessing.extent
        middle = (torch.arange(side) + 0.5) * (2 * extent / side) - extent
        x, y, z = torch.meshgrid(middle, middle, torch.tensor(config.lift_heights), indexing="ij")
        grid = torch.stack([x, y, z, torch.ones_like(x)], -1).permute(2, 0, 1, 3)
        self.point: Tensor
        self.register_buffer("point", grid.contiguous(), persistent=False)
        self.join = Conv(into * len(config.lift_heights) + 1, out, 1, 1, config.groups)

    def forward(
        self, features: Float[Tensor, "B C D h w"], image_from_ego: Float[Tensor, "B C 3 4"], seen: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B O H W"]:
        """image_from_ego: homogeneous pixels of the images as the network sees them. seen: 1 = camera is there."""
        batch, cameras, depth = features.shape[:3]
        heights, rows, columns, _ = self.point.shape
        with torch.autocast(features.device.type, enabled=False):  # pixels need all their digits
            uvw = image_from_ego.flatten(0, 1) @ self.point.reshape(-1, 4).T  # [B C, 3, Z H W]
        w = uvw[:, 2].clamp(min=NEAR)
        size = uvw.new_tensor([self.image[1], self.image[0]])
        place = (2 * uvw[:, :2] / w[:, None] / size[:, None] - 1).transpose(1, 2)  # -1 to 1 over the image
        visible = ((place.abs() < 1).all(-1) & (uvw[:, 2] > NEAR)) * seen.reshape(-1, 1)
        # What a camera does not see is asked for far outside its image, where sampling gives zero.
        place = torch.where(visible[..., None] > 0, place, 3.0).reshape(batch * cameras, heights * rows, columns, 2)
        sampled = nn.functional.grid_sample(features.flatten(0, 1).float(), place.float(), align_corners=False)
        number = visible.reshape(batch, cameras, 1, heights, rows, columns).float().sum(1)
        mean = sampled.reshape(batch, cameras, depth, heights, rows, columns).sum(1) / number.clamp(min=1)
        mean = mean.reshape(batch, depth * heights, rows, columns)
        return self.join(torch.cat([mean, number.mean(2)], 1))


class BevFusion(nn.Module):
    """Sensor data to features at strides 2 (fine), 4 (middle) and 8 (coarse) of the pillar grid.

    Raises nothing for absent sensors: their masks are 0 and what they would have said is replaced by a learned vector.
    """

    def __init__(self, config: PerceptionConfig) -> None:
        super().__init__()
        c, groups, sweeps = config.channels, config.groups, len(config.preprocessing.lidar_lags)
        self.lidar = LidarEncoder(sweeps * pillar_channels(config.preprocessing), c, config.blocks, groups)
        self.camera: CameraEncoder | None = None
        if config.preprocessing.cameras:
            self.camera = CameraEncoder(config.image_channels, config.lift_channels, groups)
            self.lift = CameraLift(self.camera.out, c[1], config)
        self.missing_lidar = nn.Parameter(torch.zeros(c[1]))
        self.missing_camera = nn.Parameter(torch.zeros(c[1]))
        self.fuse = Conv(2 * c[1], c[1], 1, 1, groups)
        self.coarse = stage(c[1], c[2], config.blocks[2], 2, groups)
        self.wide = stage(c[2], c[2], 0, 2, groups)  # what lies far away, for whole roads
        self.widen = Conv(2 * c[2], c[2], 1, 1, groups)
        self.from_coarse = Conv(c[2], c[1], 1, 1, groups)
        self.middle = Conv(c[1], c[1], 3, 1, groups)
        self.from_middle = Conv(c[1], config.neck, 1, 1, groups)
        self.from_fine = Conv(c[0], config.neck, 1, 1, groups)
        self.fine = Conv(config.neck, config.neck, 3, 1, groups)

    def forward(
        self,
        pillars: Float[Tensor, "B I H W"],
        images: Float[Tensor, "B C 3 h w"],
        image_from_ego: Float[Tensor, "B C 3 4"],
        lidar_seen: Float[Tensor, "B F"],
        camera_seen: Float[Tensor, "B C"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``[B, neck, H/2, W/2]``, ``[B, C1, H/4, W/4]``, ``[B, C2, H/8, W/8]``."""
        per_sweep = pillars.shape[1] // lidar_seen.shape[1]
        pillars = pillars * lidar_seen.repeat_interleave(per_sweep, 1)[:, :, None, None]
        fine, near = self.lidar(pillars)
        near = _or_missing(near, lidar_seen[:, 0], self.missing_lidar)
        if self.camera is not None:
            looked = self.camera(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            seen_by_camera = self.lift(looked, image_from_ego, camera_seen)
            seen_by_camera = _or_missing(seen_by_camera, camera_seen.amax(1), self.missing_camera)
        else:
            seen_by_camera = _or_missing(near, torch.zeros_like(lidar_seen[:, 0]), self.missing_camera)
        middle = self.fuse(torch.cat([near, seen_by_camera], 1))
        coarse = self.coarse(middle)
        coarse = self.widen(torch.cat([coarse, _twice(self.wide(coarse))], 1))
        middle = self.middle(middle + _twice(self.from_coarse(coarse)))
        present = lidar_seen[:, :1, None, None]
        fine = self.fine(self.from_fine(fine) * present + _twice(self.from_middle(middle)))
        return fine, middle, coarse


def _or_missing(features: Tensor, seen: Tensor, instead: Tensor) -> Tensor:
    there = seen[:, None, None, None]
    return features * there + instead[None, :, None, None] * (1 - there)


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")

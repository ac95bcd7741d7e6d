"""From sensor data to features: LiDAR points to pillars to a bird's-eye pyramid; camera images to feature maps.

The bird's-eye grid is ``[H, W]`` with row = x (forward), column = y (left), both from -extent to extent of the ego
frame. A pillar is described by sums over its points (how many per height slice, mean offset, mean and greatest
height, mean intensity on a logarithmic scale), so that the input of the network has one shape whatever the number of
points.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perception.config import Preprocessing
from perception.group_norm import GroupNorm


def pillar_channels(config: Preprocessing) -> int:
    """Channels of one sweep's pillars."""
    return len(config.slices) - 1 + 6


def pillars(points: Float[Tensor, "B F N 4"], config: Preprocessing) -> Float[Tensor, "B F*C H W"]:
    """Pillars of F sweeps each: points x, y, z (m, present ego frame), intensity (0 to 1); NaN where there is none.

    Channels per sweep: log(1 + points) per slice, mean offset from the pillar's middle (x, y; 1 = half a pillar), mean
    and greatest height (m), mean of log(1 + 255 intensity) / 4, log(1 + points). All zero where no point is. Asphalt
    has an intensity of some 10 of 255, paint of 40: on a linear scale both would be next to nothing.
    """
    batch, sweeps = points.shape[:2]
    cells, slices = config.cells, len(config.slices) - 1
    place = (points[..., :2] + config.extent) / config.pillar
    edges = torch.tensor(config.slices, dtype=points.dtype, device=points.device)
    level = torch.bucketize(points[..., 2].contiguous(), edges) - 1
    inside = ((place >= 0) & (place < cells)).all(-1) & (level >= 0) & (level < slices)  # False for NaN
    cell = place.nan_to_num(0.0).clamp(0, cells - 1).long()
    frame = torch.arange(batch * sweeps, device=points.device).reshape(batch, sweeps, 1)
    size = batch * sweeps * cells * cells
    # What is not inside goes to one more cell, which is dropped: no shape depends on the data.
    index = torch.where(inside, (frame * cells + cell[..., 0]) * cells + cell[..., 1], size).reshape(-1)
    shine = (points[..., 3:].clamp(min=0.0) * 255).log1p() / 4
    clean = torch.where(inside[..., None], torch.cat([points[..., :3], shine], -1), 0.0)
    offset = torch.where(inside[..., None], 2 * (place - cell) - 1, 0.0)
    one = inside.to(points.dtype)[..., None]
    rows = torch.cat([offset, clean[..., 2:4], one], -1).reshape(-1, 5)
    total = rows.new_zeros(size + 1, 5).index_add_(0, index, rows)[:-1]
    per_slice = rows.new_zeros((size + 1) * slices).index_add_(
        0, index * slices + level.clamp(0, slices - 1).reshape(-1), one.reshape(-1)
    )
    low = torch.where(inside, clean[..., 2], config.slices[0]).reshape(-1)
    highest = rows.new_full((size + 1,), config.slices[0]).scatter_reduce_(0, index, low, "amax")[:-1]
    number = total[:, 4:]
    mean = total[:, :4] / number.clamp(min=1)
    top = torch.where(number[:, 0] > 0, highest, 0.0)[:, None]
    image = torch.cat(
        [torch.log1p(per_slice.reshape(-1, slices)[:-1]), mean[:, :3], top, mean[:, 3:], number.log1p()], 1
    )
    # Channels last in memory, in one copy: convolutions on processors are several times faster on it.
    image = image.reshape(batch, sweeps, cells, cells, -1).permute(0, 2, 3, 1, 4)
    return image.reshape(batch, cells, cells, -1).permute(0, 3, 1, 2)


class Conv(nn.Sequential):
    """Convolution, group normalisation (independent of the batch, so that any split of a batch is the same), ReLU."""

    def __init__(self, into: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 8) -> None:
        super().__init__(
            nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False),
            GroupNorm(groups, out),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.first = Conv(channels, channels, groups=groups)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), GroupNorm(groups, channels)
        )
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


def stage(into: int, out: int, blocks: int, stride: int, groups: int) -> nn.Sequential:
    """A strided convolution, then residual blocks."""
    return nn.Sequential(Conv(into, out, 3, stride, groups), *(Residual(out, groups) for _ in range(blocks)))


class LidarEncoder(nn.Module):
    """Pillars to features at strides 2 and 4."""

    def __init__(self, into: int, channels: tuple[int, ...], blocks: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.fine = stage(into, channels[0], blocks[0], 2, groups)
        self.middle = stage(channels[0], channels[1], blocks[1], 2, groups)

    def forward(self, pillars: Float[Tensor, "B I H W"]) -> tuple[Tensor, Tensor]:
        """``[B, C0, H/2, W/2]``, ``[B, C1, H/4, W/4]``."""
        fine = self.fine(pillars)
        return fine, self.middle(fine)


class CameraEncoder(nn.Module):
    """Images to one feature map at stride 8 that has also seen stride 16."""

    def __init__(self, channels: tuple[int, ...], out: int, groups: int) -> None:
        super().__init__()
        c2, c4, c8, c16 = channels
        self.stem = nn.Sequential(Conv(3, c2, 3, 2, groups), stage(c2, c4, 1, 2, groups))
        self.middle = stage(c4, c8, 1, 2, groups)
        self.coarse = stage(c8, c16, 1, 2, groups)
        self.join = Conv(c8 + c16, out, 3, 1, groups)
        self.out = out

    def forward(self, images: Float[Tensor, "I 3 h w"]) -> Float[Tensor, "I C h/8 w/8"]:
        """images: RGB, about -1 to 1."""
        middle = self.middle(self.stem(images))
        coarse = nn.functional.interpolate(self.coarse(middle), scale_factor=2.0, mode="nearest")
        return self.join(torch.cat([middle, coarse], 1))

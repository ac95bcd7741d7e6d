"""What the network's raw numbers mean: boxes, futures, ego's motion. Differentiable; shared by losses and decoding.

Frame: the inputs' (present ego unless augmented). One axis order: batch, query, mode, time, xy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perception.preprocess import ROUTE_STEP

SIZE = 1.5
"""m: length and width of a box whose logarithms are 0."""
SIGMA = (-3.0, 2.5)
"""Bounds of log standard deviations: 5 cm to 12 m."""
FUTURE_SIGMA = (-2.5, 3.2)
"""Bounds of those of forecasts: 8 cm to 25 m."""


@dataclass
class Boxes:
    """xy ``[..., 2]`` m, yaw ``[...]`` rad, size ``[..., 2]`` length, width (m), velocity ``[..., 2]`` m/s; log_sigma
    ``[..., 2]``: of the position (m), along and across the heading."""

    xy: Tensor
    yaw: Tensor
    size: Tensor
    velocity: Tensor
    log_sigma: Tensor

    def detach(self) -> Boxes:
        """Without history."""
        return Boxes(*(value.detach() for value in vars(self).values()))


def boxes(place: Tensor, box: Tensor) -> Boxes:
    """place ``[..., 2]`` (m), box ``[..., 10]``: see `perception.heads.BOX`."""
    # The square root's and atan2's slopes have no bound at zero.
    yaw = torch.atan2(box[..., 2], torch.where(box[..., 2:4].abs().sum(-1) > 1e-6, box[..., 3], 1.0))
    size = SIZE * box[..., 4:6].clamp(-2.5, 2.5).exp()
    return Boxes(place + box[..., :2], yaw, size, 10 * box[..., 6:8], box[..., 8:10].clamp(*SIGMA))


def step_time(steps: int, horizon: float, like: Tensor) -> Tensor:
    """``[T]`` s after now."""
    return torch.arange(1, steps + 1, device=like.device, dtype=like.dtype) * (horizon / steps)


def futures(now: Boxes, future: Tensor, horizon: float) -> tuple[Tensor, Tensor]:
    """Means ``[..., M, T, 2]`` (m) and log standard deviations along and across today's heading, same shape.

    Mean: constant velocity plus what the network adds along and across, times the time.
    """
    time = step_time(future.shape[-2], horizon, future)
    away = along(future[..., :2] * time[:, None], now.yaw[..., None, None])
    mean = now.xy[..., None, None, :] + now.velocity[..., None, None, :] * time[:, None] + away
    growth = torch.log(0.2 + 0.5 * time)[:, None]  # what is not known at all grows with time
    return mean, (future[..., 2:] + growth).clamp(*FUTURE_SIGMA)


def along(vectors: Tensor, yaw: Tensor) -> Tensor:
    """Vectors given along and across a heading, in the frame of the heading; yaw broadcasts."""
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


@dataclass
class Motion:
    """Ego's proposed motion at T times after now: xy ``[B, T, 2]`` m, yaw ``[B, T]``, v ``[B, T]`` m/s."""

    xy: Tensor
    yaw: Tensor
    v: Tensor


def ego_motion(motion: Tensor, route: Tensor, ego: Tensor, horizon: float) -> Motion:
    """motion ``[B, T, 2]``: see `perception.heads.EgoOutputs`; route ``[B, R, 4]``, ego ``[B, 8]``: the network's
    inputs.

    Ego goes along the route at the proposed speed and offset; after the route's end straight on.
    """
    v0 = ego[:, :1] * 10
    v = torch.relu(v0 + motion[..., 0])
    step = horizon / motion.shape[1]
    s = (torch.cat([v0, v[:, :-1]], 1) + v).cumsum(1) * step / 2
    place = (s / ROUTE_STEP).clamp(min=0)
    first = place.detach().nan_to_num(0.0).floor().clamp(max=route.shape[1] - 2).long()
    begin, end = (route[..., :2].gather(1, index[..., None].expand(-1, -1, 2)) for index in (first, first + 1))
    direction = end - begin
    # A route that ends early repeats its last point: there is no direction any more, ego's own is as good as any.
    repeated = direction.abs().sum(-1, keepdim=True) < 1e-3
    direction = torch.where(repeated, ego[:, None, [7, 6]] * ROUTE_STEP, direction)
    left = torch.stack([-direction[..., 1], direction[..., 0]], -1) / ROUTE_STEP
    xy = begin + (place - first)[..., None] * direction + motion[..., 1:] * left
    return Motion(xy, torch.atan2(direction[..., 1], direction[..., 0]), v)

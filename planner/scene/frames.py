"""Planar poses and frames. A pose is ``[..., 3]``: x (m), y (m), yaw (rad).

``a_from_b`` maps coordinates in frame b to frame a, so names chain:
``global_from_agent = compose(global_from_ego, ego_from_agent)``.

Frames: *global* is the map's frame; *ego* has its origin on the ground under the rear
axle, x forward, y left. Works on torch tensors (differentiable) of any batch shape.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def wrap_angle(angle: Tensor) -> Tensor:
    """Angle (rad) mapped to (-pi, pi], with gradient one."""
    return angle - 2 * torch.pi * torch.round(angle.detach() / (2 * torch.pi))


def rotation(yaw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2 2"]:
    """Rotation matrix of a yaw angle."""
    c, s = torch.cos(yaw), torch.sin(yaw)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def compose(a_from_b: Float[Tensor, "*batch 3"], b_from_c: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """a_from_c. Batch axes broadcast."""
    xy = transform_points(a_from_b, b_from_c[..., :2])
    yaw = wrap_angle(a_from_b[..., 2] + b_from_c[..., 2])
    return torch.cat([xy, yaw.broadcast_to(xy.shape[:-1])[..., None]], -1)


def inverse(a_from_b: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """b_from_a."""
    yaw = -a_from_b[..., 2]
    xy = -transform_vectors(yaw, a_from_b[..., :2])
    return torch.cat([xy, yaw[..., None]], -1)


def transform_points(a_from_b: Float[Tensor, "*batch 3"], xy_b: Float[Tensor, "*points 2"]) -> Tensor:
    """Points (m) of frame b in frame a. The pose broadcasts against the points' leading axes."""
    return transform_vectors(a_from_b[..., 2], xy_b) + a_from_b[..., :2]


def transform_vectors(yaw: Float[Tensor, "*batch"], xy_b: Float[Tensor, "*points 2"]) -> Tensor:
    """Free vectors (velocities, directions) rotated by yaw."""
    c, s = torch.cos(yaw), torch.sin(yaw)
    x, y = xy_b[..., 0], xy_b[..., 1]
    return torch.stack([c * x - s * y, s * x + c * y], -1)


def transform_covariance(yaw: Float[Tensor, "*batch"], covariance: Float[Tensor, "*points 2 2"]) -> Tensor:
    """R C R^T: a covariance (m^2) of frame b expressed in frame a."""
    r = rotation(yaw)
    return r @ covariance @ r.transpose(-1, -2)

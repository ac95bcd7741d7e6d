"""Lines of the map as segments, and where ego stands relative to them."""

from __future__ import annotations

import numpy as np

from planner.checker.footprint import Sweeps, boxes_from_poses, sweep_segment_separation
from planner.scene import VehicleParameters


def segments(xy: np.ndarray, count: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """``[S, 2, 2]``: the segments of the chosen polylines."""
    xy, count = xy[chosen], count[chosen]
    real = np.arange(xy.shape[1] - 1) < count[:, None] - 1
    return np.stack([xy[:, :-1][real], xy[:, 1:][real]], 1)


def under(still: Sweeps, segments: np.ndarray) -> np.ndarray:
    """``[S]``: segments that ego's rectangle stands on."""
    middle, half = segments.mean(1), np.hypot(*(segments[:, 1] - segments[:, 0]).T) / 2
    near = np.flatnonzero(np.hypot(*(middle - still.center[0]).T) < half + still.reach[0])
    touched = np.zeros(len(segments), bool)
    touched[near] = sweep_segment_separation(still, np.zeros_like(near), segments[near]) < 0
    return touched


def beyond_boundary(boundary: np.ndarray, pose: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """``[K]`` m: how far the outermost point of the outline lies beyond the boundary; negative inside."""
    corners = boxes_from_poses(pose, vehicle.length, vehicle.width, vehicle.rear_axle_to_center).corners
    outline = np.concatenate([corners, 0.5 * (corners + corners[:, [1, 2, 3, 0]])], 1).reshape(-1, 2)
    start, along = boundary[:, 0], boundary[:, 1] - boundary[:, 0]
    size = np.maximum(np.hypot(*along.T), 1e-9)
    to = outline[:, None] - start
    u = np.clip((to * along).sum(-1) / size**2, 0.0, 1.0)
    gap = np.linalg.norm(to - u[..., None] * along, axis=-1)
    to_right = (to[..., 0] * along[:, 1] - to[..., 1] * along[:, 0]) / size
    # At a shared end point both pieces are nearest; the one seen less obliquely knows the side.
    nearest = gap.min(1, keepdims=True)
    side = np.where(gap <= nearest + 1e-6, to_right, 0.0)
    rows = np.arange(len(side))
    sign = np.sign(side[rows, np.abs(side).argmax(1)])
    return (sign * nearest[:, 0]).reshape(len(pose), -1).max(1)

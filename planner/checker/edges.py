"""Lines of the map as segments, and where ego stands relative to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.footprint import Sweeps, boxes_from_poses, sweep_segment_separation
from planner.scene import VehicleParameters


@dataclass(frozen=True)
class Segments:
    """``S`` straight pieces of lines: ends ``[S, 2, 2]``, middle ``[S, 2]`` (m), half ``[S]``: half the length (m)."""

    ends: np.ndarray
    middle: np.ndarray
    half: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def of(cls, ends: np.ndarray) -> Segments:
        """From the end points ``[S, 2, 2]``."""
        step = ends[:, 1] - ends[:, 0]
        return cls(ends, 0.5 * (ends[:, 0] + ends[:, 1]), 0.5 * np.hypot(step[:, 0], step[:, 1]))

    def around(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Indices of those that may reach into the box from low to high ``[2]``."""
        x, y = self.middle[:, 0], self.middle[:, 1]
        reach = self.half
        return np.flatnonzero(
            (x + reach > low[0]) & (x - reach < high[0]) & (y + reach > low[1]) & (y - reach < high[1])
        )

    def under(self, still: Sweeps) -> np.ndarray:
        """``[S]``: those that ego's rectangle stands on."""
        x, y = self.middle[:, 0] - still.center[0, 0], self.middle[:, 1] - still.center[0, 1]
        near = np.flatnonzero(np.hypot(x, y) < self.half + still.reach[0])
        touched = np.zeros(len(self), bool)
        if len(near):
            touched[near] = sweep_segment_separation(still, np.zeros_like(near), self.ends[near]) < 0
        return touched

    def take(self, chosen: np.ndarray) -> Segments:
        """Some of them."""
        return Segments(self.ends[chosen], self.middle[chosen], self.half[chosen])


def segments(xy: np.ndarray, count: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """``[S, 2, 2]``: the segments of the chosen polylines."""
    which = np.flatnonzero(chosen & (count >= 2))
    line, point = pieces(count[which])
    line = which[line]
    return np.stack([xy[line, point], xy[line, point + 1]], 1)


def pieces(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Line and first point ``[S]`` of every segment of polylines with so many points (at least one) each."""
    line = np.repeat(np.arange(len(count)), count - 1)
    return line, np.arange(len(line)) - (np.cumsum(count - 1) - (count - 1))[line]


def beyond_boundary(boundary: np.ndarray, pose: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """``[K]`` m: how far the outermost point of the outline lies beyond the boundary; negative inside."""
    corners = boxes_from_poses(pose, vehicle.length, vehicle.width, vehicle.rear_axle_to_center).corners
    outline = np.concatenate([corners, 0.5 * (corners + corners[:, [1, 2, 3, 0]])], 1).reshape(-1, 2)
    ax, ay = (boundary[:, 1] - boundary[:, 0]).T
    size = np.maximum(np.hypot(ax, ay), 1e-9)
    x, y = outline[:, 0:1] - boundary[:, 0, 0], outline[:, 1:2] - boundary[:, 0, 1]
    u = np.minimum(np.maximum((x * ax + y * ay) / size**2, 0.0), 1.0)
    gap = np.hypot(x - u * ax, y - u * ay)
    to_right = (x * ay - y * ax) / size
    # At a shared end point both pieces are nearest; the one seen less obliquely knows the side.
    nearest = gap.min(1, keepdims=True)
    side = np.where(gap <= nearest + 1e-6, to_right, 0.0)
    rows = np.arange(len(side))
    sign = np.sign(side[rows, np.abs(side).argmax(1)])
    return (sign * nearest[:, 0]).reshape(len(pose), -1).max(1)

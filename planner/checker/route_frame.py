"""The route as a line of reference: how far along it, how far to its left, and which way it heads there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RouteFrame:
    """xy ``[R, 2]`` m, R >= 2; station ``[R]`` m; heading ``[R - 1]`` rad of each segment."""

    xy: np.ndarray
    station: np.ndarray
    heading: np.ndarray

    @classmethod
    def of(cls, xy: np.ndarray, ego: np.ndarray) -> RouteFrame:
        """Along the points ``[R, 2]``; straight ahead of ego (x, y, yaw, ...) where there are fewer than two."""
        if len(xy) >= 2:
            moved = np.concatenate([[True], np.hypot(*np.diff(xy, axis=0).T) > 1e-6])
            xy = xy[moved]
        if len(xy) < 2:
            ahead = np.array([np.cos(ego[2]), np.sin(ego[2])])
            xy = ego[:2] + np.array([[-20.0], [100.0]]) * ahead
        step = np.diff(xy, axis=0)
        station = np.concatenate([[0.0], np.cumsum(np.hypot(*step.T))])
        return cls(xy, station, np.arctan2(step[:, 1], step[:, 0]))

    def project(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Station (m), offset to the left (m) and heading (rad) at the points ``[..., 2]``.

        Before the route's begin and beyond its end its first and last segment go on.
        """
        flat = point.reshape(-1, 2)
        start, along = self.xy[:-1], np.diff(self.xy, axis=0)
        size = np.diff(self.station)
        x, y = flat[:, 0:1] - start[:, 0], flat[:, 1:2] - start[:, 1]
        u = (x * along[:, 0] + y * along[:, 1]) / size
        low, high = np.zeros(len(size)), size.copy()
        low[0], high[-1] = -np.inf, np.inf
        kept = np.clip(u, low, high)
        left = (y * along[:, 0] - x * along[:, 1]) / size
        squared = (u - kept) ** 2 + left**2
        i = squared.argmin(1)
        row = np.arange(len(flat))
        offset = np.copysign(np.sqrt(squared[row, i]), left[row, i])
        shape = point.shape[:-1]
        return (
            (self.station[i] + kept[row, i]).reshape(shape),
            offset.reshape(shape),
            self.heading[i].reshape(shape),
        )

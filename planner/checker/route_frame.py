"""The route as a line of reference: how far along it, how far to its left, and which way it heads there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Along:
    """Places relative to the route, ``[...]``: station (m), offset to the left (m), its heading there (rad)."""

    station: np.ndarray
    offset: np.ndarray
    heading: np.ndarray

    def part(self, rows: slice) -> Along:
        """Some of them."""
        return Along(self.station[rows], self.offset[rows], self.heading[rows])


@dataclass(frozen=True)
class RouteFrame:
    """xy ``[R, 2]`` m, R >= 2; station ``[R]`` m; heading ``[R - 1]`` rad, size ``[R - 1]`` m and along ``[R - 1, 2]``
    m of each segment. Before the route's begin and beyond its end its first and last segment go on."""

    xy: np.ndarray
    station: np.ndarray
    heading: np.ndarray
    size: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, xy: np.ndarray, ego: np.ndarray) -> RouteFrame:
        """Along the points ``[R, 2]``; straight ahead of ego (x, y, yaw, ...) where there are fewer than two."""
        if len(xy) >= 2:
            moved = np.concatenate([[True], np.hypot(*np.diff(xy, axis=0).T) > 1e-6])
            xy = xy[moved]
        if len(xy) < 2:
            ahead = np.array([np.cos(ego[2]), np.sin(ego[2])])
            xy = ego[:2] + np.array([[-20.0], [100.0]]) * ahead
        along = np.diff(xy, axis=0)
        size = np.hypot(along[:, 0], along[:, 1])
        station = np.concatenate([[0.0], np.cumsum(size)])
        return cls(xy, station, np.arctan2(along[:, 1], along[:, 0]), size, along)

    def project(self, point: np.ndarray) -> Along:
        """Of the points ``[..., 2]``, each at the segment nearest to it."""
        flat = point.reshape(-1, 2)
        # None is nearest that is farther from the points' middle than the nearest one there by twice their spread.
        middle = 0.5 * (flat.min(0) + flat.max(0))
        apart = np.sqrt(self._feet(middle, slice(None))[2])
        x, y = flat[:, 0] - middle[0], flat[:, 1] - middle[1]
        spread = np.sqrt((x * x + y * y).max())
        near = np.flatnonzero(apart <= apart.min() + 2 * spread + 1e-6)
        kept, left, squared = self._feet(flat[:, None], near)
        j = squared.argmin(1)
        row, i = np.arange(len(flat)), near[j]
        offset = np.copysign(np.sqrt(squared[row, j]), left[row, j])
        shape = point.shape[:-1]
        station = self.station[i] + kept[row, j]
        return Along(station.reshape(shape), offset.reshape(shape), self.heading[i].reshape(shape))

    def project_boxes(self, center: np.ndarray, corners: np.ndarray) -> tuple[Along, Along]:
        """Of centres ``[A, 2]`` and of the four corners ``[A, 4, 2]`` around each.

        A corner's nearest segment is among those at most twice its distance from the centre farther from the centre
        than the nearest one, which on a long route are few.
        """
        kept, left, squared = self._feet(center[:, None], slice(None))
        row, i = np.arange(len(center)), squared.argmin(1)
        apart = np.sqrt(squared)
        offset = np.copysign(apart[row, i], left[row, i])
        middle = Along(self.station[i] + kept[row, i], offset, self.heading[i])
        if not len(center):
            return middle, Along(*(np.zeros((0, 4)) for _ in range(3)))
        radius = np.hypot(corners[:, 0, 0] - center[:, 0], corners[:, 0, 1] - center[:, 1])
        box, segment = np.nonzero(apart <= (apart[row, i] + 2 * radius + 1e-6)[:, None])
        kept, left, squared = self._feet(corners[box], segment[:, None])
        begin = np.searchsorted(box, row)
        nearest = squared == np.minimum.reduceat(squared, begin, axis=0)[box]
        pair = np.arange(len(box))[:, None]
        pick = np.minimum.reduceat(np.where(nearest, pair, len(box)), begin, axis=0)
        corner = np.arange(4)
        offset = np.copysign(np.sqrt(squared[pick, corner]), left[pick, corner])
        i = segment[pick]
        return middle, Along(self.station[i] + kept[pick, corner], offset, self.heading[i])

    def _feet(self, point: np.ndarray, i: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How far along the segments i (m) the points' nearest places are, how far to their left the points lie (m),
        and the squared distance (m^2)."""
        ax, ay, size = self.along[i, 0], self.along[i, 1], self.size[i]
        x, y = point[..., 0] - self.xy[:-1][i, 0], point[..., 1] - self.xy[:-1][i, 1]
        u = (x * ax + y * ay) / size
        left = (y * ax - x * ay) / size
        kept = np.minimum(np.maximum(u, self._low[i]), self._high[i])
        over = u - kept
        return kept, left, over * over + left * left

    @cached_property
    def _low(self) -> np.ndarray:
        low = np.zeros(len(self.size))
        low[0] = -np.inf
        return low

    @cached_property
    def _high(self) -> np.ndarray:
        high = self.size.copy()
        high[-1] = np.inf
        return high

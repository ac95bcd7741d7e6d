"""Returns above the ground -> groups of touching cells -> boxes around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from perception.raw_obstacles_config import ClusterConfig

ANGLES = np.deg2rad(np.arange(0.0, 90.0, 3.0))
TOUCHING = np.ones((3, 3), dtype=int)
FAR_INSIDE = 0.5
"""Points farther than this (m) from every edge, such as those of a cabin, all count the same."""
AREA_PRICE = 0.01
"""m of mean distance to the edges that one square metre of rectangle is worth; decides where few points say little."""
SMALLEST = 0.1
"""Length and width (m) of a box around a single return."""


@dataclass(frozen=True)
class Clusters:
    """Groups of returns, seen from above.

    points ``[N, 2]``, sorted by group; group ``[N]``; start ``[G]``: first point of each group.
    box ``[G, 5]``: x, y, yaw, length, width of the rectangle that fits best.
    """

    points: np.ndarray
    group: np.ndarray
    start: np.ndarray
    box: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


def clusters(points: np.ndarray, config: ClusterConfig) -> Clusters:
    """Groups of points ``[N, 2]`` (m) by touching grid cells; groups of fewer than `points_min` are noise."""
    if not len(points):
        return _grouped(points, np.zeros(0, dtype=np.int64))
    cell = np.floor(points / config.cell).astype(np.int32)
    cell -= cell.min(0) - 1
    grid = np.zeros(cell.max(0) + 2, dtype=bool)
    grid[cell[:, 0], cell[:, 1]] = True
    # Far away the rings leave gaps on one and the same object, along the line of sight and only there: a return counts
    # for the cells before and behind it, never for those beside it, where the next object may be.
    far = (points * points).sum(1) > config.sparse_from**2
    sight = points[far] / np.hypot(points[far, 0], points[far, 1])[:, None]
    for step in (-1, 1):
        beyond = cell[far] + np.rint(step * sight).astype(np.int32)
        grid[beyond[:, 0], beyond[:, 1]] = True
    label, _ = ndimage.label(grid, structure=TOUCHING)
    group = label[cell[:, 0], cell[:, 1]].astype(np.int64)
    enough = np.bincount(group)[group] >= config.points_min
    return _grouped(points[enough], group[enough])


def tiled(groups: Clusters, is_cut: np.ndarray, tile: float, heading: float) -> tuple[Clusters, np.ndarray]:
    """The groups marked in is_cut ``[G]``, cut into square tiles of `tile` (m), and each tile's group ``[T]``.

    heading (rad): direction of the tiles' axes, so that they can stay with the ground while the ego turns.
    """
    chosen = is_cut[groups.group]
    points, owner = groups.points[chosen], groups.group[chosen]
    if not len(points):
        return _grouped(points, owner), np.zeros(0, dtype=np.int64)
    c, s = np.cos(heading), np.sin(heading)
    place = np.floor(points @ np.array([[c, s], [-s, c]]) / tile).astype(np.int64)
    place -= place.min(0)
    key = (owner * (place[:, 0].max() + 1) + place[:, 0]) * (place[:, 1].max() + 1) + place[:, 1]
    out = _grouped(points, key)
    order = np.argsort(key, kind="stable")
    return out, owner[order][out.start]


def _grouped(points: np.ndarray, key: np.ndarray) -> Clusters:
    order = np.argsort(key, kind="stable")
    points, key = points[order], key[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    start = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    return Clusters(points, group, start, _fitted_boxes(points, start))


def _fitted_boxes(points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """``[G, 5]``: of all rectangles at 3 degree steps the one whose edges its points lie closest to; the length is the
    longer side. The least area would turn the corner of a vehicle, of which two faces are seen, by half a right angle
    (Zhang, Xu, Dong, Dolan, "Efficient L-shape fitting for vehicle detection using laser scanners", IV 2017).
    """
    if not len(start):
        return np.zeros((0, 5))
    c, s = np.cos(ANGLES), np.sin(ANGLES)
    along = points @ np.stack([c, s]).astype(points.dtype)
    across = points @ np.stack([-s, c]).astype(points.dtype)
    low = np.stack([np.minimum.reduceat(along, start), np.minimum.reduceat(across, start)], -1)
    high = np.stack([np.maximum.reduceat(along, start), np.maximum.reduceat(across, start)], -1)
    extent = high - low
    group = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(points))))
    inside = np.minimum(along - low[group, :, 0], high[group, :, 0] - along)
    aside = np.minimum(across - low[group, :, 1], high[group, :, 1] - across)
    apart = np.add.reduceat(np.minimum(np.minimum(inside, aside), FAR_INSIDE), start)
    apart /= np.diff(np.append(start, len(points)))[:, None]
    best = (apart + AREA_PRICE * np.maximum(extent, SMALLEST).prod(-1)).argmin(1)
    pick = np.arange(len(start)), best
    middle, size, yaw = (low[pick] + high[pick]) / 2, np.maximum(extent[pick], SMALLEST), ANGLES[best]
    cy, sy = np.cos(yaw), np.sin(yaw)
    x, y = cy * middle[:, 0] - sy * middle[:, 1], sy * middle[:, 0] + cy * middle[:, 1]
    turned = size[:, 1] > size[:, 0]
    return np.stack([x, y, np.where(turned, yaw + np.pi / 2, yaw), size.max(1), size.min(1)], -1)

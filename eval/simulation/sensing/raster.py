"""Polygons to cells: exact at the cells' middles, without an image library."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry


def rastered(area: BaseGeometry, low: np.ndarray, cells: np.ndarray, cell: float) -> np.ndarray:
    """``[X, Y]`` bool: whether a cell's middle lies in the area, by the even-odd rule along each column of cells.

    low ``[2]``: corner of the first cell (m); cells ``[2]``: their number; cell: their width (m). Polygons that overlap
    cancel each other: join them first.
    """
    a, b = _edges(area)
    swap = a[:, 0] > b[:, 0]
    left, right = np.where(swap[:, None], b, a), np.where(swap[:, None], a, b)
    # Columns whose middle lies in [left, right).
    first, last = (np.ceil((p[:, 0] - low[0]) / cell - 0.5).clip(0, cells[0]).astype(np.int64) for p in (left, right))
    count = last - first
    which = np.repeat(np.arange(len(count)), count)
    column = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    x = low[0] + (column + 0.5) * cell
    run = right[:, 0] - left[:, 0]
    slope = (right[:, 1] - left[:, 1]) / np.where(run > 0, run, 1.0)
    y = left[which, 1] + slope[which] * (x - left[which, 0])
    row = np.ceil((y - low[1]) / cell - 0.5).clip(0, cells[1]).astype(np.int64)
    toggles = np.zeros((cells[0], cells[1] + 1), dtype=np.uint8)
    np.bitwise_xor.at(toggles.reshape(-1), column * (cells[1] + 1) + row, 1)
    return np.bitwise_xor.accumulate(toggles[:, :-1], axis=1).astype(bool)


def _edges(area: BaseGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Start and end ``[E, 2]`` of all edges of all rings."""
    rings = shapely.get_rings(shapely.get_parts(area))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    return points[:-1][same], points[1:][same]

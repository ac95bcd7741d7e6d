"""The occupancy grids of UniAD and VAD: 200 x 200 cells of 0.5 m around the LiDAR, quirks included.

Both draw agents with OpenCV's polygon fill on corners rounded to cell *corners*, and ego as the
32 cells whose *centres* its box covers, shifted by the trajectory and truncated. The half-cell
disagreement and the fixed heading belong to the published numbers and are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELL, RANGE, CELLS = 0.5, 50.0, 200  # m, m, cells per side
EGO_LENGTH, EGO_WIDTH, EGO_AHEAD = 4.084, 1.85, 0.5  # m; the box centre is 0.5 m ahead of the trajectory point


@dataclass(frozen=True)
class GridRule:
    """rows_down: row 0 is the farthest ahead (VAD) instead of the farthest behind (UniAD)."""

    rows_down: bool


UNIAD, VAD = GridRule(rows_down=False), GridRule(rows_down=True)


def _ego_cells() -> np.ndarray:
    """``[32, 2]`` (row, column) of the cells whose centres lie in the ego box at the origin; rows count forward."""
    center = -RANGE + CELL / 2 + CELL * np.arange(CELLS)
    rows = np.flatnonzero(np.abs(center - EGO_AHEAD) <= EGO_LENGTH / 2)
    columns = np.flatnonzero(np.abs(center) <= EGO_WIDTH / 2)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


_EGO_CELLS = _ego_cells()


def ego_cells(point: np.ndarray, rule: GridRule) -> np.ndarray:
    """``[32, 2]`` (row, column) that ego covers with its trajectory point ``[2]`` at forward, left (m)."""
    shifted = _EGO_CELLS + np.array([point[0], -point[1]]) / CELL
    if rule.rows_down:
        shifted[:, 0] = CELLS - shifted[:, 0]
    return np.clip(shifted.astype(np.int32), 0, CELLS - 1)


def box_cells(corners: np.ndarray, rule: GridRule) -> np.ndarray:
    """``[m, 2]`` (row, column) that a polygon with corners ``[4, 2]`` (forward, left; m) fills, edges included."""
    forward = -corners[:, 0] if rule.rows_down else corners[:, 0]
    vertex = np.round((np.stack([forward, -corners[:, 1]], -1) + RANGE) / CELL).astype(np.int64)
    low, high = vertex.min(0), vertex.max(0)
    if (high < 0).any() or (low >= CELLS).any():
        return np.zeros((0, 2), np.int64)
    grid = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high)), indexing="ij"), -1)
    cells = np.concatenate([grid.reshape(-1, 2)[_inside(vertex, grid.reshape(-1, 2))], _outline(vertex)])
    return np.unique(cells[((cells >= 0) & (cells < CELLS)).all(1)], axis=0)


def _inside(vertex: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """``[m]`` bool: cell positions within the convex polygon, its edges included."""
    edge = np.roll(vertex, -1, axis=0) - vertex
    way = cells[:, None] - vertex
    cross = edge[:, 0] * way[..., 1] - edge[:, 1] * way[..., 0]
    return (cross >= 0).all(1) | (cross <= 0).all(1)


def _outline(vertex: np.ndarray) -> np.ndarray:
    """Cells of the polygon's edges: 8-connected lines from left to right, ties towards the start, as OpenCV draws."""
    lines = []
    for start, end in zip(vertex, np.roll(vertex, -1, axis=0)):
        if end[1] < start[1]:
            start, end = end, start
        way = end - start
        count = max(int(np.abs(way).max()), 1)
        step = np.arange(count + 1)[:, None] * np.abs(way)
        rounded = -((count - 2 * step) // (2 * count))  # ceil(step / count - 1/2) in whole numbers
        lines.append(start + np.sign(way) * rounded)
    return np.concatenate(lines)


def hits(point: np.ndarray, boxes: np.ndarray, rule: GridRule) -> bool:
    """Whether ego at the point ``[2]`` shares a cell with any of the boxes ``[A, 4, 2]`` (forward, left; m)."""
    near = np.linalg.norm(boxes.mean(1) - point, axis=-1) < 5.0 + 0.5 * np.linalg.norm(
        boxes[:, 0] - boxes[:, 2], axis=-1
    )
    # Cells beyond the rim are clipped onto it, so an ego that has left the grid can meet anything there.
    if np.abs(point).max() > RANGE - 5.0:
        near[:] = True
    own = ego_cells(point, rule)
    own_ids = np.unique(own[:, 0] * CELLS + own[:, 1])
    for corners in boxes[near]:
        cells = box_cells(corners, rule)
        if np.isin(cells[:, 0] * CELLS + cells[:, 1], own_ids).any():
            return True
    return False

"""Boxes in front of a camera: which pixel sees which box first. A depth buffer, all boxes and pixels at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.simulation.lidar_solids import Material, Solids
from eval.simulation.sensing.appearance import leaf_holes

NEAR = 0.2
"""Depth (m) before which nothing is drawn."""
_EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]])


@dataclass(frozen=True)
class Hits:
    """What each pixel of an image sees first, row by row.

    depth ``[H*W]`` float32 m along the optical axis (infinite: nothing). box ``[H*W]`` index, -1: the background is
    nearest. candidate_box, candidate_pixel ``[P]``: every box on every pixel's way, hidden or not.
    """

    depth: np.ndarray
    box: np.ndarray
    candidate_box: np.ndarray
    candidate_pixel: np.ndarray


def first_hits(
    solids: Solids,
    camera_from_global: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    rays: np.ndarray,
    background: np.ndarray,
) -> Hits:
    """Boxes against the rays of a camera.

    rays ``[3, H*W]`` float32: direction per unit of depth, global axes, through the pixels' middles; background
    ``[H*W]`` float32: depth (m) of what is behind all boxes. Rays and boxes meet exactly (slab method, Kay and Kajiya
    1986); leaves are ellipsoids with holes.
    """
    position = np.linalg.inv(camera_from_global)[:3, 3]
    box, pixel = _candidates(solids, camera_from_global, intrinsics, size)
    c, s = np.cos(solids.yaw), np.sin(solids.yaw)
    # An annotated box may have no height at all: a millimetre is as good and can be divided by.
    half = np.maximum(np.c_[solids.half, (solids.top - solids.bottom) / 2], 1e-3)
    away = position - np.c_[solids.centre, (solids.top + solids.bottom) / 2]
    # In a box's own frame, scaled to the cube from -1 to 1.
    origin = np.stack([c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0], away[:, 2]], -1) / half
    turn = np.stack([c / half[:, 0], s / half[:, 0], c / half[:, 1], s / half[:, 1], 1 / half[:, 2]], -1)
    o, m = origin.astype(np.float32)[box].T, turn.astype(np.float32)[box].T
    rx, ry, rz = rays[:, pixel]
    d = (m[0] * rx + m[1] * ry, m[2] * ry - m[3] * rx, m[4] * rz)
    enter, leave = np.full(len(box), -np.inf, np.float32), np.full(len(box), np.inf, np.float32)
    for along, start in zip(d, o):
        step = np.float32(1.0) / np.where(np.abs(along) < 1e-9, np.float32(1e-9), along)
        middle, reach = start * step, np.abs(step)
        np.maximum(enter, -middle - reach, out=enter)
        np.minimum(leave, reach - middle, out=leave)
    hit = (enter < leave) & (enter > NEAR)
    leaves = np.flatnonzero(hit & (solids.material == Material.LEAVES)[box])
    if len(leaves):
        shifted = _leaves(solids, box[leaves], o[:, leaves], np.stack(d)[:, leaves], rays[:, pixel[leaves]], position)
        enter[leaves], hit[leaves] = shifted, np.isfinite(shifted) & (shifted > NEAR)
    seen = np.flatnonzero(hit)
    box, pixel, enter = box[seen], pixel[seen], enter[seen]
    # Bits of positive floats sort like the floats: one minimum finds both depth and box.
    key = (enter.view(np.int32).astype(np.int64) << 32) | box
    nearest = (background.view(np.int32).astype(np.int64) << 32) | 0xFFFFFFFF
    np.minimum.at(nearest, pixel, key)
    depth = (nearest >> 32).astype(np.int32).view(np.float32)
    found = (nearest & 0xFFFFFFFF).astype(np.int64)
    return Hits(depth, np.where(found == 0xFFFFFFFF, -1, found), box, pixel)


def _leaves(
    solids: Solids, box: np.ndarray, o: np.ndarray, d: np.ndarray, ray: np.ndarray, position: np.ndarray
) -> np.ndarray:
    """``[P]`` depth (m) at which rays enter ellipsoids inside the boxes; infinite beside them and through holes."""
    a, b, c = (d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1.0
    inside = b * b - a * c
    depth = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0.0))) / a, np.inf).astype(np.float32)
    place = np.where(np.isfinite(depth), depth, 0.0) * ray + position[:, None].astype(np.float32)
    return np.where(leaf_holes(place.T) < 0.45 * solids.porosity[box], np.float32(np.inf), depth)


def _candidates(
    solids: Solids, camera_from_global: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(box, pixel) pairs ``[P]``: all pixels in the rectangle around each box's picture."""
    height, width = size
    low, high = _rectangles(solids, camera_from_global, intrinsics)
    first = np.ceil(np.clip(low - 0.5, 0, [width, height])).astype(np.int64)
    last = np.floor(np.clip(high - 0.5, -1, [width - 1, height - 1])).astype(np.int64)
    span = np.maximum(last - first + 1, 0)
    count = span.prod(1)
    box = np.repeat(np.arange(len(count), dtype=np.int32), count)
    offset = np.arange(len(box), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    across = span[:, 0].astype(np.int32)[box]
    row, column = np.divmod(offset, across)
    start = (first[:, 1] * width + first[:, 0]).astype(np.int32)
    return box, start[box] + row * np.int32(width) + column


def _rectangles(
    solids: Solids, camera_from_global: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest u, v ``[N, 2]`` of each box's visible part (pixels); inverted where none is."""
    c, s = np.cos(solids.yaw)[:, None], np.sin(solids.yaw)[:, None]
    local = solids.half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    x = solids.centre[:, :1] + c * local[..., 0] - s * local[..., 1]
    y = solids.centre[:, 1:] + s * local[..., 0] + c * local[..., 1]
    corner = np.empty((len(solids), 8, 3))
    corner[:, :4, 0] = corner[:, 4:, 0] = x
    corner[:, :4, 1] = corner[:, 4:, 1] = y
    corner[:, :4, 2], corner[:, 4:, 2] = solids.bottom[:, None], solids.top[:, None]
    seen = corner @ camera_from_global[:3, :3].T + camera_from_global[:3, 3]
    ahead = seen[..., 2] > NEAR
    # Edges that pass the near plane end there.
    a, b = seen[:, _EDGES[:, 0]], seen[:, _EDGES[:, 1]]
    cut = (a[..., 2] > NEAR) != (b[..., 2] > NEAR)
    share = (NEAR - a[..., 2]) / np.where(cut, b[..., 2] - a[..., 2], 1.0)
    points = np.concatenate([seen, a + share[..., None] * (b - a)], 1)
    kept = np.concatenate([ahead, cut], 1)
    pixel = points @ intrinsics.T
    pixel = pixel[..., :2] / np.where(kept, points[..., 2], 1.0)[..., None]
    low = np.where(kept[..., None], pixel, np.inf).min(1)
    high = np.where(kept[..., None], pixel, -np.inf).max(1)
    return np.clip(low, -1e6, 1e6), np.clip(high, -1e6, 1e6)

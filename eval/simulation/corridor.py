"""Who stands in whose way: boxes against the strips of ground that vehicles are about to cover.

A corridor is cut into short oriented rectangles ("slices"). Whether a box touches a slice is decided
exactly by the separating axis theorem, for all pairs at once.
"""

from __future__ import annotations

import numpy as np

_FINE = 8  # sub-slices of the first slice that is touched


def rectangles_touch(a: np.ndarray, a_half: np.ndarray, b: np.ndarray, b_half: np.ndarray) -> np.ndarray:
    """Whether oriented rectangles overlap or touch.

    a, b ``[..., 3]``: centre x, y (m), yaw (rad). a_half, b_half ``[..., 2]``: half length and half width (m).
    Leading axes broadcast. Separating axis theorem in two dimensions: disjoint iff one of the four edge directions
    separates.
    """
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    ca, sa, cb, sb = np.cos(a[..., 2]), np.sin(a[..., 2]), np.cos(b[..., 2]), np.sin(b[..., 2])
    c, s = np.abs(ca * cb + sa * sb), np.abs(ca * sb - sa * cb)
    al, aw, bl, bw = a_half[..., 0], a_half[..., 1], b_half[..., 0], b_half[..., 1]
    return (
        (np.abs(ca * dx + sa * dy) <= al + bl * c + bw * s)
        & (np.abs(ca * dy - sa * dx) <= aw + bl * s + bw * c)
        & (np.abs(cb * dx + sb * dy) <= bl + al * c + aw * s)
        & (np.abs(cb * dy - sb * dx) <= bw + al * s + aw * c)
    )


def first_contact(
    slices: np.ndarray,
    slice_half_length: np.ndarray,
    half_width: np.ndarray,
    row: np.ndarray,
    box: np.ndarray,
    box_half: np.ndarray,
) -> np.ndarray:
    """``[P]`` metres from a corridor's start to where a box first intrudes; infinite if it does not.

    slices ``[R, K, 3]``: centre and direction of the K slices of R corridors. slice_half_length ``[R]``.
    For P pairs: row ``[P]`` which corridor, half_width ``[P]`` of the corridor for this pair, box ``[P, 3]``,
    box_half ``[P, 2]``. The answer is exact to an eighth of a slice.
    """
    result = np.full(len(row), np.inf)
    if not len(row):
        return result
    half = np.stack(np.broadcast_arrays(slice_half_length[row], half_width), -1)
    away = slices[row, :, :2] - box[:, None, :2]
    within = np.hypot(half[:, 0], half[:, 1]) + np.hypot(box_half[:, 0], box_half[:, 1])
    touches = away[..., 0] ** 2 + away[..., 1] ** 2 <= within[:, None] ** 2
    p, k = np.nonzero(touches)
    touches[p, k] = rectangles_touch(slices[row[p], k], half[p], box[p], box_half[p])
    hit = np.flatnonzero(touches.any(1))
    if not len(hit):
        return result
    k = np.argmax(touches[hit], axis=1)
    coarse = slices[row[hit], k]
    length = slice_half_length[row[hit]] * 2
    offset = ((np.arange(_FINE) + 0.5) / _FINE - 0.5) * length[:, None]
    fine = np.stack(
        [
            coarse[:, None, 0] + offset * np.cos(coarse[:, None, 2]),
            coarse[:, None, 1] + offset * np.sin(coarse[:, None, 2]),
            np.broadcast_to(coarse[:, None, 2], offset.shape),
        ],
        -1,
    )
    fine_half = half[hit] * np.array([1 / _FINE, 1.0])
    first = np.argmax(rectangles_touch(fine, fine_half[:, None], box[hit, None], box_half[hit, None]), axis=1)
    result[hit] = (k + first / _FINE) * length
    return result


def near_pairs(slices: np.ndarray, reach: np.ndarray, box: np.ndarray, box_half: np.ndarray) -> np.ndarray:
    """``[R, B]`` bool: the bounding rectangle of a corridor, grown by reach ``[R]`` (m), holds a part of the box."""
    low, high = slices[..., :2].min(1) - reach[:, None], slices[..., :2].max(1) + reach[:, None]
    radius = np.hypot(box_half[:, 0], box_half[:, 1])[:, None]
    return ((low[:, None] <= box[None, :, :2] + radius[None]) & (high[:, None] >= box[None, :, :2] - radius[None])).all(
        -1
    )

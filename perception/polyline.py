"""Plain polyline geometry on ``[n, 2]`` arrays (m), shared by the map readers and the router."""

from __future__ import annotations

import numpy as np


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle (rad) mapped to [-pi, pi)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def arc_length(xy: np.ndarray) -> np.ndarray:
    """``[n]`` metres along the polyline, starting at 0."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])


def heading(xy: np.ndarray) -> np.ndarray:
    """``[n]`` rad: direction at each point, from the central difference of its neighbours."""
    step = np.gradient(xy, axis=0)
    return np.arctan2(step[:, 1], step[:, 0])


def without_repeats(xy: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """The polyline without points closer than `tolerance` (m) to the one before. Keeps first and last point."""
    kept = [0]
    for i in range(1, len(xy)):
        if np.hypot(*(xy[i] - xy[kept[-1]])) > tolerance:
            kept.append(i)
    if len(kept) > 1 and kept[-1] != len(xy) - 1:
        kept[-1] = len(xy) - 1
    return xy[kept]


def at_arc_length(xy: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Points ``[..., 2]`` at the given metres along the polyline, held at its ends."""
    along = arc_length(xy)
    return np.stack([np.interp(s, along, xy[:, 0]), np.interp(s, along, xy[:, 1])], -1)


def resample(xy: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """The polyline at equal steps of about `spacing` (m), both ends kept."""
    xy = without_repeats(xy)
    length = arc_length(xy)[-1]
    return at_arc_length(xy, np.linspace(0.0, length, max(int(np.ceil(length / spacing)), 1) + 1))


def project(xy: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place on a polyline ``[n, 2]`` for each of ``[m, 2]`` points.

    Returns (s, d), each ``[m]``: metres along the polyline, and signed distance (m), left positive.
    """
    start, step = xy[:-1], np.diff(xy, axis=0)
    length_sq = np.maximum((step**2).sum(1), 1e-12)
    offset = points[:, None] - start[None]
    share = np.clip((offset * step).sum(-1) / length_sq, 0.0, 1.0)
    away = offset - share[..., None] * step
    distance_sq = (away**2).sum(-1)
    k = distance_sq.argmin(1)
    m = np.arange(len(points))
    s = arc_length(xy)[k] + share[m, k] * np.sqrt(length_sq[k])
    side = np.sign(step[k, 0] * away[m, k, 1] - step[k, 1] * away[m, k, 0])
    return s, np.where(side == 0, 1.0, side) * np.sqrt(distance_sq[m, k])

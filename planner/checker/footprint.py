"""Exact footprint geometry: oriented rectangles at rest and swept between two time steps.

A *sweep* is the convex hull of one rectangle at two consecutive poses, widened by a disc that
covers how far a corner can leave the straight line between its two positions. A *box* is an
oriented rectangle, also widened by a disc. Distances come from the separating axis theorem.

Separation is signed: positive is a lower bound of the distance (exact when the nearest features
are a corner and an edge), negative is exactly minus the smallest translation that separates.
`sweep_box_distance` gives the exact distance. All arrays are float64; pairs are vectorised as
``P`` index pairs, chosen by the caller's broad phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_CORNER_SIGNS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])  # counter-clockwise
_NEXT = np.array([1, 2, 3, 0])
_TINY = 1e-12
_PAIRS = np.array([(i, j) for i in range(8) for j in range(8) if i != j])
_STARTS = np.arange(56).reshape(8, 7)  # rows of _PAIRS that start at corner i


@dataclass(frozen=True)
class Boxes:
    """Oriented rectangles of any leading shape ``...``, each widened by a disc.

    center ``[..., 2]`` m; axis ``[..., 2]`` unit vector of the length direction; half ``[..., 2]``
    half length and half width, m; disc ``[...]`` m.
    """

    center: np.ndarray
    axis: np.ndarray
    half: np.ndarray
    disc: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """``[...]`` m: radius of the circle around the centre that holds the widened box."""
        return np.hypot(self.half[..., 0], self.half[..., 1]) + self.disc

    def take(self, index: tuple[np.ndarray, ...] | np.ndarray) -> Boxes:
        """The boxes at `index` into the leading axes."""
        return Boxes(self.center[index], self.axis[index], self.half[index], self.disc[index])

    @property
    def corners(self) -> np.ndarray:
        """``[..., 4, 2]`` corners without the disc, counter-clockwise."""
        normal = np.stack([-self.axis[..., 1], self.axis[..., 0]], -1)
        offset = _CORNER_SIGNS * self.half[..., None, :]
        return (
            self.center[..., None, :]
            + offset[..., 0:1] * self.axis[..., None, :]
            + offset[..., 1:2] * normal[..., None, :]
        )


@dataclass(frozen=True)
class Sweeps:
    """``K`` swept rectangles.

    points ``[K, 8, 2]`` corners of the hull, counter-clockwise, some repeated; edge ``[K, 8, 2, 2]`` from
    each to the next; normal ``[K, 8, 2]`` outward unit normals and support ``[K, 8]`` the hull's extent along
    them (zero and inf for an edge without length); disc ``[K]``; center ``[K, 2]``, reach ``[K]``: enclosing
    circle, disc included.
    """

    points: np.ndarray
    normal: np.ndarray
    support: np.ndarray
    edge: np.ndarray
    disc: np.ndarray
    center: np.ndarray
    reach: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


def boxes_from_poses(
    pose: np.ndarray, length: np.ndarray | float, width: np.ndarray | float, forward: float = 0.0
) -> Boxes:
    """Rectangles centred `forward` metres ahead of the poses ``[..., 3]`` (x m, y m, yaw rad)."""
    axis = np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1)
    shape = pose.shape[:-1]
    half = np.stack([np.broadcast_to(length, shape) / 2, np.broadcast_to(width, shape) / 2], -1)
    return Boxes(pose[..., :2] + forward * axis, axis, half, np.zeros(shape))


def sweep(corners: np.ndarray, disc: np.ndarray) -> Sweeps:
    """Hulls of consecutive rectangles: corners ``[K + 1, 4, 2]`` counter-clockwise, disc ``[K]`` m."""
    points = np.concatenate([corners[:-1], corners[1:]], 1)
    # A corner is on the hull if some line through it and another corner has nothing on its right.
    start, end = points[:, _PAIRS[:, 0]], points[:, _PAIRS[:, 1]]
    normal = _outward(end - start)
    outside = _extent(normal, points) - (normal[..., 0] * start[..., 0] + normal[..., 1] * start[..., 1])
    real = (outside < 1e-9) & ((normal[..., 0] != 0) | (normal[..., 1] != 0))
    on_hull = real[:, _STARTS].any(-1)
    # Corners inside are moved onto one on the hull; edges without length are ignored below.
    spare = points[np.arange(len(points)), on_hull.argmax(1)]
    ring = np.where(on_hull[..., None], points, spare[:, None])
    center = points.mean(1)
    angle = np.arctan2(ring[..., 1] - center[:, 1:2], ring[..., 0] - center[:, 0:1])
    ring = np.take_along_axis(ring, angle.argsort(1)[..., None], 1)
    edge = np.stack([ring, np.roll(ring, -1, 1)], 2)
    normal = _outward(edge[:, :, 1] - edge[:, :, 0])
    support = np.where((normal != 0).any(-1), _extent(normal, points), np.inf)
    reach = np.hypot(points[..., 0] - center[:, 0:1], points[..., 1] - center[:, 1:2]).max(-1) + disc
    return Sweeps(ring, normal, support, edge, disc, center, reach)


def _extent(normal: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``[K, E]``: largest projection of the points ``[K, P, 2]`` on each normal ``[K, E, 2]``."""
    nx, ny = np.ascontiguousarray(normal[..., 0]), np.ascontiguousarray(normal[..., 1])
    extent = nx * points[:, 0:1, 0] + ny * points[:, 0:1, 1]
    # A loop over the few points is several times faster than one reduction over a short axis.
    for p in range(1, points.shape[1]):
        np.maximum(extent, nx * points[:, p : p + 1, 0] + ny * points[:, p : p + 1, 1], out=extent)
    return extent


def _outward(direction: np.ndarray) -> np.ndarray:
    """Unit normals on the right of the directions ``[..., 2]``; zero where the direction is zero."""
    size = np.hypot(direction[..., 0], direction[..., 1])
    scale = np.where(size > 1e-9, 1.0 / np.maximum(size, _TINY), 0.0)
    return np.stack([direction[..., 1] * scale, -direction[..., 0] * scale], -1)


def sweep_box_separation(sweeps: Sweeps, k: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Signed separation ``[P]`` (m) of sweep k[p] from box p, discs included."""
    nx, ny = sweeps.normal[k, :, 0], sweeps.normal[k, :, 1]
    ax, ay = boxes.axis[:, 0:1], boxes.axis[:, 1:2]
    half_length, half_width = boxes.half[:, 0:1], boxes.half[:, 1:2]
    best = nx * boxes.center[:, 0:1] + ny * boxes.center[:, 1:2] - sweeps.support[k]
    best -= np.abs(nx * ax + ny * ay) * half_length + np.abs(ny * ax - nx * ay) * half_width
    x = sweeps.points[k, :, 0] - boxes.center[:, 0:1]
    y = sweeps.points[k, :, 1] - boxes.center[:, 1:2]
    along, across = x * ax + y * ay, y * ax - x * ay
    return np.maximum.reduce(
        [
            best.max(1),
            np.maximum(along.min(1), -along.max(1)) - half_length[:, 0],
            np.maximum(across.min(1), -across.max(1)) - half_width[:, 0],
        ]
    ) - (sweeps.disc[k] + boxes.disc)


def sweep_box_distance(sweeps: Sweeps, k: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Exact signed distance ``[P]`` (m): the separation where negative, else the Euclidean distance."""
    disc = sweeps.disc[k] + boxes.disc
    bare = sweep_box_separation(sweeps, k, boxes) + disc
    corners = boxes.corners
    sides = np.stack([corners, corners[:, _NEXT]], 2)
    apart = np.minimum(_points_to_segments(corners, sweeps.edge[k]), _points_to_segments(sweeps.points[k], sides))
    return np.where(bare > 0, apart, bare) - disc


def sweep_segment_separation(sweeps: Sweeps, k: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Signed separation ``[P]`` (m) of sweep k[p] from the line segment ``segment[p]`` (``[P, 2, 2]``)."""
    nx, ny, support = sweeps.normal[k, :, 0], sweeps.normal[k, :, 1], sweeps.support[k]
    first = nx * segment[:, 0, 0:1] + ny * segment[:, 0, 1:2]
    second = nx * segment[:, 1, 0:1] + ny * segment[:, 1, 1:2]
    best = (np.minimum(first, second) - support).max(1)
    across = _outward(segment[:, 1] - segment[:, 0])
    x = sweeps.points[k, :, 0] - segment[:, 0, 0:1]
    y = sweeps.points[k, :, 1] - segment[:, 0, 1:2]
    offset = x * across[:, 0:1] + y * across[:, 1:2]
    return np.maximum(best, np.maximum(offset.min(1), -offset.max(1))) - sweeps.disc[k]


def sweep_segment_distance(sweeps: Sweeps, k: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Exact signed distance ``[P]`` (m) of sweep k[p] from ``segment[p]``."""
    bare = sweep_segment_separation(sweeps, k, segment) + sweeps.disc[k]
    apart = np.minimum(
        _points_to_segments(segment, sweeps.edge[k]), _points_to_segments(sweeps.points[k], segment[:, None])
    )
    return np.where(bare > 0, apart, bare) - sweeps.disc[k]


def settle(gap: np.ndarray, decides_below: float, exact: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replace separations ``[P]`` by exact distances wherever that can change the minimum or a verdict.

    exact: index array -> exact distances. A separation is a lower bound and exact where negative, so only
    pairs below `decides_below` (m), or below the exact distance of the pair that looks nearest, matter.
    """
    if not len(gap):
        return gap
    nearest = np.array([int(gap.argmin())])
    bound = max(decides_below, float(exact(nearest)[0]))
    unsure = np.flatnonzero((gap >= 0) & (gap <= bound))
    gap[unsure] = exact(unsure)
    return gap


def _points_to_segments(point: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Smallest distance ``[P]`` between points ``[P, V, 2]`` and segments ``[P, E, 2, 2]``."""
    start, along = segment[:, :, 0], segment[:, :, 1] - segment[:, :, 0]
    ax, ay = along[:, None, :, 0], along[:, None, :, 1]
    x = point[:, :, None, 0] - start[:, None, :, 0]
    y = point[:, :, None, 1] - start[:, None, :, 1]
    u = np.clip((x * ax + y * ay) / np.maximum(ax * ax + ay * ay, _TINY), 0.0, 1.0)
    x, y = x - u * ax, y - u * ay
    return np.sqrt((x * x + y * y).min((1, 2)))


def chord_bulge(duration: np.ndarray, perpendicular_acceleration: np.ndarray) -> np.ndarray:
    """How far a point leaves the chord of its path within a step: h^2/8 times its acceleration across the chord.

    Error bound of linear interpolation, with the largest acceleration in the step.
    """
    return duration**2 / 8 * perpendicular_acceleration

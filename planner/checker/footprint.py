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
_PREVIOUS = np.array([3, 0, 1, 2])
_TINY = 1e-12
_FLUSH = 1e-10  # m: what sticks out by less is taken to be flush, so that straight motion has the edges it should
_EDGES = 8
_SETTLED = 4  # pairs whose exact distance is computed first, because one of them is likely the nearest


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

    def joined(self, other: Boxes) -> Boxes:
        """These, then the others, along the first axis."""
        join = lambda one, two: np.concatenate([one, two])  # noqa: E731
        return Boxes(
            join(self.center, other.center), join(self.axis, other.axis), join(self.half, other.half),
            join(self.disc, other.disc),
        )  # fmt: skip

    @property
    def corners(self) -> np.ndarray:
        """``[..., 4, 2]`` corners without the disc, counter-clockwise."""
        ax, ay = self.axis[..., 0:1], self.axis[..., 1:2]
        along, across = _CORNER_SIGNS[:, 0] * self.half[..., 0:1], _CORNER_SIGNS[:, 1] * self.half[..., 1:2]
        found = np.empty((*self.center.shape[:-1], 4, 2))
        found[..., 0] = self.center[..., 0:1] + along * ax - across * ay
        found[..., 1] = self.center[..., 1:2] + along * ay + across * ax
        return found


@dataclass(frozen=True)
class Sweeps:
    """``K`` swept rectangles.

    points ``[K, 8, 2]``: corners of both rectangles; edge ``[K, E, 2, 2]``: the sides of their hull, counter-clockwise,
    then repetitions of the first; normal ``[K, E, 2]`` outward unit normals and support ``[K, E]`` the hull's extent
    along them (zero and inf for an edge without length); disc ``[K]``; center ``[K, 2]``, reach ``[K]``: enclosing
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

    def part(self, rows: slice) -> Sweeps:
        """Some of them."""
        return Sweeps(
            self.points[rows], self.normal[rows], self.support[rows], self.edge[rows], self.disc[rows],
            self.center[rows], self.reach[rows],
        )  # fmt: skip


def boxes_from_poses(
    pose: np.ndarray, length: np.ndarray | float, width: np.ndarray | float, forward: float = 0.0
) -> Boxes:
    """Rectangles centred `forward` metres ahead of the poses ``[..., 3]`` (x m, y m, yaw rad)."""
    axis, half = np.empty((*pose.shape[:-1], 2)), np.empty((*pose.shape[:-1], 2))
    axis[..., 0], axis[..., 1] = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    half[..., 0], half[..., 1] = length, width
    return Boxes(pose[..., :2] + forward * axis, axis, half / 2, np.zeros(pose.shape[:-1]))


def sweep(corners: np.ndarray, disc: np.ndarray) -> Sweeps:
    """Hulls of consecutive rectangles: corners ``[K + 1, 4, 2]`` counter-clockwise, disc ``[K]`` m."""
    return hulls(corners[:-1], corners[1:], disc)


def standing(corners: np.ndarray) -> Sweeps:
    """Rectangles ``[K, 4, 2]`` that stay where they are, without a disc."""
    points = np.concatenate([corners, corners], 1)
    edge = np.stack([points, points[:, [1, 2, 3, 0, 1, 2, 3, 0]]], 2)
    normal = _outward(edge[:, :, 1] - edge[:, :, 0])
    there = (normal[..., 0] != 0) | (normal[..., 1] != 0)
    support = np.where(there, _extent(normal, corners), np.inf)
    center = corners.mean(1)
    reach = np.hypot(corners[..., 0] - center[:, 0:1], corners[..., 1] - center[:, 1:2]).max(-1)
    return Sweeps(points, normal, support, edge, np.zeros(len(corners)), center, reach)


def hulls(first: np.ndarray, second: np.ndarray, disc: np.ndarray) -> Sweeps:
    """Hulls of pairs of rectangles: corners ``[K, 4, 2]`` counter-clockwise, disc ``[K]`` m.

    The eight side normals of a pair in angular order: p0, q0, p1, q1, ... A side is on the hull where its rectangle
    reaches as far along its normal as the other one; between two neighbouring normals that different rectangles win,
    a bridge leads from the winner's corner there to the other's.
    """
    points = np.concatenate([first, second], 1)
    p, q = _interleaved(first, second)
    p_next, q_next = p[:, _NEXT], q[:, _NEXT]
    p_side, q_side = _outward(p_next - p), _outward(q_next - q)
    to_q, to_next = q - p, q - p_next
    # Whether p reaches farther along its own normals, and along those of q.
    p_own = p_side[..., 0] * to_q[..., 0] + p_side[..., 1] * to_q[..., 1] < _FLUSH
    p_wins = q_side[..., 0] * to_next[..., 0] + q_side[..., 1] * to_next[..., 1] < _FLUSH
    after = p_own[:, _NEXT]
    # Slots in angular order: side of p, bridge, side of q, bridge; start and end of each.
    k = len(p)
    on, edge = np.empty((k, 4, 4), bool), np.empty((k, 4, 4, 2, 2))
    on[..., 0], on[..., 1], on[..., 2], on[..., 3] = p_own, p_own != p_wins, ~p_wins, p_wins != after
    edge[:, :, 0, 0], edge[:, :, 0, 1] = p, p_next
    leaves = p_own[..., None]
    edge[:, :, 1, 0], edge[:, :, 1, 1] = np.where(leaves, p_next, q), np.where(leaves, q, p_next)
    edge[:, :, 2, 0], edge[:, :, 2, 1] = q, q_next
    leaves = p_wins[..., None]
    edge[:, :, 3, 0], edge[:, :, 3, 1] = np.where(leaves, p_next, q_next), np.where(leaves, q_next, p_next)
    # At most eight of the sixteen are on the hull: those, then the first one again until there are eight.
    row, slot = np.nonzero(on.reshape(k, 16))
    begin = np.searchsorted(row, np.arange(k))
    place = np.arange(len(row)) - begin[row]
    edge = edge.reshape(k, 16, 2, 2)[row, slot]
    hull = np.repeat(edge[begin][:, None], max(_EDGES, int(place.max(initial=0)) + 1), 1)
    hull[row, place] = edge
    edge = hull
    normal = _outward(edge[:, :, 1] - edge[:, :, 0])
    support = np.where((normal[..., 0] != 0) | (normal[..., 1] != 0), _extent(normal, points), np.inf)
    center = points.mean(1)
    reach = np.hypot(points[..., 0] - center[:, 0:1], points[..., 1] - center[:, 1:2]).max(-1) + disc
    return Sweeps(points, normal, support, edge, disc, center, reach)


def _interleaved(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs, named so that the second of each is turned by 0 to 45 degrees counter-clockwise."""
    one, two = first[:, 0] - first[:, 1], second[:, 0] - second[:, 1]
    turn = np.arctan2(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0], (one * two).sum(1))
    quarters = np.rint(turn / (np.pi / 2)).astype(np.int64)
    if quarters.any():
        second = second[np.arange(len(second))[:, None], (np.arange(4) - quarters[:, None]) % 4]
    back = (turn < quarters * (np.pi / 2))[:, None, None]
    return np.where(back, second, first), np.where(back, first, second)


def _extent(normal: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``[K, E]``: largest projection of the points ``[K, P, 2]`` on each normal ``[K, E, 2]``."""
    along = points[:, :, None, 0] * normal[:, None, :, 0] + points[:, :, None, 1] * normal[:, None, :, 1]
    return along.max(1)  # type: ignore[no-any-return]


def _outward(direction: np.ndarray) -> np.ndarray:
    """Unit normals on the right of the directions ``[..., 2]``; zero where the direction is zero."""
    size = np.hypot(direction[..., 0], direction[..., 1])
    scale = np.where(size > 1e-9, 1.0 / np.maximum(size, _TINY), 0.0)
    normal = np.empty(direction.shape)
    normal[..., 0], normal[..., 1] = direction[..., 1] * scale, -direction[..., 0] * scale
    return normal


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
    return np.where(bare > 0, sweep_box_gap(sweeps, k, boxes), bare - disc)


def sweep_box_gap(sweeps: Sweeps, k: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Euclidean distance ``[P]`` (m) of sweep k[p] from box p, less the discs, for pairs apart without them."""
    corners = boxes.corners
    sides = np.empty((len(k), 4, 2, 2))
    sides[:, :, 0], sides[:, :, 1] = corners, corners[:, _NEXT]
    apart = np.minimum(_points_to_segments(corners, sweeps.edge[k]), _points_to_segments(sweeps.points[k], sides))
    return apart - (sweeps.disc[k] + boxes.disc)


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
    return np.where(bare > 0, sweep_segment_gap(sweeps, k, segment), bare - sweeps.disc[k])


def sweep_segment_gap(sweeps: Sweeps, k: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Euclidean distance ``[P]`` (m) of sweep k[p] from ``segment[p]``, less the disc, for pairs apart without it."""
    apart = np.minimum(
        _points_to_segments(segment, sweeps.edge[k]), _points_to_segments(sweeps.points[k], segment[:, None])
    )
    return apart - sweeps.disc[k]


def settle(gap: np.ndarray, decides_below: float, exact: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replace separations ``[P]`` by exact distances wherever that can change the minimum or a verdict.

    exact: index array -> exact distances of pairs that are apart. A separation is a lower bound and exact where
    negative, so only pairs below `decides_below` (m), or below the smallest exact distance, matter.
    """
    apart = np.flatnonzero(gap >= 0)
    if not len(apart):
        return gap
    lower = gap[apart]
    first = apart[np.argpartition(lower, _SETTLED)[:_SETTLED]] if len(apart) > _SETTLED else apart
    gap[first] = exact(first)
    bound = max(decides_below, float(gap[first].min()))
    # A settled pair must not be asked for again: it is at its own distance, not at the bound below it.
    open_ones = lower <= bound
    open_ones[np.searchsorted(apart, first)] = False
    if open_ones.any():
        unsure = apart[open_ones]
        gap[unsure] = exact(unsure)
    return gap


def _points_to_segments(point: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Smallest distance ``[P]`` between points ``[P, V, 2]`` and segments ``[P, E, 2, 2]``."""
    start, along = segment[:, :, 0], segment[:, :, 1] - segment[:, :, 0]
    ax, ay = along[:, None, :, 0], along[:, None, :, 1]
    x = point[:, :, None, 0] - start[:, None, :, 0]
    y = point[:, :, None, 1] - start[:, None, :, 1]
    u = np.minimum(np.maximum((x * ax + y * ay) / np.maximum(ax * ax + ay * ay, _TINY), 0.0), 1.0)
    x, y = x - u * ax, y - u * ay
    return np.sqrt((x * x + y * y).min((1, 2)))


def chord_bulge(duration: np.ndarray, perpendicular_acceleration: np.ndarray) -> np.ndarray:
    """How far a point leaves the chord of its path within a step: h^2/8 times its acceleration across the chord.

    Error bound of linear interpolation, with the largest acceleration in the step.
    """
    return duration**2 / 8 * perpendicular_acceleration

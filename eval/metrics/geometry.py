"""Exact geometry of oriented rectangles and polylines, vectorised in numpy.

Corners are ordered front left, rear left, rear right, front right. Shares no code with the
planner's or the checker's geometry, so that a mistake there cannot hide itself here.
"""

from __future__ import annotations

import numpy as np

from planner.scene import VehicleParameters

_CORNER_SIGNS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def box_corners(pose: np.ndarray, length: np.ndarray | float, width: np.ndarray | float) -> np.ndarray:
    """Corners ``[..., 4, 2]`` of rectangles centred at pose ``[..., 3]`` (x m, y m, yaw rad)."""
    half = 0.5 * np.stack(np.broadcast_arrays(length, width), -1)
    local = _CORNER_SIGNS * half[..., None, :]
    c, s = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    x = c[..., None] * local[..., 0] - s[..., None] * local[..., 1]
    y = s[..., None] * local[..., 0] + c[..., None] * local[..., 1]
    return np.stack([x, y], -1) + pose[..., None, :2]


def ego_center(pose: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Pose ``[..., 3]`` of the ego box centre from that of the rear axle."""
    direction = np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1)
    return np.concatenate([pose[..., :2] + vehicle.rear_axle_to_center * direction, pose[..., 2:3]], -1)


def ego_corners(pose: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Corners ``[..., 4, 2]`` of the ego box from the rear-axle pose ``[..., 3]``."""
    return box_corners(ego_center(pose, vehicle), vehicle.length, vehicle.width)


def boxes_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether rectangles with corners a, b ``[..., 4, 2]`` share a point; touching counts.

    Separating axes: two convex shapes are disjoint if and only if the normal of one edge
    separates them; rectangles have two edge directions each.
    """
    overlap = np.ones(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), bool)
    for corners in (a, b):
        for i in (0, 1):
            axis = corners[..., i, :] - corners[..., i + 1, :]
            on_a = np.einsum("...kd,...d->...k", a, axis)
            on_b = np.einsum("...kd,...d->...k", b, axis)
            overlap &= (on_a.max(-1) >= on_b.min(-1)) & (on_b.max(-1) >= on_a.min(-1))
    return overlap


def segment_meets_box(start: np.ndarray, end: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether segments ``[..., 2]`` to ``[..., 2]`` meet rectangles with corners ``[..., 4, 2]``."""
    degenerate = np.stack([start, end, end, start], -2)
    direction = end - start
    normal = np.stack([-direction[..., 1], direction[..., 0]], -1)
    overlap = np.ones(np.broadcast_shapes(start.shape[:-1], box.shape[:-2]), bool)
    axes = [direction, normal, box[..., 0, :] - box[..., 1, :], box[..., 1, :] - box[..., 2, :]]
    for axis in axes:
        on_a = np.einsum("...kd,...d->...k", degenerate, axis)
        on_b = np.einsum("...kd,...d->...k", box, axis)
        overlap &= (on_a.max(-1) >= on_b.min(-1)) & (on_b.max(-1) >= on_a.min(-1))
    return overlap


def _points_to_edges(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Smallest distance (m) ``[...]`` from points ``[..., 4, 2]`` to the outline of boxes ``[..., 4, 2]``."""
    start, end = box, np.roll(box, -1, axis=-2)
    edge = (end - start)[..., None, :, :]
    offset = points[..., :, None, :] - start[..., None, :, :]
    length2 = np.maximum((edge**2).sum(-1), 1e-12)
    along = np.clip((offset * edge).sum(-1) / length2, 0.0, 1.0)
    return np.linalg.norm(offset - along[..., None] * edge, axis=-1).min((-1, -2))


def box_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance (m) ``[...]`` between rectangles with corners ``[..., 4, 2]``; 0 where they overlap."""
    apart = np.minimum(_points_to_edges(a, b), _points_to_edges(b, a))
    return np.where(boxes_overlap(a, b), 0.0, apart)


def bearing(pose: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Angle (rad, 0 to pi) ``[...]`` between the heading of pose ``[..., 3]`` and the way to xy ``[..., 2]``."""
    way = xy - pose[..., :2]
    cross = np.cos(pose[..., 2]) * way[..., 1] - np.sin(pose[..., 2]) * way[..., 0]
    along = np.cos(pose[..., 2]) * way[..., 0] + np.sin(pose[..., 2]) * way[..., 1]
    return np.abs(np.arctan2(cross, along))


def arc_length(xy: np.ndarray) -> np.ndarray:
    """Metres ``[n]`` along a polyline ``[n, 2]``."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])


def project(xy: np.ndarray, line: np.ndarray, s: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Arc length (m) and distance (m), each ``[m]``, of the nearest point of a polyline ``[n, 2]`` to xy ``[m, 2]``."""
    s = arc_length(line) if s is None else s
    start, edge = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum((edge**2).sum(-1), 1e-12)
    offset = xy[:, None, :] - start
    along = np.clip((offset * edge).sum(-1) / length2, 0.0, 1.0)
    distance = np.linalg.norm(offset - along[..., None] * edge, axis=-1)
    best = distance.argmin(1)
    rows = np.arange(len(xy))
    return s[best] + along[rows, best] * np.sqrt(length2[best]), distance[rows, best]


def follow(xy: np.ndarray, line: np.ndarray, reach: float = 15.0) -> np.ndarray:
    """Arc length (m) ``[m]`` of a moving point ``[m, 2]`` along a polyline.

    Each projection is searched within `reach` metres (plus the distance moved) of the one
    before, so that a route which crosses or nears itself does not make the point jump.
    """
    s = arc_length(line)
    result = np.empty(len(xy))
    result[0] = project(xy[:1], line, s)[0][0]
    moved = np.linalg.norm(np.diff(xy, axis=0), axis=1)
    for k in range(1, len(xy)):
        near = reach + moved[k - 1]
        low = max(int(np.searchsorted(s, result[k - 1] - near)) - 1, 0)
        high = min(int(np.searchsorted(s, result[k - 1] + near)) + 1, len(line))
        piece = slice(low, max(high, low + 2))
        result[k] = project(xy[k : k + 1], line[piece], s[piece])[0][0]
    return result

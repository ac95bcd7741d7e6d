"""Rays against upright boxes: which may meet, and where they do."""

from __future__ import annotations

import numpy as np

from eval.simulation.lidar_solids import Solids


def candidates(
    boxes: Solids, ego_from_lidar: np.ndarray, columns: int, period: float, v: float, yaw_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """(box, column) pairs ``[P]``: the columns of a turn that may meet each box at any of their rings.

    Boxes in the ego frame at the end of the turn; ego_from_lidar ``[4, 4]``; period (s) of the turn, v (m/s) and
    yaw_rate (rad/s) of the ego. Pairs may be too many, never too few.
    """
    away = boxes.centre - ego_from_lidar[:2, 3]
    radius = np.hypot(*boxes.half.T)
    gap = np.maximum(np.hypot(*away.T) - radius, 1e-3)
    middle = np.arctan2(away[:, 1], away[:, 0])
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    local = boxes.half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    corner = away[:, None] + np.stack(
        [c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]], -1
    )
    angle = np.arctan2(corner[..., 1], corner[..., 0]) - middle[:, None]
    spread = np.abs(angle - 2 * np.pi * np.round(angle / (2 * np.pi))).max(1)
    # What moves during the turn is met under another angle; a tilted sensor's columns are no planes of one azimuth.
    moved = (abs(v) + np.hypot(*boxes.velocity.T)) * period
    tilt = np.arccos(np.clip(ego_from_lidar[2, 2], -1, 1))
    spread = spread + np.arctan2(moved, gap) + abs(yaw_rate) * period + tilt + 0.01
    # A sensor beside or above a long box sees it all around.
    spread = np.where(gap < 0.3 + moved, np.where(_inside(away, boxes, 0.5 + moved), np.pi, spread + 0.3), spread)
    facing = ego_from_lidar[:2, :2] @ np.array([-1.0, 0.0])  # the first column looks along -x of the sensor
    start = np.arctan2(facing[1], facing[0])
    per = columns / (2 * np.pi)
    first = np.floor((start - middle - spread) * per).astype(int)
    count = np.minimum(np.ceil(2 * spread * per).astype(int) + 2, columns)
    which = np.repeat(np.arange(len(boxes)), count)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, (first[which] + offset) % columns


def through_box(
    o: np.ndarray,
    height: np.ndarray,
    d: np.ndarray,
    yaw: np.ndarray,
    half: np.ndarray,
    low: np.ndarray,
    top: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays enter and leave their boxes ``[P, R]`` (no hit: enter >= leave), and the cosine of incidence.

    o ``[P, 2]`` from the box's centre, height ``[P]``, d ``[P, R, 3]``; slab method (Kay and Kajiya 1986).
    """
    c, s = np.cos(yaw), np.sin(yaw)
    ox, oy = c * o[:, 0] + s * o[:, 1], c * o[:, 1] - s * o[:, 0]
    dx = c[:, None] * d[..., 0] + s[:, None] * d[..., 1]
    dy = c[:, None] * d[..., 1] - s[:, None] * d[..., 0]
    dz = d[..., 2]
    tiny = np.float32(1e-9)

    def slab(along: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = np.float32(1.0) / np.where(np.abs(along) < tiny, tiny, along)
        a, b = first[:, None] * step, last[:, None] * step
        return np.minimum(a, b), np.maximum(a, b)

    x_in, x_out = slab(dx, -half[:, 0] - ox, half[:, 0] - ox)
    y_in, y_out = slab(dy, -half[:, 1] - oy, half[:, 1] - oy)
    z_in, z_out = slab(dz, low - height, top - height)
    side_in = np.maximum(x_in, y_in)
    enter = np.maximum(side_in, z_in)
    leave = np.minimum(np.minimum(x_out, y_out), z_out)
    cosine = np.abs(np.where(z_in >= side_in, dz, np.where(x_in > y_in, dx, dy)))
    return enter, leave, cosine


def _inside(away: np.ndarray, boxes: Solids, margin: np.ndarray) -> np.ndarray:
    """Whether the sensor is within `margin` (m) of a box, seen from above; away ``[N, 2]``: from sensor to centre."""
    c, s = np.cos(boxes.yaw), np.sin(boxes.yaw)
    x, y = c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0]
    return (np.abs(x) < boxes.half[:, 0] + margin) & (np.abs(y) < boxes.half[:, 1] + margin)

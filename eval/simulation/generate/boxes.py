"""Oriented rectangles: corners and overlap tests for many pairs at once."""

from __future__ import annotations

import numpy as np


def corners(pose: np.ndarray, length: np.ndarray | float, width: np.ndarray | float) -> np.ndarray:
    """``[..., 4, 2]`` corners, counter-clockwise, of boxes with centre pose ``[..., 3]`` and size (m)."""
    c, s = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    half_length, half_width = np.asarray(length)[..., None] / 2, np.asarray(width)[..., None] / 2
    along = half_length * np.array([1.0, -1.0, -1.0, 1.0])
    across = half_width * np.array([1.0, 1.0, -1.0, -1.0])
    x = pose[..., 0, None] + along * c[..., None] - across * s[..., None]
    y = pose[..., 1, None] + along * s[..., None] + across * c[..., None]
    return np.stack([x, y], -1)


def separation(pose_a: np.ndarray, size_a: np.ndarray, pose_b: np.ndarray, size_b: np.ndarray) -> np.ndarray:
    """``[n]`` m: largest gap between boxes along their four axes; negative where they overlap.

    Poses ``[n, 3]`` of the centres, sizes ``[n, 2]`` length and width. Never more than the true
    distance (separating axis theorem).
    """
    delta = pose_b[:, :2] - pose_a[:, :2]
    turn = pose_b[:, 2] - pose_a[:, 2]
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    gaps = []
    for pose, own, other in ((pose_a, size_a, size_b), (pose_b, size_b, size_a)):
        cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        along = np.abs(delta[:, 0] * cos + delta[:, 1] * sin)
        across = np.abs(delta[:, 1] * cos - delta[:, 0] * sin)
        gaps.append(along - (own[:, 0] + other[:, 0] * c + other[:, 1] * s) / 2)
        gaps.append(across - (own[:, 1] + other[:, 0] * s + other[:, 1] * c) / 2)
    return np.max(gaps, axis=0)


def rear_axle_to_center(pose: np.ndarray, forward: float) -> np.ndarray:
    """Box-centre poses ``[..., 3]`` of a vehicle given its rear-axle poses and the distance between both (m)."""
    shift = forward * np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1)
    return np.concatenate([pose[..., :2] + shift, pose[..., 2:]], -1)

"""Who can see whom: lines of sight past other boxes."""

from __future__ import annotations

import numpy as np

from eval.simulation.generate.boxes import corners

EYE_FORWARD = 1.6  # m ahead of the rear axle: where a driver sits, or a sensor on the roof


def line_of_sight(ego_pose: np.ndarray, target_box: np.ndarray, occluder_boxes: np.ndarray) -> bool:
    """Whether ego can see any of the target: its centre, a corner or the middle of a side.

    ego_pose ``[3]``: rear axle x, y (m), yaw (rad). target_box ``[5]``: centre x, y, yaw, length,
    width. occluder_boxes ``[n, 5]``: the others (a box equal to the target must not be among them).
    All in the same frame. Every box blocks sight whatever its height.
    """
    eye = ego_pose[:2] + EYE_FORWARD * np.array([np.cos(ego_pose[2]), np.sin(ego_pose[2])])
    outline = corners(target_box[:3], target_box[3], target_box[4])
    points = np.concatenate([target_box[None, :2], outline, 0.5 * (outline + np.roll(outline, -1, 0))])
    if len(occluder_boxes) == 0:
        return True
    return bool((~_blocked(eye, points, np.asarray(occluder_boxes, float))).any())


def _blocked(eye: np.ndarray, points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """``[p]``: the segment from the eye to each point passes through some box (slab test in the box's frame)."""
    c, s = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    turn = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    start = np.einsum("nij,nj->ni", turn, eye - boxes[:, :2])
    step = np.einsum("nij,pj->npi", turn, points - eye)
    half = boxes[:, None, 3:5] / 2
    step = np.where(np.abs(step) < 1e-12, 1e-12, step)
    first, second = (-half - start[:, None]) / step, (half - start[:, None]) / step
    enter = np.minimum(first, second).max(-1)
    leave = np.maximum(first, second).min(-1)
    return ((enter < leave) & (leave > 0.0) & (enter < 1.0)).any(0)

"""The score by which the PDM-style baseline chooses: nuPlan's metrics applied to its own forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.baselines.follow_path import STEP, Motion
from eval.baselines.route_path import RoutePath
from eval.baselines.traffic_ahead import Objects
from eval.metrics.collision import BEHIND, STOPPED_SPEED
from eval.metrics.comfort import BOUNDS, comfort_signals
from eval.metrics.direction import COMPLIANCE, VIOLATION
from eval.metrics.geometry import bearing, boxes_overlap, ego_center, ego_corners, segment_meets_box
from eval.metrics.time_to_collision import AHEAD
from eval.metrics.time_to_collision import STOPPED_SPEED as TTC_STOPPED_SPEED
from planner.scene import VehicleParameters

LOOKAHEADS = (0, 3, 6, 9)  # steps: 0 to 0.9 s
HALF_LANE = 1.75  # m; a corner farther from the line counts as in another lane
LEAST_PROGRESS = 0.1  # m
_WEIGHTS = {"progress": 5.0, "ttc": 5.0, "comfort": 2.0}


@dataclass
class Scores:
    """total ``[P]`` in [0, 1]; time_to_collision ``[P]`` s until an at-fault collision, inf if none;
    parts: name -> ``[P]``."""

    total: np.ndarray
    time_to_collision: np.ndarray
    parts: dict[str, np.ndarray]


def score_proposals(motion: Motion, path: RoutePath, objects: Objects, vehicle: VehicleParameters) -> Scores:
    """Score ``P`` motions: (NC * DAC * DDC) * (5 progress + 5 TTC + 2 comfort) / 12.

    The vector scene has no lane polygons, so areas are judged in route coordinates: off road
    beyond the route's widths, against the traffic in the part beyond its own direction's,
    between lanes where a corner is more than half a lane from the centreline.
    """
    pose = motion.pose
    corners, center = ego_corners(pose, vehicle), ego_center(pose, vehicle)
    s, d = path.project(np.concatenate([corners, center[..., None, :2]], -2))
    at = path.index(s)
    left, right = path.left[at], path.right[at]
    outside = np.maximum(d - left - path.left_oncoming[at], -d - right - path.right_oncoming[at])[..., :4].max(-1)
    # Where ego starts outside (the widths are sampled), only getting farther out counts.
    off_road = outside > np.maximum(outside[:, :1], 0.0) + 1e-3
    wide = (np.abs(d[..., :4]) > HALF_LANE).any(-1) | off_road
    against = (d[..., 4] > left[..., 4]) | (-d[..., 4] > right[..., 4])

    no_collision, collision_time = _collisions(motion, pose, corners, objects, wide)
    direction = _direction(center, against)
    gate = no_collision * ~off_road.any(1) * direction
    progress = np.maximum(s[:, -1, 4] - s[:, 0, 4], 0.0) * gate
    relative = progress / progress.max() if progress.max() > LEAST_PROGRESS else (gate > 0).astype(float)
    parts = {
        "no_collision": no_collision,
        "drivable_area": 1.0 - off_road.any(1),
        "direction": direction,
        "progress": relative,
        "ttc": _ttc(motion, pose, corners, objects, wide | path.junction[path.index(s[..., 4])]),
        "comfort": _comfort(motion, vehicle),
    }
    mean = sum(weight * parts[name] for name, weight in _WEIGHTS.items()) / sum(_WEIGHTS.values())
    return Scores(gate * mean, collision_time, parts)


def _contacts(
    centers: np.ndarray, corners: np.ndarray, objects: Objects, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(proposal, step, object) of every overlap of ego corners ``[P, K, 4, 2]`` with objects `shift` steps later."""
    time = (np.arange(corners.shape[1]) + shift) * STEP
    object_pose, object_corners = objects.poses(time), objects.corners(time)
    reach = 0.5 * (np.hypot(*objects.size.T) + np.linalg.norm(corners[0, 0, 0] - corners[0, 0, 2]))
    x, y = object_pose[..., 0].T, object_pose[..., 1].T
    apart = (centers[:, :, None, 0] - x) ** 2 + (centers[:, :, None, 1] - y) ** 2
    p, k, a = np.nonzero(apart < reach**2)
    hit = boxes_overlap(corners[p, k], object_corners[a, k])
    return p[hit], k[hit], a[hit]


def _first(order: np.ndarray, p: np.ndarray, a: np.ndarray, objects: int) -> np.ndarray:
    """Indices of the entry with the smallest order for each (proposal, object)."""
    rank = np.lexsort((order, p * objects + a))
    _, first = np.unique((p * objects + a)[rank], return_index=True)
    return rank[first]


def _collisions(
    motion: Motion, pose: np.ndarray, corners: np.ndarray, objects: Objects, wide: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    score, when = np.ones(len(pose)), np.full(len(pose), np.inf)
    p, k, a = _contacts(corners.mean(-2), corners, objects, 0)
    i = _first(k, p, a, max(len(objects), 1))
    p, k, a = p[i], k[i], a[i]
    box = objects.corners(np.arange(pose.shape[1]) * STEP)[a, k]
    moving = np.linalg.norm(objects.velocity[a], axis=-1) > STOPPED_SPEED
    driving = motion.v[p, k] > STOPPED_SPEED
    behind = bearing(pose[p, k], box.mean(-2)) > BEHIND
    front = segment_meets_box(corners[p, k, 0], corners[p, k, 3], box)
    at_fault = driving & (~moving | (~behind & (front | wide[p, k])))
    np.minimum.at(score, p[at_fault], np.where(objects.static[a[at_fault]], 0.5, 0.0))
    np.minimum.at(when, p[at_fault], k[at_fault] * STEP)
    return score, when


def _ttc(motion: Motion, pose: np.ndarray, corners: np.ndarray, objects: Objects, wide: np.ndarray) -> np.ndarray:
    """1 unless the first object that ego, pushed on for up to 0.9 s, would hit is one it must look out for."""
    found = []
    forward = np.stack([np.cos(motion.yaw), np.sin(motion.yaw)], -1) * motion.v[..., None]
    for shift in LOOKAHEADS:
        moved = corners + shift * STEP * forward[..., None, :]
        p, k, a = _contacts(moved.mean(-2), moved, objects, shift)
        found.append(np.stack([p, k, a, np.full_like(p, shift)]))
    p, k, a, shift = np.concatenate(found, 1)
    driving = motion.v[p, k] >= TTC_STOPPED_SPEED
    p, k, a, shift = p[driving], k[driving], a[driving], shift[driving]
    i = _first(k * 10 + shift, p, a, max(len(objects), 1))
    p, k, a, shift = p[i], k[i], a[i], shift[i]
    where = objects.pose[a, :2] + ((k + shift) * STEP)[:, None] * objects.velocity[a]
    angle = bearing(pose[p, k], where)
    minded = (angle < AHEAD) | (wide[p, k] & (angle <= BEHIND))
    score = np.ones(len(pose))
    score[p[minded]] = 0.0
    return score


def _direction(center: np.ndarray, against: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 by the longest uninterrupted way (m) against the traffic."""
    step = np.linalg.norm(np.diff(center[..., :2], axis=1), axis=-1)
    longest, now = np.zeros(len(center)), np.zeros(len(center))
    for k in range(step.shape[1]):
        now = np.where(against[:, k + 1], now + step[:, k], 0.0)
        longest = np.maximum(longest, now)
    return np.where(longest < COMPLIANCE, 1.0, np.where(longest < VIOLATION, 0.5, 0.0))


def _comfort(motion: Motion, vehicle: VehicleParameters) -> np.ndarray:
    signals = comfort_signals(
        motion.v, motion.a, motion.yaw, motion.v * motion.curvature, STEP, vehicle.rear_axle_to_center
    )
    comfortable = np.ones(len(motion.v), bool)
    for name, (low, high) in BOUNDS.items():
        comfortable &= ((signals[name] > low) & (signals[name] < high)).all(1)
    return comfortable.astype(float)

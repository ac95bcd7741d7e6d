"""Who gives way to ego, judged from geometry alone: the two assumptions that shrink an object's set."""

from __future__ import annotations

import numpy as np

from planner.checker.arrays import wrapped
from planner.checker.assumptions import Assumptions
from planner.checker.objects import Objects


def goes_straight(ego: np.ndarray, route_xy: np.ndarray, table: Assumptions) -> bool:
    """Whether ego's route goes straight on: whoever turns across it, or comes from the side, gives way."""
    turn = _turn_ahead(ego, route_xy, table)
    return len(turn) > 0 and float(np.abs(turn).max()) <= table.priority_turn


def gives_way(ego: np.ndarray, route_xy: np.ndarray, objects: Objects, table: Assumptions) -> np.ndarray:
    """``[A]``: oncoming vehicles that may not turn across ego's way, and do not do so yet."""
    if not goes_straight(ego, route_xy, table):
        return np.zeros(len(objects), bool)
    step = np.diff(route_xy, axis=0)
    here = int(np.hypot(*(route_xy[:-1] - ego[:2]).T).argmin())
    heading = np.arctan2(step[here, 1], step[here, 0])
    against = np.abs(wrapped(objects.pose[:, 2] - heading)) > table.priority_angle
    return against & objects.drives & (np.abs(objects.turn_rate) < table.priority_rate)


def _turn_ahead(ego: np.ndarray, route_xy: np.ndarray, table: Assumptions) -> np.ndarray:
    """Heading (rad) of the route's pieces over `priority_ahead` relative to the one where ego is."""
    step = np.diff(route_xy, axis=0)
    if not len(step):
        return np.zeros(0)
    x, y = route_xy[:-1, 0] - ego[0], route_xy[:-1, 1] - ego[1]
    step = step[int((x * x + y * y).argmin()) :]
    heading = np.arctan2(step[:, 1], step[:, 0])
    turn = np.concatenate([[0.0], np.cumsum(wrapped(heading[1:] - heading[:-1]))])
    return turn[np.cumsum(np.hypot(step[:, 0], step[:, 1])) < table.priority_ahead]  # type: ignore[no-any-return]


def waits(route_xy: np.ndarray, objects: Objects, table: Assumptions) -> np.ndarray:
    """``[A]``: slow vehicles beside ego's route that point at it."""
    waiting = objects.drives & (objects.speed < table.waiting_speed)
    who = np.flatnonzero(waiting)
    if len(route_xy) < 2 or not len(who):
        return np.zeros(len(objects), bool)
    pose, size = objects.pose[who], objects.size[who]
    x, y = (pose[:, j, None] - route_xy[:-1, j] for j in (0, 1))
    near, row = (x * x + y * y).argmin(1), np.arange(len(who))
    along = np.diff(route_xy, axis=0)[near]
    heading = np.arctan2(along[:, 1], along[:, 0])
    angle = wrapped(pose[:, 2] - heading)
    aside = np.cos(heading) * y[row, near] - np.sin(heading) * x[row, near]
    # Nearest corner, not centre: what already reaches into the way no longer waits.
    reach = np.abs(np.sin(angle)) * size[:, 0] / 2 + np.abs(np.cos(angle)) * size[:, 1] / 2
    points_at = (np.abs(np.sin(angle)) > np.sin(table.waiting_angle)) & (np.sin(angle) * aside < 0)
    waiting[who] = points_at & (np.abs(aside) - reach > table.waiting_offset)
    return waiting

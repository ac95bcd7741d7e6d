"""Boxes of the forecasts over the nominal grid: every likely mode of every object, today's box at time 0."""

from __future__ import annotations

import numpy as np

from planner.checker.arrays import array
from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes
from planner.checker.objects import Objects
from planner.scene import AgentFutures

_AWAY = 1e6  # m: where a mode is put that says nothing about an interval


def forecast_boxes(
    futures: AgentFutures, kept: np.ndarray, objects: Objects, config: CheckerConfig
) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """Boxes ``[K, N]``, each holding one mode's rectangle over one interval; whose they are and how likely ``[N]``.

    kept: indices into `futures` of the first ``len(kept)`` objects. The others have no forecast and go on straight.
    """
    steps = int(np.ceil(config.nominal_horizon / config.step - 1e-9))
    grid = config.step * np.arange(steps + 1)
    time = np.concatenate([[0.0], array(futures.time).astype(np.float64)])
    valid = array(futures.valid)[kept]
    weight = array(futures.probability)[kept].astype(np.float64)
    use = (weight >= config.mode_probability) & valid.any(-1)
    agent, mode = np.nonzero(use) if len(time) >= 2 else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    xy = np.concatenate([objects.pose[agent, None, :2], array(futures.mean)[kept][agent, mode].astype(np.float64)], 1)
    yaw = array(futures.yaw)[kept][agent, mode].astype(np.float64)
    turn = np.unwrap(np.concatenate([objects.pose[agent, None, 2], yaw], 1), axis=1)
    said = np.concatenate([np.ones((len(agent), 1), bool), valid[agent, mode]], 1)
    i = np.clip(np.searchsorted(time, grid, side="right") - 1, 0, max(len(time) - 2, 0))
    if len(agent):
        u = (grid - time[i]) / (time[i + 1] - time[i])
        blend = lambda g, w: (1 - w) * g[:, i] + w * g[:, i + 1]  # noqa: E731
        at, heading = blend(xy, u[:, None]), blend(turn, u)
        known = said[:, i] & said[:, i + 1] & (u <= 1.0 + 1e-9)
    else:
        at, heading, known = np.zeros((0, steps + 1, 2)), np.zeros((0, steps + 1)), np.zeros((0, steps + 1), bool)

    other = np.arange(len(kept), len(objects))
    straight = objects.pose[other, None, :2] + objects.velocity[other, None] * grid[:, None]
    agent = np.concatenate([agent, other])
    at = np.concatenate([at, straight])
    heading = np.concatenate([heading, np.broadcast_to(objects.pose[other, None, 2], (len(other), steps + 1))])
    known = np.concatenate([known, np.ones((len(other), steps + 1), bool)])
    likely = np.concatenate([weight[use] if len(time) >= 2 else np.zeros(0), np.ones(len(other))])
    return swept_boxes(at, heading, known, objects.size[agent]), agent, likely


def swept_boxes(at: np.ndarray, heading: np.ndarray, known: np.ndarray, size: np.ndarray) -> Boxes:
    """Boxes ``[K, N]`` around a rectangle ``size[n]`` that moves through the poses ``[N, K + 1]``."""
    middle = 0.5 * (heading[:, 1:] + heading[:, :-1])
    axis = np.stack([np.cos(middle), np.sin(middle)], -1)
    across = np.stack([-axis[..., 1], axis[..., 0]], -1)
    moved = at[:, 1:] - at[:, :-1]
    half_turn = 0.5 * np.abs(heading[:, 1:] - heading[:, :-1])
    c, s = np.cos(half_turn), np.sin(half_turn)
    half_length, half_width = (size[:, j][:, None] / 2 for j in (0, 1))
    half = np.stack(
        [
            c * half_length + s * half_width + 0.5 * np.abs((moved * axis).sum(-1)),
            s * half_length + c * half_width + 0.5 * np.abs((moved * across).sum(-1)),
        ],
        -1,
    )
    center = 0.5 * (at[:, 1:] + at[:, :-1])
    # A mode that says nothing about an interval claims no space there.
    center = np.where((known[:, 1:] & known[:, :-1])[..., None], center, _AWAY)
    order = lambda g: np.ascontiguousarray(np.moveaxis(g, 0, 1))  # noqa: E731
    return Boxes(order(center), order(axis), order(half), np.zeros(center.shape[1::-1]))

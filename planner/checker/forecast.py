"""The forecasts over the nominal grid: every likely mode of every object, today's box at time 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.arrays import array, wrapped
from planner.checker.config import CheckerConfig
from planner.checker.footprint import Boxes, Sweeps
from planner.checker.objects import Objects
from planner.checker.occupancy import within
from planner.scene import AgentFutures


@dataclass(frozen=True)
class Forecasts:
    """``N`` modes at the times of the nominal grid.

    pose ``[N, K + 1, 3]``: x, y (m), heading (rad, without jumps); known ``[N, K]``: whether the mode says where its
    object is over the interval; size ``[N, 2]`` m; owner ``[N]``; probability ``[N]``.
    """

    pose: np.ndarray
    known: np.ndarray
    size: np.ndarray
    owner: np.ndarray
    probability: np.ndarray

    @property
    def intervals(self) -> int:
        """How many there are, ``K``."""
        return self.known.shape[1]

    def boxes(self, mode: int, intervals: int) -> Boxes:
        """``[K]``: around a mode's rectangle in each of the first `intervals`; nowhere where it says nothing."""
        pose = self.pose[mode, : intervals + 1]
        boxes = swept_boxes(pose[:-1], pose[1:], self.size[mode])
        return boxes.take(np.flatnonzero(self.known[mode, :intervals].cumprod()))

    def near(
        self, sweeps: Sweeps, rows: np.ndarray, wanted: np.ndarray, look: float
    ) -> tuple[np.ndarray, Boxes, np.ndarray]:
        """Interval k ``[P]``, box ``[P]`` and mode ``[P]`` of every pair of a sweep and a mode of its own interval
        whose enclosing circles are no more than `look` (m) apart.

        rows: the sweeps to look at, within the intervals. wanted ``[A]``: the objects to look at.
        """
        n = np.flatnonzero(wanted[self.owner])
        first, last = self.pose[n[:, None], rows], self.pose[n[:, None], rows + 1]
        x, y = 0.5 * (first[..., 0] + last[..., 0]), 0.5 * (first[..., 1] + last[..., 1])
        moved = np.abs(last[..., 0] - first[..., 0]) + np.abs(last[..., 1] - first[..., 1])
        # No rectangle over the interval is larger than this, however it turns.
        reach = np.hypot(self.size[n, 0], self.size[n, 1])[:, None] + moved + look + sweeps.reach[rows]
        cx, cy = sweeps.center[rows, 0], sweeps.center[rows, 1]
        near = ((cx - x) ** 2 + (cy - y) ** 2 < reach * reach) & self.known[n[:, None], rows]
        k, j = np.nonzero(near.T)
        boxes = swept_boxes(first[j, k], last[j, k], self.size[n[j]])
        return within(sweeps, rows[k], boxes, n[j], look)


def forecasts_of(futures: AgentFutures, kept: np.ndarray, objects: Objects, config: CheckerConfig) -> Forecasts:
    """Of all objects.

    kept: indices into `futures` of the first ``len(kept)`` objects. The others have no forecast and go on straight.
    """
    steps = int(np.ceil(config.nominal_horizon / config.step - 1e-9))
    grid = config.step * np.arange(steps + 1)
    time = np.concatenate([[0.0], array(futures.time).astype(np.float64)])
    valid = array(futures.valid)[kept]
    weight = array(futures.probability)[kept].astype(np.float64)
    use = (weight >= config.mode_probability) & valid.any(-1)
    agent, mode = np.nonzero(use) if len(time) >= 2 else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    own = objects.pose[: len(kept)]
    pose, known = np.zeros((len(agent), steps + 1, 3)), np.zeros((len(agent), steps), bool)
    if len(agent):
        i = np.minimum(np.searchsorted(time, grid, side="right") - 1, len(time) - 2)
        u = (grid - time[i]) / (time[i + 1] - time[i])
        said = np.empty((len(agent), len(time), 3))
        said[:, 0] = own[agent]
        said[:, 1:, :2] = array(futures.mean)[kept[agent], mode]
        said[:, 1:, 2] = array(futures.yaw)[kept[agent], mode]
        said[:, 1:, 2] = own[agent, 2:3] + np.cumsum(wrapped(np.diff(said[..., 2], axis=1)), 1)
        pose = np.where(u[:, None] <= 1e-9, said[:, i], (1 - u[:, None]) * said[:, i] + u[:, None] * said[:, i + 1])
        there = np.concatenate([np.ones((len(agent), 1), bool), valid[agent, mode]], 1)
        # At a time of its own a mode needs no later one.
        at = there[:, i] & (there[:, i + 1] | (u <= 1e-9)) & (u <= 1.0 + 1e-9)
        known = at[:, 1:] & at[:, :-1]

    other = np.arange(len(kept), len(objects))
    straight = np.repeat(objects.pose[other, None], steps + 1, 1)
    straight[..., :2] += objects.velocity[other, None] * grid[:, None]
    owner = np.concatenate([agent, other])
    return Forecasts(
        pose=np.concatenate([pose, straight]),
        known=np.concatenate([known, np.ones((len(other), steps), bool)]),
        size=objects.size[owner],
        owner=owner,
        probability=np.concatenate([weight[agent, mode], np.ones(len(other))]),
    )


def swept_boxes(first: np.ndarray, last: np.ndarray, size: np.ndarray) -> Boxes:
    """Boxes ``[...]`` around rectangles ``[..., 2]`` (m) that move from the poses ``[..., 3]`` to the last ones."""
    middle = 0.5 * (first[..., 2] + last[..., 2])
    axis = np.stack([np.cos(middle), np.sin(middle)], -1)
    dx, dy = last[..., 0] - first[..., 0], last[..., 1] - first[..., 1]
    half_turn = 0.5 * np.abs(last[..., 2] - first[..., 2])
    c, s = np.cos(half_turn), np.sin(half_turn)
    half_length, half_width = size[..., 0] / 2, size[..., 1] / 2
    half = np.empty(axis.shape)
    half[..., 0] = c * half_length + s * half_width + 0.5 * np.abs(dx * axis[..., 0] + dy * axis[..., 1])
    half[..., 1] = s * half_length + c * half_width + 0.5 * np.abs(dy * axis[..., 0] - dx * axis[..., 1])
    center = 0.5 * (first[..., :2] + last[..., :2])
    return Boxes(center, axis, half, np.zeros(center.shape[:-1]))

"""The same obstacle in successive sweeps, by overlap; how it moves over the ground.

Everything here is in the odometry frame: where the ego was at the first sweep, carried on by its own speed and yaw
rate, so that no jump of a map localisation can look like motion.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from perception.raw_obstacles_clusters import Clusters
from perception.raw_obstacles_config import TrackConfig


class Odometry:
    """Pose ``[3]`` (x m, y m, yaw rad) of the ego since the first sweep, by dead reckoning."""

    def __init__(self) -> None:
        self.pose = np.zeros(3)
        self._time_us: int | None = None

    def advance(self, time_us: int, v: float, yaw_rate: float) -> float:
        """Move on to a time with the speed (m/s) and yaw rate (rad/s) since the last one; returns the step (s)."""
        dt = 0.0 if self._time_us is None else (time_us - self._time_us) * 1e-6
        self._time_us = time_us
        middle = self.pose[2] + yaw_rate * dt / 2
        self.pose = self.pose + np.array([v * dt * np.cos(middle), v * dt * np.sin(middle), yaw_rate * dt])
        return dt

    def out_of_ego(self, points: np.ndarray) -> np.ndarray:
        """Points ``[N, 2]`` of the ego frame in the odometry frame."""
        c, s = np.cos(self.pose[2]), np.sin(self.pose[2])
        return points @ np.array([[c, s], [-s, c]]) + self.pose[:2]

    def into_ego(self, vectors: np.ndarray) -> np.ndarray:
        """Free vectors ``[N, 2]`` of the odometry frame in ego axes."""
        c, s = np.cos(self.pose[2]), np.sin(self.pose[2])
        return vectors @ np.array([[c, -s], [s, c]])


@dataclass(frozen=True)
class Motion:
    """velocity ``[G, 2]`` m/s, zero where not known ``[G]``; seen ``[G]``: sweeps; moved ``[G]``: both ends went the
    same way."""

    velocity: np.ndarray
    known: np.ndarray
    seen: np.ndarray
    moved: np.ndarray


class Tracks:
    """Extents of every group in the last sweeps, and what follows from them.

    The velocity is the displacement of a group's extent over the memory: per axis that of the end that moved less, and
    zero if the ends moved apart or together. An end that moves because more of an object comes into view, or less, then
    counts for nothing, while a moving object moves both.
    """

    def __init__(self, config: TrackConfig) -> None:
        self.config = config
        self._extent = np.zeros((0, config.memory + 1, 4))  # newest first: low x, low y, high x, high y
        self._seen = np.zeros(0, dtype=np.int64)
        self._velocity = np.zeros((0, 2))
        self._known = np.zeros(0, dtype=bool)
        self._dt: deque[float] = deque(maxlen=config.memory)

    def update(self, extent: np.ndarray, dt: float) -> Motion:
        """Motion of groups with extents ``[G, 4]``, dt (s) after the last ones."""
        previous = self._match(extent, dt)
        had, count, memory = previous >= 0, len(extent), self.config.memory
        history = np.repeat(extent[:, None], memory + 1, axis=1)
        seen = np.ones(count, dtype=np.int64)
        last_velocity = np.zeros((count, 2))
        was_known = np.zeros(count, dtype=bool)
        if had.any():
            old = previous[had]
            history[had, 1:] = self._extent[old, :-1]
            seen[had] += self._seen[old]
            last_velocity[had], was_known[had] = self._velocity[old], self._known[old]
        self._dt.appendleft(max(dt, 1e-3))
        back = np.minimum(seen - 1, memory)
        elapsed = np.concatenate([[1e-3], np.cumsum(self._dt)])[np.minimum(back, len(self._dt))]
        moved = extent - history[np.arange(count), back]
        low, high = moved[:, :2], moved[:, 2:]
        least = np.where(np.abs(low) < np.abs(high), low, high)
        least = np.where(low * high > 0, least, 0.0)
        agree = (np.abs(low - high) <= self.config.agree).all(1)
        measured = least / elapsed[:, None]
        velocity = np.where(was_known[:, None], 0.5 * measured + 0.5 * last_velocity, measured)
        known = (seen >= self.config.known_after) & agree & (np.hypot(*measured.T) <= self.config.speed_max)
        self._extent, self._seen, self._velocity, self._known = history, seen, velocity, known
        return Motion(np.where(known[:, None], velocity, 0.0), known, seen, np.hypot(*least.T) > self.config.moved)

    def _match(self, extent: np.ndarray, dt: float) -> np.ndarray:
        """``[G]``: index of the track each group continues, -1 for none; pairs of most overlap first."""
        out = np.full(len(extent), -1)
        if not len(self._extent) or not len(extent):
            return out
        moved = np.where(self._known[:, None], self._velocity, 0.0) * dt
        old = self._extent[:, 0] + np.concatenate([moved, moved], 1)
        # A thin face that moves fast leaves its own place from one sweep to the next, until its speed is known.
        reach = self.config.reach + self.config.speed_new * dt * np.where(self._known, 0.4, 1.0)
        low = np.maximum(extent[:, None, :2], old[None, :, :2])
        high = np.minimum(extent[:, None, 2:], old[None, :, 2:])
        side = high - low + reach[None, :, None]
        overlap = np.clip(side, 0.0, None).prod(-1)
        area = [(e[:, 2:] - e[:, :2]).prod(-1) for e in (extent, old)]
        score = overlap / (area[0][:, None] + area[1][None] + reach[None] ** 2)
        new, track = np.nonzero(score > 0)
        taken = np.zeros(len(old), dtype=bool)
        for i in np.argsort(-score[new, track], kind="stable"):
            g, t = new[i], track[i]
            if out[g] < 0 and not taken[t]:
                out[g], taken[t] = t, True
        return out


class StillCells:
    """Which cells of the ground's grid were occupied in the last sweeps: tells still structure from moving."""

    def __init__(self, config: TrackConfig, cell: float) -> None:
        self.config, self._cell = config, cell
        self._past: deque[np.ndarray] = deque(maxlen=config.memory)

    def update(self, points: np.ndarray, groups: Clusters, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(at rest ``[G]``, sweeps seen ``[G]``) of groups.

        points ``[N, 2]``: all returns; fixed ``[M, 2]``: those of the groups; both in the odometry frame.
        """
        still = np.zeros(len(groups), dtype=bool)
        seen = np.ones(len(groups), dtype=np.int64)
        if len(groups):
            key = _keys(fixed, self._cell)
            size = np.diff(np.append(groups.start, len(key)))
            running = np.ones(len(groups), dtype=bool)
            for age, past in enumerate(self._past):
                share = np.add.reduceat(np.isin(key, past, assume_unique=False), groups.start) / size
                running &= share >= self.config.persist
                seen += running
                still = running if age + 1 >= self.config.known_after - 1 else still
        now = np.unique(_keys(points, self._cell))
        around = np.array([dx * STRIDE + dy for dx in (-1, 0, 1) for dy in (-1, 0, 1)])
        self._past.appendleft(np.unique(now[:, None] + around))
        return still.copy(), seen


STRIDE = 1 << 24


def _keys(points: np.ndarray, cell: float) -> np.ndarray:
    index = np.floor(points / cell).astype(np.int64)
    return index[:, 0] * STRIDE + index[:, 1]


def extents(points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """``[G, 4]``: low x, low y, high x, high y of each group of sorted points ``[N, 2]``."""
    if not len(start):
        return np.zeros((0, 4))
    return np.concatenate([np.minimum.reduceat(points, start), np.maximum.reduceat(points, start)], 1)

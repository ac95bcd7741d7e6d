"""The last accepted tail, kept in the global frame with absolute time, ready to be driven at any moment.

It is kept with its certificate: what the checker said when it was accepted, and a checksum over its numbers, so that
a tail changed in memory since then is not driven on the strength of a verdict about another one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from planner.checker import CheckReport
from planner.fallback import advance
from planner.scene import Trajectory, VectorScene, frames

_LEAST_STEP = 1e-3  # s between entries after cutting


@dataclass(frozen=True)
class Certificate:
    """Why a tail may be driven. time_us: of the scene it was checked in. accepted: by the checker, then; False for a
    stop that was merely the best there was. worst_margin (m), records: of that report. checksum: CRC-32 of the columns.
    """

    time_us: int
    accepted: bool
    worst_margin: float
    records: tuple[str, ...]
    checksum: int


@dataclass(frozen=True)
class KeptTail:
    """A tail as ``[T]`` columns: time (s after `time_us`), global x, y, yaw, v, a, curvature.

    elapsed (s): how far into it the last cycle was, by a sound scene's time or by dead reckoning.
    """

    columns: np.ndarray
    time_us: int
    certificate: Certificate
    elapsed: float = 0.0

    @classmethod
    def keep(cls, tail: Trajectory, scene: VectorScene, report: CheckReport) -> Self:
        """Store a tail that is given in the frame of `scene`, with what the checker said about it there."""
        pose = torch.stack([tail.x, tail.y, tail.yaw], -1).detach().double()
        moved = frames.compose(scene.global_from_ego.detach().double(), pose).numpy()
        rest = [getattr(tail, n).detach().double().numpy() for n in ("v", "a", "curvature")]
        time = tail.time.detach().double().numpy()
        columns, time_us = np.stack([time, *moved.T, *rest]), int(scene.ego.time_us)
        records = tuple(sorted({r.rule for r in report.records}))
        checksum = zlib.crc32(columns.tobytes())
        return cls(columns, time_us, Certificate(time_us, report.accepted, report.worst_margin, records, checksum))

    @property
    def intact(self) -> bool:
        """Whether the numbers are still those that were certified."""
        return zlib.crc32(self.columns.tobytes()) == self.certificate.checksum

    def now(self, scene: VectorScene) -> Trajectory:
        """What is left of it at the scene's time, in the scene's frame."""
        return self._from(self._since(scene), scene.global_from_ego.detach().double())

    def seen(self, scene: VectorScene) -> KeptTail:
        """The same tail, dead reckoning starting over from the time of a sound scene."""
        return replace(self, elapsed=self._since(scene))

    def dead_reckoned(self, period: float) -> KeptTail:
        """The same tail, `period` seconds later, where nothing else tells the time."""
        return replace(self, elapsed=self.elapsed + period)

    def in_own_frame(self) -> Trajectory:
        """What is left after `elapsed`, in the frame of the ego that followed it exactly."""
        here = torch.from_numpy(self._cut(self.elapsed)[1:4, 0].copy())
        return self._from(self.elapsed, here)

    def _since(self, scene: VectorScene) -> float:
        return max((int(scene.ego.time_us) - self.time_us) * 1e-6, 0.0)

    def _from(self, since: float, global_from_ego: torch.Tensor) -> Trajectory:
        c = self._cut(since)
        pose = frames.compose(frames.inverse(global_from_ego).expand(c.shape[1], 3), torch.from_numpy(c[1:4].T.copy()))
        x, y, yaw = pose.unbind(-1)
        t, v, a, k = (torch.from_numpy(c[i].copy()) for i in (0, 4, 5, 6))
        return Trajectory(t, x, y, yaw, v, a, k)

    def _cut(self, since: float) -> np.ndarray:
        """Columns from `since` on, time 0 there; at rest at its end once it is over."""
        time = self.columns[0]
        later = np.flatnonzero(time > since + _LEAST_STEP)
        if not len(later):
            end = self.columns[:, -1:].repeat(2, 1)
            end[0], end[4:6] = (0.0, 1.0), 0.0
            return end
        i = max(int(later[0]) - 1, 0)
        t0, x, y, yaw, v, a, k = self.columns[:, i]
        h, s = time[i + 1] - t0, since - t0
        jerk, bend = (self.columns[5, i + 1] - a) / h, (self.columns[6, i + 1] - k) / h
        x, y, yaw = advance(x, y, yaw, v, a, jerk, k, bend, s)
        first = np.array([0.0, x, y, yaw, v + a * s + 0.5 * jerk * s * s, a + jerk * s, k + bend * s])
        rest = self.columns[:, later].copy()
        rest[0] -= since
        return np.concatenate([first[:, None], rest], 1)

"""Whether a sweep may be believed: its age, its order, its content."""

from __future__ import annotations

import numpy as np

from perception.raw_obstacles_config import DoorConfig
from perception.sensor_frame import LidarSweep
from planner.scene import RawStatus

NEAR = 2.5
"""Returns closer than this (m) to the sensor are misses (range zero) or the own roof."""


class SweepDoor:
    """Remembers the last sweep that was let in."""

    def __init__(self, config: DoorConfig) -> None:
        self.config = config
        self._points: np.ndarray | None = None
        self._time_us: int | None = None

    def judge(self, sweep: LidarSweep | None, now_us: int) -> tuple[RawStatus, str]:
        """(status, reason); only an OK sweep is remembered. now_us: the receiver's clock, microseconds."""
        if sweep is None:
            return self._without(now_us)
        try:
            sweep.validate()
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            return RawStatus.BROKEN, f"sweep rejected: {error}"
        age = (now_us - sweep.time_us) * 1e-6
        if age < -self.config.future_max:
            return RawStatus.BROKEN, f"sweep from the future: {-age:.3f} s ahead of the clock"
        if age > self.config.age_max:
            return RawStatus.STALE, f"newest sweep is {age:.2f} s old, allowed {self.config.age_max:g} s"
        if self._time_us is not None and sweep.time_us < self._time_us:
            return RawStatus.STALE, f"sweep is {(self._time_us - sweep.time_us) * 1e-6:.3f} s older than the last one"
        if self._time_us is not None and sweep.time_us > self._time_us and (same := self._same(sweep.points)) > 0:
            return RawStatus.FROZEN, f"{same:.0%} of the points are those of the last sweep, under a new stamp"
        if problem := self._implausible(sweep):
            return RawStatus.BROKEN, problem
        self._points, self._time_us = sweep.points, sweep.time_us
        return RawStatus.OK, ""

    def _without(self, now_us: int) -> tuple[RawStatus, str]:
        if self._time_us is None:
            return RawStatus.ABSENT, "no sweep yet"
        age = (now_us - self._time_us) * 1e-6
        return RawStatus.STALE, f"no new sweep for {age:.2f} s"

    def _same(self, points: np.ndarray) -> float:
        """Share of points equal to the last sweep's, or 0 if that is no more than allowed."""
        last = self._points
        if last is None or last.shape != points.shape or not len(points):
            return 0.0
        there = (points * points).sum(1) > NEAR**2
        if not there.any():
            return 0.0
        same = float((points[there] == last[there]).all(1).mean())
        return same if same > self.config.same_max else 0.0

    def _implausible(self, sweep: LidarSweep) -> str:
        """Why this cannot be a whole turn of the sensor; empty if it can."""
        there = (sweep.points * sweep.points).sum(1) > NEAR**2
        if (count := int(there.sum())) < self.config.returns_min:
            return f"{count} returns, expected at least {self.config.returns_min}"
        ring = sweep.ring[there]
        known = ring[ring >= 0]
        if len(known) and (rings := len(np.unique(known))) < self.config.rings_min:
            return f"returns in {rings} rings, expected at least {self.config.rings_min}"
        sector = np.floor((np.arctan2(sweep.points[there, 1], sweep.points[there, 0]) + np.pi) * (18 / np.pi))
        covered = len(np.unique(np.minimum(sector, 35))) / 36
        if covered < self.config.covered_min:
            return f"returns in {covered:.0%} of all directions, expected at least {self.config.covered_min:.0%}"
        return ""

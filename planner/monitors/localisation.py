"""Does the localisation move as the wheels do? Jumps at once, drifts by summing up; where ego is after a jump."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict

GAP = 0.5
"""s: after a longer one, what the odometry did meanwhile is not known well enough to reckon on from before."""


@dataclass(frozen=True)
class LocalisationConfig:
    """jump (m), turn (rad): step of the pose that the odometry does not explain, DEGRADED above the first, MINIMAL_RISK
    above the second. speed_error: share of the way that the odometry may be wrong, step_error (m, rad): noise per step.
    drift (m): sum of unexplained ways beyond drift_rate (m/s) that is a drift, DEGRADED and MINIMAL_RISK.
    hold (s): a verdict stays as long after its cause, because the map does not fit until the pose is trusted again.
    unresolved (s): a jump or drift that is not taken back within this time is MINIMAL_RISK, whatever its size, until
    it is.
    """

    jump: tuple[float, float] = (0.3, 1.0)
    turn: tuple[float, float] = (0.05, 0.15)
    speed_error: float = 0.05
    step_error: tuple[float, float] = (0.05, 0.01)
    drift: tuple[float, float] = (0.4, 1.2)
    drift_rate: float = 0.06
    hold: float = 1.0
    unresolved: float = 0.8


class LocalisationMonitor:
    """Compares each step of the global pose with the step by speed and yaw rate; a two-sided cumulative sum (Page 1954)
    along and across the vehicle finds drifts that no single step shows.

    From a jump on, ego is where the odometry leads from the last pose before it, until the localisation is back there;
    from a drift on, from the pose less what has summed up.
    """

    name = "localisation"

    def __init__(self, config: LocalisationConfig | None = None) -> None:
        self.config = config or LocalisationConfig()
        self._last: _Measured | None = None
        self._sum = np.zeros((2, 2))  # up and down, along and across
        self._held: tuple[int, MonitorVerdict] | None = None
        self._reckoned: _Reckoned | None = None

    @property
    def reckoned(self) -> np.ndarray | None:
        """global_from_ego ``[3]`` (m, m, rad) by dead reckoning while a jump or drift is not taken back, else None."""
        return None if self._reckoned is None else self._reckoned.pose

    def update(self, pose: np.ndarray, v: float, yaw_rate: float, time_us: int) -> MonitorVerdict:
        """pose ``[3]``: global_from_ego (m, m, rad); v (m/s), yaw_rate (rad/s) from odometry; microseconds."""
        last, self._last = self._last, (np.array(pose, dtype=float), float(v), float(yaw_rate), int(time_us))
        if last is None or time_us <= last[3]:
            return self._after(MonitorVerdict(self.name, MonitorLevel.OK), time_us)
        dt = (time_us - last[3]) * 1e-6
        along, across, turned = _residual(last, self._last, dt)
        allowed = self.config.step_error[0] + self.config.speed_error * abs(v) * dt
        off = max(math.hypot(along, across) - allowed, 0.0)
        twist = max(abs(turned) - self.config.step_error[1], 0.0)
        self._reckon(last, self._last, not (off <= self.config.jump[0] and twist <= self.config.turn[0]))
        # A jump is no drift, too: it is said once, as what it is.
        if off <= self.config.jump[0]:
            slack = (self.config.drift_rate + 0.02 * abs(v)) * dt
            step = np.array([along, across])
            self._sum = np.maximum(self._sum + np.stack([step - slack, -step - slack]), 0.0)
        drift = float(self._sum.max())
        if drift > self.config.drift[0] and self._reckoned is None:
            back = _turned(self._sum[1] - self._sum[0], pose[2])
            self._reckoned = _Reckoned(np.array([*(pose[:2] + back), pose[2]]), int(time_us), 0.0)
        found = max(
            (self._graded(off, self.config.jump, "pose jumped by {:.2f} m against the odometry", "m"),
             self._graded(twist, self.config.turn, "heading jumped by {:.3f} rad against the odometry", "rad"),
             self._graded(drift, self.config.drift, "pose drifted by {:.2f} m against the odometry", "m"),
             self._unresolved(pose, time_us)),
            key=lambda verdict: _RANK[verdict.level],
        )  # fmt: skip
        if drift > self.config.drift[1]:
            self._sum[:] = 0.0
        return self._after(found, time_us)

    def _reckon(self, last: _Measured, now: _Measured, jumped: bool) -> None:
        """One step further from where ego was, if it jumped now or has not come back since."""
        was, (pose, _, _, time_us) = self._reckoned, now
        dt = (time_us - last[3]) * 1e-6
        if was is None and not (jumped and dt <= GAP and np.isfinite(last[0]).all()):
            return
        before, since, way = (last[0], time_us, 0.0) if was is None else (was.pose, was.since_us, was.way)
        way += abs(last[1] + now[1]) / 2 * dt
        here = _driven_on(before, last, now, dt)
        self._reckoned = _Reckoned(here, since, way)
        # Odometry errs with the way, along by its speed, across by its heading. A pose that is no number is never back.
        config, (along, across) = self.config, _turned(pose[:2] - here[:2], -here[2])
        turn = abs(math.remainder(pose[2] - here[2], 2 * math.pi))
        near = config.jump[0] + way * np.array([config.speed_error, config.step_error[1]])
        if abs(along) <= near[0] and abs(across) <= near[1] and turn <= config.turn[0]:
            self._reckoned = None
            self._sum[:] = 0.0  # of a drift that is over

    def _unresolved(self, pose: np.ndarray, time_us: int) -> MonitorVerdict:
        """MINIMAL_RISK for what has lasted too long, DEGRADED before."""
        if (found := self._reckoned) is None:
            return MonitorVerdict(self.name, MonitorLevel.OK)
        since, limit = (time_us - found.since_us) * 1e-6, self.config.unresolved
        away = float(np.hypot(*(pose[:2] - found.pose[:2])))
        reason = f"pose is {away:.2f} m from where the odometry leads, for {since:.1f} s"
        level = MonitorLevel.DEGRADED if since < limit - 1e-6 else MonitorLevel.MINIMAL_RISK
        return MonitorVerdict(self.name, level, reason, since, limit)

    def _graded(self, value: float, limits: tuple[float, float], what: str, unit: str) -> MonitorVerdict:
        if not math.isfinite(value):
            return MonitorVerdict(
                self.name, MonitorLevel.MINIMAL_RISK, f"pose is not a number ({unit})", value, limits[1]
            )
        level = MonitorLevel.OK
        if value > limits[0]:
            level = MonitorLevel.DEGRADED if value <= limits[1] else MonitorLevel.MINIMAL_RISK
        reason = what.format(value) if value > limits[0] else ""
        return MonitorVerdict(self.name, level, reason, value, limits[0] if value <= limits[1] else limits[1])

    def _after(self, found: MonitorVerdict, time_us: int) -> MonitorVerdict:
        """The verdict, or a worse one that still holds."""
        if self._held is not None and time_us - self._held[0] > self.config.hold * 1e6:
            self._held = None
        if found.level is not MonitorLevel.OK and (
            self._held is None or _RANK[found.level] >= _RANK[self._held[1].level]
        ):
            self._held = (time_us, found)
        return found if self._held is None else self._held[1]


_RANK = {level: i for i, level in enumerate(MonitorLevel)}
_Measured = tuple[np.ndarray, float, float, int]
"""Pose, v, yaw rate, time as handed to `LocalisationMonitor.update`."""


@dataclass(frozen=True)
class _Reckoned:
    """pose ``[3]`` (m, m, rad) by dead reckoning; since_us: the jump or drift; way (m): driven since then."""

    pose: np.ndarray
    since_us: int
    way: float


def _driven_on(pose: np.ndarray, last: _Measured, now: _Measured, dt: float) -> np.ndarray:
    """The pose ``[3]`` one step of the odometry later."""
    v, turn = (last[1] + now[1]) / 2, (last[2] + now[2]) / 2 * dt
    middle = pose[2] + turn / 2
    return pose + np.array([v * dt * math.cos(middle), v * dt * math.sin(middle), turn])


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def _residual(last: _Measured, now: _Measured, dt: float) -> tuple[float, float, float]:
    """(along m, across m, heading rad): the pose's step minus the odometry's, in the last ego frame."""
    pose, v0, rate0, _ = last
    new, v1, rate1, _ = now
    v, rate = (v0 + v1) / 2, (rate0 + rate1) / 2
    c, s = math.cos(pose[2]), math.sin(pose[2])
    dx, dy = new[:2] - pose[:2]
    turned = math.remainder(new[2] - pose[2] - rate * dt, 2 * math.pi)
    half = rate * dt / 2
    return c * dx + s * dy - v * dt * math.cos(half), c * dy - s * dx - v * dt * math.sin(half), turned

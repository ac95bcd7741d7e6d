"""The planned motion as plain float64 arrays, on its own times and on the checker's grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.footprint import Sweeps, boxes_from_poses, chord_bulge, sweep
from planner.scene import Trajectory, VehicleParameters


@dataclass(frozen=True)
class Motion:
    """Rear-axle motion: time ``[T]`` s, pose ``[T, 3]`` (m, m, rad unwrapped), v, a, curvature ``[T]``."""

    time: np.ndarray
    pose: np.ndarray
    v: np.ndarray
    a: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, trajectory: Trajectory) -> Motion:
        """From the contract type. Raises ValueError unless it is a single, unbatched trajectory of >= 2 entries."""
        fields = ("time", "x", "y", "yaw", "v", "a", "curvature")
        t, x, y, yaw, v, a, k = (getattr(trajectory, n).detach().cpu().numpy().astype(np.float64) for n in fields)
        if any(f.ndim != 1 or f.shape != t.shape for f in (t, x, y, yaw, v, a, k)) or len(t) < 2:
            raise ValueError(f"trajectory: expected {len(fields)} arrays [T], T >= 2, got time of shape {t.shape}")
        # A NaN heading would make unwrap warn; finiteness is judged by the rules.
        yaw = np.unwrap(yaw) if np.isfinite(yaw).all() else yaw
        return cls(t, np.stack([x, y, yaw], 1), v, a, k)

    @property
    def finite(self) -> bool:
        arrays = (self.time, self.pose, self.v, self.a, self.curvature)
        return all(bool(np.isfinite(f).all()) for f in arrays)

    def rest_time(self, rest_speed: float) -> float:
        """Time (s) after which the speed stays below `rest_speed`; inf if it is not below it at the end."""
        moving = np.flatnonzero(np.abs(self.v) > rest_speed)
        if not len(moving):
            return float(self.time[0])
        return float(self.time[moving[-1] + 1]) if moving[-1] + 1 < len(self.time) else np.inf

    def moving(self, rest_speed: float) -> np.ndarray:
        """Indices of the steps in which the speed is above `rest_speed` at one end at least."""
        speed = np.abs(self.v)
        return np.flatnonzero(np.maximum(speed[:-1], speed[1:]) > rest_speed)

    def at(self, time: np.ndarray) -> Motion:
        """Evaluated at the times ``[K]``; held at the ends.

        Cubic Hermite in position and heading from v, heading and v * curvature; the error with a step h
        is h^4 / 384 times the fourth derivative, below a millimetre for steps up to 0.5 s in city driving.
        """
        i = np.minimum(np.maximum(np.searchsorted(self.time, time, side="right") - 1, 0), len(self.time) - 2)
        h = self.time[i + 1] - self.time[i]
        u = np.minimum(np.maximum((time - self.time[i]) / h, 0.0), 1.0)
        rate, w, span = self._rate, u[:, None], h[:, None]
        rest = 1 - w
        begin, end = rest * rest * w * span, w * w * rest * span
        pose = (
            (1 + 2 * w) * (rest * rest) * self.pose[i]
            + begin * rate[i]
            + w * w * (3 - 2 * w) * self.pose[i + 1]
            - end * rate[i + 1]
        )
        jerk = (self.a[i + 1] - self.a[i]) / h
        elapsed = u * h
        v = self.v[i] + self.a[i] * elapsed + 0.5 * jerk * elapsed**2
        blend = lambda f: (1 - u) * f[i] + u * f[i + 1]  # noqa: E731
        return Motion(time, pose, v, blend(self.a), blend(self.curvature))

    @cached_property
    def _rate(self) -> np.ndarray:
        """Derivative ``[T, 3]`` of the pose (m/s, m/s, rad/s)."""
        v, heading = self.v, self.pose[:, 2]
        return np.stack([v * np.cos(heading), v * np.sin(heading), v * self.curvature], 1)

    def joined(self, other: Motion) -> Motion:
        """The entries of this one, then those of the other: to compute on both at once."""
        join = lambda one, two: np.concatenate([one, two])  # noqa: E731
        return Motion(
            join(self.time, other.time), join(self.pose, other.pose), join(self.v, other.v), join(self.a, other.a),
            join(self.curvature, other.curvature),
        )  # fmt: skip

    def sweeps(self, vehicle: VehicleParameters) -> Sweeps:
        """Swept footprints between consecutive entries, ``T - 1`` of them."""
        corners = boxes_from_poses(self.pose, vehicle.length, vehicle.width, vehicle.rear_axle_to_center).corners
        h = np.diff(self.time)
        larger = lambda f: np.maximum(np.abs(f[:-1]), np.abs(f[1:]))  # noqa: E731
        v, a, curvature = larger(self.v), larger(self.a), larger(self.curvature)
        turn = v * curvature
        turn_change = a * curvature + v * np.abs(np.diff(self.curvature)) / h
        corner = np.hypot(vehicle.front, vehicle.width / 2)
        across = v * turn + a * turn * h + corner * (turn**2 + turn_change)
        return sweep(corners, chord_bulge(h, across))


def grid(duration: float, config: CheckerConfig) -> np.ndarray:
    """Checker times ``[K + 1]`` (s) from 0 to at least `duration`."""
    return config.step * np.arange(max(1, int(np.ceil(duration / config.step - 1e-9))) + 1)

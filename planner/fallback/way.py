"""Where a stop leads: along a given path or with the curvature ego has, and the grip this takes from braking."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.fallback.speed import STEP
from planner.scene import Trajectory, VehicleParameters

GRIP_USE = 0.97  # of the ellipse, so that rounding does not break it
LEAST_BRAKING = 2.0  # m/s^2, even where cornering takes all the grip
_LATERAL_JERK = 15.0  # m/s^3, below what checker and limiter allow
_BEARING_AWAY = 3.0  # m/s^2
_PREVIEW = 0.4  # s: a bend takes its grip this much earlier, because braking is not released at once
_SAMPLE = 1.0  # m between the places ahead that are looked at


@dataclass(frozen=True)
class Way:
    """A path by arc length: s ``[n]`` m, x, y, yaw, curvature ``[n]``."""

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, path: Trajectory) -> Way | None:
        """From a trajectory's geometry; None if it goes nowhere or is not finite."""
        x, y, yaw, k = (f.detach().cpu().numpy().astype(np.float64) for f in (path.x, path.y, path.yaw, path.curvature))
        if x.ndim != 1 or not all(np.isfinite(f).all() for f in (x, y, yaw, k)):
            return None
        step = np.hypot(np.diff(x), np.diff(y))
        moved = np.concatenate([[True], step > 1e-3])
        s = np.concatenate([[0.0], np.cumsum(step)])[moved]
        return cls(s, x[moved], y[moved], np.unwrap(yaw)[moved], k[moved]) if moved.sum() >= 2 else None

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """Arc length of the nearest point, and the offset to the left of it (m)."""
        dx, dy = np.diff(self.x), np.diff(self.y)
        u = np.clip(((x - self.x[:-1]) * dx + (y - self.y[:-1]) * dy) / (dx**2 + dy**2), 0.0, 1.0)
        gx, gy = x - self.x[:-1] - u * dx, y - self.y[:-1] - u * dy
        i = int((gx**2 + gy**2).argmin())
        size = math.hypot(dx[i], dy[i])
        offset = (dx[i] * (y - self.y[i]) - dy[i] * (x - self.x[i])) / size
        return float(self.s[i] + u[i] * size), float(offset)

    def steer(self, x: float, y: float, yaw: float, v: float, aside: float = 0.0) -> float:
        """Curvature to command: the way's, a step ahead, plus a critically damped return to it or to `aside` m left."""
        s, offset = self.locate(x, y)
        ahead = s + v * STEP
        heading = float(np.interp(s, self.s, self.yaw))
        turn = math.remainder(yaw - heading, 2 * math.pi)
        # m over which a deviation is steered out; away from danger as fast as this lateral acceleration allows
        length = max(0.8 * v if aside == 0.0 else v * math.sqrt(abs(aside) / _BEARING_AWAY), 2.5)
        # Beyond its end the way goes on straight, with its last curvature the nearest guess.
        feed = float(np.interp(ahead, self.s, self.curvature))
        return feed - (offset - aside) / length**2 - 2.0 * math.sin(turn) / length


@dataclass(frozen=True)
class Grip:
    """What cornering leaves to braking: an ellipse of braking_max and lateral_acceleration_max.

    bend ``[n]`` 1/m: largest absolute curvature at the distances `ahead` ``[n]`` (m) from the start, or shortly after.
    """

    braking: float
    lateral: float
    ahead: np.ndarray
    bend: np.ndarray

    @classmethod
    def of(cls, way: Way | None, x: float, y: float, v: float, curvature: float, vehicle: VehicleParameters) -> Grip:
        """Along `way` from x, y at the speed v (m/s); with the present curvature (1/m) held where there is no way."""
        limits = GRIP_USE * vehicle.braking_max, GRIP_USE * vehicle.lateral_acceleration_max
        if way is None:
            return cls(*limits, np.zeros(1), np.array([abs(curvature)]))
        start, _ = way.locate(x, y)
        preview = _PREVIEW * v
        ahead = np.arange(0.0, max(way.s[-1] - start, 0.0) + _SAMPLE, _SAMPLE)
        bend = np.abs(np.interp(start + ahead, way.s, way.curvature))
        bend[ahead <= preview] = np.maximum(bend[ahead <= preview], abs(curvature))
        reach = max(math.ceil(preview / _SAMPLE), 0)
        widest = np.concatenate([bend, np.zeros(reach)])
        return cls(*limits, ahead, np.lib.stride_tricks.sliding_window_view(widest, reach + 1).max(1))

    def allowed(self, v: float, travelled: float) -> float:
        """Braking (m/s^2) that may be held from here on at the speed v (m/s), after `travelled` m; at least the least.

        Held over the distance d, braking B leaves (v^2 - 2 B d) times the curvature there as lateral acceleration:
        the larger root of (B / b)^2 + ((v^2 - 2 B d) bend / l)^2 = 1, the smallest over all d before the standstill.
        """
        later = self.ahead >= travelled - _SAMPLE
        d, bend = self.ahead[later] - travelled, self.bend[later]
        if not len(d):
            d, bend = np.zeros(1), self.bend[-1:]
        d = np.maximum(d, 0.0)
        share2 = (bend / self.lateral) ** 2
        square = 1.0 / self.braking**2 + 4.0 * d * d * share2
        middle = 2.0 * v * v * d * share2 / square
        # Where no braking keeps within the ellipse, the one that exceeds it least.
        root = np.sqrt(np.maximum(middle**2 - (v**4 * share2 - 1.0) / square, 0.0))
        most = np.where(2.0 * d * (middle + root) >= v * v, self.braking, middle + root)
        return float(min(max(most.min(), LEAST_BRAKING), self.braking))


def steered(now: float, wanted: float, before: float, after: float, a: float, h: float, v: VehicleParameters) -> float:
    """Curvature after h seconds: toward `wanted` within rate, mechanical limit and the grip that braking with a leaves.

    before, after: speed (m/s) at both ends of the step. v: the vehicle.
    """
    free = math.sqrt(max(1.0 - (min(a, 0.0) / v.braking_max) ** 2, 0.0))
    grip = GRIP_USE * v.lateral_acceleration_max * free / max(after * after, 0.1)
    bound = min(0.99 * v.curvature_max, max(grip, 0.0))
    wanted = min(max(wanted, -bound), bound)
    rate = min(0.95 * v.curvature_rate_max, _LATERAL_JERK / max(before * before, 0.1))
    return min(max(wanted, now - rate * h), now + rate * h)

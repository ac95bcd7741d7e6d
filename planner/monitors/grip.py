"""Does the road give what was asked of it? Braking or turning that was planned and does not come bounds the grip."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict
from planner.scene import Trajectory, VehicleParameters


@dataclass(frozen=True)
class GripConfig:
    """shortfall (m/s^2): braking or lateral acceleration that was asked for in each of the last `cycles` cycles and is
    missing now means that the road gives no more than what came; the cycles are there for the actuators' lag.
    slowest (m/s): below it nothing is concluded. normal: shares of the vehicle's grip from here up are not spoken of.
    least: no smaller share is believed. hold (s): a share is believed until more is seen, or this long.
    prior: share that is believed before anything is seen, where it is known from elsewhere (weather, season).
    """

    shortfall: float = 0.6
    cycles: int = 4
    slowest: float = 1.5
    normal: float = 0.9
    least: float = 0.1
    hold: float = 60.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.prior <= 1.0:
            raise ValueError(f"GripConfig.prior: expected a share in (0, 1], got {self.prior}")


class GripMonitor:
    """Estimates the share of the vehicle's grip that the road gives, from above, and only where it is asked for: on a
    dry road and on ice a vehicle that rolls looks the same, unless `prior` tells them apart. Rule: a share below
    `normal` -> DEGRADED, and the checker's envelope shrinks by it (`Supervisor.supervise(grip=...)`)."""

    name = "grip"

    def __init__(self, config: GripConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or GripConfig(), vehicle or VehicleParameters()
        self._asked: deque[tuple[float, float]] = deque(maxlen=self.config.cycles)
        self._share, self._found_us = self.config.prior, 0

    @property
    def share(self) -> float:
        """In (0, 1]; `prior` where nothing else is known."""
        return self._share

    def update(
        self, planned: Trajectory, v: float, a: float, curvature: float, dt: float, now_us: int
    ) -> MonitorVerdict:
        """planned: what was driven in the last cycle, which began dt (s) ago. v, a, curvature: of ego now."""
        time = planned.time.detach().cpu().numpy()
        at = lambda name: float(np.interp(dt, time, getattr(planned, name).detach().cpu().numpy()))  # noqa: E731
        braking, turning = max(-a, 0.0), v * v * abs(curvature)
        self._asked.append((-at("a"), v * v * abs(at("curvature"))))
        used = math.hypot(braking / self.vehicle.braking_max, turning / self.vehicle.lateral_acceleration_max)
        if now_us - self._found_us > self.config.hold * 1e6:
            self._share = self.config.prior
        if v >= self.config.slowest and len(self._asked) == self.config.cycles:
            missing = max(
                min(asked for asked, _ in self._asked) - braking, min(asked for _, asked in self._asked) - turning
            )
            if missing > self.config.shortfall:
                # What comes while more is asked for is all there is, be it less or more than before.
                self._share, self._found_us = min(max(used, self.config.least), 1.0), now_us
        if used > self._share:
            self._share = min(used, 1.0)
        if self._share >= self.config.normal:
            return MonitorVerdict(self.name, MonitorLevel.OK, "", self._share, self.config.normal)
        reason = f"the road gives {self._share:.2f} of the grip, expected {self.config.normal:g}"
        return MonitorVerdict(self.name, MonitorLevel.DEGRADED, reason, self._share, self.config.normal)

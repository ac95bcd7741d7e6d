"""Does the vehicle go where it was told to go?"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict
from planner.scene import Trajectory


@dataclass(frozen=True)
class DeviationConfig:
    """Limits (DEGRADED, MINIMAL_RISK) of what one step may differ from the plan: across, along (m), speed (m/s),
    heading (rad). cycles: of the last so many must show it, count of them; a single bump is none.
    """

    across: tuple[float, float] = (0.12, 0.35)
    along: tuple[float, float] = (0.25, 0.7)
    speed: tuple[float, float] = (0.8, 2.0)
    heading: tuple[float, float] = (0.03, 0.1)
    cycles: int = 3
    count: int = 2


class DeviationMonitor:
    """Plan-to-driven deviation over one cycle. Rule: `count` of the last `cycles` beyond a limit -> that level."""

    name = "plan deviation"

    def __init__(self, config: DeviationConfig | None = None) -> None:
        self.config = config or DeviationConfig()
        self._recent: deque[tuple[int, str, float, float]] = deque(maxlen=self.config.cycles)

    def update(self, planned: Trajectory, moved: np.ndarray, v: float, dt: float) -> MonitorVerdict:
        """planned: what was driven in the last cycle. moved ``[3]``: ego now in the frame of that trajectory (m, m,
        rad). v (m/s): now. dt (s): since that trajectory's start."""
        time = planned.time.detach().cpu().numpy()
        x, y, yaw, speed = (
            float(np.interp(dt, time, getattr(planned, name).detach().cpu().numpy())) for name in ("x", "y", "yaw", "v")
        )
        dx, dy = float(moved[0]) - x, float(moved[1]) - y
        c, s = math.cos(yaw), math.sin(yaw)
        found = {
            "across": abs(c * dy - s * dx),
            "along": abs(c * dx + s * dy),
            "speed": abs(v - speed),
            "heading": abs(math.remainder(float(moved[2]) - yaw, 2 * math.pi)) if math.isfinite(moved[2]) else math.inf,
        }
        # How far beyond its first limit each one is decides which one is spoken of.
        worst = max(found, key=lambda name: _ratio(found[name], getattr(self.config, name)[0]))
        value, limits = found[worst], getattr(self.config, worst)
        grade = 0 if value <= limits[0] else 1 if value <= limits[1] else 2
        self._recent.append((grade, worst, value, limits[max(grade - 1, 0)]))
        grades = sorted((g for g, *_ in self._recent), reverse=True)
        grade = grades[self.config.count - 1] if len(grades) >= self.config.count else 0
        if not grade:
            return MonitorVerdict(self.name, MonitorLevel.OK, "", value, limits[0])
        _, worst, value, limit = next(entry for entry in reversed(self._recent) if entry[0] >= grade)
        unit = {"across": "m", "along": "m", "speed": "m/s", "heading": "rad"}[worst]
        level = MonitorLevel.DEGRADED if grade == 1 else MonitorLevel.MINIMAL_RISK
        return MonitorVerdict(
            self.name, level, f"{worst}: {value:.2f} {unit} off the plan, allowed {limit:g}", value, limit
        )


def _ratio(value: float, limit: float) -> float:
    return value / limit if math.isfinite(value) else math.inf

"""IDM along a path, and a vectorised tracker and bicycle that turn it into drivable motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eval.baselines.route_path import RoutePath
from eval.baselines.traffic_ahead import Blockers
from planner.scene import EgoState, Trajectory, VehicleParameters

STEP = 0.1  # s
BLOCKER_STEP = 2  # steps between updates of what is in the way, as PDM-Closed
LOOK = 10  # steps the tracker looks ahead
_ACCELERATION_LAG = 0.2  # s


@dataclass(frozen=True)
class IdmParameters:
    """Intelligent driver model: gap (m), headway (s), acceleration, braking (m/s^2), exponent of the free-road term."""

    gap: float
    headway: float
    acceleration: float
    braking: float
    exponent: float


@dataclass
class Motion:
    """``P`` simulated motions of the rear axle at ``K`` times, ego frame: each ``[P, K]``, SI units."""

    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    v: np.ndarray
    a: np.ndarray
    curvature: np.ndarray

    @property
    def pose(self) -> np.ndarray:
        return np.stack([self.x, self.y, self.yaw], -1)

    def trajectory(self, which: int) -> Trajectory:
        """One of the motions in the planner's output contract."""
        names = ("x", "y", "yaw", "v", "a", "curvature")
        values = {name: torch.as_tensor(getattr(self, name)[which].copy(), dtype=torch.float64) for name in names}
        return Trajectory(time=torch.arange(self.x.shape[1], dtype=torch.float64) * STEP, **values)


def blocker_times(steps: int) -> np.ndarray:
    """Times (s) at which `idm_speeds` over that many steps looks for objects in the way."""
    return np.arange(0, steps, BLOCKER_STEP) * STEP


def idm_speeds(
    path: RoutePath,
    blockers: Blockers,
    parameters: IdmParameters,
    v: float,
    fraction: np.ndarray,
    offset: np.ndarray,
    vehicle: VehicleParameters,
    steps: int,
) -> np.ndarray:
    """Speeds ``[P, steps + 1]`` (m/s) of the IDM, ego starting at the path point nearest to the origin.

    fraction, offset ``[P]``: share of the speed limit to aim for, and sideways offset (m) of the
    path. Curves ahead lower the speed aimed for. blockers: at `blocker_times(steps)`.
    """
    p, count = parameters, len(fraction)
    s = np.full(count, float(path.project(np.zeros((1, 2)))[0][0]))
    speed = np.empty((count, steps + 1))
    speed[:, 0] = now = np.full(count, max(v, 0.0))
    for k in range(steps):
        at = path.index(s)
        target = np.maximum(np.minimum(fraction * path.limit[at], path.curve_speed[at]), 0.1)
        gap, lead_v = blockers.nearest(k // BLOCKER_STEP, s, offset, vehicle.width / 2, vehicle.front)
        end = path.s[-1] - s - vehicle.front
        lead_v = np.where(end < gap, 0.0, lead_v)
        gap = np.maximum(np.minimum(gap, end), p.gap)
        wanted = p.gap + now * p.headway + now * (now - lead_v) / (2 * np.sqrt(p.acceleration * p.braking))
        free = np.minimum(now / target, 3.0) ** p.exponent
        change = p.acceleration * (1.0 - free - (np.maximum(wanted, 0.0) / gap) ** 2)
        s = s + STEP * now
        now = np.maximum(now + STEP * np.clip(change, -p.braking, p.acceleration), 0.0)
        speed[:, k + 1] = now
    return speed


def track(ego: EgoState, path: RoutePath, speed: np.ndarray, offset: np.ndarray, vehicle: VehicleParameters) -> Motion:
    """Drive speeds ``[P, K]`` along the path at sideways offsets ``[P]`` (m) with a kinematic bicycle.

    Longitudinal: one-step linear-quadratic control of the speed one second ahead. Lateral: the
    same for lateral error and heading error (weights 1 and 10) with the steering rate as input
    (weight 1), the tracker of nuPlan and PDM-Closed re-implemented from its description.
    """
    count, steps = speed.shape
    out = {name: np.zeros((count, steps)) for name in ("x", "y", "yaw", "v", "a", "curvature")}
    x, y, yaw = (np.zeros(count) for _ in range(3))
    v, a, kappa = (np.full(count, float(value)) for value in (ego.v, ego.a, ego.curvature))
    look = np.arange(LOOK)
    turn_by_input = STEP**2 * LOOK * (LOOK - 1) / 2
    shift_by_input = STEP**3 * LOOK * (LOOK - 1) * (LOOK - 2) / 6
    for k in range(steps):
        for name, value in zip(out, (x, y, yaw, v, a, kappa)):
            out[name][:, k] = value
        s, d = path.project(np.stack([x, y], -1))
        heading_error = np.angle(np.exp(1j * (yaw - path.at(s, path.heading))))
        ahead = path.curvature[path.index(s[:, None] + v[:, None] * STEP * look)]
        turn = heading_error[:, None] + np.cumsum(v[:, None] * STEP * (kappa[:, None] - ahead), 1)
        end_heading = turn[:, -1]
        end_lateral = d - offset + v * STEP * (heading_error + turn[:, :-1].sum(1))
        by_heading, by_lateral = v * turn_by_input, v**2 * shift_by_input
        gain = by_lateral**2 + 10.0 * by_heading**2 + vehicle.wheelbase**2
        rate = -(by_lateral * end_lateral + 10.0 * by_heading * end_heading) / gain
        rate = np.clip(rate, -vehicle.curvature_rate_max, vehicle.curvature_rate_max)

        goal = speed[:, min(k + LOOK, steps - 1)]
        horizon = STEP * max(min(LOOK, steps - 1 - k), 1)
        command = 10.0 * horizon * (goal - v) / (10.0 * horizon**2 + 1.0)
        command = np.where((goal < 0.2) & (v < 0.2), -0.5 * v, command)
        command = np.clip(command, -vehicle.braking_max, vehicle.acceleration_max)
        new_a = a + (command - a) * STEP / (STEP + _ACCELERATION_LAG)
        new_a = np.maximum(new_a, -v / STEP)
        new_kappa = np.clip(kappa + STEP * rate, -vehicle.curvature_max, vehicle.curvature_max)
        mean_v = np.maximum(v + 0.5 * STEP * new_a, 0.0)
        middle = yaw + 0.5 * STEP * mean_v * new_kappa
        x, y = x + STEP * mean_v * np.cos(middle), y + STEP * mean_v * np.sin(middle)
        yaw = yaw + STEP * mean_v * 0.5 * (kappa + new_kappa)
        v, a, kappa = np.maximum(v + STEP * new_a, 0.0), new_a, new_kappa
    return Motion(**out)

"""Follows a planned trajectory: what is planned and what is driven are two things."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from eval.simulation.simulation_config import TrackerConfig
from eval.simulation.vehicle import VehicleState, advance, lag_share
from planner.limiter import Command
from planner.scene import Trajectory, VehicleParameters

_TOLERANCE = 1.02  # a limit bites if more than 2 % beyond it was wanted


@dataclass(frozen=True)
class PlannedMotion:
    """A planned trajectory in the global frame, to be evaluated at any time.

    time ``[T]`` s since planning; state ``[T, 6]``: x, y (m), yaw (rad), v, a, curvature.
    """

    time: np.ndarray
    state: np.ndarray

    @classmethod
    def from_trajectory(cls, trajectory: Trajectory, global_from_ego: np.ndarray) -> Self:
        """From the frame it was planned in. Raises ValueError unless it is a single, finite trajectory from time 0."""
        t = trajectory
        columns = [value.detach().cpu().double().numpy() for value in (t.x, t.y, t.yaw, t.v, t.a, t.curvature)]
        time = t.time.detach().cpu().double().numpy()
        if time.ndim != 1 or len(time) < 2 or abs(time[0]) > 1e-6:
            raise ValueError(f"planned trajectory: expected times [T >= 2] from 0, got {time.shape}, {time[:1]}")
        if not all(np.isfinite(column).all() for column in columns):
            raise ValueError("planned trajectory: expected finite numbers, got NaN or infinite values")
        x0, y0, yaw0 = (float(value) for value in global_from_ego)
        c, s = math.cos(yaw0), math.sin(yaw0)
        x, y, yaw = columns[:3]
        return cls(time, np.stack([x0 + c * x - s * y, y0 + s * x + c * y, yaw0 + yaw, *columns[3:]], -1))

    def at(self, time: float) -> VehicleState:
        """The planned state at a time (s), by exact integration from the entry before it; rests or rolls on after
        the last entry with the last speed and curvature."""
        i = int(np.searchsorted(self.time, time + 1e-9, side="right")) - 1
        i = min(max(i, 0), len(self.time) - 1)
        entry = VehicleState(*map(float, self.state[i]))
        elapsed = time - float(self.time[i])
        if elapsed <= 1e-9:
            return entry
        if i == len(self.time) - 1:
            return advance(VehicleState(entry.x, entry.y, entry.yaw, entry.v, 0.0, entry.curvature), 0.0, 0.0, elapsed)
        span = float(self.time[i + 1] - self.time[i])
        _, _, _, _, a_next, curvature_next = self.state[i + 1]
        return advance(
            entry, (float(a_next) - entry.a) / span, (float(curvature_next) - entry.curvature) / span, elapsed
        )

    def speed_max(self, start: float, end: float) -> float:
        """Largest planned speed (m/s) between two times (s)."""
        inside = (self.time > start) & (self.time < end)
        return max(self.at(start).v, self.at(end).v, float(self.state[inside, 3].max(initial=0.0)))


@dataclass(frozen=True)
class Tracked:
    """command for the next step. error: driven minus planned now: ahead (m), left (m), turned left (rad).
    saturated: names of vehicle limits that kept the tracker from commanding what it wanted."""

    command: Command
    error: tuple[float, float, float]
    saturated: tuple[str, ...] = ()


def tracking_error(state: VehicleState, planned: VehicleState) -> tuple[float, float, float]:
    """Driven minus planned, in the planned vehicle's frame: ahead (m), left (m), turned left (rad)."""
    c, s = math.cos(planned.yaw), math.sin(planned.yaw)
    dx, dy = state.x - planned.x, state.y - planned.y
    turned = state.yaw - planned.yaw
    return c * dx + s * dy, c * dy - s * dx, turned - 2 * math.pi * round(turned / (2 * math.pi))


@dataclass(frozen=True)
class Tracker:
    """Feed-forward of the planned acceleration and curvature, feedback of the error in position, speed and heading.

    Longitudinal, with rate w: a = a_plan - 2 w (v - v_plan) - w^2 (s - s_plan). Lateral, in arc length with
    w_s = w / v: curvature = curvature_plan - 2 w_s (heading error) - w_s^2 (lateral error). Both are critically
    damped for small errors. A known first-order `lag` (s) of the actuators is inverted.
    """

    vehicle: VehicleParameters
    config: TrackerConfig = field(default_factory=TrackerConfig)
    lag: float = 0.0

    def track(self, state: VehicleState, plan: PlannedMotion, elapsed: float, dt: float) -> Tracked:
        """The command for the next dt (s), `elapsed` seconds after the plan was made."""
        p, settings = self.vehicle, self.config
        now, after = plan.at(elapsed), plan.at(elapsed + dt)
        error = along, left, turned = tracking_error(state, now)

        rate = settings.longitudinal_rate
        acceleration = after.a - 2 * rate * (state.v - now.v) - rate**2 * along
        if plan.speed_max(elapsed, elapsed + settings.hold_time) < settings.hold_speed:
            acceleration = self._hold(state, acceleration, dt)
        rate = settings.lateral_rate / max(state.v, settings.lateral_speed_min)
        curvature = after.curvature - 2 * rate * turned - rate**2 * left
        if state.v <= 0.0 and after.v <= 0.0:
            curvature = state.curvature

        # Braking harder than to a stop within the step asks for nothing more.
        stops = acceleration <= -state.v / dt
        if stops:
            acceleration = -state.v / dt
        share = lag_share(self.lag, dt)
        acceleration = state.a + (acceleration - state.a) / share
        change, jump = acceleration - state.a, p.jerk_max * dt
        allowed = min(max(acceleration, state.a - jump, -p.braking_max), state.a + jump, p.acceleration_max)
        reachable = min(max(curvature, -p.curvature_max), p.curvature_max)
        rate = (reachable - state.curvature) / dt / share
        bites = {
            "braking": acceleration < -p.braking_max * _TOLERANCE,
            "acceleration": acceleration > p.acceleration_max * _TOLERANCE,
            "jerk": abs(change) > jump * _TOLERANCE and not stops,
            "curvature": abs(curvature) > p.curvature_max * _TOLERANCE,
            "curvature_rate": abs(rate) > p.curvature_rate_max * _TOLERANCE,
        }
        rate = min(max(rate, -p.curvature_rate_max), p.curvature_rate_max)
        saturated = tuple(name for name, bite in bites.items() if bite)
        return Tracked(Command(acceleration=allowed, curvature_rate=rate), error, saturated)

    def _hold(self, state: VehicleState, acceleration: float, dt: float) -> float:
        """Stand still: a rolling vehicle is braked to v = 0 within the step, a standing one stays."""
        if state.v <= 0.0:
            return 0.0
        return min(acceleration, -2 * state.v / dt - state.a, 0.0)

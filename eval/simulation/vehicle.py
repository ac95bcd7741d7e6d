"""The simulated ego: a kinematic bicycle on the rear axle, integrated exactly, with actuator limits.

Over one step the jerk and the curvature rate are constant, as between the entries of a planned
`Trajectory`. Speed, yaw and their derivatives are then polynomials of time; the position is a
Gauss-Legendre quadrature whose error is below 1e-9 m for steps up to a second.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from perception.recording import EgoTrack
from planner.limiter import Command
from planner.scene import EgoState, VehicleParameters

_NODE, _WEIGHT = np.polynomial.legendre.leggauss(8)
_NODE, _WEIGHT = (_NODE + 1) / 2, _WEIGHT / 2  # on [0, 1]


_NOTHING = 1e-9  # m/s or m/s^2; the roots of the speed lose their sign below this

STANDSTILL = 1e-4
"""Slower than this (m/s) without wanting to accelerate, the brakes hold the vehicle: v becomes exactly 0."""


@dataclass(frozen=True)
class VehicleState:
    """Rear axle in the global frame: x, y (m), yaw (rad), v >= 0 (m/s), a (m/s^2), curvature (1/m, left positive)."""

    x: float
    y: float
    yaw: float
    v: float
    a: float
    curvature: float

    @property
    def yaw_rate(self) -> float:
        """rad/s."""
        return self.v * self.curvature

    @property
    def pose(self) -> np.ndarray:
        """``[3]``: x, y, yaw."""
        return np.array([self.x, self.y, self.yaw])

    @classmethod
    def from_track(cls, track: EgoTrack, index: int, vehicle: VehicleParameters | None = None) -> Self:
        """A recorded state; with `vehicle`, brought inside what that vehicle can do (recordings are noisy)."""
        x, y, yaw = map(float, track.pose[index])
        state = cls(x, y, yaw, float(track.v[index]), float(track.a[index]), float(track.curvature[index]))
        return state if vehicle is None else state.limited(vehicle)

    def limited(self, vehicle: VehicleParameters) -> Self:
        """The nearest state within the limits of `vehicle`; a standing vehicle has no acceleration."""
        v = min(max(self.v, 0.0), vehicle.speed_max)
        a = min(max(self.a, -vehicle.braking_max), vehicle.acceleration_max) if v > 0 else 0.0
        bound = curvature_bound(v, vehicle)
        return dataclasses.replace(self, v=v, a=a, curvature=min(max(self.curvature, -bound), bound))

    def to_ego_state(self, time_us: int, source: str = "simulation") -> EgoState:
        """The contract's type, global frame, float64."""
        f = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
        return EgoState(
            f(self.x), f(self.y), f(self.yaw), f(self.v), f(self.a), f(self.curvature), f(self.yaw_rate),
            torch.tensor(time_us), source, source,
        )  # fmt: skip


def curvature_bound(v: float, vehicle: VehicleParameters) -> float:
    """Largest curvature (1/m) at speed v: the steering stop, or the tyres' lateral grip."""
    return min(vehicle.curvature_max, vehicle.lateral_acceleration_max / max(v * v, 1e-9))


def advance(state: VehicleState, jerk: float, curvature_rate: float, dt: float) -> VehicleState:
    """Exact motion over dt (s) under constant jerk (m/s^3) and curvature rate (1/(m s)), without limits.

    Speed never becomes negative: once at rest, the vehicle stays at rest with a = 0 to the end of the step, while
    the steering keeps moving.
    """
    moving = min(dt, _time_to_rest(state.v, state.a, jerk))
    curvature = state.curvature + curvature_rate * dt
    if moving <= 0.0:
        return dataclasses.replace(state, v=0.0, a=0.0, curvature=curvature)
    v0, a0, k0, c = state.v, state.a, state.curvature, curvature_rate
    t = _NODE * moving
    v = v0 + t * (a0 + t * jerk / 2)
    yaw = state.yaw + t * (
        v0 * k0 + t * ((a0 * k0 + v0 * c) / 2 + t * ((jerk * k0 / 2 + a0 * c) / 3 + t * jerk * c / 8))
    )
    x = state.x + moving * float(_WEIGHT @ (v * np.cos(yaw)))
    y = state.y + moving * float(_WEIGHT @ (v * np.sin(yaw)))
    t1 = moving
    yaw_end = state.yaw + t1 * (
        v0 * k0 + t1 * ((a0 * k0 + v0 * c) / 2 + t1 * ((jerk * k0 / 2 + a0 * c) / 3 + t1 * jerk * c / 8))
    )
    if moving < dt:
        return VehicleState(x, y, _wrap(yaw_end), 0.0, 0.0, curvature)
    v_end = max(v0 + t1 * (a0 + t1 * jerk / 2), 0.0)
    return VehicleState(x, y, _wrap(yaw_end), v_end, a0 + jerk * t1, curvature)


def lag_share(lag: float, dt: float) -> float:
    """Part of a commanded change that an actuator with first-order lag (s) makes within dt (s)."""
    return 1.0 if lag <= 0 else 1.0 - math.exp(-dt / lag)


@dataclass(frozen=True)
class Bicycle:
    """A vehicle that obeys a `Command` as far as its limits allow.

    lag (s): acceleration and curvature approach their commanded values with this time constant; 0 = at once.
    """

    vehicle: VehicleParameters
    lag: float = 0.0

    def step(self, state: VehicleState, command: Command, dt: float) -> VehicleState:
        """The state dt (s) later.

        command.acceleration (m/s^2) is the value reached at the end of the step, along a straight ramp;
        command.curvature_rate (1/(m s)) holds during the step. Both are cut to the limits of the vehicle. Grip
        wins over the steering rate: a vehicle that is too fast for its curvature runs wide.
        Raises ValueError if the command is not finite.
        """
        if not (math.isfinite(command.acceleration) and math.isfinite(command.curvature_rate)):
            raise ValueError(f"Bicycle.step: expected a finite command, got {command}")
        p = self.vehicle
        share = lag_share(self.lag, dt)
        wanted = min(max(command.acceleration, -p.braking_max), p.acceleration_max)
        if state.v <= 0.0:
            wanted = max(wanted, 0.0)
        change = min(max((wanted - state.a) * share, -p.jerk_max * dt), p.jerk_max * dt)
        jerk = change / dt
        rate = min(max(command.curvature_rate * share, -p.curvature_rate_max), p.curvature_rate_max)

        bound = curvature_bound(min(advance(state, jerk, 0.0, dt).v, p.speed_max), p)
        rate = (min(max(state.curvature + rate * dt, -bound), bound) - state.curvature) / dt
        free = min(dt, _time_to_speed(p.speed_max, state.v, state.a, jerk))
        end = advance(state, jerk, rate, free)
        if free < dt:
            governed = dataclasses.replace(end, v=p.speed_max, a=0.0)
            end = advance(governed, 0.0, rate, dt - free)
        if end.v < STANDSTILL and wanted <= 0.0:
            end = dataclasses.replace(end, v=0.0, a=0.0)
        return end


def _time_to_rest(v: float, a: float, jerk: float) -> float:
    """First time (s) at which the speed has fallen to 0; infinite if it does not."""
    if v <= _NOTHING and (a < 0.0 or (a <= _NOTHING and jerk <= 0.0)):
        return 0.0
    return _first_root(v, a, jerk / 2)


def _time_to_speed(limit: float, v: float, a: float, jerk: float) -> float:
    """First time (s) at which the speed has risen to `limit`; infinite if it does not."""
    if v >= limit - _NOTHING and (a > 0.0 or (a >= -_NOTHING and jerk > 0.0)):
        return 0.0
    return _first_root(limit - v, -a, -jerk / 2)


def _first_root(c: float, b: float, a: float) -> float:
    """Smallest positive root of c + b t + a t^2, infinite if there is none."""
    if abs(a) < 1e-12:
        return -c / b if b < 0.0 else math.inf
    discriminant = b * b - 4 * a * c
    if discriminant < 0.0:
        return math.inf
    q = -(b + math.copysign(math.sqrt(discriminant), b)) / 2
    roots = [q / a] + ([c / q] if q != 0.0 else [])
    return min((t for t in roots if t > 1e-12), default=math.inf)


def _wrap(angle: float) -> float:
    return angle - 2 * math.pi * round(angle / (2 * math.pi))

"""Minimal-risk motions computed from the ego state alone: no solver, no scene, always an answer.

Braking is jerk-limited and ends at rest with zero acceleration; the curvature stays within its rate
and the grip that braking leaves. Positions are integrated exactly between entries (constant jerk and
curvature rate, `planner.scene.Trajectory`), so the checker finds the kinematics consistent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from planner.scene import EgoState, Trajectory, VehicleParameters

STEP = 0.1  # s between entries
_GRIP_USE = 0.97  # of the ellipse, so that rounding does not break it
_LATERAL_JERK = 15.0  # m/s^3, below what checker and limiter allow
_LEAST_BRAKING = 2.0  # m/s^2, even where cornering takes all the grip
_HOLD = 1.0  # s of standing at the end
_LET_GO = 2e-3  # s: where the brake cannot be released in time it lets go at rest, within this
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


@dataclass(frozen=True)
class _Phase:
    """Constant jerk from `start` s on, where the state is v, a."""

    start: float
    v: float
    a: float
    jerk: float


def maximum_braking(
    ego: EgoState, vehicle: VehicleParameters | None = None, path: Trajectory | None = None
) -> Trajectory:
    """The hardest stop that jerk and grip allow, in ego's frame; steers along `path` (same frame) if given.

    Without a path the present curvature is kept. Raises ValueError for a batch or a state that is not finite.
    """
    vehicle = vehicle or VehicleParameters()
    return _stop(ego, vehicle, vehicle.braking_max, path)


def brake_in_path(
    ego: EgoState, path: Trajectory, vehicle: VehicleParameters | None = None, braking: float = 4.0
) -> Trajectory:
    """Stop with `braking` (m/s^2, magnitude) along the way of `path` (ego's frame), from where ego really is.

    Raises ValueError for a batch, a state that is not finite or braking that is not positive.
    """
    if not braking > 0:
        raise ValueError(f"brake_in_path: expected braking > 0 m/s^2, got {braking}")
    vehicle = vehicle or VehicleParameters()
    return _stop(ego, vehicle, min(braking, vehicle.braking_max), path)


def _stop(ego: EgoState, vehicle: VehicleParameters, braking: float, path: Trajectory | None) -> Trajectory:
    x, y, yaw, v, a, curvature = (float(f) for f in (ego.x, ego.y, ego.yaw, ego.v, ego.a, ego.curvature))
    if not all(map(math.isfinite, (x, y, yaw, v, a, curvature))):
        raise ValueError("fallback: expected a finite ego state")
    v = max(v, 0.0)
    way = None if path is None else _Way.of(path)
    bend = _sharpest(way, x, y, v, curvature)
    lateral = min(v * v * bend / (_GRIP_USE * vehicle.lateral_acceleration_max), 1.0)
    strongest = max(_GRIP_USE * vehicle.braking_max * math.sqrt(1.0 - lateral**2), _LEAST_BRAKING)
    # Sampling compares a and jerk at the limit; a hair inside keeps rounding out of the verdict.
    a = min(max(a, -vehicle.braking_max), vehicle.acceleration_max)
    phases, rest = _profile(v, a, min(braking, strongest), 0.99 * vehicle.jerk_max)
    time = _times(phases, rest)
    rows = [(0.0, x, y, yaw, v, a, curvature)]
    for i in range(len(time) - 1):
        h = time[i + 1] - time[i]
        v0, a0 = _state(phases, rest, time[i])
        v1, a1 = _state(phases, rest, time[i + 1])
        wanted = curvature if way is None else way.steer(x, y, yaw, v0)
        bent = _steered(curvature, wanted, v0, a1, h, vehicle)
        x, y, yaw = advance(x, y, yaw, v0, a0, (a1 - a0) / h, curvature, (bent - curvature) / h, h)
        curvature = bent
        rows.append((time[i + 1], x, y, yaw, v1, a1, curvature))
    columns = torch.tensor(rows, dtype=torch.float64).T
    return Trajectory(*(c.clone() for c in columns))


def _profile(v: float, a: float, braking: float, jerk: float) -> tuple[list[_Phase], float]:
    """Jerk-limited stop: build up braking, hold it, release it so that v and a reach zero together."""
    if v <= 1e-6:
        return [], 0.0
    peak = min(braking, math.sqrt(jerk * v + 0.5 * a * a) if jerk * v + 0.5 * a * a > 0 else 0.0)
    phases, t = [], 0.0
    for target in (-peak, None, 0.0):
        if target is None:
            hold = (v - peak * peak / (2 * jerk)) / peak
            if hold > 1e-9:
                phases.append(_Phase(t, v, a, 0.0))
                t, v = t + hold, v + a * hold
            continue
        change = target - a
        length = abs(change) / jerk
        if length > 1e-9:
            j = math.copysign(jerk, change)
            stop = _first_zero(v, a, j, length)
            phases.append(_Phase(t, v, a, j))
            t += stop
            v, a = v + a * stop + 0.5 * j * stop * stop, a + j * stop
            if stop < length:
                break  # already braking too hard to release in time: stands earlier, brake lets go at rest
    return phases, t


def _first_zero(v: float, a: float, j: float, length: float) -> float:
    """First time in (0, length) at which v + a t + j t^2 / 2 is zero, else `length`."""
    root = a * a - 2 * j * v
    if root < 0:
        return length
    times = [(-a + s * math.sqrt(root)) / j for s in (-1.0, 1.0)]
    return min([t for t in times if 1e-9 < t < length - 1e-6], default=length)


def _state(phases: list[_Phase], rest: float, t: float) -> tuple[float, float]:
    """v, a at time t."""
    if not phases or t >= rest - 1e-9:
        return 0.0, 0.0
    p = [q for q in phases if q.start <= t + 1e-9][-1]
    s = max(t - p.start, 0.0)
    return max(p.v + p.a * s + 0.5 * p.jerk * s * s, 0.0), p.a + p.jerk * s


def _times(phases: list[_Phase], rest: float) -> list[float]:
    """The regular grid plus the moments at which the jerk changes; entries closer than 1 ms are merged."""
    regular = STEP * np.arange(math.ceil((rest + _HOLD) / STEP) + 1)
    marks = [p.start for p in phases] + [rest]
    if phases and rest > 2 * _LET_GO and _state(phases, rest, rest - _LET_GO)[1] < -0.1:
        marks.append(rest - _LET_GO)
    every = np.unique(np.concatenate([regular, marks]))
    exact = {round(t, 9) for t in marks} | {0.0}
    kept = [0.0]
    for t in every[1:]:
        if t - kept[-1] > 1e-3:
            kept.append(float(t))
        elif round(float(t), 9) in exact and kept[-1] > 0:
            kept[-1] = float(t)
    return kept


def _steered(now: float, wanted: float, v: float, a: float, h: float, vehicle: VehicleParameters) -> float:
    """Curvature after h seconds: toward `wanted` within rate, mechanical limit and the grip braking leaves."""
    free = math.sqrt(max(1.0 - (min(a, 0.0) / vehicle.braking_max) ** 2, 0.0))
    grip = _GRIP_USE * vehicle.lateral_acceleration_max * free / max(v * v, 0.1)
    bound = min(0.99 * vehicle.curvature_max, max(grip, 0.0))
    wanted = min(max(wanted, -bound), bound)
    rate = min(0.95 * vehicle.curvature_rate_max, _LATERAL_JERK / max(v * v, 0.1))
    return min(max(wanted, now - rate * h), now + rate * h)


def advance(
    x: float, y: float, yaw: float, v: float, a: float, j: float, k: float, r: float, h: float
) -> tuple[float, float, float]:
    """Pose after h seconds from x, y, yaw with v, a, jerk j, curvature k, curvature rate r (exact to 1e-9 m)."""

    def turned(t: float) -> float:
        return yaw + t * (v * k + t * ((v * r + a * k) / 2 + t * ((a * r + 0.5 * j * k) / 3 + t * j * r / 8)))

    for node, weight in zip(_NODES, _WEIGHTS):
        t = node * h
        speed, heading = max(v + a * t + 0.5 * j * t * t, 0.0), turned(t)
        x += weight * h * speed * math.cos(heading)
        y += weight * h * speed * math.sin(heading)
    return x, y, turned(h)


def _sharpest(way: _Way | None, x: float, y: float, v: float, curvature: float) -> float:
    if way is None:
        return abs(curvature)
    return max(abs(curvature), way.sharpest(x, y, v))


@dataclass(frozen=True)
class _Way:
    """A path by arc length: s ``[n]`` m, x, y, yaw, curvature ``[n]``."""

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, path: Trajectory) -> _Way | None:
        """From a trajectory's geometry; None if it goes nowhere or is not finite."""
        x, y, yaw, k = (f.detach().cpu().numpy().astype(np.float64) for f in (path.x, path.y, path.yaw, path.curvature))
        if x.ndim != 1 or not all(np.isfinite(f).all() for f in (x, y, yaw, k)):
            return None
        step = np.hypot(np.diff(x), np.diff(y))
        moved = np.concatenate([[True], step > 1e-3])
        s = np.concatenate([[0.0], np.cumsum(step)])[moved]
        return cls(s, x[moved], y[moved], np.unwrap(yaw)[moved], k[moved]) if moved.sum() >= 2 else None

    def _locate(self, x: float, y: float) -> tuple[float, float]:
        """Arc length of the nearest point, and the offset to the left of it (m)."""
        dx, dy = np.diff(self.x), np.diff(self.y)
        u = np.clip(((x - self.x[:-1]) * dx + (y - self.y[:-1]) * dy) / (dx**2 + dy**2), 0.0, 1.0)
        gx, gy = x - self.x[:-1] - u * dx, y - self.y[:-1] - u * dy
        i = int((gx**2 + gy**2).argmin())
        size = math.hypot(dx[i], dy[i])
        offset = (dx[i] * (y - self.y[i]) - dy[i] * (x - self.x[i])) / size
        return float(self.s[i] + u[i] * size), float(offset)

    def sharpest(self, x: float, y: float, v: float) -> float:
        """Largest curvature where ego is still fast: the first second's way."""
        s, _ = self._locate(x, y)
        ahead = (self.s >= s - 1.0) & (self.s <= s + v)
        return float(np.abs(self.curvature[ahead]).max()) if ahead.any() else 0.0

    def steer(self, x: float, y: float, yaw: float, v: float) -> float:
        """Curvature to command: the way's, a step ahead, plus a critically damped return to it."""
        s, offset = self._locate(x, y)
        ahead = s + v * STEP
        heading = float(np.interp(s, self.s, self.yaw))
        turn = math.remainder(yaw - heading, 2 * math.pi)
        length = max(0.8 * v, 2.5)  # m over which a deviation is steered out
        # Beyond its end the way goes on straight, with its last curvature the nearest guess.
        feed = float(np.interp(ahead, self.s, self.curvature))
        return feed - offset / length**2 - 2.0 * math.sin(turn) / length

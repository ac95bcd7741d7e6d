"""Can the vehicle drive this at all: start state, consistency of the numbers, actuators and grip.

Judged on the Cartesian entries themselves, between which jerk and curvature rate are constant
(`planner.scene.Trajectory`), so every limit is tested without re-sampling.
"""

from __future__ import annotations

import math

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.motion import Motion
from planner.checker.rules.finding import Finding
from planner.scene import VehicleParameters

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def well_formed(motion: Motion, name: str) -> Finding:
    """Finite numbers, strictly increasing times, first time 0. Nothing else is judged if this fails."""
    found = Finding()
    if not motion.finite:
        found.limit(f"{name}_finite", np.zeros(1), np.array([-1.0]), "NaN or infinite numbers")
        return found
    found.limit(f"{name}_time", motion.time[1:], np.diff(motion.time) - 1e-6, "times must increase")
    found.limit(f"{name}_time", motion.time[:1], 1e-6 - np.abs(motion.time[:1]), "time[0] must be 0")
    return found


def start_state(motion: Motion, ego: np.ndarray, config: CheckerConfig, kept: bool, name: str) -> Finding:
    """The first entry is where ego is: ego = x, y, yaw, v, a, curvature. A kept tail may be farther off."""
    found, factor = Finding(), config.kept_factor if kept else 1.0
    c, s = np.cos(ego[2]), np.sin(ego[2])
    off = motion.pose[0] - ego[:3]
    turn = math.remainder(off[2], 2 * math.pi)
    differences = {
        "start_position": (np.hypot(c * off[0] + s * off[1], c * off[1] - s * off[0]), config.start_position),
        "start_yaw": (abs(turn), config.start_yaw),
        "start_speed": (abs(motion.v[0] - ego[3]), config.start_speed),
        "start_acceleration": (abs(motion.a[0] - ego[4]), config.start_acceleration),
        "start_curvature": (abs(motion.curvature[0] - ego[5]), config.start_curvature),
    }
    for rule, (difference, tolerance) in differences.items():
        margin = np.array([factor * tolerance - difference])
        found.limit(f"{name}_{rule}", np.zeros(1), margin, f"{difference:.3f} from the ego state")
    return found


def consistency(motion: Motion, config: CheckerConfig, name: str) -> Finding:
    """Speed, heading and position follow from a and curvature, step by step and over a second."""
    found = Finding()
    h = np.diff(motion.time)
    v0, v1, a0, a1 = motion.v[:-1], motion.v[1:], motion.a[:-1], motion.a[1:]
    k0, k1 = motion.curvature[:-1], motion.curvature[1:]
    later = motion.time[1:]
    standing = np.maximum(np.abs(v0), np.abs(v1)) <= config.rest_speed  # the brake holds against any a
    speed_error = np.where(standing | _stops(motion, config), 0.0, np.abs(v1 - v0 - 0.5 * (a0 + a1) * h))
    found.limit(f"{name}_consistent_speed", later, config.step_speed - speed_error, "v does not follow from a")
    # Heading inside the step: integral of v * curvature, both polynomials of time.
    t = _NODES * h[:, None]
    jerk, bend = ((a1 - a0) / h)[:, None], ((k1 - k0) / h)[:, None]
    speed = np.maximum(v0[:, None] + a0[:, None] * t + 0.5 * jerk * t**2, np.minimum(v0, 0.0)[:, None])
    heading = motion.pose[:-1, 2, None] + _heading_gain(v0[:, None], a0[:, None], jerk, k0[:, None], bend, t)
    full = h[:, None]
    gain = _heading_gain(v0[:, None], a0[:, None], jerk, k0[:, None], bend, full)[:, 0]
    turn_error = np.abs(motion.pose[1:, 2] - motion.pose[:-1, 2] - gain)
    found.limit(f"{name}_consistent_yaw", later, config.step_yaw - turn_error, "yaw does not follow from v curvature")
    weight = h[:, None] * _WEIGHTS * speed
    step = motion.pose[1:] - motion.pose[:-1]
    error = np.empty((len(h), 2))
    error[:, 0] = step[:, 0] - (weight * np.cos(heading)).sum(1)
    error[:, 1] = step[:, 1] - (weight * np.sin(heading)).sum(1)
    size = np.hypot(error[:, 0], error[:, 1])
    found.limit(f"{name}_consistent_position", later, config.step_position - size, "x, y do not follow from v, yaw")
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(error, 0)])
    ahead = np.searchsorted(motion.time, motion.time + 1.0 + 1e-9) - 1
    moved = total[ahead] - total
    drift = np.hypot(moved[:, 0], moved[:, 1])
    found.limit(f"{name}_drift", motion.time, config.drift - drift, "x, y drift from v, yaw within a second")
    return found


def _heading_gain(
    v: np.ndarray, a: np.ndarray, j: np.ndarray, k: np.ndarray, r: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Integral from 0 to t of (v + a t + j t^2 / 2) (k + r t)."""
    return t * (v * k + t * ((v * r + a * k) / 2 + t * ((a * r + 0.5 * j * k) / 3 + t * j * r / 8)))


def envelope(motion: Motion, vehicle: VehicleParameters, config: CheckerConfig, name: str) -> Finding:
    """Actuators and grip. Longitudinal and lateral use of grip share an ellipse (braking_max, lateral max)."""
    found, slack = Finding(), config.envelope
    time, v, a, k = motion.time, motion.v, motion.a, motion.curvature
    h, later = np.diff(time), time[1:]
    found.limit(f"{name}_reverse", time, v + 0.02, "drives backwards")
    found.limit(f"{name}_speed_max", time, slack * vehicle.speed_max - v, "faster than the vehicle can")
    # What ego does already at the start cannot be undone at once, only not be made worse.
    found.limit(f"{name}_acceleration", time, slack * vehicle.acceleration_max - np.minimum(a, _from_start(a)), "a")
    found.limit(f"{name}_braking", time, slack * vehicle.braking_max + a, "brakes harder than the vehicle can")
    moving = np.maximum(v[1:], v[:-1]) > 0.3
    jerk = np.where(moving, np.abs(np.diff(a)) / h, 0.0)  # the brake may grip or let go at standstill
    jerk = np.where(_stops(motion, config), 0.0, jerk)
    found.limit(f"{name}_jerk", later, slack * vehicle.jerk_max - jerk, f"{jerk.max():.1f} m/s^3")
    bend_limit = np.maximum(slack * vehicle.curvature_max, np.abs(k[0]) + 1e-6)
    found.limit(f"{name}_curvature", time, bend_limit - np.abs(k), f"{np.abs(k).max():.3f} 1/m")
    rate = np.abs(np.diff(k)) / h
    found.limit(f"{name}_curvature_rate", later, slack * vehicle.curvature_rate_max - rate, f"{rate.max():.3f} 1/(m s)")
    lateral_jerk = np.maximum(v[1:], v[:-1]) ** 2 * rate
    found.limit(
        f"{name}_lateral_jerk", later, slack * config.lateral_jerk_max - lateral_jerk, f"{lateral_jerk.max():.1f}"
    )
    lateral = v**2 * np.abs(k)
    allowed = np.maximum(slack * vehicle.lateral_acceleration_max, lateral[0] + 1e-6)
    found.limit(f"{name}_lateral_acceleration", time, allowed - lateral, f"{lateral.max():.2f} m/s^2")
    use = np.hypot(np.minimum(a, 0.0) / vehicle.braking_max, lateral / vehicle.lateral_acceleration_max)
    use = np.maximum(
        use, np.hypot(np.maximum(a, 0.0) / vehicle.braking_max, lateral / vehicle.lateral_acceleration_max)
    )
    found.limit(f"{name}_grip", time, np.maximum(slack, use[0] + 1e-6) - use, f"uses {use.max():.2f} of the grip")
    return found


def _stops(motion: Motion, config: CheckerConfig) -> np.ndarray:
    """Steps ``[T - 1]`` within which the vehicle comes to rest under the braking it had: a then ends with the speed."""
    h = np.diff(motion.time)
    v0, v1, a0 = motion.v[:-1], motion.v[1:], motion.a[:-1]
    return (v1 <= config.rest_speed) & (a0 < 0) & (v0 + a0 * h <= config.step_speed)


def _from_start(a: np.ndarray) -> np.ndarray:
    """`a`, or 0 as long as it has only fallen from its first value."""
    falling = np.minimum.accumulate(a)
    return np.where((a <= falling + 1e-9) & (a <= a[0]), np.minimum(a, 0.0), a)


def ends_at_rest(tail: Motion, config: CheckerConfig) -> Finding:
    """The tail stands from `rest_time` to its end, and soon enough."""
    found = Finding()
    rest = tail.rest_time(config.rest_speed)
    if not np.isfinite(rest):
        found.limit("tail_rest", tail.time[-1:], config.rest_speed - np.abs(tail.v[-1:]) - 1e-9, "does not end at rest")
    else:
        found.limit("tail_rest", np.array([rest]), np.array([config.tail_horizon - rest]), "takes too long to rest")
    return found


def shared_start(trajectory: Motion, tail: Motion, config: CheckerConfig) -> Finding:
    """Trajectory and tail are the same motion for the first `shared_time`."""
    found = Finding()
    time = np.arange(0.0, config.shared_time + 1e-9, config.step)
    one, two = trajectory.at(time), tail.at(time)
    apart = np.hypot(*(one.pose - two.pose)[:, :2].T)
    found.limit("tail_shared", time, 0.02 - apart, "leaves the trajectory before the next cycle can")
    found.limit("tail_shared", time, 0.1 - np.abs(one.v - two.v), "differs in speed before the next cycle can")
    return found

"""From speed and curvature profiles to Cartesian trajectories: exact kinematics of the rear axle."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planner.arrays import ARRAYS, library
from planner.lateral import LateralState
from planner.longitudinal import LongitudinalMotion
from planner.reference_path import ReferencePath
from planner.scene import Trajectory

REST_SPEED = 0.04
"""m/s: the numerical remains of a stop."""

X, Y, YAW, SPEED, ACCELERATION, CURVATURE = range(6)


def integrate(
    motion: LongitudinalMotion, kappa: Float[Tensor, "R 2 F"], start: Float[Tensor, "R 6"], step: float
) -> Trajectory:
    """Kinematic bicycle along given profiles; start = (x, y, yaw, v, a, curvature) per candidate.

    Jerk and curvature rate are constant within a step. Simpson's rule for the heading is exact (the integrand v kappa
    is cubic in time); for the position its error is of fifth order in the step. Returns ``[R, 2, F + 1]``.
    """
    inputs = (motion.v, motion.a, motion.jerk, kappa, start)
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        states = _Integrate.apply(step, *inputs)
    else:
        states = torch.from_numpy(_forward(step, *(x.detach().numpy() for x in inputs))[0])
    return Trajectory(_times(motion.v.shape[-1], step).expand(states.shape[1:]), *states.unbind(0))


class _Integrate(torch.autograd.Function):
    """Written by hand, forward and backward: many steps that each reuse a few common factors."""

    @staticmethod
    def forward(ctx: Any, step: float, *inputs: Tensor) -> Tensor:
        ctx.step = step
        ctx.save_for_backward(*inputs)
        states, ctx.parts = _forward(step, *(x.detach().numpy() for x in inputs))
        return torch.from_numpy(states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        arrays = [x.detach().numpy() for x in ctx.saved_tensors]
        return (None, *map(torch.from_numpy, _backward(ctx.step, arrays, ctx.parts, grad.numpy())))


def _forward(
    h: float, v: np.ndarray, a: np.ndarray, jerk: np.ndarray, kappa: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The states ``[6, R, 2, F + 1]``, and what `_backward` needs again."""
    states = np.empty((6, *v.shape[:2], v.shape[2] + 1))
    states[..., 0] = start.T[:, :, None]
    x, y, yaw, speed, accel, curve = states
    # From the moment on from which it never again exceeds walking a snail's pace, the tail is at rest.
    np.maximum(v, 0.0, out=speed[..., 1:])
    later = np.maximum.accumulate(speed[:, 1, :0:-1], -1)[:, ::-1]
    parked = np.zeros(v.shape, dtype=bool)
    np.less(later, REST_SPEED, out=parked[:, 1])
    speed[..., 1:][parked] = 0.0
    resting = parked | ((speed[..., 1:] < 1e-3) & (v <= 1e-2))
    curve[..., 1:] = kappa
    accel[..., 1:] = np.where(resting, 0.0, a)
    v0, v1, k0 = speed[..., :-1], speed[..., 1:], curve[..., :-1]
    middle_speed = np.where(resting, v0 / 2, np.maximum(v1 - a * (h / 2) + jerk * (h**2 / 8), 0.0))
    # Half-step heading: Simpson over the half with its own midpoint, at a quarter of the step.
    quarter_speed = np.maximum((3 * v0 + 6 * middle_speed - v1) / 8, 0.0)
    quarter = quarter_speed * (3 * k0 + kappa)
    bend = speed * curve
    middle = middle_speed * (k0 + kappa)
    before = bend[..., :-1]
    yaw[..., 1:] = (before + 2 * middle + bend[..., 1:]) * (h / 6)
    _accumulate(yaw)
    half_yaw = yaw[..., :-1] + (before + quarter + middle / 2) * (h / 12)
    (cos, sin), (half_cos, half_sin) = ARRAYS.cos_sin(yaw), ARRAYS.cos_sin(half_yaw)
    for out, ends, half in ((x, cos * speed, half_cos), (y, sin * speed, half_sin)):
        out[..., 1:] = (ends[..., :-1] + 4 * (half * middle_speed) + ends[..., 1:]) * (h / 6)
        _accumulate(out)
    return states, (states, parked, resting, middle_speed, quarter_speed, cos, sin, half_cos, half_sin)


def _backward(h: float, inputs: list[np.ndarray], parts: tuple[np.ndarray, ...], g: np.ndarray) -> list[np.ndarray]:
    """Gradients of v, a, jerk, kappa and start from those of the states."""
    v, kappa = inputs[0], inputs[3]
    (states, parked, resting, middle_speed, quarter_speed, cos, sin, half_cos, half_sin) = parts
    _, _, _, speed, _, curve = states
    k0 = curve[..., :-1]
    g_start = np.empty((6, v.shape[0]))
    dx, dy = _remaining(g[X]), _remaining(g[Y])
    g_start[X], g_start[Y] = dx[..., 0].sum(1), dy[..., 0].sum(1)
    dx, dy = dx[..., 1:] * (h / 6), dy[..., 1:] * (h / 6)
    dx_ends, dy_ends = _both_ends(dx), _both_ends(dy)
    d_speed = g[SPEED] + dx_ends * cos + dy_ends * sin
    d_yaw = g[YAW] + (dy_ends * cos - dx_ends * sin) * speed
    d_middle_speed = 4 * (dx * half_cos + dy * half_sin)
    d_half_yaw = 4 * middle_speed * (dy * half_cos - dx * half_sin)
    d_yaw[..., :-1] += d_half_yaw
    d_half_yaw *= h / 12
    d_yaw = _remaining(d_yaw)
    g_start[YAW] = d_yaw[..., 0].sum(1)
    d_turn = d_yaw[..., 1:] * (h / 6)
    d_bend = _both_ends(d_turn)
    d_bend[..., :-1] += d_half_yaw
    d_speed += d_bend * curve
    d_curve = g[CURVATURE] + d_bend * speed
    d_middle = 2 * d_turn + d_half_yaw / 2
    d_middle_speed += d_middle * (k0 + kappa)
    d_sum = d_middle * middle_speed
    d_quarter = d_half_yaw * quarter_speed
    d_curve[..., :-1] += d_sum + 3 * d_quarter
    d_curve[..., 1:] += d_sum + d_quarter
    d_quarter_speed = np.where(quarter_speed > 0, d_half_yaw * (3 * k0 + kappa), 0.0)
    d_speed[..., :-1] += d_quarter_speed * 0.375
    d_speed[..., 1:] -= d_quarter_speed * 0.125
    d_middle_speed += d_quarter_speed * 0.75
    d_speed[..., :-1] += np.where(resting, d_middle_speed / 2, 0.0)
    d_free = np.where(resting | (middle_speed <= 0), 0.0, d_middle_speed)
    d_speed[..., 1:] += d_free
    g_start[SPEED], g_start[CURVATURE] = d_speed[..., 0].sum(1), d_curve[..., 0].sum(1)
    g_start[ACCELERATION] = g[ACCELERATION][..., 0].sum(1)
    d_v = np.where(parked | (v < 0), 0.0, d_speed[..., 1:])
    d_a = np.where(resting, 0.0, g[ACCELERATION][..., 1:]) - d_free * (h / 2)
    return [d_v, d_a, d_free * (h**2 / 8), d_curve[..., 1:], g_start.T]


def _accumulate(values: np.ndarray) -> None:
    """Running sums along the last axis, in place."""
    flat = torch.from_numpy(values)
    torch.cumsum(flat, -1, out=flat)


def _remaining(values: np.ndarray) -> np.ndarray:
    """Sums from each entry of the last axis to its end."""
    return values[..., ::-1].cumsum(-1)[..., ::-1]


def _both_ends(steps: np.ndarray) -> np.ndarray:
    """What F steps bring to the F + 1 points between which they lie."""
    out = np.zeros((*steps.shape[:-1], steps.shape[-1] + 1))
    out[..., :-1] = steps
    out[..., 1:] += steps
    return out


@lru_cache(maxsize=8)
def _times(steps: int, step: float) -> Tensor:
    return torch.arange(steps + 1, dtype=torch.float64) * step


def frenet_view(
    trajectory: Trajectory, path: ReferencePath, guess: Float[Tensor, "R 2 F"]
) -> tuple[Tensor, LateralState, Tensor]:
    """What a trajectory does along the path: s ``[R, 2, F]`` m, (d, psi, kappa), and rho = ds per metre driven.

    path: one row per candidate, see `ReferencePath.rows`.
    """
    s, d, _, heading, curvature = path.locate(trajectory.xy[..., 1:, :], guess)
    xp = library(trajectory.yaw, d, heading)
    psi = xp.of(trajectory.yaw)[..., 1:] - xp.of(heading)
    psi = psi - xp.plain(2 * np.pi * np.round(xp.values(psi) * (1 / (2 * np.pi))))
    rho = xp.cos_sin(psi)[0] / xp.at_least(1 - xp.of(curvature) * xp.of(d), 0.2)
    state = LateralState(d, xp.tensor(psi), trajectory.curvature[..., 1:])
    return s, state, xp.tensor(xp.at_most(xp.at_least(rho, 0.3), 2.0))

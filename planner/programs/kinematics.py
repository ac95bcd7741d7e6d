"""From speed and curvature profiles to Cartesian trajectories: exact kinematics of the rear axle."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planner import compiled
from planner.compiled.stage import apply, workers
from planner.path.reference_path import ReferencePath
from planner.programs.arrays import library
from planner.programs.lateral import LateralState
from planner.programs.longitudinal import LongitudinalMotion
from planner.scene import Trajectory

REST_SPEED = 0.04
"""m/s: the numerical remains of a stop."""


def integrate(
    motion: LongitudinalMotion,
    kappa: Float[Tensor, "R 2 F"],
    start: Float[Tensor, "R 6"],
    step: float,
    threads: int = 1,
) -> Trajectory:
    """Kinematic bicycle along given profiles; start = (x, y, yaw, v, a, curvature) per candidate.

    Jerk and curvature rate are constant within a step. Simpson's rule for the heading is exact (the integrand v kappa
    is cubic in time); for the position its error is of fifth order in the step. Returns ``[R, 2, F + 1]``.
    threads: of the compiled version, for many candidates.
    """
    inputs = (motion.v, motion.a, motion.jerk, kappa, start)
    states = integrate_plain(step, *inputs) if _FORWARD is None else apply(_Integrate(step, threads), *inputs)
    return Trajectory(_times(motion.v.shape[-1], step).expand(states[0].shape), *states)


def integrate_plain(
    h: float, v: Tensor, a: Tensor, jerk: Tensor, kappa: Tensor, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The six states ``[R, 2, F + 1]``: what the compiled version computes."""
    x0, y0, yaw0, v_start, a_start, k_start = start[:, None, :, None].expand(-1, 2, -1, -1).unbind(2)
    # From the moment on from which it never again exceeds walking a snail's pace, the tail is at rest.
    later = v.detach()[:, 1].clamp(min=0).flip(-1).cummax(-1).values.flip(-1)
    parked = torch.stack([torch.zeros_like(later), (later < REST_SPEED).double()], 1) > 0
    v1 = torch.where(parked, 0.0, v.clamp(min=0))
    resting = parked | ((v1 < 1e-3) & (v <= 1e-2))
    speed, curve = torch.cat([v_start, v1], -1), torch.cat([k_start, kappa], -1)
    accel = torch.cat([a_start, torch.where(resting, 0.0, a)], -1)
    v0, k0 = speed[..., :-1], curve[..., :-1]
    middle_speed = torch.where(resting, v0 / 2, (v1 - a * (h / 2) + jerk * (h**2 / 8)).clamp(min=0))
    # Half-step heading: Simpson over the half with its own midpoint, at a quarter of the step.
    quarter = ((3 * v0 + 6 * middle_speed - v1) / 8).clamp(min=0) * (3 * k0 + kappa)
    bend, middle = speed * curve, middle_speed * (k0 + kappa)
    yaw = _summed(yaw0, (bend[..., :-1] + 2 * middle + bend[..., 1:]) * (h / 6))
    half_yaw = yaw[..., :-1] + (bend[..., :-1] + quarter + middle / 2) * (h / 12)

    def along(begin: Tensor, ends: Tensor, half: Tensor) -> Tensor:
        return _summed(begin, (ends[..., :-1] + 4 * (half * middle_speed) + ends[..., 1:]) * (h / 6))

    x, y = (along(b, f(yaw) * speed, f(half_yaw)) for b, f in ((x0, torch.cos), (y0, torch.sin)))
    return x, y, yaw, speed, accel, curve


def _summed(begin: Tensor, steps: Tensor) -> Tensor:
    return torch.cat([begin, steps], -1).cumsum(-1)


_FORWARD = compiled.kernel("dds_integrate", "ff TTTTT R nnn")
_BACKWARD = compiled.kernel("dds_integrate_adjoint", "ff TTTTT TTTTTT RRRRR nnn")


class _Integrate:
    """`integrate_plain`, compiled; a `planner.compiled.stage.Stage`."""

    def __init__(self, step: float, threads: int) -> None:
        self.step, self.threads = step, threads

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows, _, fine = inputs[0].shape
        states = torch.empty(6, rows, 2, fine + 1, dtype=torch.float64)
        assert _FORWARD is not None
        _FORWARD(self.step, REST_SPEED, *inputs, states, rows, fine, workers(rows, self.threads, 2.0))
        return states.unbind(0)

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> tuple[Tensor, ...]:
        rows, _, fine = inputs[0].shape
        found = tuple(torch.empty(x.shape, dtype=torch.float64) for x in inputs)
        assert _BACKWARD is not None
        _BACKWARD(self.step, REST_SPEED, *inputs, *gradients, *found, rows, fine, workers(rows, self.threads, 5.0))
        return found


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
    rho = xp.cos(psi) / xp.at_least(1 - xp.of(curvature) * xp.of(d), 0.2)
    state = LateralState(d, xp.tensor(psi), trajectory.curvature[..., 1:])
    return s, state, xp.tensor(xp.at_most(xp.at_least(rho, 0.3), 2.0))

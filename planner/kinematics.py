"""From speed and curvature profiles to Cartesian trajectories: exact kinematics of the rear axle."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from planner.lateral import LateralState
from planner.longitudinal import LongitudinalMotion
from planner.reference_path import ReferencePath
from planner.scene import Trajectory
from planner.scene.frames import wrap_angle

REST_SPEED = 0.04
"""m/s: the numerical remains of a stop."""


def integrate(
    motion: LongitudinalMotion,
    kappa: Float[Tensor, "K 2 F"],
    start: Float[Tensor, " 6"],
    step: float,
) -> Trajectory:
    """Kinematic bicycle along given profiles; start = (x, y, yaw, v, a, curvature).

    Jerk and curvature rate are constant within a step. Simpson's rule for the heading is exact (the integrand v kappa
    is cubic in time); for the position its error is of fifth order in the step. Returns ``[K, 2, F + 1]``.
    """
    h = step
    v1 = motion.v.clamp(min=0)
    # From the moment on from which it never again exceeds walking a snail's pace, the tail is at rest.
    later = torch.flip(torch.cummax(torch.flip(v1.detach(), [-1]), -1).values, [-1])
    is_tail = torch.tensor([False, True])[:, None]
    resting = (later < REST_SPEED) & is_tail
    v1 = torch.where(resting, torch.zeros_like(v1), v1)
    resting = resting | ((v1 < 1e-3) & (motion.v <= 1e-2))
    v0 = _shift(v1, start[3])
    v_mid = (v1 - motion.a * h / 2 + motion.jerk * h**2 / 8).clamp(min=0)
    v_mid = torch.where(resting, v0 / 2, v_mid)
    k0 = _shift(kappa, start[5])
    k_mid = (k0 + kappa) / 2
    # Half-step heading: Simpson over the half with its own midpoint, at a quarter of the step.
    v_quarter = ((3 * v0 + 6 * v_mid - v1) / 8).clamp(min=0)
    k_quarter = (3 * k0 + kappa) / 4
    turn = h / 6 * (v0 * k0 + 4 * v_mid * k_mid + v1 * kappa)
    half_turn = h / 12 * (v0 * k0 + 4 * v_quarter * k_quarter + v_mid * k_mid)
    yaw = start[2] + turn.cumsum(-1)
    yaw0 = _shift(yaw, start[2])
    yaw_mid = yaw0 + half_turn
    dx = h / 6 * (v0 * torch.cos(yaw0) + 4 * v_mid * torch.cos(yaw_mid) + v1 * torch.cos(yaw))
    dy = h / 6 * (v0 * torch.sin(yaw0) + 4 * v_mid * torch.sin(yaw_mid) + v1 * torch.sin(yaw))
    x, y = start[0] + dx.cumsum(-1), start[1] + dy.cumsum(-1)
    a = torch.where(resting, torch.zeros_like(motion.a), motion.a)
    first = lambda value, j: torch.cat([start[j].expand(*value.shape[:-1], 1), value], -1)  # noqa: E731
    time = torch.arange(motion.v.shape[-1] + 1, dtype=torch.float64) * h
    return Trajectory(
        time.expand(*motion.v.shape[:-1], -1), first(x, 0), first(y, 1), first(yaw, 2), first(v1, 3), first(a, 4),
        first(kappa, 5),
    )  # fmt: skip


def _shift(values: Tensor, start: Tensor) -> Tensor:
    return torch.cat([start.expand(*values.shape[:-1], 1), values[..., :-1]], -1)


def frenet_view(
    trajectory: Trajectory, path: ReferencePath, guess: Float[Tensor, "K 2 F"]
) -> tuple[Tensor, LateralState, Tensor]:
    """What a trajectory does along the path: s ``[K, 2, F]`` m, (d, psi, kappa), and rho = ds per metre driven."""
    xy = trajectory.xy[..., 1:, :]
    s, d, _ = path.project(xy, guess)
    _, heading, curvature = path.evaluate(s)
    psi = wrap_angle(trajectory.yaw[..., 1:] - heading)
    rho = torch.cos(psi) / (1 - curvature * d).clamp(min=0.2)
    return s, LateralState(d, psi, trajectory.curvature[..., 1:]), rho.clamp(0.3, 2.0)

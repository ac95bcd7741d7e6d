"""The lateral program: offset, heading error and curvature, curvature rate as input.

With the speed profile known, the motion against the path,

    d' = v sin(psi),   psi' = v kappa - v kappa_path cos(psi) / (1 - kappa_path d),   kappa' = u,

is linear in (d, psi, kappa) after linearisation about the last pass, and time-varying only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.grid import make_grid
from planner.longitudinal import LongitudinalMotion, row_labels
from planner.qp.dense import QuadraticProgram
from planner.result import RowLabel
from planner.scene import VehicleParameters

CIRCLES = 5


@dataclass
class LateralBounds:
    """What the decisions ask of the lateral motion. K candidates, 2 branches, N nodes, C circles.

    lower, upper ``[K, 2, N, C]`` m: interval for the offset of the axis point at each circle, half the width and
    margins already taken off; infinite where a row is not wanted. lower_id, upper_id: track id that sets
    them, -1 the map.
    d_ref ``[K, 2, N]`` m, slope_ref ``[K, 2, N]`` (rad): offset and heading error to aim for.
    """

    lower: Float[Tensor, "K 2 N C"]
    upper: Float[Tensor, "K 2 N C"]
    lower_id: Tensor
    upper_id: Tensor
    d_ref: Float[Tensor, "K 2 N"]
    slope_ref: Float[Tensor, "K 2 N"]


@dataclass
class LateralState:
    """Linearisation point or solution at the fine times ``[K, 2, F]``: d (m), psi (rad), kappa (1/m)."""

    d: Tensor
    psi: Tensor
    kappa: Tensor


def circle_offsets(vehicle: VehicleParameters) -> Float[Tensor, " C"]:
    """Distances (m) of the circle centres ahead of the rear axle, evenly spread over the length."""
    i = torch.arange(CIRCLES, dtype=torch.float64)
    return vehicle.rear_axle_to_center + ((2 * i + 1 - CIRCLES) / (2 * CIRCLES)) * vehicle.length


def build_lateral(
    bounds: LateralBounds,
    motion: LongitudinalMotion,
    path_curvature: Float[Tensor, "K 2 F"],
    about: LateralState,
    start: tuple[Tensor, Tensor, Tensor],
    weights: Float[Tensor, " W"],
    config: PlannerConfig,
    vehicle: VehicleParameters,
) -> tuple[QuadraticProgram, list[RowLabel], tuple[Tensor, Tensor]]:
    """The programs, their row labels, and the affine map (``[K, 2, F, 3, n]``, ``[K, 2, F, 3]``) from inputs to states.

    start: d0, psi0, kappa0. path_curvature: at the middle of the fine steps. weights: in the order of CostWeights.
    """
    grid, limits = make_grid(config.horizon), config.limits
    node, dt, tail, t = grid.node, grid.node_dt, grid.tail_own, grid.node_time
    maps, free = _predict(motion, path_curvature, about, start, config)
    k, n = len(free), grid.inputs
    m, c = maps[:, :, node], free[:, :, node]  # [K, 2, N, 3, n], [K, 2, N, 3]
    v, a = motion.v[:, :, node].clamp(min=0), motion.a[:, :, node]
    bend = path_curvature[:, :, node]

    w_offset, w_heading, w_curvature, w_rate = weights[4], weights[5], weights[6], weights[7]
    branch_weight = torch.tensor([1.0, 0.1], dtype=torch.float64)[None, :, None]
    scale = branch_weight * dt * torch.stack([torch.ones_like(t), tail.double()])[None]
    # Curvature and its rate cost what the passengers feel: lateral acceleration and jerk, plus a floor at low speed.
    grow = 1.0 + (v / 4.0) ** 4
    terms = (
        (m[..., 0, :], c[..., 0] - bounds.d_ref, scale * w_offset),
        (m[..., 1, :], c[..., 1] - bounds.slope_ref, scale * w_heading),
        (m[..., 2, :], c[..., 2] - bend, scale * w_curvature * 0.02 * grow),
    )
    P = torch.zeros(k, n, n, dtype=torch.float64)
    q = torch.zeros(k, n, dtype=torch.float64)
    for rows, offset, weight in terms:
        weighted = rows * weight[..., None]
        P = P + torch.einsum("kbti,kbtj->kij", weighted, rows)
        q = q + torch.einsum("kbti,kbt->ki", weighted, offset)
    first = (grid.first_fine(0), grid.first_fine(1))
    at_input = torch.where(grid.input_branch == 1, first[1], first[0])
    v_input = motion.v[:, grid.input_branch, at_input].clamp(min=0)
    own = torch.where(grid.input_branch == 1, 0.1, 1.0)
    P = P + torch.diag_embed(w_rate * own * grid.input_dt * (1.0 + (v_input / 4.0) ** 4))

    offsets = circle_offsets(vehicle)
    blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    labels: list[RowLabel] = []
    hard = t <= config.horizon.lateral_hard + 1e-9
    times = [round(x, 2) for x in t.tolist()]
    kappa0 = start[2]
    for branch, keep, suffix in ((0, hard, ""), (1, hard & tail, " (tail)")):
        mb, cb, vb = m[:, branch], c[:, branch], v[:, branch]
        index = keep.nonzero()[:, 0]
        named = [times[i] for i in index.tolist()]
        bow = -bend[:, branch, :, None] * offsets**2 / 2
        rows = mb[:, index, None, 0] + offsets[:, None] * mb[:, index, None, 1]
        base = cb[:, index, None, 0] + offsets * cb[:, index, None, 1] + bow[:, index]
        lower = bounds.lower[:, branch, index] - base
        upper = bounds.upper[:, branch, index] - base
        blocks.append((rows.flatten(1, 2), lower.flatten(1), upper.flatten(1)))
        labels += row_labels("corridor" + suffix, tuple(x for x in named for _ in range(CIRCLES)))
        heading = limits.heading_error_max + start[1].abs()
        blocks.append((mb[:, index, 1], -heading - cb[:, index, 1], heading - cb[:, index, 1]))
        labels += row_labels("heading" + suffix, tuple(named))
        use = torch.ones_like(tail) if branch == 0 else tail
        grip = limits.lateral_acceleration_max if branch == 0 else limits.tail_lateral_acceleration_max
        across = (grip**2 - (a[:, branch].clamp(-grip, grip) * 0.5) ** 2).sqrt()
        speed = vb.clamp(min=0.5)
        most = torch.minimum(across / speed**2, limits.yaw_rate_max / speed).clamp(max=0.95 * vehicle.curvature_max)
        # A start outside the limit may come back at three quarters of the steering rate.
        back = kappa0.abs() - 0.75 * _rate_limit(vb, config, vehicle) * t
        most = torch.maximum(most, back)
        blocks.append((mb[:, use, 2], (-most - cb[..., 2])[:, use], (most - cb[..., 2])[:, use]))
        labels += row_labels("curvature" + suffix, tuple(x for x, kept in zip(times, use.tolist()) if kept))
    A, lower, upper = (torch.cat(parts, 1) for parts in zip(*blocks))
    rate = _rate_limit(v_input, config, vehicle)
    return QuadraticProgram(P, q, A, lower, upper, -rate, rate), labels, (maps, free)


def _rate_limit(v: Tensor, config: PlannerConfig, vehicle: VehicleParameters) -> Tensor:
    """Largest curvature rate, 1/(m s): steering actuator at low speed, yaw acceleration and lateral jerk above."""
    speed = v.clamp(min=0.5)
    soft = torch.minimum(config.limits.yaw_acceleration_max / speed, 6.0 / speed**2)
    return soft.clamp(max=0.9 * vehicle.curvature_rate_max, min=0.01)


def lateral_state(inputs: Float[Tensor, "K n"], affine: tuple[Tensor, Tensor]) -> LateralState:
    """States at the fine times for given curvature rates."""
    maps, free = affine
    state = torch.einsum("kbfin,kn->kbfi", maps, inputs) + free
    return LateralState(state[..., 0], state[..., 1], state[..., 2])


def _predict(
    motion: LongitudinalMotion,
    path_curvature: Tensor,
    about: LateralState,
    start: tuple[Tensor, Tensor, Tensor],
    config: PlannerConfig,
) -> tuple[Tensor, Tensor]:
    """Affine maps from the inputs to (d, psi, kappa) at every fine time, by exact-to-third-order steps."""
    grid = make_grid(config.horizon)
    h = grid.step
    k = len(motion.v)
    v = motion.v.clamp(min=0)
    # Means over each fine step: exact for the speed up to its jerk term.
    v_mid = v - motion.a * h / 2 + motion.jerk * h**2 / 6
    d, psi = _midpoints(about.d, start[0]), _midpoints(about.psi, start[1])
    bend = path_curvature
    inv = 1 / (1 - bend * d).clamp(min=0.2)
    g, g_d, g_psi = torch.cos(psi) * inv, torch.cos(psi) * bend * inv**2, -torch.sin(psi) * inv
    zero = torch.zeros_like(v_mid)
    F = torch.stack([
        torch.stack([zero, v_mid * torch.cos(psi), zero], -1),
        torch.stack([-v_mid * bend * g_d, -v_mid * bend * g_psi, v_mid], -1),
        torch.zeros(*v_mid.shape, 3, dtype=torch.float64),
    ], -2)  # fmt: skip
    drift = torch.stack([
        v_mid * (torch.sin(psi) - torch.cos(psi) * psi),
        -v_mid * bend * (g - g_d * d - g_psi * psi),
        zero,
    ], -1)  # fmt: skip
    eye = torch.eye(3, dtype=torch.float64)
    F2 = F @ F
    transition = eye + h * F + h**2 / 2 * F2 + h**3 / 6 * F2 @ F
    response = h * eye + h**2 / 2 * F + h**3 / 6 * F2
    # Last column carries the free motion, the others the response to each input.
    n = grid.inputs
    forcing = torch.zeros(k, 2, len(grid.time), 3, n + 1, dtype=torch.float64)
    forcing = torch.cat([response[..., 2:3] * grid.hold[None, :, :, None, :], (response @ drift[..., None])], -1)
    state = torch.zeros(k, 2, 3, n + 1, dtype=torch.float64)
    state = torch.cat([state[..., :-1], torch.stack(start).expand(k, 2, 3)[..., None]], -1)
    states = []
    for f in range(len(grid.time)):
        state = transition[:, :, f] @ state + forcing[:, :, f]
        states.append(state)
    stacked = torch.stack(states, 2)
    return stacked[..., :-1], stacked[..., -1]


def _midpoints(values: Tensor, start: Tensor) -> Tensor:
    before = torch.cat([start.expand(*values.shape[:-1], 1), values[..., :-1]], -1)
    return (before + values) / 2

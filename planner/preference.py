"""How candidates compare: one yardstick for all of them, apart from the programs' own costs."""

from __future__ import annotations

import torch
from torch import Tensor

from planner.config import PlannerConfig
from planner.decisions import CandidateSet
from planner.grid import make_grid
from planner.obstacles import Obstacles
from planner.reference_path import ReferencePath
from planner.scene import Trajectory, VehicleParameters


def candidate_costs(
    trajectory: Trajectory,
    path: ReferencePath,
    candidates: CandidateSet,
    obstacles: Obstacles,
    v_profile: Tensor,
    last_decision: str,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Tensor:
    """``[K]``: lost progress, discomfort, closeness to others, switching and use of the oncoming surface."""
    decisions = config.decisions
    grid = make_grid(config.horizon)
    node = grid.node + 1
    dt = grid.node_dt
    v, a = trajectory.v[:, node], trajectory.a[:, node]
    lost = ((v_profile - v).clamp(min=0) * dt).sum(-1)
    jerk = torch.diff(trajectory.a, dim=-1) / grid.step
    lateral = trajectory.v**2 * trajectory.curvature
    lateral_jerk = torch.diff(lateral, dim=-1) / grid.step
    discomfort = ((a**2) * dt).sum(-1) * 0.3 + grid.step * (
        0.1 * (jerk**2).sum(-1) + 0.1 * (lateral**2).sum(-1) + 0.1 * (lateral_jerk**2).sum(-1)
    )
    cost = decisions.progress_cost * lost + decisions.discomfort_cost * discomfort
    cost = cost + decisions.closeness_cost * _closeness(trajectory, path, obstacles, vehicle, config)
    for i, (kind, text) in enumerate(zip(candidates.kind, candidates.text)):
        extra = decisions.oncoming_cost if kind == "oncoming" else 0.0
        extra += decisions.switch_cost if last_decision and text != last_decision else 0.0
        extra += 0.5 if kind == "hold" else 0.0
        cost = cost + extra * torch.nn.functional.one_hot(torch.tensor(i), len(cost)).double()
    return cost


def _closeness(
    trajectory: Trajectory, path: ReferencePath, obstacles: Obstacles, vehicle: VehicleParameters, config: PlannerConfig
) -> Tensor:
    """``[K]``: squared shortfall of the free space around forecasts, weighted by probability and by speed."""
    grid = make_grid(config.horizon)
    node = grid.node + 1
    s, d, _ = path.project(trajectory.xy[:, node])
    s_mid, half = s + vehicle.rear_axle_to_center, vehicle.length / 2
    t = (slice(None), None, None)
    gap_s = torch.maximum(
        obstacles.s_lo[None, :, :, 1:] - (s_mid[t] + half)[..., None],
        (s_mid[t] - half)[..., None] - obstacles.s_hi[None, :, :, 1:],
    )
    gap_d = torch.maximum(
        obstacles.d_lo[None, :, :, 1:] - (d[t] + vehicle.width / 2)[..., None],
        (d[t] - vehicle.width / 2)[..., None] - obstacles.d_hi[None, :, :, 1:],
    )
    v = trajectory.v[:, node]
    # A metre of time: along the motion 0.6 s of driving count like one side gap.
    wish = config.comfort.side_gap
    along = gap_s / (wish + 0.6 * v[t][..., None])
    beside = gap_d / wish
    short = (1 - torch.maximum(along, beside)).clamp(0, 2).amax(-1)  # [K, A, M, N]
    short = short * obstacles.active[None, :, :, 1:] * obstacles.weight[None, :, :, None]
    return ((short**2) * (v / 5.0).clamp(0.0, 2.0)[t] * grid.node_dt).sum((1, 2, 3))

"""How candidates compare: one yardstick for all of them, apart from the programs' own costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.config import PlannerConfig
from planner.decisions import CandidateSet
from planner.forecasts import array, flat_pieces, piece_index
from planner.grid import make_grid
from planner.obstacles import Obstacles
from planner.options import KINDS
from planner.reference_path import ReferencePath
from planner.scene import EgoProposal, Trajectory, VehicleParameters

HOLD_COST = 0.5
"""Of a decision to stand still: a stop that follows from yielding is preferred."""
WALL = 0.6
"""s: along the motion this much driving adds to one side gap."""


def candidate_costs(
    trajectory: Trajectory,
    path: ReferencePath,
    candidates: CandidateSet,
    obstacles: Obstacles,
    v_profile: Float[Tensor, "S N"],
    last_decision: Sequence[str],
    vehicle: VehicleParameters,
    config: PlannerConfig,
    proposal: EgoProposal | None = None,
    guess: Float[Tensor, "R N"] | None = None,
) -> Float[Tensor, " R"]:
    """Lost progress, discomfort, closeness to others, switching, use of the oncoming surface, and learned preference.

    Comparable within a scene. last_decision: text per scene. guess: s (m) of the trajectories at the nodes, if known.
    The learned preference (EgoProposal.decision_logit) ranks; which candidates exist and what binds them stays.
    """
    decisions, grid = config.decisions, make_grid(config.horizon)
    node, dt, step = grid.node + 1, grid.node_dt, grid.step
    v, a = trajectory.v, trajectory.a
    v_node = v.index_select(1, node)
    lost = (v_profile.index_select(0, candidates.scene) - v_node).clamp(min=0) @ dt
    lateral = v**2 * trajectory.curvature
    jerks = torch.stack([a, lateral]).diff(dim=-1) / step
    discomfort = 0.3 * (a.index_select(1, node).square() @ dt) + step * 0.1 * (
        jerks.square().sum((0, 2)) + lateral.square().sum(-1)
    )
    close = _closeness(trajectory, v_node, path, candidates.scene, obstacles, guess, vehicle, config)
    cost = decisions.progress_cost * lost + decisions.discomfort_cost * discomfort + decisions.closeness_cost * close
    cost = cost + torch.tensor(_extras(candidates, last_decision, config), dtype=torch.float64)
    if proposal is not None and proposal.decision_logit is not None:
        kind = torch.tensor([KINDS.index(k) for k in candidates.kind])
        preference = proposal.decision_logit.double().log_softmax(-1)
        cost = cost - decisions.proposal_cost * preference[candidates.scene, kind]
    return cost


def softmin(
    costs: Float[Tensor, " R"], scene: Int[Tensor, " R"], count: int, temperature: float = 1.0
) -> Float[Tensor, " R"]:
    """Weights proportional to exp(-cost / temperature) within each of `count` scenes.

    They sum to 1 in every scene with a finite cost; where a cost is infinite or no number the weight is 0 and there is
    no gradient. Raises ValueError unless temperature > 0.
    """
    if not temperature > 0:
        raise ValueError(f"softmin: expected temperature > 0, got {temperature}")
    usable = torch.isfinite(costs.detach())
    score = torch.where(usable, -costs / temperature, 0.0)
    floor = torch.where(usable, score.detach(), -torch.inf)
    best = torch.full((count,), -torch.inf, dtype=costs.dtype).scatter_reduce(0, scene, floor, "amax")
    weight = torch.where(usable, torch.exp(torch.where(usable, score - best[scene], 0.0)), 0.0)
    total = torch.zeros(count, dtype=costs.dtype).index_add(0, scene, weight)
    return weight / torch.where(total > 0, total, 1.0)[scene]


def _extras(candidates: CandidateSet, last_decision: Sequence[str], config: PlannerConfig) -> list[float]:
    """What a candidate costs for its name alone."""
    decisions = config.decisions
    own = {"oncoming": decisions.oncoming_cost, "hold": HOLD_COST}
    extras = [own.get(kind, 0.0) for kind in candidates.kind]
    for i, (scene, choice) in enumerate(candidates.choices):
        extras[i] += decisions.lane_change_cost if candidates.options.changes_lane(scene, choice) else 0.0
    if any(last_decision):
        for i, (scene, text) in enumerate(zip(candidates.scene.tolist(), candidates.text)):
            last = last_decision[scene]
            extras[i] += decisions.switch_cost if last and text != last else 0.0
    return extras


def _closeness(
    trajectory: Trajectory,
    v: Float[Tensor, "R N"],
    path: ReferencePath,
    scene: Int[Tensor, " R"],
    obstacles: Obstacles,
    guess: Tensor | None,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Float[Tensor, " R"]:
    """Squared shortfall of the free space around forecasts, weighted by probability and by speed."""
    grid = make_grid(config.horizon)
    xy = torch.stack([trajectory.x, trajectory.y], -1).index_select(1, grid.node + 1)
    s, d, _ = path.rows(scene).project(xy, guess)
    row, pair, node = _near(array(s), array(d), array(v), array(scene), obstacles, vehicle, config)
    if not len(row):
        return torch.zeros(len(scene), dtype=torch.float64) * v.sum(-1)
    # One entry per candidate, forecast and node that may be near, and P pieces of each.
    ego = torch.stack([s + vehicle.rear_axle_to_center, d, v]).flatten(1)
    s, d, v = ego.index_select(1, torch.from_numpy(row * v.shape[1] + node)).unbind(0)
    there = torch.from_numpy(piece_index(obstacles, pair, node + 1))
    take = lambda x: flat_pieces(x).take(there)  # noqa: E731  [P, E]
    s_lo, s_hi, d_lo, d_hi = map(take, (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi))
    gap_s = torch.maximum(s_lo - (s + vehicle.length / 2), (s - vehicle.length / 2) - s_hi)
    gap_d = torch.maximum(d_lo - (d + vehicle.width / 2), (d - vehicle.width / 2) - d_hi)
    # A metre of time: along the motion WALL seconds of driving count like one side gap.
    wish = config.comfort.side_gap
    near = torch.maximum(gap_s / (wish + WALL * v), gap_d / wish)
    short = (1 - near).clamp(0, 2).amax(0) * obstacles.weight.take(torch.from_numpy(pair))
    cost = short.square() * (v / 5.0).clamp(0.0, 2.0) * grid.node_dt[torch.from_numpy(node)]
    return torch.zeros(len(scene), dtype=torch.float64).index_add(0, torch.from_numpy(row), cost)


def _near(
    s: np.ndarray,
    d: np.ndarray,
    v: np.ndarray,
    scene: np.ndarray,
    obstacles: Obstacles,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidate, forecast (scene, agent and mode in one number) and node wherever the wished gaps may fall short.

    s, d, v ``[R, N]``. Whole intervals are compared, so a few too many are found.
    """
    scenes, agents, modes, nodes, _ = obstacles.s_lo.shape
    wish = config.comfort.side_gap
    along, across = vehicle.length / 2 + wish + WALL * v, vehicle.width / 2 + wish
    middle = s + vehicle.rear_axle_to_center
    # Near where ego's ends are beyond those of the others, read in the direction of growing s or d.
    ego = [middle + along, along - middle, d + across, across - d]
    ends = ((obstacles.s_lo, 1.0), (obstacles.s_hi, -1.0), (obstacles.d_lo, 1.0), (obstacles.d_hi, -1.0))
    active = array(obstacles.active)[..., 1:].reshape(scenes, agents * modes, nodes - 1)
    # First by what both take up over the whole horizon.
    maybe = active.any(-1)[scene]
    for (x, sign), bound in zip(ends, ego):
        least = x.detach().amin(-1).amin(-1) if sign > 0 else -x.detach().amax(-1).amax(-1)
        maybe &= array(least).reshape(scenes, -1)[scene] < bound.max(-1)[:, None]
    row, pair = maybe.nonzero()
    pair += scene[row] * agents * modes
    # Then node by node, for the forecasts that are left.
    used = np.zeros(scenes * agents * modes, bool)
    used[pair] = True
    some = used.nonzero()[0]
    at = used.cumsum()[pair] - 1
    near = active.reshape(-1, nodes - 1).take(some, 0).take(at, 0)
    index = piece_index(obstacles, some[:, None], np.arange(1, nodes))
    for (x, sign), bound in zip(ends, ego):
        values = array(flat_pieces(x)).take(index)
        hull = values.min(0) if sign > 0 else -values.max(0)
        near &= hull.take(at, 0) < bound.take(row, 0)
    which, node = near.nonzero()
    return row[which], pair[which], node

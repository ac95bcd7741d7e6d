"""How candidates compare: one yardstick for all of them, apart from the programs' own costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled.records import obstacles_record, stored
from planner.compiled.stage import apply, workers
from planner.config import PlannerConfig
from planner.decisions.candidates import CandidateSet
from planner.decisions.options import KINDS
from planner.grid import make_grid
from planner.objects.obstacles import Obstacles
from planner.path.reference_path import ReferencePath
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
    xy = torch.stack([trajectory.x, trajectory.y], -1).index_select(1, grid.node + 1)
    s, d, _ = path.rows(candidates.scene).project(xy, guess)
    motion = Motion(trajectory.v, trajectory.a, trajectory.curvature, s, d, v_profile)
    cost = motion_costs(motion, candidates.scene, obstacles, vehicle, config)
    cost = cost + torch.tensor(_extras(candidates, last_decision, config), dtype=torch.float64)
    if proposal is not None and proposal.decision_logit is not None:
        kind = torch.tensor([KINDS.index(k) for k in candidates.kind])
        preference = proposal.decision_logit.double().log_softmax(-1)
        cost = cost - decisions.proposal_cost * preference[candidates.scene, kind]
    return cost


class Motion(NamedTuple):
    """What is compared: v, a, curvature ``[R, F + 1]``; s, d ``[R, N]`` m at the nodes; v_profile ``[S, N]`` m/s."""

    v: Tensor
    a: Tensor
    curvature: Tensor
    s: Tensor
    d: Tensor
    v_profile: Tensor


def motion_costs(
    motion: Motion, scene: Int[Tensor, " R"], obstacles: Obstacles, vehicle: VehicleParameters, config: PlannerConfig
) -> Float[Tensor, " R"]:
    """Lost progress, discomfort and closeness to others: compiled/preference.cpp, or the definition."""
    if _forward is None:
        return plain_costs(motion, scene, obstacles, vehicle, config)
    ends = (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi)
    return apply(_Costs(scene, obstacles, vehicle, config), *motion, *ends, obstacles.weight)[0]


def plain_costs(
    motion: Motion, scene: Int[Tensor, " R"], obstacles: Obstacles, vehicle: VehicleParameters, config: PlannerConfig
) -> Float[Tensor, " R"]:
    """`motion_costs` without anything compiled."""
    decisions, grid = config.decisions, make_grid(config.horizon)
    v, a, step = motion.v, motion.a, grid.step
    lost = (motion.v_profile[scene] - v[:, grid.node + 1]).clamp(min=0) @ grid.node_dt
    lateral = v**2 * motion.curvature
    jerks = torch.stack([a, lateral]).diff(dim=-1) / step
    discomfort = 0.3 * (a[:, grid.node + 1].square() @ grid.node_dt) + step * 0.1 * (
        jerks.square().sum((0, 2)) + lateral.square().sum(-1)
    )
    close = _closeness(motion, scene, obstacles, vehicle, config)
    return decisions.progress_cost * lost + decisions.discomfort_cost * discomfort + decisions.closeness_cost * close


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
        extras[i] += decisions.insist_cost * candidates.options.insists(scene, choice)
    if any(last_decision):
        for i, (scene, text) in enumerate(zip(candidates.scene.tolist(), candidates.text)):
            last = last_decision[scene]
            extras[i] += decisions.switch_cost if last and text != last else 0.0
    return extras


def _closeness(
    motion: Motion, scene: Int[Tensor, " R"], obstacles: Obstacles, vehicle: VehicleParameters, config: PlannerConfig
) -> Float[Tensor, " R"]:
    """Squared shortfall of the free space around forecasts, weighted by probability and by speed."""
    grid, wish = make_grid(config.horizon), config.comfort.side_gap
    # R, A, M, N, P: candidates, agents, modes, nodes without the one now, pieces.
    ends = (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi)
    s_lo, s_hi, d_lo, d_hi = (x[scene][..., 1:, :] for x in ends)
    s, d, v = (x[:, None, None, :, None] for x in (motion.s, motion.d, motion.v[:, grid.node + 1]))
    s = s + vehicle.rear_axle_to_center
    gap_s = torch.maximum(s_lo - (s + vehicle.length / 2), (s - vehicle.length / 2) - s_hi)
    gap_d = torch.maximum(d_lo - (d + vehicle.width / 2), (d - vehicle.width / 2) - d_hi)
    # A metre of time: along the motion WALL seconds of driving count like one side gap.
    near = torch.maximum(gap_s / (wish + WALL * v), gap_d / wish)
    short = (1 - near).clamp(0, 2).amax(-1) * obstacles.weight[scene][..., None]
    short = torch.where(obstacles.active[scene][..., 1:], short, 0.0)
    return (short.square() * (v[..., 0] / 5.0).clamp(0.0, 2.0) * grid.node_dt).sum((1, 2, 3))


_forward = compiled.kernel("dds_costs", "SSS R n")
_backward = compiled.kernel("dds_costs_back", "SSS T RRRRRRRRRRR n")
_MOTIONS = compiled.record("Motions", "nnn II T TTT TT T")
_PRICES = compiled.record("Prices", "f" * 8)


class _Costs:
    """`plain_costs`, compiled; a `planner.compiled.stage.Stage`."""

    def __init__(
        self, scene: Int[Tensor, " R"], obstacles: Obstacles, vehicle: VehicleParameters, config: PlannerConfig
    ) -> None:
        decisions, self.grid = config.decisions, make_grid(config.horizon)
        self.scene, self.threads = scene, config.solver.threads
        self.obstacles = obstacles_record(obstacles)
        self.prices = _PRICES(
            self.grid.step, decisions.progress_cost, decisions.discomfort_cost, decisions.closeness_cost,
            config.comfort.side_gap, vehicle.length / 2, vehicle.width / 2, vehicle.rear_axle_to_center,
        )  # fmt: skip

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert _forward is not None
        cost = torch.empty(len(self.scene), dtype=torch.float64)
        _forward(self.obstacles, self._motions(inputs), self.prices, cost, workers(len(cost), self.threads, 8.0))
        return (cost,)

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> tuple[Tensor, ...]:
        assert _backward is not None
        found = [torch.zeros(stored(x).shape if x.ndim == 5 else x.shape, dtype=torch.float64) for x in inputs]
        threads = workers(len(self.scene), self.threads, 12.0)
        _backward(self.obstacles, self._motions(inputs), self.prices, gradients[0], *found, threads)
        return tuple(x.movedim(2, -1) if x.ndim == 5 else x for x in found)

    def _motions(self, inputs: tuple[Tensor, ...]) -> Any:
        node, dt = self.grid.node + 1, self.grid.node_dt
        return _MOTIONS(len(self.scene), inputs[0].shape[1], len(node), self.scene, node, dt, *inputs[:6])

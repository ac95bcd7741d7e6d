"""Agents and their futures in Frenet coordinates, enlarged by their uncertainty.

Each agent is cut into pieces along its length, so that long vehicles on curves or at an angle do not fill
their bounding interval. Everything is differentiable with respect to boxes, means, covariances, mode
probabilities and existence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from planner import compiled
from planner.config import PlannerConfig
from planner.objects.agent_projection import Spread
from planner.objects.intervals import PIECES
from planner.objects.obstacles_plain import SOON, project_plain
from planner.path.reference_path import ReferencePath
from planner.scene import VectorScene

REACH_LATERAL = 7.0
"""Agents whose box stays further than this (m) from the path cannot matter within the horizon."""
_MANY = 40
"""From so many agents on threads pay."""

_near_path: Any = compiled.kernel("dds_near_path", "TTBTTTI f JJ nnnnnnn")
_project_agents: Any = compiled.kernel("dds_project_agents", "TTTITITTTTBTTTTII fff RRRRRRRCJC nnnnnnnn")
_project_agents_back: Any = compiled.kernel(
    "dds_project_agents_back", "TTTTTTTTTTTIIT fff TTTTTTTTT RRRRRRRRR nnnnnnnn"
)


@dataclass
class Obstacles:
    """A agents near the path in each of S scenes, M modes, N nodes (the first is now), P pieces.

    Scenes with fewer agents are padded; an absent agent is not active, does not stand, has no weight and the numbers
    -1 for track_id, agent_class and agent_index; its intervals are arbitrary but finite. There is at least one agent.

    node_time ``[N]`` s. s_lo, s_hi, d_lo, d_hi ``[S, A, M, N, P]`` m: the piece's interval, enlarged by
    the motion until half way to the neighbouring nodes, and in d by the uncertainty. sigma_s ``[S, A, M, N]`` m:
    standard deviation along the path; how much of it counts depends on the decision (`risk_quantile`).
    relative_heading ``[S, A, M, N]`` rad against the path. speed_s ``[S, A]`` m/s now, along the path.
    speed ``[S, A]`` m/s. active ``[S, A, M, N]``: the mode counts at that node. standing, present ``[S, A]``.
    weight ``[S, A, M]``: mode probability times existence. agent_index ``[S, A]``: position in the scene.
    """

    node_time: Float[Tensor, " N"]
    s_lo: Float[Tensor, "S A M N P"]
    s_hi: Float[Tensor, "S A M N P"]
    d_lo: Float[Tensor, "S A M N P"]
    d_hi: Float[Tensor, "S A M N P"]
    sigma_s: Float[Tensor, "S A M N"]
    relative_heading: Float[Tensor, "S A M N"]
    speed_s: Float[Tensor, "S A"]
    speed: Float[Tensor, "S A"]
    active: Bool[Tensor, "S A M N"]
    standing: Bool[Tensor, "S A"]
    weight: Float[Tensor, "S A M"]
    track_id: Int[Tensor, "S A"]
    agent_class: Int[Tensor, "S A"]
    agent_index: Int[Tensor, "S A"]
    present: Bool[Tensor, "S A"]

    @cached_property
    def extents(self) -> Float[Tensor, "S A 4"]:
        """The interval (s_lo, s_hi, d_lo, d_hi) each agent takes up now and, unless it stands, within SOON.

        An empty interval (lower above upper) for an agent without active modes.
        """
        rows = torch.arange(self.track_id.numel())
        return self.extents_of(rows).unflatten(0, self.track_id.shape)

    def extents_of(self, rows: Int[Tensor, " Q"]) -> Float[Tensor, "Q 4"]:
        """`extents` of some agents, by their numbers when those of all scenes are counted through."""
        count = int(np.searchsorted(self.node_time.numpy(), SOON, side="right"))
        row = rows.numpy()
        use = self.active.numpy().reshape(-1, *self.active.shape[2:])[row, :, :count]
        use[..., 1:] &= ~self.standing.numpy().reshape(-1)[row, None, None]
        counts = torch.from_numpy(use)[:, None, None]
        pick = lambda x: x.movedim(-1, 2).flatten(0, 1).index_select(0, rows)[..., :count]  # noqa: E731
        low = torch.stack([pick(self.s_lo), pick(self.d_lo)], 1)  # [Q, 2, P, M, N]
        high = torch.stack([pick(self.s_hi), pick(self.d_hi)], 1)
        low = torch.where(counts, low, 1e9).flatten(2).amin(2)
        high = torch.where(counts, high, -1e9).flatten(2).amax(2)
        return torch.stack([low, high], 2).flatten(1)


def project_obstacles(scene: VectorScene, path: ReferencePath, node_time: Tensor, config: PlannerConfig) -> Obstacles:
    """Agents of S scenes that come near their path. node_time ``[N]`` starts with 0."""
    agents, futures = scene.agents, scene.futures
    spread = Spread(config.risk.sigma_floor, _certain_quantile(config.risk.hit_probability), config.risk.lateral_max)
    if _near_path is None:
        return Obstacles(node_time, *project_plain(scene, path, node_time, spread, REACH_LATERAL))
    tensors: tuple[Tensor, ...] = (agents.box, agents.velocity, agents.position_covariance, agents.existence,
               futures.mean, futures.yaw, futures.covariance, futures.probability, path.cubics)  # fmt: skip
    tensors = tuple(x.double() for x in tensors)
    given = _Given(scene, path, node_time, spread, config.solver.threads, tensors[0], tensors[4])
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        found = _ProjectAgents.apply(given, *tensors)
    else:
        found = given.project(*tensors)
    s_lo, s_hi, d_lo, d_hi = (x.permute(0, 1, 3, 4, 2) for x in found[:4])
    sigma_s, phi, speed_s, speed, weight = found[4:9]
    active, standing, present, track_id, kind = found[9:14]
    return Obstacles(
        node_time, s_lo, s_hi, d_lo, d_hi, sigma_s, phi, speed_s, speed, active, standing, weight,
        track_id, kind, given.near, present,
    )  # fmt: skip


class _Given:
    """What has no gradient, and which agents are near: ``near [S, A]``."""

    def __init__(
        self, scene: VectorScene, path: ReferencePath, node_time: Tensor, spread: Spread, threads: int, box: Tensor,
        mean: Tensor,
    ) -> None:  # fmt: skip
        agents, futures = scene.agents, scene.futures
        self.kind, self.track, self.said = agents.agent_class.long(), agents.track_id.long(), futures.valid
        self.time, self.node_time, self.path, self.spread = futures.time.double(), node_time, path, spread
        scenes, count, modes, steps = mean.shape[:4]
        near, found = torch.empty(scenes, count, dtype=torch.int64), torch.empty(scenes, dtype=torch.int64)
        self.threads = threads if scenes * count > _MANY else 1
        n, nodes = path.knots.shape[1], len(node_time)
        _near_path(
            box, mean, agents.valid, self.time, node_time, path.knots, path.count, REACH_LATERAL, near, found,
            scenes, count, modes, steps, nodes, n, self.threads,
        )  # fmt: skip
        seen = max(found.tolist(), default=0)
        self.near = near[:, :seen].contiguous() if seen else torch.full((scenes, 1), -1)
        # Reductions over agents and modes need at least one.
        self.sizes = (scenes, max(seen, 1), count, modes if count else max(modes, 1), steps, nodes, n, self.threads)

    def project(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """s_lo, s_hi, d_lo, d_hi ``[S, A, P, M, N]``, sigma_s, relative heading, speed_s, speed, weight; active,

        standing, present, track_id, agent_class; s of the agents' feet.
        """
        scenes, seen, _, modes, _, nodes, _, _ = self.sizes
        box, velocity, covariance_now, existence, mean, yaw, covariance, probability, cubics = tensors
        ends = [torch.empty(scenes, seen, PIECES, modes, nodes, dtype=torch.float64) for _ in range(4)]
        columns = torch.empty(3, scenes, seen, modes, nodes, dtype=torch.float64)
        speeds = torch.empty(2, scenes, seen, dtype=torch.float64)
        weight = torch.empty(scenes, seen, modes, dtype=torch.float64)
        active = torch.empty(scenes, seen, modes, nodes, dtype=torch.bool)
        labels = torch.empty(2, scenes, seen, dtype=torch.int64)
        flags = torch.empty(2, scenes, seen, dtype=torch.bool)
        _project_agents(
            box, velocity, covariance_now, self.kind, existence, self.track, mean, yaw, covariance, probability,
            self.said, self.time, self.node_time, cubics, self.path.knots, self.path.count, self.near, *self.spread,
            *ends, columns, speeds, weight, active, labels, flags, *self.sizes,
        )  # fmt: skip
        sigma_s, phi, feet = columns.unbind(0)
        return *ends, sigma_s, phi, *speeds.unbind(0), weight, active, *flags.unbind(0), *labels.unbind(0), feet


class _ProjectAgents(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: _Given, *tensors: Tensor) -> tuple[Tensor, ...]:
        found = given.project(*tensors)
        ctx.given = given
        ctx.save_for_backward(*tensors, found[-1])
        ctx.mark_non_differentiable(*found[9:])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, feet = ctx.saved_tensors
        given = ctx.given
        box, velocity, covariance_now, existence, mean, yaw, covariance, probability, cubics = tensors
        needed = ctx.needs_input_grad[1:]
        # What nobody asks for is added to whatever is there: clearing that would be most of the work for covariances.
        make = {True: torch.zeros_like, False: torch.empty_like}
        out = [make[need](x, memory_format=torch.contiguous_format) for x, need in zip(tensors, needed)]
        _project_agents_back(
            box, velocity, covariance_now, existence, mean, yaw, covariance, probability, given.time, given.node_time,
            cubics, given.path.count, given.near, feet, *given.spread, *grads[:9], *out, *given.sizes,
        )  # fmt: skip
        return None, *(x if need else None for x, need in zip(out, needed))


def risk_quantile(weight: Tensor, hit_probability: float) -> Tensor:
    """q = Phi^-1(1 - eps / w), the one-sided normal quantile that keeps P(exists, mode, inside) <= eps.

    Falls smoothly to -3 as the weight w approaches eps, where the object stops mattering.
    """
    ratio = (hit_probability / weight.clamp(min=1e-12)).clamp(1e-9, 1 - 1.35e-3)
    return torch.special.ndtri(1 - ratio)


@lru_cache(maxsize=8)
def _certain_quantile(hit_probability: float) -> float:
    """The quantile for an object that certainly exists in one mode."""
    return float(risk_quantile(torch.ones((), dtype=torch.float64), hit_probability))

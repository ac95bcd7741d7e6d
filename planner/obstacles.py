"""Agents and their futures in Frenet coordinates, enlarged by their uncertainty.

Each agent is cut into pieces along its length, so that long vehicles on curves or at an angle do not fill
their bounding interval. Everything is differentiable with respect to boxes, means, covariances, mode
probabilities and existence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.agent_projection import Nodes, ProjectAgents, Spread, at_nodes, bracket
from planner.config import PlannerConfig
from planner.intervals import PIECES
from planner.reference_path import ReferencePath
from planner.scene import AgentClass, VectorScene

REACH_LATERAL = 7.0
"""Agents whose box stays further than this (m) from the path cannot matter within the horizon."""
STANDING_SPEED = 0.5
STANDING_DRIFT = 1.0
SOON = 3.0
"""s: how long an agent's drift and what it is about to take up are looked at."""


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
    nodes = bracket(futures.time.detach().numpy(), node_time.numpy())
    near = _near_path(scene, path, nodes)
    if not near.shape[1]:
        return _nobody(len(near), futures.probability.shape[2], node_time)
    there, index = near >= 0, torch.from_numpy(near.clip(min=0))
    present = torch.from_numpy(there)
    pick = lambda values: _pick(values, index)  # noqa: E731
    box, velocity, kind = pick(agents.box).double(), pick(agents.velocity).double(), pick(agents.agent_class)
    weight = pick(futures.probability).double() * (pick(agents.existence).double() * present)[..., None]
    s_lo, s_hi, d_lo, d_hi, sigma_s, phi, heading, valid, mean = ProjectAgents.apply(
        box,
        pick(agents.position_covariance).double(),
        pick(futures.mean).double(),
        pick(futures.yaw).double(),
        pick(futures.covariance).double(),
        path.cubics,
        path.splines(),
        nodes,
        Spread(config.risk.sigma_floor, _certain_quantile(config.risk.hit_probability), config.risk.lateral_max),
    )
    counts = _spoken(pick(futures.valid).numpy(), nodes) & valid.numpy() & (weight.detach().numpy() > 1e-3)[..., None]
    here, speed = heading[:, :, 0, 0], velocity.norm(dim=-1)
    standing = _standing(speed.detach().numpy(), mean.numpy(), weight.detach().numpy(), kind.numpy(), node_time)
    return Obstacles(
        node_time=node_time,
        s_lo=s_lo,
        s_hi=s_hi,
        d_lo=d_lo,
        d_hi=d_hi,
        sigma_s=sigma_s,
        relative_heading=phi,
        speed_s=velocity[..., 0] * torch.cos(here) + velocity[..., 1] * torch.sin(here),
        speed=speed,
        active=torch.from_numpy(counts),
        standing=torch.from_numpy(standing & there),
        weight=weight,
        track_id=torch.from_numpy(np.where(there, pick(agents.track_id).numpy(), -1)),
        agent_class=torch.from_numpy(np.where(there, kind.numpy(), -1)),
        agent_index=torch.from_numpy(near),
        present=present,
    )


def risk_quantile(weight: Tensor, hit_probability: float) -> Tensor:
    """q = Phi^-1(1 - eps / w), the one-sided normal quantile that keeps P(exists, mode, inside) <= eps.

    Falls smoothly to -3 as the weight w approaches eps, where the object stops mattering.
    """
    ratio = (hit_probability / weight.clamp(min=1e-12)).clamp(1e-9, 1 - 1.35e-3)
    return torch.special.ndtri(1 - ratio)


def _pick(values: Tensor, index: Int[Tensor, "S A"]) -> Tensor:
    """Agents ``[S, A, ...]`` out of ``[S, A', ...]``."""
    if len(values) == 1:
        return values if index.shape[1] == values.shape[1] else values.index_select(1, index[0])
    return values.flatten(0, 1)[index + torch.arange(len(index))[:, None] * values.shape[1]]


def _near_path(scene: VectorScene, path: ReferencePath, nodes: Nodes) -> np.ndarray:
    """``[S, A]``: positions of the agents any mode of which comes near the path, -1 where there are fewer than in

    other scenes. Judged at every other node and every fourth knot.
    """
    valid, boxes = scene.agents.valid.numpy(), scene.agents.box.detach().numpy()
    forecast = scene.futures.mean.detach().numpy()
    knots, count = path.knots.detach().numpy(), path.count.tolist()
    found = []
    for k, box in enumerate(boxes):
        own = knots[k, : count[k] : 4]
        reach = REACH_LATERAL + 2.0 + box[:, 3] / 2
        now = _distance(box[:, :2], own)
        near = valid[k] & (now < reach)  # at the first node already
        later = np.flatnonzero(valid[k] & ~near)
        if len(later):
            # Its points lie within `travel` of where it is, and a step is twice that at most.
            way = forecast[k, later] - box[later, None, None, :2]
            travel = np.sqrt((way * way).sum(-1).max((1, 2), initial=0.0))
            later = later[now[later] < reach[later] + 3 * travel + 1e-6]
        if len(later):
            at = at_nodes(forecast[k, later], box[later, :2], nodes.of(k))
            step = np.sqrt((np.diff(at, axis=2) ** 2).sum(-1)).max((1, 2))
            closest = _distance(at[:, :, ::2].reshape(-1, 2), own).reshape(len(later), -1).min(1)
            near[later] = closest < reach[later] + step
        found.append(np.flatnonzero(near))
    out = np.full((len(valid), max(map(len, found))), -1)
    for row, index in zip(out, found):
        row[: len(index)] = index
    return out


def _distance(points: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """``[Q]`` m from points ``[Q, 2]`` to the nearest knot."""
    nearest = ((knots * knots).sum(1) / 2 - points @ knots.T).min(1)
    return np.sqrt(np.maximum((points * points).sum(1) + 2 * nearest, 0.0))


def _spoken(valid: np.ndarray, nodes: Nodes) -> np.ndarray:
    """``[S, A, M, N]``: the forecast says something about the node: at both neighbouring times, or at its own."""
    out = np.ones((*valid.shape[:3], nodes.before.shape[1]), dtype=bool)
    for k, said in enumerate(valid):
        if said.all():
            continue
        i, f, _ = nodes.of(k)
        begin = said.take(np.maximum(i - 1, 0), 2)
        begin[:, :, i == 0] = said.any(2)[..., None]
        np.logical_and(begin, said.take(i, 2) | (f < 1e-9), out=out[k])
    return out


def _standing(
    speed: np.ndarray, mean: np.ndarray, weight: np.ndarray, kind: np.ndarray, node_time: Tensor
) -> np.ndarray:
    """``[S, A]``: slow now, and in the most likely mode soon; or unable to move."""
    slow = speed < STANDING_SPEED
    k, a = slow.nonzero()
    soon = mean[k, a, weight[k, a].argmax(1), : np.searchsorted(node_time.numpy(), SOON, side="right")]
    slow[k, a] = ((soon - soon[:, :1]) ** 2).sum(-1).max(1) < STANDING_DRIFT**2
    return slow | (kind == AgentClass.STATIC)


@lru_cache(maxsize=8)
def _certain_quantile(hit_probability: float) -> float:
    """The quantile for an object that certainly exists in one mode."""
    return float(risk_quantile(torch.ones((), dtype=torch.float64), hit_probability))


def _nobody(scenes: int, modes: int, node_time: Tensor) -> Obstacles:
    """One absent agent in every scene: reductions over agents need at least one."""
    z = torch.zeros(scenes, 1, max(modes, 1), len(node_time), PIECES, dtype=torch.float64)
    flat, no = z[..., 0], torch.zeros(scenes, 1, dtype=torch.bool)
    one, index = flat[..., 0, 0], torch.full((scenes, 1), -1, dtype=torch.int64)
    return Obstacles(
        node_time, z, z, z, z, flat, flat, one, one, flat.bool(), no, flat[..., 0], index, index, index, no
    )

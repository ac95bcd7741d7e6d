"""Agents and their futures in Frenet coordinates: the definition that compiled/agents.cpp is held to."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from planner.objects.agent_projection import Nodes, ProjectAgents, Spread, at_nodes, bracket
from planner.objects.intervals import PIECES
from planner.path.reference_path import ReferencePath
from planner.scene import AgentClass, VectorScene

STANDING_SPEED = 0.5
STANDING_DRIFT = 1.0
SOON = 3.0
"""s: how long an agent's drift and what it is about to take up are looked at."""


def project_plain(
    scene: VectorScene, path: ReferencePath, node_time: Tensor, spread: Spread, lateral: float
) -> tuple[Tensor, ...]:
    """The fields of `planner.objects.obstacles.Obstacles` after node_time. lateral (m): how near one has to come."""
    agents, futures = scene.agents, scene.futures
    nodes = bracket(futures.time.detach().double().numpy(), node_time.numpy())
    near = _near_path(scene, path, nodes, lateral)
    if not near.shape[1]:
        return _nobody(len(near), futures.probability.shape[2], len(node_time))
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
        spread,
    )
    counts = _spoken(pick(futures.valid).numpy(), nodes) & valid.numpy() & (weight.detach().numpy() > 1e-3)[..., None]
    here, speed = heading[:, :, 0, 0], velocity.norm(dim=-1)
    standing = _standing(speed.detach().numpy(), mean.numpy(), weight.detach().numpy(), kind.numpy(), node_time)
    speed_s = velocity[..., 0] * torch.cos(here) + velocity[..., 1] * torch.sin(here)
    # What belongs to an absent agent is zero.
    only = lambda x: torch.where(present.reshape(*present.shape, *[1] * (x.ndim - 2)), x, 0.0)  # noqa: E731
    return (
        *(only(x) for x in (s_lo, s_hi, d_lo, d_hi, sigma_s, phi, speed_s, speed)),
        torch.from_numpy(counts),
        torch.from_numpy(standing & there),
        weight,
        torch.where(present, pick(agents.track_id).long(), -1),
        torch.where(present, kind.long(), -1),
        torch.from_numpy(near),
        present,
    )


def _pick(values: Tensor, index: Int[Tensor, "S A"]) -> Tensor:
    """Agents ``[S, A, ...]`` out of ``[S, A', ...]``."""
    if len(values) == 1:
        return values if index.shape[1] == values.shape[1] else values.index_select(1, index[0])
    return values.flatten(0, 1)[index + torch.arange(len(index))[:, None] * values.shape[1]]


def _near_path(scene: VectorScene, path: ReferencePath, nodes: Nodes, lateral: float) -> np.ndarray:
    """``[S, A]``: positions of the agents any mode of which comes near the path, -1 where there are fewer than in

    other scenes. Judged at every other node and every fourth knot.
    """
    valid, boxes = scene.agents.valid.numpy(), scene.agents.box.detach().numpy()
    forecast = scene.futures.mean.detach().numpy()
    knots, count = path.knots.detach().numpy(), path.count.tolist()
    found = []
    for k, box in enumerate(boxes):
        own = knots[k, : count[k] : 4]
        reach = lateral + 2.0 + box[:, 3] / 2
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


def _nobody(scenes: int, modes: int, nodes: int) -> tuple[Tensor, ...]:
    """One absent agent in every scene: reductions over agents need at least one."""
    z = torch.zeros(scenes, 1, max(modes, 1), nodes, PIECES, dtype=torch.float64)
    flat, no = z[..., 0], torch.zeros(scenes, 1, dtype=torch.bool)
    one, index = flat[..., 0, 0], torch.full((scenes, 1), -1, dtype=torch.int64)
    return z, z, z, z, flat, flat, one, one, flat.bool(), no, flat[..., 0], index, index, index, no

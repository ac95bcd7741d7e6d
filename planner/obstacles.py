"""Agents and their futures in Frenet coordinates, enlarged by their uncertainty.

Each agent is cut into pieces along its length, so that long vehicles on curves or at an angle do not fill
their bounding interval. Everything is differentiable with respect to boxes, means, covariances, mode
probabilities and existence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.config import PlannerConfig
from planner.reference_path import ReferencePath
from planner.scene import AgentClass, VectorScene
from planner.scene.frames import wrap_angle

PIECES = 3
REACH_LATERAL = 7.0
"""Agents whose box stays further than this (m) from the path cannot matter within the horizon."""
STANDING_SPEED = 0.5
STANDING_DRIFT = 1.0


@dataclass
class Obstacles:
    """A agents near the path, M modes, N nodes (the first is now), P pieces.

    node_time ``[N]`` s. s_lo, s_hi, d_lo, d_hi ``[A, M, N, P]`` m: the piece's interval, enlarged by
    the motion until half way to the neighbouring nodes, and in d by the uncertainty. sigma_s ``[A, M, N]`` m:
    standard deviation along the path; how much of it counts depends on the decision (`risk_quantile`).
    relative_heading ``[A, M, N]`` rad against the path. speed_s ``[A]`` m/s now, along the path.
    speed ``[A]`` m/s. active ``[A, M, N]``: the mode counts at that node. standing ``[A]``.
    weight ``[A, M]``: mode probability times existence. agent_index ``[A]``: position in the scene.
    """

    node_time: Float[Tensor, " N"]
    s_lo: Float[Tensor, "A M N P"]
    s_hi: Float[Tensor, "A M N P"]
    d_lo: Float[Tensor, "A M N P"]
    d_hi: Float[Tensor, "A M N P"]
    sigma_s: Float[Tensor, "A M N"]
    relative_heading: Float[Tensor, "A M N"]
    speed_s: Float[Tensor, " A"]
    speed: Float[Tensor, " A"]
    active: Bool[Tensor, "A M N"]
    standing: Bool[Tensor, " A"]
    weight: Float[Tensor, "A M"]
    track_id: Int[Tensor, " A"]
    agent_class: Int[Tensor, " A"]
    agent_index: Int[Tensor, " A"]

    def __len__(self) -> int:
        return len(self.track_id)

    @cached_property
    def extents(self) -> list[tuple[float, float, float, float]]:
        """Per agent, the interval (s_lo, s_hi, d_lo, d_hi) it takes up now and, unless it stands, within 3 s.

        An empty interval (lower above upper) for an agent without active modes. Plain numbers, no gradient.
        """
        return [tuple(row) for row in self._extent(slice(None)).detach().tolist()]

    def extent(self, agent: int) -> Float[Tensor, " 4"]:
        """One row of `extents` as a tensor, with gradients."""
        return self._extent(slice(agent, agent + 1))[0]

    def _extent(self, agents: slice) -> Float[Tensor, "A 4"]:
        soon = (self.node_time <= 3.0) & ~self.standing[agents, None]
        soon[:, 0] = True
        use = (self.active[agents] & soon[:, None])[..., None]
        low = [torch.where(use, x[agents], 1e9).flatten(1).amin(1) for x in (self.s_lo, self.d_lo)]
        high = [torch.where(use, x[agents], -1e9).flatten(1).amax(1) for x in (self.s_hi, self.d_hi)]
        return torch.stack([low[0], high[0], low[1], high[1]], 1)


def project_obstacles(scene: VectorScene, path: ReferencePath, node_time: Tensor, config: PlannerConfig) -> Obstacles:
    """Agents of a single scene (no batch axis) that come near the path. node_time ``[N]`` starts with 0."""
    mean, yaw, covariance, spoken = _at_nodes(scene, node_time)
    near = _near_path(mean, scene.agents.box[:, 3], path) & scene.agents.valid
    index = near.nonzero()[:, 0]
    if not len(index):
        return _nobody(node_time)
    mean, yaw, covariance, spoken = mean[index], yaw[index], covariance[index], spoken[index]
    agents, futures = scene.agents, scene.futures
    length, width = agents.box[index, 3].double(), agents.box[index, 4].double()

    s, d, valid = path.project(mean)
    _, heading, curvature = path.evaluate(s)
    phi = wrap_angle(yaw - heading)
    cos, sin = torch.cos(phi), torch.sin(phi)
    # Offsets along the agent's axis, with the bow of the path (second order in the offset).
    offset = length[:, None] * ((torch.arange(PIECES) + 0.5) / PIECES - 0.5)  # [A, P]
    offset = offset[:, None, None, :]
    stretch = 1 / (1 - curvature * d).clamp(min=0.1)
    piece_s = s[..., None] + offset * (cos * stretch)[..., None]
    piece_d = d[..., None] + offset * sin[..., None] - 0.5 * (curvature * cos**2)[..., None] * offset**2
    half_length, half_width = (length / (2 * PIECES))[:, None, None], (width / 2)[:, None, None]
    half_s = half_length * cos.abs() + half_width * sin.abs()
    half_d = half_length * sin.abs() + half_width * cos.abs()

    weight = futures.probability[index].double() * agents.existence[index].double()[:, None]
    sigma_s = _sigma(covariance, heading, config.risk.sigma_floor)
    sigma_d = _sigma(covariance, heading + torch.pi / 2, config.risk.sigma_floor)
    q = risk_quantile(torch.ones(1, dtype=torch.float64), config.risk.hit_probability)
    half_s, half_d = half_s[..., None], (half_d + (q * sigma_d).clamp(max=config.risk.lateral_max))[..., None]

    active = spoken & valid & (weight > 1e-3)[..., None]
    velocity = agents.velocity[index].double()
    direction = torch.stack([torch.cos(heading[:, 0, 0]), torch.sin(heading[:, 0, 0])], -1)
    drift = (mean[:, :, node_time <= 3.0] - mean[:, :, :1]).norm(dim=-1).amax(-1)
    main = weight.argmax(1, keepdim=True)
    speed = velocity.norm(dim=-1)
    standing = (speed < STANDING_SPEED) & (drift.gather(1, main)[:, 0] < STANDING_DRIFT)
    standing = standing | (agents.agent_class[index] == AgentClass.STATIC)
    return Obstacles(
        node_time=node_time,
        s_lo=_sweep(piece_s - half_s, torch.minimum),
        s_hi=_sweep(piece_s + half_s, torch.maximum),
        d_lo=_sweep(piece_d - half_d, torch.minimum),
        d_hi=_sweep(piece_d + half_d, torch.maximum),
        sigma_s=sigma_s,
        relative_heading=phi,
        speed_s=(velocity * direction).sum(-1),
        speed=speed,
        active=active,
        standing=standing,
        weight=weight,
        track_id=agents.track_id[index],
        agent_class=agents.agent_class[index],
        agent_index=index,
    )


def risk_quantile(weight: Tensor, hit_probability: float) -> Tensor:
    """q = Phi^-1(1 - eps / w), the one-sided normal quantile that keeps P(exists, mode, inside) <= eps.

    Falls smoothly to -3 as the weight w approaches eps, where the object stops mattering.
    """
    ratio = (hit_probability / weight.clamp(min=1e-12)).clamp(1e-9, 1 - 1.35e-3)
    return torch.special.ndtri(1 - ratio)


def _at_nodes(scene: VectorScene, node_time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forecasts and the box of now, interpolated to the nodes: mean, yaw, covariance, spoken."""
    agents, futures = scene.agents, scene.futures
    modes = futures.mean.shape[1]
    time = torch.cat([torch.zeros(1, dtype=torch.float64), futures.time.double()])
    now = agents.box[:, None, None, :3].double().expand(-1, modes, 1, 3)
    mean = torch.cat([now[..., :2], futures.mean.double()], 2)
    yaw = torch.cat([now[..., 2], futures.yaw.double()], 2)
    cov_now = agents.position_covariance[:, None, None].double().expand(-1, modes, 1, 2, 2)
    covariance = torch.cat([cov_now, futures.covariance.double()], 2)
    spoken = torch.cat([futures.valid.any(2, keepdim=True), futures.valid], 2)
    i = (torch.searchsorted(time, node_time.clamp(max=float(time[-1])), right=True) - 1).clamp(0, len(time) - 2)
    f = ((node_time - time[i]) / (time[i + 1] - time[i])).clamp(0, 1)
    turn = wrap_angle(yaw[:, :, i + 1] - yaw[:, :, i])
    return (
        mean[:, :, i] + (mean[:, :, i + 1] - mean[:, :, i]) * f[:, None],
        yaw[:, :, i] + turn * f,
        covariance[:, :, i] + (covariance[:, :, i + 1] - covariance[:, :, i]) * f[:, None, None],
        spoken[:, :, i] & (spoken[:, :, i + 1] | (f < 1e-9)),
    )


def _near_path(mean: Tensor, length: Tensor, path: ReferencePath) -> Tensor:
    """``[A]``: any mode comes near the path; judged at every other node and every fourth knot."""
    if not len(mean):
        return torch.zeros(0, dtype=torch.bool)
    some = mean.detach()[:, :, ::2]
    step = (mean.detach()[:, :, 1:] - mean.detach()[:, :, :-1]).norm(dim=-1).flatten(1).amax(1)
    distance = torch.cdist(some.reshape(-1, 2), path.knots.detach()[::4]).amin(1).reshape(some.shape[:-1])
    return distance.flatten(1).amin(1) < REACH_LATERAL + 2.0 + length / 2 + step


def _sigma(covariance: Tensor, direction: Tensor, floor: float) -> Tensor:
    """sqrt(n' C n) for the unit vector n at the angle `direction`, at least the floor."""
    n = torch.stack([torch.cos(direction), torch.sin(direction)], -1)
    variance = (n[..., None, :] @ covariance @ n[..., None])[..., 0, 0]
    return (variance + floor**2).clamp(min=floor**2).sqrt()


def _sweep(value: Tensor, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Extreme of an interval end over the half steps to both neighbours along the node axis."""
    before = torch.cat([value[:, :, :1], (value[:, :, :-1] + value[:, :, 1:]) / 2], 2)
    after = torch.cat([(value[:, :, :-1] + value[:, :, 1:]) / 2, value[:, :, -1:]], 2)
    return pick(pick(value, before), after)


def _nobody(node_time: Tensor) -> Obstacles:
    """One inactive agent: reductions over agents need at least one."""
    z = torch.zeros(1, 1, len(node_time), PIECES, dtype=torch.float64)
    one = torch.zeros(1, dtype=torch.float64)
    index = torch.full((1,), -1, dtype=torch.int64)
    return Obstacles(
        node_time, z, z, z, z, z[..., 0], z[..., 0], one, one, torch.zeros(1, 1, len(node_time), dtype=torch.bool),
        torch.zeros(1, dtype=torch.bool), one[:, None], index, index.clone(), index.clone(),
    )  # fmt: skip

"""Raw outputs -> the contract: agents and futures, map polylines, ego proposal. float64, differentiable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from perception.calibration import Calibration
from perception.config import LINE_KINDS, PerceptionConfig
from perception.heads import AgentOutputs, EgoOutputs
from perception.heads_lines import LineOutputs
from perception.network import NetworkInputs, NetworkOutputs
from perception.raw_outputs import boxes, ego_motion, futures, step_time
from planner.scene import AgentFutures, AgentTracks, EgoProposal, MapPolylines, Trajectory, frames

WEIGHT_SPAN = 10.0
"""Factors on the planner's cost weights lie between a tenth and ten times."""
WALKING = 0.5
"""m/s: forecasts slower than this keep today's heading."""


@dataclass(frozen=True)
class DecodeConfig:
    """What of the network's answers is told. existence, line: least confidence. most: agents told at most.

    same_agent (m): of two agents whose centres are closer than this (plus a quarter of the smaller one's width) only
    the more certain one is told. same_line (m): likewise for mean distances of polylines of one kind.
    """

    existence: float = 0.1
    line: float = 0.3
    most: int = 100
    same_agent: float = 0.4
    same_line: float = 1.0


@dataclass
class Decoded:
    """Of B scenes, present ego frame: what `perception.perceive` puts into a scene."""

    agents: AgentTracks
    futures: AgentFutures
    map: MapPolylines
    proposal: EgoProposal


def decode(
    outputs: NetworkOutputs,
    inputs: NetworkInputs,
    config: PerceptionConfig,
    settings: DecodeConfig | None = None,
    calibration: Calibration | None = None,
) -> Decoded:
    """B scenes at once; entries that are not told are padding (valid is False). Track ids are -1: not tracked yet."""
    settings, calibration = settings or DecodeConfig(), calibration or Calibration()
    agents, ahead = decode_agents(outputs.agents, config, settings, calibration)
    return Decoded(
        agents, ahead, decode_lines(outputs.lines, config, settings), decode_ego(outputs.ego, inputs, config)
    )


def decode_agents(
    out: AgentOutputs, config: PerceptionConfig, settings: DecodeConfig, calibration: Calibration
) -> tuple[AgentTracks, AgentFutures]:
    """The most certain agents of each scene, most certain first."""
    regular, count = config.agents, min(settings.most, config.agents)
    probability = calibration.probability(out.class_logit[:, :regular].double())
    score, kind = probability.max(-1)
    score, order = score.sort(dim=1, descending=True, stable=True)
    order, score = order[:, :count], score[:, :count]
    kind = kind.gather(1, order)

    def pick(value: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (value.ndim - 2))
        return value.double().gather(1, index.expand(-1, -1, *value.shape[2:]))

    now = boxes(pick(out.place), pick(out.box))
    valid = (score >= settings.existence) & ~_repeated(now.xy, now.size[..., 1], settings.same_agent, score)
    sigma = now.log_sigma.exp() * calibration.now(kind)[..., None]
    mean, log_sigma = futures(now, pick(out.future), config.horizon)
    spread = log_sigma.exp() * calibration.then(kind, config.steps)[..., None, :, None]
    covariance = _covariance(sigma.square(), now.yaw)
    time = step_time(config.steps, config.horizon, mean)
    agents = AgentTracks(
        box=torch.cat([now.xy, now.yaw[..., None], now.size], -1),
        velocity=now.velocity,
        position_covariance=covariance,
        agent_class=kind,
        existence=score.clamp(0, 1),
        track_id=torch.full_like(kind, -1),
        valid=valid,
    )
    variance = (spread.square() + sigma.square()[..., None, None, :]).expand_as(mean)
    ahead = AgentFutures(
        mean=mean,
        yaw=_heading(mean, now.xy, now.yaw, config.horizon / config.steps),
        covariance=_covariance(variance, now.yaw[..., None, None]),
        probability=torch.softmax(pick(out.mode_logit) / calibration.mode, -1),
        time=time.expand(len(mean), -1),
        valid=valid[..., None, None].expand(mean.shape[:-1]),
    )
    return agents, ahead


def decode_lines(out: LineOutputs, config: PerceptionConfig, settings: DecodeConfig) -> MapPolylines:
    """Polylines above the least confidence, of several nearly equal ones the most certain."""
    regular = config.lines
    confidence, kind = out.kind_logit[:, :regular].double().sigmoid().max(-1)
    points = out.points[-1, :, :regular].double()
    told = confidence >= settings.line
    with torch.no_grad():
        for b in range(len(told)):
            told[b] &= ~_repeated_lines(points[b], kind[b], confidence[b], told[b], settings.same_line)
    kinds = torch.tensor([int(k) for k in LINE_KINDS], device=kind.device)
    return MapPolylines(
        xy=points,
        kind=kinds[kind],
        confidence=confidence,
        closed=torch.zeros_like(told),
        valid=told[..., None].expand(points.shape[:-1]),
    )


def decode_ego(out: EgoOutputs, inputs: NetworkInputs, config: PerceptionConfig) -> EgoProposal:
    """Positive cost factors, decision logits, and a reference along the route."""
    limit = math.log(WEIGHT_SPAN)
    weight = torch.exp(limit * torch.tanh(out.weight.double() / limit))
    ego, route = inputs.ego.double(), inputs.route.double()
    motion = ego_motion(out.motion.double(), route, ego, config.horizon)
    step = config.horizon / config.steps
    time = torch.cat([torch.zeros(1, device=weight.device).double(), step_time(config.steps, config.horizon, motion.v)])
    v = torch.cat([ego[:, :1] * 10, motion.v], 1)
    yaw = torch.cat([torch.atan2(ego[:, 6:7], ego[:, 7:8]), motion.yaw], 1)
    xy = torch.cat([ego[:, None, 4:6], motion.xy], 1)
    turn = frames.wrap_angle(yaw.diff(dim=1)) / step / v[:, 1:].clamp(min=1.0)
    reference = Trajectory(
        time=time.expand(len(v), -1), x=xy[..., 0], y=xy[..., 1], yaw=yaw, v=v,
        a=torch.cat([ego[:, 1:2] * 3, v.diff(dim=1) / step], 1), curvature=torch.cat([ego[:, 2:3] / 10, turn], 1),
    )  # fmt: skip
    return EgoProposal(reference=reference, cost_weight=weight, decision_logit=out.decision.double())


def _covariance(variance: Tensor, yaw: Tensor) -> Tensor:
    """``[..., 2, 2]`` in the scene's frame from variances along and across a heading."""
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    a, b = variance[..., 0], variance[..., 1]
    xy = (a - b) * cos * sin
    row = torch.stack([a * cos**2 + b * sin**2, xy], -1), torch.stack([xy, a * sin**2 + b * cos**2], -1)
    return torch.stack(row, -2)


def _heading(mean: Tensor, xy: Tensor, yaw: Tensor, step: float) -> Tensor:
    """Where a forecast moves, its direction; else today's heading."""
    start = xy[..., None, None, :].expand(*mean.shape[:-2], 1, 2)
    move = torch.cat([start, mean], -2).diff(dim=-2).detach()
    moving = move.norm(dim=-1) > WALKING * step
    direction = torch.atan2(move[..., 1], move[..., 0])
    today = yaw[..., None, None].expand_as(direction)
    # An object that moves backwards keeps its nose where it is.
    forward = torch.cos(direction - today) > 0
    return torch.where(moving & forward, direction, today.detach())


def repeated(xy: Tensor, width: Tensor, score: Tensor, reach: float | None = None) -> Tensor:
    """``[n]`` bool: which of one scene's answers, in any order, are not told beside a more certain one at their place.

    xy ``[n, 2]`` m, width ``[n]`` m, score ``[n]``. reach (m): of `DecodeConfig.same_agent` unless told.
    """
    order = score.argsort(descending=True, stable=True)
    reach = DecodeConfig().same_agent if reach is None else reach
    again = _repeated(xy[order][None], width[order][None], reach, score[order][None])[0]
    return torch.zeros_like(again).scatter(0, order, again)


def _repeated(xy: Tensor, width: Tensor, reach: float, score: Tensor) -> Tensor:
    """``[B, n]``: somebody more certain, who is not repeated himself, is at the same place. Sorted by score."""
    with torch.no_grad():
        distance = torch.cdist(xy, xy)
        close = (distance < reach + 0.25 * torch.minimum(width[:, :, None], width[:, None])).cpu().numpy()
        out = np.zeros(close.shape[:2], bool)
        for b, table in enumerate(close):
            for i in range(1, len(table)):
                out[b, i] = bool((table[i, :i] & ~out[b, :i]).any())
    return torch.from_numpy(out).to(score.device)


def _repeated_lines(points: Tensor, kind: Tensor, confidence: Tensor, told: Tensor, reach: float) -> Tensor:
    """``[L]``: a more certain told line of the same kind lies at the same place (mean nearest distance, both ways)."""
    out = torch.zeros_like(told)
    chosen = [i for i in confidence.argsort(descending=True).tolist() if told[i]]
    kept: list[int] = []
    for i in chosen:
        for j in kept:
            if kind[i] == kind[j]:
                table = torch.cdist(points[i], points[j])
                if float(table.amin(0).mean() + table.amin(1).mean()) / 2 < reach:
                    out[i] = True
                    break
        else:
            kept.append(i)
    return out

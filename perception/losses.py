"""What training minimises, sample by sample: nothing is normalised over a batch, so that any split of it is the same.

Queries and annotations are matched by the Hungarian method (Carion et al., 2020); heat maps learn by the focal loss of
CenterNet (Zhou et al., 2019); polylines are compared in every order of points that means the same (MapTR, Liao et al.,
2023); of a forecast's modes the nearest learns. Hinted queries (`perception.network.Hints`) need no matching.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from perception.config import LINE_KINDS, PerceptionConfig
from perception.losses_lines import line_losses
from perception.losses_parts import Rows, focal, heat_loss, heat_map, match
from perception.network import Hints, NetworkInputs, NetworkOutputs
from perception.raw_outputs import boxes, ego_motion, futures
from perception.targets import Targets, windowed
from planner.scene import AgentClass

FAR = 4.0
"""m: a query farther than this from an annotated centre is not its answer."""


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms. heat, kind, box, sigma, forecast, mode: agents; line_*: the map; ego: the expert's drive;
    imitation, regret: through the planner (`perception.train.planning`), 0 = the planner is not asked."""

    heat: float = 1.0
    kind: float = 1.0
    box: float = 1.0
    sigma: float = 0.05
    forecast: float = 0.2
    mode: float = 0.2
    line_heat: float = 2.0
    line_near: float = 4.0
    line_kind: float = 1.0
    line_shape: float = 1.0
    ego: float = 0.1
    imitation: float = 0.0
    regret: float = 0.0


@dataclass
class LineTargets:
    """points ``[L, P, 2]`` m and kind ``[L]`` of one sample's window."""

    points: Tensor
    kind: Tensor


def line_targets(targets: list[Targets], config: PerceptionConfig, device: torch.device) -> list[LineTargets]:
    """What the map's queries shall say, per sample."""
    cut = [windowed(t, config) for t in targets]
    return [LineTargets(torch.from_numpy(p).float().to(device), torch.from_numpy(k).to(device)) for p, k in cut]


def make_hints(targets: list[Targets], lines: list[LineTargets], seed: list[int], device: torch.device) -> Hints:
    """Where agents and the middles of lines are, up to a cell; padded with zeros. seed: one per sample."""
    agents = [torch.from_numpy(t.box[t.seen, :2]).float() for t in targets]
    middles = [middle(line.points.cpu()) for line in lines]
    noise = [torch.Generator().manual_seed(s) for s in seed]

    def padded(places: list[Tensor], by: float) -> Tensor:
        out = torch.zeros(len(places), max(1, *(len(p) for p in places)), 2)
        for b, (place, generator) in enumerate(zip(places, noise)):
            out[b, : len(place)] = place + by * (2 * torch.rand(place.shape, generator=generator) - 1)
        return out.to(device)

    return Hints(padded(agents, 0.8), padded(middles, 0.8))


def middle(points: Tensor) -> Tensor:
    """``[L, 2]``: the point half-way along a line; of a ring its centroid."""
    ring = (points[:, 0] - points[:, -1]).norm(dim=-1) < 1e-3
    half = points.shape[1] // 2
    open_middle = (points[:, half - 1] + points[:, half]) / 2 if points.shape[1] % 2 == 0 else points[:, half]
    return torch.where(ring[:, None], points[:, :-1].mean(1), open_middle)


def losses(
    outputs: NetworkOutputs,
    targets: list[Targets],
    lines: list[LineTargets],
    inputs: NetworkInputs,
    config: PerceptionConfig,
) -> dict[str, Tensor]:
    """Terms of `LossWeights` but for the planner's, each ``[B]``, unweighted; float32 whatever the network ran in."""
    agents = [_agent_losses(outputs, b, t, config) for b, t in enumerate(targets)]
    drawn = [line_losses(outputs.lines, b, t.points, t.kind, middle(t.points), config) for b, t in enumerate(lines)]
    out = {name: torch.stack([row[name] for row in agents]) for name in agents[0]}
    out |= {name: torch.stack([row[name] for row in drawn]) for name in drawn[0]}
    out["ego"] = _ego_loss(outputs, targets, inputs, config)
    return out


def total(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """``[B]``: the weighted sum."""
    return torch.stack([getattr(weights, f.name) * terms[f.name] for f in fields(weights) if f.name in terms]).sum(0)


def _agent_losses(outputs: NetworkOutputs, b: int, t: Targets, config: PerceptionConfig) -> dict[str, Tensor]:
    out, device = outputs.agents, outputs.agents.heat.device
    extent, regular = config.preprocessing.extent, config.agents
    every = torch.from_numpy(t.box).float().to(device)
    seen, kind = torch.from_numpy(t.seen).to(device), torch.from_numpy(t.kind).long().to(device)
    inside = seen & (every[:, :2].abs() < extent).all(-1)
    true, true_kind = every[inside], kind[inside]

    spread = 0.12 * true[:, 3:5].prod(-1).sqrt() + 0.6
    wanted = heat_map(out.heat.shape[1:], true[:, :2], true_kind, spread, extent, extent)
    hidden = heat_map(
        out.heat.shape[1:], every[~seen, :2], kind[~seen], torch.full_like(every[~seen, 0], 1.0), extent, extent
    )
    terms = {"heat": heat_loss(out.heat[b].float(), wanted, hidden.amax(0) < 0.1)}

    said = boxes(out.place[b].float(), out.box[b].float())
    logit = out.class_logit[b].float()
    with torch.no_grad():
        distance = torch.cdist(said.xy[:regular], true[:, :2])
        cost = distance - 2.0 * logit[:regular].sigmoid()[:, true_kind]
        query, index = match(cost, distance < FAR)
    label = torch.zeros_like(logit[:regular])
    label[query, true_kind[index]] = 1.0
    # A query on somebody hidden is neither right nor wrong.
    judged = torch.ones(regular, device=device)
    if (~seen).any():
        judged = (torch.cdist(said.xy[:regular].detach(), every[~seen, :2]).amin(1) > 2.0).float()
        judged[query] = 1.0
    terms["kind"] = (focal(logit[:regular], label).sum(-1) * judged).sum() / max(len(true), 1)

    # Hinted queries answer for the agent they were hinted at, in order.
    shown = torch.from_numpy(t.seen).nonzero()[:, 0].to(device)
    hinted = torch.arange(len(shown), device=device)
    hint_ok = (
        inside[shown] if out.place.shape[1] > regular else torch.zeros(len(shown), dtype=torch.bool, device=device)
    )
    place_in_true = torch.cumsum(inside, 0) - 1
    query = torch.cat([query, regular + hinted[hint_ok]])
    index = torch.cat([index, place_in_true[shown[hint_ok]]])
    terms |= _box_losses(
        Rows(said, query),
        true[index],
        torch.from_numpy(t.velocity).float().to(device)[inside][index],
        out.box[b].float()[query],
    )
    future = torch.from_numpy(t.future).float().to(device)[inside][index]
    valid = (
        torch.from_numpy(t.future_valid).to(device)[inside][index]
        & (true_kind[index] != int(AgentClass.STATIC))[:, None]
    )
    now = Rows(said, query).boxes().detach()
    mean, log_sigma = futures(now, out.future[b].float()[query], config.horizon)
    return terms | _forecast_losses(mean, log_sigma, out.mode_logit[b].float()[query], now.yaw, future[..., :2], valid)


def _box_losses(said: Rows, true: Tensor, velocity: Tensor, raw: Tensor) -> dict[str, Tensor]:
    if not len(true):
        zero = raw.sum() * 0.0
        return {"box": zero, "sigma": zero}
    now = said.boxes()
    angle = torch.stack([true[:, 2].sin(), true[:, 2].cos()], -1)
    error = (now.xy - true[:, :2]).abs().sum(-1) + (raw[:, 2:4] - angle).abs().sum(-1)
    error = error + (now.size.log() - true[:, 3:5].log()).abs().sum(-1) + 0.5 * (now.velocity - velocity).abs().sum(-1)
    cos, sin = angle[:, 1], angle[:, 0]
    away = (now.xy - true[:, :2]).detach()
    local = torch.stack([cos * away[:, 0] + sin * away[:, 1], -sin * away[:, 0] + cos * away[:, 1]], -1)
    nll = now.log_sigma + 0.5 * (local / now.log_sigma.exp()).square()
    return {"box": error.mean(), "sigma": nll.sum(-1).mean()}


def _forecast_losses(
    mean: Tensor, log_sigma: Tensor, mode_logit: Tensor, yaw: Tensor, true: Tensor, valid: Tensor
) -> dict[str, Tensor]:
    """mean, log_sigma ``[n, M, T, 2]``; true ``[n, T, 2]``; the mode nearest on average learns."""
    said = valid.any(-1)
    if not said.any():
        zero = mean.sum() * 0.0 + log_sigma.sum() * 0.0 + mode_logit.sum() * 0.0
        return {"forecast": zero, "mode": zero}
    mean, log_sigma, mode_logit, yaw, true, valid = (x[said] for x in (mean, log_sigma, mode_logit, yaw, true, valid))
    away = mean - true[:, None]
    weight = valid.float() / valid.sum(-1, keepdim=True)
    best = (away.norm(dim=-1).detach() * weight[:, None]).sum(-1).argmin(1)
    row = torch.arange(len(best), device=best.device)
    away, log_sigma = away[row, best], log_sigma[row, best]
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    local = torch.stack([cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]], -1)
    nll = (log_sigma + 0.5 * (local / log_sigma.exp()).square()).sum(-1)
    return {
        "forecast": (nll * weight).sum(-1).mean(),
        "mode": torch.nn.functional.cross_entropy(mode_logit, best),
    }


def _ego_loss(
    outputs: NetworkOutputs, targets: list[Targets], inputs: NetworkInputs, config: PerceptionConfig
) -> Tensor:
    motion = ego_motion(outputs.ego.motion.float(), inputs.route, inputs.ego, config.horizon)
    true = torch.stack([torch.from_numpy(t.drive).float() for t in targets]).to(motion.xy)
    valid = torch.stack([torch.from_numpy(t.drive_valid).float() for t in targets]).to(motion.xy)
    return ((motion.xy - true).abs().sum(-1) * valid).sum(1) / valid.sum(1).clamp(min=1)


__all__ = ["LINE_KINDS", "LossWeights", "losses", "make_hints", "total"]

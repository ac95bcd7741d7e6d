"""Calibration from held-out samples: how often the network is right when it says so, how far its errors reach.

Existence: a logistic curve per class over the network's own logits (Platt, 1999). Modes: one temperature (Guo et al.,
2017). Positions, now and later: split conformal (Vovk et al., 2005): the factor on the standard deviations with which
the share `COVERAGE` of held-out truths lies within the Gaussian's own region of that probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from perception.calibration import Calibration
from perception.config import CLASSES, PerceptionConfig
from perception.data import load_batch
from perception.decode import repeated
from perception.losses_parts import match
from perception.network import PerceptionNetwork
from perception.raw_outputs import along, boxes, futures
from perception.targets import Targets
from planner.scene import AgentClass

COVERAGE = 0.9
LIKELY = 0.1
"""A forecast's mode counts as said when its probability is at least this."""
REACH = 2.0
"""m: an answer nearer than this to an annotated agent of its class is right."""
FEWEST = 40
"""With fewer examples than this a class takes the value of all classes together."""


@dataclass
class Evidence:
    """What was said of held-out samples and whether it was so, one row per answer.

    logit, right, kind ``[n]``: of existence. For right answers: error ``[m]`` squared distance of the position in
    standard deviations, moved ``[m, T]`` likewise of the nearest likely mode (NaN where unknown), of ``[m]`` their
    class; mode_logit ``[m, M]`` and best ``[m]`` (-1 unknown): which mode was nearest.
    """

    logit: np.ndarray
    right: np.ndarray
    kind: np.ndarray
    error: np.ndarray
    moved: np.ndarray
    of: np.ndarray
    mode_logit: np.ndarray
    best: np.ndarray


def calibrate(
    network: PerceptionNetwork, samples: Sequence[Path], found_on: str, batch: int = 8
) -> tuple[Calibration, dict[str, float]]:
    """A calibration, and the expected calibration error of existence before and after it, on the same samples.

    Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("samples: expected held-out samples, got none")
    rows = []
    for first in range(0, len(samples), batch):
        rows.append(gather(network, samples[first : first + batch]))
    evidence = Evidence(*(np.concatenate([getattr(r, n) for r in rows]) for n in Evidence.__dataclass_fields__))
    out = fit(evidence, network.config, found_on)
    table = np.array(out.existence)[evidence.kind]
    after = table[:, 0] * evidence.logit + table[:, 1]
    return out, {
        "existence_error_before": calibration_error(_sigmoid(evidence.logit), evidence.right),
        "existence_error_after": calibration_error(_sigmoid(after), evidence.right),
        "answers": float(len(evidence.logit)),
    }


@torch.no_grad()
def gather(network: PerceptionNetwork, samples: Sequence[Path]) -> Evidence:
    """Ask the network about some samples and compare."""
    config, device = network.config, next(network.parameters()).device
    data = load_batch(samples, config, with_scenes=False)
    out = network(data.inputs.to(device)).agents
    said = boxes(out.place, out.box)
    mean, log_sigma = futures(said, out.future, config.horizon)
    rows = []
    for b, t in enumerate(data.targets):
        logit, kind = out.class_logit[b].max(-1)
        # Only what `decode` tells: a repetition of a more certain answer is not told, so it is not wrong either.
        told = (logit > -4.0) & ~repeated(said.xy[b], said.size[b, :, 1], logit)
        place, true = said.xy[b].cpu(), torch.from_numpy(t.box[:, :2]).float()
        same = kind[:, None].cpu() == torch.from_numpy(t.kind)[None]
        distance = torch.cdist(place, true)
        query, index = match(distance - logit[:, None].cpu(), (distance < REACH) & same & told[:, None].cpu())
        right = torch.zeros(len(kind), dtype=torch.bool)
        right[query] = True
        # Answers to agents that no sensor saw say nothing about the network.
        judged = told.cpu().clone()
        judged[query] &= torch.from_numpy(t.seen)[index]
        query, index = query[judged[query]], index[judged[query]]
        off = along(true[index] - place[query], -said.yaw[b].cpu()[query])
        error = (off / said.log_sigma[b].cpu()[query].exp()).square().sum(-1)
        yaw, modes = said.yaw[b].cpu()[query], out.mode_logit[b].cpu()[query]
        moved, best = _moved(mean[b].cpu()[query], log_sigma[b].cpu()[query], modes, yaw, t, index)
        rows.append(
            Evidence(
                logit.cpu()[judged].numpy(), right[judged].numpy(), kind.cpu()[judged].numpy(), error.numpy(), moved,
                t.kind[index.numpy()], modes.numpy(), best,
            )
        )  # fmt: skip
    return Evidence(*(np.concatenate([getattr(r, n) for r in rows]) for n in Evidence.__dataclass_fields__))


def _moved(
    mean: Tensor, log_sigma: Tensor, mode_logit: Tensor, yaw: Tensor, t: Targets, index: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances ``[m, T]`` of the nearest likely mode in standard deviations, and the nearest mode ``[m]``."""
    true, valid = torch.from_numpy(t.future[..., :2]).float()[index], torch.from_numpy(t.future_valid)[index]
    away = true[:, None] - mean
    local = along(away, -yaw[:, None, None])
    distance = (local / log_sigma.exp()).square().sum(-1)  # [m, M, T]
    likely = mode_logit.softmax(-1) >= LIKELY
    nearest = torch.where(likely[..., None], distance, torch.inf).amin(1)
    share = valid.float() / valid.sum(1, keepdim=True).clamp(min=1)
    best = (away.norm(dim=-1) * share[:, None]).sum(-1).argmin(1)
    moves = torch.from_numpy(t.kind)[index] != int(AgentClass.STATIC)
    best = torch.where(valid.any(1) & moves, best, -1)
    return torch.where(valid & moves[:, None], nearest, torch.nan).numpy(), best.numpy()


def fit(evidence: Evidence, config: PerceptionConfig, found_on: str) -> Calibration:
    """The calibration that the evidence asks for."""
    e, region = evidence, -2 * math.log(1 - COVERAGE)  # of a Gaussian in the plane: its squared radius
    whole = _platt(e.logit, e.right)
    existence = [_platt(e.logit[s], e.right[s]) if _enough(e.right[s]) else whole for s in _of(e.kind)]
    every = _factor(e.error, region)
    position = [_factor(e.error[s], region) if s.sum() >= FEWEST else every for s in _of(e.of)]
    table = []
    for s in _of(e.of):
        row = []
        for step in range(config.steps):
            known = e.moved[s, step][~np.isnan(e.moved[s, step])]
            pooled = e.moved[:, step][~np.isnan(e.moved[:, step])]
            row.append(_factor(known if len(known) >= FEWEST else pooled, region))
        table.append(tuple(row))
    known_mode = e.best >= 0
    return Calibration(
        tuple(existence),
        _temperature(e.mode_logit[known_mode], e.best[known_mode]),
        tuple(position),
        tuple(table),
        found_on,
    )


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap between said probability and observed share, over equal bins."""
    if not len(probability):
        return 0.0
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(probability[place == i].sum() - right[place == i].sum()) for i in range(bins)]
    return float(sum(gaps) / len(probability))


def _of(kind: np.ndarray) -> list[np.ndarray]:
    return [kind == k for k in range(CLASSES)]


def _enough(right: np.ndarray) -> bool:
    return min(right.sum(), (~right).sum()) >= FEWEST // 2


def _platt(logit: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """(a, b) of a logistic curve over the logits; pulled a little towards believing the network as it is."""
    if not len(logit):
        return (1.0, 0.0)
    sign = np.where(right, 1.0, -1.0)

    logit = logit.astype(float)

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x[0] * logit + x[1])
        push = -sign * _sigmoid(-margin)
        value = np.logaddexp(0.0, -margin).sum() + (x[0] - 1) ** 2 + 0.1 * x[1] ** 2
        return float(value), np.array([(push * logit).sum() + 2 * (x[0] - 1), push.sum() + 0.2 * x[1]])

    a, b = minimize(cost, np.array([1.0, 0.0]), jac=True, bounds=[(0.05, 20.0), (-20.0, 20.0)]).x
    return float(a), float(b)


def _factor(squared: np.ndarray, region: float) -> float:
    """Conformal: the ceil((n + 1) coverage)-th smallest; 1 where nothing is known."""
    rank = math.ceil((len(squared) + 1) * COVERAGE)
    if not len(squared):
        return 1.0
    quantile = np.sort(squared)[min(rank, len(squared)) - 1]
    return float(np.clip(math.sqrt(quantile / region), 0.05, 50.0))


def _temperature(logit: np.ndarray, best: np.ndarray) -> float:
    if len(best) < FEWEST:
        return 1.0

    def cost(log_t: float) -> float:
        scaled = logit / math.exp(log_t)
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[np.arange(len(best)), best]).mean())

    return math.exp(float(minimize_scalar(cost, bounds=(-3.0, 3.0), method="bounded").x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))

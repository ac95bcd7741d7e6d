"""How well a detection fits a track: the score of a candidate pair, set by hand or learned.

By hand it is the log-likelihood ratio against a detection at the gate; learned, a small network's answer to `FEATURES`
numbers about the pair is added to it. A pair is scored by itself, so the order of tracks and detections means nothing;
that they compete for each other is the assignment's business.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from perception.assignment import Pairs
from perception.track_filter import Detections, Tracks, spread
from planner.scene import AgentClass

FEATURES = 18
WIDTH = 16
_CLASSES = len(AgentClass)


class Affinity(nn.Module):
    """Score ``[E]`` of candidate pairs: (gate^2 - d^2) / 2 + network(features), d the Mahalanobis distance of position.

    gate: distance at which position alone is worth nothing. A fresh network answers 0: the score set by hand.
    """

    def __init__(self, gate: float = 4.0) -> None:
        super().__init__()
        self.gate = gate
        last = nn.Linear(WIDTH, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        hidden = (nn.Linear(FEATURES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.net = nn.Sequential(*hidden, last).double()

    def forward(self, tracks: Tracks, seen: Detections, pairs: Pairs) -> Tensor:
        """tracks: predicted to the time of the detections."""
        return self.score(features(tracks, seen, pairs))

    def score(self, values: Tensor) -> Tensor:
        """Of features ``[E, FEATURES]`` as `features` gives them."""
        return 0.5 * (self.gate**2 - values[:, 0]) + self.net(_scaled(values))[:, 0]

    def to_facts(self) -> dict[str, Any]:
        """JSON values, for a checkpoint's header (entry "affinity")."""
        return {"gate": self.gate, "parameters": {k: v.tolist() for k, v in self.state_dict().items()}}

    @classmethod
    def from_facts(cls, facts: dict[str, Any] | None) -> Affinity | None:
        """Inverse of `to_facts`; None for a checkpoint without. Raises ValueError where the parameters do not fit."""
        if facts is None:
            return None
        out = cls(float(facts["gate"]))
        try:
            out.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in facts["parameters"].items()})
        except (RuntimeError, KeyError, TypeError) as error:
            raise ValueError(f"affinity: its parameters do not fit this version: {error}") from error
        return out.eval().requires_grad_(False)


def features(tracks: Tracks, seen: Detections, pairs: Pairs) -> Tensor:
    """``[E, FEATURES]``: squared Mahalanobis distance of position first, then what else tells objects apart."""
    i, j = pairs.track, pairs.detection
    away = seen.state[j] - tracks.mean[i]
    total = spread(tracks, seen, pairs)
    place, speed = total[:, :2, :2], total[:, 2:, 2:]
    turn = seen.yaw[j] - tracks.yaw[i]
    ratio = (seen.size[j] / tracks.size[i]).log().abs()
    kind = tracks.agent_class[i]
    is_kind = [(kind == k).double() for k in (AgentClass.CAR, AgentClass.PEDESTRIAN, AgentClass.STATIC)]
    return torch.stack([
        mahalanobis(away[:, :2], place), mahalanobis(away[:, 2:], speed), torch.linalg.det(place).log(),
        away[:, :2].norm(dim=-1), away[:, 2:].norm(dim=-1), tracks.mean[i, 2:].norm(dim=-1), ratio[:, 0], ratio[:, 1],
        torch.cos(turn), torch.cos(2 * turn), (kind == seen.agent_class[j]).double(), tracks.existence[i],
        seen.existence[j], tracks.missed[i], tracks.sightings[i], *is_kind,
    ], 1)  # fmt: skip


def mahalanobis(away: Tensor, covariance: Tensor) -> Tensor:
    """Squared distances ``[E]`` of differences ``[E, 2]`` under covariances ``[E, 2, 2]``."""
    a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    x, y = away[:, 0], away[:, 1]
    return (d * x * x - 2 * b * x * y + a * y * y) / (a * d - b * b)


def _scaled(values: Tensor) -> Tensor:
    """Everything of order one; distances, speeds and counts by their logarithm."""
    d2, v2, det, metres, change, speed, long, wide, *rest = values.unbind(1)
    rest[6] = rest[6].log1p() / 2  # sightings
    near = [d2.clamp(min=0).log1p() / 2, v2.clamp(min=0).log1p() / 2, det / 4, metres.log1p(), change.log1p()]
    return torch.stack([*near, speed.log1p(), 3 * long, 3 * wide, *rest], 1)

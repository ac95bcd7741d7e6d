"""How far the network's own confidence is to be believed: found on held-out data, kept in the checkpoint.

The identity, which believes everything, until somebody has measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from perception.config import CLASSES


@dataclass(frozen=True)
class Calibration:
    """existence: logit p -> (a, b): a logit(p) + b, per class ``K``. mode: temperature of the modes' logits.
    position ``K``: factor on today's standard deviations. future ``K x T``: factor on the forecasts' standard
    deviations, per class and horizon (a conformal quantile over the Gaussian's own). Found on: what it was measured
    on, in words.
    """

    existence: tuple[tuple[float, float], ...] = ((1.0, 0.0),) * CLASSES
    mode: float = 1.0
    position: tuple[float, ...] = (1.0,) * CLASSES
    future: tuple[tuple[float, ...], ...] = ()
    found_on: str = ""

    @classmethod
    def from_facts(cls, facts: dict[str, Any] | None) -> Calibration:
        """Of a checkpoint's facts; the identity where there are none. Raises ValueError for tables of another size."""
        if not facts:
            return cls()
        out = cls(
            tuple((float(a), float(b)) for a, b in facts["existence"]), float(facts["mode"]),
            tuple(map(float, facts["position"])), tuple(tuple(map(float, row)) for row in facts["future"]),
            str(facts.get("found_on", "")),
        )  # fmt: skip
        if len(out.existence) != CLASSES or len(out.position) != CLASSES or len(out.future) not in (0, CLASSES):
            raise ValueError(f"calibration: expected tables of {CLASSES} classes")
        return out

    def facts(self) -> dict[str, Any]:
        """JSON values for a checkpoint."""
        return asdict(self)

    def probability(self, logit: Tensor) -> Tensor:
        """Existence ``[..., K]`` per class from raw logits."""
        table = logit.new_tensor(self.existence)
        return torch.sigmoid(table[:, 0] * logit + table[:, 1])

    def now(self, kind: Tensor) -> Tensor:
        """Factor ``[...]`` on today's standard deviations of classes ``[...]``."""
        return torch.tensor(self.position, device=kind.device)[kind]

    def then(self, kind: Tensor, steps: int) -> Tensor:
        """Factor ``[..., T]`` on the forecasts' standard deviations. Raises ValueError for another number of steps."""
        if not self.future:
            return torch.ones(*kind.shape, steps, device=kind.device)
        if any(len(row) != steps for row in self.future):
            raise ValueError(f"calibration: expected factors for {steps} times")
        return torch.tensor(self.future, device=kind.device)[kind]

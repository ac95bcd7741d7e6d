"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from perception.augment import Augmentation
from perception.losses import LossWeights


@dataclass(frozen=True)
class TrainConfig:
    """How to train. steps: of the optimiser. batch: samples per step, over all processes together.

    learning_rate: the highest of the one-cycle schedule; warm_up: share of the steps until then. weight_decay:
    AdamW's, on matrices and kernels only. clip: largest norm of the gradient. average: decay of the exponential moving
    average of the weights, which is what is saved. precision: of the network's forward pass; "auto" is bfloat16 on a
    GPU and float32 elsewhere. save_every: steps between resumable states; log_every: between lines of the log.
    validate_every: between validations (0 = only at the end).
    plan_from: share of the steps after which the planner is asked too, where its weights are not 0.
    """

    steps: int = 4000
    batch: int = 8
    learning_rate: float = 2e-3
    warm_up: float = 0.1
    weight_decay: float = 0.02
    clip: float = 10.0
    average: float = 0.998
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    save_every: int = 100
    log_every: int = 20
    validate_every: int = 0
    plan_from: float = 0.7
    weights: LossWeights = field(default_factory=LossWeights)
    augment: Augmentation = field(default_factory=Augmentation)

    def validate(self) -> None:
        """Raises ValueError naming the setting."""
        for name in ("steps", "batch", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.warm_up < 1 or not 0 <= self.average < 1:
            raise ValueError(f"warm_up, average: expected shares, got {self.warm_up}, {self.average}")

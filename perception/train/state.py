"""Everything a training run is at one step: weights, their average, the optimiser, and where it is in the data.

All randomness (order of the data, augmentation, hints) is drawn from (seed, step, sample) and needs no state, so that a
run killed at any moment goes on exactly as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception.checkpoint import CheckpointError, read_tensors, write_tensors
from perception.network import PerceptionNetwork
from perception.train.config import TrainConfig


@dataclass
class TrainState:
    """network: being trained; average: its moving average, by parameter; step: how many are done."""

    network: PerceptionNetwork
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0

    @classmethod
    def fresh(cls, network: PerceptionNetwork, config: TrainConfig) -> TrainState:
        """At step 0."""
        heavy = [p for p in network.parameters() if p.ndim >= 2]
        light = [p for p in network.parameters() if p.ndim < 2]
        groups = [{"params": heavy, "weight_decay": config.weight_decay}, {"params": light, "weight_decay": 0.0}]
        # foreach sums in another order on some devices; the plain form is the same everywhere.
        optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), foreach=False)
        average: dict[str, Tensor] = {name: p.detach().clone() for name, p in network.named_parameters()}
        return cls(network, optimiser, average)

    def follow(self, decay: float) -> None:
        """Move the average towards the weights; faster at the beginning, when they have only just left chance."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                self.average[name].lerp_(p, 1 - decay)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write it; facts: identity of the run, which `restore` compares."""
        tensors: dict[str, Tensor] = {f"network.{n}": p for n, p in self.network.named_parameters()}
        tensors |= {f"average.{n}": p for n, p in self.average.items()}
        for name, p in self.network.named_parameters():
            for key, value in self.optimiser.state.get(p, {}).items():
                tensors[f"optimiser.{name}.{key}"] = value
        write_tensors(path, tensors, {"step": self.step, **facts})

    def restore(self, path: Path, facts: dict[str, Any]) -> None:
        """Go on from a file. Raises CheckpointError where it belongs to another run: says which fact differs."""
        tensors, found = read_tensors(path)
        for key, value in facts.items():
            if found.get(key) != value:
                raise CheckpointError(
                    f"{path}: it was started with another {key}: expected {value}, got {found.get(key)}; "
                    "continue it with its own settings, or choose another folder"
                )
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                p.copy_(tensors[f"network.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
                head = f"optimiser.{name}."
                kept = {k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)}
                if kept:
                    self.optimiser.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in kept.items()}
        self.step = int(found["step"])


def learning_rate(step: int, config: TrainConfig) -> float:
    """One cycle (Smith and Topin, 2018): a cosine from a 25th of the highest rate up to it, then down to a 10000th."""
    top, done = config.learning_rate, step / config.steps
    if done < config.warm_up:
        low, phase = top / 25, done / config.warm_up
        return low + (top - low) * (1 - math.cos(math.pi * phase)) / 2
    low, phase = top / 1e4, (done - config.warm_up) / (1 - config.warm_up)
    return low + (top - low) * (1 + math.cos(math.pi * phase)) / 2


def indices(step: int, count: int, config: TrainConfig) -> Sequence[int]:
    """Which of `count` samples a step takes: every epoch all of them, in an order of its own."""
    out: list[int] = []
    position = step * config.batch
    while len(out) < config.batch:
        epoch, place = divmod(position + len(out), count)
        order = np.random.default_rng([config.seed, epoch]).permutation(count)
        out += order[place : place + config.batch - len(out)].tolist()
    return out

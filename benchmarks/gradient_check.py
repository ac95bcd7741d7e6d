"""How wrong a gradient is: against central differences of the tight reference, along random directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.problem import Parameters
from benchmarks.reference import NoOptimumError, Optimum, Reference

STEP = 1e-6
CONSISTENT = 1e-5
"""Members whose differences at STEP and STEP / 4 disagree by more than this (relative) have a kink nearby."""
NORMAL_SCALE = 1 / 30.0
"""Normals act with s of up to 100 m as lever; their directions are scaled down to move the half-planes by about 1 m."""


@dataclass
class Differences:
    """directions: Parameters-like, each ``[B, K, ...]``; slope ``[B, K]``: derivative of the loss along them; usable
    ``[B]`` bool: members that pass the check with two steps.
    """

    directions: tuple[Tensor, Tensor, Tensor]
    slope: Tensor
    usable: Tensor

    def members(self, count: int) -> Differences:
        """The first `count` members."""
        parts = tuple(d[:count] for d in self.directions)
        return Differences(parts, self.slope[:count], self.usable[:count])  # type: ignore[arg-type]

    def error(self, gradient: tuple[Tensor, ...]) -> Tensor:
        """``[B]``: root mean square over the directions of the slope's error, over that of the slope."""
        b = len(self.slope)
        claimed = torch.zeros_like(self.slope)
        for direction, part in zip(self.directions, gradient):
            claimed += (direction.flatten(2) @ part.detach()[:b].flatten(1)[..., None])[..., 0]
        return (claimed - self.slope).norm(dim=1) / self.slope.norm(dim=1)


def differences(
    reference: Reference, optima: list[Optimum], weight: Tensor, members: int, per_kind: int = 4, seed: int = 11
) -> Differences:
    """Along per_kind random directions in the reference, the normals and the offsets, each on its own."""
    rng = torch.Generator().manual_seed(seed)
    base = reference.parameters.members(slice(members))
    directions = []
    for kind, tensor in enumerate(base.tensors()):
        shape = (members, 3 * per_kind, *tensor.shape[1:])
        direction = torch.zeros(shape, dtype=torch.float64)
        part = torch.randn(members, per_kind, *tensor.shape[1:], generator=rng, dtype=torch.float64)
        direction[:, kind * per_kind : (kind + 1) * per_kind] = part * (NORMAL_SCALE if kind == 1 else 1.0)
        directions.append(direction)
    slopes = torch.zeros(2, members, 3 * per_kind, dtype=torch.float64)
    usable = torch.ones(members, dtype=torch.bool)
    for i in range(members):
        weights = weight[i].numpy()
        try:
            for k in range(3 * per_kind):
                for which, step in enumerate((STEP, STEP / 4)):
                    ahead, behind = (
                        reference.value_at(i, _moved(base, directions, i, k, signed), optima[i].active, weights)
                        for signed in (step, -step)
                    )
                    slopes[which, i, k] = (ahead - behind) / (2 * step)
        except NoOptimumError:
            usable[i] = False
    usable &= (slopes[0] - slopes[1]).norm(dim=1) <= CONSISTENT * slopes[0].norm(dim=1)
    return Differences(tuple(directions), slopes[0], usable)  # type: ignore[arg-type]


def _moved(base: Parameters, directions: list[Tensor], member: int, k: int, step: float) -> Parameters:
    one = slice(member, member + 1)
    return Parameters(*(t[one] + step * d[one, k] for t, d in zip(base.tensors(), directions)))


def summary(error: Tensor, usable: Tensor) -> dict[str, float | int | None]:
    """Median, 99th percentile and maximum over the usable members; None where there is none."""
    values = np.nan_to_num(error[usable[: len(error)]].numpy(), nan=np.inf)
    keys = ("gradient_error_median", "gradient_error_p99", "gradient_error_max")
    levels = (np.percentile(values, q, method="higher") for q in (50, 99, 100)) if len(values) else (None, None, None)
    found = (float(v) if v is not None and np.isfinite(v) else None for v in levels)
    return dict(zip(keys, found)) | {"gradient_members": len(values)}

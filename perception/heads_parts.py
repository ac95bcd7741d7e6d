"""Parts that the query heads share: small networks, samples of the bird's-eye map, peaks of a heat map."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PRIOR = -4.0
"""Logit of a heat map before anything is learned: most cells hold nothing."""


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def sample(features: Float[Tensor, "B C H W"], place: Float[Tensor, "B N 2"], extent: float) -> Float[Tensor, "B N C"]:
    """Bilinear samples at places (m, ego frame) of a map that covers -extent to extent."""
    # In bfloat16 a place on a map of 100 m would be rounded to a quarter of a metre.
    grid = (place.float() / extent).flip(-1)[:, :, None]
    return nn.functional.grid_sample(features.float(), grid, align_corners=False)[..., 0].transpose(1, 2)


def peaks(heat: Float[Tensor, "B K H W"], count: int, kernel: int) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B n"]]:
    """The `count` highest local maxima of a heat map (logits): flat cell index and class; no gradient."""
    heat = heat.detach().float()
    top = nn.functional.max_pool2d(heat, kernel, 1, kernel // 2)
    score = torch.where(heat >= top, heat, heat - 20.0).flatten(1)
    best = score.topk(count, dim=1).indices
    cells = heat.shape[2] * heat.shape[3]
    return best % cells, best // cells


def around(size: float, place: Tensor) -> Tensor:
    """``[..., 9, 2]``: places ``[..., 2]`` and their eight neighbours, `size` (m) apart."""
    step = torch.tensor([-1.0, 0.0, 1.0], device=place.device, dtype=place.dtype) * size
    offset = torch.stack(torch.meshgrid(step, step, indexing="ij"), -1).reshape(9, 2)
    return place[..., None, :] + offset

"""Query heads: agents with their futures, the ego's proposal; map polylines are in `perception.heads_lines`.

Queries start where a heat map has its peaks, as in CenterPoint (Yin et al., 2021), and are refined by attention and by
sampling what lies under them; learning where to look from nothing, as DETR does, costs many times the data.
All outputs are raw and in the present ego frame; `perception.decode` gives them meaning. Shapes never depend on data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perception.config import CLASSES, PerceptionConfig
from perception.encoders import Conv
from perception.heads_parts import PRIOR, around, mlp, peaks, sample

BOX = 10
"""Numbers of a box: x, y away from the query's place (m), sin and cos of yaw, log length, log width, vx, vy (m/s),
log standard deviations of the position (m) along and across."""
STEP = 4
"""Numbers of a forecast's step: mean away from constant velocity along and across today's heading (m, times the time
in s), log standard deviations along and across (m)."""
EGO_WEIGHTS, EGO_DECISIONS = 8, 6


@dataclass
class AgentOutputs:
    """heat ``[B, K, H, W]`` logits per class at stride 2; place ``[B, Q, 2]`` m; class_logit ``[B, Q, K]``;
    box ``[B, Q, 10]``; future ``[B, Q, M, T, 4]``; mode_logit ``[B, Q, M]``."""

    heat: Tensor
    place: Tensor
    class_logit: Tensor
    box: Tensor
    future: Tensor
    mode_logit: Tensor


@dataclass
class EgoOutputs:
    """weight ``[B, 8]`` raw cost factors; decision ``[B, 6]`` logits; motion ``[B, T, 2]``: speed change against now
    (m/s) and offset from the route (m)."""

    weight: Tensor
    decision: Tensor
    motion: Tensor


class DecoderLayer(nn.Module):
    """Queries look at each other and at the map's queries; normalised before each part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = mlp(width, 2 * width, width)

    def forward(self, x: Float[Tensor, "B N D"], place: Float[Tensor, "B N D"], allowed: Tensor | None) -> Tensor:
        """place: embedding of where each query is. allowed ``[N, N]`` bool: who may look at whom."""
        y = self.before(x)
        q, k, v = self.qkv(y).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q + place, k + place, v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.feed(self.after(x))


class AgentHead(nn.Module):
    """Heat map, then boxes at its peaks; futures after the queries have looked at each other, map and ego."""

    def __init__(self, config: PerceptionConfig) -> None:
        super().__init__()
        self.config, d = config, config.query
        self.heat = nn.Sequential(
            Conv(config.neck, config.neck, 3, 1, config.groups), nn.Conv2d(config.neck, CLASSES, 1)
        )
        nn.init.constant_(self.heat[1].bias, PRIOR)  # type: ignore[arg-type]
        self.encode = mlp(config.neck * 9 + config.channels[1] + config.channels[2] + CLASSES, 2 * d, d)
        self.box = mlp(d, d, BOX)
        self.kind = nn.Linear(d, CLASSES)
        nn.init.zeros_(self.kind.weight)
        nn.init.zeros_(self.kind.bias)
        self.future = mlp(d, 2 * d, config.modes * (3 * STEP + 1))
        # A forecast's numbers are quadratic in time, so that motion is smooth (a cubic) and needs little data.
        u = torch.arange(1, config.steps + 1) / config.steps
        self.basis: Tensor
        self.register_buffer("basis", torch.stack([torch.ones_like(u), u, u**2], 1), persistent=False)

    def propose(
        self, features: tuple[Tensor, Tensor, Tensor], hints: Float[Tensor, "B G 2"] | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heat ``[B, K, H, W]``, places ``[B, Q, 2]`` m (`hints`, if any, after the peaks), the heat there ``[B, Q,
        K]`` (logits, no gradient), queries ``[B, Q, D]``."""
        fine, middle, coarse = features
        extent = self.config.preprocessing.extent
        heat = self.heat(fine)
        size = 2 * extent / heat.shape[2]
        cell, _ = peaks(heat, self.config.agents, 3)
        place = (torch.stack([cell // heat.shape[3], cell % heat.shape[3]], -1) + 0.5) * size - extent
        if hints is not None:
            place = torch.cat([place, hints], 1)
        cells = around(size, place)  # [B, Q, 9, 2]: the query sees its neighbour cells one by one
        close = sample(fine, cells.flatten(1, 2), extent).unflatten(1, (-1, 9)).flatten(2)
        said = sample(heat, place, extent).detach()
        query = torch.cat([close, sample(middle, place, extent), sample(coarse, place, extent), said.sigmoid()], -1)
        return heat, place, said, self.encode(query)

    def read(self, query: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """class_logit, future, mode_logit of refined queries; said: what the heat map thinks, which they correct."""
        c = self.config
        raw = self.future(query).unflatten(-1, (c.modes, -1))
        future = self.basis.to(raw.dtype) @ raw[..., :-1].unflatten(-1, (3, STEP))
        return said + self.kind(query), future, raw[..., -1]


class EgoHead(nn.Module):
    """A query that knows ego's state and route and looks at all others."""

    def __init__(self, config: PerceptionConfig) -> None:
        super().__init__()
        d, self.steps = config.query, config.steps
        self.encode = mlp(EGO_STATE + ROUTE_POINTS * 4, 2 * d, d)
        self.read = mlp(d, 2 * d, EGO_WEIGHTS + EGO_DECISIONS + 2 * config.steps)
        nn.init.zeros_(self.read[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.read[-1].bias)  # type: ignore[arg-type]

    def forward(self, query: Float[Tensor, "B D"]) -> EgoOutputs:
        raw = self.read(query)
        weight, decision, motion = raw.split([EGO_WEIGHTS, EGO_DECISIONS, 2 * self.steps], -1)
        return EgoOutputs(weight, decision, motion.unflatten(-1, (self.steps, 2)))


EGO_STATE = 8
"""v, a, curvature, yaw rate; x, y, sin and cos of yaw in the frame of the inputs."""
ROUTE_POINTS = 24
"""Points of the route that ego's query knows: x, y, left, right (m)."""

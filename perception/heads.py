"""Query heads: agents with their futures, map polylines, the ego's proposal.

Queries start where a heat map has its peaks, as in CenterPoint (Yin et al., 2021), and are refined by attention and by
sampling what lies under them; learning where to look from nothing, as DETR does, costs many times the data.
All outputs are raw and in the present ego frame; `perception.decode` gives them meaning. Shapes never depend on data.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perception.config import CLASSES, LINE_KINDS, PerceptionConfig
from perception.encoders import Conv

BOX = 10
"""Numbers of a box: x, y away from the query's place (m), sin and cos of yaw, log length, log width, vx, vy (m/s),
log standard deviations of the position (m) along and across."""
STEP = 4
"""Numbers of a forecast's step: mean away from constant velocity along and across today's heading (m, times the time
in s), log standard deviations along and across (m)."""
EGO_WEIGHTS, EGO_DECISIONS = 8, 6
PRIOR = -4.0
"""Logit of a heat map before anything is learned: most cells hold nothing."""


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
class LineOutputs:
    """heat ``[B, 4, h, w]`` logits of middles per kind, near ``[B, 12, h, w]`` (per kind: logit that a line passes,
    offset x, y in m to it), both on the map's window of the fine grid; place ``[B, L, 2]`` m; kind_logit ``[B, L, 4]``;
    points ``[R, B, L, P, 2]`` m after each round."""

    heat: Tensor
    near: Tensor
    place: Tensor
    kind_logit: Tensor
    points: Tensor


@dataclass
class EgoOutputs:
    """weight ``[B, 8]`` raw cost factors; decision ``[B, 6]`` logits; motion ``[B, T, 2]``: speed change against now
    (m/s) and offset from the route (m)."""

    weight: Tensor
    decision: Tensor
    motion: Tensor


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def sample(features: Float[Tensor, "B C H W"], place: Float[Tensor, "B N 2"], extent: float) -> Float[Tensor, "B N C"]:
    """Bilinear samples at places (m, ego frame) of a map that covers -extent to extent."""
    grid = (place / extent).flip(-1)[:, :, None].to(features.dtype)
    return nn.functional.grid_sample(features, grid, align_corners=False)[..., 0].transpose(1, 2)


def peaks(heat: Float[Tensor, "B K H W"], count: int, kernel: int) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B n"]]:
    """The `count` highest local maxima of a heat map (logits): flat cell index and class; no gradient."""
    heat = heat.detach().float()
    top = nn.functional.max_pool2d(heat, kernel, 1, kernel // 2)
    score = torch.where(heat >= top, heat, heat - 20.0).flatten(1)
    best = score.topk(count, dim=1).indices
    cells = heat.shape[2] * heat.shape[3]
    return best % cells, best // cells


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
        self.future = mlp(d, 2 * d, config.modes * (config.steps * STEP + 1))

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
        around = _around(size, place)  # [B, Q, 9, 2]: the query sees its neighbour cells one by one
        close = sample(fine, around.flatten(1, 2), extent).unflatten(1, (-1, 9)).flatten(2)
        said = sample(heat, place, extent).detach()
        query = torch.cat([close, sample(middle, place, extent), sample(coarse, place, extent), said.sigmoid()], -1)
        return heat, place, said, self.encode(query)

    def read(self, query: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """class_logit, future, mode_logit of refined queries; said: what the heat map thinks, which they correct."""
        c = self.config
        raw = self.future(query).unflatten(-1, (c.modes, -1))
        return said + self.kind(query), raw[..., :-1].unflatten(-1, (c.steps, STEP)), raw[..., -1]


def _around(size: float, place: Tensor) -> Tensor:
    step = torch.tensor([-1.0, 0.0, 1.0], device=place.device, dtype=place.dtype) * size
    offset = torch.stack(torch.meshgrid(step, step, indexing="ij"), -1).reshape(9, 2)
    return place[..., None, :] + offset


class LineHead(nn.Module):
    """Middles of polylines from a heat map, a first shape, then rounds of correction by what lies under its points."""

    def __init__(self, config: PerceptionConfig) -> None:
        super().__init__()
        self.config, d, kinds = config, config.query, len(LINE_KINDS)
        self.dense = Conv(config.neck, config.neck, 3, 1, config.groups)
        self.out = nn.Conv2d(config.neck, 4 * kinds, 1)
        nn.init.constant_(self.out.bias[: 2 * kinds], PRIOR)  # type: ignore[index]
        self.encode = mlp(config.neck * 9 + config.channels[1] + config.channels[2] + kinds, 2 * d, d)
        self.shape = mlp(d, 2 * d, 2 * config.line_points)
        self.look = nn.Linear(config.neck + 4 * kinds + 2, d)
        self.along = nn.ModuleList(
            nn.Sequential(nn.Conv1d(d, d, 5, padding=2), nn.ReLU(), nn.Conv1d(d, d, 5, padding=2), nn.ReLU())
            for _ in range(config.refinements)
        )
        self.correct = nn.ModuleList(nn.Linear(d, 2) for _ in range(config.refinements))
        self.update = nn.ModuleList(mlp(2 * d, d) for _ in range(config.refinements))
        self.kind = nn.Linear(d, kinds)
        nn.init.zeros_(self.kind.weight)
        nn.init.zeros_(self.kind.bias)

    def forward(
        self, features: tuple[Tensor, Tensor, Tensor], hints: Float[Tensor, "B G 2"] | None
    ) -> tuple[LineOutputs, Tensor]:
        """Outputs and queries ``[B, L, D]``; `hints` (m) are further places after the peaks."""
        fine, middle, coarse = features
        c, extent, kinds = self.config, self.config.preprocessing.extent, len(LINE_KINDS)
        size = 2 * extent / fine.shape[2]
        rows, columns = (window_cells(half, extent, fine.shape[2]) for half in c.line_range)
        dense = self.dense(fine[:, :, rows, columns])
        said = self.out(dense)
        heat, near = said[:, :kinds], said[:, kinds:]
        cell, _ = peaks(heat, c.lines, 3)
        corner = torch.tensor([rows.start, columns.start], device=cell.device)
        place = torch.stack([cell // heat.shape[3], cell % heat.shape[3]], -1) + corner
        place = (place + 0.5) * size - extent
        if hints is not None:
            place = torch.cat([place, hints], 1)
        close = sample(fine, _around(2 * size, place).flatten(1, 2), extent).unflatten(1, (-1, 9)).flatten(2)
        local = _in_window(place, rows, columns, size, extent)
        peak = sample(heat, local, 1.0).detach()
        query = self.encode(
            torch.cat([close, sample(middle, place, extent), sample(coarse, place, extent), peak.sigmoid()], -1)
        )
        points = place[:, :, None] + 10 * self.shape(query).unflatten(-1, (-1, 2))
        rounds = [points]
        under = torch.cat([dense, said], 1)
        for along, correct, update in zip(self.along, self.correct, self.update):
            there = rounds[-1].detach()
            seen = sample(under, _in_window(there, rows, columns, size, extent).flatten(1, 2), 1.0)
            seen = torch.cat([seen.unflatten(1, there.shape[1:3]), (there - place[:, :, None]) / 10], -1)
            state = torch.relu(self.look(seen) + query[:, :, None])
            state = along(state.flatten(0, 1).transpose(1, 2)).transpose(1, 2).unflatten(0, query.shape[:2])
            rounds.append(there + correct(state))
            query = query + update(torch.cat([query, state.amax(2)], -1))
        return LineOutputs(heat, near, place, peak + self.kind(query), torch.stack(rounds)), query


def window_cells(half: float, extent: float, cells: int) -> slice:
    """Cells of a grid over -extent to extent that reach into -half to half (m)."""
    size = 2 * extent / cells
    first = int((extent - half) / size)
    return slice(first, cells - first)


def _in_window(place: Tensor, rows: slice, columns: slice, size: float, extent: float) -> Tensor:
    """Places (m) as -1 to 1 over the window's cells."""
    half = torch.tensor([rows.stop * size - extent, columns.stop * size - extent], device=place.device)
    return place / half


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

"""Query head for map polylines: middles, first shapes, corrections. Raw outputs in the present ego frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perception.config import LINE_KINDS, PerceptionConfig
from perception.encoders import Conv
from perception.heads_parts import PRIOR, around, mlp, peaks, sample


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
        close = sample(fine, around(2 * size, place).flatten(1, 2), extent).unflatten(1, (-1, 9)).flatten(2)
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

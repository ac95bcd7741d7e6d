"""Losses of the map: middles of lines, what passes through each cell, kinds and shapes of polylines."""

from __future__ import annotations

import torch
from torch import Tensor

from perception.config import LINE_KINDS, PerceptionConfig
from perception.heads_lines import LineOutputs, window_cells
from perception.losses_parts import focal, heat_loss, heat_map, match
from planner.scene import PolylineType

NEAR = 0.6
"""m: a line passes through a cell whose middle is nearer than this; of a ring also through those it encloses, for what
is painted there is better seen than where it ends."""
OFFSET = 2.0
"""m: up to which cells are asked for the offset to the nearest line."""
FAR = 8.0
"""m, mean over the points: a polyline farther away than this is not an answer."""
_FREE = LINE_KINDS.index(PolylineType.DIVIDER)
_RING = LINE_KINDS.index(PolylineType.CROSSING)


def line_losses(
    out: LineOutputs, b: int, points: Tensor, kind: Tensor, middles: Tensor, config: PerceptionConfig
) -> dict[str, Tensor]:
    """Terms of sample b; points ``[L, P, 2]`` (m), kind ``[L]``, middles ``[L, 2]``: what is there."""
    regular = config.lines
    cells = round(config.preprocessing.cells / 2)
    size = 2 * config.preprocessing.extent / cells
    half = [
        window_cells(h, config.preprocessing.extent, cells).stop * size - config.preprocessing.extent
        for h in config.line_range
    ]
    wanted = heat_map(out.heat.shape[1:], middles, kind, torch.full_like(middles[:, 0], 1.0), half[0], half[1])
    everywhere = torch.ones(wanted.shape[1:], device=wanted.device, dtype=torch.bool)
    terms = {
        "line_heat": heat_loss(out.heat[b].float(), wanted, everywhere),
        "line_near": _near_loss(out.near[b].float(), points, kind, half),
    }
    orders = point_orders(points, kind)
    logit, rounds = out.kind_logit[b].float(), out.points[:, b].float()
    with torch.no_grad():
        distance = _distance(rounds[-1, :regular], orders)[0]
        cost = distance - 4.0 * logit[:regular].sigmoid()[:, kind]
        query, index = match(cost, distance < FAR)
    label = torch.zeros_like(logit[:regular])
    # Confidence says how good the shape is: it orders the answers when they are judged.
    quality = torch.exp(-distance[query, index] / 2)
    label[query, kind[index]] = quality
    terms["line_kind"] = focal(logit[:regular], label).sum() / max(len(kind), 1)
    if rounds.shape[1] > regular:
        hinted = torch.arange(len(kind), device=kind.device)
        query, index = torch.cat([query, regular + hinted]), torch.cat([index, hinted])
    if not len(query):
        return terms | {"line_shape": rounds.sum() * 0.0}
    with torch.no_grad():
        best = _distance_pairs(rounds[-1, query], orders[index]).argmin(1)
        aim = orders[index, best]
    error = torch.nn.functional.smooth_l1_loss(
        rounds[:, query], aim.expand(len(rounds), -1, -1, -1), beta=0.3, reduction="none"
    )
    return terms | {"line_shape": error.sum(-1).mean()}


def point_orders(points: Tensor, kind: Tensor) -> Tensor:
    """``[L, O, P, 2]``: every order of points that means the same line; others are repeated to fill up.

    Dividers have no direction. Crossings are rings without beginning or direction. Lanes and edges have one order.
    """
    count = points.shape[1]
    ring = points[:, :-1]
    shifts = torch.stack([ring.roll(-s, 1) for s in range(count - 1)], 1)
    shifts = torch.cat([shifts, shifts[:, :, :1]], 2)
    closed = ((points[:, 0] - points[:, -1]).norm(dim=-1) < 1e-3) & (kind == _RING)
    free = (kind == _FREE) | ((kind == _RING) & ~closed)
    turned = torch.where((closed | free)[:, None, None], points.flip(1), points)
    plain = torch.stack([points, turned], 1).repeat(1, count - 1, 1, 1)
    both = torch.cat([shifts, shifts.flip(2)], 1)
    return torch.where(closed[:, None, None, None], both, plain)


def _distance(said: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of points (m), ``[Q, L]``, in the best order, and which that is."""
    table = torch.stack([_mean_distance(said[:, None], orders[None, :, o]) for o in range(orders.shape[1])], -1)
    least, order = table.min(-1)
    return least, order


def _distance_pairs(said: Tensor, orders: Tensor) -> Tensor:
    """``[n, O]``: of each polyline to its own line's orders."""
    return _mean_distance(said[:, None], orders)


def _mean_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(-1).clamp(min=1e-12).sqrt().mean(-1)


def enclosed(cell: Tensor, points: Tensor) -> Tensor:
    """``[L, N]`` bool: which places ``[N, 2]`` lie in which closed lines ``[L, P, 2]``, by the even-odd rule; in open
    ones none."""
    a, b = points[:, None, :-1], points[:, None, 1:]
    x, y = cell[None, :, None, 0], cell[None, :, None, 1]
    spans = (a[..., 1] > y) != (b[..., 1] > y)
    run = torch.where(spans, b[..., 1] - a[..., 1], 1.0)
    crossing = a[..., 0] + (y - a[..., 1]) / run * (b[..., 0] - a[..., 0])
    closed = (points[:, 0] - points[:, -1]).norm(dim=-1) < 1e-3
    return ((spans & (x < crossing)).sum(-1) % 2 == 1) & closed[:, None]


def _near_loss(near: Tensor, points: Tensor, kind: Tensor, half: list[float]) -> Tensor:
    """near ``[3 K, h, w]``: logits that a line passes, then offsets (m) to the nearest one."""
    kinds, (rows, columns) = len(LINE_KINDS), near.shape[1:]
    x = (torch.arange(rows, device=near.device) + 0.5) * (2 * half[0] / rows) - half[0]
    y = (torch.arange(columns, device=near.device) + 0.5) * (2 * half[1] / columns) - half[1]
    cell = torch.stack(torch.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    logit, offset = near[:kinds].flatten(1), near[kinds:].reshape(kinds, 2, -1)
    loss = near.sum() * 0.0
    for k in range(kinds):
        chosen = points[kind == k]
        if not len(chosen):
            loss = loss + focal(logit[k], torch.zeros_like(logit[k])).sum() / 50
            continue
        between = torch.linspace(0, 1, 9, device=near.device)[:, None, None, None]
        dense = (chosen[:, :-1] + between * (chosen[:, 1:] - chosen[:, :-1])).reshape(-1, 2)
        distance, nearest = torch.cdist(cell, dense).min(1)
        passes = (distance < NEAR).float()
        if k == _RING:
            passes = torch.maximum(passes, enclosed(cell, chosen).any(0).float())
        loss = loss + focal(logit[k], passes).sum() / passes.sum().clamp(min=1)
        close = distance < OFFSET
        away = (dense[nearest] - cell).T
        loss = loss + ((offset[k] - away).abs().sum(0) * close).sum() / close.sum().clamp(min=1)
    return loss / kinds

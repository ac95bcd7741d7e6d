"""From boxes and forecasts in the plane to intervals in Frenet coordinates: one function with its derivative.

The definition of compiled/agents.cpp, on plain arrays, scene by scene. Checked against differences in the tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from planner.objects.intervals import PIECES, Boxes, extend_back, extend_intervals, place_back, place_pieces
from planner.path.foot_point import Feet, Splines, add_cubics, feet_back, find_feet, nearest_knots


class Nodes(NamedTuple):
    """Where nodes lie between forecast times, of which now is number 0: after number `before`, at `fraction` of the

    way to the next. Both ``[S, N]``, or ``[1, N]`` where all scenes' forecasts have the same times. steps: forecast
    times without now.
    """

    before: np.ndarray
    fraction: np.ndarray
    steps: int

    def of(self, scene: int) -> Nodes:
        """The nodes of one scene, ``[N]``."""
        row = scene if len(self.before) > 1 else 0
        return Nodes(self.before[row], self.fraction[row], self.steps)


class Spread(NamedTuple):
    """How uncertainty widens intervals across: quantile sigmas, at most `most` m; no sigma counts less than floor."""

    floor: float
    quantile: float
    most: float


def bracket(time: np.ndarray, node_time: np.ndarray) -> Nodes:
    """node_time ``[N]`` among forecast times ``[S, T]`` s, each row increasing from above 0."""
    time = time[:1] if len(time) == 1 or (time == time[:1]).all() else time
    rows = [_bracket_row(row.tobytes(), node_time.tobytes()) for row in time.astype(np.float64, copy=False)]
    return Nodes(np.array([i for i, _ in rows]), np.array([f for _, f in rows]), time.shape[1])


@lru_cache(maxsize=128)
def _bracket_row(time: bytes, node_time: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of one scene; forecasts mostly come at the same times."""
    row, nodes = np.concatenate([[0.0], np.frombuffer(time)]), np.frombuffer(node_time)
    i = np.minimum(np.searchsorted(row, nodes, side="right") - 1, len(row) - 2)
    return i, ((nodes - row[i]) / (row[i + 1] - row[i])).clip(0, 1)


def at_nodes(values: np.ndarray, now: np.ndarray, nodes: Nodes, angle: bool = False) -> np.ndarray:
    """Forecasts ``[A, M, T, ...]`` of one scene at its nodes, from what is now ``[A, ...]`` on, linear in between."""
    i, f, _ = nodes
    begin, end = values.take(np.maximum(i - 1, 0), 2), values.take(i, 2)
    begin[:, :, : np.searchsorted(i, 0, side="right")] = now[:, None, None]
    end -= begin
    if angle:
        end -= 2 * np.pi * np.round(end / (2 * np.pi))
    end *= f.reshape(-1, *[1] * (values.ndim - 3))
    end += begin
    return end


def _at_nodes_back(grad: np.ndarray, nodes: Nodes) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of values and now from that of `at_nodes`, ``[A, M, N, k]``."""
    i, f, steps = nodes
    weight = np.zeros((steps + 1, len(i)))
    weight[i, np.arange(len(i))] = 1 - f
    weight[i + 1, np.arange(len(i))] += f
    by_node = np.moveaxis(grad, 2, 0)
    columns = by_node.reshape(len(i), -1)
    full = (weight @ columns).reshape(steps + 1, *by_node.shape[1:])
    return np.moveaxis(full[1:], 0, 2), full[0].sum(1)


class _Block(NamedTuple):
    """The agents of one scene after projection: what the results are made of, and what the derivative needs.

    Angles and standard deviations ``[A, M, N]``.
    """

    feet: Feet
    boxes: Boxes
    upper: np.ndarray
    covariance: np.ndarray
    phi: np.ndarray
    sigma_s: np.ndarray
    sigma_d: np.ndarray
    mean: np.ndarray


class ProjectAgents(torch.autograd.Function):
    """``apply(box, covariance_now, mean, yaw, covariance, cubics, splines, nodes, spread)``, agents ``[S, A, ...]``.

    cubics: of the splines, as in `foot_point.FootPoint`. Returns s_lo, s_hi, d_lo, d_hi ``[S, A, M, N, P]`` m (the
    axis P is not the fastest in memory); sigma_s (m), heading against the path and the path's own (rad); without
    gradient: whether the coordinates are valid ``[S, A, M, N]``, and the forecasts' means (m) at the nodes.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        *tensors, splines, nodes, spread = inputs
        box, covariance_now, mean, yaw, covariance, cubics = (x.detach().contiguous().numpy() for x in tensors)
        table = cubics.view(np.complex128)[..., 0]
        (scenes, agents, modes), count = mean.shape[:3], nodes.before.shape[1]
        ends = np.empty((scenes, agents, 2, 2, PIECES, modes, count))
        upper = np.empty(ends.shape)
        blocks = []
        for k in range(scenes):
            own = box[k], covariance_now[k], mean[k], yaw[k], covariance[k]
            blocks.append(_project(k, *own, table[k], splines, nodes.of(k), spread, upper[k]))
            extend_intervals(upper[k], ends[k])
        np.negative(ends[:, :, 0], out=ends[:, :, 0])
        ends = np.moveaxis(ends, (2, 3, 4), (0, 1, 6))
        columns = [(b.sigma_s, b.phi, b.feet.heading, b.feet.valid, b.mean) for b in blocks]
        joined = [np.concatenate(c) for c in zip(*columns)]
        rest = [torch.from_numpy(x.reshape(scenes, agents, modes, count, *x.shape[3:])) for x in joined]
        ctx.blocks, ctx.table, ctx.nodes, ctx.spread = blocks, table, nodes, spread
        ctx.shapes = [x.shape for x in (box, covariance_now, mean, yaw, covariance, cubics)]
        ctx.mark_non_differentiable(*rest[3:])
        return *(torch.from_numpy(ends[side, axis]) for axis, side in ((0, 0), (0, 1), (1, 0), (1, 1))), *rest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = [g.numpy() for g in grads[:7]]
        out = [np.zeros(shape) for shape in ctx.shapes]
        for k, block in enumerate(ctx.blocks):
            own = [g[k] for g in given]
            results = _project_back(block, own, ctx.table[k], ctx.nodes.of(k), ctx.spread, out[5][k])
            for whole, value in zip(out[:5], results):
                whole[k] = value
        return *(torch.from_numpy(x) for x in out), None, None, None


def _project(
    scene: int,
    box: np.ndarray,
    covariance_now: np.ndarray,
    mean: np.ndarray,
    yaw: np.ndarray,
    covariance: np.ndarray,
    table: np.ndarray,
    splines: Splines,
    nodes: Nodes,
    spread: Spread,
    upper: np.ndarray,
) -> _Block:
    """The agents of a scene; upper: where their intervals at the nodes go, see `intervals`."""
    mean = at_nodes(mean, box[:, :2], nodes)
    yaw = at_nodes(yaw, box[:, 2], nodes, angle=True)
    covariance = at_nodes(covariance, covariance_now, nodes)
    z = mean.view(np.complex128).ravel()
    last, none = splines.plain.last[scene : scene + 1], np.zeros(1, dtype=np.int64)
    feet = find_feet(table, z, nearest_knots(z, splines.plain.knots[scene, : int(last[0]) + 1]), last, none)
    shape = yaw.shape
    phi = yaw - feet.heading.reshape(shape)
    phi -= 2 * np.pi * np.round(phi / (2 * np.pi))
    # Standard deviations along and across the path.
    tangent = (feet.first / np.abs(feet.first)).reshape(shape)
    xx, xy, yx, yy = covariance.reshape(*shape, 4).transpose(3, 0, 1, 2)
    along = xx * tangent.real**2 + (xy + yx) * (tangent.real * tangent.imag) + yy * tangent.imag**2
    across = xx + yy - along
    sigma_s, sigma_d = (np.sqrt(np.maximum(v, 0.0) + spread.floor**2) for v in (along, across))
    extra = np.minimum(spread.quantile * sigma_d, spread.most)[:, None]
    angle = torch.from_numpy(phi)  # whose sine and cosine are faster
    boxes = Boxes(
        feet.d.reshape(shape)[:, None],
        torch.cos(angle).numpy()[:, None],
        torch.sin(angle).numpy()[:, None],
        feet.curvature.reshape(shape)[:, None],
        box[:, 3, None, None, None],
        box[:, 4, None, None, None],
    )
    place_pieces(boxes, feet.s.reshape(shape)[:, None], extra, upper)
    return _Block(feet, boxes, upper, covariance, phi, sigma_s, sigma_d, mean)


def _project_back(
    block: _Block, grads: list[np.ndarray], table: np.ndarray, nodes: Nodes, spread: Spread, g_cubics: np.ndarray
) -> list[np.ndarray]:
    """Gradients of box, covariance_now, mean, yaw, covariance; that of the cubics is added to g_cubics."""
    g_upper = np.empty_like(block.upper)
    for (side, axis), g in zip(((0, 0), (1, 0), (0, 1), (1, 1)), grads):
        np.multiply(g.transpose(0, 3, 1, 2), 2 * side - 1, out=g_upper[:, side, axis])
    extend_back(block.upper, g_upper)
    g_s, g_d, g_phi, g_curvature, g_extra, g_length, g_width = place_back(block.boxes, g_upper)
    shape = block.phi.shape
    g_phi = g_phi.reshape(shape) + grads[5]
    # Standard deviations.
    feet = block.feet
    tangent = (feet.first / np.abs(feet.first)).reshape(shape)
    cos, sin = tangent.real, tangent.imag
    covariance = block.covariance.reshape(*shape, 4)
    g_sigma_d = g_extra.reshape(shape) * spread.quantile * (spread.quantile * block.sigma_d <= spread.most)
    g_across = g_sigma_d / (2 * block.sigma_d)
    g_along = grads[4] / (2 * block.sigma_s) - g_across
    g_covariance = np.empty_like(covariance)
    g_covariance[..., 0] = g_along * cos**2 + g_across
    g_covariance[..., 1] = g_covariance[..., 2] = g_along * cos * sin
    g_covariance[..., 3] = g_along * sin**2 + g_across
    mixed, difference = covariance[..., 1] + covariance[..., 2], covariance[..., 3] - covariance[..., 0]
    g_heading = grads[6] - g_phi + g_along * (2 * cos * sin * difference + mixed * (cos**2 - sin**2))
    # Frenet coordinates, then forecasts.
    flat = (x.ravel() for x in (g_s, g_d, g_heading, g_curvature))
    g_point, g_first, g_second = feet_back(feet, table[:, 3].take(feet.segment), *flat)
    add_cubics(g_cubics.reshape(-1, 8), feet, -g_point, g_first, g_second)
    g_mean, g_xy = _at_nodes_back(g_point.view(np.float64).reshape(*shape, 2), nodes)
    g_yaw, g_yaw_now = _at_nodes_back(g_phi[..., None], nodes)
    g_covariance, g_covariance_now = _at_nodes_back(g_covariance, nodes)
    g_box = np.concatenate([g_xy, g_yaw_now, g_length[:, None], g_width[:, None]], 1)
    square = (*g_covariance.shape[:3], 2, 2)
    return [g_box, g_covariance_now.reshape(-1, 2, 2), g_mean, g_yaw[..., 0], g_covariance.reshape(square)]

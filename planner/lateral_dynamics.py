"""The linearised lateral motion over fine steps and over whole stages, with its derivatives, on plain arrays.

Many small formulas on many small matrices: written by hand, forward and backward, in blocks of candidates that stay in
the processor's cache. Inside, the candidates are the last axis and the fine steps are in the order `Grid.by_step`, so
that everything that happens at once is contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from planner.arrays import ARRAYS
from planner.grid import Grid

BLOCK = 128
"""Candidates at a time."""
SHARPEST = 0.2
"""Least 1 - bend * d that is believed: the path's coordinates end at its centre of curvature."""

Array = np.ndarray


def stage_dynamics(
    motion: tuple[Tensor, Tensor, Tensor],
    bend: Tensor,
    about: tuple[Tensor, Tensor],
    start: tuple[Tensor, Tensor],
    grid: Grid,
) -> tuple[Tensor, Tensor]:
    """Stages ``[R, n, 3, 5]`` of the motion linearised about (d, psi), and its fine steps ``[2, 5, 2, F, R]``.

    motion: v, a, jerk ``[R, 2, F]``. bend (1/m): curvature of the path at the middle of each fine step. about: d, psi
    at the end of each; start: d, psi now ``[R]``. Rows are d, psi (and kappa) after the stage or fine step; columns
    what they are linear in: d and psi before it, kappa at the begin of the interval, the curvature rate, and 1.
    """
    return _apply(_StageDynamics, grid, *motion, bend, *about, *start)  # type: ignore[no-any-return]


def roll_out(steps: Tensor, d: Tensor, psi: Tensor, kappa: Tensor, rate: Tensor, grid: Grid) -> Tensor:
    """d and psi ``[2, R, 2, F]`` after every fine step, from their values and kappa's ``[R, 2, N]`` at the begin of the
    intervals and the curvature rate in them. steps: of `stage_dynamics`."""
    return _apply(_RollOut, grid, steps, d, psi, kappa, rate)  # type: ignore[no-any-return]


def _apply(function: Any, grid: Grid, *inputs: Tensor) -> Any:
    """Without the cost of recording where nothing is to be recorded."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return function.apply(grid, *inputs)
    return function.forward(None, grid, *inputs)


class _StageDynamics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: Grid, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        arrays = [x.detach().numpy() for x in inputs]
        count, branches, fine = arrays[0].shape
        nodes = len(grid.node)
        steps = np.empty((2, 5, branches, fine, count))
        stages = np.empty((count, grid.stages, 3, 5))
        stages[:, :, 2] = 0.0
        stages[:, :, 2, 2] = 1.0
        stages[:, :, 2, 3] = grid.stage_dt.numpy()
        into = stages.transpose(2, 3, 1, 0)[:2]
        kept = []
        for block in _blocks(count):
            model = _model([x[block] for x in arrays], grid)
            _fine_steps(model, steps[..., block], grid)
            products = _products(steps[..., block], grid)
            kept.append((model, products))
            for series, (first, number, _) in zip(products, grid.groups):
                into[:, :, first : first + number, block] = series[-1][:, :, 0]
                skip = max(2 * nodes - grid.stages - first, 0)
                own = slice(first + skip + grid.stages - nodes, first + number + grid.stages - nodes)
                into[:, :, own, block] = series[-1][:, :, 1, skip:]
        if ctx is not None:
            ctx.save_for_backward(*inputs)
            ctx.grid, ctx.steps, ctx.kept = grid, steps, kept
        return torch.from_numpy(stages), torch.from_numpy(steps)

    @staticmethod
    def backward(ctx: Any, grad_stages: Tensor, grad_steps: Tensor) -> tuple[Any, ...]:
        grid, steps = ctx.grid, ctx.steps
        arrays = [x.detach().numpy() for x in ctx.saved_tensors]
        grads = [np.empty(x.shape) for x in arrays]
        g_stages, g_steps = (grad_stages.numpy().transpose(2, 3, 1, 0)[:2], grad_steps.numpy())
        nodes = len(grid.node)
        shared = 2 * nodes - grid.stages
        for block, (model, products) in zip(_blocks(len(arrays[0])), ctx.kept):
            at = np.ascontiguousarray(g_stages[..., block])
            whole = np.zeros((2, 5, 2, nodes, at.shape[-1]))
            whole[:, :, 0] = at[:, :, :nodes]
            whole[:, :, 1, shared:] = at[:, :, nodes:]
            g = g_steps[..., block].copy()
            _products_backward(steps[..., block], products, whole, g, grid)
            _fine_steps_backward(arrays[0][block], model, g, [x[block] for x in grads], grid)
        return (None, *map(torch.from_numpy, grads))


class _RollOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: Grid, *inputs: Tensor) -> Tensor:
        arrays = [x.detach().numpy() for x in inputs]
        count = arrays[1].shape[0]
        out = np.empty((2, count, 2, len(grid.time)))
        states = np.empty((2, 2, len(grid.time), count))
        for block in _blocks(count):
            _roll_out(_of_block(arrays, block), states[..., block], grid)
            out[:, block] = states[..., block][:, :, grid.by_time.numpy()].transpose(0, 3, 1, 2)
        if ctx is not None:
            ctx.save_for_backward(*inputs)
            ctx.grid, ctx.states = grid, states
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        arrays = [x.detach().numpy() for x in ctx.saved_tensors]
        grads = [np.empty(x.shape) for x in arrays]
        g_out, order = grad.numpy().transpose(0, 2, 3, 1), ctx.grid.by_step.numpy()
        for block in _blocks(g_out.shape[-1]):
            g = g_out[..., block][:, :, order]
            own = [np.empty((2, len(ctx.grid.node), g.shape[-1])) for _ in range(4)]
            states, g_steps = ctx.states[..., block], grads[0][..., block]
            _roll_out_backward(_of_block(arrays, block), states, g, g_steps, own, ctx.grid)
            for out, value in zip(grads[1:], own):
                out[block] = value.transpose(2, 0, 1)
        return (None, *map(torch.from_numpy, grads))


def _blocks(count: int) -> list[slice]:
    return [slice(i, i + BLOCK) for i in range(0, count, BLOCK)]


def _of_block(arrays: list[Array], block: slice) -> tuple[Any, ...]:
    """steps, and the others with the candidates last."""
    return (arrays[0][..., block], *(np.ascontiguousarray(x[block].transpose(1, 2, 0)) for x in arrays[1:]))


def _groups(values: Array, grid: Grid) -> list[Array]:
    """The fine steps ``[..., F, r]`` of each run of equally long intervals, ``[..., length, number, r]``."""
    out, begin = [], 0
    for _, number, length in grid.groups:
        part = values[..., begin : begin + number * length, :]
        out.append(part.reshape(*part.shape[:-2], length, number, part.shape[-1]))
        begin += number * length
    return out


def _midpoint(values: Array, start: Array) -> Array:
    """Means of the values at the begin and the end of each fine step."""
    out = values.copy()
    out[..., 1:] += values[..., :-1]
    out[..., 0] += start[:, None]
    out *= 0.5
    return out


def _model(inputs: list[Array], grid: Grid) -> tuple[Array, ...]:
    """The factors of the fine steps, ``[2, F, r]``; see `_fine_steps`.

    Means over each fine step: exact for the speed up to its jerk term.
    """
    v, acceleration, jerk, bend, about_d, about_psi, d0, psi0 = inputs
    h, order = grid.step, grid.by_step.numpy()
    mean = np.maximum(v, 0.0)
    mean -= acceleration * (h / 2)
    mean += jerk * (h**2 / 6)
    each = (mean, bend, _midpoint(about_d, d0), _midpoint(about_psi, psi0))
    hv, bend, d, psi = (x.transpose(1, 2, 0).take(order, 1) for x in each)
    hv *= h
    cos, sin = ARRAYS.cos_sin(psi)
    inverse = 1 / np.maximum(1 - bend * d, SHARPEST)
    turn, level, level_psi = bend * hv, cos * inverse, -sin * inverse
    level_d = level * bend * inverse
    a, b, c = hv * cos, -turn * level_d, -turn * level_psi
    slip, bias = sin - cos * psi, level - level_d * d - level_psi * psi
    half = c / 6 + 0.5
    k00 = a * b / 6 + 1
    return (
        hv, bend, d, psi, cos, sin, inverse, turn, level, level_d, level_psi, a, b, c, slip, bias, hv * slip,
        -turn * bias, half, k00, a * half, b * half, k00 + c * half,
    )  # fmt: skip


def _late(grid: Grid) -> Array:
    """``[F, 1]`` s from the begin of the interval to that of the fine step."""
    return grid.since.numpy()[grid.by_step.numpy(), None] - grid.step  # type: ignore[no-any-return]


def _fine_steps(model: tuple[Array, ...], out: Array, grid: Grid) -> None:
    """Exact to third order in the step h, into out ``[2, 5, 2, F, r]``.

    With X = h [[0, v cos psi], [dpsi'/dd, dpsi'/dpsi]] = [[0, a], [b, c]] and K = I + X / 2 + X^2 / 6, d and psi go to
    I + K X of themselves, plus K of what kappa and the constants add per step.
    """
    h, late = grid.step, _late(grid)
    hv, a, b, c, e1, e2, half, k00, k01, k10, k11 = (model[i] for i in (0, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22))
    for row, (first, second) in zip(out, ((k00, k01), (k10, k11))):
        np.multiply(second, b, out=row[0])
        np.multiply(first, a, out=row[1])
        row[1] += second * c
        np.multiply(second, hv, out=row[2])
        np.multiply(row[2], late, out=row[3])
        np.multiply(first, e1, out=row[4])
        row[4] += second * e2
    out[0, 0] += 1
    out[1, 1] += 1
    out[0, 3] += (h / 6) * a * hv
    out[1, 3] += h * hv * half


def _fine_steps_backward(v: Array, model: tuple[Array, ...], g: Array, out: list[Array], grid: Grid) -> None:
    """From the gradient g of the steps to that of the inputs, written to out. g is used up.

    In torch, which adds a product in place.
    """
    h, t = grid.step, torch.from_numpy
    (
        hv, bend, d, psi, cos, sin, inverse, turn, level, level_d, level_psi, a, b, c, slip, bias, e1, e2, half,
        k00, k01, k10, k11,
    ) = map(t, model)  # fmt: skip
    (g00, g01, g02, g03, g04), (g10, g11, g12, g13, g14) = (row.unbind(0) for row in t(g).unbind(0))
    late = t(_late(grid))
    g02.addcmul_(late, g03)
    g12.addcmul_(late, g13)
    g03.mul_(h / 6)
    g13.mul_(h)
    d_k11 = _sum((g10, b), (g11, c), (g12, hv), (g14, e2))
    d_k10 = _sum((g11, a), (g14, e1))
    d_k01 = _sum((g00, b), (g01, c), (g02, hv), (g04, e2))
    d_k00 = _sum((g01, a), (g04, e1)).add_(d_k11).mul_(1 / 6)
    d_half = _sum((g13, hv), (d_k11, c), (d_k10, b), (d_k01, a))
    d_a = _sum((g01, k00), (g11, k10), (g03, hv), (d_k01, half), (d_k00, b))
    d_b = _sum((g00, k01), (g10, k11), (d_k10, half), (d_k00, a))
    d_c = _sum((g01, k01), (g11, k11), (d_k11, half)).add_(d_half, alpha=1 / 6)
    d_e1, d_e2 = _sum((g04, k00), (g14, k10)), _sum((g04, k01), (g14, k11))
    d_hv = _sum((g02, k01), (g12, k11), (g03, a), (g13, half), (d_a, cos), (d_e1, slip))
    d_slip, d_bias = d_e1.mul_(hv), d_e2 * turn  # of -bias
    d_turn = _sum((d_e2, bias), (d_b, level_d), (d_c, level_psi))  # of -turn
    d_level_d = _sum((d_bias, d)).addcmul_(d_b, turn, value=-1)
    d_level_psi = _sum((d_bias, psi)).addcmul_(d_c, turn, value=-1)
    bend_inverse = bend * inverse
    d_level = _sum((d_level_d, bend_inverse)).sub_(d_bias)
    d_sin = d_slip.addcmul(d_level_psi, inverse, value=-1)
    d_cos = _sum((d_a, hv), (d_level, inverse)).addcmul_(d_slip, psi, value=-1)
    level = level * d_level_d  # from here on: what level_d brings
    d_room = _sum((level, bend), (d_level, cos)).addcmul_(d_level_psi, sin, value=-1).mul_(inverse).mul_(inverse)
    d_room.masked_fill_(inverse >= 1 / SHARPEST, 0.0)
    d_bend = _sum((level, inverse), (d_room, d)).addcmul_(d_turn, hv, value=-1)
    d_hv.addcmul_(d_turn, bend, value=-1)
    d_d = _sum((d_bias, level_d), (d_room, bend))
    d_psi = _sum((d_bias, level_psi), (d_sin, cos)).addcmul_(d_slip, cos, value=-1).addcmul_(d_cos, sin, value=-1)

    order = grid.by_time.numpy()
    reordered = (x.numpy().take(order, 1).transpose(2, 0, 1) for x in (d_hv, d_bend, d_d, d_psi))
    of_hv, out[3][...], of_d, of_psi = (np.ascontiguousarray(x) for x in reordered)
    np.multiply(of_hv, -(h**2) / 2, out=out[1])
    np.multiply(of_hv, h**3 / 6, out=out[2])
    np.multiply(of_hv, h * (v >= 0), out=out[0])
    for mean, values, start in ((of_d, out[4], out[6]), (of_psi, out[5], out[7])):
        mean *= 0.5
        values[...] = mean
        values[..., :-1] += mean[..., 1:]
        start[...] = mean[..., 0].sum(1)


def _sum(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Of products."""
    out = pairs[0][0] * pairs[0][1]
    for x, y in pairs[1:]:
        out.addcmul_(x, y)
    return out


def _products(steps: Array, grid: Grid) -> list[list[Array]]:
    """Per run of intervals, the products ``[2, 5, 2, number, r]`` of their first 1, 2, ... fine steps."""
    out = []
    for step in _groups(steps, grid):
        total = step[:, :, :, 0]
        series = [total]
        for j in range(1, step.shape[3]):
            now = step[:, :, :, j]
            through = now[:, :1] * total[:1]
            through += now[:, 1:2] * total[1:]
            through[:, 2:] += now[:, 2:]
            total = through
            series.append(total)
        out.append(series)
    return out


def _products_backward(steps: Array, products: list[list[Array]], whole: Array, g: Array, grid: Grid) -> None:
    """Adds to g, the gradient of the steps, what the gradient of the last products ``[2, 5, 2, N, r]`` brings."""
    runs = zip(_groups(steps, grid), _groups(g, grid), products, grid.groups)
    for step, g_step, totals, (first, number, length) in runs:
        due = whole[:, :, :, first : first + number]
        for j in range(length - 1, 0, -1):
            now, g_now, before = step[:, :, :, j], g_step[:, :, :, j], totals[j - 1]
            g_now[:, 2:] += due[:, 2:]
            for i in range(2):
                g_now[:, i] += (due * before[i]).sum(1)
            carried = now[0, :2, None] * due[0]
            carried += now[1, :2, None] * due[1]
            due = carried
        g_step[:, :, :, 0] += due


def _roll_out(begin: tuple[Array, ...], out: Array, grid: Grid) -> None:
    """Into out ``[2, 2, F, r]``. begin: steps, d, psi, kappa and rate."""
    steps, d, psi, kappa, rate = begin
    for step, end, (first, number, length) in zip(_groups(steps, grid), _groups(out, grid), grid.groups):
        part = slice(first, first + number)
        push = step[:, 2] * kappa[:, None, part]
        push += step[:, 3] * rate[:, None, part]
        push += step[:, 4]
        x: Any = (d[:, part], psi[:, part])
        for j in range(length):
            now = end[:, :, j]
            np.multiply(step[:, 0, :, j], x[0], out=now)
            now += step[:, 1, :, j] * x[1]
            now += push[:, :, j]
            x = now


def _roll_out_backward(
    begin: tuple[Array, ...], states: Array, g: Array, g_steps: Array, own: list[Array], grid: Grid
) -> None:
    """From the gradient g ``[2, 2, F, r]`` of the states to that of the steps and of the other inputs."""
    steps, d, psi, kappa, rate = begin
    runs = zip(*(_groups(x, grid) for x in (steps, states, g, g_steps)), grid.groups)
    for step, state, g_state, g_step, (first, number, length) in runs:
        part = slice(first, first + number)
        due = np.empty(g_state.shape)  # what reaches the state after each fine step
        carried: Any = 0.0
        for j in range(length - 1, -1, -1):
            now = due[:, :, j]
            np.add(g_state[:, :, j], carried, out=now)
            before: Any = state[:, :, j - 1] if j else (d[:, part], psi[:, part])
            for i in range(2):
                np.multiply(now, before[i], out=g_step[:, i, :, j])
            carried = step[0, :2, :, j] * now[0]
            carried += step[1, :2, :, j] * now[1]
        own[0][:, part], own[1][:, part] = carried
        np.multiply(due, kappa[:, None, part], out=g_step[:, 2])
        np.multiply(due, rate[:, None, part], out=g_step[:, 3])
        g_step[:, 4] = due
        for out, i in ((own[2], 2), (own[3], 3)):
            out[:, part] = (due * step[:, i]).sum((0, 2))

"""Feet of points on cubic splines, with their derivatives in closed form.

Points of the plane are complex numbers here: conj(a) b holds the dot product and, as its imaginary part, the cross
product. On plain arrays, since the search has no gradient; in blocks that stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TUBE = 0.9
"""Frenet coordinates are valid for |d * curvature| below this."""
_COARSE = 4
"""The search begins at the nearest of every fourth knot,"""
_STEPS, _STEPS_FROM_GUESS = 8, 4
"""and takes at most so many steps;"""
_STILL = 1e-6
"""a step (m) below this was the last one: the next would be of the order of its square."""
_FEW = 1024
_BLOCK = 4096
"""Points taken at a time."""


@dataclass(frozen=True)
class Splines:
    """The splines that belong to L rows of points, out of those of S scenes with up to n knots, 1 m apart.

    coarse: per scene, the map ``[3, k]`` from points (x, y, 1) to half the squared distance from every fourth knot,
    less a part that is the point's own. count ``[L]``: knots of each row's spline. row ``[L]``: its scene.
    """

    coarse: list[np.ndarray]
    count: np.ndarray
    row: np.ndarray


class Feet(NamedTuple):
    """Results for a block of points, and what their derivatives need.

    segment, place: row of the table of cubics, and m from its begin. offset: of the point from its foot. first, second:
    derivatives of the spline there. held: at an end of the spline, where s stays.
    """

    s: np.ndarray
    d: np.ndarray
    valid: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    segment: np.ndarray
    place: np.ndarray
    offset: np.ndarray
    first: np.ndarray
    second: np.ndarray
    held: np.ndarray


class FootPoint(torch.autograd.Function):
    """Nearest points of splines: ``apply(xy, cubics, splines, guess)`` with xy ``[L, ..., 2]``, guess ``[L, ...]``.

    cubics ``[S, n - 1, 4, 2]``: point, slope, moment and the moment's change of the splines' segments. guess: s to
    start from, if known. Returns s, d (m), valid, heading (rad) and curvature (1/m).
    Derivatives are those of the implicit function (p - path(s)) . path'(s) = 0, exact where valid.
    """

    @staticmethod
    def forward(ctx: Any, xy: Tensor, cubics: Tensor, splines: Splines, guess: Tensor | None) -> tuple[Tensor, ...]:
        z = xy.detach().contiguous().numpy().view(np.complex128).reshape(len(xy), -1)
        begin = _nearest(z, splines) if guess is None else guess.detach().numpy().reshape(z.shape)
        table = cubics.detach().contiguous().numpy().view(np.complex128).reshape(-1, 4)
        last, base = splines.count - 1.0, splines.row * cubics.shape[1]
        if len(last) > 1:
            last, base = np.repeat(last, z.shape[1]), np.repeat(base, z.shape[1])
        z, begin = z.ravel(), begin.ravel()
        blocks = []
        for start in range(0, max(len(z), 1), _BLOCK):
            part = slice(start, start + _BLOCK)
            ends = (last, base) if len(last) == 1 else (last[part], base[part])
            steps = _STEPS if guess is None else _STEPS_FROM_GUESS
            blocks.append(find_feet(table, z[part], begin[part], *ends, steps))
        columns = blocks[0][:5] if len(blocks) == 1 else [np.concatenate(c) for c in list(zip(*blocks))[:5]]
        if any(ctx.needs_input_grad[:2]):
            ctx.blocks, ctx.table, ctx.shapes = blocks, table, (xy.shape, cubics.shape)
        out = tuple(torch.from_numpy(c.reshape(xy.shape[:-1])) for c in columns)
        ctx.mark_non_differentiable(out[2])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        columns = [g.contiguous().numpy().ravel() for g in grads]
        g_xy = np.empty(len(columns[0]), np.complex128)
        g_cubics = np.zeros((len(ctx.table), 8))
        start = 0
        for feet in ctx.blocks:
            part = slice(start, start + len(feet.s))
            start = part.stop
            wanted = (g[part] for k, g in enumerate(columns) if k != 2)
            g_point, g_first, g_second = feet_back(feet, ctx.table[:, 3].take(feet.segment), *wanted)
            g_xy[part] = g_point
            if ctx.needs_input_grad[1] and len(feet.s):
                add_cubics(g_cubics, feet, -g_point, g_first, g_second)
        xy, cubics = ctx.shapes
        return (
            torch.from_numpy(g_xy.view(np.float64)).reshape(xy),
            torch.from_numpy(g_cubics).reshape(cubics),
            None,
            None,
        )


def coarse_map(knots: np.ndarray) -> np.ndarray:
    """One scene's `Splines.coarse`: |knot|^2 / 2 - point . knot as one product. knots ``[n, 2]``, without padding."""
    own = knots[::_COARSE]
    out = np.empty((3, len(own)))
    np.negative(own.T, out=out[:2])
    np.einsum("kx,kx->k", own, own, out=out[2])
    out[2] *= 0.5
    return out


def _nearest(z: np.ndarray, splines: Splines) -> np.ndarray:
    """s ``[L, Q]`` to begin with for points ``[L, Q]``."""
    if len(splines.coarse) == 1:
        return nearest_knots(z.ravel(), splines.coarse[0]).reshape(z.shape)
    out = np.empty(z.shape)
    for scene in np.unique(splines.row):
        rows = splines.row == scene
        out[rows] = nearest_knots(z[rows].ravel(), splines.coarse[scene]).reshape(-1, z.shape[1])
    return out


def nearest_knots(z: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """s ``[Q]`` of the nearest of some of a spline's knots to points ``[Q]``."""
    points = np.ones((len(z), 3))
    points[:, 0], points[:, 1] = z.real, z.imag
    # In parts too small for threads to be woken up.
    out = np.empty(len(z))
    for first in range(0, len(z), _FEW):
        part = slice(first, first + _FEW)
        out[part] = (points[part] @ coarse).argmin(1)
    out *= _COARSE
    return out


def find_feet(
    table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray, steps: int = _STEPS
) -> Feet:
    """Feet of points z ``[Q]``, from s. last: the greatest s. base: row of the table at which the spline begins.

    table ``[segments, 4]``: cubics of the splines. last and base ``[Q]``, or ``[1]`` for all.
    """
    return _feet(table, z, _search(table, z, s, last, base, steps), last, base)


def _search(
    table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray, steps: int
) -> np.ndarray:
    """s of the feet, by Newton's method from s. last: the greatest s. base: first row of the spline in the table.

    Beyond the centre of curvature the slope changes sign; the floor keeps the step downhill.
    """
    s = np.minimum(np.maximum(s, 0.0), last)
    here, todo = s, None
    for _ in range(steps):
        _, _, offset, first, second = _curve(table, z, here, last, base)
        square = _dot(first, first)
        step = _dot(offset, first) / np.maximum(square - _dot(offset, second), 0.1 * square)
        moved = np.minimum(np.maximum(here + np.clip(step, -2.0, 2.0), 0.0), last)
        if todo is None:
            s = moved
        else:
            s[todo] = moved
        going = np.flatnonzero(np.abs(moved - here) > _STILL)
        if not len(going):
            break
        if len(going) < len(here):
            todo = going if todo is None else todo[going]
            moved, z = moved[going], z[going]
            if len(last) > 1:
                last, base = last[going], base[going]
        here = moved
    return s


def _curve(table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray) -> tuple[Any, ...]:
    """Segment and place in it, offset of z from the spline at s, first and second derivative there."""
    i = np.minimum(s, last - 0.5).astype(np.int64)
    t = s - i
    i += base
    point, slope, moment, change = table.take(i, 0).T
    second = moment + t * change
    first = slope + (t / 2) * (moment + second)
    return i, t, z - point - t * (slope + (t / 6) * (2 * moment + second)), first, second


def _feet(table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray) -> Feet:
    i, t, offset, first, second = _curve(table, z, s, last, base)
    square = _dot(first, first)
    speed = np.sqrt(square)
    product = first.conj() * offset
    along, d = product.real / speed, product.imag / speed
    curvature = (first.conj() * second).imag / (speed * square)
    tight = d * curvature
    valid = (np.abs(along) < 1e-6) & (tight < TUBE) & (tight > -1 / (1 - TUBE))
    held = ((s <= 0.0) & (along < 0)) | ((s >= last) & (along > 0))
    heading = np.arctan2(first.imag, first.real)
    return Feet(s, d, valid, heading, curvature, i, t, offset, first, second, held)


def feet_back(
    feet: Feet, third: np.ndarray, gs: np.ndarray, gd: np.ndarray, gh: np.ndarray, gk: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the points (minus those of the spline's points), and of its first and second derivatives.

    offset . first = 0 stays so when anything moves: that moves s, which heading and curvature follow; d does not.
    """
    offset, first, second, curvature = feet.offset, feet.first, feet.second, feet.curvature
    square = _dot(first, first)
    speed = np.sqrt(square)
    slope = np.maximum(square - _dot(offset, second), 0.1 * square)
    twist = (first.conj() * third).imag / (speed * square) - 3 * curvature * _dot(first, second) / square
    g = np.where(feet.held, 0.0, (gs + gh * curvature * speed + gk * twist) / slope)
    normal = 1j * first / square
    g_first = offset * g + normal * gh - second * (1j * gk / (speed * square)) - first * (3 * curvature * gk / square)
    return first * g + normal * (speed * gd), g_first, normal * (gk / speed)


def add_cubics(out: np.ndarray, feet: Feet, point: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Adds gradients of the spline's point and derivatives at the feet to those of its cubics ``[segments, 8]``."""
    t = feet.place
    slope = first + t * point
    moment = second + t * (first + t / 2 * point)
    change = t * (second + t / 2 * (first + t / 3 * point))
    low, high = feet.segment.min(), feet.segment.max() + 1
    for k, column in enumerate((point, slope, moment, change)):
        for part, values in enumerate((column.real, column.imag)):
            out[low:high, 2 * k + part] += np.bincount(feet.segment - low, values, high - low)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.real * b.real + a.imag * b.imag

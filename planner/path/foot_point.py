"""Feet of points on cubic splines, with their derivatives in closed form.

The search has no gradient; what it finds has that of the implicit function. `_search` and what follows it here are the
definition, on plain arrays; compiled/feet.cpp is the same, several times faster. Points of the plane are complex
numbers here: conj(a) b holds the dot product and, as its imaginary part, the cross product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from planner import compiled

TUBE = 0.9
"""Frenet coordinates are valid for |d * curvature| below this."""
_COARSE = 4
"""The search begins at the nearest of every fourth knot,"""
_STEPS, _STEPS_FROM_GUESS = 8, 4
"""and takes at most so many steps;"""
_STILL = 1e-6
"""a step (m) below this was the last one: the next would be of the order of its square."""
_BLOCK = 4096
"""Points taken at a time by the definition."""
_MANY = 4096
"""From so many points on threads pay."""

_locate = compiled.kernel("dds_locate", "TTTTII RC nnnn")
_locate_back = compiled.kernel("dds_locate_back", "TTTIITTTT RR nnnnn")


@dataclass(frozen=True)
class Splines:
    """The splines that belong to L rows of points, out of those of S scenes with up to n knots, 1 m apart.

    cubics: per segment its point, slope, moment and the moment's change. count ``[L]``: knots of each row's spline.
    row ``[L]``: its scene, None where rows are scenes. threads: at most so many for a call.
    """

    cubics: Float[Tensor, "S n-1 4 2"]
    knots: Float[Tensor, "S n 2"]
    count: Int[Tensor, " L"]
    row: Int[Tensor, " L"] | None = None
    threads: int = 1

    @cached_property
    def plain(self) -> PlainSplines:
        """For the definition."""
        table = self.cubics.detach().contiguous().numpy().view(np.complex128).reshape(-1, 4)
        count = self.count.numpy()
        row = np.arange(len(count)) if self.row is None else self.row.numpy()
        return PlainSplines(table, self.knots.detach().numpy(), count - 1.0, row, row * self.cubics.shape[1])


class PlainSplines(NamedTuple):
    """table ``[S (n - 1), 4]``: cubics of all segments. last ``[L]``: the greatest s of each row's spline. row ``[L]``:

    its scene; base ``[L]``: row of the table at which it begins.
    """

    table: np.ndarray
    knots: np.ndarray
    last: np.ndarray
    row: np.ndarray
    base: np.ndarray


class Frenet(NamedTuple):
    """Points in Frenet coordinates: s, d (m), valid, and the path's heading (rad) and curvature (1/m) there."""

    s: Tensor
    d: Tensor
    valid: Tensor
    heading: Tensor
    curvature: Tensor


def foot_points(xy: Float[Tensor, "L *Q 2"], splines: Splines, guess: Float[Tensor, "*any"] | None = None) -> Frenet:
    """Nearest points of the splines. guess ``[L, *Q]``: s to start from, if known.

    Derivatives are those of the implicit function (p - path(s)) . path'(s) = 0, exact where valid. A point that is not
    a number has d = NaN and is not valid.
    """
    if torch.is_grad_enabled() and (xy.requires_grad or splines.cubics.requires_grad):
        return Frenet(*_FootPoints.apply(xy, splines.cubics, splines, guess))
    return _find(xy.detach(), splines, guess)


class _FootPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, xy: Tensor, cubics: Tensor, splines: Splines, guess: Tensor | None) -> tuple[Tensor, ...]:
        found = _find(xy, splines, guess)
        ctx.mark_non_differentiable(found.valid)
        ctx.save_for_backward(xy, cubics, found.s)
        ctx.splines = splines
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        xy, cubics, s = ctx.saved_tensors
        gs, gd, _, gh, gk = grads
        g_xy = torch.empty_like(xy, memory_format=torch.contiguous_format)
        g_cubics = torch.zeros_like(cubics, memory_format=torch.contiguous_format)
        if _locate_back is None:
            _back_plain(xy, s, ctx.splines, (gs, gd, gh, gk), g_xy, g_cubics)
            return g_xy, g_cubics, None, None
        own: Splines = ctx.splines
        scenes, n = own.knots.shape[:2]
        points = s[0].numel() if len(s) else 0
        _locate_back(
            xy, s, cubics, own.count, own.row, gs, gd, gh, gk, g_xy, g_cubics,
            scenes, len(s), points, n, _threads(own, s),
        )  # fmt: skip
        return g_xy, g_cubics, None, None


def _find(xy: Tensor, splines: Splines, guess: Tensor | None) -> Frenet:
    if _locate is None:
        return _find_plain(xy, splines, guess)
    shape = xy.shape[:-1]
    columns, valid = torch.empty(4, *shape, dtype=torch.float64), torch.empty(shape, dtype=torch.bool)
    points = valid[0].numel() if len(valid) else 0
    guess = None if guess is None else guess.detach()
    _locate(
        xy, guess, splines.cubics, splines.knots, splines.count, splines.row, columns, valid,
        len(valid), points, splines.knots.shape[1], _threads(splines, valid),
    )  # fmt: skip
    s, d, heading, curvature = columns.unbind(0)
    return Frenet(s, d, valid, heading, curvature)


def _threads(splines: Splines, points: Tensor) -> int:
    return splines.threads if points.numel() > _MANY else 1


class Feet(NamedTuple):
    """Results of the definition, and what their derivatives need.

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


def _find_plain(xy: Tensor, splines: Splines, guess: Tensor | None) -> Frenet:
    plain, z = splines.plain, _complex(xy).reshape(len(xy), -1)
    begin = _nearest(z, plain) if guess is None else guess.detach().numpy().reshape(z.shape)
    last, base = (np.repeat(x, z.shape[1]) for x in (plain.last, plain.base))
    z, begin = z.ravel(), begin.ravel()
    parts = [slice(first, first + _BLOCK) for first in range(0, max(len(z), 1), _BLOCK)]
    steps = _STEPS if guess is None else _STEPS_FROM_GUESS
    blocks = [find_feet(plain.table, z[p], begin[p], last[p], base[p], steps)[:5] for p in parts]
    return Frenet(*(torch.from_numpy(np.concatenate(c).reshape(xy.shape[:-1])) for c in zip(*blocks)))


def _back_plain(
    xy: Tensor, s: Tensor, splines: Splines, grads: tuple[Tensor, ...], g_xy: Tensor, g_cubics: Tensor
) -> None:
    plain, z = splines.plain, _complex(xy).ravel()
    last, base = (np.repeat(x, len(z) // max(len(x), 1)) for x in (plain.last, plain.base))
    feet = _feet(plain.table, z, s.numpy().ravel(), last, base)
    columns = (g.contiguous().numpy().ravel() for g in grads)
    g_point, g_first, g_second = feet_back(feet, plain.table[:, 3].take(feet.segment), *columns)
    g_xy.copy_(torch.from_numpy(g_point.view(np.float64)).reshape(g_xy.shape))
    if len(z):
        add_cubics(g_cubics.numpy().reshape(-1, 8), feet, -g_point, g_first, g_second)


def _complex(xy: Tensor) -> np.ndarray:
    return xy.detach().contiguous().numpy().view(np.complex128)[..., 0]


def _nearest(z: np.ndarray, splines: PlainSplines) -> np.ndarray:
    """s ``[L, Q]`` to begin with for points ``[L, Q]``."""
    out = np.empty(z.shape)
    for own, at, row, last in zip(out, z, splines.row, splines.last):
        own[:] = nearest_knots(at, splines.knots[row, : int(last) + 1])
    return out


def nearest_knots(z: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """s ``[Q]`` of the nearest of every fourth knot to points ``[Q]``. knots ``[n, 2]``, without padding."""
    own = knots[::_COARSE]
    points = np.stack([z.real, z.imag], 1)
    return ((own * own).sum(1) / 2 - points @ own.T).argmin(1) * float(_COARSE)


def find_feet(
    table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray, steps: int = _STEPS
) -> Feet:
    """Feet of points z ``[Q]``, from s. last: the greatest s. base: row of the table at which the spline begins.

    table ``[segments, 4]``: cubics of the splines. last and base ``[Q]``, or ``[1]`` for all.
    """
    with np.errstate(invalid="ignore"):  # of points that are not numbers
        return _feet(table, z, _search(table, z, s, last, base, steps), last, base)


def _search(
    table: np.ndarray, z: np.ndarray, s: np.ndarray, last: np.ndarray, base: np.ndarray, steps: int
) -> np.ndarray:
    """s of the feet, by Newton's method from s. last: the greatest s. base: first row of the spline in the table.

    Beyond the centre of curvature the slope changes sign; the floor keeps the step downhill.
    """
    s = np.fmin(np.fmax(s, 0.0), last)
    going = np.ones(len(s), dtype=bool)
    for _ in range(steps):
        _, _, offset, first, second = _curve(table, z, s, last, base)
        square = _dot(first, first)
        step = _dot(offset, first) / np.maximum(square - _dot(offset, second), 0.1 * square)
        moved = np.where(going, np.fmin(np.fmax(s + np.clip(step, -2.0, 2.0), 0.0), last), s)
        going = np.abs(moved - s) > _STILL
        s = moved
        if not going.any():
            break
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

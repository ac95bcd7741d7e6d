"""Points along routes: resampling, smoothing and splines, all linear in the points or differentiable.

Batched over scenes; rows of unequal length are padded by their last entry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.scene import Route

SPACING = 1.0
"""Distance between a path's knots, m. Formulas for its splines use that it is one."""
SMOOTHNESS = (2.0, 40.0)
"""Weights of squared second and third differences against squared displacement."""
ATTRIBUTES = ("left", "right", "left_oncoming", "right_oncoming", "speed_limit")
"""What is known along routes and paths, in this order."""
_QUARTERS = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]


def distinct_points(route: Route) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Points ``[S, R, 2]``, attributes ``[S, R, 5]`` and junction of the valid points that lie apart, first in each

    row, and their number ``[S]``; the last one is repeated.
    """
    xy, junction = route.xy.double(), route.junction
    attributes = torch.stack([getattr(route, name) for name in ATTRIBUTES], -1).double()
    keep = route.valid.numpy().copy()
    step = np.diff(xy.detach().numpy(), axis=1)
    keep[:, 1:] &= np.hypot(step[..., 0], step[..., 1]) > 1e-6
    count = keep.sum(1)
    if not keep.all():
        order = np.argsort(~keep, axis=1, kind="stable")
        order = np.take_along_axis(order, np.minimum(np.arange(count.max()), count[:, None] - 1), 1)
        index = torch.from_numpy(order)
        xy, attributes, junction = take(xy, index), take(attributes, index), take(junction, index)
    return xy, attributes, junction, count


def resample(xy: Tensor, points: np.ndarray) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Points ``[S, n, 2]`` every SPACING along polylines ``[S, R, 2]``, index and fraction to resample attributes,

    and how many there are in each scene; the last one is repeated.
    """
    steps = (xy[:, 1:] - xy[:, :-1]).norm(dim=-1)
    arc = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
    ends = arc[:, -1].tolist()
    check_lengths(ends)
    count = [int(end / SPACING) + 1 for end in ends]
    i, at = (torch.from_numpy(x) for x in _bracket(arc, count, points - 2))
    fraction = (at - take(arc, i)) / take(steps, i)
    begin = take(xy, i)
    return begin + (take(xy, i + 1) - begin) * fraction[..., None], i, fraction.detach(), count


def check_lengths(lengths: list[float]) -> None:
    """Raises ValueError for a route shorter than 5 m."""
    if lengths and int(min(lengths) / SPACING) < 5:
        raise ValueError(f"route: expected at least 5 m of path, got {SPACING * int(min(lengths) / SPACING):.1f} m")


def equal_arc_length(cubics: Float[Tensor, "S n-1 4 2"], knots: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Segments (of all splines, counted through) and distances from their begin at which the arc length of splines

    with so many knots is a multiple of SPACING, by the trapezoidal rule over quarters of a segment; ``[S, n']`` each.
    The third result is their number in each scene.
    """
    _, slope, moment, change = cubics[:, :, :, None].unbind(2)
    first = torch.addcmul(slope, _QUARTERS, torch.addcmul(2 * moment, _QUARTERS, change), value=0.5)
    speed = first.norm(dim=-1)  # [S, n - 1, 5]
    steps = ((speed[..., 1:] + speed[..., :-1]) * (SPACING / 8)).flatten(1)
    arc = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
    count = [int(end / SPACING) + 1 for end in arc[:, -1].tolist()]
    number, at = _bracket(arc, count, 4 * np.array(knots) - 5)
    i = torch.from_numpy(number)
    t = (torch.from_numpy(at) - take(arc, i)) / take(steps, i) + torch.from_numpy(number % 4)
    segment = number // 4 + np.arange(len(number))[:, None] * len(cubics[0])
    return torch.from_numpy(segment), t * (SPACING / 4), count


def _bracket(arc: Tensor, count: list[int], last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the step ``[S, n]`` in which the multiples of SPACING lie, at most `last` ``[S]``, and the multiples.

    arc ``[S, K]`` m: begins of the steps. Of each row the first `count` multiples, the last one repeated.
    """
    number = np.minimum(np.arange(max(count)), np.array(count)[:, None] - 1)
    at = number * SPACING
    i = np.array([np.searchsorted(row, s, side="right") for row, s in zip(arc.detach().numpy(), at)]) - 1
    return np.minimum(i, last[:, None]), at


def linear(matrix: Callable[[int], Tensor], values: Float[Tensor, "S n 2"], count: list[int]) -> list[Tensor]:
    """Products ``[S, n, 2]`` of the matrices, which lie side by side in matrix(count) ``[count, k * count]``

    transposed, with each scene's values; padded by their last row.
    """
    n = values.shape[1]
    kinds = sorted(set(count))
    rows = values.transpose(1, 2)
    if len(kinds) == 1:
        return list((rows.flatten(0, 1) @ matrix(n)).unflatten(0, (-1, 2)).transpose(1, 2).split(n, 1))
    parts, order = [], []
    for kind in kinds:
        own = [i for i, c in enumerate(count) if c == kind]
        product = rows[own, :, :kind].flatten(0, 1) @ matrix(kind)
        product = product.unflatten(1, (-1, kind))[..., torch.arange(n).clamp(max=kind - 1)]  # [own * 2, k, n]
        parts.append(product.unflatten(0, (-1, 2)))
        order += own
    return list(torch.cat(parts)[np.argsort(order)].permute(2, 0, 3, 1).unbind(0))


def take(values: Tensor, i: Int[Tensor, "S n"]) -> Tensor:
    """``[S, n, ...]``: values ``[S, K, ...]`` at the indices of each scene."""
    if len(values) == 1:
        return values.index_select(1, i[0])
    return values.flatten(0, 1)[i + torch.arange(len(i))[:, None] * values.shape[1]]


@lru_cache(maxsize=64)
def first_pass(n: int) -> Tensor:
    """``[n, 3 n]``: to smoothed points, their spline's moments and the chords between their neighbours."""
    smoother = _smoother(n)
    near = torch.arange(n)
    chord = smoother[(near + 1).clamp(max=n - 1)] - smoother[(near - 1).clamp(min=0)]
    return torch.cat([smoother, _moment_matrix(n) @ smoother, chord]).T.contiguous()


@lru_cache(maxsize=64)
def second_pass(n: int) -> Tensor:
    """``[n, n]``: to the moments of the spline through given knots."""
    return _moment_matrix(n).T.contiguous()


def _smoother(n: int) -> Tensor:
    """S = (I + w2 D2'D2 + w3 D3'D3)^-1: the least-squares smoother as a constant matrix."""
    eye = torch.eye(n, dtype=torch.float64)
    d2, d3 = torch.diff(eye, n=2, dim=0), torch.diff(eye, n=3, dim=0)
    return torch.linalg.inv(eye + SMOOTHNESS[0] * d2.T @ d2 + SMOOTHNESS[1] * d3.T @ d3)


def _moment_matrix(n: int) -> Tensor:
    """Second derivatives of the interpolating natural cubic spline, linear in the knots."""
    system = torch.zeros(n, n, dtype=torch.float64)
    right = torch.zeros(n, n, dtype=torch.float64)
    system[0, 0] = system[-1, -1] = 1.0
    i = torch.arange(1, n - 1)
    system[i, i - 1], system[i, i], system[i, i + 1] = SPACING / 6, 2 * SPACING / 3, SPACING / 6
    right[i, i - 1], right[i, i], right[i, i + 1] = 1 / SPACING, -2 / SPACING, 1 / SPACING
    return torch.linalg.solve(system, right)

"""Reference path: a curvature-continuous curve along the route, with exact Frenet coordinates.

The route's points are resampled, smoothed by a small least-squares problem and joined by a C2 cubic spline.
All steps are linear in the route's points or differentiable, so gradients reach the route.
Frenet coordinates (s, d): s (m) along the spline, d (m) to the left. Valid inside the tube |d * curvature| < 0.9.
Everything has a leading axis of scenes; shorter paths are padded by repeating their last knot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.foot_point import TUBE, FootPoint, Splines
from planner.scene import Route

SPACING = 1.0
"""Distance between spline knots, m. The formulas below use that it is one."""
SMOOTHNESS = (2.0, 40.0)
"""Weights of squared second and third differences against squared displacement."""
ATTRIBUTES = ("left", "right", "left_oncoming", "right_oncoming", "speed_limit")
"""What is known along the path, in the order of `ReferencePath.attributes`."""


class Frenet(NamedTuple):
    """Points in Frenet coordinates: s, d (m), valid, and the path's heading (rad) and curvature (1/m) there."""

    s: Tensor
    d: Tensor
    valid: Tensor
    heading: Tensor
    curvature: Tensor


@dataclass
class ReferencePath:
    """Cubic splines through up to ``n`` knots, SPACING apart in s, one for each of ``S`` scenes.

    knots ``[S, n, 2]`` m; moments ``[S, n, 2]``: second derivatives at the knots. attributes ``[S, n, 5]``, per knot
    in the order ATTRIBUTES: left, right, left_oncoming, right_oncoming (m, >= 0, from the path to the end of the
    surface), speed_limit (m/s). junction ``[S, n]``. count ``[S]``: knots of each path, the others repeat its last.

    Methods take coordinates whose first axis is the scene. `rows` gives a view with another first axis: its knots,
    moments and attributes stay those of the scenes; count, length and all methods follow the rows.
    """

    knots: Float[Tensor, "S n 2"]
    moments: Float[Tensor, "S n 2"]
    attributes: Float[Tensor, "S n 5"]
    junction: Bool[Tensor, "S n"]
    count: Int[Tensor, " L"]
    row: Int[Tensor, " L"] | None = None

    def rows(self, scene: Int[Tensor, " R"]) -> ReferencePath:
        """The paths of the given scenes, as the first axis of what the methods take. Copies nothing."""
        view = replace(self, count=self.count[scene], row=scene if self.row is None else self.row[scene])
        view.__dict__["cubics"] = self.cubics
        return view

    @property
    def speed_limit(self) -> Float[Tensor, "S n"]:
        """m/s at the knots."""
        return self.attributes[..., 4]

    @cached_property
    def length(self) -> Float[Tensor, " L"]:
        """m."""
        return (self.count - 1).double() * SPACING

    def derivatives(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Point, first and second derivative ``[..., 2]`` at s (m); s is clamped to the path."""
        return self._curve(*self._segment(s))

    def evaluate(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Point ``[..., 2]`` (m), heading (rad), curvature (1/m) at s."""
        point, first, second = self.derivatives(s)
        (fx, fy), (gx, gy) = first.unbind(-1), second.unbind(-1)
        speed = torch.addcmul(fx * fx, fy, fy).sqrt()
        return point, torch.atan2(fy, fx), _cross(fx, fy, gx, gy) / speed**3

    def attribute(self, name: str, s: Tensor) -> Tensor:
        """A per-knot attribute (or "junction") at s, linearly interpolated (nearest knot for the junction)."""
        i, t = self._segment(s)
        if name == "junction":
            return self._nearer(i, t)
        return self._interpolate(self.attributes[..., ATTRIBUTES.index(name)].flatten(), i, t)

    def surroundings(self, s: Tensor) -> Float[Tensor, "*shape 5"]:
        """All attributes at s."""
        i, t = self._segment(s)
        return self._interpolate(self.attributes.flatten(0, 1), i, t[..., None])

    def to_cartesian(self, s: Tensor, d: Tensor) -> Float[Tensor, "*shape 2"]:
        """Points (m) of Frenet coordinates."""
        point, first, _ = self.derivatives(s)
        normal = torch.stack([-first[..., 1], first[..., 0]], -1) / first.norm(dim=-1, keepdim=True)
        return point + d[..., None] * normal

    def project(self, xy: Float[Tensor, "*shape 2"], guess: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """s (m), d (m), valid of points; see `locate`."""
        return self.locate(xy, guess)[:3]

    def locate(self, xy: Float[Tensor, "*shape 2"], guess: Tensor | None = None) -> Frenet:
        """Frenet coordinates of points. guess: s to start from, if known.

        valid is False outside the tube or beyond the path's ends; s and d are then only rough. Newton's method on
        (p - path(s)) . path'(s) = 0 from a knot nearby. Gradients are the implicit derivatives, exact where valid.
        """
        return Frenet(*FootPoint.apply(xy, self.cubics, self.splines(), guess))

    def splines(self) -> Splines:
        """The splines as plain arrays."""
        row = np.arange(len(self.count)) if self.row is None else self.row.numpy()
        return Splines(self.knots.detach().numpy(), self.count.numpy(), row)

    @cached_property
    def cubics(self) -> Float[Tensor, "S n-1 4 2"]:
        """Per segment: its point, slope and moment at the begin, and the moment's change."""
        p0, p1, m0, m1 = self.knots[:, :-1], self.knots[:, 1:], self.moments[:, :-1], self.moments[:, 1:]
        slope = torch.add(p1 - p0, torch.add(m1, m0, alpha=2.0), alpha=-1 / 6)
        return torch.stack([p0, slope, m0, m1 - m0], 2)

    def _clamp(self, s: Tensor) -> Tensor:
        return s.clamp(min=torch.zeros((), dtype=s.dtype), max=_lead(self.length, s))

    def _segment(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the segment among those of all scenes, and the distance from its begin (m)."""
        s = self._clamp(s)
        i = torch.minimum(s.detach().long(), _lead(self.count - 2, s))
        t = s - i
        if len(self.knots) == 1:
            return i, t
        row = torch.arange(len(self.knots)) if self.row is None else self.row
        return i + _lead(row * (self.knots.shape[1] - 1), s), t

    def _curve(self, i: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.cubics.flatten(0, 1).index_select(0, i.flatten())
        point, slope, moment, change = rows.unflatten(0, i.shape).unbind(-2)
        t = t[..., None]
        second = torch.addcmul(moment, t, change)
        first = torch.addcmul(slope, t, moment + second, value=0.5)
        bend = torch.add(second, moment, alpha=2.0)
        return torch.addcmul(point, t, torch.addcmul(slope, t, bend, value=1 / 6)), first, second

    def _interpolate(self, values: Tensor, i: Tensor, t: Tensor) -> Tensor:
        i = self._knot(i)
        begin = values[i]
        return begin + (values[i + 1] - begin) * t

    def _nearer(self, i: Tensor, t: Tensor) -> Bool[Tensor, "*shape"]:
        return self.junction.flatten()[self._knot(i) + (t >= SPACING / 2)]

    def _knot(self, i: Tensor) -> Tensor:
        """Index of a segment's begin among the knots of all scenes, of which each has one more than segments."""
        return i if len(self.knots) == 1 else i + torch.div(i, self.knots.shape[1] - 1, rounding_mode="floor")


def build_reference_path(route: Route) -> ReferencePath:
    """From the routes of S scenes. Raises ValueError when a route is shorter than 5 m."""
    xy, attributes, junction, points = _distinct(route)
    raw, i, fraction, count = _resample(xy, points)
    smooth, moments, chord = _linear(_first_pass, raw, count).chunk(3, 1)
    tx, ty = (chord / chord.norm(dim=-1, keepdim=True)).unbind(-1)
    mx, my = (smooth - raw).unbind(-1)
    shift = _cross(tx, ty, mx, my)[..., None]
    sampled = torch.lerp(_take(attributes, i), _take(attributes, i + 1), fraction[..., None])
    sides = (sampled[..., :2] + shift * torch.tensor([-1.0, 1.0], dtype=shift.dtype)).clamp(min=0)
    sampled = torch.cat([sides, sampled[..., 2:]], -1)
    # Smoothing shortens corners; a second pass restores equal arc length between knots.
    rough = ReferencePath(smooth, moments, sampled, _take(junction, i), torch.tensor(count))
    i, t, count = _equal_arc_length(rough)
    knots = rough._curve(i, t)[0]
    return ReferencePath(
        knots,
        _linear(_moment_matrix, knots, count),
        rough._interpolate(sampled.flatten(0, 1), i, t[..., None]),
        rough._nearer(i, t),
        torch.tensor(count),
    )


def _distinct(route: Route) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
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
        xy, attributes, junction = _take(xy, index), _take(attributes, index), _take(junction, index)
    return xy, attributes, junction, count


def _resample(xy: Tensor, points: np.ndarray) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Points ``[S, n, 2]`` every SPACING along polylines ``[S, R, 2]``, index and fraction to resample attributes,

    and how many there are in each scene; the last one is repeated.
    """
    steps = (xy[:, 1:] - xy[:, :-1]).norm(dim=-1)
    arc = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
    ends = arc[:, -1].tolist()
    count = [int(end / SPACING) + 1 for end in ends]
    if min(count) < 6:
        raise ValueError(f"route: expected at least 5 m of path, got {SPACING * (min(count) - 1):.1f} m")
    i, at = _bracket(arc, count, points - 2)
    fraction = (at - _take(arc, i)) / _take(steps, i)
    begin = _take(xy, i)
    return begin + (_take(xy, i + 1) - begin) * fraction[..., None], i, fraction.detach(), count


def _equal_arc_length(path: ReferencePath) -> tuple[Tensor, Tensor, list[int]]:
    """Segments and distances from their begin at which the path's arc length is a multiple of SPACING.

    By the trapezoidal rule over quarters of a segment. The third result is the number of them in each scene.
    """
    at = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    _, slope, moment, change = path.cubics[:, :, :, None].unbind(2)
    first = torch.addcmul(slope, at, torch.addcmul(2 * moment, at, change), value=0.5)
    speed = first.norm(dim=-1)  # [S, n - 1, 5]
    steps = ((speed[..., 1:] + speed[..., :-1]) * (SPACING / 8)).flatten(1)
    arc = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
    count = [int(end / SPACING) + 1 for end in arc[:, -1].tolist()]
    i, at = _bracket(arc, count, 4 * (path.count.numpy() - 1) - 1)
    t = ((at - _take(arc, i)) / _take(steps, i) + i % 4) * (SPACING / 4)
    i = torch.div(i, 4, rounding_mode="floor")
    if len(steps) > 1:
        i = i + torch.arange(len(i))[:, None] * (steps.shape[1] // 4)
    return i, t, count


def _bracket(arc: Tensor, count: list[int], last: np.ndarray) -> tuple[Tensor, Tensor]:
    """Index of the step ``[S, n]`` in which the multiples of SPACING lie, at most `last` ``[S]``, and the multiples.

    arc ``[S, K]`` m: begins of the steps. Of each row the first `count` multiples, the last one repeated.
    """
    number = torch.arange(max(count), dtype=torch.float64).expand(len(count), -1)
    if min(count) < max(count):
        number = torch.minimum(number, torch.tensor(count)[:, None] - 1.0)
    at = (number * SPACING).contiguous()
    i = torch.searchsorted(arc.detach(), at, right=True) - 1
    return torch.minimum(i, torch.from_numpy(last)[:, None]), at


def _linear(matrix: Callable[[int], Tensor], values: Float[Tensor, "S n 2"], count: list[int]) -> Tensor:
    """``[S, k * n, 2]``: matrix(count) ``[k * count, count]`` times each scene's values, each of the k parts padded

    to n by its last row.
    """
    n = values.shape[1]
    kinds = sorted(set(count))
    if len(kinds) == 1:
        columns = values.transpose(0, 1).flatten(1)
        return (matrix(n) @ columns).unflatten(1, (-1, 2)).transpose(0, 1)
    parts, order = [], []
    for kind in kinds:
        own = [i for i, c in enumerate(count) if c == kind]
        columns = values[own, :kind].transpose(0, 1).flatten(1)
        part = (matrix(kind) @ columns).unflatten(0, (-1, kind))  # [k, kind, own * 2]
        part = part[:, torch.arange(n).clamp(max=kind - 1)]
        parts.append(part.flatten(0, 1).unflatten(1, (-1, 2)))
        order += own
    return torch.cat(parts, 1)[:, np.argsort(order)].transpose(0, 1)


def _take(values: Tensor, i: Int[Tensor, "S n"]) -> Tensor:
    """``[S, n, ...]``: values ``[S, K, ...]`` at the indices of each scene."""
    if len(values) == 1:
        return values.index_select(1, i[0])
    return values.flatten(0, 1)[i + torch.arange(len(i))[:, None] * values.shape[1]]


def _lead(value: Tensor, like: Tensor) -> Tensor:
    """A tensor over the first axis, with axes of length one to match."""
    return value.reshape(-1, *([1] * (like.ndim - 1)))


def _dot(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return torch.addcmul(ax * bx, ay, by)


def _cross(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return torch.addcmul(ax * by, ay, bx, value=-1)


@lru_cache(maxsize=64)
def _first_pass(n: int) -> Tensor:
    """``[3 n, n]``: smoothed points, their spline's moments and the chords between their neighbours."""
    smoother = _smoother(n)
    near = torch.arange(n)
    chord = smoother[(near + 1).clamp(max=n - 1)] - smoother[(near - 1).clamp(min=0)]
    return torch.cat([smoother, _moment_matrix(n) @ smoother, chord])


def _smoother(n: int) -> Tensor:
    """S = (I + w2 D2'D2 + w3 D3'D3)^-1: the least-squares smoother as a constant matrix."""
    eye = torch.eye(n, dtype=torch.float64)
    d2, d3 = torch.diff(eye, n=2, dim=0), torch.diff(eye, n=3, dim=0)
    return torch.linalg.inv(eye + SMOOTHNESS[0] * d2.T @ d2 + SMOOTHNESS[1] * d3.T @ d3)


@lru_cache(maxsize=64)
def _moment_matrix(n: int) -> Tensor:
    """Second derivatives of the interpolating natural cubic spline, linear in the knots."""
    system = torch.zeros(n, n, dtype=torch.float64)
    right = torch.zeros(n, n, dtype=torch.float64)
    system[0, 0] = system[-1, -1] = 1.0
    i = torch.arange(1, n - 1)
    system[i, i - 1], system[i, i], system[i, i + 1] = SPACING / 6, 2 * SPACING / 3, SPACING / 6
    right[i, i - 1], right[i, i], right[i, i + 1] = 1 / SPACING, -2 / SPACING, 1 / SPACING
    return torch.linalg.solve(system, right)

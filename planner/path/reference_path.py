"""Reference path: a curvature-continuous curve along the route, with exact Frenet coordinates.

The route's points are resampled, smoothed by a small least-squares problem and joined by a C2 cubic spline.
All steps are linear in the route's points or differentiable, so gradients reach the route.
Frenet coordinates (s, d): s (m) along the spline, d (m) to the left. Valid inside the tube |d * curvature| < 0.9.
Everything has a leading axis of scenes; shorter paths are padded by repeating their last knot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled import stage
from planner.path.foot_point import Frenet, Splines, foot_points
from planner.path.path_points import (
    ATTRIBUTES,
    SPACING,
    check_lengths,
    distinct_points,
    equal_arc_length,
    first_pass,
    linear,
    resample,
    second_pass,
    take,
)
from planner.scene import Route

_lengths: Any = compiled.kernel("dds_route_lengths", "TB R nn")
_build: Any = compiled.kernel("dds_build_path", "TTTTTTBB RRRCR J nnnn")
_build_back: Any = compiled.kernel("dds_build_path_back", "TTTTTTBB TTTT RRRRRR nnnn")

_ZERO = torch.zeros((), dtype=torch.float64)


@dataclass
class ReferencePath:
    """Cubic splines through up to ``n`` knots, SPACING apart in s, one for each of ``S`` scenes.

    knots ``[S, n, 2]`` m; moments ``[S, n, 2]``: second derivatives at the knots. attributes ``[S, n, 5]``, per knot
    in the order ATTRIBUTES: left, right, left_oncoming, right_oncoming (m, >= 0, from the path to the end of the
    surface), speed_limit (m/s). junction ``[S, n]``. count ``[S]``: knots of each path, the others repeat its last.

    Methods take coordinates whose first axis is the scene. `rows` gives a view with another first axis: its knots,
    moments and attributes stay those of the scenes; count, length and all methods follow the rows. threads: at most so
    many for a call.
    """

    knots: Float[Tensor, "S n 2"]
    moments: Float[Tensor, "S n 2"]
    attributes: Float[Tensor, "S n 5"]
    junction: Bool[Tensor, "S n"]
    count: Int[Tensor, " L"]
    row: Int[Tensor, " L"] | None = None
    threads: int = 1

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

    def bend(self, s: Tensor) -> Tensor:
        """Curvature (1/m) at s: as `evaluate`, several times faster where no gradient is to be recorded."""
        if torch.is_grad_enabled() and (s.requires_grad or self.cubics.requires_grad):
            return self.evaluate(s)[2]
        i, t = self._segment_plain(s.detach().numpy())
        table = self.cubics.detach().contiguous().numpy().view(np.complex128).reshape(-1, 4)
        _, slope, moment, change = table.take(i, 0).transpose(-1, *range(i.ndim))
        second = moment + t * change
        first = slope + (t / 2) * (moment + second)
        product = first.conj() * second
        square = first.real * first.real + first.imag * first.imag
        return torch.from_numpy(product.imag / (square * np.sqrt(square)))

    def attribute(self, name: str, s: Tensor) -> Tensor:
        """A per-knot attribute (or "junction") at s, linearly interpolated (nearest knot for the junction)."""
        i, t = self._segment(s)
        if name == "junction":
            return self._nearer(i, t)
        return self._interpolate(self.attributes[..., ATTRIBUTES.index(name)].flatten(), i, t)

    def surroundings(self, s: Float[np.ndarray, L * shape]) -> Float[Tensor, "L *shape 5"]:
        """All attributes at places s (m), given as plain numbers."""
        i, t = self._segment_plain(s, of=self.knots.shape[1])
        values, index = self.attributes.flatten(0, 1), torch.from_numpy(i)
        begin = values[index]
        return torch.addcmul(begin, values[index + 1] - begin, torch.from_numpy(t)[..., None])

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
        return foot_points(xy.double(), self.splines(), guess)

    def splines(self) -> Splines:
        """What the search for foot points needs."""
        return Splines(self.cubics, self.knots, self.count, self.row, self.threads)

    @cached_property
    def cubics(self) -> Float[Tensor, "S n-1 4 2"]:
        """Per segment of the scenes' splines: its point, slope and moment at the begin, and the moment's change."""
        p0, p1, m0, m1 = self.knots[:, :-1], self.knots[:, 1:], self.moments[:, :-1], self.moments[:, 1:]
        slope = torch.add(p1 - p0, torch.add(m1, m0, alpha=2.0), alpha=-1 / 6)
        return torch.stack([p0, slope, m0, m1 - m0], 2)

    def _clamp(self, s: Tensor) -> Tensor:
        return s.clamp(min=_ZERO, max=_lead(self.length, s))

    def _segment(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the segment among those of all scenes, and the distance from its begin (m)."""
        s = self._clamp(s)
        i = torch.minimum(s.detach().long(), _lead(self.count - 2, s))
        t = s - i
        if len(self.knots) == 1:
            return i, t
        row = torch.arange(len(self.knots)) if self.row is None else self.row
        return i + _lead(row * (self.knots.shape[1] - 1), s), t

    def _segment_plain(self, s: np.ndarray, of: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same on plain arrays. of: entries per scene of what the index is for, by default its segments."""
        ends = (-1, *[1] * (s.ndim - 1))
        s = np.minimum(np.maximum(s, 0.0), self.length.numpy().reshape(ends))
        i = np.minimum(s.astype(np.int64), self.count.numpy().reshape(ends) - 2)
        t = s - i
        if len(self.knots) > 1:
            row = np.arange(len(self.knots)) if self.row is None else self.row.numpy()
            i += row.reshape(ends) * (of or self.knots.shape[1] - 1)
        return i, t

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


def build_reference_path(route: Route, threads: int = 1) -> ReferencePath:
    """From the routes of S scenes. Raises ValueError when a route is shorter than 5 m."""
    if _build is None:
        return _build_plain(route, threads)
    inputs = [route.xy.double(), *(getattr(route, name).double() for name in ATTRIBUTES)]
    workers = stage.workers(len(inputs[0]), threads, microseconds=20.0)
    knots, moments, attributes, cubics, junction, count = stage.apply(
        _PathBuilding(route.junction, route.valid, workers), *inputs
    )
    path = ReferencePath(knots, moments, attributes, junction, count, threads=threads)
    path.__dict__["cubics"] = cubics
    return path


class _PathBuilding:
    """From a route's points and ATTRIBUTES to knots, moments, attributes and cubics; junction and count."""

    def __init__(self, junction: Tensor, valid: Tensor, threads: int) -> None:
        self.junction, self.valid, self.threads = junction, valid, threads

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        xy = inputs[0]
        scenes, points = xy.shape[:2]
        lengths = torch.empty(scenes, dtype=torch.float64)
        _lengths(xy, self.valid, lengths, scenes, points)
        metres = lengths.tolist()
        check_lengths(metres)
        n = int(max(metres)) + 4  # smoothing shortens; there is room for a little more
        while True:
            number = lambda *shape: torch.empty(scenes, *shape, dtype=torch.float64)  # noqa: E731
            out = number(n, 2), number(n, 2), number(n, 5), number(n - 1, 4, 2)
            junction = torch.empty(scenes, n, dtype=torch.bool)
            count = torch.empty(scenes, dtype=torch.int64)
            _build(
                *inputs, self.junction, self.valid, *out[:3], junction, out[3], count, scenes, points, n, self.threads
            )
            most = max(count.tolist())
            if most <= n:
                break
            n = most
        # Rows are as long as the longest path needs.
        sizes = (most, most, most, most - 1)
        cut = (x.flatten()[: x.numel() // x.shape[1] * m].view(scenes, m, *x.shape[2:]) for x, m in zip(out, sizes))
        return *cut, junction.flatten()[: scenes * most].view(scenes, most), count

    def backward(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Any:
        xy = inputs[0]
        out = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs]
        _build_back(
            *inputs, self.junction, self.valid, *gradients[:4], *out,
            *xy.shape[:2], outputs[0].shape[1], self.threads,
        )  # fmt: skip
        return tuple(out)


def _build_plain(route: Route, threads: int) -> ReferencePath:
    """The definition of what compiled/path.cpp does."""
    xy, attributes, junction, points = distinct_points(route)
    raw, i, fraction, count = resample(xy, points)
    smooth, moments, chord = linear(first_pass, raw, count)
    tx, ty = (chord / chord.norm(dim=-1, keepdim=True)).unbind(-1)
    mx, my = (smooth - raw).unbind(-1)
    shift = _cross(tx, ty, mx, my)[..., None]
    sampled = torch.lerp(take(attributes, i), take(attributes, i + 1), fraction[..., None])
    sides = torch.cat([sampled[..., :1] - shift, sampled[..., 1:2] + shift], -1).clamp(min=0)
    sampled = torch.cat([sides, sampled[..., 2:]], -1)
    # Smoothing shortens corners; a second pass restores equal arc length between knots.
    rough = ReferencePath(smooth, moments, sampled, take(junction, i), torch.tensor(count))
    i, t, count = equal_arc_length(rough.cubics, count)
    knots = rough._curve(i, t)[0]
    return ReferencePath(
        knots,
        linear(second_pass, knots, count)[0],
        rough._interpolate(sampled.flatten(0, 1), i, t[..., None]),
        rough._nearer(i, t),
        torch.tensor(count),
        threads=threads,
    )


def _lead(value: Tensor, like: Tensor) -> Tensor:
    """A tensor over the first axis, with axes of length one to match."""
    return value.reshape(-1, *([1] * (like.ndim - 1)))


def _cross(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return torch.addcmul(ax * by, ay, bx, value=-1)

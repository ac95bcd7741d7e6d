"""Reference path: a curvature-continuous curve along the route, with exact Frenet coordinates.

The route's points are resampled, smoothed by a small least-squares problem and joined by a C2 cubic spline.
All steps are linear in the route's points or differentiable, so gradients reach the route.
Frenet coordinates (s, d): s (m) along the spline, d (m) to the left. Valid inside the tube |d * curvature| < 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planner.scene import Route

SPACING = 1.0
"""Distance between spline knots, m."""
SMOOTHNESS = (2.0, 40.0)
"""Weights of squared second and third differences against squared displacement."""
TUBE = 0.9
"""Frenet coordinates are valid for |d * curvature| below this."""


@dataclass
class ReferencePath:
    """Cubic spline through ``n`` knots, SPACING apart in s.

    knots ``[n, 2]`` m; moments ``[n, 2]``: second derivatives at the knots.
    Attributes along the path, per knot ``[n]``: left, right, left_oncoming, right_oncoming (m, >= 0, from the path to
    the end of the surface), speed_limit (m/s), junction (bool).
    """

    knots: Float[Tensor, "n 2"]
    moments: Float[Tensor, "n 2"]
    left: Float[Tensor, " n"]
    right: Float[Tensor, " n"]
    left_oncoming: Float[Tensor, " n"]
    right_oncoming: Float[Tensor, " n"]
    speed_limit: Float[Tensor, " n"]
    junction: Bool[Tensor, " n"]

    @property
    def length(self) -> float:
        return SPACING * (len(self.knots) - 1)

    def derivatives(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Point, first and second derivative ``[..., 2]`` at s (m); s is clamped to the path."""
        i, t = self._segment(s)
        h = SPACING
        p0, p1, m0, m1 = self.knots[i], self.knots[i + 1], self.moments[i], self.moments[i + 1]
        t = t[..., None]
        r = h - t
        point = (m0 * r**3 + m1 * t**3) / (6 * h) + (p0 / h - m0 * h / 6) * r + (p1 / h - m1 * h / 6) * t
        first = (-m0 * r**2 + m1 * t**2) / (2 * h) + (p1 - p0) / h - (m1 - m0) * h / 6
        second = (m0 * r + m1 * t) / h
        return point, first, second

    def evaluate(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Point ``[..., 2]`` (m), heading (rad), curvature (1/m) at s."""
        point, first, second = self.derivatives(s)
        heading = torch.atan2(first[..., 1], first[..., 0])
        speed = first.norm(dim=-1)
        return point, heading, (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]) / speed**3

    def attribute(self, name: str, s: Tensor) -> Tensor:
        """A per-knot attribute, linearly interpolated at s (nearest knot for booleans)."""
        values = getattr(self, name)
        i, t = self._segment(s)
        if values.dtype == torch.bool:
            return torch.where(t < SPACING / 2, values[i], values[i + 1])
        return values[i] + (values[i + 1] - values[i]) * (t / SPACING)

    def to_cartesian(self, s: Tensor, d: Tensor) -> Float[Tensor, "*shape 2"]:
        """Points (m) of Frenet coordinates."""
        point, first, _ = self.derivatives(s)
        normal = torch.stack([-first[..., 1], first[..., 0]], -1) / first.norm(dim=-1, keepdim=True)
        return point + d[..., None] * normal

    def project(self, xy: Float[Tensor, "*shape 2"], guess: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Frenet coordinates of points: s (m), d (m), valid. guess: s to start from, if known.

        valid is False outside the tube or beyond the path's ends; s and d are then only rough. Newton's method on
        (p - path(s)) . path'(s) = 0 from the nearest knot; the last step is taken with gradients, which makes
        them the implicit derivatives.
        """
        with torch.no_grad():
            s = self._nearest(xy) if guess is None else guess.detach()
            for _ in range(6 if guess is None else 3):
                s = self._newton(xy, s)
        s = self._newton(xy, s.detach())
        point, first, second = self.derivatives(s)
        offset = xy - point
        speed = first.norm(dim=-1)
        d = (first[..., 0] * offset[..., 1] - first[..., 1] * offset[..., 0]) / speed
        along = (first * offset).sum(-1) / speed
        bend = (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]) / speed**3
        valid = (along.abs() < 1e-6) & (d * bend < TUBE) & (d.abs() * bend.abs() < 1 / (1 - TUBE))
        return s, d, valid

    def _segment(self, s: Tensor) -> tuple[Tensor, Tensor]:
        s = s.clamp(0.0, self.length)
        i = (s.detach() / SPACING).floor().long().clamp(max=len(self.knots) - 2)
        return i, s - i * SPACING

    def _nearest(self, xy: Tensor) -> Tensor:
        """s of the nearest knot, found on every fourth knot first."""
        flat = xy.detach().reshape(-1, 2)
        coarse = torch.cdist(flat, self.knots[::4].detach()).argmin(1) * 4
        window = (coarse[:, None] + torch.arange(-4, 5)).clamp(0, len(self.knots) - 1)
        near = (self.knots.detach()[window] - flat[:, None]).square().sum(-1).argmin(1, keepdim=True)
        return (window.gather(1, near)[:, 0] * SPACING).to(xy.dtype).reshape(xy.shape[:-1])

    def _newton(self, xy: Tensor, s: Tensor) -> Tensor:
        point, first, second = self.derivatives(s)
        offset = xy - point
        value = (offset * first).sum(-1)
        square = first.square().sum(-1)
        # Beyond the centre of curvature the slope changes sign; the floor keeps the step downhill.
        slope = torch.maximum(square - (offset * second).sum(-1), 0.1 * square)
        return (s + (value / slope).clamp(-2.0, 2.0)).clamp(0.0, self.length)


def build_reference_path(route: Route) -> ReferencePath:
    """From a single route (no batch axis). Raises ValueError when the route is shorter than 5 m."""
    xy = route.xy[route.valid].double()
    step = (xy[1:] - xy[:-1]).norm(dim=-1)
    keep = torch.cat([torch.ones(1, dtype=torch.bool), step.detach() > 1e-6])
    xy = xy[keep]
    attributes = {
        name: getattr(route, name)[route.valid][keep].double()
        for name in ("left", "right", "left_oncoming", "right_oncoming", "speed_limit")
    }
    junction = route.junction[route.valid][keep]
    raw, weights = _resample(xy, SPACING)
    if len(raw) < 6:
        raise ValueError(f"route: expected at least 5 m of path, got {SPACING * (len(raw) - 1):.1f} m")
    smooth = _smoother(len(raw)) @ raw
    spline_moments = _moment_matrix(len(smooth)) @ smooth
    tangent = torch.gradient(smooth, dim=0)[0]
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    shift = tangent[:, 0] * (smooth - raw)[:, 1] - tangent[:, 1] * (smooth - raw)[:, 0]
    sampled = {name: _interpolate(values, weights) for name, values in attributes.items()}
    sampled["left"] = (sampled["left"] - shift).clamp(min=0)
    sampled["right"] = (sampled["right"] + shift).clamp(min=0)
    # Smoothing shortens corners; a second pass restores equal arc length between knots.
    rough = ReferencePath(smooth, spline_moments, **sampled, junction=junction[weights[0]])
    at = _equal_arc_length(rough)
    knots = rough.derivatives(at)[0]
    moments = _moment_matrix(len(knots)) @ knots
    return ReferencePath(
        knots,
        moments,
        **{name: rough.attribute(name, at) for name in sampled},
        junction=rough.attribute("junction", at),
    )


def _resample(xy: Tensor, spacing: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Points every `spacing` metres along the polyline, and (index, fraction) to resample attributes."""
    length = torch.cat([torch.zeros(1, dtype=xy.dtype), (xy[1:] - xy[:-1]).norm(dim=-1).cumsum(0)])
    at = torch.arange(int(float(length[-1].detach()) / spacing) + 1, dtype=xy.dtype) * spacing
    i = (torch.searchsorted(length.detach(), at, right=True) - 1).clamp(0, len(xy) - 2)
    fraction = (at - length[i]) / (length[i + 1] - length[i])
    return _interpolate(xy, (i, fraction)), (i, fraction.detach())


def _interpolate(values: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    i, fraction = weights
    fraction = fraction.reshape(-1, *([1] * (values.ndim - 1)))
    return values[i] + (values[i + 1] - values[i]) * fraction


def _equal_arc_length(path: ReferencePath) -> Tensor:
    """Parameters of the path at which its arc length is a multiple of SPACING."""
    n = len(path.knots)
    dense = torch.linspace(0, path.length, 4 * (n - 1) + 1, dtype=path.knots.dtype)
    speed = path.derivatives(dense)[1].norm(dim=-1)
    arc = torch.cat(
        [torch.zeros(1, dtype=dense.dtype), ((speed[1:] + speed[:-1]) / 2 * (dense[1] - dense[0])).cumsum(0)]
    )
    at = torch.arange(int(float(arc[-1].detach()) / SPACING) + 1, dtype=dense.dtype) * SPACING
    i = (torch.searchsorted(arc.detach(), at, right=True) - 1).clamp(0, len(arc) - 2)
    return dense[i] + (at - arc[i]) / (arc[i + 1] - arc[i]) * (dense[1] - dense[0])


@lru_cache(maxsize=64)
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

"""Smooth curves of the generated towns: roads, connectors through junctions, paths of vehicles."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

SLOPE_WEIGHT = 2.0  # m, of the change of curvature against curvature in the choice of connectors
STEP = 0.25  # m, spacing at which a path stores position, heading and curvature


def quintic_step(u: np.ndarray) -> np.ndarray:
    """Rises from 0 at u = 0 to 1 at u = 1 with zero first and second derivative at both ends."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u**2)


class Path:
    """A curve with continuous curvature, parametrised by arc length.

    Built through points ``[n, 2]`` (m, roughly evenly spaced, n >= 4) with a cubic spline.
    """

    def __init__(self, xy: np.ndarray) -> None:
        chord = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        spline = CubicSpline(chord, xy)
        u = np.linspace(0.0, chord[-1], max(int(np.ceil(chord[-1] / STEP)), 4) + 1)
        first, second = spline(u, 1), spline(u, 2)
        self.xy = spline(u)
        speed = np.hypot(*first.T)
        self.s = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(u))])
        self.yaw = np.unwrap(np.arctan2(first[:, 1], first[:, 0]))
        self.curvature = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / speed**3

    @property
    def length(self) -> float:
        """Arc length, m."""
        return float(self.s[-1])

    def pose(self, s: np.ndarray | float) -> np.ndarray:
        """``[..., 3]`` x, y, yaw at arc lengths s (m); beyond the ends the curve goes on straight."""
        s = np.asarray(s, float)
        beyond = s - np.clip(s, 0.0, self.length)
        x, y, yaw = (np.interp(s, self.s, value) for value in (self.xy[:, 0], self.xy[:, 1], self.yaw))
        return np.stack([x + beyond * np.cos(yaw), y + beyond * np.sin(yaw), yaw], -1)

    def point(self, s: np.ndarray | float, d: np.ndarray | float = 0.0) -> np.ndarray:
        """``[..., 2]`` at arc length s, d metres to the left of the curve."""
        pose = self.pose(s)
        return pose[..., :2] + np.stack([-np.sin(pose[..., 2]), np.cos(pose[..., 2])], -1) * np.asarray(d)[..., None]

    def curvature_at(self, s: np.ndarray | float) -> np.ndarray:
        """1/m, left positive."""
        return np.interp(s, self.s, self.curvature)

    def shifted(self, stations: np.ndarray, d: np.ndarray) -> Path:
        """The curve through the points d metres to the left at the given stations (m), both ``[n]``."""
        return Path(self.point(stations, d))

    def project(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length s and left offset d, each ``[n]``, of the closest curve sample to points ``[n, 2]``."""
        xy = np.atleast_2d(xy)
        index = ((xy[:, None] - self.xy[None]) ** 2).sum(-1).argmin(1)
        delta, yaw = xy - self.xy[index], self.yaw[index]
        along = delta[:, 0] * np.cos(yaw) + delta[:, 1] * np.sin(yaw)
        return self.s[index] + along, delta[:, 1] * np.cos(yaw) - delta[:, 0] * np.sin(yaw)


def integrate_curvature(curvature: np.ndarray, step: float, start: np.ndarray) -> np.ndarray:
    """Points ``[n, 2]`` of the curve with the curvature ``[n]`` (1/m) at spacing `step` (m), from pose ``[3]``."""
    yaw = start[2] + np.concatenate([[0.0], np.cumsum(0.5 * (curvature[1:] + curvature[:-1]) * step)])
    middle = 0.5 * (yaw[1:] + yaw[:-1])
    move = np.stack([np.cos(middle), np.sin(middle)], -1) * step
    return start[:2] + np.concatenate([[[0.0, 0.0]], np.cumsum(move, 0)])


def connector_points(start: np.ndarray, k_start: float, end: np.ndarray, k_end: float) -> np.ndarray:
    """Points ``[n, 2]``, about 0.5 m apart, of a curvature-continuous curve between two poses ``[3]``.

    A quintic with given position, heading and curvature (1/m) at both ends. The length of its
    end tangents is the one that makes the largest curvature and its largest change smallest.
    """
    distance = float(np.hypot(*(end[:2] - start[:2])))
    u = np.linspace(0.0, 1.0, max(int(np.ceil(distance * 1.2 / 0.5)), 8) + 1)
    best, best_peak = None, np.inf
    for scale in np.linspace(0.7, 2.2, 16) * distance:
        coefficient = _quintic(start, k_start, end, k_end, scale)
        powers = u[:, None] ** np.arange(6)
        first = (powers[:, :5] * np.arange(1, 6)) @ coefficient[1:]
        second = (powers[:, :4] * (np.arange(2, 6) * np.arange(1, 5))) @ coefficient[2:]
        curvature = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / np.hypot(*first.T) ** 3
        slope = np.diff(curvature) / np.hypot(*np.diff(powers @ coefficient, axis=0).T)
        peak = np.abs(curvature).max() + SLOPE_WEIGHT * np.abs(slope).max()
        if peak < best_peak - 1e-12:
            best, best_peak = powers @ coefficient, peak
    assert best is not None
    return best


def _quintic(start: np.ndarray, k_start: float, end: np.ndarray, k_end: float, scale: float) -> np.ndarray:
    """Coefficients ``[6, 2]`` in rising powers of u in [0, 1]."""
    tangent = [np.array([np.cos(p[2]), np.sin(p[2])]) * scale for p in (start, end)]
    bend = [np.array([-np.sin(p[2]), np.cos(p[2])]) * k * scale**2 for p, k in ((start, k_start), (end, k_end))]
    p0, v0, a0, p1, v1, a1 = start[:2], tangent[0], bend[0], end[:2], tangent[1], bend[1]
    gap = p1 - p0
    return np.stack(
        [
            p0, v0, a0 / 2,
            10 * gap - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
            -15 * gap + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
            6 * gap - 3 * v0 - 3 * v1 - 0.5 * a0 + 0.5 * a1,
        ]
    )  # fmt: skip

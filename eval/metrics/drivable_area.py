"""Staying on the drivable area, with nuPlan's tolerance and without."""

from __future__ import annotations

import numpy as np
import shapely

from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

TOLERANCE = 0.3  # m, nuPlan's


def corner_excess(drive: Drive) -> np.ndarray:
    """How far (m) ``[T, 4]`` each ego corner is outside the drivable area; 0 inside."""
    area = drive.recording.road.prepared_drivable
    points = drive.corners.reshape(-1, 2)
    out = np.zeros(len(points))
    outside = ~shapely.contains_xy(area, points)
    if outside.any():
        # Clipping keeps the exact distance cheap on city-sized polygons; 20 m bounds what is reported.
        window = shapely.box(*(points.min(0) - 20.0), *(points.max(0) + 20.0))
        near = shapely.intersection(area, window)
        if shapely.is_empty(near):
            out[outside] = np.inf
        else:
            out[outside] = shapely.distance(shapely.points(points[outside]), near)
    return out.reshape(-1, 4)


def drivable_area(drive: Drive) -> MetricResult:
    """DAC: 0 if any corner is 0.3 m or more outside the drivable area at any step, else 1."""
    excess = corner_excess(drive).max(1)
    detail = {"worst_m": _shown(excess), "time": _when(drive, excess)} if excess.max() > 0 else {}
    return MetricResult(float(excess.max() < TOLERANCE), True, "score", detail)


def off_road(drive: Drive) -> MetricResult:
    """Number of steps with any corner outside the drivable area, without tolerance."""
    excess = corner_excess(drive).max(1)
    detail = {"worst_m": _shown(excess), "time": _when(drive, excess)} if excess.max() > 0 else {}
    return MetricResult(float((excess > 0).sum()), True, "steps", detail)


def _shown(excess: np.ndarray) -> float | None:
    worst = float(excess.max())
    return round(worst, 3) if np.isfinite(worst) else None


def _when(drive: Drive, excess: np.ndarray) -> float:
    return round(float(drive.trace.time[excess.argmax()]), 3)

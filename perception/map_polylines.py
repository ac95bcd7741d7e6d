"""A road's line work as the polylines of the contract, cut and indexed once, then served by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
import torch
from shapely.geometry.base import BaseGeometry

from perception.road_cache import cached
from perception.road_map import RoadMap
from planner.scene import MapPolylines, PolylineType

SLIVER = 0.01
"""Half the width (m) of a gap in the drivable area that is an artefact of drawing, not an obstacle."""

BOUNDARY_TOLERANCE = 0.01
"""Simplification of the drivable area's edge, m."""

LINE_TOLERANCE = 0.05
"""Simplification of all other lines, m."""


@dataclass(frozen=True)
class MapWindow:
    """All polylines of a road, global frame, padded to ``[L, P]`` points (zeros where not valid).

    xy ``[L, P, 2]`` m; kind ``[L]`` PolylineType values; valid ``[L, P]``; low, high ``[L, 2]``: bounding boxes.
    """

    xy: np.ndarray
    kind: np.ndarray
    valid: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def local(self, pose: np.ndarray, radius: float) -> MapPolylines:
        """The polylines that reach into the square of half-side `radius` (m) around the pose ``[3]``, seen from it."""
        inside = ((self.low <= pose[:2] + radius) & (self.high >= pose[:2] - radius)).all(1)
        valid = self.valid[inside]
        valid = valid[:, : max(int(valid.sum(1).max(initial=0)), 2)]
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        x, y = np.moveaxis(self.xy[inside, : valid.shape[1]] - pose[:2], -1, 0) * valid
        xy = np.stack([cos * x + sin * y, cos * y - sin * x], -1)
        count = len(valid)
        return MapPolylines(
            xy=torch.from_numpy(xy),
            kind=torch.from_numpy(self.kind[inside]),
            confidence=torch.ones(count, dtype=torch.float64),
            closed=torch.zeros(count, dtype=torch.bool),
            valid=torch.from_numpy(valid),
        )


def map_window(road: RoadMap, points: int) -> MapWindow:
    """The road's polylines in pieces of at most `points` points, built at the first call."""
    return cached(road, ("map_window", points), lambda: _build(road, points))


def boundary_rings(drivable: BaseGeometry) -> list[np.ndarray]:
    """Closed rings ``[n, 2]`` around the drivable area with its surface on their left.

    Outer rings run counter-clockwise, holes clockwise. Overlapping parts are joined and gaps narrower than 2 cm
    closed. Else the result lies inside the true area: it is drawn in by as much as simplifying may move it outwards.
    """
    closed = shapely.union_all(shapely.get_parts(shapely.make_valid(drivable)))
    closed = closed.buffer(SLIVER, join_style="mitre").buffer(-SLIVER - BOUNDARY_TOLERANCE, join_style="mitre")
    simple = shapely.simplify(closed, BOUNDARY_TOLERANCE, preserve_topology=True)
    rings = []
    for polygon in shapely.get_parts(simple):
        if polygon.geom_type != "Polygon" or polygon.is_empty:
            continue
        oriented = shapely.geometry.polygon.orient(polygon, 1.0)
        rings += [np.asarray(ring.coords)[:, :2] for ring in (oriented.exterior, *oriented.interiors)]
    return rings


def cut(xy: np.ndarray, points: int) -> list[np.ndarray]:
    """Pieces of at most `points` points (>= 2) that share their end points."""
    return [xy[i : i + points] for i in range(0, max(len(xy) - 1, 1), points - 1)]


def _build(road: RoadMap, points: int) -> MapWindow:
    lines: list[tuple[np.ndarray, PolylineType]] = []
    for lane in road.lanes.values():
        lines.append((_simplify(lane.centerline), PolylineType.CENTERLINE))
    lines += [(_simplify(xy), PolylineType.DIVIDER) for xy in road.dividers]
    lines += [(ring, PolylineType.BOUNDARY) for ring in boundary_rings(road.drivable)]
    lines += [(np.asarray(xy, float), PolylineType.CROSSING) for xy in road.crossings]
    lines += [(np.asarray(xy, float), PolylineType.STOP_LINE) for xy in road.stop_lines]
    pieces = [(piece, kind) for xy, kind in lines if len(xy) >= 2 for piece in cut(xy[:, :2], points)]
    count = len(pieces)
    xy, valid = np.zeros((count, points, 2)), np.zeros((count, points), bool)
    for i, (piece, _) in enumerate(pieces):
        xy[i, : len(piece)], valid[i, : len(piece)] = piece, True
    low = np.array([piece.min(0) for piece, _ in pieces]).reshape(count, 2)
    high = np.array([piece.max(0) for piece, _ in pieces]).reshape(count, 2)
    return MapWindow(xy, np.array([int(kind) for _, kind in pieces], np.int64), valid, low, high)


def _simplify(xy: np.ndarray) -> np.ndarray:
    if len(xy) < 3:
        return np.asarray(xy, float)
    return np.asarray(shapely.simplify(shapely.LineString(xy), LINE_TOLERANCE).coords)[:, :2]

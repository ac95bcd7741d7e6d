"""What is painted on a road: lines between lanes and directions, edge lines, crossings, stop lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from perception.road_map import RoadMap

LINE = 0.15
"""Width (m) of a line."""
BESIDE = 4.5
"""m: how far from a divider the lanes that it divides are looked for."""

Painted = Sequence[tuple[BaseGeometry, np.ndarray]]


def lane_paint(rng: np.random.Generator, road: RoadMap, drivable: BaseGeometry, window: BaseGeometry) -> Painted:
    """Areas and their reflectance (linear RGB), in the order of painting; later ones cover earlier ones.

    Lines between directions are solid or broken, white or yellow; those between lanes of one direction broken and
    white; edge lines are not on every road. drivable: within the window.
    """
    white = np.full(3, rng.uniform(0.45, 0.75))
    yellow = np.array([0.60, 0.38, 0.06]) * rng.uniform(0.8, 1.2)
    painted: list[tuple[BaseGeometry, np.ndarray]] = []
    edge = rng.choice(3, p=[0.5, 0.25, 0.25])
    if edge < 2:
        inner = drivable.buffer(-0.35).simplify(0.05).boundary
        painted.append((_widened([inner], LINE if edge == 0 else LINE / 2), white if edge == 0 else yellow))
    between, within = sorted_dividers(road, window)
    dash, gap = float(rng.choice([1.5, 2.0, 3.0])), float(rng.choice([3.0, 4.5, 6.0]))
    centre = rng.choice(3, p=[0.4, 0.3, 0.3])  # solid white, double yellow, broken white
    if centre == 1:
        beside = [side for line in between for side in (line.offset_curve(0.13), line.offset_curve(-0.13))]
        painted.append((_widened(beside, 0.1), yellow))
    else:
        painted.append((_widened(_dashes(between, dash, gap) if centre == 2 else between, LINE), white))
    painted.append((_widened(_dashes(within, dash, gap), LINE), white))
    ladders = rng.uniform() < 0.75
    crossings = [_crossing(outline, ladders) for outline in road.crossings if len(outline) >= 4]
    painted.append((shapely.union_all([c for c in crossings if c.intersects(window)]), white))
    stops = [shapely.LineString(line) for line in road.stop_lines if len(line) >= 2]
    painted.append((_widened([line for line in stops if line.intersects(window)], 0.4), white))
    return [(area, colour) for area, colour in painted if not area.is_empty]


def _widened(lines: list[BaseGeometry], width: float) -> BaseGeometry:
    """All lines together at a width (m), without overlaps."""
    flat = [line for line in lines if not line.is_empty]
    return shapely.union_all(shapely.buffer(np.array(flat, dtype=object), width / 2, cap_style="flat"))


def sorted_dividers(road: RoadMap, window: BaseGeometry) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
    """Dividers between opposite directions, and all others; lines within the window."""
    lanes = [lane for lane in road.lanes.values() if not lane.connector and lane.polygon.intersects(window)]
    lines = [
        part
        for xy in road.dividers
        if len(xy) >= 2
        for part in shapely.get_parts(shapely.intersection(shapely.LineString(xy[:, :2]), window))
        if part.geom_type == "LineString" and part.length > 0.5
    ]
    if not lanes:
        return [], lines
    tree = cKDTree(np.concatenate([lane.centerline for lane in lanes]))
    points, heading = tree.data, np.concatenate([lane.heading for lane in lanes])
    between: list[BaseGeometry] = []
    within: list[BaseGeometry] = []
    for line in lines:
        a, m, b = (np.array(line.interpolate(f, normalized=True).coords[0]) for f in (0.45, 0.5, 0.55))
        along = b - a
        near = np.array(tree.query_ball_point(m, BESIDE), dtype=int)
        offset = points[near] - m
        left = along[0] * offset[:, 1] - along[1] * offset[:, 0] > 0
        forward = np.cos(heading[near] - np.arctan2(along[1], along[0]))
        sides = [forward[left == side].mean() if (left == side).any() else 0.0 for side in (True, False)]
        (between if sides[0] * sides[1] < -0.25 else within).append(line)
    return between, within


def _dashes(lines: list[BaseGeometry], dash: float, gap: float) -> list[BaseGeometry]:
    """Straight dashes (m) along lines."""
    out: list[BaseGeometry] = []
    for line in lines:
        start = np.arange(gap / 2, line.length, dash + gap)
        ends = [shapely.get_coordinates(shapely.line_interpolate_point(line, s)) for s in (start, start + dash)]
        out += list(shapely.linestrings(np.stack(ends, 1)))
    return out


def _crossing(outline: np.ndarray, ladder: bool) -> BaseGeometry:
    """Stripes of 0.5 m that look along the road, or two lines across it. outline ``[n, 2]``; walked the long way."""
    area = shapely.make_valid(shapely.Polygon(outline[:, :2]))
    corner = shapely.get_coordinates(area.minimum_rotated_rectangle)[:4]
    if len(corner) < 4:
        return shapely.Polygon()
    sides = [corner[1] - corner[0], corner[3] - corner[0]]
    across, along = sorted(sides, key=lambda side: -float(np.hypot(*side)))  # across the road, along it
    if not ladder:
        lines = [shapely.LineString([corner[0] + f * along, corner[0] + f * along + across]) for f in (0.06, 0.94)]
        return _widened(lines, 0.3)
    length = float(np.hypot(*across))
    unit = across / max(length, 1e-6)
    stripes = [
        shapely.Polygon([corner[0] + unit * s, corner[0] + unit * e, corner[0] + unit * e + along,
                         corner[0] + unit * s + along])
        for s in np.arange(0.25, length - 0.3, 1.0)
        for e in [s + 0.5]
    ]  # fmt: skip
    return shapely.intersection(shapely.union_all(stripes), area)

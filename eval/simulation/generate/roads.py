"""Builds the road map of a town: roads with lanes, junctions with connectors, parking strips.

Traffic keeps right. A road has a reference line; its forward lanes lie to the right of it
(index 0 next to the line), its backward lanes to the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from scipy.interpolate import CubicSpline

from eval.simulation.generate.curves import Path, connector_points
from perception.road_map import Lane, RoadMap

STRIP_TAPER = 4.0  # m, length over which a parking strip opens and closes


@dataclass
class Road:
    """A road between two junctions (or the town's edge): reference line and cross-section, metres."""

    name: str
    line: Path
    start: float
    end: float
    forward: int
    backward: int
    width: float

    @property
    def left_edge(self) -> float:
        """Offset of the left edge of the lanes from the reference line."""
        return self.backward * self.width

    @property
    def right_edge(self) -> float:
        """Offset (negative) of the right edge of the lanes."""
        return -self.forward * self.width


@dataclass
class TownBuilder:
    """Collects roads and junctions; `finish` returns the RoadMap."""

    name: str
    lanes: dict[str, Lane] = field(default_factory=dict)
    roads: dict[str, Road] = field(default_factory=dict)
    surfaces: list[shapely.Geometry] = field(default_factory=list)
    dividers: list[np.ndarray] = field(default_factory=list)
    crossings: list[np.ndarray] = field(default_factory=list)
    stop_lines: list[np.ndarray] = field(default_factory=list)

    def add_road(
        self,
        name: str,
        line: Path,
        start: float,
        end: float,
        *,
        forward: int = 1,
        backward: int = 1,
        width: float,
        speed: float,
        priority: int = 1,
    ) -> Road:
        """Lanes ``name:f0…`` and ``name:b0…`` along the reference line from `start` to `end` (m)."""
        road = Road(name, line, start, end, forward, backward, width)
        stations = np.linspace(start, end, max(round(end - start), 4) + 1)
        for direction, count in (("f", forward), ("b", backward)):
            for i in range(count):
                offset = (-1 if direction == "f" else 1) * (i + 0.5) * width
                center = line.point(stations, np.full(len(stations), offset))
                surface = strip(line, stations, offset - width / 2, offset + width / 2)
                lane = Lane(
                    f"{name}:{direction}{i}", center if direction == "f" else center[::-1].copy(), surface, speed,
                    left=f"{name}:{direction}{i - 1}" if i else None,
                    right=f"{name}:{direction}{i + 1}" if i + 1 < count else None,
                    priority=priority,
                )  # fmt: skip
                self.lanes[lane.id] = lane
        for offset in np.arange(-forward + (not backward), backward + (forward > 0 and backward > 0)):
            if -forward < offset < backward:
                self.dividers.append(line.point(stations, np.full(len(stations), offset * width)))
        self.surfaces.append(strip(line, stations, road.right_edge, road.left_edge))
        self.roads[name] = road
        return road

    def add_parking(self, road: str, side: str, start: float, end: float, depth: float) -> None:
        """A parking strip (m) along the road's left or right edge, with tapered ends; drivable, no lane."""
        r = self.roads[road]
        sign, edge = (1.0, r.left_edge) if side == "left" else (-1.0, r.right_edge)
        stations = np.concatenate(
            [[start - STRIP_TAPER], np.linspace(start, end, 2 + int(end - start)), [end + STRIP_TAPER]]
        )
        outer = np.full(len(stations), edge + sign * depth)
        outer[[0, -1]] = edge
        inner = r.line.point(stations, np.full(len(stations), edge - sign * 0.01))
        self.surfaces.append(shapely.make_valid(shapely.Polygon([*inner, *r.line.point(stations, outer)[::-1]])))

    def add_crossing(self, road: str, station: float, depth: float = 3.0) -> None:
        """Outline of a pedestrian crossing over the whole road at the station (m)."""
        r = self.roads[road]
        s = station + depth / 2 * np.array([-1, 1, 1, -1, -1])
        d = np.array([r.right_edge, r.right_edge, r.left_edge, r.left_edge, r.right_edge])
        self.crossings.append(r.line.point(s, d))

    def connect(
        self, lane_in: str, lane_out: str, *, speed: float, priority: int = 1, width: float | None = None
    ) -> Lane:
        """A curvature-continuous connector from the end of one lane to the start of another."""
        a, b = self.lanes[lane_in], self.lanes[lane_out]
        pose_in, k_in = end_state(a.centerline, at_end=True)
        pose_out, k_out = end_state(b.centerline, at_end=False)
        path = Path(connector_points(pose_in, k_in, pose_out, k_out))
        stations = np.linspace(0.0, path.length, max(round(path.length), 4) + 1)
        half = (width or self._lane_width(lane_in)) / 2
        lane = Lane(
            f"{lane_in}>{lane_out}", path.point(stations), strip(path, stations, -half, half), speed,
            connector=True, predecessors=[lane_in], successors=[lane_out], priority=priority,
        )  # fmt: skip
        lane.centerline[0], lane.centerline[-1] = a.centerline[-1], b.centerline[0]
        a.successors.append(lane.id)
        b.predecessors.append(lane.id)
        self.lanes[lane.id] = lane
        self.surfaces.append(lane.polygon)
        return lane

    def join(self, lane_in: str, lane_out: str) -> None:
        """Make a lane continue in another that starts where it ends."""
        self.lanes[lane_in].successors.append(lane_out)
        self.lanes[lane_out].predecessors.append(lane_in)

    def add_junction(self, arms: Sequence[tuple[str, bool]], *, speed: float, yielding: Sequence[str] = ()) -> None:
        """Connect all roads that meet. `arms`: (road name, True where the road *ends* here).

        Straight: lane i to lane i. Left from the innermost lane, right from the outermost.
        Connectors of `yielding` roads and left turns get a lower priority; yielding roads get stop lines.
        """
        corners = []
        for name, ends_here in arms:
            road = self.roads[name]
            s = road.end if ends_here else road.start
            corners += [road.line.point(s, road.left_edge), road.line.point(s, road.right_edge)]
            if name in yielding:
                near = (road.right_edge, 0.0) if ends_here else (0.0, road.left_edge)
                self.stop_lines.append(np.stack([road.line.point(s, d) for d in near]))
        self.surfaces.append(shapely.MultiPoint(np.array(corners)).convex_hull)
        for name_in, ends_in in arms:
            entering = self._lanes_of(name_in, entering=True, ends_here=ends_in)
            for name_out, ends_out in arms:
                leaving = self._lanes_of(name_out, entering=False, ends_here=ends_out)
                if name_in == name_out or not entering or not leaving:
                    continue
                turn = _turn(self.lanes[entering[0]], self.lanes[leaving[0]])
                if abs(turn) < np.radians(35):
                    pairs = list(zip(entering, leaving))
                else:
                    pairs = [(entering[0], leaving[0])] if turn > 0 else [(entering[-1], leaving[-1])]
                slow = name_in in yielding
                for a, b in pairs:
                    rank = (0 if slow else 2) + (0 if turn > np.radians(35) else 1)
                    self.connect(a, b, speed=speed, priority=rank)

    def _lanes_of(self, road: str, *, entering: bool, ends_here: bool) -> list[str]:
        kind = "f" if entering == ends_here else "b"
        count = self.roads[road].forward if kind == "f" else self.roads[road].backward
        return [f"{road}:{kind}{i}" for i in range(count)]

    def _lane_width(self, lane: str) -> float:
        return self.roads[lane.split(":")[0]].width

    def finish(self) -> RoadMap:
        """The road map; the drivable area is the union of all surfaces."""
        drivable = shapely.union_all([s.buffer(0.01, join_style="mitre") for s in self.surfaces])
        return RoadMap(self.name, self.lanes, drivable, self.dividers, self.crossings, self.stop_lines)


def strip(line: Path, stations: np.ndarray, low: float, high: float) -> shapely.Polygon:
    """The surface between two offsets (m, left positive) of a curve."""
    one = np.ones(len(stations))
    edges = [line.point(stations, one * low), line.point(stations, one * high)[::-1]]
    return shapely.Polygon(np.concatenate(edges))


def end_state(centerline: np.ndarray, at_end: bool) -> tuple[np.ndarray, float]:
    """Pose ``[3]`` and curvature (1/m) at one end of a centreline, from a spline through its last points."""
    points = centerline[-8:] if at_end else centerline[:8]
    chord = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    spline, u = CubicSpline(chord, points), chord[-1] if at_end else 0.0
    (x, y), (dx, dy), (ddx, ddy) = spline(u), spline(u, 1), spline(u, 2)
    return np.array([x, y, np.arctan2(dy, dx)]), float((dx * ddy - dy * ddx) / np.hypot(dx, dy) ** 3)


def _turn(lane_in: Lane, lane_out: Lane) -> float:
    """Heading change (rad) from the end of one lane to the start of another, in (-pi, pi]."""
    delta = end_state(lane_out.centerline, False)[0][2] - end_state(lane_in.centerline, True)[0][2]
    return float((delta + np.pi) % (2 * np.pi) - np.pi)

"""Towns: a main road with bends, side streets, parking strips; and the route through them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eval.simulation.generate.curves import Path, integrate_curvature
from eval.simulation.generate.roads import STRIP_TAPER, Road, TownBuilder
from perception.road_map import RoadMap

JUNCTION_REACH = 14.0  # m, from a junction's centre to where its arms begin
LOOK_BACK = 40.0  # m, route behind the ego's start
PARKING_DEPTH = 2.3  # m


@dataclass
class Parking:
    """A parking strip along the spine: side, stations from and to (m), depth (m)."""

    side: str
    start: float
    end: float
    depth: float = PARKING_DEPTH

    def covers(self, station: float) -> bool:
        """Whether the strip, tapers included, reaches along the station (m)."""
        return self.start - STRIP_TAPER <= station <= self.end + STRIP_TAPER


@dataclass
class Town:
    """A town and the way through it.

    spine: reference line of the main road; offsets are measured to its left. lane: offset of
    the ego's lane from it (m). route: path along the lane centrelines of `route_ids`.
    limit (m/s) and width (m, of a lane) hold along the whole route.
    """

    builder: TownBuilder
    spine: Path
    width: float
    limit: float
    forward: int
    backward: int
    lane: float
    route_ids: list[str]
    junctions: list[float] = field(default_factory=list)
    parking: list[Parking] = field(default_factory=list)
    _road: RoadMap | None = None
    _route: Path | None = None

    @property
    def road(self) -> RoadMap:
        """The finished map."""
        if self._road is None:
            self._road = self.builder.finish()
        return self._road

    @property
    def route(self) -> Path:
        """The route's centreline as a path."""
        if self._route is None:
            self._route = Path(route_points(self.builder, self.route_ids))
        return self._route

    def edge(self, side: str, station: float | None = None) -> float:
        """Offset of the drivable edge of the spine on one side; parking counts where it exists at the station."""
        sign, lanes = (1.0, self.backward) if side == "left" else (-1.0, self.forward)
        near = [p.depth for p in self.parking if p.side == side and (station is None or p.covers(station))]
        depth = max(near, default=0.0)
        return sign * (lanes * self.width + depth)

    def add_parking(self, parking: Parking) -> None:
        """Add a strip, cut where junctions are."""
        for road in [r for r in self.builder.roads.values() if r.name.startswith("main")]:
            start = max(parking.start, road.start + 6.0 + STRIP_TAPER)
            end = min(parking.end, road.end - 6.0 - STRIP_TAPER)
            if end - start > 8.0:
                self.builder.add_parking(road.name, parking.side, start, end, parking.depth)
                self.parking.append(Parking(parking.side, start, end, parking.depth))


def route_points(builder: TownBuilder, ids: list[str]) -> np.ndarray:
    """Centrelines of the lanes joined, ``[n, 2]``."""
    points = np.concatenate([builder.lanes[i].centerline for i in ids])
    keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 0.2])
    return points[keep]


def bent_line(rng: np.random.Generator, length: float, bend: float, start: np.ndarray | None = None) -> Path:
    """A road's reference line with smoothly varying curvature up to `bend` (1/m)."""
    if start is None:
        start = np.array([*rng.uniform(-500, 500, 2), rng.uniform(-np.pi, np.pi)])
    s = np.arange(0.0, length + 1.0)
    wave = rng.uniform(180.0, 320.0)
    curvature = bend * rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * s / wave + rng.uniform(0, 2 * np.pi))
    return Path(integrate_curvature(curvature, 1.0, start))


def spine_town(
    rng: np.random.Generator,
    name: str,
    *,
    length: float,
    limit: float,
    width: float,
    junctions: tuple[float, ...] = (),
    forward: int = 1,
    backward: int = 1,
    lane_index: int = 0,
    bend: float | None = None,
    side_length: float = 90.0,
    arms: tuple[str, ...] | None = None,
) -> Town:
    """A main road straight on through all junctions, with side streets.

    junctions: stations of their centres (m). arms: "left", "right" or "both" per junction, drawn if None.
    bend: largest curvature (1/m); by default one that can be driven at the speed limit.
    """
    bend = min(0.008, 1.3 / limit**2) if bend is None else bend
    reach = JUNCTION_REACH + 4.0 * (max(forward, backward) - 1)
    spine = bent_line(rng, length, bend)
    builder = TownBuilder(name)
    cuts = [0.0, *(c for j in junctions for c in (j - reach, j + reach)), spine.length]
    main = [
        builder.add_road(
            f"main{i}", spine, cuts[2 * i], cuts[2 * i + 1],
            forward=forward, backward=backward, width=width, speed=limit, priority=2,
        )
        for i in range(len(junctions) + 1)
    ]  # fmt: skip
    for i, station in enumerate(junctions):
        arm = arms[i] if arms else str(rng.choice(["left", "right", "both"]))
        sides = [side for side in ("left", "right") if arm in (side, "both")]
        streets = [
            add_side_street(rng, builder, spine, station, side, i, side_length, width, limit, reach) for side in sides
        ]
        joined = [(main[i].name, True), (main[i + 1].name, False), *((street.name, False) for street in streets)]
        builder.add_junction(joined, speed=limit, yielding=[street.name for street in streets])
    route = [f"main0:f{lane_index}"]
    for i in range(len(junctions)):
        route += [f"main{i}:f{lane_index}>main{i + 1}:f{lane_index}", f"main{i + 1}:f{lane_index}"]
    return Town(builder, spine, width, limit, forward, backward, -(lane_index + 0.5) * width, route, list(junctions))


def add_side_street(
    rng: np.random.Generator,
    builder: TownBuilder,
    spine: Path,
    station: float,
    side: str,
    index: int,
    length: float,
    width: float,
    limit: float,
    reach: float = JUNCTION_REACH,
) -> Road:
    """A street that leaves the junction at the station to one side, nearly at right angles."""
    pose = spine.pose(station)
    heading = pose[2] + (np.pi / 2 if side == "left" else -np.pi / 2) + rng.uniform(-0.12, 0.12)
    start = np.array([*(pose[:2] + reach * np.array([np.cos(heading), np.sin(heading)])), heading])
    line = bent_line(rng, length, 0.004, start)
    return builder.add_road(f"side{index}{side[0]}", line, 0.0, line.length, width=width, speed=min(limit, 10.0))

"""Where the generated towns lie: side by side on the canvases of the four names that the devkit accepts as maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from perception.recording import Recording
from perception.road_map import Lane, RoadMap

LOCATIONS = {
    "train": ("boston-seaport", "singapore-onenorth"),
    "val": ("singapore-queenstown", "singapore-hollandvillage"),
}
"""Maps of the towns of each split: no map holds towns of both."""
MARGIN = 60.0
"""m around each town."""


@dataclass(frozen=True)
class Place:
    """A town on a canvas. location: name of the map. move ``[2]``: metres to add to the generated coordinates."""

    location: str
    move: tuple[float, float]


def place_towns(bounds: list[tuple[float, float, float, float]], splits: list[str]) -> list[Place]:
    """Places for towns with bounds (x from, y from, x to, y to), without overlap, rows from the bottom of each canvas.

    splits: of each town. Raises ValueError for an unknown split.
    """
    if unknown := set(splits) - set(LOCATIONS):
        raise ValueError(f"split: expected one of {', '.join(LOCATIONS)}, got {sorted(unknown)}")
    places: dict[int, Place] = {}
    for split, locations in LOCATIONS.items():
        mine = [i for i, s in enumerate(splits) if s == split]
        for turn, location in enumerate(locations):
            places |= _shelves(location, {i: bounds[i] for i in mine[turn :: len(locations)]})
    return [places[i] for i in range(len(bounds))]


def _shelves(location: str, bounds: dict[int, tuple[float, float, float, float]]) -> dict[int, Place]:
    size = {i: (np.array(b[2:]) - b[:2] + 2 * MARGIN) for i, b in bounds.items()}
    width = max([np.sqrt(sum(s.prod() for s in size.values())), *(s[0] for s in size.values())], default=0.0)
    x = y = row = 0.0
    out = {}
    for i, (w, h) in size.items():
        if x + w > width + 1e-9:
            x, y, row = 0.0, y + row, 0.0
        move = np.round([x + MARGIN - bounds[i][0], y + MARGIN - bounds[i][1]])
        out[i] = Place(location, (float(move[0]), float(move[1])))
        x, row = x + w, max(row, h)
    return out


def moved_recording(recording: Recording, move: tuple[float, float]) -> Recording:
    """The same drive elsewhere: everything moved by `move` (m)."""
    d = np.array(move)
    still = np.array([*move, 0.0])
    shift = lambda geometry: shapely.transform(geometry, lambda xy: xy + d)  # noqa: E731
    road = recording.road
    lanes: dict[str, Lane] = {
        name: replace(lane, centerline=lane.centerline + d, polygon=shift(lane.polygon))
        for name, lane in road.lanes.items()
    }
    lines = {kind: [xy[:, :2] + d for xy in getattr(road, kind)] for kind in ("dividers", "crossings", "stop_lines")}
    road = RoadMap(road.name, lanes, shift(road.drivable), **lines, repairs=list(road.repairs))
    ego, agents = recording.ego, recording.agents
    return replace(
        recording,
        road=road,
        ego=replace(ego, pose=ego.pose + still),
        agents=replace(agents, pose=agents.pose + still),
        route_xy=recording.route_xy + d,
    )


def with_crossings(
    recording: Recording, rng: np.random.Generator, every: float = 90.0, depth: float = 3.0
) -> Recording:
    """The drive on a road with more pedestrian crossings painted on it: none nearer than half of
    `every` m to another.

    They cover the whole drivable width and keep clear of junctions and of each other. Nobody in the drive knows them.
    """
    road = recording.road
    crossings = [np.asarray(c) for c in road.crossings]
    junctions = shapely.union_all([lane.polygon for lane in road.lanes.values() if lane.connector]).buffer(4.0)
    for lane in road.lanes.values():
        if lane.connector or lane.length < 30.0:
            continue
        for station in np.arange(rng.uniform(12.0, every), lane.length - 12.0, every):
            k = int(np.searchsorted(lane.arc_length, station).clip(1, len(lane.centerline) - 1))
            outline = _across(road, lane.centerline[k], float(lane.heading[k]), depth)
            if outline is None:
                continue
            area = shapely.Polygon(outline)
            clear = not any(shapely.Polygon(c).distance(area) < every / 2 for c in crossings if len(c) >= 4)
            if clear and not junctions.intersects(area):
                crossings.append(outline)
    return replace(recording, road=replace(road, crossings=crossings))


def _across(road: RoadMap, middle: np.ndarray, heading: float, depth: float) -> np.ndarray | None:
    """Outline ``[5, 2]`` from edge to edge of the drivable area through a point; None where it is wider than 20 m."""
    along, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    line = shapely.LineString([middle - 20.0 * left, middle + 20.0 * left])
    parts = [p for p in shapely.get_parts(line.intersection(road.drivable)) if p.distance(shapely.Point(middle)) < 0.1]
    if not parts:
        return None
    ends = (np.array(parts[0].coords)[:, :2] - middle) @ left
    low, high = float(ends.min()), float(ends.max())
    if high - low > 19.0 or max(-low, high) > 19.5:
        return None
    sides = np.array([[-1, low], [1, low], [1, high], [-1, high], [-1, low]])
    return middle + np.outer(sides[:, 0] * depth / 2, along) + np.outer(sides[:, 1], left)

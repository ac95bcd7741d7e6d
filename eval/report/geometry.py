"""The neighbourhood of a drive, as the report draws it: written once per scenario next to the traces.

A data set's map is far larger than what a drive touches, and the report must open without the data
set. So the map is clipped to a tube around the driven track and the route, and thinned to what a
picture can show.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from perception.recording import Recording

GEOMETRY_SCHEMA = 1
AROUND = 70.0  # m, how far from the track and the route the map is kept
OUTLINE_TOLERANCE = 0.05  # m, of the thinned outlines: below one pixel at the closest zoom
LINE_TOLERANCE = 0.02  # m, of centrelines and the route
DECIMALS = 3

_LINE_LAYERS = ("drivable", "lanes", "dividers", "crossings", "stop_lines")
_EXPERT = ("time", "pose", "v", "a", "curvature")


@dataclass
class SceneGeometry:
    """What lies around one drive. Global frame, SI.

    drivable: closed rings ``[n, 2]`` of the drivable area, outer rings and holes alike (filled even-odd).
    lanes: centrelines ``[n, 2]`` in driving direction; lane_connector ``[L]`` bool; lane_limit ``[L]`` m/s.
    dividers, crossings, stop_lines: ``[n, 2]`` each. route ``[n, 2]``; route_limit ``[n]`` m/s, NaN where
    no lane lies under the route.
    expert: recorded driver, time ``[T]``, pose ``[T, 3]`` (rear axle), v, a, curvature ``[T]``.
    vehicle: length, width, rear_axle_to_center (m). metadata: of the recording, as far as JSON can hold it.
    """

    scenario: str
    source: str
    drivable: list[np.ndarray]
    lanes: list[np.ndarray]
    lane_connector: np.ndarray
    lane_limit: np.ndarray
    dividers: list[np.ndarray]
    crossings: list[np.ndarray]
    stop_lines: list[np.ndarray]
    route: np.ndarray
    route_limit: np.ndarray
    expert: dict[str, np.ndarray]
    vehicle: tuple[float, float, float]
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_recording(cls, recording: Recording, around: float = AROUND) -> SceneGeometry:
        """Clip the recording's map to `around` metres beside its track and its route."""
        road, ego = recording.road, recording.ego
        window = shapely.union_all([_line(ego.pose[:, :2]).buffer(around), _line(recording.route_xy).buffer(around)])
        shapely.prepare(window)
        near = [lane for lane in road.lanes.values() if window.intersects(_line(lane.centerline))]
        pieces = [(part, lane) for lane in near for part in _clip([lane.centerline], window)]
        route = _thin(recording.route_xy)
        vehicle = recording.vehicle
        return cls(
            scenario=recording.name,
            source=recording.source,
            drivable=_rings(shapely.intersection(road.drivable, window)),
            lanes=[part for part, _ in pieces],
            lane_connector=np.array([lane.connector for _, lane in pieces], bool),
            lane_limit=np.array([lane.speed_limit for _, lane in pieces], float),
            dividers=_clip(road.dividers, window),
            crossings=_clip(road.crossings, window),
            stop_lines=_clip(road.stop_lines, window),
            route=route,
            route_limit=_route_limit(recording, route),
            expert={"time": recording.time, "pose": ego.pose, "v": ego.v, "a": ego.a, "curvature": ego.curvature},
            vehicle=(vehicle.length, vehicle.width, vehicle.rear_axle_to_center),
            metadata=json.loads(json.dumps(recording.metadata, default=str)),
        )

    def limit_along(self, xy: np.ndarray) -> np.ndarray:
        """Speed limit (m/s, ``[T]``) at the route point nearest to each of the points ``[T, 2]``."""
        if not len(self.route) or not len(xy):
            return np.full(len(xy), np.nan)
        along = shapely.line_locate_point(_line(self.route), shapely.points(xy))
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.route, axis=0), axis=1))])
        return self.route_limit[np.clip(np.searchsorted(arc, along, side="right") - 1, 0, len(arc) - 1)]


def save_geometry(recording: Recording, path: Path) -> Path:
    """Write ``recordings/<scenario>.npz``: under its final name only when complete."""
    geometry = SceneGeometry.from_recording(recording)
    arrays: dict[str, np.ndarray] = {
        "lane_connector": geometry.lane_connector,
        "lane_limit": geometry.lane_limit,
        "route": geometry.route.round(DECIMALS),
        "route_limit": geometry.route_limit,
        "vehicle": np.array(geometry.vehicle),
    }
    for name in _LINE_LAYERS:
        lines = getattr(geometry, name)
        arrays[f"{name}_count"] = np.array([len(line) for line in lines], np.int64)
        arrays[f"{name}_xy"] = np.concatenate([*lines, np.zeros((0, 2))]).round(DECIMALS)
    arrays |= {f"expert_{name}": geometry.expert[name].round(6) for name in _EXPERT}
    meta = {"schema": GEOMETRY_SCHEMA, "scenario": geometry.scenario, "source": geometry.source}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    with open(partial, "wb") as file:
        np.savez_compressed(file, meta=json.dumps({**meta, "metadata": geometry.metadata}), **arrays)
    return partial.replace(path)


def load_geometry(path: Path) -> SceneGeometry:
    """Inverse of `save_geometry`. Raises ValueError on another schema version."""
    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
        if meta.get("schema") != GEOMETRY_SCHEMA:
            raise ValueError(f"{path}: geometry schema {meta.get('schema')}, expected {GEOMETRY_SCHEMA}")
        layers = {
            name: np.split(stored[f"{name}_xy"], np.cumsum(stored[f"{name}_count"])[:-1])
            if len(stored[f"{name}_count"])
            else []
            for name in _LINE_LAYERS
        }
        length, width, rear_axle_to_center = (float(value) for value in stored["vehicle"])
        return SceneGeometry(
            scenario=meta["scenario"],
            source=meta["source"],
            metadata=meta["metadata"],
            lane_connector=stored["lane_connector"],
            lane_limit=stored["lane_limit"],
            route=stored["route"],
            route_limit=stored["route_limit"],
            expert={name: stored[f"expert_{name}"] for name in _EXPERT},
            vehicle=(length, width, rear_axle_to_center),
            **layers,
        )


def _line(xy: np.ndarray) -> BaseGeometry:
    """A line string; a single point where all points coincide (an ego that never moves)."""
    return shapely.LineString(xy) if len(xy) > 1 else shapely.Point(xy[0])


def _thin(xy: np.ndarray, tolerance: float = LINE_TOLERANCE) -> np.ndarray:
    return shapely.get_coordinates(shapely.LineString(xy).simplify(tolerance)) if len(xy) > 2 else xy


def _clip(lines: list[np.ndarray], window: BaseGeometry) -> list[np.ndarray]:
    """The pieces of the polylines inside the window, thinned."""
    found = []
    for line in lines:
        if len(line) < 2:
            continue
        for part in shapely.get_parts(shapely.intersection(shapely.LineString(line), window)):
            if part.geom_type == "LineString" and part.length > 0.0:
                found.append(_thin(shapely.get_coordinates(part)))
    return found


def _rings(area: BaseGeometry) -> list[np.ndarray]:
    """All rings of the polygons in a geometry, thinned; lines and points in it are dropped."""
    polygons = [part for part in shapely.get_parts(area) if part.geom_type == "Polygon"]
    if not polygons:
        return []
    thinned = shapely.get_parts(shapely.union_all(polygons).simplify(OUTLINE_TOLERANCE))
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(thinned)]


def _route_limit(recording: Recording, route: np.ndarray) -> np.ndarray:
    """``[n]`` m/s from the route's own lane nearest to each route point; NaN beyond 5 m of all of them."""
    lanes = [recording.road.lanes[i] for i in recording.route if i in recording.road.lanes]
    limit = np.full(len(route), np.nan)
    if not lanes:
        return limit
    lines = np.array([_line(lane.centerline) for lane in lanes])
    speed = np.array([lane.speed_limit for lane in lanes])
    for index, point in enumerate(shapely.points(route)):
        distance = shapely.distance(lines, point)
        if distance.min() < 5.0:
            limit[index] = speed[distance.argmin()]
    return limit

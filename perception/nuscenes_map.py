"""Map expansion -> RoadMap: lanes and connectors near a drive, their graph repaired, the drivable area.

nuScenes states no speed limits. Every lane gets the city's default (`CITY_SPEED_LIMIT`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from perception.nuscenes_tables import INSTALL_FIX, DatasetError, quiet_devkit, read_json
from perception.polyline import resample, without_repeats, wrap
from perception.road_map import Lane, RoadMap

CITY_SPEED_LIMIT = {"boston": 13.4, "singapore": 13.9}  # m/s: 30 mph (25 mph posted in parts), 50 km/h
OTHER_SPEED_LIMIT = 13.9  # m/s

LINK_GAP_MAX = 3.0  # m between the end of a lane and the start of a listed successor
MEND_GAP = 1.0  # m, to link the open end of a lane to a start that is not listed
MEND_ANGLE = np.deg2rad(20)


def map_path(dataroot: str | Path, location: str) -> Path:
    """Where the map expansion of a location lies."""
    return Path(dataroot) / "maps" / "expansion" / f"{location}.json"


def speed_limit_of(location: str) -> float:
    """Default limit (m/s) of the location's city."""
    return next((v for city, v in CITY_SPEED_LIMIT.items() if location.startswith(city)), OTHER_SPEED_LIMIT)


def load_road(dataroot: str | Path, location: str, track: np.ndarray, margin: float = 400.0) -> RoadMap:
    """The road within `margin` (m) of the bounding box of the track ``[n, 2]``.

    Raises DatasetError: no map expansion, unreadable or outdated file, no lanes near the track.
    """
    expansion = _open_expansion(dataroot, location)
    window = shapely.box(*(track.min(0) - margin), *(track.max(0) + margin))
    repairs: list[str] = []
    lanes = _lanes(expansion, window, speed_limit_of(location), repairs)
    if not lanes:
        message = f"{map_path(dataroot, location)} has no lane within {margin:.0f} m of the drive"
        raise DatasetError(message, "the map does not cover this drive: check that map and tables belong together")
    link(lanes, expansion.connectivity, repairs)
    find_neighbours(lanes)
    road = RoadMap(
        name=location,
        lanes=lanes,
        drivable=_drivable(expansion, window, lanes, repairs),
        dividers=_lines(expansion, window),
        crossings=[np.asarray(p.exterior.coords) for p in _polygons(expansion, "ped_crossing", window, repairs)],
        stop_lines=[_middle_line(p) for p in _polygons(expansion, "stop_line", window, repairs)],
        repairs=repairs,
    )
    ends = sum(not lane.successors and not _listed(expansion.connectivity, lane.id) for lane in lanes.values())
    if ends:
        road.repairs.append(f"{ends} of {len(lanes)} lanes have no successor, in the map or near their end")
    return road


def _open_expansion(dataroot: str | Path, location: str) -> Any:
    path = map_path(dataroot, location)
    if not path.is_file():
        fix = 'get the map expansion v1.3 and unpack it under maps/, or pass missing_map="corridor"'
        raise DatasetError(f"no map expansion for {location}: {path} is missing", fix)
    stat = path.stat()
    return _read_expansion(str(dataroot), location, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=2)
def _read_expansion(dataroot: str, location: str, stamp: tuple[int, ...]) -> Any:
    path = map_path(dataroot, location)
    try:
        with quiet_devkit():
            from nuscenes.map_expansion.map_api import NuScenesMap
    except ImportError as error:
        raise DatasetError(f"nuscenes-devkit cannot be imported: {error}", INSTALL_FIX) from error
    try:
        with quiet_devkit():
            return NuScenesMap(dataroot=dataroot, map_name=location)
    except Exception as error:
        read_json(path)
        message = f"nuscenes-devkit cannot read {path}: {type(error).__name__}: {error}"
        raise DatasetError(message, "get the map expansion v1.3 again; older versions do not load") from error


def _lanes(expansion: Any, window: BaseGeometry, speed_limit: float, repairs: list[str]) -> dict[str, Lane]:
    from nuscenes.map_expansion.arcline_path_utils import discretize_lane

    lanes, without_line, without_polygon = {}, 0, 0
    for layer in ("lane", "lane_connector"):
        for record in getattr(expansion, layer):
            token = record["token"]
            polygon = _polygon(expansion, record.get("polygon_token"))
            if polygon is not None and not polygon.intersects(window):
                continue
            pieces = expansion.arcline_path_3.get(token)
            poses = discretize_lane(pieces, resolution_meters=1.0) if pieces else []
            line = np.asarray(poses, float).reshape(-1, 3)[:, :2]
            if not len(line) or not np.isfinite(line).all() or len(line := without_repeats(line, 0.05)) < 2:
                without_line += 1
                continue
            if polygon is None:
                polygon = shapely.LineString(line).buffer(1.75, cap_style="flat")
                without_polygon += 1
            if polygon.intersects(window):
                lanes[token] = Lane(token, resample(line), polygon, speed_limit, connector=layer == "lane_connector")
    if without_line:
        repairs.append(f"{without_line} lanes have no centreline and are left out")
    if without_polygon:
        repairs.append(f"{without_polygon} lanes have no usable polygon: their centreline is widened by 1.75 m")
    return lanes


def _polygon(expansion: Any, token: str | None) -> BaseGeometry | None:
    """A valid, non-empty polygon or multipolygon, or None."""
    try:
        with quiet_devkit():
            shape = expansion.extract_polygon(token)
    except Exception:
        return None
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
        shape = shapely.union_all([g for g in shapely.get_parts(shape) if g.geom_type.endswith("Polygon")])
    return None if shape.is_empty or shape.area < 1e-3 else shape


def _listed(connectivity: Any, lane: str) -> list[str]:
    """Successors the map lists for a lane, each once."""
    record = connectivity.get(lane) if isinstance(connectivity, dict) else None
    return list(dict.fromkeys((record or {}).get("outgoing", [])))


def link(lanes: dict[str, Lane], connectivity: dict[str, Any], repairs: list[str]) -> None:
    """Fill successors and predecessors in place; drop impossible links, mend missing ones, note both."""
    for lane in lanes.values():
        for after in _listed(connectivity, lane.id):
            if after not in lanes or after == lane.id:
                continue
            gap = float(np.hypot(*(lanes[after].centerline[0] - lane.centerline[-1])))
            if gap > LINK_GAP_MAX:
                repairs.append(f"link {lane.id} -> {after} dropped: its ends are {gap:.1f} m apart")
            else:
                lane.successors.append(after)
    ids = list(lanes)
    starts = cKDTree([lanes[i].centerline[0] for i in ids])
    first = np.array([lanes[i].heading[0] for i in ids])
    for lane in lanes.values():
        if lane.successors or set(_listed(connectivity, lane.id)) - {lane.id}:
            continue
        near = starts.query_ball_point(lane.centerline[-1], MEND_GAP)
        for k in sorted(near):
            if ids[k] != lane.id and abs(wrap(first[k] - lane.heading[-1])) < MEND_ANGLE:
                lane.successors.append(ids[k])
                repairs.append(f"link {lane.id} -> {ids[k]} added: their ends meet but the map does not list it")
    for lane in lanes.values():
        for after in lane.successors:
            lanes[after].predecessors.append(lane.id)


def find_neighbours(lanes: dict[str, Lane]) -> None:
    """Fill left and right in place: the lane beside most of this one that runs the same way.

    Sideways 2 to 5.5 m away, heading within 20 degrees, along at least half of the shorter lane;
    lanes pair with lanes, connectors with connectors.
    """
    ids = list(lanes)
    points = np.concatenate([lanes[i].centerline for i in ids])
    angle = np.concatenate([lanes[i].heading for i in ids])
    owner = np.repeat(np.arange(len(ids)), [len(lanes[i].centerline) for i in ids])
    connector = np.array([lanes[i].connector for i in ids])
    pairs = cKDTree(points).query_pairs(5.6, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    a, b = pairs.T
    different = (owner[a] != owner[b]) & (connector[owner[a]] == connector[owner[b]])
    a, b = a[different], b[different]
    step = points[b] - points[a]
    forward = np.cos(angle[a]) * step[:, 0] + np.sin(angle[a]) * step[:, 1]
    sideways = -np.sin(angle[a]) * step[:, 0] + np.cos(angle[a]) * step[:, 1]
    beside = (np.abs(forward) < 0.8) & (np.abs(wrap(angle[a] - angle[b])) < np.deg2rad(20))
    beside &= (np.abs(sideways) > 2.0) & (np.abs(sideways) < 5.5)
    a, b, sideways = a[beside], b[beside], sideways[beside]
    if not len(a):
        return
    couples, member = np.unique(np.stack([owner[a], owner[b], sideways > 0], 1), axis=0, return_inverse=True)
    distance = np.bincount(member, np.abs(sideways)) / np.bincount(member)
    places = np.unique(np.stack([member, a], 1), axis=0)[:, 0]
    covered = np.bincount(places, minlength=len(couples))
    size = np.array([len(lanes[i].centerline) for i in ids])
    enough = covered >= 0.5 * np.minimum(size[couples[:, 0]], size[couples[:, 1]])
    for k in np.lexsort((-covered, np.rint(distance)))[::-1]:  # the nearest comes last and stays
        if enough[k]:
            lane, other, left = couples[k]
            setattr(lanes[ids[lane]], "left" if left else "right", ids[other])


def _polygons(expansion: Any, layer: str, window: BaseGeometry, repairs: list[str]) -> list[shapely.Polygon]:
    """Single polygons of a layer that reach into the window."""
    out: list[shapely.Polygon] = []
    for record in getattr(expansion, layer, []):
        tokens = record.get("polygon_tokens") or [record.get("polygon_token")]
        for token in tokens:
            shape = _polygon(expansion, token)
            if shape is None:
                repairs.append(f"{layer} {record['token']} has no usable polygon and is left out")
            elif shape.intersects(window):
                out.extend(p for p in shapely.get_parts(shape) if p.geom_type == "Polygon")
    return out


def _drivable(expansion: Any, window: BaseGeometry, lanes: dict[str, Lane], repairs: list[str]) -> BaseGeometry:
    parts = [p.intersection(window) for p in _polygons(expansion, "drivable_area", window, repairs)]
    if not parts:
        repairs.append("the drivable area is empty here: the union of all lanes is used")
        parts = [lane.polygon for lane in lanes.values()]
    return shapely.union_all(parts)


def _lines(expansion: Any, window: BaseGeometry) -> list[np.ndarray]:
    out = []
    for layer in ("road_divider", "lane_divider"):
        for record in getattr(expansion, layer, []):
            try:
                shape = expansion.extract_line(record["line_token"])
            except Exception:
                continue
            for piece in shapely.get_parts(shape.intersection(window)):
                if piece.geom_type == "LineString" and piece.length > 0.1:
                    out.append(np.asarray(piece.coords)[:, :2])
    return out


def _middle_line(polygon: shapely.Polygon) -> np.ndarray:
    """``[2, 2]``: the long middle axis of a stop line, which nuScenes draws as an area."""
    corners = np.asarray(polygon.minimum_rotated_rectangle.exterior.coords)[:4]
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    k = 1 if sides[0] >= sides[1] else 0
    return np.stack([(corners[k] + corners[k + 1]) / 2, (corners[k + 2] + corners[(k + 3) % 4]) / 2])

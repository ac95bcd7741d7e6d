"""A road as the layers of the nuScenes map expansion 1.3."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from eval.simulation.record.arclines import arcline_path
from eval.simulation.record.schema import token
from eval.simulation.sensing.lane_paint import sorted_dividers
from eval.simulation.sensing.street import PAVEMENT
from perception.road_map import RoadMap

VERSION = "1.3"
LISTS = (
    "polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane", "ped_crossing", "walkway",
    "stop_line", "carpark_area", "road_divider", "lane_divider", "traffic_light", "lane_connector",
)  # fmt: skip
SIMPLER = 0.01
"""m: how far an outline may be moved to save points."""

Layers = dict[str, Any]


def town_layers(road: RoadMap, name: str) -> Layers:
    """All layers of one town. name: unique among the towns of a map; part of every token."""
    return _Town(name).written(road)


def joined(parts: list[Layers], canvas: tuple[float, float]) -> Layers:
    """One map of several towns. canvas: width and height (m)."""
    out: Layers = {"version": VERSION, "canvas_edge": list(canvas)}
    out |= {layer: [record for part in parts for record in part[layer]] for layer in LISTS}
    out |= {
        layer: {k: v for part in parts for k, v in part[layer].items()} for layer in ("arcline_path_3", "connectivity")
    }
    return out


def drivable_area(part: Layers) -> BaseGeometry:
    """The drivable area that a town's layers describe."""
    node = {record["token"]: (record["x"], record["y"]) for record in part["node"]}
    polygon = {record["token"]: record for record in part["polygon"]}
    shapes = []
    for area in part["drivable_area"]:
        for outline in (polygon[t] for t in area["polygon_tokens"]):
            holes = [[node[t] for t in hole["node_tokens"]] for hole in outline["holes"]]
            shapes.append(shapely.Polygon([node[t] for t in outline["exterior_node_tokens"]], holes))
    return shapely.union_all(shapes)


class _Town:
    """Collects the records of one town."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: Layers = {layer: [] for layer in LISTS} | {"arcline_path_3": {}, "connectivity": {}}

    def written(self, road: RoadMap) -> Layers:
        everywhere = shapely.box(*road.drivable.buffer(1.0).bounds)
        area = road.drivable.simplify(SIMPLER)
        self._add("drivable_area", polygon_tokens=self._polygons(area))
        crossing_lanes = shapely.union_all([lane.polygon for lane in road.lanes.values() if lane.connector])
        for junction in _parts(crossing_lanes.buffer(0.05)):
            self._area("road_segment", junction, is_intersection=True, drivable_area_token=None)
        for stretch in _parts(shapely.union_all([n.polygon for n in road.lanes.values() if not n.connector])):
            self._area("road_segment", stretch, is_intersection=False, drivable_area_token=None)
        for walkway in _parts(area.buffer(PAVEMENT).difference(area.buffer(0.01))):
            self._area("walkway", walkway)
        for outline in road.crossings:
            if len(outline) >= 4:
                self._area("ped_crossing", shapely.make_valid(shapely.Polygon(outline[:, :2])), road_segment_token=None)
        for line in road.stop_lines:
            surface = shapely.LineString(line[:, :2]).buffer(0.3, cap_style="flat")
            cues: dict[str, Any] = {"ped_crossing_tokens": [], "traffic_light_tokens": [], "road_block_token": None}
            self._area("stop_line", surface, stop_line_type="STOP_SIGN", **cues)
        between, within = sorted_dividers(road, everywhere)
        for divider in between:
            self._add("road_divider", line_token=self._line(divider), road_segment_token=None)
        for divider in within:
            self._add("lane_divider", line_token=self._line(divider), lane_divider_segments=[])
        self._lanes(road)
        return self.layers

    def _lanes(self, road: RoadMap) -> None:
        known = {lane: token("lane", self.name, lane) for lane in road.lanes}
        for lane in road.lanes.values():
            own = known[lane.id]
            surface = max(_parts(lane.polygon), key=lambda part: part.area)
            record: dict[str, Any] = {"token": own, "polygon_token": self._polygon(surface)}
            if not lane.connector:
                ends = _ends(lane.centerline)
                record |= {"lane_type": "CAR", "from_edge_line_token": self._line(ends[0]),
                           "to_edge_line_token": self._line(ends[1]), "left_lane_divider_segments": [],
                           "right_lane_divider_segments": []}  # fmt: skip
            self.layers["lane_connector" if lane.connector else "lane"].append(record)
            self.layers["arcline_path_3"][own] = arcline_path(lane.centerline)
            self.layers["connectivity"][own] = {
                "incoming": [known[i] for i in lane.predecessors if i in known],
                "outgoing": [known[i] for i in lane.successors if i in known],
            }

    def _add(self, layer: str, **fields: Any) -> None:
        self.layers[layer].append({"token": token(layer, self.name, len(self.layers[layer])), **fields})

    def _area(self, layer: str, shape: BaseGeometry, **fields: Any) -> None:
        for part in _parts(shape):
            self._add(layer, polygon_token=self._polygon(part), **fields)

    def _polygons(self, shape: BaseGeometry) -> list[str]:
        return [self._polygon(part) for part in _parts(shape)]

    def _polygon(self, part: BaseGeometry) -> str:
        part = part.simplify(SIMPLER)
        own = token("polygon", self.name, len(self.layers["polygon"]))
        holes = [{"node_tokens": self._nodes(ring.coords[:-1])} for ring in part.interiors]
        exterior = self._nodes(part.exterior.coords[:-1])
        self.layers["polygon"].append({"token": own, "exterior_node_tokens": exterior, "holes": holes})
        return own

    def _line(self, line: BaseGeometry) -> str:
        own = token("line", self.name, len(self.layers["line"]))
        self.layers["line"].append({"token": own, "node_tokens": self._nodes(line.simplify(SIMPLER).coords)})
        return own

    def _nodes(self, points: Any) -> list[str]:
        first = len(self.layers["node"])
        found = [f"{self.name}-{first + i}" for i in range(len(points))]
        self.layers["node"] += [
            {"token": own, "x": round(float(p[0]), 4), "y": round(float(p[1]), 4)} for own, p in zip(found, points)
        ]
        return found


def _parts(shape: BaseGeometry) -> list[BaseGeometry]:
    """Polygons of some size in a geometry."""
    return [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area > 0.01]


def _ends(centerline: np.ndarray) -> list[shapely.LineString]:
    """Lines of 3 m across both ends of a lane."""
    out = []
    for point, beyond in ((centerline[0], centerline[1]), (centerline[-1], centerline[-2])):
        along = (beyond - point) / max(float(np.hypot(*(beyond - point))), 1e-9)
        left = np.array([-along[1], along[0]])
        out.append(shapely.LineString([point - 1.5 * left, point + 1.5 * left]))
    return out

"""The road map every part of the system shares: lanes, their graph and the drivable area.

Built by `perception.nuscenes` from the map expansion and by the town generator of the
simulation. Global frame, metres. numpy and shapely; no learned code, no data-set code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry


@dataclass
class Lane:
    """One lane or one connector through a junction.

    centerline: ``[n, 2]`` in driving direction, about 1 m apart.
    polygon: its surface. speed_limit (m/s). connector: lies in a junction.
    successors, predecessors: lane ids. left, right: id of the neighbouring lane of the same
    direction, or None. priority: larger goes first where lanes cross (0 = no information).
    """

    id: str
    centerline: np.ndarray
    polygon: BaseGeometry
    speed_limit: float
    connector: bool = False
    successors: list[str] = field(default_factory=list)
    predecessors: list[str] = field(default_factory=list)
    left: str | None = None
    right: str | None = None
    priority: int = 0

    @cached_property
    def arc_length(self) -> np.ndarray:
        """``[n]`` metres along the centreline."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.centerline, axis=0), axis=1))])

    @cached_property
    def heading(self) -> np.ndarray:
        """``[n]`` radians, direction of travel at each centreline point."""
        step = np.gradient(self.centerline, axis=0)
        return np.arctan2(step[:, 1], step[:, 0])

    @property
    def length(self) -> float:
        return float(self.arc_length[-1])


@dataclass
class RoadMap:
    """Lanes by id, drivable area, other line work.

    drivable: polygons (or a multipolygon) of surface a vehicle may touch.
    dividers, crossings, stop_lines: lists of ``[n, 2]`` polylines.
    repairs: what had to be mended when the map was read, one sentence each.
    """

    name: str
    lanes: dict[str, Lane]
    drivable: BaseGeometry
    dividers: list[np.ndarray] = field(default_factory=list)
    crossings: list[np.ndarray] = field(default_factory=list)
    stop_lines: list[np.ndarray] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)

    @cached_property
    def lane_ids(self) -> list[str]:
        """Fixed order of the lanes; a lane's index here is the integer id in `Route.lane_id`."""
        return list(self.lanes)

    @cached_property
    def _lane_tree(self) -> shapely.STRtree:
        return shapely.STRtree([self.lanes[i].polygon for i in self.lane_ids])

    @cached_property
    def prepared_drivable(self) -> BaseGeometry:
        """The drivable area, prepared for many containment tests."""
        shapely.prepare(self.drivable)
        return self.drivable

    def lanes_at(self, xy: np.ndarray, radius: float = 0.0) -> list[Lane]:
        """Lanes whose surface lies within `radius` (m) of the point ``[2]``."""
        point = shapely.Point(xy)
        found = self._lane_tree.query(point, predicate="dwithin", distance=max(radius, 1e-9))
        return [self.lanes[self.lane_ids[i]] for i in sorted(found)]

    def lanes_in_window(self, xy: np.ndarray, radius: float) -> list[Lane]:
        """Lanes that reach into the square of half-side `radius` (m) around the point."""
        box = shapely.box(xy[0] - radius, xy[1] - radius, xy[0] + radius, xy[1] + radius)
        return [self.lanes[self.lane_ids[i]] for i in sorted(self._lane_tree.query(box, predicate="intersects"))]

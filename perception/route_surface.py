"""What lies beside a route: how far the usable surface reaches on both sides, speed limits, junctions."""

from __future__ import annotations

import numpy as np
import shapely
import torch
from scipy.spatial import cKDTree

from perception.polyline import arc_length, heading, wrap
from perception.road_map import RoadMap
from planner.scene import Route

SIDE_MAX = 8.0  # m, left and right are capped here
ONCOMING_MAX = 8.0  # m of further surface of oncoming traffic
SAMPLE = 0.1  # m between the places looked at along a normal
SAME_DIRECTION = np.deg2rad(60)
ONCOMING_DIRECTION = np.deg2rad(120)


class RouteSurface:
    """Side ranges of a route, computed once per drive; `local` cuts out what the planner needs now.

    left, right ``[n]`` m: along the route's normal from the point to the end of the surface of this
    direction of travel: lanes within 60 degrees of the route's heading and drivable area that no
    other lane claims. In junctions (points on a connector) crossing lanes do not end it. At most 8 m.
    left_oncoming, right_oncoming ``[n]`` m: how much farther drivable surface reaches that lanes of
    the opposite direction (more than 120 degrees) claim; at most 8 m. The edge of the drivable area
    along the normal is never exceeded.
    speed_limit ``[n]`` m/s, lane_id ``[n]`` index in `road.lane_ids` (-1 where no lane of the route
    is near), junction ``[n]`` bool.
    """

    def __init__(self, road: RoadMap, route_ids: list[str], route_xy: np.ndarray) -> None:
        """route_xy ``[n, 2]``: centreline, global frame, about 1 m apart.

        Raises ValueError for fewer than 2 points.
        """
        xy = np.asarray(route_xy, dtype=float)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) < 2:
            raise ValueError(f"route_xy: expected [n >= 2, 2], got {xy.shape}")
        self.xy = xy
        self.s = arc_length(xy)
        self.heading = np.unwrap(heading(xy))
        self.lane_id = _lane_of(road, [i for i in route_ids if i in road.lanes], xy, self.heading)
        lanes = [road.lanes[name] for name in road.lane_ids]
        default = lanes[0].speed_limit if lanes else 13.9
        self.speed_limit = np.array([lanes[k].speed_limit if k >= 0 else default for k in self.lane_id])
        self.junction = np.array([k >= 0 and lanes[k].connector for k in self.lane_id], dtype=bool)
        claims = _Claims(road, xy)
        normal = np.stack([-np.sin(self.heading), np.cos(self.heading)], 1)
        self.left, self.left_oncoming = claims.reach(xy, self.heading, normal, self.junction)
        self.right, self.right_oncoming = claims.reach(xy, self.heading, -normal, self.junction)
        self._last: int | None = None

    def reset(self) -> None:
        """Forget the progress: the next `local` looks along the whole route."""
        self._last = None

    def nearest(self, xy: np.ndarray) -> int:
        """Index of the route point nearest to ``[2]`` without jumping to another pass of the same place."""
        distance = np.hypot(*(self.xy - xy).T)
        if self._last is not None:
            first = max(self._last - 30, 0)
            near = first + int(distance[first : self._last + 60].argmin())
            if distance[near] < 15.0:
                self._last = near
                return near
        self._last = int(distance.argmin())
        return self._last

    def local(self, ego_pose: np.ndarray, behind: float = 25.0, ahead: float = 150.0) -> Route:
        """The route from `behind` to `ahead` metres around the ego pose ``[3]``, in its ego frame, float64."""
        here = self.nearest(np.asarray(ego_pose[:2], dtype=float))
        first = int(np.searchsorted(self.s, self.s[here] - behind))
        last = int(np.searchsorted(self.s, self.s[here] + ahead, side="right"))
        first, last = min(first, len(self.s) - 2), max(last, first + 2)
        part = slice(first, last)
        c, s = np.cos(ego_pose[2]), np.sin(ego_pose[2])
        xy = (self.xy[part] - ego_pose[:2]) @ np.array([[c, -s], [s, c]])
        tensor = lambda values: torch.from_numpy(np.ascontiguousarray(values[part]))  # noqa: E731
        return Route(
            xy=torch.from_numpy(np.ascontiguousarray(xy)),
            speed_limit=tensor(self.speed_limit),
            lane_id=tensor(self.lane_id),
            left=tensor(self.left),
            right=tensor(self.right),
            left_oncoming=tensor(self.left_oncoming),
            right_oncoming=tensor(self.right_oncoming),
            junction=tensor(self.junction),
            valid=torch.ones(len(xy), dtype=torch.bool),
        )


def _lane_of(road: RoadMap, ids: list[str], xy: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """``[n]`` int64: the nearest lane of the route within 4 m that runs the same way, else of any lane
    within 2 m (the route starts before its first lane), else -1."""
    index = {name: k for k, name in enumerate(road.lane_ids)}
    out = _nearest_lane(road, ids, index, xy, angle, within=4.0)
    rest = np.flatnonzero(out < 0)
    if len(rest):
        center = (xy[rest].min(0) + xy[rest].max(0)) / 2
        near = road.lanes_in_window(center, float(np.abs(xy[rest] - center).max()) + 5.0)
        out[rest] = _nearest_lane(road, [lane.id for lane in near], index, xy[rest], angle[rest], within=2.0)
    return out


def _nearest_lane(
    road: RoadMap, ids: list[str], index: dict[str, int], xy: np.ndarray, angle: np.ndarray, within: float
) -> np.ndarray:
    best, out = np.full(len(xy), within), np.full(len(xy), -1, dtype=np.int64)
    for name in ids:
        lane = road.lanes[name]
        away = np.hypot(*(xy[:, None] - lane.centerline[None]).transpose(2, 0, 1))
        k = away.argmin(1)
        distance = away[np.arange(len(xy)), k]
        # Connectors of one junction lie on top of each other: only what is clearly nearer replaces an earlier lane.
        better = (np.abs(wrap(lane.heading[k] - angle)) < SAME_DIRECTION) & (distance < best - 0.05)
        best[better], out[better] = distance[better], index[name]
    return out


class _Claims:
    """Which lanes claim a place, and which way they run there."""

    def __init__(self, road: RoadMap, xy: np.ndarray) -> None:
        reach = SIDE_MAX + ONCOMING_MAX + 2.0
        window = shapely.LineString(xy).buffer(reach)
        self.drivable = shapely.intersection(road.drivable, window)
        self.lanes = [lane for lane in road.lanes.values() if lane.polygon.intersects(window)]
        self.tree = shapely.STRtree([lane.polygon for lane in self.lanes])

    def reach(
        self, xy: np.ndarray, angle: np.ndarray, normal: np.ndarray, junction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(own ``[n]``, oncoming ``[n]``) metres along the normals ``[n, 2]``."""
        edge = self._edge(xy, normal)
        offset = np.arange(0.0, SIDE_MAX + ONCOMING_MAX + SAMPLE / 2, SAMPLE)
        place = xy[:, None] + offset[:, None] * normal[:, None]
        same, oncoming, crossing = self._directions(place.reshape(-1, 2), np.repeat(angle, len(offset)))
        shape = place.shape[:2]
        same, oncoming, crossing = same.reshape(shape), oncoming.reshape(shape), crossing.reshape(shape)
        inside = offset <= edge[:, None]
        usable = inside & (same | (~oncoming & (~crossing | junction[:, None])))
        own = np.minimum(_first_run(usable) * SAMPLE, SIDE_MAX)
        own = np.where(inside.all(1) | (own < edge - 1.5 * SAMPLE), own, edge)
        own = np.minimum(np.minimum(own, edge), SIDE_MAX)
        further = np.minimum(_first_run(usable | (inside & oncoming)) * SAMPLE, edge)
        further = np.where(further >= edge - 1.5 * SAMPLE, edge, further)
        met = (inside & oncoming & ~same).any(1)
        return own, np.where(met, np.clip(further - own, 0.0, ONCOMING_MAX), 0.0)

    def _edge(self, xy: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """``[n]`` m along the normals to where the drivable area first ends; 0 for a point outside."""
        length = SIDE_MAX + ONCOMING_MAX
        rays = shapely.linestrings(np.stack([xy, xy + length * normal], 1))
        inside = shapely.intersection(rays, self.drivable)
        pieces, owner = shapely.get_parts(inside, return_index=True)
        out = np.zeros(len(xy))
        lines = (shapely.get_type_id(pieces) == shapely.GeometryType.LINESTRING) & ~shapely.is_empty(pieces)
        pieces, owner = pieces[lines], owner[lines]
        if not len(pieces):
            return out
        ends = shapely.get_coordinates(pieces)
        counts = shapely.get_num_coordinates(pieces)
        last = np.cumsum(counts) - 1
        along = ((ends - np.repeat(xy[owner], counts, 0)) * np.repeat(normal[owner], counts, 0)).sum(1)
        first_s, last_s = along[last - counts + 1], along[last]
        low, high = np.minimum(first_s, last_s), np.maximum(first_s, last_s)
        touching = low < 1e-6
        np.maximum.at(out, owner[touching], high[touching])
        return np.clip(out, 0.0, length)

    def _directions(self, place: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For places ``[m, 2]``: claimed by a lane of the same, the opposite, a crossing direction; bool ``[m]``."""
        out = np.zeros((3, len(place)), dtype=bool)
        which, lane_index = self.tree.query(shapely.points(place), predicate="intersects")
        for k in np.unique(lane_index):
            lane, here = self.lanes[k], which[lane_index == k]
            nearest = cKDTree(lane.centerline).query(place[here])[1]
            turn = np.abs(wrap(lane.heading[nearest] - angle[here]))
            kind = np.where(turn <= SAME_DIRECTION, 0, np.where(turn > ONCOMING_DIRECTION, 1, 2))
            out[kind, here] = True
        return out[0], out[1], out[2]


def _first_run(ok: np.ndarray) -> np.ndarray:
    """``[n]`` how many steps from the start of each row ``[n, m]`` are all true, less one (0 if the first fails)."""
    blocked = ~ok
    count = np.where(blocked.any(1), blocked.argmax(1), ok.shape[1])
    return np.maximum(count - 1, 0).astype(float)

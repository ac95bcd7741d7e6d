"""Lanes as paths to follow: which lane a vehicle is in, and where that lane may lead.

Everything that depends on the map alone is computed once per road and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.spatial import cKDTree

from perception.road_cache import cached
from perception.road_map import Lane, RoadMap

PATH_STEP = 1.0
"""Spacing of path points, m. Uniform, so that a path is interpolated by index arithmetic."""

_AHEAD = (25.0, 50.0, 100.0, 200.0)
_MOST_PATHS = 8


@dataclass(frozen=True)
class LanePath:
    """A lane and one way to continue from it, global frame, points 1 m apart from the lane's start.

    xy ``[n, 2]``; heading ``[n]`` rad, unwrapped; curvature ``[n]`` 1/m; speed_limit ``[n]`` m/s; speed_cap ``[n]``
    m/s: fastest speed that still allows slowing down comfortably for every curve ahead.
    lanes: ids in order; lane_starts: metres along the path at which each begins. prior: share of this continuation
    where the lane forks.
    """

    xy: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    speed_cap: np.ndarray
    speed_limit: np.ndarray
    lanes: tuple[str, ...]
    lane_starts: tuple[float, ...]
    prior: float


@dataclass(frozen=True)
class LaneMatches:
    """``K`` pairs of an object and a lane it may be following.

    object_index, lane_index ``[K]``; along ``[K]`` m from the lane's start; offset ``[K]`` m, left positive;
    heading_error ``[K]`` rad, object minus lane.
    """

    object_index: np.ndarray
    lane_index: np.ndarray
    along: np.ndarray
    offset: np.ndarray
    heading_error: np.ndarray

    def where(self, mask: np.ndarray) -> LaneMatches:
        return LaneMatches(*(getattr(self, f.name)[mask] for f in fields(self)))


@dataclass
class LaneNetwork:
    """Search structure over the lanes of one road.

    lateral_acceleration (m/s^2) and braking (m/s^2): what drivers accept in and before curves. turn_reluctance: at a
    fork a way that turns by one radian is exp(-turn_reluctance) times as probable as one straight on.
    """

    lanes: list[Lane]
    lateral_acceleration: float
    braking: float
    turn_reluctance: float
    _paths: dict[tuple[int, float], tuple[LanePath, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.lanes = [lane for lane in self.lanes if len(lane.centerline) >= 2 and lane.length > 0.5]
        headings = [_heading(lane.centerline) for lane in self.lanes]
        self._turn = [abs(float(heading[-1] - heading[0])) for heading in headings]
        self._index = {lane.id: i for i, lane in enumerate(self.lanes)}
        points = [_resample(lane.centerline, lane.length) for lane in self.lanes]
        counts = [len(xy) for xy in points]
        self._xy = np.concatenate(points) if points else np.zeros((0, 2))
        self._heading = np.concatenate([_heading(xy) for xy in points]) if points else np.zeros(0)
        self._lane = np.repeat(np.arange(len(points)), counts)
        self._along = np.concatenate([np.arange(n) * PATH_STEP for n in counts]) if points else np.zeros(0)
        # Every second point: the nearest one is refined by projection, and fewer neighbours cover more lanes.
        self._sampled = np.flatnonzero(np.concatenate([np.zeros(0, bool), *(np.arange(n) % 2 == 0 for n in counts)]))
        self._tree = cKDTree(self._xy[self._sampled]) if points else None

    def match(self, pose: np.ndarray, distance: float, heading: float, neighbours: int = 48) -> LaneMatches:
        """Lanes within `distance` (m) and `heading` (rad) of the poses ``[N, 3]``, global frame."""
        none = np.zeros(0, np.int64)
        if self._tree is None or not len(pose):
            return LaneMatches(none, none, np.zeros(0), np.zeros(0), np.zeros(0))
        reach = np.hypot(distance, PATH_STEP)
        k = min(neighbours, len(self._sampled))
        _, near = self._tree.query(pose[:, :2], k=np.arange(1, k + 1), distance_upper_bound=reach)
        who, column = np.nonzero(near < len(self._sampled))
        point = self._sampled[near[who, column]]
        # Rows are sorted by distance, so the first hit of a pair is its nearest point.
        _, first = np.unique(who * len(self.lanes) + self._lane[point], return_index=True)
        who, point = who[first], point[first]
        step, angle = pose[who, :2] - self._xy[point], self._heading[point]
        cos, sin = np.cos(angle), np.sin(angle)
        along, offset = cos * step[:, 0] + sin * step[:, 1], cos * step[:, 1] - sin * step[:, 0]
        error = wrap(pose[who, 2] - angle)
        # Beyond a lane's ends the neighbouring lane is the match.
        keep = (np.abs(error) <= heading) & (np.abs(offset) <= distance) & (np.abs(along) <= 2 * PATH_STEP)
        return LaneMatches(
            who[keep], self._lane[point[keep]], np.maximum(self._along[point] + along, 0.0)[keep],
            offset[keep], error[keep],
        )  # fmt: skip

    def paths(self, lane_index: int, ahead: float) -> tuple[LanePath, ...]:
        """The ways to go on from a lane, each reaching at least `ahead` (m) beyond the lane's end.

        Where the map ends, a path goes straight on.
        """
        wanted = next((a for a in _AHEAD if a >= ahead), float(np.ceil(ahead / 100) * 100))
        key = (lane_index, wanted)
        if key not in self._paths:
            found: list[tuple[list[Lane], float]] = []
            self._follow([self.lanes[lane_index]], 0.0, 1.0, wanted, found)
            found.sort(key=lambda item: -item[1])
            self._paths[key] = tuple(self._join(lanes, prior, wanted) for lanes, prior in found[:_MOST_PATHS])
        return self._paths[key]

    def _follow(self, lanes: list[Lane], beyond: float, prior: float, ahead: float, found: list) -> None:
        onward = [self._index[i] for i in lanes[-1].successors if i in self._index]
        onward = [i for i in onward if self.lanes[i].id not in {lane.id for lane in lanes}]
        if beyond >= ahead or not onward or len(found) >= 4 * _MOST_PATHS:
            found.append((lanes, prior))
            return
        share = np.array([np.exp(-self.turn_reluctance * self._turn[i]) for i in onward])
        for i, part in zip(onward, share / share.sum()):
            lane = self.lanes[i]
            self._follow([*lanes, lane], beyond + lane.length, prior * float(part), ahead, found)

    def _join(self, lanes: list[Lane], prior: float, ahead: float) -> LanePath:
        points = np.concatenate([lane.centerline for lane in lanes])
        limits = np.concatenate([np.full(len(lane.centerline), lane.speed_limit) for lane in lanes])
        moved = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3])
        points, limits = points[moved], limits[moved]
        need = lanes[0].length + ahead
        end = points[-1] - points[max(len(points) - 4, 0)]
        # Always one long last piece, so that an index into the path never runs over its end.
        points = np.concatenate([points, points[-1:] + end / np.linalg.norm(end) * need])
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        grid = np.arange(0.0, need + 2 * PATH_STEP, PATH_STEP)
        xy = np.stack([np.interp(grid, along, points[:, i]) for i in range(2)], -1)
        heading = _heading(xy)
        curvature = np.gradient(_smooth(heading, 2), PATH_STEP)
        cap = np.sqrt(self.lateral_acceleration / np.maximum(np.abs(curvature), 1e-4))
        squared = cap**2 + 2 * self.braking * grid
        cap = np.sqrt(np.minimum.accumulate(squared[::-1])[::-1] - 2 * self.braking * grid)
        before = np.clip(np.searchsorted(along, grid, "right") - 1, 0, len(limits) - 1)
        starts = np.concatenate([[0.0], np.cumsum([lane.length for lane in lanes])[:-1]])
        return LanePath(
            xy, heading, curvature, cap, limits[before], tuple(lane.id for lane in lanes), tuple(starts.tolist()), prior
        )


def lane_network(road: RoadMap, lateral_acceleration: float, braking: float, turn_reluctance: float) -> LaneNetwork:
    """The network of a road, built at the first call. The road must not change afterwards."""
    return cached(
        road,
        ("lane_network", lateral_acceleration, braking, turn_reluctance),
        lambda: LaneNetwork(list(road.lanes.values()), lateral_acceleration, braking, turn_reluctance),
    )


def _resample(centerline: np.ndarray, length: float) -> np.ndarray:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centerline, axis=0), axis=1))])
    grid = np.arange(max(2, int(length / PATH_STEP) + 1)) * PATH_STEP
    return np.stack([np.interp(grid, along, centerline[:, i]) for i in range(2)], -1)


def _heading(xy: np.ndarray) -> np.ndarray:
    step = np.diff(xy, axis=0)
    step = step[np.linalg.norm(step, axis=1) > 1e-6]
    angle = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    # Mean of the two pieces that meet.
    middle = np.concatenate([angle[:1], (angle[1:] + angle[:-1]) / 2, angle[-1:]])
    return np.concatenate([middle, np.full(max(len(xy) - len(middle), 0), middle[-1])])[: len(xy)]


def _smooth(values: np.ndarray, half: int) -> np.ndarray:
    padded = np.concatenate([np.full(half, values[0]), values, np.full(half, values[-1])])
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle (rad) mapped to [-pi, pi]."""
    return angle - 2 * np.pi * np.round(angle / (2 * np.pi))

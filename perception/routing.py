"""The lane-level route of a drive: along the lanes the driver took, and on after the drive's end."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely

from perception.map_matching import match, path_between, spaced, straightest
from perception.polyline import arc_length, at_arc_length, project, resample, without_repeats
from perception.road_map import RoadMap
from perception.route_surface import RouteSurface

__all__ = ["RouteSurface", "find_route"]

CHANGE_LENGTH = 30.0  # m of a lane change in the route
BEHIND = 30.0  # m of route before the first pose


def find_route(road: RoadMap, ego_xyyaw: np.ndarray, beyond: float = 200.0) -> tuple[list[str], np.ndarray]:
    """Lane ids along a driven track ``[T, 3]`` (x, y m, yaw rad) and on, and the centreline ``[n, 2]``.

    The centreline has points about 1 m apart, starts 30 m before the first pose, follows the lanes
    the driver took (lane changes are blended over 30 m) and ends `beyond` + 20 m after the last
    pose, straight on wherever there is a choice. Where no lane fits it follows the track; where
    lanes end it goes straight on. Both are noted in `road.repairs`.
    Raises ValueError only for a track that is empty or not finite.
    """
    track = np.asarray(ego_xyyaw, dtype=float)
    if track.ndim != 2 or track.shape[1] != 3 or not len(track) or not np.isfinite(track).all():
        raise ValueError(f"ego_xyyaw: expected finite [T >= 1, 3], got shape {track.shape}")
    points = spaced(track)
    runs = _runs(road, match(road, points, beyond))
    for number, run in enumerate(runs):
        run.lay_out(road, points, BEHIND, beyond + 20.0 if number == len(runs) - 1 else CHANGE_LENGTH)
    lane_ids = list(dict.fromkeys(lane for run in runs for lane in run.ids))
    if not lane_ids:
        lane_ids = [_nearest_lane(road, track[0, :2])]
    return lane_ids, resample(_join(runs, points), 1.0)


def _nearest_lane(road: RoadMap, xy: np.ndarray) -> str:
    """For a drive on no lane at all: a route needs some id. "none" where the map has no lanes."""
    if not road.lanes:
        return "none"
    return min(road.lanes.values(), key=lambda lane: np.hypot(*(lane.centerline - xy).T).min()).id


@dataclass
class _Run:
    """A piece of the drive on connected lanes, or on none (lanes empty).

    first, last: index of the first and last track point in it. line: its centreline, longer than
    the drive on both sides. ids: lanes of the route that come from it.
    """

    lanes: list[str]
    first: int
    last: int
    line: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    ids: list[str] = field(default_factory=list)

    def lay_out(self, road: RoadMap, points: np.ndarray, before: float, after: float) -> None:
        """Set line and ids: `before` and `after` metres beyond the drive, straight on where the lanes end."""
        own = points[self.first : self.last + 1]
        if self.lanes:
            ahead = straightest(road, self.lanes[-1], after)
            behind = straightest(road, self.lanes[0], before, forward=False)
            chain = [road.lanes[i].centerline for i in [*reversed(behind), *self.lanes, *ahead]]
            self.ids = [*self.lanes, *ahead] if after > CHANGE_LENGTH else list(self.lanes)
            line = np.concatenate(chain)
            start = arc_length(line)[np.cumsum([0, *map(len, chain[:-1])])]
            first, last = len(behind), len(behind) + len(self.lanes) - 1
            begin = start[first] + float(project(chain[first], own[:1, :2])[0][0])
            end = start[last] + float(project(chain[last], own[-1:, :2])[0][0])
        else:
            line = own[:, :2]
            if len(line) < 2:
                line = line + np.array([[0.0], [1.0]]) * np.array([np.cos(own[0, 2]), np.sin(own[0, 2])])
            begin, end = 0.0, float(arc_length(own[:, :2])[-1])
            road.repairs.append(f"route: {len(own)} track points lie on no lane, the driven track is used there")
        line = without_repeats(line, 0.05)
        missing = after - (arc_length(line)[-1] - end)
        if missing > 0:
            if self.lanes and after > CHANGE_LENGTH:
                road.repairs.append(f"route: the lanes end {missing:.0f} m early, it goes on without a lane from there")
            line = np.concatenate([line, _straight_on(road, line, np.ceil(missing))])
        else:
            line = at_arc_length(line, np.append(np.arange(0.0, end + after, 1.0), end + after))
        if begin < before:
            back = np.arange(np.ceil(before - begin), 0.0, -1.0)[:, None]
            line = np.concatenate([line[:1] - _direction(line[:3]) * back, line])
        else:
            s = arc_length(line)
            line = np.concatenate([at_arc_length(line, np.array([begin - before])), line[s > begin - before + 0.05]])
        self.line = line


def _straight_on(road: RoadMap, line: np.ndarray, length: float) -> np.ndarray:
    """Points ``[length, 2]`` after the end of a line, 1 m apart: the arc that stays longest on drivable surface.

    1.5 m away from its edge; of equals the straightest.
    """
    x, y = _direction(line[-3:])
    s = np.arange(1.0, length + 1.0)
    best, longest = np.zeros((0, 2)), -1
    for curvature in sorted(np.linspace(-0.03, 0.03, 31), key=abs):
        angle = np.arctan2(y, x) + curvature * (s - 0.5)
        arc = line[-1] + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), axis=0)
        inside = shapely.contains_xy(road.prepared_drivable, arc)
        # The edge is tested at both sides only: a buffer of the whole area would take seconds.
        side = 1.5 * np.stack([-np.sin(angle), np.cos(angle)], 1)
        for shifted in (arc + side, arc - side):
            inside &= shapely.contains_xy(road.prepared_drivable, shifted)
        stays = len(s) if inside.all() else int((~inside).argmax())
        if stays > longest:
            best, longest = arc, stays
    return best


def _direction(xy: np.ndarray) -> np.ndarray:
    """Unit vector ``[2]`` from the first to the last point."""
    step = xy[-1] - xy[0]
    return step / np.linalg.norm(step)


def _runs(road: RoadMap, matched: list[tuple[str, float] | None]) -> list[_Run]:
    runs: list[_Run] = []
    for k, place in enumerate(matched):
        name = None if place is None else place[0]
        if runs and name is None and not runs[-1].lanes:
            runs[-1].last = k
        elif runs and name is not None and runs[-1].lanes:
            chain = [name] if runs[-1].lanes[-1] == name else path_between(road, runs[-1].lanes[-1], name, 30.0)
            if chain is None:
                runs.append(_Run([name], k, k))
            else:
                runs[-1].lanes += chain[1:]
                runs[-1].last = k
        else:
            runs.append(_Run([] if name is None else [name], k, k))
    return runs


def _join(runs: list[_Run], points: np.ndarray) -> np.ndarray:
    """One line: from run to run over a cubic of CHANGE_LENGTH around the place where the driver crossed."""
    line = runs[0].line
    for before, after in pairwise(runs):
        crossing = (points[before.last, :2] + points[after.first, :2])[None] / 2
        leave = float(project(line, crossing)[0][0])
        enter = float(project(after.line, crossing)[0][0])
        half = CHANGE_LENGTH / 2
        leave, enter = max(leave - half, 1.0), min(enter + half, arc_length(after.line)[-1] - 1.0)
        head, tail = line[arc_length(line) < leave], after.line[arc_length(after.line) > enter]
        line = np.concatenate([head, _blend(*_place(line, leave), *_place(after.line, enter)), tail])
    return line


def _place(line: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
    """Point and direction ``[2]`` at s metres along a line."""
    here, ahead, behind = at_arc_length(line, np.array([s, s + 1.0, s - 1.0]))
    return here, _direction(np.stack([behind, ahead]))


def _blend(p: np.ndarray, p_direction: np.ndarray, q: np.ndarray, q_direction: np.ndarray) -> np.ndarray:
    """Cubic Hermite curve ``[n, 2]`` between two points with given directions, about 1 m apart."""
    size = float(np.linalg.norm(q - p))
    u = np.linspace(0.0, 1.0, max(int(np.ceil(size)), 2) + 1)[:, None]
    out = (2 * u**3 - 3 * u**2 + 1) * p + (u**3 - 2 * u**2 + u) * size * p_direction
    return out + (3 * u**2 - 2 * u**3) * q + (u**3 - u**2) * size * q_direction

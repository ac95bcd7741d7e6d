"""The lane-level route of a drive: which lanes the driver took, and how the way goes on.

Matching is a shortest path over (track point, lane) pairs in the manner of Newson & Krumm (Hidden
Markov map matching, 2009): a lane costs its distance and heading error, a step costs nothing along
the lane graph, a little to a neighbouring lane, and much where the graph has a hole. Holes are
bridged with the driven track itself and noted in `road.repairs`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely

from perception.polyline import arc_length, at_arc_length, project, resample, without_repeats, wrap
from perception.road_map import Lane, RoadMap
from perception.route_surface import RouteSurface

__all__ = ["RouteSurface", "find_route"]

SPACING = 2.0  # m between matched track points
REACH = 6.0  # m, lanes farther away than this are no candidates
LATERAL_SIGMA = 1.2  # m
HEADING_SIGMA = 0.3  # rad
HEADING_MAX = np.deg2rad(75)
CHANGE_COST = 8.0  # to a lane 3.5 m beside; less between lanes that overlap
CHANGE_ANGLE = np.deg2rad(30)
TURN_COST = 2.0  # per rad of turning after the drive, where the last pose fits several lanes
SHORT_COST = 0.1  # per metre that the lanes end too early after the drive
BRIDGE_COST = 60.0  # to a lane the graph does not connect
OFF_COST = 30.0  # per point on no lane at all
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
    points = _spaced(track)
    runs = _runs(road, _match(road, points, beyond))
    for number, run in enumerate(runs):
        run.lay_out(road, points, BEHIND, beyond + 20.0 if number == len(runs) - 1 else CHANGE_LENGTH)
    lane_ids = list(dict.fromkeys(lane for run in runs for lane in run.ids))
    if not lane_ids:
        lane_ids = [min(road.lanes.values(), key=lambda lane: _gap(lane, track[0])).id] if road.lanes else ["track"]
    return lane_ids, resample(_join(runs, points), 1.0)


def _spaced(track: np.ndarray) -> np.ndarray:
    """Track poses at least SPACING apart, first and last kept; a standing ego gives one pose."""
    kept = [0]
    for i in range(1, len(track)):
        if np.hypot(*(track[i, :2] - track[kept[-1], :2])) >= SPACING:
            kept.append(i)
    return track[kept]


def _gap(lane: Lane, pose: np.ndarray) -> float:
    return float(abs(project(lane.centerline, pose[None, :2])[1][0]))


def _match(road: RoadMap, points: np.ndarray, beyond: float) -> list[tuple[str, float] | None]:
    """Per track point the lane and the metres along it, or None where no lane fits."""
    layers: list[list[tuple[str | None, float, float]]] = []
    for pose in points:
        layer: list[tuple[str | None, float, float]] = [(None, 0.0, OFF_COST)]
        for lane in road.lanes_at(pose[:2], REACH):
            s, d = (float(v[0]) for v in project(lane.centerline, pose[None, :2]))
            turn = abs(float(wrap(_heading_at(lane, s) - pose[2])))
            if abs(d) < REACH and turn < HEADING_MAX:
                layer.append((lane.id, s, (d / LATERAL_SIGMA) ** 2 + (turn / HEADING_SIGMA) ** 2))
        layers.append(layer)
    cost = np.array([c for *_, c in layers[0]])
    back: list[np.ndarray] = []
    for k in range(1, len(layers)):
        moved = float(np.hypot(*(points[k, :2] - points[k - 1, :2])))
        step = np.array([[_step_cost(road, a, b, moved) for b in layers[k]] for a in layers[k - 1]])
        total = cost[:, None] + step
        back.append(total.argmin(0))
        cost = total.min(0) + np.array([c for *_, c in layers[k]])
    onward = np.array([0.0 if name is None else _onward_cost(road, name, s, beyond) for name, s, _ in layers[-1]])
    chosen = [int((cost + onward).argmin())]
    for b in reversed(back):
        chosen.append(int(b[chosen[-1]]))
    out: list[tuple[str, float] | None] = []
    for layer, k in zip(layers, reversed(chosen)):
        name, s, _ = layer[k]
        out.append(None if name is None else (name, s))
    return out


def _onward_cost(road: RoadMap, lane: str, s: float, beyond: float) -> float:
    """How badly the way goes on from (lane, s): turning, and lanes that end too early."""
    ahead = straightest(road, lane, beyond)
    left = road.lanes[lane].length - s
    covered = left + sum(road.lanes[i].length for i in ahead)
    own = road.lanes[lane].heading[road.lanes[lane].arc_length >= s]
    turned = sum(_turning(road.lanes[i].heading) for i in ahead) + _turning(own)
    return TURN_COST * turned + SHORT_COST * max(beyond - covered, 0.0)


def _turning(angle: np.ndarray) -> float:
    return float(np.abs(wrap(np.diff(angle))).sum())


def _step_cost(
    road: RoadMap, a: tuple[str | None, float, float], b: tuple[str | None, float, float], moved: float
) -> float:
    """Cost of going from place a to place b while the ego moved `moved` metres."""
    if a[0] is None or b[0] is None:
        return 0.0 if a[0] is b[0] else BRIDGE_COST / 2
    along = _distance(road, a[0], a[1], b[0], b[1], moved + 6.0)
    if along is not None:
        return 0.2 * abs(along - moved)
    lane, other = road.lanes[a[0]], road.lanes[b[0]]
    # Beside the place on lane a where the ego would be had it stayed: how far is lane b, and does it run along?
    here = at_arc_length(lane.centerline, np.array([a[1] + moved]))
    s, d = (float(v[0]) for v in project(other.centerline, here))
    turn = abs(float(wrap(_heading_at(lane, a[1] + moved) - _heading_at(other, s))))
    if abs(s - b[1]) < 4.0 and abs(d) < 5.5 and turn < CHANGE_ANGLE:
        return CHANGE_COST * (0.3 + 0.2 * abs(d))
    return BRIDGE_COST


def _heading_at(lane: Lane, s: float) -> float:
    return float(np.interp(s, lane.arc_length, np.unwrap(lane.heading)))


def _distance(road: RoadMap, a: str, sa: float, b: str, sb: float, limit: float) -> float | None:
    """Metres along the graph from (lane a, sa) to (lane b, sb), or None if more than `limit`."""
    if a == b and sb >= sa - 1.0:
        return sb - sa
    frontier, seen = [(a, road.lanes[a].length - sa)], {a}
    while frontier:
        lane, left = frontier.pop()
        for after in road.lanes[lane].successors:
            if after == b:
                return left + sb if left + sb <= limit else None
            if after in road.lanes and after not in seen and left + road.lanes[after].length < limit:
                seen.add(after)
                frontier.append((after, left + road.lanes[after].length))
    return None


def path_between(road: RoadMap, a: str, b: str, limit: float = 80.0) -> list[str] | None:
    """Lane ids from a to b along successors, both included, with the fewest metres between them; None if none."""
    best: dict[str, float] = {a: 0.0}
    frontier: list[tuple[float, list[str]]] = [(0.0, [a])]
    while frontier:
        frontier.sort(key=lambda item: item[0])
        length, path = frontier.pop(0)
        if path[-1] == b:
            return path
        for after in road.lanes[path[-1]].successors:
            if after not in road.lanes:
                continue
            new = length + (0.0 if after == b else road.lanes[after].length)
            if new <= limit and new < best.get(after, np.inf):
                best[after] = new
                frontier.append((new, [*path, after]))
    return None


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
            chain = [*reversed(behind), *self.lanes, *ahead]
            self.ids = [*self.lanes, *ahead] if after > CHANGE_LENGTH else list(self.lanes)
            line = without_repeats(np.concatenate([road.lanes[i].centerline for i in chain]), 0.05)
        else:
            line = without_repeats(own[:, :2], 0.05)
            road.repairs.append(f"route: {len(own)} track points lie on no lane, the driven track is used there")
        if len(line) < 2:
            line = own[:1, :2] + np.array([[0.0], [1.0]]) * np.array([np.cos(own[0, 2]), np.sin(own[0, 2])])
        begin, end = project(line, own[[0, -1], :2])[0]
        missing = after - (arc_length(line)[-1] - end)
        if missing > 0:
            if self.lanes and after > CHANGE_LENGTH:
                road.repairs.append(f"route: the lanes end {missing:.0f} m early, it goes on without a lane from there")
            line = np.concatenate([line, _onward(road, line, np.ceil(missing))])
        else:
            line = at_arc_length(line, np.append(np.arange(0.0, end + after, 1.0), end + after))
        if begin < before:
            back = np.arange(np.ceil(before - begin), 0.0, -1.0)[:, None]
            line = np.concatenate([line[:1] - _direction(line[:3]) * back, line])
        else:
            s = arc_length(line)
            line = np.concatenate([at_arc_length(line, np.array([begin - before])), line[s > begin - before + 0.05]])
        self.line = line


def _onward(road: RoadMap, line: np.ndarray, length: float) -> np.ndarray:
    """Points ``[length, 2]`` after the end of a line, 1 m apart: the arc that stays longest on drivable surface.

    1.5 m away from its edge; of equals the straightest.
    """
    x, y = _direction(line[-3:])
    s = np.arange(1.0, length + 1.0)
    best, longest = None, -1
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


def straightest(road: RoadMap, lane: str, length: float, forward: bool = True) -> list[str]:
    """Lane ids after (or before) `lane`, covering `length` m if the graph allows it, turning least.

    The longest way wins while none covers the length; then the least sum of absolute heading changes.
    """
    best: tuple[float, float, list[str]] = (-1.0, 0.0, [])
    stack: list[tuple[str, float, float, list[str]]] = [(lane, 0.0, 0.0, [])]
    visits = 0
    while stack:
        here, covered, turned, path = stack.pop()
        visits += 1
        rank = (min(covered, length), -turned)
        if rank > (best[0], -best[1]):
            best = (rank[0], turned, path)
        if covered >= length or visits > 20_000:
            continue
        links = road.lanes[here].successors if forward else road.lanes[here].predecessors
        for other in sorted(links):
            if other not in road.lanes or other in path or other == lane:
                continue
            turn = turned + _turning(road.lanes[other].heading)
            if covered >= best[0] and best[0] >= length and turn >= best[1]:
                continue
            stack.append((other, covered + road.lanes[other].length, turn, [*path, other]))
    return best[2]


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

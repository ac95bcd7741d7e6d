"""Which lanes a driven track follows, and shortest and straightest ways in the lane graph.

Matching is a shortest path over (track point, lane) pairs in the manner of Newson & Krumm (Hidden
Markov map matching, 2009): a lane costs its distance and heading error, a step costs nothing along
the lane graph, a little to a lane beside, and much where the graph has a hole.
"""

from __future__ import annotations

import numpy as np

from perception.polyline import at_arc_length, project, wrap
from perception.road_map import Lane, RoadMap

SPACING = 2.0  # m between matched track points
REACH = 6.0  # m, lanes farther away than this are no candidates
LATERAL_SIGMA = 1.2  # m
HEADING_SIGMA = 0.3  # rad
HEADING_MAX = np.deg2rad(75)
CHANGE_COST = 8.0  # to a lane 3.5 m beside; less between lanes that overlap
CHANGE_ANGLE = np.deg2rad(30)
BRIDGE_COST = 60.0  # to a lane the graph does not connect
OFF_COST = 30.0  # per point on no lane at all
TURN_COST = 2.0  # per rad of turning after the drive, where the last pose fits several lanes
SHORT_COST = 0.1  # per metre that the lanes end too early after the drive
VISITS_MAX = 20_000  # lanes looked at in one search for the straightest way

Place = tuple[str | None, float, float]  # lane, metres along it, cost


def spaced(track: np.ndarray) -> np.ndarray:
    """Track poses at least SPACING apart, first and last kept; a standing ego gives one pose."""
    kept = [0]
    for i in range(1, len(track)):
        if np.hypot(*(track[i, :2] - track[kept[-1], :2])) >= SPACING:
            kept.append(i)
    return track[kept]


def match(road: RoadMap, points: np.ndarray, beyond: float) -> list[tuple[str, float] | None]:
    """Per track point the lane and the metres along it, or None where no lane fits."""
    layers: list[list[Place]] = []
    for pose in points:
        layer: list[Place] = [(None, 0.0, OFF_COST)]
        for lane in road.lanes_at(pose[:2], REACH):
            s, d = (float(v[0]) for v in project(lane.centerline, pose[None, :2]))
            turn = abs(_turn(pose[2], _heading_at(lane, s)))
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


def _step_cost(road: RoadMap, a: Place, b: Place, moved: float) -> float:
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
    turn = abs(_turn(_heading_at(lane, a[1] + moved), _heading_at(other, s)))
    if abs(s - b[1]) < 4.0 and abs(d) < 5.5 and turn < CHANGE_ANGLE:
        return CHANGE_COST * (0.3 + 0.2 * abs(d))
    return BRIDGE_COST


def _turn(a: float, b: float) -> float:
    """Angle (rad) from a to b, in [-pi, pi)."""
    return float(wrap(np.array(b - a)))


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
        if covered >= length or visits > VISITS_MAX:
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

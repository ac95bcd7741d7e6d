"""Where each object can be over time, from bounds alone: the sets a fail-safe tail must stay clear of.

Vehicles move along paths: the arc of their present velocity and every lane they are on. Along a path
they are anywhere between braking and accelerating as hard as `ClassBounds` allows, never backwards, and
sideways within a growing bound. Pedestrians move along their velocity likewise and grow in every
direction. What stands grows slowly; static things are their box. Each set for the interval
[t_k, t_k+1] is a union of boxes (oriented rectangles widened by a disc) and contains every position of
every motion within the bounds; a property test draws such motions.
"""

from __future__ import annotations

import numpy as np

from planner.checker.assumptions import RAW, Assumptions
from planner.checker.footprint import Boxes
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects
from planner.scene import AgentClass

STATION = 1.0  # m between samples of a path


def distance_bounds(
    speed: np.ndarray, time: np.ndarray, braking: np.ndarray, acceleration: np.ndarray, speed_max: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least and most distance ``[..., K]`` (m) covered by each time, for speeds ``[...]`` and times ``[K]``.

    Least: brakes at once, stops, stays. Most: accelerates to the larger of its speed and `speed_max`.
    """
    speed, braking, acceleration, speed_max = (f[..., None] for f in (speed, braking, acceleration, speed_max))
    stop = np.minimum(time, speed / np.maximum(braking, 1e-9))
    least = np.maximum(0.0, speed * stop - 0.5 * braking * stop**2)
    top = np.maximum(speed, speed_max)
    gain = np.minimum(time, (top - speed) / np.maximum(acceleration, 1e-9))
    most = speed * gain + 0.5 * acceleration * gain**2 + top * (time - gain)
    return least, np.where(acceleration > 0, most, speed * time)


class Occupancy:
    """Sets of all objects of a scene, built once and then read at growing horizons.

    objects: those that matter. assumptions: the table. lanes: the scene's centrelines.
    step (s): length of the intervals. reach (m): how far from the origin anything is of interest.
    yielding ``[A]``: vehicles that do not turn off their way (see `Assumptions.priority_angle`);
    waiting ``[A]``: vehicles that wait to enter ego's way (see `Assumptions.waiting_speed`).
    widening: factor on every acceleration and deviation, 1 for the table as it stands.
    """

    def __init__(
        self,
        objects: Objects,
        assumptions: Assumptions,
        lanes: LaneGraph,
        step: float,
        reach: float,
        yielding: np.ndarray | None = None,
        waiting: np.ndarray | None = None,
        widening: float = 1.0,
    ) -> None:
        self._yielding = np.zeros(len(objects), bool) if yielding is None else yielding
        self._objects, self._table, self._step = objects, assumptions, step
        bounds = [assumptions.of(int(k)) for k in objects.kind]
        get = lambda name, by=1.0: by * np.array([getattr(b, name) for b in bounds], dtype=np.float64)  # noqa: E731
        self._speed = objects.speed
        self._braking, self._acceleration = get("braking", widening), get("acceleration", widening)
        if waiting is not None:
            self._acceleration = np.where(waiting, widening * assumptions.waiting_acceleration, self._acceleration)
        self._speed_max = get("speed_max")
        self._side = (get("lateral_acceleration", widening), get("lateral_deviation", widening))
        self._creep = (get("standing_acceleration", widening), get("standing_deviation", widening))
        self._curvature_max = get("curvature_max")
        self._standing = np.flatnonzero(self._speed < get("standing_speed"))
        self._walking = objects.kind == int(AgentClass.PEDESTRIAN)
        moving = np.flatnonzero(self._speed >= get("standing_speed"))
        self._owner, self._path, self._arrival = self._paths(moving, lanes, reach)
        self._heading_offset = objects.pose[self._owner, 2] - self._path[:, 0, 2]
        self._built: list[tuple[int, Boxes]] = []
        self.owner = np.concatenate([self._standing, np.repeat(self._owner, assumptions.pieces)])

    def boxes(self, intervals: int) -> Boxes:
        """Boxes ``[K, N]`` for the first `intervals` intervals at least; `owner` ``[N]`` says whose they are."""
        for count, boxes in self._built:
            if count >= intervals:
                return boxes
        count = max(intervals, 30)
        standing, moving = self._standing_boxes(count), self._moving_boxes(count)
        join = lambda name: np.concatenate([getattr(standing, name), getattr(moving, name)], 1)  # noqa: E731
        boxes = Boxes(join("center"), join("axis"), join("half"), join("disc"))
        self._built.append((count, boxes))
        return boxes

    def ways(self) -> tuple[np.ndarray, np.ndarray]:
        """Where moving objects are going: owner ``[n]`` and path ``[n, J, 3]`` (x, y, heading) every STATION metres.

        Along every lane they are on; along the arc of their motion if on none.
        """
        arcs = len(self._owner) - len(self._arrival)
        follows = np.isin(self._owner, self._owner[arcs:])
        chosen = np.where(np.arange(len(self._owner)) < arcs, ~follows, True)
        return self._owner[chosen], self._path[chosen]

    def _standing_boxes(self, count: int) -> Boxes:
        i, o = self._standing, self._objects
        end = self._step * np.arange(1, count + 1)[:, None]
        grow = np.minimum(0.5 * self._creep[0][i] * end**2, self._creep[1][i])
        axis = np.stack([np.cos(o.pose[i, 2]), np.sin(o.pose[i, 2])], -1)
        shape = (count, len(i))
        center = np.broadcast_to(o.pose[i, :2], (*shape, 2)).copy()
        half = np.broadcast_to(o.size[i] / 2, (*shape, 2)).copy()
        walking = self._walking[i]
        # A vehicle creeps forward only; a pedestrian may step anywhere.
        forward = np.where(walking, 0.0, grow)
        center = center + 0.5 * forward[..., None] * axis
        half[..., 0] += 0.5 * forward
        return Boxes(center, np.broadcast_to(axis, (*shape, 2)), half, np.where(walking, grow, 0.0))

    def _moving_boxes(self, count: int) -> Boxes:
        """Each path's interval [least(t_k), most(t_k+1)] cut into pieces, each piece inside one rectangle."""
        owner, pieces, o = self._owner, self._table.pieces, self._objects
        time = self._step * np.arange(count + 1)
        i = owner
        least, most = distance_bounds(self._speed[i], time, self._braking[i], self._acceleration[i], self._speed_max[i])
        grow = np.minimum(0.5 * self._side[0][i] * time[1:, None] ** 2, self._side[1][i])
        walking = self._walking[i]
        low = least[:, :-1].T
        high = np.minimum(most[:, 1:].T, self._bend_limited(time[1:]))
        # The disc around a pedestrian already covers a change of speed of its own size.
        high = np.where(walking, np.maximum(self._speed[i] * time[1:, None], high - grow), high)
        node = low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, 2 * pieces + 1)
        x, y, heading = self._path_at(node)
        start, middle, end = slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2)
        chord = np.stack([x[..., end] - x[..., start], y[..., end] - y[..., start]], -1)
        length = np.linalg.norm(chord, axis=-1)
        along_path = np.stack([np.cos(heading[..., middle]), np.sin(heading[..., middle])], -1)
        axis = np.where(length[..., None] > 0.05, chord / np.maximum(length, 1e-9)[..., None], along_path)
        across = np.stack([-axis[..., 1], axis[..., 0]], -1)
        center = np.stack([x[..., end] + x[..., start], y[..., end] + y[..., start]], -1) / 2
        bow = np.stack([x[..., middle], y[..., middle]], -1) - center
        sagitta = 1.2 * np.abs((bow * across).sum(-1))
        half_length, half_width = (o.size[i, j][:, None] / 2 for j in (0, 1))
        direction = np.arctan2(axis[..., 1], axis[..., 0])
        far, wide = np.zeros(length.shape), np.zeros(length.shape)
        for part in (start, middle, end):
            turn = heading[..., part] + self._heading_offset[:, None] - direction
            c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
            far = np.maximum(far, c * half_length + s * half_width)
            wide = np.maximum(wide, s * half_length + c * half_width)
        grow, walking = grow[..., None], walking[:, None]
        half = np.stack([length / 2 + far, wide + sagitta + np.where(walking, 0.0, grow)], -1)
        disc = np.broadcast_to(np.where(walking, grow, 0.0), length.shape)
        flat = lambda f: f.reshape(count, -1, *f.shape[3:])  # noqa: E731
        return Boxes(flat(center), flat(axis), flat(half), flat(disc))

    def _path_at(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, heading on path n at distances ``[K, n, S]``; straight on beyond its end."""
        position = distance / STATION
        last = self._path.shape[1] - 2
        j = np.clip(position.astype(np.int64), 0, last)
        u = position - j
        n = np.arange(len(self._path))[:, None]
        first, second = self._path[n, j], self._path[n, j + 1]
        x, y = (first[..., c] + u * (second[..., c] - first[..., c]) for c in range(2))
        return x, y, first[..., 2] + np.minimum(u, 1.0) * (second[..., 2] - first[..., 2])

    def _bend_limited(self, time: np.ndarray) -> np.ndarray:
        """Most distance ``[K, n]`` (m) by the times ``[K]`` that each path's bends allow."""
        stations = STATION * np.arange(self._path.shape[1])
        most = np.full((len(time), len(self._path)), np.inf)
        for n in range(len(self._path) - len(self._arrival), len(self._path)):
            most[:, n] = np.interp(time, self._arrival[n - len(self._path)], stations, right=np.inf)
        return most

    def _paths(
        self, moving: np.ndarray, lanes: LaneGraph, reach: float
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Paths of the moving objects: owner ``[n]``, samples ``[n, J, 3]`` every STATION metres; arcs first, then
        lanes, for which the earliest time ``[J]`` (s) at each sample follows."""
        o, table = self._objects, self._table
        samples = int(np.ceil(reach / STATION)) + 2
        owner, path = list(moving), [self._arcs(moving, samples)]
        arrival: list[np.ndarray] = []
        for i in moving[(o.drives | (o.kind == RAW))[moving]]:
            heading = float(np.arctan2(o.velocity[i, 1], o.velocity[i, 0]))
            for lane in lanes.paths(o.pose[i, :2], heading, samples, STATION, table):
                turn = np.abs(lane[:, 2] - lane[0, 2]).max()
                if self._yielding[i] and turn > table.priority_turn:
                    continue
                earliest = self._earliest(lane, self._speed[i], self._braking[i], self._acceleration[i])
                if earliest is not None:
                    owner.append(i)
                    path.append(lane[None])
                    arrival.append(earliest)
        return np.array(owner, dtype=np.int64), np.concatenate(path), arrival

    def _earliest(self, lane: np.ndarray, speed: float, braking: float, acceleration: float) -> np.ndarray | None:
        """Earliest times ``[J]`` (s) along a lane taken within `cornering`; None if the speed now forbids it."""
        heading = lane[:, 2]
        bend = np.abs(heading[4:] - heading[:-4]) / (4 * STATION)
        bend = np.concatenate([bend[:1], bend[:1], bend, bend[-1:], bend[-1:]])
        allowed = self._table.cornering / np.maximum(bend, 1e-4)
        # Before a bend: as fast as braking still permits. allowed(s) <= allowed(s') + 2 b (s' - s).
        station = STATION * np.arange(len(lane))
        allowed = np.minimum.accumulate((allowed + 2 * braking * station)[::-1])[::-1] - 2 * braking * station
        if speed**2 > 1.3 * allowed[0]:
            return None
        squared = speed**2 + 2 * acceleration * station
        # After a bend: accelerate again from what it allowed.
        squared = np.minimum(
            squared, np.minimum.accumulate(allowed - 2 * acceleration * station) + 2 * acceleration * station
        )
        fastest = np.sqrt(np.maximum(squared, 0.01))
        return np.concatenate([[0.0], np.cumsum(2 * STATION / (fastest[1:] + fastest[:-1]))])

    def _arcs(self, moving: np.ndarray, samples: int) -> np.ndarray:
        """``[m, J, 3]``: along the velocity, turning at the present rate, then straightening."""
        o, table = self._objects, self._table
        speed = self._speed[moving]
        heading = np.arctan2(o.velocity[moving, 1], o.velocity[moving, 0])
        sharpest = self._curvature_max[moving]
        bend = np.clip(o.turn_rate[moving] / np.maximum(speed, 1.0), -sharpest, sharpest)
        s = STATION * (np.arange(samples - 1) + 0.5)
        fade = np.clip(1.0 - (s / speed[:, None] - table.turn_hold) / table.turn_fade, 0.0, 1.0)
        turn = np.concatenate([np.zeros((len(moving), 1)), np.cumsum(bend[:, None] * fade * STATION, 1)], 1)
        angle = heading[:, None] + turn
        middle = 0.5 * (angle[:, 1:] + angle[:, :-1])
        start = o.pose[moving, None, :2]
        step = STATION * np.stack([np.cos(middle), np.sin(middle)], -1)
        xy = np.concatenate([start, start + np.cumsum(step, 1)], 1)
        return np.concatenate([xy, angle[..., None]], -1)

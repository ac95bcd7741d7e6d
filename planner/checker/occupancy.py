"""Where each object can be over time, from bounds alone: the sets a fail-safe tail must stay clear of.

Vehicles move along paths: the arc of their present velocity and every lane they are on. Along a path
they are anywhere between braking and accelerating as hard as `ClassBounds` allows, never backwards, and
sideways within a growing bound. Pedestrians move along their velocity likewise and grow in every
direction. What stands grows slowly; static things are their box. Each set for the interval
[t_k, t_k+1] is a union of boxes (oriented rectangles widened by a disc) and contains every position of
every motion within the bounds; a property test draws such motions.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from planner.checker.assumptions import Assumptions
from planner.checker.footprint import Boxes, Sweeps
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects
from planner.checker.ways import STATION, ways_of
from planner.scene import AgentClass


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


def answered(
    speed: np.ndarray, time: np.ndarray, acceleration: np.ndarray, response: np.ndarray, braking: np.ndarray
) -> np.ndarray:
    """Most distance ``[..., K]`` (m) by the times ``[K]`` of who accelerates until `response` (s), then brakes with at
    least `braking` (m/s^2) until it stands: the follower's half of RSS (Shalev-Shwartz et al., arXiv:1708.06374)."""
    speed, acceleration, response, braking = (f[..., None] for f in (speed, acceleration, response, braking))
    before = np.minimum(time, response)
    faster = speed + acceleration * before
    brakes = np.minimum(time - before, faster / np.maximum(braking, 1e-9))
    return (speed + 0.5 * acceleration * before) * before + (faster - 0.5 * braking * brakes) * brakes  # type: ignore[no-any-return]


class Occupancy:
    """Sets of all objects of a scene, built where and for as long as they are asked for.

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
        self._objects, self._table, self._step = objects, assumptions, step
        get = lambda name, by=1.0: by * assumptions.column(name, objects.kind)  # noqa: E731
        self._speed = objects.speed
        self._braking, self._acceleration = get("braking", widening), get("acceleration", widening)
        if waiting is not None:
            self._acceleration = np.where(waiting, widening * assumptions.waiting_acceleration, self._acceleration)
        self._speed_max = get("speed_max")
        self._response, self._answer = get("response_time"), get("braking_min")
        self._side = (get("lateral_acceleration", widening), get("lateral_deviation", widening))
        self._creep = (get("standing_acceleration", widening), get("standing_deviation", widening))
        self._walking = objects.kind == int(AgentClass.PEDESTRIAN)
        standing = self._speed < get("standing_speed")
        self._standing = np.flatnonzero(standing)
        yielding = np.zeros(len(objects), bool) if yielding is None else yielding
        ways = ways_of(
            objects, np.flatnonzero(~standing), lanes, assumptions, reach, yielding, self._braking, self._acceleration
        )
        self._owner, self._path, self._arcs, self._earliest = ways.owner, ways.path, ways.arcs, ways.earliest
        self._heading_offset = objects.pose[self._owner, 2] - self._path[:, 0, 2]

    @cached_property
    def owner(self) -> np.ndarray:
        """``[N]``: whose the boxes are that `boxes` answers."""
        return np.concatenate([self._standing, np.repeat(self._owner, self._table.pieces)])

    def boxes(self, intervals: int) -> Boxes:
        """All boxes ``[K, N]`` of the first `intervals` intervals; `owner` ``[N]`` says whose they are."""
        k = np.arange(intervals)
        low, high, grow = self._spans(np.arange(len(self._owner)), intervals)
        row, path = (f.ravel() for f in np.indices(low.shape))
        moving = self._pieces(path, low[row, path], high[row, path], grow[row, path])
        standing = self._standing_boxes(np.broadcast_to(self._standing, (intervals, len(self._standing))), k[:, None])
        join = lambda one, two: np.concatenate([one, two.reshape(intervals, -1, *one.shape[2:])], 1)  # noqa: E731
        return Boxes(
            join(standing.center, moving.center), join(standing.axis, moving.axis), join(standing.half, moving.half),
            join(standing.disc, moving.disc),
        )  # fmt: skip

    def near(
        self, sweeps: Sweeps, rows: np.ndarray, wanted: np.ndarray, look: float, answering: np.ndarray | None = None
    ) -> tuple[np.ndarray, Boxes, np.ndarray]:
        """Interval k ``[P]``, box ``[P]`` and owner ``[P]`` of every pair of a sweep and a set of its own interval
        whose enclosing circles are no more than `look` (m) apart.

        rows: the sweeps to look at. wanted ``[A]``: the objects to look at. answering ``[n]``: ways on which they
        answer to ego, see `planner.checker.followers`. Only sets that can be so near are built.
        """
        k, i = self._standing_near(sweeps, rows, wanted, look)
        boxes = self._standing_boxes(i, k)
        row, path, span = self._moving_near(sweeps, rows, wanted, look, answering)
        pieces = self._pieces(path, *span)
        row, owner = (np.repeat(f, self._table.pieces) for f in (row, self._owner[path]))
        k, owner, boxes = np.concatenate([k, row]), np.concatenate([i, owner]), boxes.joined(pieces)
        return within(sweeps, k, boxes, owner, look)

    def ways(self) -> tuple[np.ndarray, np.ndarray]:
        """Where moving objects are going: owner ``[n]`` and path ``[n, J, 3]`` (x, y, heading) every STATION metres.

        Along every lane they are on; along the arc of their motion if on none.
        """
        follows = np.zeros(len(self._objects), bool)
        follows[self._owner[self._arcs :]] = True
        chosen = np.where(np.arange(len(self._owner)) < self._arcs, ~follows[self._owner], True)
        return self._owner[chosen], self._path[chosen]

    @property
    def ways_count(self) -> int:
        """How many ways there are."""
        return len(self._owner)

    def ways_of(self, wanted: np.ndarray) -> np.ndarray:
        """Numbers of the ways of the vehicles among the objects in `wanted` ``[A]``."""
        return np.flatnonzero((wanted & self._objects.drives)[self._owner])

    def fastest(self, way: int, intervals: int) -> Boxes:
        """``[K]``: the foremost rectangle of the set along a way at the end of each of the first `intervals`."""
        n = np.array([way])
        _, high, grow = (f[:, 0] for f in self._spans(n, intervals))
        x, y, heading = self._path_at(n, high)
        heading = heading + self._heading_offset[way]
        half = self._objects.size[self._owner[way]] / 2 + np.stack([np.zeros(intervals), grow], -1)
        axis = np.stack([np.cos(heading), np.sin(heading)], -1)
        return Boxes(np.stack([x, y], -1), axis, half, np.zeros(intervals))

    def _standing_near(
        self, sweeps: Sweeps, rows: np.ndarray, wanted: np.ndarray, look: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interval and index of standing objects that may be near."""
        i = self._standing[wanted[self._standing]]
        size = self._objects.size[i]
        reach = 0.5 * np.hypot(size[:, 0], size[:, 1]) + self._creep[1][i] + look
        x, y = self._objects.pose[i, 0], self._objects.pose[i, 1]
        cx, cy = sweeps.center[rows, 0:1], sweeps.center[rows, 1:2]
        r = reach + sweeps.reach[rows, None]
        k, n = np.nonzero((cx - x) ** 2 + (cy - y) ** 2 < r * r)
        return rows[k], i[n]

    def _moving_near(
        self, sweeps: Sweeps, rows: np.ndarray, wanted: np.ndarray, look: float, answering: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Interval, index of the path, and its span there (see `_spans`), of sets that may be near.

        All of a set lies around the middle of its span: half the span away along the path, plus what its boxes are
        larger than that (a piece's length and sagitta, the rectangle in any direction, the growth).
        """
        n = np.flatnonzero(wanted[self._owner])
        if not len(n) or not len(rows):
            none = np.zeros(0)
            return rows[:0], n[:0], (none, none, none)
        low, high, grow = (f[rows] for f in self._spans(n, int(rows[-1]) + 1, answering))
        x, y, _ = self._path_at(n, 0.5 * (low + high))
        size = self._objects.size[self._owner[n]]
        longest = self._stride[n] * np.abs(high - low)
        reach = longest * (0.5 + 1.8 / self._table.pieces) + np.hypot(size[:, 0], size[:, 1]) + 1.5 * grow + look
        cx, cy = sweeps.center[rows, 0:1], sweeps.center[rows, 1:2]
        r = reach + sweeps.reach[rows, None]
        k, j = np.nonzero((cx - x) ** 2 + (cy - y) ** 2 < r * r)
        return rows[k], n[j], (low[k, j], high[k, j], grow[k, j])

    @cached_property
    def _stride(self) -> np.ndarray:
        """``[n]``: the most that a metre along a path moves."""
        step = np.diff(self._path[..., :2], axis=1)
        return np.hypot(step[..., 0], step[..., 1]).max(1, initial=0.0) / STATION + 1e-9  # type: ignore[no-any-return]

    def _spans(
        self, n: np.ndarray, count: int, answering: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Least and most distance along the paths n in each of the first `count` intervals, and how far sideways;
        ``[count, n]`` m."""
        i, time = self._owner[n], self._step * np.arange(count + 1)
        least, most = distance_bounds(self._speed[i], time, self._braking[i], self._acceleration[i], self._speed_max[i])
        grow = np.minimum(0.5 * self._side[0][i] * time[1:, None] ** 2, self._side[1][i])
        high = np.minimum(most[:, 1:].T, self._bend_limited(n, time[1:]))
        if answering is not None:
            answer = answered(self._speed[i], time[1:], self._acceleration[i], self._response[i], self._answer[i])
            high = np.where(answering[n], np.minimum(high, answer.T), high)
        # The disc around a pedestrian already covers a change of speed of its own size.
        high = np.where(self._walking[i], np.maximum(self._speed[i] * time[1:, None], high - grow), high)
        return least[:, :-1].T, high, grow

    def _bend_limited(self, n: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Most distance ``[K, n]`` (m) by the times ``[K]`` that each path's bends allow."""
        stations = STATION * np.arange(self._path.shape[1])
        most = np.full((len(time), len(n)), np.inf)
        for column, path in enumerate(n):
            if path >= self._arcs:
                most[:, column] = np.interp(time, self._earliest[path - self._arcs], stations, right=np.inf)
        return most

    def _standing_boxes(self, i: np.ndarray, k: np.ndarray) -> Boxes:
        """``[...]``: of the standing objects i in the intervals k."""
        o = self._objects
        grow = np.minimum(0.5 * self._creep[0][i] * (self._step * (k + 1)) ** 2, self._creep[1][i])
        yaw, walking = o.pose[i, 2], self._walking[i]
        axis = np.stack([np.cos(yaw), np.sin(yaw)], -1)
        # A vehicle creeps forward only; a pedestrian may step anywhere.
        forward = 0.5 * np.where(walking, 0.0, grow)
        half = o.size[i] / 2
        half[..., 0] += forward
        return Boxes(o.pose[i, :2] + forward[..., None] * axis, axis, half, np.where(walking, grow, 0.0))

    def _pieces(self, n: np.ndarray, low: np.ndarray, high: np.ndarray, grow: np.ndarray) -> Boxes:
        """The spans [low, high] ``[M]`` of the paths n cut into pieces, each inside one rectangle: ``[M * pieces]``."""
        pieces, i = self._table.pieces, self._owner[n]
        node = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, 2 * pieces + 1)
        x, y, heading = self._path_at(n[:, None], node)
        start, middle, end = slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2)
        dx, dy = x[:, end] - x[:, start], y[:, end] - y[:, start]
        length = np.hypot(dx, dy)
        c, s = np.cos(heading), np.sin(heading)
        scale, long = 1.0 / np.maximum(length, 1e-9), length > 0.05
        ax, ay = np.where(long, dx * scale, c[:, middle]), np.where(long, dy * scale, s[:, middle])
        mx, my = 0.5 * (x[:, end] + x[:, start]), 0.5 * (y[:, end] + y[:, start])
        sagitta = 1.2 * np.abs((y[:, middle] - my) * ax - (x[:, middle] - mx) * ay)
        # How far the rectangle, which may point elsewhere than its path, reaches along and across each piece.
        offset = self._heading_offset[n][:, None]
        co, so = np.cos(offset), np.sin(offset)
        c, s = c * co - s * so, s * co + c * so
        half_length, half_width = self._objects.size[i, 0:1] / 2, self._objects.size[i, 1:2] / 2
        far, wide = np.zeros(length.shape), np.zeros(length.shape)
        for part in (start, middle, end):
            along, across = np.abs(c[:, part] * ax + s[:, part] * ay), np.abs(s[:, part] * ax - c[:, part] * ay)
            far = np.maximum(far, along * half_length + across * half_width)
            wide = np.maximum(wide, across * half_length + along * half_width)
        grow, walking = grow[:, None], self._walking[i][:, None]
        half = np.stack([length / 2 + far, wide + sagitta + np.where(walking, 0.0, grow)], -1)
        disc = np.broadcast_to(np.where(walking, grow, 0.0), length.shape)
        return Boxes(
            np.stack([mx, my], -1).reshape(-1, 2), np.stack([ax, ay], -1).reshape(-1, 2), half.reshape(-1, 2),
            disc.reshape(-1),
        )  # fmt: skip

    def _path_at(self, n: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, heading on the paths n at distances, broadcast against each other; straight on beyond its end."""
        position = distance / STATION
        j = np.minimum(position.astype(np.int64), self._path.shape[1] - 2)
        u = (position - j)[..., None]
        first = self._path[n, j]
        step = self._path[n, j + 1] - first
        x, y = first[..., 0] + u[..., 0] * step[..., 0], first[..., 1] + u[..., 0] * step[..., 1]
        return x, y, first[..., 2] + np.minimum(u[..., 0], 1.0) * step[..., 2]


def within(
    sweeps: Sweeps, k: np.ndarray, boxes: Boxes, owner: np.ndarray, look: float
) -> tuple[np.ndarray, Boxes, np.ndarray]:
    """The pairs of sweep k[p] and box p whose enclosing circles are no more than `look` (m) apart."""
    apart = np.hypot(boxes.center[:, 0] - sweeps.center[k, 0], boxes.center[:, 1] - sweeps.center[k, 1])
    p = np.flatnonzero(apart < boxes.reach + sweeps.reach[k] + look)
    return k[p], boxes.take(p), owner[p]

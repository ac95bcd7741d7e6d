"""The scene's centrelines as a graph, and the ways an object on them may continue."""

from __future__ import annotations

import numpy as np

from planner.checker.assumptions import Assumptions


class LaneGraph:
    """Centrelines joined where one ends and another starts.

    xy ``[L, P, 2]`` (m): polylines in driving direction; count ``[L]``: how many points of each, the first
    ones, exist (at least 2). joint (m): ends this close are joined.
    """

    def __init__(self, xy: np.ndarray, count: np.ndarray, joint: float) -> None:
        self._xy, self._count = xy, count
        line = np.arange(len(xy))
        real = np.arange(xy.shape[1] - 1) < count[:, None] - 1
        along = np.where(real[..., None], xy[:, 1:] - xy[:, :-1], 0.0)
        size = np.hypot(along[..., 0], along[..., 1])
        self._arc = np.concatenate([np.zeros((len(xy), 1)), np.cumsum(size, 1)], 1)
        self._length = self._arc[:, -1]
        first, last = xy[:, 0], xy[line, count - 1]
        into, out = _unit(along[:, 0]), _unit(along[line, count - 2])
        gap = last[:, None] - first[None]
        joined = (np.hypot(gap[..., 0], gap[..., 1]) <= joint) & (out @ into.T > 0.7)
        np.fill_diagonal(joined, False)
        self._joined = joined
        self._start, self._along, self._size = xy[:, :-1][real], along[real], size[real]
        self._line_of = np.broadcast_to(line[:, None], real.shape)[real]
        self._station = self._arc[:, :-1][real]
        self._size2 = np.maximum(self._size**2, 1e-12)

    @classmethod
    def from_lists(cls, lines: list[np.ndarray], joint: float) -> LaneGraph:
        """From polylines ``[n, 2]`` of any lengths."""
        xy = np.zeros((len(lines), max((len(x) for x in lines), default=2), 2))
        for padded, x in zip(xy, lines):
            padded[: len(x)] = x
        return cls(xy, np.array([len(x) for x in lines], dtype=np.int64), joint)

    def nearest(self, xy: np.ndarray, heading: float, distance: float, angle: float) -> list[tuple[int, float, float]]:
        """Lines within `distance` (m) and `angle` (rad) of a pose: (line, arc length m, offset to the left m)."""
        near = np.flatnonzero((np.abs(self._start - xy) < distance + 15.0).all(1))
        if not len(near):
            return []
        along, to = self._along[near], xy - self._start[near]
        u = np.clip((to * along).sum(1) / self._size2[near], 0.0, 1.0)
        gap = to - u[:, None] * along
        squared = (gap**2).sum(1)
        aligned = along[:, 0] * np.cos(heading) + along[:, 1] * np.sin(heading) > np.cos(angle) * np.sqrt(
            self._size2[near]
        )
        found = []
        for line in np.unique(self._line_of[near][aligned & (squared <= distance**2)]):
            mine = np.flatnonzero((self._line_of[near] == line) & aligned)
            best = mine[squared[mine].argmin()]
            size = np.sqrt(self._size2[near][best])
            offset = (along[best, 0] * to[best, 1] - along[best, 1] * to[best, 0]) / size
            found.append((int(line), float(self._station[near][best] + u[best] * size), float(offset)))
        return found

    def paths(
        self, xy: np.ndarray, heading: float, samples: int, station: float, table: Assumptions
    ) -> list[np.ndarray]:
        """Ways ``[samples, 3]`` (x, y, heading) an object may take along lanes, parallel to the centreline.

        Starts at the object with its present offset; follows every continuation, `table.paths_max` at most.
        """
        ways: list[np.ndarray] = []
        for line, start, offset in self.nearest(xy, heading, table.lane_distance, table.lane_angle):
            for chain in self._chains([line], samples * station + start, table.paths_max - len(ways)):
                ways.append(self._sample(chain, start, offset, samples, station))
            if len(ways) >= table.paths_max:
                break
        return ways

    def crossings(self, route: np.ndarray, station: np.ndarray, up: float) -> list[tuple[float, float, np.ndarray]]:
        """Where lanes cross a line ``[n, 2]`` with stations ``[n]`` (m) at more than 0.5 rad: the station, the sine of
        the angle, and the way up the lane from there, ``[m, 3]``: x, y, distance (m, at most `up`), every metre."""
        a, b = route[:-1, None], np.diff(route, axis=0)[:, None]
        to = self._start[None] - a
        cross = b[..., 0] * self._along[None, :, 1] - b[..., 1] * self._along[None, :, 0]
        safe = np.where(np.abs(cross) < 1e-9, np.inf, cross)
        u = (to[..., 0] * self._along[None, :, 1] - to[..., 1] * self._along[None, :, 0]) / safe
        w = (to[..., 0] * b[..., 1] - to[..., 1] * b[..., 0]) / safe
        sine = np.abs(cross) / np.maximum(np.hypot(b[..., 0], b[..., 1]) * self._size[None], 1e-9)
        i, j = np.nonzero((u >= 0) & (u < 1) & (w >= 0) & (w < 1) & (sine > 0.48))
        found = []
        for i_, j_ in zip(i, j):
            at = station[i_] + u[i_, j_] * (station[i_ + 1] - station[i_])
            line, arc = int(self._line_of[j_]), float(self._station[j_] + w[i_, j_] * self._size[j_])
            found.append((float(at), float(sine[i_, j_]), self._upstream(line, arc, up)))
        return found

    def _upstream(self, line: int, arc: float, up: float, done: float = 0.0, seen: tuple[int, ...] = ()) -> np.ndarray:
        """The ways up a lane from an arc length, through every lane that leads into it, nearest places first."""
        distance = np.arange(0.0, min(arc, up - done) + 1e-9, 1.0)
        stop = int(self._count[line])
        xy = [np.interp(arc - distance, self._arc[line, :stop], self._xy[line, :stop, c]) for c in (0, 1)]
        points = [np.stack([*xy, done + distance], 1)]
        if done + arc < up:
            for before in np.flatnonzero(self._joined[:, line]):
                if before not in seen:
                    length = float(self._length[before])
                    points.append(self._upstream(int(before), length, up, done + arc, (*seen, line)))
        ways = np.concatenate(points)
        return ways[ways[:, 2].argsort(kind="stable")]

    def _chains(self, chain: list[int], remaining: float, room: int) -> list[list[int]]:
        remaining -= self._length[chain[-1]]
        following = [n for n in np.flatnonzero(self._joined[chain[-1]]) if n not in chain]
        if remaining <= 0 or not following:
            return [chain]
        found: list[list[int]] = []
        for line in following:
            if len(found) < room:
                found += self._chains([*chain, int(line)], remaining, room - len(found))
        return found

    def _sample(self, chain: list[int], start: float, offset: float, samples: int, station: float) -> np.ndarray:
        points = np.concatenate([self._xy[i, : self._count[i]] for i in chain])
        size = np.hypot(*np.diff(points, axis=0).T)
        points = points[np.concatenate([[True], size > 1e-3])]
        size = size[size > 1e-3]
        arc = np.concatenate([[0.0], np.cumsum(size)])
        angle = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
        middle = 0.5 * (arc[1:] + arc[:-1])
        s = start + station * np.arange(samples)
        heading = np.interp(s, middle, angle)
        inside = np.minimum(s, arc[-1])
        xy = np.stack([np.interp(inside, arc, points[:, c]) for c in (0, 1)], 1)
        xy += (s - inside)[:, None] * [np.cos(angle[-1]), np.sin(angle[-1])]
        xy += offset * np.stack([-np.sin(heading), np.cos(heading)], 1)
        return np.concatenate([xy, heading[:, None]], 1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.hypot(vector[:, 0], vector[:, 1]), 1e-9)[:, None]

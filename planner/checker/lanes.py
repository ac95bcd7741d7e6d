"""The scene's centrelines as a graph, and the ways an object on them may continue."""

from __future__ import annotations

import numpy as np

from planner.checker.config import OccupancyAssumptions


class LaneGraph:
    """Centrelines joined where one ends and another starts.

    lines: polylines ``[n, 2]`` (m) in driving direction. joint (m): ends this close are joined.
    """

    def __init__(self, lines: list[np.ndarray], joint: float) -> None:
        self._lines = [line for line in lines if len(line) >= 2]
        if not self._lines:
            return
        self._arc = [np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(x, axis=0).T))]) for x in self._lines]
        first = np.array([x[0] for x in self._lines])
        last = np.array([x[-1] for x in self._lines])
        joined = np.hypot(*(last[:, None] - first[None]).transpose(2, 0, 1)) <= joint
        out = np.array([_direction(x[-2], x[-1]) for x in self._lines])
        into = np.array([_direction(x[0], x[1]) for x in self._lines])
        joined &= np.cos(out[:, None] - into[None]) > 0.7
        np.fill_diagonal(joined, False)
        self._next = [np.flatnonzero(row) for row in joined]
        self._start = np.concatenate([x[:-1] for x in self._lines])
        self._along = np.concatenate([np.diff(x, axis=0) for x in self._lines])
        self._line_of = np.concatenate([np.full(len(x) - 1, i) for i, x in enumerate(self._lines)])
        self._station = np.concatenate([s[:-1] for s in self._arc])
        self._size2 = np.maximum((self._along**2).sum(1), 1e-12)

    def nearest(self, xy: np.ndarray, heading: float, distance: float, angle: float) -> list[tuple[int, float, float]]:
        """Lines within `distance` (m) and `angle` (rad) of a pose: (line, arc length m, offset to the left m)."""
        if not self._lines:
            return []
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
        self, xy: np.ndarray, heading: float, samples: int, station: float, table: OccupancyAssumptions
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

    def _chains(self, chain: list[int], remaining: float, room: int) -> list[list[int]]:
        remaining -= self._arc[chain[-1]][-1]
        following = [n for n in self._next[chain[-1]] if n not in chain]
        if remaining <= 0 or not following:
            return [chain]
        found: list[list[int]] = []
        for line in following:
            if len(found) < room:
                found += self._chains([*chain, int(line)], remaining, room - len(found))
        return found

    def _sample(self, chain: list[int], start: float, offset: float, samples: int, station: float) -> np.ndarray:
        points = np.concatenate([self._lines[i] for i in chain])
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


def _direction(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arctan2(b[1] - a[1], b[0] - a[0]))

"""The scene's centrelines as a graph, and the ways an object on them may continue."""

from __future__ import annotations

import numpy as np

from planner.checker.arrays import wrapped
from planner.checker.assumptions import Assumptions
from planner.checker.edges import pieces

_SHORTEST = 1e-3  # m: shorter pieces have no direction


class LaneGraph:
    """Centrelines joined where one ends and another starts.

    xy ``[L, P, 2]`` (m): polylines in driving direction; count ``[L]``: how many points of each, the first
    ones, exist (at least 2). joint (m): ends this close are joined.
    """

    def __init__(self, xy: np.ndarray, count: np.ndarray, joint: float) -> None:
        self._xy, self._count = xy, count
        line, point = pieces(count)
        start = xy[line, point]
        along = xy[line, point + 1] - start
        size = np.hypot(along[:, 0], along[:, 1])
        last = np.cumsum(count - 1) - 1  # of each line's pieces
        self._first = first = last - (count - 2)
        total = np.concatenate([[0.0], np.cumsum(size)])
        self._length = total[last + 1] - total[first]
        unit = along / np.maximum(size, 1e-9)[:, None]
        gap = xy[np.arange(len(xy)), count - 1][:, None] - xy[None, :, 0]
        joined = (np.hypot(gap[..., 0], gap[..., 1]) <= joint) & (unit[last] @ unit[first].T > 0.7)
        np.fill_diagonal(joined, False)
        self._joined = joined
        self._start, self._along, self._size, self._line_of = start, along, size, line
        self._station = total[:-1] - total[first][line]
        self._size2 = np.maximum(size**2, 1e-12)

    @classmethod
    def from_lists(cls, lines: list[np.ndarray], joint: float) -> LaneGraph:
        """From polylines ``[n, 2]`` of any lengths."""
        xy = np.zeros((len(lines), max((len(x) for x in lines), default=2), 2))
        for padded, x in zip(xy, lines):
            padded[: len(x)] = x
        return cls(xy, np.array([len(x) for x in lines], dtype=np.int64), joint)

    def nearest(
        self, xy: np.ndarray, heading: np.ndarray, distance: float, angle: float
    ) -> list[dict[int, tuple[float, float]]]:
        """For each of the poses ``[m, 2]``, ``[m]`` the lines within `distance` (m) and `angle` (rad): arc length (m)
        of the nearest place there, and the offset to its left (m)."""
        x, y = xy[:, 0:1] - self._start[:, 0], xy[:, 1:2] - self._start[:, 1]
        ax, ay = self._along[:, 0], self._along[:, 1]
        u = np.minimum(np.maximum((x * ax + y * ay) / self._size2, 0.0), 1.0)
        squared = (x - u * ax) ** 2 + (y - u * ay) ** 2
        c, s = np.cos(heading)[:, None], np.sin(heading)[:, None]
        aligned = (ax * c + ay * s > np.cos(angle) * self._size) & (self._size > _SHORTEST)
        pose, piece = np.nonzero((squared <= distance**2) & aligned)
        found: list[dict[int, tuple[float, float]]] = [{} for _ in xy]
        # The nearest last, so that it is what remains; of equals the first.
        for p in np.lexsort((-np.arange(len(pose)), -squared[pose, piece])):
            i, j = pose[p], piece[p]
            size = self._size[j]
            offset = (ax[j] * y[i, j] - ay[j] * x[i, j]) / size
            found[i][int(self._line_of[j])] = (float(self._station[j] + u[i, j] * size), float(offset))
        return found

    def paths(
        self, xy: np.ndarray, heading: np.ndarray, samples: int, station: float, table: Assumptions
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ways that objects at the poses ``[m, 2]``, ``[m]`` may take along lanes, parallel to the centreline: whose
        ``[n]``, and ``[n, samples, 3]``: x, y, heading every `station` metres.

        Starts at the object with its present offset; follows every continuation, `table.paths_max` at most.
        """
        owner: list[int] = []
        chains: list[list[int]] = []
        places: list[tuple[float, float]] = []
        for i, lines in enumerate(self.nearest(xy, heading, table.lane_distance, table.lane_angle)):
            room = table.paths_max
            for line, place in sorted(lines.items()):
                found = self._chains([line], samples * station + place[0], room)
                chains += found
                owner += [i] * len(found)
                places += [place] * len(found)
                room -= len(found)
                if room <= 0:
                    break
        if not owner:
            return np.zeros(0, np.int64), np.zeros((0, samples, 3))
        start, offset = np.array(places).T
        return np.array(owner), self._sample(chains, start, offset, station * np.arange(samples))

    def crossings(self, route: np.ndarray, station: np.ndarray, up: float) -> list[tuple[float, float, np.ndarray]]:
        """Where lanes cross a line ``[n, 2]`` with stations ``[n]`` (m) at more than 0.5 rad: the station, the sine of
        the angle, and the way up the lane from there, ``[m, 3]``: x, y, distance (m, at most `up`), every metre."""
        end = self._start + self._along
        apart = (np.maximum(self._start, end) < route.min(0)) | (np.minimum(self._start, end) > route.max(0))
        near = np.flatnonzero(~apart.any(1))
        a, b = route[:-1, None], np.diff(route, axis=0)[:, None]
        to, along = self._start[near] - a, self._along[near]
        cross = b[..., 0] * along[:, 1] - b[..., 1] * along[:, 0]
        safe = np.where(np.abs(cross) < 1e-9, np.inf, cross)
        u = (to[..., 0] * along[:, 1] - to[..., 1] * along[:, 0]) / safe
        w = (to[..., 0] * b[..., 1] - to[..., 1] * b[..., 0]) / safe
        sine = np.abs(cross) / np.maximum(np.hypot(b[..., 0], b[..., 1]) * self._size[near], 1e-9)
        i, j = np.nonzero((u >= 0) & (u < 1) & (w >= 0) & (w < 1) & (sine > 0.48))
        found = []
        for i_, j_ in zip(i, j):
            at = station[i_] + u[i_, j_] * (station[i_ + 1] - station[i_])
            line, arc = int(self._line_of[near[j_]]), float(self._station[near[j_]] + w[i_, j_] * self._size[near[j_]])
            found.append((float(at), float(sine[i_, j_]), self._upstream(line, arc, up)))
        return found

    def _upstream(self, line: int, arc: float, up: float, done: float = 0.0, seen: tuple[int, ...] = ()) -> np.ndarray:
        """The ways up a lane from an arc length, through every lane that leads into it, nearest places first."""
        distance = np.arange(0.0, min(arc, up - done) + 1e-9, 1.0)
        first, stop = int(self._first[line]), int(self._count[line])
        arcs = np.append(self._station[first : first + stop - 1], self._length[line])
        xy = [np.interp(arc - distance, arcs, self._xy[line, :stop, c]) for c in (0, 1)]
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

    def _sample(self, chains: list[list[int]], start: np.ndarray, offset: np.ndarray, along: np.ndarray) -> np.ndarray:
        """``[n, J, 3]``: x, y, heading at the distances `along` ``[J]`` behind the places `start` ``[n]`` (m) of chains
        of lines, shifted to the left; straight on beyond the last line. All chains are computed at once."""
        point, way, size = self._course(chains)
        step = point[1:] - point[:-1]
        inner = way[1:] == way[:-1]  # a piece of a way, not a jump to the next one
        total = np.concatenate([[0.0], np.cumsum(np.where(inner, size, 0.0))])
        number = np.arange(len(chains))
        first, last = np.searchsorted(way, number), np.searchsorted(way, number, side="right") - 1
        arc = total - total[first[way]]
        s = start[:, None] + along
        inside = np.minimum(s, arc[last][:, None])
        key = 1.0 + 2.0 * max(float(s.max()), float(arc.max()))  # makes the ways one ascending line
        j = np.searchsorted(key * way + arc, key * number[:, None] + inside, side="right") - 1
        j = np.minimum(np.maximum(j, first[:, None]), last[:, None] - 1)
        xy = point[j] + ((inside - arc[j]) / (arc[j + 1] - arc[j]))[..., None] * step[j]

        # The heading is that of the pieces at their middles, linear in between, without jumps.
        piece = np.flatnonzero(inner)
        angle, of, middle = np.arctan2(step[piece, 1], step[piece, 0]), way[piece], 0.5 * (arc[piece] + arc[piece + 1])
        turn = np.where(of[1:] == of[:-1], wrapped(np.diff(angle)), 0.0)
        turned = np.concatenate([[0.0], np.cumsum(turn)])
        first, last = np.searchsorted(of, number), np.searchsorted(of, number, side="right") - 1
        angle = angle[first[of]] + turned - turned[first[of]]
        j = np.searchsorted(key * of + middle, key * number[:, None] + s, side="right") - 1
        j = np.minimum(np.maximum(j, first[:, None]), last[:, None])
        k = np.minimum(j + 1, last[:, None])
        u = np.minimum(np.maximum((s - middle[j]) / np.where(k > j, middle[k] - middle[j], 1.0), 0.0), 1.0)
        path = np.empty((*s.shape, 3))
        path[..., 2] = heading = angle[j] + np.where(k > j, u, 0.0) * (angle[k] - angle[j])
        beyond, end = s - inside, angle[last][:, None]
        path[..., 0] = xy[..., 0] + beyond * np.cos(end) - offset[:, None] * np.sin(heading)
        path[..., 1] = xy[..., 1] + beyond * np.sin(end) + offset[:, None] * np.cos(heading)
        return path

    def _course(self, chains: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The points ``[P, 2]`` of chains one after the other, without repetitions, whose they are ``[P]``, and the
        length (m) of the pieces ``[P - 1]`` between them."""
        line = np.concatenate(chains)
        count = self._count[line]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        point = self._xy[np.repeat(line, count), within]
        way = np.repeat(np.repeat(np.arange(len(chains)), [len(c) for c in chains]), count)
        step = point[1:] - point[:-1]
        size = np.hypot(step[:, 0], step[:, 1])
        moved = (size > _SHORTEST) | (way[1:] != way[:-1])
        kept = np.concatenate([[True], moved])
        return point[kept], way[kept], size[moved]

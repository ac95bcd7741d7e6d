"""Does the map stay where it was? Its lines against those of moments ago, both in the global frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict
from planner.scene import PolylineType, VectorScene

_KINDS = {PolylineType.BOUNDARY: "edges", PolylineType.CENTERLINE: "lanes", PolylineType.DIVIDER: "dividers"}
_SPACING = 2.0
"""m between the points of a line that are looked for."""
_BEYOND = 5.0
"""m around `reach` where a line still counts as there."""
_MOST = 48
"""Points of a kind that are looked for, evenly drawn."""


_Lines = dict[PolylineType, np.ndarray]


@dataclass(frozen=True)
class MapConfig:
    """shift (m): median distance of the lines' points from the same kind of line now, DEGRADED above the first,
    MINIMAL_RISK above the second for longer than `lasting` (s). No such line at all is an infinite distance.
    reach (m): points around ego that are looked for; as many as `points` of a kind, or it says nothing.
    fresh (m): way after which the present map becomes the one to compare with, if it has not moved.
    """

    shift: tuple[float, float] = (0.4, 1.0)
    lasting: float = 0.5
    reach: float = 20.0
    points: int = 6
    fresh: float = 10.0


class MapMonitor:
    """Remembers the lines of every kind where they lay in the global frame, and looks for them in the present map.

    A map that is wrong from the first cycle on is not found: there is nothing to compare it with.
    """

    name = "map"

    def __init__(self, config: MapConfig | None = None) -> None:
        self.config = config or MapConfig()
        self._known: tuple[np.ndarray, _Lines] | None = None  # from where (m, global), and points
        self._since_us: int | None = None

    def update(self, scene: VectorScene, pose: np.ndarray, time_us: int) -> MonitorVerdict:
        """scene: single, validated. pose ``[3]``: global_from_ego (m, m, rad), trusted. microseconds."""
        lines = {kind: _segments(scene, kind) for kind in _KINDS}
        where, known = self._known = self._known or _remembered(lines, pose)
        what, shift = self._largest(known, lines, pose)
        if shift <= self.config.shift[0]:
            self._since_us = None
            if np.hypot(*(pose[:2] - where)) > self.config.fresh:
                self._known = _remembered(lines, pose)
            return MonitorVerdict(self.name, MonitorLevel.OK, "", shift, self.config.shift[0])
        if shift <= self.config.shift[1]:
            self._since_us = None
        elif self._since_us is None:
            self._since_us = time_us
        lasts = 0.0 if self._since_us is None else (time_us - self._since_us) * 1e-6
        level = MonitorLevel.MINIMAL_RISK if lasts > self.config.lasting else MonitorLevel.DEGRADED
        now = f"lie {shift:.2f} m from" if np.isfinite(shift) else "are gone from"
        return MonitorVerdict(self.name, level, f"the map's {what} {now} where they were", shift, self.config.shift[0])

    def _largest(self, known: _Lines, lines: _Lines, pose: np.ndarray) -> tuple[str, float]:
        """Of all kinds: the name and the median distance (m), infinite where none of its lines is there.

        known: points, global. lines: pieces, in ego's frame.
        """
        what, worst = "", 0.0
        for kind, points in known.items():
            here = _to_ego(points, pose)
            here = here[np.hypot(here[:, 0], here[:, 1]) < self.config.reach]
            if len(here) < self.config.points:
                continue
            here = here[:: -(-len(here) // _MOST)]
            there = _around(lines[kind], self.config.reach + _BEYOND)
            shift = float(np.median(_distance(here, there)))
            if shift > worst:
                what, worst = _KINDS[kind], shift
        return what, worst


def _remembered(lines: _Lines, pose: np.ndarray) -> tuple[np.ndarray, _Lines]:
    """Where ego is, and points of the lines in the global frame."""
    return pose[:2].copy(), {kind: _to_global(_points(part), pose) for kind, part in lines.items()}


def _segments(scene: VectorScene, kind: PolylineType) -> np.ndarray:
    """``[n, 2, 2]``: begin and end (m) of every piece of the lines of a kind, in ego's frame."""
    m = scene.map
    rows = (m.kind == int(kind)).detach().cpu().numpy()
    xy, valid = m.xy.detach().cpu().numpy()[rows].astype(float), m.valid.detach().cpu().numpy()[rows]
    pieces = np.stack([xy[:, :-1], xy[:, 1:]], 2)[valid[:, :-1] & valid[:, 1:]]
    closed = m.closed.detach().cpu().numpy()[rows] & (valid.sum(1) > 2)
    last = np.maximum(valid.sum(1) - 1, 0)[closed]
    back = np.stack([xy[closed, last], xy[closed, 0]], 1) if closed.any() else np.zeros((0, 2, 2))
    return np.concatenate([pieces, back])


def _around(segments: np.ndarray, reach: float) -> np.ndarray:
    """Those that may come within `reach` (m) of ego."""
    low, high = segments.min(1), segments.max(1)
    return segments[((low < reach) & (high > -reach)).all(1)]


def _points(segments: np.ndarray) -> np.ndarray:
    """``[m, 2]``: the middles of equal parts of at most `_SPACING` of every piece."""
    way = segments[:, 1] - segments[:, 0]
    count = np.ceil(np.hypot(way[:, 0], way[:, 1]) / _SPACING).astype(np.int64)
    row = np.repeat(np.arange(len(segments)), count)
    part = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return segments[row, 0] + ((part + 0.5) / count[row])[:, None] * way[row]


def _distance(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """``[m]``: of every point ``[m, 2]`` from the nearest of the pieces ``[n, 2, 2]``; infinite without any."""
    begin, way = segments[:, 0], segments[:, 1] - segments[:, 0]
    to = points[:, None] - begin
    u = np.clip((to * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0.0, 1.0)
    return np.hypot(*np.moveaxis(to - u[..., None] * way, -1, 0)).min(1, initial=np.inf)


def _to_global(xy: np.ndarray, pose: np.ndarray) -> np.ndarray:
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return xy @ np.array([[c, s], [-s, c]]) + pose[:2]


def _to_ego(xy: np.ndarray, pose: np.ndarray) -> np.ndarray:
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return (xy - pose[:2]) @ np.array([[c, -s], [s, c]])

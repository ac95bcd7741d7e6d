"""What the network shall say: a scene (`VectorScene`) as plain arrays, and back.

Futures of the scene are the true ones (one mode); its proposal's reference is the expert's drive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from perception.config import LINE_KINDS, PerceptionConfig
from planner.scene import MapPolylines, PolylineType, VectorScene

SPACING = 0.1
"""m between the points along which lines are cut at the window's edge."""
SHORTEST = 2.0
"""m: shorter pieces of lines are not asked for."""
REACH = 5.0
"""m beyond the window's corners that lines are kept, so that a frame moved by augmentation still has them."""


@dataclass
class Targets:
    """One scene. ``A`` agents, ``L`` polylines, ``T`` times after now.

    box ``[A, 5]`` x, y (m), yaw, length, width; velocity ``[A, 2]`` m/s; kind ``[A]``; seen ``[A]`` bool: a sensor
    could see it; future ``[A, T, 3]`` x, y, yaw, future_valid ``[A, T]``; line: L whole polylines ``[n, 2]`` (m)
    around ego, line_kind ``[L]`` index in LINE_KINDS (`windowed` cuts out what the network is asked for); ego ``[3]``:
    pose in this frame; drive ``[T, 2]`` m: where the expert was, drive_valid ``[T]``.
    """

    box: np.ndarray
    velocity: np.ndarray
    kind: np.ndarray
    seen: np.ndarray
    future: np.ndarray
    future_valid: np.ndarray
    line: list[np.ndarray]
    line_kind: np.ndarray
    ego: np.ndarray
    drive: np.ndarray
    drive_valid: np.ndarray


def encode(scene: VectorScene, config: PerceptionConfig) -> Targets:
    """Of a single scene whose futures have one mode on the network's time grid.

    Raises ValueError for another number of times. Existence below a half means: there, but no sensor saw it.
    """
    if scene.futures.time.shape[-1] != config.steps:
        raise ValueError(f"scene.futures: expected {config.steps} times, got {scene.futures.time.shape[-1]}")
    there = scene.agents.valid.numpy()
    future = np.concatenate([scene.futures.mean[:, 0].numpy(), scene.futures.yaw[:, 0].numpy()[..., None]], -1)
    line, line_kind = whole_lines(scene.map, float(np.hypot(*config.line_range)) + REACH)
    drive = np.zeros((config.steps, 2))
    said = np.zeros(config.steps, bool)
    if scene.proposal is not None and (reference := scene.proposal.reference) is not None:
        time = scene.futures.time.numpy()
        known = reference.time.numpy()
        drive = np.stack([np.interp(time, known, c.numpy()) for c in (reference.x, reference.y)], 1)
        said = time <= known[-1] + 1e-6
    ego = np.array([float(v) for v in (scene.ego.x, scene.ego.y, scene.ego.yaw)])
    return Targets(
        scene.agents.box.numpy()[there], scene.agents.velocity.numpy()[there], scene.agents.agent_class.numpy()[there],
        scene.agents.existence.numpy()[there] >= 0.5, future[there], scene.futures.valid[:, 0].numpy()[there],
        line, line_kind, ego, drive, said,
    )  # fmt: skip


def whole_lines(polylines: MapPolylines, half: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Lines put together from their pieces, within a square of half-side `half` (m), and their kinds ``[L]``."""
    found: list[np.ndarray] = []
    kinds: list[int] = []
    for index, kind in enumerate(LINE_KINDS):
        chosen = (polylines.kind == int(kind)).numpy()
        pieces = [
            xy[ok].astype(float)
            for xy, ok in zip(polylines.xy.numpy()[chosen], polylines.valid.numpy()[chosen])
            if ok.sum() >= 2
        ]
        whole = pieces if kind is PolylineType.CROSSING else _joined(pieces, directed=kind is not PolylineType.DIVIDER)
        for part in (part for xy in whole for part in _clipped(xy, (half, half))):
            found.append(part)
            kinds.append(index)
    return found, np.array(kinds, np.int64)


def windowed(targets: Targets, config: PerceptionConfig) -> tuple[np.ndarray, np.ndarray]:
    """What the map's queries shall say: equally spaced points ``[L, P, 2]`` (m) and kinds ``[L]``."""
    parts = [(part, k) for xy, k in zip(targets.line, targets.line_kind) for part in _clipped(xy, config.line_range)]
    line = np.array([resample(part, config.line_points) for part, _ in parts], float)
    return line.reshape(len(parts), config.line_points, 2), np.array([k for _, k in parts], np.int64)


def turned(targets: Targets, pose: np.ndarray, mirror: bool) -> Targets:
    """Seen from another frame: mirrored across the x axis first if asked, then moved by pose ``[3]`` (new from old)."""
    sign = -1.0 if mirror else 1.0
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, sign])

    def points(xy: np.ndarray) -> np.ndarray:
        return xy @ matrix.T + pose[:2]

    def yaw(angle: np.ndarray) -> np.ndarray:
        return (sign * angle + pose[2] + np.pi) % (2 * np.pi) - np.pi

    t, edge = targets, LINE_KINDS.index(PolylineType.BOUNDARY)
    # The drivable side of an edge is its left, also in a mirror.
    line = [points(xy)[:: -1 if mirror and k == edge else 1] for xy, k in zip(t.line, t.line_kind)]
    return replace(
        t,
        box=np.concatenate([points(t.box[:, :2]), yaw(t.box[:, 2:3]), t.box[:, 3:]], 1),
        velocity=t.velocity @ matrix.T,
        future=np.concatenate([points(t.future[..., :2]), yaw(t.future[..., 2:])], -1),
        line=line,
        ego=np.array([*points(t.ego[None, :2])[0], *yaw(t.ego[2:])]),
        drive=points(t.drive),
    )


def resample(xy: np.ndarray, count: int) -> np.ndarray:
    """``[count, 2]`` equally spaced along a polyline, both ends kept."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    wanted = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(wanted, s, xy[:, 0]), np.interp(wanted, s, xy[:, 1])], 1)


def _joined(pieces: list[np.ndarray], directed: bool) -> list[np.ndarray]:
    """Pieces that share an end, where no third one does, as one line."""
    if not pieces:
        return []
    merged = shapely.line_merge(shapely.multilinestrings([shapely.LineString(p) for p in pieces]), directed=directed)
    return [np.asarray(part.coords)[:, :2] for part in shapely.get_parts(merged)]


def _clipped(xy: np.ndarray, half: tuple[float, float]) -> list[np.ndarray]:
    """The parts of a line inside the window, in its direction; a ring is cut where it leaves the window."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    if s[-1] < SHORTEST or (np.abs(xy).min(0) > 1e3).any():
        return []
    low, high = xy.min(0), xy.max(0)
    if (low > half).any() or (high < np.negative(half)).any():
        return []
    fine = resample(xy, max(int(s[-1] / SPACING), 2) + 1)
    inside = (np.abs(fine) <= half).all(1)
    if inside.all():
        return [xy]
    ring = np.allclose(xy[0], xy[-1], atol=1e-6)
    if ring:
        first = int(np.argmin(inside))
        fine, inside = np.roll(fine[:-1], -first, 0), np.roll(inside[:-1], -first)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    parts = [fine[a:b] for a, b in zip(edges[::2], edges[1::2])]
    return [part for part in parts if len(part) * SPACING >= SHORTEST]

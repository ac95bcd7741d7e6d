"""What was annotated at the key frames of a scene: boxes, what became of them, and the map around ego."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from perception.config import LINE_KINDS
from perception.map_polylines import map_window
from perception.nuscenes import load_recording
from perception.nuscenes_sensors import LIDAR, sensor_pose
from perception.nuscenes_tables import get, numbers, open_tables, scene_record, scene_samples, table_path, yaw_of
from perception.nuscenes_tracks import agent_class, annotated_velocity
from perception.perceive import planar
from perception.road_map import RoadMap
from perception.targets import REACH, SHORTEST, whole_lines
from perception.training_scene import MAP_POINTS

HORIZON, STEP = 6.0, 0.5
"""s: how far, and in which steps, what became of an object is looked up."""
LATE = 0.05
"""s after its last annotation that an object still counts as known: key frames are not exactly 0.5 s apart."""
WINDOW = (30.0, 15.0)
"""m: half length, half width of the window around ego in which maps are judged (MapTR's 60 x 30 m)."""


@dataclass
class Truth:
    """One key frame; ``N`` annotated objects in the global frame, ``T`` times after now.

    scene, token: of the scene (name) and the sample; time_us. pose ``[3]``: ego's x, y (m), yaw (rad).
    box ``[N, 5]``: x, y (m), yaw, length, width; z, height ``[N]``: of the middle, m; velocity ``[N, 2]`` m/s: the
    devkit's central difference, 0 where nothing is known. kind ``[N]``: AgentClass; category, instance: N strings;
    points ``[N]``: LiDAR and radar returns inside. future ``[N, T, 2]`` m, future_valid ``[N, T]``: where it was later,
    linear between annotations. line: L map lines ``[n, 2]`` in the EGO frame, cut to `WINDOW`; line_kind ``[L]``: index
    in LINE_KINDS.
    """

    scene: str
    token: str
    time_us: int
    pose: np.ndarray
    box: np.ndarray
    z: np.ndarray
    height: np.ndarray
    velocity: np.ndarray
    kind: np.ndarray
    category: list[str]
    instance: list[str]
    points: np.ndarray
    future: np.ndarray
    future_valid: np.ndarray
    line: list[np.ndarray]
    line_kind: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """``[N]`` m from ego."""
        return np.hypot(*(self.box[:, :2] - self.pose[:2]).T)


def scene_truth(dataroot: str | Path, version: str, scene: str) -> list[Truth]:
    """All key frames of a scene, in order. Raises DatasetError."""
    tables = open_tables(dataroot, version)
    samples = scene_samples(tables, scene_record(tables, scene))
    road = load_recording(dataroot, version, scene).road
    where = str(table_path(dataroot, version, "sample_annotation"))
    frames = [[get(tables, "sample_annotation", t, f"sample {s['token']}") for t in s["anns"]] for s in samples]
    tracks: dict[str, list[tuple[float, np.ndarray]]] = {}
    for sample, records in zip(samples, frames):
        for r in records:
            tracks.setdefault(r["instance_token"], []).append(
                (sample["timestamp"] / 1e6, numbers(r, "translation", 3, where)[:2])
            )
    chains = {i: (np.array([t for t, _ in c]), np.array([xy for _, xy in c])) for i, c in tracks.items()}
    speeds = {i: dict(zip(at, annotated_velocity(at, xy))) for i, (at, xy) in chains.items()}
    out = []
    for sample, records in zip(samples, frames):
        now = sample["timestamp"] / 1e6
        data = get(tables, "sample_data", sample["data"][LIDAR], f"sample {sample['token']}")
        pose = planar(sensor_pose(tables, data))
        future, known = _futures([chains[r["instance_token"]] for r in records], now)
        line, kind = window_lines(road, pose)
        place = np.array([numbers(r, "translation", 3, where) for r in records]).reshape(-1, 3)
        size = np.array([numbers(r, "size", 3, where) for r in records]).reshape(-1, 3)
        yaw = np.array([yaw_of(r, where) for r in records])
        out.append(
            Truth(
                scene, sample["token"], int(sample["timestamp"]), pose,
                np.concatenate([place[:, :2], yaw[:, None], size[:, [1, 0]]], 1), place[:, 2], size[:, 2],
                np.array([speeds[r["instance_token"]][now] for r in records]).reshape(-1, 2),
                np.array([int(agent_class(r["category_name"])) for r in records], np.int64),
                [r["category_name"] for r in records], [r["instance_token"] for r in records],
                np.array([r["num_lidar_pts"] + r["num_radar_pts"] for r in records], np.int64),
                future, known, line, kind,
            )
        )  # fmt: skip
    return out


def _futures(chains: Sequence[tuple[np.ndarray, np.ndarray]], now: float) -> tuple[np.ndarray, np.ndarray]:
    time = now + np.arange(1, round(HORIZON / STEP) + 1) * STEP
    future, known = np.zeros((len(chains), len(time), 2)), np.zeros((len(chains), len(time)), bool)
    for n, (at, xy) in enumerate(chains):
        future[n] = np.stack([np.interp(time, at, xy[:, 0]), np.interp(time, at, xy[:, 1])], 1)
        known[n] = time <= at[-1] + LATE
    return future, known


def window_lines(road: RoadMap, pose: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The road's lines seen from a pose ``[3]``, cut to `WINDOW`; pieces below `SHORTEST` are left out.

    Lines that a map stores in pieces are put together first, as MapTR does for its ground truth.
    """
    half = float(np.hypot(*WINDOW)) + REACH
    whole, kinds = whole_lines(map_window(road, MAP_POINTS).local(pose, half), half)
    window = shapely.box(-WINDOW[0], -WINDOW[1], WINDOW[0], WINDOW[1])
    out, kept = [], []
    for xy, kind in zip(whole, kinds.tolist()):
        inside: Any = shapely.intersection(shapely.LineString(xy), window)
        # A ring that leaves the window comes back in pieces that meet where its list of points began.
        for part in shapely.get_parts(shapely.line_merge(inside)):
            if part.geom_type == "LineString" and part.length >= SHORTEST:
                out.append(np.asarray(part.coords)[:, :2])
                kept.append(kind)
    assert all(0 <= k < len(LINE_KINDS) for k in kept)
    return out, np.array(kept, np.int64)

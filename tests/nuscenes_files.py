"""A small synthetic data set in nuScenes schema: one straight road, one scene, two objects.

Lanes, all 3.5 m wide: A (0..60 m), connector C (60..80), B (80..400) along x at y = 0; A2 and B2
beside them at y = -3.5 (no connector between); an oncoming lane O at y = 3.5.
The ego drives along x at 8 m/s from x = 20; a car is ahead, a pedestrian is annotated once.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.nuscenes import load_recording
from perception.recording import Recording

MINI = ("scene-0061", "scene-0103", "scene-0553", "scene-0655", "scene-0757", "scene-0796", "scene-1094")
VERSION, SCENE, LOCATION = "v1.0-mini", "scene-9001", "singapore-onenorth"
START_US, STEP_US, SAMPLES, SPEED = 1_600_000_000_000_000, 500_000, 9, 8.0
LANES = {
    "A": (0.0, 60.0, 0.0, 0.0), "C": (60.0, 20.0, 0.0, 0.0), "B": (80.0, 320.0, 0.0, 0.0),
    "A2": (0.0, 60.0, -3.5, 0.0), "B2": (60.0, 340.0, -3.5, 0.0), "O": (400.0, 400.0, 3.5, np.pi),
}  # fmt: skip
CALIBRATION = {"LIDAR_TOP": ([1.0, 0.0, 1.8], [1.0, 0.0, 0.0, 0.0], [])}


@cache
def load_mini(root: Path) -> dict[str, Recording]:
    """The seven real scenes, read once per test run; do not change them."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    return {scene: load_recording(root, VERSION, scene, False) for scene in MINI}


def write_nuscenes(root: Path) -> Path:
    """Write the data set under `root` and return it."""
    tables = build_tables()
    for name, records in tables.items():
        write_table(root, name, records)
    (root / "maps" / "expansion").mkdir(parents=True)
    (root / "maps" / "map.png").write_bytes(b"not read by the tables")
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(build_map()))
    points = np.array([[10.0, 0.0, -1.0, 5.0, 0.0], [0.0, 5.0, -1.8, 7.0, 3.0]], dtype=np.float32)
    (root / "samples" / "LIDAR_TOP").mkdir(parents=True)
    points.tofile(root / "samples" / "LIDAR_TOP" / "0.pcd.bin")
    return root


def table_file(root: Path, name: str) -> Path:
    return root / VERSION / f"{name}.json"


def write_table(root: Path, name: str, records: list[dict[str, Any]]) -> None:
    table_file(root, name).parent.mkdir(parents=True, exist_ok=True)
    table_file(root, name).write_text(json.dumps(records))


def edit_table(root: Path, name: str, edit: Any) -> None:
    """Apply `edit(records)` to a table on disk."""
    records = json.loads(table_file(root, name).read_text())
    edit(records)
    write_table(root, name, records)


def build_tables() -> dict[str, list[dict[str, Any]]]:
    samples, data, poses, annotations = [], [], [], []
    for k in range(SAMPLES):
        time = START_US + k * STEP_US
        x = 20.0 + SPEED * k * STEP_US / 1e6
        linked = {"prev": str(k - 1) if k else "", "next": str(k + 1) if k + 1 < SAMPLES else ""}
        samples.append({"token": f"{k}", "timestamp": time, "scene_token": "s", **linked})
        poses.append({"token": f"p{k}", "timestamp": time, "rotation": [1.0, 0, 0, 0], "translation": [x, 0.0, 0.0]})
        data.append({
            "token": f"{k}", "sample_token": f"{k}", "ego_pose_token": f"p{k}", "calibrated_sensor_token": "c",
            "timestamp": time, "fileformat": "pcd", "is_key_frame": True, "height": 0, "width": 0,
            "filename": f"samples/LIDAR_TOP/{k}.pcd.bin", **linked,
        })  # fmt: skip
        if 2 <= k <= 6:
            # Turns from 170 to 190 degrees, through the wrap.
            yaw = np.deg2rad(170 + 5 * (k - 2))
            annotations.append(_annotation(f"car{k}", k, "car", [60.0 + k, 5.0, 0.8], yaw, [1.9, 4.5, 1.6]))
    annotations.append(_annotation("ped", 4, "walker", [50.0, -8.0, 0.9], 0.0, [0.6, 0.7, 1.8]))
    return {
        "category": [
            {"token": "k1", "name": "vehicle.car", "description": ""},
            {"token": "k2", "name": "human.pedestrian.adult", "description": ""},
        ],
        "attribute": [{"token": "t", "name": "vehicle.moving", "description": ""}],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "instance": [
            {"token": "car", "category_token": "k1", "nbr_annotations": 5,
             "first_annotation_token": "car2", "last_annotation_token": "car6"},
            {"token": "walker", "category_token": "k2", "nbr_annotations": 1,
             "first_annotation_token": "ped", "last_annotation_token": "ped"},
        ],
        "sensor": [{"token": "l", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "calibrated_sensor": [
            {"token": "c", "sensor_token": "l", "translation": [1.0, 0.0, 1.8], "rotation": [1.0, 0, 0, 0],
             "camera_intrinsic": []}
        ],
        "ego_pose": poses,
        "log": [{"token": "g", "logfile": "x", "vehicle": "v", "date_captured": "d", "location": LOCATION}],
        "scene": [
            {"token": "s", "name": SCENE, "description": "a straight road", "log_token": "g",
             "nbr_samples": SAMPLES, "first_sample_token": "0", "last_sample_token": f"{SAMPLES - 1}"}
        ],
        "sample": samples,
        "sample_data": data,
        "sample_annotation": annotations,
        "map": [{"token": "m", "log_tokens": ["g"], "category": "semantic_prior", "filename": "maps/map.png"}],
    }  # fmt: skip


def _annotation(
    token: str, sample: int, instance: str, xyz: list[float], yaw: float, size: list[float]
) -> dict[str, Any]:
    return {
        "token": token, "sample_token": f"{sample}", "instance_token": instance, "visibility_token": "4",
        "attribute_tokens": ["t"], "translation": xyz, "size": size,
        "rotation": [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))],
        "prev": "", "next": "", "num_lidar_pts": 1, "num_radar_pts": 0,
    }  # fmt: skip


def build_map() -> dict[str, Any]:
    """A map expansion with the lanes above and one drivable rectangle, y from -8 to 5.25."""
    nodes: list[dict[str, Any]] = []
    polygons: list[dict[str, Any]] = []

    def polygon(token: str, corners: list[tuple[float, float]]) -> str:
        names = [f"n{len(nodes) + i}" for i in range(len(corners))]
        nodes.extend({"token": name, "x": x, "y": y} for name, (x, y) in zip(names, corners))
        polygons.append({"token": token, "exterior_node_tokens": names, "holes": []})
        return token

    lanes, connectors, paths = [], [], {}
    for name, (x, length, y, yaw) in LANES.items():
        end = x + length * float(np.cos(yaw))
        shape = polygon(f"{name}-polygon", [(x, y - 1.75), (end, y - 1.75), (end, y + 1.75), (x, y + 1.75)])
        record: dict[str, Any] = {"token": name, "polygon_token": shape, "lane_type": "CAR"}
        record |= {"left_lane_divider_segments": [], "right_lane_divider_segments": []}
        (connectors if name == "C" else lanes).append(record)
        pieces = [{"start_pose": [x, y, yaw], "end_pose": [end, y, yaw], "shape": "LSL", "radius": 999.0}]
        pieces[0]["segment_length"] = [0.0, length, 0.0]
        paths[name] = pieces
    drivable = polygon("road", [(-20.0, -8.0), (420.0, -8.0), (420.0, 5.25), (-20.0, 5.25)])
    crossing = polygon("zebra", [(100.0, -5.0), (104.0, -5.0), (104.0, 5.0), (100.0, 5.0)])
    stop = polygon("stop", [(58.0, -1.75), (59.0, -1.75), (59.0, 1.75), (58.0, 1.75)])
    nodes.extend([{"token": "d0", "x": 0.0, "y": 1.75}, {"token": "d1", "x": 400.0, "y": 1.75}])
    links = {
        "A": (None, "C"),
        "C": ("A", "B"),
        "B": ("C", None),
        "A2": (None, "B2"),
        "B2": ("A2", None),
        "O": (None, None),
    }
    return {
        "version": "1.3", "polygon": polygons, "node": nodes, "canvas_edge": [1000.0, 1000.0],
        "line": [{"token": "divider-line", "node_tokens": ["d0", "d1"]}],
        "drivable_area": [{"token": "area", "polygon_tokens": [drivable]}],
        "road_segment": [], "road_block": [], "walkway": [], "carpark_area": [], "traffic_light": [],
        "lane": lanes, "lane_connector": connectors, "arcline_path_3": paths, "lane_divider": [],
        "ped_crossing": [{"token": "z", "polygon_token": crossing}],
        "stop_line": [{"token": "sl", "polygon_token": stop, "stop_line_type": "STOP_SIGN"}],
        "road_divider": [{"token": "rd", "line_token": "divider-line"}],
        "connectivity": {k: {"incoming": [i] * bool(i), "outgoing": [o] * bool(o)} for k, (i, o) in links.items()},
    }  # fmt: skip

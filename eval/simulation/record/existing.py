"""Rendered sensor files for an annotated data set that lacks them, in a new root; the original is only read.

Tables are copied, maps and the sensor files that are there are linked. What is missing of LIDAR_TOP and the cameras at
key frames is rendered from the annotations, the map and the tables' own calibrations and poses, at the tables' times.
The new root is derived from the original: its licence holds for it too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.run.store import write_atomic
from eval.simulation.record.annotations import observed
from eval.simulation.record.moments import at
from eval.simulation.record.schema import visibility_of
from eval.simulation.record.sensor_files import write_image, write_sweep
from eval.simulation.sensing.camera_rig import CAMERAS, FULL_SIZE, CameraRig
from eval.simulation.sensors import SensorConfig, SensorSuite
from perception.nuscenes import load_boxes, load_recording
from perception.nuscenes_sensors import LIDAR, sensor_calibration, sensor_pose
from perception.nuscenes_tables import RECORDED, get, open_tables, read_table, scene_record, scene_samples
from perception.recording import ObjectStates, Recording


@dataclass(frozen=True)
class RenderConfig:
    """What is read, and how its missing files are rendered.

    dataroot, version: of the original. sensors: their settings; images are rendered at their height and width and
    stretched to the size that the tables state. recount: replace num_lidar_pts and visibility of the annotations by
    what the rendered sensors saw, at key frames whose sensors were all rendered. jpeg_quality: 1 to 95.
    """

    dataroot: str
    version: str
    recount: bool = True
    jpeg_quality: int = 92
    sensors: SensorConfig = field(default_factory=SensorConfig)


def render_part(
    scene: str, config: RenderConfig, root: Path, progress: Callable[[float], None] = lambda _: None
) -> None:
    """Render what one scene lacks, and note in its part file that this is done. Raises DatasetError."""
    recording = load_recording(config.dataroot, config.version, scene, False, missing_map="corridor")
    tables = open_tables(config.dataroot, config.version)
    samples = scene_samples(tables, scene_record(tables, scene))
    suite = _suite(tables, samples[0], recording, config)
    counts: dict[str, tuple[int, str]] = {}
    rendered = 0
    for i, sample in enumerate(samples):
        sweep, shots = None, []
        for channel, key in sorted(sample["data"].items()):
            data = get(tables, "sample_data", key, f"sample {sample['token']}")
            if (Path(config.dataroot) / data["filename"]).exists() or not (channel == LIDAR or channel in CAMERAS):
                continue
            pose = sensor_pose(tables, data)
            ego, objects = at(recording, int(data["timestamp"]), pose)
            rendered += 1
            if channel == LIDAR:
                assert suite.lidar is not None
                sweep = suite.lidar.sweep(ego, objects)
                write_sweep(root / data["filename"], sweep)
            else:
                assert suite.cameras is not None
                shot = suite.cameras.shot(
                    suite.cameras.rig.channel.index(channel), pose, objects, int(data["timestamp"])
                )
                shots.append(shot)
                size = (int(data["height"]) or FULL_SIZE[0], int(data["width"]) or FULL_SIZE[1])
                write_image(root / data["filename"], shot.image, config.jpeg_quality, size)
        if config.recount and sweep is not None and len(shots) == len(CAMERAS):
            counts |= _counts(config, sample, recording, sweep, shots)
        progress((i + 1) / len(samples))
    path = root / RECORDED / f"{scene}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"counts": counts, "rendered": rendered}))


def _suite(tables: Any, sample: dict[str, Any], recording: Recording, config: RenderConfig) -> SensorSuite:
    """Sensors with the calibration of the scene's first key frame."""
    found = {c: get(tables, "sample_data", t, "a sample") for c, t in sample["data"].items() if c in (LIDAR, *CAMERAS)}
    calibration = {channel: sensor_calibration(tables, data) for channel, data in found.items()}
    channels = tuple(c for c in CAMERAS if c in found)
    height, width = (
        np.array([int(found[c][side]) or full for c in channels]) for side, full in zip(("height", "width"), FULL_SIZE)
    )
    rig = CameraRig(
        channels, height, width, np.stack([calibration[c][1] for c in channels]),
        np.stack([calibration[c][0] for c in channels]),
    ).resized(config.sensors.cameras.height, config.sensors.cameras.width)  # fmt: skip
    return SensorSuite(recording, config.sensors, calibration[LIDAR][0], rig)


def _counts(config: RenderConfig, sample: dict[str, Any], recording: Recording, sweep: Any, shots: Any) -> dict:
    """(LiDAR points, visibility token) by annotation token."""
    boxes = load_boxes(config.dataroot, config.version, sample["token"])
    track = dict(zip(recording.agents.id, recording.agents.track_id.tolist()))
    ids = np.array([track[i] for i in boxes.id], dtype=np.int64)
    zero = np.zeros((len(ids), 2))
    objects = ObjectStates(ids, boxes.agent_class, boxes.size[:, :2], np.c_[boxes.center[:, :2], boxes.yaw], zero)
    seen = observed(objects, boxes, sweep, shots)
    return {
        annotation: (int(points), visibility_of(float(share)))
        for annotation, points, share in zip(sample["anns"], seen.points, seen.share)
    }


def finish_root(scenes: Sequence[str], config: RenderConfig, root: Path) -> int:
    """Copy tables, link maps and present sensor files; returns how many files were rendered.

    All tables are copied, so scenes that were not asked for are in them too, with the files they had.
    """
    source, folder = Path(config.dataroot).resolve(), root / config.version
    folder.mkdir(parents=True, exist_ok=True)
    parts = [json.loads((root / RECORDED / f"{scene}.json").read_text()) for scene in scenes]
    counts = {token: value for part in parts for token, value in part["counts"].items()}
    for path in sorted((source / config.version).glob("*.json")):
        if path.name != "sample_annotation.json" or not counts:
            shutil.copyfile(path, folder / path.name)
    if counts:
        rows = read_table(source, config.version, "sample_annotation")
        for row in rows:
            if row["token"] in counts:
                row["num_lidar_pts"], row["visibility_token"] = counts[row["token"]]
        write_atomic(folder / "sample_annotation.json", json.dumps(rows))
    _link(source / "maps", root / "maps")
    if (source / "can_bus").is_dir():
        _link(source / "can_bus", root / "can_bus")
    for row in read_table(source, config.version, "sample_data"):
        here, there = root / row["filename"], source / row["filename"]
        if there.is_file() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            _link(there, here)
    return sum(part["rendered"] for part in parts)


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        os.symlink(target, link)

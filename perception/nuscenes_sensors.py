"""nuScenes key frame -> SensorFrame and its annotated boxes. Absent sensor files are noted, not fatal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.nuscenes_tables import (
    DatasetError,
    get,
    numbers,
    open_tables,
    scene_record,
    scene_samples,
    table_path,
    yaw_of,
)
from perception.nuscenes_tracks import agent_class, ego_poses, ego_track, time_grid
from perception.sensor_frame import Boxes3D, CameraImages, LidarSweep, SensorFrame, rigid
from planner.scene import EgoState

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
LIDAR = "LIDAR_TOP"
POINT_BYTES = 20  # x, y, z, intensity, ring as float32


def load_sensor_frame(dataroot: str | Path, version: str, sample_token: str, past_sweeps: int = 0) -> SensorFrame:
    """LiDAR and cameras of a key frame, with calibration and each sensor's own ego pose.

    past_sweeps: how many earlier LiDAR records to add: turns, 20 a second, where the tables list sweeps; else earlier
    key frames. Fewer where the scene begins or files are absent. Sensors without a record or a file are left out and
    named in `missing`.
    Raises DatasetError: unknown token, broken tables, a file that is there but damaged.
    """
    tables = open_tables(dataroot, version)
    sample = _sample(tables, sample_token)
    missing: list[str] = []
    lidar = _lidar(tables, sample, missing)
    past = _past(tables, sample, past_sweeps, missing) if lidar is not None else ()
    cameras = _cameras(tables, sample, missing)
    reference = LIDAR if LIDAR in sample["data"] else min(sample["data"], default=None)
    if reference is None:
        raise DatasetError(f"sample {sample_token} has no sensor record at all", "copy the tables again")
    data = get(tables, "sample_data", sample["data"][reference], f"sample {sample_token}")
    return SensorFrame(
        time_us=int(sample["timestamp"]),
        global_from_ego=sensor_pose(tables, data),
        ego=_ego_state(tables, sample),
        lidar=lidar,
        cameras=cameras,
        missing=tuple(missing),
        name=sample_token,
        past=past,
    ).validate()


def load_boxes(dataroot: str | Path, version: str, sample_token: str) -> Boxes3D:
    """Annotated boxes of a key frame, upright (only yaw is used). Raises DatasetError."""
    tables = open_tables(dataroot, version)
    where = str(table_path(dataroot, version, "sample_annotation"))
    sample = _sample(tables, sample_token)
    records = [get(tables, "sample_annotation", t, f"sample {sample_token}") for t in sample["anns"]]
    size = np.array([numbers(r, "size", 3, where)[[1, 0, 2]] for r in records]).reshape(-1, 3)
    return Boxes3D(
        center=np.array([numbers(r, "translation", 3, where) for r in records]).reshape(-1, 3),
        size=size,
        yaw=np.array([yaw_of(r, where) for r in records]),
        agent_class=np.array([agent_class(r["category_name"]) for r in records], dtype=np.int64),
        id=[r["instance_token"] for r in records],
    )


def first_sample(dataroot: str | Path, version: str, scene: str) -> str:
    """Token of a scene's first key frame. Raises DatasetError."""
    return str(scene_record(open_tables(dataroot, version), scene)["first_sample_token"])


def _sample(tables: Any, token: str) -> dict[str, Any]:
    try:
        return tables.get("sample", token)
    except KeyError:
        path = table_path(tables.dataroot, tables.version, "sample")
        raise DatasetError(f"no sample {token!r} in {path}", "pass the token of a key frame of this version") from None


def _ego_state(tables: Any, sample: dict[str, Any]) -> EgoState:
    scene = get(tables, "scene", sample["scene_token"], f"sample {sample['token']}")
    samples = scene_samples(tables, scene)
    time, _ = time_grid(samples)
    track = ego_track(*ego_poses(tables, samples), time)
    k = int(np.clip(round((sample["timestamp"] - samples[0]["timestamp"]) / 1e5), 0, len(time) - 1))
    f = lambda value: torch.tensor(float(value), dtype=torch.float64)  # noqa: E731
    return EgoState(
        x=f(track.pose[k, 0]),
        y=f(track.pose[k, 1]),
        yaw=f(track.pose[k, 2]),
        v=f(track.v[k]),
        a=f(track.a[k]),
        curvature=f(track.curvature[k]),
        yaw_rate=f(track.yaw_rate[k]),
        time_us=torch.tensor(int(sample["timestamp"])),
        v_source=track.source,
        a_source=track.source,
    )


def _record(
    tables: Any, sample: dict[str, Any], channel: str, missing: list[str]
) -> tuple[dict[str, Any], Path] | None:
    token = sample["data"].get(channel)
    if token is None:
        missing.append(f"{channel}: the tables have no record of it for this sample")
        return None
    data = get(tables, "sample_data", token, f"sample {sample['token']}")
    path = Path(tables.dataroot) / data["filename"]
    if not path.is_file():
        missing.append(f"{channel}: file {data['filename']} is absent")
        return None
    return data, path


def _lidar(tables: Any, sample: dict[str, Any], missing: list[str]) -> LidarSweep | None:
    found = _record(tables, sample, LIDAR, missing)
    return None if found is None else _sweep(tables, *found)


def _past(tables: Any, sample: dict[str, Any], count: int, missing: list[str]) -> tuple[LidarSweep, ...]:
    """Up to `count` turns before the key frame's, the newest first."""
    found: list[LidarSweep] = []
    token = get(tables, "sample_data", sample["data"][LIDAR], f"sample {sample['token']}").get("prev", "")
    while token and len(found) < count:
        data = get(tables, "sample_data", token, f"the chain of {LIDAR}")
        path = Path(tables.dataroot) / data["filename"]
        if not path.is_file():
            missing.append(
                f"{LIDAR} before: {count - len(found)} of {count} earlier sweeps, from {data['filename']} on"
            )
            break
        found.append(_sweep(tables, data, path))
        token = data.get("prev", "")
    return tuple(found)


def _sweep(tables: Any, data: dict[str, Any], path: Path) -> LidarSweep:
    size = path.stat().st_size
    if size == 0 or size % POINT_BYTES:
        message = f"{path} has {size} bytes, which is no whole number of points of {POINT_BYTES} bytes"
        raise DatasetError(message, "the file is truncated: copy it again")
    points = np.fromfile(path, dtype=np.float32).reshape(-1, 5)
    points = points[np.isfinite(points).all(1)]
    sensor, _ = sensor_calibration(tables, data)
    return LidarSweep(
        points=points[:, :3],
        intensity=points[:, 3],
        ring=points[:, 4].astype(np.int64),
        ego_from_lidar=sensor,
        global_from_ego=sensor_pose(tables, data),
        time_us=int(data["timestamp"]),
    )


def _cameras(tables: Any, sample: dict[str, Any], missing: list[str]) -> CameraImages | None:
    found = [(name, _record(tables, sample, name, missing)) for name in CAMERAS]
    present = [(name, *record) for name, record in found if record is not None]
    if not present:
        return None
    calibration = [sensor_calibration(tables, data) for _, data, _ in present]
    return CameraImages(
        channel=tuple(name for name, _, _ in present),
        image=[_image(path) for _, _, path in present],
        intrinsics=np.stack([k for _, k in calibration]),
        ego_from_camera=np.stack([sensor for sensor, _ in calibration]),
        global_from_ego=np.stack([sensor_pose(tables, data) for _, data, _ in present]),
        time_us=np.array([data["timestamp"] for _, data, _ in present], dtype=np.int64),
    )


def _image(path: Path) -> np.ndarray:
    try:
        from PIL import Image

        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except ImportError as error:
        raise DatasetError(f"pillow cannot be imported: {error}", 'pip install "dualdrive[nuscenes]"') from error
    except OSError as error:
        raise DatasetError(f"cannot read the image {path}: {error}", "the file is damaged: copy it again") from error


def sensor_calibration(tables: Any, data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(ego_from_sensor ``[4, 4]``, intrinsics ``[3, 3]``, the identity for a LiDAR) of a sample_data record.

    Raises DatasetError.
    """
    where = str(table_path(tables.dataroot, tables.version, "calibrated_sensor"))
    record = get(tables, "calibrated_sensor", data["calibrated_sensor_token"], f"sample_data {data['token']}")
    sensor = rigid(numbers(record, "rotation", 4, where), numbers(record, "translation", 3, where))
    intrinsics = np.asarray(record["camera_intrinsic"] or np.eye(3), dtype=float)
    if intrinsics.shape != (3, 3):
        raise DatasetError(f"{where}: record {record['token']} has no 3x3 camera_intrinsic", "copy the tables again")
    return sensor, intrinsics


def sensor_pose(tables: Any, data: dict[str, Any]) -> np.ndarray:
    """global_from_ego ``[4, 4]`` at a sample_data record. Raises DatasetError."""
    where = str(table_path(tables.dataroot, tables.version, "ego_pose"))
    pose = get(tables, "ego_pose", data["ego_pose_token"], f"sample_data {data['token']}")
    yaw_of(pose, where)
    return rigid(numbers(pose, "rotation", 4, where), numbers(pose, "translation", 3, where))

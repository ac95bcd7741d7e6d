"""nuScenes scenes as recordings: the page that joins tables, map, tracks and route.

`DatasetError` is what every failure becomes; its `fix` says what to do about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely

from perception.nuscenes_cache import CacheDir, cache_folder, cache_path, read_cached, write_cached
from perception.nuscenes_map import load_road, map_path, speed_limit_of
from perception.nuscenes_sensors import first_sample, load_boxes, load_sensor_frame
from perception.nuscenes_tables import (
    DatasetError,
    get,
    open_tables,
    read_table,
    require_version,
    scene_record,
    scene_samples,
)
from perception.nuscenes_tracks import agent_log, ego_poses, ego_track, time_grid
from perception.polyline import resample
from perception.recording import Recording
from perception.road_map import Lane, RoadMap
from perception.routing import find_route

__all__ = [
    "DatasetError",
    "first_sample",
    "list_scenes",
    "load_boxes",
    "load_recording",
    "load_sensor_frame",
    "road_from_track",
]

BEYOND = 200.0  # m of route after the end of the drive
CORRIDOR_WIDTH = 5.0  # m of surface around the track where there is no map


def list_scenes(dataroot: str | Path, version: str) -> list[str]:
    """Names of the scenes in the tables, sorted. Raises DatasetError. Needs no devkit."""
    require_version(dataroot, version)
    return sorted(str(record.get("name")) for record in read_table(dataroot, version, "scene"))


def load_recording(
    dataroot: str | Path,
    version: str,
    scene: str,
    cache_dir: CacheDir = None,
    *,
    missing_map: str = "error",
) -> Recording:
    """One scene at 10 Hz with its road and route.

    cache_dir: folder that keeps recordings between runs, None for the user's cache folder
    (dualdrive/nuscenes), False for none at all.
    missing_map: "error" raises DatasetError where the map expansion is absent; "corridor" builds
    the road from the driven track instead and says so in `road.repairs` and
    `metadata["degraded"]`.
    Raises DatasetError: wrong folder, version or scene; a table missing, truncated or damaged;
    NaN in a pose; no devkit.
    """
    if missing_map not in ("error", "corridor"):
        raise ValueError(f"missing_map: expected 'error' or 'corridor', got {missing_map!r}")
    require_version(dataroot, version)
    folder = cache_folder(cache_dir)
    if folder is None:
        return _read_checked(dataroot, version, scene, missing_map)
    path = cache_path(folder, dataroot, version, scene, missing_map)
    recording = read_cached(path)
    if recording is None:
        recording = _read_checked(dataroot, version, scene, missing_map)
        write_cached(path, recording, dataroot, version)
    return recording


def _read_checked(dataroot: str | Path, version: str, scene: str, missing_map: str) -> Recording:
    """`_read`, with what damaged records make of Python turned into words."""
    try:
        return _read(dataroot, version, scene, missing_map)
    except (KeyError, TypeError, ValueError) as error:
        what = f"a record lacks the field {error}" if isinstance(error, KeyError) else str(error)
        message = f"the tables of {version} in {dataroot} are damaged where {scene} needs them: {what}"
        raise DatasetError(message, "`dualdrive data check` lists what is broken; copy the tables again") from error


def _read(dataroot: str | Path, version: str, scene: str, missing_map: str) -> Recording:
    tables = open_tables(dataroot, version)
    record = scene_record(tables, scene)
    samples = scene_samples(tables, record)
    time, keyframe = time_grid(samples)
    ego = ego_track(*ego_poses(tables, samples), time)
    location = get(tables, "log", record["log_token"], f"scene {scene}")["location"]
    metadata: dict[str, Any] = {"location": location, "description": record.get("description", ""), "degraded": []}
    if missing_map == "corridor" and not map_path(dataroot, location).is_file():
        road = road_from_track(ego.pose, speed_limit_of(location))
        metadata["degraded"].append("no map: the road is a corridor along the driven track")
    else:
        road = load_road(dataroot, location, ego.pose[:, :2])
    fastest = float(ego.v.max())
    for lane in road.lanes.values():
        lane.speed_limit = max(lane.speed_limit, fastest)
    route, route_xy = find_route(road, ego.pose, BEYOND)
    return Recording(
        name=scene,
        source="nuscenes",
        time=time,
        start_us=int(samples[0]["timestamp"]),
        ego=ego,
        agents=agent_log(tables, samples, time),
        road=road,
        route=route,
        route_xy=route_xy,
        keyframe=keyframe,
        metadata=metadata,
    ).validate()


def road_from_track(pose: np.ndarray, speed_limit: float) -> RoadMap:
    """A road that is nothing but a corridor along a driven track ``[T, 3]`` and straight on for 250 m.

    For scenes without a map: the drivable area is 5 m wide, there is one lane "track" and no other.
    """
    kept = [pose[0]]
    for p in pose[1:]:
        if np.hypot(*(p[:2] - kept[-1][:2])) > 1.0:
            kept.append(p)
    ahead = np.array([np.cos(kept[-1][2]), np.sin(kept[-1][2])])
    behind = np.array([np.cos(kept[0][2]), np.sin(kept[0][2])])
    middle = np.array([p[:2] for p in kept])
    line = np.concatenate([middle[:1] - 40.0 * behind, middle, middle[-1:] + (BEYOND + 50.0) * ahead])
    line = resample(line, 1.0)
    surface = shapely.LineString(line).buffer(CORRIDOR_WIDTH / 2, cap_style="flat")
    note = f"no map: a corridor {CORRIDOR_WIDTH:.0f} m wide along the driven track is the whole road"
    return RoadMap("track", {"track": Lane("track", line, surface, speed_limit)}, surface, repairs=[note])

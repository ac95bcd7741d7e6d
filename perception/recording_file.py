"""A recording as one npz file: arrays, geometry as WKB, everything else as JSON. No pickle.

The file is written beside its place and moved there in one step, so a reader sees all or nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from perception.recording import AgentLog, EgoTrack, Recording
from perception.road_map import Lane, RoadMap
from planner.scene import VehicleParameters

SCHEMA = 1
EGO_ARRAYS = ("pose", "v", "a", "curvature", "yaw_rate")
AGENT_ARRAYS = ("track_id", "agent_class", "size", "height", "pose", "velocity", "valid")
LINE_WORK = ("dividers", "crossings", "stop_lines")


class RecordingFileError(ValueError):
    """The file is no recording of this schema, or damaged."""


def save_recording(path: str | Path, recording: Recording, note: dict[str, Any] | None = None) -> None:
    """Write a recording; `note` is kept as JSON beside it. Raises OSError as writing does."""
    path = Path(path)
    road = recording.road
    lanes = [road.lanes[i] for i in road.lane_ids]
    header = {
        "schema": SCHEMA,
        "note": note or {},
        "recording": {k: getattr(recording, k) for k in ("name", "source", "start_us", "route", "metadata")},
        "vehicle": dataclasses.asdict(recording.vehicle),
        "ego_source": recording.ego.source,
        "agent_id": recording.agents.id,
        "road": {"name": road.name, "repairs": road.repairs},
        "lanes": [
            {f.name: getattr(lane, f.name) for f in dataclasses.fields(Lane) if f.name not in ("centerline", "polygon")}
            for lane in lanes
        ],
    }
    arrays: dict[str, np.ndarray] = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "time": recording.time,
        "route_xy": recording.route_xy,
        "keyframe": recording.keyframe,
        **{f"ego.{k}": getattr(recording.ego, k) for k in EGO_ARRAYS},
        **{f"agents.{k}": getattr(recording.agents, k) for k in AGENT_ARRAYS},
        **_packed("lanes.centerline", [lane.centerline for lane in lanes]),
        **_packed("geometry", [_wkb(g) for g in (road.drivable, *(lane.polygon for lane in lanes))]),
    }
    for kind in LINE_WORK:
        arrays |= _packed(kind, getattr(road, kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def read_note(path: str | Path) -> dict[str, Any]:
    """The note a file was written with. Raises FileNotFoundError, RecordingFileError."""
    return _open(Path(path), lambda arrays: _header(arrays)["note"])


def load_recording_file(path: str | Path) -> Recording:
    """Read and validate a recording. Raises FileNotFoundError, RecordingFileError."""
    return _open(Path(path), _recording)


def _open(path: Path, read: Any) -> Any:
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return read(arrays)
    except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError) as error:
        raise RecordingFileError(f"{path} is no readable recording: {type(error).__name__}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, shapely.errors.ShapelyError, NotImplementedError) as error:
        raise RecordingFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _header(arrays: Any) -> dict[str, Any]:
    header = json.loads(arrays["header"].tobytes())
    if header["schema"] != SCHEMA:
        raise ValueError(f"schema {header['schema']}, expected {SCHEMA}")
    return header


def _recording(arrays: Any) -> Recording:
    header = _header(arrays)
    geometry = [shapely.from_wkb(b.tobytes()) for b in _unpacked(arrays, "geometry")]
    lines = _unpacked(arrays, "lanes.centerline")
    lanes = {
        fields["id"]: Lane(centerline=line, polygon=polygon, **fields)
        for fields, line, polygon in zip(header["lanes"], lines, geometry[1:], strict=True)
    }
    road = RoadMap(lanes=lanes, drivable=geometry[0], **header["road"])
    for kind in LINE_WORK:
        setattr(road, kind, _unpacked(arrays, kind))
    return Recording(
        time=arrays["time"],
        ego=EgoTrack(**{k: arrays[f"ego.{k}"] for k in EGO_ARRAYS}, source=header["ego_source"]),
        agents=AgentLog(id=header["agent_id"], **{k: arrays[f"agents.{k}"] for k in AGENT_ARRAYS}),
        road=road,
        route_xy=arrays["route_xy"],
        keyframe=arrays["keyframe"],
        vehicle=VehicleParameters(**header["vehicle"]),
        **header["recording"],
    ).validate()


def _wkb(shape: shapely.Geometry) -> np.ndarray:
    return np.frombuffer(shapely.to_wkb(shape), np.uint8)


def _packed(name: str, parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of any lengths as one array and their lengths."""
    whole = np.concatenate(parts) if parts else np.zeros((0, 2))
    return {name: whole, f"{name}.lengths": np.array([len(p) for p in parts], dtype=np.int64)}


def _unpacked(arrays: Any, name: str) -> list[np.ndarray]:
    lengths = arrays[f"{name}.lengths"]
    return np.split(arrays[name], np.cumsum(lengths)[:-1]) if len(lengths) else []

"""Recordings kept between runs, one file per scene, that notice when their source changed.

A cached file is used only while every file it was made from is unchanged: same size and same
time stamps, or else the same content (SHA-256), and while the code that made it is the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from perception.nuscenes_map import map_path
from perception.nuscenes_tables import TABLES, table_path
from perception.recording import Recording
from perception.recording_file import RecordingFileError, load_recording_file, read_note, save_recording

log = logging.getLogger("dualdrive.data")

READER = (
    "map_matching.py", "nuscenes.py", "nuscenes_map.py", "nuscenes_tables.py", "nuscenes_tracks.py", "polyline.py",
    "recording.py", "recording_file.py", "road_map.py", "routing.py",
)  # fmt: skip

CacheDir = str | Path | None | Literal[False]


def cache_folder(cache_dir: CacheDir) -> Path | None:
    """Where recordings are kept: the given folder, or dualdrive/nuscenes in the user's cache; None for False."""
    if cache_dir is False:
        return None
    if cache_dir is not None:
        return Path(cache_dir)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dualdrive" / "nuscenes"


def cache_path(folder: Path, dataroot: str | Path, version: str, scene: str, missing_map: str) -> Path:
    """The file of one scene of one data set in the cache."""
    place = hashlib.sha256(f"{Path(dataroot).resolve()}|{missing_map}".encode()).hexdigest()[:10]
    return folder / f"{version}-{scene}-{place}.npz"


def read_cached(path: Path) -> Recording | None:
    """The recording, or None where there is none, its source changed, or the file is damaged (logged)."""
    try:
        note = read_note(path)
        if note.get("reader") != reader_hash() or not all(_unchanged(s) for s in note["sources"]):
            log.info("%s is out of date and made again", path.name)
            return None
        return load_recording_file(path)
    except FileNotFoundError:
        return None
    except (RecordingFileError, KeyError, TypeError) as error:
        log.warning("cached recording is unusable and made again: %s", error)
        return None


def write_cached(path: Path, recording: Recording, dataroot: str | Path, version: str) -> None:
    """Keep a recording with the fingerprint of what it was made from. A full or read-only disk is only logged."""
    files = [table_path(dataroot, version, table) for table in TABLES]
    files.append(map_path(dataroot, str(recording.metadata.get("location"))))
    note = {"reader": reader_hash(), "sources": [_fingerprint(f.resolve()) for f in files]}
    try:
        save_recording(path, recording, note)
    except OSError as error:
        log.warning("the recording of %s is not cached: %s", recording.name, error)


@lru_cache(maxsize=1)
def reader_hash() -> str:
    """Hash of the code that turns tables into recordings."""
    digest = hashlib.sha256()
    for name in READER:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()


def _stamp(path: Path) -> list[int]:
    """Size and times of a file; the change time cannot be set back by a copy or `touch`. Empty if absent."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _fingerprint(path: Path) -> dict[str, Any]:
    stamp = _stamp(path)
    return {"path": str(path), "stamp": stamp, "sha256": _content(str(path), tuple(stamp)) if stamp else ""}


@lru_cache(maxsize=64)
def _content(path: str, stamp: tuple[int, ...]) -> str:
    """SHA-256 of a file, computed once per process while its stamp stays the same."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unchanged(source: dict[str, Any]) -> bool:
    path = Path(source["path"])
    stamp = _stamp(path)
    if stamp == source["stamp"]:
        return True
    if not stamp or not source["stamp"] or stamp[0] != source["stamp"][0]:
        return False
    return _content(str(path), tuple(stamp)) == source["sha256"]

"""nuScenes tables through the devkit: opened quietly, looked up safely, failing in words.

The devkit is imported inside the functions, so that the package works without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log",
    "scene", "sample", "sample_data", "sample_annotation", "map",
)  # fmt: skip

RECORDED = "record/scenes"
"""Below the root of what `dualdrive record` writes: a file per scene, there when the scene is complete."""
INSTALL_FIX = 'install the reader with: pip install "dualdrive[nuscenes]"'
LAYOUT_FIX = (
    "--dataroot must be the folder that holds {version}/ and maps/; `dualdrive data check` lists what is missing"
)


class DatasetError(Exception):
    """The data set cannot be read. The message names the file or record; `fix` says what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.fix})" if self.fix else str(self.args[0])


def recorded_at(dataroot: str | Path, scene: str) -> float:
    """When `dualdrive record` wrote a scene (s, as files' times are); 0 where it did not. What was made from an earlier
    recording under the same name is older, and of no use."""
    path = Path(dataroot) / RECORDED / f"{scene}.json"
    return path.stat().st_mtime if path.is_file() else 0.0


def table_path(dataroot: str | Path, version: str, table: str) -> Path:
    """Where a table lies."""
    return Path(dataroot) / version / f"{table}.json"


def read_json(path: Path) -> Any:
    """Parsed JSON of a file. Raises DatasetError where it is absent, unreadable or cut off."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise DatasetError(f"file not found: {path}", "download or copy it again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is not valid JSON, probably truncated ({path.stat().st_size} bytes): {error}"
        raise DatasetError(message, "download or copy it again") from None
    except (OSError, RecursionError) as error:
        raise DatasetError(f"cannot read {path}: {error}", "check the file and its permissions") from None


@contextlib.contextmanager
def reading(path: Path, fix: str) -> Iterator[None]:
    """Around reading one of our own `.npz` files: raises DatasetError naming the file where it is absent or damaged."""
    try:
        yield
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}", fix) from error


def read_table(dataroot: str | Path, version: str, table: str) -> list[dict[str, Any]]:
    """One table as a list of records with tokens. Raises DatasetError naming the file."""
    path = table_path(dataroot, version, table)
    records = read_json(path)
    if not isinstance(records, list) or not all(isinstance(r, dict) and "token" in r for r in records):
        raise DatasetError(f"{path}: expected a list of records with a token each", "download or copy it again")
    return records


def require_version(dataroot: str | Path, version: str) -> None:
    """Raises DatasetError unless `dataroot` holds a table folder of this version."""
    root = Path(dataroot)
    if not root.is_dir():
        raise DatasetError(f"dataroot {root} is not a folder", "pass the folder that holds v1.0-mini/ and maps/")
    if (root / version).is_dir():
        return
    found = sorted(p.name for p in root.iterdir() if (p / "scene.json").exists())
    have = f"it holds {', '.join(found)}" if found else "it holds no nuScenes tables at all"
    fix = f"pass --version {found[0]}" if found else LAYOUT_FIX.format(version=version)
    raise DatasetError(f"no tables of version {version!r} in {root}: {have}", fix)


@contextlib.contextmanager
def quiet_devkit() -> Iterator[None]:
    """Keeps the devkit from printing and from changing the process's plot style."""
    try:
        import matplotlib

        kept = dict(matplotlib.rcParams)
    except ImportError:
        kept = None
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield
    if kept is not None:
        with contextlib.suppress(Exception):
            dict.update(matplotlib.rcParams, kept)


def open_tables(dataroot: str | Path, version: str) -> Any:
    """The devkit's `NuScenes` object; the last one opened is kept until its files change.

    Raises DatasetError: devkit missing, wrong folder or version, a table missing, truncated or
    with broken links.
    """
    require_version(dataroot, version)
    stamps = []
    for table in TABLES:
        path = table_path(dataroot, version, table)
        if not path.is_file():
            raise DatasetError(f"table missing: {path}", "download or copy the tables of this version again")
        stat = path.stat()
        stamps.append((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return _open_tables(str(Path(dataroot).resolve()), version, tuple(stamps))


@lru_cache(maxsize=1)
def _open_tables(dataroot: str, version: str, stamps: tuple[tuple[int, ...], ...]) -> Any:
    try:
        with quiet_devkit():
            from nuscenes.nuscenes import NuScenes
    except ImportError as error:
        raise DatasetError(f"nuscenes-devkit cannot be imported: {error}", INSTALL_FIX) from error
    try:
        with quiet_devkit():
            tables = NuScenes(version=version, dataroot=dataroot, verbose=False)
    except Exception as error:
        raise _diagnose(dataroot, version, error) from error
    for table in TABLES:  # the devkit takes {} for an empty table
        if not isinstance(getattr(tables, table), list):
            read_table(dataroot, version, table)
    return tables


def _diagnose(dataroot: str, version: str, error: Exception) -> DatasetError:
    """Why the devkit could not open the tables: the first thing wrong, by file."""
    tables = {}
    for table in TABLES:
        try:
            tables[table] = read_table(dataroot, version, table)
        except DatasetError as found:
            return found
    for record in tables["map"]:
        picture = Path(dataroot) / str(record.get("filename", ""))
        if not picture.is_file():
            fix = "copy the maps folder of the data set; the devkit insists on these pictures"
            return DatasetError(f"map picture missing: {picture}", fix)
    where = Path(dataroot) / version
    if isinstance(error, KeyError):
        what = f"a record refers to {error.args[0]!r}, which is a field or token that is not there"
        return DatasetError(f"tables in {where} do not fit together: {what}", "copy all tables of one release again")
    return DatasetError(
        f"nuscenes-devkit cannot open {where}: {type(error).__name__}: {error}", "see `dualdrive doctor`"
    )


def get(tables: Any, table: str, token: str, wanted_by: str) -> dict[str, Any]:
    """One record. Raises DatasetError naming the table and who refers to it."""
    try:
        return tables.get(table, token)
    except KeyError:
        path = table_path(tables.dataroot, tables.version, table)
        message = f"{path} has no record {token!r}, which {wanted_by} refers to"
        raise DatasetError(message, "copy all tables of one release again") from None


def numbers(record: dict[str, Any], key: str, count: int, where: str) -> np.ndarray:
    """``[count]`` finite numbers of a record. Raises DatasetError naming file, record and field."""
    try:
        values = np.asarray(record[key], dtype=float)
    except (KeyError, TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        message = (
            f"{where}: record {record.get('token')} has {key} = {record.get(key)}, expected {count} finite numbers"
        )
        raise DatasetError(message, "repair or remove the record; the file may be damaged")
    return values


def yaw_of(record: dict[str, Any], where: str) -> float:
    """Heading (rad) of a record's rotation: the direction of its x axis in the ground plane.

    Raises DatasetError unless the rotation is a quaternion (w, x, y, z) of about unit length.
    """
    w, x, y, z = q = numbers(record, "rotation", 4, where)
    if not 0.9 < np.linalg.norm(q) < 1.1:
        message = f"{where}: record {record.get('token')} has a rotation that is no unit quaternion: {q.tolist()}"
        raise DatasetError(message, "repair or remove the record; the file may be damaged")
    return float(np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z))


def scene_record(tables: Any, scene: str) -> dict[str, Any]:
    """The scene's record. Raises DatasetError listing the scenes there are."""
    for record in tables.scene:
        if record["name"] == scene:
            return record
    raise unknown_scene(scene, [record["name"] for record in tables.scene], tables.version)


def unknown_scene(scene: str, known: list[str], version: str) -> DatasetError:
    """The error for a scene name that is not in the tables."""
    shown = ", ".join(sorted(known)[:12]) + (", …" if len(known) > 12 else "")
    return DatasetError(f"no scene {scene!r} in {version}", f"it holds {len(known)} scenes: {shown}")


def scene_samples(tables: Any, scene: dict[str, Any]) -> list[dict[str, Any]]:
    """The scene's key frames in order. Raises DatasetError where the chain is broken."""
    samples, token, seen = [], scene["first_sample_token"], set()
    while token:
        if token in seen:
            raise DatasetError(f"sample.json: the samples of {scene['name']} run in a circle", "copy the tables again")
        seen.add(token)
        samples.append(get(tables, "sample", token, f"scene {scene['name']}"))
        token = samples[-1].get("next", "")
    if len(samples) < 2:
        raise DatasetError(f"{scene['name']} has {len(samples)} key frame(s); a drive needs at least 2", "skip it")
    return samples

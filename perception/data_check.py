"""What of a nuScenes data set is there, what is missing or broken, and what follows from it.

Reads the JSON files directly, so that it works where the devkit does not, and reports instead of
raising: a broken file is a row of the report.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from perception.data_report import DataItem, DataReport, Feature, Status
from perception.nuscenes_map import map_path
from perception.nuscenes_sensors import CAMERAS, LIDAR, POINT_BYTES
from perception.nuscenes_tables import INSTALL_FIX, TABLES, DatasetError, read_json, read_table, require_version

__all__ = ["DataItem", "DataReport", "Feature", "Status", "check_dataset"]

MAP_LAYERS = {
    "ped_crossing": "pedestrian crossings are unknown",
    "stop_line": "stop lines are unknown: yield points come from crossing lanes alone",
    "traffic_light": "positions of lights are unknown (their states are not in nuScenes at all)",
    "road_divider": "no dividers between directions in the scene",
    "lane_divider": "no dividers between lanes in the scene",
    "drivable_area": "the union of the lanes stands in for it",
}


def check_dataset(dataroot: str | Path, version: str) -> DataReport:
    """Look at tables, links, numbers, maps, sensor files and CAN bus. Never raises for what it finds."""
    report = DataReport(str(dataroot), version)
    _check_devkit(report)
    try:
        require_version(dataroot, version)
    except DatasetError as error:
        report.items.append(DataItem("tables", Status.MISSING, 0, len(TABLES), str(error.args[0]), error.fix))
        _conclude(report)
        return report
    tables = _check_tables(report)
    if {"scene", "log"} <= tables.keys():
        for record in tables["scene"]:
            location = next((x.get("location") for x in tables["log"] if x["token"] == record.get("log_token")), None)
            present = location is not None and map_path(dataroot, location).is_file()
            report.scenes[str(record.get("name"))] = {"location": location, "map": present}
    if len(tables) == len(TABLES):
        _check_links(report, tables)
        _check_numbers(report, tables)
    _check_maps(report, tables)
    _check_sensors(report, tables)
    folder = Path(dataroot) / "can_bus"
    known = sum((folder / f"{name}_pose.json").is_file() for name in report.scenes)
    follows = "speeds and accelerations are taken from the poses"
    report.items.append(DataItem("CAN bus", _share(known, len(report.scenes)), known, len(report.scenes), follows))
    _conclude(report)
    return report


def _share(present: int, expected: int) -> Status:
    return Status.OK if present == expected else Status.MISSING if present == 0 else Status.DEGRADED


def _check_devkit(report: DataReport) -> None:
    found = importlib.util.find_spec("nuscenes") is not None
    fix = "" if found else INSTALL_FIX
    report.items.append(DataItem("nuscenes-devkit", Status.OK if found else Status.MISSING, int(found), 1, fix=fix))


def _check_tables(report: DataReport) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        name = f"table {table}"
        try:
            tables[table] = read_table(report.dataroot, report.version, table)
            count = len(tables[table])
            report.items.append(DataItem(name, Status.OK, count, count))
        except DatasetError as error:
            absent = not (Path(report.dataroot) / report.version / f"{table}.json").exists()
            status = Status.MISSING if absent else Status.BROKEN
            report.items.append(DataItem(name, status, 0, 1, str(error.args[0]), error.fix))
    return tables


def _check_links(report: DataReport, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Records whose references lead nowhere."""
    links = [
        ("scene", "log_token", "log"), ("scene", "first_sample_token", "sample"), ("sample", "scene_token", "scene"),
        ("sample_data", "ego_pose_token", "ego_pose"), ("sample_data", "sample_token", "sample"),
        ("sample_data", "calibrated_sensor_token", "calibrated_sensor"),
        ("sample_annotation", "sample_token", "sample"), ("sample_annotation", "instance_token", "instance"),
        ("instance", "category_token", "category"), ("calibrated_sensor", "sensor_token", "sensor"),
    ]  # fmt: skip
    tokens = {table: {r["token"] for r in records} for table, records in tables.items()}
    broken = [
        f"{source}.{key} of {record['token']}"
        for source, key, target in links
        for record in tables[source]
        if record.get(key) not in tokens[target]
    ]
    total = sum(len(tables[source]) for source, _, _ in links)
    follows = f"{len(broken)} references lead nowhere, the first: {broken[0]}" if broken else ""
    fix = "copy all tables of one release again" if broken else ""
    status = Status.BROKEN if broken else Status.OK
    report.items.append(DataItem("references", status, total - len(broken), total, follows, fix))


def _check_numbers(report: DataReport, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Poses and boxes with NaN, wrong lengths, no unit quaternion or a size that is not positive."""
    for table, name in (("ego_pose", "ego poses"), ("sample_annotation", "annotations")):
        bad = [r["token"] for r in tables[table] if not _sound(r, boxed=table == "sample_annotation")]
        total = len(tables[table])
        follows = f"NaN or impossible numbers, first in record {bad[0]} of {table}.json" if bad else ""
        fix = "repair or remove these records" if bad else ""
        status = Status.BROKEN if bad else Status.OK
        report.items.append(DataItem(name, status, total - len(bad), total, follows, fix))


def _sound(record: dict[str, Any], boxed: bool) -> bool:
    try:
        translation, rotation = (np.asarray(record[k], dtype=float) for k in ("translation", "rotation"))
        size = np.asarray(record["size"], dtype=float) if boxed else np.ones(3)
    except (KeyError, TypeError, ValueError):
        return False
    if translation.shape != (3,) or rotation.shape != (4,) or size.shape != (3,):
        return False
    finite = np.isfinite(translation).all() and np.isfinite(size).all() and bool((size > 0).all())
    return bool(finite and 0.9 < float(np.linalg.norm(rotation)) < 1.1)


def _check_maps(report: DataReport, tables: dict[str, list[dict[str, Any]]]) -> None:
    pictures = [str(r.get("filename", "")) for r in tables.get("map", [])]
    present = sum((Path(report.dataroot) / p).is_file() for p in pictures)
    if present < len(pictures):
        follows, fix = "the devkit refuses to open the tables without them", "copy the maps folder of the data set"
        report.items.append(DataItem("map pictures", Status.MISSING, present, len(pictures), follows, fix))
    else:
        report.items.append(DataItem("map pictures", Status.OK, present, len(pictures)))
    locations = sorted({s["location"] for s in report.scenes.values() if s["location"]})
    for location in locations:
        path = map_path(report.dataroot, location)
        name = f"map expansion {location}"
        scenes = sum(s["location"] == location for s in report.scenes.values())
        if not path.is_file():
            follows = f"{scenes} scene(s) have no lanes: they cannot be driven, or only in a corridor along the track"
            fix = "get the map expansion v1.3 and unpack it under maps/"
            report.items.append(DataItem(name, Status.MISSING, 0, 1, follows, fix))
            continue
        try:
            report.items += _map_items(name, read_json(path))
        except DatasetError as error:
            report.items.append(DataItem(name, Status.BROKEN, 0, 1, str(error.args[0]), error.fix))
        except (KeyError, TypeError, AttributeError) as error:
            follows = f"{path} lacks {error}: not a map expansion v1.3"
            report.items.append(DataItem(name, Status.BROKEN, 0, 1, follows, "get the map expansion v1.3 again"))


def _map_items(name: str, content: dict[str, Any]) -> list[DataItem]:
    lanes = [r["token"] for layer in ("lane", "lane_connector") for r in content[layer]]
    lines, links = content["arcline_path_3"], content["connectivity"]
    if str(content.get("version", "1.0")) < "1.3":
        follows = f"version {content.get('version', '1.0')} is too old for the devkit"
        return [DataItem(name, Status.BROKEN, 0, 1, follows, "get the map expansion v1.3")]
    items = [DataItem(name, Status.OK, 1, 1)]
    with_line = sum(bool(lines.get(t)) for t in lanes)
    follows = "" if with_line == len(lanes) else "lanes without a centreline are left out"
    items.append(DataItem(f"{name}: lane centrelines", _share(with_line, len(lanes)), with_line, len(lanes), follows))
    linked = sum(bool((links.get(t) or {}).get("outgoing")) for t in lanes)
    follows = "" if linked == len(lanes) else "routes that reach the others are mended, or go on without a lane"
    items.append(DataItem(f"{name}: lanes with successors", _share(linked, len(lanes)), linked, len(lanes), follows))
    empty = [layer for layer in MAP_LAYERS if not content.get(layer)]
    follows = f"empty: {', '.join(empty)}" if empty else ""
    status = Status.DEGRADED if empty else Status.OK
    items.append(DataItem(f"{name}: layers", status, len(MAP_LAYERS) - len(empty), len(MAP_LAYERS), follows))
    return items


def _check_sensors(report: DataReport, tables: dict[str, list[dict[str, Any]]]) -> None:
    files: dict[str, list[str]] = {
        "LiDAR key frames": [],
        "camera key frames": [],
        "radar key frames": [],
        "sweeps": [],
    }
    for record in tables.get("sample_data", []):
        filename = str(record.get("filename", ""))
        channel = filename.split("/")[1] if filename.count("/") >= 2 else ""
        if not record.get("is_key_frame"):
            files["sweeps"].append(filename)
        elif channel == LIDAR:
            files["LiDAR key frames"].append(filename)
        elif channel in CAMERAS:
            files["camera key frames"].append(filename)
        elif channel.startswith("RADAR"):
            files["radar key frames"].append(filename)
    for name, names in files.items():
        paths = [Path(report.dataroot) / f for f in names]
        present = [p for p in paths if p.is_file()]
        cut = [
            p for p in present if name.startswith("LiDAR") and (p.stat().st_size % POINT_BYTES or not p.stat().st_size)
        ]
        if cut:
            follows = f"{len(cut)} files are truncated, the first: {cut[0]}"
            report.items.append(DataItem(name, Status.BROKEN, len(present), len(names), follows, "copy them again"))
        elif not names:
            report.items.append(DataItem(name, Status.MISSING, 0, 0, "the tables list none; nothing needs them"))
        else:
            follows = "" if len(present) == len(names) else "perception from sensors runs only where the files are"
            report.items.append(DataItem(name, _share(len(present), len(names)), len(present), len(names), follows))


def _conclude(report: DataReport) -> None:
    """Set features and ok from the items."""
    bad = {Status.MISSING, Status.BROKEN}
    essential = ("nuscenes-devkit", "tables", "table ", "references", "ego poses", "annotations", "map pictures")
    stops = [i for i in report.items if i.status in bad and i.name.startswith(essential)]
    maps = [i for i in report.items if i.name.startswith("map expansion") and ":" not in i.name]
    no_map = [i for i in maps if i.status in bad]
    degraded = [i.name for i in report.items if i.name.startswith("map expansion") and i.status is Status.DEGRADED]
    report.ok = not stops and not no_map and bool(report.scenes)
    blocked = "; ".join(f"{i.name}: {i.consequence or i.status.value}" for i in stops[:3])
    needs = "tables, map pictures, map expansion, devkit"
    if stops or not report.scenes:
        drive = Feature("closed-loop drive", "unavailable", needs, blocked or "no scenes")
    elif no_map and len(no_map) == len(maps):
        drive = Feature("closed-loop drive", "unavailable", needs, "no usable map expansion; only the corridor mode")
    elif no_map or degraded:
        kinds = sorted({name.split(": ")[1] for name in degraded})
        reasons = [f"{i.name} is {i.status.value}" for i in no_map] + [f"map: {kind} incomplete" for kind in kinds]
        drive = Feature("closed-loop drive", "degraded", needs, "; ".join(reasons))
    else:
        drive = Feature("closed-loop drive", "full", needs)
    report.features = [
        drive,
        Feature("corridor mode", "unavailable" if stops else "full", "tables, map pictures, devkit", blocked),
        Feature("open-loop evaluation", drive.mode, needs, drive.reason),
    ]
    report.features += _layer_features(report)
    for name, item_name in (("LiDAR perception", "LiDAR key frames"), ("camera perception", "camera key frames")):
        item = report.item(item_name)
        mode = (
            "unavailable" if item is None or item.status in bad else "full" if item.status is Status.OK else "degraded"
        )
        reason = "" if mode == "full" else f"{item.count if item else 0} files are there"
        report.features.append(Feature(name, mode, f"{item_name} under samples/", reason))
    report.features.append(
        Feature("traffic lights", "unavailable", "signal states", "nuScenes has none: every light counts as unknown")
    )


def _layer_features(report: DataReport) -> list[Feature]:
    """One feature per map layer, by how many of the usable maps fill it."""
    items = [i for i in report.items if i.name.endswith(": layers")]
    out = []
    for layer, follows in MAP_LAYERS.items():
        empty = sum(layer in i.consequence for i in items)
        mode = "unavailable" if empty == len(items) else "degraded" if empty else "full"
        out.append(Feature(f"map: {layer}", mode, "map expansion", follows if empty or not items else ""))
    return out

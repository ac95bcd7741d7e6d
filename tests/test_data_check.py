"""`check_dataset`: every kind of gap and damage becomes a row that names it and what follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nuscenes_files import LOCATION, SCENE, VERSION, build_map, edit_table, table_file, write_nuscenes

from perception.data_check import DataReport, Status, check_dataset

MAP = f"map expansion {LOCATION}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    return write_nuscenes(tmp_path / "data")


def status(report: DataReport, name: str) -> Status:
    item = report.item(name)
    assert item is not None, [i.name for i in report.items]
    return item.status


def mode(report: DataReport, feature: str = "closed-loop drive") -> str:
    return next(f.mode for f in report.features if f.name == feature)


def write_map(root: Path, content: dict[str, Any]) -> None:
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(content))


def test_whole_data_set(root: Path) -> None:
    report = check_dataset(root, VERSION)
    assert report.ok
    assert report.scenes == {SCENE: {"location": LOCATION, "map": True}}
    assert all(status(report, f"table {t}") is Status.OK for t in ("scene", "sample", "ego_pose", "map"))
    assert status(report, "references") is Status.OK
    assert status(report, "CAN bus") is Status.MISSING
    lidar = report.item("LiDAR key frames")
    assert lidar is not None
    assert (lidar.status, lidar.count) == (Status.DEGRADED, "1 of 9")
    assert mode(report, "LiDAR perception") == "degraded"
    assert mode(report, "camera perception") == "unavailable"
    assert len(report.rows()) == len(report.items) - 12  # the 13 tables share a row
    assert ("tables", "ok", "13") in [row[:3] for row in report.rows()]
    assert all(len(row) == 4 and all(isinstance(cell, str) for cell in row) for row in report.rows())
    assert all(len(row) == 4 for row in report.feature_rows())
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_wrong_folder_and_version(root: Path) -> None:
    for report in (check_dataset(root / "nowhere", VERSION), check_dataset(root, "v1.0-trainval")):
        assert not report.ok
        assert mode(report) == mode(report, "corridor mode") == "unavailable"
        assert status(report, "tables") is Status.MISSING
    assert "--version v1.0-mini" in str(report.rows())


def test_truncated_and_missing_tables(root: Path) -> None:
    table_file(root, "sample_annotation").write_text("[{")
    table_file(root, "log").unlink()
    report = check_dataset(root, VERSION)
    assert not report.ok
    assert status(report, "table sample_annotation") is Status.BROKEN
    assert status(report, "table log") is Status.MISSING
    assert "sample_annotation.json is not valid JSON" in str(report.rows())
    assert mode(report) == "unavailable"


def test_broken_references(root: Path) -> None:
    edit_table(root, "ego_pose", lambda rows: rows.pop(4))
    report = check_dataset(root, VERSION)
    assert status(report, "references") is Status.BROKEN
    assert "sample_data.ego_pose_token of 4" in str(report.rows())
    assert not report.ok


@pytest.mark.parametrize("bad", [[float("nan"), 0, 0], [1.0], "x", None])
def test_impossible_poses(root: Path, bad: Any) -> None:
    edit_table(root, "ego_pose", lambda rows: rows[2].update(translation=bad))
    report = check_dataset(root, VERSION)
    assert status(report, "ego poses") is Status.BROKEN
    assert "record p2 of ego_pose.json" in str(report.rows())
    assert not report.ok


@pytest.mark.parametrize(("size", "expected"), [(1e-3, Status.OK), (0.0, Status.BROKEN), (-1.0, Status.BROKEN)])
def test_impossible_sizes(root: Path, size: float, expected: Status) -> None:
    edit_table(root, "sample_annotation", lambda rows: rows[0].update(size=[size, 1.0, 1.0]))
    assert status(check_dataset(root, VERSION), "annotations") is expected


def test_no_map_expansion(root: Path) -> None:
    (root / "maps" / "expansion" / f"{LOCATION}.json").unlink()
    report = check_dataset(root, VERSION)
    assert not report.ok
    assert report.scenes[SCENE]["map"] is False
    assert status(report, MAP) is Status.MISSING
    assert mode(report) == "unavailable"
    assert mode(report, "corridor mode") == "full"


def test_incomplete_map(root: Path) -> None:
    content = build_map()
    content["stop_line"] = []
    del content["arcline_path_3"]["O"]
    write_map(root, content)
    report = check_dataset(root, VERSION)
    assert report.ok
    assert status(report, f"{MAP}: layers") is Status.DEGRADED
    assert "empty: stop_line" in str(report.rows())
    assert mode(report, "map: stop_line") == "unavailable"
    assert mode(report, "map: ped_crossing") == "full"
    lanes = report.item(f"{MAP}: lane centrelines")
    linked = report.item(f"{MAP}: lanes with successors")
    assert lanes is not None
    assert linked is not None
    assert (lanes.count, linked.count) == ("5 of 6", "3 of 6")
    assert mode(report) == "degraded"


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "1.3"}', '{"version": "1.2", "lane": []}'])
def test_unusable_map(root: Path, content: str) -> None:
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(content)
    report = check_dataset(root, VERSION)
    assert not report.ok
    assert status(report, MAP) is Status.BROKEN


def test_missing_map_picture_and_truncated_lidar(root: Path) -> None:
    (root / "maps" / "map.png").unlink()
    (root / "samples" / "LIDAR_TOP" / "0.pcd.bin").write_bytes(b"12345")
    report = check_dataset(root, VERSION)
    assert not report.ok
    assert status(report, "map pictures") is Status.MISSING
    assert status(report, "LiDAR key frames") is Status.BROKEN


def test_can_bus(root: Path) -> None:
    (root / "can_bus").mkdir()
    (root / "can_bus" / f"{SCENE}_pose.json").write_text("[]")
    assert status(check_dataset(root, VERSION), "CAN bus") is Status.OK


@pytest.mark.nuscenes
def test_real_data_set(nuscenes_root: Path) -> None:
    report = check_dataset(nuscenes_root, VERSION)
    assert report.ok
    assert len(report.scenes) == 7
    assert mode(report) == "degraded"
    camera = report.item("camera key frames")
    assert camera is not None
    assert camera.count == "6 of 1692"

"""The recorder's folder: what is refused, what a kill leaves behind, and rendered sensors for an existing data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY
from nuscenes_files import START_US, VERSION, build_tables, write_nuscenes, write_table
from record_settings import CONFIG, TINY
from typer.testing import CliRunner

from eval.run.store import RunDirError
from eval.simulation.lidar import LidarConfig
from eval.simulation.record.dataset import part_path
from eval.simulation.record.existing import RenderConfig, finish_root, render_part
from eval.simulation.record.root_folder import RootFolder

# --- the folder -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_seeds": (0,)}, r"val_seeds: .*got \[0\] in both"),
        ({"past_sweeps": 10}, "past_sweeps: expected 0 to 9, got 10"),
        ({"jpeg_quality": 0}, "jpeg_quality: expected 1 to 95"),
        ({"version": "mini"}, "version: expected a name that starts with v1.0-"),
        ({"train_seeds": (), "val_seeds": ()}, "expected at least one seed"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change).validate()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(RunDirError, match="holds something that `dualdrive record` did not write"):
            RootFolder.claim(tmp_path, CONFIG, ["a"], 0, "v1.0-sim", fresh=fresh)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_recordings_are_not_mixed_and_only_their_own_files_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "out"
    with RootFolder.claim(root, CONFIG, ["a"], 0, CONFIG.version):
        (root / "samples").mkdir()
        with pytest.raises(RunDirError, match="another dualdrive command is writing"):
            RootFolder.claim(root, CONFIG, ["a"], 0, CONFIG.version)
    (root / "notes.txt").write_text("mine")
    original = tmp_path / "original"
    original.mkdir()
    (original / "map.png").write_text("not ours")
    (root / "maps").symlink_to(original)
    other = replace(CONFIG, jpeg_quality=50)
    with pytest.raises(RunDirError, match="another configuration; they must not be mixed"):
        RootFolder.claim(root, other, ["a"], 0, CONFIG.version)
    with RootFolder.claim(root, other, ["a"], 0, CONFIG.version, fresh=True) as folder:
        assert folder.manifest["configuration"]["jpeg_quality"] == 50
    assert sorted(p.name for p in root.iterdir()) == ["notes.txt", "record"]
    assert (original / "map.png").read_text() == "not ours"
    (root / "record" / "manifest.json").write_text("{")
    with pytest.raises(RunDirError, match=r"manifest\.json is damaged"):
        RootFolder.claim(root, other, ["a"], 0, CONFIG.version)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "96"], "size: expected height x width such as 96x160, got '96'"),
        (["--size", "4x4"], "size: expected 8 to 4000 pixels"),
        (["--weather", "snow"], "weather: expected one of clear"),
        (["--family", "city"], "family: expected one of car_following"),
        (["--seeds", "3", "--val-seeds", "2-4"], r"val_seeds: expected seeds that are not in train_seeds, got [2]"),
        (["--scene", "scene-1"], "scene: means nothing without --dataroot"),
        (["--dataroot", "DATA", "--sweeps", "3"], "sweeps: means nothing with --dataroot"),
        (["--dataroot", "DATA", "--out", "DATA/rendered"], "lies in the data set that is read"),
        (["--dataroot", "DATA", "--scene", "scene-1"], "no scene 'scene-1'"),
    ],
)
def test_the_command_says_what_is_wrong_and_writes_nothing(options: list[str], message: str, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from eval.cli import app

    data = write_nuscenes(tmp_path / "data")
    before = sorted(data.rglob("*"))
    options = [o.replace("DATA", str(data)) for o in options]
    result = CliRunner().invoke(app, ["record", "--out", str(tmp_path / "out"), *options])
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert sorted(data.rglob("*")) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_recording_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """The command, killed while it renders: the finished scene stays as it is, and the data set gets complete."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "eval.cli", "record", "--out", str(out), "--family", "cut_in", "--seeds", "1",
        "--val-seeds", "1000-1000", "--size", "24x40", "--sweeps", "1", "--weather", "clear", "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = part_path(out, "scene-2000")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.is_file()
    kept = first.stat().st_mtime_ns
    assert not (out / CONFIG.version / "scene.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are there and kept" in done.stdout
    assert first.stat().st_mtime_ns == kept
    whole = [*command[:4], "--out", str(tmp_path / "whole"), *command[6:]]
    assert subprocess.run(whole, env=environment, capture_output=True, timeout=240).returncode == 0
    for path in (p for p in out.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock")):
        assert path.read_bytes() == (tmp_path / "whole" / path.relative_to(out)).read_bytes(), path
    assert not list(out.rglob("*.part"))
    assert json.loads((out / "record" / "manifest.json").read_text())["status"] == "completed"


# --- an existing data set ---------------------------------------------------------------------


def with_cameras(folder: Path) -> Path:
    """The small synthetic data set, whose tables name images that are not there."""
    root = write_nuscenes(folder)
    tables = build_tables()
    tables["sensor"].append({"token": "cam", "channel": "CAM_FRONT", "modality": "camera"})
    tables["calibrated_sensor"].append(
        {"token": "cc", "sensor_token": "cam", "translation": [1.7, 0.0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5],
         "camera_intrinsic": [[1266.0, 0, 816], [0, 1266.0, 491], [0, 0, 1]]}
    )  # fmt: skip
    for row in [r for r in tables["sample_data"] if r["calibrated_sensor_token"] == "c"]:
        tables["sample_data"].append(
            {**row, "token": f"cam{row['token']}", "calibrated_sensor_token": "cc", "fileformat": "jpg", "height": 900,
             "width": 1600, "filename": f"samples/CAM_FRONT/{row['token']}.jpg", "prev": "", "next": ""}
        )  # fmt: skip
    for name in ("sensor", "calibrated_sensor", "sample_data"):
        write_table(root, name, tables[name])
    return root


def test_missing_files_are_rendered_into_a_new_root_and_the_original_stays_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    from perception.nuscenes import list_scenes, load_boxes, load_sensor_frame

    source, out = with_cameras(tmp_path / "data"), tmp_path / "rendered"
    before = {p: p.stat().st_mtime_ns for p in source.rglob("*")}
    config = RenderConfig(str(source), VERSION, sensors=replace(TINY, lidar=LidarConfig()))
    scenes = list_scenes(source, VERSION)
    for scene in scenes:
        render_part(scene, config, out)
    assert finish_root(scenes, config, out) == 8 + 9
    assert {p: p.stat().st_mtime_ns for p in source.rglob("*")} == before
    there = out / "samples" / "LIDAR_TOP" / "0.pcd.bin"
    assert there.is_symlink()
    assert there.read_bytes() == (source / "samples" / "LIDAR_TOP" / "0.pcd.bin").read_bytes()
    frame = load_sensor_frame(out, VERSION, "3")
    assert frame.lidar is not None
    assert len(frame.lidar.points) == 32 * 1084
    assert frame.time_us == START_US + 3 * 500_000
    assert image.open(out / "samples" / "CAM_FRONT" / "3.jpg").size == (1600, 900)
    boxes = load_boxes(out, VERSION, "3")
    inside = boxes.contains(frame.lidar.points_in_global()).sum(1)
    assert dict(zip(boxes.id, inside))["car"] > 5


def test_what_the_rendered_lidar_counts_replaces_the_counts(tmp_path: Path, nuscenes_root: Path) -> None:
    """On one real scene: counts by the new sweeps, tables otherwise as they were."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from perception.nuscenes_tables import read_table

    config = RenderConfig(str(nuscenes_root), VERSION, sensors=TINY)
    render_part("scene-0796", config, tmp_path)
    finish_root(["scene-0796"], config, tmp_path)
    old = read_table(nuscenes_root, VERSION, "sample_annotation")
    new = read_table(tmp_path, VERSION, "sample_annotation")
    changed = [(a, b) for a, b in zip(old, new) if a != b]
    assert 400 < len(changed) <= 716
    counted = {"num_lidar_pts", "visibility_token"}
    assert all({k for k in a if a[k] != b[k]} <= counted for a, b in changed)
    assert max(b["num_lidar_pts"] for _, b in changed) > 300

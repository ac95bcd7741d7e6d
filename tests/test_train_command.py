"""`dualdrive train`: from tables to a checkpoint, once prepared and never twice, with settings that are checked."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from nuscenes_files import SCENE, VERSION, write_nuscenes
from typer.testing import CliRunner

from eval.cli import app
from perception import training_data
from perception.config import TINY
from perception.nuscenes import load_recording
from perception.nuscenes_tables import RECORDED, DatasetError
from perception.sample import load_sample
from perception.training_data import prepare_scene, split_scenes

pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
LITTLE = (
    "perception.line_range=[20.0,12.0]", "perception.preprocessing.extent=25.6", "perception.preprocessing.pillar=0.8",
    "perception.channels=[8,8,16]", "perception.blocks=[0,0,0]", "perception.neck=8", "perception.query=16",
    "perception.heads=2", "perception.layers=1", "perception.agents=8", "perception.lines=6",
    "perception.line_points=8", "perception.image_channels=[8,8,8,8]", "perception.preprocessing.image=[32,48]",
    "train.batch=2", "train.log_every=1",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The small data set with a LiDAR file for every record."""
    root = write_nuscenes(tmp_path / "data")
    rng = np.random.default_rng(0)
    for record in json.loads((root / VERSION / "sample_data.json").read_text()):
        path = root / record["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        points = np.c_[
            rng.uniform(-40, 40, (500, 2)), rng.uniform(-1.8, 0, 500), rng.uniform(0, 90, 500), np.zeros(500)
        ]
        points.astype(np.float32).tofile(path)
    (root / VERSION / "splits.json").write_text(json.dumps({"sim_train": [SCENE], "sim_val": [], "other": ["scene-1"]}))
    return root


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.slow
def test_from_tables_to_a_checkpoint(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="checkpoints need safetensors")
    from perception.checkpoint import load_network

    out = tmp_path / "run"
    arguments = ("--dataroot", root, "--version", VERSION, "--held-out", "", "--out", out, "-j", 1, *LITTLE)
    code, text = run(*arguments, "train.steps=2")
    assert code == 0, text
    assert "8 samples of 1 scenes" in text
    _, facts = load_network(out / "network.safetensors")
    assert facts["dataset"] == {"version": VERSION, "split": "sim_train", "held_out": ""}
    assert json.loads((out / "config.json").read_text())["perception"]["neck"] == 8
    stamps = {p: p.stat().st_mtime_ns for p in (out / "samples").iterdir()}
    code, text = run(*arguments, "train.steps=2")
    assert code == 0, text
    assert {p: p.stat().st_mtime_ns for p in (out / "samples").iterdir()} == stamps


def test_samples_hold_what_the_tables_say(root: Path, tmp_path: Path) -> None:
    paths = prepare_scene(root, VERSION, SCENE, tmp_path / "samples", TINY)
    assert len(paths) == 8  # of nine key frames the last has no future
    sample = load_sample(paths[2])
    assert sample.sensors.points[0] is not None
    assert sample.sensors.points[1] is not None  # the key frame before, half a second old
    assert load_sample(paths[0]).sensors.points[1] is None
    drive = sample.targets.drive[sample.targets.drive_valid]
    assert drive[:, 0] == pytest.approx(4.0 * np.arange(1, len(drive) + 1), abs=0.05)  # 8 m/s, twice a second


def test_a_scene_that_is_prepared_is_not_read_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one taken for prepared that lacks a sample."""
    first = prepare_scene(root, VERSION, SCENE, tmp_path / "samples", TINY)
    read: list[str] = []
    monkeypatch.setattr(training_data, "load_recording", lambda *a: read.append(a[2]) or load_recording(*a))
    assert prepare_scene(root, VERSION, SCENE, tmp_path / "samples", TINY) == first
    assert read == []
    first[3].unlink()
    assert prepare_scene(root, VERSION, SCENE, tmp_path / "samples", TINY) == first
    assert read == [SCENE]
    assert first[3].is_file()
    # Recorded again, so that what was prepared is of another drive of the same name.
    part = root / RECORDED / f"{SCENE}.json"
    part.parent.mkdir(parents=True)
    part.write_text("{}")
    later = time.time() + 5
    os.utime(part, (later, later))
    stamps = [path.stat().st_mtime_ns for path in first]
    assert prepare_scene(root, VERSION, SCENE, tmp_path / "samples", TINY) == first
    assert read == [SCENE, SCENE]
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in zip(first, stamps))


def test_splits_are_the_sets_own(root: Path) -> None:
    assert split_scenes(root, VERSION, "all") == split_scenes(root, VERSION, "sim_train") == [SCENE]
    for split, message in (("nowhere", "no split 'nowhere'"), ("other", "has no scene"), ("sim_val", "has no scene")):
        with pytest.raises(DatasetError, match=message):
            split_scenes(root, VERSION, split)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "huge"), "expected one of tiny, base"),
        (("train.stepz=3",), "unknown setting 'train.stepz'"),
        (("perception.query=33",), "multiple of 4 heads"),
        (("--held-out", "sim_train"), "not trained on"),
    ],
)
def test_wrong_settings_are_explained(root: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    held = () if "--held-out" in arguments else ("--held-out", "")
    code, text = run("--dataroot", root, "--version", VERSION, "--out", tmp_path / "run", *held, *arguments)
    assert code == 2, text
    assert message in text.replace("\n", " ")

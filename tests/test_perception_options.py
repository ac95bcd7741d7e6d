"""Options of the commands around learned perception: every one arrives where it is meant to."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from nuscenes_files import SCENE, VERSION, write_nuscenes
from perception_samples import SMALL
from typer.testing import CliRunner

import eval.commands.perception as perception_page
import eval.commands.record as record_page
import eval.commands.train as train_page
import eval.commands.train_tracking as tracking_page
from eval.cli import app
from eval.perception import run
from eval.perception.evaluate import DataSet
from eval.perception.run import answers_path
from eval.run.store import RunDirError, locked
from eval.typed_config import ConfigError
from perception.affinity import Affinity
from perception.checkpoint import checkpoint_hash, read_tensors, save_network
from perception.network import PerceptionNetwork
from perception.train.tracking import AffinityTraining


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def listener(monkeypatch: pytest.MonkeyPatch, page: Any, name: str, answer: Any = 0) -> list[tuple[tuple, dict]]:
    """What a function of a page is called with; it answers, and does nothing."""
    calls: list[tuple[tuple, dict]] = []

    def called(*args: Any, **named: Any) -> Any:
        calls.append((args, named))
        return answer

    monkeypatch.setattr(page, name, called)
    return calls


def test_what_is_recorded_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = listener(monkeypatch, record_page, "record")
    invoke("record", "-o", tmp_path / "o", "--family", "cut_in", "--family", "merge", "--seeds", "3-4",
           "--val-seeds", "1007-1007", "--size", "24x40", "--sweeps", 3, "--weather", "rain", "--seed", 7, "-j", 2,
           "--version", "v1.0-own", "--fresh")  # fmt: skip
    ((config, out), named) = calls[0]
    assert (out, named) == (tmp_path / "o", {"workers": 2, "fresh": True})
    assert (config.families, config.train_seeds, config.val_seeds) == (("cut_in", "merge"), (3, 4), (1007,))
    assert (config.version, config.past_sweeps, config.sensors.seed) == ("v1.0-own", 3, 7)
    camera = config.sensors.cameras
    assert (camera.height, camera.width, camera.weather) == (24, 40, "rain")


def test_what_is_rendered_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = listener(monkeypatch, record_page, "render")
    invoke("record", "-o", tmp_path / "o", "--dataroot", tmp_path / "in", "--version", "v1.0-own", "--scene", "a",
           "--scene", "b", "--size", "24x40", "--weather", "night", "--seed", 7, "-j", 3)  # fmt: skip
    ((config, out, scenes), named) = calls[0]
    assert (out, scenes, named) == (tmp_path / "o", ("a", "b"), {"workers": 3, "fresh": False})
    assert (config.dataroot, config.version, config.sensors.seed) == (str(tmp_path / "in"), "v1.0-own", 7)
    camera = config.sensors.cameras
    assert (camera.height, camera.width, camera.weather) == (24, 40, "night")


def test_the_other_commands_hand_on_all_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = listener(monkeypatch, train_page, "train_command")
    invoke("train", "--dataroot", "d", "--version", "v", "--split", "s", "--held-out", "h", "--size", "base", "-o", "o",
           "--cache", "c", "-j", 2, "--tensorboard", "train.seed=3")  # fmt: skip
    assert calls == [((Path("d"), "v", Path("o")), {
        "split": "s", "held_out": "h", "size": "base", "overrides": ["train.seed=3"], "cache": Path("c"), "workers": 2,
        "tensorboard": True,
    })]  # fmt: skip
    calls = listener(monkeypatch, perception_page, "perception_command")
    invoke("perception", "--dataroot", "d", "--version", "v", "--split", "s", "--scene", "a", "--scene", "b",
           "--checkpoint", "x", "--checkpoint", "y", "--keyframe", "k", "--no-tracking", "-o", "o", "-j", 2,
           "--fresh")  # fmt: skip
    assert calls == [((Path("d"), "v", Path("o")), {
        "split": "s", "scenes": ["a", "b"], "checkpoints": [Path("x"), Path("y")], "keyframe": "k", "tracks": False,
        "workers": 2, "fresh": True,
    })]  # fmt: skip
    calls = listener(monkeypatch, tracking_page, "train_tracking_command")
    given = ["train-tracking", "--dataroot", "d", "--checkpoint", "x", "--version", "v", "--split", "s", "--asked", 4]
    invoke(*given, "--seed", 5, "--answers", "a")
    invoke(*given, "--seed", 5, "--answers", "a", "-o", "o")
    for (arguments, named), out in zip(calls, ("x", "o"), strict=True):
        assert arguments == (Path("x"), Path("d"), "v", "s")
        assert named == {"asked": 4, "seed": 5, "out": Path(out), "answers": Path("a")}


def test_numbers_that_mean_nothing_are_refused() -> None:
    for arguments in (
        ("perception", "--dataroot", "d", "-j", -1),
        ("train-tracking", "--dataroot", "d", "--checkpoint", "x", "--asked", -1),
        ("record", "-o", "o", "--seed", -1),
        ("train-tracking", "--dataroot", "d", "--checkpoint", "x", "--seed", -1),
    ):
        assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 2, arguments


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of one scene without sensor files, and an untrained network."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    folder = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        root = write_nuscenes(folder / "data")
    (root / VERSION / "splits.json").write_text(json.dumps({"own": [SCENE], "two": [SCENE]}))
    torch.manual_seed(0)
    save_network(folder / "old.safetensors", PerceptionNetwork(SMALL), {"seed": 7})
    return root, folder / "old.safetensors"


def test_the_seed_reaches_detections_and_training_and_answers_are_kept(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a scene whose own detections are asked for; a second time the network is not asked again."""
    root, checkpoint = data
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = checkpoint.read_bytes()
    trained: list[tuple[int, AffinityTraining]] = []
    seeds: list[tuple[int, ...]] = []

    def train(drives: list, settings: AffinityTraining, progress: Any) -> Affinity:
        trained.append((len(drives), settings))
        progress(1.0, 0.25)
        return Affinity()

    def simulated(recording: Any, seed: tuple[int, ...]) -> list:
        seeds.append(seed)
        return []

    monkeypatch.setattr(tracking_page, "train_affinity", train)
    monkeypatch.setattr(tracking_page, "simulated_drives", simulated)
    command = ["train-tracking", "--dataroot", root, "--version", VERSION, "--split", "all", "--checkpoint", checkpoint]
    command += ["--answers", tmp_path / "answers", "-o", tmp_path / "new.safetensors", "--seed", 3]
    for asked in (1, 0):
        invoke(*command, "--asked", asked)
    assert trained == [(1, AffinityTraining(seed=3)), (0, AffinityTraining(seed=3))]
    assert seeds == [(3, 0)] * 2
    assert checkpoint.read_bytes() == before
    found_on = read_tensors(tmp_path / "new.safetensors")[1]["affinity"]["found_on"]
    assert (found_on["seed"], found_on["asked"], found_on["loss"]) == (3, 0, 0.25)
    answers = answers_path(tmp_path / "answers", root, VERSION, SCENE, checkpoint_hash(checkpoint))
    assert list((tmp_path / "answers").iterdir()) == [answers]
    listened = listener(monkeypatch, tracking_page, "see_scene", [])
    invoke(*command, "--asked", 1)
    assert listened == []
    monkeypatch.setattr(run, "recorded_at", lambda *_: math.inf)  # since then the scene was recorded again
    invoke(*command, "--asked", 1)
    assert len(listened) == 1


def test_of_a_split_the_chosen_scenes_are_asked_about_with_every_checkpoint(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is to be asked is found out and handed on; failed scenes are the command's exit code and status."""
    root, checkpoint = data
    second = tmp_path / "second.safetensors"
    torch.manual_seed(1)
    save_network(second, PerceptionNetwork(SMALL), {"seed": 8})
    kept = answers_path(tmp_path / "o" / "answers", root, VERSION, SCENE, checkpoint_hash(checkpoint))
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"said")
    asked: list[tuple[Any, dict[str, bool]]] = []

    def ask(known: Any, tasks: list[tuple[str, str, str]], workers: int) -> int:
        asked.append((known, {path: Path(file).is_file() for path, _, file in tasks}))
        return 1

    monkeypatch.setattr(perception_page, "_ask", ask)
    some = {"checkpoints": [checkpoint, second, checkpoint], "split": "own"}
    for fresh in (False, True):
        code = perception_page.perception_command(root, VERSION, tmp_path / "o", tracks=False, fresh=fresh, **some)
        assert code == 1
        assert json.loads((tmp_path / "o" / "manifest.json").read_text())["status"] == "failed"
        known, there = asked[-1]
        assert there == {str(checkpoint): not fresh, str(second): False}
        assert (known.scenes, known.split_scenes, known.whole, known.tracks) == ([SCENE], [SCENE], True, False)
    monkeypatch.setattr(perception_page, "split_scenes", lambda *_: [SCENE, "scene-x"])
    perception_page.perception_command(root, VERSION, tmp_path / "o", scenes=[SCENE], **some)
    known, _ = asked[-1]
    assert (known.scenes, known.split_scenes, known.whole, known.tracks) == ([SCENE], [SCENE, "scene-x"], False, True)


def test_a_key_frame_is_drawn_by_one_network(data: tuple[Path, Path], tmp_path: Path) -> None:
    for more in ({"scenes": [SCENE]}, {"checkpoints": [data[1], tmp_path / "copy.safetensors"]}):
        (tmp_path / "copy.safetensors").write_bytes(data[1].read_bytes())
        given = {"checkpoints": [data[1]], "split": "own", "keyframe": SCENE} | more
        with pytest.raises(typer.Exit):
            perception_page.perception_command(data[0], VERSION, tmp_path / "o", **given)
    assert not (tmp_path / "o").exists()


def test_a_split_without_traffic_teaches_nothing(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_page, "simulated_drives", lambda *_: [])
    command = ["train-tracking", "--dataroot", data[0], "--version", VERSION, "--split", "all", "--asked", 0]
    result = CliRunner().invoke(app, [*map(str, command), "--checkpoint", str(data[1])])
    assert result.exit_code == 1
    assert "nothing can be learned from split 'all'" in result.output


def test_what_was_said_of_an_earlier_recording_is_asked_again(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"said")
    tasks = [("c", "s1", str(tmp_path / "a")), ("c", "s2", str(tmp_path / "a")), ("c", "s1", str(tmp_path / "b"))]
    asked: list[Any] = []
    monkeypatch.setattr(
        perception_page, "run_tasks", lambda missing, *_, **__: asked.append(missing) or (_ for _ in ())
    )
    monkeypatch.setattr(run, "recorded_at", lambda root, scene: math.inf if scene == "s2" else 0.0)
    known = DataSet(data[0], VERSION, "own", [], [], False, "")
    assert perception_page._ask(known, tasks, 1) == 0
    assert asked == [tasks[1:]]


def test_what_is_watched_calibrated_and_trained_on_are_three_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    splits = {"a": ["1", "2"], "b": ["3", "4", "5"], "c": ["2", "3"]}
    monkeypatch.setattr(train_page, "split_scenes", lambda root, version, split: splits[split])
    monkeypatch.setattr(train_page, "_prepare", lambda scenes, *_: {s: [Path(s)] for s in scenes})
    calls = listener(monkeypatch, train_page, "train", ())
    calibrated = listener(monkeypatch, train_page, "_calibrate")
    monkeypatch.setattr(train_page, "SIZES", {"tiny": replace(SMALL)})
    for seed in (4, 5):
        code = train_page.train_command(
            tmp_path, "v", tmp_path / "o", split="a", held_out="b", size="tiny", overrides=[f"train.seed={seed}"]
        )
        assert code == 0
    (network, samples, out, config, validate, facts, board), _ = calls[0]
    assert samples == [Path("1"), Path("2")]
    assert validate.keywords["paths"] == [Path("3"), Path("5")]
    assert calibrated[0][0] == (tmp_path / "o" / "network.safetensors", [Path("4")], "v b, every second scene")
    assert (out, config.seed, facts["seed"], facts["dataset"]["split"], board) == (tmp_path / "o", 4, 4, "a", False)
    other = calls[1][0][0]
    assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), other.parameters()))
    with locked(tmp_path / "o"), pytest.raises(RunDirError, match="another dualdrive command"):
        train_page.train_command(tmp_path, "v", tmp_path / "o", split="a", held_out="b", size="tiny")
    with pytest.raises(ConfigError, match="got 2 in both splits"):
        train_page.train_command(tmp_path, "v", tmp_path / "o", split="a", held_out="c", size="tiny")


def test_out_that_cannot_be_written_is_found_before_the_work(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, checkpoint = data
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tracking_page, "load_recording", lambda *_: pytest.fail("worked in vain"))
    for out in (tmp_path / "file" / "x", tmp_path):
        arguments = ["train-tracking", "--dataroot", root, "--version", VERSION, "--split", "all", "-o", out]
        result = CliRunner().invoke(app, [*map(str, arguments), "--checkpoint", str(checkpoint)])
        assert result.exit_code == 1
        assert "Error:" in result.output

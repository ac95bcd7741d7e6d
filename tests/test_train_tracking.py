"""`dualdrive train-tracking`: from a checkpoint and a data set to a checkpoint that associates by what it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes_files import SCENE, VERSION, write_nuscenes
from perception_samples import SMALL
from test_tracking_qp import crossing
from typer.testing import CliRunner

from eval.cli import app
from eval.commands.train_tracking import detected_drive, simulated_drives
from eval.perception.run import Seen
from perception.checkpoint import load_network, save_network
from perception.network import PerceptionNetwork
from perception.perceive import Perception
from perception.track import KEY_FRAMES, TrackConfig


def test_a_checkpoint_learns_to_associate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_nuscenes(tmp_path / "data")
    torch.manual_seed(0)
    save_network(tmp_path / "old.safetensors", PerceptionNetwork(SMALL), {"seed": 7})
    assert Perception.from_checkpoint(tmp_path / "old.safetensors").tracker.association == "hungarian"
    arguments = ["train-tracking", "--dataroot", str(root), "--version", VERSION, "--split", "all", "--asked", "0"]
    arguments += ["--checkpoint", str(tmp_path / "old.safetensors"), "-o", str(tmp_path / "new.safetensors")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Trained on 2 drives" in result.output
    perception = Perception.from_checkpoint(tmp_path / "new.safetensors")
    assert perception.tracker.association == "qp"
    _, facts = load_network(tmp_path / "new.safetensors")
    assert facts["seed"] == 7
    assert facts["affinity"]["found_on"]["scenes"] == 1
    assert np.abs(facts["affinity"]["parameters"]["net.4.weight"]).max() > 0  # a fresh one has zeros
    arguments[arguments.index(str(root))] = str(tmp_path / "nowhere")
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_a_networks_detections_are_named_as_the_tracker_is_given_them() -> None:
    drive = crossing()
    simulated, fast = simulated_drives(drive, (0,))
    assert simulated.config == KEY_FRAMES
    assert fast.config == TrackConfig()
    assert len(fast.frames) == len(drive.time)
    seen = [
        Seen(SCENE, "", f.time_us, f.global_from_ego, f.agents, *[None] * 4)  # type: ignore[arg-type]
        for f in simulated.frames
    ]
    named = detected_drive(seen, drive, 0.4)
    assert named.config == KEY_FRAMES
    same = total = 0
    for told, frame in zip(named.frames, simulated.frames):
        sure = frame.agents.existence >= 0.4
        assert torch.equal(told.agents.existence, frame.agents.existence[sure])
        name = frame.name[sure.numpy()]
        same, total = same + int((told.name == name)[name >= 0].sum()), total + int((name >= 0).sum())
    assert total > 8
    assert same > 0.7 * total

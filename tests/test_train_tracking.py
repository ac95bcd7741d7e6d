"""`dualdrive train-tracking`: from a checkpoint and a data set to a checkpoint that associates by what it learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes_files import SCENE, VERSION, write_nuscenes
from perception_samples import SMALL
from test_track import US, seen
from test_tracking_qp import crossing
from typer.testing import CliRunner

from eval.cli import app
from eval.commands.train_tracking import detected_drive, simulated_drives
from eval.perception.run import Seen
from perception.affinity import Affinity
from perception.checkpoint import load_network, save_network
from perception.network import PerceptionNetwork
from perception.perceive import Perception
from perception.track import KEY_FRAMES, TrackConfig
from perception.train.detections import NamedDrive, NamedFrame, simulated
from perception.train.tracking import AffinityTraining, asked, train_affinity


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
    said = [
        Seen(SCENE, "", f.time_us, f.global_from_ego, f.agents, *[None] * 4)  # type: ignore[arg-type]
        for f in simulated.frames
    ]
    named = detected_drive(said, drive, 0.4)
    assert named.config == KEY_FRAMES
    same = total = 0
    for told, frame in zip(named.frames, simulated.frames):
        sure = frame.agents.existence >= 0.4
        assert torch.equal(told.agents.existence, frame.agents.existence[sure])
        name = frame.name[sure.numpy()]
        same, total = same + int((told.name == name)[name >= 0].sum()), total + int((name >= 0).sum())
    assert total > 8
    assert same > 0.7 * total


def test_the_seed_draws_the_network_and_the_order_of_the_questions() -> None:
    drives = [NamedDrive(simulated(crossing(), 5, np.random.default_rng(k)), KEY_FRAMES) for k in range(3)]
    first: list[float] = []
    drawn = []
    for seed in (0, 0, 1):
        settings = AffinityTraining(rounds=1, epochs=1, batch=1, seed=seed)
        losses: list[float] = []
        train_affinity(drives, settings, lambda _, loss, losses=losses: losses.append(loss))
        first.append(losses[0])  # of the first question: a fresh network adds nothing to the score
        drawn.append(train_affinity(drives, replace(settings, epochs=0)).to_facts()["parameters"]["net.0.weight"])
    assert first[0] == first[1] != first[2]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_track_is_whom_it_was_linked_to_last() -> None:
    """Object 1, then 2 in its place, then both: the track is 2's by then."""

    def frame(k: int, **places: float) -> NamedFrame:
        agents, _, pose = seen([(x, 0.0) for x in places.values()])
        return NamedFrame(agents, np.array([int(name[1:]) for name in places]), pose.numpy(), k * US // 2)

    drive = NamedDrive([frame(0, o1=10.0), frame(1, o2=10.3), frame(2, o1=10.2, o2=10.4)], KEY_FRAMES)
    with torch.no_grad():
        questions = asked(drive, Affinity(KEY_FRAMES.gate))
    assert [q.true.tolist() for q in questions] == [[False], [False, True]]

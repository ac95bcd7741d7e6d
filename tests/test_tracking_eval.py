"""The devkit's tracking evaluation on a data set of one scene: perfect tracks, switched ones, counts by scene."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes_files import SAMPLES, SCENE, SPEED, START_US, STEP_US, VERSION, _annotation, edit_table, write_nuscenes

from eval.perception import tracking
from eval.perception.run import Seen
from perception.affinity import Affinity
from perception.decode import DecodeConfig
from perception.nuscenes_tables import DatasetError
from perception.track import KEY_FRAMES
from planner.scene import AgentFutures, AgentTracks, MapPolylines

F64 = torch.float64
TIME = torch.tensor([1.0], dtype=F64)
FIRST, LAST = 2, 6  # key frames in which the car is annotated


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cars side by side, 9 m apart, for five key frames; a lone point on each counts as seen."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    pytest.importorskip("motmetrics", reason='needs motmetrics: pip install "dualdrive[tracking]"')
    root = write_nuscenes(tmp_path_factory.mktemp("tracks"))

    def more(records: list) -> None:
        records[:] = [r for r in records if r["instance_token"] != "walker"]
        for k in range(FIRST, LAST + 1):
            records.append(_annotation(f"other{k}", k, "other", [60.0 + k, -4.0, 0.8], 0.0, [1.9, 4.5, 1.6]))
        for r in records:
            k, name = int(r["token"][-1]), r["token"][:-1]
            r["prev"], r["next"] = f"{name}{k - 1}" if k > FIRST else "", f"{name}{k + 1}" if k < LAST else ""

    edit_table(root, "sample_annotation", more)
    edit_table(root, "instance", lambda records: records[1].update(
        token="other", category_token="k1", nbr_annotations=5, first_annotation_token="other2",
        last_annotation_token="other6"))  # fmt: skip
    (root / VERSION / "splits.json").write_text(json.dumps({"own": [SCENE]}))
    return root


NO_MAP = MapPolylines(
    torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, dtype=torch.bool),
    torch.zeros(0, 2, dtype=torch.bool),
)  # fmt: skip


def drive(lost: tuple[int, ...] = ()) -> list[Seen]:
    """The two cars as seen from ego; none in the key frames `lost`."""
    out = []
    for k in range(SAMPLES):
        pose = np.array([20.0 + SPEED * k * STEP_US / 1e6, 0.0, 0.0])
        there = FIRST <= k <= LAST and k not in lost
        box = torch.tensor([[60.0 + k - pose[0], y, 0.0, 4.5, 1.9] for y in (5.0, -4.0)] if there else [], dtype=F64)
        n = len(box)
        agents = AgentTracks(
            box.reshape(n, 5), torch.tensor([[2.0, 0.0]], dtype=F64).expand(n, 2),
            torch.eye(2, dtype=F64).expand(n, 2, 2),
            torch.zeros(n, dtype=torch.int64), torch.tensor([0.9, 0.8], dtype=F64)[:n], torch.full((n,), -1),
            torch.ones(n, dtype=torch.bool),
        )  # fmt: skip
        ahead = AgentFutures(
            agents.box[:, None, None, :2], agents.box[:, 2, None, None], agents.position_covariance[:, None, None],
            torch.ones(n, 1, dtype=F64), TIME, torch.ones(n, 1, 1, dtype=torch.bool),
        )  # fmt: skip
        time = START_US + k * STEP_US
        out.append(Seen(SCENE, f"{k}", time, pose, agents, ahead, agents, ahead, NO_MAP))
    return out


def test_perfect_tracks_are_perfect(dataset: Path, tmp_path: Path) -> None:
    for association in ("hungarian", "qp"):
        report = tracking.evaluate(
            [drive()], dataset, VERSION, "own", tmp_path, replace(KEY_FRAMES, association=association)
        )
        car = {name: values["car"] for name, values in report.metrics["label_metrics"].items()}
        assert (car["amota"], car["recall"], car["ids"], car["fp"]) == (1.0, 1.0, 0.0, 0.0)
        assert car["amotp"] == pytest.approx(0.0, abs=1e-6)
        assert report.metrics["amota"] == 1.0  # classes that do not occur count for nothing
        assert np.nanmax(report.counts[0, report.classes.index("car"), :, 0]) == 10
    stored = json.loads((tmp_path / "tracks.json").read_text())["results"]
    assert len(stored) == SAMPLES
    assert {b["tracking_id"] for boxes in stored.values() for b in boxes} == {f"{SCENE}/0", f"{SCENE}/1"}


def test_what_is_followed_is_certain_seen_and_associated_as_learned(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = drive(lost=(4,))
    for one in seen:
        one.detections.existence[1:] = DecodeConfig().existence - 0.01  # the second car is hardly believed in
    told = tracking.followed(seen, replace(KEY_FRAMES, birth=0.0))
    assert [len(agents.valid) for agents in told] == [int(FIRST <= k <= LAST and k != 4) for k in range(SAMPLES)]
    given: list[Affinity | None] = []
    monkeypatch.setattr(tracking, "followed", lambda d, config, affinity: given.append(affinity) or told)
    learned = Affinity()
    facts = tracking.tracking_facts([seen], dataset, VERSION, "own", tmp_path, learned)
    assert facts is not None
    assert facts["association"] == "qp"
    assert given == [learned]
    assert facts["classes"]["car"]["recall"] == pytest.approx(0.5)  # the devkit closes the gap


def test_differences_are_the_second_less_the_first(dataset: Path, tmp_path: Path) -> None:
    one, two = (
        tracking.evaluate([drive(lost)], dataset, VERSION, "own", tmp_path, KEY_FRAMES, quick=True)
        for lost in ((2, 3), ())
    )
    assert tracking.estimate([one, two], "recall").value == pytest.approx(0.4)


def test_counts_by_scene_say_what_the_devkit_says(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids switched half-way, one car lost for a frame, another invented."""
    seen = drive(lost=(LAST,))
    told = tracking.followed(seen, KEY_FRAMES)
    for k in (4, 5):
        told[k].track_id[:] = told[k].track_id.flip(0)
    far = told[3].apply(lambda t: torch.cat([t, t[:1]]))
    far.box[2, 1] += 10.0
    far.track_id[2] = 7
    told[3] = far
    monkeypatch.setattr(tracking, "followed", lambda *_: told)
    report = tracking.evaluate([seen], dataset, VERSION, "own", tmp_path, KEY_FRAMES)
    assert report.metrics["label_metrics"]["ids"]["car"] == 2
    assert report.metrics["label_metrics"]["fp"]["car"] == 1
    quick = tracking.evaluate([seen], dataset, VERSION, "own", tmp_path, KEY_FRAMES, quick=True)
    np.testing.assert_array_equal(quick.counts, report.counts)  # our thresholds are the devkit's too
    total = report.counts.sum(0)
    for name in ("amota", "amotp", "ids", "recall"):
        assert float(tracking.averaged(total, name)) == pytest.approx(report.metrics[name], abs=1e-9)
        two = replace(report, counts=np.concatenate([report.counts] * 2), scenes=("a", "b"))
        found = tracking.estimate([two], name)
        twice = 2 if name == "ids" else 1
        assert found.low == found.high == found.value == pytest.approx(twice * report.metrics[name])
        assert tracking.estimate([two, two], name).facts() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_reports_on_different_scenes_are_not_compared(dataset: Path, tmp_path: Path) -> None:
    report = tracking.evaluate([drive()], dataset, VERSION, "own", tmp_path, KEY_FRAMES)
    with pytest.raises(ValueError, match="expected counts of the same scenes"):
        tracking.estimate([report, replace(report, scenes=("another",))], "amota")
    with pytest.raises(ValueError, match="name: expected amota, amotp, ids or recall, got 'motp'"):
        tracking.averaged(report.counts, "motp")


def test_without_the_devkits_needs_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nuscenes.eval.tracking.evaluate", None)
    with pytest.raises(DatasetError, match="tracking evaluation cannot be imported"):
        tracking.evaluate([], tmp_path, VERSION, "own", tmp_path, KEY_FRAMES)

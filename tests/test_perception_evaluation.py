"""The whole path of `dualdrive perception` on a recorded set: annotations handed in as answers must be perfect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from perception_oracle import oracle_seen
from perception_samples import SMALL
from record_settings import CONFIG, recorded

from eval.commands.perception import perception_command
from eval.perception import intervals
from eval.perception.detection import CLASSES, SURE, THRESHOLDS, evaluate_detections
from eval.perception.evaluate import DataSet, data_label, evaluate, headline
from eval.perception.keyframe import recall_by_distance
from eval.perception.matches import matched_frames
from eval.perception.precision import devkit_precision
from eval.perception.prediction import CONSTANT, LANES, MODES, NETWORK, TRUE, devkit_figures
from eval.perception.run import Seen, see_scene
from eval.perception.truth import Truth, scene_truth
from eval.run.store import RunDirError, locked
from perception.affinity import Affinity
from perception.calibration import Calibration
from perception.checkpoint import checkpoint_hash, read_tensors, save_network, write_tensors
from perception.network import PerceptionNetwork
from perception.nuscenes_tables import DatasetError, open_tables
from perception.perceive import Perception
from perception.sensor_frame import SensorFrame
from planner.scene import Route, VectorScene

SCENES = ["scene-2000", "scene-6000"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, recorded once; do not change them."""
    return recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals are not what is asked here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 30)
        yield


@pytest.fixture(scope="module")
def truth(root: Path) -> dict[str, list[Truth]]:
    return {scene: scene_truth(root, CONFIG.version, scene) for scene in SCENES}


@pytest.fixture(scope="module")
def oracle(truth: dict[str, list[Truth]]) -> dict[str, list[Seen]]:
    return {scene: oracle_seen(frames) for scene, frames in truth.items()}


@pytest.fixture(scope="module")
def perfect(root: Path, truth: dict, oracle: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """What evaluation says of the oracle, and the folder of its files."""
    folder = tmp_path_factory.mktemp("evaluated")
    data = DataSet(root, CONFIG.version, "all", SCENES, SCENES, False, "simulated", truth=truth)
    data.load_roads()
    return evaluate(data, oracle, {}, folder), folder


def noisy(seen: list[Seen], seed: int) -> list[Seen]:
    """Places up to a few metres off, random confidence, every fifth detection twice: matching has something to do."""
    rng = np.random.default_rng(seed)
    out = []
    for one in seen:
        count = len(one.detections.valid)
        rows = torch.tensor([*range(count), *range(0, count, 5)], dtype=torch.int64)
        agents = one.detections.apply(lambda t, rows=rows: t[rows])
        box = agents.box.clone()
        box[:, :2] += torch.from_numpy(rng.normal(0, 1.2, (len(rows), 2)))
        agents = agents.replace(box=box, existence=torch.from_numpy(np.round(rng.uniform(0.02, 1, len(rows)), 2)))
        when = one.futures.time
        futures = one.detected_futures.apply(lambda t, rows=rows, when=when: t if t is when else t[rows])
        out.append(replace(one, detections=agents, detected_futures=futures).validate())
    return out


def test_annotations_as_detections_have_average_precision_one(perfect: tuple[dict, Path]) -> None:
    detection = perfect[0]["detection"]
    occurring = [name for name in CLASSES if name not in detection["absent"]]
    assert {"car", "pedestrian"} <= set(occurring)
    for name in occurring:
        assert detection["classes"][name]["mean_ap"] == pytest.approx(1.0)
        for error in ("trans_err", "orient_err", "vel_err"):
            value = detection["classes"][name]["errors"][error]
            assert np.isnan(value) or value == pytest.approx(0.0, abs=1e-5), (name, error)
    assert detection["mean_ap_car_pedestrian"]["value"] == pytest.approx(1.0)
    assert detection["mean_ap_occurring"]["low"] == pytest.approx(1.0)
    for name in occurring:
        for band in detection["by_distance"][name]:
            assert band["annotated"] == 0 or (band["recall"], band["ap"]) == (1.0, pytest.approx(1.0))
    assert sum(b["annotated"] for b in detection["by_distance"]["car"]) == detection["classes"]["car"]["annotated"] > 0


def test_annotated_lines_and_futures_are_perfect_too(perfect: tuple[dict, Path]) -> None:
    facts = perfect[0]
    for name, one in facts["map"]["classes"].items():
        assert name in facts["map"]["absent"] or one["mean_ap"]["value"] == pytest.approx(1.0)
    assert facts["map"]["mean_ap"]["value"] == pytest.approx(1.0)
    assert "centreline" not in facts["map"]["mean_ap"]["classes"]
    for horizon in ("3", "6"):
        every = facts["forecast"]["horizons"][horizon]["every"]["all"]
        assert every["agents"] > 20
        assert every["methods"][NETWORK]["min_ade_6"]["value"] == pytest.approx(0.0, abs=1e-3)
        assert every["methods"][NETWORK]["miss_rate_1"]["value"] == 0.0
        # The perceived state is the true one here: both straight forecasts say the same, and neither is perfect.
        for figure in ("min_ade_6", "min_fde_1", "miss_rate_5"):
            same = every["methods"][CONSTANT][figure]["value"]
            assert same == pytest.approx(every["methods"][TRUE][figure]["value"], abs=1e-3)
        assert every["methods"][CONSTANT]["min_ade_6"]["value"] > 0.01
        assert every["methods"][LANES]["min_ade_6"]["value"] > 0.01
        moving = facts["forecast"]["horizons"][horizon]["moving"]["all"]
        assert 0 < moving["agents"] < every["agents"]


def test_our_matching_repeats_the_devkit_on_bad_detections(root: Path, oracle: dict, tmp_path: Path) -> None:
    seen = {scene: noisy(frames, n) for n, (scene, frames) in enumerate(oracle.items())}
    tables = open_tables(root, CONFIG.version)
    judged = evaluate_detections(tables, seen, "all", False, tmp_path)
    compared = 0
    for name in CLASSES:
        for limit in THRESHOLDS:
            theirs, answers = judged.facts["classes"][name]["ap"][str(limit)], judged.answers[name, limit]
            if answers.asked.sum():
                assert devkit_precision(answers) == pytest.approx(theirs, abs=1e-9), (name, limit)
                compared += 0 < theirs < 1
    assert compared >= 6
    # Weighing the first scene twice is having it twice.
    car = judged.answers["car", 2.0]
    one = evaluate_detections(tables, {s: seen[s] for s in SCENES[1:]}, "all", False, tmp_path)
    assert devkit_precision(car, np.array([0.0, 1.0])) == pytest.approx(one.facts["classes"]["car"]["ap"]["2.0"])


def test_the_devkits_own_constructor_says_the_same(root: Path, oracle: dict, tmp_path: Path) -> None:
    """sim_val is in the set's splits.json: `DetectionEval` itself judges it."""
    seen = {"scene-6000": noisy(oracle["scene-6000"], 5)}
    tables = open_tables(root, CONFIG.version)
    theirs = evaluate_detections(tables, seen, "sim_val", True, tmp_path / "a").facts
    ours = evaluate_detections(tables, seen, "all", False, tmp_path / "b").facts
    assert json.dumps(theirs, sort_keys=True) == json.dumps(ours, sort_keys=True)
    assert 0.1 < theirs["mean_ap_car_pedestrian"]["value"] < 1


def test_forecasts_are_judged_as_the_devkit_judges_their_file(
    root: Path, perfect: tuple[dict, Path], truth: dict, oracle: dict, tmp_path: Path
) -> None:
    """`compute_metrics` with its own futures, of forecasts that are wrong on purpose."""
    data = DataSet(root, CONFIG.version, "all", SCENES, SCENES, False, "simulated", truth=truth)
    data.load_roads()
    off = {}
    for scene, frames in oracle.items():
        off[scene] = []
        for one in frames:
            mean = one.detected_futures.mean
            worse = torch.cat([mean + 0.7, mean * 1.02, mean - 3.0], 1)
            futures = one.detected_futures.replace(
                mean=worse, probability=torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).repeat(len(mean), 1),
                yaw=one.futures.yaw.repeat(1, 3, 1), covariance=one.futures.covariance.repeat(1, 3, 1, 1, 1),
                valid=one.futures.valid.repeat(1, 3, 1),
            )  # fmt: skip
            off[scene].append(replace(one, detected_futures=futures).validate())
    ours = evaluate(data, off, {}, tmp_path)["forecast"]["horizons"]["6"]["every"]["all"]["methods"][NETWORK]
    theirs = devkit_figures(tmp_path / "forecasts.json", open_tables(root, CONFIG.version), 6.0)
    names = {"min_ade": "MinADEK", "min_fde": "MinFDEK", "miss_rate": "MissRateTopK_2.0"}
    for name, devkit in names.items():
        for k, value in zip(MODES, theirs[devkit]["RowMean"]):
            assert ours[f"{name}_{k}"]["value"] == pytest.approx(value, abs=2e-3), (name, k)
    assert ours["min_ade_1"]["value"] > ours["min_ade_6"]["value"] > 0.01


def test_scenes_of_the_calibration_are_left_out(root: Path, truth: dict, oracle: dict, tmp_path: Path) -> None:
    data = DataSet(root, CONFIG.version, "all", SCENES, SCENES, False, "simulated", truth=truth)
    data.load_roads()
    facts = {"calibration": Calibration(found_on=f"{CONFIG.version} all, every second scene").facts()}
    judged = evaluate(data, oracle, facts, tmp_path)["calibration"]
    assert judged["scenes"] == ["scene-2000"]
    assert judged["left_out"] == ["scene-6000"]
    # All are right and said with 0.9: the error is a tenth.
    assert judged["after"]["existence_error"]["value"] == pytest.approx(0.1)
    assert judged["answers"] == sum(len(one.detections.valid) for one in oracle["scene-2000"])


def test_scenes_left_out_shift_the_numbers_of_the_others(root: Path, truth: dict, oracle: dict, tmp_path: Path) -> None:
    """The first scene that is judged was calibrated on; the second is the only one left."""
    data = DataSet(root, CONFIG.version, "all", SCENES[::-1], SCENES, False, "simulated", truth=truth)
    data.load_roads()
    facts = {"calibration": Calibration(found_on=f"{CONFIG.version} all, every second scene").facts()}
    seen = {scene: oracle[scene] for scene in SCENES[::-1]}
    judged = evaluate(data, seen, facts, tmp_path)["calibration"]
    assert (judged["scenes"], judged["left_out"]) == (["scene-2000"], ["scene-6000"])
    assert judged["after"]["existence_error"]["value"] == pytest.approx(0.1)


def test_tracks_are_followed_with_the_checkpoints_affinity_and_only_if_asked_for(
    root: Path, truth: dict, oracle: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Affinity | None] = []
    monkeypatch.setattr("eval.perception.evaluate.tracking_facts", lambda *a: given.append(a[-1]))
    scenes = ["scene-6000"]
    facts = {"affinity": Affinity(5.0).to_facts()}
    for whole, tracks in ((True, True), (True, False), (False, True)):
        data = DataSet(root, CONFIG.version, "sim_val", scenes, scenes, whole, "simulated", tracks, truth=truth)
        data.load_roads()
        evaluate(data, {"scene-6000": oracle["scene-6000"]}, facts, tmp_path)
    (affinity,) = given
    assert affinity is not None
    assert affinity.gate == 5.0


def test_recall_by_distance_is_of_what_is_said_with_some_confidence(root: Path, oracle: dict, tmp_path: Path) -> None:
    seen = {"scene-6000": noisy(oracle["scene-6000"], 3)}
    judged = evaluate_detections(open_tables(root, CONFIG.version), seen, "all", False, tmp_path)
    answers = judged.answers["car", 2.0]
    right = int((answers.right & (answers.score >= SURE)).sum())
    bands = judged.facts["by_distance"]["car"]
    assert sum(b["annotated"] * b["recall"] for b in bands if b["annotated"]) == pytest.approx(right)
    assert 0 < right < answers.right.sum()


def test_one_key_frame_is_looked_at_from_where_it_is_and_leaves_no_trace(
    root: Path, truth: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far along the drive: the route passes ego. Settings and tracker are as they were, and empty."""
    torch.manual_seed(0)
    perception = Perception(PerceptionNetwork(SMALL))
    before = perception.settings, perception.tracker
    routes: list[np.ndarray] = []
    observe = perception.observe

    def listening(frame: SensorFrame, route: Route) -> VectorScene:
        routes.append(route.xy.numpy())
        return observe(frame, route)

    monkeypatch.setattr(perception, "observe", listening)
    late = truth["scene-6000"][-8]
    (seen,) = see_scene(root, CONFIG.version, "scene-6000", perception, only=late.token)
    assert np.hypot(*routes[0].T).min() < 4.0
    assert 20.0 < np.hypot(*(late.pose - truth["scene-6000"][0].pose)[:2])
    np.testing.assert_allclose(seen.global_from_ego, late.pose)
    assert float(seen.detections.existence.min()) < perception.settings.existence
    assert (perception.settings, perception.tracker) == before
    assert perception.tracker._tracks is None
    assert perception._past == []


def test_the_headline_averages_over_seeds(perfect: tuple[dict, Path]) -> None:
    one = perfect[0]
    other = json.loads(json.dumps(one))
    other["map"]["mean_ap"]["value"] = 0.5
    rows = {row["name"]: row for row in headline([one, other])}
    assert rows["map mAP"]["value"] == pytest.approx(0.75)
    # Student's factor for one degree of freedom is 12.7, the deviation 0.35, of two values.
    assert rows["map mAP"]["high"] == pytest.approx(0.75 + 12.706 * 0.25, rel=1e-3)
    assert rows["map mAP"]["each"] == [pytest.approx(1.0), 0.5]
    assert {row["over"] for row in rows.values()} == {"seeds"}
    assert {row["over"] for row in headline([one])} == {"scenes"}


def test_a_data_set_says_how_its_sensor_data_came_about(tmp_path: Path) -> None:
    assert data_label(tmp_path, "v1.0-trainval") == "of the vehicle"
    assert "unknown" in data_label(tmp_path, "v1.0-own")
    (tmp_path / "record").mkdir()
    note = tmp_path / "record" / "manifest.json"
    note.write_text(json.dumps({"configuration": {"families": []}}))
    assert "SIMULATED" in data_label(tmp_path, "v1.0-sim")
    note.write_text(json.dumps({"configuration": {"dataroot": "/data/nuscenes"}}))
    assert "RENDERED" in data_label(tmp_path, "v1.0-mini")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained network judged on scene-6000: (its checkpoint, the result folder)."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("run")
    checkpoint = out.parent / "untrained.safetensors"
    save_network(checkpoint, PerceptionNetwork(SMALL), {"seed": 0})
    assert perception_command(root, CONFIG.version, out, split="sim_val", checkpoints=[checkpoint], workers=1) == 0
    return checkpoint, out


def test_the_command_writes_what_it_promises(root: Path, evaluated: tuple[Path, Path]) -> None:
    checkpoint, out = evaluated
    results = json.loads((out / "results.json").read_text())
    assert results["data"]["scenes"] == ["scene-6000"]
    assert results["data"]["devkit_split"]
    assert "unknown origin" in results["data"]["sensors"]
    assert results["checkpoints"][0]["sha256"] == checkpoint_hash(checkpoint)
    assert results["checkpoints"][0]["facts"]["seed"] == 0
    assert all(row["protocol"] for row in results["headline"])
    assert results["checkpoints"][0]["cycle_ms"]["p50"] > 0
    said = json.loads((out / "devkit" / "detections.json").read_text())["results"]
    assert len(said) == results["data"]["key_frames"] == len(scene_truth(root, CONFIG.version, "scene-6000"))
    page = (out / "perception.html").read_text()
    assert page.count("<svg") >= 3
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http://").split("</style>")[1]
    assert json.loads((out / "manifest.json").read_text())["status"] == "completed"
    assert not list(out.rglob("*.tmp"))


def test_the_command_goes_on_where_it_stopped(root: Path, evaluated: tuple[Path, Path]) -> None:
    """Answers that are there are kept, whatever else is lost; the same numbers come out."""
    checkpoint, out = evaluated
    before = json.loads((out / "results.json").read_text())
    (answers,) = (out / "answers").iterdir()
    stamp = answers.stat().st_mtime_ns
    (out / "results.json").unlink()
    (out / "perception.html").write_text("torn")
    assert perception_command(root, CONFIG.version, out, split="sim_val", checkpoints=[checkpoint], workers=1) == 0
    assert answers.stat().st_mtime_ns == stamp
    after = json.loads((out / "results.json").read_text())
    assert after["headline"] == before["headline"]
    assert after["data"] == before["data"]


def test_what_cannot_be_judged_is_refused_in_words(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(typer.Exit):
        perception_command(root, CONFIG.version, tmp_path, split="sim_val", checkpoints=[tmp_path / "none"])
    assert "--checkpoint" in capsys.readouterr().err
    torch.manual_seed(0)
    save_network(tmp_path / "n.safetensors", PerceptionNetwork(SMALL), {})
    some = {"checkpoints": [tmp_path / "n.safetensors"]}
    with pytest.raises(DatasetError, match="scene-2000"):
        perception_command(root, CONFIG.version, tmp_path, split="sim_val", scenes=["scene-2000"], **some)
    with pytest.raises(DatasetError, match="no key frame 'nonsense'"):
        perception_command(root, CONFIG.version, tmp_path, split="all", keyframe="nonsense", **some)
    tensors, facts = read_tensors(tmp_path / "n.safetensors")
    write_tensors(tmp_path / "n.safetensors", tensors, facts | {"config": facts["config"] | {"refinements": 4}})
    with pytest.raises(typer.Exit):
        perception_command(root, CONFIG.version, tmp_path, split="sim_val", **some)
    assert "its tensors do not fit" in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()
    save_network(tmp_path / "n.safetensors", PerceptionNetwork(SMALL), {})
    with locked(tmp_path), pytest.raises(RunDirError, match="another dualdrive command"):
        perception_command(root, CONFIG.version, tmp_path, split="sim_val", **some)


def test_one_key_frame_is_drawn_with_its_recall(root: Path, evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    checkpoint, _ = evaluated
    code = perception_command(
        root, CONFIG.version, tmp_path, split="all", checkpoints=[checkpoint], keyframe="scene-6000"
    )
    assert code == 0
    (picture,), (facts,) = list(tmp_path.glob("*.png")), list(tmp_path.glob("*.json"))
    assert picture.stat().st_size > 20_000
    recall = json.loads(facts.read_text())["recall"]
    first = scene_truth(root, CONFIG.version, "scene-6000")[0]
    near = (first.points > 0) & (first.distance < 50)
    assert sum(b["annotated"] for bands in recall.values() for b in bands) == near.sum()
    assert all(0 <= b["found"] <= b["annotated"] for bands in recall.values() for b in bands)


def test_recall_by_distance_of_a_perfect_key_frame_is_one(truth: dict, oracle: dict) -> None:
    frame = matched_frames({"scene-6000": oracle["scene-6000"]}, truth)[3]
    recall = recall_by_distance(frame)
    assert sum(b["annotated"] for bands in recall.values() for b in bands) > 5
    assert all(b["found"] == b["annotated"] for bands in recall.values() for b in bands)

"""Definitions of the figures, on cases that can be drawn and against independent implementations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
from scipy.spatial import cKDTree
from scipy.stats import chi2
from test_perception_seen import seen_of

from eval.perception.calibration import (
    calibration_scenes,
    evaluate_calibration,
    reliability,
    uncalibrated,
    weighted_error,
)
from eval.perception.detection import attribute_name, detection_name, submission
from eval.perception.intervals import over_scenes, over_seeds
from eval.perception.map_ap import NAMES, chamfer, evaluate_map
from eval.perception.matches import matched_frames
from eval.perception.precision import Answers, area_precision, devkit_precision, match_nearest, match_nearest_free
from eval.perception.run import Seen
from eval.perception.truth import HORIZON, STEP, WINDOW, Truth, window_lines
from perception.calibrate import calibration_error
from perception.calibration import Calibration
from perception.config import CLASSES, LINE_KINDS
from perception.road_map import Lane, RoadMap
from perception.targets import resample
from planner.scene import AgentClass, MapPolylines, PolylineType

STEPS = round(HORIZON / STEP)
Line = tuple[PolylineType, list[tuple[float, float]]]


def truth_of(seen: Seen, lines: list[Line] = (), points: int = 9) -> Truth:  # type: ignore[assignment]
    """What was there, if everything in `seen` were right; objects do not move."""
    agents, (x, y, yaw) = seen.detections, seen.global_from_ego
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    box = agents.box.numpy().copy()
    box[:, :2] = box[:, :2] @ turn.T + [x, y]
    box[:, 2] += yaw
    n = len(box)
    return Truth(
        seen.scene, seen.token, seen.time_us, seen.global_from_ego, box, np.ones(n), np.full(n, 1.7),
        agents.velocity.numpy() @ turn.T, agents.agent_class.numpy(), ["vehicle.car"] * n, [str(i) for i in range(n)],
        np.full(n, points), np.repeat(box[:, None, :2], STEPS, 1), np.ones((n, STEPS), bool),
        [np.array(xy, float) for _, xy in lines], np.array([LINE_KINDS.index(k) for k, _ in lines], np.int64),
    )  # fmt: skip


def lines_of(*lines: tuple[PolylineType, list[tuple[float, float]], float]) -> MapPolylines:
    """Polylines with their confidences."""
    out = MapPolylines.from_lists([(torch.tensor(xy, dtype=torch.float64), kind) for kind, xy, _ in lines])
    return out.replace(confidence=torch.tensor([sure for *_, sure in lines], dtype=torch.float64))


# --- matching and average precision -------------------------------------------------------------


def test_the_two_rules_of_matching_differ_where_they_should() -> None:
    """Two answers at one truth, the second one also near another: nuScenes gives it that, MapTR does not."""
    score, distance = np.array([0.9, 0.8]), np.array([[0.1, 1.9], [0.2, 1.5]])
    assert match_nearest_free(score, distance, 2.0).tolist() == [0, 1]
    assert match_nearest(score, distance, 2.0).tolist() == [0, -1]
    # The more certain one chooses first, whatever the order; at the limit nuScenes says no, MapTR yes.
    assert match_nearest_free(score[::-1], distance, 2.0).tolist() == [1, 0]
    assert match_nearest_free(np.array([1.0]), np.array([[2.0]]), 2.0).tolist() == [-1]
    assert match_nearest(np.array([1.0]), np.array([[2.0]]), 2.0).tolist() == [0]
    assert match_nearest(np.array([1.0, 0.5]), np.zeros((2, 0)), 2.0).tolist() == [-1, -1]


def test_area_precision_of_a_curve_drawn_by_hand() -> None:
    """Right, wrong, right of 4 asked for: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2; made falling 1, 2/3, 2/3."""
    answers = Answers(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), np.zeros(3, int), np.array([4]))
    assert area_precision(answers) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert math.isnan(area_precision(replace(answers, asked=np.array([0]))))
    nothing = Answers(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.array([4]))
    assert area_precision(nothing) == devkit_precision(nothing) == 0.0


def test_devkit_precision_of_curves_drawn_by_hand() -> None:
    """All right up to recall 1/2: precision 1 at recalls 0.11 to 0.50, none beyond."""
    half = Answers(np.linspace(1, 0.5, 50), np.ones(50, bool), np.zeros(50, int), np.array([100]))
    assert devkit_precision(half) == pytest.approx(40 / 90)
    wrong = replace(half, right=np.zeros(50, bool))
    assert devkit_precision(wrong) == 0.0
    # One in ten right: precision never exceeds a tenth by much, and a tenth is taken off.
    tenth = Answers(np.linspace(1, 0, 1000), np.arange(1000) % 10 == 9, np.zeros(1000, int), np.array([100]))
    assert devkit_precision(tenth) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_scenes_repeat_or_remove_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    answers = Answers(rng.permutation(n) / n, rng.random(n) < 0.5, rng.integers(0, 3, n), np.array([30, 25, 20]))
    kept = answers.scene != 1
    without = Answers(answers.score[kept], answers.right[kept], answers.scene[kept], np.array([30, 0, 20]))
    weight = np.array([1.0, 0.0, 1.0])
    for figure in (area_precision, devkit_precision):
        assert figure(answers, weight) == pytest.approx(figure(without))
        # A common factor changes nothing.
        assert figure(answers, np.full(3, 3.0)) == pytest.approx(figure(answers))
    # Each answer of the first scene twice in a row, the second one at the same score.
    twice = np.repeat(np.arange(n), np.where(answers.scene == 0, 2, 1))
    double = Answers(answers.score[twice], answers.right[twice], answers.scene[twice], np.array([60, 25, 20]))
    recall, precision = answers.precision_curve(np.array([2.0, 1.0, 1.0]))
    fine_recall, fine_precision = double.precision_curve()
    last = np.flatnonzero(np.diff(double.score[np.argsort(-double.score, kind="stable")], append=-1) != 0)
    np.testing.assert_allclose(recall, fine_recall[last])
    np.testing.assert_allclose(precision, fine_precision[last])


# --- map ------------------------------------------------------------------------------------------


def test_chamfer_distance_of_parallel_lines_and_against_nearest_neighbours() -> None:
    line = resample(np.array([[0.0, 0.0], [20.0, 0.0]]), 100)
    assert chamfer(line, line + np.array([0.0, 0.7])) == pytest.approx(0.7)
    assert chamfer(line, line[::-1]) == 0.0
    # Half as long: one way a few centimetres between the points, the other way the far half is 5 m off on average.
    assert chamfer(line, resample(line[:50], 100)) == pytest.approx(0.5 * (0.5 * 5.0 + 0.05), abs=0.05)
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(0, 5, (2, 30, 2))
        both = cKDTree(a).query(b)[0].mean() + cKDTree(b).query(a)[0].mean()
        assert chamfer(a, b) == pytest.approx(both / 2)


def test_map_precision_of_a_drawn_scene() -> None:
    """A divider 0.3 m off, a boundary 1.2 m off and said twice, a crossing that is not there, a centreline unseen."""
    straight = lambda y: [(-25.0, y), (25.0, y)]  # noqa: E731
    true: list[Line] = [
        (PolylineType.DIVIDER, straight(2.0)), (PolylineType.BOUNDARY, straight(-6.0)),
        (PolylineType.CENTERLINE, straight(0.0)),
    ]  # fmt: skip
    seen = replace(seen_of(), map=lines_of(
        (PolylineType.DIVIDER, straight(2.3), 0.9), (PolylineType.BOUNDARY, straight(-7.2), 0.8),
        (PolylineType.BOUNDARY, straight(-7.3), 0.9), (PolylineType.CROSSING, [(0.0, -4.0), (0.0, 4.0)], 0.7),
        (PolylineType.STOP_LINE, straight(1.0), 0.9),
    ))  # fmt: skip
    facts, _ = evaluate_map({"scene": [seen]}, {"scene": [truth_of(seen, true)]})
    classes = facts["classes"]
    assert classes["divider"]["ap"] == {"0.5": 1.0, "1": 1.0, "1.5": 1.0}
    # At 1.5 m the more certain of the two takes it, the other one is wrong but comes after.
    assert classes["boundary"]["ap"] == {"0.5": 0.0, "1": 0.0, "1.5": 1.0}
    assert classes["centreline"]["mean_ap"]["value"] == 0.0
    assert classes["crossing"]["mean_ap"] is None
    assert facts["absent"] == ["crossing"]
    assert facts["mean_ap"]["value"] == pytest.approx((1 + 1 / 3) / 2)
    assert facts["mean_ap"]["classes"] == ["divider", "boundary"]


def random_lines(rng: np.random.Generator, count: int) -> list[Line]:
    """Bent lines of random classes in the window."""
    out: list[Line] = []
    for _ in range(count):
        x, y = rng.uniform(-20, 10), rng.uniform(-14, 14)
        steps = np.cumsum(np.c_[rng.uniform(2, 5, 5), rng.normal(0, 1, 5)], 0)
        points = [(x, y), *((x + a, y + b) for a, b in steps)]
        out.append((list(NAMES)[rng.integers(len(NAMES))], points))
    return out


@pytest.mark.parametrize("seed", range(2))
def test_map_precision_against_a_plain_implementation(seed: int) -> None:
    """MapTR's algorithm written out with shapely: buffers that touch, interpolated points, one list sorted by score."""
    rng = np.random.default_rng(seed)
    scenes: dict[str, list[Seen]] = {}
    truth: dict[str, list[Truth]] = {}
    for number in range(3):
        true = random_lines(rng, 12)
        said = [
            (kind, [(a + rng.normal(0, 0.5), b + rng.normal(0, 0.5)) for a, b in xy], float(rng.random()))
            for kind, xy in [*true, *true[:4], *random_lines(rng, 3)]
        ]
        one = replace(seen_of(), scene=f"s{number}", map=lines_of(*said))
        scenes[one.scene], truth[one.scene] = [one], [truth_of(one, true)]
    facts, _ = evaluate_map(scenes, truth)
    compared = 0
    for kind, name in NAMES.items():
        for limit in (0.5, 1.0, 1.5):
            expected = plain_map_precision(scenes, truth, kind, limit)
            got = facts["classes"][name]["ap"][f"{limit:g}"]
            assert (got is None and expected is None) or got == pytest.approx(expected, abs=1e-9), (name, limit)
            compared += expected not in (None, 0.0, 1.0)
    assert compared >= 3


def plain_map_precision(
    scenes: dict[str, list[Seen]], truth: dict[str, list[Truth]], kind: PolylineType, limit: float
) -> float | None:
    def points(line: shapely.LineString) -> np.ndarray:
        return np.array([line.interpolate(s).coords[0] for s in np.linspace(0, line.length, 100)])

    rows, asked = [], 0
    for name, (one,) in scenes.items():
        (there,) = truth[name]
        true = [shapely.LineString(x) for x, k in zip(there.line, there.line_kind) if LINE_KINDS[k] is kind]
        asked += len(true)
        mine = (one.map.kind == int(kind)).numpy()
        said = [
            (float(sure), shapely.LineString(xy[ok]))
            for xy, ok, sure in zip(*(getattr(one.map, n).numpy()[mine] for n in ("xy", "valid", "confidence")))
        ]
        taken = set()
        for sure, line in sorted(said, key=lambda pair: -pair[0]):
            best, at = -np.inf, None
            for j, other in enumerate(true):
                wide = [x.buffer(2.0, cap_style="flat", join_style="mitre") for x in (line, other)]
                if wide[0].intersects(wide[1]):
                    a, b = points(line), points(other)
                    table = np.linalg.norm(a[:, None] - b[None], axis=-1)
                    value = -(table.min(0).mean() + table.min(1).mean()) / 2
                    if value > best:
                        best, at = value, j
            right = best >= -limit and at not in taken
            if right:
                taken.add(at)
            rows.append((sure, right))
    if not asked:
        return None
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([right for _, right in rows])
    recall, precision = hits / asked, hits / np.arange(1, len(rows) + 1)
    total, before = 0.0, 0.0
    for i in range(len(rows)):
        total += (recall[i] - before) * precision[i:].max()
        before = recall[i]
    return float(total)


def test_annotated_lines_are_cut_to_the_window() -> None:
    """A straight road seen obliquely, and a crossing that straddles the window's edge: what is inside, in one piece."""
    crossing = np.array([[28.0, -4.0], [34.0, -4.0], [34.0, 4.0], [28.0, 4.0], [28.0, -4.0]])
    centre = np.array([[-80.0, 0.0], [80.0, 0.0]])
    divider = [np.array([[-80.0, 2.0], [0.0, 2.0]]), np.array([[0.0, 2.0], [80.0, 2.0]])]
    surface = shapely.box(-90, -7, 90, 7)
    road = RoadMap("r", {"a": Lane("a", centre, shapely.box(-80, -2, 80, 2), 13.0)}, surface, divider, [crossing])
    lines, kinds = window_lines(road, np.array([0.0, 0.0, 0.0]))
    window = shapely.box(-WINDOW[0], -WINDOW[1], WINDOW[0], WINDOW[1])
    found = {k: [shapely.LineString(x) for x, n in zip(lines, kinds) if LINE_KINDS[n] is k] for k in LINE_KINDS}
    assert {k: len(v) for k, v in found.items()} == {
        PolylineType.CENTERLINE: 1, PolylineType.DIVIDER: 1, PolylineType.BOUNDARY: 2, PolylineType.CROSSING: 1,
    }  # fmt: skip
    assert found[PolylineType.DIVIDER][0].length == pytest.approx(60.0)
    ring = shapely.LineString(crossing).intersection(window)
    assert found[PolylineType.CROSSING][0].hausdorff_distance(ring) < 1e-9
    assert found[PolylineType.CROSSING][0].length == pytest.approx(2 + 8 + 2)
    lines, kinds = window_lines(road, np.array([5.0, 3.0, 1.0]))
    assert all(np.abs(xy).max(0)[0] <= WINDOW[0] + 1e-9 and np.abs(xy).max(0)[1] <= WINDOW[1] + 1e-9 for xy in lines)


# --- submission -----------------------------------------------------------------------------------


def test_a_submission_says_place_size_and_velocity_in_the_global_frame() -> None:
    seen = seen_of(4, 3)
    results = submission([seen], {seen.token: 12.0})["results"][seen.token]
    true = truth_of(seen)
    assert len(results) == 3
    for i, box in enumerate(results):
        np.testing.assert_allclose(box["translation"][:2], true.box[i, :2], atol=1e-9)
        np.testing.assert_allclose(box["velocity"], true.velocity[i], atol=1e-9)
        assert box["size"][:2] == pytest.approx(true.box[i, [4, 3]])
        w, _, _, z = box["rotation"]
        assert math.remainder(2 * math.atan2(z, w) - true.box[i, 2], 2 * math.pi) == pytest.approx(0.0, abs=1e-9)
        assert box["translation"][2] == pytest.approx(12.0 + box["size"][2] / 2)
        assert box["detection_name"] == ("car" if seen.detections.agent_class[i] == AgentClass.CAR else "pedestrian")


def test_classes_and_attributes_are_the_devkits() -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES
    from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

    for kind in AgentClass:
        for length, width in ((0.4, 0.4), (2.5, 0.5)):
            name = detection_name(int(kind), length, width)
            assert name in DETECTION_NAMES
            if kind == AgentClass.STATIC:
                assert name == ("traffic_cone" if length < 1 else "barrier")
            for speed in (0.0, 3.0):
                attribute = attribute_name(name, speed)
                relevant = detection_name_to_rel_attributes(name)
                assert attribute in relevant or (attribute == "" and not relevant)
                assert attribute == "" or attribute in ATTRIBUTE_NAMES


# --- calibration ----------------------------------------------------------------------------------


def test_calibration_is_undone_exactly() -> None:
    table = Calibration(existence=tuple((0.5 + 0.1 * k, 0.3 * k - 1) for k in range(CLASSES)))
    logit, kind = torch.linspace(-4, 5, 50, dtype=torch.float64), np.arange(50) % CLASSES
    said = table.probability(logit[:, None].expand(-1, CLASSES)).numpy()[np.arange(50), kind]
    np.testing.assert_allclose(uncalibrated(said, kind, table), torch.sigmoid(logit).numpy(), rtol=1e-9)


def test_existence_error_is_that_of_calibration_and_zero_where_all_is_true() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(5000)
    right = rng.random(5000) < said**2
    assert weighted_error(said, right, np.ones(5000)) == pytest.approx(calibration_error(said, right))
    honest = rng.random(5000) < said
    assert weighted_error(said, honest, np.ones(5000)) < 0.03 < weighted_error(said, right, np.ones(5000))
    bins = reliability(np.array([0.05, 0.15, 0.15, 1.0]), np.array([False, True, False, True]))
    assert [b["answers"] for b in bins] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[1]["right"], bins[2]["right"], bins[9]["said"]) == (0.5, None, 1.0)


def test_regions_of_gaussians_hold_what_they_promise() -> None:
    """Truths drawn from the told Gaussians, long across ego's way and another at every time: half in the 50 % region,
    and the factors of a calibration are undone.
    """
    rng = np.random.default_rng(0)
    base = replace(seen_of(0, 7), global_from_ego=np.array([100.0, -50.0, 1.0]))
    cars = base.detections.replace(agent_class=torch.zeros(7, dtype=torch.int64))
    now, later = np.array([0.1, 0.4]), np.linspace(0.5, 3.0, STEPS)[:, None] * [0.3, 1.0]  # m, ego's axes
    wrong_now, wrong_later = 3.0, np.linspace(0.5, 1.5, STEPS)
    factor = Calibration(position=(wrong_now,) * CLASSES, future=(tuple(wrong_later.tolist()),) * CLASSES)
    told_now = (now * wrong_now) ** 2
    told_later = (later * wrong_later[:, None]) ** 2 + told_now
    turn = shapely.affinity.rotate(shapely.LineString([(1, 0), (0, 1)]), 1.0, origin=(0, 0), use_radians=True)
    axes = np.array(turn.coords)  # ego's axes in the global frame
    scenes: dict[str, list[Seen]] = {}
    truth: dict[str, list[Truth]] = {}
    for number in range(60):
        told = cars.replace(position_covariance=torch.from_numpy(np.diag(told_now)).repeat(7, 1, 1))
        spread = torch.from_numpy(told_later[:, :, None] * np.eye(2)).expand(7, 1, STEPS, 2, 2)
        one = replace(
            base, scene=f"s{number}", detections=told, detected_futures=base.futures.replace(covariance=spread)
        )
        true = truth_of(one)
        mean = one.detected_futures.mean[:, 0].numpy()
        true.box[:, :2] += (now * rng.normal(size=(7, 2))) @ axes
        off = np.hypot(later, now) * rng.normal(size=mean.shape)
        true.future = base.global_from_ego[:2] + (mean + off) @ axes
        scenes[one.scene], truth[one.scene] = [one], [true]
    facts = evaluate_calibration(matched_frames(scenes, truth), factor, 60)
    rows = {row["horizon"]: row for row in facts["coverage"]}
    assert set(rows) == {0.0, 1.0, 3.0, 6.0}
    for horizon, row in rows.items():
        step = round(horizon / STEP) - 1
        real, said = (now**2, told_now) if horizon == 0 else (later[step] ** 2 + now**2, told_later[step])
        samples = rng.normal(size=(20000, 2)) ** 2 @ (real / said)
        for region in (0.5, 0.9):
            assert row["before"][f"{region:g}"] == pytest.approx(region, abs=0.05), horizon
            expected = float((samples <= chi2.ppf(region, 2)).mean())
            assert row["after"][f"{region:g}"] == pytest.approx(expected, abs=0.05), horizon


def test_objects_without_a_return_do_not_count_against_existence() -> None:
    seen = seen_of(0, 4)
    sure = replace(seen, detections=seen.detections.replace(existence=torch.full((4,), 0.3, dtype=torch.float64)))
    hidden = truth_of(sure, points=0)
    for true, answers in ((truth_of(sure), 4), (hidden, 0)):
        facts = evaluate_calibration(matched_frames({"scene": [sure]}, {"scene": [true]}), Calibration(), 1)
        assert facts["answers"] == answers
    wrong = replace(truth_of(sure), kind=np.full(4, int(AgentClass.BUS)))
    facts = evaluate_calibration(matched_frames({"scene": [sure]}, {"scene": [wrong]}), Calibration(), 1)
    assert facts["after"]["existence_error"]["value"] == pytest.approx(0.3)


def test_scenes_that_the_calibration_was_found_on_are_known() -> None:
    names = ["a", "b", "c", "d", "e"]
    facts = {"calibration": {"found_on": "v1.0-sim sim_val, every second scene"}}
    assert calibration_scenes(facts, "v1.0-sim", "sim_val", names) == ["b", "d"]
    assert calibration_scenes(facts, "v1.0-sim", "sim_train", names) == []
    assert calibration_scenes({}, "v1.0-sim", "sim_val", names) == []


# --- intervals --------------------------------------------------------------------------------------


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.normal(3.0, 1.0, 25)
        estimate = over_scenes(lambda w, v=values: float(w @ v / w.sum()), 25, 200, seed=trial)
        assert estimate.low < estimate.value < estimate.high
        covered += estimate.low <= 3.0 <= estimate.high
    # The percentile interval of 25 values is a little short: 93 % is usual.
    assert 0.88 <= covered / 200 <= 0.98


def test_intervals_of_nothing_and_of_one_are_unknown() -> None:
    assert over_scenes(lambda w: float(w.sum()), 1).facts() == {"value": 1.0, "low": None, "high": None}
    assert over_scenes(lambda _: float("nan"), 5).facts() == {"value": None, "low": None, "high": None}
    assert over_seeds([0.5, float("nan")]).facts() == {"value": 0.5, "low": None, "high": None}
    assert over_seeds([]).facts()["value"] is None
    assert over_seeds([1.0, 2.0, 3.0]).value == 2.0

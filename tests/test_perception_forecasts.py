"""What was seen, and forecast, in the global frame; forecasts whose every error can be written down."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
from test_perception_figures import STEPS, truth_of
from test_perception_seen import seen_of

from eval.perception.matches import matched_frames
from eval.perception.prediction import CONSTANT, LANES, NETWORK, TRUE, _mean, evaluate_forecasts
from eval.perception.truth import STEP, Truth
from perception.road_map import Lane, RoadMap
from planner.scene import AgentClass


def test_what_was_seen_is_told_in_the_global_frame() -> None:
    """Against shapely's rotations of what ego was told."""
    seen = replace(seen_of(2, 5), global_from_ego=np.array([40.0, 7.0, 2.3]))
    (frame,) = matched_frames({"scene": [seen]}, {"scene": [truth_of(seen)]})
    for i in range(5):
        box, ahead = seen.detections.box[i].numpy(), seen.detected_futures.mean[i, 0].numpy()
        for local, found in ((box[:2], frame.place[i, :2]), (ahead[3], frame.mean[i, 0, 3])):
            turned = shapely.affinity.rotate(shapely.Point(local), 2.3, origin=(0, 0), use_radians=True)
            assert found == pytest.approx([turned.x + 40.0, turned.y + 7.0])
        way = shapely.affinity.rotate(shapely.Point(seen.detections.velocity[i]), 2.3, origin=(0, 0), use_radians=True)
        assert frame.velocity[i] == pytest.approx([way.x, way.y])
        assert math.remainder(frame.place[i, 2] - box[2] - 2.3, 2 * math.pi) == pytest.approx(0.0, abs=1e-9)


def test_simple_forecasts_are_judged_for_what_they_know() -> None:
    """Two cars straight ahead on lanes of their own, 4 and 8 m/s; both are seen 0.4 m to the left, and the network's
    forecast and what it thinks of the speed are off by so much that every error can be written down.
    """
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    time = np.arange(1, STEPS + 1) * STEP
    start, speed = np.array([[0.0, 0.0], [0.0, 40.0]]), np.array([4.0, 8.0])
    base = replace(seen_of(0, 2), global_from_ego=np.zeros(3))
    box = torch.tensor([[x, y + 0.4, 0.0, 4.5, 1.9] for x, y in start], dtype=torch.float64)
    true_future = start[:, None] + np.stack([speed[:, None] * time, np.zeros((2, STEPS))], -1)
    velocity = torch.tensor([[v + 0.3, 0.0] for v in speed], dtype=torch.float64)
    ahead = base.detected_futures.replace(mean=torch.from_numpy(true_future + np.array([0.0, 1.5]))[:, None])
    agents = base.detections.replace(
        box=box, velocity=velocity, agent_class=torch.zeros(2, dtype=torch.int64),
        existence=torch.full((2,), 0.9, dtype=torch.float64),
    )  # fmt: skip
    seen = replace(base, detections=agents, detected_futures=ahead).validate()
    truth = replace(
        truth_of(seen), box=np.c_[start, np.zeros(2), [[4.5, 1.9]] * 2], velocity=np.c_[speed, np.zeros(2)],
        future=true_future,
    )  # fmt: skip
    lanes = {}
    for name, y in (("a", 0.0), ("b", 40.0)):
        line = np.array([[-50.0, y], [150.0, y]])
        lanes[name] = Lane(name, line, shapely.box(-50, y - 2, 150, y + 2), 13.0)
    road = RoadMap("r", lanes, shapely.box(-60, -5, 160, 45), [], [])
    frames = matched_frames({"scene": [seen]}, {"scene": [truth]})
    for seconds in (3.0, 6.0):
        facts = evaluate_forecasts(frames, {"scene": road}, 1)["horizons"][f"{seconds:g}"]["every"]["vehicles"]
        assert facts["agents"] == 2
        known = time[time <= seconds]
        expected = {
            NETWORK: np.full(len(known), 1.5), CONSTANT: np.hypot(0.3 * known, 0.4), TRUE: np.zeros(len(known)),
        }  # fmt: skip
        for method, away in expected.items():
            said = facts["methods"][method]
            assert said["min_ade_6"]["value"] == pytest.approx(away.mean(), abs=1e-3), (method, seconds)
            assert said["min_fde_1"]["value"] == pytest.approx(away[-1], abs=1e-3), (method, seconds)
            assert said["miss_rate_1"]["value"] == float(away.max() > 2.0), (method, seconds)
        assert facts["methods"][LANES]["min_ade_6"]["value"] < 1.5  # of the car's own lane and speed, of many modes

    def horizons_of(true: Truth) -> dict:
        return evaluate_forecasts(matched_frames({"scene": [seen]}, {"scene": [true]}), {"scene": road}, 1)["horizons"]

    horizons = horizons_of(replace(truth, future_valid=np.tile(time <= 3.0, (2, 1))))
    assert [horizons[h]["every"]["all"]["agents"] for h in ("3", "6")] == [2, 0]
    seen.detections.agent_class[1] = int(AgentClass.STATIC)
    still = replace(truth, kind=np.array([0, int(AgentClass.STATIC)]))
    assert horizons_of(still)["3"]["every"]["all"]["agents"] == 1  # what stands for ever is not forecast


def test_a_mean_over_agents_counts_scenes_as_often_as_they_are_drawn() -> None:
    mean = _mean(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 2]), 3)
    assert [mean(np.array(w, float)) for w in ([1, 1, 1], [1, 0, 0], [1, 5, 2])] == [4.0, 2.0, 5.0]
    assert math.isnan(mean(np.array([0.0, 3.0, 0.0])))

"""Calibration finds the curve, the temperature and the factors that made the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from perception_samples import SMALL, frame_of, ideal_outputs, random_agents, sample_of, scene_of

from perception.calibrate import COVERAGE, Evidence, calibrate, calibration_error, fit, gather
from perception.config import CLASSES
from perception.network import NetworkInputs, NetworkOutputs, PerceptionNetwork
from perception.sample import make_sample, save_sample
from planner.scene import AgentClass


def evidence(rng: np.random.Generator, n: int, scale: float = 2.0, temperature: float = 3.0) -> Evidence:
    """Class 0 is overconfident by (0.5, -1), its errors `scale` times what was said; class 1 is as it says."""
    kind = rng.integers(0, 2, n)
    logit = rng.normal(0, 3, n)
    true = np.where(kind == 0, 0.5 * logit - 1.0, logit)
    right = rng.random(n) < 1 / (1 + np.exp(-true))
    spread = np.where(kind == 0, scale, 1.0)
    error = (rng.normal(0, 1, (n, 2)) ** 2).sum(1) * spread**2
    moved = (rng.normal(0, 1, (n, SMALL.steps, 2)) ** 2).sum(-1) * (
        spread[:, None] * np.linspace(1, 2, SMALL.steps)
    ) ** 2
    mode_logit = rng.normal(0, 4, (n, 3))
    chance = np.exp(mode_logit / temperature)
    best = np.array([rng.choice(3, p=c / c.sum()) for c in chance])
    return Evidence(logit, right, kind, error, moved, kind, mode_logit, best)


def test_what_made_the_evidence_is_found(rng: np.random.Generator) -> None:
    found = fit(evidence(rng, 6000), SMALL, "made up")
    assert found.existence[0] == pytest.approx((0.5, -1.0), abs=0.1)
    assert found.existence[1] == pytest.approx((1.0, 0.0), abs=0.15)
    assert found.mode == pytest.approx(3.0, rel=0.15)
    assert found.position[:2] == pytest.approx((2.0, 1.0), rel=0.06)
    assert found.future[0] == pytest.approx(2 * np.linspace(1, 2, SMALL.steps), rel=0.08)
    assert found.future[1] == pytest.approx(np.linspace(1, 2, SMALL.steps), rel=0.08)
    assert len(found.existence) == len(found.position) == len(found.future) == CLASSES


def test_new_truths_are_covered_as_often_as_promised(rng: np.random.Generator) -> None:
    covered = []
    for _ in range(60):
        found = fit(evidence(rng, 120), SMALL, "")
        fresh = evidence(rng, 200)
        region = -2 * np.log(1 - COVERAGE)
        inside = fresh.error / np.array(found.position)[fresh.of] ** 2 <= region
        covered.append(inside.mean())
    assert COVERAGE - 0.01 < np.mean(covered) < COVERAGE + 0.025


def test_too_few_examples_take_the_value_of_all(rng: np.random.Generator) -> None:
    e = evidence(rng, 400)
    e.kind[:5], e.of[:5] = 6, 6
    found = fit(e, SMALL, "")
    assert found.position[6] == found.position[5]  # nobody at all of class 5
    assert found.existence[6] == found.existence[5]
    nothing = fit(Evidence(*(getattr(e, n)[:0] for n in Evidence.__dataclass_fields__)), SMALL, "")
    assert nothing.existence[0] == (1.0, 0.0)
    assert nothing.position[0] == 1.0 == nothing.mode


def test_the_calibration_error_at_known_points(rng: np.random.Generator) -> None:
    right = rng.random(50_000) < 0.7
    assert calibration_error(np.full(50_000, 0.7), right) < 0.01
    assert calibration_error(np.full(50_000, 0.9), right) == pytest.approx(0.2, abs=0.01)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_a_network_is_calibrated_on_samples(tmp_path: Path, rng: np.random.Generator) -> None:
    paths = [tmp_path / f"{n}.npz" for n in range(6)]
    for n, path in enumerate(paths):
        save_sample(path, sample_of(random_agents(rng, 4), seed=n))
    torch.manual_seed(0)
    network = PerceptionNetwork(SMALL).eval()
    with torch.no_grad():  # an untrained network that is sure of itself: wrong nearly everywhere
        network.agents.heat[1].bias += 7.0
    found, numbers = calibrate(network, paths, "tests", batch=4)
    assert found.found_on == "tests"
    assert numbers["answers"] > 50
    assert numbers["existence_error_before"] > 0.5
    assert numbers["existence_error_after"] < 0.2
    with pytest.raises(ValueError, match="held-out samples, got none"):
        calibrate(network, [], "")


class Said:
    """A network that says what it was told to say."""

    config = SMALL

    def __init__(self, out: NetworkOutputs) -> None:
        self.out = out

    def parameters(self) -> Iterator[torch.Tensor]:
        return iter([torch.zeros(1)])

    def __call__(self, inputs: NetworkInputs) -> NetworkOutputs:
        return self.out


def test_what_is_not_told_does_not_count_as_wrong(tmp_path: Path) -> None:
    """Every car is said twice at its place: `decode` tells one of them, so that all that is said is right."""
    sample = sample_of([(8.0, 2.0, 0.0, 3.0, AgentClass.CAR), (-6.0, -3.0, 0.0, 0.0, AgentClass.CAR)])
    save_sample(tmp_path / "0.npz", sample)
    out = ideal_outputs(sample.targets)
    agents = out.agents
    for value in (agents.place, agents.class_logit, agents.box, agents.future, agents.mode_logit):
        value[0, 2:4] = value[0, 0:2]
    agents.class_logit[0, 2:4] -= 3.0
    found = gather(Said(out), [tmp_path / "0.npz"])  # type: ignore[arg-type]
    assert found.right.tolist() == [True, True]
    assert found.logit.tolist() == [9.0, 9.0]


def test_errors_are_measured_along_and_across_what_was_said(tmp_path: Path) -> None:
    """A car said 1 m too far ahead, a pedestrian 0.3 m to its left, a car taken for a truck, a cone in its place;
    who was hidden is not asked about.
    """
    agents = [
        (8.0, 2.0, 0.7, 3.0, AgentClass.CAR), (-6.0, -3.0, -1.2, 1.0, AgentClass.PEDESTRIAN),
        (12.0, -8.0, 0.0, 3.0, AgentClass.CAR), (-12.0, 6.0, 0.0, 0.0, AgentClass.PEDESTRIAN),
        (0.0, 9.0, 0.0, 3.0, AgentClass.CAR),
    ]  # fmt: skip
    scene = scene_of(agents, seen=[True, True, True, True, False])
    sample = make_sample(frame_of(scene), scene, SMALL)
    sample.targets.kind[3] = int(AgentClass.STATIC)
    save_sample(tmp_path / "0.npz", sample)
    out = ideal_outputs(sample.targets).agents
    out.place[0, 0] += torch.tensor([np.cos(0.7), np.sin(0.7)]).float()
    out.place[0, 1] += 0.3 * torch.tensor([np.sin(1.2), np.cos(1.2)]).float()
    out.class_logit[0, 2] = out.class_logit[0, 2].roll(1)
    out.box[0, :, 8:] = torch.tensor([0.5, 0.2]).log()
    time = torch.arange(1, SMALL.steps + 1) * (SMALL.horizon / SMALL.steps)
    out.future[0, :, :, :, 2:] = torch.tensor([1.0, 0.4]).log()  # times 0.2 + 0.5 t
    out.future[0, 0, 1, :, 0] = -1.0 / time  # what the car does, but hardly believed in
    whole = ideal_outputs(sample.targets)
    found = gather(Said(NetworkOutputs(out, whole.lines, whole.ego)), [tmp_path / "0.npz"])  # type: ignore[arg-type]
    assert found.right.tolist() == [True, True, False, True]
    assert found.kind.tolist() == [0, int(AgentClass.PEDESTRIAN), 1, int(AgentClass.STATIC)]
    assert found.of.tolist() == [0, int(AgentClass.PEDESTRIAN), int(AgentClass.STATIC)]
    assert found.error == pytest.approx([(1 / 0.5) ** 2, (0.3 / 0.2) ** 2, 0.0], abs=1e-4)
    spread = (0.2 + 0.5 * time).numpy()
    assert found.moved[0] == pytest.approx((1.0 / spread) ** 2, rel=1e-3)
    assert found.moved[1] == pytest.approx((0.3 / (0.4 * spread)) ** 2, rel=1e-3)
    assert np.isnan(found.moved[2]).all()
    assert (found.best[0], found.best[2]) == (1, -1)

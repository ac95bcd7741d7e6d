"""The adversary keeps its bounds, and its gradient is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sim_scenes import Recorded, observe

from eval.simulation.generate.protocols import protocol_scene
from eval.simulation.rollout import rollout
from eval.simulation.trace import Trace
from eval.studies import adversary
from eval.studies.adversary import (
    REALISM,
    SIDEWAYS,
    Rollout,
    adversary_of,
    perturbed,
    soft_distance,
    worst_controls,
)
from perception.recording import Recording

CELLS: dict[str, tuple[str, dict[str, float]]] = {
    "car": ("r157_cut_in", {"ego_kmh": 60, "relative_kmh": -30, "gap": 20, "lateral": 2.0}),
    "pedestrian": ("CPNA", {"ego_kmh": 40, "impact": 50}),
}


def driven_by_nobody(recording: Recording) -> Trace:
    """The nominal ego, as if it had been driven."""
    return rollout(recording, Recorded(), "log_replay", observe=observe)


@pytest.fixture(scope="module", params=list(CELLS))
def attack(request) -> tuple[Recording, Trace, Rollout]:
    recording = protocol_scene(*CELLS[request.param])
    driven = driven_by_nobody(recording)
    found = adversary_of(recording, driven)
    assert found is not None
    return recording, driven, found


def test_without_controls_the_recording_comes_back(attack) -> None:
    recording, _, found = attack
    same = perturbed(recording, found, torch.zeros(2, found.knots, dtype=torch.float64))
    assert np.abs(same.agents.pose - recording.agents.pose)[..., :2].max() < 1e-3


def test_all_bounds_hold_for_any_controls(attack) -> None:
    recording, _, found = attack
    accelerates, brakes = found.bounds
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 1.0, 10.0, 1000.0):
        for _ in range(25):
            wanted = scale * torch.randn(2, found.knots, generator=generator, dtype=torch.float64)
            controls = found.bounded(wanted, 2.0)
            moved, a = found.deviation(controls)
            assert moved.norm(dim=0).max() <= 2.0 + 1e-9
            assert a[0].max() <= accelerates + 1e-6
            assert -a[0].min() <= brakes + 1e-6
            assert a[1].abs().max() <= SIDEWAYS + 1e-6
            assert (a**2).sum(0).mean().sqrt() <= REALISM + 1e-6
            new = perturbed(recording, found, controls)
            shift = np.hypot(*(new.agents.pose - recording.agents.pose)[found.agent, :, :2].T)
            assert shift.max() <= 2.0 + 0.05  # the recorded way is bent, arc and chord differ
    untouched = np.arange(len(recording.agents)) != found.agent
    assert np.array_equal(new.agents.pose[untouched], recording.agents.pose[untouched])


def test_the_gradient_against_differences(attack) -> None:
    recording, driven, found = attack
    generator = torch.Generator().manual_seed(2)
    controls = found.bounded(torch.randn(2, found.knots, generator=generator, dtype=torch.float64), 1.0)
    controls.requires_grad_(True)
    soft_distance(recording, driven, found, controls).backward()
    step = 1e-5
    for index in ((0, 1), (1, 1), (0, found.knots - 3), (1, found.knots - 3)):
        there = torch.zeros_like(controls)
        there[index] = step
        with torch.no_grad():
            up, down = (soft_distance(recording, driven, found, controls + sign * there) for sign in (1, -1))
        assert float(controls.grad[index]) == pytest.approx(float(up - down) / (2 * step), rel=1e-3, abs=1e-5)


def test_the_attack_comes_nearer_and_knows_its_budget(attack, monkeypatch) -> None:
    monkeypatch.setattr(adversary, "STEPS", 25)
    recording, driven, found = attack
    distance = lambda c: float(soft_distance(recording, driven, found, c))  # noqa: E731
    free = distance(torch.zeros(2, found.knots, dtype=torch.float64))
    near = distance(worst_controls(recording, driven, found, 1.0))
    nearer = distance(worst_controls(recording, driven, found, 3.0))
    assert nearer < near < free


def test_nobody_moves_no_adversary() -> None:
    recording = protocol_scene("CCRs", {"ego_kmh": 30})
    assert adversary_of(recording, driven_by_nobody(recording)) is None

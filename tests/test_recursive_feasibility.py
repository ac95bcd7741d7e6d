"""Recursive feasibility in small; the full figure is `benchmarks/recursive_feasibility.py`."""

from __future__ import annotations

import pytest

from benchmarks.recursive_feasibility import measure, rollout
from benchmarks.set_worlds import World
from planner.supervision.kept_tail import KeptTail


def test_in_a_consistent_world_what_was_accepted_stays_accepted_until_rest() -> None:
    found = measure("consistent", 5)
    assert found["accepted"] >= 5
    assert found["cycles"] > 60
    assert (found["with a loss"], found["unsafe"], found["struck"]) == (0, 0, 0)


def test_a_birth_in_the_tails_way_is_a_loss_with_its_cause(monkeypatch) -> None:
    found = next(f for f in (rollout("open", seed) for seed in range(9, 60)) if f.get("losses"))
    assert found["losses"][0] in ("birth", "broken assumption")


def test_a_tail_that_is_forgotten_is_noticed(monkeypatch) -> None:
    """The measurement can fail: a supervisor that loses a second of its tail every cycle is not accepted on."""
    late = KeptTail._since
    monkeypatch.setattr(KeptTail, "_since", lambda self, scene: late(self, scene) + 1.0)
    lost = [bool(f["losses"]) for f in (rollout("consistent", seed) for seed in range(8)) if f["accepted"]]
    assert any(lost)


@pytest.mark.parametrize("seed", range(3))
def test_worlds_are_the_same_for_the_same_seed(seed: int) -> None:
    one, two = World.drawn("bounded", seed), World.drawn("bounded", seed)
    for _ in range(10):
        one.step(0.1)
        two.step(0.1)
    assert one.agents == two.agents

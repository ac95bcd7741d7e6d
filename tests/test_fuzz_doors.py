"""The fuzzer in small; and that it finds a door left open."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import fuzz_doors
from benchmarks.fuzz import cases, plan_door, scene_door
from planner.supervision.scene_door import SceneDoor


@pytest.fixture(scope="module")
def one_case():
    """One sound starting point for the whole module: planning it is what takes time."""
    return cases.bases(1)


def run(one_case, monkeypatch, kinds: dict, rounds: int) -> tuple[Counter, list[str]]:
    monkeypatch.setattr(fuzz_doors, "bases", lambda count: one_case)
    monkeypatch.setattr(fuzz_doors, "DOORS", kinds)
    result = fuzz_doors.fuzz(rounds * sum(map(len, kinds.values())))
    return Counter({(d, w, v): n for d, w, v, n in result["counts"]}), result["failures"]


def test_nothing_escapes_and_nothing_crashes(one_case, monkeypatch) -> None:
    counts, failures = run(one_case, monkeypatch, fuzz_doors.DOORS, rounds=3)
    assert not failures
    assert sum(counts.values()) == 3 * sum(map(len, fuzz_doors.DOORS.values()))
    assert "| scene | nan | 3 | 3 | 0 | 0 | 0 |" in fuzz_doors.table(counts)


def test_open_doors_are_found(one_case, monkeypatch) -> None:
    monkeypatch.setattr(SceneDoor, "_problem", lambda self, scene: "")
    _, failures = run(one_case, monkeypatch, {"scene": ("stale", "nan", "batched")}, rounds=4)
    assert any("stale: not refused" in failure for failure in failures)
    monkeypatch.undo()

    monkeypatch.setattr(plan_door, "mutated", lambda base, way, rng: (base.plan, 0.0))
    _, failures = run(one_case, monkeypatch, {"plan": ("nan",)}, rounds=1)
    assert failures == ["input 0, plan: nan: driven"]


def test_every_field_of_a_scene_can_be_reached(one_case) -> None:
    names = {".".join(path) for path, _ in scene_door.leaves(one_case[0].scene)}
    assert {"ego.v", "agents.box", "futures.mean", "map.xy", "route.xy", "global_from_ego"} <= names
    assert len(names) > 30

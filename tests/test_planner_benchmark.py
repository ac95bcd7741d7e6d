"""The planner's benchmark: its scenes are what it says, its figures complete, its page made of parts."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import page, planner, planner_report
from benchmarks.crowded import crowded_scene
from planner import ConvexPlanner


@pytest.fixture(scope="module")
def scenes():
    return planner.full_scenes(2)


@pytest.fixture(scope="module")
def result():
    return planner.run(
        planner.arguments(["--cycles", "4", "--scenes", "1", "--batch", "2", "--repeats", "1", "--no-growth"])
    )


def test_scenes_are_reproducible_and_of_the_size_promised():
    scene = crowded_scene(3)
    again = crowded_scene(3)
    assert torch.equal(scene.futures.mean, again.futures.mean)
    assert scene.futures.mean.shape == (20, 6, 30, 2)
    assert not torch.equal(scene.futures.mean, crowded_scene(4).futures.mean)
    assert crowded_scene(3, agents=7, modes=2, seconds=10.0).futures.mean.shape == (7, 2, 50, 2)
    torch.testing.assert_close(scene.futures.probability.sum(1), torch.ones(20, dtype=torch.float64))


def test_forecasts_begin_at_the_boxes_and_keep_their_speed():
    scene = crowded_scene(5)
    first = scene.futures.mean[:, 0, 0] - scene.agents.box[:, :2]
    torch.testing.assert_close(first.norm(dim=1), 0.2 * scene.agents.velocity.norm(dim=1), rtol=1e-3, atol=1e-6)
    step = scene.futures.mean.diff(dim=2).norm(dim=-1)
    torch.testing.assert_close(step[..., -1], step[..., 0], rtol=5e-2, atol=1e-6)


def test_full_scenes_have_all_candidates_and_a_plan(scenes):
    for scene in scenes:
        result = ConvexPlanner().plan(scene)
        assert len(result.candidates) == 12
        assert result.chosen is not None
        paths, certificate, tail_certificate, explanation = planner.answer(result)
        assert len(paths) == 2
        assert certificate is not None
        assert tail_certificate is not None
        assert explanation


def test_figures_are_complete(result):
    cycle, batch = json.loads(json.dumps(result, allow_nan=False))["rows"]
    assert cycle["cycles"] == 4
    assert 0 < cycle["p50_ms"] <= cycle["p90_ms"] <= cycle["p99_ms"] <= cycle["p999_ms"] <= cycle["max_ms"]
    assert 0 < cycle["solver_p50_ms"] < cycle["p50_ms"]
    assert batch["scenes"] == 2
    assert batch["candidates"] == 24
    assert 0 < batch["forward_ms"]
    assert 0 < batch["forward_backward_ms"]
    assert "p99.9" in planner_report.console(result)


def test_growth_goes_over_every_curve(scenes, monkeypatch):
    monkeypatch.setattr(planner, "BATCHES", (1, 2))
    monkeypatch.setattr(planner, "GROWTH_BATCH", 2)
    monkeypatch.setattr(planner, "COARSE_STEPS", (2, 8))
    monkeypatch.setattr(planner, "MAX_CANDIDATES", (2, 12))
    monkeypatch.setattr(planner, "AGENT_COUNTS", (5,))
    rows = planner.growth(scenes, repeats=1)
    assert [(r["curve"], r["at"]) for r in rows] == [
        ("batch", 1), ("batch", 2), ("horizon", 3.0), ("horizon", 6.0), ("candidates", 2), ("candidates", 12),
        ("agents", 5),
    ]  # fmt: skip
    most = {r["at"]: r["candidates"] for r in rows if r["curve"] == "candidates"}
    assert most[2] <= 4
    assert most[12] == 24


def test_the_page_keeps_the_part_that_another_command_wrote(tmp_path, result):
    path = tmp_path / "benchmarks.md"
    page.write_part(path, "solver", "# Solver\n\ntable")
    page.write_part(path, "planner", planner_report.markdown(result, []))
    page.write_part(path, "solver", "# Solver\n\nanother table")
    found = page.parts(path.read_text())
    assert found["solver"] == "# Solver\n\nanother table"
    assert found["planner"].startswith("# Planner benchmark")
    assert path.read_text().index("# Planner benchmark") < path.read_text().index("# Solver")

"""Slower cars that change lanes beside ego, driven: cells of R157 that once ended in contact."""

from __future__ import annotations

import pytest

from eval.config import RunConfig
from eval.studies.drives import drive_task
from eval.studies.grids import grid_tasks, judge_cell, violates

CELLS = [
    # the cell, and whether a driver who goes on as before would be hit
    ("r157_cut_in_ego_kmh40_relative_kmh-20_gap0_lateral1_side-1", False),
    ("r157_cut_in_ego_kmh60_relative_kmh-40_gap10_lateral1.5_side-1", True),
]


@pytest.mark.parametrize(("cell", "hit_going_on"), CELLS)
def test_ego_is_past_before_the_other_is_over(cell: str, hit_going_on: bool) -> None:
    """It neither falls back beside the other nor leaves it no room."""
    (task,) = grid_tasks("r157", full=True, cell=cell)
    recording, trace = drive_task(task, RunConfig(), lambda done: None)
    facts = judge_cell(recording, trace)
    assert not facts["collided"]
    assert not violates("r157", facts)
    assert facts["smallest_gap"] > 0.1
    assert (facts["hit_here_by"] == ["CC", "Reg157", "RSS", "FSM"]) is hit_going_on, "none of them ever brakes here"
    other, t = recording.agents.pose[0], trace.time
    passed = trace.pose[:, 0] > other[: len(t), 0]
    assert passed.any()
    assert trace.v[passed.argmax()] > 0.9 * trace.v[0], "when ego is past its middle"

"""Tasks in processes: order, exceptions, dying and hanging workers; never a hang, never a lost task."""

from __future__ import annotations

import multiprocessing

import pytest
from executor_doubles import MARKS, light_work

from eval.run.executor import Event, run_tasks


def outcome(events: list[Event]) -> dict[str, tuple[str, str]]:
    """The last event of each task; fails if a task ends twice."""
    ends = [event for event in events if event.kind in ("finished", "failed")]
    assert len({event.task for event in ends}) == len(ends)
    return {event.task: (event.kind, event.value) for event in ends}


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_start_in_order_and_all_finish(workers: int) -> None:
    tasks = [f"task {i}" for i in range(6)]
    events = list(run_tasks(tasks, light_work, workers=workers))
    assert [event.task for event in events if event.kind == "started"] == tasks
    assert outcome(events) == {task: ("finished", task.upper()) for task in tasks}
    assert {event.worker for event in events} <= set(range(workers))


def test_no_task_needs_no_process() -> None:
    assert list(run_tasks([], light_work)) == []


def test_one_bad_task_does_not_hurt_the_others(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(MARKS, str(tmp_path))
    tasks = ["raise", "kill", "kill-once", "a", "b"]
    events = list(run_tasks(tasks, light_work, workers=2))
    end = outcome(events)
    assert end["raise"][0] == "failed"
    assert "ValueError: no road in raise" in end["raise"][1]
    assert end["kill"] == ("failed", "its process ended unexpectedly (killed by SIGKILL), 2 times")
    assert [end[task][0] for task in ("kill-once", "a", "b")] == ["finished"] * 3
    assert sorted(event.task for event in events if event.kind == "retried") == ["kill", "kill-once"]


def test_a_task_that_hangs_is_stopped() -> None:
    end = outcome(list(run_tasks(["hang", "a"], light_work, workers=1, timeout_s=1.5)))
    assert end == {"hang": ("failed", "stopped: it ran longer than 1.5 s"), "a": ("finished", "A")}


def test_a_full_disk_in_a_worker_is_raised_here_and_leaves_no_process() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(run_tasks(["full", "hang"], light_work, workers=2))
    assert not multiprocessing.active_children()


def test_leaving_early_stops_the_workers() -> None:
    events = run_tasks(["hang", "hang"], light_work, workers=2)
    assert next(events).kind == "started"
    events.close()
    assert not multiprocessing.active_children()

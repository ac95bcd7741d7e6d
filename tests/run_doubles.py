"""Stand-ins for driving a scenario, importable in the worker processes of the tests."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eval.config import RunConfig
from eval.run.task import Task, trace_path

STEPS = 20


def quick_work(task: Task, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path) -> dict[str, Any]:
    """A result line with a trace of `STEPS` steps; leaves a mark per call, so that tests can count calls.

    The scenario's name says what happens: "raise", "full", "slow", "hit", "grass".
    """
    name = task.sample.name
    marks = run_dir.parent / "calls"
    marks.mkdir(exist_ok=True)
    calls = len(list(marks.glob(f"{name}.{task.planner}.{task.traffic}.*")))
    (marks / f"{name}.{task.planner}.{task.traffic}.{calls}").touch()
    progress(0.5)
    if name.startswith("raise"):
        raise ValueError(f"no road in {name}")
    if name.startswith("full"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run_dir / "traces"))
    if name.startswith("slow"):
        time.sleep(0.4)
    path = run_dir / trace_path(task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    cycle_ms = np.arange(STEPS, dtype=float)
    np.savez(path, cycle_ms=cycle_ms, tail_accepted=np.arange(STEPS) > 0)
    metrics = {"cls": 0.5, "at_fault_collisions": float("hit" in name), "off_road": 3.0 * ("grass" in name)}
    return {
        **task.key._asdict(),
        "status": "completed",
        "error": None,
        "metrics": {key: {"value": value, "valid": True, "unit": ""} for key, value in metrics.items()},
        "trace": trace_path(task.key),
        "state_hash": "0",
        "recording_hash": "0",
    }


def count_calls(run_dir: Path) -> int:
    """How often `quick_work` was called for this run directory."""
    return len(list((run_dir.parent / "calls").glob("*")))

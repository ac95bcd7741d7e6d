"""One task of a run: one scenario, one planner, one kind of traffic. Drives, judges, stores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eval.config import NETWORK_MARK, RunConfig
from eval.run.heap import frozen_heap
from eval.run.samples import Sample, load_sample
from eval.run.store import Key, sync_file
from eval.simulation.drivers import Driver
from eval.simulation.observers import make_observer
from eval.simulation.rollout import rollout
from perception.recording import Recording


@dataclass(frozen=True)
class Task:
    """A sample to be driven by the named planner in the named kind of traffic. planner: as `RunConfig.drivers` says."""

    sample: Sample
    planner: str
    traffic: str

    @property
    def key(self) -> Key:
        return Key(self.sample.name, self.planner, self.traffic)


_COST = {"dualdrive": 20.0, "pdm_style": 5.0}
"""Rough computing time of a planner relative to the others, only for the order of starting."""
_NETWORK_COST = 100.0
"""Of rendered sensors and a network beside it."""


def _cost(planner: str) -> float:
    return _COST.get(planner.removesuffix(NETWORK_MARK), 1.0) + _NETWORK_COST * planner.endswith(NETWORK_MARK)


def list_tasks(samples: list[Sample], config: RunConfig) -> list[Task]:
    """All tasks of a run, long ones first, so that no worker is left with a long one at the end."""
    tasks = [
        Task(sample, planner, traffic)
        for planner in sorted(config.drivers(), key=lambda p: -_cost(p))
        for sample in samples
        for traffic in config.traffic
    ]
    return tasks


def trace_path(key: Key) -> str:
    """Where the trace of a result lies in the run directory."""
    return f"traces/{key.planner}/{key.traffic}/{key.scenario}.npz"


def make_driver(name: str, config: RunConfig) -> Driver:
    """A new driver by its name. Raises ValueError for an unknown one."""
    from eval import baselines
    from eval.pipeline import DualDrive

    makers: dict[str, Callable[[], Driver]] = {
        "dualdrive": lambda: DualDrive(config.planner, config.supervisor, config.driver),
        "expert": baselines.Expert,
        "constant_velocity": baselines.ConstantVelocity,
        "idm": baselines.IdmDriver,
        "pdm_style": baselines.PdmStyle,
    }
    if name not in makers:
        raise ValueError(f"planner: expected one of {', '.join(makers)}, got {name!r}")
    return makers[name]()


def run_task(task: Task, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path) -> dict[str, Any]:
    """Drive one task, write trace and drawing geometry into `run_dir`, return its line for `scenarios.jsonl`.

    Raises whatever goes wrong; the caller records it as a failed scenario.
    """
    import torch

    from eval.metrics import evaluate

    torch.set_num_threads(1)
    recording = _recording(task.sample, config)
    source = "network" if task.planner.endswith(NETWORK_MARK) else "oracle"
    observe, sensors = make_observer(
        recording, source, config.perception, config.simulation, second_channel=config.simulation.render_lidar
    )
    driver = make_driver(task.planner.removesuffix(NETWORK_MARK), config)
    with frozen_heap():
        trace = rollout(
            recording,
            driver,
            task.traffic,
            config.simulation,
            progress=lambda done, steps: progress(done / steps),
            observe=observe,
            sensors=sensors,
        )
    trace.planner = task.planner

    path = run_dir / trace_path(task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    trace.save(path)
    sync_file(path)
    save_geometry_once(recording, run_dir / "recordings" / f"{task.sample.name}.npz")

    return {
        **task.key._asdict(),
        "status": "completed",
        "error": None,
        "metrics": {name: metric.to_json() for name, metric in evaluate(trace, recording).items()},
        "trace": trace_path(task.key),
        "state_hash": trace.state_hash(),
        "recording_hash": recording_hash(recording),
    }


def failed_line(task: Task, error: str) -> dict[str, Any]:
    """The line of a task that did not finish; `error` is a traceback or a reason."""
    return {
        **task.key._asdict(),
        "status": "failed",
        "error": error,
        "metrics": {},
        "trace": None,
        "state_hash": None,
        "recording_hash": None,
    }


def recording_hash(recording: Recording) -> str:
    """SHA-256 over the recorded motion: shows whether two runs drove the same input."""
    digest = hashlib.sha256()
    for array in (
        recording.time,
        recording.ego.pose,
        recording.agents.pose,
        recording.agents.valid,
        recording.route_xy,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save_geometry_once(recording: Recording, path: Path) -> None:
    """Write what a report draws around a drive, unless it is there."""
    from eval.report.geometry import save_geometry

    if not path.exists():  # written through a name of this process: several may reach the same scenario at once
        path.parent.mkdir(parents=True, exist_ok=True)
        save_geometry(recording, path.with_name(f".{path.stem}.{os.getpid()}.npz")).replace(path)


@lru_cache(maxsize=2)
def _load(sample: Sample, data: Any) -> Recording:
    return load_sample(sample, data)


def _recording(sample: Sample, config: RunConfig) -> Recording:
    return _load(sample, config.data)

"""How long the supervisor takes per cycle: prepare, one check, and everything it does.

    python benchmarks/supervisor_timing.py --cycles 5000 --json runs/supervisor_timing.json
    python benchmarks/supervisor_timing.py --dataroot DIR --scene scene-0061

Closed-loop drives of generated or nuScenes scenarios; per cycle the processor time of this thread (what the supervisor
itself needs) and the wall time (what a busy machine makes of it). "checking" is what the checker takes of a cycle:
`prepare` and every `check_prepared` in it, of further candidates and fallbacks, too. "cycle" is the whole
`Supervisor.supervise`: doors, checking, kept tail, states. After the first drive `gc.freeze()` takes what is loaded out
of Python's garbage collection, as the planner's own process does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import gc
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from eval.config import DataConfig, DriverConfig
from eval.pipeline import DualDrive
from eval.run.samples import list_samples, load_sample
from eval.simulation.generate import FAMILIES, generate
from eval.simulation.rollout import rollout
from eval.simulation.simulation_config import SimulationConfig
from perception.recording import Recording
from planner import supervise

QUANTILES = (50, 99, 99.9)


class Clock:
    """Times of a function's calls, ms: processor and wall."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.cpu.append(1e3 * (time.thread_time() - cpu))
                self.wall.append(1e3 * (time.perf_counter() - wall))

        return timed

    def quantiles(self) -> dict[str, dict[str, float]]:
        """ms."""
        return {
            name: {str(q): round(float(np.percentile(values, q)), 2) for q in QUANTILES}
            for name, values in (("cpu", self.cpu), ("wall", self.wall))
        }


def recordings(data: DataConfig | None) -> list[Recording]:
    """Generated families, or a data set's scenes."""
    if data is None:
        return [generate(family, 0) for family in FAMILIES]
    return [load_sample(sample, data) for sample in list_samples(data)]


def measure(cycles: int, data: DataConfig | None = None, duration: float | None = None) -> dict[str, Any]:
    """Drive until so many cycles are timed. duration (s): of each drive; None: to its end."""
    drive = SimulationConfig() if duration is None else SimulationConfig(duration=duration)
    torch.set_num_threads(1)
    prepare, check, whole, checking = Clock(), Clock(), Clock(), Clock()
    plain = supervise.prepare, supervise.check_prepared, supervise.Supervisor.supervise
    supervise.prepare = prepare.around(plain[0])  # type: ignore[assignment]
    supervise.check_prepared = check.around(plain[1])  # type: ignore[assignment]

    @whole.around
    def cycle(*arguments: Any, **named: Any) -> Any:
        before = len(prepare.cpu), len(check.cpu)
        out = plain[2](*arguments, **named)
        for kind in ("cpu", "wall"):
            spent = sum(getattr(prepare, kind)[before[0] :]) + sum(getattr(check, kind)[before[1] :])
            getattr(checking, kind).append(spent)
        return out

    supervise.Supervisor.supervise = cycle  # type: ignore[method-assign]
    try:
        scenes = recordings(data)
        k = 0
        while len(whole.cpu) < cycles:
            rollout(scenes[k % len(scenes)], DualDrive(config=DriverConfig(picture=False)), "log_replay", drive)
            k += 1
            if k == 1:
                gc.freeze()
                for clock in (prepare, check, whole, checking):
                    clock.cpu, clock.wall = [], []
    finally:
        supervise.prepare, supervise.check_prepared = plain[:2]  # type: ignore[assignment]
        supervise.Supervisor.supervise = plain[2]  # type: ignore[method-assign]
    return {
        "environment": environment(), "cycles": len(whole.cpu), "checks": len(check.cpu),
        "prepare": prepare.quantiles(),
        "one check": check.quantiles(), "checking": checking.quantiles(), "cycle": whole.quantiles(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cycles", type=int, default=5000)
    parser.add_argument("--dataroot")
    parser.add_argument("--scene", nargs="*", default=[])
    parser.add_argument("--duration", type=float, help="of each drive (s)")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    data = DataConfig(dataset="nuscenes", dataroot=a.dataroot, scenes=tuple(a.scene)) if a.dataroot else None
    result = measure(a.cycles, data, a.duration)
    for name in ("prepare", "one check", "checking", "cycle"):
        for clock, values in result[name].items():
            print(f"{name:10s} {clock:4s} " + ", ".join(f"p{q} {value:.1f} ms" for q, value in values.items()))
    print(f"{result['cycles']} cycles, {result['checks']} checks")
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        a.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

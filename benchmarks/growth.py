"""How time and memory of the project's solver grow with the size of the problem and with use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, problem
from benchmarks.solvers import SOLVERS

HORIZONS = (10, 20, 40, 60, 80, 120)
HALF_PLANES = (0, 4, 8, 16, 32)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CANDIDATES = (1, 2, 4, 8, 12, 16)
SCENES = 4
"""Scenes whose candidates form one batch in the growth over candidates."""
BATCH = 64


def curves(names: list[str], torch_threads: list[int], rounds: int = 5, budget: float = 3.0) -> list[dict[str, Any]]:
    """One row per solver and point of a curve: over the horizon (stages), over half-planes per stage, over the batch,
    and over candidates per scene, which are a batch as well. torch_threads: numbers of them to choose among.
    """
    points = [("horizon", n, BATCH, n, 4) for n in HORIZONS]
    points += [("half_planes", m, BATCH, 30, m) for m in HALF_PLANES]
    points += [("batch", b, b, 30, 4) for b in BATCHES]
    points += [("candidates", k, SCENES * k, 30, 4) for k in CANDIDATES]
    rows = []
    for curve, at, batch, horizon, half_planes in points:
        instance, parameters = problem.generate(batch, horizon, half_planes)
        cotangent = problem.cotangent(batch, horizon)
        contestants = []
        for name in names:
            try:
                solver = SOLVERS[name](batch, horizon, half_planes)
            except ImportError:
                continue
            contestant = measure.bind(name, solver, instance, parameters, cotangent, 1)
            contestant.warm_up(budget, torch_threads)
            contestants.append(contestant)
        measure.race(contestants, rounds, budget)
        for contestant in contestants:
            row = {"curve": curve, "at": at, "solver": contestant.name, "batch": batch, "horizon": horizon,
                   "half_planes": half_planes}  # fmt: skip
            if contestant.failure:
                row["skipped"] = contestant.failure
            else:
                row |= measure.spread(contestant.forward, contestant.forward_cold, "forward")
                row |= measure.spread(contestant.both, contestant.both_cold, "forward_backward")
            rows.append(row)
    return rows


def exponent(rows: list[dict[str, Any]], key: str, least: float = 0.0) -> float | None:
    """Slope of log time over log size, by least squares, over the points from `least` on. None below two points."""
    points = [(r["at"], r[key]) for r in rows if r.get(key) and r["at"] >= max(least, 1)]
    if len(points) < 2:
        return None
    at, value = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(at, value, 1)[0])


def memory(solves: int, horizon: int = 40, batch: int = 256, name: str = "dualdrive") -> dict[str, Any]:
    """Memory of one problem with its gradient, and growth over many solves.

    per_problem_kib: rise of the process's peak between a batch of one and `batch`, over the difference, data included.
    growth_kib: rise of the resident memory from after a quarter of `solves` members, solved in batches, to the end.
    """
    small, large = _peak_of(name, horizon, 1), _peak_of(name, horizon, batch)
    instance, parameters = problem.generate(100, horizon)
    solver = SOLVERS[name](100, horizon, 4)
    cotangent = problem.cotangent(100, horizon)
    bound, resident, begun = solver.bind(instance), [], time.perf_counter()
    for _ in range(max(20, solves // 100)):
        solver.gradient(bound, parameters, cotangent)
        resident.append(_resident_kib())
    quarter, tenth = len(resident) // 4, len(resident) // 10
    return {
        "horizon": horizon, "per_problem_kib": (large - small) / (batch - 1), "solves": 100 * len(resident),
        "growth_kib": float(np.median(resident[-tenth:]) - np.median(resident[quarter : quarter + tenth])),
        "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip


def _peak_of(name: str, horizon: int, batch: int) -> float:
    """KiB: rise of the peak of a process of its own that solves one batch with its gradient, its data included."""
    program = f"from benchmarks.growth import print_peak; print_peak({name!r}, {horizon}, {batch})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(name: str, horizon: int, batch: int) -> None:
    """The body of `_peak_of`'s process."""
    solver = SOLVERS[name](batch, horizon, 4)
    first, parameters = problem.generate(1, horizon)
    # What the first call of all brings in once does not count.
    solver.gradient(solver.bind(first), parameters, problem.cotangent(1, horizon))
    before = _resident_kib()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    instance, parameters = problem.generate(batch, horizon)
    solver.gradient(solver.bind(instance), parameters, problem.cotangent(batch, horizon))
    print(_status_kib("VmHWM") - before)


def _resident_kib() -> float:
    return _status_kib("VmRSS")


def _status_kib(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")

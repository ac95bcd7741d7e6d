"""The deployed configuration for a long time: does memory stay flat, in the supervisor's process and in the planner's?

    python benchmarks/soak.py --cycles 36000 --json runs/soak.json

36,000 cycles are an hour at 10 Hz. Accelerated: a cycle begins as soon as the last one is over, not every 0.1 s; apart
from that everything is as in a deployed drive: perception, planner in its own process, checked shared memory,
supervisor, tracker, limiter. Generated scenarios follow one another in the same processes, round after round, so that
every round asks for the same. Memory is the resident set of both processes after each scenario. The first rounds are
warm-up: an allocator keeps what the hardest scene so far has asked for, and the hardest one comes once a round.
Growth: from the first to the last third of the rounds after them, in per cent of the first. Exit status 1 if it is
1 % or more, a published plan lacks an accepted tail or the planner's process had to be started again; 2 if there were
too few rounds to tell.
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
from typing import Any

import numpy as np
import torch

from eval.config import DriverConfig
from eval.pipeline import DualDrive
from eval.simulation.generate import FAMILIES, generate
from eval.simulation.rollout import oracle_observer, rollout
from eval.simulation.simulation_config import SimulationConfig

WARM_UP, LEAST = 2, 6
"""Rounds that do not count, and that must remain."""
GROWTH_MAX = 1.0
"""Per cent."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int | None) -> float:
    """MiB."""
    if pid is None:
        return float("nan")
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def growth(samples: list[float], scenarios: int) -> float:
    """Per cent, from the first to the last third of the whole rounds of so many scenarios after the warm-up; NaN where
    there are fewer than LEAST of those."""
    rounds = np.array(samples[: len(samples) // scenarios * scenarios]).reshape(-1, scenarios)[WARM_UP:].mean(1)
    if len(rounds) < LEAST:
        return float("nan")
    third = len(rounds) // 3
    return float(100.0 * (rounds[-third:].mean() / rounds[:third].mean() - 1.0))


def soak(cycles: int, scenarios: int, duration: float) -> dict[str, Any]:
    """Drive until so many cycles are done, or until interrupted: what was measured until then is told all the same."""
    torch.set_num_threads(1)
    recordings = [generate(family, seed) for seed in range(10) for family in FAMILIES][:scenarios]
    observers = [oracle_observer(recording) for recording in recordings]  # a second of map work each: once is enough
    driver = DualDrive(config=DriverConfig(deployed=True, picture=False))
    done, unaccepted, sources = 0, 0, dict.fromkeys(("candidate", "tail", "braking"), 0)
    memory: dict[str, list[float]] = {"supervisor": [], "planner": []}
    checks: list[float] = []
    began = time.monotonic()
    try:
        while done < cycles:
            which = len(memory["planner"]) % len(recordings)
            config = SimulationConfig(duration=duration)
            trace = rollout(recordings[which], driver, "log_replay", config, observe=observers[which])
            done += len(trace.source)
            unaccepted += int((~trace.tail_accepted & (np.array(trace.source) == "candidate")).sum())
            for source in trace.source:
                sources[source] += 1
            checks += trace.check_ms.tolist()
            del trace
            gc.collect()
            memory["supervisor"].append(resident(os.getpid()))
            memory["planner"].append(resident(driver._process.pid if driver._process else None))
    except KeyboardInterrupt:
        print(f"stopped after {done} of {cycles} cycles", file=sys.stderr)
    result = {
        "cycles": done, "simulated_hours": done * 0.1 / 3600, "wall_hours": (time.monotonic() - began) / 3600,
        "sources": sources, "published_without_accepted_tail": unaccepted,
        "restarts": driver._process.restarts if driver._process else 0,
        "memory_mib": memory,
        "growth_per_cent": {name: growth(samples, len(recordings)) for name, samples in memory.items()},
        "supervise_ms": {str(q): float(np.percentile(checks, q)) for q in (50, 99, 99.9)},
    }  # fmt: skip
    driver.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cycles", type=int, default=36_000)
    parser.add_argument("--scenarios", type=int, default=10, help="different ones, driven in turn")
    parser.add_argument("--duration", type=float, default=10.0, help="of each drive (s)")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result = soak(a.cycles, a.scenarios, a.duration)
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        a.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, samples in result["memory_mib"].items():
        print(
            f"{name}: {samples[0]:.0f} MiB first, {samples[-1]:.0f} MiB last, {result['growth_per_cent'][name]:+.2f} %"
        )
    print({k: v for k, v in result.items() if k not in ("memory_mib", "growth_per_cent")})
    grown = np.array(list(result["growth_per_cent"].values()))
    bad = result["published_without_accepted_tail"] + result["restarts"] > 0 or bool((grown >= GROWTH_MAX).any())
    sys.exit(1 if bad else 2 if np.isnan(grown).any() else 0)


if __name__ == "__main__":
    main()

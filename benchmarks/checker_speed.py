"""How long the checker takes: `prepare` once a cycle, `check_prepared` per candidate.

    python benchmarks/checker_speed.py --rounds 20 [--nuscenes ROOT]

On a dense generated scene (64 road users with six forecasts, 4000 pieces of boundary) and, given a root, on the key
frames of recorded scenes. CPU time of the process, which other processes disturb least, and wall time beside it. "both"
is what the checker takes of a cycle whose first candidate passes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import argparse  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from checker_scenes import drive, with_tail  # noqa: E402
from test_checker import dense_scene  # noqa: E402

from planner.checker import CheckerConfig, check_prepared, prepare  # noqa: E402
from planner.scene import Trajectory, VectorScene, VehicleParameters  # noqa: E402

V, C = VehicleParameters(), CheckerConfig()
Pair = tuple[VectorScene, Trajectory, Trajectory]


def measure(name: str, pairs: list[Pair], rounds: int) -> None:
    """Print the quantiles over all pairs and rounds."""
    spent: dict[str, list[tuple[float, float]]] = {"prepare": [], "check": []}

    def timed(what: str, call: Callable[[], object]) -> object:
        cpu, wall = time.process_time(), time.perf_counter()
        out = call()
        spent[what].append((time.process_time() - cpu, time.perf_counter() - wall))
        return out

    for n in range(rounds + 1):
        for scene, plan, tail in pairs:
            sets = timed("prepare", lambda s=scene: prepare(s, V, C))
            timed("check", lambda s=sets, p=plan, t=tail: check_prepared(s, p, t, V, C))
        if n == 0:  # the first round loads and allocates
            spent = {key: [] for key in spent}
    spent["both"] = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(spent["prepare"], spent["check"])]
    for what, times in spent.items():
        cpu, wall = 1e3 * np.array(times).T
        quantiles = lambda t: ", ".join(f"p{q:g} {np.percentile(t, q):.2f}" for q in (50, 99, 99.9))  # noqa: E731
        print(f"{name}, {what}: {len(cpu)} calls; CPU ms {quantiles(cpu)}; wall ms {quantiles(wall)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--nuscenes", type=Path)
    arguments = parser.parse_args()
    plan = drive(10.0)
    dense = [(dense_scene(np.random.default_rng(seed)), plan, with_tail(plan)) for seed in range(8)]
    measure("dense", dense, 10 * arguments.rounds)
    if arguments.nuscenes:
        from human_drives import human_pairs

        recorded = [(s, d, t) for _, _, s, d, t in human_pairs(arguments.nuscenes, 6.0)]
        measure("recorded", recorded, arguments.rounds)

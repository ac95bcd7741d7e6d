"""Throws mutated inputs at the doors of the second channel: scenes, plans (objects and bytes), orders.

    python benchmarks/fuzz_doors.py --inputs 120000 --workers 2 --json runs/fuzz_doors.json

An escape is a mutated input that should have been refused and was not, anything published that is not finite, does not
end at rest or (plans) lacks an accepted tail, or a supervisor that does not drive the next sound scene. Seeded: input i
is the same in every run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz import command_door, plan_door, scene_door
from benchmarks.fuzz.cases import Verdict, bases

DOORS = {
    "scene": scene_door.WAYS, "plan": plan_door.WAYS, "plan bytes": plan_door.BYTE_WAYS, "command": command_door.WAYS,
}  # fmt: skip


def fuzz(end: int, start: int = 0, stride: int = 1, cases: int = 8, say: bool = False) -> dict[str, Any]:
    """Inputs start, start + stride, ... before `end`; counts per (door, way, verdict) and what failed."""
    torch.set_num_threads(1)
    sound = bases(cases)
    blocks = [plan_door.Bytes(base) for base in sound]
    kinds = [(door, way) for door, ways in DOORS.items() for way in ways]
    counts: Counter[tuple[str, str, str]] = Counter()
    failures: list[str] = []
    for i in range(start, end, stride):
        door, way = kinds[i % len(kinds)]
        rng = np.random.default_rng(i)
        pick = int(rng.integers(len(sound)))
        if door == "scene":
            verdict, why = scene_door.judge(sound[pick], way, rng)
        elif door == "plan":
            verdict, why = plan_door.judge(sound[pick], way, rng)
        elif door == "plan bytes":
            verdict, why = blocks[pick].judge(way, rng)
        else:
            verdict, why = command_door.judge(way, rng)
        counts[door, way, verdict] += 1
        if verdict in (Verdict.ESCAPED, Verdict.CRASHED):
            failures.append(f"input {i}, {door}: {why}")
        if say and (i - start) // stride % 2000 == 0:
            print(f"{i} of {end}, {len(failures)} failures", file=sys.stderr, flush=True)
    return {"counts": [[*key, n] for key, n in counts.items()], "failures": failures}


def table(counts: Counter[tuple[str, str, str]]) -> str:
    """One line per door and way."""
    lines = ["| door | mutation | inputs | refused | harmless | escaped | crashed |", "|---|---|---|---|---|---|---|"]
    for door, ways in DOORS.items():
        for way in ways:
            by = [counts[door, way, verdict] for verdict in Verdict]
            lines.append(f"| {door} | {way} | {sum(by)} | " + " | ".join(map(str, by)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=120_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to go on where a run ended")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    with ProcessPoolExecutor(a.workers) as pool:
        jobs = [pool.submit(fuzz, a.first + a.inputs, a.first + k, a.workers, 8, k == 0) for k in range(a.workers)]
        results = [job.result() for job in jobs]
    counts = Counter({(d, w, v): 0 for d, ways in DOORS.items() for w in ways for v in Verdict})
    for result in results:
        for door, way, verdict, n in result["counts"]:
            counts[door, way, verdict] += n
    failures = [failure for result in results for failure in result["failures"]]
    print(table(counts))
    total = {v: sum(n for (_, _, verdict), n in counts.items() if verdict == v) for v in Verdict}
    print("\n".join(failures[:50]))
    print(f"{sum(total.values())} inputs: " + ", ".join(f"{n} {v}" for v, n in total.items()))
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        a.json.write_text(
            json.dumps({"total": total, "counts": [[*k, n] for k, n in counts.items()], "failures": failures})
        )
    sys.exit(int(bool(failures)))


if __name__ == "__main__":
    main()

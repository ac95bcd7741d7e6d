"""Times the planner: the full cycle on one scene, and batches of scenes with gradients.

    python benchmarks/planner.py --json runs/planner.json --docs

Scenes (`benchmarks/crowded.py`): a two-way street with 20 agents of 6 forecasts each; of random ones, those that give
12 candidates and have a plan. A cycle is everything from the scene to the answer: decisions, convex programs, their
certificates, the choice, its trajectory and fail-safe tail as numbers, and the explanation. The planner's compiled
parts use two threads (`solver.threads`), torch itself one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.crowded import crowded_scene
from benchmarks.environment import environment
from benchmarks.planner_report import console, write_documents, write_plots
from planner import ConvexPlanner, PlannerConfig
from planner.scene import VectorScene

CANDIDATES, AGENTS = 12, 20
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MAX_CANDIDATES = (2, 4, 6, 8, 12, 16)
AGENT_COUNTS = (5, 10, 20, 40)
COARSE_STEPS = (2, 4, 8, 12, 16)
"""Steps of 0.5 s after the first 2 s: horizons of 3 to 10 s."""
GROWTH_BATCH = 16
"""Scenes per batch of the curves over anything else."""


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    result = json.loads(options.render.read_text()) if options.render else run(options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    if options.plots:
        write_plots(result, options.plots)
    if options.docs:
        write_documents(result)
    print(console(result))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cycles", type=int, default=4000)
    parser.add_argument("--scenes", type=int, default=16, help="different scenes that the cycles go round")
    parser.add_argument("--batch", type=int, default=64, help="scenes planned together, with gradients")
    parser.add_argument("--repeats", type=int, default=11, help="calls per batched measurement")
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    parser.add_argument("--docs", action="store_true", help="write the planner's part of docs/benchmarks.md")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing; report on an earlier run")
    return parser.parse_args(given)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as JSON types."""
    torch.set_num_threads(1)  # its pieces are too small to share: waking a thread takes longer than they do
    begun = time.perf_counter()
    scenes = full_scenes(options.scenes)
    result: dict[str, Any] = {"environment": environment(), "rows": []}
    result["rows"].append({"name": "cycle", **cycle(scenes, options.cycles)})
    result["rows"].append({"name": "batch", **batch(scenes, options.batch, options.repeats)})
    if not options.no_growth:
        result["growth"] = growth(scenes, options.repeats)
    result["environment"]["duration_s"] = round(time.perf_counter() - begun, 1)
    return result


def full_scenes(count: int, candidates: int = CANDIDATES) -> list[VectorScene]:
    """The first random scenes with that many candidates and at least one that is solved."""
    planner = ConvexPlanner(with_candidates(candidates))
    found: list[VectorScene] = []
    seed = 0
    while len(found) < count:
        scene = crowded_scene(seed, AGENTS)
        planner.reset()
        result = planner.plan(scene)
        if len(result.candidates) == candidates and result.chosen is not None:
            found.append(scene)
        seed += 1
    return found


def with_candidates(count: int) -> PlannerConfig:
    config = PlannerConfig()
    return replace(config, decisions=replace(config.decisions, max_candidates=count))


def cycle(scenes: list[VectorScene], cycles: int, config: PlannerConfig | None = None) -> dict[str, Any]:
    """Latency of single scenes (ms), the scenes in turn, without a memory of each other."""
    planner = ConvexPlanner(config)
    times, solved, inside = [], [], []
    for k in range(cycles + len(scenes)):
        if k == len(scenes):
            gc.freeze()  # as the planner's process does: a full collection walks over torch for 0.1 s
        planner.reset()
        start = time.perf_counter()
        result = planner.plan(scenes[k % len(scenes)])
        answer(result)
        times.append(time.perf_counter() - start)
        solved.append(sum(c.status.name == "SOLVED" for c in result.candidates))
        inside.append(result.solve_time)
    ms = 1e3 * np.array(times[len(scenes) :])  # the first round warms up
    p50, p90, p99, p999 = np.percentile(ms, [50, 90, 99, 99.9])
    return {
        "p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99), "p999_ms": float(p999),
        "max_ms": float(ms.max()), "solver_p50_ms": float(1e3 * np.median(inside[len(scenes) :])),
        "cycles": len(ms), "scenes": len(scenes), "solved_candidates": float(np.mean(solved)),
    }  # fmt: skip


def answer(result: Any) -> Any:
    """Everything that a caller reads of a plan: numbers of both trajectories, certificates, explanation."""
    chosen = result.chosen
    if chosen is None:
        return result.explanation
    paths = [[t.x.numpy(), t.y.numpy(), t.yaw.numpy(), t.v.numpy()] for t in (chosen.trajectory, chosen.tail)]
    return paths, chosen.certificate, chosen.tail_certificate, result.explanation


def batch(scenes: list[VectorScene], size: int, repeats: int, config: PlannerConfig | None = None) -> dict[str, Any]:
    """Time (ms) of planning `size` scenes together, without and with the gradient of a loss on choice and motion."""
    planner = ConvexPlanner(config)
    together = VectorScene.stack([scenes[k % len(scenes)] for k in range(size)])
    plans: list[Any] = []

    def forward() -> None:
        with torch.no_grad():
            plans[:] = [planner.plan_batch(together)]

    def both() -> None:
        leaves = (together.futures.mean.clone().requires_grad_(), together.agents.box.clone().requires_grad_())
        moved = together.replace(
            futures=together.futures.replace(mean=leaves[0]), agents=together.agents.replace(box=leaves[1])
        )
        plan = planner.plan_batch(moved)
        weight = plan.weights()
        cost = torch.where(plan.solved, plan.cost, 0.0)
        travelled = torch.where(plan.solved, plan.trajectory.x[:, -1] + plan.trajectory.y[:, -1], 0.0)
        gradient = torch.autograd.grad((weight * (cost + travelled)).sum(), leaves)
        if not all(bool(torch.isfinite(g).all()) for g in gradient):
            raise FloatingPointError("the planner's gradient is not finite")

    row = {"scenes": size, **spread("forward", forward, repeats), **spread("forward_backward", both, repeats)}
    row["candidates"] = sum(len(result.candidates) for result in plans[0].results())
    row["programs"] = len(plans[0].cost)  # the others' limits contradict each other
    row["solved_candidates"] = float(plans[0].solved.sum()) / size
    return row


def spread(label: str, call: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median and quartiles (ms) after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, [25, 50, 75])
    return {f"{label}_ms": float(middle), f"{label}_ms_q25": float(low), f"{label}_ms_q75": float(high)}


def growth(scenes: list[VectorScene], repeats: int) -> list[dict[str, Any]]:
    """Rows of {"curve", "at", times}: over scenes in a batch, horizon (s), candidates and agents per scene."""
    rows = [{"curve": "batch", "at": size, **batch(scenes, size, repeats)} for size in BATCHES]
    size = GROWTH_BATCH
    for steps in COARSE_STEPS:
        intervals = ((0.2, 10), (0.5, steps))
        seconds = 2.0 + 0.5 * steps
        config = PlannerConfig()
        config = replace(config, horizon=replace(config.horizon, nominal=intervals, tail=intervals))
        longer = [crowded_scene(seed, AGENTS, seconds=seconds) for seed in range(size)]
        rows.append({"curve": "horizon", "at": seconds, **batch(longer, size, repeats, config)})
    for count in MAX_CANDIDATES:
        rows.append({"curve": "candidates", "at": count, **batch(scenes, size, repeats, with_candidates(count))})
    for agents in AGENT_COUNTS:
        busy = [crowded_scene(seed, agents) for seed in range(size)]
        rows.append({"curve": "agents", "at": agents, **batch(busy, size, repeats)})
    return rows


if __name__ == "__main__":
    main()

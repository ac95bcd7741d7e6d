"""Many short supervised drives with faults mixed in: is anything published without a tail that passes?

    python benchmarks/checker_cycles.py --cycles 1000000 --workers 2 --out runs/checker_cycles.jsonl

A drive is ten cycles at 10 Hz on a small random road; what is published is followed exactly, its first command goes
through the limiter. Plans are simple ones straight on with a stop at the end, safe or not, and in a third of the cycles
something is wrong: the planner is late, raises, is silent, answers NaN or something malformed; the scene holds NaN; an
object is missing, new or jumps; the same scene comes again. Every published plan must have passed in the supervisor; in
every tenth drive it is checked once more by a checker that has seen nothing of the drive. Exit status 1 if one fails.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from checker_scenes import agent, make_scene  # noqa: E402

from benchmarks.tally import counted, upper_bound  # noqa: E402
from planner.checker import check  # noqa: E402
from planner.checker.motion import Motion  # noqa: E402
from planner.limiter import Command, limit  # noqa: E402
from planner.result import Candidate, PlanResult, PlanStatus  # noqa: E402
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters  # noqa: E402
from planner.supervise import Supervisor, SupervisorConfig  # noqa: E402

V = VehicleParameters()
CYCLES = 10
AGAIN = 10  # every so many drives, what is published is checked once more
FAULTS = ("late", "raises", "silent", "nan plan", "malformed plan", "nan scene", "missing", "new", "jump", "frozen")


def candidate(v: float, a: float, braking: float) -> Candidate:
    """A plan straight on at constant acceleration, with a stop."""
    plan = straight(v, max(a, -v / 3.2), np.arange(0.0, 3.0 + 1e-9, 0.1))
    return Candidate(
        "drive on", "hold", {}, PlanStatus.SOLVED, trajectory=trajectory(plan), tail=stopping(plan, braking)
    )


def straight(v: float, a: float, time: np.ndarray) -> np.ndarray:
    """Columns time, x, v, a ``[4, T]`` of a motion at constant acceleration."""
    return np.stack([time, v * time + 0.5 * a * time**2, v + a * time, np.full(len(time), a)])


def stopping(plan: np.ndarray, braking: float) -> Trajectory:
    """The first 0.3 s of a plan, then a stop: constant jerk up to `braking` and back, v and a end together."""
    begin, jerk = plan[:, 3], 0.95 * V.jerk_max
    _, x, v, a = begin
    peak = min(braking, float(np.sqrt(max(jerk * v + 0.5 * a * a, 0.0))))
    length = np.array(
        [(a + peak) / jerk, max((v - peak * peak / (2 * jerk) - (a * a - peak * peak) / (-2 * jerk)), 0.0)]
    )
    length = np.array([length[0], length[1] / max(peak, 1e-6), peak / jerk])
    pieces = []
    for duration, j in zip(length, (-jerk, 0.0, jerk)):
        # Entries every 0.1 s and at the end of the phase.
        t = np.append(np.arange(0.0, duration - 1e-3, 0.1), duration) if duration > 2e-3 else np.zeros(1)
        pieces.append(np.stack([t, x + v * t + a * t**2 / 2 + j * t**3 / 6, v + a * t + j * t**2 / 2, a + j * t]))
        _, x, v, a = pieces[-1][:, -1]
        pieces[-1][0] += begin[0] + length[: len(pieces) - 1].sum()
    rest = np.array([[0.1, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]) + pieces[-1][:, -1:] * [
        [1.0],
        [1.0],
        [0.0],
        [0.0],
    ]
    columns = np.concatenate([plan[:, :3], *pieces, rest], 1)
    return trajectory(columns[:, np.diff(columns[0], append=np.inf) > 2e-3])


def trajectory(columns: np.ndarray) -> Trajectory:
    """Along the x axis."""
    time, x, v, a = torch.from_numpy(columns.copy())
    zero = torch.zeros_like(time)
    return Trajectory(time, x, zero, zero.clone(), v, a, zero.clone())


def plan_result(candidates: list[Candidate]) -> PlanResult:
    return PlanResult(PlanStatus.SOLVED, candidates, torch.zeros(0, 2), 0.0, 0.0)


def others(rng: np.random.Generator) -> list[dict[str, Any]]:
    """A leader, somebody oncoming, somebody beside the road, each perhaps."""
    found = []
    if rng.random() < 0.6:
        found.append(agent(float(rng.uniform(9.0, 45.0)), 0.0, 0.0, float(rng.uniform(0.0, 10.0)), track_id=1))
    if rng.random() < 0.5:
        found.append(agent(float(rng.uniform(10.0, 60.0)), 3.5, np.pi, float(rng.uniform(0.0, 9.0)), track_id=2))
    if rng.random() < 0.5:
        kind = AgentClass.PEDESTRIAN
        found.append(
            agent(float(rng.uniform(5.0, 30.0)), -3.0, np.pi / 2, float(rng.uniform(0.0, 1.5)), kind, track_id=3)
        )
    return found


def moved(objects: list[dict[str, Any]], ego: tuple[float, float, float], time: float) -> tuple[dict[str, Any], ...]:
    """The others after `time` (s), seen from ego."""
    x0, y0, turn = ego
    c, s = np.cos(turn), np.sin(turn)
    seen = []
    for g in objects:
        x, y, yaw = g["pose"]
        dx, dy = x + g["v"] * np.cos(yaw) * time - x0, y + g["v"] * np.sin(yaw) * time - y0
        seen.append({**g, "pose": (c * dx + s * dy, c * dy - s * dx, yaw - turn)})
    return tuple(seen)


def one(case: int) -> Counter[str]:
    """One drive."""
    torch.set_num_threads(1)
    rng, tally = np.random.default_rng(case), Counter({"drives": 1})
    supervisor = Supervisor(config=SupervisorConfig(check_budget=float("inf")))
    world, v, a, pose = others(rng), float(rng.uniform(0.0, 11.0)), 0.0, (0.0, 0.0, 0.0)
    scene: VectorScene | None = None
    for cycle in range(CYCLES):
        fault = str(rng.choice(FAULTS)) if rng.random() < 1 / 3 else ""
        if fault == "missing" and world:
            world = world[1:]
        if fault == "new":
            world = [
                *world,
                agent(pose[0] + float(rng.uniform(3.0, 25.0)), float(rng.uniform(-2.0, 2.0)), track_id=90 + cycle),
            ]
        if fault == "jump":
            world = [{**g, "pose": (g["pose"][0] + float(rng.normal(0, 2)), *g["pose"][1:])} for g in world]
        if fault != "frozen" or scene is None:
            seen = moved(world, pose, 0.1 * cycle)
            scene = make_scene(v, seen, a=a, time_us=100_000 * cycle, pose=pose, half_width=8.0, right_edge=6.0)
        braking = float(rng.uniform(3.0, 7.0))
        options = [candidate(v, float(np.clip(a + x, -2.0, 2.0)), braking) for x in (rng.uniform(-1.2, 1.2), -0.7)]
        plan: Any = plan_result(options)
        if fault == "nan plan":
            options[0].trajectory.y[int(rng.integers(2, 20))] = float("nan")  # type: ignore[union-attr]
        given: Any = {"silent": None, "malformed plan": "go"}.get(fault, plan)
        shown = scene.replace(ego=scene.ego.replace(v=scene.ego.v * float("nan"))) if fault == "nan scene" else scene
        out = supervisor.supervise(
            shown, given, elapsed=0.2 if fault == "late" else 0.0, failure="ValueError" if fault == "raises" else ""
        )
        tally["cycles"] += 1
        tally[f"{fault or 'no fault'}: {out.source}"] += 1
        if out.source == "candidate":
            passes = out.tail_accepted and out.report is not None and out.report.accepted
            if passes and case % AGAIN == 0:
                tally["checked once more"] += 1
                passes = check(scene, out.trajectory, out.tail).accepted
            tally["published without a tail that passes"] += not passes
            if not passes:
                tally[f"drive {case}, cycle {cycle}: no tail that passes"] += 1
        elif out.tail_accepted:
            tally["fallbacks that pass"] += 1
        motion = Motion.of(out.trajectory)
        tally["not finite"] += not motion.finite
        order = Command(float(motion.a[1]), 0.0)
        command = limit(order, scene.ego, 0.1, V)[0]
        tally["command outside the envelope"] += not -V.braking_max - 1e-9 <= command.acceleration <= V.acceleration_max
        at = motion.at(np.array([0.1]))
        c, s = np.cos(pose[2]), np.sin(pose[2])
        x, y, yaw = at.pose[0]
        pose = (pose[0] + c * x - s * y, pose[1] + s * x + c * y, pose[2] + yaw)
        v, a = max(float(at.v[0]), 0.0), float(at.a[0]) if at.v[0] > 0.05 else 0.0
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = counted(arguments.cycles // CYCLES, 20, arguments.out, one, arguments.workers)
    for key, count in sorted(found.items()):
        print(f"{key:45} {count}")
    bad = found["published without a tail that passes"] + found["not finite"] + found["command outside the envelope"]
    print(f"of {found['cycles']} cycles {bad} bad (rate below {upper_bound(bad, found['cycles']):.1e}, 95 %)")
    sys.exit(1 if bad else 0)

"""Once a plan with its tail was accepted: does something accepted remain, until ego stands?

    python benchmarks/recursive_feasibility.py --rollouts 10000 --workers 2 --out runs/recursive_feasibility

Every rollout draws a world (`benchmarks/set_worlds.py`), offers one plan, and if it is accepted lets the planner die
(or, in every second rollout, offer plans at random) while the world moves on. A loss is a cycle in which the kept tail
was no longer accepted; unsafe, one in which nothing was; struck, one in which ego, moving, touches somebody ahead.
Losses are attributed: to a birth or a broken assumption if the violation names the road user that did it, else to the
rule.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import shapely
import shapely.affinity
import torch

from benchmarks.set_worlds import WORLDS, World
from benchmarks.tally import counted, upper_bound
from eval.simulation.tracker import PlannedMotion
from planner import fallback
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import EgoState, Trajectory, VehicleParameters
from planner.supervise import SupervisedPlan, Supervisor, SupervisorConfig

DT = 0.1
_V = VehicleParameters()
_CHUNK = 20
_NAMES = ("time", "x", "y", "yaw", "v", "a", "curvature")


def offered(world: World) -> PlanResult | None:
    """Go on at a drawn acceleration along the lane; the tail shares 0.3 s and then brakes with 3 to 6 m/s^2."""
    v, a, k = world.ego[3:]
    if abs(a) > 0.5 or v < 0.5:
        return None
    rows = [(0.0, 0.0, 0.0, 0.0, v, a, k)]
    for _ in range(50):
        t, px, py, pyaw, pv, pa, pk = rows[-1]
        # Back to rest of steering and acceleration: what is planned is straight on.
        na, nk = pa * 0.5, pk * 0.5
        px, py, pyaw = fallback.advance(px, py, pyaw, pv, pa, (na - pa) / DT, pk, (nk - pk) / DT, DT)
        rows.append((t + DT, px, py, pyaw, pv + 0.5 * (pa + na) * DT, na, nk))
    trajectory = Trajectory(*(c.clone() for c in torch.tensor(rows, dtype=torch.float64).T))
    n = 3
    start = [float(getattr(trajectory, name)[n]) for name in _NAMES[1:]]
    f = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    ego = EgoState(*map(f, start), f(start[3] * start[5]), torch.tensor(0))
    stop = fallback.brake_in_path(ego, trajectory, _V, float(world.rng.uniform(3.0, 6.0)))
    tail = Trajectory(*(torch.cat([getattr(trajectory, i)[:n], getattr(stop, i)]) for i in _NAMES))
    tail.time[n:] = stop.time + trajectory.time[n]
    solved = Candidate("go on", "hold", {}, PlanStatus.SOLVED, 1.0, trajectory, tail)
    return PlanResult(PlanStatus.SOLVED, [solved], torch.zeros(2, 2), 0.0, 0.0)


def rollout(kind: str, seed: int) -> dict[str, Any]:
    """One world until ego stands: what became of it."""
    world = World.drawn(kind, seed)
    supervisor = Supervisor(_V, SupervisorConfig(check_budget=math.inf))
    out = supervisor.supervise(world.scene(), offered(world), elapsed=0.0)
    if out.source != "candidate":
        return {"accepted": False}
    found: dict[str, Any] = {"accepted": True, "cycles": 0, "losses": [], "unsafe": 0, "struck": 0}
    alive = seed % 2 == 1
    while found["cycles"] < 150:
        _drive(world, out)
        world.step(DT)
        plan = offered(world) if alive and found["cycles"] < 30 and world.rng.random() < 0.5 else None
        out = supervisor.supervise(world.scene(), plan, elapsed=0.0)
        found["cycles"] += 1
        refused = next((r for name, r in out.rejected if name == "kept tail"), None)
        if refused is not None:
            worst = min(refused.violations, key=lambda v: v.margin)
            blamed = next((world.suspects[v.track_id] for v in refused.violations if v.track_id in world.suspects), "")
            found["losses"].append(blamed or f"{worst.rule}")
            found["unsafe"] += not out.tail_accepted
        found["struck"] += _struck(world)
        if world.ego[3] < 0.02:
            break
    return found


def _drive(world: World, out: SupervisedPlan) -> None:
    """Ego follows what is driven exactly."""
    motion = PlannedMotion.from_trajectory(out.trajectory, world.ego[:3])
    s = motion.at(DT)
    world.ego = np.array([s.x, s.y, s.yaw, max(s.v, 0.0), s.a, s.curvature])


def _struck(world: World) -> bool:
    """Exact, by another library: ego moves and overlaps somebody who is not behind."""
    x, y, yaw, v = world.ego[:4]
    if v < 0.05:
        return False
    centre = (x + _V.rear_axle_to_center * np.cos(yaw), y + _V.rear_axle_to_center * np.sin(yaw))
    ego = _box(*centre, yaw, _V.length, _V.width)
    for agent in world.scene().agents.box.tolist():
        ax, ay, ayaw, length, width = agent
        gx, gy = x + np.cos(yaw) * ax - np.sin(yaw) * ay, y + np.sin(yaw) * ax + np.cos(yaw) * ay
        if ax > 0 and ego.intersects(_box(gx, gy, yaw + ayaw, length, width)):
            return True
    return False


def _box(x: float, y: float, yaw: float, length: float, width: float) -> shapely.Polygon:
    flat = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    return shapely.affinity.translate(shapely.affinity.rotate(flat, yaw, origin=(0, 0), use_radians=True), x, y)


def one(kind: str, seed: int) -> Counter[str]:
    """What became of one world, as counts."""
    torch.set_num_threads(1)
    found = rollout(kind, seed)
    tally: Counter[str] = Counter(drawn=1, accepted=int(found["accepted"]))
    if found["accepted"]:
        tally["cycles"] = found["cycles"]
        tally["struck"] = bool(found["struck"])
        tally["with a loss"] = bool(found["losses"])
        tally["unsafe"] = bool(found["unsafe"])
        tally.update({f"first cause: {cause}, seed {seed}": 1 for cause in set(found["losses"][:1])})
        tally.update({f"struck, seed {seed}": 1} if found["struck"] else {})
    return tally


def measure(kind: str, accepted: int, workers: int = 1, path: Path | None = None) -> Counter[str]:
    """Rollouts of seeds 0, 1, ... until so many were accepted at the beginning. path: finished chunks."""
    total: Counter[str] = Counter()
    seeds = 0
    while total["accepted"] < accepted:
        # A chunk at least; then as many as the share of accepted ones asks for.
        share = total["accepted"] / seeds if seeds else 1.0
        seeds += _CHUNK * max(1, math.ceil((accepted - total["accepted"]) / max(share, 0.05) / _CHUNK))
        total = counted(seeds, _CHUNK, path, partial(one, kind), workers)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rollouts", type=int, default=10_000, help="accepted ones per world, at least")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for what is finished; a run with the same one goes on")
    a = parser.parse_args()
    for kind in a.worlds:
        total = measure(kind, a.rollouts, a.workers, a.out / f"{kind}.jsonl" if a.out else None)
        n, lost = total["accepted"], total["with a loss"]
        print(
            f"{kind}: {n} accepted of {total['drawn']} drawn, {total['cycles']} cycles; with a loss {lost} "
            f"({100 * lost / n:.2f} %, below {100 * upper_bound(lost, n):.3f} % with 95 % confidence), with nothing "
            f"accepted {total['unsafe']}, struck {total['struck']}",
            flush=True,
        )
        for key in sorted(k for k in total if ", seed " in k):
            print(f"  {key}")


if __name__ == "__main__":
    main()

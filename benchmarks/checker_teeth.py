"""Does the checker refuse unsafe plans? Safe ones, made unsafe in twelve ways.

    python benchmarks/checker_teeth.py --cases 1000 --out runs/checker_teeth.jsonl

Per case one random safe plan and twelve mutations of it. A plan counts only if what was changed makes it unsafe by
construction: an obstacle in its way, a motion that its own numbers or the vehicle contradict, a place off the road or
against the traffic. Exit status 1 below 99.9 % refused.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from checker_scenes import agent, drive, make_scene, with_tail  # noqa: E402
from test_checker import bollard, drifting, kinked, late, random_safe_case, shifted, teleported  # noqa: E402

from benchmarks.tally import counted, upper_bound  # noqa: E402
from planner.checker import CheckerConfig, check_prepared, prepare  # noqa: E402
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters  # noqa: E402

V, C = VehicleParameters(), CheckerConfig()
Plan = tuple[VectorScene, Trajectory, Trajectory]


def unsafe_plans(case: int) -> tuple[Plan, dict[str, Plan]]:
    """A safe plan, and unsafe ones by what is wrong with them."""
    rng = np.random.default_rng(case)
    scene, plan = random_safe_case(rng)
    tail = with_tail(plan, 5.0)
    v, a = float(plan.v[0]), float(plan.a[0])
    wall = agent(float(tail.x[-1]) + V.front + 0.3, 0.0, kind=AgentClass.STATIC, size=(1.0, 6.0), track_id=9)
    off = drifting(v, a)
    reach = rng.uniform(1.5, 4.0)
    # Against the traffic: the route comes towards ego.
    against = scene.replace(route=scene.route.replace(xy=scene.route.xy.flip(0)))
    unsafe = {
        "inflated": (make_scene(v, (bollard(v, reach),), a=a), plan, tail),
        "shifted": (scene, shifted(plan, float(rng.choice([-0.8, 0.8]))), shifted(tail, 0.8)),
        "late": (make_scene(v, (wall,), a=a), plan, late(plan, tail)),
        "kinked": (scene, kinked(plan, rng), tail),
        "kinked tail": (scene, plan, kinked(tail, rng)),
        "too fast": (scene, plan.replace(v=float(rng.uniform(1.15, 1.5)) * plan.v), tail),
        "re-timed": (scene, plan.replace(time=float(rng.uniform(0.6, 0.9)) * plan.time), tail),
        "off the road": (scene, off, with_tail(off, 5.0)),
        "no rest": (scene, plan, plan),
        "teleport": (scene, plan, teleported(tail)),
        "over the limit": speeding(scene, plan, v),
    }
    if a > -0.9:  # who brakes harder gives the wrong way up, as it must
        unsafe["wrong way"] = (against, plan, tail)
    return (scene, plan, tail), unsafe


def speeding(scene: VectorScene, plan: Trajectory, v: float) -> Plan:
    """Accelerating beyond a limit that its present speed just keeps."""
    fast = drive(v, 3.0, a=1.5)
    limit = (v - C.speed_extra) / C.speed_factor
    slow = scene.replace(
        route=scene.route.replace(speed_limit=torch.full_like(scene.route.speed_limit, max(limit, 0.1))),
        ego=scene.ego.replace(a=torch.tensor(1.5, dtype=torch.float64)),
    )
    return slow, fast, with_tail(fast, 5.0)


def one(case: int) -> Counter[str]:
    """What became of one case: "kind/refused" or "kind/accepted"."""
    base, unsafe = unsafe_plans(case)
    tally: Counter[str] = Counter()
    sets = None
    for name, (scene, plan, tail) in {"safe": base, **unsafe}.items():
        if scene is not base[0] or sets is None:
            prepared = prepare(scene, V, C)
            sets = prepared if scene is base[0] else sets
        else:
            prepared = sets
        report = check_prepared(prepared, plan, tail, V, replace(C))
        tally[f"{name}/{'accepted' if report.accepted else 'refused'}"] += 1
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tally = counted(arguments.cases, 20, arguments.out, one, arguments.workers)
    kinds = sorted({key.split("/")[0] for key in tally} - {"safe"})
    missed = sum(tally[f"{kind}/accepted"] for kind in kinds)
    plans = missed + sum(tally[f"{kind}/refused"] for kind in kinds)
    for kind in ["safe", *kinds]:
        print(f"{kind:16} refused {tally[kind + '/refused']:6}  accepted {tally[kind + '/accepted']:6}")
    print(f"unsafe plans: {plans}, accepted {missed} (rate below {upper_bound(missed, plans):.2e}, 95 %)")
    sys.exit(1 if missed > 0.001 * plans else 0)

"""Random planner problems: what the planner accepts is recomputed by the checker, what is published by a third party.

    python benchmarks/checker_problems.py --problems 100000 --workers 2 --out runs/checker_problems.jsonl

Per problem a random road with up to six others; the planner plans, the supervisor decides. Counted: how often the
planner's own choice passes the checker, and what is broken where not; published plans without an accepted tail; and,
witnessed by shapely on the published motion every 0.05 s, overlaps with boxes of likely forecasts in the first 1.5 s,
with standing things until rest, and with the edge of the road. Exit status 1 if a published plan breaks anything.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import shapely
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from planner_scenes import Other, agent_rectangles, make_scene  # noqa: E402

from benchmarks.tally import counted, upper_bound  # noqa: E402
from planner import ConvexPlanner  # noqa: E402
from planner.checker import CheckerConfig  # noqa: E402
from planner.checker.motion import Motion  # noqa: E402
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters  # noqa: E402
from planner.supervise import Supervisor, SupervisorConfig  # noqa: E402

V, C = VehicleParameters(), CheckerConfig()
UNHURRIED = SupervisorConfig(check_budget=float("inf"))


def random_scene(case: int) -> VectorScene:
    """A straight or bent road; leaders, oncoming, parked, crossing cars and people, in any number up to six."""
    rng = np.random.default_rng(case)
    bend, v = float(rng.choice([0.0, rng.uniform(-0.02, 0.02)])), float(rng.uniform(0.0, 12.0))
    others = []
    for i in range(int(rng.integers(0, 7))):
        x, way = float(rng.uniform(-15.0, 55.0)), int(rng.integers(6))
        speed = float(rng.uniform(0.0, 10.0))
        pose: tuple[float, float, float, float, AgentClass] = (
            (max(x, 8.0) + 0.8 * v, float(rng.uniform(-0.5, 0.5)), 0.0, speed, AgentClass.CAR),
            (x, float(rng.uniform(3.2, 4.0)), np.pi, speed, AgentClass.CAR),
            (x, float(rng.choice([-1.0, 1.0]) * rng.uniform(2.4, 4.0)), 0.0, 0.0, AgentClass.CAR),
            (max(x, 10.0), float(rng.choice([-1.0, 1.0]) * rng.uniform(3.0, 20.0)), 0.0, 1.3, AgentClass.PEDESTRIAN),
            (max(x, 15.0), float(rng.choice([-1.0, 1.0]) * rng.uniform(12.0, 40.0)), 0.0, speed, AgentClass.CAR),
            (max(x, 6.0), float(rng.uniform(-3.0, 3.0)), 0.0, 0.0, AgentClass.STATIC),
        )[way]
        px, py, yaw, speed, kind = pose
        yaw = -np.sign(py) * np.pi / 2 if way in (3, 4) else yaw
        others.append(Other(px, py, float(yaw), speed, kind, track_id=i + 1))
    surface = float(rng.uniform(1.75, 4.0))
    return make_scene(
        v, tuple(others), a=float(rng.uniform(-1.0, 0.5)) if v > 2 else 0.0, limit=float(rng.uniform(7.0, 14.0)),
        left=1.75, right=surface, left_oncoming=float(rng.choice([0.0, 3.5])), bend=bend,
    )  # fmt: skip


def witnessed(scene: VectorScene, trajectory: Trajectory, tail: Trajectory) -> list[str]:
    """What shapely finds wrong with a published motion; what overlaps already now is left out."""
    wrong = []
    lines = [shapely.LineString(xy[ok].numpy()) for xy, ok in zip(scene.map.xy, scene.map.valid) if int(ok.sum()) > 1]
    edge = shapely.multilinestrings(lines)
    shapely.prepare(edge)
    for name, motion, until in (("plan", Motion.of(trajectory), 1.5), ("tail", Motion.of(tail), 12.0)):
        time = np.arange(0.0, min(until, float(motion.time[-1])) + 1e-9, 0.05)
        at = motion.at(time)
        moving = np.abs(at.v) > C.rest_speed
        c, s = np.cos(at.pose[:, 2]), np.sin(at.pose[:, 2])
        ego = rectangles(at.pose[:, :2] + V.rear_axle_to_center * np.stack([c, s], 1), c, s, V.length, V.width)
        shapely.prepare(ego)
        over = shapely.intersects(edge, ego)
        if not over[0] and (over & moving).any():
            wrong.append(f"{name}: over the edge of the road")
        for i in range(len(scene.agents.valid)):
            standing = float(scene.agents.velocity[i].norm()) < 0.05
            if name == "tail" and not standing:
                continue
            boxes = np.array(agent_rectangles(scene, i, 0, time[:1] if standing else time))
            behind = boxes[0].bounds[2] < ego[0].bounds[0]  # keeps its distance itself
            if shapely.distance(ego[0], boxes[0]) <= C.clearance or behind:
                continue
            # What of the box a swept hull covers between steps, a 0.05 s sample must not enter deeply.
            met = np.flatnonzero(shapely.intersects(ego, boxes) & moving)
            depth = shapely.area(shapely.intersection(ego[met], boxes if standing else boxes[met]))
            if (depth > 1e-6).any():
                wrong.append(f"{name}: overlaps a {AgentClass(int(scene.agents.agent_class[i])).name.lower()}")
    return wrong


def rectangles(centre: np.ndarray, c: np.ndarray, s: np.ndarray, length: float, width: float) -> np.ndarray:
    """Polygons ``[K]`` around centres ``[K, 2]``, turned by the angle with cosine c and sine s ``[K]``."""
    along, across = np.stack([c, s], 1) * length / 2, np.stack([-s, c], 1) * width / 2
    corners = [centre + along + across, centre - along + across, centre - along - across, centre + along - across]
    return shapely.polygons(np.stack(corners, 1))  # type: ignore[no-any-return]


def one(case: int) -> Counter[str]:
    """What became of one problem."""
    torch.set_num_threads(1)
    scene = random_scene(case)
    plan = ConvexPlanner().plan(scene)
    tally: Counter[str] = Counter({"problems": 1})
    driven = Supervisor(V, UNHURRIED).supervise(scene, plan, elapsed=0.0)
    # The supervisor checks candidates in order, so its verdict on the first is that on the planner's choice.
    chosen = plan.chosen
    if chosen is None:
        tally["no plan"] += 1
    elif driven.source == "candidate" and plan.candidates[driven.candidate_index or 0] is chosen:
        tally["planner's choice passes"] += 1
    else:
        tally["planner's choice refused"] += 1
        refused = dict(driven.rejected)[str(chosen.decision)]
        tally.update({f"  refused for {rule}": 1 for rule in {v.rule for v in refused.violations}})
    tally[f"published: {driven.source}"] += 1
    if driven.source == "candidate":
        tally["published candidate without accepted tail"] += not driven.tail_accepted
        for wrong in witnessed(scene, driven.trajectory, driven.tail):
            tally[f"witness, case {case}: {wrong}"] += 1
    elif not driven.tail_accepted:
        tally["fallback that does not pass either"] += 1
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = counted(arguments.problems, 50, arguments.out, one, arguments.workers)
    for key, count in sorted(found.items()):
        print(f"{key:50} {count}")
    candidates = found["published: candidate"]
    broken = found["published candidate without accepted tail"] + sum(
        n for k, n in found.items() if k.startswith("witness")
    )
    print(f"published plans {candidates}, broken {broken} (rate below {upper_bound(broken, candidates):.1e}, 95 %)")
    sys.exit(1 if broken else 0)

"""Cycles whose best fallback does not pass the checker: would any other stop?

    python benchmarks/lost_worlds.py --problems 1000 --out runs/lost_worlds.jsonl

The random problems of `checker_problems.py`, without a kept tail. Where what is published does not pass, stops are
enumerated: along the route or with the steering held, bearing aside by up to 2 m; braking at once with seven strengths,
or first driving on for 0.4 to 4 s (slowing, steadily, faster), or braking hard and then rolling on. The checker judges
each as a stop of last resort. Where none passes, the supervisor's are not to blame.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.checker_problems import UNHURRIED, C, V, random_scene  # noqa: E402
from benchmarks.tally import counted  # noqa: E402
from planner import ConvexPlanner, fallback  # noqa: E402
from planner.checker import check_prepared, prepare  # noqa: E402
from planner.fallback.way import Way, steered  # noqa: E402
from planner.scene import EgoState, Trajectory, VectorScene  # noqa: E402
from planner.supervise import Supervisor  # noqa: E402

STEP = 0.1  # s
ASIDE = (None, 0.0, 0.6, -0.6, 1.2, -1.2, 2.0, -2.0)  # m left of the route; None: steering held
AT_ONCE = [((), -braking) for braking in (8.0, 6.5, 5.0, 4.0, 3.0, 2.0, 1.2)]
DRIVING_ON = [(((seconds, a),), -8.0) for a in (-2.0, 0.0, 1.5, 2.5) for seconds in (0.4, 0.8, 1.2, 1.6, 2.2, 3.0, 4.0)]
ROLLING_ON = [(((seconds, -6.0), (1.5, 0.0)), -4.0) for seconds in (0.5, 1.0, 1.5, 2.0)]
STOPS = AT_ONCE + DRIVING_ON + ROLLING_ON
"""(seconds, acceleration m/s^2) of what comes before, and the acceleration of the stop itself."""


def route_of(scene: VectorScene) -> Trajectory:
    """The route as a way to follow; its speeds mean nothing."""
    xy = scene.route.xy[scene.route.valid].double().numpy()
    along = np.diff(xy, axis=0)
    s = np.concatenate([[0.0], np.hypot(*along.T).cumsum()])
    yaw = np.interp(s, (s[1:] + s[:-1]) / 2, np.unwrap(np.arctan2(along[:, 1], along[:, 0])))
    zero = np.zeros(len(s))
    return Trajectory(
        *map(torch.from_numpy, (s, xy[:, 0].copy(), xy[:, 1].copy(), yaw, zero, zero, np.gradient(yaw, s)))
    )


def stops(ego: EgoState, route: Trajectory) -> Iterator[tuple[str, Trajectory]]:
    """All enumerated stops and their names."""
    for aside in ASIDE:
        way = None if aside is None else Way.of(route)
        for before, braking in STOPS:
            rows, state = driven_on(ego, way, aside or 0.0, before)
            if way is None:
                stop = fallback.maximum_braking(state, V)
            elif braking <= -V.braking_max:
                stop = fallback.maximum_braking(state, V, route, aside or 0.0)
            else:
                stop = fallback.brake_in_path(state, route, V, -braking)
            begin = STEP * len(rows)
            columns = [stop.time + begin, stop.x, stop.y, stop.yaw, stop.v, stop.a, stop.curvature]
            first = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7).T
            yield f"{before} {braking} {aside}", Trajectory(*(torch.cat([f, c]) for f, c in zip(first, columns)))


def driven_on(
    ego: EgoState, way: Way | None, aside: float, phases: tuple[tuple[float, float], ...]
) -> tuple[list[tuple[float, ...]], EgoState]:
    """Entries (time, x, y, yaw, v, a, curvature) before a stop begins, and the state there."""
    x, y, yaw, v, a, k = (float(f) for f in (ego.x, ego.y, ego.yaw, ego.v, ego.a, ego.curvature))
    rows: list[tuple[float, ...]] = []
    change = 0.95 * V.jerk_max * STEP
    for seconds, wanted in phases:
        for _ in range(round(seconds / STEP)):
            rows.append((STEP * len(rows), x, y, yaw, v, a, k))
            later = min(max(wanted, a - change), a + change)
            after = v + (a + later) / 2 * STEP
            if after < 0.5:  # the rest is the stop's matter
                rows.pop()
                break
            bent = steered(k, k if way is None else way.steer(x, y, yaw, v, aside), v, after, later, STEP, V)
            x, y, yaw = fallback.advance(x, y, yaw, v, a, (later - a) / STEP, k, (bent - k) / STEP, STEP)
            v, a, k = after, later, bent
    state = EgoState.at_origin(v, a, k)
    return rows, state.replace(
        **{n: torch.tensor(f, dtype=torch.float64) for n, f in (("x", x), ("y", y), ("yaw", yaw))}
    )


def one(case: int) -> Counter[str]:
    """What became of one problem."""
    torch.set_num_threads(1)
    scene = random_scene(case)
    driven = Supervisor(V, UNHURRIED).supervise(scene, ConvexPlanner().plan(scene), elapsed=0.0)
    tally: Counter[str] = Counter({"problems": 1, f"published: {driven.source}": 1})
    if driven.source == "candidate" or driven.tail_accepted:
        return tally
    tally["fallback does not pass"] += 1
    sets = prepare(scene.double(), V, C)
    passing = [
        name
        for name, stop in stops(scene.ego.double(), route_of(scene))
        if check_prepared(sets, stop, stop, V, C).accepted
    ]
    tally["another stop passes" if passing else f"none of {len(ASIDE) * len(STOPS)} stops passes"] += 1
    tally.update({f"  passes: {name}": 1 for name in passing})
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = counted(arguments.problems, 50, arguments.out, one, arguments.workers)
    helps = sorted((k for k in found if k.startswith("  passes")), key=lambda k: -found[k])[:12]
    for key in [*(k for k in sorted(found) if not k.startswith("  ")), *helps]:
        print(f"{key:60} {found[key]}")

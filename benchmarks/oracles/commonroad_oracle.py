"""Swept collision of the checker against commonroad-drivability-checker on random trajectories.

python benchmarks/oracles/commonroad_oracle.py --cases 3000

Both sides see one ego trajectory and one other road user's.
The checker sweeps ego's exact rectangle, boxes the other's. commonroad answers twice: at the steps alone, and with an
oriented box around each two consecutive ego rectangles, against the checker's boxes of the other. The checker must lie
between: whatever overlaps at a step overlaps for it, not later; whatever stays clear of the boxes stays clear for it.
Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from benchmarks.oracles.environment import ask  # noqa: E402
from planner import fallback  # noqa: E402
from planner.checker import CheckerConfig  # noqa: E402
from planner.checker.footprint import Boxes, sweep_box_distance  # noqa: E402
from planner.checker.forecast import swept_boxes  # noqa: E402
from planner.checker.motion import Motion  # noqa: E402
from planner.scene import Trajectory, VehicleParameters  # noqa: E402

STEPS = 30
V = VehicleParameters()


def driven(rng: np.random.Generator) -> Trajectory:
    """3 s from the origin within the vehicle's limits, curvature and acceleration changing at random."""
    h, v, k = CheckerConfig().step, rng.uniform(1.0, 14.0), 0.0
    rows = [(0.0, 0.0, 0.0, 0.0, v, 0.0, k)]
    for i in range(STEPS):
        _, x, y, yaw, v, a, k = rows[-1]
        if i % 5 == 0:
            wanted, bend = rng.uniform(-4.0, 2.0), rng.uniform(-1.0, 1.0) * min(0.15, 3.0 / max(v, 1.0) ** 2)
        b = max(a + np.clip(wanted - a, -0.8, 0.8), -v / h)
        n = k + np.clip(bend - k, -0.02, 0.02)
        x, y, yaw = fallback.advance(x, y, yaw, v, a, (b - a) / h, k, (n - k) / h, h)
        rows.append((rows[-1][0] + h, x, y, yaw, max(v + 0.5 * (a + b) * h, 0.0), b, n))
    return Trajectory(*(c.clone() for c in torch.tensor(rows, dtype=torch.float64).T))


def random_cases(count: int, seed: int) -> tuple[list[Motion], dict[str, np.ndarray]]:
    """Trajectories, and the same as centre poses ``[n, T, 3]`` beside the other's, sizes ``[n, 2, 2]``."""
    rng = np.random.default_rng(seed)
    motions, ego, other, size = [], [], [], []
    for _ in range(count):
        motion = Motion.of(driven(rng))
        motions.append(motion)
        yaw = motion.pose[:, 2]
        centre = motion.pose[:, :2] + V.rear_axle_to_center * np.stack([np.cos(yaw), np.sin(yaw)], 1)
        ego.append(np.concatenate([centre, yaw[:, None]], 1))
        # Aimed at where ego is at a random step, with a miss that makes about half of the cases collide.
        when, heading, speed = int(rng.integers(STEPS + 1)), rng.uniform(-np.pi, np.pi), rng.uniform(0.0, 14.0)
        time = CheckerConfig().step * (np.arange(STEPS + 1) - when)
        place = centre[when] + rng.normal(0.0, 3.0, 2)
        turn = rng.uniform(-0.4, 0.4)
        angle = heading + turn * time
        path = place + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1) * speed * CheckerConfig().step, 0)
        path -= path[when] - place
        other.append(np.concatenate([path, angle[:, None]], 1))
        size.append([(V.length, V.width), (rng.uniform(0.5, 12.0), rng.uniform(0.5, 2.9))])
    return motions, {"ego": np.array(ego), "other": np.array(other), "size": np.array(size)}


def other_boxes(pose: np.ndarray, size: np.ndarray) -> Boxes:
    """The checker's box of a rectangle over each interval of its poses ``[T, 3]``: ``[T - 1]``."""
    pose = np.concatenate([pose[:, :2], np.unwrap(pose[:, 2:], axis=0)], 1)
    return swept_boxes(pose[:-1], pose[1:], size)


def first_contact(motion: Motion, boxes: Boxes, disc: bool = True) -> int:
    """First interval in which the checker's sweeps overlap the boxes (-1: never); `disc` covers curved corners."""
    sweeps = motion.sweeps(V)
    gap = sweep_box_distance(sweeps, np.arange(len(sweeps)), boxes) + (0.0 if disc else sweeps.disc)
    hit = np.flatnonzero(gap < 0)
    return int(hit[0]) if len(hit) else -1


def compare(count: int, seed: int) -> int:
    """Print the comparison; how many contradictions there are."""
    motions, cases = random_cases(count, seed)
    boxes = [other_boxes(o, s[1]) for o, s in zip(cases["other"], cases["size"])]
    angle = [np.arctan2(b.axis[:, 1], b.axis[:, 0])[:, None] for b in boxes]
    cases["box"] = np.array([np.concatenate([b.center, a, b.half], 1) for b, a in zip(boxes, angle)])
    answer = ask("commonroad_side.py", cases)
    discrete, swept = answer["discrete"], answer["swept"]
    ours = np.array([first_contact(m, b) for m, b in zip(motions, boxes)])
    bare = np.array([first_contact(m, b, disc=False) for m, b in zip(motions, boxes)])
    # A contact at step n belongs to the intervals n - 1 and n.
    missed = (discrete >= 0) & ((ours < 0) | (ours > discrete))
    phantom = (ours >= 0) & ((swept < 0) | (ours < swept))
    only_disc = phantom & ~((bare >= 0) & ((swept < 0) | (bare < swept)))
    disc = max(float(m.sweeps(V).disc.max()) for m in motions)
    print(
        f"{count} trajectories: contact for commonroad at the steps {int((discrete >= 0).sum())}, for the checker "
        f"{int((ours >= 0).sum())}, for commonroad's boxes {int((swept >= 0).sum())}"
    )
    print(f"missed or found later than commonroad at the steps: {int(missed.sum())}")
    print(
        f"found where commonroad's boxes stay clear: {int(phantom.sum())}, of them by the disc for curved corners "
        f"alone {int(only_disc.sum())} (largest disc {disc:.3f} m)"
    )
    return int(missed.sum()) + int((phantom & ~only_disc).sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(1 if compare(arguments.cases, arguments.seed) else 0)

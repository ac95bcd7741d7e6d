"""Distances and overlaps of the checker's swept rectangles against shapely (GEOS).

python benchmarks/oracles/shapely_oracle.py --pairs 200000. Exit status 1 if any pair differs by more than 1e-8 m or in
its verdict.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import shapely

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from planner.checker.footprint import Boxes, boxes_from_poses, sweep, sweep_box_distance  # noqa: E402


def rectangles(rng: np.random.Generator, count: int, spread: float) -> Boxes:
    """Rectangles from a pedestrian's to an articulated bus's size; every tenth parallel to the axes."""
    pose = np.concatenate([rng.uniform(-spread, spread, (count, 2)), rng.uniform(-np.pi, np.pi, (count, 1))], 1)
    pose[::10, 2] = 0.0
    return boxes_from_poses(pose, rng.uniform(0.3, 18.0, count), rng.uniform(0.3, 3.0, count))


def compare(pairs: int, seed: int, chunk: int = 5000) -> int:
    """Print the comparison; how many pairs differ."""
    rng, wrong, largest, overlaps = np.random.default_rng(seed), 0, 0.0, 0
    for begin in range(0, pairs, chunk):
        count = min(chunk, pairs - begin)
        first, spread = rectangles(rng, count, 8.0), 14.0
        turn = rng.uniform(-0.6, 0.6, count) * (np.arange(count) % 10 > 0)
        angle = np.arctan2(first.axis[:, 1], first.axis[:, 0]) + turn
        shift = rng.uniform(-2.0, 2.0, (count, 2)) * (np.arange(count) % 10 > 0)[:, None]
        second = Boxes(first.center + shift, np.stack([np.cos(angle), np.sin(angle)], 1), first.half, first.disc)
        corners = np.stack([first.corners, second.corners], 1)
        each = [sweep(c, np.zeros(1)) for c in corners]
        sweeps = type(each[0])(*(np.concatenate([getattr(s, n) for s in each]) for n in each[0].__dict__))
        others = rectangles(rng, count, spread)
        mine = sweep_box_distance(sweeps, np.arange(count), others)
        hulls = shapely.convex_hull(shapely.multipoints(corners.reshape(count, 8, 2)))
        polygons = shapely.polygons(others.corners)
        truth = shapely.distance(hulls, polygons)
        apart = truth > 1e-9
        error = np.abs(np.maximum(mine, 0.0) - truth)
        deep = shapely.area(shapely.intersection(hulls, polygons)) > 1e-6
        wrong += int((error > 1e-8).sum()) + int((deep & (mine >= 0)).sum()) + int((apart & (mine < -1e-8)).sum())
        largest, overlaps = max(largest, float(error.max())), overlaps + int(deep.sum())
    print(f"{pairs} pairs, {overlaps} overlapping: {wrong} differ, largest difference {largest:.1e} m")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(1 if compare(arguments.pairs, arguments.seed) else 0)

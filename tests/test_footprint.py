"""Exact footprint geometry, with shapely as the witness."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from planner.checker.footprint import (
    Boxes,
    boxes_from_poses,
    settle,
    sweep,
    sweep_box_distance,
    sweep_box_separation,
    sweep_segment_distance,
    sweep_segment_separation,
)
from planner.checker.motion import Motion
from planner.fallback import advance
from planner.scene import VehicleParameters


def random_boxes(rng: np.random.Generator, count: int, spread: float) -> Boxes:
    pose = np.stack([rng.uniform(-spread, spread, count), rng.uniform(-spread, spread, count)], 1)
    pose = np.concatenate([pose, rng.uniform(-np.pi, np.pi, (count, 1))], 1)
    # A few exactly axis-aligned ones: degenerate directions must not confuse the axes.
    pose[:: max(count // 20, 1), 2] = 0.0
    return boxes_from_poses(pose, rng.uniform(0.3, 12, count), rng.uniform(0.3, 3, count))


def random_sweeps(rng: np.random.Generator, count: int, spread: float) -> tuple:
    """Sweeps of a rectangle moved and turned at random; a tenth of them does not move at all."""
    first = random_boxes(rng, count, spread)
    shift = rng.uniform(-2, 2, (count, 2)) * (np.arange(count) % 10 > 0)[:, None]
    turn = rng.uniform(-0.6, 0.6, count) * (np.arange(count) % 10 > 0)
    angle = np.arctan2(first.axis[:, 1], first.axis[:, 0]) + turn
    second = Boxes(first.center + shift, np.stack([np.cos(angle), np.sin(angle)], 1), first.half, first.disc)
    return first, second


def join(first: Boxes, second: Boxes) -> tuple:
    """One sweep per pair, and the same hulls as shapely polygons."""
    corners = np.stack([first.corners, second.corners], 1)
    sweeps = [sweep(c, np.zeros(1)) for c in corners]
    stacked = type(sweeps[0])(*(np.concatenate([getattr(s, n) for s in sweeps]) for n in sweeps[0].__dict__))
    hulls = shapely.convex_hull(shapely.multipoints(corners.reshape(len(corners), 8, 2)))
    return stacked, hulls


@pytest.mark.parametrize("spread", [3.0, 12.0])
def test_distance_to_boxes_agrees_with_shapely_on_many_pairs(rng: np.random.Generator, spread: float) -> None:
    count = 6000
    sweeps, hulls = join(*random_sweeps(rng, count, spread))
    boxes = random_boxes(rng, count, spread)
    distance = sweep_box_distance(sweeps, np.arange(count), boxes)
    separation = sweep_box_separation(sweeps, np.arange(count), boxes)
    polygons = shapely.polygons(boxes.corners)
    truth = shapely.distance(hulls, polygons)
    apart = truth > 0
    assert apart.sum() > 500
    assert (~apart).sum() > 500
    np.testing.assert_allclose(distance[apart], truth[apart], atol=1e-9)
    assert (distance[~apart] <= 1e-9).all()
    assert (separation <= distance + 1e-9).all(), "a separation is never more than the distance"
    deep = shapely.area(shapely.intersection(hulls, polygons)) > 1e-6
    assert (distance[deep] < 0).all()


def test_penetration_is_the_smallest_translation_that_separates(rng: np.random.Generator) -> None:
    count = 300
    sweeps, hulls = join(*random_sweeps(rng, count, 2.0))
    boxes = random_boxes(rng, count, 2.0)
    depth = -sweep_box_distance(sweeps, np.arange(count), boxes)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    for i in np.flatnonzero(depth > 0.05):
        # Independent: moving the box along n separates when its least projection passes the hull's largest.
        outer = np.asarray(hulls[i].exterior.coords)
        needed = (outer @ directions.T).max(0) - (boxes.corners[i] @ directions.T).min(0)
        assert depth[i] <= needed.min() + 1e-9
        assert depth[i] >= needed.min() - 0.02 * (1 + depth[i])


def test_distance_to_segments_agrees_with_shapely(rng: np.random.Generator) -> None:
    count = 5000
    sweeps, hulls = join(*random_sweeps(rng, count, 8.0))
    segment = rng.uniform(-10, 10, (count, 2, 2))
    distance = sweep_segment_distance(sweeps, np.arange(count), segment)
    truth = shapely.distance(hulls, shapely.linestrings(segment))
    apart = truth > 0
    np.testing.assert_allclose(distance[apart], truth[apart], atol=1e-9)
    assert (distance[~apart] <= 1e-9).all()
    assert (sweep_segment_separation(sweeps, np.arange(count), segment) <= distance + 1e-9).all()


def test_discs_widen_both_sides(rng: np.random.Generator) -> None:
    first, second = random_sweeps(rng, 50, 8.0)
    sweeps, _ = join(first, second)
    boxes = random_boxes(rng, 50, 8.0)
    bare = sweep_box_distance(sweeps, np.arange(50), boxes)
    wide = type(sweeps)(**{**sweeps.__dict__, "disc": np.full(50, 0.2)})
    np.testing.assert_allclose(
        sweep_box_distance(wide, np.arange(50), Boxes(boxes.center, boxes.axis, boxes.half, np.full(50, 0.3))),
        bare - 0.5, atol=1e-12,
    )  # fmt: skip


def test_swept_footprint_contains_every_corner_in_between(rng: np.random.Generator) -> None:
    """The hull plus its bulge disc covers the true motion, at the vehicle's sharpest turns."""
    vehicle = VehicleParameters()
    for _ in range(300):
        v = rng.uniform(0, 15)
        k = rng.uniform(-1, 1) * min(vehicle.curvature_max, 5.0 / max(v, 0.1) ** 2)
        a, rate = rng.uniform(-8, 3), rng.uniform(-0.25, 0.25)
        end = min(0.1, v / 8.0) if a < 0 else 0.1
        if end < 0.01:
            continue
        poses = np.array([advance(0, 0, 0.3, v, a, 0.0, k, rate, t) for t in np.linspace(0, end, 9)])
        two = Motion(
            np.array([0, end]),
            poses[[0, -1]],
            np.array([v, v + a * end]),
            np.array([a, a]),
            np.array([k, k + rate * end]),
        )
        sweeps = two.sweeps(vehicle)
        corners = boxes_from_poses(poses, vehicle.length, vehicle.width, vehicle.rear_axle_to_center).corners
        hull = shapely.multipoints(sweeps.points[0]).convex_hull
        outside = shapely.distance(hull, shapely.points(corners.reshape(-1, 2))).max()
        assert outside <= sweeps.disc[0] + 1e-9
        assert sweeps.disc[0] < 0.1, "the bulge must stay small enough not to matter"


def test_settle_finds_the_true_minimum() -> None:
    exact = np.array([2.0, 0.9, 1.5, -0.3])
    lower = np.array([0.5, 0.8, 0.7, -0.3])
    assert settle(lower[:3].copy(), 0.0, lambda p: exact[:3][p]).min() == 0.9
    np.testing.assert_allclose(settle(lower.copy(), 1.0, lambda p: exact[p]), exact)
    assert len(settle(np.zeros(0), 0.0, lambda p: exact[p])) == 0

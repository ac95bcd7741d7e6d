"""What the checker leaves out because it is far away is far away: every short cut against looking at everything."""

from __future__ import annotations

import numpy as np
import pytest
from checker_probe import nearest_lanes

from planner.checker import Assumptions, CheckerConfig
from planner.checker.footprint import Boxes, Sweeps, boxes_from_poses
from planner.checker.forecast import Forecasts, swept_boxes
from planner.checker.lanes import LaneGraph
from planner.checker.motion import Motion
from planner.checker.objects import Objects
from planner.checker.occupancy import Occupancy
from planner.checker.route_frame import RouteFrame
from planner.checker.sight import SECTORS, _ray_ranges
from planner.scene import AgentClass, VehicleParameters

C, V = CheckerConfig(), VehicleParameters()
LOOK = 2.0


def random_objects(rng: np.random.Generator, count: int) -> Objects:
    """All classes, standing and moving, some turning, within 60 m."""
    yaw = rng.uniform(-np.pi, np.pi, count)
    speed = rng.uniform(0.0, 14.0, count) * (rng.random(count) < 0.7)
    return Objects(
        np.column_stack([rng.uniform(-60, 60, (count, 2)), yaw]),
        rng.uniform([0.5, 0.5], [12.0, 2.6], (count, 2)),
        speed[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)]),
        rng.choice([int(c) for c in AgentClass], count), np.arange(count), rng.uniform(-0.6, 0.6, count),
    )  # fmt: skip


def random_motion(rng: np.random.Generator, steps: int) -> Motion:
    """From near the origin, at a curvature, slower and slower."""
    time = 0.1 * np.arange(steps + 1)
    v = np.maximum(rng.uniform(3, 14) - rng.uniform(0, 3) * time, 0.0)
    k, heading = rng.uniform(-0.1, 0.1), rng.uniform(-np.pi, np.pi)
    s = np.concatenate([[0.0], np.cumsum(0.05 * (v[1:] + v[:-1]))])
    yaw = heading + k * s
    xy = np.cumsum(
        np.concatenate([[[0.0, 0.0]], np.diff(s)[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])[1:]]), 0
    )
    return Motion(time, np.column_stack([xy, yaw]), v, np.zeros(steps + 1), np.full(steps + 1, k))


def looked_at(k: np.ndarray, boxes: Boxes, who: np.ndarray) -> list[tuple]:
    """Comparable, without order."""
    return sorted(
        (int(a), int(o), *np.round([*c, *x, *h, d], 7))
        for a, o, c, x, h, d in zip(k, who, boxes.center, boxes.axis, boxes.half, boxes.disc)
    )


def everything(sweeps: Sweeps, rows: np.ndarray, boxes: Boxes, who: np.ndarray, wanted: np.ndarray) -> list[tuple]:
    """Of all boxes ``[K, N]`` those whose circle is near the sweep of their interval, one by one."""
    k, n = (f.ravel() for f in np.meshgrid(rows, np.flatnonzero(wanted), indexing="ij"))
    some = boxes.take((k, n))
    apart = np.linalg.norm(some.center - sweeps.center[k], axis=-1)
    near = apart < np.hypot(some.half[:, 0], some.half[:, 1]) + some.disc + sweeps.reach[k] + LOOK
    return looked_at(k[near], some.take(near), who[n[near]])


@pytest.mark.parametrize("widening", [1.0, 2.5])
def test_sets_are_built_wherever_a_plan_is_near_them(rng: np.random.Generator, widening: float) -> None:
    found = 0
    lane = np.column_stack([np.linspace(-80, 80, 60), 8 * np.sin(np.linspace(-3, 3, 60))])
    for _ in range(25):
        objects, motion = random_objects(rng, 25), random_motion(rng, int(rng.integers(1, 60)))
        graph = LaneGraph.from_lists([lane, lane[::-1] + np.array([0.0, 3.5])], 1.0)
        occupancy = Occupancy(objects, Assumptions(), graph, C.step, 80.0, widening=widening)
        sweeps, rows = motion.sweeps(V), motion.moving(C.rest_speed)
        wanted = rng.random(25) < 0.9
        k, boxes, owner = occupancy.near(sweeps, rows, wanted, LOOK)
        full = occupancy.boxes(len(sweeps))
        expected = everything(sweeps, rows, full, occupancy.owner, wanted[occupancy.owner])
        assert looked_at(k, boxes, owner) == expected
        found += len(expected)
    assert found > 500


def test_forecasts_are_swept_wherever_a_plan_is_near_them(rng: np.random.Generator) -> None:
    found = 0
    for _ in range(25):
        motion, modes = random_motion(rng, int(rng.integers(1, 31))), 40
        turn, start = rng.uniform(-1.5, 1.5, modes), rng.uniform(-40, 40, (modes, 2))
        time = 0.1 * np.arange(31)
        heading = rng.uniform(-np.pi, np.pi, modes)[:, None] + turn[:, None] * time
        step = np.stack([np.cos(heading), np.sin(heading)], -1) * rng.uniform(0, 2.5, modes)[:, None, None]
        pose = np.concatenate([start[:, None] + np.cumsum(step, 1), heading[..., None]], -1)
        said = Forecasts(
            pose, rng.random((modes, 30)) < 0.9, rng.uniform([0.5, 0.5], [12.0, 2.6], (modes, 2)),
            rng.integers(0, 9, modes), np.ones(modes),
        )  # fmt: skip
        wanted, sweeps = rng.random(9) < 0.9, motion.sweeps(V)
        rows = motion.moving(C.rest_speed)
        k, boxes, mode = said.near(sweeps, rows, wanted, LOOK)
        at = np.moveaxis(pose, 0, 1)
        full = swept_boxes(at[:-1], at[1:], np.broadcast_to(said.size, (30, modes, 2)))
        away = Boxes(np.where(said.known.T[..., None], full.center, 1e6), full.axis, full.half, full.disc)
        expected = everything(sweeps, rows, away, np.arange(modes), wanted[said.owner])
        assert looked_at(k, boxes, mode) == expected
        found += len(expected)
    assert found > 300


def test_forecasts_of_what_is_small_and_fast_are_swept_wherever_a_plan_is_near_them(rng: np.random.Generator) -> None:
    """Faster than it is long: where it gets to counts for how far it reaches, not its size. Along both axes, through
    the origin, with headings of any size."""
    found = 0
    for _ in range(12):
        motion, modes = random_motion(rng, 30), 400
        time, across = 0.1 * np.arange(31), rng.integers(0, 2, modes)
        speed, start = rng.uniform(8.0, 40.0, modes), rng.uniform(-30.0, 30.0, (2, modes))
        pose = np.empty((modes, 31, 3))
        for axis in (0, 1):
            moves = np.where(across == axis, speed, 0.0)[:, None]
            pose[..., axis] = start[axis][:, None] + moves * (time - 1.5)
        pose[..., 2] = rng.uniform(-np.pi, np.pi, modes)[:, None]
        size = np.full((modes, 2), 0.3)
        said = Forecasts(pose, np.ones((modes, 30), bool), size, np.arange(modes), np.ones(modes))
        sweeps, rows = motion.sweeps(V), motion.moving(C.rest_speed)
        k, boxes, mode = said.near(sweeps, rows, np.ones(modes, bool), LOOK)
        at = np.moveaxis(pose, 0, 1)
        full = swept_boxes(at[:-1], at[1:], np.broadcast_to(size, (30, modes, 2)))
        expected = everything(sweeps, rows, full, np.arange(modes), np.ones(modes, bool))
        assert looked_at(k, boxes, mode) == expected
        found += len(expected)
    assert found > 500


def test_corners_find_their_segment_as_if_all_were_looked_at(rng: np.random.Generator) -> None:
    for _ in range(40):
        heading = np.cumsum(rng.uniform(-0.3, 0.3, 120))
        xy = np.cumsum(rng.uniform(0.2, 3.0, 120)[:, None] * np.column_stack([np.cos(heading), np.sin(heading)]), 0)
        frame = RouteFrame.of(xy - xy[40], np.zeros(6))
        pose = np.column_stack([rng.uniform(-120, 120, (30, 2)), rng.uniform(-np.pi, np.pi, 30)])
        boxes = boxes_from_poses(pose, rng.uniform(0.5, 15, 30), rng.uniform(0.5, 3, 30))
        middle, corners = frame.project_boxes(boxes.center, boxes.corners)
        for found, points in ((middle, boxes.center), (corners, boxes.corners)):
            # Each point alone has no spread: only what ties with its nearest segment is left out of nothing.
            alone = [frame.project(p) for p in points.reshape(-1, 2)]
            for name in ("station", "offset", "heading"):
                np.testing.assert_allclose(getattr(found, name).ravel(), [float(getattr(a, name)) for a in alone])


def test_rays_of_all_sectors_are_cast_that_can_meet_a_rectangle(rng: np.random.Generator) -> None:
    shapely = pytest.importorskip("shapely")
    ego = np.array([3.0, -2.0, 0.7])
    pose = np.column_stack([rng.uniform(-25, 25, (60, 2)), rng.uniform(-np.pi, np.pi, 60)])
    size = rng.uniform([0.5, 0.5], [10.0, 3.0], (60, 2))
    found = _ray_ranges(ego, pose, size)
    angle = ego[2] + 2 * np.pi * np.arange(SECTORS) / SECTORS
    ends = ego[:2] + 100 * np.column_stack([np.cos(angle), np.sin(angle)])
    rays = shapely.linestrings(np.stack([np.broadcast_to(ego[:2], ends.shape), ends], 1))
    for i, polygon in enumerate(shapely.polygons(boxes_from_poses(pose, size[:, 0], size[:, 1]).corners)):
        if polygon.distance(shapely.Point(ego[:2])) < 1e-6:
            continue  # begins inside
        chord = shapely.length(shapely.intersection(rays, polygon))
        near = shapely.distance(shapely.intersection(rays, polygon), shapely.Point(ego[:2]))
        assert np.isfinite(found[i][chord > 1e-6]).all()
        np.testing.assert_allclose(found[i][chord > 1e-6], near[chord > 1e-6], atol=1e-9)
        assert np.isinf(found[i][shapely.distance(rays, polygon) > 1e-9]).all()


def test_a_lane_is_found_beside_the_middle_of_a_long_piece_of_it() -> None:
    graph = LaneGraph.from_lists([np.array([[0.0, 0.0], [90.0, 0.0]])], 1.0)
    for x in (5.0, 20.0, 45.0, 85.0):
        assert nearest_lanes(graph, np.array([x, 0.5]), 0.1, 1.75, 0.35) == [(0, pytest.approx(x), pytest.approx(0.5))]

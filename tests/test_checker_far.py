"""What is far away is left out: a cycle has to be over in milliseconds however much a scene holds.

That what is left out is far away: `test_checker_near`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from checker_probe import lines
from checker_scenes import F64, agent, drive, make_scene
from test_checker_near import LOOK, C, V, random_motion, random_objects

from planner.checker import Assumptions, edges, forecast, occupancy, prepare
from planner.checker.edges import Segments
from planner.checker.footprint import boxes_from_poses
from planner.checker.forecast import Forecasts
from planner.checker.lanes import LaneGraph
from planner.checker.motion import Motion
from planner.checker.occupancy import Occupancy
from planner.checker.route_frame import RouteFrame
from planner.checker.rules import rest, road
from planner.checker.sight import SECTORS, _sectors
from planner.scene import PolylineType


class Spy:
    """Stands in for a function and remembers what it was called with."""

    def __init__(self, patch: pytest.MonkeyPatch, where: object, name: str) -> None:
        self.calls: list[tuple] = []
        whole = getattr(where, name)

        def told(*args: object) -> object:
            self.calls.append(args)
            return whole(*args)

        patch.setattr(where, name, told)


PLACES = [(0.0, 0.0), (70.0, -30.0), (-20.0, 90.0)]


@pytest.mark.parametrize("place", PLACES)
def test_only_sets_and_forecasts_that_may_be_near_are_built(rng, monkeypatch, place: tuple[float, float]) -> None:
    """Within a second nobody gets 25 m from where it is, nor is anything here larger."""
    spies = [Spy(monkeypatch, module, "within") for module in (occupancy, forecast)]
    shift, built = np.array([*place, 0.0]), 0
    for _ in range(8):
        objects, motion = random_objects(rng, 60), random_motion(rng, 10)
        objects = replace(objects, pose=objects.pose + shift)
        sweeps, rows = replace(motion, pose=motion.pose + shift).sweeps(V), motion.moving(C.rest_speed)
        wanted = np.ones(60, bool)
        Occupancy(objects, Assumptions(), LaneGraph.from_lists([], 1.0), C.step, 80.0).near(sweeps, rows, wanted, LOOK)
        pose = np.repeat(objects.pose[:, None], 11, 1)
        pose[..., :2] += objects.velocity[:, None] * 0.1 * np.arange(11)[:, None]
        said = Forecasts(pose, np.ones((60, 10), bool), objects.size, np.arange(60), np.ones(60))
        said.near(sweeps, rows, wanted, LOOK)
    for spy in spies:
        for swept, k, boxes, *_ in spy.calls:
            apart = np.hypot(*(boxes.center - swept.center[k]).T)
            assert apart.max(initial=0.0) < boxes.reach.max(initial=0.0) + swept.reach.max() + LOOK + 25.0
            built += len(k)
    assert built > 100


def test_edges_far_from_a_plan_are_left_out(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    middle, half = rng.uniform(-80, 80, (500, 2)), rng.uniform(0.1, 6.0, (500, 1))
    middle[:9] = rng.uniform(-4, 4, (9, 2))
    angle = rng.uniform(-np.pi, np.pi, 500)
    step = half * np.column_stack([np.cos(angle), np.sin(angle)])
    some = lines(np.stack([middle - step, middle + step], 1))
    low, high = np.array([-12.0, -8.0]), np.array([25.0, 9.0])
    found = np.isin(np.arange(500), some.around(low, high))
    meets = shapely.intersects(shapely.linestrings(some.ends), shapely.box(*low, *high))
    beyond = np.maximum(low - middle, middle - high).max(1)
    assert (found | ~meets).all()
    assert not (found & (beyond > half[:, 0])).any()
    assert meets.sum() > 10

    for place in PLACES:
        plan = Motion.of(drive(8.0, 3.0))
        motion = replace(plan, pose=plan.pose + np.array([*place, 0.0]))
        there = Segments.of(some.ends + place)
        with monkeypatch.context() as patch:
            spy = Spy(patch, road, "sweep_segment_separation")
            road._segment_margin(there, motion.sweeps(V), np.arange(30), motion)
            (swept, k, piece), *_ = spy.calls
        apart = np.hypot(*(piece.mean(1) - swept.center[k]).T)
        assert (apart < swept.reach[k] + 0.5 * np.hypot(*np.diff(piece, axis=1)[:, 0].T) + 1.0 + 1e-9).all()
        with monkeypatch.context() as patch:
            spy = Spy(patch, edges, "sweep_segment_separation")
            there.under(motion.sweeps(V).part(slice(1)))
            ((swept, k, piece),) = spy.calls
        assert 0 < len(k) < 100
        apart = np.hypot(*(piece.mean(1) - swept.center[0]).T)
        assert (apart < swept.reach[0] + 0.5 * np.hypot(*np.diff(piece, axis=1)[:, 0].T) + 1e-9).all()


@pytest.mark.parametrize("place", [*PLACES, (-70.0, -70.0)])
@pytest.mark.parametrize("side", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_an_edge_is_measured_up_to_a_metre_on_every_side(place: tuple[float, float], side: tuple[int, int]) -> None:
    """Of a vehicle that stands still; a piece of edge across that side, 0.98 or 1.02 m away."""
    still = Motion.of(drive(0.0, 3.0))
    box = np.array([[x, y] for x in (V.front, V.front - V.length) for y in (V.width / 2, -V.width / 2)])
    way, across = np.array(side, dtype=float), np.array(side[::-1], dtype=float)
    motion = replace(still, pose=still.pose + np.array([*place, 0.0]))
    for gap, found in ((0.98, True), (1.02, False)):
        foot = way * ((box @ way).max() + gap) + np.array(place)
        edge = Segments.of(np.stack([foot - 0.1 * across, foot + 0.1 * across])[None])
        margin, _ = road._segment_margin(edge, motion.sweeps(V), np.arange(5), motion)
        assert margin == pytest.approx(gap) if found else margin >= 1.0


@pytest.mark.parametrize("place", PLACES)
def test_of_a_long_route_only_what_is_near_is_measured(monkeypatch: pytest.MonkeyPatch, place) -> None:
    s = np.linspace(-500.0, 500.0, 1001)
    frame = RouteFrame.of(np.column_stack([s, 3 * np.sin(s / 40)]) + place, np.zeros(6))
    points = np.column_stack([np.linspace(5.0, 9.0, 9), np.full(9, 4.0)]) + place
    spy = Spy(monkeypatch, RouteFrame, "_feet")
    frame.project(points)
    assert 0 < len(spy.calls[-1][2]) < 60
    boxes = boxes_from_poses(np.column_stack([points, np.full(9, 0.4)]), 4.5, 1.9)
    frame.project_boxes(boxes.center, boxes.corners)
    assert 9 <= len(spy.calls[-1][2]) < 9 * 60


def test_no_more_sectors_are_looked_at_than_the_circle_around_a_rectangle_fills(rng: np.random.Generator) -> None:
    ego = np.array([3.0, -2.0, 0.7])
    bearing, distance = rng.uniform(-np.pi, np.pi, 200), rng.uniform(8.0, 90.0, 200)
    pose = np.column_stack([ego[:2] + distance[:, None] * np.column_stack([np.cos(bearing), np.sin(bearing)]),
                            rng.uniform(-np.pi, np.pi, 200)])  # fmt: skip
    size = rng.uniform([0.5, 0.5], [12.0, 3.0], (200, 2))
    i, k = _sectors(ego, pose, size)
    fills = np.degrees(2 * np.arcsin(0.5 * np.hypot(size[:, 0], size[:, 1]) / distance)) * SECTORS / 360
    looked = np.bincount(i, minlength=200)
    assert (looked >= fills - 1).all()
    assert (looked <= fills + 3).all()
    off = np.abs((k * 360 / SECTORS - np.degrees(bearing[i] - ego[2]) + 180) % 360 - 180)
    assert (off <= fills[i] / 2 + 1).all()


def test_ways_that_lead_nowhere_near_a_resting_place_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    across = tuple(agent(x, y, np.pi / 2, 2.0, track_id=i) for i, (x, y) in enumerate(
        [(40.0 * a, 45.0 * b) for a in (-1, 1, 2) for b in (-2, -1, 1)] + [(20.0, -9.0)]))  # fmt: skip
    tail = Motion.of(drive(8.0, 5.0, a=-2.0))
    for place in PLACES:
        scene = make_scene(8.0, across, half_width=90.0, right_edge=90.0, boundary=False)
        scene = scene.transformed(torch.tensor([*place, 0.0], dtype=F64))
        spy = Spy(monkeypatch, rest, "_distance")
        rest.resting_place(prepare(scene, V, C), replace(tail, pose=tail.pose + np.array([*place, 0.0])), V, C)
        assert len(spy.calls) <= 3, "once for the one who comes near, once for ego's place now, once for lanes"


@pytest.mark.parametrize(("x", "y", "near"), [
    (8.0, 0.0, True), (40.0, 0.0, False), (-25.0, 0.0, False), (8.0, 30.0, False), (8.0, -30.0, False)
])  # fmt: skip
def test_crosswalks_far_from_a_resting_place_are_not_measured(monkeypatch, x: float, y: float, near: bool) -> None:
    corners = torch.tensor([[x - 2, y - 4], [x + 2, y - 4], [x + 2, y + 4], [x - 2, y + 4]], dtype=F64)
    scene = make_scene(8.0, lines=((corners, PolylineType.CROSSING),), half_width=90.0, right_edge=90.0)
    spy = Spy(monkeypatch, rest, "_on")
    rest.resting_place(prepare(scene, V, C), Motion.of(drive(8.0, 5.0, a=-8.0)), V, C)
    assert bool(spy.calls) is near

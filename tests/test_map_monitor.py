"""The map's monitor: how far its lines may move, how long they may be gone, and what it does not cry about."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
import torch
from planner_scenes import F64, make_scene

from eval.config import DriverConfig
from eval.metrics.drivable_area import TOLERANCE, corner_excess
from eval.metrics.drive import Drive
from eval.pipeline import DualDrive
from eval.simulation.generate import generate
from eval.simulation.rollout import rollout
from eval.simulation.simulation_config import SimulationConfig
from eval.studies.fault_base import Fault
from eval.studies.fault_models import make_injection
from planner.monitors import MapMonitor, MonitorLevel, MonitorVerdict
from planner.monitors.map_place import MapConfig, _distance
from planner.scene import MapPolylines, PolylineType, VectorScene, frames

OK, DEGRADED, MINIMAL_RISK = MonitorLevel.OK, MonitorLevel.DEGRADED, MonitorLevel.MINIMAL_RISK
EDGES, LANES = PolylineType.BOUNDARY, PolylineType.CENTERLINE


def seen_from(pose: tuple[float, float, float], world: VectorScene | None = None) -> VectorScene:
    """A straight road (or another world) as it looks to ego at a global pose."""
    here = torch.tensor(pose, dtype=F64)
    scene = (world or make_scene(bend=0.01)).transformed(frames.inverse(here))
    return scene.replace(global_from_ego=here, ego=make_scene().ego).validate()


def shifted(scene: VectorScene, by: tuple[float, float]) -> VectorScene:
    return scene.replace(map=scene.map.replace(xy=scene.map.xy + torch.tensor(by, dtype=F64)))


def without(scene: VectorScene, kind: PolylineType) -> VectorScene:
    kept = scene.map.kind != int(kind)
    m = scene.map
    return scene.replace(map=MapPolylines(m.xy[kept], m.kind[kept], m.confidence[kept], m.closed[kept], m.valid[kept]))


def say(monitor: MapMonitor, scene: VectorScene, cycle: int) -> MonitorVerdict:
    return monitor.update(scene, scene.global_from_ego.numpy(), cycle * 100_000)


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_a_map_that_stays_is_silent_however_ego_moves(turn: float) -> None:
    monitor = MapMonitor()
    for k in range(60):
        said = say(monitor, seen_from((1.2 * k, 0.3 * math.sin(k), turn * math.sin(k / 5))), k)
        assert said.level is OK
        assert said.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("by", "at_once", "later"), [(0.38, OK, OK), (0.42, DEGRADED, DEGRADED), (0.98, DEGRADED, DEGRADED),
                                 (1.02, DEGRADED, MINIMAL_RISK), (5.0, DEGRADED, MINIMAL_RISK)],
)  # fmt: skip
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_how_far_the_lines_may_move(by: float, side: float, at_once: MonitorLevel, later: MonitorLevel) -> None:
    """A straight road, both edges moved to one side. What has moved far and lasts is not trusted any more."""
    monitor, world = MapMonitor(), make_scene(left=8.0, right=8.0)
    for k in range(5):
        assert say(monitor, seen_from((0.5 * k, 0.0, 0.0), world), k).level is OK
    for k in range(5, 15):
        said = say(monitor, shifted(seen_from((0.5 * k, 0.0, 0.0), world), (0.0, side * by)), k)
        assert said.level is (at_once if k <= 10 else later)
        assert said.value == pytest.approx(by, abs=1e-6)
        assert ("edges" in said.reason) is (said.level is not OK)
    assert say(monitor, seen_from((7.5, 0.0, 0.0), world), 15).level is OK, "back where it was"


def test_edges_that_are_gone_are_missed_at_once_and_not_trusted_after_half_a_second() -> None:
    monitor = MapMonitor()
    levels = []
    for k in range(10):
        scene = seen_from((0.8 * k, 0.0, 0.0))
        said = say(monitor, without(scene, EDGES) if k >= 2 else scene, k)
        levels.append(said.level)
    assert levels == [OK, OK, *[DEGRADED] * 6, *[MINIMAL_RISK] * 2]
    assert said.value == math.inf
    assert "gone" in said.reason


def test_a_cycle_without_edges_is_only_said() -> None:
    monitor, levels = MapMonitor(), []
    for k in range(20):
        scene = seen_from((0.8 * k, 0.0, 0.0))
        levels.append(say(monitor, without(scene, EDGES) if k % 4 == 3 else scene, k).level)
    assert levels == [DEGRADED if k % 4 == 3 else OK for k in range(20)]


def test_a_wrong_map_does_not_become_the_right_one_by_lasting() -> None:
    """Compared is with the map before the shift, until ego has left its surroundings."""
    monitor = MapMonitor()
    for k in range(30):
        scene = seen_from((0.5 * k, 0.0, 0.0), make_scene(left=8.0, right=8.0))
        said = say(monitor, scene if k < 3 else shifted(scene, (0.0, 2.0)), k)
    assert said.level is MINIMAL_RISK


def test_every_kind_is_looked_for_by_itself() -> None:
    """The edges stay, the lanes move by less than the lanes lie apart."""
    s = torch.arange(-25.0, 150.0, 1.0, dtype=F64)
    lane = lambda y: torch.stack([s, torch.full_like(s, y)], -1)  # noqa: E731
    world = make_scene(left=8.0, right=8.0)
    edges = [(lane(-8.0), EDGES), (lane(8.0).flip(0), EDGES)]
    monitor = MapMonitor()
    for k, off in enumerate((0.0, 0.0, 0.7)):
        lanes = [(lane(y + off), LANES) for y in (-3.5, 0.0, 3.5)]
        said = say(monitor, world.replace(map=MapPolylines.from_lists([*edges, *lanes])), k)
    assert said.level is DEGRADED
    assert said.value == pytest.approx(0.7)
    assert "lanes" in said.reason


def test_a_closed_line_ends_where_it_begins() -> None:
    """A square island of which the map gives one corner each, with another corner first in every cycle."""
    ring = torch.tensor([[3.0, -8.0], [19.0, -8.0], [19.0, 8.0], [3.0, 8.0]], dtype=F64)
    monitor, world = MapMonitor(MapConfig(reach=60.0)), make_scene()
    for k in range(4):
        one = MapPolylines.from_lists([(ring.roll(k, 0), EDGES)])
        said = say(monitor, world.replace(map=one.replace(closed=torch.ones(1, dtype=torch.bool))), k)
        assert said.level is OK
        assert said.value == pytest.approx(0.0, abs=1e-9)


def test_few_points_say_nothing() -> None:
    """Less than six points of a kind within reach: a piece of a kerb is not missed."""
    monitor, world = MapMonitor(), make_scene()
    short = torch.tensor([[3.0, 4.0], [12.0, 4.0]], dtype=F64)
    nothing = MapPolylines.from_lists([(torch.tensor([[90.0, 0.0], [95.0, 0.0]], dtype=F64), EDGES)])
    say(monitor, world.replace(map=MapPolylines.from_lists([(short, EDGES)])), 0)
    assert say(monitor, world.replace(map=nothing), 1).level is OK
    longer = MapMonitor()
    say(longer, world.replace(map=MapPolylines.from_lists([(short * torch.tensor([1.4, 1.0]), EDGES)])), 0)
    assert say(longer, world.replace(map=nothing), 1).level is DEGRADED


def test_distances_are_those_of_another_library(rng: np.random.Generator) -> None:
    points, pieces = rng.uniform(-20, 20, (200, 2)), rng.uniform(-20, 20, (30, 2, 2))
    pieces[:3, 1] = pieces[:3, 0] + 1e-7  # of next to no length
    there = shapely.union_all(shapely.linestrings(pieces))
    np.testing.assert_allclose(_distance(points, pieces), shapely.distance(shapely.points(points), there), atol=1e-9)
    assert (_distance(points, pieces[:0]) == np.inf).all()


@pytest.mark.parametrize(
    ("kind", "size", "what"), [("map_shift", 2.0, "the map's"), ("no_boundary", 8.0, "edges are gone")]
)
def test_in_a_drive_it_is_found_at_once_and_ego_comes_to_rest_on_the_road(kind: str, size: float, what: str) -> None:
    recording, fault = generate("crossing_pedestrian", 0), make_injection((Fault(kind, 2.0, size),))
    driver = DualDrive(config=DriverConfig(), injection=fault)
    trace = rollout(recording, driver, "log_replay", SimulationConfig(duration=7.5), injection=fault)
    states = [str(step["state"]) for step in trace.steps]
    first = int(np.flatnonzero(trace.time >= 2.0 - 1e-9)[0])
    assert set(states[:first]) == {"NORMAL"}
    assert states[first] != "NORMAL"
    assert any(what in str(reason) for reason in trace.reason[first : first + 2])
    held = [state in ("MINIMAL_RISK", "EMERGENCY") for state in states[first + 7 :]]
    assert all(held)
    assert trace.v[-1] < 0.05
    assert corner_excess(Drive(trace, recording)).max() < TOLERANCE

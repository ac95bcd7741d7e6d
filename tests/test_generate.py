"""Generated scenes: a sound map, a clean reference drive, honest avoidability, the same every time."""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
import shapely

from eval.simulation.generate import FAMILIES, generate
from eval.simulation.generate.avoidable import (
    BRAKING,
    CLEARANCE,
    REACTION,
    behind_leader,
    braked_travel,
    required_deceleration,
    sight_limited_speed,
    stop_before,
    stopping_distance,
)
from eval.simulation.generate.boxes import corners, rear_axle_to_center
from eval.simulation.generate.curves import Path
from eval.simulation.generate.visibility import line_of_sight
from perception.recording import Recording
from planner.scene import AgentClass

SEEDS = range(20)


@functools.cache
def scene(family: str, seed: int) -> Recording:
    """Each scene is made once for all tests."""
    return generate(family, seed)


def test_ten_families_and_an_unknown_one_names_the_nearest() -> None:
    assert len(FAMILIES) == 10
    with pytest.raises(ValueError, match="nearest valid name is 'roundabout'"):
        generate("roundabuot", 0)
    with pytest.raises(ValueError, match="seed"):
        generate("merge", -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_reference_driver_touches_nobody_and_stays_on_the_road(family: str) -> None:
    for seed in SEEDS:
        recording = scene(family, seed)
        center = rear_axle_to_center(recording.ego.pose, 1.4)
        ego = shapely.polygons(corners(center, 4.084, 1.85))
        assert shapely.covers(recording.road.prepared_drivable, ego).all(), (family, seed)
        agents = recording.agents
        for i in range(len(agents)):
            k = np.flatnonzero(agents.valid[i])
            box = shapely.polygons(corners(agents.pose[i, k], *agents.size[i]))
            assert not shapely.intersects(ego[k], box).any(), (family, seed, agents.id[i])


@pytest.mark.parametrize("family", FAMILIES)
def test_reference_drive_is_smooth_and_possible(family: str) -> None:
    for seed in SEEDS:
        recording = scene(family, seed)
        ego, vehicle = recording.ego, recording.vehicle
        assert 12.0 <= recording.time[-1] <= 20.05
        np.testing.assert_allclose(np.diff(recording.time), 0.1)
        moved = np.hypot(*np.diff(ego.pose[:, :2], axis=0).T)
        # Positions follow from speeds: half a step of acceleration and the bow of a curve are all that differs.
        np.testing.assert_allclose(moved / 0.1, 0.5 * (ego.v[1:] + ego.v[:-1]), atol=0.03)
        assert np.abs(np.diff(ego.a[:-1])).max() / 0.1 <= vehicle.jerk_max
        assert ego.a.min() >= -vehicle.braking_max
        assert np.abs(ego.curvature).max() <= vehicle.curvature_max
        assert np.abs(np.diff(ego.curvature)).max() / 0.1 <= vehicle.curvature_rate_max, (family, seed)
        assert (ego.v**2 * np.abs(ego.curvature)).max() <= 3.0
        assert moved.sum() > 35.0, (family, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_map_is_a_connected_graph_with_drivable_connectors(family: str) -> None:
    for seed in list(SEEDS)[:6]:
        recording = scene(family, seed)
        lanes = recording.road.lanes
        for lane in lanes.values():
            assert lane.polygon.is_valid
            assert 7.0 <= lane.speed_limit <= 14.0
            spacing = np.hypot(*np.diff(lane.centerline, axis=0).T)
            assert spacing.min() > 0.5
            assert spacing.max() < 1.5
            assert recording.road.drivable.buffer(0.05).covers(shapely.LineString(lane.centerline))
            for other in lane.successors:
                assert lane.id in lanes[other].predecessors
                np.testing.assert_allclose(lanes[other].centerline[0], lane.centerline[-1], atol=0.02)
            for neighbour, back in ((lane.left, "right"), (lane.right, "left")):
                assert neighbour is None or getattr(lanes[neighbour], back) == lane.id
            if lane.connector:
                assert np.abs(Path(lane.centerline).curvature).max() <= 1 / 6.0, (family, seed, lane.id)
        for a, b in zip(recording.route, recording.route[1:]):
            assert b in lanes[a].successors
        route = Path(recording.route_xy)
        start, end = route.project(recording.ego.pose[[0, -1], :2])[0]
        assert start >= 20.0
        assert route.length - end >= 200.0


@pytest.mark.parametrize("family", FAMILIES)
def test_metadata_names_the_hazard_and_most_scenes_are_avoidable(family: str) -> None:
    avoidable = []
    for seed in SEEDS:
        data = scene(family, seed).metadata
        assert (data["family"], data["seed"], data["occlusion"]) == (family, seed, True)
        assert data["hazard"]["track_id"] in scene(family, seed).agents.track_id
        assert 0.0 <= data["hazard"]["time"] <= scene(family, seed).time[-1]
        assert all(isinstance(value, float) for value in data["parameters"].values())
        assert data["argument"]
        avoidable.append(data["avoidable"])
    assert np.mean(avoidable) >= 0.85


def test_scenes_have_many_kinds_of_road_users() -> None:
    seen: set[int] = set()
    for family in FAMILIES:
        for seed in list(SEEDS)[:6]:
            agents = scene(family, seed).agents
            seen |= set(agents.agent_class.tolist())
            assert len(agents) >= 4
    assert {AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS, AgentClass.BICYCLE, AgentClass.PEDESTRIAN} <= seen


def test_agents_do_not_run_through_each_other() -> None:
    for family in FAMILIES:
        agents = scene(family, 3).agents
        for k in range(0, agents.pose.shape[1], 5):
            here = np.flatnonzero(agents.valid[:, k])
            boxes = shapely.polygons(corners(agents.pose[here, k], agents.size[here, 0], agents.size[here, 1]))
            first, second = shapely.STRtree(boxes).query(boxes, predicate="intersects")
            assert (first == second).all(), (family, k)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_arrays_other_seed_other_arrays(family: str) -> None:
    first, again, other = scene(family, 1), generate(family, 1), scene(family, 2)
    for a, b in ((first.ego.pose, again.ego.pose), (first.ego.a, again.ego.a), (first.agents.pose, again.agents.pose)):
        assert a.tobytes() == b.tobytes()
    assert first.route_xy.tobytes() == again.route_xy.tobytes()
    assert first.road.drivable.wkb == again.road.drivable.wkb
    assert first.ego.pose.shape != other.ego.pose.shape or not np.allclose(first.ego.pose, other.ego.pose)


def test_generation_is_quick() -> None:
    start = time.process_time()
    for family in FAMILIES:
        generate(family, 100)
    assert (time.process_time() - start) / len(FAMILIES) <= 1.5


def test_required_deceleration_is_the_formula() -> None:
    assert required_deceleration(10.0, 10.0 * REACTION + 100.0 / (2 * 5.0)) == pytest.approx(5.0)
    assert required_deceleration(10.0, 3.0) == np.inf
    assert required_deceleration(0.0, 0.1) == 0.0


@pytest.mark.parametrize("speed", [0.5, 2.0, 8.0, 14.0])
def test_stopping_just_inside_and_just_outside(speed: float) -> None:
    limit = stopping_distance(speed) + CLEARANCE
    assert stop_before(speed, limit + 1e-6, "wall").avoidable
    assert not stop_before(speed, limit - 1e-6, "wall").avoidable
    assert sight_limited_speed(limit) == pytest.approx(speed, abs=1e-6)
    # Never shorter than instant full braking after the reaction.
    assert stopping_distance(speed) >= speed * REACTION + speed**2 / (2 * BRAKING)


def test_braked_travel_against_step_by_step_integration() -> None:
    dt, v, a, x = 1e-4, 12.0, 0.0, 0.0
    for k in range(30000):
        a = -min(BRAKING, 12.0 * max(k * dt - REACTION, 0.0))
        x, v = x + v * dt, max(v + a * dt, 0.0)
        if k % 5000 == 0:
            assert x == pytest.approx(float(braked_travel(12.0, (k + 1) * dt)), abs=5e-3)


def test_leader_just_inside_and_just_outside() -> None:
    speed, braking = 12.0, 7.0
    gap = stopping_distance(speed) - speed**2 / (2 * braking) + CLEARANCE
    assert behind_leader(speed, gap + 0.01, speed, braking, "leader").avoidable
    assert not behind_leader(speed, gap - 0.01, speed, braking, "leader").avoidable
    # Equal speeds, nobody brakes: any gap above the clearance will do.
    assert behind_leader(speed, CLEARANCE + 0.01, speed, 0.0, "cutter").avoidable
    # Whoever is in the lane only later leaves time to fall back.
    assert not behind_leader(10.0, 0.5, 8.0, 0.0, "cutter").avoidable
    assert behind_leader(10.0, 0.5, 8.0, 0.0, "cutter", enters=2.0).avoidable


def test_line_of_sight_past_a_parked_van() -> None:
    ego, walker = np.zeros(3), np.array([20.0, -3.0, 0.0, 0.6, 0.6])
    van = np.array([[14.0, -3.0, 0.0, 5.0, 2.0]])
    assert not line_of_sight(ego, walker, van)
    assert line_of_sight(ego, np.array([20.0, 0.0, 0.0, 0.6, 0.6]), van)
    assert line_of_sight(ego, walker, np.array([[14.0, -8.0, 0.0, 5.0, 2.0]]))
    assert line_of_sight(ego, walker, np.array([[24.0, -3.0, 0.0, 5.0, 2.0]]))
    assert line_of_sight(ego, walker, np.zeros((0, 5)))


def test_line_of_sight_is_fast() -> None:
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(-50, 50, (60, 2)), rng.uniform(-3, 3, 60), np.full((60, 2), 2.0)])
    target = np.array([40.0, 5.0, 0.0, 0.6, 0.6])
    start = time.process_time()
    for _ in range(100):
        line_of_sight(np.zeros(3), target, boxes)
    assert (time.process_time() - start) / 100 < 1e-3


def test_hidden_pedestrian_is_hidden_until_the_hazard_time() -> None:
    for seed in SEEDS:
        recording = scene("occluded_pedestrian", seed)
        agents, data = recording.agents, recording.metadata
        walker, shows = data["hazard"]["track_id"], round(data["hazard"]["time"] / 0.1)
        route = Path(recording.route_xy)
        s0 = route.project(recording.ego.pose[:1, :2])[0][0]
        for step in (*range(0, shows, 3), shows - 1, shows):
            others = agents.valid[:, step] & (agents.track_id != walker)
            others &= ~np.char.startswith(agents.id, "follower")  # behind ego
            occluders = np.column_stack([agents.pose[others, step], agents.size[others]])
            ego = route.pose(s0 + data["parameters"]["speed"] * 0.1 * step)
            target = np.array([*agents.pose[walker, step], *agents.size[walker]])
            assert line_of_sight(ego, target, occluders) == (step == shows), (seed, step)

"""Baselines: each must do what its description says, from the vector scene alone."""

from __future__ import annotations

import time as clock
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_scenes import build

from eval.baselines import ConstantVelocity, Expert, IdmDriver, PdmStyle
from eval.baselines.follow_path import track
from eval.baselines.pdm_style import BRAKING, full_brake
from eval.baselines.proposal_score import score_proposals
from eval.baselines.route_path import RoutePath
from eval.baselines.traffic_ahead import Objects
from eval.metrics import evaluate
from eval.simulation.drivers import Driver, replays_log
from eval.simulation.rollout import rollout
from perception.nuscenes import list_scenes, load_recording
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    Trajectory,
    VectorScene,
    VehicleParameters,
)

Agent = tuple[float, float, float, float, float, AgentClass]  # x, y, yaw, vx, vy, class
CAR, STATIC, PEDESTRIAN = AgentClass.CAR, AgentClass.STATIC, AgentClass.PEDESTRIAN
VEHICLE = VehicleParameters()


def make_scene(
    v: float = 8.0,
    agents: list[Agent] | None = None,
    limit: float = 13.0,
    curvature: float = 0.0,
    widths: tuple[float, float, float, float] = (1.75, 1.75, 3.5, 0.0),
    stop_line: float | None = None,
    shift: float = 0.0,
) -> VectorScene:
    """A route of 25 m behind and 150 m ahead, of one curvature ahead of ego; `shift` m beside ego."""
    agents = agents or []
    s = torch.arange(-25, 151, dtype=torch.float64)
    angle = curvature * s.clamp(min=0)
    chord = s * torch.sinc(angle / (2 * torch.pi))
    xy = torch.stack([chord * torch.cos(angle / 2), chord * torch.sin(angle / 2) + shift], -1)
    one = torch.ones(len(s), dtype=torch.float64)
    no, yes = torch.zeros(len(s), dtype=torch.bool), torch.ones(len(s), dtype=torch.bool)
    route = Route(xy, limit * one, torch.zeros(len(s), dtype=torch.int64), *(w * one for w in widths), no, yes)
    count = len(agents)
    f64 = {"dtype": torch.float64}
    tracks = AgentTracks(
        torch.tensor([[x, y, yaw, *_size(kind)] for x, y, yaw, _, _, kind in agents], **f64).reshape(count, 5),
        torch.tensor([[vx, vy] for _, _, _, vx, vy, _ in agents], **f64).reshape(count, 2),
        torch.zeros(count, 2, 2, **f64),
        torch.tensor([int(a[5]) for a in agents], dtype=torch.int64),
        torch.ones(count, **f64),
        torch.arange(count),
        torch.ones(count, dtype=torch.bool),
    )
    times = 0.2 * torch.arange(1, 31, **f64)
    futures = AgentFutures(
        torch.zeros(count, 1, 30, 2, **f64), torch.zeros(count, 1, 30, **f64), torch.zeros(count, 1, 30, 2, 2, **f64),
        torch.ones(count, 1, **f64), times, torch.ones(count, 1, 30, dtype=torch.bool),
    )  # fmt: skip
    lines = [] if stop_line is None else [(torch.tensor([[stop_line, -2.0], [stop_line, 2.0]]), PolylineType.STOP_LINE)]
    polylines = MapPolylines.from_lists(lines)
    polylines.closed[:] = True
    return VectorScene(
        EgoState.at_origin(v), tracks, futures, polylines, route, torch.zeros(3, dtype=torch.float64), name="t"
    ).validate()


def _size(kind: AgentClass) -> tuple[float, float]:
    return {CAR: (4.5, 1.9), PEDESTRIAN: (0.6, 0.6)}.get(kind, (1.0, 1.0))


@pytest.mark.parametrize("driver", [Expert(), ConstantVelocity(), IdmDriver(), PdmStyle()], ids=lambda d: d.name)
def test_baselines_are_drivers(driver: Driver) -> None:
    assert isinstance(driver, Driver)
    assert replays_log(driver) == (driver.name == "expert")


def test_constant_velocity_goes_straight_on() -> None:
    plan = ConstantVelocity().drive(make_scene(v=7.0, agents=[(10, 0, 0, 0, 0, CAR)])).trajectory
    assert plan.x[-1] == pytest.approx(42.0)
    assert (plan.y == 0).all()
    assert (plan.v == 7.0).all()


def test_expert_shows_the_recorded_future_and_needs_a_recording() -> None:
    _, recording = build({"lanes": [{"id": "a", "x": [-100, 200], "y": 0.0}], "ego": {"start": [3, 0, 0], "v": 5.0}})
    expert = Expert()
    scene = make_scene().replace(global_from_ego=torch.tensor([8.0, 0.0, 0.0], dtype=torch.float64))
    with pytest.raises(RuntimeError, match="reset"):
        expert.drive(scene)
    expert.reset(recording)
    scene = scene.replace(ego=scene.ego.replace(time_us=torch.tensor(recording.start_us + 1_000_000)))
    output = expert.drive(scene)
    assert output.source == "replay"
    assert output.trajectory.x[0] == pytest.approx(0.0)
    assert output.trajectory.x[10] == pytest.approx(5.0)


# -- IDM ------------------------------------------------------------------------------------
def test_idm_stops_behind_a_standing_car() -> None:
    plan = IdmDriver().drive(make_scene(v=8.0, agents=[(35, 0, 0, 0, 0, CAR)])).trajectory
    gap = 35 - 4.5 / 2 - (plan.x[-1] + VEHICLE.front)
    assert 0.5 < gap < 8.0
    assert plan.v[-1] < 1.5


@pytest.mark.parametrize("agent", [(35, 3.5, 0, 0, 0, CAR), (-15, 0, 0, 0, 0, CAR)], ids=["next lane", "behind"])
def test_idm_ignores_who_is_not_in_its_way(agent: Agent) -> None:
    alone, beside = IdmDriver().drive(make_scene()), IdmDriver().drive(make_scene(agents=[agent]))
    assert torch.equal(alone.trajectory.x, beside.trajectory.x)


def test_idm_approaches_but_never_exceeds_the_limit() -> None:
    plan = IdmDriver().drive(make_scene(v=9.0, limit=10.0)).trajectory
    assert 9.3 < float(plan.v.max()) <= 10.0 + 1e-6


def test_idm_stops_at_a_line_that_is_closed() -> None:
    plan = IdmDriver().drive(make_scene(v=8.0, stop_line=35.0)).trajectory
    assert plan.x[-1] + VEHICLE.front < 35.0
    assert plan.v[-1] < 1.5


def test_idm_slows_down_for_a_bend() -> None:
    plan = IdmDriver().drive(make_scene(v=6.0, curvature=1 / 12)).trajectory
    assert float((plan.v**2 * plan.curvature.abs()).max()) < 4.0


# -- tracking -------------------------------------------------------------------------------
@pytest.mark.parametrize(("curvature", "within"), [(0.0, 1e-9), (1 / 60, 0.2), (1 / 15, 0.6)])
def test_tracker_stays_on_the_path_even_where_curvature_jumps(curvature: float, within: float) -> None:
    scene = make_scene(v=6.0, curvature=curvature)
    path = RoutePath.from_scene(scene)
    motion = track(scene.ego, path, np.full((1, 41), 6.0), np.zeros(1), VEHICLE)
    _, d = path.project(motion.pose[..., :2])
    assert np.abs(d).max() <= within
    assert motion.v[0] == pytest.approx(6.0, abs=0.05)


@pytest.mark.parametrize("offset", [-1.0, 1.0])
def test_tracker_moves_over_to_an_offset(offset: float) -> None:
    scene = make_scene(v=8.0)
    motion = track(scene.ego, RoutePath.from_scene(scene), np.full((1, 61), 8.0), np.array([offset]), VEHICLE)
    assert motion.y[0, -1] == pytest.approx(offset, abs=0.1)
    assert np.abs(motion.y).max() < 1.2


def test_projection_finds_points_beside_a_bend() -> None:
    path = RoutePath.from_scene(make_scene(curvature=1 / 60))
    normal = np.stack([-np.sin(path.heading), np.cos(path.heading)], -1)
    inner = slice(10, -10)
    s, d = path.project((path.xy + 1.5 * normal)[inner])
    assert d == pytest.approx(1.5, abs=0.02)
    assert s == pytest.approx(path.s[inner], abs=0.1)


# -- PDM-style ------------------------------------------------------------------------------
def test_pdm_style_moves_over_for_something_half_in_the_way() -> None:
    parked = (30.0, -1.6, 0.0, 0.0, 0.0, CAR)
    plan = PdmStyle().drive(make_scene(v=8.0, agents=[parked])).trajectory
    assert plan.y[-1] > 0.5
    assert plan.v[-1] > 4.0


def test_pdm_style_does_not_move_over_where_there_is_no_road() -> None:
    parked = (30.0, -1.6, 0.0, 0.0, 0.0, CAR)
    plan = PdmStyle().drive(make_scene(v=8.0, agents=[parked], widths=(1.2, 1.75, 0.0, 0.0))).trajectory
    assert float(plan.y.max()) < 0.3
    assert plan.v[-1] < 4.0


@pytest.mark.parametrize(("v", "brakes"), [(4.9, True), (5.2, False)])
def test_pdm_style_emergency_brake_only_at_low_speed(v: float, brakes: bool) -> None:
    wall = [(6.0, y, 0.0, 0.0, 0.0, CAR) for y in (-2.0, 0.0, 2.0)]
    output = PdmStyle().drive(make_scene(v=v, agents=wall))
    assert output.reason.startswith("emergency brake") == brakes
    if brakes:
        assert output.trajectory.x[-1] == pytest.approx(v**2 / (2 * BRAKING))


def test_pdm_style_ignores_what_it_already_overlaps() -> None:
    inside = PdmStyle().drive(make_scene(agents=[(1.0, 0.0, 0.0, 0.0, 0.0, CAR)])).trajectory
    assert inside.v[-1] > 8.0


def test_proposal_scores_gate_collision_and_road() -> None:
    scene = make_scene(v=8.0)
    path = RoutePath.from_scene(scene)
    speed, offset = np.full((2, 41), 8.0), np.array([0.0, 3.0])
    motion = track(scene.ego, path, speed, offset, VEHICLE)
    nobody = Objects.from_scene(scene)
    free = score_proposals(motion, path, nobody, VEHICLE)
    assert free.parts["no_collision"].tolist() == [1, 1]
    assert free.parts["direction"][0] == 1.0
    assert free.parts["direction"][1] < 1.0, "three metres left is oncoming traffic's side"
    ahead = Objects.from_scene(make_scene(agents=[(25.0, 0.0, 0.0, 0.0, 0.0, CAR)]))
    blocked = score_proposals(motion, path, ahead, VEHICLE)
    assert blocked.parts["no_collision"][0] == 0.0
    assert blocked.time_to_collision[0] == pytest.approx((25 - 2.25 - VEHICLE.front) / 8.0, abs=0.15)
    narrow = score_proposals(motion, RoutePath.from_scene(make_scene(widths=(1.75, 1.75, 0.0, 0.0))), nobody, VEHICLE)
    assert narrow.parts["drivable_area"].tolist() == [1, 0]


def test_full_brake_follows_its_arc_to_rest() -> None:
    motion = full_brake(EgoState.at_origin(5.0, curvature=0.1), 40)
    way = 5.0**2 / (2 * BRAKING)
    assert motion.yaw[0, -1] == pytest.approx(0.1 * way)
    assert motion.x[0, -1] == pytest.approx(np.sin(0.1 * way) / 0.1)
    assert motion.v[0, -1] == pytest.approx(0.0, abs=1e-9)


# -- what all have in common ------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 15), st.floats(-0.05, 0.05), st.floats(-2, 2))
def test_any_scene_gives_a_finite_motion_from_the_present_state(
    seed: int, v: float, curvature: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    agents: list[Agent] = [
        (*rng.uniform(-40, 40, 2), rng.uniform(-3, 3), *rng.normal(0, 5, 2), AgentClass(int(rng.integers(0, 7))))
        for _ in range(int(rng.integers(0, 12)))
    ]
    scene = make_scene(v=v, agents=agents, curvature=curvature, shift=shift)
    for driver in (IdmDriver(), PdmStyle()):
        plan: Trajectory = driver.drive(scene).trajectory.validate()
        assert float(plan.time[0]) == 0.0
        assert float(plan.x[0]) == float(plan.y[0]) == float(plan.yaw[0]) == 0.0
        assert float(plan.v[0]) == pytest.approx(v)
        assert float(plan.v.min()) >= 0.0


def test_plans_do_not_depend_on_where_in_the_world_the_scene_is() -> None:
    scene = make_scene(agents=[(30.0, -1.6, 0.0, 0.0, 0.0, CAR)])
    elsewhere = scene.replace(global_from_ego=torch.tensor([500.0, -300.0, 2.0], dtype=torch.float64))
    for driver in (IdmDriver(), PdmStyle()):
        here, there = driver.drive(scene), driver.drive(elsewhere)
        assert torch.equal(here.trajectory.x, there.trajectory.x)
        assert here.picture["plan"]["xy"] != there.picture["plan"]["xy"]


def test_pdm_style_cycle_stays_affordable(rng: np.random.Generator) -> None:
    agents: list[Agent] = [
        (*rng.uniform(-35, 45, 1), *rng.uniform(4, 30, 1), 0.0, *rng.normal(0, 3, 2), CAR) for _ in range(60)
    ]
    scene, driver = make_scene(agents=agents), PdmStyle()
    best = np.inf
    for _ in range(8):  # CPU time, and the best of eight: other programs run on the same cores
        start = clock.process_time()
        driver.drive(scene)
        best = min(best, clock.process_time() - start)
    assert best < 0.08


@pytest.mark.nuscenes
def test_recorded_drivers_hit_nothing_and_stay_on_the_road(nuscenes_root: Path) -> None:
    """The recorded human overlaps no box and leaves the drivable area in none of the scenes; smallest gap 0.66 m."""
    blank = make_scene()
    gaps = []
    for name in list_scenes(nuscenes_root, "v1.0-mini"):
        recording = load_recording(nuscenes_root, "v1.0-mini", name)

        def observe(ego: EgoState, objects: object, name: str) -> VectorScene:
            pose = torch.stack([ego.x, ego.y, ego.yaw])
            return blank.replace(ego=blank.ego.replace(time_us=ego.time_us), global_from_ego=pose)

        results = evaluate(rollout(recording, Expert(), "log_replay", observe=observe), recording)
        assert results["collisions"].value == 0, name
        assert results["off_road"].value == 0, name
        assert results["expert_progress"].value == 1.0, name
        assert results["cls"].valid, name
        assert results["cls"].value > 0.8, name
        gaps.append(results["min_gap"].value)
    assert 0.5 < min(gaps) < 0.7

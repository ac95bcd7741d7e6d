"""Faults do what their name says, inside their time and nowhere else; the judge sees what happened."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eval.simulation.generate.protocols import protocol_scene
from eval.simulation.generate.protocols.track import CAR, EGO, Road, parked, times, track_scene
from eval.simulation.rollout import oracle_observer
from eval.simulation.trace import Trace
from eval.simulation.world import World
from eval.studies.fault_base import Fault, seen_from_ego
from eval.studies.fault_catalogue import BY_KIND, CATALOGUE, ROW_NAMES
from eval.studies.fault_judge import Judged, envelope_kept, flags, judge_fault
from eval.studies.fault_models import MODELS, make_injection
from eval.studies.faults import Plan, parse_rows, sweep_tasks
from eval.studies.system_faults import Corrupt
from perception.recording import ObjectStates, Recording
from planner.checker import check
from planner.limiter import Command, limit
from planner.plan import ConvexPlanner
from planner.result import PlanStatus
from planner.scene import VectorScene, VehicleParameters
from planner.supervision.scene_door import SceneDoor

ONSET = 1.0


@pytest.fixture(scope="module")
def recording() -> Recording:
    return protocol_scene("r157_cut_in", {"ego_kmh": 50, "relative_kmh": -20, "gap": 20, "lateral": 2.0})


@pytest.fixture(scope="module")
def world(recording) -> World:
    return World(recording, "log_replay")


@pytest.fixture(scope="module")
def scene(recording, world) -> VectorScene:
    return oracle_observer(recording)(world.ego_state(), world.objects(), "x")


@pytest.fixture(scope="module")
def plan(recording, scene):
    return ConvexPlanner(vehicle=recording.vehicle).plan(scene)


def injected(kind: str, size: float, recording: Recording, time: float):
    fault = make_injection((Fault(kind, ONSET, size),))
    fault.reset(recording)
    fault.time = time
    return fault


def same_objects(a: ObjectStates, b: ObjectStates) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(ObjectStates))


def test_the_catalogue_has_all_rows_and_models() -> None:
    assert set(ROW_NAMES) == set(range(1, 20))
    assert {entry.row for entry in CATALOGUE} == set(range(1, 19))
    assert {e.kind for e in CATALOGUE if not e.axis and e.kind != "adversary"} == set(MODELS)
    for entry in CATALOGUE:
        assert entry.search[0] < entry.search[1]
        for size in (*entry.coarse, *entry.full):
            if entry.axis:
                protocol_scene(entry.kind, dict(entry.situation(size).numbers))


@pytest.mark.parametrize("kind", [k for k in MODELS if BY_KIND[k].place != "road"])
def test_before_its_onset_a_fault_changes_nothing(kind, recording, world, scene, plan) -> None:
    fault = injected(kind, BY_KIND[kind].coarse[-1], recording, ONSET - 0.1)
    ego, objects = world.ego_state(), world.objects()
    assert same_objects(fault.objects(objects, ego), objects)
    assert fault.localised(ego).x == ego.x
    assert fault.scene(scene) is scene
    assert fault.plan(plan, "") == (plan, "")
    assert fault.elapsed(0.01) == 0.01
    command = Command(-1.0, 0.1)
    assert fault.command(command) == command
    assert fault.vehicle(recording.vehicle) == recording.vehicle


def test_missed_and_ghost_last_as_long_as_asked(recording, world) -> None:
    ego, objects = world.ego_state(), world.objects()
    for kind, present in (("missed", False), ("ghost", True)):
        fault = injected(kind, 0.5, recording, ONSET)
        counts = []
        for k in range(7):
            fault.time = ONSET + 0.1 * k
            counts.append(len(fault.objects(objects, ego)) - len(objects))
        assert counts == [(1 if present else -1)] * 5 + [0, 0]
    ghost = fault.pose
    ahead = (ghost[:2] - [float(ego.x), float(ego.y)]) @ [math.cos(float(ego.yaw)), math.sin(float(ego.yaw))]
    assert ahead > 1.5 * float(ego.v)


def test_frozen_content_moves_with_ego(recording, world) -> None:
    fault = injected("frozen", 2.0, recording, ONSET)
    ego, objects = world.ego_state(), world.objects()
    first = fault.objects(objects, ego)
    fault.time = ONSET + 1.0
    later = ego.replace(x=ego.x + 10.0)
    second = fault.objects(objects, later)
    assert np.allclose(seen_from_ego(first, ego).pose, seen_from_ego(second, later).pose)
    assert np.allclose(second.pose[:, 0] - first.pose[:, 0], 10.0)


def test_biases_have_the_asked_size(recording, world) -> None:
    ego, objects = world.ego_state(), world.objects()
    distance = lambda o: np.hypot(*(o.pose[:, :2] - [float(ego.x), float(ego.y)]).T)  # noqa: E731
    far = injected("position_bias", 1.5, recording, ONSET).objects(objects, ego)
    assert np.allclose(distance(far) - distance(objects), 1.5)
    fast = injected("speed_bias", -2.0, recording, ONSET).objects(objects, ego)
    assert np.allclose(np.hypot(*objects.velocity.T) - np.hypot(*fast.velocity.T), 2.0)
    turned = injected("calibration", 2.0, recording, ONSET).objects(objects, ego)
    assert np.allclose(distance(turned), distance(objects))
    bearing = lambda o: np.arctan2(*(o.pose[:, :2] - [float(ego.x), float(ego.y)]).T[::-1])  # noqa: E731
    assert np.allclose(np.degrees(bearing(turned) - bearing(objects)), 2.0)
    longer = injected("focal_length", 5.0, recording, ONSET).objects(objects, ego)
    assert np.allclose(distance(longer) / distance(objects), 1.05)


def test_a_jump_moves_map_and_not_what_ego_measures(recording, world) -> None:
    fault, ego, objects = injected("jump", 3.0, recording, ONSET), world.ego_state(), world.objects()
    wrong, moved = fault.localised(ego), fault.objects(objects, ego)
    assert float(torch.hypot(wrong.x - ego.x, wrong.y - ego.y)) == pytest.approx(3.0)
    assert np.allclose(seen_from_ego(moved, wrong).pose, seen_from_ego(objects, ego).pose)


def test_latency_reports_the_past(recording, world) -> None:
    fault, ego = injected("latency", 0.3, recording, 0.0), world.ego_state()
    seen = []
    for k in range(8):
        fault.time = ONSET + 0.1 * k
        objects = world.objects()
        seen.append(fault.objects(dataclasses.replace(objects, pose=objects.pose + k), ego).pose[0, 0])
    assert np.allclose(np.diff([s - seen[0] for s in seen]), [0, 0, 0, 1, 1, 1, 1])


def test_broken_scenes_do_not_pass_the_contract(recording, scene) -> None:
    """Every scene that the injection calls broken is refused at the supervisor's door."""
    fault = MODELS["corrupt"](Fault("corrupt", 0.0, 1.0, seed=1))
    assert isinstance(fault, Corrupt)
    fault.reset(recording)
    refused = 0
    for k in range(200):
        fault.time = 0.1 * k
        before = len(fault.broken)
        broken = fault.scene(scene)
        if len(fault.broken) > before:
            assert SceneDoor().problem(broken), f"draw {k} passed"
            refused += 1
    assert refused > 120
    assert not SceneDoor().problem(scene)


def test_a_lying_solver_is_caught_where_the_lie_matters(recording, scene, plan) -> None:
    small, large = (injected("wrong_success", size, recording, ONSET).plan(plan, "")[0] for size in (1e-4, 0.5))
    honest = check(scene, plan.candidates[0].trajectory, plan.candidates[0].tail, recording.vehicle)
    assert honest.accepted
    assert check(scene, small.candidates[0].trajectory, small.candidates[0].tail, recording.vehicle).accepted
    assert not check(scene, large.candidates[0].trajectory, large.candidates[0].tail, recording.vehicle).accepted
    none = injected("no_solution", 1.0, recording, ONSET).plan(plan, "")[0]
    assert {c.status for c in none.candidates} == {PlanStatus.ITERATION_LIMIT}
    assert injected("dead", 1.0, recording, ONSET).plan(plan, "")[0] is None


def test_bad_commands_never_reach_the_vehicle(recording, scene) -> None:
    fault = make_injection((Fault("bad_command", 0.0, 1.0),))
    fault.reset(recording)
    vehicle, changed = VehicleParameters(), 0
    for _ in range(100):
        command = fault.command(Command(-1.0, 0.0))
        changed += command != Command(-1.0, 0.0)
        safe, _why = limit(command, scene.ego, 0.1, vehicle)
        assert math.isfinite(safe.acceleration)
        assert math.isfinite(safe.curvature_rate)
    assert changed == 100


def test_together_applies_every_part(recording, world) -> None:
    both = make_injection((Fault("ghost", ONSET, 1.0), Fault("friction", 0.0, 0.5), Fault("late", ONSET, 0.4)))
    both.reset(recording)
    both.time = ONSET
    objects = world.objects()
    assert len(both.objects(objects, world.ego_state())) == len(objects) + 1
    assert both.vehicle(recording.vehicle).braking_max == recording.vehicle.braking_max / 2
    assert both.elapsed(0.01) == 0.4


def trace_of(steps: int = 50, **changes) -> Trace:
    none = np.zeros((0, steps))
    time = np.arange(steps) * 0.1
    base = {
        "scenario": "s", "planner": "p", "traffic": "log_replay", "seed": 0, "time": time,
        "pose": np.stack([time * 5, 0 * time, 0 * time], -1), "v": np.full(steps, 5.0), "a": np.zeros(steps),
        "curvature": np.zeros(steps), "yaw_rate": np.zeros(steps), "track_id": np.zeros(0, int),
        "agent_class": np.zeros(0, int), "size": np.zeros((0, 2)), "agent_pose": np.zeros((0, steps, 3)),
        "agent_velocity": np.zeros((0, steps, 2)), "agent_valid": none.astype(bool), "source": ["candidate"] * steps,
        "reason": [""] * steps, "tail_accepted": np.ones(steps, bool), "cycle_ms": np.zeros(steps),
        "solve_ms": np.zeros(steps), "check_ms": np.zeros(steps), "min_gap": np.full(steps, 9.0),
        "steps": [{"state": "NORMAL"} for _ in range(steps)],
    }  # fmt: skip
    return Trace(**{**base, **changes})


def test_detection_is_what_the_twin_does_not_do(recording) -> None:
    states = [{"state": "NORMAL"}] * 24 + [{"state": "DEGRADED"}] * 2 + [{"state": "MINIMAL_RISK"}] * 24
    twin = trace_of(source=["candidate"] * 22 + ["tail"] + ["candidate"] * 27)
    judged = Judged(Fault("frozen", 2.0, 1.0), recording, trace_of(steps=50, source=twin.source), twin)
    judged.trace.steps = list(states)
    assert judged.detected() == pytest.approx(0.4)  # step 22 is flagged in the twin, too
    assert judged.held() == pytest.approx(0.6)
    assert judge_fault(judged)["passed"] is False  # 0.4 s are more than 0.2 s
    assert flags(twin).sum() == 1


def test_the_envelope_is_judged_just_inside_and_just_outside(recording) -> None:
    vehicle = recording.vehicle
    step = np.where(np.arange(50) < 20, 0.0, vehicle.jerk_max * 0.1)
    assert envelope_kept(trace_of(a=step), recording)
    assert not envelope_kept(trace_of(a=step * 1.001), recording)
    assert not envelope_kept(trace_of(curvature=np.where(np.arange(50) < 20, 0.0, 0.0251)), recording)
    assert not envelope_kept(trace_of(v=np.full(50, np.nan)), recording)


@pytest.mark.parametrize(
    ("wall", "hit", "passed"), [(9.0, 4.9, True), (9.0, 5.3, False), (9.5, 5.05, False), (18.0, 0.5, False)]
)
def test_on_a_slippery_road_a_hit_is_excused_by_what_full_braking_cannot_avoid(wall, hit, passed) -> None:
    """8 m/s, 2.4 m/s^2 built up within 0.2 s: after x metres the square of the speed is 2 * 2.4 * x less."""
    t = times(8.0)
    parked_there = parked("wall", CAR, EGO.front + wall + CAR.length / 2, 0.0, t)
    hazard = {"actor": "wall", "onset": 0.0, "in_lane": True, "models": True, "kind": "test"}
    scene = track_scene("wall", 8.0, t, [parked_there], hazard, Road())
    steps = np.arange(50) * 0.1
    pose = scene.ego.pose[0] + np.stack([8.0 * steps, 0 * steps, 0 * steps], -1)
    trace = trace_of(v=np.full(50, 8.0), pose=pose)
    judged = Judged(Fault("friction", 0.0, 0.3), scene, trace, trace)
    judged.contacts = [SimpleNamespace(track_id=0, ego_speed=hit)]
    facts = judge_fault(judged)
    assert facts["passed"] is passed
    assert not facts["survived"]
    assert f"hit at {hit:.1f} m/s" in facts["criterion"]
    judged.contacts = [SimpleNamespace(track_id=7, ego_speed=0.1)]
    assert not judge_fault(judged)["passed"], "somebody else than the hazard"
    judged.contacts = []
    assert judge_fault(judged)["passed"]


@pytest.mark.parametrize(
    ("kind", "size"), [("jump", 5.0), ("drift", 0.5), ("map_shift", 2.0), ("map_shift", 0.3), ("frozen", 1.0)]
)
def test_leaving_the_road_is_not_survived_just_inside_and_outside(kind: str, size: float) -> None:
    """0.3 m of tolerance, as in the metric; what the twin does without the fault does not count."""
    t = times(8.0)
    hazard = {"actor": "wall", "onset": 0.0, "in_lane": True, "models": True, "kind": "test"}
    scene = track_scene("road", 8.0, t, [parked("wall", CAR, 90.0, 0.0, t)], hazard, Road())
    area, start = scene.road.prepared_drivable.bounds, scene.ego.pose[0]
    aside = area[3] - start[1] - scene.vehicle.width / 2  # until the side is on the edge

    def drive(y: float) -> Trace:
        steps = np.arange(50) * 0.1
        beyond = np.where(steps < 3.0, 0.0, y)
        held = [{"state": "NORMAL"}] * 10 + [{"state": "MINIMAL_RISK"}] * 40
        found = trace_of(pose=start + np.stack([8.0 * steps, beyond, 0 * steps], -1))
        found.steps = held
        return found

    twin = trace_of(pose=drive(0.0).pose)
    for over, on in ((0.29, True), (0.31, False)):
        judged = Judged(Fault(kind, 1.0, size), scene, drive(aside + over), twin)
        facts = judge_fault(judged)
        assert facts["off_road"] == pytest.approx(0.0 if on else over)
        assert facts["survived"] is on
        assert facts["passed"] is (on or kind == "frozen")
    both = Judged(Fault(kind, 1.0, size), scene, drive(aside + 1.0), drive(aside + 1.0))
    assert judge_fault(both)["off_road"] == 0.0


def test_rows_and_sweeps() -> None:
    assert parse_rows("1-3,10") == (1, 2, 3, 10)
    with pytest.raises(ValueError, match="1 to 19"):
        parse_rows("0-2")
    coarse, full = sweep_tasks(Plan((1, 12, 18))), sweep_tasks(Plan((1, 12, 18), full=True))
    assert len(coarse) < len(full)
    for tasks in (coarse, full):
        assert len({task.key for task in tasks}) == len(tasks)
    assert {task.facts["row"] for task in coarse} == {1, 12, 18}

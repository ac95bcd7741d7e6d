"""The supervisor: whatever the planner does, something fit to be driven comes out, with its reason."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner import fallback
from planner.checker import CheckerConfig, CheckReport
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import AgentClass, EgoState, RawObstacles, Trajectory, VectorScene, VehicleParameters, frames
from planner.supervise import SupervisedPlan, Supervisor, SupervisorConfig
from planner.supervision.kept_tail import KeptTail
from planner.supervision.last_resort import stops
from planner.supervision.restrictions import slippery
from planner.supervision.supervisor_state import State
from planner.supervision.watchdog import Watchdog


def candidate(trajectory: Trajectory | None, tail: Trajectory | None, name: str = "go") -> Candidate:
    solved = PlanStatus.SOLVED if trajectory is not None else PlanStatus.INFEASIBLE
    return Candidate(name, name, {}, solved, 1.0, trajectory, tail)


def plan_of(*candidates: Candidate) -> PlanResult:
    return PlanResult(candidates[0].status, list(candidates), torch.zeros(2, 2, dtype=F64), 0.01, 0.02)


def good(v: float = 8.0) -> Candidate:
    return candidate(drive(v), with_tail(drive(v)), "go on")


def off_road(v: float = 8.0) -> Candidate:
    out = drive(v)
    return candidate(out.replace(y=out.y - 2.0), with_tail(out), "off the road")


def cycle(s: Supervisor, scene: VectorScene, plan: PlanResult | None = None, **more) -> SupervisedPlan:
    out = s.supervise(scene, plan, **{"elapsed": 0.03, **more})
    for motion in (out.trajectory, out.tail):
        motion.validate()
        assert float(motion.time[0]) == 0.0
        assert abs(float(out.tail.v[-1])) < 1e-6
    return out


def relaxed(**more) -> Supervisor:
    """A supervisor whose search does not depend on how busy the machine is."""
    return Supervisor(config=SupervisorConfig(check_budget=math.inf), **more)


def later(scene_v: float, travelled: float, seconds: float, v: float | None = None, **more) -> VectorScene:
    """The scene after ego moved straight on; the world's x axis is turned and far away to exercise the frames."""
    pose = frames.compose(torch.tensor([500.0, -80.0, 2.0], dtype=F64), torch.tensor([travelled, 0.0, 0.0], dtype=F64))
    time_us = 1_000_000_000 + round(seconds * 1e6)
    return make_scene(scene_v if v is None else v, time_us=time_us, pose=tuple(pose.tolist()), **more)


# -- candidates ----------------------------------------------------------------------------


def test_the_preferred_candidate_is_driven_when_it_passes() -> None:
    out = cycle(relaxed(), make_scene(8.0), plan_of(good(), off_road()))
    assert (out.source, out.candidate_index, out.state, out.reason) == ("candidate", 0, "NORMAL", "")
    assert out.tail_accepted
    assert out.report is not None
    assert out.report.accepted


def test_the_next_candidate_is_driven_when_the_first_does_not_pass() -> None:
    out = cycle(relaxed(), make_scene(8.0), plan_of(off_road(), candidate(None, None), good()))
    assert (out.source, out.candidate_index) == ("candidate", 2)
    assert out.tail_accepted
    assert [name for name, _ in out.rejected] == ["off the road"]
    assert out.reason.startswith("candidate 0 rejected")


def test_no_more_candidates_than_allowed_are_checked() -> None:
    config = SupervisorConfig(max_checked=2, check_budget=math.inf)
    out = cycle(Supervisor(config=config), make_scene(8.0), plan_of(off_road(), off_road(), good()))
    assert out.source == "braking"
    assert config.max_checked == sum(name == "off the road" for name, _ in out.rejected)


def test_the_check_budget_ends_the_search_but_never_before_the_first() -> None:
    config = SupervisorConfig(check_budget=0.0)
    assert cycle(Supervisor(config=config), make_scene(8.0), plan_of(good())).source == "candidate"
    assert cycle(Supervisor(config=config), make_scene(8.0), plan_of(off_road(), good())).source == "braking"


# -- stops of the supervisor's own -----------------------------------------------------------


def braking_before_a_parked_car(tail_braking: float) -> tuple[VectorScene, Candidate]:
    """Ego brakes with 4.2 m/s^2 and stands after 7.6 m, 3.5 m before the car; the tail may be softer."""
    scene = make_scene(8.0, a=-4.2, agents=(agent(16.7, 0.0),))
    motion = drive(8.0, 1.9, a=-4.2)
    return scene, candidate(motion, with_tail(motion, tail_braking), "brake")


def test_a_candidate_whose_tail_alone_is_refused_gets_another_stop_along_its_way() -> None:
    scene, refused = braking_before_a_parked_car(2.0)
    out = cycle(relaxed(), scene, plan_of(refused))
    assert {v.rule for v in out.rejected[0][1].violations} == {"tail_object"}
    assert (out.source, out.candidate_index, out.state, out.tail_accepted) == ("candidate", 0, "NORMAL", True)
    assert "candidate 0 with a stop of the supervisor's own" in out.reason
    assert torch.equal(out.trajectory.x, refused.trajectory.x)
    assert float(out.tail.x[-1]) < 7.6, "harder than the plan"
    shared = out.tail.time <= 0.3 + 1e-9
    assert torch.equal(out.tail.x[shared], refused.trajectory.x[: int(shared.sum())])
    assert "own" not in cycle(relaxed(), scene, plan_of(braking_before_a_parked_car(6.0)[1])).reason


def test_no_stop_rescues_a_candidate_that_is_refused_for_anything_else() -> None:
    scene = make_scene(8.0, agents=(agent(16.7, 0.0),))
    out = cycle(relaxed(), scene, plan_of(candidate(drive(8.0), with_tail(drive(8.0), 2.0), "into it")))
    assert "nominal_object" in {v.rule for v in out.rejected[0][1].violations}
    assert out.source == "braking"
    assert sum(name == "into it" for name, _ in out.rejected) == 1


def test_stops_of_its_own_respect_the_budget() -> None:
    scene, refused = braking_before_a_parked_car(2.0)
    out = cycle(Supervisor(config=SupervisorConfig(check_budget=0.0)), scene, plan_of(refused))
    assert out.source == "braking"


def test_on_a_slippery_road_nothing_beyond_its_grip_is_accepted_or_driven() -> None:
    """A third of the grip: the planner's tail brakes with 4 m/s^2, which the road does not give."""
    s, scene = relaxed(), make_scene(8.0)
    out = cycle(s, scene, plan_of(good()), grip=0.3)
    assert {v.rule for v in out.rejected[0][1].violations} >= {"tail_braking"}
    assert (out.source, out.tail_accepted) == ("candidate", True)
    assert -0.3 * 8.0 <= float(out.tail.a.min()) < -2.0
    assert float(out.tail.x[-1]) > 8.0**2 / (2 * 0.3 * 8.0)
    hard = braking_before_a_parked_car(6.0)
    slides = cycle(relaxed(), hard[0], plan_of(hard[1]), grip=0.3)
    assert not slides.tail_accepted
    assert slides.source == "braking"
    assert float(slides.tail.a[5:].min()) >= -0.3 * 8.0 - 1e-6


@pytest.mark.parametrize(("grip", "braking"), [(1.0, 8.0), (1.7, 8.0), (0.5, 4.0), (0.0, 0.8), (float("nan"), 0.8)])
def test_a_grip_that_is_no_share_is_the_least_or_all(grip: float, braking: float) -> None:
    able = slippery(VehicleParameters(), grip)
    assert able.braking_max == pytest.approx(braking)
    assert able.lateral_acceleration_max == pytest.approx(braking * 5 / 8)
    assert able.acceleration_max == pytest.approx(min(3.0, braking))


def cutting_in() -> VectorScene:
    """Ego with 15.7 m/s; a car 10 m/s slower drifts over from the left, 7.7 m ahead."""
    return later(15.7, 1.57, 0.1, right_edge=1.75, agents=(agent(13.4, 3.12, -0.11, 5.6),))


def test_where_braking_is_not_enough_ego_bears_away_once() -> None:
    s = relaxed()
    cycle(s, later(15.7, 0.0, 0.0), plan_of(candidate(drive(15.7), with_tail(drive(15.7), 7.5))))
    out = cycle(s, cutting_in(), None)
    assert "full braking, bearing right" in out.reason
    assert out.tail_accepted
    assert -0.65 < float(out.tail.y.min()) < -0.3
    names = [name for name, _ in out.rejected]
    assert names[-1] == "full braking, bearing left"
    assert "full braking, steering held" in names
    closer = later(15.6, 3.13, 0.2, agents=(agent(12.0, 1.9, -0.3, 5.6),))
    again = cycle(s, closer, None)
    assert not again.tail_accepted
    assert "bearing" not in again.reason, "a second time would leave the lane"


@pytest.mark.parametrize(("y", "passes"), [(-2.39, True), (-1.6, False)])
def test_where_a_smooth_stop_is_too_long_the_brake_is_held_until_ego_stands(y: float, passes: bool) -> None:
    """A walker steps towards the side of ego, which brakes fully already: a third of a second decides."""
    walker = agent(3.16, y, 1.47, 1.42, AgentClass.PEDESTRIAN)
    out = cycle(relaxed(), make_scene(3.167, (walker,), a=-7.76, right_edge=6.0, half_width=8.0), None)
    assert out.tail_accepted is passes
    assert "full braking, steering held" in [name for name, _ in out.rejected]
    if passes:
        assert "full braking, held to the end" in out.reason
        moving = out.trajectory.v > 0.05
        assert float(out.trajectory.a[moving].max()) < -7.0, "never released"


def test_the_stops_of_last_resort_keep_to_the_kept_way_where_they_say_so() -> None:
    """The kept tail bends left, ego's wheels still point straight on."""
    kept = fallback.brake_in_path(EgoState.at_origin(8.0, 0.0, 0.05), fallback.maximum_braking(
        EgoState.at_origin(12.0, 0.0, 0.05)), braking=4.0)  # fmt: skip
    way = shapely.LineString(torch.stack([kept.x, kept.y], -1).numpy())
    ends = {
        option.name: way.distance(shapely.Point(float(option.trajectory.x[-1]), float(option.trajectory.y[-1])))
        for option in stops(EgoState.at_origin(8.0), VehicleParameters(), 5.0, kept, None, emergency=True)
    }
    assert list(ends) == [
        "full braking along the kept tail", "kept tail", "braking along the kept tail", "full braking",
        "full braking, steering held", "full braking, held to the end", "full braking, bearing left",
        "full braking, bearing right",
    ]  # fmt: skip
    aside = {name for name, off in ends.items() if off > 0.3 and "bearing" not in name}
    assert aside == {"full braking, steering held"}
    alone = stops(EgoState.at_origin(8.0), VehicleParameters(), 5.0, None, None)
    assert [option.name for option in alone] == ["full braking, steering held", "full braking, held to the end"]


# -- falling back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "more", "reason"),
    [
        (None, {}, "no plan"),
        (None, {"failure": "ValueError: boom"}, "planner failed: ValueError: boom"),
        (good, {"failure": "died"}, "planner failed: died"),
        (good, {"elapsed": 0.1001}, "deadline"),
        (good, {"elapsed": float("nan")}, "deadline"),
        (off_road, {}, "no candidate accepted"),
        (lambda: candidate(None, None), {}, "no candidate solved"),
    ],
)
def test_without_a_usable_plan_the_kept_tail_is_driven_in_the_same_cycle(plan, more: dict, reason: str) -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), None if plan is None else plan_of(plan()), **more)
    assert out.source == "tail"
    assert out.reason.startswith(reason)
    assert out.tail_accepted
    patient = reason.startswith("no candidate")  # a refusal, not a fault
    assert out.state == (State.NORMAL if patient else State.DEGRADED)


def test_the_deadline_just_met_is_met() -> None:
    assert cycle(relaxed(), make_scene(8.0), plan_of(good()), elapsed=0.1).source == "candidate"


def test_the_kept_tail_is_the_same_motion_seen_from_where_ego_is_now() -> None:
    s = relaxed()
    start = later(8.0, 0.0, 0.0)
    first = cycle(s, start, plan_of(good()))
    for step in (1, 2, 5):
        now = later(8.0, 0.8 * min(step, 3), 0.1 * step, v=float(np.interp(0.1 * step, first.tail.time, first.tail.v)))
        tail = s._kept.now(now)
        t = tail.time.numpy()
        for name in ("x", "y"):
            told = frames.transform_points(now.global_from_ego, tail.xy)[:, 0 if name == "x" else 1]
            meant = frames.transform_points(start.global_from_ego, first.tail.xy)[:, 0 if name == "x" else 1]
            np.testing.assert_allclose(told, np.interp(t + 0.1 * step, first.tail.time, meant), atol=0.02)


def test_driving_the_kept_tail_ends_at_rest_and_stays_there() -> None:
    s = relaxed()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    states, secured = [], []
    for step in range(1, 60):
        t = 0.1 * step
        x, v, a = (float(np.interp(t, tail.time, f)) for f in (tail.x, tail.v, tail.a))
        out = cycle(s, later(8.0, x, t, v=v, a=a), None)
        assert out.tail_accepted, (step, out.reason)
        states.append(out.state)
        secured.append(out.secured)
        assert out.secured == (v <= 0.05 and step >= 5)
        assert out.certificate is not None
    assert out.source == "tail"
    assert secured[-1]
    assert float(out.trajectory.v.abs().max()) == 0.0
    assert states[3] == State.DEGRADED
    assert states[4] == State.MINIMAL_RISK


def test_a_birth_in_the_kept_tails_way_means_braking_harder() -> None:
    s = relaxed()
    first = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    end = float(first.x[-1]) + 3.442
    born = agent(end - 0.8 - 2.0, 0.0, track_id=77, size=(2.0, 2.0))
    out = cycle(s, later(8.0, 0.8, 0.1, agents=(born,)), None)
    assert out.source == "braking"
    assert out.tail_accepted
    assert "kept tail no longer passes" in out.reason
    assert out.state == State.EMERGENCY
    assert float(out.trajectory.x[-1]) < end - 0.8 - 3.442


def test_when_nothing_passes_the_best_margin_is_driven_and_said() -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    wall = agent(5.5, 0.0, track_id=78, size=(1.0, 4.0))
    out = cycle(s, later(8.0, 0.8, 0.1, agents=(wall,)), plan_of(good()))
    assert not out.tail_accepted
    assert "nothing passes" in out.reason
    assert out.report is not None
    margins = [r.worst_margin for name, r in out.rejected if "kept" in name or "braking" in name]
    assert out.report.worst_margin == max(margins)


def test_nothing_kept_means_full_braking() -> None:
    out = cycle(relaxed(), make_scene(8.0), None)
    assert (out.source, out.state) == ("braking", State.EMERGENCY)
    assert out.tail_accepted
    assert "nothing kept" in out.reason
    assert float(out.trajectory.a.min()) < -7.0


def test_ego_standing_without_a_plan_stays_standing_with_an_accepted_tail() -> None:
    out = cycle(relaxed(), make_scene(0.0, (agent(4.0, 0.0), agent(-5.0, 0.0))), None)
    assert out.tail_accepted
    assert out.state == State.DEGRADED
    assert float(out.trajectory.v.abs().max()) == 0.0


def test_a_kept_tail_that_ego_has_left_is_not_trusted() -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 2.8, 0.1), None)  # 2 m farther than it should be
    assert out.source == "braking"
    assert out.tail_accepted


# -- broken scenes -------------------------------------------------------------------------


def broken_scenes() -> list:
    scene = later(8.0, 0.8, 0.1, agents=(agent(30.0, 0.0),))
    nan = torch.tensor(torch.nan, dtype=F64)
    return [
        None,
        "scene",
        scene.replace(ego=scene.ego.replace(v=nan)),
        scene.replace(agents=scene.agents.replace(box=scene.agents.box * torch.nan)),
        scene.replace(futures=scene.futures.replace(mean=scene.futures.mean[:, :, :3])),
        scene.replace(global_from_ego=torch.full((3,), torch.inf, dtype=F64)),
        scene.replace(map=scene.map.replace(kind=scene.map.kind + 40)),
        scene.replace(route=None),
        VectorScene.stack([scene, scene]),
    ]


@pytest.mark.parametrize("i", range(9))
def test_a_broken_scene_is_rejected_and_the_kept_tail_driven_on(i: int) -> None:
    s = relaxed()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    for step in range(1, 30):
        out = cycle(s, broken_scenes()[i], plan_of(good()))
        assert out.source == "tail"
        assert out.reason.startswith("scene rejected")
        assert not out.tail_accepted
        assert float(out.trajectory.x[0]) == pytest.approx(0.0, abs=1e-9)
        v = float(np.interp(0.1 * step, tail.time, tail.v))
        assert float(out.trajectory.v[0]) == pytest.approx(v, abs=0.05), "goes on in time by dead reckoning"
    assert out.state == State.MINIMAL_RISK
    # The scene comes back: from there on everything is checked again.
    v = float(np.interp(3.0, tail.time, tail.v))
    x = float(np.interp(3.0, tail.time, tail.x))
    assert cycle(s, later(8.0, x, 3.0, v=v), None).tail_accepted


@pytest.mark.parametrize("i", range(9))
def test_a_broken_scene_with_nothing_kept_is_a_stop(i: int) -> None:
    out = cycle(relaxed(), broken_scenes()[i], plan_of(good()))
    assert out.source == "braking"
    assert out.state == State.EMERGENCY
    assert "nothing kept" in out.reason


def test_dead_reckoning_goes_on_from_the_last_sound_scene() -> None:
    s = relaxed()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    at = lambda t, f: float(np.interp(t, tail.time, f))  # noqa: E731
    for t in (0.1, 0.2, 0.3):
        cycle(s, later(8.0, at(t, tail.x), t, v=at(t, tail.v), a=at(t, tail.a)), None)
    assert float(cycle(s, None).trajectory.v[0]) == pytest.approx(at(0.4, tail.v), abs=0.02)


def test_malformed_plans_are_rejected_plans() -> None:
    s = relaxed()
    short = drive(8.0).apply(lambda t: t[:1])
    uneven = drive(8.0).replace(x=drive(8.0).x[:-1])
    nan = drive(8.0).replace(x=drive(8.0).x * torch.nan)
    for bad in (short, uneven, nan):
        s.reset()
        out = cycle(s, make_scene(8.0), plan_of(candidate(bad, bad), good()))
        assert (out.source, out.candidate_index) == ("candidate", 1)


@pytest.mark.parametrize("bad", ["plan", 3, {"candidates": []}, PlanResult(PlanStatus.SOLVED, None, None, 0, 0)])
def test_what_is_no_plan_at_all_is_a_fault(bad: object) -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), bad)
    assert (out.source, out.state) == ("tail", State.DEGRADED)
    assert out.reason.startswith("malformed plan")


def test_a_candidate_that_raises_when_it_is_read_is_a_rejected_one() -> None:
    def boom() -> Trajectory:
        raise ArithmeticError("lost")

    broken = Candidate("lazy", "lazy", {}, PlanStatus.SOLVED, 1.0, boom, boom)
    out = cycle(relaxed(), make_scene(8.0), plan_of(broken, good()))
    assert (out.source, out.candidate_index) == ("candidate", 1)
    assert "ArithmeticError: lost" in out.rejected[0][0]


# -- states --------------------------------------------------------------------------------


def along(tail: Trajectory, t: float) -> tuple[float, float, float]:
    """x, v, a at time t of a motion along x."""
    return tuple(float(np.interp(t, tail.time, f)) for f in (tail.x, tail.v, tail.a))  # type: ignore[return-value]


def stands(t: float, **more) -> VectorScene:
    return make_scene(0.0, time_us=round(t * 1e6), **more)


def verdict(level: str) -> SimpleNamespace:
    return SimpleNamespace(name="lidar", level=level, reason=f"asks for {level}", value=1.0, limit=0.5)


def test_minimal_risk_drives_the_tail_to_rest_and_stays_secured_until_the_health_check() -> None:
    s = relaxed()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    rest = float(tail.time[int((tail.v > 1e-6).nonzero()[-1]) + 1])
    log, stopped = [], None
    for step in range(1, 90):
        t = 0.1 * step
        x, v, a = along(tail, t)
        # The planner fails for 6 cycles, then offers what would pass; it is counted, not driven.
        go = drive(v, a=a if v > 0.2 else 0.8)
        offered = None if step <= 6 else plan_of(candidate(go, with_tail(go)))
        out = cycle(s, later(8.0, x, t, v=v, a=a if v > 0.2 else 0.0), offered)
        log.append((t, out.source, out.state))
        if out.source == "candidate":
            break
        assert out.tail_accepted
        if out.secured and stopped is None:
            stopped = t
        assert out.secured == (v <= 0.05 and out.state == State.MINIMAL_RISK)
    assert stopped == pytest.approx(rest, abs=0.15)
    assert [state for t, _, state in log[:5]] == [State.DEGRADED] * 4 + [State.MINIMAL_RISK]
    config = s.config.states
    assert log[-1][1] == "candidate"
    assert log[-1][0] - stopped == pytest.approx(0.1 * config.rest_after, abs=1e-6), "not before it stood long enough"
    assert log[-1][2] == State.DEGRADED


def test_a_plan_in_a_latched_state_whose_tail_is_lost_gives_its_tail_not_its_way() -> None:
    s = relaxed()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    for step in range(1, 7):
        x, v, a = along(tail, 0.1 * step)
        assert cycle(s, later(8.0, x, 0.1 * step, v=v, a=a), None).source == "tail"
    assert s.state == State.MINIMAL_RISK
    x, v, a = along(tail, 0.7)
    slower = fallback.brake_in_path(EgoState.at_origin(v, a), drive(v), braking=5.0)
    end = float(slower.x[-1]) + 3.442
    born = agent(end + 0.5 + 1.0, 0.0, track_id=77, size=(2.0, 2.0))
    out = cycle(s, later(8.0, x, 0.7, v=v, a=a, agents=(born,)), plan_of(candidate(slower, slower)))
    assert (out.source, out.state) == ("tail", State.MINIMAL_RISK)
    assert torch.equal(out.trajectory.x, slower.x)
    assert "MINIMAL_RISK is latched" in out.reason
    assert [name for name, _ in out.rejected] == ["kept tail"]


def test_an_emergency_of_the_world_ends_when_plans_are_accepted_again() -> None:
    s = relaxed()
    first = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    born = agent(float(first.x[-1]) + 3.442 - 0.8 - 2.0, 0.0, track_id=77, size=(2.0, 2.0))
    out = cycle(s, later(8.0, 0.8, 0.1, agents=(born,)), None)
    assert (out.state, [t.rule for t in out.transitions]) == (State.EMERGENCY, ["off_tail"])
    stop, states, sources = out.tail, [], []
    for step in range(1, 8):
        x, v, a = along(stop, 0.1 * step)
        go = fallback.brake_in_path(EgoState.at_origin(v, a), drive(v), braking=3.0)
        out = cycle(s, later(8.0, 0.8 + x, 0.1 + 0.1 * step, v=v, a=a), plan_of(candidate(go, go)))  # it was a ghost
        states.append(out.state)
        sources.append(out.source)
    release = s.config.states.release_after
    assert sources == ["tail"] * release + ["candidate"] * (7 - release)
    assert states == [State.EMERGENCY] * (release - 1) + [State.DEGRADED] * (8 - release)


@pytest.mark.parametrize(
    ("level", "state"),
    [("OK", State.NORMAL), ("DEGRADED", State.DEGRADED), ("MINIMAL_RISK", State.MINIMAL_RISK),
     ("EMERGENCY", State.EMERGENCY), ("nonsense", State.EMERGENCY)],
)  # fmt: skip
def test_a_monitors_verdict_acts_in_the_same_cycle(level: str, state: State) -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), plan_of(good()), health=(verdict("OK"), verdict(level)))
    assert out.state == state
    source = {State.NORMAL: "candidate", State.DEGRADED: "candidate", State.MINIMAL_RISK: "tail"}
    assert out.source == source.get(state, "braking")
    assert out.tail_accepted
    assert (f"lidar: asks for {level}" in out.reason) == (level != "OK")
    assert [t.target for t in out.transitions] == ([] if level == "OK" else [state])
    if state == State.EMERGENCY:
        assert float(out.trajectory.a.min()) < -7.0
        assert "full braking along the kept tail" in out.reason or out.reason


def test_an_emergency_of_our_own_lasts_until_rest_then_the_health_check() -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    stop = cycle(s, later(8.0, 0.8, 0.1), plan_of(good()), health=(verdict("EMERGENCY"),)).tail
    states = []
    for step in range(1, 45):
        x, v, a = along(stop, 0.1 * step)
        go = drive(v, a=a if v > 0.2 else 0.8)
        now = later(8.0, 0.8 + x, 0.1 + 0.1 * step, v=v, a=a if v > 0.2 else 0.0)
        out = cycle(s, now, plan_of(candidate(go, with_tail(go))))
        states.append(str(out.state))
        if out.source == "candidate":
            break
    order = list(dict.fromkeys(states))
    assert order == ["EMERGENCY", "MINIMAL_RISK", "DEGRADED"]


def test_verdicts_that_cannot_be_read_are_the_worst() -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), plan_of(good()), health=(3,))
    assert out.state == State.EMERGENCY
    assert "monitors cannot be read" in out.reason


def degrade(s: Supervisor, cycles: int) -> None:
    """Into DEGRADED, `cycles` ago, at 8 m/s and x = 0.8 m per cycle."""
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    for step in range(1, cycles + 1):
        cycle(s, later(8.0, 0.8 * step, 0.1 * step), plan_of(good()), health=(verdict("DEGRADED"),))


def test_degraded_lowers_the_speed_that_is_planned_and_accepted() -> None:
    s = relaxed()
    degrade(s, 40)
    t, x = 4.1, 0.8 * 41
    scene = later(8.0, x, t, limit=8.0)
    shown = s.planning_scene(scene)
    np.testing.assert_allclose(shown.route.speed_limit, 0.7 * 8.0)
    # 8 m/s where 8 are allowed passes in NORMAL; in DEGRADED only 1.1 * 0.7 * 8 + 0.5 = 6.66.
    assert cycle(relaxed(), scene, plan_of(good())).source == "candidate"
    assert cycle(s, scene, plan_of(good())).rejected[0][1].violations[0].rule == "degraded_speed"
    faster = drive(8.0, duration=1.0, a=0.5)
    scene = later(8.0, x + 0.8, t + 0.1, a=0.5, limit=8.0)
    offered = plan_of(candidate(faster, with_tail(faster)))
    assert cycle(s, scene, offered).rejected[0][1].violations[0].rule == "speed_limit"
    slower = fallback.brake_in_path(EgoState.at_origin(8.0), drive(8.0), braking=1.0)
    assert cycle(s, later(8.0, x + 1.6, t + 0.2, limit=8.0), plan_of(candidate(slower, slower))).source == "candidate"


def test_degraded_speed_comes_down_gradually() -> None:
    s = relaxed()
    scene = later(8.0, 0.0, 0.0)
    assert s.planning_scene(scene) is scene
    factors = []
    for step in range(1, 50):
        now = later(8.0, 0.8 * step, 0.1 * step)
        cycle(s, now, plan_of(good()), health=(verdict("DEGRADED"),))
        factors.append(float(s.planning_scene(now).route.speed_limit[0]) / 15.0)
    steps = -np.diff(factors)
    assert factors[0] == pytest.approx(0.99)
    assert steps.max() < 0.0101
    assert factors[-1] == pytest.approx(0.7)


@pytest.mark.parametrize(("gap", "passes"), [(0.28, False), (0.30, True)])
def test_degraded_widens_the_margins_that_are_planned_and_accepted(gap: float, passes: bool) -> None:
    """0.05 m clearance and 0.03 s times 8 m/s: 0.29 m."""
    s = relaxed()
    degrade(s, 2)
    beside = agent(15.0, -(1.85 / 2 + gap + 0.25), kind=AgentClass.STATIC, size=(0.5, 0.5), track_id=5)
    scene = later(8.0, 2.4, 0.3, agents=(beside,))
    assert float(s.planning_scene(scene).agents.box[0, 4]) == pytest.approx(0.5 + 2 * 0.24)
    assert cycle(relaxed(), scene, plan_of(good())).source == "candidate"
    out = cycle(s, scene, plan_of(good()))
    assert (out.source == "candidate") == passes
    if not passes:
        assert out.source == "tail", "the kept tail is judged by the margins it was accepted with"
        assert out.tail_accepted


def test_degraded_is_left_after_a_steady_healthy_run() -> None:
    s = relaxed()
    degrade(s, 1)
    states = [cycle(s, later(8.0, 0.8 * k, 0.1 * k), plan_of(good())).state for k in range(2, 30)]
    patience = s.config.states.recover_after
    assert states == [State.DEGRADED] * (patience - 1) + [State.NORMAL] * (29 - patience)


def test_probation_counts_accepted_plans_and_drives_none() -> None:
    s = relaxed()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), plan_of(good()), probation="planner restarted, 1 of 5 plans")
    assert (out.source, out.state) == ("tail", State.NORMAL)
    assert out.reason == "plan accepted, but planner restarted, 1 of 5 plans"
    assert s._states.counters.healthy == 2


# -- the second perception channel ---------------------------------------------------------


def raw_box(x: float, time_us: int, **more) -> RawObstacles:
    """One standing obstacle straight ahead that only the second channel sees; nothing limits the sight."""
    one = lambda *values: torch.tensor(values, dtype=F64)  # noqa: E731
    fields = {
        "centre": one(x, 0.0)[None], "yaw": one(0.0), "length": one(0.6), "width": one(1.8),
        "velocity": one(0.0, 0.0)[None],
        "velocity_known": torch.tensor([True]), "observed": torch.tensor([9]), "valid": torch.tensor([True]),
        "sight": torch.full((180,), 80.0, dtype=F64), "sight_valid": torch.ones(180, dtype=torch.bool),
        "time_us": torch.tensor(time_us),
    }  # fmt: skip
    return RawObstacles(**{**fields, **more})


def test_what_only_the_second_channel_sees_cannot_be_driven_into() -> None:
    scene = later(8.0, 0.0, 0.0)
    now = int(scene.ego.time_us)
    out = cycle(relaxed(), scene, plan_of(good()), raw=raw_box(12.0, now))
    assert out.source == "braking"
    assert out.rejected[0][1].violations[0].rule in ("nominal_object", "tail_object")
    assert cycle(relaxed(), scene, plan_of(good()), raw=raw_box(70.0, now)).source == "candidate"


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ("raw", State.DEGRADED),
        (raw_box(70.0, 0).replace(centre=torch.full((1, 2), torch.nan, dtype=F64)), State.DEGRADED),
        (RawObstacles.stack([raw_box(70.0, 0)] * 2), State.DEGRADED),
        (raw_box(1e9, 0), State.DEGRADED),
        (raw_box(70.0, 1_000_000_000 - 600_000), State.MINIMAL_RISK),
        (raw_box(70.0, 1_000_000_000 + 600_000), State.MINIMAL_RISK),
        (raw_box(70.0, 1_000_000_000 - 100_000), State.NORMAL),
    ],
)
def test_a_second_channel_that_fails_changes_the_state(bad: object, state: State) -> None:
    s = relaxed()
    cycle(s, later(8.0, -0.008, -0.001), plan_of(good()))
    out = cycle(s, later(8.0, 0.0, 0.0), plan_of(good()), raw=bad)
    assert out.state == state
    assert ("raw obstacles" in out.reason) == (state != State.NORMAL)


@pytest.mark.parametrize(
    ("factor", "passes"), [(1.0, True), (0.2, True), (4.0, False), (1e9, False), (math.nan, False)]
)
def test_widened_sets_are_what_is_checked_against(factor: float, passes: bool) -> None:
    beside = agent(14.0, 2.2, kind=AgentClass.PEDESTRIAN, track_id=4)
    out = cycle(relaxed(), make_scene(8.0, (beside,)), plan_of(good()), widening=factor)
    assert (out.source == "candidate") == passes


# -- the watchdog and the certificate ------------------------------------------------------


def test_only_a_passed_check_serves_the_watchdog() -> None:
    clock = iter(np.arange(0.0, 100.0, 1.0))
    dog = Watchdog(limit=0.5, clock=lambda: float(next(clock)))
    s = relaxed(watchdog=dog)
    assert dog.expired
    served = lambda: dog._served  # noqa: E731
    assert cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail_accepted
    first = served()
    assert first is not None
    cycle(s, None)  # no scene: driven blind, unchecked
    wall = agent(5.5, 0.0, track_id=78, size=(1.0, 4.0))
    assert not cycle(s, later(8.0, 1.6, 0.2, agents=(wall,)), plan_of(good())).tail_accepted
    assert served() == first
    with pytest.raises(ValueError, match="passed check"):
        dog.serve(CheckReport.refused("no"))
    assert cycle(s, later(8.0, 2.4, 0.3), plan_of(good())).tail_accepted
    assert served() != first


def test_the_kept_tail_carries_its_certificate_and_is_dropped_when_changed_in_memory() -> None:
    s = relaxed()
    out = cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    assert out.certificate is not None
    assert out.certificate.accepted
    assert out.certificate.time_us == 1_000_000_000
    assert out.certificate.worst_margin == out.report.worst_margin
    assert s._kept.intact
    s._kept.columns[2, 5] += 1e-9
    assert not s._kept.intact
    assert "nothing kept" in cycle(s, later(8.0, 0.8, 0.1), None).reason


def test_reset_forgets_everything() -> None:
    s = relaxed()
    cycle(s, make_scene(8.0), plan_of(good()))
    cycle(s, make_scene(8.0, time_us=100_000), None)
    s.reset()
    assert s.state == State.NORMAL
    assert "nothing kept" in cycle(s, make_scene(8.0), None).reason


def test_nothing_driven_lacks_its_accepted_tail_in_a_long_random_drive(rng: np.random.Generator) -> None:
    """Planner failing at random in front of a standing queue: whatever is driven is accepted, until standstill."""
    s = Supervisor(config=SupervisorConfig(checker=CheckerConfig()))
    x, v, a, t = 0.0, 8.0, 0.0, 0.0
    for _ in range(80):
        scene = later(8.0, x, t, v=v, a=a, agents=(agent(45.0 - x, 0.0, track_id=1),))
        offered = drive(v) if abs(a) < 0.5 else None
        plan = plan_of(candidate(offered, with_tail(offered) if offered is not None else None))
        failing = rng.random() < 0.3
        out = cycle(s, scene, None if failing else plan, failure="boom" if failing else "")
        assert out.tail_accepted, out.reason
        m = out.trajectory
        x += float(np.interp(0.1, m.time, m.x))
        v, a = (float(np.interp(0.1, m.time, f)) for f in (m.v, m.a))
        t += 0.1
    assert v == 0.0
    assert x < 45.0 - 2.25 - 3.44


def test_kept_tail_beyond_its_end_and_before_its_beginning() -> None:
    scene = later(8.0, 0.0, 0.0)
    kept = KeptTail.keep(with_tail(drive(8.0)), scene, CheckReport(True, (), 1.0, 0.0))
    after = kept.now(later(8.0, 5.0, 100.0))
    assert float(after.v.abs().max()) == 0.0
    assert len(after.time) == 2
    before = kept.now(scene.replace(ego=scene.ego.replace(time_us=scene.ego.time_us - 500_000)))
    assert float(before.x[0]) == pytest.approx(0.0, abs=1e-9)

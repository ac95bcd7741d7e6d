"""The supervisor: whatever the planner does, something fit to be driven comes out, with its reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner import fallback
from planner.checker import CheckerConfig
from planner.kept_tail import KeptTail
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import EgoState, Trajectory, VectorScene, frames
from planner.supervise import SupervisedPlan, Supervisor, SupervisorConfig
from planner.supervisor_state import State, StateConfig, StateMachine


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


def later(scene_v: float, travelled: float, seconds: float, v: float | None = None, **more) -> VectorScene:
    """The scene after ego moved straight on; the world's x axis is turned and far away to exercise the frames."""
    pose = frames.compose(torch.tensor([500.0, -80.0, 2.0], dtype=F64), torch.tensor([travelled, 0.0, 0.0], dtype=F64))
    time_us = 1_000_000_000 + round(seconds * 1e6)
    return make_scene(scene_v if v is None else v, time_us=time_us, pose=tuple(pose.tolist()), **more)


# -- candidates ----------------------------------------------------------------------------


def test_the_preferred_candidate_is_driven_when_it_passes() -> None:
    out = cycle(Supervisor(), make_scene(8.0), plan_of(good(), off_road()))
    assert (out.source, out.candidate_index, out.state, out.reason) == ("candidate", 0, "NORMAL", "")
    assert out.tail_accepted
    assert out.report is not None
    assert out.report.accepted


def test_the_next_candidate_is_driven_when_the_first_does_not_pass() -> None:
    out = cycle(Supervisor(), make_scene(8.0), plan_of(off_road(), candidate(None, None), good()))
    assert (out.source, out.candidate_index) == ("candidate", 2)
    assert out.tail_accepted
    assert [name for name, _ in out.rejected] == ["off the road"]
    assert out.reason.startswith("candidate 0 rejected")


def test_no_more_candidates_than_allowed_are_checked() -> None:
    config = SupervisorConfig(max_checked=2)
    out = cycle(Supervisor(config=config), make_scene(8.0), plan_of(off_road(), off_road(), good()))
    assert out.source == "braking"
    assert config.max_checked == sum(name == "off the road" for name, _ in out.rejected)


def test_the_check_budget_ends_the_search_but_never_before_the_first() -> None:
    config = SupervisorConfig(check_budget=0.0)
    assert cycle(Supervisor(config=config), make_scene(8.0), plan_of(good())).source == "candidate"
    assert cycle(Supervisor(config=config), make_scene(8.0), plan_of(off_road(), good())).source == "braking"


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
    s = Supervisor()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    out = cycle(s, later(8.0, 0.8, 0.1), None if plan is None else plan_of(plan()), **more)
    assert out.source == "tail"
    assert out.reason.startswith(reason)
    assert out.tail_accepted
    assert out.state == State.DEGRADED


def test_the_deadline_just_met_is_met() -> None:
    assert cycle(Supervisor(), make_scene(8.0), plan_of(good()), elapsed=0.1).source == "candidate"


def test_the_kept_tail_is_the_same_motion_seen_from_where_ego_is_now() -> None:
    s = Supervisor()
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
    s = Supervisor()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    states = []
    for step in range(1, 60):
        t = 0.1 * step
        x, v, a = (float(np.interp(t, tail.time, f)) for f in (tail.x, tail.v, tail.a))
        out = cycle(s, later(8.0, x, t, v=v, a=a), None)
        assert out.tail_accepted, (step, out.reason)
        states.append(out.state)
    assert out.source == "tail"
    assert float(out.trajectory.v.abs().max()) == 0.0
    assert states[3] == State.DEGRADED
    assert states[4] == State.MINIMAL_RISK


def test_a_birth_in_the_kept_tails_way_means_braking_harder() -> None:
    s = Supervisor()
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
    s = Supervisor()
    cycle(s, later(8.0, 0.0, 0.0), plan_of(good()))
    wall = agent(5.5, 0.0, track_id=78, size=(1.0, 4.0))
    out = cycle(s, later(8.0, 0.8, 0.1, agents=(wall,)), plan_of(good()))
    assert not out.tail_accepted
    assert "nothing passes" in out.reason
    assert out.report is not None
    margins = [r.worst_margin for name, r in out.rejected if "kept" in name or "braking" in name]
    assert out.report.worst_margin == max(margins)


def test_nothing_kept_means_full_braking() -> None:
    out = cycle(Supervisor(), make_scene(8.0), None)
    assert (out.source, out.state) == ("braking", State.EMERGENCY)
    assert out.tail_accepted
    assert "nothing kept" in out.reason
    assert float(out.trajectory.a.min()) < -7.0


def test_ego_standing_without_a_plan_stays_standing_with_an_accepted_tail() -> None:
    out = cycle(Supervisor(), make_scene(0.0, (agent(4.0, 0.0), agent(-5.0, 0.0))), None)
    assert out.tail_accepted
    assert out.state == State.DEGRADED
    assert float(out.trajectory.v.abs().max()) == 0.0


def test_a_kept_tail_that_ego_has_left_is_not_trusted() -> None:
    s = Supervisor()
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
    s = Supervisor()
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
    out = cycle(Supervisor(), broken_scenes()[i], plan_of(good()))
    assert out.source == "braking"
    assert out.state == State.EMERGENCY
    assert "nothing kept" in out.reason


def test_dead_reckoning_goes_on_from_the_last_sound_scene() -> None:
    s = Supervisor()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    at = lambda t, f: float(np.interp(t, tail.time, f))  # noqa: E731
    for t in (0.1, 0.2, 0.3):
        cycle(s, later(8.0, at(t, tail.x), t, v=at(t, tail.v), a=at(t, tail.a)), None)
    assert float(cycle(s, None).trajectory.v[0]) == pytest.approx(at(0.4, tail.v), abs=0.02)


def test_malformed_plans_are_rejected_plans() -> None:
    s = Supervisor()
    short = drive(8.0).apply(lambda t: t[:1])
    uneven = drive(8.0).replace(x=drive(8.0).x[:-1])
    nan = drive(8.0).replace(x=drive(8.0).x * torch.nan)
    for bad in (short, uneven, nan):
        out = cycle(s, make_scene(8.0), plan_of(candidate(bad, bad), good()))
        assert (out.source, out.candidate_index) == ("candidate", 1)


# -- states --------------------------------------------------------------------------------


def test_states_go_down_at_once_and_up_with_patience() -> None:
    m = StateMachine(StateConfig(recover_after=4, release_after=2, minimal_risk_after=3))
    assert m.fell_back(emergency=False) == State.DEGRADED
    assert [m.accepted() for _ in range(4)] == [State.DEGRADED] * 3 + [State.NORMAL]
    assert [m.fell_back(False) for _ in range(3)] == [State.DEGRADED, State.DEGRADED, State.MINIMAL_RISK]
    m.failed_check()
    assert m.fell_back(True) == State.EMERGENCY
    assert m.fell_back(False) == State.EMERGENCY, "a fallback never leads back up"
    assert m.holds_back(tail_passes=True)
    assert not m.holds_back(tail_passes=False), "the latch never outweighs the check"
    m.health_check()
    assert not m.holds_back(tail_passes=True)
    assert [m.accepted() for _ in range(3)] == [State.DEGRADED, State.DEGRADED, State.NORMAL]


def test_a_latched_state_is_left_only_after_a_steady_run_of_accepted_plans() -> None:
    s = Supervisor()
    tail = cycle(s, later(8.0, 0.0, 0.0), plan_of(good())).tail
    sources = []
    for step in range(1, 26):
        t = 0.1 * step
        x, v, a = (float(np.interp(t, tail.time, f)) for f in (tail.x, tail.v, tail.a))
        scene = later(8.0, x, t, v=v, a=a)
        held = drive(v, a=0.0) if v > 0.5 else None
        offered = plan_of(candidate(held, with_tail(held))) if step > 6 and held is not None and abs(a) < 1 else None
        out = cycle(s, scene, offered)
        sources.append((step, out.source, out.state))
        if out.source == "candidate":
            break
    assert sources[5][2] == State.MINIMAL_RISK
    assert all(source == "tail" for _, source, _ in sources[:6])


def test_recovery_from_minimal_risk_at_rest() -> None:
    s = Supervisor()
    stand = fallback.maximum_braking(EgoState.at_origin(0.0))
    for _ in range(6):
        out = cycle(s, make_scene(0.0), None)
    assert out.state == State.MINIMAL_RISK
    away = drive(0.0, a=0.8)
    waited = [cycle(s, make_scene(0.0, a=0.8), plan_of(candidate(away, with_tail(away)))) for _ in range(12)]
    assert [w.source for w in waited[:3]] == ["tail", "tail", "candidate"]
    assert "recovering" in waited[0].reason
    assert [w.state for w in waited[2:]] == [State.DEGRADED] * 7 + [State.NORMAL] * 3
    assert float(stand.v.abs().max()) == 0.0


def test_reset_forgets_everything() -> None:
    s = Supervisor()
    cycle(s, make_scene(8.0), plan_of(good()))
    cycle(s, make_scene(8.0), None)
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
    kept = KeptTail.keep(with_tail(drive(8.0)), scene)
    after = kept.now(later(8.0, 5.0, 100.0))
    assert float(after.v.abs().max()) == 0.0
    assert len(after.time) == 2
    before = kept.now(scene.replace(ego=scene.ego.replace(time_us=scene.ego.time_us - 500_000)))
    assert float(before.x[0]) == pytest.approx(0.0, abs=1e-9)

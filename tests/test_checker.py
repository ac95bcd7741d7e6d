"""The checker: safe plans pass, seeded-unsafe ones do not, each rule just inside and just outside."""

from __future__ import annotations

import ast
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner import fallback
from planner.checker import CheckerConfig, CheckReport, check, check_prepared, prepare
from planner.checker.motion import Motion
from planner.checker.rules import kinematics
from planner.scene import AgentClass, EgoState, PolylineType, Trajectory, VectorScene, VehicleParameters, frames

V, C = VehicleParameters(), CheckerConfig()


def rules(report: CheckReport) -> set[str]:
    return {v.rule for v in report.violations}


def judged(scene: VectorScene, trajectory: Trajectory, braking: float = 4.0) -> CheckReport:
    return check(scene, trajectory, with_tail(trajectory, braking), V, C)


# -- plans that must pass ------------------------------------------------------------------


@pytest.mark.parametrize(
    "agents",
    [
        (),
        (agent(35, 0, v=8.0),),  # a leader at the same speed
        (agent(40, 3.5, np.pi, v=9.0),),  # oncoming traffic in its lane
        (agent(12, 3.2, np.pi),),  # a car standing 1.3 m to the side
        (agent(15, -3.0, np.pi / 2, kind=AgentClass.PEDESTRIAN),),  # somebody standing beside the road
        (agent(-8, 0, v=9.0),),  # a follower
        (agent(25, -4.0, v=1.4, kind=AgentClass.PEDESTRIAN),),  # somebody walking along
    ],
)
def test_ordinary_driving_is_accepted(agents: tuple) -> None:
    report = judged(make_scene(8.0, agents), drive(8.0))
    assert report.accepted, report.reason
    assert report.worst_margin > 0


def test_the_verdict_does_not_depend_on_the_frame() -> None:
    scene = make_scene(8.0, (agent(18, 0, v=1.0, track_id=4), agent(20, 2.5, np.pi, v=3.0, track_id=5)))
    plan, tail = drive(8.0), with_tail(drive(8.0))
    here = check(scene, plan, tail, V, C)
    pose = torch.tensor([120.0, -40.0, 2.1], dtype=F64)

    def moved(motion: Trajectory) -> Trajectory:
        xy = frames.transform_points(pose, motion.xy)
        return motion.replace(x=xy[:, 0], y=xy[:, 1], yaw=motion.yaw + pose[2])

    there = check(scene.transformed(pose), moved(plan), moved(tail), V, C)
    assert there.worst_margin == pytest.approx(here.worst_margin, abs=1e-6)
    assert rules(there) == rules(here)


# -- seeded-unsafe plans -------------------------------------------------------------------


def random_safe_case(rng: np.random.Generator) -> tuple[VectorScene, Trajectory]:
    v, a = rng.uniform(3, 11), rng.uniform(-1.0, 1.0)
    lead = agent(3 + 3 * v + rng.uniform(0, 20), 0, v=v + 1, track_id=1)
    beside = agent(rng.uniform(0, 20), 3.6, np.pi * rng.integers(2), v=rng.uniform(0, 8), track_id=2)
    walker = agent(rng.uniform(5, 30), -4.2, 0.0, v=1.0, kind=AgentClass.PEDESTRIAN, track_id=3)
    return make_scene(v, (lead, beside, walker), a=a), drive(v, 3.0, a=a)


def test_mutations_of_safe_plans_are_rejected(rng: np.random.Generator) -> None:
    """Inflated, shifted, late, kinked, too fast, off the road: 100 % of them, with the base accepted."""
    missed: list[str] = []
    accepted = 0
    for _ in range(60):
        scene, plan = random_safe_case(rng)
        base = judged(scene, plan, 5.0)
        accepted += base.accepted
        tail = with_tail(plan, 5.0)
        v = float(plan.v[0])
        wall = agent(float(tail.x[-1]) + V.front + 0.3, 0.0, kind=AgentClass.STATIC, size=(1.0, 6.0), track_id=9)
        assert judged(make_scene(v, (bollard(v, 0.0),), a=float(plan.a[0])), plan, 5.0).accepted
        blocked = make_scene(v, (wall,), a=float(plan.a[0]))
        unsafe = {
            "inflated": (make_scene(v, (bollard(v, 3.0),), a=float(plan.a[0])), plan, tail),
            "shifted": (scene, shifted(plan, 0.8), shifted(tail, 0.8)),
            "late": (blocked, plan, late(plan, tail)),
            "kinked": (scene, kinked(plan, rng), tail),
            "kinked tail": (scene, plan, kinked(tail, rng)),
            "too fast": (scene, plan.replace(v=1.3 * plan.v), tail),
            "faster in time": (scene, plan.replace(time=0.8 * plan.time), tail),
            "off the road": (scene, drifting(v, float(plan.a[0])), with_tail(drifting(v, float(plan.a[0])), 5.0)),
            "no rest": (scene, plan, plan),
            "teleport": (scene, plan, teleported(tail)),
        }
        for name, (where, trajectory, stop) in unsafe.items():
            if check(where, trajectory, stop, V, C).accepted:
                missed.append(name)
    assert accepted >= 57, f"only {accepted} of 60 safe plans accepted"
    assert not missed


def bollard(v: float, wider: float) -> dict:
    """Beside ego's way, half a second ahead; `wider` m makes it reach into it."""
    return agent(V.front + 0.5 + 0.5 * v, 1.8, kind=AgentClass.STATIC, size=(0.6, 0.6 + wider), track_id=8)


def shifted(motion: Trajectory, by: float) -> Trajectory:
    return motion.replace(y=motion.y + by)


def late(plan: Trajectory, tail: Trajectory) -> Trajectory:
    """The same stop, begun 0.5 s later than the tail that just fits."""
    return with_tail(plan, 5.0, shared=0.8)


def kinked(motion: Trajectory, rng: np.random.Generator) -> Trajectory:
    y = motion.y.clone()
    i = int(rng.integers(4, min(20, len(y))))
    y[i:] += 0.12
    return motion.replace(y=y)


def teleported(motion: Trajectory) -> Trajectory:
    x = motion.x.clone()
    x[5:] -= 0.5
    return motion.replace(x=x)


def drifting(v: float, a: float) -> Trajectory:
    """Curves off the road to the right within limits."""
    time = np.arange(0.0, 3.01, 0.1)
    rows = [(0.0, 0.0, 0.0, 0.0, v, a, 0.0)]
    for t in time[1:]:
        _, x, y, yaw, speed, _, k = rows[-1]
        rate = max(-0.1, (-0.04 - k) / 0.1)
        x, y, yaw = fallback.advance(x, y, yaw, speed, a, 0.0, k, rate, 0.1)
        rows.append((t, x, y, yaw, speed + a * 0.1, a, k + rate * 0.1))
    return Trajectory(*(c.clone() for c in torch.tensor(np.array(rows), dtype=F64).T))


def test_numbers_that_are_none_are_violations_not_errors() -> None:
    scene, plan = make_scene(), drive(8.0)
    tail = with_tail(plan)
    for name in ("x", "y", "yaw", "v", "a", "curvature", "time"):
        for bad in (np.nan, np.inf, -np.inf):
            broken = getattr(plan, name).clone()
            broken[3] = bad
            assert not check(scene, plan.replace(**{name: broken}), tail, V, C).accepted
            broken = getattr(tail, name).clone()
            broken[-1] = bad
            assert not check(scene, plan, tail.replace(**{name: broken}), V, C).accepted


def test_misuse_is_refused_with_numbers() -> None:
    scene, plan = make_scene(), drive(8.0)
    with pytest.raises(ValueError, match="single scene"):
        check(VectorScene.stack([scene, scene]), plan, plan, V, C)
    with pytest.raises(ValueError, match="T >= 2"):
        check(scene, plan.apply(lambda t: t[:1]), plan, V, C)


# -- kinematic rules, inside and outside ----------------------------------------------------


def motion(v: float = 10.0, a: float = 0.0, curvature: float = 0.0) -> Motion:
    return Motion.of(drive(v, 1.0, a=a, curvature=curvature))


def found(m: Motion) -> set[str]:
    rules_found = kinematics.well_formed(m, "n")
    rules_found.add(kinematics.consistency(m, C, "n"))
    rules_found.add(kinematics.envelope(m, V, C, "n"))
    return {v.rule for v in rules_found.violations}


E = 1e-4
SLACK = C.envelope


def ramp(m: Motion, name: str, by: float) -> Motion:
    """A jump of `by` in one entry of a field, nothing else changed."""
    values = getattr(m, name).copy()
    values[5:] += by
    return replace(m, **{name: values})


@pytest.mark.parametrize(
    ("rule", "build", "limit"),
    [
        ("n_braking", lambda x: motion(12.0, -x), SLACK * 8.0),
        ("n_speed_max", lambda x: motion(x), SLACK * 25.0),
        ("n_reverse", lambda x: motion(-x), 0.02),
        ("n_jerk", lambda x: ramp(motion(10.0, -3.0), "a", -0.1 * x), SLACK * 12.0),
        ("n_curvature_rate", lambda x: ramp(motion(2.0), "curvature", 0.1 * x), SLACK * 0.25),
        ("n_curvature_rate", lambda x: ramp(motion(2.0), "curvature", -0.1 * x), SLACK * 0.25),
        ("n_lateral_jerk", lambda x: ramp(motion(16.0), "curvature", 0.1 * x / 256), SLACK * 20.0),
        ("n_consistent_speed", lambda x: ramp(motion(10.0), "v", x), 0.1),
        ("n_consistent_position", lambda x: replace(motion(), pose=moved_pose(motion(), 1, x)), 0.05),
        ("n_consistent_yaw", lambda x: replace(motion(1.0), pose=moved_pose(motion(1.0), 2, x)), 0.02),
    ],
)
def test_each_limit_just_inside_and_just_outside(rule: str, build, limit: float) -> None:
    assert rule not in found(build(limit * (1 - E)))
    assert rule in found(build(limit * (1 + E)))


def moved_pose(m: Motion, axis: int, by: float) -> np.ndarray:
    pose = m.pose.copy()
    pose[5:, axis] += by
    return pose


@pytest.mark.parametrize(
    ("rule", "name", "limit", "v"),
    [
        ("n_acceleration", "a", SLACK * 3.0, 5.0),
        ("n_curvature", "curvature", SLACK * 0.2, 1.0),
        ("n_lateral_acceleration", "curvature", SLACK * 5.0 / 100, 10.0),
    ],
)
def test_limits_that_the_start_may_already_break(rule: str, name: str, limit: float, v: float) -> None:
    """Reached during the plan: a violation. There from the start and not made worse: tolerated."""
    slowly = np.linspace(0, 1, 11)
    build = lambda x: replace(motion(v), **{name: slowly * x})  # noqa: E731
    assert rule not in found(build(limit * (1 - E)))
    assert rule in found(build(limit * (1 + E)))
    from_start = replace(motion(v), **{name: np.full(11, 1.2 * limit)})
    assert rule not in found(from_start)


def test_grip_is_shared_between_braking_and_cornering() -> None:
    use = lambda share: motion(10.0, -8.0 * share, 5.0 * share / 100)  # noqa: E731
    both = np.sqrt(0.5) * SLACK
    assert "n_grip" not in found(ramped_grip(use(both * (1 - E))))
    assert "n_grip" in found(ramped_grip(use(both * (1 + E))))


def ramped_grip(m: Motion) -> Motion:
    """The same, beginning with no use of grip, so that the start excuses nothing."""
    a, k = m.a.copy(), m.curvature.copy()
    a[0] = k[0] = 0.0
    return replace(m, a=a, curvature=k, v=np.full_like(m.v, 10.0))


def test_slow_drift_is_found_where_each_step_is_tolerable() -> None:
    m = motion(10.0)
    pose = m.pose.copy()
    pose[:, 1] += np.linspace(0, 0.35, 11)
    assert found(replace(m, pose=pose)) == {"n_drift"}
    pose[:, 1] *= 0.25 / 0.35
    assert not found(replace(m, pose=pose))


@pytest.mark.parametrize(
    ("rule", "field", "limit"),
    [
        ("start_position", "x", C.start_position),
        ("start_position", "y", C.start_position),
        ("start_yaw", "yaw", C.start_yaw),
        ("start_speed", "v", C.start_speed),
        ("start_acceleration", "a", C.start_acceleration),
        ("start_curvature", "curvature", C.start_curvature),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("sign", [-1, 1])
def test_plans_start_where_ego_is(rule: str, field: str, limit: float, kept: bool, sign: int) -> None:
    factor = C.kept_factor if kept else 1.0
    for scale, expected in ((1 - E, False), (1 + E, True)):
        ego = np.array([0.0, 0.0, 0.0, 10.0, 0.0, 0.0])
        ego[("x", "y", "yaw", "v", "a", "curvature").index(field)] += sign * factor * limit * scale
        names = {v.rule for v in kinematics.start_state(motion(), ego, C, kept, "n").violations}
        assert (f"n_{rule}" in names) == expected


def test_tail_and_plan_share_their_beginning() -> None:
    scene, plan = make_scene(8.0), drive(8.0)
    assert "tail_shared" in rules(check(scene, plan, with_tail(plan, 7.0, shared=0.0), V, C))
    assert "tail_shared" not in rules(check(scene, plan, with_tail(plan, 7.0, shared=0.3), V, C))


def test_tail_must_end_at_rest_in_time() -> None:
    scene, plan = make_scene(8.0), drive(8.0)
    assert "tail_rest" in rules(check(scene, plan, plan, V, C))
    slow = replace(C, tail_horizon=2.0)
    assert "tail_rest" in rules(check(scene, plan, with_tail(plan), V, slow))
    assert "tail_rest" not in rules(check(scene, plan, with_tail(plan), V, C))


# -- objects -------------------------------------------------------------------------------


def test_clearance_to_a_standing_object_just_inside_and_outside() -> None:
    plan, width = drive(6.0, 3.0), V.width / 2
    for gap, ok in ((C.clearance + 0.01, True), (C.clearance - 0.01, False)):
        post = agent(10.0, width + gap + 0.25, kind=AgentClass.STATIC, track_id=3)
        report = judged(make_scene(6.0, (post,)), plan)
        assert report.accepted == ok, gap
        assert report.worst_margin == pytest.approx(gap - C.clearance, abs=0.003)
        assert ok or {v.track_id for v in report.violations} == {3}


def test_a_leader_too_close_to_stop_behind_is_found_by_the_worst_case_only() -> None:
    """The forecast says it drives on; the set and RSS say it may brake with 5 m/s^2."""
    close = judged(make_scene(10.0, (agent(9.0, 0, v=10.0),)), drive(10.0))
    assert rules(close) == {"tail_object", "rss_same"}
    assert judged(make_scene(10.0, (agent(17.0, 0, v=10.0),)), drive(10.0), 5.0).accepted


def test_unlikely_modes_count_early_and_likely_ones_always() -> None:
    for place, p, ok in ((10.0, 0.3, False), (22.0, 0.3, True), (22.0, 0.6, False), (10.0, 0.05, True)):
        scene = make_scene(8.0, (agent(60.0, 20.0, 0.0, v=0.0, track_id=5),))
        f = scene.futures
        mean = f.mean.repeat(1, 2, 1, 1)
        mean[:, 1, :, 0], mean[:, 1, :, 1] = place, 0.0
        scene = scene.replace(
            futures=f.replace(
                mean=mean, yaw=f.yaw.repeat(1, 2, 1), covariance=f.covariance.repeat(1, 2, 1, 1, 1),
                probability=torch.tensor([[1 - p, p]], dtype=F64), valid=f.valid.repeat(1, 2, 1),
            )
        )  # fmt: skip
        report = judged(scene.validate(), drive(8.0), 6.0)
        assert report.accepted == ok, (place, p, report.reason)
        if p == 0.3 and ok:
            assert "nominal_object_unlikely" in {r.rule for r in report.records}


def test_what_exists_too_unlikely_is_not_looked_at() -> None:
    scene = make_scene(8.0, (agent(12.0, 0.0),))
    assert not judged(scene, drive(8.0)).accepted
    ghost = scene.agents.replace(existence=torch.tensor([0.5 * C.existence], dtype=F64))
    assert judged(scene.replace(agents=ghost), drive(8.0)).accepted
    padding = scene.agents.replace(valid=torch.tensor([False]))
    assert judged(scene.replace(agents=padding), drive(8.0)).accepted


def test_followers_keep_their_own_distance_but_not_when_ego_cuts_in() -> None:
    tailgater = make_scene(8.0, (agent(-6.0, 0.0, v=12.0, track_id=2),))
    report = judged(tailgater, drive(8.0))
    assert report.accepted
    assert "tail_object_their_duty" in {r.rule for r in report.records}
    beside = make_scene(8.0, (agent(-8.0, 2.6, v=14.0, track_id=2),), half_width=20.0)
    assert judged(beside, drive(8.0)).accepted
    cut_in = drive(8.0, curvature=0.02)
    report = judged(make_scene(8.0, (agent(-8.0, 2.6, v=14.0, track_id=2),), curvature=0.02, half_width=20.0), cut_in)
    assert not report.accepted
    assert {v.track_id for v in report.violations} == {2}


def test_what_touches_already_must_only_not_come_closer() -> None:
    hit = agent(-1.5, 0.0, v=0.0, track_id=6)  # it overlaps ego's rear
    away, into = make_scene(3.0, (hit,)), make_scene(3.0, (agent(5.5, 0.0, track_id=6),))
    report = judged(away, drive(3.0))
    assert report.accepted, report.reason
    assert "nominal_object_touching" in {r.rule for r in report.records}
    assert not judged(into, drive(3.0)).accepted


def test_standing_is_always_allowed() -> None:
    around = tuple(agent(x, y, v=v, track_id=i) for i, (x, y, v) in enumerate([(4.0, 0, 0), (-6, 0, 9), (1, 2.0, 3)]))
    stand = fallback.maximum_braking(EgoState.at_origin(0.0))
    for scene in (make_scene(0.0, around), make_scene(0.0, right_edge=0.2), make_scene(0.0, right_edge=-3.0)):
        report = check(scene, stand, stand, V, C)
        assert report.accepted
        assert "standing" in {r.rule for r in report.records}


def test_after_coming_to_rest_others_are_responsible() -> None:
    """A tail that stands before the crossing car can be there is fine, though the car then drives into ego."""
    crossing = agent(13.0, -24.0, np.pi / 2, v=6.0, track_id=1)
    stop = fallback.maximum_braking(EgoState.at_origin(6.0))
    wide = make_scene(6.0, (crossing,), right_edge=40.0)
    assert not {v for v in check(wide, stop, stop, V, C).violations if v.rule == "tail_object"}


# -- road ----------------------------------------------------------------------------------


def test_boundary_just_inside_and_just_outside() -> None:
    for gap, ok in ((0.005, True), (-0.005, False)):
        scene = make_scene(6.0, right_edge=V.width / 2 + 1.0, a=0.0)
        plan = drive(6.0, 3.0)
        # The whole motion runs 1 m - gap to the right of the start: shift the road instead of the plan.
        edge = torch.stack(
            [torch.linspace(5, 150, 101, dtype=F64), torch.full((101,), -V.width / 2 - gap, dtype=F64)], -1
        )
        joined = torch.cat([torch.tensor([[5.0, -10.0]], dtype=F64), edge])
        scene = make_scene(6.0, right_edge=20.0, lines=((joined, PolylineType.BOUNDARY),))
        report = judged(scene, plan)
        assert report.accepted == ok
        assert ok or rules(report) == {"nominal_boundary", "tail_boundary"}


def test_over_the_edge_the_way_back_is_open_and_the_way_out_is_not() -> None:
    scene = make_scene(4.0, right_edge=0.5)  # half of ego's right side is outside
    back, out = drive(4.0, 3.0, curvature=0.02), drive(4.0, 3.0, curvature=-0.02)
    scene_back, scene_out = (make_scene(4.0, right_edge=0.5, curvature=k) for k in (0.02, -0.02))
    report = judged(scene_back, back)
    assert report.accepted, report.reason
    assert "nominal_boundary_outside_now" in {r.rule for r in report.records}
    assert not judged(scene_out, out).accepted
    assert judged(scene, drive(4.0, 3.0)).accepted


def test_a_scene_without_boundary_says_so() -> None:
    report = judged(make_scene(8.0, boundary=False), drive(8.0))
    assert report.accepted
    assert "no_boundary" in {r.rule for r in report.records}


def test_closed_stop_lines_hold_and_open_ones_do_not() -> None:
    line = torch.tensor([[20.0, -2.0], [20.0, 2.0]], dtype=F64)
    for closed, place, ok in ((True, 20.0, False), (False, 20.0, True), (True, 2.0, True)):
        here = line.clone()
        here[:, 0] = place
        scene = make_scene(8.0, lines=((here, PolylineType.STOP_LINE),))
        mark = (scene.map.kind == int(PolylineType.STOP_LINE)) & closed
        report = judged(scene.replace(map=scene.map.replace(closed=mark)), drive(8.0), 6.0)
        assert report.accepted == ok
        assert ok or "nominal_stop_line" in rules(report)


def test_speed_limit_binds_the_plan_but_never_a_stop() -> None:
    allowed = C.speed_factor * 8.0 + C.speed_extra
    just, over = drive(allowed - 1.0, 3.0, a=0.3), drive(allowed - 0.5, 3.0, a=0.3)
    assert "speed_limit" not in rules(judged(make_scene(allowed - 1.0, a=0.3, limit=8.0), just))
    assert "speed_limit" in rules(judged(make_scene(allowed - 0.5, a=0.3, limit=8.0), over))
    slowing = drive(14.0, 3.0, a=-1.0)
    assert judged(make_scene(14.0, a=-1.0, limit=8.0), slowing).accepted
    stop = fallback.maximum_braking(EgoState.at_origin(14.0))
    assert check(make_scene(14.0, limit=5.0), stop, stop, V, C).accepted


def test_the_wrong_way_is_recorded_and_not_rejected() -> None:
    scene = make_scene(6.0, half_width=10.0)
    onto = drive(6.0, 3.0)
    line = torch.stack([torch.linspace(150, -50, 101, dtype=F64), torch.full((101,), 0.2, dtype=F64)], -1)
    report = judged(make_scene(6.0, half_width=10.0, lines=((line, PolylineType.CENTERLINE),)), shifted(onto, 0.0))
    assert report.accepted
    assert "wrong_way" not in {r.rule for r in judged(scene, onto).records}
    only = make_scene(6.0, half_width=10.0)
    reverse = only.replace(map=only.map.replace(xy=only.map.xy.clone()))
    reverse.map.xy[0] = reverse.map.xy[0].flip(0)
    assert "wrong_way" in {r.rule for r in judged(reverse, onto).records}


# -- independence and time ------------------------------------------------------------------


def test_the_second_channel_shares_no_code_with_the_planner() -> None:
    root = Path(__file__).resolve().parent.parent / "planner"
    own = {f: {f"planner.{part}"} for part in ("checker", "fallback") for f in sorted((root / part).rglob("*.py"))}
    assert len(own) > 20
    for file, mine in {**own, root / "limiter.py": set()}.items():
        allowed = {"planner.scene", *mine}
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [n.name for n in node.names]
            for name in names:
                if name.split(".")[0] not in {"planner", "perception", "eval"}:
                    continue
                assert any(name == a or name.startswith(a + ".") for a in allowed), f"{file.name} imports {name}"


def dense_scene(rng: np.random.Generator) -> VectorScene:
    """64 agents x 6 modes, 200 boundary pieces of 19 segments."""
    kinds = [
        (AgentClass.CAR, -4.0, 0.0, 0.0),
        (AgentClass.CAR, 3.6, np.pi, 8.0),
        (AgentClass.PEDESTRIAN, 7.0, 0.3, 1.2),
    ]
    agents = []
    for i in range(64):
        kind, y, yaw, v = kinds[i % 3]
        agents.append(agent(rng.uniform(-60, 80), y, yaw, v, kind, track_id=i))
    lines = []
    for _ in range(200):
        x, y = rng.uniform(-80, 60), rng.uniform(12, 60) * rng.choice([-1, 1])
        points = torch.stack([torch.linspace(x, x + 19, 20, dtype=F64), torch.full((20,), y, dtype=F64)], -1)
        lines.append((points, PolylineType.BOUNDARY))
    scene = make_scene(10.0, tuple(agents), lines=tuple(lines))
    f = scene.futures
    return scene.replace(
        futures=f.replace(
            mean=f.mean.repeat(1, 6, 1, 1), yaw=f.yaw.repeat(1, 6, 1), covariance=f.covariance.repeat(1, 6, 1, 1, 1),
            probability=torch.full((64, 6), 1 / 6, dtype=F64), valid=f.valid.repeat(1, 6, 1),
        )
    )  # fmt: skip


def test_checking_is_fast_enough_for_a_cycle(rng: np.random.Generator) -> None:
    """Generous for a busy machine; `benchmarks/checker_speed.py` measures."""
    scene = dense_scene(rng)
    sets, plan = prepare(scene, V, C), drive(10.0)
    tail, spent = with_tail(plan), []
    for _ in range(20):
        begin = time.process_time()
        check_prepared(sets, plan, tail, V, C)
        spent.append(time.process_time() - begin)
    assert sorted(spent)[10] < 0.02

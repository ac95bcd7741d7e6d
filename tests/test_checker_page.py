"""The page and the rules about others: what is looked at, until when, what is left to others, and what is said."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
import torch
from checker_probe import body, nominal_objects, predicted, tail_objects
from checker_scenes import F64, agent, drive, make_scene, with_tail

import planner.checker
from planner import fallback
from planner.checker import CheckerConfig, CheckReport, SceneSets, Violation, check, check_prepared, prepare
from planner.checker.motion import Motion
from planner.scene import (
    AgentClass,
    EgoState,
    PolylineType,
    RawObstacles,
    RawStatus,
    Trajectory,
    VectorScene,
    VehicleParameters,
    frames,
)

V, C = VehicleParameters(), CheckerConfig()


def wide(v: float, agents: tuple = (), **more) -> VectorScene:
    return make_scene(v, agents, half_width=60.0, right_edge=60.0, **more)


def sets(scene: VectorScene, **config: float) -> SceneSets:
    return prepare(scene, V, replace(C, **config))


def names(found: list[Violation] | tuple[Violation, ...]) -> set[str]:
    return {v.rule for v in found}


def one(found: list[Violation] | tuple[Violation, ...], rule: str) -> Violation:
    (only,) = (v for v in found if v.rule == rule)
    return only


# -- others ----------------------------------------------------------------------------------------


def test_margins_to_things_that_stand_agree_with_shapely(rng: np.random.Generator) -> None:
    """Random things around a random motion: the smallest gap, the time of it, and one violation for each thing."""
    met = {"hit": 0, "near": 0, "far": 0}
    for _ in range(60):
        plan = drive(rng.uniform(3, 9), 3.0, curvature=rng.uniform(-0.03, 0.03))
        motion = Motion.of(plan)
        things = []
        for i in range(3):
            at = motion.pose[int(rng.integers(8, 31)), :2] + rng.uniform(-5, 5, 2)
            size = (rng.uniform(0.3, 3.0), rng.uniform(0.3, 1.0))
            things.append(agent(*at, rng.uniform(-3, 3), kind=AgentClass.STATIC, size=size, track_id=20 + i))
        scene = sets(wide(8.0, tuple(things)))
        if scene.touching.any():
            continue
        sweeps = motion.sweeps(V)
        bodies = [body(p) for p in motion.pose]
        hulls = [shapely.union_all([a, b]).convex_hull for a, b in pairwise(bodies)]
        gaps = np.array([
            [h.distance(shapely.Polygon(c)) for h in hulls]
            for c in predicted(scene).boxes.corners[0]
        ]) - sweeps.disc  # fmt: skip
        for finding, rule in (
            (nominal_objects(scene, motion, C), "nominal_object"),
            (tail_objects(scene, motion, C), "tail_object"),
        ):
            if gaps.min() > 2.1:
                assert finding.margin > 1.9
            elif gaps.min() > 0:
                assert finding.margin == pytest.approx(gaps.min() - C.clearance, abs=1e-6)
            else:
                assert finding.margin < 0
            assert {v.track_id for v in finding.violations} == {20 + i for i in range(3) if gaps[i].min() < C.clearance}
            for v in finding.violations:
                assert v.rule == rule
                row = gaps[v.track_id - 20]
                assert row[round(v.time / 0.1)] < C.clearance
                if row.min() > 0:
                    assert v.margin == pytest.approx(row.min() - C.clearance, abs=1e-6)
                    assert f"gap {row.min():.2f} m" in v.detail
        key = "hit" if gaps.min() < C.clearance else "near" if gaps.min() < 2 else "far"
        met[key] += 1
    assert met["hit"] > 10
    assert met["near"] > 5


@pytest.mark.parametrize("side", ["ahead", "beside"])
@pytest.mark.parametrize("size", [(12.0, 2.5), (0.4, 0.4), (2.5, 12.0)])
def test_margins_are_reported_up_to_two_metres(side: str, size: tuple[float, float]) -> None:
    """Something that stands 1.9 m before the end of a short move, or beside it: long, small or broad."""
    plan = drive(1.0, 3.0)
    motion = Motion.of(plan)
    ahead = (3.0 + V.front + 1.9 + size[0] / 2, 0.0)
    beside = (1.5, -V.width / 2 - 1.9 - size[1] / 2)
    for kind in (AgentClass.STATIC, AgentClass.BUS, AgentClass.PEDESTRIAN):
        post = agent(*(ahead if side == "ahead" else beside), kind=kind, size=size, track_id=2)
        scene = sets(wide(1.0, (post,)))
        assert nominal_objects(scene, motion).margin == pytest.approx(1.9 - C.clearance, abs=1e-6)
        grown = 0.0 if kind == AgentClass.STATIC or (kind == AgentClass.BUS) else 0.4
        assert tail_objects(scene, motion).margin == pytest.approx(1.9 - grown - C.clearance, abs=1e-6)


def two_modes(place: float, p: float, when: float | None = None) -> VectorScene:
    """Somebody far off who is in ego's way with probability p, from `when` s on only."""
    scene = make_scene(8.0, (agent(60.0, 20.0, 0.0, v=0.0, track_id=5),), half_width=60.0)
    f = scene.futures
    mean = f.mean.repeat(1, 2, 1, 1)
    mean[:, 1, :, 0], mean[:, 1, :, 1] = place, 0.0
    valid = f.valid.repeat(1, 2, 1)
    if when is not None:
        valid[:, 1] = f.time > when - 0.3
    return scene.replace(
        futures=f.replace(
            mean=mean, yaw=f.yaw.repeat(1, 2, 1), covariance=f.covariance.repeat(1, 2, 1, 1, 1),
            probability=torch.tensor([[1 - p, p]], dtype=F64), valid=valid,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("p", "counts"), [(0.5, True), (0.49, False), (0.3, False)])
def test_late_conflicts_count_from_the_likelihood_of_their_modes(p: float, counts: bool) -> None:
    plan = Motion.of(drive(8.0, 3.0))
    found = nominal_objects(sets(two_modes(24.0, p)), plan, C)
    assert bool(found.violations) is counts
    record = [r for r in found.records if r.rule == "nominal_object_unlikely"]
    assert bool(record) is not counts
    if record:
        assert (record[0].track_id, record[0].margin, record[0].time) == (5, pytest.approx(p), 0.0)
    elif counts:
        assert found.violations[0].time >= C.early


def test_early_conflicts_count_at_any_likelihood_just_inside_and_outside() -> None:
    """Met between 1.3 and 1.4 s, ego's front at 14.2 m: before or after a moment from which likelihood counts."""
    plan = Motion.of(drive(8.0, 3.0))
    scene = sets(two_modes(V.front + 8.0 * 1.35 + 2.25 + C.clearance, 0.2))
    for early, counts in ((1.4, True), (1.25, False)):
        found = nominal_objects(scene, plan, replace(C, early=early))
        assert bool([v for v in found.violations if v.time < early]) is counts


def test_modes_that_conflict_together_are_likely_together() -> None:
    scene = two_modes(24.0, 0.3)
    f = scene.futures
    mean = f.mean.repeat(1, 2, 1, 1)[:, :3]
    mean[:, 2] = f.mean[:, 1] + 0.5
    three = scene.replace(futures=f.replace(
        mean=mean, yaw=f.yaw.repeat(1, 2, 1)[:, :3], covariance=f.covariance.repeat(1, 2, 1, 1, 1)[:, :3],
        valid=f.valid.repeat(1, 2, 1)[:, :3], probability=torch.tensor([[0.45, 0.3, 0.25]], dtype=F64),
    ))  # fmt: skip
    plan = Motion.of(drive(8.0, 3.0))
    assert nominal_objects(sets(three), plan, C).violations
    apart = three.replace(
        futures=three.futures.replace(mean=three.futures.mean + torch.tensor([[[0.0]], [[0.0]], [[60.0]]]))
    )
    assert not nominal_objects(sets(apart), plan, C).violations


def test_the_intended_motion_is_looked_at_to_its_horizon_only() -> None:
    """Something 3.05 s ahead is beyond three seconds of the plan; the tail has stopped before."""
    post = agent(V.front + 8.0 * 3.05 + 0.3, 0.0, kind=AgentClass.STATIC, size=(0.4, 0.4), track_id=9)
    plan = drive(8.0)
    assert check_prepared(sets(wide(8.0, (post,))), plan, with_tail(plan, 6.0), V, C).accepted
    farther = replace(C, nominal_horizon=3.2)
    report = check_prepared(prepare(wide(8.0, (post,)), V, farther), plan, with_tail(plan, 6.0), V, farther)
    assert names(report.violations) == {"nominal_object"}
    short = plan.apply(lambda t: t[:11])
    nearer = agent(V.front + 8.0 * 1.05 + 0.3, 0.0, kind=AgentClass.STATIC, size=(0.4, 0.4), track_id=9)
    report = check_prepared(sets(wide(8.0, (nearer,))), short, with_tail(plan, 6.0), V, C)
    assert "nominal_object" not in names(report.violations), "a plan of one second"


def test_at_rest_nobody_is_run_into() -> None:
    """Somebody drives into ego that stands: not ego's collision; creeping just above it is."""
    crossing = agent(1.0, -10.0, np.pi / 2, 8.0, track_id=3)
    for v, hit in ((C.rest_speed, False), (C.rest_speed + 0.01, True)):
        motion = Motion.of(drive(v, 3.0))
        for rule in (nominal_objects, tail_objects):
            assert bool(rule(sets(wide(v, (crossing,))), motion).violations) is hit
    stops = replace(motion, v=np.where(np.arange(31) < 5, 0.2, 0.0))
    assert not nominal_objects(sets(wide(v, (crossing,))), stops, C).violations


# -- duties and touching ----------------------------------------------------------------------------


@pytest.mark.parametrize(("aside", "theirs"), [(C.side_move - 0.01, True), (C.side_move + 0.01, False)])
@pytest.mark.parametrize("side", [1, -1])
def test_who_comes_from_behind_beside_until_ego_moves_over(aside: float, theirs: bool, side: int) -> None:
    scene = sets(wide(8.0, (agent(-10.0, side * 3.1, 0.0, 15.0, track_id=7),)))
    motion = Motion.of(drive(8.0, 3.0))
    pose = motion.pose.copy()
    pose[:, 1] = side * aside * np.linspace(0, 1, 31)
    motion = replace(motion, pose=pose)
    found = tail_objects(scene, motion, C)
    assert ("tail_object_their_duty" in names(found.records)) is theirs
    if theirs:
        duty = one(found.records, "tail_object_their_duty")
        assert (duty.track_id, duty.time) == (7, 0.0)
        assert duty.margin == pytest.approx(scene.gap[0])
    assert bool(found.violations) is not theirs
    follows = sets(wide(8.0, (agent(-10.0, 0.0, 0.0, 15.0, track_id=7),)))
    assert "nominal_object_their_duty" in names(nominal_objects(follows, motion, C).records)


def test_side_moves_count_from_where_ego_is() -> None:
    """Half a metre to one side, then 0.4 m to the other: never 0.75 m from the start."""
    scene = sets(wide(8.0, (agent(-10.0, 3.6, 0.0, 15.0, track_id=7),)))
    motion = Motion.of(drive(8.0, 3.0))
    for by, theirs in ((1.0, True), (1.6, False)):
        pose = motion.pose.copy()
        pose[:, 1] = by * np.interp(motion.time, [0.0, 1.5, 3.0], [0.0, 0.5, -0.4])
        found = nominal_objects(scene, replace(motion, pose=pose))
        assert ("nominal_object_their_duty" in names(found.records)) is theirs


def test_side_moves_are_relative_to_the_route() -> None:
    """Ego follows a route that bends away: nothing has moved over."""
    scene = wide(8.0, (agent(-10.0, 3.2, 0.0, 15.0, track_id=7),), curvature=0.03)
    arc = drive(8.0, 3.0, curvature=0.03)
    s = np.linspace(0, 60, 101)
    xy = np.stack([np.sin(0.03 * s) / 0.03, (1 - np.cos(0.03 * s)) / 0.03], 1)
    along = sets(scene.replace(route=scene.route.replace(xy=torch.from_numpy(xy))))
    motion = Motion.of(arc)
    assert "tail_object_their_duty" in names(tail_objects(along, motion, C).records)
    assert "tail_object_their_duty" not in names(tail_objects(sets(scene), motion, C).records)


def test_what_touches_may_come_closer_by_rounding_only() -> None:
    """Beside ego, 1 cm less than the clearance: driving on straight is fine, drifting 2 cm towards it is not."""
    post = agent(1.0, V.width / 2 + C.clearance - 0.01 + 0.25, kind=AgentClass.STATIC, track_id=6)
    scene = sets(wide(6.0, (post,)))
    straight = Motion.of(drive(6.0, 2.0))
    for drift, ok in ((0.0, True), (0.019, True), (0.021, False), (-0.5, True)):
        pose = straight.pose.copy()
        pose[1:, 1] += drift
        motion = replace(straight, pose=pose)
        for rule, name in ((nominal_objects, "nominal_object"), (tail_objects, "tail_object")):
            found = rule(scene, motion)
            record = one(found.records, f"{name}_touching")
            assert (record.track_id, record.time) == (6, 0.0)
            assert record.margin == pytest.approx(C.clearance - 0.01)
            assert (not found.violations) is ok
            if not ok:
                assert one(found.violations, name).margin == pytest.approx(-0.001, abs=1e-6)
    # Overlapping already: the depth now is what may not grow.
    inside = sets(wide(6.0, (agent(1.0, V.width / 2 + 0.25 - 0.1, kind=AgentClass.STATIC, track_id=6),)))
    for drift, ok in ((0.019, True), (0.021, False)):
        pose = straight.pose.copy()
        pose[1:, 1] += drift
        motion = replace(straight, pose=pose)
        assert (not tail_objects(inside, motion, C).violations) is ok


def test_what_touches_but_is_wider_than_the_clearance_counts_from_the_clearance() -> None:
    """With a clearance of 0.3 m, somebody 0.2 m off touches; 0.2 m is what must stay."""
    post = agent(1.0, V.width / 2 + 0.2 + 0.25, kind=AgentClass.STATIC, track_id=6)
    config = replace(C, clearance=0.3)
    scene = prepare(wide(6.0, (post,)), V, config)
    straight = Motion.of(drive(6.0, 2.0))
    for drift, ok in ((0.019, True), (0.021, False)):
        pose = straight.pose.copy()
        pose[1:, 1] += drift
        motion = replace(straight, pose=pose)
        assert (not tail_objects(scene, motion, config).violations) is ok


# -- the page ----------------------------------------------------------------------------------------


def standing(v: float = 0.0, x: float = 0.0, y: float = 0.0) -> Trajectory:
    return drive(v, 2.0, x=x, y=y).replace(x=torch.full((21,), x, dtype=F64))


def test_standing_just_inside_and_outside() -> None:
    blocked = (agent(V.front + 0.02 + 2.25, 0.0, track_id=2),)
    stays = lambda ego_v, *args: check(wide(ego_v, blocked), standing(*args), standing(*args), V, C).records  # noqa: E731
    said = one(stays(0.0), "standing")
    assert (said.track_id, said.time, said.margin) == (-1, 0.0, 0.0)
    for v, x, y, ego_v, ok in (
        (C.rest_speed, 0.0, 0.0, 0.0, True), (C.rest_speed + 1e-6, 0.0, 0.0, 0.0, False),
        (-C.rest_speed - 1e-6, 0.0, 0.0, 0.0, False), (0.0, 0.049, 0.0, 0.0, True), (0.0, 0.0, -0.049, 0.0, True),
        (0.0, 0.0, 0.051, 0.0, False), (0.0, -0.051, 0.0, 0.0, False), (0.0, 0.0, 0.0, 0.199, True),
        (0.0, 0.0, 0.0, 0.201, False),
    ):  # fmt: skip
        assert ("standing" in names(stays(ego_v, v, x, y))) is ok, (v, x, y, ego_v)
    away = wide(0.0).transformed(torch.tensor([30.0, 4.0, 0.0], dtype=F64))
    assert "standing" not in names(check(away, standing(), standing(), V, C).records)
    # Only the tail stands: that is not staying.
    report = check(wide(0.0), drive(0.5, 2.0), standing(), V, C)
    assert "standing" not in names(report.records)
    assert "standing" not in names(check(wide(0.0), standing(), drive(0.5, 2.0), V, C).records)


def moved(motion: Trajectory, pose: torch.Tensor) -> Trajectory:
    xy = frames.transform_points(pose, motion.xy)
    return motion.replace(x=xy[:, 0], y=xy[:, 1], yaw=motion.yaw + pose[2])


def said(report: CheckReport) -> list[tuple]:
    """Everything but the words, margins to a tenth of a millimetre."""
    return sorted(
        (about.rule, about.track_id, round(about.time, 6), round(about.margin, 4) + 0.0)
        for about in (*report.violations, *report.records)
    )


def eventful(seed: int) -> tuple[VectorScene, Trajectory, Trajectory]:
    """Edges, a closed stop line, a crosswalk in use, lanes across and ahead, something parked; ego changes its lane."""
    rng = np.random.default_rng(seed)
    v = rng.uniform(6.0, 10.0)
    plan = drive(v, 4.0, curvature=rng.uniform(-0.02, 0.02))
    x, y = (float(f[-1]) for f in (with_tail(plan, 5.0).x, with_tail(plan, 5.0).y))
    outline = torch.tensor([[x - 1, y - 5], [x + 3, y - 6], [x + 3, y + 5], [x - 1, y + 6]], dtype=F64)
    edge = torch.tensor([[4.0, -1.3], [rng.uniform(10, 20), rng.uniform(-3, 0)], [60.0, -9.0]], dtype=F64)
    stop = torch.tensor([[14.0, -3.0], [rng.uniform(12, 16), 3.0]], dtype=F64)
    oncoming = torch.tensor([[60.0, y + 4.0], [x, y], [-5.0, -4.0]], dtype=F64)
    across = torch.tensor([[x - 9.0, y - 40.0], [x + 9.0, y + 40.0]], dtype=F64)
    walker = agent(x, y + 6.5, 1.0, 1.2, AgentClass.PEDESTRIAN, track_id=3)
    car = agent(x - 5.0, y - 22.0, float(np.arctan2(80, 18)), 7.0, track_id=4)
    parked = agent(rng.uniform(8, 16), -rng.uniform(3.5, 5.0), 0.1, 0.0, AgentClass.BUS, (8.0, 2.2), track_id=5)
    lines = (
        (outline, PolylineType.CROSSING), (edge, PolylineType.BOUNDARY), (stop, PolylineType.STOP_LINE),
        (oncoming, PolylineType.CENTERLINE), (across, PolylineType.CENTERLINE),
    )  # fmt: skip
    scene = make_scene(v, (walker, car, parked), half_width=30.0, right_edge=30.0, lines=lines, limit=v - 1.0)
    closed = scene.map.kind == int(PolylineType.STOP_LINE)
    route = scene.route.replace(left_oncoming=torch.full_like(scene.route.left, -1.0))
    return scene.replace(map=scene.map.replace(closed=closed), route=route), plan, with_tail(plan, 5.0)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_said_does_not_depend_on_the_frame(seed: int) -> None:
    """An eventful scene turned and moved: the same rules, objects, times and margins."""
    scene, plan, tail = eventful(seed)
    here = check(scene, plan, tail, V, C)
    assert len(here.violations) >= 3
    rng = np.random.default_rng(100 + seed)
    for turn in (rng.uniform(-3, 3), np.pi / 2, np.pi):
        pose = torch.tensor([*rng.uniform(-60, 60, 2), turn], dtype=F64)
        there = check(scene.transformed(pose), moved(plan, pose), moved(tail, pose), V, C)
        assert said(there) == said(here)
        assert there.worst_margin == pytest.approx(here.worst_margin, abs=1e-6)


def test_eventful_scenes_break_many_rules() -> None:
    broken: set[str] = set()
    for seed in range(12):
        scene, plan, tail = eventful(seed)
        report = check(scene, plan, tail, V, C)
        broken |= names(report.violations) | names(report.records)
    assert {"nominal_boundary", "tail_boundary", "nominal_stop_line", "tail_place",
            "wrong_way", "tail_place_on_crossing_lane"} <= broken  # fmt: skip


def test_malformed_plans_are_judged_no_further() -> None:
    scene, plan = wide(8.0), drive(8.0)
    bad = plan.replace(time=plan.time + 0.5, y=plan.y + 50.0)
    assert names(check(scene, bad, with_tail(plan), V, C).violations) == {"nominal_time"}
    assert names(check(scene, plan, bad, V, C).violations) == {"tail_time"}
    assert names(check(scene, bad, bad, V, C).violations) == {"nominal_time", "tail_time"}
    report = check(scene, bad, bad, V, C)
    assert not report.accepted
    assert report.worst_margin == np.inf


def test_a_stop_of_last_resort_is_judged_once_and_without_speed_limit() -> None:
    stop = fallback.maximum_braking(EgoState.at_origin(14.0))
    twice = check(make_scene(14.0, limit=5.0), stop, stop, V, C)
    assert twice.accepted, twice.reason
    far = make_scene(14.0, limit=5.0, pose=(0.0, 0.0, 0.0))
    moved = far.replace(ego=far.ego.replace(x=torch.tensor(1.0, dtype=F64)))
    assert names(check(moved, stop, stop, V, C).violations) == {"tail_start_position"}
    # The same poses in the same number of entries are the same stop; another number is another motion.
    rounded = stop.replace(v=stop.v + 1e-9)
    assert names(check(moved, rounded, stop, V, C).violations) == {"tail_start_position"}
    longer = stop.apply(lambda t: torch.cat([t, t[-1:]]))
    longer.time[-1] += 0.1
    assert names(check(moved, longer, stop, V, C).violations) == {"nominal_start_position", "tail_start_position"}


def test_a_kept_tail_may_start_farther_from_ego() -> None:
    scene, plan = sets(wide(8.0)), drive(8.0, x=0.4)
    tail = with_tail(plan)
    assert names(check_prepared(scene, plan, tail, V, C).violations) == {
        "nominal_start_position", "tail_start_position"
    }  # fmt: skip
    assert check_prepared(scene, plan, tail, V, C, kept=True).accepted


def test_both_parts_are_looked_at_by_every_rule_about_the_vehicle() -> None:
    scene, plan = sets(wide(8.0)), drive(8.0)
    tail = with_tail(plan)
    crooked = lambda m: m.replace(curvature=m.curvature + 0.5 * (torch.arange(len(m.time)) == 8))  # noqa: E731
    for nominal, stop, part in ((crooked(plan), tail, "nominal"), (plan, crooked(tail), "tail")):
        found = names(check_prepared(scene, nominal, stop, V, C).violations)
        assert {f"{part}_curvature", f"{part}_curvature_rate", f"{part}_consistent_yaw"} <= found
        assert all(f.startswith(part) for f in found)


def test_the_worst_margin_is_the_smallest_of_all_rules() -> None:
    """Edge 0.4 m beside, somebody standing 0.3 m beside on the other side."""
    post = agent(12.0, V.width / 2 + 0.3 + 0.25, kind=AgentClass.STATIC, track_id=3)
    plan = drive(6.0, 3.0)
    scene = make_scene(6.0, (post,), half_width=60.0, right_edge=V.width / 2 + 0.4)
    report = check(scene, plan, with_tail(plan, 5.0), V, C)
    assert report.accepted, report.reason
    assert report.worst_margin == pytest.approx(0.3 - C.clearance, abs=1e-3)
    nearer = make_scene(6.0, (post,), half_width=60.0, right_edge=V.width / 2 + 0.1)
    assert check(nearer, plan, with_tail(plan, 5.0), V, C).worst_margin == pytest.approx(0.1, abs=1e-3)


def test_a_tail_is_looked_at_until_it_rests_and_no_longer() -> None:
    """Entries after the rest lead nowhere; those before do."""
    plan = drive(8.0)
    tail = with_tail(plan, 6.0)
    rest = float(tail.x[-1]) + V.front
    for gap, ok in ((0.06, True), (0.03, False)):
        wall = agent(rest + gap + 0.5, 0.0, kind=AgentClass.STATIC, size=(1.0, 6.0), track_id=9)
        report = check(wide(8.0, (wall,)), plan.apply(lambda t: t[:5]), tail, V, C)
        assert ("tail_object" not in names(report.violations)) is ok
    longer = tail.apply(lambda t: torch.cat([t, t[-1:]]))
    longer.time[-1] += 60.0
    report = check(wide(8.0), plan, longer, V, C)
    assert report.accepted, report.reason


def test_prepare_is_told_of_raw_obstacles_only_by_its_caller() -> None:
    scene, plan = wide(8.0), drive(8.0)
    one_ = lambda value: torch.tensor([value], dtype=F64)  # noqa: E731
    raw = replace(
        RawObstacles.nothing(0, RawStatus.OK, ""), centre=torch.tensor([[14.0, 0.0]], dtype=F64), yaw=one_(0.0),
        length=one_(1.0), width=one_(1.0), velocity=torch.zeros(1, 2, dtype=F64), velocity_known=torch.tensor([True]),
        observed=torch.tensor([5]), valid=torch.tensor([True]),
    ).validate()  # fmt: skip
    assert check(scene, plan, with_tail(plan), V, C).accepted
    report = check_prepared(prepare(scene, V, C, raw), plan, with_tail(plan), V, C)
    assert isinstance(report, CheckReport)
    assert not report.accepted
    assert check(scene, plan, with_tail(plan)).accepted, "defaults for vehicle and settings"


# -- what the checker hands out ---------------------------------------------------------------------


def test_what_is_assumed_and_said_cannot_be_changed() -> None:
    """Every dataclass of the checker is frozen, but for the two that are filled while something is looked at."""
    names = set()
    for module in pkgutil.walk_packages(planner.checker.__path__, "planner.checker."):
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and cls.__module__ == module.name and "Enum" not in str(cls.__mro__):
                assert dataclasses.is_dataclass(cls) or cls.__name__ in {"Occupancy", "LaneGraph"}, cls
                if dataclasses.is_dataclass(cls):
                    names.add(cls.__name__)
                    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
                    assert frozen == (cls.__name__ not in {"SceneSets", "Finding"}), cls
    assert {"Violation", "CheckReport", "Assumptions", "CheckerConfig", "Motion", "SceneSets"} <= names


def report(*violations: Violation) -> CheckReport:
    return CheckReport(not violations, violations, 0.0, 0.0)


def test_a_report_names_its_worst_violation() -> None:
    mild, bad = Violation("jerk", -1, 0.5, -0.2, ""), Violation("tail_object", 0, 1.25, -1.5, "")
    assert report().reason == ""
    assert report(mild, bad).reason == report(bad, mild).reason == "tail_object object 0 at 1.2 s, margin -1.50"
    assert report(mild).reason == "jerk at 0.5 s, margin -0.20"
    refused = CheckReport.refused("no numbers")
    assert not refused.accepted
    assert (refused.worst_margin, refused.time_s, refused.records) == (-np.inf, 0.0, ())
    assert refused.violations == (Violation("malformed", -1, 0.0, -np.inf, "no numbers"),)


def test_check_prepared_says_how_long_it_took_and_what_it_saw() -> None:
    scene, plan = make_scene(8.0, (agent(20.0, 3.5, np.pi, 5.0),)), drive(8.0)
    said = check_prepared(sets(scene), plan, with_tail(plan), V, C)
    assert 0 < said.time_s < 5
    assert isinstance(said.violations, tuple)
    assert isinstance(said.records, tuple)
    assert isinstance(plan, Trajectory)

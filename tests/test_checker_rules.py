"""The checker's rules on danger, sight, raw obstacles, resting places and direction, just inside and just outside."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner.checker import Assumptions, CheckerConfig, CheckReport, check_prepared, prepare
from planner.checker.motion import Motion
from planner.checker.rules.danger import danger
from planner.checker.rules.unseen import walker_cap
from planner.scene import (
    AgentClass,
    PolylineType,
    RawObstacles,
    RawStatus,
    Trajectory,
    VectorScene,
    VehicleParameters,
)  # fmt: skip

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions()


def judged(
    scene: VectorScene,
    plan: Trajectory,
    braking: float = 6.0,
    raw: RawObstacles | None = None,
    config: CheckerConfig = C,
) -> CheckReport:
    return check_prepared(prepare(scene, V, config, raw), plan, with_tail(plan, braking), V, config)


def rules(report: CheckReport) -> set[str]:
    return {v.rule for v in report.violations}


def records(report: CheckReport) -> set[str]:
    return {v.rule for v in report.records}


def wide(v: float, agents: tuple = (), lines: tuple = (), **more) -> VectorScene:
    return make_scene(v, agents, lines=lines, half_width=60.0, right_edge=60.0, **more)


def lane(*points: tuple[float, float]) -> tuple[torch.Tensor, PolylineType]:
    xy = np.array(points)
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    s = np.linspace(0.0, arc[-1], int(arc[-1]) + 1)
    return torch.from_numpy(np.stack([np.interp(s, arc, xy[:, c]) for c in (0, 1)], 1)), PolylineType.CENTERLINE


# -- danger and the answer to it -------------------------------------------------------------


def gap_ahead(extra: float, v: float = 10.0, lead: float = 6.0) -> VectorScene:
    """A leader `extra` m farther off than ego's safe distance by hand: 0.75 s, then 4 against 5 m/s^2."""
    safe = v * 0.75 + v**2 / 8.0 - lead**2 / 10.0
    return make_scene(v, (agent(V.front + safe + extra + 2.25, 0.0, 0.0, lead, track_id=4),))


def test_a_leader_nearer_than_the_safe_distance_must_be_answered() -> None:
    steady, braking = drive(10.0), drive(10.0, 2.4, a=-4.0)
    assert "rss_same_danger" not in records(judged(gap_ahead(0.05), steady))
    near = judged(gap_ahead(-0.05), steady)
    assert "rss_same_danger" in records(near)
    assert "rss_same" in rules(near)
    assert {v.track_id for v in near.violations if v.rule == "rss_same"} == {4}
    answered = gap_ahead(-0.05)
    answered = answered.replace(ego=answered.ego.replace(a=torch.tensor(-4.0, dtype=F64)))
    assert "rss_same" not in rules(judged(answered, braking))


@pytest.mark.parametrize(("short", "answered"), [(0.09, True), (0.12, False)])
def test_the_answer_is_braking_of_the_tabulated_size(short: float, answered: bool) -> None:
    a = -(TABLE.ego.braking_min - short)
    report = judged(gap_ahead(-10.0), drive(10.0, 2.4, a=a))
    assert ("rss_same" not in rules(report)) is answered
    if not answered:
        assert next(v.margin for v in report.violations if v.rule == "rss_same") == pytest.approx(-short, abs=1e-6)


def test_a_stop_is_an_answer_itself_and_only_recorded() -> None:
    scene, soft = prepare(gap_ahead(-0.5), V, C), with_tail(drive(10.0), 2.0)
    assert "rss_same" in rules(check_prepared(scene, drive(10.0), soft, V, C))
    for report in (check_prepared(scene, soft, soft, V, C), check_prepared(scene, drive(10.0), soft, V, C, kept=True)):
        assert "rss_same" not in rules(report)
        assert "rss_same" in records(report)


def test_ego_need_not_answer_what_is_over_in_time() -> None:
    """A car that cut in close but pulls away: no longer dangerous when ego would have to brake."""
    assert "rss_same" not in rules(judged(gap_ahead(-0.3, lead=13.0), drive(10.0)))
    assert "rss_same" in rules(judged(gap_ahead(-9.0, lead=6.5), drive(10.0)))


def beside(aside: float, x: float = 0.0, v: float = 8.0, yaw: float = 0.0) -> dict:
    return agent(x, V.width / 2 + aside + 0.95, yaw, v, track_id=5)


def test_beside_ego_ending_the_sideways_motion_is_enough() -> None:
    """Too close beside, alongside: keeping the lane is the proper answer, drifting towards it is not."""
    scene = wide(8.0, (beside(0.3, x=1.0),))
    straight = judged(scene, drive(8.0))
    assert "rss_same_danger" in records(straight)
    assert "rss_same" not in rules(straight)
    towards = slanted(wide(8.0, (beside(0.6, x=1.0, yaw=-0.1),)))
    assert "rss_same" in rules(judged(towards, drive(8.0)))
    ending = towards.replace(ego=towards.ego.replace(curvature=torch.tensor(-0.02, dtype=F64)))
    assert "rss_same" not in rules(judged(ending, drive(8.0, curvature=-0.02)))


def slanted(scene: VectorScene, angle: float = -0.1) -> VectorScene:
    """The route turned about ego, which thereby drives towards the left of it."""
    c, s = np.cos(angle), np.sin(angle)
    turned = scene.route.xy @ torch.tensor([[c, s], [-s, c]], dtype=F64)
    return scene.replace(route=scene.route.replace(xy=turned))


@pytest.mark.parametrize(("gap", "refused"), [(4.0, True), (60.0, False)])
def test_cutting_in_before_who_comes_fast_is_refused(gap: float, refused: bool) -> None:
    fast = agent(-V.rear - 2.25 - gap, 2.6 + 0.1 * gap, -0.1, 16.0, track_id=6)
    scene = slanted(wide(8.0, (fast,)))
    assert ("rss_lateral" in rules(judged(scene, drive(8.0)))) is refused
    keeps = wide(8.0, (fast,))
    assert not rules(judged(keeps, drive(8.0))) & {"rss_lateral", "rss_same"}


def test_oncoming_traffic_is_a_danger_only_where_it_is_beside_too_little() -> None:
    for aside, dangerous in ((0.7, False), (0.3, True)):
        scene = wide(8.0, (agent(14.0, V.width / 2 + aside + 0.95, np.pi, 8.0, track_id=7),))
        report = judged(scene, drive(8.0))
        assert ("rss_opposite_danger" in records(report)) is dangerous
        assert ("rss_opposite" in rules(report)) is dangerous


def test_who_is_in_the_right_lane_brakes_less() -> None:
    """The same meeting with ego on its own side and on the other: the safe distance swaps the two brakings."""
    car = (agent(30.0, 0.5, np.pi, 9.0, track_id=7),)
    own = wide(8.0, car)
    other = own.replace(route=own.route.replace(xy=own.route.xy - torch.tensor([0.0, 3.5], dtype=F64)))
    safe = []
    for scene in (own, other):
        plan = Motion.of(drive(8.0))
        safe.append(float(danger(prepare(scene, V, C), plan, V, C, 0.0).safe[0]))
    mine, theirs = TABLE.ego, TABLE.bounds[AgentClass.CAR]
    after = 9.0 + theirs.acceleration * theirs.response_time
    ego, they = 8.0 * mine.response_time, (9.0 + after) / 2 * theirs.response_time
    assert safe[0] == pytest.approx(ego + 64 / (2 * mine.braking_correct) + they + after**2 / (2 * theirs.braking_min))
    assert safe[1] == pytest.approx(ego + 64 / (2 * mine.braking_min) + they + after**2 / (2 * theirs.braking_correct))


def test_crossing_traffic_that_neither_can_stop_for_must_be_answered() -> None:
    for y, dangerous in ((-9.0, True), (-45.0, False)):
        scene = wide(9.0, (agent(11.0, y, np.pi / 2, 9.0, track_id=8),))
        report = judged(scene, drive(9.0))
        assert ("rss_crossing_danger" in records(report)) is dangerous
        assert ("rss_crossing" in rules(report)) is dangerous


def test_at_rest_nothing_is_asked_of_ego() -> None:
    scene = wide(0.0, (agent(6.5, 0.0, np.pi, 3.0),))
    report = judged(scene, drive(0.0))
    assert not {r for r in rules(report) if r.startswith("rss")}


# -- sight -----------------------------------------------------------------------------------


def sight(free: float, ahead_only: bool = True, status: RawStatus = RawStatus.OK) -> RawObstacles:
    """A raw channel that sees no obstacle, and `free` m straight ahead (everywhere)."""
    empty = RawObstacles.nothing(0, sectors=180)
    reach = torch.full((180,), 80.0, dtype=F64)
    reach[[0, 1, 2, 177, 178, 179] if ahead_only else slice(None)] = free
    return replace(empty, sight=reach, sight_valid=torch.ones(180, dtype=torch.bool), status=status, reason="")


def test_a_tail_must_end_where_ego_sees() -> None:
    plan = drive(9.0)
    rest = float(with_tail(plan, 6.0).x[-1]) + V.front
    for free, ok in ((rest - C.sight_margin + 0.2, True), (rest - C.sight_margin - 0.3, False)):
        report = judged(wide(9.0), plan, raw=sight(free))
        assert ("tail_sight" not in rules(report)) is ok, free
    assert "tail_sight" not in rules(judged(wide(9.0), plan))


def test_the_space_behind_a_leader_is_its_own_to_clear() -> None:
    plan = drive(9.0)
    leader = agent(14.0, 0.0, 0.0, 12.0, track_id=2)
    report = judged(wide(9.0, (leader,)), plan, raw=sight(11.75))
    assert "tail_sight" not in rules(report)
    assert "tail_sight" in rules(judged(wide(9.0), plan, raw=sight(11.75)))


def test_past_parked_cars_only_so_fast_that_who_steps_out_is_met_slowly() -> None:
    table = TABLE.phantom
    delay = C.shared_time + V.braking_max / (2 * V.jerk_max)
    cap = walker_cap(table.walking_side, delay, V.braking_max, table.walking_speed, table.walking_impact)
    for v, ok in ((cap - 0.05, True), (cap + 0.1, False)):
        scene = wide(v, (beside(1.2, x=10.0, v=0.0),))
        assert ("phantom_walker" not in rules(judged(scene, drive(v)))) is ok
    # The witness: a walker who starts at the occluder's edge the moment it is first seen, and full braking.
    room, time = cap * (table.walking_side / table.walking_speed), table.walking_side / table.walking_speed
    left = room - cap * delay
    assert np.sqrt(max(cap**2 - 2 * V.braking_max * left, 0.0)) == pytest.approx(table.walking_impact, abs=1e-6)
    assert time > delay


def hidden_lane(route_turns: bool, y: float) -> VectorScene:
    """A lane from the right crosses 15 m ahead; a bus parked before it hides it from `y` m on."""
    bus = agent(8.5, -y, 0.0, kind=AgentClass.BUS, size=(6.0, 2.5), track_id=9)
    scene = wide(8.0, (bus,), (lane((15.0, -50.0), (15.0, 50.0)),))
    if not route_turns:
        return scene
    xy = scene.route.xy.clone()
    far = xy[:, 0] > 25.0
    xy[far, 1] += 1.5 * (xy[far, 0] - 25.0)
    return scene.replace(route=scene.route.replace(xy=xy))


def test_a_hidden_lane_across_counts_where_nobody_gives_way_and_ego_cannot_stop_before() -> None:
    plan = drive(8.0)
    assert "tail_phantom_driver" in rules(judged(hidden_lane(True, 3.0), plan, 3.0))
    assert "tail_phantom_driver" not in rules(judged(hidden_lane(True, 3.0), plan, 8.0)), "stops before"
    assert "tail_phantom_driver" not in rules(judged(hidden_lane(False, 3.0), plan, 3.0)), "they give way"
    assert "tail_phantom_driver" not in rules(judged(hidden_lane(True, 25.0), plan, 3.0)), "nothing is hidden near"


# -- raw obstacles ---------------------------------------------------------------------------


def raw(x: float, y: float = 0.0, v: float = 0.0, size: tuple = (0.6, 0.6), known: bool = True) -> RawObstacles:
    one = lambda value: torch.tensor([value], dtype=F64)  # noqa: E731
    return replace(
        RawObstacles.nothing(0, RawStatus.OK, ""),
        centre=torch.tensor([[x, y]], dtype=F64), yaw=one(0.0), length=one(size[0]), width=one(size[1]),
        velocity=torch.tensor([[v, 0.0]], dtype=F64), velocity_known=torch.tensor([known]), observed=torch.tensor([5]),
        valid=torch.tensor([True]),
    ).validate()  # fmt: skip


def test_an_obstacle_that_only_the_raw_channel_sees_stops_ego() -> None:
    plan = drive(9.0)
    report = judged(wide(9.0), plan, raw=raw(12.0))
    assert {"nominal_object", "tail_object"} <= rules(report)
    assert {v.track_id for v in report.violations} == {-2}
    assert judged(wide(9.0), plan, raw=raw(12.0, 3.0)).accepted
    assert judged(wide(9.0), plan, raw=raw(40.0, v=9.0)).accepted
    assert "tail_object" in rules(judged(wide(9.0), plan, raw=raw(5.5, v=9.0)))


def test_a_raw_obstacle_within_a_known_box_is_not_counted_twice() -> None:
    scene = wide(9.0, (agent(14.0, 3.2, track_id=4),))
    inside, out = prepare(scene, V, C, raw(12.5, 2.6)), prepare(scene, V, C, raw(12.5, 1.6))
    assert len(inside.objects) == 1
    assert len(out.objects) == 2, "a person beside the car is not the car"


def test_the_raw_channel_turns_with_the_scene() -> None:
    pose = torch.tensor([30.0, -12.0, 2.2], dtype=F64)
    scene = wide(9.0)
    here, there = (prepare(s, V, C, raw(12.0, 1.0, 3.0)).objects for s in (scene, scene.transformed(pose)))
    c, s = np.cos(2.2), np.sin(2.2)
    np.testing.assert_allclose(there.pose[0, :2], [30 + 12 * c - s, -12 + 12 * s + c], atol=1e-9)
    np.testing.assert_allclose(there.velocity[0], [3 * c, 3 * s], atol=1e-9)
    np.testing.assert_allclose(here.speed, there.speed)


def test_an_absent_channel_adds_nothing_and_a_stale_one_keeps_its_last_obstacles() -> None:
    scene = wide(9.0)
    assert len(prepare(scene, V, C, RawObstacles.nothing(0)).objects) == 0
    stale = replace(raw(12.0), status=RawStatus.STALE, reason="0.4 s old")
    sets = prepare(scene, V, C, stale)
    assert len(sets.objects) == 1
    assert "0.4 s old" in sets.raw_note


def test_raw_obstacles_of_a_batch_are_refused() -> None:
    batch = RawObstacles.stack([raw(5.0), raw(6.0)])
    with pytest.raises(ValueError, match="single scene"):
        prepare(wide(9.0), V, C, batch)


# -- where a tail may end --------------------------------------------------------------------


def test_a_tail_may_not_end_in_the_way_of_cross_traffic() -> None:
    plan = drive(8.0)
    rest = float(with_tail(plan, 6.0).x[-1]) + V.rear_axle_to_center
    across = lane((rest, -60.0), (rest, 60.0))
    for y, v, refused in ((-30.0, 7.0, True), (-58.0, 7.0, False), (-30.0, 0.0, False)):
        scene = wide(8.0, (agent(rest, y, np.pi / 2, v, track_id=3),), (across,))
        report = judged(scene, plan)
        assert ("tail_place" in rules(report)) is refused, (y, v)
        assert "tail_place_on_crossing_lane" in records(report)
    behind = wide(8.0, (agent(rest - 30.0, 0.0, 0.0, 7.0, track_id=3),))
    assert "tail_place" not in rules(judged(behind, plan)), "who drives the same way queues up"


def test_a_stop_of_last_resort_may_end_anywhere() -> None:
    tail = with_tail(drive(8.0), 6.0)
    rest = float(tail.x[-1]) + V.rear_axle_to_center
    scene = wide(8.0, (agent(rest, -30.0, np.pi / 2, 7.0, track_id=3),), (lane((rest, -60.0), (rest, 60.0)),))
    sets = prepare(scene, V, C)
    assert "tail_place" in rules(check_prepared(sets, drive(8.0), tail, V, C))
    for trajectory, kept in ((tail, False), (drive(8.0), True)):
        report = check_prepared(sets, trajectory, tail, V, C, kept=kept)
        assert "tail_place" not in rules(report)
        assert "tail_place" in records(report)


def test_a_tail_may_not_end_on_a_crosswalk_in_use() -> None:
    plan = drive(8.0)
    rest = float(with_tail(plan, 6.0).x[-1]) + V.rear_axle_to_center
    outline = torch.tensor([[rest - 1, -6.0], [rest + 2, -6.0], [rest + 2, 6.0], [rest - 1, 6.0]], dtype=F64)
    crosswalk = ((outline, PolylineType.CROSSING),)
    walker = lambda y: (agent(rest, y, np.pi / 2, 1.0, AgentClass.PEDESTRIAN, track_id=11),)  # noqa: E731
    assert "tail_place" in rules(judged(wide(8.0, walker(-8.0), crosswalk), plan))
    assert "tail_place" not in rules(judged(wide(8.0, walker(-14.0), crosswalk), plan)), "nobody near"
    assert "tail_place" not in rules(judged(wide(8.0, walker(-8.0)), plan)), "no crosswalk"
    # The front alone on it, the middle of the vehicle not; then just short of it.
    for reach, refused in ((-0.2, True), (0.2, False)):
        ahead = outline + torch.tensor([1.0 + V.length / 2 + reach, 0.0], dtype=F64)
        report = judged(wide(8.0, walker(-8.0), ((ahead, PolylineType.CROSSING),)), plan)
        assert ("tail_place" in rules(report)) is refused
    away = outline + torch.tensor([V.length, 0.0], dtype=F64)
    assert "tail_place" not in rules(judged(wide(8.0, walker(-8.0), ((away, PolylineType.CROSSING),)), plan))


# -- direction, widening, independence -------------------------------------------------------


def test_driving_against_the_route_is_refused() -> None:
    for angle, ok in ((C.wrong_way_angle - 0.1, True), (C.wrong_way_angle + 0.1, False)):
        curvature = angle / 24.0
        scene = wide(8.0, curvature=curvature)
        report = judged(scene, drive(8.0, 3.0, curvature=curvature))
        assert ("wrong_way" not in rules(report)) is ok


def test_who_drives_against_the_route_already_must_slow_down() -> None:
    for a, ok in ((-1.1, True), (-0.5, False)):
        scene = wide(8.0, a=a)
        against = scene.replace(route=scene.route.replace(xy=scene.route.xy.flip(0)))
        assert ("wrong_way" not in rules(judged(against, drive(8.0, 3.0, a=a)))) is ok


def test_an_oncoming_lane_is_open_only_as_far_as_the_route_says() -> None:
    shifted = drive(8.0, 3.0, curvature=0.0)
    y = torch.linspace(0, 1, len(shifted.time), dtype=F64)
    onto = shifted.replace(y=3.5 * y**2)
    allowed = wide(8.0)
    own = allowed.replace(route=allowed.route.replace(left_oncoming=torch.zeros_like(allowed.route.left)))
    assert "wrong_way" in records(judged(allowed, onto))
    assert "wrong_way" not in rules(judged(allowed, onto))
    assert "wrong_way" in rules(judged(own, onto))


def test_widened_sets_contain_the_others() -> None:
    agents = tuple(
        agent(15.0 + 12 * i, 6.0 * (-1) ** i, 0.4 * i, 2.0 * i, kind, track_id=i) for i, kind in enumerate(AgentClass)
    )
    shapely = pytest.importorskip("shapely")
    grown = [prepare(wide(8.0, agents), V, replace(C, widening=w)).occupancy for w in (1.0, 1.5)]
    for track in range(len(agents)):
        for k in (5, 15, 29):
            areas = []
            for o in grown:
                boxes = o.boxes(30)
                mine = np.flatnonzero(o.owner == track)
                parts = shapely.buffer(shapely.polygons(boxes.corners[k, mine]), boxes.disc[k, mine], quad_segs=24)
                areas.append(shapely.union_all(parts))
            assert areas[1].buffer(0.02).covers(areas[0]), (track, k)
            if agents[track]["kind"] != AgentClass.STATIC:
                assert areas[1].area > areas[0].area


def test_the_checker_runs_with_the_rest_of_the_planner_absent(tmp_path: Path) -> None:
    """A copy of `planner/scene` and `planner/checker` alone, and nothing else of ours, checks a plan."""
    import shutil

    root = Path(__file__).resolve().parent.parent
    for part in ("planner/scene", "planner/checker"):
        shutil.copytree(root / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "planner" / "__init__.py").write_text("")
    torch.save({"v": 8.0}, tmp_path / "unused.pt")
    scene, plan = make_scene(8.0, (agent(18.0, 0.0, track_id=3),)), drive(8.0)
    for name, value in (("scene", scene), ("plan", plan), ("tail", with_tail(plan))):
        value.save(tmp_path / f"{name}.npz")
    script = (
        "import sys; from planner.scene import Trajectory, VectorScene; from planner.checker import check\n"
        "load = lambda cls, name: cls.load(name + '.npz')\n"
        "report = check(load(VectorScene, 'scene'), load(Trajectory, 'plan'), load(Trajectory, 'tail'))\n"
        "ours = sorted(m for m in sys.modules if m.split('.')[0] in ('planner', 'perception', 'eval'))\n"
        "bad = [m for m in ours if not m.startswith(('planner.scene', 'planner.checker')) and m != 'planner']\n"
        "print(report.accepted, sorted({v.rule for v in report.violations}), bad)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    here = check_prepared(prepare(scene, V, C), plan, with_tail(plan), V, C)
    assert done.stdout.strip() == f"False {sorted(rules(here))} []"

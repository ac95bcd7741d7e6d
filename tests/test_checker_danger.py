"""RSS in the scene: where things are along and beside the route, which pairs are dangerous and why, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner.checker import Assumptions, CheckerConfig, SceneSets, Violation, check_prepared, prepare, rss
from planner.checker.motion import Motion
from planner.checker.relations import Constellation
from planner.checker.rss import Party
from planner.checker.rules.danger import Danger, danger, rss_response
from planner.scene import AgentClass, VectorScene, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
EGO, CAR = Assumptions().ego, Assumptions().bounds[AgentClass.CAR]
SAME, OPPOSITE, CROSSING = Constellation.SAME, Constellation.OPPOSITE, Constellation.CROSSING


def wide(v: float, agents: tuple = (), **more) -> VectorScene:
    return make_scene(v, agents, half_width=60.0, right_edge=60.0, **more)


def sets(scene: VectorScene) -> SceneSets:
    return prepare(scene, V, C)


def bent(scene: VectorScene) -> VectorScene:
    """The same with a route that turns left by a right angle at x = 30."""
    s = torch.arange(-25.0, 76.0, dtype=F64)[: len(scene.route.xy)]
    xy = torch.stack([torch.minimum(s, torch.tensor(30.0)), torch.clamp(s - 30.0, min=0.0)], -1)
    return scene.replace(route=scene.route.replace(xy=xy))


# -- relations to the route ------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [0.0, 2.2])
def test_where_things_are_along_and_beside_the_route(turn: float) -> None:
    """Stations count from the route's begin at x = -25, offsets to the left; rectangles by their corners."""
    scene = wide(8.0, (
        agent(20.0, 3.0, 0.0, 5.0), agent(10.0, -4.0, np.pi / 2, 2.0), agent(15.0, 6.0, np.pi, 4.0),
        agent(30.0, 0.0, 0.5, 6.0),
    ))  # fmt: skip
    r = sets(scene.transformed(torch.tensor([50.0, -8.0, turn], dtype=F64))).relations
    c, s = np.cos(0.5), np.sin(0.5)
    far, wide_ = c * 2.25 + s * 0.95, s * 2.25 + c * 0.95
    expected = {
        "rear": [45 - 2.25, 35 - 0.95, 40 - 2.25, 55 - far], "front": [45 + 2.25, 35 + 0.95, 40 + 2.25, 55 + far],
        "right": [3 - 0.95, -4 - 2.25, 6 - 0.95, -wide_], "left": [3 + 0.95, -4 + 2.25, 6 + 0.95, wide_],
        "along": [5.0, 0.0, -4.0, 6 * c], "aside": [0.0, 2.0, 0.0, 6 * s],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(r.extent, name), values, atol=1e-6)
    later = r.extent.later(1.5)
    np.testing.assert_allclose(later.rear, np.array(expected["rear"]) + 1.5 * np.array(expected["along"]), atol=1e-6)
    np.testing.assert_allclose(later.front, np.array(expected["front"]) + 1.5 * np.array(expected["along"]), atol=1e-6)
    np.testing.assert_allclose(later.left, np.array(expected["left"]) + 1.5 * np.array(expected["aside"]), atol=1e-6)
    np.testing.assert_allclose(later.right, np.array(expected["right"]) + 1.5 * np.array(expected["aside"]), atol=1e-6)
    np.testing.assert_allclose(r.speed, [5, 2, 4, 6])
    np.testing.assert_allclose(r.half, 2.25)


def test_behind_a_bend_along_is_along_the_bend() -> None:
    r = sets(bent(wide(8.0, (agent(28.0, 20.0, np.pi / 2, 5.0), agent(28.0, 20.0, 0.0, 5.0))))).relations
    np.testing.assert_allclose(r.extent.rear, [25 + 30 + 20 - 2.25, 25 + 30 + 20 - 0.95], atol=1e-6)
    np.testing.assert_allclose(r.extent.left, [2 + 0.95, 2 + 2.25], atol=1e-6)
    np.testing.assert_allclose(r.extent.along, [5.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(r.extent.aside, [0.0, -5.0], atol=1e-6)
    assert r.kind.tolist() == [SAME, CROSSING]


def test_constellations_just_inside_and_outside() -> None:
    q = np.pi / 4
    for yaw, kind in (
        (q - 0.01, SAME), (q + 0.01, CROSSING), (-q + 0.01, SAME), (-q - 0.01, CROSSING), (3 * q - 0.01, CROSSING),
        (3 * q + 0.01, OPPOSITE), (-3 * q + 0.01, CROSSING), (-3 * q - 0.01, OPPOSITE), (np.pi, OPPOSITE),
    ):  # fmt: skip
        assert sets(wide(8.0, (agent(30.0, 5.0, yaw, 3.0),))).relations.kind[0] == kind
        for other in (agent(30.0, 5.0, yaw, 0.4), agent(30.0, 5.0, yaw, 3.0, AgentClass.PEDESTRIAN)):
            assert sets(wide(8.0, (other,))).relations.kind[0] == SAME
    for v, stands in ((0.499, True), (0.5, False)):
        assert bool(sets(wide(8.0, (agent(30.0, 5.0, 0.0, v),))).relations.stands[0]) is stands


def test_what_is_assumed_of_each_is_its_classes() -> None:
    agents = tuple(agent(10.0 + 9 * i, 9.0, 0.0, 1.0, kind) for i, kind in enumerate(AgentClass))
    party = sets(wide(8.0, agents)).relations.party
    names = ("response_time", "acceleration", "speed_max", "braking_min", "braking_correct", "lateral_acceleration",
             "lateral_braking", "lateral_margin")  # fmt: skip
    for i, kind in enumerate(AgentClass):
        bounds = Assumptions().bounds[kind]
        for name in names:
            expected = getattr(bounds, name)
            assert getattr(party, name)[i] == (max(expected, 1e-3) if "braking" in name else expected)
        assert party.braking_max[i] == max(bounds.braking, 1e-3)


@pytest.mark.parametrize("yaw", [np.pi / 2, -np.pi / 2, 1.0, -2.0, 2.3])
def test_where_a_crossing_way_meets_the_route(yaw: float) -> None:
    """From 20 m up its way; the shared place reaches half of both widths, seen at the angle of the ways."""
    step = np.array([np.cos(yaw), np.sin(yaw)])
    start = np.array([12.0, 0.0]) - 20.0 * step
    r = sets(wide(8.0, (agent(*start, yaw, 6.0),))).relations
    assert r.place[0] == pytest.approx(37.0)
    assert r.way[0] == pytest.approx(20.0)
    sine, cosine = abs(np.sin(yaw)), abs(np.cos(yaw))
    assert r.place_reach[0] == pytest.approx((1.9 + V.width * cosine) / (2 * sine))
    assert r.way_reach[0] == pytest.approx((V.width + 1.9 * cosine) / (2 * sine))


def test_a_way_that_has_led_across_already_meets_nothing() -> None:
    for past, meets in ((4.4, True), (4.6, False)):
        r = sets(wide(8.0, (agent(12.0, past, np.pi / 2, 6.0),))).relations
        assert np.isfinite(r.place[0]) == np.isfinite(r.way[0]) == meets
    for x, meets in ((-V.rear + 0.05, True), (-V.rear - 0.05, False)):
        r = sets(wide(8.0, (agent(x, -9.0, np.pi / 2, 6.0),))).relations
        assert np.isfinite(r.place[0]) == meets, "behind ego's rear"
    # Where the route itself is crossed, not where a piece of it behind a bend would be if it went on.
    scene = wide(8.0, (agent(5.0, -30.0, np.pi / 2, 6.0),))
    after = torch.clamp(scene.route.xy[:, :1] - 30.0, min=0.0)
    half_left = scene.route.replace(xy=scene.route.xy + after * torch.tensor([0.0, 1.0], dtype=F64))
    r = sets(scene.replace(route=half_left)).relations
    assert r.place[0] == pytest.approx(30.0)
    assert r.way[0] == pytest.approx(30.0)
    # The first place where the way meets a route that comes back.
    r = sets(bent(wide(8.0, (agent(5.0, -5.0, np.pi / 4, 6.0),)))).relations
    assert r.place[0] == pytest.approx(35.0)
    assert r.way[0] == pytest.approx(5 * np.sqrt(2))


# -- danger ----------------------------------------------------------------------------------------


def seen(agents: tuple, v: float = 8.0, a: float = 0.0, time: float = 0.0, scene: VectorScene | None = None) -> Danger:
    plan = Motion.of(drive(v, 4.0, a=a))
    return danger(sets(scene or wide(v, agents, a=a)), plan, V, C, time)


def one(found: Danger) -> dict[str, float | bool]:
    return {name: getattr(found, name)[0] for name in found.__dataclass_fields__}


def stop(v: float, response: float, acceleration: float, braking: float) -> float:
    after = v + acceleration * response
    return (v + after) / 2 * response + after**2 / (2 * braking)


@pytest.mark.parametrize("a", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("time", [0.0, 0.5])
def test_the_safe_distance_behind_a_leader_by_hand(a: float, time: float) -> None:
    """Until ego responds it accelerates as the plan does at most; the leader brakes with 5 m/s^2."""
    d = one(seen((agent(20.0, 0.0, 0.0, 6.0),), a=a, time=time))
    v, x = 8.0 + a * time, 8.0 * time + a * time**2 / 2
    assert d["ahead"]
    assert not d["alongside"]
    assert d["distance"] == pytest.approx(20.0 - 2.25 + 6.0 * time - V.front - x, abs=1e-3)
    assert d["safe"] == pytest.approx(stop(v, 0.75, max(a, 0.0), 4.0) - 36 / 10, abs=1e-3)
    assert d["beside"] == pytest.approx(-(V.width + 1.9) / 2)
    assert d["closing"] == pytest.approx(0.0, abs=1e-9)


def test_a_leader_that_rolls_back_needs_no_less_room_than_one_that_stands() -> None:
    still, back = (one(seen((agent(20.0, 0.0, 0.0, v),))) for v in (0.0, -2.0))
    assert back["ahead"]
    assert back["safe"] == pytest.approx(still["safe"])
    assert still["safe"] == pytest.approx(stop(8.0, 0.75, 0.0, 4.0), abs=1e-3)


def test_only_the_acceleration_until_ego_responds_counts() -> None:
    plan = Motion.of(drive(8.0, 4.0))
    scene = sets(wide(8.0, (agent(20.0, 0.0, 0.0, 6.0),)))
    for first, counts in ((7, True), (8, False)):
        a = np.where(np.arange(len(plan.time)) >= first, 2.0, 0.0)
        safe = danger(scene, replace(plan, a=a), V, C, 0.0).safe[0]
        assert safe == pytest.approx(stop(8.0, 0.75, 2.0 if counts else 0.0, 4.0) - 3.6)


def test_who_comes_from_behind_keeps_its_distance() -> None:
    d = one(seen((agent(-15.0, 1.0, 0.0, 9.0),)))
    assert not d["ahead"]
    assert not d["alongside"]
    assert d["distance"] == pytest.approx(15.0 - 2.25 - V.rear)
    assert d["safe"] == pytest.approx(stop(9.0, 1.0, 1.5, 4.0) - 64 / 16)
    assert not d["dangerous"], "in ego's own track"
    # Beside it, closing sideways within what is unsafe, it is ego's matter, too.
    near = one(seen((agent(-8.0, 2.1, 0.0, 12.0),)))
    assert near["distance"] < near["safe"]
    assert 0 < near["beside"] < near["aside"]
    assert near["dangerous"]
    assert not one(seen((agent(-8.0, 2.1, np.pi, 12.0),)))["dangerous"], "has passed"
    assert not one(seen((agent(-60.0, 2.1, 0.0, 12.0),)))["dangerous"]


def sideways(v: float, response: float, acceleration: float, braking: float) -> float:
    after = v + acceleration * response
    return (v + after) / 2 * response + max(after, 0.0) ** 2 / (2 * braking)


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("yaw", [0.0, 0.05, -0.1])
def test_the_safe_gap_beside_by_hand(side: float, yaw: float) -> None:
    """Drifting towards ego with v sin(yaw); ego's own drift is its speed across the route."""
    d = one(seen((agent(1.0, side * 3.0, -side * yaw, 8.0),)))
    across = np.cos(yaw) * 0.95 + abs(np.sin(yaw)) * 2.25
    assert d["alongside"]
    assert not d["ahead"]
    assert d["distance"] == 0.0
    assert d["beside"] == pytest.approx(3.0 - V.width / 2 - across)
    theirs = 8.0 * np.sin(yaw)
    approach = sideways(0.0, 0.75, 0.2, 0.8) + sideways(theirs, 1.0, 0.5, 0.8)
    assert d["aside"] == pytest.approx(0.1 + max(approach, 0.0), abs=1e-6)
    assert d["closing"] == pytest.approx(theirs, abs=1e-6)
    assert bool(d["dangerous"]) == (d["beside"] <= d["aside"])


def test_ego_drifts_where_its_route_leads_away() -> None:
    scene = wide(8.0, (agent(1.0, 3.0, 0.0, 8.0),))
    c, s = np.cos(-0.1), np.sin(-0.1)
    turned = scene.replace(route=scene.route.replace(xy=scene.route.xy @ torch.tensor([[c, s], [-s, c]], dtype=F64)))
    d = one(seen((), scene=turned))
    assert d["closing"] == pytest.approx(8 * np.sin(0.1) - 8 * np.sin(0.1), abs=1e-6), "both drift alike"
    v = 8.0 * np.sin(0.1)
    assert d["aside"] == pytest.approx(0.1 + sideways(v, 0.75, 0.2, 0.8) + sideways(-v, 1.0, 0.5, 0.8), abs=1e-6)


def test_what_stands_beside_only_wanders() -> None:
    for y, dangerous in ((V.width / 2 + 0.95 + 0.099, True), (V.width / 2 + 0.95 + 0.101, False)):
        for side in (1, -1):
            d = one(seen((agent(1.0, side * y),)))
            assert d["aside"] == pytest.approx(0.1)
            assert bool(d["dangerous"]) is dangerous


@pytest.mark.parametrize(("aside", "correct"), [(1.74, True), (1.76, False), (-1.74, True), (-1.76, False)])
def test_ego_is_in_its_lane_while_its_middle_is(aside: float, correct: bool) -> None:
    scene = wide(8.0, (agent(40.0, aside, np.pi, 6.0),))
    moved = scene.replace(route=scene.route.replace(xy=scene.route.xy - torch.tensor([0.0, aside], dtype=F64)))
    d = one(seen((), scene=moved))
    ours = stop(8.0, 0.75, 0.0, 3.0 if correct else 4.0)
    theirs = stop(6.0, 1.0, 1.5, 4.0 if correct else 3.0)
    assert d["safe"] == pytest.approx(ours + theirs)
    assert d["distance"] == pytest.approx(40.0 - 2.25 - V.front)


def test_oncoming_traffic_that_is_alongside_or_behind_is_over() -> None:
    assert one(seen((agent(30.0, 1.0, np.pi, 9.0),)))["dangerous"]
    beside = one(seen((agent(1.0, 2.05, np.pi, 9.0),)))
    assert beside["alongside"]
    assert not one(seen((agent(-6.0, 2.05, np.pi, 9.0),)))["dangerous"]
    # Its speed along the route is negative: nothing is subtracted for a leader that drives on.
    assert one(seen((agent(30.0, 1.0, np.pi, 9.0),)))["safe"] > 8 * 0.75 + 9


# -- crossing --------------------------------------------------------------------------------------


def crossing(y: float, v: float = 9.0, w: float = 9.0, x: float = 11.0, time: float = 0.0) -> bool:
    return bool(seen((agent(x, y, np.pi / 2, w),), v=v, time=time).dangerous[0])


@pytest.mark.parametrize("time", [0.0, 0.6])
def test_crossing_ways_are_judged_by_their_distances_from_the_shared_place(time: float) -> None:
    """At right angles the place is as wide as the other along the route, and as wide as ego along its way."""
    ego = Party(0.75, 0.0, V.speed_max, 4.0, 3.0, V.braking_max, 0.2, 0.8, 0.1)
    other = Party(1.0, 1.5, 25.0, 4.0, 3.0, 5.0, 0.5, 0.8, 0.1)
    both = {True: 0, False: 0}
    for x in (9.0, 15.0, 30.0):
        for y in (-4.0, -8.0, -12.0, -18.0, -26.0, -40.0):
            for v, w in ((9.0, 9.0), (5.0, 9.0), (12.0, 6.0)):
                e, o = v * time, w * time
                enter = (max(x - 0.95 - V.front - e, 0.0), max(-y - V.width / 2 - 2.25 - o, 0.0))
                leave = (max(x + 0.95 + V.rear - e, 0.0), max(-y + V.width / 2 + 2.25 - o, 0.0))
                arrays = lambda pair: tuple(np.array([p]) for p in pair)  # noqa: E731
                none = (np.array([False]), np.array([False]))
                safe = bool(
                    rss.crossing_safe(np.array([v]), np.array([w]), ego, other, arrays(enter), arrays(leave), none)[0]
                )
                passed = min(leave) <= 0
                assert crossing(y, v, w, x, time) == (not safe and not passed), (x, y, v, w)
                both[safe] += 1
    assert min(both.values()) > 10


def test_who_has_left_the_shared_place_is_no_danger() -> None:
    for y, danger_ in ((V.width / 2 + 2.25 - 0.1, True), (V.width / 2 + 2.25 + 0.1, False)):
        assert crossing(y, x=4.2) is danger_
    assert not crossing(-30.0, x=-V.rear - 0.95 - 0.1)
    assert not crossing(9.0), "its way leads away from ego's"


def test_a_way_that_meets_no_route_is_no_danger_wherever_the_route_begins() -> None:
    for x, y, danger_ in ((6.0, -6.0, True), (6.0, 9.0, False), (-6.0, -6.0, False)):
        scene = wide(9.0, (agent(x, y, np.pi / 2, 9.0),))
        for begin in (-25.0, -3.0, 0.0, 4.0):
            there = scene.replace(route=scene.route.replace(valid=scene.route.xy[:, 0] >= begin))
            assert bool(seen((), 9.0, scene=there).dangerous[0]) is danger_, (x, y, begin)


# -- the answer ------------------------------------------------------------------------------------


def response(agents: tuple, v: float = 8.0, a: float = 0.0, **config: float) -> tuple[list[Violation], list[Violation]]:
    plan = Motion.of(drive(v, 4.0, a=a))
    found = rss_response(sets(wide(v, agents, a=a)), plan, V, replace(C, **config))
    return found.violations, found.records


LEADER = agent(V.front + 2.25 + 6.0, 0.0, 0.0, 6.0, track_id=4)


def test_a_danger_is_recorded_with_how_much_is_short() -> None:
    _, (record,) = response((LEADER,))
    short = 6.0 - (stop(8.0, 0.75, 0.0, 4.0) - 3.6)
    assert (record.rule, record.track_id, record.time) == ("rss_same_danger", 4, 0.0)
    assert record.margin == pytest.approx(short)
    assert f"distance 6.0 m, safe {6.0 - short:.1f} m" in record.detail
    (violation,), _ = response((LEADER,))
    assert (violation.rule, violation.time) == ("rss_same", EGO.response_time)
    assert violation.margin == pytest.approx(-4.0)
    assert response(()) == ([], [])


@pytest.mark.parametrize(("agents", "rule", "needed"), [
    ((LEADER,), "rss_same", EGO.braking_min),
    ((agent(26.0, 0.0, np.pi, 8.0),), "rss_opposite", EGO.braking_correct),
    ((agent(11.0, -9.0, np.pi / 2, 9.0),), "rss_crossing", EGO.braking_min),
])  # fmt: skip
def test_braking_answers_what_is_ahead_or_crosses_just_inside_and_outside(
    agents: tuple, rule: str, needed: float
) -> None:
    for short, ok in ((C.rss_braking - 1e-3, True), (C.rss_braking + 1e-3, False)):
        violations, _ = response(agents, v=9.0, a=-(needed - short))
        assert (not violations) is ok
        if not ok:
            assert violations[0].rule == rule
            assert violations[0].margin == pytest.approx(-short, abs=1e-6)


def test_at_rest_and_without_a_route_to_speak_of_nothing_is_asked() -> None:
    for v, asked in ((C.rest_speed, False), (C.rest_speed + 0.01, True)):
        near = (agent(V.front + 2.25 + 0.06, 0.0, np.pi, 1.0),)
        assert bool(response(near, v=v)[1]) is asked
    # Standing when it should answer is an answer.
    violations, records = response((agent(V.front + 2.25 + 0.5, 0.0, np.pi, 1.0),), v=0.6, a=-1.0)
    assert records
    assert not violations


def test_what_touches_already_is_left_to_the_rule_about_touching() -> None:
    violations, records = response((agent(V.front + 2.25 + C.clearance - 0.01, 0.0, 0.0, 6.0),))
    assert (violations, records) == ([], [])
    assert response((agent(V.front + 2.25 + C.clearance + 0.01, 0.0, 0.0, 6.0),))[0]


def slanted(v: float, angle: float, agents: tuple, plan_a: float = 0.0) -> list[Violation]:
    """Ego drives at an angle to its route, straight on."""
    c, s = np.cos(-angle), np.sin(-angle)
    scene = wide(v, agents, a=plan_a)
    turned = scene.replace(route=scene.route.replace(xy=scene.route.xy @ torch.tensor([[c, s], [-s, c]], dtype=F64)))
    return rss_response(sets(turned), Motion.of(drive(v, 4.0, a=plan_a)), V, C).violations


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_beside_ego_ending_the_sideways_motion_answers_just_inside_and_outside(side: float) -> None:
    """A car alongside, 0.5 m off and drifting along with ego: ego moves towards it by less or more than 0.1 m/s."""
    for drift, ok in ((C.rss_sideways - 0.005, True), (C.rss_sideways + 0.005, False)):
        angle = side * float(np.arcsin(drift / 8.0))
        other = agent(1.0, side * (V.width / 2 + 0.95 + 0.3), -angle, 8.0)
        assert (not slanted(8.0, angle, (other,))) is ok
        if not ok:
            assert slanted(8.0, angle, (other,))[0].rule == "rss_same"
            assert not slanted(8.0, angle, (other,), plan_a=-4.0), "so does braking"
        assert not slanted(8.0, -angle, (other,)), "away from it"


def test_moving_towards_who_comes_from_behind_beside_is_the_lateral_rule() -> None:
    other = lambda side, angle: agent(-8.0, side * (2.2 + 16 * abs(angle)), -angle, 14.0, track_id=6)  # noqa: E731
    for side in (1.0, -1.0):
        for drift, ok in ((0.09, True), (0.3, False)):
            angle = side * float(np.arcsin(drift / 8.0))
            violations = slanted(8.0, angle, (other(side, angle),))
            assert (not violations) is ok
            if not ok:
                assert (violations[0].rule, violations[0].track_id) == ("rss_lateral", 6)
                assert violations[0].margin == pytest.approx(C.rss_sideways - 0.3, abs=1e-3)
                assert violations[0].time == EGO.response_time


def test_who_is_ahead_and_does_not_come_closer_sideways_is_answered_by_braking() -> None:
    """Beside ego's track but unsafe, ahead: not drifting towards it is no answer unless it is it that drifts."""
    beside = V.width / 2 + 0.95 + 0.2
    still = agent(V.front + 2.25 + 3.0, beside, 0.0, 5.0)
    assert [v.rule for v in response((still,))[0]] == ["rss_same"]
    drifting = agent(V.front + 2.25 + 3.0, beside + 0.3, -0.06, 5.0)
    assert response((drifting,))[1]
    assert not response((drifting,))[0]


def test_a_short_plan_answers_by_its_end() -> None:
    """A plan of half a second that brakes at its end is asked there, not where it has no entry."""
    plan = Motion.of(drive(8.0, 0.5))
    a = np.where(np.arange(6) == 5, -4.0, 0.0)
    scene = sets(wide(8.0, (LEADER,)))
    found = rss_response(scene, replace(plan, a=a), V, C)
    assert not found.violations
    (late,) = rss_response(scene, replace(plan, a=0 * a), V, C).violations
    assert late.time == pytest.approx(0.5)


def test_each_danger_is_named_by_its_constellation() -> None:
    agents = (LEADER, agent(30.0, 0.3, np.pi, 8.0, track_id=5), agent(11.0, -9.0, np.pi / 2, 9.0, track_id=6))
    _, records = response(agents, v=9.0)
    assert {(r.track_id, r.rule) for r in records} == {
        (4, "rss_same_danger"), (5, "rss_opposite_danger"), (6, "rss_crossing_danger")
    }  # fmt: skip
    crossing_ = next(r for r in records if r.track_id == 6)
    assert "its way meets ego's in 9 m" in crossing_.detail
    plan = drive(9.0)
    report = check_prepared(sets(wide(9.0, agents)), plan, with_tail(plan, 6.0), V, C)
    assert {"rss_same", "rss_opposite", "rss_crossing"} <= {v.rule for v in report.violations}


def test_what_stands_is_also_answered_by_a_way_past_it_just_inside_and_outside() -> None:
    """Two metres before a parked car that overlaps ego's track by 0.3 m; the plan leads away from the route."""
    parked = lambda v: agent(V.front + 2.0 + 2.25, -(V.width / 2 + 0.95 - 0.3), 0.0, v, track_id=4)  # noqa: E731

    def answer(angle: float, v: float = 0.0) -> list[str]:
        plan = Motion.of(drive(3.0, 4.0, yaw=angle))
        return [x.rule for x in rss_response(sets(wide(3.0, (parked(v),))), plan, V, C).violations]

    # The rear right corner is the last to be clear of the car's left side, 0.3 m inside ego's track.
    lowest = lambda angle: 9.0 * np.sin(angle) - V.rear * np.sin(angle) - V.width / 2 * np.cos(angle)  # noqa: E731
    gap = lambda angle: lowest(angle) - (0.3 - V.width / 2)  # noqa: E731
    limit = 0.5 * (EGO.lateral_margin + CAR.lateral_margin)
    angles = np.linspace(0.02, 0.2, 1801)
    inside, outside = angles[gap(angles) > limit + 1e-3][0], angles[gap(angles) < limit - 1e-3][-1]
    assert inside - outside < 1e-3
    assert answer(inside) == []
    assert answer(outside) == ["rss_same"]
    assert answer(inside, 0.5) == ["rss_same"], "what moves may come along"


def test_what_stands_is_also_answered_by_being_past_it_in_time() -> None:
    """Nothing but the end counts: who overlaps on the way is the exact sweep's matter."""
    cone = agent(V.front + 1.9, 0.0, 0.0, 0.0, AgentClass.STATIC, track_id=7)
    needed = (V.front + 1.9 + 0.25 + V.rear) / C.nominal_horizon
    for v, ok in ((needed + 0.02, True), (needed - 0.02, False)):
        violations, records = response((cone,), v=v)
        assert records
        assert (not violations) is ok


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_way_past_what_stands_answers_it_just_inside_and_outside(side: float) -> None:
    """A parked bus ahead: ego ends beside it by more than both wander, or with its rear past the front of one."""
    motion = Motion.of(drive(4.0, 5.0))
    bus = agent(V.front + 3.0 + 6.0, 0.0, 0.0, 0.0, AgentClass.BUS, (12.0, 1.9), track_id=4)
    for gap, ok in ((0.101, True), (0.099, False)):
        pose = motion.pose.copy()
        pose[:, 1] = side * (gap + (V.width + 1.9) / 2) * np.clip(motion.time / 3.0, 0.0, 1.0)
        pose[31:, 1] = 0.0  # what comes after the part that is looked at does not matter
        found = rss_response(sets(wide(4.0, (bus,))), replace(motion, pose=pose), V, C)
        assert "rss_same_danger" in {r.rule for r in found.records}
        assert (not [v for v in found.violations if v.track_id == 4]) is ok
    for past, ok in ((0.05, True), (-0.05, False)):
        length = 12.0 - V.rear - past - V.front - 3.0
        car = agent(V.front + 3.0 + length / 2, 0.0, 0.0, 0.0, size=(length, 1.9), track_id=4)
        assert (not rss_response(sets(wide(4.0, (car,))), motion, V, C).violations) is ok
        moving = agent(V.front + 3.0 + length / 2, 0.0, 0.0, 0.6, size=(length, 1.9), track_id=4)
        assert rss_response(sets(wide(4.0, (moving,))), motion, V, C).violations, "who drives is answered by braking"

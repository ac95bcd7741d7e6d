"""Resting places: cross traffic, lanes across and crosswalks in use, against shapely and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from checker_probe import body, lines, polyline, sets, wide
from checker_scenes import agent, drive, with_tail

from planner.checker import Assumptions, CheckerConfig, SceneSets, Violation
from planner.checker.motion import Motion
from planner.checker.rules.rest import resting_place
from planner.scene import AgentClass, PolylineType, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions()
CAR, WALKER, BICYCLE = AgentClass.CAR, AgentClass.PEDESTRIAN, AgentClass.BICYCLE


# -- resting places --------------------------------------------------------------------------------


def rest_at(yaw: float = 0.0, x: float = 20.0) -> Motion:
    """Ends at a pose."""
    motion = Motion.of(with_tail(drive(8.0), 6.0))
    pose = motion.pose.copy()
    pose[-1] = [x, 0.0, yaw]
    return replace(motion, pose=pose)


def placed(scene: SceneSets, tail: Motion) -> tuple[list[Violation], list[Violation]]:
    found = resting_place(scene, tail, V, C)
    return found.violations, found.records


def cross_lane(x: float, angle: float = np.pi / 2) -> tuple:
    step = np.linspace(-60.0, 60.0, 121)[:, None] * np.array([np.cos(angle), np.sin(angle)])
    return torch.from_numpy(np.array([x, 0.0]) + step), PolylineType.CENTERLINE


def test_cross_traffic_claims_the_place_just_inside_and_outside() -> None:
    """Its way passes within half its width and the clearance of ego at rest, and leads there within six seconds."""
    reach = 0.95 + C.clearance
    for x, claims in ((20.0 + V.front + reach - 0.01, True), (20.0 + V.front + reach + 0.01, False),
                      (20.0 - V.rear - reach + 0.01, True), (20.0 - V.rear - reach - 0.01, False)):  # fmt: skip
        scene = sets(wide(8.0, (agent(x, -30.0, np.pi / 2, 7.0, track_id=3),), (cross_lane(x),)))
        violations, _ = placed(scene, rest_at())
        assert bool(violations) is claims
        if claims:
            assert (violations[0].rule, violations[0].track_id) == ("tail_place", 3)
            assert violations[0].margin == pytest.approx(-0.01)
            assert violations[0].time == pytest.approx(float(rest_at().time[-1]))
    # Samples of the way lie a metre apart, the last one it comes to within 42 m.
    for y, claims in ((-41.9 - V.width / 2, True), (-44.1 - V.width / 2, False)):
        scene = sets(wide(8.0, (agent(20.0, y, np.pi / 2, 7.0, track_id=3),), (cross_lane(20.0),)))
        assert bool(placed(scene, rest_at())[0]) is claims


def test_how_near_cross_traffic_comes_agrees_with_shapely(rng: np.random.Generator) -> None:
    """Samples a metre apart of a straight way across, against ego's outline at rest, turned by any angle."""
    claimed = 0
    for _ in range(40):
        yaw, way = rng.uniform(-3, 3), rng.uniform(-3, 3)
        if abs(np.sin(way - yaw)) < np.sin(TABLE.claim_angle) + 0.05:
            continue
        along = np.array([np.cos(way), np.sin(way)])
        start = np.array([20.0, 0.0]) + rng.uniform(-4, 4, 2) - 25.0 * along
        scene = replace(sets(wide(8.0, (agent(*start, way, 7.0, track_id=3),))), waits=np.array([False]))
        scene = replace(scene, ego=np.array([0.0, 300.0, 0.0, 8.0, 0.0, 0.0]))
        tail = rest_at(yaw)
        place = body(tail.pose[-1])
        gap = min(place.distance(shapely.Point(start + s * along)) for s in range(43)) - 0.95 - C.clearance
        violations, _ = placed(scene, tail)
        assert bool(violations) == (gap < 0)
        if violations:
            assert violations[0].margin == pytest.approx(gap, abs=1e-6)
            claimed += 1
    assert claimed > 10


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_only_who_comes_across_claims_the_place(side: float) -> None:
    for angle, claims in ((TABLE.claim_angle + 0.02, True), (TABLE.claim_angle - 0.02, False), (np.pi - 0.3, True)):
        way = side * angle
        start = np.array([21.0, 0.0]) - 25.0 * np.array([np.cos(way), np.sin(way)])
        scene = sets(wide(8.0, (agent(*start, way, 7.0, track_id=3),), (cross_lane(21.0, way),)))
        scene = replace(scene, waits=np.array([False]))
        assert bool(placed(scene, rest_at())[0]) is claims
        # The same by the heading of ego at rest.
        ahead = sets(wide(8.0, (agent(-9.0, 0.0, 0.0, 7.0, track_id=3),)))
        assert bool(placed(replace(ahead, ego=ahead.ego + np.array([0, 40, 0, 0, 0, 0])), rest_at(way))[0]) is claims


def test_who_does_not_claim_a_place() -> None:
    lane = (cross_lane(20.0),)
    one = lambda kind, v=7.0: sets(wide(8.0, (agent(20.0, -30.0, np.pi / 2, v, kind, (4.5, 1.9)),), lane))  # noqa: E731
    assert placed(one(CAR), rest_at())[0]
    assert placed(one(BICYCLE), rest_at())[0]
    assert not placed(one(WALKER), rest_at())[0], "people are not traffic"
    assert not placed(replace(one(CAR), waits=np.array([True])), rest_at())[0], "gives way"
    assert not placed(one(CAR, 0.0), rest_at())[0]
    # Ego stands in that way already.
    there = one(CAR)
    assert not placed(replace(there, ego=np.array([20.0, 0.0, 0.0, 3.0, 0.0, 0.0])), rest_at(x=22.0))[0]
    for gap, counts in ((0.02, True), (-0.02, False)):
        x = 20.0 - V.front - 0.95 - C.clearance - gap
        assert bool(placed(replace(there, ego=np.array([x, 0.0, 0.0, 3.0, 0.0, 0.0])), rest_at())[0]) is counts


def test_a_place_on_a_lane_across_is_recorded_just_inside_and_outside() -> None:
    """Within 1.5 m of a piece's middle, across by more than the angle in either direction."""
    for x, recorded in ((20.0 + V.front + 1.49, True), (20.0 + V.front + 1.51, False), (20.0 - V.rear - 1.49, True),
                        (20.0 - V.rear - 1.51, False)):  # fmt: skip
        lane = polyline([[x, -1.0], [x, 1.0]], PolylineType.CENTERLINE)
        _, records = placed(sets(wide(8.0, (), (lane,))), rest_at())
        assert bool(records) is recorded
        if recorded:
            assert records[0].rule == "tail_place_on_crossing_lane"
            assert records[0].margin == pytest.approx(-0.01)
            assert records[0].track_id == -1
    a = TABLE.claim_angle
    for turn, recorded in ((a + 0.01, True), (a - 0.01, False), (-a - 0.01, True), (-a + 0.01, False),
                           (np.pi - a - 0.01, True), (np.pi - a + 0.01, False)):  # fmt: skip
        step = np.array([np.cos(turn), np.sin(turn)])
        lane = polyline([[21.0 - step[0], -step[1]], [21.0 + step[0], step[1]]], PolylineType.CENTERLINE)
        assert bool(placed(sets(wide(8.0, (), (lane,))), rest_at())[1]) is recorded
    bare = sets(wide(8.0))
    bare = replace(bare, lane=lines(np.zeros((0, 2, 2))))
    assert placed(bare, rest_at()) == ([], [])


def random_outline(rng: np.random.Generator) -> np.ndarray:
    """A crosswalk: a ring of four to six corners, either way round."""
    count = int(rng.integers(4, 7))
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))[:: rng.choice([1, -1])]
    centre = np.array([21.0, 0.0]) + rng.uniform(-4, 4, 2)
    return centre + rng.uniform(1.0, 5.0, (count, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)


def test_a_rest_on_a_crosswalk_in_use_agrees_with_shapely(rng: np.random.Generator) -> None:
    """Ego at rest meets the outline; a walker is in it, or gets there within six seconds and is within five metres."""
    counts = {True: 0, False: 0}
    for _ in range(90):
        outline = random_outline(rng)
        ring = shapely.Polygon(outline)
        if not ring.is_valid or ring.area < 2:
            continue
        xy, v = np.array([21.0, 0.0]) + rng.uniform(-7, 7, 2), rng.uniform(0.0, 1.5)
        scene = replace(sets(wide(8.0, (agent(*xy, 1.0, v, WALKER, track_id=11),))), crosswalks=[outline])
        tail = rest_at(rng.uniform(-3, 3))
        ego = body(tail.pose[-1])
        on, used = ego.intersection(ring).area > 1e-6, ring.distance(shapely.Point(xy)) <= min(6.0 * v, 5.0)
        if body(np.zeros(3)).intersects(ring) or (not on and ego.distance(ring) < 1e-6):
            continue
        violations, _ = placed(scene, tail)
        assert bool(violations) == (on and used)
        if violations:
            assert violations[0].track_id == 11
            assert violations[0].margin < 0
        counts[bool(violations)] += 1
    assert min(counts.values()) > 10


def test_how_deep_on_a_crosswalk_by_hand() -> None:
    for reach in (0.3, 0.9):
        outline = np.array([[20 + V.front - reach, -9.0], [60, -9.0], [60, 9.0], [20 + V.front - reach, 9.0]])
        scene = sets(wide(8.0, (agent(25.0, 0.0, 1.0, 1.0, WALKER, track_id=11), agent(26.0, 0.0, 1.0, 1.0, BICYCLE),
                                agent(26.0, 2.0, 1.0, 0.0, CAR, track_id=2))))  # fmt: skip
        violations, _ = placed(replace(scene, crosswalks=[outline]), rest_at())
        assert sorted(v.track_id for v in violations) == [0, 11]
        for v in violations:
            assert v.margin == pytest.approx(-reach)
            assert v.rule == "tail_place"
    # Wholly inside, away from every side: just on it.
    inside = np.array([[10.0, -30.0], [60.0, -30.0], [60.0, 30.0], [10.0, 30.0]])
    violations, _ = placed(replace(scene, crosswalks=[inside]), rest_at())
    assert violations[0].margin == -1e-3
    # Ego stands on it already.
    now = inside - [20.0, 0.0]
    assert not placed(replace(scene, crosswalks=[now]), rest_at(x=5.0))[0]


def test_users_of_a_crosswalk_just_inside_and_outside() -> None:
    outline = np.array([[20.0, -2.0], [24.0, -2.0], [24.0, 2.0], [20.0, 2.0]])
    for y, v, uses in ((4.99, 0.5, True), (5.01, 0.5, False), (6.99, 2.0, True), (7.01, 2.0, False), (0.0, 0.0, True),
                       (2.01, 0.0, False), (-4.99, 0.5, True)):  # fmt: skip
        scene = sets(wide(8.0, (agent(22.0, y, 0.0, v, WALKER, track_id=11),)))
        assert bool(placed(replace(scene, crosswalks=[outline]), rest_at())[0]) is uses
    # Beside a corner: 3 and 4 m away from it are 5 m.
    for by, uses in ((0.99, True), (1.01, False)):
        scene = sets(wide(8.0, (agent(24.0 + 3.0 * by, 2.0 + 4.0 * by, 0.0, 2.0, WALKER),)))
        assert bool(placed(replace(scene, crosswalks=[outline]), rest_at())[0]) is uses

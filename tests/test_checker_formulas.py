"""The formulas of RSS against motion stepped through in time, with and without a top speed, at their edges."""

from __future__ import annotations

import numpy as np
import pytest

from planner.checker import rss
from planner.checker.rss import Party

STEP = 1e-3


def party(
    response: float = 1.0, acceleration: float = 2.0, top: float = 30.0, braking: float = 4.0, hardest: float = 8.0
) -> Party:
    return Party(response, acceleration, top, braking, 0.75 * braking, hardest, 0.3, 0.8, 0.2)


def stepped(v: float, accelerate: float, top: float, response: float, brake: float, duration: float) -> np.ndarray:
    """Distance at every step of one that accelerates up to its top speed until it responds, then brakes to rest."""
    t = np.arange(0.0, duration, STEP)
    until = np.minimum(t, response)
    reached = np.minimum(v + accelerate * until, max(top, v))
    speed = np.maximum(reached - brake * np.maximum(t - response, 0.0), 0.0)
    return np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * STEP)])


CASES = [
    (8.0, party()), (0.0, party()), (8.0, party(top=9.0)), (12.0, party(top=9.0)), (8.0, party(acceleration=0.0)),
    (3.0, party(response=0.4, acceleration=4.0, top=4.0, braking=2.0, hardest=3.0)), (5.0, party(response=0.0)),
]  # fmt: skip


@pytest.mark.parametrize(("v", "p"), CASES)
def test_distances_and_times_are_those_of_the_stepped_motion(v: float, p: Party) -> None:
    assert isinstance(p.acceleration, float)
    assert isinstance(p.speed_max, float)
    assert isinstance(p.response_time, float)
    assert isinstance(p.braking_min, float)
    assert isinstance(p.braking_max, float)
    hurry = stepped(v, p.acceleration, p.speed_max, p.response_time, p.braking_min, 12.0)
    speed = np.array([v])
    assert rss.stopping_distance(speed, p, p.braking_min)[0] == pytest.approx(hurry[-1], abs=0.01)
    late = stepped(v, 0.0, v, 0.0, p.braking_max, 12.0)
    for motion, first in ((hurry, True), (late, False)):
        for share in (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.99):
            distance = share * motion[-1]
            time = rss.time_to_cover(speed, p, np.array([distance]), hurry=first)[0]
            if motion[-1] == 0.0:
                assert time == 0.0
            else:
                assert time == pytest.approx(np.interp(distance, motion, STEP * np.arange(len(motion))), abs=0.02)
        beyond = rss.time_to_cover(speed, p, np.array([motion[-1] + 0.02]), hurry=first)[0]
        assert np.isinf(beyond)
        assert rss.time_to_cover(speed, p, np.array([-1.0]), hurry=first)[0] == 0.0


def test_times_take_one_distance_for_many_speeds() -> None:
    times = rss.time_to_cover(np.array([5.0, 10.0]), party(acceleration=0.0), np.array(4.0), hurry=True)
    np.testing.assert_allclose(times, [0.8, 0.4])


def test_who_drives_off_far_enough_ahead_needs_no_distance() -> None:
    slow, fast = np.array([3.0]), np.array([20.0])
    assert rss.same_direction(slow, fast, party(), party())[0] == 0.0
    needed = rss.same_direction(fast, slow, party(), party())[0]
    rear = stepped(20.0, 2.0, 30.0, 1.0, 4.0, 12.0)
    front = stepped(3.0, 0.0, 3.0, 0.0, 8.0, 12.0)
    assert needed == pytest.approx((rear - front).max(), abs=0.01)


def test_two_that_meet_need_both_their_stops() -> None:
    correct, other = party(braking=4.0), party(response=0.5, braking=6.0, top=12.0)
    found = rss.opposite_direction(np.array([9.0]), np.array([11.0]), correct, other)[0]
    ours = stepped(9.0, 2.0, 30.0, 1.0, 3.0, 20.0)[-1]
    theirs = stepped(11.0, 2.0, 12.0, 0.5, 6.0, 20.0)[-1]
    assert found == pytest.approx(ours + theirs, abs=0.01)


def sideways(v: float, acceleration: float, response: float, braking: float) -> float:
    """The most that one gets towards the other: it may stop getting nearer at any time, but not turn back."""
    t = np.arange(0.0, 12.0, STEP)
    speed = v + acceleration * np.minimum(t, response)
    after = speed[-1]
    later = np.maximum(after - braking * np.maximum(t - response, 0.0), min(after, 0.0))
    speed = np.where(t <= response, speed, np.where(after > 0, later, 0.0))
    return float(np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * STEP)])[-1])


@pytest.mark.parametrize(
    ("left", "right"), [(0.0, 0.0), (1.0, -0.5), (-1.0, 0.2), (-0.1, 0.1), (0.5, 2.0), (-3.0, 3.0)]
)
def test_the_gap_beside_is_that_of_the_stepped_motion(left: float, right: float) -> None:
    """Speeds to the right: the left one approaches with its own, the right one with minus its own."""
    one = Party(1.0, 0.0, 30.0, 4.0, 3.0, 8.0, 0.3, 0.8, 0.2)
    two = Party(0.5, 0.0, 30.0, 4.0, 3.0, 8.0, 0.6, 1.2, 0.1)
    approach = sideways(left, 0.3, 1.0, 0.8) + sideways(-right, 0.6, 0.5, 1.2)
    found = rss.lateral(np.array([left]), np.array([right]), one, two)[0]
    assert found == pytest.approx(0.15 + max(approach, 0.0), abs=5e-3)


def crossing(
    v: float, w: float, enter: tuple, leave: tuple, first: tuple = (False, False), p: Party | None = None
) -> bool:
    arrays = lambda pair, kind=float: tuple(np.array([x], dtype=kind) for x in pair)  # noqa: E731
    p = p or party()
    answer = rss.crossing_safe(np.array([v]), np.array([w]), p, p, arrays(enter), arrays(leave), arrays(first, bool))
    assert answer.shape == (1,)
    return bool(answer[0])


def test_crossing_ways_agree_with_the_stepped_motions(rng: np.random.Generator) -> None:
    """Safe if one can stop before the place, or is out of it, braking hardest, before the other, hurrying, is there."""
    said = {True: 0, False: 0}
    for _ in range(300):
        v, w = rng.uniform(0.0, 14.0, 2)
        enter = rng.uniform(0.0, 30.0, 2) * rng.choice([0.1, 1.0], 2)
        leave = enter + rng.uniform(1.0, 5.0, 2)
        p = party(top=float(rng.choice([8.0, 30.0])))
        top = float(p.speed_max)
        hurry = [stepped(s, 2.0, top, 1.0, 4.0, 12.0) for s in (v, w)]
        late = [stepped(s, 0.0, s, 0.0, 8.0, 12.0) for s in (v, w)]
        clear = min(abs(hurry[i][-1] - enter[i]) for i in (0, 1)) > 0.05
        clear &= min(abs(late[i][-1] - leave[i]) for i in (0, 1)) > 0.05
        reach = lambda m, d: STEP * np.searchsorted(m, d) if m[-1] > d else np.inf  # noqa: E731
        early, out = [reach(hurry[i], enter[i]) for i in (0, 1)], [reach(late[i], leave[i]) for i in (0, 1)]
        margins = [early[0] - out[1], early[1] - out[0]]
        if not clear or any(np.isfinite(m) and abs(m) < 0.02 for m in margins):
            continue
        stops = any(hurry[i][-1] < enter[i] for i in (0, 1))
        safe = stops or early[0] > out[1] or early[1] > out[0]
        assert crossing(v, w, tuple(enter), tuple(leave), p=p) == safe
        said[safe] += 1
    assert min(said.values()) > 40


def test_priority_says_who_has_to_stop() -> None:
    stop = float(rss.stopping_distance(np.array([10.0]), party(), 4.0)[0])
    far = (60.0, 60.0)
    for d, first, safe in (
        ((stop + 0.01, 1.0), (False, True), True), ((stop - 0.01, 1.0), (False, True), False),
        ((stop + 0.01, 1.0), (True, False), False), ((1.0, stop + 0.01), (True, False), True),
        ((1.0, stop + 0.01), (False, True), False), ((stop + 0.01, 1.0), (True, True), False),
        ((1.0, 1.0), (False, False), False),
    ):  # fmt: skip
        assert crossing(10.0, 10.0, d, far, first) is safe
    # Neither ever gets there: safe whoever goes first.
    assert crossing(10.0, 10.0, (stop + 0.01, stop + 0.01), far, (True, True))
    assert not crossing(10.0, 10.0, (stop + 0.01, stop - 0.01), far, (True, True))

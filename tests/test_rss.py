"""RSS formulas: published values, limits, and simulated motion as the witness."""

from __future__ import annotations

import numpy as np
import pytest

from planner.checker import rss
from planner.checker.rss import Party

DOCUMENTED = Party(1.0, 3.5, 100.0, 4.0, 3.0, 8.0, 0.2, 0.8, 0.1)  # ad-rss's own example, ego's response time
KNOWN = Party(0.3, 0.0, 100.0, 4.0, 3.0, 8.0, 0.2, 0.8, 0.1)


def kmh(value: float) -> np.ndarray:
    return np.array(value / 3.6)


@pytest.mark.parametrize(("speed", "late", "known"), [(30, 23.2, 6.8), (50, 41.4, 16.2), (90, 89.2, 46.6)])
def test_distance_behind_an_equally_fast_leader(speed: float, late: float, known: float) -> None:
    """Worked values of the documentation's parameters, to the decimal they are given with."""
    v = kmh(speed)
    assert rss.same_direction(v, v, DOCUMENTED, DOCUMENTED) == pytest.approx(late, abs=0.05)
    assert rss.same_direction(v, v, KNOWN, DOCUMENTED) == pytest.approx(known, abs=0.05)


def party(rng: np.random.Generator, count: int) -> Party:
    u = lambda low, high: rng.uniform(low, high, count)  # noqa: E731
    braking = u(1.0, 6.0)
    return Party(
        u(0.1, 2.0), u(0.0, 4.0), u(5.0, 30.0), braking, 0.7 * braking, braking + u(0.0, 4.0), u(0.0, 1.0), u(0.3, 2.0),
        u(0.0, 0.3),
    )  # fmt: skip


def driven(
    v: float, p: Party, i: int, braking: float, duration: float, h: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Time and distance of one that responds late and then brakes to rest, in small steps."""
    time = np.arange(0.0, duration, h)
    speed, s, out = v, 0.0, []
    top = max(v, float(p.speed_max[i]))
    for t in time:
        out.append(s)
        a = float(p.acceleration[i]) if t < float(p.response_time[i]) else -braking
        new = min(max(speed + a * h, 0.0), top)
        s, speed = s + 0.5 * (speed + new) * h, new
    return time, np.array(out)


def test_stopping_and_covering_agree_with_simulated_motion(rng: np.random.Generator) -> None:
    p, v = party(rng, 12), rng.uniform(0.5, 20.0, 12)
    stop = rss.stopping_distance(v, p, p.braking_min)
    for i in range(12):
        time, s = driven(float(v[i]), p, i, float(p.braking_min[i]), 25.0)
        assert stop[i] == pytest.approx(s[-1], rel=1e-3, abs=0.05)
        for share in (0.1, 0.5, 0.95):
            distance = np.full(12, share * s[-1])
            at = rss.time_to_cover(v, p, distance, hurry=True)[i]
            assert at == pytest.approx(time[int(np.searchsorted(s, distance[i]))], abs=0.01)
        assert np.isinf(rss.time_to_cover(v, p, np.full(12, stop[i] + 1e-6), hurry=True)[i])
        late = rss.time_to_cover(v, p, np.full(12, 0.4 * v[i] ** 2 / (2 * p.braking_max[i])), hurry=False)[i]
        assert v[i] * late - 0.5 * p.braking_max[i] * late**2 == pytest.approx(0.4 * v[i] ** 2 / (2 * p.braking_max[i]))


def test_keeping_the_distance_means_no_contact(rng: np.random.Generator) -> None:
    """Just outside the safe distance the rear one, simulated, stays behind the braking front one; 1 m inside not."""
    p, q = party(rng, 40), party(rng, 40)
    v, w = rng.uniform(3.0, 20.0, 40), rng.uniform(0.0, 20.0, 40)
    safe = rss.same_direction(v, w, p, q)
    tested = 0
    for i in range(40):
        if w[i] > v[i]:
            continue  # contact is only then decided at the end of the motion
        time, s = driven(float(v[i]), p, i, float(p.braking_min[i]), 25.0)
        t = np.minimum(time, w[i] / q.braking_max[i])
        front = w[i] * t - 0.5 * q.braking_max[i] * t**2
        assert (safe[i] + 0.05 + front - s).min() >= 0
        if safe[i] > 1.0:
            assert (safe[i] - 1.0 + front - s).min() < 0
            tested += 1
    assert tested > 10


def test_two_that_meet_stop_short_of_each_other(rng: np.random.Generator) -> None:
    p, q = party(rng, 5), party(rng, 5)
    v, w = rng.uniform(1.0, 15.0, (2, 5))
    safe = rss.opposite_direction(v, w, p, q)
    for i in range(5):
        ours = driven(float(v[i]), p, i, float(p.braking_correct[i]), 30.0)[1][-1]
        theirs = driven(float(w[i]), q, i, float(q.braking_min[i]), 30.0)[1][-1]
        assert safe[i] == pytest.approx(ours + theirs, abs=0.1)


def test_lateral_distance_by_hand_and_mirrored() -> None:
    still = np.zeros(1)
    # Each: 0.2 * 1^2 / 2 until it responds, then 0.2^2 / (2 * 0.8) of braking; plus the margin.
    assert rss.lateral(still, still, DOCUMENTED, DOCUMENTED) == pytest.approx(0.1 + 2 * (0.1 + 0.025))
    # Drifting apart faster than that: the margin alone, never less.
    assert rss.lateral(np.array([-2.0]), np.array([2.0]), DOCUMENTED, DOCUMENTED) == pytest.approx(0.1)
    one = rss.lateral(np.array([0.7]), np.array([-0.2]), DOCUMENTED, KNOWN)
    assert rss.lateral(np.array([0.2]), np.array([-0.7]), KNOWN, DOCUMENTED) == pytest.approx(one)


def crossing(v: float, w: float, enter: tuple, leave: tuple, priority: tuple = (False, False)) -> bool:
    wide = lambda pair, kind=float: tuple(np.array([x], dtype=kind) for x in pair)  # noqa: E731
    return bool(
        rss.crossing_safe(
            np.array([v]), np.array([w]), DOCUMENTED, DOCUMENTED, wide(enter), wide(leave), wide(priority, bool)
        )[0]
    )


def test_crossing_ways_each_reason_to_be_safe_and_its_limit() -> None:
    stop = float(rss.stopping_distance(np.array(10.0), DOCUMENTED, 4.0))
    near = (1.0, 1.0)
    assert crossing(10.0, 10.0, (stop + 0.01, 1.0), (60.0, 5.0)), "one can stop"
    assert not crossing(10.0, 10.0, (stop - 0.01, 1.0), (60.0, 60.0)), "neither can, both are about to enter"
    assert not crossing(10.0, 10.0, (stop + 0.01, 1.0), (60.0, 60.0), (True, False)), "who goes first need not stop"
    assert crossing(10.0, 10.0, (1.0, stop + 0.01), (60.0, 60.0), (True, False)), "the other waits"
    # Braking fully from 10 m/s the first one is out of 2 m after 0.22 s; the second needs 20 m.
    assert crossing(10.0, 10.0, (0.0, 20.0), (2.0, 60.0))
    assert not crossing(10.0, 10.0, near, (60.0, 60.0))
    assert crossing(0.0, 0.0, near, (9.0, 9.0)) == (float(rss.stopping_distance(np.zeros(1), DOCUMENTED, 4.0)) < 1.0)

"""The common-mode study: its estimate is right where the truth is known, and its pieces are exact."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from sim_scenes import agent, box, recording, straight_track

from eval.studies.common_mode import FIRST, Seen, _touched, common_mode, observe, visible_share, with_first
from planner.scene import AgentClass, RawObstacles
from planner.scene.raw_obstacles import RawStatus


def drawn(rng: np.random.Generator, both: float, first: float, raw: float, count: int = 6000) -> list[Seen]:
    """Misses with given joint and single rates, spread over 30 scenes."""
    u = rng.random(count)
    states = np.digitize(u, np.cumsum([both, first - both, raw - both]))
    return [
        Seen(f"s{i % 30}", i, AgentClass.CAR, 10.0, 1.0, raw_missed=bool(k in (0, 2)), first_missed=bool(k in (0, 1)))
        for i, k in enumerate(states)
    ]


def test_independent_misses_have_ratio_one_and_common_ones_more() -> None:
    rng = np.random.default_rng(0)
    independent = common_mode(drawn(rng, 0.02, 0.1, 0.2))
    assert independent.ratio[1] < 1.0 < independent.ratio[2]
    assert independent.first[0] == pytest.approx(0.1, abs=0.015)
    common = common_mode(drawn(rng, 0.06, 0.1, 0.2))
    assert common.ratio[1] > 2.0
    assert common.both[1] < 0.06 < common.both[2]


def test_a_channel_without_misses_has_no_ratio_and_nothing_seen_is_refused() -> None:
    silent = common_mode(drawn(np.random.default_rng(1), 0.0, 0.1, 0.0))
    assert np.isnan(silent.ratio[0])
    assert silent.raw == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 6000)))  # nothing in 6000 trials proves little
    with pytest.raises(ValueError, match="at least one"):
        common_mode([])


def test_touching_agrees_with_shapely(rng: np.random.Generator) -> None:
    import torch

    def boxes(n: int) -> np.ndarray:
        return np.c_[rng.uniform(-6, 6, (n, 2)), rng.uniform(-4, 4, n), rng.uniform(0.3, 5, (n, 2))]

    objects, found = boxes(300), boxes(3)
    f = torch.from_numpy
    raw = RawObstacles(
        f(found[:, :2]), f(found[:, 2]), f(found[:, 3]), f(found[:, 4]), torch.zeros(3, 2).double(),
        torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool),
        torch.zeros(4).double(), torch.zeros(4, dtype=torch.bool), torch.tensor(0), RawStatus.OK,
    )  # fmt: skip
    grown = [box(o[:3], o[3:] + 0.6) for o in objects]
    expected = [any(g.intersects(box(r[:3], r[3:])) for r in found) for g in grown]
    assert 50 < sum(expected) < 250
    assert _touched(objects, raw).tolist() == expected


def test_what_a_car_hides_is_hidden_in_part_or_whole() -> None:
    car = [10.0, 0.0, 0.0, 4.0, 2.0]
    person = lambda y: [20.0, y, 0.0, 0.6, 0.6]  # noqa: E731
    kinds = np.array([AgentClass.CAR, AgentClass.PEDESTRIAN])
    shares = [visible_share(np.array([car, person(y)]), kinds)[1] for y in (0.0, 2.5, 6.0)]
    assert shares[0] == 0.0
    assert 0.0 < shares[1] < 1.0
    assert shares[2] == 1.0
    edge = shapely.LineString([(0, 0), (20, 2.5)])
    assert edge.intersects(box(np.array(car[:3]), car[3:]).buffer(0.2))


def test_objects_of_a_drive_are_judged_once_each_moment_by_both_channels() -> None:
    x = np.arange(21) * 0.8
    rec = recording(straight_track(x), agent(straight_track(x + 12)), agent(straight_track(x + 70)))
    seen = list(observe(rec, "clear"))
    assert len(seen) == 5  # every half second of two; the other car is out of range
    assert not any(s.raw_missed for s in seen)
    assert all(s.distance == pytest.approx(12.0, abs=2.0) for s in seen)
    blind = [s.first_missed for s in with_first(seen, "blind at random", "clear")]
    assert blind == [s.draw < 0.1 for s in seen]
    laws = [FIRST["hard is hard"](d, share, 0.0) for d, share in ((5.0, 1.0), (45.0, 1.0), (45.0, 0.2))]
    assert 0.0 < laws[0] < laws[1] < laws[2] < 1.0

"""The checker against third-party oracles, small samples; the full comparisons are commands (benchmarks/oracles)."""

from __future__ import annotations

import pytest

from benchmarks.oracles import commonroad_oracle, rss_oracle, shapely_oracle
from benchmarks.oracles.environment import HOW, oracle_python

needs_oracles = pytest.mark.skipif(oracle_python() is None, reason=f"no environment for the oracles: {HOW}")


@needs_oracles
def test_rss_agrees_with_ad_rss_up_to_the_known_reasons() -> None:
    assert rss_oracle.compare(400, seed=1) == 0


@needs_oracles
def test_swept_collision_lies_between_both_answers_of_commonroad() -> None:
    assert commonroad_oracle.compare(60, seed=1) == 0


def test_swept_rectangles_agree_with_shapely() -> None:
    assert shapely_oracle.compare(2000, seed=1) == 0

"""The mutation run's own parts: which statement a line belongs to, which tests come first, what a sample says."""

from __future__ import annotations

import pytest

from benchmarks import mutation

SOURCE = """\
import math


@property
def area(
    radius: float,
) -> float:
    if (
        radius
        < 0
    ):
        raise ValueError(
            radius
        )
    return (
        math.pi
        * radius**2
    )
"""


@pytest.mark.parametrize(("line", "statement"), [
    (1, range(1, 2)), (4, range(4, 8)), (6, range(4, 8)), (9, range(8, 12)), (13, range(12, 15)), (17, range(15, 19)),
])  # fmt: skip
def test_a_line_belongs_to_the_innermost_statement_and_of_a_block_to_its_head(line: int, statement: range) -> None:
    assert mutation.statement_of(SOURCE, line) == statement


def test_annotations_are_not_mutated() -> None:
    spans = mutation.annotations(SOURCE)
    assert mutation.within((6, 12), (6, 17), spans)
    assert not mutation.within((17, 10), (17, 11), spans)


def test_tests_that_run_the_statement_come_by_what_they_noticed_in_their_time() -> None:
    told = mutation.Experience(
        seconds={"quick": 0.1, "slow": 5.0, "other": 0.1, "sharp": 0.5},
        runs={"m": {3: {"quick", "slow"}, 4: {"sharp"}}},
    )
    assert told.order("m", range(3, 4)) == ["quick", "slow"]
    assert told.order("m", range(3, 5)) == ["quick", "sharp", "slow"]
    told.noticed["m"]["sharp"] += 4
    assert told.order("m", range(3, 5))[0] == "sharp"
    assert set(told.order("m", range(9, 10))) == {"quick", "slow", "other", "sharp"}, "runs on import: everybody"


def test_the_interval_of_a_sample() -> None:
    """Wilson's, by his formula for 19 of 20 and for all of 10."""
    assert mutation.interval(19, 20) == pytest.approx((0.7639, 0.9911), abs=1e-4)
    low, high = mutation.interval(10, 10)
    assert (low, high) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert mutation.interval(0, 0) == (0.0, 1.0)


def test_parts_of_a_target_can_be_chosen() -> None:
    part = mutation.chosen("checker", "rules/rest", ["tests/test_checker_places.py"])
    assert part.modules == ("planner/checker/rules/rest.py",)
    assert part.tests == ("tests/test_checker_places.py",)
    assert "tests/test_checker_sets.py" in mutation.chosen("checker", "", []).tests

"""Orders and sides on small scenes against brute force: what some drive has room for is a candidate, exactly once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decision_scenes import decide, drivable_classes, named, scene_of, small_scene

from planner.config import Margins, PlannerConfig

ZONE_TIME = 0.8
CONFIG = PlannerConfig(margins=Margins(zone_time=ZONE_TIME, zone_time_walking=ZONE_TIME))
CONFIG = replace(CONFIG, decisions=replace(CONFIG.decisions, max_candidates=40))
"""Three that cross and two sides are more combinations than are solved in a cycle: here all are listed."""
SCENES = 96


def fits(candidate: str, way: str) -> bool:
    """A candidate may leave out whom it never meets: "-" fits every letter."""
    return all(mine in ("-", theirs) for mine, theirs in zip(candidate, way))


@pytest.fixture(scope="module")
def cases() -> list[tuple[set[str], list[str]]]:
    """Per scene the classes that have room, and the candidates: up to three who cross or merge, a car at one side."""
    out = []
    for n in range(SCENES):
        moving = (1, 2, 1, 3, 0, 2, 1, 3)[n % 8]
        others, road = small_scene(np.random.default_rng([7, n]), moving, stands=n % 3 > 0 or moving == 0)
        ways = drivable_classes(others, road["v"], road["left"], road["right"], ZONE_TIME)
        out.append((ways, named(decide(scene_of(others, road), CONFIG), len(others))))
    return out


def test_every_clearly_drivable_class_has_exactly_one_candidate(cases) -> None:
    asked = [way for ways, _ in cases for way in ways]
    assert len(asked) > 80
    assert sum("b" in way for way in asked) > 12
    assert sum("L" in way or "R" in way for way in asked) > 12
    wrong = [
        (n, way, found)
        for n, (ways, found) in enumerate(cases)
        for way in ways
        if sum(fits(candidate, way) for candidate in found) != 1
    ]
    assert not wrong


def test_no_class_is_listed_twice(cases) -> None:
    for ways, found in cases:
        assert len(found) == len(set(found)), (ways, found)

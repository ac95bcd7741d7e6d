"""Changing lanes: which neighbours are offered, and that a slow leader is overtaken in the next lane."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planner_scenes import Other, arc, make_scene

from planner import ConvexPlanner, PlannerConfig
from planner.config import Decisions
from planner.result import PlanStatus
from planner.scene import MapPolylines, PolylineType, VectorScene

F64 = torch.float64


def two_lanes(
    *others: Other, v: float = 9.0, offset: float = 3.5, bend: float = 0.0, reverse: bool = False,
    first: float = -25.0, last: float = 150.0, room: float = 5.25,
) -> VectorScene:  # fmt: skip
    """A road with our lane and another at `offset` (m, left positive) that exists from first to last."""
    right, left = (room, 1.75) if offset < 0 else (1.75, room)
    scene = make_scene(v, others, left=left, right=right, bend=bend)
    s = torch.arange(first, last, 2.0, dtype=F64)
    lines = []
    for d in (0.0, offset):
        point, normal = arc(s, bend)
        line = point + d * normal
        lines.append((line.flip(0) if reverse and d else line, PolylineType.CENTERLINE))
    edges = [(xy[v], PolylineType(int(k))) for xy, v, k in zip(scene.map.xy, scene.map.valid, scene.map.kind)]
    return replace(scene, map=MapPolylines.from_lists(edges + lines)).validate()


def decisions(scene: VectorScene, config: PlannerConfig | None = None) -> dict[str, PlanStatus]:
    return {c.decision: c.status for c in ConvexPlanner(config).plan(scene).candidates}


def changes(scene: VectorScene) -> list[str]:
    return sorted(text.split(";")[0] for text in decisions(scene) if "change to" in text)


@pytest.mark.parametrize("bend", [0.0, 0.01, -0.01])
@pytest.mark.parametrize(("offset", "side"), [(3.5, "left"), (-3.5, "right")])
def test_the_free_neighbour_is_offered_and_can_be_driven(offset: float, side: str, bend: float) -> None:
    found = decisions(two_lanes(offset=offset, bend=bend))
    assert found[f"change to the {side} lane"] is PlanStatus.SOLVED


def test_a_slow_leader_is_overtaken_in_the_next_lane() -> None:
    result = ConvexPlanner().plan(two_lanes(Other(18.0, 0.0, v=3.0)))
    assert "change to the left lane" in result.chosen.decision
    assert result.chosen.trajectory.y[-1] > 2.5
    assert result.chosen.trajectory.v[-1] > 8.0


def test_without_need_the_route_is_kept() -> None:
    result = ConvexPlanner().plan(two_lanes())
    assert result.chosen.decision == "drive on"


@pytest.mark.parametrize(
    ("other", "offered"),
    [
        (Other(-9.0, 3.5, v=9.0), False),  # 2 m + 1 s behind are not there
        (Other(-17.0, 3.5, v=9.0), True),
        (Other(-25.0, 3.5, v=14.0), False),  # 14 + 2 + 25 / 4 m
        (Other(-31.0, 3.5, v=14.0), True),
        (Other(2.0, 3.5, v=9.0), False),  # beside us
        (Other(14.0, 3.5, v=9.0), True),  # ahead: followed there
        (Other(2.0, 7.2, v=9.0), True),  # a lane farther
    ],
)
def test_nobody_in_the_other_lane_is_made_to_brake_hard(other: Other, offered: bool) -> None:
    assert bool(changes(two_lanes(other))) == offered


@pytest.mark.parametrize(
    "road",
    [
        {"reverse": True},  # oncoming
        {"last": 30.0},  # ends before the change does
        {"first": 12.0},  # has not begun
        {"offset": 1.8},  # our own lane, drawn twice
        {"offset": 6.0},  # not the next one
        {"room": 3.5},  # no surface there
    ],
)
def test_what_is_no_neighbour_is_not_offered(road: dict) -> None:
    assert changes(two_lanes(**road)) == []


def test_once_under_way_who_follows_there_follows_us() -> None:
    scene = two_lanes(Other(-11.0, 3.5, v=9.0))
    over = replace(scene, ego=replace(scene.ego, y=torch.tensor(2.2, dtype=F64)))
    assert changes(scene) == []
    assert changes(over) == ["change to the left lane"]


def test_it_can_be_switched_off() -> None:
    config = PlannerConfig(decisions=Decisions(lane_change=False))
    assert not [text for text in decisions(two_lanes(), config) if "change" in text]


def test_a_batch_finds_what_single_scenes_find() -> None:
    scenes = [two_lanes(), two_lanes(Other(2.0, 3.5, v=9.0)), two_lanes(Other(18.0, 0.0, v=3.0), offset=-3.5)]
    batch = ConvexPlanner().plan_batch(VectorScene.stack(scenes))
    for scene, result in zip(scenes, batch.results()):
        alone = ConvexPlanner().plan(scene)
        assert {c.decision for c in result.candidates} == {c.decision for c in alone.candidates}
        assert result.chosen.decision == alone.chosen.decision

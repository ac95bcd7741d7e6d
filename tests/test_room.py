"""Room for who drifts towards our lane while we pass: to the right side, enough, in time, and for nobody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from planner_scenes import CONFIG, F64, VEHICLE, Other, chosen, make_scene, plan

from planner import ConvexPlanner
from planner.decisions.room import CERTAIN, NEAR, WANDERING
from planner.result import Candidate
from planner.scene import AgentClass, VectorScene

SPEED = 8.0
"""Of the other (m/s)."""


def beside(drift: float, *, y: float = 3.3, x: float = 6.0, v: float = SPEED, ego: float = 14.0, **road) -> VectorScene:
    """A car on the left (right for negative y) that comes over with `drift` m/s, in a lane of its own."""
    side = math.copysign(1.0, y)
    wide = {"left": 5.25, "right": 5.25, "limit": 15.0, **road}
    return make_scene(ego, (Other(x, y, -side * math.asin(drift / v), v, sigma=0.01, spread=0.01),), **wide)


def aside(scene: VectorScene, config=CONFIG) -> float:
    """Farthest to the left (m) within 3 s, with its sign."""
    best: Candidate = plan(scene, config).chosen
    y = best.trajectory.y[best.trajectory.time <= 3.0]
    return float(y[y.abs().argmax()])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_ego_keeps_away_from_who_drifts_over_and_to_the_other_side(side: float) -> None:
    moved = aside(beside(0.6, y=3.3 * side))
    assert 0.3 < -side * moved < CONFIG.decisions.room + 0.05
    assert abs(aside(beside(0.6, y=3.3 * side), replace(CONFIG, decisions=replace(CONFIG.decisions, room=0.0)))) < 0.05


def test_it_begins_at_once_for_who_changes_lanes() -> None:
    """After 0.6 s; at the most that the lateral jerk (6 m/s^3) allows it would be 0.22 m."""
    best = chosen(beside(0.6))
    t, y = best.trajectory.time, best.trajectory.y
    early = float(-y[(t - 0.6).abs().argmin()])
    assert 0.05 < early < 0.22


def test_wandering_is_not_drifting_just_inside_and_outside() -> None:
    assert abs(aside(beside(WANDERING - 0.01))) < 0.02
    assert abs(aside(beside(0.5 * (WANDERING + CERTAIN)))) > 0.1
    assert abs(aside(beside(-0.6))) < 0.02, "who goes away"


@pytest.mark.parametrize(
    ("why", "scene"),
    [
        ("faster than ego", beside(0.6, v=16.0)),
        ("passed already", beside(0.6, x=-8.0)),
        ("far to the side", beside(0.6, y=NEAR + 0.95 + VEHICLE.width / 2 + 0.3, left=9.0)),
        ("not beside within 3 s", beside(0.6, x=35.0, v=10.0, ego=14.0)),
        ("crossing", make_scene(9.0, (Other(14.0, 3.3, -1.3, 1.4, AgentClass.PEDESTRIAN),), left=5.25, right=5.25)),
        ("standing", make_scene(14.0, (Other(6.0, 3.3, -0.1, 0.0),), left=5.25, right=5.25, limit=15.0)),
    ],
)
def test_nobody_else_is_given_room(why: str, scene: VectorScene) -> None:
    assert abs(aside(scene)) < 0.03, why


def test_nobody_on_the_other_side_is_crowded_for_it() -> None:
    """A car goes along on the right; what is left beside it is more than the hard margin and the side gap."""
    drifting = Other(6.0, 3.3, -math.asin(0.6 / SPEED), SPEED, sigma=0.01, spread=0.01)
    for gap, moves in ((1.05, True), (0.9, False)):
        y = -(VEHICLE.width / 2 + 0.95 + gap)
        along = Other(2.0, y, 0.0, 14.0, sigma=0.01, spread=0.01, track_id=2)
        scene = make_scene(14.0, (drifting, along), left=5.25, right=5.25, limit=15.0)
        assert (abs(aside(scene)) > 0.05) is moves, gap
        start = scene.ego.replace(yaw=torch.tensor(0.01, dtype=F64))
        calm = replace(CONFIG, decisions=replace(CONFIG.decisions, room=0.0))
        back, as_ever = (plan(scene.replace(ego=start), c).chosen.trajectory.y for c in (CONFIG, calm))
        assert bool(torch.allclose(back, as_ever)) is not moves, "no hurry without room"


def test_the_surface_ends_it() -> None:
    """0.3 m beside ego to the edge, of which 0.15 m are kept."""
    scene = beside(0.6, right=VEHICLE.width / 2 + 0.3)
    moved = -aside(scene)
    assert 0.05 < moved < 0.3 - CONFIG.margins.boundary + 0.03


def test_people_and_riders_are_given_room_like_cars() -> None:
    rider = Other(4.0, 2.6, -0.12, 5.0, AgentClass.BICYCLE, sigma=0.01, spread=0.01)
    assert aside(make_scene(9.0, (rider,), left=5.25, right=5.25)) < -0.2


def test_scenes_of_a_batch_do_not_disturb_each_other() -> None:
    scenes = [beside(0.6), beside(0.0), beside(0.6, y=-3.3)]
    both = VectorScene.stack(scenes)
    found = ConvexPlanner(CONFIG, VEHICLE).plan_batch(both)
    for i, scene in enumerate(scenes):
        alone = plan(scene).chosen.trajectory
        torch.testing.assert_close(found.result(i).chosen.trajectory.y, alone.y, atol=1e-6, rtol=0)

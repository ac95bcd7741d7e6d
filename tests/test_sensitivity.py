"""How a plan depends on one road user, by gradient and by prices, against what displaced scenes and programs do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planner_scenes import CONFIG, F64, SCENES, VEHICLE, Other, make_scene
from torch import Tensor

from planner import ConvexPlanner, PlanResult
from planner.certificate import SolvedProgram, price_of_error
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions, solve
from planner.scene import VectorScene
from planner.sensitivity import PARAMETERS, Sensitivity, displaced

STEP = 1e-4

FIELD = Other(60.0, 40.0, track_id=7)
"""Stands in a field, far from anybody's way."""
FOLLOWED = make_scene(8.0, (Other(21.0, 0.0, v=6.0, spread=0.3), FIELD))
BLOCKED = make_scene(8.0, (Other(24.0, 0.3), FIELD))
PASSED = make_scene(6.0, (Other(24.0, -1.9, yaw=0.1), FIELD), left=3.5)


def planned(scene: VectorScene) -> PlanResult:
    return ConvexPlanner(CONFIG, VEHICLE).plan(scene)


def columns(result: PlanResult, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """cost, and x, y, v at the times."""
    best = result.chosen
    at = (time * 10).round().long()
    return torch.as_tensor(best.cost, dtype=F64), best.trajectory.x[at], best.trajectory.y[at], best.trajectory.v[at]


@pytest.mark.parametrize(
    ("scene", "parameter"),
    # Not the speed of those who stand: it has a kink at zero.
    [
        (FOLLOWED, 0),
        (FOLLOWED, 1),
        (FOLLOWED, 2),
        (FOLLOWED, 3),
        (BLOCKED, 0),
        (BLOCKED, 2),
        (PASSED, 0),
        (PASSED, 1),
        (PASSED, 2),
    ],
    ids=lambda value: PARAMETERS[value] if isinstance(value, int) else "",
)
def test_it_is_what_displaced_scenes_show(scene: VectorScene, parameter: int) -> None:
    result = planned(scene)
    told = result.sensitivity(1)
    assert told.track_id == 1
    assert told.trusted
    shift = STEP * torch.nn.functional.one_hot(torch.tensor(parameter), 4).double()
    ends = [planned(displaced(scene, 1, sign * shift)) for sign in (1, -1)]
    assert ends[0].chosen.decision == ends[1].chosen.decision == result.chosen.decision
    measured = [(a - b) / (2 * STEP) for a, b in zip(*(columns(end, told.time) for end in ends))]
    for said, seen in zip((told.cost, told.x, told.y, told.v), measured):
        assert said[..., parameter].numpy() == pytest.approx(seen.numpy(), rel=5e-3, abs=2e-3)
    matters = {id(FOLLOWED): (0, 3), id(BLOCKED): (0,), id(PASSED): (1, 2)}[id(scene)]
    assert parameter not in matters or max(float(m.abs().max()) for m in measured[1:]) > 0.05


def test_who_does_not_matter_has_none() -> None:
    told = planned(FOLLOWED).sensitivity(7)
    assert not told.cost.any()
    assert not any(t.any() for t in (told.x, told.y, told.v))
    assert told.explain() == "The plan does not depend on object 7."


def test_the_sentence_says_what_a_metre_costs() -> None:
    told = planned(FOLLOWED).sensitivity(1)
    assert told.cost[0] < 0  # further ahead is cheaper
    assert told.v[:, 0].max() > 0.01
    sentence = told.explain()
    assert "object 1" in sentence
    assert f"{float(told.cost[:2].norm()):.2f}" in sentence
    times = torch.tensor([1.0, 2.0], dtype=F64)
    made = Sensitivity(
        3, torch.tensor([3.0, 4.0, 0.0, 0.0]), times, torch.zeros(2, 4), torch.zeros(2, 4),
        torch.tensor([[0.1, 0.0, 9.0, 9.0], [-0.5, -1.0, 9.0, 9.0]]), True,
    )  # fmt: skip
    # The direction is (0.6, 0.8): -0.5 * 0.6 - 1.0 * 0.8 = -1.1.
    assert "object 3, in the worst direction, costs 5.00" in made.explain()
    assert "-1.10 m/s at 2 s" in made.explain()


def test_unknown_road_users_and_results_without_a_planner_are_refused() -> None:
    result = planned(FOLLOWED)
    with pytest.raises(ValueError, match="no valid road user 99"):
        result.sensitivity(99)
    with pytest.raises(ValueError, match="with a chosen candidate"):
        replace(result, replay=None).sensitivity(1)
    with pytest.raises(ValueError, match="with a chosen candidate"):
        planned(make_scene(10.0, (Other(9.0, 0.0),))).sensitivity(1)
    hidden = FOLLOWED.replace(agents=FOLLOWED.agents.replace(valid=torch.tensor([False, True])))
    with pytest.raises(ValueError, match="no valid road user 1"):
        displaced(hidden, 1, torch.zeros(4, dtype=F64))


def test_asking_changes_nothing() -> None:
    """The planner's memory and the result stay as they are; a second answer is the first."""
    planner = ConvexPlanner(CONFIG, VEHICLE)
    result = planner.plan(FOLLOWED)
    before = planner.memory.decision, dict(planner.memory.standing_time), result.chosen.cost
    first = result.sensitivity(1)
    planner.plan(SCENES["cone"])
    second = result.sensitivity(1)
    assert torch.equal(first.v, second.v)
    assert before[0] == "yield to 1"
    assert result.chosen.cost == before[2]
    assert not first.v.requires_grad


def test_displacing_moves_one_road_user_rigidly() -> None:
    scene = make_scene(8.0, (Other(20.0, 3.0, yaw=0.5, v=4.0), FIELD))
    moved = displaced(scene, 1, torch.tensor([1.0, -2.0, 0.3, 0.5], dtype=F64)).validate()
    assert moved.agents.box[0].tolist() == pytest.approx([21.0, 1.0, 0.8, 4.5, 1.9])
    assert float(moved.agents.velocity[0].norm()) == pytest.approx(4.5)
    assert float(torch.atan2(*moved.agents.velocity[0].flip(0))) == pytest.approx(0.8)
    way = moved.futures.mean[0, 0] - moved.agents.box[0, :2]
    assert way.norm(dim=-1).numpy() == pytest.approx(4.5 * moved.futures.time.numpy())
    assert torch.atan2(way[:, 1], way[:, 0]).numpy() == pytest.approx(0.8)
    for name in ("box", "velocity"):
        assert torch.equal(getattr(moved.agents, name)[1], getattr(scene.agents, name)[1])
    assert torch.equal(moved.futures.mean[1], scene.futures.mean[1])


# -- prices --------------------------------------------------------------------------------
def program_cost(problem: StageProgram, row: int) -> float:
    one = problem.with_tensors([t[row : row + 1].detach() for t in problem.tensors()])
    answer = solve(one, SolveOptions(tolerance=1e-12))
    assert bool(answer.solved.all())
    z = answer.z
    excess = one.compliance * (answer.dual_upper - answer.dual_lower)[..., z.shape[-1] :].square() / 2
    return float((0.5 * z * (one.H @ z[..., None])[..., 0] + one.g * z).sum() + excess.sum())


def moved_against_ego(program: SolvedProgram, track: int, distance: float) -> StageProgram:
    """The program with every limit that belongs to a road user moved by so much (m) against ego."""
    p = program.problem
    nz = p.z_lower.shape[-1]
    up, down = (distance * (ids == track) for ids in (program.upper_id, program.lower_id))
    return replace(
        p, z_upper=p.z_upper - up[..., :nz], upper=p.upper - up[..., nz:],
        z_lower=p.z_lower + down[..., :nz], lower=p.lower + down[..., nz:],
    )  # fmt: skip


PRICED = {
    "standing car": SCENES["standing car"],
    "crossing pedestrian": SCENES["crossing pedestrian"],
    "close behind a standing bus": SCENES["close behind a standing bus"],
    "squeezing past": make_scene(6.0, (Other(24.0, -1.3, yaw=0.1),), left=2.6),
    "slow leader, who might brake": make_scene(8.0, (Other(16.0, 0.0, v=3.0),)),
}


@pytest.mark.parametrize("name", PRICED)
def test_the_price_of_an_error_is_what_the_programs_pay(name: str) -> None:
    scene = PRICED[name]
    batch = ConvexPlanner(CONFIG, VEHICLE).plan_batch(VectorScene.stack([scene]))
    row = int(batch.chosen[0])
    candidate = batch.result(0).chosen
    told = price_of_error(candidate, 1)
    measured = 0.0
    for program in batch.programs:
        costs = [program_cost(moved_against_ego(program, 1, sign * STEP), row) for sign in (1, -1)]
        measured += (costs[0] - costs[1]) / (2 * STEP)
    assert told == pytest.approx(measured, rel=1e-2, abs=2e-3)
    assert told > 0.03
    assert price_of_error(candidate, 99) == 0.0

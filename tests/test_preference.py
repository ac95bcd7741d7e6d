"""Preference among candidates: a softmin to train with, what a network may say, and what the last decision may not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_scenes import F64, SCENES, UP, WALKER, Other, make_scene

from planner import ConvexPlanner, PlannerConfig, PlanStatus
from planner import plan as plan_module
from planner.decisions.options import KINDS
from planner.decisions.preference import candidate_costs, softmin
from planner.grid import make_grid
from planner.scene import EgoProposal, VectorScene, VehicleParameters

CONFIG = PlannerConfig()
VEHICLE = VehicleParameters()
CROSSING = make_scene(8.5, (Other(20.0, -24.0, UP, 5.0),), left=2.5, right=2.5)
"""A car before which ego may pass, or for which it may wait."""

COSTS = st.lists(
    st.tuples(st.integers(0, 4), st.one_of(st.just(float("inf")), st.floats(-1e4, 1e4))), min_size=1, max_size=40
)


def with_costs(**decisions) -> PlannerConfig:
    return replace(CONFIG, decisions=replace(CONFIG.decisions, **decisions))


# --- softmin ---


@given(COSTS, st.floats(1e-3, 1e3))
@settings(max_examples=150, deadline=None)
def test_weights_are_the_softmin_of_each_scene(pairs: list[tuple[int, float]], temperature: float) -> None:
    scene = torch.tensor([s for s, _ in pairs])
    cost = torch.tensor([c for _, c in pairs], dtype=F64, requires_grad=True)
    weight = softmin(cost, scene, 5, temperature)
    assert bool(((weight >= 0) & (weight <= 1 + 1e-12)).all())
    for s in range(5):
        mine = scene == s
        usable = mine & torch.isfinite(cost)
        assert not weight[mine & ~usable].any()
        if usable.any():
            assert torch.allclose(weight[usable], torch.softmax(-cost[usable] / temperature, 0), atol=1e-12)
    (weight * torch.arange(len(pairs))).sum().backward()
    assert bool(cost.grad.isfinite().all())
    assert not cost.grad[torch.isinf(cost)].any()


def test_the_gradient_of_softmin_is_that_of_differences() -> None:
    scene = torch.tensor([0, 1, 0, 1, 1, 0])
    cost = torch.tensor([1.0, 2.0, 1.5, float("inf"), 2.5, 0.2], dtype=F64)
    free = torch.tensor([0, 1, 2, 4, 5])

    def weights(values: torch.Tensor) -> torch.Tensor:
        return softmin(cost.index_copy(0, free, values), scene, 2, 0.7)

    assert torch.autograd.gradcheck(weights, (cost[free].clone().requires_grad_(),))


def test_a_cold_softmin_chooses() -> None:
    weight = softmin(torch.tensor([3.0, 1.0, 2.0], dtype=F64), torch.tensor([0, 0, 1]), 3, 1e-3)
    assert weight.tolist() == pytest.approx([0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="temperature"):
        softmin(torch.ones(1, dtype=F64), torch.zeros(1, dtype=torch.int64), 1, 0.0)


# --- closeness ---


def arguments_of_costs(scene: VectorScene, config: PlannerConfig, monkeypatch) -> tuple:
    """What the planner compares."""
    caught: list[tuple] = []
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "candidate_costs", lambda *args: caught.append(args) or candidate_costs(*args))
        ConvexPlanner(config).plan(scene)
    return caught[0]


def test_closeness_adds_up_over_everybody_whatever_is_left_out_for_speed(monkeypatch) -> None:
    """Witness: the formula, for every candidate, agent, mode, time and piece."""
    only = with_costs(progress_cost=0.0, discomfort_cost=0.0, closeness_cost=1.0)
    modes = ((0.6, 1.5), (0.3, 0.5), (0.1, 0.0))
    walkers = (Other(24.0, -4.0, UP, 1.5, WALKER, modes=modes), Other(34.0, 6.0, -UP, 1.5, WALKER, track_id=2))
    near = 0
    for scene in (make_scene(7.0, walkers, left=2.5, right=2.5), SCENES["parked on the right"], SCENES["leader"]):
        given = arguments_of_costs(scene, only, monkeypatch)
        trajectory, path, candidates, obstacles, *_ = given
        cost = candidate_costs(*given) - torch.tensor([0.5 * (k == "hold") for k in candidates.kind], dtype=F64)
        grid = make_grid(only.horizon)
        node = grid.node + 1
        s, d, _ = path.rows(candidates.scene).project(torch.stack([trajectory.x, trajectory.y], -1)[:, node])
        v, wish = trajectory.v[:, node], only.comfort.side_gap
        middle = (s + VEHICLE.rear_axle_to_center)[:, None, None, :, None]
        aside, half, side = d[:, None, None, :, None], VEHICLE.length / 2, VEHICLE.width / 2
        low_s, high_s, low_d, high_d = (
            getattr(obstacles, name)[0][None, :, :, 1:] for name in ("s_lo", "s_hi", "d_lo", "d_hi")
        )
        along = torch.maximum(low_s - middle - half, middle - half - high_s)
        across = torch.maximum(low_d - aside - side, aside - side - high_d)
        short = 1 - torch.maximum(along / (wish + 0.6 * v[:, None, None, :, None]), across / wish)
        short = short.clamp(0, 2).amax(-1) * obstacles.active[0, ..., 1:] * obstacles.weight[0, ..., None]
        expected = (short.square() * (v / 5).clamp(0, 2)[:, None, None] * grid.node_dt).sum((1, 2, 3))
        near += int((expected > 1e-3).sum())
        assert torch.allclose(cost, expected, atol=1e-12)
    assert near > 2


# --- a learned ranking ---


def proposing(scene: VectorScene, **logits: float) -> VectorScene:
    values = torch.tensor([logits.get(kind, 0.0) for kind in KINDS], dtype=F64)
    return scene.replace(proposal=EgoProposal(decision_logit=values))


def test_a_network_ranks_what_exists_and_changes_nothing_else() -> None:
    plain = ConvexPlanner().plan(CROSSING)
    assert {c.kind for c in plain.candidates} >= {"yield", "hold", "pass"}
    for kind in ("yield", "hold", "pass"):
        ranked = ConvexPlanner().plan(proposing(CROSSING, **{kind: 200.0}))
        assert ranked.chosen.kind == kind
        assert {c.decision: c.status for c in ranked.candidates} == {c.decision: c.status for c in plain.candidates}
        for before in plain.candidates:
            after = next(c for c in ranked.candidates if c.decision == before.decision)
            assert np.allclose(before.trajectory.x.numpy(), after.trajectory.x.numpy(), atol=1e-9)
            assert np.allclose(before.tail.v.numpy(), after.tail.v.numpy(), atol=1e-9)


def test_an_empty_decision_is_not_chosen_however_much_a_network_wants_it() -> None:
    for scene in SCENES.values():
        plain = ConvexPlanner().plan(scene)
        for failed in (c for c in plain.candidates if c.status is not PlanStatus.SOLVED):
            ranked = ConvexPlanner().plan(proposing(scene, **{failed.kind: 1e6}))
            assert next(c for c in ranked.candidates if c.decision == failed.decision).status is not PlanStatus.SOLVED
            assert ranked.chosen is None or ranked.chosen.decision != failed.decision


def test_the_learned_term_is_the_log_probability_of_the_kind() -> None:
    """With a gradient to the logits; equal logits change no order."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1, 0.0, -0.4], dtype=F64, requires_grad=True)
    scene = CROSSING.replace(proposal=EgoProposal(decision_logit=logits))
    weighed = ConvexPlanner(with_costs(proposal_cost=2.0)).plan_differentiable(scene)
    plain = {c.decision: c.cost for c in ConvexPlanner().plan(CROSSING).candidates}
    share = torch.log_softmax(logits, -1)
    for c in weighed.candidates:
        expected = plain[c.decision] - 2.0 * float(share.detach()[KINDS.index(c.kind)])
        assert float(c.cost.detach()) == pytest.approx(expected, abs=1e-6)
    (grad,) = torch.autograd.grad(weighed.chosen.cost, logits)
    chosen = torch.nn.functional.one_hot(torch.tensor(KINDS.index(weighed.chosen.kind)), 6)
    assert torch.allclose(grad, 2.0 * (torch.softmax(logits, -1) - chosen).detach())
    equal = ConvexPlanner().plan(proposing(CROSSING))
    assert [c.decision for c in equal.candidates] == [c.decision for c in ConvexPlanner().plan(CROSSING).candidates]


# --- the last decision ---


def planned_after(scene: VectorScene, decision: str, config: PlannerConfig):
    planner = ConvexPlanner(config)
    planner.memory.decision, planner.memory.time_us = decision, int(scene.ego.time_us)
    return planner.plan(scene)


def test_the_last_decision_is_kept_when_it_costs_little_more() -> None:
    plain = ConvexPlanner().plan(CROSSING)
    kept = [c for c in plain.candidates if c.status is PlanStatus.SOLVED and c.kind != "hold"]
    assert len(kept) > 1
    for c in kept:
        assert planned_after(CROSSING, c.decision, with_costs(switch_cost=1e4)).chosen.decision == c.decision
    free = planned_after(CROSSING, kept[-1].decision, with_costs(switch_cost=0.0))
    assert free.chosen.decision == plain.chosen.decision


def test_the_last_decision_never_outweighs_a_row() -> None:
    """However dear a change of mind: what is empty stays empty, and what the others have to keep stays the same."""
    dear, tried = with_costs(switch_cost=1e9), 0
    near = [make_scene(v, (Other(x, -2.0),)) for v, x in ((9.0, 17.0), (9.0, 19.0), (12.0, 15.0))]
    walkers = [make_scene(9.0, (Other(20.0, -4.5, UP, 1.5, WALKER),), left=2.5, right=2.5)]
    for scene in (*SCENES.values(), *near, *walkers):
        plain = ConvexPlanner().plan(scene)
        for last in plain.candidates:
            after = planned_after(scene, last.decision, dear)
            same = {c.decision: c for c in after.candidates}
            assert same.keys() == {c.decision for c in plain.candidates}
            for c in plain.candidates:
                assert same[c.decision].status is c.status
                if c.status is PlanStatus.SOLVED:
                    assert np.allclose(same[c.decision].trajectory.x.numpy(), c.trajectory.x.numpy(), atol=1e-9)
            if last.status is not PlanStatus.SOLVED:
                tried += 1
                assert after.chosen is None or after.chosen.decision != last.decision
    assert tried > 3


def test_a_decision_that_is_gone_binds_nobody() -> None:
    """Passing before somebody who is now in the lane does not exist any more."""
    scene = make_scene(6.0, (Other(16.0, -0.5, UP, 1.4, WALKER),), left=2.5, right=2.5)
    result = planned_after(scene, "pass before 1", with_costs(switch_cost=1e9))
    assert result.chosen is not None
    assert result.chosen.duties == {1: "yield"}

"""Learned weights and references: positive by construction, with gradients, found again from demonstrations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planner_scenes import CONFIG, F64, SCENES, VEHICLE, Other, ego_rectangles, make_scene, rectangle
from torch import Tensor

from planner import ConvexPlanner, PlannerConfig
from planner.batch_plan import BatchPlan
from planner.checker import check
from planner.config import Tracking
from planner.learned_costs import WEIGHTS, CostHead, cruise, positive
from planner.scene import EgoProposal, VectorScene

DRIVES = VectorScene.stack([
    make_scene(5.0, (Other(60.0, 40.0),)),  # sets off
    make_scene(8.0, (Other(24.0, 0.0, v=6.0),)),  # falls in behind a slower car
    make_scene(8.0, (Other(18.0, 0.0, v=8.0),)),  # follows closely
    make_scene(8.0, (Other(30.0, -1.9),), left=3.5),  # goes round parked cars
    make_scene(6.0, (Other(26.0, 1.9),), right=3.5),
    make_scene(9.0, (Other(60.0, 40.0),), limit=6.0),  # slows down
    make_scene(7.0, (Other(60.0, 40.0),), left=2.5, right=0.9),  # moves away from an edge
])  # fmt: skip
"""Each with a cost at work: speed, gap, acceleration and jerk, offset against heading and steering."""


def plan(scenes: VectorScene, proposal: EgoProposal | None, config: PlannerConfig = CONFIG) -> BatchPlan:
    return ConvexPlanner(config, VEHICLE).plan_batch(scenes.replace(proposal=proposal))


def batch(*names: str) -> VectorScene:
    return VectorScene.stack([SCENES[name] for name in names])


# -- weights -------------------------------------------------------------------------------
def test_a_new_head_changes_nothing() -> None:
    scenes = batch("leader", "parked on the right")
    proposal = CostHead(5)(torch.randn(2, 5))
    assert torch.equal(proposal.cost_weight, torch.ones(2, len(WEIGHTS), dtype=F64))
    own, with_head = plan(scenes, None), plan(scenes, proposal)
    assert torch.allclose(own.trajectory.xy, with_head.trajectory.xy, atol=1e-9)


def test_factors_stay_positive_and_bounded_whatever_the_features() -> None:
    raw = torch.tensor([-1e9, -3.0, 0.0, 1e-6, 3.0, 1e9], dtype=F64)
    factors = positive(raw, 10.0)
    assert float(factors.min()) == pytest.approx(0.1)
    assert float(factors.max()) == pytest.approx(10.0)
    assert bool((factors.diff() > 0).all())
    assert float(factors[3]) == pytest.approx(1 + 1e-6)
    head = CostHead(3, references=True, span=4.0)
    torch.nn.init.normal_(head.linear.weight, std=1e3, generator=torch.Generator().manual_seed(0))
    proposal = head(torch.randn(2, 3), batch("leader", "free road"))
    assert bool(((proposal.cost_weight > 0.2499) & (proposal.cost_weight < 4.0001)).all())
    proposal.validate()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="span > 1"):
        CostHead(3, span=1.0)
    with pytest.raises(ValueError, match="references need the scenes"):
        CostHead(3, references=True)(torch.zeros(1, 3))


def test_gradients_reach_the_head_and_are_exact() -> None:
    scenes = DRIVES[2:5]
    head, features = CostHead(3, references=True).double(), torch.eye(3, dtype=F64) + 0.3
    value = lambda: _spread(plan(scenes, head(features, scenes)))  # noqa: E731
    value().backward()
    for index in ((0, 1), (1, 0), (2, 2), (3, 1), (5, 2), (7, 0), (8, 1), (9, 2)):
        measured = []
        for sign in (1, -1):
            with torch.no_grad():
                head.linear.weight[index] += sign * 1e-5
                measured.append(float(value()))
                head.linear.weight[index] -= sign * 1e-5
        slope = (measured[0] - measured[1]) / 2e-5
        assert float(head.linear.weight.grad[index]) == pytest.approx(slope, rel=1e-3, abs=1e-4)
        assert abs(slope) > 1e-3


def _spread(plans: BatchPlan) -> Tensor:
    t, rows = plans.trajectory, plans.chosen
    assert bool(plans.trusted[rows].all())
    return (t.x[rows][:, [15, 40]] + 3 * t.y[rows][:, [20, 30]] + t.v[rows][:, [25, 50]]).sum()


# -- references ----------------------------------------------------------------------------
def test_cruise_leads_to_the_speed_and_the_offset() -> None:
    scenes = batch("bend", "free road")
    led = cruise(scenes, torch.tensor([0.5, 0.9], dtype=F64), torch.tensor([0.4, -0.3], dtype=F64), CONFIG).validate()
    assert led.time[0].tolist() == pytest.approx([0.1 * i for i in range(61)])
    assert torch.allclose(led.xy[:, 0], torch.zeros(2, 2, dtype=F64), atol=1e-6)
    assert led.v[:, 0].tolist() == pytest.approx([8.0, 8.0])
    assert led.v[:, -1].tolist() == pytest.approx([5.15, 8.95], abs=0.01)
    assert float(led.y[1, -1]) == pytest.approx(-0.3)
    driven = led.xy.diff(dim=1).norm(dim=-1) / 0.1
    assert torch.allclose(driven, (led.v[:, 1:] + led.v[:, :-1]) / 2, rtol=0.02)
    along = torch.stack([torch.cos(led.yaw), torch.sin(led.yaw)], -1)[:, 1:-1]
    chord = led.xy[:, 2:] - led.xy[:, :-2]
    assert float((along * chord).sum(-1).div(chord.norm(dim=-1)).min()) > 0.9999


def test_a_reference_pulls_as_hard_as_its_weights_say() -> None:
    scenes = batch("free road")
    led = cruise(scenes, torch.tensor([0.6], dtype=F64), torch.tensor([0.5], dtype=F64), CONFIG)
    places = []
    for factor in (0.0, 1.0, 30.0):
        tracking = Tracking(0.0, 0.3 * factor, 0.5 * factor, 2.0 * factor)
        plans = plan(scenes, EgoProposal(led), replace(CONFIG, tracking=tracking))
        keep = plans.trajectory[int((~plans.candidates.hold).nonzero()[0])]
        places.append((float(keep.v[-1]), float(keep.y[-1])))
    (v0, y0), (v1, y1), (v2, y2) = places
    assert v0 > v1 > v2 > 5.9
    assert v2 < 6.6
    assert abs(y0) < 1e-6
    assert y0 < y1 < y2
    assert y2 == pytest.approx(0.5, abs=0.05)


def test_without_a_reference_its_weights_change_nothing() -> None:
    scenes = batch("leader", "parked on the right")
    one = plan(scenes, EgoProposal(cost_weight=torch.ones(2, 8, dtype=F64)))
    two = plan(scenes, None, replace(CONFIG, tracking=Tracking(1e3, 1e3, 1e3, 1e3)))
    assert torch.equal(one.trajectory.xy, two.trajectory.xy)


def test_a_reference_never_opens_what_a_hard_row_closes() -> None:
    """Straight through a standing car, at any price."""
    scene = SCENES["standing car"]
    scenes = VectorScene.stack([scene])
    led = cruise(scenes, torch.tensor([2.0], dtype=F64), torch.zeros(1, dtype=F64), CONFIG)
    result = plan(scenes, EgoProposal(led), replace(CONFIG, tracking=Tracking(1e4, 1e4, 1e4, 1e4))).result(0)
    box = scene.agents.box[0].tolist()
    for candidate in result.candidates:
        assert candidate.trajectory is not None
        car = rectangle(box[0], box[1], box[2], box[3], box[4])
        assert all(not ego.intersects(car) for ego in ego_rectangles(candidate.trajectory))
    chosen = result.chosen
    assert check(scene, chosen.trajectory, chosen.tail).accepted


def test_a_candidate_that_holds_ignores_the_reference() -> None:
    scenes = batch("free road")
    led = cruise(scenes, torch.ones(1, dtype=F64), torch.zeros(1, dtype=F64), CONFIG)
    plans = plan(scenes, EgoProposal(led), replace(CONFIG, tracking=Tracking(50.0, 50.0, 50.0, 50.0)))
    held = plans.trajectory[int(plans.candidates.hold.nonzero()[0])]
    assert float(held.v[-1]) < 2.0


# -- inverse optimal control -------------------------------------------------------------------
def test_weights_are_recovered_from_demonstrations() -> None:
    """By gradient descent through the layer, from plans alone; speed and offset stay 1, as only ratios show.

    The fixed weights of the tail and the straight roads hide the scale of all, and the curvature's weight.
    """
    true = {"acceleration": 2.0, "jerk": 0.5, "gap": 3.0, "heading": 2.0, "curvature_rate": 2.5}
    sought = [WEIGHTS.index(name) for name in true]
    factors = torch.ones(len(WEIGHTS), dtype=F64)
    factors[sought] = torch.tensor(list(true.values()), dtype=F64)
    everywhere = lambda w: EgoProposal(cost_weight=w.expand(DRIVES.batch_shape[0], -1))  # noqa: E731
    with torch.no_grad():
        shown = plan(DRIVES, everywhere(factors))
    rows = shown.chosen
    assert (rows >= 0).all()
    raw = torch.zeros(len(true), dtype=F64, requires_grad=True)
    optimiser = torch.optim.LBFGS([raw], max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def loss() -> Tensor:
        optimiser.zero_grad()
        weights = torch.ones(len(WEIGHTS), dtype=F64).index_put((torch.tensor(sought),), positive(raw, 10.0))
        own, wanted = plan(DRIVES, everywhere(weights)).trajectory, shown.trajectory
        x, y, v = ((getattr(own, name) - getattr(wanted, name))[rows].square() for name in ("x", "y", "v"))
        total = (x + 25 * y + v).mean()
        total.backward()
        return total

    begin = float(loss().detach())
    optimiser.step(loss)
    assert float(loss().detach()) < 1e-4 * begin
    found = positive(raw.detach(), 10.0).tolist()
    assert found == pytest.approx(list(true.values()), rel=0.03)

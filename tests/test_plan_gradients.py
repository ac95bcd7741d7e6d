"""Gradients through the whole planner, from a scene's tensors to the chosen trajectory, its tail and its cost.

Discrete choices are held: every scene is far from another decision winning, and the test fails if one does.
The witness is the planner itself, run without history at two displaced scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from planner_scenes import F64, Other, make_scene
from torch import Tensor

from planner import ConvexPlanner, PlannerConfig
from planner.config import Risk
from planner.scene import EgoProposal, VectorScene

STEP = 1e-4
"""Of central differences. The tail's part of the Hessian is flat (condition 1e8), so points repeat to about 1e-7 and
quotients to 1e-3 at worst; away from kinks the truncation error, of order STEP^2, is far below."""
CLOSE = {"rel": 2e-3, "abs": 2e-4}

# Own values, so that tuning the defaults moves no scene across a kink.
CONFIG = PlannerConfig(risk=Risk(hit_probability=0.25, sigma_floor=0.05, longitudinal_max=3.0, lateral_max=0.5))

LEADER = make_scene(
    8.0, (Other(21.0, 0.0, v=6.0, existence=0.7, spread=0.3), Other(60.0, 40.0, existence=0.8, track_id=2))
)
"""Followed; the second object stands in a field 40 m away."""
STANDING = make_scene(8.0, (Other(24.0, 0.3, existence=0.9),))
PARKED = make_scene(8.0, (Other(30.0, -1.9, existence=0.9),), left=3.5)
"""A parked car half in our lane, with room on its left."""
NARROW = make_scene(8.0, left=2.5, right=0.9)
"""The right edge lies inside ego's own width: ego has to shift left by 0.15 m and more."""
CURVED = make_scene(7.0, left=0.9, right=2.5, bend=0.02)


def get(scene: object, path: str) -> Tensor:
    for name in path.split("."):
        scene = getattr(scene, name)
    return scene  # type: ignore[return-value]


def put(scene, path: str, value: Tensor):
    """The scene with one tensor replaced, by its dotted name."""
    head, _, rest = path.partition(".")
    return scene.replace(**{head: put(getattr(scene, head), rest, value) if rest else value})


@dataclass
class Outcome:
    """What gradients are taken of: a few points of plan and tail, and the cost."""

    decision: str
    values: Tensor


def outcome(scene: VectorScene, differentiable: bool) -> Outcome:
    planner = ConvexPlanner(CONFIG)
    result = planner.plan_differentiable(scene) if differentiable else planner.plan(scene)
    best = result.chosen
    assert best is not None
    plan, tail = best.trajectory, best.tail
    points = [plan.x[15], plan.x[30], plan.y[15], plan.y[30], plan.v[25], plan.yaw[20], tail.x[20], tail.y[20]]
    return Outcome(best.decision, torch.stack([*points, torch.as_tensor(best.cost, dtype=F64)]))


def derivatives(scene: VectorScene, path: str, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Of all outcomes along a direction: by autograd, and measured."""
    leaf = get(scene, path).clone().requires_grad_(True)
    here = outcome(put(scene, path, leaf), differentiable=True)
    exact = []
    for value in here.values:
        (grad,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
        assert grad is None or bool(grad.isfinite().all())
        exact.append(torch.zeros((), dtype=F64) if grad is None else (grad * direction).sum())
    up, down = (outcome(put(scene, path, leaf.detach() + sign * STEP * direction), False) for sign in (1, -1))
    assert up.decision == down.decision == here.decision
    return torch.stack(exact), (up.values - down.values) / (2 * STEP)


def along(scene: VectorScene, path: str, *index: object, growing: bool = False) -> Tensor:
    """A direction in a tensor of the scene: one at the index (or growing with the forecast's time), zero elsewhere."""
    direction = torch.zeros_like(get(scene, path))
    direction[index] = scene.futures.time if growing else 1.0
    return direction


X, Y, YAW, LENGTH, WIDTH = range(5)
CASES = {
    "leader further ahead": (LEADER, "futures.mean", (0, ..., X), {}),
    "leader faster": (LEADER, "futures.mean", (0, ..., X), {"growing": True}),
    "leader longer": (LEADER, "agents.box", (0, LENGTH), {}),
    "leader less certain along": (LEADER, "futures.covariance", (0, ..., X, X), {}),
    "leader exists": (LEADER, "agents.existence", (0,), {}),
    "leader's only mode": (LEADER, "futures.probability", (0, 0), {}),
    "standing car further ahead": (STANDING, "futures.mean", (0, ..., X), {}),
    "standing car longer": (STANDING, "agents.box", (0, LENGTH), {}),
    "standing car exists": (STANDING, "agents.existence", (0,), {}),
    "parked car to the left": (PARKED, "agents.box", (0, Y), {}),
    "parked car wider": (PARKED, "agents.box", (0, WIDTH), {}),
    "parked car's forecast to the left": (PARKED, "futures.mean", (0, ..., Y), {}),
    "parked car less certain across": (PARKED, "futures.covariance", (0, ..., Y, Y), {}),
    "right edge further out": (NARROW, "route.right", (...,), {}),
    "reference to the left": (NARROW, "route.xy", (..., Y), {}),
    "left edge further out in a bend": (CURVED, "route.left", (...,), {}),
    "reference across in a bend": (CURVED, "route.xy", (..., Y), {}),
    "speed limit, which changes what steering costs": (PARKED, "route.speed_limit", (...,), {}),
    "speed limit": (CURVED, "route.speed_limit", (...,), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_what_a_displaced_scene_does_and_is_not_zero(name: str) -> None:
    scene, path, index, options = CASES[name]
    exact, measured = derivatives(scene, path, along(scene, path, *index, **options))
    assert exact.numpy() == pytest.approx(measured.numpy(), **CLOSE)
    assert float(exact[:6].abs().amax()) > 0.01  # the trajectory itself, not only its cost


@pytest.mark.parametrize("term", range(8))
def test_cost_weights_proposed_by_a_network_steer_the_plan(term: int) -> None:
    base = {0: LEADER, 1: LEADER, 2: LEADER, 3: LEADER}.get(term, PARKED)
    scene = base.replace(proposal=EgoProposal(cost_weight=torch.ones(8, dtype=F64)))
    exact, measured = derivatives(scene, "proposal.cost_weight", along(scene, "proposal.cost_weight", term))
    assert exact.numpy() == pytest.approx(measured.numpy(), **CLOSE)
    assert float(exact[:8].abs().amax()) > 1e-3


def test_signs_are_those_a_driver_expects() -> None:
    """Leader further ahead: further and faster. Parked car to the left: more to the left. More likely: further back."""
    ahead, _ = derivatives(LEADER, "futures.mean", along(LEADER, "futures.mean", 0, ..., X))
    assert float(ahead[1]) > 0.05
    exists, _ = derivatives(
        make_scene(8.0, (Other(21.0, 0.0, v=6.0, existence=0.5, spread=0.3),)),
        "agents.existence",
        torch.ones(1, dtype=F64),
    )
    assert float(exists[1]) < -0.05
    across, _ = derivatives(PARKED, "agents.box", along(PARKED, "agents.box", 0, Y))
    assert float(across[3]) > 0.05
    wider, _ = derivatives(NARROW, "route.right", along(NARROW, "route.right", ...))
    assert float(wider[3]) < -0.5  # nearly metre for metre back to the right


def test_who_does_not_matter_has_no_gradient() -> None:
    """The car in the field, in every tensor that describes it; the far edge of the road."""
    for path in ("agents.box", "futures.mean", "futures.covariance", "agents.existence"):
        direction = along(LEADER, path, 1)
        exact, measured = derivatives(LEADER, path, direction)
        assert not exact.any()
        assert not measured.any()
    exact, _ = derivatives(NARROW, "route.left", along(NARROW, "route.left", ...))
    assert float(exact.abs().amax()) < 1e-9


def test_an_unlikely_object_fades_out_and_its_gradient_with_it() -> None:
    """Towards the accepted probability the leader lets ego come closer; below it, it is gone, gradient included."""
    risk = CONFIG.risk.hit_probability

    def reach(existence: float) -> tuple[float, float]:
        scene = make_scene(8.0, (Other(21.0, 0.0, v=6.0, existence=existence, spread=0.3),))
        exact, _ = derivatives(scene, "agents.existence", torch.ones(1, dtype=F64))
        return float(outcome(scene, False).values[1]), float(exact[1])

    steps = [reach(p) for p in (0.95, 0.7, 0.5, risk + 0.05)]
    assert [x for x, _ in steps] == sorted(x for x, _ in steps)  # the less likely, the further
    assert all(slope < -1e-3 for _, slope in steps)
    free = float(outcome(make_scene(8.0), False).values[1])
    gone, slope = reach(risk - 0.05)
    assert gone == pytest.approx(free, abs=1e-6)
    assert slope == 0.0


def test_a_scene_without_a_solution_has_no_gradient_and_no_nan() -> None:
    """Every candidate is empty: statuses say so, and nothing pretends to be differentiable."""
    scene = make_scene(10.0, (Other(9.0, 0.0),))
    box = scene.agents.box.clone().requires_grad_(True)
    result = ConvexPlanner(CONFIG).plan_differentiable(put(scene, "agents.box", box))
    assert result.chosen is None
    assert all(c.cost is None and c.trajectory is None for c in result.candidates)


def test_with_and_without_gradients_the_plan_is_the_same() -> None:
    for scene in (LEADER, PARKED, CURVED):
        leaf = scene.agents.box.clone().requires_grad_(True)
        with_history = outcome(put(scene, "agents.box", leaf), True)
        assert torch.allclose(with_history.values.detach(), outcome(scene, False).values, rtol=0, atol=1e-8)


def test_planning_leaves_no_history_behind() -> None:
    leaf = LEADER.agents.box.clone().requires_grad_(True)
    result = ConvexPlanner(CONFIG).plan(put(LEADER, "agents.box", leaf))
    assert not result.chosen.trajectory.x.requires_grad
    assert isinstance(result.chosen.cost, float)

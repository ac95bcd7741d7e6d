"""The safety layer: what is safe stays, what is not is changed as little as possible, and gradients pass through."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from planner_scenes import CONFIG, F64, SCENES, UP, VEHICLE, WALKER, Other, agent_rectangles, ego_rectangles, make_scene
from torch import Tensor

import planner.safety_layer as module
from planner import ConvexPlanner
from planner.checker import check
from planner.config import Tracking
from planner.path.reference_path import build_reference_path
from planner.plan import PlannerMemory
from planner.safety_layer import CLOSE, SafeTrajectory, SafetyLayer
from planner.scene import Trajectory, VectorScene
from planner.sensitivity import displaced

TIME = torch.arange(1, 7, dtype=F64) * 0.5
LAYER = SafetyLayer(CONFIG, VEHICLE)
HARD = make_scene(10.0, (Other(9.0, 0.0),))
"""A car stands so close that no braking helps."""
WITH_OTHERS = [name for name, scene in SCENES.items() if len(scene.agents.box)]


def constant_velocity(scene: VectorScene, aside: float = 0.0) -> Tensor:
    """``[T, 2]``: straight on at today's speed, drifting `aside` m to the left."""
    return torch.stack([scene.ego.v * TIME, aside * (TIME / TIME[-1]) ** 2], -1)


def apart(one: Trajectory, other: Trajectory, until: float = 3.0) -> float:
    """Largest distance (m) of two trajectories on the same grid."""
    return float((one.xy - other.xy).norm(dim=-1)[one.time <= until + 1e-9].max())


@pytest.mark.parametrize("name", SCENES)
def test_a_plan_that_is_safe_already_comes_back(name: str) -> None:
    scene = SCENES[name]
    own = ConvexPlanner(CONFIG, VEHICLE).plan(scene).chosen
    assert own is not None
    for count in (31, 61):  # 3 s and 6 s
        answer = LAYER(scene, own.trajectory.apply(lambda t, n=count: t[:n]))
        assert bool(answer.safe)
        assert apart(answer.trajectory, own.trajectory) < 0.02
        assert float(answer.changed) < 0.03
        assert check(scene, answer.trajectory, answer.tail).accepted


def test_a_proposal_is_not_moved_aside_for_who_drifts_over() -> None:
    """The planner itself gives room there; where a proposal is safe, where to be is the proposal's to say."""
    scene = make_scene(14.0, (Other(6.0, 3.3, -0.075, 8.0, sigma=0.01),), left=5.25, right=5.25, limit=15.0)
    own = ConvexPlanner(CONFIG, VEHICLE).plan(scene).chosen
    assert own is not None
    assert float(own.trajectory.y.min()) < -0.3
    answer = LAYER(scene, constant_velocity(scene), TIME)
    assert float(answer.trajectory.y[answer.trajectory.time <= 3.0].abs().max()) < 0.02


@pytest.mark.parametrize("name", WITH_OTHERS)
def test_driving_on_blindly_is_made_safe(name: str) -> None:
    scene = SCENES[name]
    answer = LAYER(scene, constant_velocity(scene), TIME)
    assert bool(answer.safe)
    report = check(scene, answer.trajectory, answer.tail)
    assert report.accepted, report.reason
    certificate = answer.certificate()
    assert certificate is not None
    assert certificate.primal_residual < 1e-6
    assert float(answer.tail.v[-1]) == pytest.approx(0.0, abs=1e-3)


def test_the_change_is_the_one_that_was_needed() -> None:
    """Into a standing car: the answer brakes, stops short of it, and its dearest row names that car."""
    scene = SCENES["standing car"]
    far = torch.arange(1, 13, dtype=F64) * 0.5
    answer = LAYER(scene, torch.stack([8.0 * far, 0 * far], -1), far)
    assert float(answer.changed) > 10.0
    outlines = zip(ego_rectangles(answer.trajectory), agent_rectangles(scene, 0, 0, answer.trajectory.time.numpy()))
    assert all(not ego.intersects(car) for ego, car in outlines)
    assert answer.decision == ["yield to 1"]
    active = answer.certificate().active
    assert "obstacle ahead" in {row.label.rule for row in active if row.label.track_id == 1}


def test_nothing_feasible_is_nearer_than_the_projection() -> None:
    """The planner's own plans meet the same rows; in the layer's norm none is nearer to the proposal.

    On a straight road without sideways motion, so that both programs have the very same rows.
    """
    scene = SCENES["leader"]
    proposed = torch.stack([9.0 * TIME, 0 * TIME], -1)
    answer = LAYER(scene, proposed, TIME)
    node = torch.tensor([round(float(t) * 10) for t in TIME])

    def distance(trajectory: Trajectory) -> float:
        s, v = trajectory.x[node] - proposed[:, 0], trajectory.v[node] - 9.0
        return float((CLOSE.position * s**2 + CLOSE.speed * v**2).sum())

    best = distance(answer.trajectory)
    for config in (CONFIG, replace(CONFIG, weights=replace(CONFIG.weights, speed=20.0, gap=0.5, jerk=0.1))):
        for candidate in ConvexPlanner(config, VEHICLE).plan(scene).candidates:
            assert candidate.trajectory is None or distance(candidate.trajectory) > best - 0.05
    assert best > 1.0


def test_what_came_out_stays_when_it_goes_in_again() -> None:
    for name in ("crossing pedestrian", "parked on the right", "two crossing"):
        scene = SCENES[name]
        once = LAYER(scene, constant_velocity(scene, 0.5), TIME).trajectory
        assert apart(LAYER(scene, once).trajectory, once) < 0.05


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([name for name in WITH_OTHERS if name != "follower"]),  # who may run into ego from behind
    noise=st.lists(st.floats(-3, 3), min_size=12, max_size=12),
    speed=st.floats(0.0, 2.0),
)
def test_whatever_is_proposed_the_answer_meets_every_hard_row(name: str, noise: list[float], speed: float) -> None:
    scene = SCENES[name]
    wild = constant_velocity(scene) * speed + torch.tensor(noise, dtype=F64).reshape(6, 2)
    answer = LAYER(scene, wild, TIME)
    for t in (answer.trajectory, answer.tail):
        assert all(bool(getattr(t, field).isfinite().all()) for field in ("x", "y", "yaw", "v", "a", "curvature"))
    assert bool(answer.safe)
    certificate = answer.certificate()
    assert certificate.primal_residual < 1e-6
    assert certificate.worst_margin > -1e-6
    boxes = zip(ego_rectangles(answer.trajectory), agent_rectangles(scene, 0, 0, answer.trajectory.time.numpy()))
    assert all(not ego.intersects(other) for ego, other in list(boxes)[:41])


# -- gradients ---------------------------------------------------------------------------
def values(answer: SafeTrajectory) -> Tensor:
    """Some of the outputs, each with a weight of its own."""
    t, tail = answer.trajectory, answer.tail
    picked = torch.cat([t.x[..., [10, 20, 30, 50]], t.y[..., [10, 20, 30]], t.v[..., [10, 30]], tail.x[..., [15, 30]]])
    return (picked * torch.arange(1, 12, dtype=F64)).sum()


def derivatives(function, point: Tensor, direction: Tensor, step: float = 1e-5) -> tuple[bool, float, float]:
    """Whether the gradient is trusted, and the derivative of function(point)'s values by autograd and measured."""
    leaf = point.clone().requires_grad_(True)
    answer = function(leaf)
    (gradient,) = torch.autograd.grad(values(answer), leaf)
    ends = [function(point + sign * step * direction) for sign in (1, -1)]
    assert ends[0].decision == ends[1].decision == answer.decision
    return (
        bool(answer.trusted),
        float((gradient * direction).sum()),
        float(values(ends[0]) - values(ends[1])) / (2 * step),
    )


def compare(function, point: Tensor, direction: Tensor) -> tuple[float, float]:
    """Of a gradient that has to be trusted."""
    trusted, exact, measured = derivatives(function, point, direction)
    assert trusted
    return exact, measured


def test_the_gradient_to_the_proposed_points_is_exact_where_it_is_trusted() -> None:
    """And trusted nearly everywhere, from proposals that are safe to such that run into somebody."""
    random = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(6, 2, generator=random, dtype=F64)  # noqa: E731
    trusted, biggest = [], []
    for name in WITH_OTHERS:
        for noise in (0.0, 0.1, 0.3):
            proposed = constant_velocity(SCENES[name]) + noise * draw()
            sure, exact, measured = derivatives(lambda p, n=name: LAYER(SCENES[n], p, TIME), proposed, draw())
            assert not sure or exact == pytest.approx(measured, rel=1e-3, abs=0.02), name
            trusted.append(sure)
            biggest.append(abs(measured))
    assert sum(trusted) >= 0.75 * len(trusted)
    assert sum(b > 1.0 for b in biggest) > 0.9 * len(biggest) - 3  # a vehicle at rest behind a bus cannot follow


def test_the_gradient_to_a_proposed_trajectory_is_exact() -> None:
    """Speeds and headings of a Trajectory count beside its positions."""
    scene = SCENES["follower"]
    t = torch.cat([torch.zeros(1, dtype=F64), TIME])
    proposed = Trajectory(t, 7.5 * t, 0.05 * t**2, 0.1 * t / 7.5, 7.5 + 0 * t, 0 * t, 0 * t)
    for field in ("x", "y", "v", "yaw"):
        direction = torch.linspace(1, 2, 7, dtype=F64) * (0.1 if field == "yaw" else 1.0)
        exact, measured = compare(
            lambda p, f=field: LAYER(scene, proposed.replace(**{f: p})), getattr(proposed, field), direction
        )
        assert exact == pytest.approx(measured, rel=1e-3, abs=1e-3)
        assert abs(measured) > 0.01


@pytest.mark.parametrize(
    ("name", "parameter"), [("standing car", 0), ("leader", 3), ("parked on the right", 1), ("parked on the left", 2)]
)
def test_the_gradient_to_the_scene_is_exact(name: str, parameter: int) -> None:
    """Position, heading and speed of who the answer has to keep clear of."""
    scene = SCENES[name]
    direction = torch.nn.functional.one_hot(torch.tensor(parameter), 4).double()
    far = torch.arange(1, 13, dtype=F64) * 0.5
    straight = torch.stack([8.0 * far, 0 * far], -1)
    exact, measured = compare(
        lambda shift: LAYER(displaced(scene, 1, shift), straight, far), torch.zeros(4, dtype=F64), direction
    )
    assert exact == pytest.approx(measured, rel=1e-3, abs=1e-3)
    assert abs(measured) > 0.1


def test_the_gradient_to_the_weights_is_exact() -> None:
    scene = SCENES["parked on the right"]
    weight = torch.tensor([3.0, 2.0, 1.0, 1.0], dtype=F64)
    for i in range(3):
        direction = torch.nn.functional.one_hot(torch.tensor(i), 4).double()
        exact, measured = compare(lambda w: LAYER(scene, constant_velocity(scene), TIME, w), weight, direction)
        assert exact == pytest.approx(measured, rel=1e-3, abs=1e-4)
        assert abs(measured) > 1e-3


def test_float32_proposals_get_their_gradient() -> None:
    scene = SCENES["leader"]
    proposed = constant_velocity(scene).float().requires_grad_(True)
    LAYER(scene, proposed, TIME.float()).trajectory.x[30].backward()
    assert proposed.grad.dtype == torch.float32
    assert float(proposed.grad.abs().max()) > 0.01


# -- scenes without an answer, and batches -------------------------------------------------
def test_a_scene_without_an_answer_says_so_and_harms_nobody() -> None:
    scenes = VectorScene.stack([HARD, SCENES["leader"], HARD])
    proposed = torch.stack([constant_velocity(s) for s in (HARD, SCENES["leader"], HARD)]).requires_grad_(True)
    answer = LAYER(scenes, proposed, TIME)
    assert answer.safe.tolist() == [False, True, False]
    assert answer.decision[::2] == ["", ""]
    assert answer.certificate(0) is None
    assert not answer.trusted[::2].any()
    assert not answer.changed[::2].any()
    assert not answer.trajectory.xy[::2].any()
    assert not answer.tail.v[::2].any()
    answer.trajectory.validate()
    (gradient,) = torch.autograd.grad(answer.trajectory.x.sum() + answer.tail.y.sum(), proposed)
    assert bool(gradient.isfinite().all())
    assert not gradient[::2].any()
    assert bool(gradient[1].any())


def test_a_single_scene_without_an_answer_has_no_scene_axis_either() -> None:
    answer = LAYER(HARD, constant_velocity(HARD), TIME)
    assert answer.safe.shape == ()
    assert not bool(answer.safe)
    assert answer.trajectory.batch_shape == answer.tail.batch_shape == ()
    assert answer.decision == [""]
    assert answer.certificate() is None


def test_memories_open_the_oncoming_surface_for_who_has_waited() -> None:
    """A car stands in the lane. Round it leads only the oncoming surface, once it has stood for three seconds."""
    scene = make_scene(3.0, (Other(22.0, 0.0),), left_oncoming=3.5)
    t = torch.arange(1, 13, dtype=F64) * 0.5
    round_it = torch.stack([3.0 * t, 3.2 * torch.sigmoid(2 * (t - 2.5))], -1)
    stays = LAYER(scene, round_it, t)
    goes = LAYER(scene, round_it, t, memories=[PlannerMemory(standing_time={1: 5.0})])
    assert stays.decision == ["yield to 1"]
    assert "oncoming" in goes.decision[0]
    assert float(goes.changed) < float(stays.changed) - 1.0


def test_a_batch_of_scenes_gives_what_they_give_alone() -> None:
    """Scenes with no, one and two others; proposals with times of their own."""
    names = ["free road", "leader", "two crossing", "parked on the right"]
    scenes = [SCENES[n] for n in names]
    times = torch.stack([TIME * (1 - 0.1 * i) for i in range(len(names))])
    proposed = torch.stack([torch.stack([s.ego.v * t, 0.1 * t], -1) for s, t in zip(scenes, times)])
    together = LAYER(VectorScene.stack(scenes), proposed, times)
    for i, scene in enumerate(scenes):
        alone = LAYER(scene, proposed[i], times[i])
        assert together.decision[i] == alone.decision[0]
        assert torch.allclose(together.trajectory[i].xy, alone.trajectory.xy, atol=1e-7)
        assert torch.allclose(together.tail[i].v, alone.tail.v, atol=1e-6)
        assert float(together.changed[i]) == pytest.approx(float(alone.changed), abs=1e-7)
        assert together.certificate(i).worst.rule == alone.certificate().worst.rule


def test_beyond_its_end_a_proposal_asks_nothing() -> None:
    """A second of standing still, then silence: ego goes on towards the allowed speed."""
    scene = SCENES["setting off"]
    t = torch.tensor([0.5, 1.0], dtype=F64)
    answer = LAYER(scene, torch.zeros(2, 2, dtype=F64), t)
    assert float(answer.trajectory.x[10]) < 0.1
    assert float(answer.trajectory.v[-1]) > 3.0


def test_the_same_motion_on_another_time_grid_gives_the_same_answer() -> None:
    scene = SCENES["leader"]
    speed = lambda t: torch.stack([8 * t - 0.4 * t**2, 0 * t], -1)  # noqa: E731
    fine = torch.arange(1, 31, dtype=F64) * 0.1
    one, two = (LAYER(scene, speed(t), t).trajectory for t in (TIME, fine))
    assert apart(one, two) < 0.01


def test_the_weights_decide_what_gives_way() -> None:
    """A proposal 2 m to the left on a road that allows 0.7 m: with no weight on the offset it is not followed."""
    scene = SCENES["free road"]
    proposed = constant_velocity(scene, 2.0)
    follows = LAYER(scene, proposed, TIME).trajectory
    ignores = LAYER(scene, proposed, TIME, torch.tensor([100.0, 50.0, 0.0, 0.0])).trajectory
    assert float(follows.y[30]) > 0.4
    assert abs(float(ignores.y[30])) < 0.05
    soft = SafetyLayer(CONFIG, VEHICLE, close=Tracking(0.0, 0.0, 0.0, 0.0, 1.0))
    own = ConvexPlanner(CONFIG, VEHICLE).plan(scene).chosen
    assert apart(soft(scene, proposed, TIME).trajectory, own.trajectory) < 1e-4


# -- the checker in the choice ---------------------------------------------------------------
def test_with_the_checker_the_nearest_accepted_candidate_is_taken(monkeypatch) -> None:
    scene = SCENES["parked on the right"]
    proposed = constant_velocity(scene)
    free = LAYER(scene, proposed, TIME)
    asked = SafetyLayer(CONFIG, VEHICLE, check=True)
    assert asked(scene, proposed, TIME).decision == free.decision
    first, judge = free.trajectory.x, module.check_prepared

    def refuse_the_first(sets, trajectory, *rest):
        report = judge(sets, trajectory, *rest)
        return replace(report, accepted=report.accepted and not torch.equal(trajectory.x, first.detach()))

    monkeypatch.setattr(module, "check_prepared", refuse_the_first)
    second = asked(scene, proposed, TIME)
    assert bool(second.safe)
    assert float(second.changed) > float(free.changed)
    monkeypatch.setattr(module, "check_prepared", lambda *rest: replace(judge(*rest), accepted=False))
    none = asked(scene, proposed, TIME)
    assert not bool(none.safe)
    assert none.decision == [""]


# -- malformed input -------------------------------------------------------------------------
POINTS = constant_velocity(SCENES["leader"])
HOLE = POINTS.clone()
HOLE[3, 1] = torch.nan


@pytest.mark.parametrize(
    ("proposed", "time", "weight", "message"),
    [
        (HOLE, TIME, None, "proposed: expected finite numbers, got 1 NaN or infinite of 12"),
        (POINTS, None, None, "time: expected the times"),
        (POINTS, TIME[:3], None, r"time: expected shape \(6,\)"),
        (POINTS, TIME.flip(0), None, "increasing times"),
        (POINTS, -TIME, None, "increasing times"),
        (POINTS, TIME * torch.nan, None, "time: expected finite numbers"),
        (POINTS[:, :1], TIME, None, r"proposed: expected shape \(1, T, 2\)"),
        (POINTS[None], TIME, None, r"proposed: expected shape \(1, T, 2\)"),
        (POINTS[:0], TIME[:0], None, "at least one entry after time 0"),
        (POINTS[:1], TIME[:1] * 0, None, "at least one entry after time 0"),
        (POINTS[:1], TIME[:1] / 10, None, "expected proposals that reach 0.2"),
        (POINTS, TIME, torch.tensor([1.0, 1.0, -1.0, 1.0]), "weight: expected 4 finite numbers >= 0"),
        (POINTS, TIME, torch.ones(3), "weight: expected 4 finite numbers >= 0"),
    ],
)
def test_malformed_proposals_are_refused(proposed: Tensor, time: Tensor, weight: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYER(SCENES["leader"], proposed, time, weight)


def test_malformed_trajectories_and_scenes_are_refused() -> None:
    scene, t = SCENES["leader"], torch.cat([torch.zeros(1, dtype=F64), TIME])
    good = Trajectory(t, 8 * t, 0 * t, 0 * t, 8 + 0 * t, 0 * t, 0 * t)
    assert bool(LAYER(scene, good).safe)
    with pytest.raises(ValueError, match=r"Trajectory.v: expected finite numbers"):
        LAYER(scene, good.replace(v=good.v * torch.nan))
    with pytest.raises(ValueError, match="time: expected None with a Trajectory"):
        LAYER(scene, good, TIME)
    with pytest.raises(ValueError, match="proposed: expected batch axes"):
        LAYER(VectorScene.stack([scene, scene]), Trajectory.stack([good] * 3))
    with pytest.raises(ValueError, match="expected one batch axis or none"):
        LAYER(VectorScene.stack([VectorScene.stack([scene])]), POINTS, TIME)
    with pytest.raises(ValueError, match="expected finite numbers"):
        LAYER(scene.replace(ego=scene.ego.replace(v=scene.ego.v * torch.nan)), POINTS, TIME)


def test_the_layer_is_a_module_without_parameters_or_state() -> None:
    assert not list(LAYER.parameters())
    assert not LAYER.state_dict()
    scene = make_scene(8.0, (Other(25.0, -5.0, UP, 1.4, WALKER),))
    first = LAYER(scene, constant_velocity(scene), TIME)
    LAYER(SCENES["cone"], constant_velocity(SCENES["cone"]), TIME)
    assert torch.equal(LAYER(scene, constant_velocity(scene), TIME).trajectory.x, first.trajectory.x)
    with torch.no_grad():
        assert not LAYER(scene, constant_velocity(scene).requires_grad_(), TIME).trajectory.x.requires_grad


def test_on_a_curved_road_the_proposal_is_followed_along_the_curve() -> None:
    scene = SCENES["bend"]
    path = build_reference_path(scene.route.apply(lambda t: t[None]))
    s = path.locate(torch.zeros(1, 1, 2, dtype=F64)).s + 8.0 * TIME
    proposed = path.to_cartesian(s, 0.2 * (s - s[:, :1]) / 20.0)[0]
    assert float(LAYER(scene, proposed, TIME).changed) < 0.05


# -- the worked examples ---------------------------------------------------------------------
EXAMPLES = REPOSITORY / "docs" / "examples"


def run_example(name: str, monkeypatch) -> dict[str, float]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()


def is_in_the_howto(printed: str) -> bool:
    """As a block of the document, apart from the numbers: their last digits may differ between machines."""
    words = lambda text: re.sub(r"[-+]?\d[\d.e+-]*", "#", text).split()  # noqa: E731
    document = (EXAMPLES.parent / "howto-safety-layer.md").read_text()
    return any(
        words(block) == words(printed) for _, block in re.findall(r"^```(\w*)\n(.*?)^```", document, re.M | re.S)
    )


def test_the_wrapped_planner_keeps_clear_of_the_pedestrian(monkeypatch, capsys) -> None:
    numbers = run_example("wrap_constant_velocity", monkeypatch)
    assert numbers["without"] == 0.0
    assert numbers["with"] > 0.5
    assert numbers["residual"] < 1e-6
    printed = capsys.readouterr().out
    assert "independent checker: accepted" in printed
    assert is_in_the_howto(printed)


def test_training_through_the_layer_works_and_stays_safe(monkeypatch, capsys) -> None:
    numbers = run_example("train_through_layer", monkeypatch)
    assert numbers["last"] < 0.2 * numbers["first"]
    assert numbers["after"] < 0.3 * numbers["before"]
    assert numbers["safe"] == 1.0
    assert numbers["residual"] < 1e-6
    assert is_in_the_howto(capsys.readouterr().out)

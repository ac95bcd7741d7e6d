"""plan(): what must not change the answer, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from planner_scenes import CONFIG, F64, SCENES, UP, Other, chosen, make_scene, plan

from planner import ConvexPlanner
from planner.result import PlanResult
from planner.scene import VectorScene
from planner.scene.frames import wrap_angle


@pytest.fixture(scope="module")
def results() -> dict[str, PlanResult]:
    return {name: plan(scene) for name, scene in SCENES.items()}


@pytest.mark.parametrize("name", ["bend", "leader", "crossing pedestrian", "parked on the right"])
@pytest.mark.parametrize("pose", [(100.0, -40.0, 2.5), (-3.0, 7.0, -0.7)])
def test_a_plan_moves_with_its_scene(results, name: str, pose: tuple[float, float, float]) -> None:
    new_from_old = torch.tensor(pose, dtype=F64)
    moved, here = plan(SCENES[name].transformed(new_from_old)), results[name]
    assert [c.decision for c in moved.candidates] == [c.decision for c in here.candidates]
    for there, c in zip(moved.candidates, here.candidates):
        assert there.status is c.status
        assert there.cost == pytest.approx(c.cost, abs=1e-6)
        for path, old in ((there.trajectory, c.trajectory), (there.tail, c.tail)):
            cos, sin = math.cos(pose[2]), math.sin(pose[2])
            assert path.x.numpy() == pytest.approx((pose[0] + cos * old.x - sin * old.y).numpy(), abs=1e-6)
            assert path.y.numpy() == pytest.approx((pose[1] + sin * old.x + cos * old.y).numpy(), abs=1e-6)
            assert wrap_angle(path.yaw - old.yaw - pose[2]).numpy() == pytest.approx(0.0, abs=1e-6)
            assert path.v.numpy() == pytest.approx(old.v.numpy(), abs=1e-6)


def test_the_order_of_agents_does_not_matter() -> None:
    others = (
        Other(22.0, 0.0, v=5.0, track_id=5), Other(35.0, -18.0, UP, 6.0, track_id=9),
        Other(30.0, 4.0, track_id=2), Other(-9.0, 0.0, v=8.0, track_id=7),
    )  # fmt: skip
    reference = chosen(make_scene(8.0, others))
    rng = np.random.default_rng(0)
    for _ in range(4):
        shuffled = chosen(make_scene(8.0, tuple(others[i] for i in rng.permutation(4))))
        assert shuffled.decision == reference.decision
        assert shuffled.duties == reference.duties
        for field in ("x", "y", "v"):
            assert getattr(shuffled.trajectory, field).numpy() == pytest.approx(
                getattr(reference.trajectory, field).numpy(), abs=1e-9
            )


def test_the_same_scene_gives_the_same_bits(results) -> None:
    for name in ("leader", "two crossing", "parked on the right", "bend"):
        again = plan(SCENES[name])
        for a, b in zip(again.candidates, results[name].candidates):
            assert (a.decision, a.status, a.cost) == (b.decision, b.status, b.cost)
            assert torch.equal(a.trajectory.xy, b.trajectory.xy)
            assert torch.equal(a.tail.xy, b.tail.xy)


def test_agents_far_away_or_invalid_change_nothing(results) -> None:
    base = results["leader"].chosen.trajectory
    far = chosen(make_scene(8.0, (Other(22.0, 0.0, v=5.0), Other(50.0, 60.0, track_id=3)))).trajectory
    assert torch.allclose(far.xy, base.xy, atol=1e-9)
    scene = make_scene(8.0, (Other(22.0, 0.0, v=5.0), Other(10.0, 0.0, track_id=3)))
    scene.agents.valid[1] = False
    assert torch.allclose(chosen(scene).trajectory.xy, base.xy, atol=1e-9)


def single(scene: VectorScene) -> VectorScene:
    return scene.apply(lambda t: t.float() if t.is_floating_point() else t)


def test_a_float32_scene_is_planned_in_float64() -> None:
    for name in ("leader", "parked on the right", "free road"):
        best = chosen(single(SCENES[name]))
        assert best.trajectory.x.dtype == torch.float64
        expected = chosen(SCENES[name])
        assert best.decision == expected.decision
        assert best.trajectory.x.numpy() == pytest.approx(expected.trajectory.x.numpy(), abs=1e-2)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda s: s.replace(ego=s.ego.replace(v=torch.tensor(math.nan, dtype=F64))), r"ego\.v"),
        (lambda s: s.replace(agents=s.agents.replace(velocity=s.agents.velocity[:, :1])), r"agents\.velocity"),
        (lambda s: s.replace(agents=s.agents.replace(existence=s.agents.existence + 1)), r"agents\.existence"),
        (lambda s: s.replace(futures=s.futures.replace(mean=s.futures.mean * math.inf)), r"futures\.mean"),
        (lambda s: s.replace(route=s.route.replace(left=-s.route.left)), r"route\.left"),
    ],
)
def test_a_malformed_scene_is_refused_by_the_name_of_the_field(damage, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        plan(damage(SCENES["leader"]))


def test_a_batch_is_refused_with_its_axes() -> None:
    batch = VectorScene.stack([SCENES["leader"], SCENES["leader"]])
    with pytest.raises(ValueError, match=r"single scene.*\(2,\)"):
        plan(batch)


def test_a_horizon_that_does_not_fit_together_is_refused() -> None:
    horizon = replace(CONFIG.horizon, tail=((0.2, 10), (0.5, 9)))
    with pytest.raises(ValueError, match="same duration"):
        ConvexPlanner(replace(CONFIG, horizon=horizon))

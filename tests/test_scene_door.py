"""The doors: each bound just inside and just outside, times in order, nothing raises."""

from __future__ import annotations

import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner.scene import VectorScene
from planner.supervision import scene_door as door
from planner.supervision.scene_door import SceneDoor, plan_problem


def scene(**more) -> VectorScene:
    return make_scene(8.0, (agent(20.0, 0.0, v=5.0), agent(30.0, 3.5)), **more)


def changed(path: str, value: float, index: tuple = ()) -> VectorScene:
    """A scene with one number exchanged."""
    out = scene()
    names = path.split(".")
    part = out if len(names) == 1 else getattr(out, names[0])
    tensor = getattr(part, names[-1]).clone()
    tensor[index] = value
    part = part.replace(**{names[-1]: tensor})
    return part if len(names) == 1 else out.replace(**{names[0]: part})


def test_sound_scenes_pass_in_order_of_time() -> None:
    d = SceneDoor()
    assert d.problem(scene(time_us=1_000)) == ""
    assert d.problem(scene(time_us=1_001)) == ""
    assert d.problem(scene(time_us=1_001)).startswith("stale or out of order")
    assert d.problem(scene(time_us=900)) == "stale or out of order: 0.1 ms before the last scene"
    assert d.problem(scene(time_us=1_002)) == ""


def test_a_refused_scene_does_not_move_the_clock() -> None:
    d = SceneDoor()
    assert d.problem(scene(time_us=1_000)) == ""
    bad = changed("ego.v", 1e9)
    assert d.problem(bad.replace(ego=bad.ego.replace(time_us=torch.tensor(5_000)))) != ""
    assert d.problem(scene(time_us=1_001)) == ""


@pytest.mark.parametrize(
    ("path", "index", "bound"),
    [
        ("ego.x", (), 1e-3), ("ego.y", (), 1e-3), ("ego.yaw", (), 1e-3),
        ("ego.v", (), door.SPEED_MAX), ("ego.a", (), door.ACCELERATION_MAX), ("ego.curvature", (), door.CURVATURE_MAX),
        ("global_from_ego", (0,), door.GLOBAL_MAX), ("global_from_ego", (1,), door.GLOBAL_MAX),
        ("agents.box", (0, 0), door.DISTANCE_MAX), ("agents.box", (1, 1), door.DISTANCE_MAX),
        ("agents.box", (1, 3), door.SIZE_MAX), ("agents.box", (0, 4), door.SIZE_MAX),
        ("agents.velocity", (0, 1), door.SPEED_MAX),
        ("agents.position_covariance", (0, 0, 0), door.VARIANCE_MAX),
        ("futures.time", (-1,), door.HORIZON_MAX), ("futures.mean", (0, 0, 5, 1), door.DISTANCE_MAX),
        ("futures.yaw", (0, 0, 5), door.DISTANCE_MAX), ("futures.covariance", (0, 0, 5, 1, 1), door.VARIANCE_MAX),
        ("map.xy", (0, 3, 1), door.DISTANCE_MAX),
        ("route.xy", (3, 0), door.DISTANCE_MAX), ("route.speed_limit", (3,), door.SPEED_MAX),
    ],
)  # fmt: skip
def test_each_bound_just_inside_and_just_outside(path: str, index: tuple, bound: float) -> None:
    assert SceneDoor().problem(changed(path, bound * (1 - 1e-9), index)) == ""
    found = SceneDoor().problem(changed(path, bound * (1 + 1e-9), index))
    assert f"scene.{path}: expected magnitudes up to" in found
    if ".time" not in path and "speed_limit" not in path and "covariance" not in path and path != "agents.box":
        assert f"scene.{path}" in SceneDoor().problem(changed(path, -bound * (1 + 1e-9), index))


def test_objects_have_a_size() -> None:
    assert SceneDoor().problem(changed("agents.box", door.SIZE_MIN, (0, 3))) == ""
    assert "sizes of at least" in SceneDoor().problem(changed("agents.box", door.SIZE_MIN * (1 - 1e-9), (0, 3)))


def test_padding_may_hold_anything_finite() -> None:
    padded = scene()
    valid = padded.agents.valid.clone()
    valid[1] = False
    box = padded.agents.box.clone()
    box[1] = 1e200
    assert SceneDoor().problem(padded.replace(agents=padded.agents.replace(box=box, valid=valid))) == ""


@pytest.mark.parametrize("bad", [None, "scene", 3, scene().ego, VectorScene.stack([scene(), scene()])])
def test_what_is_no_single_scene_is_refused(bad: object) -> None:
    assert SceneDoor().problem(bad) != ""


@pytest.mark.parametrize(
    ("name", "bound"),
    [("x", door.DISTANCE_MAX), ("y", door.DISTANCE_MAX), ("yaw", 100.0), ("v", door.SPEED_MAX),
     ("a", door.ACCELERATION_MAX), ("curvature", door.CURVATURE_MAX), ("time", door.HORIZON_MAX)],
)  # fmt: skip
def test_plan_bounds_just_inside_and_just_outside(name: str, bound: float) -> None:
    sound = drive(8.0)

    def bent(value: float):
        field = getattr(sound, name).clone()
        field[-1] = value
        return sound.replace(**{name: field})

    for which in (0, 1):
        pair = [sound, with_tail(sound)]
        pair[which] = bent(bound * (1 - 1e-9))
        assert plan_problem(*pair) == ""
        pair[which] = bent(bound * (1 + 1e-9))
        assert plan_problem(*pair).startswith(("trajectory", "tail")[which] + f".{name}: expected magnitudes")


def test_malformed_plans_have_a_reason() -> None:
    sound = drive(8.0)
    entries = lambda n: sound.apply(lambda t: torch.linspace(0, 1, n, dtype=F64))  # noqa: E731
    assert plan_problem(entries(2), entries(door.ENTRIES_MAX)) == ""
    assert "expected 2 to" in plan_problem(sound, entries(door.ENTRIES_MAX + 1))
    assert "expected 2 to" in plan_problem(entries(1), sound)
    assert "expected a Trajectory, got NoneType" in plan_problem(sound, None)
    assert "no batch axes" in plan_problem(sound.apply(lambda t: t[None]), sound)
    assert "expected finite" in plan_problem(sound.replace(x=sound.x * torch.nan), sound)
    assert "strictly increasing" in plan_problem(sound.replace(time=sound.time.flip(0)), sound)
    assert "float values" in plan_problem(sound.replace(x=sound.x.long()), sound)
    assert "float values" in plan_problem(sound.replace(x=sound.x.to(torch.complex128)), sound)
    assert "torch.Tensor, got str" in plan_problem(sound.replace(x="x"), sound)

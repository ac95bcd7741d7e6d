"""Start, surface, manoeuvres and free speed of many scenes at once: each as if it were alone, with its gradients."""

from __future__ import annotations

import pytest
import torch
from planner_scenes import F64, WALKER, Other, make_scene

from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres, enumerate_manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import project_obstacles
from planner.path.reference_path import build_reference_path
from planner.path.speed_profile import allowed_speed, free_speed
from planner.path.surface import Start, Surface, start_state, usable_surface
from planner.scene import AgentClass, Route, VectorScene, VehicleParameters

CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
NODES = make_grid(CONFIG.horizon).node_time
TIME = torch.cat([torch.zeros(1, dtype=F64), NODES])
STOOD = {1: 10.0}


def front_end(scene: VectorScene) -> tuple[Start, Surface, Manoeuvres, torch.Tensor]:
    """Of a batch; track 1 has stood for ten seconds in every scene."""
    path = build_reference_path(scene.route)
    start = start_state(scene, path)
    surface = usable_surface(path, start, VEHICLE, CONFIG)
    obstacles = project_obstacles(scene, path, TIME, CONFIG)
    stood = [STOOD] * len(start.s)
    manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, stood, VEHICLE, CONFIG)
    return start, surface, manoeuvres, free_speed(path, start, CONFIG, NODES)


def shortened(scene: VectorScene, points: int) -> VectorScene:
    """The same scene with a route of so many points."""
    route = scene.route
    cut = {name: getattr(route, name)[:points] for name in vars(route) if getattr(route, name) is not None}
    return scene.replace(route=Route(**cut))


SCENES = {
    "nobody": make_scene(8.0),
    "parked on the right": make_scene(8.0, (Other(30.0, -1.9),), left=3.5),
    "parked on both sides": make_scene(6.0, (Other(28.0, -2.1), Other(42.0, 3.2, track_id=2)), left=4.5, right=2.5),
    "blocked, free beyond the line": make_scene(5.0, (Other(25.0, 0.2),), left_oncoming=3.5),
    "walkers on a bend": make_scene(5.0, (Other(20.0, 2.6, kind=WALKER),), bend=0.01, left=3.0, right=3.0),
    "cone on a short road": shortened(make_scene(8.0, (Other(22.0, 0.4, kind=AgentClass.STATIC),), left=4.0), 75),
}
KINDS = {
    "nobody": ["keep"],
    "parked on the right": ["keep", "left"],
    "blocked, free beyond the line": ["keep", "oncoming"],
}


def test_a_batch_is_each_scene_alone() -> None:
    """Scenes with different numbers of cells, agents and manoeuvres; padding repeats and is marked as such."""
    start, surface, manoeuvres, speed = front_end(VectorScene.stack(list(SCENES.values())))
    assert len(set(surface.count.tolist())) > 1
    assert len({len(kind) for kind in manoeuvres.kind}) > 1
    for k, (name, scene) in enumerate(SCENES.items()):
        own_start, own_surface, own, own_speed = front_end(scene.apply(lambda t: t[None]))
        for field, value in vars(own_start).items():
            assert getattr(start, field)[k].item() == pytest.approx(value.item(), abs=1e-9), field
        cells, count = int(own_surface.count), len(own.kind[0])
        assert int(surface.count[k]) == cells
        assert bool(surface.straight[k]) == bool(own_surface.straight)
        for field in ("s", "lower", "upper", "lower_all", "upper_all"):
            together, alone = getattr(surface, field)[k], getattr(own_surface, field)[0]
            assert together[:cells].numpy() == pytest.approx(alone.numpy(), abs=1e-9), field
            assert field == "s" or bool((together[cells:] == together[cells - 1]).all())
        assert manoeuvres.kind[k] == own.kind[0] == KINDS.get(name, own.kind[0])
        assert manoeuvres.valid[k].tolist() == [v < count for v in range(manoeuvres.valid.shape[1])]
        assert torch.equal(manoeuvres.side[k, :count, : own.side.shape[2]], own.side[0])
        assert torch.equal(manoeuvres.oncoming[k, :count], own.oncoming[0])
        profile = manoeuvres.profile[k, :count]
        assert profile[:, :cells].numpy() == pytest.approx(own.profile[0].numpy(), abs=1e-9)
        assert bool((profile[:, cells:] == profile[:, cells - 1 : cells]).all())
        assert speed[k].numpy() == pytest.approx(own_speed[0].numpy(), abs=1e-9)


def test_rows_of_a_start_are_those_of_their_scenes() -> None:
    start = front_end(VectorScene.stack(list(SCENES.values())))[0]
    assert start.rows(torch.tensor([2, 2, 0])).v.tolist() == [6.0, 6.0, 8.0]


@pytest.mark.parametrize("name", [name for name in SCENES if name != "nobody"])
@pytest.mark.parametrize("leaf", ["agents.box", "futures.mean", "ego.v", "ego.y", "route.left", "route.right"])
def test_profiles_have_the_gradients_that_differences_measure(name: str, leaf: str) -> None:
    """Others and their futures moving together; ego moving and driving differently; wider and narrower roads."""
    # Off the kinks: nobody exactly at rest, no edge of the road exactly at a limit.
    scene = SCENES[name].apply(lambda t: t[None])
    rng = torch.Generator().manual_seed(1)
    scene = scene.replace(
        futures=scene.futures.replace(
            mean=scene.futures.mean + 1e-3 * torch.randn(scene.futures.mean.shape, dtype=F64, generator=rng)
        ),
        ego=scene.ego.replace(y=scene.ego.y + 0.137, v=scene.ego.v + 0.113),
    )
    part, field = leaf.split(".")
    value = getattr(getattr(scene, part), field)

    def total(x: torch.Tensor) -> torch.Tensor:
        moved = scene.replace(**{part: getattr(scene, part).replace(**{field: x})})
        profile = front_end(moved)[2].profile
        return (profile * torch.linspace(0.5, 1.5, profile[0].numel(), dtype=F64).reshape(profile.shape)).sum()

    # An edge moves as a whole: of cells with the same room none is the narrowest.
    direction = torch.ones_like(value) if part == "route" else torch.randn(value.shape, dtype=F64, generator=rng)
    measured = (total(value + 1e-6 * direction) - total(value - 1e-6 * direction)) / 2e-6
    tracked = value.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(total(tracked), tracked, allow_unused=True)
    claimed = 0.0 if grad is None else float((grad * direction).sum())
    assert claimed == pytest.approx(float(measured), rel=1e-4, abs=1e-5)


def test_allowed_speed_is_that_of_limit_bend_and_braking_ahead() -> None:
    """Free on the straight, sqrt(a / curvature) in a bend, and braking distance before a lower limit."""
    comfort = CONFIG.comfort
    straight = make_scene(8.0, limit=10.0)
    lower = torch.where(torch.arange(len(straight.route.xy)) < 120, straight.route.speed_limit, 4.0)
    scenes = [
        straight,
        make_scene(8.0, bend=0.05, limit=20.0),
        straight.replace(route=straight.route.replace(speed_limit=lower)),
    ]
    path = build_reference_path(VectorScene.stack(scenes).route)
    free, bent, slower = allowed_speed(path, CONFIG)
    assert free[5:150].numpy() == pytest.approx(10.0 * comfort.speed_fraction)
    assert float(bent[80]) == pytest.approx((comfort.lateral_acceleration / 0.05) ** 0.5, rel=0.02)
    before = slower[100:119].square()
    assert before.diff().numpy() == pytest.approx(-2 * comfort.braking, abs=1e-6)
    assert float(slower[130]) == pytest.approx(4.0 * comfort.speed_fraction)

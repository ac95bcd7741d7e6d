"""Compiled decisions held to their plain twins: values and gradients, on crowded, golden, padded and empty scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from planner_scenes import F64, SCENES, WALKER, Other, make_scene
from torch import Tensor
from twins import assert_twins, by_kernel, needs_library

from benchmarks.crowded import crowded_scene
from planner.compiled import conflicts as compiled_conflicts
from planner.compiled import merge as compiled_merge
from planner.compiled import profiles as compiled_profiles
from planner.config import PlannerConfig, SafeDistances
from planner.decisions import preference
from planner.decisions.candidates import assemble
from planner.decisions.conflicts import Longitudinal, conflict_bounds, plain_bounds
from planner.decisions.manoeuvres import Manoeuvres, enumerate_manoeuvres
from planner.decisions.preference import Motion, motion_costs
from planner.grid import make_grid
from planner.objects.obstacles import Obstacles, project_obstacles
from planner.path.reference_path import ReferencePath, build_reference_path
from planner.path.speed_profile import free_speed
from planner.path.surface import Start, Surface, start_state, usable_surface
from planner.scene import AgentClass, VectorScene, VehicleParameters

CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
WITH_GRADIENT = ("s_lo", "s_hi", "sigma_s", "weight", "speed_s")
INTERVALS = ("s_lo", "s_hi", "d_lo", "d_hi", "weight")
PROFILES = tuple((compiled_profiles, name) for name in ("_base", "_shape", "_extents"))
MERGE = ((compiled_merge, "_forward"), (compiled_merge, "_backward"))
COSTS = ((preference, "_forward"), (preference, "_backward"))
CONFLICTS = ((compiled_conflicts, "_forward"), (compiled_conflicts, "_backward"))

WALKERS = tuple(
    Other(18.0 + 4.0 * i, 3.0 - 0.4 * i, -1.6, 1.2, WALKER, track_id=i + 1, modes=((0.5, 1.2), (0.3, 0.6), (0.2, 0.0)))
    for i in range(4)
)
TRAFFIC = (
    Other(26.0, -1.9, track_id=1),
    Other(18.0, 0.0, v=4.0, track_id=2, modes=((0.6, 4.0), (0.3, 2.0), (0.06, 6.0), (0.04, 0.0)), existence=0.97),
    Other(40.0, 3.5, 3.14159, 6.0, track_id=3),
    Other(30.0, -3.4, 1.2, 1.0, track_id=4),
    Other(-8.0, 0.1, v=9.0, track_id=5),
    Other(34.0, 0.3, kind=AgentClass.STATIC, track_id=6),
)
MERGERS = (
    *(
        Other(x, 3.4, -0.06, 9.0, track_id=i + 1, modes=((0.7, 9.0), (0.3, 8.0)))
        for i, x in enumerate((-1.0, 1.0, 0.0))
    ),
    Other(-14.0, 3.2, v=9.0, track_id=4),
)
CASES: dict[str, list[VectorScene]] = {
    "crowded": [crowded_scene(3)],
    "crowded batch": [crowded_scene(seed, agents=agents) for seed, agents in ((1, 20), (2, 1), (4, 7), (5, 12))],
    "golden": [SCENES[name] for name in sorted(SCENES)],
    "nobody": [SCENES["free road"]],
    "at a standstill": [make_scene(0.0, TRAFFIC, left=4.0), make_scene(0.0, WALKERS, a=-1.0)],
    "traffic": [make_scene(8.0, TRAFFIC, left=4.0, bend=0.01), make_scene(6.5, WALKERS, left=3.0, right=3.0)],
    "mergers": [make_scene(v, MERGERS, left=5.0, bend=b) for v, b in ((7.0, 0.0), (5.0, 0.002), (4.0, 0.0))],
    "walkers": [make_scene(5.0, WALKERS, left=3.0, right=3.0)],
}


class FrontEnd(NamedTuple):
    """What the decisions of a batch are made from."""

    path: ReferencePath
    start: Start
    obstacles: Obstacles
    surface: Surface
    manoeuvres: Manoeuvres


def front_end(scenes: Sequence[VectorScene], config: PlannerConfig = CONFIG) -> FrontEnd:
    batch = VectorScene.stack(list(scenes)).double()
    path, grid = build_reference_path(batch.route), make_grid(config.horizon)
    start = start_state(batch, path)
    obstacles = project_obstacles(batch, path, grid.node_time_from_now, config)
    surface = usable_surface(path, start, VEHICLE, config)
    stood = [{1: 10.0} for _ in scenes]
    manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, stood, VEHICLE, config)
    return FrontEnd(path, start, obstacles, surface, manoeuvres)


FRONTS = {name: front_end(scenes) for name, scenes in CASES.items()}


def with_leaves(obstacles: Obstacles, names: Sequence[str] = WITH_GRADIENT) -> tuple[Obstacles, dict[str, Tensor]]:
    leaves = {name: getattr(obstacles, name).detach().clone().requires_grad_(True) for name in names}
    return replace(obstacles, **leaves), leaves


def pulled(values: Sequence[Tensor], leaves: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Gradients of a random combination of the finite values."""
    draw, total = torch.Generator().manual_seed(seed), torch.zeros((), dtype=F64, requires_grad=True)
    for x in values:
        weight = torch.randn(x.shape, dtype=F64, generator=draw)
        total = total + (torch.where(torch.isfinite(x), x, 0.0) * weight).sum()
    return list(torch.autograd.grad(total, list(leaves), allow_unused=True, materialize_grads=True))


# --- manoeuvres ---

KINDS = ("keep", "left", "right", "oncoming")
PASSABLE = (
    make_scene(8.0, (Other(30.0, -1.9),), left=3.5),
    make_scene(
        6.0, (Other(28.0, -2.1), Other(34.0, -1.2, track_id=2), Other(42.0, 3.2, track_id=3)), left=4.5, right=2.5
    ),
    make_scene(5.0, (Other(25.0, 0.2),), left_oncoming=3.5),
    make_scene(5.0, (Other(20.0, 2.6, kind=WALKER), Other(20.4, -1.9, track_id=2)), bend=0.01, left=3.0, right=3.0),
    make_scene(0.0, (Other(6.0, 1.4, kind=AgentClass.STATIC, size=(0.4, 0.4)),), left=1.0, right=0.9),
    SCENES["free road"],
)


@needs_library
@pytest.mark.parametrize("batched", [True, False])
def test_profiles_and_sides_are_those_of_the_definition(batched: bool) -> None:
    """Without gradients; with them the definition itself is used."""
    batches = [[*PASSABLE, *CASES["traffic"], *CASES["crowded"]]] if batched else [[scene] for scene in PASSABLE]
    for scenes in batches:
        kernels = PROFILES if len(scenes) > 1 or len(scenes[0].agents.track_id) else PROFILES[:1]

        def work(scenes: Sequence[VectorScene] = scenes) -> list[Tensor]:
            m = front_end(scenes).manoeuvres
            kinds = torch.tensor([KINDS.index(kind) for row in m.kind for kind in row])
            return [m.profile, m.side, m.oncoming, m.valid, kinds]

        assert_twins(work, *kernels)


def test_somebody_is_passed_on_either_side_and_over_the_oncoming_surface() -> None:
    kinds = {kind for row in front_end(PASSABLE).manoeuvres.kind for kind in row}
    assert kinds == set(KINDS)


# --- conflicts ---


def bounds_of(found: Longitudinal) -> list[Tensor]:
    return [found.yield_front, found.worst_front, found.pass_rear, found.caution_front]


def discrete_of(found: Longitudinal) -> list[Tensor]:
    plain = (found.scene, found.manoeuvre, found.agent, found.moving, found.conflict, found.passable, found.theirs)
    plain = (*plain, found.courtesy)
    return [torch.from_numpy(x.copy()) for x in (*plain, found.first_time)]


def conflicts_of(front: FrontEnd, config: PlannerConfig = CONFIG) -> list[Tensor]:
    """All values and gradients."""
    obstacles, leaves = with_leaves(front.obstacles)
    found = conflict_bounds(obstacles, front.manoeuvres, front.surface, front.start, VEHICLE, config)
    return [*discrete_of(found), *bounds_of(found), *pulled(bounds_of(found), list(leaves.values()))]


@needs_library
@pytest.mark.parametrize("name", list(CASES))
def test_conflicts_are_those_of_the_definition(name: str) -> None:
    kernels = CONFLICTS if name != "nobody" else CONFLICTS[:1]  # without rows there is nothing to pull
    assert_twins(lambda: conflicts_of(FRONTS[name]), *kernels)


@needs_library
def test_conflicts_follow_every_limit_of_the_configuration() -> None:
    config = replace(
        CONFIG,
        risk=replace(CONFIG.risk, hit_probability=0.12, longitudinal_max=0.4),
        margins=replace(CONFIG.margins, zone_time=1.3, zone_time_walking=2.7, ahead=1.5, behind=3.0, side=0.5),
        limits=replace(CONFIG.limits, braking_max=3.0, tail_braking_max=5.0, tail_jerk_max=7.0, acceleration_max=1.2),
        worst_case=replace(CONFIG.worst_case, lateral=0.9, probability=0.1, vehicle_braking=3.0),
    )
    for name in ("crowded", "traffic"):
        assert_twins(lambda: conflicts_of(FRONTS[name], config), *CONFLICTS)  # noqa: B023


def test_the_cases_ask_for_everything() -> None:
    """Leaders and zones, walkers and cautious tails, whom to pass and whose duty it is: nothing is compared empty."""
    found = [plain_bounds(f.obstacles, f.manoeuvres, f.surface, f.start, VEHICLE, CONFIG) for f in FRONTS.values()]
    for field in ("moving", "conflict", "passable", "theirs", "courtesy"):
        assert sum(int(getattr(x, field).sum()) for x in found) >= 5, field
    for field in ("yield_front", "worst_front", "pass_rear", "caution_front"):
        assert sum(int(torch.isfinite(getattr(x, field)).sum()) for x in found) > 10, field
    assert not len(found[list(FRONTS).index("nobody")])


@needs_library
def test_a_scene_has_the_same_conflicts_alone_and_in_a_batch_on_any_number_of_threads() -> None:
    scenes = [crowded_scene(seed, agents=6 + 3 * (seed % 4)) for seed in range(12)]

    def bounds(scenes: Sequence[VectorScene], threads: int) -> Longitudinal:
        front = front_end(scenes)
        config = replace(CONFIG, solver=replace(CONFIG.solver, threads=threads))
        work = lambda: conflict_bounds(  # noqa: E731
            front.obstacles, front.manoeuvres, front.surface, front.start, VEHICLE, config
        )
        return by_kernel(work, CONFLICTS[0])

    one, two = bounds(scenes, 1), bounds(scenes, 2)
    for x, y in zip(bounds_of(one), bounds_of(two)):
        assert torch.equal(x, y)
    for k, scene in enumerate(scenes):
        alone, mine = bounds([scene], 1), one.scene == k
        assert (alone.agent == one.agent[mine]).all()
        for x, y in zip(bounds_of(alone), bounds_of(one)):
            assert torch.allclose(x, y[torch.from_numpy(mine)], rtol=1e-12, atol=1e-9)


@needs_library
@pytest.mark.parametrize("name", ["traffic", "walkers", "crowded"])
def test_bounds_have_the_gradients_that_differences_measure(name: str) -> None:
    front = FRONTS[name]
    shake = torch.Generator().manual_seed(2)
    base = {n: getattr(front.obstacles, n) for n in WITH_GRADIENT}
    # Off the kinks: no two pieces begin at the same place, nobody is quite certain.
    base = {n: x * (0.98 if n == "weight" else 1.0) + 1e-3 * torch.rand(x.shape, dtype=F64, generator=shake)
            for n, x in base.items()}  # fmt: skip

    def bounds(values: dict[str, Tensor]) -> Tensor:
        o = replace(front.obstacles, **values)
        found = bounds_of(conflict_bounds(o, front.manoeuvres, front.surface, front.start, VEHICLE, CONFIG))
        draw = torch.Generator().manual_seed(3)
        weights = [torch.randn(x.shape, dtype=F64, generator=draw) for x in found]
        return torch.stack([(torch.where(torch.isfinite(x), x, 0.0) * w).sum() for x, w in zip(found, weights)]).sum()

    leaves = {n: x.clone().requires_grad_(True) for n, x in base.items()}
    grads = by_kernel(lambda: torch.autograd.grad(bounds(leaves), list(leaves.values())), *CONFLICTS)
    for (n, x), g in zip(base.items(), grads):
        direction = torch.randn(x.shape, dtype=F64, generator=shake)
        h = 1e-7
        with torch.no_grad():
            above, below = (bounds({**base, n: x + sign * h * direction}) for sign in (1, -1))
        assert float((g * direction).sum()) == pytest.approx(float(above - below) / (2 * h), rel=1e-5, abs=1e-5), n


# --- merged bounds ---


def merged_of(front: FrontEnd, config: PlannerConfig = CONFIG) -> list[Tensor]:
    """Bounds of all candidates, and their gradients to the agents' bounds, ego's start and the free speed."""
    start = replace(front.start, s=front.start.s.detach().clone().requires_grad_(True))
    obstacles, leaves = with_leaves(front.obstacles, ("speed_s",))
    with torch.no_grad():
        found = conflict_bounds(obstacles, front.manoeuvres, front.surface, start, VEHICLE, config)
        profile = free_speed(front.path, start, config, make_grid(config.horizon).node_time)
    fields = ("yield_front", "worst_front", "pass_rear", "caution_front")
    asked = {n: getattr(found, n).detach().clone().requires_grad_(True) for n in fields}
    profile = profile.requires_grad_(True)
    end, nobody = front.path.length - VEHICLE.front, [""] * len(start.s)
    given = (replace(found, **asked), front.manoeuvres, obstacles, start, profile, end, nobody, VEHICLE, config)
    bounds = assemble(*given).bounds
    values = [bounds.s_upper, bounds.s_lower, bounds.gap_s, bounds.gap_speed, bounds.v_ref, bounds.v_cap]
    ids = [bounds.upper_id, bounds.lower_id]
    if bounds.safe is not None:
        values, ids = [*values, bounds.safe.s], [*ids, bounds.safe.track_id]
    grads = pulled(values, [*asked.values(), start.s, *leaves.values(), profile])
    return [*ids, bounds.gap_headway, *values, *grads]


@needs_library
@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("safe", [False, True])
def test_merged_bounds_are_those_of_the_definition(name: str, safe: bool) -> None:
    config = replace(CONFIG, safe_distances=SafeDistances(rows=safe))
    assert_twins(lambda: merged_of(FRONTS[name], config), *MERGE)


@needs_library
def test_merged_bounds_follow_every_margin() -> None:
    """Margins so large that they give way to what braking can keep."""
    config = replace(
        CONFIG,
        margins=replace(CONFIG.margins, ahead=9.0, behind=2.5),
        comfort=replace(CONFIG.comfort, gap=3.3, headway=0.7),
        limits=replace(CONFIG.limits, braking_max=2.5, jerk_max=2.0, tail_braking_max=5.0, tail_jerk_max=6.0),
        safe_distances=SafeDistances(rows=True, leader_braking=3.0),
    )
    for name in ("crowded", "traffic", "golden", "at a standstill"):
        assert_twins(lambda: merged_of(FRONTS[name], config), *MERGE)  # noqa: B023


# --- costs ---


def motions(front: FrontEnd, each: int = 5, seed: int = 0, threads: int = 2) -> tuple[Motion, Tensor]:
    """So many made-up motions in every scene, some of them close to others; and whose they are."""
    grid, draw = make_grid(CONFIG.horizon), torch.Generator().manual_seed(seed)
    scene = torch.arange(len(front.start.s)).repeat_interleave(each)
    rand = lambda *shape: torch.randn(len(scene), *shape, dtype=F64, generator=draw)  # noqa: E731
    time = torch.cat([torch.zeros(1, dtype=F64), grid.time])
    v = (front.start.v[scene][:, None] + rand(1) + 0.1 * rand(len(time)) + 0.4 * rand(1) * time).clamp(min=0.0)
    s = front.start.s[scene][:, None] + v.cumsum(1)[:, grid.node + 1] * grid.step
    d = front.start.d[scene][:, None] + 1.5 * rand(1) * torch.linspace(0.0, 1.0, len(grid.node), dtype=F64)
    profile = free_speed(front.path, front.start, CONFIG, grid.node_time)
    return Motion(v, rand(1) + 0.1 * rand(len(time)), 0.02 * rand(len(time)), s, d, profile), scene


def costs_of(front: FrontEnd, motion: Motion, scene: Tensor, config: PlannerConfig = CONFIG) -> list[Tensor]:
    obstacles, leaves = with_leaves(front.obstacles, INTERVALS)
    own = Motion(*(x.detach().clone().requires_grad_(True) for x in motion))
    cost = motion_costs(own, scene, obstacles, VEHICLE, config)
    return [cost, *pulled([cost], [*own, *leaves.values()])]


@needs_library
@pytest.mark.parametrize("name", list(CASES))
def test_costs_are_those_of_the_definition(name: str) -> None:
    motion, scene = motions(FRONTS[name])
    assert_twins(lambda: costs_of(FRONTS[name], motion, scene), *COSTS)


@needs_library
def test_costs_follow_every_price_and_standing_beside_others() -> None:
    """Parallel to the road and at rest, all pieces of a standing vehicle are equally near."""
    config = replace(
        CONFIG,
        comfort=replace(CONFIG.comfort, side_gap=1.9),
        decisions=replace(CONFIG.decisions, progress_cost=0.3, discomfort_cost=2.0, closeness_cost=0.7),
    )
    front = front_end([make_scene(0.0, (Other(4.5, 2.1), Other(2.0, -2.2, track_id=2)), left=4.0)])
    motion, scene = motions(front)
    still = motion._replace(s=motion.s * 0 + front.start.s, d=motion.d * 0, v=motion.v * 0 + 1.0)
    for given in (motion, still):
        assert_twins(lambda: costs_of(front, given, scene, config), *COSTS)  # noqa: B023
    assert float(costs_of(front, still, scene, config)[0].detach().min()) > 0.1


@needs_library
def test_costs_are_the_same_alone_and_on_any_number_of_threads() -> None:
    front = front_end([crowded_scene(seed) for seed in range(10)])
    motion, scene = motions(front, each=8)
    with torch.no_grad():
        one, two = (
            motion_costs(
                motion, scene, front.obstacles, VEHICLE, replace(CONFIG, solver=replace(CONFIG.solver, threads=threads))
            )
            for threads in (1, 2)
        )
        assert torch.equal(one, two)
        order = torch.randperm(len(scene), generator=torch.Generator().manual_seed(0))
        shuffled = Motion(*(x[order] for x in motion[:5]), motion.v_profile)
        assert torch.equal(motion_costs(shuffled, scene[order], front.obstacles, VEHICLE, CONFIG), one[order])


@needs_library
def test_costs_have_the_gradients_that_differences_measure() -> None:
    front = FRONTS["traffic"]
    motion, scene = motions(front)
    base = {**motion._asdict(), **{n: getattr(front.obstacles, n) for n in INTERVALS}}
    shake = torch.Generator().manual_seed(4)
    base = {n: x + 1e-3 * torch.rand(x.shape, dtype=F64, generator=shake) for n, x in base.items()}

    def total(values: dict[str, Tensor]) -> Tensor:
        obstacles = replace(front.obstacles, **{n: values[n] for n in INTERVALS})
        cost = motion_costs(Motion(**{n: values[n] for n in motion._fields}), scene, obstacles, VEHICLE, CONFIG)
        return (cost * torch.linspace(0.5, 1.5, len(cost), dtype=F64)).sum()

    leaves = {n: x.clone().requires_grad_(True) for n, x in base.items()}
    grads = by_kernel(lambda: torch.autograd.grad(total(leaves), list(leaves.values())), *COSTS)
    for (n, x), g in zip(base.items(), grads):
        direction, h = torch.randn(x.shape, dtype=F64, generator=shake), 1e-7
        with torch.no_grad():
            measured = float(total({**base, n: x + h * direction}) - total({**base, n: x - h * direction})) / (2 * h)
        assert float((g * direction).sum()) == pytest.approx(measured, rel=1e-5, abs=1e-4), n

"""Swerves that need braking: what the split misses, what braking and the joint program make of them."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from planner_scenes import Other, ego_rectangles, make_scene, rectangle

from planner.config import PlannerConfig
from planner.decisions.candidates import assemble
from planner.decisions.conflicts import conflict_bounds
from planner.decisions.manoeuvres import enumerate_manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import project_obstacles
from planner.path.reference_path import build_reference_path
from planner.path.speed_profile import free_speed
from planner.path.surface import start_state, usable_surface
from planner.plan import cost_weights
from planner.programs.corridor import make_corridor
from planner.programs.joint_refinement import Case, Refined, _Runner, refine, rows_of
from planner.programs.kinematics import frenet_view, integrate
from planner.programs.lateral import lateral_state
from planner.programs.longitudinal import longitudinal_motion
from planner.qp.solver import SolveOptions
from planner.scene import VehicleParameters

CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
GRID = make_grid(CONFIG.horizon)
OPTIONS = SolveOptions(backend="torch")


def swerve(v: float, x: float) -> Case:
    """Ego at v m/s, and the decision to pass on the left of a standing car whose centre is x m ahead."""
    scenes = make_scene(v, (Other(x, -0.9),), left=3.5, limit=15.0).apply(lambda t: t[None]).double()
    path = build_reference_path(scenes.route)
    start = start_state(scenes, path)
    obstacles = project_obstacles(scenes, path, GRID.node_time_from_now, CONFIG)
    surface = usable_surface(path, start, VEHICLE, CONFIG)
    manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, [{}], VEHICLE, CONFIG)
    conflicts = conflict_bounds(obstacles, manoeuvres, surface, start, VEHICLE, CONFIG)
    profile = free_speed(path, start, CONFIG, GRID.node_time)
    end = path.length - VEHICLE.front
    found = assemble(conflicts, manoeuvres, obstacles, start, profile, end, [""], VEHICLE, CONFIG)
    left = torch.tensor([found.kind.index("left")])
    ego = torch.stack([scenes.ego.x, scenes.ego.y, scenes.ego.yaw, start.v, start.a, start.kappa], -1)
    return Case(
        found.scene[left], found.manoeuvre[left], rows_of(found.bounds, left), start, path, manoeuvres, obstacles,
        surface, cost_weights(scenes, CONFIG), ego,
    )  # fmt: skip


@lru_cache(maxsize=4)
def refined(v: float, x: float, steps: int = 3) -> tuple[Refined, Refined]:
    return refine(swerve(v, x), VEHICLE, CONFIG, steps, OPTIONS)


@pytest.mark.parametrize(("v", "x"), [(8.0, 13.0), (10.5, 15.5), (12.0, 17.5)])
def test_a_swerve_that_needs_braking_is_found_and_clears_the_car(v: float, x: float) -> None:
    split, joint = refined(v, x)
    assert not bool(split.solved)
    assert bool(joint.solved)
    car = rectangle(x, -0.9, 0.0, 4.5, 1.9)
    for branch in (0, 1):
        assert all(not box.intersects(car) for box in ego_rectangles(joint.trajectory[0, branch]))
    path = joint.trajectory[0, 0]
    assert float(path.x[-1]) > x + 5.0  # past it,
    assert float(path.v[:20].min()) < v - 0.5  # after braking


@pytest.mark.parametrize(("v", "x"), [(8.0, 13.0), (10.5, 15.5), (12.0, 17.5)])
def test_the_joint_program_brakes_less_than_the_ladder(v: float, x: float) -> None:
    ladder, joint = refined(v, x, 0)[1], refined(v, x)[1]
    assert bool(ladder.solved)
    assert float(joint.cost) < float(ladder.cost) - 10.0


def test_what_the_split_solves_stays_or_gets_cheaper() -> None:
    split, joint = refined(8.0, 16.0)
    assert bool(split.solved)
    assert float(joint.cost) <= float(split.cost)


def test_what_nothing_can_pass_is_not_called_solved() -> None:
    split, joint = refined(12.0, 14.0)
    assert not bool(split.solved)
    assert not bool(joint.solved)


def test_the_joint_model_is_the_slope_of_the_motion() -> None:
    case = swerve(8.0, 20.0)
    here, rows = case.start.rows(case.scene), case.path.rows(case.scene)
    corridor = make_corridor(case, case.manoeuvres, case.obstacles, case.surface, case.start, VEHICLE, CONFIG)
    run = _Runner(case, corridor, here, rows, VEHICLE, CONFIG, OPTIONS)
    found = run.split(None, None, None)
    s, seen, rho = frenet_view(found.trajectory, rows, found.motion.s)
    program = run._program(found, s, seen, rho)

    # The lateral program's own model, about the motion itself and at the displaced speed, is the witness.
    step = 1e-4 * torch.randn(1, GRID.stages, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states, ends = [torch.zeros(1, 6, dtype=torch.float64)], []
    for t, p in enumerate(program.parent):
        before = states[p + 1]
        push = program.B[:, t, :, 0] * step[:, t, :1] + program.B[:, t, :, 2] * step[:, t, 1:]
        states.append((program.A[:, t] @ before[..., None])[..., 0] + push)
    for sign in (1, -1):
        z = found.z_along.clone()
        z[..., 3] += sign * step[..., 0]
        rate = found.z_across[..., 3] + sign * step[..., 1]
        motion = longitudinal_motion(z, here, rho, CONFIG)
        turned = found.z_across.clone()
        turned[..., 3] = rate
        held = torch.cat([here.kappa[:, None], torch.zeros(1, GRID.stages, dtype=torch.float64)], 1)
        for t, p in enumerate(GRID.parent):
            held[:, t + 1] = held[:, p + 1] + GRID.stage_dt[t] * rate[:, t]
        turned[..., 2] = held[:, 1:]
        kappa = lateral_state(turned, found.across).kappa
        driven = integrate(motion, kappa, case.ego, GRID.step)
        at, view, _ = frenet_view(driven, rows, s)
        fine = torch.stack([at, motion.v, motion.a, view.d, view.psi, view.kappa], -1)
        ends.append(GRID.at_stages(fine[:, :, GRID.node]))
    measured = (ends[0] - ends[1]) / 2
    predicted = torch.stack(states[1:], 1)
    early = (GRID.stage_time <= 4.0) & ~GRID.stage_tail  # the tail comes to rest, which is a kink
    error = (measured - predicted)[:, early].abs().amax((0, 1))
    size = predicted[:, early].abs().amax((0, 1))
    assert (error / size).tolist() == pytest.approx([0.0] * 6, abs=0.02)

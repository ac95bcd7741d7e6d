"""The planner on one page: path -> obstacles -> decisions -> convex programs -> choice -> certificate.

Everything runs for S scenes at once; from the decisions on, all R candidates of all scenes are one batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from planner.batch_plan import BatchPlan
from planner.certificate import SolvedProgram
from planner.config import PlannerConfig
from planner.decisions.candidates import CandidateSet, assemble
from planner.decisions.conflicts import conflict_bounds
from planner.decisions.contradictions import without_contradictions
from planner.decisions.manoeuvres import Manoeuvres, enumerate_manoeuvres
from planner.decisions.neighbour_lanes import neighbour_lanes
from planner.decisions.preference import candidate_costs
from planner.grid import Grid, make_grid
from planner.objects.obstacles import Obstacles, project_obstacles
from planner.path.reference_path import ReferencePath, build_reference_path
from planner.path.speed_profile import free_speed
from planner.path.surface import Start, Surface, start_state, usable_surface
from planner.programs import lateral, longitudinal
from planner.programs.corridor import make_corridor
from planner.programs.kinematics import frenet_view, integrate
from planner.programs.proposed_motion import beside_own_offset, beside_own_speed, of_candidates, proposed_reference
from planner.programs.tracking import TrackingReference
from planner.qp.layer import SolveReport, solve_differentiable
from planner.qp.solver import SolveOptions
from planner.result import PlanResult, PlanStatus
from planner.scene import Trajectory, VectorScene, VehicleParameters
from planner.sensitivity import replay_sensitivity

STANDING, DRIVING = 0.3, 1.0
"""m/s: slower is standing; who was seen faster takes part in traffic and will drive on, until it has stood for long."""
FIRM = "Only braking and steering as firmly as the tail may leaves a way."


@dataclass
class PlannerMemory:
    """What is carried from one cycle to the next. Discrete choices only; safety never depends on it.

    decision: text of the last preferred decision. standing_time: seconds each track has stood; who was seen driving
    starts below zero, by `Decisions.traffic_patience`. time_us: of the last scene.
    """

    decision: str = ""
    standing_time: dict[int, float] = field(default_factory=dict)
    time_us: int | None = None


class ConvexPlanner:
    """Plans single scenes, with a memory of its last decision, or batches of unrelated ones.

        planner = ConvexPlanner()
        result = planner.plan(scene)          # scene: VectorScene
        result.chosen.trajectory, result.chosen.tail, result.explanation

    Thread-compatible: use one instance per thread.
    """

    def __init__(self, config: PlannerConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config = config or PlannerConfig()
        self.vehicle = vehicle or VehicleParameters()
        self.config.horizon.validate()
        self.memory = PlannerMemory()

    def reset(self) -> None:
        """Forget the last decision; call between unrelated scenes."""
        self.memory = PlannerMemory()

    def plan(self, scene: VectorScene, deadline: float | None = None) -> PlanResult:
        """Plan one scene (no batch axis). Raises ValueError for a malformed scene.

        Never raises for a hard one: every candidate carries its status, and a scene without any solved candidate has
        no `chosen`. Where every candidate is infeasible, all are solved once more with the limits of the tail. deadline
        (s from the call): candidates not solved by then are OUT_OF_TIME; an unfinished iterate is never returned.
        """
        with torch.no_grad():
            return self._plan_one(scene, deadline)

    def plan_differentiable(self, scene: VectorScene) -> PlanResult:
        """As `plan`, with autograd history: gradients of trajectories and costs reach the scene's tensors.

        Discrete choices (which decisions exist, which is preferred) carry none.
        """
        return self._plan_one(scene, None)

    def plan_batch(self, scenes: VectorScene, memories: Sequence[PlannerMemory] | None = None) -> BatchPlan:
        """Plan S scenes (one batch axis) at once, with autograd history where it is enabled.

        The planner's own memory is neither used nor changed; memories: one per scene, if they are to count.
        Raises ValueError for a malformed batch.
        """
        scenes = scenes.validate()
        if len(scenes.batch_shape) != 1:
            raise ValueError(f"scenes: expected one batch axis, got {scenes.batch_shape}")
        count = scenes.batch_shape[0]
        memories = list(memories) if memories is not None else [PlannerMemory() for _ in range(count)]
        if len(memories) != count:
            raise ValueError(f"memories: expected {count}, got {len(memories)}")
        return plan_scenes(scenes, memories, self.config, self.vehicle)

    def _plan_one(self, scene: VectorScene, deadline: float | None) -> PlanResult:
        scene = scene.validate()
        if scene.batch_shape:
            raise ValueError(f"scene: expected a single scene, got batch axes {scene.batch_shape}")
        self._remember_standing(scene)
        memory = PlannerMemory(self.memory.decision, self.memory.standing_time)
        began, one, config = time.perf_counter(), scene.apply(lambda t: t[None]), self.config
        result = plan_scenes(one, [memory], config, self.vehicle, deadline).result(0)
        spent = time.perf_counter() - began
        if result.status is PlanStatus.INFEASIBLE and (deadline is None or spent < deadline):
            # What has come up cannot be met within the limits of ordinary driving: once more with those of the tail.
            left = None if deadline is None else deadline - spent
            firm = replace(config, limits=config.limits.firm())
            first, second = result, plan_scenes(one, [memory], firm, self.vehicle, left).result(0)
            if second.chosen is not None:
                second.explanation += f" {FIRM}"
                result, config = second, firm
            # Both attempts took their time, whichever is the answer.
            result.solve_time = first.solve_time + second.solve_time
            result.total_time = spent + second.total_time
        chosen = result.chosen
        self.memory.decision = chosen.decision if chosen else ""
        # The result comes as an argument: one that held itself would stay until a garbage collection.
        vehicle = self.vehicle
        result.replay = lambda own, track: replay_sensitivity(scene, memory, config, vehicle, own, track)
        return result

    def _remember_standing(self, scene: VectorScene) -> None:
        now = int(scene.ego.time_us)
        elapsed = 0.0 if self.memory.time_us is None else (now - self.memory.time_us) / 1e6
        if not 0.0 <= elapsed < 1.0:
            self.reset()
            elapsed = 0.0
        agents, before = scene.agents, self.memory.standing_time
        velocity, known = agents.velocity.detach().double().numpy(), agents.valid.numpy()
        stood: dict[int, float] = {}
        speeds = np.hypot(velocity[..., 0], velocity[..., 1])[known]
        for track, speed in zip(agents.track_id.numpy()[known].tolist(), speeds.tolist()):
            if speed < STANDING:
                stood[track] = before.get(track, 0.0) + elapsed
            elif speed > DRIVING or before.get(track, 0.0) < 0.0:
                stood[track] = -self.config.decisions.traffic_patience
        self.memory.standing_time = stood
        self.memory.time_us = now


def plan_scenes(
    scenes: VectorScene,
    memories: Sequence[PlannerMemory],
    config: PlannerConfig,
    vehicle: VehicleParameters,
    deadline: float | None = None,
    tracking: TrackingReference | None = None,
) -> BatchPlan:
    """The whole method for S validated scenes (one batch axis) and their memories.

    deadline: s from now. tracking ``[S, N]``: a motion to stay close to; by default the scenes' own learned reference.
    """
    began = time.perf_counter()
    scenes = scenes.double()
    grid = make_grid(config.horizon)

    # Path and obstacles in Frenet coordinates.
    path = build_reference_path(scenes.route, config.solver.threads)
    start = start_state(scenes, path)
    obstacles = project_obstacles(scenes, path, grid.node_time_from_now, config)

    # Decisions, each made convex.
    surface = usable_surface(path, start, vehicle, config)
    standing = [memory.standing_time for memory in memories]
    lanes = neighbour_lanes(scenes, path, obstacles, surface, start, vehicle, config)
    manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, standing, vehicle, config, lanes)
    conflicts = conflict_bounds(obstacles, manoeuvres, surface, start, vehicle, config)
    v_profile = free_speed(path, start, config, grid.node_time)
    preferred = [memory.decision for memory in memories]
    candidates = assemble(
        conflicts, manoeuvres, obstacles, start, v_profile, path.length - vehicle.front, preferred, vehicle, config
    )

    # Solve all that their limits leave possible, compare, certify.
    candidates, empty = without_contradictions(candidates, start, grid)
    by = None if deadline is None else began + deadline
    tracking = tracking or proposed_reference(scenes, path, config)
    solved = solve_candidates(
        scenes, path, start, candidates, manoeuvres, obstacles, surface, vehicle, config, by, tracking
    )
    cost = candidate_costs(
        solved.trajectory, path, candidates, obstacles, v_profile, preferred, vehicle, config, scenes.proposal
    )
    return BatchPlan(
        len(memories), candidates, solved.trajectory, solved.tail, cost, solved.programs, solved.reports, path,
        start.v, v_profile[:, -1], solved.solve_time, time.perf_counter() - began, empty,
    )  # fmt: skip


@dataclass
class SolvedCandidates:
    """trajectory, tail ``[R, F + 1]``; programs: longitudinal and lateral of the last pass; reports: of all solves;
    solve_time (s) inside the solver."""

    trajectory: Trajectory
    tail: Trajectory
    programs: tuple[SolvedProgram, SolvedProgram]
    reports: tuple[SolveReport, ...]
    solve_time: float


def solve_candidates(
    scenes: VectorScene,
    path: ReferencePath,
    start: Start,
    candidates: CandidateSet,
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    surface: Surface,
    vehicle: VehicleParameters,
    config: PlannerConfig,
    by: float | None = None,
    tracking: TrackingReference | None = None,
) -> SolvedCandidates:
    """Longitudinal, then lateral; every further pass linearises about what the last one would drive.

    by: `time.perf_counter()` value after which what is not solved is OUT_OF_TIME. tracking: see `plan_scenes`.
    """
    grid = make_grid(config.horizon)
    scene = candidates.scene
    rows, here = path.rows(scene), start.rows(scene)
    weights = cost_weights(scenes, config)
    weights = weights[scene] if weights.ndim == 2 else weights
    weights = manoeuvres.hurried(weights, scene)
    follow = None if tracking is None else of_candidates(tracking, scene, candidates.hold)
    beside = follow and beside_own_speed(follow, weights.expand(len(scene), -1), candidates.bounds)
    ego = torch.stack([scenes.ego.x, scenes.ego.y, scenes.ego.yaw, start.v, start.a, start.kappa], -1)[scene]
    rho = None  # straight along the path: as far along it as driven
    about = lateral.LateralState(*torch.zeros(3, len(scene), 2, len(grid.time), dtype=torch.float64))
    reports: list[SolveReport] = []

    def solve(problem):  # type: ignore[no-untyped-def]
        last = number == config.solver.passes - 1
        left = float("inf") if by is None else max(by - time.perf_counter(), 0.0)
        z, report = solve_differentiable(problem, _options(config, left, effort=int(last)))
        reports.append(report)
        return z

    corridor = make_corridor(candidates, manoeuvres, obstacles, surface, start, vehicle, config)
    for number in range(config.solver.passes):
        if rho is None or candidates.bounds.safe is not None:
            along = longitudinal.build_longitudinal(candidates.bounds, here, rho, weights, config, beside)
        else:
            along = longitudinal.with_progress(along, rho, config)
        motion = longitudinal.longitudinal_motion(solve(along), here, rho, config)
        bounds = corridor.bounds(motion)
        bend = rows.bend(motion.s - motion.v * grid.step / 2)
        aside = follow and beside_own_offset(follow, weights.expand(len(scene), -1), bounds)
        across = lateral.build_lateral(bounds, motion, bend, about, here, weights, config, vehicle, aside)
        state = lateral.lateral_state(solve(across.problem), across)
        driven = integrate(motion, state.kappa, ego, grid.step, config.solver.threads)
        if number < config.solver.passes - 1:
            _, seen, rho = frenet_view(driven, rows, motion.s)
            about = lateral.LateralState(seen.d.clamp(-6, 6), seen.psi.clamp(-1, 1), seen.kappa)
    programs = (
        _named(
            along,
            reports[-2],
            longitudinal.limit_rules(candidates.bounds),
            longitudinal.limit_ids(candidates.bounds, grid),
            grid,
        ),
        _named(across.problem, reports[-1], lateral.LIMIT_RULES, lateral.limit_ids(bounds, grid), grid),
    )
    spent = sum(report.solution.solve_time for report in reports)
    return SolvedCandidates(driven[:, 0], driven[:, 1], programs, tuple(reports), spent)


def cost_weights(scenes: VectorScene, config: PlannerConfig) -> Tensor:
    """Configured weights in the order of CostWeights: ``[W]``, or ``[S, W]`` with the learned factors of a proposal."""
    w = config.weights
    base = torch.tensor(
        [w.speed, w.acceleration, w.jerk, w.gap, w.offset, w.heading, w.curvature, w.curvature_rate],
        dtype=torch.float64,
    )
    proposal = scenes.proposal
    return base if proposal is None or proposal.cost_weight is None else base * proposal.cost_weight


def _options(config: PlannerConfig, deadline: float, effort: int) -> SolveOptions:
    s = config.solver
    return SolveOptions(
        backend=s.backend,
        tolerance=s.tolerance,
        threads=s.threads,
        deadline=deadline,
        smoothing=s.smoothing,
        effort=effort,
    )


def _named(problem, report: SolveReport, rules, ids, grid: Grid) -> SolvedProgram:  # type: ignore[no-untyped-def]
    return SolvedProgram(problem, report.solution, rules, grid.told_time, grid.in_tail, *ids)

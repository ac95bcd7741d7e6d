"""The planner on one page: path -> obstacles -> decisions -> convex programs -> choice -> certificate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from planner.certificate import RowNames, candidate_certificate, explain, row_ids
from planner.config import PlannerConfig
from planner.conflicts import conflict_bounds
from planner.corridor import lateral_bounds
from planner.decisions import CandidateSet, assemble
from planner.grid import make_grid
from planner.kinematics import frenet_view, integrate
from planner.lateral import LateralState, build_lateral, lateral_state
from planner.longitudinal import build_longitudinal, longitudinal_motion
from planner.manoeuvres import Manoeuvre, Start, Surface, enumerate_manoeuvres, usable_surface
from planner.obstacles import Obstacles, project_obstacles
from planner.preference import candidate_costs
from planner.qp.dense import QPSolution, SolveStatus
from planner.qp.dense_layer import solve_differentiable
from planner.reference_path import ReferencePath, build_reference_path
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import Trajectory, VectorScene, VehicleParameters
from planner.scene.frames import wrap_angle
from planner.speed_profile import free_speed


@dataclass
class PlannerMemory:
    """What is carried from one cycle to the next. Discrete choices only; safety never depends on it.

    decision: text of the last preferred decision. standing_time: seconds each track has stood.
    time_us: of the last scene.
    """

    decision: str = ""
    standing_time: dict[int, float] = field(default_factory=dict)
    time_us: int | None = None


@dataclass
class _Solved:
    """Everything about all candidates after the last pass; K candidates."""

    trajectory: Trajectory  # [K, 2, F + 1]
    status: list[SolveStatus]
    longitudinal: QPSolution
    lateral: QPSolution
    longitudinal_labels: list[RowNames]
    lateral_labels: list[RowNames]
    residuals: tuple[Any, Any]
    solve_time: float
    trusted: list[dict[str, Any]]


class ConvexPlanner:
    """Plans single scenes; keeps a memory of its last decision.

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

    def plan(self, scene: VectorScene) -> PlanResult:
        """Plan one scene (no batch axis). Raises ValueError for a malformed scene.

        Never raises for a hard one: every candidate carries its status, and a scene without any solved candidate has
        the status INFEASIBLE and no `chosen`.
        """
        with torch.no_grad():
            return self._plan(scene)

    def plan_differentiable(self, scene: VectorScene) -> PlanResult:
        """As `plan`, with autograd history: gradients of trajectories and costs reach the scene's tensors.

        Discrete choices (which decisions exist, which is preferred) carry none.
        """
        return self._plan(scene)

    def _plan(self, scene: VectorScene) -> PlanResult:
        began = time.perf_counter()
        scene = scene.validate().double()
        if scene.batch_shape:
            raise ValueError(f"scene: expected a single scene, got batch axes {scene.batch_shape}")
        self._remember_standing(scene)
        config, vehicle = self.config, self.vehicle

        # Path and obstacles in Frenet coordinates.
        path = build_reference_path(scene.route)
        start = _start(scene, path)
        grid = make_grid(config.horizon)
        node_time = torch.cat([torch.zeros(1, dtype=torch.float64), grid.node_time])
        obstacles = project_obstacles(scene, path, node_time, config)

        # Decisions, each made convex.
        surface = usable_surface(path, start, vehicle, config)
        manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, self.memory.standing_time, vehicle, config)
        conflicts = conflict_bounds(obstacles, manoeuvres, surface, start, vehicle, config)
        v_profile = free_speed(path, start, config, grid.node_time)
        candidates = assemble(
            conflicts, manoeuvres, obstacles, start, v_profile, path.length - vehicle.front, self.memory.decision,
            vehicle, config,
        )  # fmt: skip

        # Solve all, certify, put in order of preference.
        solved = self._solve(scene, path, start, candidates, manoeuvres, obstacles, surface)
        result = self._rank(scene, path, start, candidates, manoeuvres, obstacles, surface, solved, v_profile)
        result.total_time = time.perf_counter() - began
        result.solve_time = solved.solve_time
        chosen = result.chosen
        self.memory.decision = chosen.decision if chosen else ""
        return result

    def _solve(
        self,
        scene: VectorScene,
        path: ReferencePath,
        start: Start,
        candidates: CandidateSet,
        manoeuvres: list[Manoeuvre],
        obstacles: Obstacles,
        surface: Surface,
    ) -> _Solved:
        config, vehicle = self.config, self.vehicle
        grid = make_grid(config.horizon)
        k, fine = len(candidates.kind), len(grid.time)
        weights = _weights(scene, config)
        options = {"backend": config.solver.backend, "second_opinion": config.solver.second_opinion}
        # Longitudinal, then lateral; the second pass linearises about what the first one would drive.
        rho = torch.ones(k, 2, fine, dtype=torch.float64)
        about = LateralState(*torch.zeros(3, k, 2, fine, dtype=torch.float64))  # straight along the path
        ego = torch.stack([scene.ego.x, scene.ego.y, scene.ego.yaw, start.v, start.a, start.kappa])
        spent, reports = 0.0, []
        for number in range(config.solver.passes):
            last = number == config.solver.passes - 1
            lon_problem, lon_labels = build_longitudinal(
                candidates.bounds, start.s, start.v, start.a, rho, weights, config
            )
            jerk, lon_report = solve_differentiable(lon_problem, **options)
            motion = longitudinal_motion(jerk[:, : grid.inputs], start.s, start.v, start.a, rho, config)
            bounds = lateral_bounds(candidates, manoeuvres, obstacles, surface, motion, start, vehicle, config)
            s_mid = motion.s - motion.v * grid.step / 2
            bend = path.evaluate(s_mid)[2]
            lat_problem, lat_labels, affine = build_lateral(
                bounds, motion, bend, about, (start.d, start.psi, start.kappa), weights, config, vehicle
            )
            rate, lat_report = solve_differentiable(lat_problem, **options)
            state = lateral_state(rate, affine)
            trajectory = integrate(motion, state.kappa, ego, grid.step)
            spent += lon_report["solution"].solve_time + lat_report["solution"].solve_time
            reports += [lon_report, lat_report]
            if not last:
                _, about, rho = frenet_view(trajectory, path, motion.s)
                about = LateralState(about.d.clamp(-6, 6), about.psi.clamp(-1, 1), about.kappa)
        lon, lat = lon_report["solution"], lat_report["solution"]
        status = [a if a is not SolveStatus.SOLVED else b for a, b in zip(lon.status, lat.status)]
        return _Solved(
            trajectory, status, lon, lat,
            row_ids(lon_labels, candidates.bounds, grid), row_ids(lat_labels, bounds, grid),
            (lon_problem, lat_problem), spent, reports,
        )  # fmt: skip

    def _rank(
        self,
        scene: VectorScene,
        path: ReferencePath,
        start: Start,
        candidates: CandidateSet,
        manoeuvres: list[Manoeuvre],
        obstacles: Obstacles,
        surface: Surface,
        solved: _Solved,
        v_profile: Tensor,
    ) -> PlanResult:
        costs = candidate_costs(
            solved.trajectory[:, 0], path, candidates, obstacles, v_profile, self.memory.decision, self.vehicle,
            self.config,
        )  # fmt: skip
        out = []
        for i, status in enumerate(solved.status):
            candidate = Candidate(candidates.text[i], candidates.kind[i], candidates.duties[i], PlanStatus[status.name])
            if status is SolveStatus.SOLVED:
                candidate.cost = costs[i] if costs.requires_grad else float(costs[i])
                candidate.trajectory = solved.trajectory[i, 0]
                candidate.tail = solved.trajectory[i, 1]
            candidate_certificate(candidate, i, solved)
            out.append(candidate)
        out.sort(key=lambda c: (c.status is not PlanStatus.SOLVED, _plain(c.cost)))
        found = any(s is SolveStatus.SOLVED for s in solved.status)
        result = PlanResult(PlanStatus.SOLVED if found else PlanStatus.INFEASIBLE, out, path.knots.detach(), 0.0, 0.0)
        result.explanation = explain(result, _plain(start.v), _plain(v_profile[-1]))
        return result

    def _remember_standing(self, scene: VectorScene) -> None:
        now = int(scene.ego.time_us)
        elapsed = 0.0 if self.memory.time_us is None else (now - self.memory.time_us) / 1e6
        if not 0.0 <= elapsed < 1.0:
            self.reset()
            elapsed = 0.0
        speed = scene.agents.velocity.norm(dim=-1)
        still = {int(i) for i, v, ok in zip(scene.agents.track_id, speed, scene.agents.valid) if ok and v < 0.3}
        before = self.memory.standing_time
        self.memory.standing_time = {i: before.get(i, 0.0) + elapsed for i in still}
        self.memory.time_us = now


def _plain(value: Tensor | float | None) -> float:
    """A number without history; 0 for none."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value or 0.0)


def _start(scene: VectorScene, path: ReferencePath) -> Start:
    ego = scene.ego
    s, d, _ = path.project(torch.stack([ego.x, ego.y]))
    _, heading, bend = path.evaluate(s)
    return Start(s, d, wrap_angle(ego.yaw - heading), ego.curvature, ego.v.clamp(min=0), ego.a, bend)


def _weights(scene: VectorScene, config: PlannerConfig) -> Tensor:
    w = config.weights
    base = torch.tensor(
        [w.speed, w.acceleration, w.jerk, w.gap, w.offset, w.heading, w.curvature, w.curvature_rate],
        dtype=torch.float64,
    )
    proposal = scene.proposal
    return base if proposal is None or proposal.cost_weight is None else base * proposal.cost_weight

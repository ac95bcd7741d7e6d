"""Longitudinal and lateral motion planned together, by sequential linearisation about what the split found.

The split chooses the speed before it knows what steering it takes, so it misses swerves that need braking at the same
time: their lateral program is empty. Where it is, ever firmer braking is tried first; then a joint program over the
same tree, with states (s, v, a, d, psi, kappa), trades one for the other. Both only propose: a speed profile is handed
to the longitudinal program as a reference and the lateral program is solved along the motion that comes out. So
whatever is returned satisfies the same hard rows as any other plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import Obstacles
from planner.path.reference_path import ReferencePath
from planner.path.surface import Start, Surface
from planner.programs.corridor import Corridor, make_corridor
from planner.programs.kinematics import frenet_view, integrate
from planner.programs.lateral import (
    LateralBounds,
    LateralProgram,
    LateralState,
    build_lateral,
    circle_offsets,
    lateral_state,
)
from planner.programs.longitudinal import (
    LongitudinalBounds,
    LongitudinalMotion,
    build_longitudinal,
    longitudinal_motion,
)
from planner.programs.tracking import TrackingReference
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions, solve
from planner.scene import Trajectory, VehicleParameters

RAMP = 0.5
"""Metres sideways per metre driven by which a wall is felt before it begins, so that braking counts as giving way."""
FELT = (1.0, 2.0, 3.0, 4.0)
"""m ahead at which walls are looked for."""
TRUST_S, TRUST_D = 6.0, 2.0
"""m: how far one step may move a node."""
LADDER = (1.0, 2.0, 3.0, 4.0)
"""m/s^2: brakings tried where the lateral program is empty."""
SOFT = 1e-4
"""Compliance of the corridor's rows (m^2 per unit of cost) while the motion is searched for."""
CLOSENESS = (20.0, 20.0)
"""Weights of s (1/m^2) and v (s^2/m^2) with which the longitudinal program follows the joint one."""
LON, LAT = (0, 1, 2, 6, 7), (3, 4, 5, 8)
"""Where the entries of the two programs' z = (x, u) lie in the joint one's."""


@dataclass
class Case:
    """R decisions to plan jointly, rows of a `CandidateSet`, and what it was made from.

    scene, manoeuvre: whose and which. start, path, manoeuvres, obstacles, surface: of the scenes. weights: in the order
    of CostWeights, ``[R, W]`` or ``[W]``. ego: as `planner.programs.kinematics.integrate` takes it.
    """

    scene: Int[Tensor, " R"]
    manoeuvre: Int[Tensor, " R"]
    bounds: LongitudinalBounds
    start: Start
    path: ReferencePath
    manoeuvres: Manoeuvres
    obstacles: Obstacles
    surface: Surface
    weights: Tensor
    ego: Float[Tensor, "R 6"]


def rows_of(bounds: LongitudinalBounds, index: Int[Tensor, " K"]) -> LongitudinalBounds:
    """Some candidates' bounds; without safe distances."""
    rows: dict[str, Any] = {name: x[index] for name, x in vars(bounds).items() if isinstance(x, Tensor)}
    return LongitudinalBounds(**rows)


@dataclass
class Refined:
    """The motion found last, per decision. solved ``[R]``: both programs are, rows of the corridor hard.

    cost ``[R]``: of both programs at the configured weights, comparable with that of the split.
    """

    solved: Bool[Tensor, " R"]
    cost: Float[Tensor, " R"]
    trajectory: Trajectory
    motion: LongitudinalMotion
    state: LateralState


@dataclass
class _Pass:
    """One pair of solutions and what they make ego do; along: the longitudinal program at the configured weights."""

    along: StageProgram
    across: LateralProgram
    z_along: Tensor
    z_across: Tensor
    motion: LongitudinalMotion
    state: LateralState
    trajectory: Trajectory
    bounds: LateralBounds
    solved: Tensor


def refine(
    case: Case, vehicle: VehicleParameters, config: PlannerConfig, steps: int = 2, options: SolveOptions | None = None
) -> tuple[Refined, Refined]:
    """What the split finds in two passes, and what braking and `steps` joint linearisations make of it.

    Without gradients. A row that the split solves stays as it is unless the joint motion is solved too and costs less.
    """
    options = options or SolveOptions()
    with torch.no_grad():
        corridor = make_corridor(case, case.manoeuvres, case.obstacles, case.surface, case.start, vehicle, config)
        here, path = case.start.rows(case.scene), case.path.rows(case.scene)
        run = _Runner(case, corridor, here, path, vehicle, config, options)
        found = run.split(None, None, None)
        _, seen, rho = frenet_view(found.trajectory, path, found.motion.s)
        found = run.split(rho, _bounded(seen), None)
        split = best = run.refined(found)
        found = run.braked(found)
        best = _better(best, run.refined(found))
        for _ in range(steps):
            s, seen, rho = frenet_view(found.trajectory, path, found.motion.s)
            wish = run.joint(found, s, seen, rho)
            found = run.split(rho, _bounded(seen), wish)
            best = _better(best, run.refined(found))
    return split, best


class _Runner:
    """What stays the same from step to step."""

    def __init__(
        self,
        case: Case,
        corridor: Corridor,
        here: Start,
        path: ReferencePath,
        vehicle: VehicleParameters,
        config: PlannerConfig,
        options: SolveOptions,
    ) -> None:
        self.case, self.corridor, self.here, self.path = case, corridor, here, path
        self.vehicle, self.config, self.options = vehicle, config, options
        self.grid = make_grid(config.horizon)

    def split(self, rho: Tensor | None, about: LateralState | None, wish: TrackingReference | None) -> _Pass:
        """Longitudinal, then lateral. Where the lateral program is empty, what it would do with soft walls."""
        case, config, here = self.case, self.config, self.here
        along = build_longitudinal(case.bounds, here, rho, case.weights, config)
        asked = along if wish is None else build_longitudinal(case.bounds, here, rho, case.weights, config, wish)
        speed = solve(asked, self.options)
        motion = longitudinal_motion(speed.z, here, rho, config)
        bounds = self.corridor.bounds(motion)
        bend = self.path.bend(motion.s - motion.v * self.grid.step / 2)
        across = build_lateral(bounds, motion, bend, about, here, case.weights, config, self.vehicle)
        steer = solve(across.problem, self.options)
        z = steer.z
        if not bool(steer.solved.all()):
            soft = solve(replace(across.problem, compliance=torch.full_like(across.problem.lower, SOFT)), self.options)
            z = torch.where(steer.solved[:, None, None], z, soft.z)
        state = lateral_state(z, across)
        trajectory = integrate(motion, state.kappa, case.ego, self.grid.step)
        solved = speed.solved & steer.solved
        return _Pass(along, across, speed.z, z, motion, state, trajectory, bounds, solved)

    def braked(self, found: _Pass) -> _Pass:
        """The same with the gentlest braking of the ladder that leaves room to steer, where there was none."""
        t, v0, node = self.grid.node_time, self.here.v[:, None], self.grid.node
        s, v, done = found.motion.s[:, 0, node], found.motion.v[:, 0, node], found.solved
        for braking in LADDER:
            if bool(done.all()):
                break
            until = torch.minimum(t, v0 / braking)
            braked = self.here.s[:, None] + v0 * until - braking / 2 * until**2
            s = torch.where(done[:, None], s, braked)
            v = torch.where(done[:, None], v, v0 - braking * until)
            rho, about = None, None
            for _ in range(2):
                found = self.split(rho, about, self._towards(s, v))
                _, seen, rho = frenet_view(found.trajectory, self.path, found.motion.s)
                about = _bounded(seen)
            done = done | found.solved
        return found

    def _towards(self, s: Tensor, v: Tensor) -> TrackingReference:
        weights, none = [torch.full_like(self.here.s, w) for w in CLOSENESS], torch.zeros_like(s)
        return TrackingReference(s, v, none, none, weights[0], weights[1], none, none, comfort=0.1)

    def refined(self, found: _Pass) -> Refined:
        cost = _cost(found.along, found.z_along) + _cost(found.across.problem, found.z_across)
        return Refined(found.solved, cost, found.trajectory, found.motion, found.state)

    def joint(self, found: _Pass, s: Tensor, seen: LateralState, rho: Tensor) -> TrackingReference:
        """The speed profile of the joint program, linearised about what was found."""
        grid = self.grid
        program = self._program(found, s, seen, rho)
        z = solve(program, self.options)
        nodes = slice(0, len(grid.node))
        old_s, old_v = s[:, 0, grid.node], found.motion.v[:, 0, grid.node]
        use = z.solved[:, None]
        s_new = torch.where(use, z.z[:, nodes, 0] + self.here.s[:, None], old_s)
        v_new = torch.where(use, z.z[:, nodes, 1].clamp(min=0), old_v)
        return self._towards(s_new, v_new)

    def _program(self, found: _Pass, s: Tensor, seen: LateralState, rho: Tensor) -> StageProgram:
        grid, along, across = self.grid, found.along, found.across.problem
        count, n = s.shape[0], grid.stages
        driven = s - self.here.s[:, None, None]
        fine = torch.stack([driven, found.motion.v, found.motion.a, seen.d, seen.psi, seen.kappa], -1)
        x0 = torch.cat([along.x0, across.x0], 1)
        nodes = grid.at_stages(fine[:, :, grid.node])  # [R, n, 6]
        inputs = torch.cat([found.z_along[..., 3:], found.z_across[..., 3:]], -1)
        A, B = self._dynamics(fine, x0, rho)
        before = torch.cat([nodes, x0[:, None]], 1)[:, torch.tensor(grid.parent)]
        c = nodes - (A @ before[..., None] + B @ inputs[..., None])[..., 0]

        H, g = torch.zeros(count, n, 9, 9, dtype=s.dtype), torch.zeros(count, n, 9, dtype=s.dtype)
        lower, upper = torch.full_like(g, -torch.inf), torch.full_like(g, torch.inf)
        for place, part in ((torch.tensor(LON), along), (torch.tensor(LAT), across)):
            H[:, :, place[:, None], place], g[:, :, place] = part.H, part.g
            lower[:, :, place], upper[:, :, place] = part.z_lower, part.z_upper
        for i, reach in ((0, TRUST_S), (3, TRUST_D)):
            lower[..., i] = torch.maximum(lower[..., i], torch.minimum(nodes[..., i] - reach, upper[..., i]))
            upper[..., i] = torch.minimum(upper[..., i], torch.maximum(nodes[..., i] + reach, lower[..., i]))
        gap = torch.zeros(count, n, along.C.shape[2], 9, dtype=s.dtype)
        gap[..., list(LON)] = along.C
        rows = [
            (gap, along.lower, along.upper, along.compliance),
            *self._walls(found, nodes),
            self._grip(nodes, across),
        ]
        lower[..., 5], upper[..., 5] = -0.95 * self.vehicle.curvature_max, 0.95 * self.vehicle.curvature_max
        C, low, high, compliance = (torch.cat(parts, 2) for parts in zip(*rows))
        return StageProgram(grid.parent, x0, A, B, c, H, g, lower, upper, C, low, high, compliance)

    def _walls(self, found: _Pass, nodes: Tensor) -> list[tuple[Tensor, ...]]:
        """Rows of the corridor on both sides; before a wall begins they let s give way too."""
        grid = self.grid
        hard = (grid.stage_time <= self.config.horizon.lateral_hard + 1e-9)[:, None]
        bow = found.across.problem.lower - grid.at_stages(found.bounds.lower)  # infinite where rows are not hard
        bow = torch.where(hard, bow, 0.0)
        offsets = circle_offsets(self.vehicle)
        out: list[tuple[Tensor, ...]] = []
        for sign, name in ((1.0, "lower"), (-1.0, "upper")):
            floor = sign * grid.at_stages(getattr(found.bounds, name))
            slope, now = torch.zeros_like(floor), floor
            for reach in FELT:
                later, before = (self._floor(found, name, sign, at) for at in (reach, -reach))
                slope = torch.maximum(slope, ((now - before) / reach).clamp(0, RAMP))
                slope = torch.where(later - RAMP * reach > floor, RAMP, slope)
                floor = torch.maximum(floor, later - RAMP * reach)
            C = torch.zeros(*floor.shape, 9, dtype=floor.dtype)
            C[..., 3], C[..., 4], C[..., 0] = sign, sign * offsets, -slope
            low = torch.where(hard, floor + sign * bow - slope * nodes[..., :1], -torch.inf)
            out.append((C, low, torch.full_like(low, torch.inf), torch.full_like(low, SOFT)))
        return out

    def _floor(self, found: _Pass, name: str, sign: float, ahead: float) -> Tensor:
        bounds = self.corridor.bounds(replace(found.motion, s=found.motion.s + ahead))
        return sign * self.grid.at_stages(getattr(bounds, name))

    def _grip(self, nodes: Tensor, across: StageProgram) -> tuple[Tensor, ...]:
        """kappa v^2 within what the tyres hold, to first order in both; soft, for the lateral program checks it."""
        v, kappa = nodes[..., 1].clamp(min=0.5), nodes[..., 5]
        C = torch.zeros(*v.shape, 1, 9, dtype=v.dtype)
        C[..., 0, 1], C[..., 0, 5] = 2 * v * kappa, v**2
        most = across.z_upper[..., 2] * v**2
        middle = 2 * v**2 * kappa
        low, high = (middle - most)[..., None], (middle + most)[..., None]
        return C, low, high, torch.full_like(low, SOFT)

    def _dynamics(self, fine: Tensor, x0: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """A ``[R, n, 6, 6]`` and B ``[R, n, 6, 3]``: third-order fine steps about the middle of each, multiplied up.

        The path's curvature counts as constant over a step.
        """
        grid, h = self.grid, self.grid.step
        begin = x0[:, None, None].expand(-1, 2, 1, -1)
        middle = (torch.cat([begin, fine[:, :, :-1]], 2) + fine) / 2
        s, v, _, d, psi, kappa = middle.unbind(-1)
        bend = self.path.bend(s + self.here.s[:, None, None])
        cos, sin, inverse = torch.cos(psi), torch.sin(psi), 1 / (1 - bend * d).clamp(min=0.2)
        g, g_d, g_psi = cos * inverse, cos * bend * inverse**2, -sin * inverse
        F = torch.zeros(*s.shape, 6, 6, dtype=s.dtype)
        F[..., 0, 1], F[..., 0, 3], F[..., 0, 4] = g, v * g_d, v * g_psi
        F[..., 1, 2] = 1.0
        F[..., 3, 1], F[..., 3, 4] = sin, v * cos
        F[..., 4, 1], F[..., 4, 3], F[..., 4, 4], F[..., 4, 5] = (
            kappa - bend * g, -bend * v * g_d, -bend * v * g_psi, v,
        )  # fmt: skip
        eye = torch.eye(6, dtype=s.dtype)
        K = h * eye + h**2 / 2 * F + h**3 / 6 * (F @ F)
        step = torch.cat([eye + K @ F, K[..., [2, 5]]], -1)  # [R, 2, F, 6, 8]
        whole, first = [], 0
        for _, number, length in grid.groups:
            part = step[:, :, first : first + number * length].unflatten(2, (number, length))
            total = part[:, :, :, 0]
            for j in range(1, length):
                through = part[:, :, :, j, :, :6] @ total
                total = torch.cat([through[..., :6], through[..., 6:] + part[:, :, :, j, :, 6:]], -1)
            whole.append(total)
            first += number * length
        stages = grid.at_stages(torch.cat(whole, 2))
        B = torch.zeros(*stages.shape[:2], 6, 3, dtype=s.dtype)
        B[..., 0], B[..., 2] = stages[..., 6], stages[..., 7]
        return stages[..., :6].contiguous(), B


def _bounded(state: LateralState) -> LateralState:
    return LateralState(state.d.clamp(-6, 6), state.psi.clamp(-1, 1), state.kappa)


def _cost(program: StageProgram, z: Tensor) -> Float[Tensor, " R"]:
    quadratic = (z[..., None, :] @ program.H @ z[..., None])[..., 0, 0] / 2
    return (quadratic + (program.g * z).sum(-1)).sum(1)


def _better(first: Refined, second: Refined) -> Refined:
    use = second.solved & (~first.solved | (second.cost < first.cost))

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(use.reshape(-1, *([1] * (a.ndim - 1))), b, a)

    def merge(a, b):  # type: ignore[no-untyped-def]
        return type(a)(**{name: pick(x, getattr(b, name)) for name, x in vars(a).items()})

    return Refined(
        pick(first.solved, second.solved), pick(first.cost, second.cost), merge(first.trajectory, second.trajectory),
        merge(first.motion, second.motion), merge(first.state, second.state),
    )  # fmt: skip

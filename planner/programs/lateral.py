"""The lateral program: offset, heading error and curvature, curvature rate as input.

With the speed profile known, the motion against the path,

    d' = v sin(psi),   psi' = v kappa - v kappa_path cos(psi) / (1 - kappa_path d),   kappa' = u,

is linear in (d, psi, kappa) after linearisation about the last pass, and time-varying only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled.stage import Tensors, apply, workers
from planner.config import PlannerConfig
from planner.grid import Grid, make_grid
from planner.path.surface import Start
from planner.programs.lateral_dynamics import SHARPEST, fine_steps, roll_out, whole_stages
from planner.programs.longitudinal import LongitudinalMotion
from planner.programs.tracking import TrackingReference, per_node
from planner.qp.problem import StageProgram
from planner.scene import VehicleParameters

CIRCLES = 5
LATERAL_JERK = 6.0
"""m/s^3: what changing the curvature may cause at speed."""
SLOWEST_RATE = 0.01
"""1/(m s): no limit on the curvature rate is below."""
LIMIT_RULES = ("", "heading", "curvature", "curvature rate", *("corridor",) * CIRCLES)
"""Rules by limit: bounds on d (none), psi, kappa and the curvature rate, then one corridor row per circle."""
D, PSI, KAPPA, RATE = range(4)


@dataclass
class LateralBounds:
    """What the decisions ask of the lateral motion. R candidates, 2 branches, N nodes, C circles.

    lower, upper ``[R, 2, N, C]`` m: interval for the offset of the axis point at each circle, half the width and
    margins already taken off; infinite where a row is not wanted. lower_id, upper_id: track id that sets
    them, -1 the map.
    d_ref ``[R, 2, N]`` m, slope_ref ``[R, 2, N]`` (rad): offset and heading error to aim for.
    """

    lower: Float[Tensor, "R 2 N C"]
    upper: Float[Tensor, "R 2 N C"]
    lower_id: Int[Tensor, "R 2 N C"]
    upper_id: Int[Tensor, "R 2 N C"]
    d_ref: Float[Tensor, "R 2 N"]
    slope_ref: Float[Tensor, "R 2 N"]


@dataclass
class LateralState:
    """Linearisation point or solution at the fine times ``[R, 2, F]``: d (m), psi (rad), kappa (1/m)."""

    d: Float[Tensor, "R 2 F"]
    psi: Float[Tensor, "R 2 F"]
    kappa: Float[Tensor, "R 2 F"]


@dataclass
class LateralProgram:
    """The programs and what leads from their solution to the fine times.

    steps: of `planner.programs.lateral_dynamics.fine_steps`. threads: for the way back to the fine times.
    """

    problem: StageProgram
    steps: Float[Tensor, "R 2 5 2 F"]
    grid: Grid
    threads: int = 1


@lru_cache(maxsize=8)
def circle_offsets(vehicle: VehicleParameters) -> Float[Tensor, " C"]:
    """Distances (m) of the circle centres ahead of the rear axle, evenly spread over the length."""
    i = torch.arange(CIRCLES, dtype=torch.float64)
    return vehicle.rear_axle_to_center + ((2 * i + 1 - CIRCLES) / (2 * CIRCLES)) * vehicle.length


def build_lateral(
    bounds: LateralBounds,
    motion: LongitudinalMotion,
    path_curvature: Float[Tensor, "R 2 F"],
    about: LateralState | None,
    start: Start,
    weights: Float[Tensor, "R W"],
    config: PlannerConfig,
    vehicle: VehicleParameters,
    reference: TrackingReference | None = None,
) -> LateralProgram:
    """The programs of all R candidates: states (d, psi, kappa), input curvature rate.

    path_curvature: at the middle of the fine steps. about: None for straight along the path. start: per candidate
    ``[R]``. weights: in the order of CostWeights, ``[R, W]`` or, shared by all, ``[W]``. reference: a proposal to stay
    close to instead of d_ref and slope_ref.
    """
    grid, fixed = make_grid(config.horizon), _constants(config, vehicle)
    count, n = motion.v.shape[0], grid.stages
    zero = fixed.zero.expand(motion.v.shape)
    linearised = (zero, zero) if about is None else (about.d, about.psi)
    own = weights.expand(count, -1)[:, 4:8]
    proposal: Tensors = (None,) * 4
    if reference is not None:
        weight = (per_node(x, reference.d) for x in (reference.weight_d, reference.weight_psi))
        proposal = (reference.d, reference.psi, *weight)
    stage = _Program(config, vehicle, 1.0 if reference is None else reference.comfort)
    build = stage.plain if _BUILD is None else lambda *inputs: apply(stage, *inputs)
    x0, A, B, c, H, g, z_lower, z_upper, lower, upper, steps = build(
        motion.v, motion.a, motion.jerk, path_curvature, *linearised, start.d, start.psi, start.kappa,
        bounds.lower, bounds.upper, bounds.d_ref, bounds.slope_ref, own, *proposal,
    )  # fmt: skip
    C, hard = (fixed.rows.expand(count, n, CIRCLES, 4), fixed.zero.expand(count, n, CIRCLES))
    problem = StageProgram(grid.parent, x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, hard)
    return LateralProgram(problem, steps, grid, config.solver.threads)


def limit_ids(bounds: LateralBounds, grid: Grid) -> tuple[Int[Tensor, "R n L"], Int[Tensor, "R n L"]]:
    """Track ids behind the lower and the upper side of every limit, -1 the map or nobody."""
    out = []
    for ids in (bounds.lower_id, bounds.upper_id):
        nobody = torch.full((len(ids), grid.stages, 4), -1, dtype=torch.int64, device=ids.device)
        out.append(torch.cat([nobody, grid.at_stages(ids)], -1))
    return out[0], out[1]


def lateral_state(z: Float[Tensor, "R n 4"], program: LateralProgram) -> LateralState:
    """States at the fine times of a solution: from the begin of each interval through its fine steps."""
    if _STATE is None:
        return _state_plain(z, program)
    x0, steps = program.problem.x0, program.steps
    return LateralState(*apply(_State(program.grid, program.threads), z, x0, steps))


def _state_plain(z: Tensor, program: LateralProgram) -> LateralState:
    grid = program.grid
    begins = torch.cat([program.problem.x0[:, None], z[..., :3]], 1)[:, grid.interval_before]
    rate = z[..., RATE][:, grid.interval_stage]
    d, psi = roll_out(program.steps, begins[..., D], begins[..., PSI], begins[..., KAPPA], rate, grid)
    fine = grid.interval_of_fine
    return LateralState(d, psi, begins[..., KAPPA][..., fine] + rate[..., fine] * grid.since)


class _Program:
    """The data of the programs: `plain` is the definition, `forward` and `backward` are compiled.

    A `planner.compiled.stage.Stage`. comfort: `TrackingReference.comfort`.
    """

    def __init__(self, config: PlannerConfig, vehicle: VehicleParameters, comfort: float) -> None:
        self.config, self.vehicle, self.comfort = config, vehicle, comfort
        self.grid, self.fixed = make_grid(config.horizon), _constants(config, vehicle)

    def plain(
        self, v: Tensor, a: Tensor, jerk: Tensor, bend: Tensor, about_d: Tensor, about_psi: Tensor,
        d0: Tensor, psi0: Tensor, kappa0: Tensor, lower: Tensor, upper: Tensor, d_ref: Tensor, slope_ref: Tensor,
        weights: Tensor, *proposal: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """x0, A, B, c, H, g, z_lower, z_upper, lower, upper of a `StageProgram`, and the fine steps.

        weights ``[R, 4]``. proposal: d, psi ``[R, N]`` and their weights, or None.
        """
        grid, fixed, limits = self.grid, self.fixed, self.config.limits
        steps = fine_steps((v, a, jerk), bend, (about_d, about_psi), (d0, psi0), grid)
        A, B, c = whole_stages(steps, grid).split([3, 1, 1], -1)
        speed, speed_first = (v.flatten(1)[:, i].clamp(min=0) for i in (grid.stage_last, grid.stage_first))
        a, bend = (x.flatten(1)[:, grid.stage_last] for x in (a, bend))

        # Curvature and its rate cost what the passengers feel: lateral acceleration and jerk, plus a floor at low
        # speed.
        own = weights[:, :, None] * fixed.scale
        felt, felt_first = speed**4 / 256 + 1, speed_first**4 / 256 + 1
        diagonal = [own[:, 0], own[:, 1], own[:, 2] * felt * 0.02, own[:, 3] * felt_first]
        aim = [grid.at_stages(d_ref), grid.at_stages(slope_ref), bend, torch.zeros_like(bend)]
        if proposal[0] is not None:
            nodes = len(grid.node)
            for i in (0, 1):
                wish, weight = proposal[i], proposal[2 + i]
                diagonal[i] = torch.cat([weight * grid.node_dt, diagonal[i][:, nodes:]], 1)
                aim[i] = torch.cat([wish, aim[i][:, nodes:]], 1)
            factor = grid.by_branch(self.comfort, 1.0)
            diagonal[2:] = [x * factor for x in diagonal[2:]]
        H, g = torch.diag_embed(torch.stack(diagonal, -1)), -torch.stack(diagonal, -1) * torch.stack(aim, -1)

        # Bounds on (d, psi, kappa, rate). A start outside may come back, the curvature at three quarters of the rate.
        braking = torch.minimum(torch.maximum(a, -fixed.grip), fixed.grip)
        slow = 1 / speed.clamp(min=0.5)
        most = torch.minimum((fixed.grip**2 - (braking / 2) ** 2).sqrt() * slow * slow, limits.yaw_rate_max * slow)
        back = kappa0.abs()[:, None] - 0.75 * self._rate_limit(speed) * grid.stage_time
        curvature = torch.maximum(most.clamp(max=0.95 * self.vehicle.curvature_max), back)
        heading = psi0.abs()[:, None] + fixed.heading
        none = torch.full_like(a, torch.inf)
        z_upper = torch.stack([none, heading, curvature, self._rate_limit(speed_first)], -1)

        # Of d + offset * psi at every circle, whose place bows off the path's tangent; none where rows are not hard.
        bow, soft = bend[..., None] * fixed.half_square, fixed.soft[:, None]
        lower, upper = grid.at_stages(lower) + bow - soft, grid.at_stages(upper) + bow + soft
        x0 = torch.stack([d0, psi0, kappa0], -1)
        return x0, A, B, c[..., 0], H, g, -z_upper, z_upper, lower, upper, steps

    def _rate_limit(self, v: Tensor) -> Tensor:
        """Largest curvature rate, 1/(m s): steering actuator at low speed, yaw acceleration and lateral jerk above."""
        slow = 1 / v.clamp(min=0.5)
        soft = torch.minimum(self.config.limits.yaw_acceleration_max * slow, LATERAL_JERK * slow * slow)
        return soft.clamp(max=0.9 * self.vehicle.curvature_rate_max).clamp(min=SLOWEST_RATE)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        count, n, fine = len(inputs[0]), self.grid.stages, len(self.grid.time)
        shapes = ((3,), (n, 3, 3), (n, 3, 1), (n, 3), (n, 4, 4), (n, 4), (n, 4), (n, 4), (n, CIRCLES), (n, CIRCLES),
                  (2, 5, 2, fine))  # fmt: skip
        outputs = tuple(torch.empty(count, *shape, dtype=torch.float64) for shape in shapes)
        assert _BUILD is not None
        _BUILD(*self._constants(), *inputs, *outputs, *self._sizes(count, 4.0))
        return outputs

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        found = tuple(None if x is None else torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        assert _BUILD_ADJOINT is not None
        _BUILD_ADJOINT(*self._constants(), *inputs, outputs[-1], *gradients, *found, *self._sizes(len(inputs[0]), 8.0))
        return found

    def _constants(self) -> tuple[Tensor, ...]:
        settings = _settings(self.config, self.vehicle, self.comfort)
        return self.grid.fine_per_interval, settings, self.fixed.at_stage, self.fixed.half_square

    def _sizes(self, count: int, microseconds: float) -> tuple[int, ...]:
        threads = workers(count, self.config.solver.threads, microseconds)
        return count, len(self.grid.node), self.grid.stages, len(self.grid.time), CIRCLES, threads


class _State:
    """`_state_plain`, compiled; a `planner.compiled.stage.Stage`."""

    def __init__(self, grid: Grid, threads: int) -> None:
        self.grid, self.threads = grid, threads

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        count, fine = len(inputs[0]), len(self.grid.time)
        outputs = tuple(torch.empty(3, count, 2, fine, dtype=torch.float64).unbind(0))
        assert _STATE is not None
        _STATE(self.grid.step, self.grid.fine_per_interval, *inputs, *outputs, *self._sizes(count))
        return outputs

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        z, x0, steps = inputs
        found = torch.zeros_like(z), torch.zeros_like(x0), torch.empty_like(steps)
        assert _STATE_ADJOINT is not None
        _STATE_ADJOINT(
            self.grid.step, self.grid.fine_per_interval, *inputs, *outputs[:2], *gradients, *found, *self._sizes(len(z))
        )
        return found

    def _sizes(self, count: int) -> tuple[int, ...]:
        grid = self.grid
        return count, len(grid.node), grid.stages, len(grid.time), workers(count, self.threads, 1.0)


_BUILD = compiled.kernel("dds_lateral_program", "ITTT TTTTTT TTT TT TT T TTTT RRRRRRRRRRR nnnnnn")
_BUILD_ADJOINT = compiled.kernel(
    "dds_lateral_program_adjoint", "ITTT TTTTTT TTT TT TT T TTTT T TTTTTTTTTTT RRRRRR RRR RR RR R RRRR nnnnnn"
)
_STATE = compiled.kernel("dds_lateral_state", "f I TTT RRR nnnnn")
_STATE_ADJOINT = compiled.kernel("dds_lateral_state_adjoint", "f I TTT TT TTT RRR nnnnn")


@dataclass(frozen=True)
class _Constants:
    """By stage ``[n]``.

    scale: durations times the branch's weight. heading (rad): limit up to `lateral_hard`, then infinite. grip m/s^2.
    soft: 0 where corridor rows are hard, else infinite. at_stage ``[n, 7]``: these for the compiled version.
    half_square ``[C]`` m^2: of the circles' offsets, halved. rows ``[C, 4]``.
    """

    scale: Tensor
    heading: Tensor
    grip: Tensor
    soft: Tensor
    at_stage: Tensor
    half_square: Tensor
    rows: Tensor
    zero: Tensor


@lru_cache(maxsize=8)
def _settings(config: PlannerConfig, vehicle: VehicleParameters, comfort: float) -> Tensor:
    """What the compiled version reads besides."""
    limits = config.limits
    return torch.tensor(
        [
            make_grid(config.horizon).step, SHARPEST, limits.yaw_rate_max, 0.95 * vehicle.curvature_max,
            limits.yaw_acceleration_max, LATERAL_JERK, 0.9 * vehicle.curvature_rate_max, SLOWEST_RATE, comfort,
        ],
        dtype=torch.float64,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _constants(config: PlannerConfig, vehicle: VehicleParameters) -> _Constants:
    grid, limits = make_grid(config.horizon), config.limits
    offsets = circle_offsets(vehicle)
    hard = grid.stage_time <= config.horizon.lateral_hard + 1e-9
    rows = torch.zeros(CIRCLES, 4, dtype=torch.float64)
    rows[:, D], rows[:, PSI] = 1.0, offsets
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    scale, soft = grid.stage_dt * grid.by_branch(1.0, 0.1), torch.where(hard, 0.0, inf)
    heading = torch.where(hard, limits.heading_error_max, inf)
    grip = grid.by_branch(limits.lateral_acceleration_max, limits.tail_lateral_acceleration_max)
    columns = [scale, grid.stage_tail.double(), grid.stage_dt, grid.stage_time, heading, grip, soft]
    zero = torch.zeros(1, dtype=torch.float64)
    return _Constants(scale, heading, grip, soft, torch.stack(columns, 1), offsets**2 / 2, rows, zero)

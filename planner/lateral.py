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

from planner.arrays import Constants, library
from planner.config import PlannerConfig
from planner.grid import Grid, make_grid
from planner.lateral_dynamics import roll_out, stage_dynamics
from planner.longitudinal import LongitudinalMotion
from planner.qp.problem import StageProgram
from planner.scene import VehicleParameters
from planner.surface import Start
from planner.tracking import TrackingReference, per_node, tensors

CIRCLES = 5
LATERAL_JERK = 6.0
"""m/s^3: what changing the curvature may cause at speed."""
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

    steps: fine steps of `planner.lateral_dynamics.stage_dynamics`.
    """

    problem: StageProgram
    steps: Float[Tensor, "2 5 2 F R"]
    grid: Grid


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
    driven = (motion.v, motion.a, motion.jerk)
    stages, steps = stage_dynamics(driven, path_curvature, linearised, (start.d, start.psi), grid)
    A, B, c = stages.split([3, 1, 1], -1)

    xp = library(motion.v, path_curvature, bounds.lower, bounds.d_ref, start.psi, weights, *tensors(reference))
    nodes = _at_nodes(xp, motion, path_curvature, grid, fixed.of(xp))
    H, g = _cost(xp, nodes, bounds, weights, reference, grid, fixed.of(xp))
    z_lower, z_upper = _limits(xp, nodes, start, config, vehicle, fixed.of(xp))
    lower, upper = _corridor_limits(xp, nodes, bounds, grid, fixed.of(xp))
    C, hard = (fixed.rows.expand(count, n, CIRCLES, 4), fixed.zero.expand(count, n, CIRCLES))
    x0 = torch.stack([start.d, start.psi, start.kappa], -1)
    problem = StageProgram(grid.parent, x0, A, B, c[..., 0], H, g, z_lower, z_upper, C, lower, upper, hard)
    return LateralProgram(problem, steps, grid)


def limit_ids(bounds: LateralBounds, grid: Grid) -> tuple[Int[Tensor, "R n L"], Int[Tensor, "R n L"]]:
    """Track ids behind the lower and the upper side of every limit, -1 the map or nobody."""
    out = []
    for ids in (bounds.lower_id, bounds.upper_id):
        nobody = torch.full((len(ids), grid.stages, 4), -1, dtype=torch.int64, device=ids.device)
        out.append(torch.cat([nobody, grid.at_stages(ids)], -1))
    return out[0], out[1]


def lateral_state(z: Float[Tensor, "R n 4"], program: LateralProgram) -> LateralState:
    """States at the fine times of a solution: from the begin of each interval through its fine steps."""
    grid = program.grid
    x0 = program.problem.x0
    xp = library(z, x0, program.steps)
    begins = xp.concat([xp.of(x0)[:, None], xp.of(z)[..., :3]], 1)
    interval = xp.of(grid.interval_before), xp.of(grid.interval_stage)
    d, psi, kappa = (xp.pick(begins[..., i], interval[0]) for i in (D, PSI, KAPPA))
    rate = xp.pick(xp.of(z)[..., RATE], interval[1])
    begin = [xp.tensor(x) for x in (d, psi, kappa, rate)]
    d, psi = roll_out(program.steps, begin[0], begin[1], begin[2], begin[3], grid).unbind(0)
    fine = xp.of(grid.interval_of_fine)
    bent = kappa[..., fine] + rate[..., fine] * xp.of(grid.since)
    return LateralState(d, psi, xp.tensor(bent))


@dataclass
class _Nodes:
    """v (m/s, >= 0), a (m/s^2) and the path's curvature (1/m) at the stages' nodes ``[R, n]``.

    v_first: v after the first fine step of every stage. grow, grow_first: what curvature and its rate cost at these
    speeds, relative to standstill.
    """

    v: Any
    a: Any
    bend: Any
    v_first: Any
    grow: Any
    grow_first: Any


def _at_nodes(xp: Any, motion: LongitudinalMotion, path_curvature: Tensor, grid: Grid, fixed: Any) -> _Nodes:
    last, n = fixed.last, grid.stages
    v = xp.at_least(xp.pick(xp.of(motion.v), fixed.last_and_first), 0.0)
    # Curvature and its rate cost what the passengers feel: lateral acceleration and jerk, plus a floor at low speed.
    square = v * v
    grow = square * square * (1 / 256.0) + 1.0
    a, bend = xp.pick(xp.of(motion.a), last), xp.pick(xp.of(path_curvature), last)
    return _Nodes(v[:, :n], a, bend, v[:, n:], grow[:, :n], grow[:, n:])


def _at_stages(xp: Any, values: Any, grid: Grid) -> Any:
    """`Grid.at_stages` for arrays too."""
    return xp.concat([values[:, 0], values[:, 1, values.shape[2] - grid.stages :]], 1)


def _cost(
    xp: Any,
    nodes: _Nodes,
    bounds: LateralBounds,
    weights: Tensor,
    reference: TrackingReference | None,
    grid: Grid,
    fixed: Any,
) -> tuple[Float[Tensor, "R n 4 4"], Float[Tensor, "R n 4"]]:
    w = xp.of(weights)
    w_d, w_psi, w_kappa, w_rate = ((w[None] if w.ndim == 1 else w)[:, i : i + 1] * fixed.scale for i in range(4, 8))
    d_ref, psi_ref = (_at_stages(xp, xp.of(bounds.d_ref), grid), _at_stages(xp, xp.of(bounds.slope_ref), grid))
    if reference is not None:
        dt = fixed.node_dt
        first = len(dt)
        track_d, track_psi = (per_node(x, reference.d) for x in (reference.weight_d, reference.weight_psi))
        w_d = xp.concat([xp.of(track_d) * dt, (w_d + 0 * d_ref)[:, first:]], 1)
        w_psi = xp.concat([xp.of(track_psi) * dt, (w_psi + 0 * d_ref)[:, first:]], 1)
        d_ref = xp.concat([xp.of(reference.d), d_ref[:, first:]], 1)
        psi_ref = xp.concat([xp.of(reference.psi), psi_ref[:, first:]], 1)
        factor = fixed.tail + (1 - fixed.tail) * reference.comfort
        w_kappa, w_rate = w_kappa * factor, w_rate * factor
    shape = d_ref.shape
    diagonal = xp.columns(shape, [w_d, w_psi, w_kappa * nodes.grow * 0.02, w_rate * nodes.grow_first])
    g = diagonal * xp.columns(shape, [-d_ref, -psi_ref, -nodes.bend, 0.0])
    return xp.tensor(xp.diagonal(diagonal)), xp.tensor(g)


def _limits(
    xp: Any, nodes: _Nodes, start: Start, config: PlannerConfig, vehicle: VehicleParameters, fixed: Any
) -> tuple[Float[Tensor, "R n 4"], Float[Tensor, "R n 4"]]:
    """Bounds on (d, psi, kappa, rate). A start outside may come back, the curvature at three quarters of the rate."""
    limits = config.limits
    heading = xp.abs(xp.of(start.psi))[:, None] + fixed.heading
    a = xp.minimum(xp.maximum(nodes.a, -fixed.grip), fixed.grip)
    across = xp.sqrt(fixed.grip**2 - (a * 0.5) ** 2)
    slow = 1 / xp.at_least(nodes.v, 0.5)
    most = xp.minimum(across * slow * slow, limits.yaw_rate_max * slow)
    most = xp.at_most(most, 0.95 * vehicle.curvature_max)
    back = xp.abs(xp.of(start.kappa))[:, None] - 0.75 * _rate_limit(xp, nodes.v, config, vehicle) * fixed.time
    rate = _rate_limit(xp, nodes.v_first, config, vehicle)
    upper = xp.columns(a.shape, [torch.inf, heading, xp.maximum(most, back), rate])
    return xp.tensor(-upper), xp.tensor(upper)


def _corridor_limits(
    xp: Any, nodes: _Nodes, bounds: LateralBounds, grid: Grid, fixed: Any
) -> tuple[Float[Tensor, "R n C"], Float[Tensor, "R n C"]]:
    """Of d + offset * psi at every circle, whose place bows off the path's tangent; none where rows are not hard."""
    bow = nodes.bend[..., None] * fixed.half_square
    lower = _at_stages(xp, xp.of(bounds.lower), grid) + bow - fixed.soft
    upper = _at_stages(xp, xp.of(bounds.upper), grid) + bow + fixed.soft
    return xp.tensor(lower), xp.tensor(upper)


def _rate_limit(xp: Any, v: Any, config: PlannerConfig, vehicle: VehicleParameters) -> Any:
    """Largest curvature rate, 1/(m s): steering actuator at low speed, yaw acceleration and lateral jerk above."""
    slow = 1 / xp.at_least(v, 0.5)
    soft = xp.minimum(config.limits.yaw_acceleration_max * slow, LATERAL_JERK * slow * slow)
    return xp.at_least(xp.at_most(soft, 0.9 * vehicle.curvature_rate_max), 0.01)


@dataclass(frozen=True)
class _Constants(Constants):
    """By stage ``[n]`` (``[n, 1]`` where rows follow).

    last, last_and_first: fine indices of the nodes, then of the first fine steps. scale: durations times the branch's
    weight; tail: 1 in the tail. heading (rad): limit up to `lateral_hard`, then infinite. grip m/s^2.
    half_square ``[C]`` m^2: of the circles' offsets, halved. soft: 0 where corridor rows are hard, else infinite.
    """

    last: Tensor
    last_and_first: Tensor
    scale: Tensor
    tail: Tensor
    time: Tensor
    node_dt: Tensor
    heading: Tensor
    grip: Tensor
    half_square: Tensor
    soft: Tensor
    rows: Tensor
    zero: Tensor


@lru_cache(maxsize=8)
def _constants(config: PlannerConfig, vehicle: VehicleParameters) -> _Constants:
    grid, limits = make_grid(config.horizon), config.limits
    offsets = circle_offsets(vehicle)
    hard = grid.stage_time <= config.horizon.lateral_hard + 1e-9
    rows = torch.zeros(CIRCLES, 4, dtype=torch.float64)
    rows[:, D], rows[:, PSI] = 1.0, offsets
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    return _Constants(
        last=grid.stage_last,
        last_and_first=torch.cat([grid.stage_last, grid.stage_first]),
        scale=grid.stage_dt * grid.by_branch(1.0, 0.1),
        tail=grid.stage_tail.double(),
        time=grid.stage_time,
        node_dt=grid.node_dt,
        heading=torch.where(hard, limits.heading_error_max, inf),
        grip=grid.by_branch(limits.lateral_acceleration_max, limits.tail_lateral_acceleration_max),
        half_square=offsets**2 / 2,
        soft=torch.where(hard, 0.0, inf)[:, None],
        rows=rows,
        zero=torch.zeros(1, dtype=torch.float64),
    )

"""The longitudinal program: position, speed and acceleration along the path, jerk as input.

Both branches are one program over a tree of intervals, because they share their first ones. Exact discretisation of
the triple integrator; path progress is ds = rho v dt, with rho = cos(heading error) / (1 - curvature * offset) from the
last pass, so only how s follows from v, a and jerk differs between candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.arrays import library
from planner.config import PlannerConfig
from planner.grid import Grid, make_grid
from planner.longitudinal_constants import JERK, REST_SPEED, TAIL_WEIGHT, S, V, longitudinal_constants
from planner.qp.problem import StageProgram
from planner.safe_distance import CHORDS, SafeDistance, chords, full_braking, within_reach
from planner.surface import Start
from planner.tracking import TrackingReference, per_node, tensors

TAIL_BRAKING = 6.0
"""m/s^2: how the tail slows down where it is free to choose."""

LIMIT_RULES = ("obstacle ahead", "speed", "acceleration", "jerk", "", "", "", "")
"""Rules by limit: bounds on s, v, a, jerk, gap excess, then the three rows of the comfortable gap ("": no hard rule).
On tail stages the upper side of "speed" and, at the last one, both sides of "acceleration" state `REST_RULE`."""
REST_RULE = "rest at the end of the tail"
SAFE_RULE = "safe distance"
"""Of the rows after those, where the bounds have safe distances."""


@dataclass
class LongitudinalBounds:
    """What the decisions ask of the longitudinal motion. R candidates, 2 branches, N nodes; s of the rear axle, m.

    s_upper, s_lower ``[R, 2, N]``: hard; infinite where there is none; upper_id, lower_id: track id that sets them.
    gap_s ``[R, N]``: comfortable limit on s + headway * v (infinite: none); gap_headway ``[R, N]`` s;
    gap_speed ``[R, N]`` m/s: speed of what sets it (0 if it stands).
    v_ref, v_cap ``[R, N]`` m/s: speed to aim for and hard cap of the nominal branch.
    safe: hard safe distances in the nominal branch, if wanted.
    """

    s_upper: Float[Tensor, "R 2 N"]
    s_lower: Float[Tensor, "R 2 N"]
    upper_id: Int[Tensor, "R 2 N"]
    lower_id: Int[Tensor, "R 2 N"]
    gap_s: Float[Tensor, "R N"]
    gap_headway: Float[Tensor, "R N"]
    gap_speed: Float[Tensor, "R N"]
    v_ref: Float[Tensor, "R N"]
    v_cap: Float[Tensor, "R N"]
    safe: SafeDistance | None = field(default=None, kw_only=True)


@dataclass
class LongitudinalMotion:
    """s (m), v (m/s), a (m/s^2) at the fine times ``[R, 2, F]`` and jerk (m/s^3) during the fine steps."""

    s: Float[Tensor, "R 2 F"]
    v: Float[Tensor, "R 2 F"]
    a: Float[Tensor, "R 2 F"]
    jerk: Float[Tensor, "R 2 F"]


def build_longitudinal(
    bounds: LongitudinalBounds,
    start: Start,
    rho: Float[Tensor, "R 2 F"] | None,
    weights: Float[Tensor, "R W"],
    config: PlannerConfig,
    reference: TrackingReference | None = None,
) -> StageProgram:
    """The programs of all R candidates: states (s - start.s, v, a), inputs (jerk, excess of the comfortable gap).

    start: per candidate ``[R]``. rho: None for 1 everywhere, whose matrices are shared by all candidates. weights: in
    the order of CostWeights, ``[R, W]`` or, shared by all, ``[W]``. reference: a proposal to stay close to instead of
    v_ref.
    """
    grid, fixed = make_grid(config.horizon), longitudinal_constants(config)
    count, n = len(start.v), grid.stages
    H, g = _cost(bounds, start, weights, reference, grid, config)
    z_lower, z_upper = _limits(bounds, start, grid, config)
    C, upper = _gap_rows(bounds, start, grid, config)
    if bounds.safe is not None:
        more = _safe_rows(bounds.safe, bounds.v_cap, start, rho, grid, config)
        C, upper = torch.cat([C, more[0]], 2), torch.cat([upper, more[1]], 2)
    rows = upper.shape[2]
    x0 = torch.stack([torch.zeros_like(start.v), start.v, start.a], -1)
    A, B = (fixed.transition.expand(count, n, 3, 3), fixed.response.expand(count, n, 3, 2))
    c, hard = fixed.zero.expand(count, n, 3), fixed.zero.expand(count, n, rows)
    lower = fixed.minus_infinity.expand(count, n, rows)
    program = StageProgram(grid.parent, x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, hard)
    return program if rho is None else _with_progress(program, rho, config)


def with_progress(program: StageProgram, rho: Float[Tensor, "R 2 F"], config: PlannerConfig) -> StageProgram:
    """The same program for another path progress per metre driven; shares everything but its dynamics.

    Raises ValueError for programs with safe distances, whose limits depend on the progress too.
    """
    if program.upper.shape[2] != len(LIMIT_RULES) - 5:
        raise ValueError("with_progress: programs with safe distances have to be built anew")
    return _with_progress(program, rho, config)


def _with_progress(program: StageProgram, rho: Tensor, config: PlannerConfig) -> StageProgram:
    xp = library(rho)
    fixed = longitudinal_constants(config).of(xp)
    count, n = program.x0.shape[0], len(program.parent)
    gains = (xp.of(rho).reshape(count, -1) @ fixed.progress).reshape(count, 3, n)
    A, B = xp.copies(count, fixed.transition), xp.copies(count, fixed.response)
    A[:, :, 0, 1], A[:, :, 0, 2], B[:, :, 0, 0] = gains[:, 0], gains[:, 1], gains[:, 2]
    return replace(program, A=xp.tensor(A), B=xp.tensor(B))


def longitudinal_motion(
    z: Float[Tensor, "R n 5"], start: Start, rho: Float[Tensor, "R 2 F"] | None, config: PlannerConfig
) -> LongitudinalMotion:
    """Motion of both branches at the fine times for the jerks of a solution."""
    xp = library(z, start.s, start.v, start.a, rho)
    fixed = longitudinal_constants(config).of(xp)
    inputs = xp.concat([xp.of(z)[..., JERK], xp.of(start.v)[:, None], xp.of(start.a)[:, None]], 1)
    motion = (inputs @ fixed.motion).reshape(len(z), 4, 2, -1)
    ds = motion[:, 2] if rho is None else motion[:, 2] * xp.of(rho)
    s = xp.of(start.s)[:, None, None] + ds.cumsum(-1)
    return LongitudinalMotion(xp.tensor(s), *(xp.tensor(motion[:, i]) for i in (1, 0, 3)))


def limit_ids(bounds: LongitudinalBounds, grid: Grid) -> tuple[Int[Tensor, "R n L"], Int[Tensor, "R n L"]]:
    """Track ids behind the lower and the upper side of every limit, -1 where nobody's."""
    shape = (len(bounds.upper_id), grid.stages, len(limit_rules(bounds)))
    lower, upper = torch.full(shape, -1), torch.full(shape, -1)
    lower[..., S], upper[..., S] = (grid.at_stages(bounds.lower_id), grid.at_stages(bounds.upper_id))
    if bounds.safe is not None:
        upper[:, : len(grid.node), len(LIMIT_RULES) :] = bounds.safe.track_id[..., None]
    return lower, upper


def limit_rules(bounds: LongitudinalBounds) -> tuple[str, ...]:
    """LIMIT_RULES, with those of the safe distances if there are any."""
    return LIMIT_RULES if bounds.safe is None else (*LIMIT_RULES, *(SAFE_RULE,) * CHORDS)


def stop_time(v0: Any, config: PlannerConfig) -> Any:
    """When the tail shall be at rest (s), by start speeds: after the shared part, building up and releasing the brake
    included. For tensors (without history) and arrays."""
    limits, shared = config.limits, config.horizon.shared
    fastest = v0 + limits.acceleration_max * shared
    ramps = (limits.acceleration_max + 2 * TAIL_BRAKING) / limits.tail_jerk_max
    return fastest / TAIL_BRAKING + (shared + ramps + 0.3)


def _limits(
    bounds: LongitudinalBounds, start: Start, grid: Grid, config: PlannerConfig
) -> tuple[Float[Tensor, "R n 5"], Float[Tensor, "R n 5"]]:
    """Bounds on (s - start.s, v, a, jerk, excess), widened to what the actuators can reach: they never contradict the
    start.

    Speed: below zero only where easing off the brake as fast as allowed still undershoots; no cap below what full
    braking reaches. Acceleration: on its way back into its limits. The tail: at rest as early as braking firmly allows,
    at its end in any case.
    """
    xp = library(bounds.s_lower, bounds.s_upper, bounds.v_cap, start.s)
    fixed = longitudinal_constants(config).of(xp)
    jerk, nodes, time = config.limits.jerk_max, len(grid.node), fixed.time
    v0, a0 = xp.constant(start.v)[:, None], xp.constant(start.a)[:, None]
    ease = xp.minimum(time, xp.at_most(a0, 0.0) * (-1 / jerk))
    v_low = xp.at_most(v0 + ease * (a0 + ease * (jerk / 2)), 0.0) - 1e-3
    braked = _full_braking(xp, v0, a0, time[:nodes], config)
    cap = xp.maximum(xp.of(bounds.v_cap), xp.at_least(braked, 0.0) + 1e-2)
    stopped = time[nodes:] >= stop_time(v0, config)
    rest = xp.where(stopped, REST_SPEED, fixed.rest_speed)
    ramp = jerk * time
    a_low = xp.maximum(xp.minimum(a0 + ramp, fixed.a_low), -fixed.rest)
    a_high = xp.minimum(xp.at_least(a0 - ramp, config.limits.acceleration_max), fixed.rest)
    s0, shape = xp.of(start.s)[:, None], (len(v0), grid.stages)
    both = []
    for s, v, a, sign in ((bounds.s_lower, v_low, a_low, -1), (bounds.s_upper, xp.concat([cap, rest], 1), a_high, 1)):
        own = grid.stages - nodes
        s = xp.of(s)
        at = xp.concat([s[:, 0], s[:, 1, -own:]], 1) - s0
        both.append(xp.tensor(xp.columns(shape, [at, v, a, sign * fixed.jerk, sign * torch.inf])))
    return both[0], both[1]


def _gap_rows(
    bounds: LongitudinalBounds, start: Start, grid: Grid, config: PlannerConfig
) -> tuple[Float[Tensor, "R n 3 5"], Float[Tensor, "R n 3"]]:
    """Rows and their upper limits. Headway, plus the room that slowing to the other's speed takes,
    s + T v + (v^2 - v_o^2) / 2b.

    v^2 is replaced by tangents (a cost, so an outer approximation is enough); all share one excess per node.
    """
    xp = library(bounds.gap_s, bounds.gap_headway, bounds.gap_speed, start.s)
    fixed, braking = longitudinal_constants(config).of(xp), config.comfort.braking
    count, nodes = len(start.v), len(grid.node)
    touch = fixed.tangents
    tangent = (xp.at_least(xp.constant(start.v), 3.0)[:, None] * touch)[:, None]
    other = xp.of(bounds.gap_speed)[..., None]
    C = xp.copies(count, fixed.gap_rows)
    C[:, :nodes, :, V] = xp.of(bounds.gap_headway)[..., None] + tangent * (1 / braking)
    room = (tangent**2 + other**2) * (fixed.curved / (2 * braking))
    upper = xp.full((count, grid.stages, 3), torch.inf)
    limit = (xp.of(bounds.gap_s) - xp.of(start.s)[:, None])[..., None] + room
    upper[:, :nodes] = xp.where((other < tangent) | (touch == 0), limit, torch.inf)
    return xp.tensor(C), xp.tensor(upper)


def _safe_rows(
    safe: SafeDistance, v_cap: Tensor, start: Start, rho: Tensor | None, grid: Grid, config: PlannerConfig
) -> tuple[Float[Tensor, "R n Q 5"], Float[Tensor, "R n Q"]]:
    """Rows of the safe distances and their upper limits; see `planner.safe_distance`."""
    xp = library(safe.s, start.s)
    count, nodes = len(start.v), len(grid.node)
    v0, a0, cap = (x.detach().numpy() for x in (start.v, start.a, v_cap))
    top = np.maximum(v0, cap.max(1))[:, None] + 1.0
    gain, offset = chords(top, safe.response, safe.braking)
    C = np.zeros((count, grid.stages, CHORDS, 5))
    C[:, :nodes, :, S], C[:, :nodes, :, V] = 1.0, gain[:, None]
    z = torch.zeros(count, grid.stages, 5, dtype=torch.float64)
    z[:, :nodes, JERK] = torch.from_numpy(full_braking(v0, a0, grid, config))
    with torch.no_grad():
        braking = longitudinal_motion(z, start, rho, config)
    s, v = (x.detach().numpy()[:, 0, grid.node.numpy()] for x in (braking.s, braking.v))
    s0 = start.s.detach().numpy()[:, None]
    upper = xp.full((count, grid.stages, CHORDS), torch.inf)
    limit = xp.of(safe.s) - xp.of(start.s)[:, None]
    upper[:, :nodes] = within_reach(xp, limit, s - s0, v, gain, offset)
    return torch.from_numpy(C), xp.tensor(upper)


def _cost(
    bounds: LongitudinalBounds,
    start: Start,
    weights: Tensor,
    reference: TrackingReference | None,
    grid: Grid,
    config: PlannerConfig,
) -> tuple[Float[Tensor, "R n 5 5"], Float[Tensor, "R n 5"]]:
    """H and g.

    The tail counts only weakly, but it shall not dawdle: the longer it moves, the more room the others' worst case
    takes.
    """
    xp = library(bounds.v_ref, start.v, start.s, weights, *tensors(reference))
    fixed = longitudinal_constants(config).of(xp)
    count, n, nodes, dt = len(start.v), grid.stages, len(grid.node), fixed.dt
    w = xp.of(weights)[..., :4]
    if reference is not None:
        w = w * (fixed.comfort_terms * reference.comfort)
    H = (w @ fixed.cost_scales + fixed.cost_base).reshape(-1, n, 5, 5)
    g = xp.full((count, n, 5), 0.0)
    ask = xp.of(bounds.v_ref) * xp.of(weights)[..., :1]
    if reference is not None:
        H = xp.copies(count, H[0]) if len(H) == 1 else H
        weight_s, weight_v = (xp.of(per_node(x, reference.s)) for x in (reference.weight_s, reference.weight_v))
        H[:, :nodes, S, S], H[:, :nodes, V, V] = (weight_s * dt[:nodes], weight_v * dt[:nodes])
        g[:, :nodes, S] = weight_s * (xp.of(reference.s) - xp.of(start.s)[:, None]) * -dt[:nodes]
        ask = xp.of(reference.v) * weight_v
    g[:, :nodes, V] = ask * -dt[:nodes]
    slowing = xp.of(start.v)[:, None] - TAIL_BRAKING * (fixed.time[nodes:] - config.horizon.shared)
    g[:, nodes:, V] = xp.at_least(slowing, 0.0) * (-TAIL_WEIGHT * dt[nodes:])
    return xp.tensor(H).expand(count, n, 5, 5), xp.tensor(g)


def _full_braking(xp: Any, v0: Any, a0: Any, t: Any, config: PlannerConfig) -> Any:
    """Speed (m/s) at times t when the brake is built up as fast as allowed and then held; may turn negative."""
    brake, jerk = config.limits.braking_max, config.limits.jerk_max
    change = -brake - a0
    ramp = xp.minimum(t, abs(change) * (1 / jerk))
    towards = xp.where(change > 0, jerk / 2, -jerk / 2)
    return v0 + ramp * (a0 + towards * ramp) - brake * (t - ramp)

"""The longitudinal program: position, speed and acceleration along the path, jerk as input.

Both branches are one program, because they share their first inputs. Exact discretisation of the triple integrator;
path progress is ds = rho v dt, with rho = cos(heading error) / (1 - curvature * offset) from the last pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import Horizon, PlannerConfig
from planner.grid import Grid, make_grid
from planner.qp.dense import QuadraticProgram
from planner.result import RowLabel

TAIL_BRAKING = 6.0
"""m/s^2: how the tail slows down where it is free to choose."""
TAIL_WEIGHT = 0.3


@dataclass
class LongitudinalBounds:
    """What the decisions ask of the longitudinal motion. K candidates, 2 branches, N nodes; s of the rear axle, m.

    s_upper, s_lower ``[K, 2, N]``: hard; infinite where there is none; upper_id, lower_id: track id that sets them.
    gap_s ``[K, N]``: comfortable limit on s + headway * v (infinite: none); gap_headway ``[K, N]`` s;
    gap_speed ``[K, N]`` m/s: speed of what sets it (0 if it stands).
    v_ref, v_cap ``[K, N]`` m/s: speed to aim for and hard cap of the nominal branch.
    """

    s_upper: Float[Tensor, "K 2 N"]
    s_lower: Float[Tensor, "K 2 N"]
    upper_id: Tensor
    lower_id: Tensor
    gap_s: Float[Tensor, "K N"]
    gap_headway: Float[Tensor, "K N"]
    gap_speed: Float[Tensor, "K N"]
    v_ref: Float[Tensor, "K N"]
    v_cap: Float[Tensor, "K N"]


@dataclass
class LongitudinalMotion:
    """s (m), v (m/s), a (m/s^2) at the fine times ``[K, 2, F]`` and jerk (m/s^3) during the fine steps."""

    s: Tensor
    v: Tensor
    a: Tensor
    jerk: Tensor


@lru_cache(maxsize=256)
def row_labels(rule: str, times: tuple[float, ...]) -> tuple[RowLabel, ...]:
    """One label per time; the same in every cycle, so made once."""
    return tuple(RowLabel(rule, -1, time) for time in times)


@lru_cache(maxsize=8)
def _integrators(horizon: Horizon) -> tuple[Tensor, Tensor, Tensor]:
    """Linear maps ``[2, F, n]`` from inputs to a, v and to the distance covered in each fine step."""
    grid = make_grid(horizon)
    h, hold = grid.step, grid.hold
    zero = torch.zeros_like(hold[:, :1])
    a = h * hold.cumsum(1)
    a_before = torch.cat([zero, a[:, :-1]], 1)
    v = (h * a_before + h**2 / 2 * hold).cumsum(1)
    v_before = torch.cat([zero, v[:, :-1]], 1)
    ds = h * v_before + h**2 / 2 * a_before + h**3 / 6 * hold
    return a, v, ds


def build_longitudinal(
    bounds: LongitudinalBounds,
    s0: Tensor,
    v0: Tensor,
    a0: Tensor,
    rho: Float[Tensor, "K 2 F"],
    weights: Float[Tensor, " W"],
    config: PlannerConfig,
) -> tuple[QuadraticProgram, list[RowLabel]]:
    """The programs of all candidates and the labels of their rows (object ids are in the bounds).

    Variables: the n jerks, then one comfort-gap excess per node. weights: in the order of CostWeights.
    """
    grid, limits = make_grid(config.horizon), config.limits
    node, dt, tail = grid.node, grid.node_dt, grid.tail_own
    k, n, nodes = len(rho), grid.inputs, len(node)
    maps, s_free = _free_and_maps(s0, v0, a0, rho, config)
    a_map, v_map, s_map = (m[:, :, node] for m in maps)  # [K, 2, N, n]
    t = grid.node_time
    v_free, a_free = (v0 + a0 * t).expand(2, nodes), a0.expand(2, nodes)
    s_free = s_free[:, :, node]
    w = {name: weights[i] for i, name in enumerate(("speed", "acceleration", "jerk", "gap"))}

    # Cost: quadratic in the inputs; the tail only weakly, but it shall not dawdle: the longer it moves, the more
    # room the others' worst case takes.
    v_n, a_n, v_t, a_t = v_map[0, 0], a_map[0, 0], v_map[0, 1][tail], a_map[0, 1][tail]
    own = torch.where(grid.input_branch == 1, 0.05, 1.0)
    v_stop = (v0 - TAIL_BRAKING * (t[tail] - config.horizon.shared)).clamp(min=0)
    P_u = (
        w["speed"] * v_n.T @ (dt[:, None] * v_n)
        + w["acceleration"] * a_n.T @ (dt[:, None] * a_n)
        + TAIL_WEIGHT * v_t.T @ (dt[tail, None] * v_t)
        + 0.02 * a_t.T @ (dt[tail, None] * a_t)
        + torch.diag(w["jerk"] * own * grid.input_dt)
    )
    P = torch.zeros(n + nodes, n + nodes, dtype=torch.float64)
    P = torch.block_diag(P_u, torch.diag(w["gap"] * dt))
    q_u = (
        w["speed"] * ((v_free[0] - bounds.v_ref) * dt) @ v_n
        + w["acceleration"] * (a_free[0] * dt) @ a_n
        + TAIL_WEIGHT * ((v_free[1][tail] - v_stop) * dt[tail]) @ v_t
        + 0.02 * (a_free[1][tail] * dt[tail]) @ a_t
    )
    q = torch.cat([q_u, torch.zeros(k, nodes, dtype=torch.float64)], 1)

    v_low, v_brake, a_high, a_low = _reachable(v0, a0, grid, config)
    inf = torch.full((k, nodes), torch.inf, dtype=torch.float64)
    zeros = torch.zeros(k, nodes, nodes, dtype=torch.float64)
    blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    labels: list[RowLabel] = []
    times = [round(x, 2) for x in t.tolist()]

    def add(rows: Tensor, lower: Tensor, upper: Tensor, rule: str, keep: Tensor, excess: Tensor = zeros) -> None:
        full = torch.cat([rows.expand(k, -1, -1), excess], 2)[:, keep]
        blocks.append((full, lower.expand(k, -1)[:, keep], upper.expand(k, -1)[:, keep]))
        labels.extend(row_labels(rule, tuple(x for x, kept in zip(times, keep.tolist()) if kept)))

    everywhere = torch.ones_like(tail)
    for branch, keep, suffix in ((0, everywhere, ""), (1, tail, " (tail)")):
        s_b, v_b, a_b = s_map[:, branch], v_map[:, branch], a_map[:, branch]
        lower, upper = bounds.s_lower[:, branch] - s_free[:, branch], bounds.s_upper[:, branch] - s_free[:, branch]
        add(s_b, lower, upper, "obstacle ahead" + suffix, keep)
        cap = torch.maximum(bounds.v_cap, v_brake[branch]) if branch == 0 else inf
        add(v_b, v_low[branch] - v_free[branch], cap - v_free[branch], "speed" + suffix, keep)
        brake = limits.braking_max if branch == 0 else limits.tail_braking_max
        low = torch.minimum(torch.full_like(t, -brake), a_low[branch])
        high = torch.maximum(torch.full_like(t, limits.acceleration_max), a_high[branch])
        add(a_b, low - a_free[branch], high - a_free[branch], "acceleration" + suffix, keep)
    # Comfortable gap: headway, plus the room that slowing to the other's speed takes, s + T v + (v^2 - v_o^2) / 2b.
    # v^2 is replaced by tangents (a cost, so an outer approximation is enough); all share one excess per node.
    excess = -torch.eye(nodes, dtype=torch.float64).expand(k, -1, -1)
    fastest = max(float(v0.detach()), 3.0)
    for tangent in (0.0, 0.5 * fastest, fastest):
        gain = bounds.gap_headway + tangent / config.comfort.braking
        room = (tangent**2 + bounds.gap_speed**2) / (2 * config.comfort.braking) if tangent else 0.0
        upper = bounds.gap_s + room - s_free[:, 0] - gain * v_free[0]
        upper = upper if tangent == 0.0 else torch.where(bounds.gap_speed < tangent, upper, inf)
        add(s_map[:, 0] + gain[..., None] * v_map[:, 0], -inf, upper, "comfortable gap", everywhere, excess)
    # At rest as early as braking firmly allows, at the end of the tail in any case.
    last = torch.zeros_like(tail)
    last[-1] = True
    rest = torch.full_like(inf, 0.02)
    speed_rest = torch.where(last | (t >= stop_time(v0, config)), rest, inf)
    add(v_map[:, 1], -inf, speed_rest - v_free[1], "rest at the end of the tail", tail)
    add(a_map[:, 1], -0.1 - a_free[1], 0.1 - a_free[1], "rest at the end of the tail", last)

    A, lower, upper = (torch.cat(parts, 1) for parts in zip(*blocks))
    jerk = torch.where(grid.input_branch == 1, limits.tail_jerk_max, limits.jerk_max).double()
    x_lower = torch.cat([-jerk, torch.zeros(nodes, dtype=torch.float64)]).expand(k, -1)
    x_upper = torch.cat([jerk, torch.full((nodes,), torch.inf, dtype=torch.float64)]).expand(k, -1)
    return QuadraticProgram(P.expand(k, -1, -1), q, A, lower, upper, x_lower, x_upper), labels


def longitudinal_motion(
    inputs: Float[Tensor, "K n"], s0: Tensor, v0: Tensor, a0: Tensor, rho: Float[Tensor, "K 2 F"], config: PlannerConfig
) -> LongitudinalMotion:
    """Motion of both branches at the fine times for given jerks."""
    grid = make_grid(config.horizon)
    a_map, v_map, ds_map = _integrators(config.horizon)
    t_before = grid.time - grid.step
    h = grid.step
    a = a0 + torch.einsum("bfn,kn->kbf", a_map, inputs)
    v = v0 + a0 * grid.time + torch.einsum("bfn,kn->kbf", v_map, inputs)
    ds = h * (v0 + a0 * t_before) + h**2 / 2 * a0 + torch.einsum("bfn,kn->kbf", ds_map, inputs)
    jerk = torch.einsum("bfn,kn->kbf", grid.hold, inputs)
    return LongitudinalMotion(s0 + (rho * ds).cumsum(-1), v, a, jerk)


def _free_and_maps(
    s0: Tensor, v0: Tensor, a0: Tensor, rho: Tensor, config: PlannerConfig
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    grid = make_grid(config.horizon)
    a_map, v_map, ds_map = _integrators(config.horizon)
    h = grid.step
    t_before = grid.time - h
    free = h * (v0 + a0 * t_before) + h**2 / 2 * a0
    s_free = s0 + (rho * free).cumsum(-1)
    s_map = (rho[..., None] * ds_map).cumsum(2)
    return (a_map.expand(len(rho), -1, -1, -1), v_map.expand(len(rho), -1, -1, -1), s_map), s_free


def _reachable(v0: Tensor, a0: Tensor, grid: Grid, config: PlannerConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bounds widened to what the actuators can reach, ``[2, N]`` each, so that rows never contradict the start.

    v_low: lowest speed bound, below zero only where easing off the brake as fast as allowed still undershoots;
    v_brake: speed under full braking, below which no cap may ask to be; a_high, a_low: the acceleration on its way back
    into its limits.
    """
    limits = config.limits
    t = grid.node_time
    start, accel = float(v0.detach()), float(a0.detach())
    rows = []
    for brake, jerk in ((limits.braking_max, limits.jerk_max), (limits.tail_braking_max, limits.jerk_max)):
        ease = _ramp(start, accel, 0.0, jerk, t) if accel < 0 else torch.zeros_like(t)
        full = _ramp(start, accel, -brake, jerk, t)
        rows.append((
            torch.minimum(torch.zeros_like(t), ease) - 1e-3,
            full.clamp(min=0) + 1e-2,
            accel - jerk * t,
            accel + jerk * t,
        ))  # fmt: skip
    v_low, v_brake, a_high, a_low = (torch.stack(column) for column in zip(*rows))
    return v_low, v_brake, a_high.clamp(max=max(accel, 0.0)), a_low.clamp(max=0.0, min=min(accel, 0.0))


def stop_time(v0: Tensor, config: PlannerConfig) -> float:
    """When the tail shall be at rest (s): after the shared part, building up and releasing the brake included."""
    limits, shared = config.limits, config.horizon.shared
    fastest = float(v0.detach()) + limits.acceleration_max * shared
    ramps = (limits.acceleration_max + 2 * TAIL_BRAKING) / limits.tail_jerk_max
    return shared + fastest / TAIL_BRAKING + ramps + 0.3


def _ramp(v0: float, a0: float, a1: float, jerk: float, t: Tensor) -> Tensor:
    """Speed (m/s) at times t when the acceleration goes from a0 to a1 at the given jerk and stays."""
    ramp_time = abs(a1 - a0) / jerk
    j = jerk if a1 > a0 else -jerk
    first = torch.clamp(t, max=ramp_time)
    return v0 + a0 * first + j * first**2 / 2 + a1 * (t - first)

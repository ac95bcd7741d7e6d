"""What the configuration alone decides of the longitudinal program, made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from planner.config import PlannerConfig
from planner.grid import Grid, make_grid

TAIL_WEIGHT = 0.3
TAIL_BRAKING = 6.0
"""m/s^2: how the tail slows down where it is free to choose."""
REST_SPEED, REST_ACCELERATION = 0.02, 0.1
"""m/s and m/s^2: what counts as rest at the end of the tail."""

S, V, ACCELERATION, JERK, EXCESS = range(5)
"""Entries of z."""


@dataclass(frozen=True)
class LongitudinalConstants:
    """n stages, F fine steps.

    transition ``[n, 3, 3]``, response ``[n, 3, 2]``: of every stage, for rho = 1.
    progress ``[2F, 3n]``: from rho to what v, a at the stage's begin and its jerk add to s.
    motion ``[n + 2, 4 * 2F]``: from all jerks, v0 and a0 to a, v, distance per fine step (for rho = 1) and jerk.
    cost_scales ``[4, n * 25]``, cost_base: H is linear in the weights of speed, acceleration, jerk and gap.
    comfort_terms ``[4]``: which of them a proposal does not replace.
    time, dt, a_low, jerk ``[n]``; rest ``[n]`` m/s^2: bound on the acceleration at the very end, else infinite.
    rest_speed: of the tail's own stages, m/s, infinite but at the last.
    gap_rows ``[n, 3, 5]`` without the gain; tangents ``[3]``: where v^2 is touched, by start speed; curved: 0 at rest.
    rest_limit: REST_SPEED. none: infinity. settings, at_stage ``[n, 6]``: for the compiled version.
    """

    transition: Tensor
    response: Tensor
    progress: Tensor
    motion: Tensor
    cost_scales: Tensor
    cost_base: Tensor
    comfort_terms: Tensor
    time: Tensor
    dt: Tensor
    a_low: Tensor
    jerk: Tensor
    rest: Tensor
    rest_speed: Tensor
    gap_rows: Tensor
    tangents: Tensor
    curved: Tensor
    zero: Tensor
    minus_infinity: Tensor
    rest_limit: Tensor
    none: Tensor
    settings: Tensor
    at_stage: Tensor


@lru_cache(maxsize=8)
def longitudinal_constants(config: PlannerConfig) -> LongitudinalConstants:
    """Of a validated configuration."""
    grid, limits = make_grid(config.horizon), config.limits
    n, nodes, f64 = grid.stages, len(grid.node), torch.float64
    scales, base = _cost_scales(grid)
    rest = torch.full((n,), torch.inf, dtype=f64)
    rest_all = rest.clone()
    rest[-1], rest_all[-1] = REST_ACCELERATION, REST_SPEED
    a_low = -grid.by_branch(limits.braking_max, limits.tail_braking_max)
    jerk = grid.by_branch(limits.jerk_max, limits.tail_jerk_max)
    tangents = [0.0, 0.5, 1.0]
    settings = [
        limits.jerk_max, limits.acceleration_max, limits.braking_max, config.comfort.braking, config.horizon.shared,
        stop_after(config), REST_SPEED, TAIL_BRAKING, TAIL_WEIGHT, *tangents,
    ]  # fmt: skip
    at_stage = torch.stack([grid.stage_time, grid.stage_dt, jerk, a_low, rest, rest_all], 1)
    rows = torch.zeros(n, 3, 5, dtype=f64)
    rows[..., S], rows[..., EXCESS] = 1.0, -1.0
    return LongitudinalConstants(
        *_integrators(grid),
        scales,
        base,
        comfort_terms=torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=f64),
        time=grid.stage_time,
        dt=grid.stage_dt,
        a_low=a_low,
        jerk=jerk,
        rest=rest,
        rest_speed=rest_all[nodes:],
        gap_rows=rows,
        tangents=torch.tensor(tangents, dtype=f64),
        curved=torch.tensor([0.0, 1.0, 1.0], dtype=f64),
        zero=torch.zeros(1, dtype=f64),
        minus_infinity=torch.full((1,), -torch.inf, dtype=f64),
        rest_limit=torch.full((1,), REST_SPEED, dtype=f64),
        none=torch.full((1,), torch.inf, dtype=f64),
        settings=torch.tensor(settings, dtype=f64),
        at_stage=at_stage,
    )


def stop_after(config: PlannerConfig) -> float:
    """s: the shared part, and building up and releasing the brake: what a stop takes beside braking."""
    limits = config.limits
    ramps = (limits.acceleration_max + 2 * TAIL_BRAKING) / limits.tail_jerk_max
    return config.horizon.shared + ramps + 0.3


def _cost_scales(grid: Grid) -> tuple[Tensor, Tensor]:
    n, tail = grid.stages, grid.stage_tail
    scales = torch.zeros(4, n, 5, 5, dtype=torch.float64)
    base = torch.zeros(n, 5, 5, dtype=torch.float64)
    dt, nominal = grid.stage_dt, (~tail).double()
    scales[0, :, V, V] = scales[1, :, ACCELERATION, ACCELERATION] = scales[3, :, EXCESS, EXCESS] = dt * nominal
    scales[2, :, JERK, JERK] = dt * grid.by_branch(1.0, 0.05)
    base[:, V, V] = TAIL_WEIGHT * dt * tail
    base[:, ACCELERATION, ACCELERATION] = 0.02 * dt * tail
    # No gap in the tail: its excess is idle, pinned to zero by a cost of its own.
    base[:, EXCESS, EXCESS] = tail.double()
    return scales.flatten(1), base.flatten()


def _integrators(grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """transition, response, progress and motion of `LongitudinalConstants`."""
    h, n, fine, f64 = grid.step, grid.stages, len(grid.time), torch.float64
    progress = torch.zeros(2 * fine, 3, n, dtype=f64)
    for t, (first, last) in enumerate(zip(grid.stage_first.tolist(), grid.stage_last.tolist())):
        for j, f in enumerate(range(first, last + 1)):
            progress[f, :, t] = torch.tensor([h, h**2 * (j + 0.5), h**3 * (j**2 / 2 + j / 2 + 1 / 6)], dtype=f64)
    dt = grid.stage_dt
    transition = torch.eye(3, dtype=f64).repeat(n, 1, 1)
    transition[:, 0, 1:], transition[:, 1, 2] = progress.sum(0)[:2].T, dt
    response = torch.zeros(n, 3, 2, dtype=f64)
    response[:, 0, 0], response[:, 1, 0], response[:, 2, 0] = (progress.sum(0)[2], dt**2 / 2, dt)

    hold = torch.nn.functional.one_hot(grid.interval_stage.repeat_interleave(grid.fine_per_interval, 1), n).to(f64)
    zero = torch.zeros_like(hold[:, :1])
    a = h * hold.cumsum(1)
    a_before = torch.cat([zero, a[:, :-1]], 1)
    v = (h * a_before + h**2 / 2 * hold).cumsum(1)
    v_before = torch.cat([zero, v[:, :-1]], 1)
    ds = h * v_before + h**2 / 2 * a_before + h**3 / 6 * hold
    time = grid.time.expand(2, -1)
    one, nothing = torch.ones_like(time), torch.zeros_like(time)
    of_v0 = torch.stack([nothing, one, h * one, nothing])
    of_a0 = torch.stack([one, time, h * (time - h) + h**2 / 2, nothing])
    of_jerk = torch.stack([a, v, ds, hold]).permute(3, 0, 1, 2)
    motion = torch.cat([of_jerk, of_v0[None], of_a0[None]]).flatten(1)
    return transition, response, progress.flatten(1), motion.contiguous()

"""How far ego drives until it stands, under the several ways of braking that decisions are judged by.

They decide which rows exist and how far these may give way: plain arrays, no gradient.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from planner.config import PlannerConfig
from planner.grid import make_grid
from planner.path.surface import Start
from planner.programs.safe_distance import full_braking

STEP = 0.02
"""s, of the simulated hardest stop."""
CRAWLING = 1.0
"""m/s: slower, ego may stop as soon as it can wherever others are forecast; it is a matter of decimetres."""
STANDING_ROOM = 0.02
"""m, beside the way that such a stop takes."""


def braking_distance(speed: Float[np.ndarray, "*S"], braking: float, t: Float[np.ndarray, " N"]) -> np.ndarray:
    """``[*S, N]`` m: distance covered after t (s) when braking from `speed` (m/s) to rest."""
    speed = speed[..., None]
    until = np.minimum(t, speed / braking)
    return speed * until - braking * until**2 / 2  # type: ignore[no-any-return]


def full_stop(start: Start, config: PlannerConfig) -> Float[np.ndarray, " S"]:
    """Distance to rest (m) under the hardest braking of the intended motion, its build-up included."""
    limits = config.limits
    v, a = start.v.detach().numpy(), start.a.detach().numpy()
    build_up = (limits.braking_max + a.clip(-limits.braking_max, 3.0)) / limits.jerk_max
    return v * build_up / 2 + v**2 / (2 * limits.braking_max)  # type: ignore[no-any-return]


def shortest_stop(start: Start, config: PlannerConfig) -> Float[np.ndarray, " S"]:
    """Distance to rest (m), rounded up a little, of the tail's hardest braking, shared first steps included.

    In steps of STEP: jerk down to the hardest braking of the intended motion, after the shared part to the tail's; the
    acceleration is known in closed form, speed and distance are its running sums until the speed is used up.
    """
    limits, shared = config.limits, config.horizon.shared
    v0, a0 = start.v.detach().numpy(), start.a.detach().numpy()
    gentle, hard = limits.braking_max, limits.tail_braking_max
    # By when everybody stands: still accelerating when the hard part begins, ramping up, braking off the rest.
    rise = a0.clip(0.0, None)
    ramp = (rise + hard) / limits.tail_jerk_max
    longest = shared + ramp + (v0 + rise * (shared + ramp)) / hard
    time = np.full(int(float(longest.max()) / STEP) + 3, STEP)
    time = time.cumsum() - STEP  # at the beginning of each step
    early = time < shared - 1e-9
    count = int(early.sum())
    number = np.arange(1, len(time) + 1)
    a = np.maximum(a0[:, None] - limits.jerk_max * STEP * np.minimum(number, count), -gentle) if count else a0[:, None]
    late = (number - count).clip(0)
    a = np.where(late > 0, np.maximum(a - limits.tail_jerk_max * STEP * late, -hard), a)
    after = v0[:, None] + (a * STEP).cumsum(1)
    before = np.concatenate([v0[:, None], after[:, :-1]], 1)
    moving = np.logical_and.accumulate(before > 0.0, 1)
    step = np.maximum(before * STEP + a * STEP**2 / 2, 0.0)
    return (step * moving).sum(1) + 0.4  # type: ignore[no-any-return]


def crawling_stop(start: Start, config: PlannerConfig) -> Float[np.ndarray, " S"]:
    """How far (m) ego needs until it stands, with the tail's braking in the intervals of the intended motion and from
    CRAWLING speed at most; -inf where it is faster."""
    v, a = start.v.detach().numpy(), start.a.detach().numpy()
    room = np.full(len(v), -np.inf)
    slow = v < CRAWLING
    if slow.any():
        grid, firm = make_grid(config.horizon), replace(config, limits=config.limits.firm())
        v, a = v[slow], a[slow]
        jerk, speed = full_braking(v, a, grid, firm)
        h = grid.node_dt.numpy()
        before = np.concatenate([v[:, None], speed[:, :-1]], 1)
        rising = (speed - before) / h - jerk * h / 2  # the acceleration at the begin of each interval
        whole = h * before + h**2 / 2 * rising + h**3 / 6 * jerk
        # Who brakes hard already turns round within an interval: its ends alone would miss how far ego came.
        part = np.linspace(0.125, 1.0, 8)[:, None, None] * h
        way = (whole.cumsum(1) - whole + part * before + part**2 / 2 * rising + part**3 / 6 * jerk).max((0, 2))
        room[slow] = way.clip(0.0) + STANDING_ROOM
    return room

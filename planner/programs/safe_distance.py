"""Safe distances to leaders as linear rows: RSS / IEEE 2846, longitudinal, same direction.

    front + v * response + v^2 / (2 b)  <=  leader's rear + v_l^2 / (2 b_l)

v^2 is convex, so its chords over neighbouring intervals, all demanded at once, state at least as much: their maximum is
the polygon through points of the parabola, which lies above it. The error is the interval's square / (8 b) at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from planner.config import PlannerConfig
from planner.grid import Grid

CHORDS = 4
SPARE = 0.05
"""m: how far beyond full braking a row stays away at least."""


@dataclass
class SafeDistance:
    """Hard limits s ``[R, N]`` (m, infinite: none) on s + v * response + v^2 / (2 braking) at the nominal nodes.

    s: the leader's rear plus its own braking distance, less what ego's front is ahead of its rear axle. track_id
    ``[R, N]``: who sets it. response (s), braking (m/s^2): of ego. The limits give way where even full braking does not
    keep them, so they never ask for more than that, and always allow to stand still.
    """

    s: Float[Tensor, "R N"]
    track_id: Int[Tensor, "R N"]
    response: float = 0.3
    braking: float = 4.0


def chords(top: Any, response: float, braking: float) -> tuple[Any, Any]:
    """gain (s) and offset (m) ``[R, CHORDS]``: for 0 <= v <= top,
    v * response + v^2 / (2 braking) <= max(gain * v - offset). top ``[R, 1]`` m/s."""
    lower = np.arange(CHORDS) / CHORDS
    upper = lower + 1 / CHORDS
    gain = top * ((lower + upper) / (2 * braking)) + response
    return gain, top * top * (lower * upper / (2 * braking))


def full_braking(
    v0: np.ndarray, a0: np.ndarray, grid: Grid, config: PlannerConfig
) -> tuple[Float[np.ndarray, "R N"], Float[np.ndarray, "R N"]]:
    """Jerks (m/s^3) of the nominal intervals that brake as hard as the limits allow and end at rest, and the speeds
    (m/s) at their ends.

    In every interval the acceleration falls as far as it may, if the brake can still be released at the largest jerk
    without rolling back: with T the length of the next interval, an acceleration of -y at speed v can if
    y^2 / (2 jerk) + y T / 2 <= v.
    """
    limits, dt = config.limits, grid.node_dt.numpy()
    most, hardest = limits.jerk_max, limits.braking_max
    after = np.append(dt[1:], dt[-1])
    v, a = v0.copy(), a0.copy()
    jerks, speeds = np.empty((2, len(v0), len(dt)))
    for i, (h, later) in enumerate(zip(dt, after)):
        # With -y at the end, v + h (a - y) / 2 is the speed there; the larger root of the condition above.
        p = (h + later) / 2
        root = np.sqrt(np.maximum(p * p + 2 * (v + h * a / 2) / most, 0.0))
        y = np.maximum(np.minimum(most * (root - p), hardest), 0.0)
        jerk = np.maximum(np.minimum((-y - a) / h, most), -most)
        v, a = v + h * a + h**2 / 2 * jerk, a + h * jerk
        jerks[:, i], speeds[:, i] = jerk, v
    return jerks, speeds


def within_reach(xp: Any, limit: Any, s: np.ndarray, v: np.ndarray, gain: Any, offset: Any) -> Any:
    """Right sides ``[R, N, CHORDS]`` of s + gain v <= limit + offset, which the motion s, v ``[R, N]`` meets."""
    speed = v[..., None]
    need = (s[..., None] + gain[:, None] * speed - offset[:, None]).max(-1) + SPARE
    return xp.maximum(limit, xp.plain(need))[..., None] + xp.plain(offset[:, None])

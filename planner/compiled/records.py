"""What the compiled decisions read, as C structs: compiled/obstacles.hpp."""

from __future__ import annotations

import ctypes

from torch import Tensor

from planner import compiled
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start

_OBSTACLES = compiled.record("Obstacles", "nnnnn T TTTT TT B T TT B I")
_START = compiled.record("Start", "TTTT")


def obstacles_record(obstacles: Obstacles) -> ctypes.Structure:
    """Made once for all that read it."""
    kept = obstacles.__dict__
    if "_record" not in kept:
        o = obstacles
        kept["_record"] = _OBSTACLES(
            *o.s_lo.shape, o.node_time, *(stored(x) for x in (o.s_lo, o.s_hi, o.d_lo, o.d_hi)), o.sigma_s,
            o.relative_heading, o.active, o.weight, o.speed_s, o.speed, o.standing, o.agent_class,
        )  # fmt: skip
    return kept["_record"]  # type: ignore[no-any-return]


def stored(interval: Tensor) -> Tensor:
    """Interval ends ``[S, A, M, N, P]`` in the order in which they are stored: S, A, P, M, N."""
    return interval.movedim(-1, 2)


def start_record(start: Start) -> ctypes.Structure:
    """Where ego is and how it moves."""
    return _START(start.s, start.d, start.v, start.a)

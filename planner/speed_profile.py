"""Free-flow speed along the path: limits, curves and slowing down ahead of them."""

from __future__ import annotations

import torch
from torch import Tensor

from planner.config import PlannerConfig
from planner.manoeuvres import Start
from planner.reference_path import SPACING, ReferencePath


def allowed_speed(path: ReferencePath, config: PlannerConfig) -> Tensor:
    """``[n]`` m/s at the path's knots: the lower of speed limit and what curvature and its change allow in comfort,

    lowered backwards so that comfortable braking suffices: v_i^2 <= v_{i+1}^2 + 2 b ds.
    """
    comfort = config.comfort
    s = torch.arange(len(path.knots), dtype=torch.float64) * SPACING
    curvature = path.evaluate(s)[2].abs()
    change = torch.gradient(path.evaluate(s)[2])[0].abs() / SPACING
    v = path.speed_limit * comfort.speed_fraction
    v = torch.minimum(v, (comfort.lateral_acceleration / curvature.clamp(min=1e-4)).sqrt())
    v = torch.minimum(v, (comfort.curvature_rate / change.clamp(min=1e-4)).clamp(min=4.0))
    # Backward pass: v_i^2 = min over j >= i of v_j^2 + 2 b (s_j - s_i), a cumulative minimum from the right.
    ramp = 2 * comfort.braking * s
    lowest = torch.flip(torch.cummin(torch.flip(v**2 + ramp, [0]), 0).values, [0])
    return (lowest - ramp).clamp(min=0.25).sqrt()


def free_speed(path: ReferencePath, start: Start, config: PlannerConfig, node_time: Tensor) -> Tensor:
    """``[N]`` m/s: allowed speed where ego would be at the nodes if nobody were in the way."""
    v_allowed = allowed_speed(path, config)
    step, limits = 0.1, config.limits
    allowed = v_allowed.detach().tolist()
    s, v = float(start.s.detach()), float(start.v.detach())
    positions = []
    count = round(float(node_time[-1]) / step)
    for _ in range(count):
        target = allowed[min(int(s / SPACING), len(allowed) - 1)]
        gain = limits.acceleration_max * 0.8 * step
        v = min(v + gain, target) if v < target else max(v - 2 * config.comfort.braking * step, target)
        s += v * step
        positions.append(s)
    at = torch.tensor([positions[round(float(t) / step) - 1] for t in node_time], dtype=torch.float64)
    i = (at / SPACING).floor().long().clamp(0, len(v_allowed) - 2)
    f = (at / SPACING - i).clamp(0, 1)
    return v_allowed[i] + (v_allowed[i + 1] - v_allowed[i]) * f

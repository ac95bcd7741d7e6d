"""Free-flow speed along the path: limits, curves and slowing down ahead of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planner import compiled
from planner.compiled import stage
from planner.config import PlannerConfig
from planner.path.reference_path import SPACING, ReferencePath
from planner.path.surface import Start

STEP = 0.1
"""s, of the drive at the allowed speeds."""

_free_speed: Any = compiled.kernel("dds_free_speed", "TTITTI fffff RJR nnn")
_free_speed_back: Any = compiled.kernel("dds_free_speed_back", "TTI fffff ITT RR nnn")


def allowed_speed(path: ReferencePath, config: PlannerConfig) -> Float[Tensor, "S n"]:
    """m/s at the paths' knots: the lower of speed limit and what curvature and its change allow in comfort,

    lowered backwards so that comfortable braking suffices: v_i^2 <= v_{i+1}^2 + 2 b ds. Arbitrary beyond a path's end.
    """
    comfort = config.comfort
    n, count = path.knots.shape[1], path.count.numpy()
    s = torch.arange(n, dtype=torch.float64) * SPACING
    # At the knots a segment's slope and moment are the derivatives; natural splines do not bend at their ends, and
    # beyond a path's end everything is zero.
    (fx, fy), (gx, gy) = (path.cubics[:, :, k].unbind(2) for k in (1, 2))
    square = torch.addcmul(fx * fx, fy, fy).clamp(min=0.25)
    inverse = square.rsqrt()
    curvature = torch.addcmul(fx * gy, fy, gx, value=-1) * (inverse * inverse * inverse)
    curvature = torch.nn.functional.pad(curvature, (1, 2))
    # Central differences, one-sided at the ends.
    apart = np.full((len(count), n), 2 * SPACING)
    apart[:, 0] = apart[np.arange(len(count)), count - 1] = SPACING
    change = (curvature[:, 2:] - curvature[:, :-2]).abs() / torch.from_numpy(apart)
    curvature = curvature[:, 1:-1].abs()
    v = path.speed_limit * comfort.speed_fraction
    v = torch.minimum(v, (comfort.lateral_acceleration / curvature.clamp(min=1e-4)).sqrt())
    v = torch.minimum(v, (comfort.curvature_rate / change.clamp(min=1e-4)).clamp(min=4.0))
    # Backward pass: v_i^2 = min over j >= i of v_j^2 + 2 b (s_j - s_i), a cumulative minimum from the right.
    ramp = 2 * comfort.braking * s
    reached = v * v + ramp
    if count.min() < n:
        reached = torch.where(torch.arange(n) < path.count[:, None], reached, 1e30)
    lowest = torch.flip(torch.cummin(torch.flip(reached, [1]), 1).values, [1])
    return (lowest - ramp).clamp(min=0.25).sqrt()


def free_speed(path: ReferencePath, start: Start, config: PlannerConfig, node_time: Tensor) -> Float[Tensor, "S N"]:
    """m/s: allowed speed where ego would be at the nodes if nobody were in the way."""
    nodes = [round(t / STEP) - 1 for t in node_time.tolist()]
    if _free_speed is None:
        return _free_speed_plain(path, start, config, nodes)
    return stage.apply(_FreeSpeed(path.count, start, config, nodes), path.cubics, path.attributes)[0]


class _FreeSpeed:
    """From cubics and attributes to the speeds at the nodes; and the segments and places where they are read."""

    def __init__(self, count: Tensor, start: Start, config: PlannerConfig, nodes: list[int]) -> None:
        comfort = config.comfort
        self.count, self.start, self.step = count, (start.s.detach(), start.v.detach()), torch.tensor(nodes)
        self.rules = (
            comfort.speed_fraction, comfort.lateral_acceleration, comfort.curvature_rate, comfort.braking,
            config.limits.acceleration_max,
        )  # fmt: skip

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        scenes, nodes = len(self.count), len(self.step)
        speed, place = (torch.empty(scenes, nodes, dtype=torch.float64) for _ in range(2))
        segment = torch.empty(scenes, nodes, dtype=torch.int64)
        _free_speed(
            *inputs, self.count, *self.start, self.step, *self.rules, speed, segment, place,
            scenes, nodes, inputs[1].shape[1],
        )  # fmt: skip
        return speed, segment, place

    def backward(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Any:
        if gradients[0] is None:
            return None, None
        out = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs]
        _free_speed_back(
            *inputs, self.count, *self.rules, *outputs[1:], gradients[0], *out,
            *outputs[0].shape, inputs[1].shape[1],
        )  # fmt: skip
        return tuple(out)


def _free_speed_plain(path: ReferencePath, start: Start, config: PlannerConfig, nodes: list[int]) -> Tensor:
    """The definition of what compiled/speed.cpp does."""
    allowed = allowed_speed(path, config)
    rows, count = allowed.detach().tolist(), path.count.tolist()
    states = zip(start.s.detach().tolist(), start.v.detach().tolist())
    driven = [_drive(row[:n], s, v, config, STEP, nodes[-1] + 1) for row, n, (s, v) in zip(rows, count, states)]
    at = np.array(driven)[:, nodes] / SPACING
    number = np.minimum(at.astype(np.int64), np.array(count)[:, None] - 2)
    f, i = torch.from_numpy(np.minimum(at - number, 1.0)), torch.from_numpy(number)
    begin = allowed.gather(1, i)
    return begin + (allowed.gather(1, i + 1) - begin) * f


def _drive(allowed: list[float], s: float, v: float, config: PlannerConfig, step: float, count: int) -> list[float]:
    """s (m) after each of the steps when following the allowed speeds at the knots, on plain numbers."""
    gain = config.limits.acceleration_max * 0.8 * step
    loss = 2 * config.comfort.braking * step
    last = len(allowed) - 1
    positions = []
    for _ in range(count):
        target = allowed[min(int(s / SPACING), last)]
        v = min(v + gain, target) if v < target else max(v - loss, target)
        s += v * step
        positions.append(s)
    return positions

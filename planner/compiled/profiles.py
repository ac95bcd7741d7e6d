"""`planner.decisions.offset_profile` compiled, for planning without a gradient; None from here: ask the definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from planner import compiled
from planner.compiled.records import obstacles_record, start_record
from planner.config import PlannerConfig
from planner.objects.obstacles import SOON, Obstacles
from planner.path.surface import Start, Surface
from planner.scene import VehicleParameters

if TYPE_CHECKING:
    from planner.decisions.offset_profile import Attempt

_base = compiled.kernel("dds_base_profile", "SS R")
_shape = compiled.kernel("dds_shape_profiles", "SSS TTT RJ")
_extents = compiled.kernel("dds_extents", "S I R nn")
_SURFACE = compiled.record("Surface", "nn TTTTT I")
_ATTEMPTS = compiled.record("Attempts", "nn I B II T")
_SHAPE = compiled.record("Shape", "fffff")


def wanted(*values: Tensor) -> bool:
    """A gradient of any of them is to be recorded."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in values)


def compiled_base(surface: Surface, start: Start) -> Tensor | None:
    """`base_profile` ``[S, G]``."""
    if _base is None or wanted(surface.lower, surface.upper, start.s, start.d, start.v):
        return None
    out = torch.empty(surface.s.shape, dtype=torch.float64)
    _base(_surface_record(surface), start_record(start), out)
    return out


def compiled_shapes(
    attempts: list[Attempt],
    extents: Tensor,
    surface: Surface,
    base: Tensor,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, list[list[int]]] | None:
    """`shape_profiles`, for one attempt at least."""
    if _shape is None or wanted(extents, base, surface.lower, surface.upper, surface.upper_all, start.v):
        return None
    most, comfort = max(len(a.wishes) for a in attempts), config.comfort
    fill = lambda name: [[*(getattr(w, name) for w in a.wishes), *[0] * (most - len(a.wishes))] for a in attempts]  # noqa: E731
    given = _ATTEMPTS(
        len(attempts), most, torch.tensor([a.scene for a in attempts]), torch.tensor([a.oncoming for a in attempts]),
        torch.tensor(fill("side")), torch.tensor(fill("row")), torch.tensor(fill("berth"), dtype=torch.float64),
    )  # fmt: skip
    half = vehicle.width / 2
    soft, hard = half + comfort.side_gap, half + config.margins.side + 0.05
    shape = _SHAPE(vehicle.front, vehicle.rear, hard, soft, comfort.side_gap_per_speed)
    out = torch.empty(len(attempts), surface.s.shape[1], dtype=torch.float64)
    taken = torch.empty(len(attempts), most, dtype=torch.int64)
    _shape(_surface_record(surface), given, shape, base, start.v, extents, out, taken)
    return out, taken.tolist()


def compiled_extents(obstacles: Obstacles, rows: Tensor) -> Tensor | None:
    """`Obstacles.extents_of` ``[Q, 4]``."""
    o = obstacles
    if _extents is None or wanted(o.s_lo, o.s_hi, o.d_lo, o.d_hi):
        return None
    out = torch.empty(len(rows), 4, dtype=torch.float64)
    soon = int(np.searchsorted(o.node_time.numpy(), SOON, side="right"))
    _extents(obstacles_record(o), rows, out, len(rows), soon)
    return out


def _surface_record(surface: Surface) -> Any:
    x = surface
    return _SURFACE(*x.s.shape, x.s, x.lower, x.upper, x.lower_all, x.upper_all, x.count)

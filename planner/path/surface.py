"""Where ego starts and how much room the map leaves it, in Frenet coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled import stage
from planner.config import PlannerConfig
from planner.path.reference_path import ReferencePath
from planner.scene import VectorScene, VehicleParameters
from planner.scene.frames import wrap_angle

GRID = 1.0
"""Spacing of the s grid on which the surface and offset profiles are given, m."""
STRAIGHT = 40.0
"""m: as far ahead our own way must not turn for others to wait."""
BEHIND, LENGTH = 10.0, 160.0
"""The grid begins this far behind ego and is this long, m, where the path is."""


_usable_surface: Any = compiled.kernel("dds_usable_surface", "TTITITT ff RC nnn")
_usable_surface_back: Any = compiled.kernel("dds_usable_surface_back", "TITI ff TTTTR nnn")


@dataclass
class Start:
    """Ego's initial Frenet states ``[S]``: s, d (m), psi (rad), kappa (1/m), v (m/s), a (m/s^2).

    bend (1/m): curvature of the path there.
    """

    s: Float[Tensor, " S"]
    d: Float[Tensor, " S"]
    psi: Float[Tensor, " S"]
    kappa: Float[Tensor, " S"]
    v: Float[Tensor, " S"]
    a: Float[Tensor, " S"]
    bend: Float[Tensor, " S"]

    def rows(self, scene: Int[Tensor, " R"]) -> Start:
        """The states of the given scenes."""
        return Start(*torch.stack([getattr(self, f.name) for f in fields(self)])[:, scene].unbind(0))


@dataclass
class Surface:
    """Room for the rear-axle point on an s grid ``[S, G]``: its offset may lie in [lower, upper] m.

    Half the width and the boundary margin are taken off. lower_all, upper_all include the oncoming surface.
    count ``[S]``: cells of each scene; beyond them s runs on and everything else, offset profiles included, keeps its
    last value. straight ``[S]``: our own way does not turn within the next 40 m, so others who turn across it wait.
    """

    s: Float[Tensor, "S G"]
    lower: Float[Tensor, "S G"]
    upper: Float[Tensor, "S G"]
    lower_all: Float[Tensor, "S G"]
    upper_all: Float[Tensor, "S G"]
    straight: Bool[Tensor, " S"]
    count: Int[Tensor, " S"]


def start_state(scene: VectorScene, path: ReferencePath) -> Start:
    """Where ego is on the paths of S scenes, and how it moves."""
    ego = scene.ego
    s, d, _, heading, bend = path.locate(torch.stack([ego.x, ego.y], -1))
    return Start(s, d, wrap_angle(ego.yaw - heading), ego.curvature, ego.v.clamp(min=0), ego.a, bend)


def usable_surface(path: ReferencePath, start: Start, vehicle: VehicleParameters, config: PlannerConfig) -> Surface:
    """The corridor of the map along the path, from a little behind ego to the end of what matters."""
    here, length = start.s.detach().numpy(), path.length.numpy()
    first = np.maximum(here - BEHIND, 0.0)
    count = np.ceil((np.minimum(first + LENGTH, length) - first) / GRID).astype(np.int64)
    s = first[:, None] + GRID * np.arange(count.max())
    ahead = np.minimum(here + STRAIGHT, length)
    inside = vehicle.width / 2 + config.margins.boundary
    if _usable_surface is None:
        found = _surface_plain(path, s, count, here, ahead, inside)
    else:
        found = stage.apply(_Room(path, first, count, here, ahead, inside), path.attributes)
    lower, upper, lower_all, upper_all, straight = found
    return Surface(torch.from_numpy(s), lower, upper, lower_all, upper_all, straight, torch.from_numpy(count))


class _Room:
    """From attributes to the ends of the usable surface, and whether the path is straight."""

    def __init__(
        self, path: ReferencePath, first: np.ndarray, count: np.ndarray, here: np.ndarray, ahead: np.ndarray,
        inside: float,
    ) -> None:  # fmt: skip
        self.path, self.inside, self.grid = path, inside, int(count.max())
        self.first, self.count, self.here, self.ahead = (torch.from_numpy(x) for x in (first, count, here, ahead))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        scenes, n = inputs[0].shape[:2]
        ends = torch.empty(4, scenes, self.grid, dtype=torch.float64)
        straight = torch.empty(scenes, dtype=torch.bool)
        _usable_surface(
            inputs[0], self.path.cubics, self.path.count, self.first, self.count, self.here, self.ahead, self.inside,
            GRID, ends, straight, scenes, self.grid, n,
        )  # fmt: skip
        return *ends.unbind(0), straight

    def backward(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Any:
        out = torch.zeros_like(inputs[0], memory_format=torch.contiguous_format)
        scenes, n = out.shape[:2]
        _usable_surface_back(
            inputs[0], self.path.count, self.first, self.count, self.inside, GRID, *gradients[:4], out,
            scenes, self.grid, n,
        )  # fmt: skip
        return (out,)


def _surface_plain(
    path: ReferencePath, s: np.ndarray, count: np.ndarray, here: np.ndarray, ahead: np.ndarray, inside: float
) -> tuple[Tensor, ...]:
    """The definition of what compiled/surface.cpp does."""
    room = path.surroundings(s)
    near = room[..., :2]  # to the left and to the right
    sides = torch.stack([near, near + room[..., 2:4]], -2) - inside  # without and with the oncoming surface
    lower, upper = -sides[..., 1], sides[..., 0]
    # Where the map leaves no room at all, its width is not believed: 0.1 m about the middle remains.
    # Whether the vehicle really fits is for the checker, which uses the exact drivable area.
    middle = (lower + upper) / 2
    closed = lower > upper - 0.1
    ends = torch.stack([torch.where(closed, middle - 0.05, lower), torch.where(closed, middle + 0.05, upper)])
    cells = torch.from_numpy(count)
    (lower, upper), (lower_all, upper_all) = hold(ends.permute(3, 0, 1, 2), cells)
    return lower, upper, lower_all, upper_all, torch.from_numpy(_straight(path, here, ahead))


def hold(values: Float[Tensor, "*any L G"], count: Int[Tensor, " L"]) -> Float[Tensor, "*any L G"]:
    """Values along the grid with the last one of each row repeated beyond its `count` cells."""
    cells = values.shape[-1]
    if int(count.min()) == cells:
        return values
    index = torch.minimum(torch.arange(cells), count[:, None] - 1)
    return values.gather(-1, index.expand_as(values))


def _straight(path: ReferencePath, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """``[S]``: the path's heading at nine places from first to last (m) stays within 0.4 rad of the first."""
    at = first[:, None] + (last - first)[:, None] * np.linspace(0, 1, 9)
    i = np.minimum(at.astype(np.int64), path.count.numpy()[:, None] - 2)
    own = path.cubics.detach().numpy().view(np.complex128)[np.arange(len(at))[:, None], i, :, 0]
    t = at - i
    forward = own[..., 1] + t * (own[..., 2] + t / 2 * own[..., 3])
    turn = forward * forward[:, :1].conj()
    return (np.abs(turn.imag) < np.tan(0.4) * turn.real).all(1)

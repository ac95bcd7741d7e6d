"""Lateral offsets to aim for along the path, with gradients to surface, boxes and ego's state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.compiled.profiles import compiled_base, compiled_shapes
from planner.config import PlannerConfig
from planner.path.surface import GRID, Start, Surface, hold
from planner.scene import AgentClass, VehicleParameters

WALKING = (AgentClass.PEDESTRIAN, AgentClass.BICYCLE)
WALKING_BERTH = 0.6
"""m beyond the hard margin: people closer than this to our way are given a wider berth where there is room."""
FAR = 1e3
"""m: an offset no profile reaches."""


class Wish(NamedTuple):
    """To pass an agent on a side: +1 ego on its left, -1 on its right.

    row: of its extent. berth: m of comfort added to the gap.
    """

    agent: int
    side: int
    row: int
    berth: float


@dataclass
class Attempt:
    """Passing agents of one scene, nearest first.

    blocker: the agent to get round over the oncoming surface too, -1 when staying on our own.
    """

    scene: int
    wishes: list[Wish]
    blocker: int = -1

    @property
    def oncoming(self) -> bool:
        return self.blocker >= 0


_NO_WISH = Wish(0, 0, 0, 0.0)


def base_profile(surface: Surface, start: Start) -> Float[Tensor, "S G"]:
    """The path itself where there is room, reached from the present offset over about three seconds."""
    found = compiled_base(surface, start)
    return plain_base(surface, start) if found is None else found


def plain_base(surface: Surface, start: Start) -> Float[Tensor, "S G"]:
    """`base_profile` with gradients, and without anything compiled."""
    s = surface.s
    inset = (0.5 * (surface.upper - surface.lower)).clamp(0.0, 0.2)
    target = torch.zeros_like(s).clamp(min=surface.lower + inset, max=surface.upper - inset)
    target = _smooth(target, 4)
    x = ((s - start.s[:, None]) / (3.0 * start.v[:, None]).clamp(min=12.0)).clamp(0, 1)
    ease = 1 - x * x * x * ((6 * x - 15) * x + 10)
    cell = np.rint((start.s.detach().numpy() - s.numpy()[:, 0]) / GRID).clip(0, surface.count.numpy() - 1)
    here = target.gather(1, torch.from_numpy(cell.astype(np.int64))[:, None])
    return hold(torch.addcmul(target, start.d[:, None] - here, ease), surface.count)


def shape_profiles(
    attempts: list[Attempt],
    extents: Float[Tensor, "Q 4"],
    surface: Surface,
    base: Float[Tensor, "S G"],
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Float[Tensor, "L G"], list[list[int]]]:
    """Offset profiles past the agents of each attempt, and the sides taken, by wish; 0 where there is no room on that

    side. extents: (s_lo, s_hi, d_lo, d_hi) of agents (m), to which the wishes refer.
    """
    if not attempts:
        return base[:0], []
    given = (attempts, extents, surface, base, start, vehicle, config)
    return compiled_shapes(*given) or plain_shapes(*given)


def plain_shapes(
    attempts: list[Attempt],
    extents: Float[Tensor, "Q 4"],
    surface: Surface,
    base: Float[Tensor, "S G"],
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Float[Tensor, "L G"], list[list[int]]]:
    """`shape_profiles` with gradients, and without anything compiled; for one attempt at least."""
    most = max(len(a.wishes) for a in attempts)
    wishes = np.array([a.wishes + [_NO_WISH] * (most - len(a.wishes)) for a in attempts])  # [L, W, 4]
    scene = torch.tensor([a.scene for a in attempts])
    base, s, v, count = (x[scene] for x in (base, surface.s, start.v, surface.count))
    # Left and right are handled alike: limits [L, 2, G] are upward and, mirrored, downward.
    over = torch.tensor([a.oncoming for a in attempts])[:, None]
    upper = torch.where(over, surface.upper_all[scene], surface.upper[scene])
    lower = torch.where(over, surface.lower_all[scene], surface.lower[scene])
    limit = torch.stack([upper, -lower], 1)
    aims = torch.from_numpy(wishes[..., 1:2] == [1, -1])  # [L, W, 2]
    rise, edge, gap, beside = _demands(wishes, extents, s, v, count, vehicle, config)

    bound = torch.full_like(limit, -FAR)
    taken = []
    hard = vehicle.width / 2 + config.margins.side + 0.05
    for rank in range(most):
        room = torch.where(beside[:, rank, None], torch.minimum(limit, -bound.flip(1)), torch.inf).amin(2)  # [L, 2]
        need = edge[:, rank] + hard
        fits = aims[:, rank] & (need <= room)
        aim = torch.minimum(edge[:, rank] + gap[:, rank, None], torch.maximum(room - 0.05, need))
        raised = torch.maximum(bound, aim[..., None] - rise[:, rank, None])
        bound = torch.where(fits[..., None], raised, bound)
        taken.append(fits)
    sides = torch.stack(taken, 1).long()
    profile = torch.maximum(torch.minimum(base, -bound[:, 1]), bound[:, 0])
    profile = _smooth(hold(profile, count), 2)
    profile = profile.clamp(min=torch.minimum(lower, base), max=torch.maximum(upper, base))
    return hold(profile, count), (sides[..., 0] - sides[..., 1]).tolist()


def _demands(
    wishes: Float[np.ndarray, "L W 4"],
    extents: Float[Tensor, "Q 4"],
    s: Float[Tensor, "L G"],
    v: Float[Tensor, " L"],
    count: Int[Tensor, " L"],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of every wish: how much lower the profile may be further away ``[L, W, G]`` m, the agent's edges ``[L, W, 2]``

    (left, mirrored right), the wished gap ``[L, W]`` and the cells beside it.
    """
    lo_s, hi_s, lo_d, hi_d = extents[torch.from_numpy(wishes[..., 2].astype(np.int64))].unbind(2)
    first, last = (lo_s - (vehicle.front + 1.0))[..., None], (hi_s + (vehicle.rear + 1.0))[..., None]
    away = torch.maximum(first - s[:, None], s[:, None] - last).clamp(min=0)
    rise = away * (2.0 / (2.0 * v).clamp(min=9.0))[:, None, None]
    soft = (vehicle.width / 2 + config.comfort.side_gap) + config.comfort.side_gap_per_speed * v[:, None]
    gap = soft + torch.from_numpy(wishes[..., 3])
    beside = _cells(s.numpy()[:, None], first.detach().numpy(), last.detach().numpy(), count.numpy()[:, None, None])
    return rise, torch.stack([hi_d, -lo_d], 2), gap, torch.from_numpy(beside)


def _cells(s: np.ndarray, first: np.ndarray, last: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``[L, W, G]``: the cells within [first, last] ``[L, W, 1]`` m; the nearest one if there is none."""
    number = np.arange(s.shape[2])
    mask = (s >= first) & (s <= last) & (number < count)
    none = ~mask.any(2)
    if none.any():
        nearest = np.minimum(np.rint((first - s[..., :1]) / GRID).clip(min=0), count - 1)
        mask[none] = (number == nearest)[none]
    return mask


def _smooth(values: Float[Tensor, "L G"], half: int) -> Float[Tensor, "L G"]:
    """Moving average over 2 half + 1 cells; beyond the ends the values are constant."""
    padded = torch.nn.functional.pad(values[:, None], (half, half), mode="replicate")
    return torch.nn.functional.conv1d(padded, _average(2 * half + 1))[:, 0]


@lru_cache(maxsize=4)
def _average(cells: int) -> Tensor:
    return torch.full((1, 1, cells), 1 / cells, dtype=torch.float64)

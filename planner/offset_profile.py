"""Lateral offsets to aim for along the path, with gradients to surface, boxes and ego's state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.obstacles import Obstacles
from planner.scene import AgentClass, VehicleParameters
from planner.surface import GRID, Start, Surface, hold

WALKING = (AgentClass.PEDESTRIAN, AgentClass.BICYCLE)
WALKING_BERTH = 0.6
"""m beyond the hard margin: people closer than this to our way are given a wider berth where there is room."""
FAR = 1e3
"""m: an offset no profile reaches."""


@dataclass
class Attempt:
    """Passing agents of one scene: (agent, +1 to pass on its left or -1 on its right), nearest first.

    blocker: the agent to get round over the oncoming surface too, -1 when staying on our own.
    """

    scene: int
    wish: list[tuple[int, int]]
    blocker: int = -1

    @property
    def oncoming(self) -> bool:
        return self.blocker >= 0


def base_profile(surface: Surface, start: Start) -> Float[Tensor, "S G"]:
    """The path itself where there is room, reached from the present offset over about three seconds."""
    s = surface.s
    inset = ((surface.upper - surface.lower).clamp(min=0) / 2).clamp(max=0.2)
    target = torch.zeros_like(s).clamp(min=surface.lower + inset, max=surface.upper - inset)
    target = _smooth(target, 4)
    x = ((s - start.s[:, None]) / (3.0 * start.v[:, None]).clamp(min=12.0)).clamp(0, 1)
    ease = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    cell = ((start.s.detach() - s[:, 0]) / GRID).round().long().clamp(min=0)
    here = target.gather(1, torch.minimum(cell, surface.count - 1)[:, None])
    return hold(torch.addcmul(target, start.d[:, None] - here, ease), surface.count)


def shape_profiles(
    attempts: list[Attempt],
    obstacles: Obstacles,
    surface: Surface,
    base: Float[Tensor, "S G"],
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Float[Tensor, "L G"], list[list[int]]]:
    """Offset profiles past the agents of each attempt, and the sides taken, by wish; 0 where there is no room on that

    side.
    """
    if not attempts:
        return base[:0], []
    most = max(len(a.wish) for a in attempts)
    scene = torch.tensor([a.scene for a in attempts])
    wish = torch.tensor([a.wish + [(0, 0)] * (most - len(a.wish)) for a in attempts])
    agent, side = wish.unbind(2)  # [L, W]
    base, s, v, count = (x[scene] for x in (base, surface.s, start.v, surface.count))
    # Left and right are handled alike: limits [L, 2, G] are upward and, mirrored, downward.
    own = torch.stack([surface.upper, -surface.lower, surface.upper_all, -surface.lower_all], 1)[scene]
    limit = torch.where(torch.tensor([a.oncoming for a in attempts])[:, None, None], own[:, 2:], own[:, :2])
    aims, rise, edge, gap, beside = _demands(scene[:, None], agent, side, obstacles, s, v, count, vehicle, config)

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
    lower, upper = bound[:, 0], -bound[:, 1]
    profile = _smooth(hold(torch.maximum(torch.minimum(base, upper), lower), count), 2)
    profile = profile.clamp(min=torch.minimum(-limit[:, 1], base), max=torch.maximum(limit[:, 0], base))
    return hold(profile, count), (sides[..., 0] - sides[..., 1]).tolist()


def _demands(
    scene: Tensor,
    agent: Tensor,
    side: Tensor,
    obstacles: Obstacles,
    s: Float[Tensor, "L G"],
    v: Float[Tensor, " L"],
    count: Tensor,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of every wish: the sides it aims at ``[L, W, 2]``, how much lower the profile may be further away ``[L, W, G]`` m,

    the agent's edges ``[L, W, 2]`` (left, mirrored right), the wished gap ``[L, W]`` and the cells beside it.
    """
    lo_s, hi_s, lo_d, hi_d = obstacles.extents[scene, agent].unbind(2)
    first, last = (lo_s - vehicle.front - 1.0)[..., None], (hi_s + vehicle.rear + 1.0)[..., None]
    away = torch.maximum(first - s[:, None], s[:, None] - last).clamp(min=0)
    rise = away * (2.0 / (2.0 * v).clamp(min=9.0))[:, None, None]
    soft = vehicle.width / 2 + config.comfort.side_gap + config.comfort.side_gap_per_speed * v
    kind = obstacles.agent_class[scene, agent]
    walks = (kind == WALKING[0]) | (kind == WALKING[1])
    gap = torch.where(walks, soft[:, None] + WALKING_BERTH, soft[:, None])
    aims = torch.stack([side > 0, side < 0], 2)
    return aims, rise, torch.stack([hi_d, -lo_d], 2), gap, _cells(s, first.detach(), last.detach(), count)


def _cells(s: Tensor, first: Tensor, last: Tensor, count: Tensor) -> Bool[Tensor, "L W G"]:
    """Cells within [first, last] ``[L, W, 1]`` m; the nearest one if there is none."""
    number = torch.arange(s.shape[1])
    mask = (s[:, None] >= first) & (s[:, None] <= last) & (number < count[:, None, None])
    nearest = ((first - s[:, None, :1]) / GRID).round().clamp(min=0)
    nearest = torch.minimum(nearest, count[:, None, None] - 1)
    return mask | (~mask.any(2, keepdim=True) & (number == nearest))


def _smooth(values: Float[Tensor, "L G"], half: int) -> Float[Tensor, "L G"]:
    """Moving average over 2 half + 1 cells; beyond the ends the values are constant."""
    kernel = torch.full((1, 1, 2 * half + 1), 1 / (2 * half + 1), dtype=values.dtype)
    padded = torch.nn.functional.pad(values[:, None], (half, half), mode="replicate")
    return torch.nn.functional.conv1d(padded, kernel)[:, 0]

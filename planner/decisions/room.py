"""Room for who drifts towards our lane while we pass: aimed aside within it, long before anything is in the way."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start, Surface, hold
from planner.scene import VehicleParameters

WANDERING, CERTAIN, CHANGING = 0.1, 0.25, 0.5
"""m/s towards our path: every driver wanders so fast; who comes so fast is given all the room; and at once."""
NEAR = 2.5
"""m between the sides: who is farther away needs none."""
WITH_US = 0.5
"""Share of the speed along our path; who crosses it is no neighbour."""
SOON = 3.0
"""s until we are beside."""
URGENT = 300.0
"""So much more than else the offset counts where all the room is to be given."""
AT_ONCE = 0.4
"""s: as soon as that the offset is aimed for."""


def give_room(
    base: Float[Tensor, "S G"],
    obstacles: Obstacles,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Float[Tensor, "S G"], Float[Tensor, " S"]]:
    """The offset profile moved away from moving agents that come towards it from beside, by `Decisions.room` at most,
    and the factor on the weight of the offset with which it is aimed for.

    How far is discrete and carries no gradient; the rest of the profile does. It stays on our own surface, and does not
    come close to others on the far side.
    """
    if not config.decisions.room > 0.0:
        return base, torch.ones(len(base), dtype=torch.float64)
    aside, towards = _aside(obstacles, start, vehicle, config)
    hurry = np.clip((towards - WANDERING) / (CHANGING - WANDERING), 0.0, 1.0)
    urgency = torch.from_numpy(1.0 + URGENT * hurry**2)
    if not aside.any():
        return base, urgency
    shift = torch.from_numpy(aside)[:, None]
    ahead = ((surface.s - start.s.detach()[:, None]) / (AT_ONCE * start.v.detach()[:, None]).clamp(min=2.0)).clamp(0, 1)
    most, least = torch.maximum(shift, base), torch.minimum(shift, base)
    moved = (base + shift * ahead).clamp(min=least, max=most)
    moved = moved.clamp(min=torch.minimum(surface.lower, base), max=torch.maximum(surface.upper, base))
    return hold(moved, surface.count), urgency


def _aside(
    obstacles: Obstacles, start: Start, vehicle: VehicleParameters, config: PlannerConfig
) -> tuple[np.ndarray, np.ndarray]:
    """``[S]``: how far to keep away from the path (m, to the left), and how fast somebody comes (m/s)."""
    now = lambda x: x.detach().numpy()[:, :, 0, 0]  # noqa: E731
    s_lo, d_lo = now(obstacles.s_lo).min(-1), now(obstacles.d_lo).min(-1)
    s_hi, d_hi = now(obstacles.s_hi).max(-1), now(obstacles.d_hi).max(-1)
    s, d, v = (x.detach().numpy()[:, None] for x in (start.s, start.d, start.v))
    speed, along = obstacles.speed.detach().numpy(), obstacles.speed_s.detach().numpy()
    left = 0.5 * (d_lo + d_hi) > d
    between = np.where(left, d_lo - d, d - d_hi) - vehicle.width / 2
    across = speed * np.sin(now(obstacles.relative_heading))
    towards = np.where(left, -across, across)
    closing = v - along
    beside = (s_lo - (s + vehicle.front) < SOON * np.maximum(closing, 0.0)) & (s_hi > s - vehicle.rear)
    near = obstacles.present.numpy() & beside
    wish = config.decisions.room * np.clip((towards - WANDERING) / (CERTAIN - WANDERING), 0.0, 1.0)
    comes = near & (along > WITH_US * speed) & (between > 0.0) & (between < NEAR)
    wish = np.where(comes, wish, 0.0)
    # Nobody on the other side is to be crowded for it.
    free = between - (config.margins.side + config.comfort.side_gap)
    room = lambda side: np.where(near & side, np.maximum(free, 0.0), np.inf).min(1)  # noqa: E731
    to_left, to_right = np.where(left, 0.0, wish).max(1), np.where(left, wish, 0.0).max(1)
    aside = np.minimum(to_left, room(left)) - np.minimum(to_right, room(~left))
    return aside, np.where(aside != 0.0, np.where(wish > 0.0, towards, 0.0).max(1), 0.0)

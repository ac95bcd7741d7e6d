"""The lateral corridor of every candidate: map and agents beside, at every circle of the footprint."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.decisions import CandidateSet
from planner.grid import make_grid
from planner.lateral import LateralBounds, circle_offsets
from planner.longitudinal import LongitudinalMotion
from planner.manoeuvres import GRID, Manoeuvre, Start, Surface
from planner.obstacles import Obstacles
from planner.scene import VehicleParameters

NEAR = 8.0
"""Within this distance driven (m), a hard side margin that does not hold now gives way; further on it holds."""


def lateral_bounds(
    candidates: CandidateSet,
    manoeuvres: list[Manoeuvre],
    obstacles: Obstacles,
    surface: Surface,
    motion: LongitudinalMotion,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> LateralBounds:
    """Corridor of every candidate at every circle, given where it will be when."""
    grid = make_grid(config.horizon)
    s_exact = motion.s[:, :, grid.node]
    s = s_exact.detach()  # [K, 2, N]; gates and cells are discrete
    offsets = circle_offsets(vehicle)
    at = s[..., None] + offsets  # [K, 2, N, C]
    index = torch.tensor(candidates.manoeuvre)
    oncoming = torch.tensor([manoeuvres[i].oncoming for i in candidates.manoeuvre])
    reach = vehicle.length / (2 * len(offsets))
    lower = torch.where(oncoming[:, None], surface.lower_all, surface.lower)
    upper = torch.where(oncoming[:, None], surface.upper_all, surface.upper)
    lower, upper = _window(lower, at, surface, torch.maximum), _window(upper, at, surface, torch.minimum)
    closed = lower > upper - 0.1
    middle = (lower + upper) / 2
    lower, upper = torch.where(closed, middle - 0.05, lower), torch.where(closed, middle + 0.05, upper)

    # A start outside the corridor may return over time instead of emptying the problem.
    d0 = start.d + offsets * start.psi - start.bend * offsets**2 / 2
    out_low = (lower[:, :, :1] - d0).clamp(min=0) + 0.02
    out_high = (d0 - upper[:, :, :1]).clamp(min=0) + 0.02
    # Over distance, not time: at standstill nobody returns anywhere.
    settle = 2.0 * start.v + 2.0
    fade = (1 - (s_exact - start.s - settle) / settle.clamp(min=6.0)).clamp(0, 1)[..., None]
    lower, upper = lower - out_low * fade, upper + out_high * fade

    profile = torch.stack([m.profile for m in manoeuvres])[index]  # [K, S]
    sides = torch.zeros(len(manoeuvres), len(obstacles), dtype=torch.int64)
    for i, m in enumerate(manoeuvres):
        for a, which in m.side.items():
            sides[i, a] = which
    above, below, who_above, who_below = _beside(
        candidates, profile, sides[index], obstacles, surface, at, reach, vehicle, config
    )
    # Already closer than the margin to what is right here: do not come closer.
    here_still = (s - start.s.detach() < NEAR)[..., None]
    side = config.margins.side
    above = torch.where(here_still, torch.minimum(above, torch.maximum(above - side, d0 - 0.01)), above)
    below = torch.where(here_still, torch.maximum(below, torch.minimum(below + side, d0 + 0.01)), below)
    # Where ego has not moved yet, staying is allowed, whoever comes close.
    stays = (s - start.s.detach() < 0.5)[..., None]
    above = torch.where(stays, torch.minimum(above, d0 - 0.05), above)
    below = torch.where(stays, torch.maximum(below, d0 + 0.05), below)
    lower_id, upper_id = torch.where(above > lower, who_above, -1), torch.where(below < upper, who_below, -1)
    lower, upper = torch.maximum(lower, above), torch.minimum(upper, below)

    cell = ((s_exact - surface.s[0]) / GRID).clamp(0, len(surface.s) - 2)
    index, f = cell.long(), cell - cell.long()
    take = lambda j: profile.gather(1, j.flatten(1)).reshape(j.shape)  # noqa: E731
    here, after = take(index), take(index + 1)
    slope = torch.atan((after - here) / GRID)
    return LateralBounds(lower, upper, lower_id, upper_id, here + (after - here) * f, slope)


def _beside(
    candidates: CandidateSet,
    profile: Float[Tensor, "K S"],
    sides: Tensor,
    obstacles: Obstacles,
    surface: Surface,
    at: Float[Tensor, "K 2 N C"],
    reach: float,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets ``[K, 2, N, C]`` the axis points must stay above and below for agents beside them, and whose they are.

    A piece of an agent lies on the side of the profile on which it is; agents that the manoeuvre passes have their side
    given. Pieces that touch the band are longitudinal matters, or were accepted as unlikely.
    """
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    room = vehicle.width / 2 + config.margins.side
    d_lo, d_hi = obstacles.d_lo[:, :, 1:], obstacles.d_hi[:, :, 1:]
    s_lo, s_hi = obstacles.s_lo[:, :, 1:], obstacles.s_hi[:, :, 1:]
    # Only (agent, mode) pairs that come close to any profile at all.
    cell = (((s_lo + s_hi).detach() / 2 - surface.s[0]) / GRID).round().long().clamp(0, len(surface.s) - 1)
    band_low, band_high = profile.amin(0)[cell], profile.amax(0)[cell]
    close = (d_hi > band_low - room - 2.0) & (d_lo < band_high + room + 2.0) & obstacles.active[:, :, 1:, None]
    pair = close.flatten(2).any(-1).nonzero()
    if not len(pair):
        nobody = torch.full(at.shape, -1, dtype=torch.int64)
        return (
            torch.full(at.shape, -torch.inf, dtype=torch.float64),
            torch.full(at.shape, torch.inf, dtype=torch.float64),
            nobody,
            nobody,
        )
    a, m = pair[:, 0], pair[:, 1]
    d_lo, d_hi, s_lo, s_hi = (x[a, m] for x in (d_lo, d_hi, s_lo, s_hi))  # [Q, N, P]
    active = obstacles.active[a, m, 1:]
    here = profile[:, cell[a, m]]  # [K, Q, N, P]
    touches = (d_hi > here - room + 0.02) & (d_lo < here + room - 0.02)
    given = sides[:, a][..., None, None]
    likely = (obstacles.weight[a, m] > 0.5 * config.risk.hit_probability)[None, :, None, None]
    on_left = torch.where(given != 0, given < 0, (d_lo + d_hi) / 2 > here)
    counts = active[None, ..., None] & torch.where(given != 0, likely | touches, ~touches)
    # [K, 2, N, C, Q, P]
    near = (at[..., None, None] > s_lo.transpose(0, 1)[:, None] - reach - 0.3) & (
        at[..., None, None] < s_hi.transpose(0, 1)[:, None] + reach + 0.3
    )
    order = lambda x: x.transpose(1, 2)[:, None, :, None]  # noqa: E731  [K, Q, N, P] -> [K, 1, N, 1, Q, P]
    keep_above = near & order(counts & ~on_left)
    keep_below = near & order(counts & on_left)
    floor = torch.where(keep_above, d_hi.transpose(0, 1)[:, None], -inf).amax(-1)
    ceiling = torch.where(keep_below, d_lo.transpose(0, 1)[:, None], inf).amin(-1)
    above, first = floor.max(-1)
    below, second = ceiling.min(-1)
    names = obstacles.track_id[a]
    return above + room, below - room, names[first], names[second]


def _window(values: Tensor, at: Tensor, surface: Surface, pick: object) -> Tensor:
    """Strictest of per-cell values ``[K, S]`` over the cells within one cell of the points ``[K, 2, N, C]``."""
    cell = ((at - surface.s[0]) / GRID).round().long()
    out = None
    for shift in (-1, 0, 1):
        j = (cell + shift).clamp(0, values.shape[1] - 1)
        part = values.gather(1, j.flatten(1)).reshape(at.shape)
        out = part if out is None else pick(out, part)  # type: ignore[operator]
    assert out is not None
    return out

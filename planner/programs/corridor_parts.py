"""What corridors are made from: the floors of the map, and which pieces of agents lie beside which way to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled.stage import Tensors, apply, workers
from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.objects.obstacles import Obstacles
from planner.path.surface import GRID, Surface
from planner.programs.lateral import CIRCLES
from planner.scene import VehicleParameters

BESIDE = 0.3
"""m, beyond the circle's own reach: how far ahead and behind an agent still counts as beside it."""
TOUCH = 0.02
"""m by which a piece has to reach into the band about the profile to count as in the way."""
WATCHED = 2.0
"""m beside the band: only (agent, mode) pairs that come closer to any profile at all count."""


def map_floor(surface: Surface) -> Float[Tensor, "2 S 2 G2"]:
    """Strictest of the surface's floors within one cell, in m: side 0 its lower limit, side 1 the negative upper one;
    without and with the oncoming surface; over the surface's cells and one more at either end.

    Where they leave no room, 0.1 m about the middle remains.
    """
    limits = (surface.lower, surface.upper, surface.lower_all, surface.upper_all)
    return map_floor_plain(*limits) if _FLOOR is None else apply(_Floor(), *limits)[0]


def map_floor_plain(lower: Tensor, upper: Tensor, lower_all: Tensor, upper_all: Tensor) -> Tensor:
    """What the compiled version computes."""
    each = torch.stack([torch.stack([lower, lower_all], 1), torch.stack([-upper, -upper_all], 1)])
    wide = torch.cat([each[..., :1], each[..., :1], each, each[..., -1:], each[..., -1:]], -1)
    floor = torch.maximum(torch.maximum(wide[..., :-2], wide[..., 2:]), wide[..., 1:-1])
    other = floor.flip(0)
    return torch.where(floor + other > -0.1, (floor - other) / 2 - 0.05, floor)


class _Floor:
    """`map_floor_plain`, compiled; a `planner.compiled.stage.Stage`."""

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        scenes, cells = inputs[0].shape
        floor = torch.empty(2, scenes, 2, cells + 2, dtype=torch.float64)
        assert _FLOOR is not None
        _FLOOR(*inputs, floor, scenes, cells)
        return (floor,)

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        found = tuple(torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        assert _FLOOR_ADJOINT is not None
        _FLOOR_ADJOINT(*inputs, *gradients, *found, *inputs[0].shape)
        return found


@dataclass
class Pieces:
    """Pieces of agents that are a lateral matter for a variant in use, K at most in each scene at each of N nodes.

    reach ``[S, N, 4, K]`` m: between which two places along the path a circle's centre is beside, and the floors that
    the piece sets for who stays above and below it, without the room kept beside it. item ``[S, N, K]``: the piece's
    number in the flattened arrays of `by_piece`. beside ``[S, N, V, 2, K]``: ego stays above it, below it; of variants
    in use. count ``[S, N]``: entries that are meant.
    """

    reach: Float[Tensor, "S N 4 K"]
    item: Int[Tensor, "S N K"]
    beside: Bool[Tensor, "S N V 2 K"]
    count: Int[Tensor, "S N"]


def by_piece(values: Float[Tensor, "S A M N P"]) -> Float[Tensor, "S A P M N"]:
    """The obstacles' intervals in the order in which they lie in memory."""
    return values.permute(0, 1, 4, 2, 3)


def pieces_beside(
    which: Int[Tensor, " R"],
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    surface: Surface,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Pieces:
    """which: scene and manoeuvre of the candidates, as one index.

    A piece of an agent lies on the side of the profile on which it is; agents that the manoeuvre passes have their side
    given. Pieces that touch the band about the profile are longitudinal matters, or were accepted as unlikely.
    """
    scenes, variants, cells = manoeuvres.profile.shape
    used = torch.zeros(scenes * variants, dtype=torch.bool)
    used[which] = True
    likely = obstacles.weight.detach() > 0.5 * config.risk.hit_probability
    _, agents, modes, nodes, pieces = obstacles.s_lo.shape
    listed = agents * modes * pieces + 1
    found = Pieces(
        torch.empty(scenes, nodes - 1, 4, listed, dtype=torch.float64),
        torch.empty(scenes, nodes - 1, listed, dtype=torch.int64),
        torch.empty(scenes, nodes - 1, variants, 2, listed, dtype=torch.bool),
        torch.empty(scenes, nodes - 1, dtype=torch.int64),
    )
    room, reach = vehicle.width / 2 + config.margins.side, vehicle.length / (2 * CIRCLES) + BESIDE
    intervals = (by_piece(x) for x in (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi))
    ways = (manoeuvres.profile, manoeuvres.side, used, surface.s[:, 0])
    given = (*intervals, obstacles.active, likely, *ways, found.reach, found.item, found.beside, found.count)
    if _BESIDE is None:
        pieces_plain(room, reach, *(x.detach().numpy() for x in given))
    else:
        threads = workers(scenes, config.solver.threads, 40.0)
        _BESIDE(GRID, room, reach, *given, scenes, variants, cells, agents, modes, nodes, pieces, listed, threads)
    return found


def pieces_plain(
    room: float, reach: float, s_lo: np.ndarray, s_hi: np.ndarray, d_lo: np.ndarray, d_hi: np.ndarray,
    active: np.ndarray, likely: np.ndarray, profile: np.ndarray, side: np.ndarray, used: np.ndarray,
    first_s: np.ndarray, ends: np.ndarray, item: np.ndarray, beside: np.ndarray, count: np.ndarray,
) -> None:  # fmt: skip
    """What the compiled version writes to the last four, which are the fields of Pieces."""
    numbers = np.arange(s_lo.size).reshape(s_lo.shape)
    s_lo, s_hi, d_lo, d_hi, numbers = (x.transpose(0, 1, 3, 4, 2) for x in (s_lo, s_hi, d_lo, d_hi, numbers))
    scenes, _, _, nodes, _ = s_lo.shape
    variants, cells = profile.shape[1:]
    middle = (s_lo + s_hi) / 2 - first_s[:, None, None, None, None]
    cell = np.clip(np.rint(middle / GRID), 0, cells - 1).astype(np.int64)
    beside[:], count[:] = False, 0
    for k in range(scenes):
        ways = np.flatnonzero(used[k * variants : (k + 1) * variants])
        if not len(ways):
            continue
        low, high = profile[k, ways].min(0) - (room + WATCHED), profile[k, ways].max(0) + (room + WATCHED)
        close = ((d_hi[k] > low[cell[k]]) & (d_lo[k] < high[cell[k]])).any(-1) & active[k]
        usable = (close[..., 1:].any(-1)[..., None] & active[k])[..., None]
        here = profile[k][:, cell[k]]  # [V, A, M, N, P]
        touches = (d_hi[k] > here - room + TOUCH) & (d_lo[k] < here + room - TOUCH)
        given = side[k][:, :, None, None, None]
        counts = np.where(given != 0, likely[k][..., None, None] | touches, ~touches) & usable
        counts[~used[k * variants : (k + 1) * variants]] = False
        below = np.where(given != 0, given < 0, (d_lo[k] + d_hi[k]) / 2 > here)
        for n in range(nodes - 1):
            own = counts[:, :, :, n + 1]
            any_way = own.any(0)
            total = count[k, n] = int(any_way.sum())
            item[k, n, :total] = numbers[k, :, :, n + 1][any_way]
            begin, end, low, high = (x[k, :, :, n + 1][any_way] for x in (s_lo, s_hi, d_lo, d_hi))
            ends[k, n, :, :total] = begin - reach, end + reach, high, -low
            beside[k, n, :, 0, :total] = (own & ~below[:, :, :, n + 1])[:, any_way]
            beside[k, n, :, 1, :total] = (own & below[:, :, :, n + 1])[:, any_way]


_FLOOR = compiled.kernel("dds_map_floor", "TTTT R nn")
_FLOOR_ADJOINT = compiled.kernel("dds_map_floor_adjoint", "TTTT T RRRR nn")
_BESIDE = compiled.kernel("dds_pieces_beside", "fff TTTT BB T I B T R J C J nnnnnnnnn")

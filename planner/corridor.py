"""The lateral corridor of every candidate: map and agents beside, at every circle of the footprint.

Lower and upper limits are treated alike: a leading axis of two sides holds the lower limit and the negative upper one,
so that both are floors. Which agent sets a floor is decided on plain arrays; only the values that remain are tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.arrays import library
from planner.config import PlannerConfig
from planner.grid import make_grid
from planner.lateral import LateralBounds, circle_offsets
from planner.longitudinal import LongitudinalMotion
from planner.manoeuvres import Manoeuvres
from planner.obstacles import Obstacles
from planner.scene import VehicleParameters
from planner.surface import GRID, Start, Surface

NEAR = 8.0
"""Within this distance driven (m), a hard side margin that does not hold now gives way; further on it holds."""
STILL = 0.5
"""Where ego has driven less than this (m), staying is allowed, whoever comes close."""
BESIDE = 0.3
"""m, beyond the circle's own reach: how far ahead and behind an agent still counts as beside it."""


class Candidates(Protocol):
    """scene, manoeuvre ``[R]``: whose decisions, and which way to go; a `planner.decisions.CandidateSet`."""

    scene: Int[Tensor, " R"]
    manoeuvre: Int[Tensor, " R"]


@dataclass
class Beside:
    """T pieces of agents at single nodes that lie beside the profile of some manoeuvre, strictest last.

    rows ``[W, K]``: candidates with each manoeuvre of each scene, -1 beyond their number. which ``[T]``: row of `rows`.
    node, side, track_id ``[T]``; side 0: ego stays above it, 1: below it. first, last ``[T]`` m: an axis point between
    them is beside it. floor ``[T]`` m: what the axis point's offset, its sign turned for side 1, must stay above; with
    gradients.
    """

    rows: Int[np.ndarray, "W K"]
    which: Int[np.ndarray, " T"]
    node: Int[np.ndarray, " T"]
    side: Int[np.ndarray, " T"]
    track_id: Int[np.ndarray, " T"]
    first: Float[np.ndarray, " T"]
    last: Float[np.ndarray, " T"]
    floor: Float[Tensor, " T"]


@dataclass
class Corridor:
    """What bounds R candidates of S scenes laterally, wherever they will be when.

    floor ``[2, S, 2, G + 2]`` m: strictest of the surface's floors within one cell, without and with the oncoming
    surface, over the surface's cells and one more at either end. room, first_cell ``[R]``: where a candidate's own
    floors begin in the flattened last three axes, and s (m) of the surface's begin. profile ``[R]``: the same for the
    flattened profiles of the manoeuvres. here ``[2, R, 1, 1, C]`` m: where the circles are now, sign turned for side 1.
    """

    floor: Float[Tensor, "2 S 2 G2"]
    room: Int[np.ndarray, " R"]
    first_s: Float[np.ndarray, " R"]
    profiles: Float[Tensor, "S V G"]
    profile: Int[np.ndarray, " R"]
    cells: Int[np.ndarray, " R"]
    here: Float[Tensor, "2 R 1 1 C"]
    start: Start
    beside: Beside
    vehicle: VehicleParameters
    config: PlannerConfig

    def bounds(self, motion: LongitudinalMotion) -> LateralBounds:
        """The corridor at every circle when ego moves like this."""
        grid, start = make_grid(self.config.horizon), self.start
        xp = library(motion.s, self.floor, self.profiles, self.beside.floor, start.s, start.v, self.here)
        s = xp.of(motion.s)[..., xp.of(grid.node)]
        at = xp.values(s)
        offsets = circle_offsets(self.vehicle).numpy()
        cell = np.rint((at[..., None] + offsets - self.first_s[:, None, None, None]) / GRID)
        cell = np.maximum(np.minimum(cell, self.floor.shape[-1] - 2), -1).astype(np.int64)
        cell += self.room[:, None, None, None] + 1
        flat = xp.of(self.floor).reshape(2, -1)
        floor = xp.take(flat, cell)

        # A start outside the corridor may return over distance, not time: at standstill nobody returns anywhere.
        here = xp.of(self.here)
        outside = xp.at_least(floor[:, :, :, :1] - here, 0.0) + 0.02
        settle = 2.0 * xp.of(start.v) + 2.0
        moved = s - (xp.of(start.s) + settle)[:, None, None]
        fade = xp.at_most(xp.at_least(1 - moved / xp.at_least(settle, 6.0)[:, None, None], 0.0), 1.0)
        floor = floor - outside * fade[..., None]
        floor, lower_id, upper_id = self._past_agents(xp, floor, here, at, offsets)
        d_ref, slope = self._profile_at(xp, s, at)
        lower, upper, d_ref, slope = (xp.tensor(x) for x in (floor[0], -floor[1], d_ref, slope))
        return LateralBounds(lower, upper, torch.from_numpy(lower_id), torch.from_numpy(upper_id), d_ref, slope)

    def _past_agents(
        self, xp: Any, floor: Any, here: Any, at: np.ndarray, offsets: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """The floors raised where agents are beside, and the track ids ``[R, 2, N, C]`` of who sets either side."""
        beside, shape = self.beside, (2, *at.shape, len(offsets))
        ids = np.full(shape, -1, dtype=np.int64)
        place, piece = _strictest(beside, at, offsets)
        if len(place):
            point, circle = np.divmod(place, len(offsets))
            side, point = np.divmod(point, at.size)
            row = point // (at.shape[1] * at.shape[2])
            gone = at.reshape(-1)[point] - self.start.s.detach().numpy()[row]
            above = xp.take(xp.of(beside.floor), piece)
            now = xp.take(here.reshape(-1), (side * at.shape[0] + row) * len(offsets) + circle)
            # Already closer than the margin to what is right here: do not come closer.
            closer = xp.maximum(above - self.config.margins.side, now - 0.01)
            above = xp.where(xp.plain(gone < NEAR), xp.minimum(above, closer), above)
            above = xp.where(xp.plain(gone < STILL), xp.minimum(above, now - 0.05), above)
            before = xp.take(floor.reshape(-1), place)
            sets = xp.values(above > before)
            ids.reshape(-1)[place[sets]] = beside.track_id[piece[sets]]
            floor = xp.put(floor.reshape(-1), place, xp.maximum(before, above)).reshape(shape)
        return floor, ids[0], ids[1]

    def _profile_at(self, xp: Any, s: Any, at: np.ndarray) -> tuple[Any, Any]:
        """Offset (m) and heading error (rad) ``[R, 2, N]`` that the manoeuvre aims for at s."""
        last = (self.cells - 2)[:, None, None]
        first = self.first_s[:, None, None]
        whole = np.maximum(np.minimum((at - first) / GRID, last), 0.0).astype(np.int64)
        values, index = (xp.of(self.profiles).reshape(-1), whole + self.profile[:, None, None])
        before = xp.take(values, index)
        rise = xp.take(values, index + 1) - before
        # Beyond the ends of the profile it does not change with s.
        within = xp.at_most(xp.at_least(s - xp.plain(first + GRID * whole), 0.0), GRID) / GRID
        within = xp.where(xp.plain(whole < last), within, 0.0)
        return before + rise * within, xp.arctan(rise / GRID)


def lateral_bounds(
    candidates: Candidates,
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    surface: Surface,
    motion: LongitudinalMotion,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> LateralBounds:
    """Corridor of every candidate at every circle, given where it will be when. See `make_corridor` for several."""
    return make_corridor(candidates, manoeuvres, obstacles, surface, start, vehicle, config).bounds(motion)


def make_corridor(
    candidates: Candidates,
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Corridor:
    """All that does not depend on the motion. start: of the S scenes."""
    xp = library(start.d, start.psi, start.bend)
    variants, cells = manoeuvres.profile.shape[1:]
    scene = candidates.scene.numpy()
    which = scene * variants + candidates.manoeuvre.numpy()
    oncoming = manoeuvres.oncoming.numpy().reshape(-1)[which]
    rows = start.rows(candidates.scene)
    offsets = xp.of(circle_offsets(vehicle))
    d, psi, bend = (xp.of(x)[:, None] for x in (rows.d, rows.psi, rows.bend))
    here = d + offsets * psi - offsets**2 / 2 * bend
    here = xp.concat([here[None], -here[None]], 0)
    return Corridor(
        _map_floor(surface),
        (scene * 2 + oncoming) * (cells + 2),
        surface.s.detach().numpy()[scene, 0],
        manoeuvres.profile,
        which * cells,
        surface.count.numpy()[scene],
        xp.tensor(here[:, :, None, None]),
        rows,
        _pieces_beside(which, manoeuvres, obstacles, surface, vehicle, config),
        vehicle,
        config,
    )


def _map_floor(surface: Surface) -> Float[Tensor, "2 S 2 G2"]:
    """See `Corridor.floor`. Where they leave no room, 0.1 m about the middle remains."""
    xp = library(surface.lower, surface.upper)
    low, high = (
        xp.concat([xp.of(x)[None, :, None] for x in pair], 2)
        for pair in ((surface.lower, surface.lower_all), (surface.upper, surface.upper_all))
    )
    each = xp.concat([low, -high], 0)
    wide = xp.concat([each[..., :1], each[..., :1], each, each[..., -1:], each[..., -1:]], -1)
    floor = xp.maximum(xp.maximum(wide[..., :-2], wide[..., 2:]), wide[..., 1:-1])
    other = xp.concat([floor[1:], floor[:1]], 0)
    return xp.tensor(xp.where(floor + other > -0.1, (floor - other) / 2 - 0.05, floor))


def _pieces_beside(
    which: Int[np.ndarray, " R"],
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    surface: Surface,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Beside:
    """The pieces that the candidates have to stay beside of. which: scene and manoeuvre of each, as one index.

    A piece of an agent lies on the side of the profile on which it is; agents that the manoeuvre passes have their side
    given. Pieces that touch the band are longitudinal matters, or were accepted as unlikely.
    """
    profile = manoeuvres.profile.detach().numpy()
    scenes, variants, cells = profile.shape
    rows, used = _rows_by(which, scenes * variants)
    room = vehicle.width / 2 + config.margins.side
    reach = vehicle.length / (2 * len(circle_offsets(vehicle))) + BESIDE
    # Only (agent, mode) pairs that come close to any profile at all.
    active = obstacles.active[..., 1:].numpy()
    pair = np.nonzero(active.any(-1))
    s_lo, s_hi, d_lo, d_hi = (x.detach().numpy()[pair][:, 1:] for x in _intervals(obstacles))  # [Q, N, P]
    first = surface.s[:, 0].detach().numpy()[pair[0], None, None]
    cell = np.clip(np.rint(((s_lo + s_hi) / 2 - first) / GRID), 0, cells - 1).astype(np.int64)
    used = used.reshape(scenes, variants, 1)
    at = cell + (pair[0] * cells)[:, None, None]
    low = np.where(used, profile, np.inf).min(1).ravel()[at]
    high = np.where(used, profile, -np.inf).max(1).ravel()[at]
    active = active[pair][..., None]
    close = ((d_hi > low - room - 2.0) & (d_lo < high + room + 2.0) & active).any((1, 2))
    scene, agent, mode = (x[close] for x in pair)
    s_lo, s_hi, d_lo, d_hi, cell, active = (x[close] for x in (s_lo, s_hi, d_lo, d_hi, cell, active))

    # Every pair under every manoeuvre in use.
    q, v = np.nonzero(used[scene, :, 0])
    scene, agent, mode = scene[q], agent[q], mode[q]
    own = scene * variants + v
    s_lo, s_hi, d_lo, d_hi, cell, active = (x[q] for x in (s_lo, s_hi, d_lo, d_hi, cell, active))
    here = profile.reshape(-1)[(own * cells)[:, None, None] + cell]
    touches = (d_hi > here - room + 0.02) & (d_lo < here + room - 0.02)
    given = manoeuvres.side.numpy()[scene, v, agent][:, None, None]
    weight = obstacles.weight.detach().numpy()[scene, agent, mode]
    likely = (weight > 0.5 * config.risk.hit_probability)[:, None, None]
    on_left = np.where(given != 0, given < 0, (d_lo + d_hi) / 2 > here)
    counts = active & np.where(given != 0, likely | touches, ~touches)
    q, n, p = np.nonzero(counts)

    # Strictest last; of equals, the first agent counts as stricter.
    side = on_left[q, n, p]
    value = np.where(side, -d_lo[q, n, p], d_hi[q, n, p])
    order = len(value) - 1 - np.argsort(value[::-1], kind="stable")
    q, n, p, side = (x[order] for x in (q, n, p, side))
    flat = np.ravel_multi_index((scene[q], agent[q], mode[q], n + 1, p), obstacles.d_lo.shape)
    xp = library(obstacles.d_lo, obstacles.d_hi)
    beyond, below = (xp.take(xp.of(x).reshape(-1), flat) for x in (obstacles.d_hi, obstacles.d_lo))
    floor = xp.tensor(xp.where(xp.plain(side), -below, beyond) + room)
    return Beside(
        rows,
        own[q],
        n,
        side.astype(np.int64),
        obstacles.track_id.numpy()[scene[q], agent[q]],
        s_lo[q, n, p] - reach,
        s_hi[q, n, p] + reach,
        floor,
    )


def _intervals(obstacles: Obstacles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi


def _rows_by(which: Int[np.ndarray, " R"], groups: int) -> tuple[Int[np.ndarray, "W K"], Bool[np.ndarray, " W"]]:
    """The candidates of every group, -1 beyond their number, and whether there are any."""
    number = np.bincount(which, minlength=groups)
    order = np.argsort(which, kind="stable")
    begin = np.cumsum(number) - number
    sorted_ = which[order]
    table = np.full((groups, number.max()), -1, dtype=np.int64)
    table[sorted_, np.arange(len(which)) - begin[sorted_]] = order
    return table, number > 0


def _strictest(beside: Beside, at: Float[np.ndarray, "R 2 N"], offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where agents are beside a circle, as an index into a flattened ``[2, R, 2, N, C]``, and the strictest of them."""
    count, _, nodes = at.shape
    none = np.zeros(0, dtype=np.int64)
    # First the pieces that any of the candidates comes near, then which.
    valid = (beside.rows >= 0)[..., None]
    s = at[beside.rows]  # [W, K, 2, N]
    low = np.where(valid, s.min(2), np.inf).min(1)[beside.which, beside.node]
    high = np.where(valid, s.max(2), -np.inf).max(1)[beside.which, beside.node]
    piece = np.flatnonzero((high + offsets[-1] > beside.first) & (low + offsets[0] < beside.last))
    if not len(piece):
        return none, none
    node, first, last = beside.node[piece], beside.first[piece], beside.last[piece]
    rows = beside.rows[beside.which[piece]]
    s = at[rows, :, node[:, None]]  # [T, K, 2]
    meets = (s + offsets[-1] > first[:, None, None]) & (s + offsets[0] < last[:, None, None]) & (rows >= 0)[..., None]
    t, member, branch = np.nonzero(meets)
    point = s[t, member, branch][:, None] + offsets
    k, circle = np.nonzero((point > first[t, None]) & (point < last[t, None]))
    t, member, branch = t[k], member[k], branch[k]
    side = beside.side[piece]
    place = (((side[t] * count + rows[t, member]) * 2 + branch) * nodes + node[t]) * len(offsets) + circle
    best = np.full(2 * at.size * len(offsets), -1, dtype=np.int64)
    best[place] = piece[t]  # of repeated places, the last assignment remains
    place = np.flatnonzero(best >= 0)
    return place, best[place]

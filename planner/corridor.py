"""The lateral corridor of every candidate: map and agents beside, at every circle of the footprint.

Lower and upper limits are treated alike: a leading axis of two sides holds the lower limit and the negative upper one,
so that both are floors. Which agent sets a floor is decided on plain arrays; only the values that remain are tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.arrays import library
from planner.config import PlannerConfig
from planner.grid import make_grid
from planner.lateral import CIRCLES, LateralBounds, circle_offsets
from planner.longitudinal import LongitudinalMotion
from planner.manoeuvres import Manoeuvres
from planner.obstacles import Obstacles
from planner.scene import VehicleParameters
from planner.surface import GRID, Start, Surface

NEAR = 8.0
"""Within this distance driven (m), a hard side margin that does not hold now gives way; further on it holds."""
STILL = 0.5
"""Where ego has driven less than this (m), staying is allowed, whoever comes close."""
WIDE = 12
"""m to either side of a piece's middle within which the map is looked at, to see whether the piece matters there."""
BESIDE = 0.3
"""m, beyond the circle's own reach: how far ahead and behind an agent still counts as beside it."""


class Candidates(Protocol):
    """scene, manoeuvre ``[R]``: whose decisions, and which way to go; a `planner.decisions.CandidateSet`."""

    scene: Int[Tensor, " R"]
    manoeuvre: Int[Tensor, " R"]


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
    obstacles: Obstacles
    beside: _Beside
    vehicle: VehicleParameters
    config: PlannerConfig

    def bounds(self, motion: LongitudinalMotion) -> LateralBounds:
        """The corridor at every circle when ego moves like this."""
        grid, start = make_grid(self.config.horizon), self.start
        xp = library(
            motion.s, self.floor, self.profiles, self.obstacles.d_lo, self.obstacles.d_hi, start.s, start.v, self.here
        )
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
        spared = xp.values(outside).max((2, 3, 4))
        floor, lower_id, upper_id = self._past_agents(xp, floor, here, at, offsets, spared)
        d_ref, slope = self._profile_at(xp, s, at)
        lower, upper, d_ref, slope = (xp.tensor(x) for x in (floor[0], -floor[1], d_ref, slope))
        return LateralBounds(lower, upper, torch.from_numpy(lower_id), torch.from_numpy(upper_id), d_ref, slope)

    def _past_agents(
        self, xp: Any, floor: Any, here: Any, at: np.ndarray, offsets: np.ndarray, spared: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """The floors raised where agents are beside, and the track ids ``[R, 2, N, C]`` of who sets either side.

        spared ``[2, R]`` m: by how much the floors of the map have been lowered at most.
        """
        o, shape = self.obstacles, (2, *at.shape, len(offsets))
        ids = np.full(shape, -1, dtype=np.int64)
        place, piece = self.beside.strictest(at, offsets, spared)
        if len(place):
            point, circle = np.divmod(place, len(offsets))
            side, point = np.divmod(point, at.size)
            row = point // (at.shape[1] * at.shape[2])
            gone = at.reshape(-1)[point] - self.start.s.detach().numpy()[row]
            beyond, below = (xp.take(xp.of(x).reshape(-1), piece) for x in (o.d_hi, o.d_lo))
            above = xp.where(xp.plain(side > 0), -below, beyond) + self.beside.room
            now = xp.take(here.reshape(-1), (side * at.shape[0] + row) * len(offsets) + circle)
            # Already closer than the margin to what is right here: do not come closer.
            closer = xp.maximum(above - self.config.margins.side, now - 0.01)
            above = xp.where(xp.plain(gone < NEAR), xp.minimum(above, closer), above)
            above = xp.where(xp.plain(gone < STILL), xp.minimum(above, now - 0.05), above)
            before = xp.take(floor.reshape(-1), place)
            sets = xp.values(above > before)
            agent = piece[sets] // (o.d_lo[0, 0].numel())
            ids.reshape(-1)[place[sets]] = o.track_id.numpy().reshape(-1)[agent]
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
    floor = _map_floor(surface)
    return Corridor(
        floor,
        (scene * 2 + oncoming) * (cells + 2),
        surface.s.detach().numpy()[scene, 0],
        manoeuvres.profile,
        which * cells,
        surface.count.numpy()[scene],
        xp.tensor(here[:, :, None, None]),
        rows,
        obstacles,
        _Beside(which, manoeuvres, obstacles, surface, floor.detach().numpy(), vehicle, config),
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


class _Beside:
    """Which pieces of agents lie beside which candidates, on plain arrays.

    A piece of an agent lies on the side of the profile on which it is; agents that the manoeuvre passes have their side
    given. Pieces that touch the band are longitudinal matters, or were accepted as unlikely. Only (agent, mode) pairs
    that come close to any profile at all count.
    """

    def __init__(
        self,
        which: Int[np.ndarray, " R"],
        manoeuvres: Manoeuvres,
        obstacles: Obstacles,
        surface: Surface,
        floor: Float[np.ndarray, "2 S 2 G2"],
        vehicle: VehicleParameters,
        config: PlannerConfig,
    ) -> None:
        """which: scene and manoeuvre of each candidate, as one index. floor: of the map, see `Corridor`."""
        self.profile = manoeuvres.profile.detach().numpy()
        scenes, variants, self.cells = self.profile.shape
        # The candidates of each scene and manoeuvre, as a table and, both branches of each, as a list.
        self.number = np.bincount(which, minlength=scenes * variants)
        self.begin = self.number.cumsum() - self.number
        order = np.argsort(which, kind="stable")
        self.branches = (2 * order[:, None] + np.arange(2)).reshape(-1)
        self.rows = np.full((len(self.number), self.number.max()), -1, dtype=np.int64)
        self.rows[which[order], np.arange(len(which)) - self.begin[which[order]]] = order
        self.used = (self.number > 0).reshape(scenes, variants)
        self.room = vehicle.width / 2 + config.margins.side
        self.reach = vehicle.length / (2 * CIRCLES) + BESIDE
        self.first_s = surface.s.detach().numpy()[:, 0]
        self.side = manoeuvres.side.numpy()
        self.oncoming = manoeuvres.oncoming.numpy().reshape(-1)
        self.map = _lowest(floor, WIDE)
        self.likely = (obstacles.weight.detach() > 0.5 * config.risk.hit_probability).numpy()
        parts = (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi)
        self.shape = tuple(obstacles.s_lo.shape)
        s_lo, s_hi, d_lo, d_hi = self.intervals = [x.detach().numpy() for x in parts]
        self.flat = [x.reshape(-1) for x in self.intervals]

        at = self._cell(s_lo, s_hi, self.first_s[:, None, None, None, None])
        at += (np.arange(scenes) * self.cells)[:, None, None, None, None]
        mask = self.used[..., None]
        low = np.where(mask, self.profile, np.inf).min(1) - (self.room + 2.0)
        high = np.where(mask, self.profile, -np.inf).max(1) + (self.room + 2.0)
        active = obstacles.active.numpy() & (np.arange(self.shape[3]) > 0)
        close = (d_hi > low.take(at)) & (d_lo < high.take(at))
        pair = (close.any(-1) & active).any(-1)
        self.usable = (pair[..., None] & active)[..., None]

    def strictest(
        self, at: Float[np.ndarray, "R 2 N"], offsets: np.ndarray, spared: Float[np.ndarray, "2 R"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where agents are beside a circle of a candidate that is at s (m) at the nodes, and the map leaves more room.

        spared: by how much (m) the map's floors have been lowered at most.
        Returns places, as indices into a flattened ``[2, R, 2, N, C]`` (side 0: ego stays above the piece, 1: below),
        and for each the strictest piece, as an index into the obstacles' flattened arrays.
        """
        s_lo, s_hi, d_lo, d_hi = self.flat
        variants = self.used.shape[1]
        piece, which, node = self._near(at, offsets)
        scene, v = np.divmod(which, variants)
        agent, mode = np.divmod(piece // (self.shape[3] * self.shape[4]), self.shape[2])
        agent -= scene * self.shape[1]
        first, last = s_lo[piece], s_hi[piece]
        cell = self._cell(first, last, self.first_s[scene])
        here = self.profile.reshape(-1)[which * self.cells + cell]
        low, high = d_lo[piece], d_hi[piece]
        touches = (high > here - self.room + 0.02) & (low < here + self.room - 0.02)
        given = self.side[scene, v, agent]
        counts = np.where(given != 0, self.likely[scene, agent, mode] | touches, ~touches)
        side = np.where(given != 0, given < 0, (low + high) / 2 > here)

        # Only those that may be stricter than the map.
        value = np.where(side, -low, high)
        wall = self.map[side.astype(np.int64), scene, self.oncoming[which].astype(np.int64), cell + 1]
        wall -= self._most(spared)[side.astype(np.int64), which]
        counts &= (value + self.room > wall) | (last - first > WIDE)
        # Strictest last; of equals, the first agent counts as stricter.
        value = value[counts]
        order = np.flatnonzero(counts)[len(value) - 1 - np.argsort(value[::-1], kind="stable")]
        piece, which, node, side = (x[order] for x in (piece, which, node, side))
        first, last = first[order] - self.reach, last[order] + self.reach
        # Every piece with every branch of every candidate that it may concern.
        count, nodes = 2 * len(at), at.shape[2]
        number = 2 * self.number[which]
        begin = 2 * self.begin[which] - (number.cumsum() - number)
        row = self.branches[np.arange(number.sum()) + np.repeat(begin, number)]
        t = np.repeat(np.arange(len(piece)), number)
        slot = row * nodes + node[t]
        s, first, last = at.reshape(-1)[slot], first[t], last[t]
        meets = np.flatnonzero((s + offsets[-1] > first) & (s + offsets[0] < last))
        s, first, last, t = s[meets], first[meets], last[meets], t[meets]
        slot, piece = slot[meets] + (count * nodes) * side[t], piece[t]
        best = np.full((len(offsets), 2 * count * nodes), -1, dtype=np.int64)
        for offset, strictest in zip(offsets, best):
            point = s + offset
            here = (point > first) & (point < last)
            strictest[slot[here]] = piece[here]  # of repeated places, the last assignment remains
        circle, slot = np.nonzero(best >= 0)
        return slot * len(offsets) + circle, best[circle, slot]

    def _near(self, at: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pieces that any candidate comes near, once for every manoeuvre: piece, scene and manoeuvre, node."""
        scenes, variants = self.used.shape
        valid = (self.rows >= 0)[..., None]
        s = at[self.rows]  # [W, K, 2, N]
        begin = np.where(valid, s.min(2), np.inf).min(1) + (offsets[0] - self.reach - 1e-6)
        end = np.where(valid, s.max(2), -np.inf).max(1) + (offsets[-1] + self.reach + 1e-6)
        window = np.empty((2, scenes, 1, 1, self.shape[3], 1))
        window[0], window[1] = np.inf, -np.inf
        window[0, :, 0, 0, 1:, 0] = begin.reshape(scenes, variants, -1).min(1)
        window[1, :, 0, 0, 1:, 0] = end.reshape(scenes, variants, -1).max(1)
        piece = np.flatnonzero((self.intervals[1] > window[0]) & (self.intervals[0] < window[1]) & self.usable)
        node = piece // self.shape[4] % self.shape[3] - 1
        scene = piece // (len(self.flat[0]) // scenes)
        k, v = np.nonzero(self.used[scene])
        piece, node, which = piece[k], node[k], scene[k] * variants + v
        keep = (self.flat[1][piece] > begin[which, node]) & (self.flat[0][piece] < end[which, node])
        return piece[keep], which[keep], node[keep]

    def _most(self, values: Float[np.ndarray, "2 R"]) -> Float[np.ndarray, "2 W"]:
        """The largest value among the candidates of each scene and manoeuvre."""
        out = np.zeros((2, len(self.number)))
        used = self.number > 0
        out[:, used] = np.maximum.reduceat(values[:, self.branches[::2] // 2], self.begin[used], 1)
        return out

    def _cell(self, s_lo: np.ndarray, s_hi: np.ndarray, first: np.ndarray) -> np.ndarray:
        """The cell of the surface's grid in which a piece's middle lies."""
        cell = np.rint(((s_lo + s_hi) / 2 - first) / GRID)
        return np.maximum(np.minimum(cell, self.cells - 1), 0).astype(np.int64)


def _lowest(values: Float[np.ndarray, "*any G"], width: int) -> np.ndarray:
    """The least value within `width` entries to either side; beyond the ends the values are constant."""
    out = np.concatenate([values[..., :1].repeat(width, -1), values, values[..., -1:].repeat(width, -1)], -1)
    covered, most = 1, 2 * width + 1
    while covered < most:
        step = min(covered, most - covered)
        out = np.minimum(out[..., :-step], out[..., step:])
        covered += step
    return out

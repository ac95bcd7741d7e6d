"""The lateral corridor of every candidate: map and agents beside, at every circle of the footprint.

Lower and upper limits are treated alike: a leading axis of two sides holds the lower limit and the negative upper one,
so that both are floors. Which agent sets a floor is discrete; only the values that remain have gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled.stage import Tensors, apply, workers
from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import Obstacles
from planner.path.surface import GRID, Start, Surface
from planner.programs.corridor_parts import Pieces, by_piece, map_floor, pieces_beside
from planner.programs.lateral import LateralBounds, circle_offsets
from planner.programs.longitudinal import LongitudinalMotion
from planner.scene import VehicleParameters

NEAR = 8.0
"""Within this distance driven (m), a hard side margin that does not hold now gives way; further on it holds."""
STILL = 0.5
"""Where ego has driven less than this (m), staying is allowed, whoever comes close."""


class Candidates(Protocol):
    """scene, manoeuvre ``[R]``: whose decisions, and which way to go; a `planner.decisions.candidates.CandidateSet`."""

    scene: Int[Tensor, " R"]
    manoeuvre: Int[Tensor, " R"]


@dataclass
class Corridor:
    """What bounds R candidates of S scenes laterally, wherever they will be when.

    floor: of the map, see `map_floor`. which ``[R]``: scene and manoeuvre as one index. oncoming ``[R]``: 1 where the
    oncoming surface may be used. profiles ``[S, V, G]`` m; first_s (m), cells ``[S]``: begin and number of the cells on
    which floors and profiles are given. start: ego's, of the candidates. A `planner.compiled.stage.Stage`.
    """

    floor: Float[Tensor, "2 S 2 G2"]
    which: Int[Tensor, " R"]
    oncoming: Int[Tensor, " R"]
    profiles: Float[Tensor, "S V G"]
    first_s: Float[Tensor, " S"]
    cells: Int[Tensor, " S"]
    start: Start
    obstacles: Obstacles
    pieces: Pieces
    vehicle: VehicleParameters
    config: PlannerConfig

    def bounds(self, motion: LongitudinalMotion) -> LateralBounds:
        """The corridor at every circle when ego moves like this."""
        o, start = self.obstacles, self.start
        beside = by_piece(o.d_lo), by_piece(o.d_hi)
        inputs = (motion.s, self.floor, self.profiles, *beside, start.s, start.v, start.d, start.psi, start.bend)
        lower, upper, lower_id, upper_id, d_ref, slope, _ = (
            self.plain(*inputs) if _BOUNDS is None else apply(self, *inputs)
        )
        return LateralBounds(lower, upper, lower_id, upper_id, d_ref, slope)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows, nodes, circles = self._shape
        shape = (rows, 2, nodes, circles)
        lower, upper = torch.empty(2, *shape, dtype=torch.float64).unbind(0)
        lower_id, upper_id = torch.empty(2, *shape, dtype=torch.int64).unbind(0)
        d_ref, slope = torch.empty(2, *shape[:3], dtype=torch.float64).unbind(0)
        piece = torch.empty(2, *shape, dtype=torch.int64)
        outputs = (lower, upper, lower_id, upper_id, d_ref, slope, piece)
        assert _BOUNDS is not None
        _BOUNDS(*self._constants(), *inputs, *outputs, *self._sizes(inputs), self._threads(rows, 5.0))
        return outputs

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        found = tuple(torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        lower, upper, _, _, d_ref, slope, _ = gradients
        given = (outputs[-1], lower, upper, d_ref, slope)
        threads = self._threads(self._shape[0], 8.0)
        assert _BOUNDS_ADJOINT is not None
        _BOUNDS_ADJOINT(*self._constants(), *inputs, *given, *found, *self._sizes(inputs), threads)
        return found

    @property
    def _shape(self) -> tuple[int, int, int]:
        """R, N and C."""
        return len(self.which), self.pieces.item.shape[1], len(circle_offsets(self.vehicle))

    def _constants(self) -> tuple[Tensor, ...]:
        settings, offsets = _settings(self.vehicle, self.config)
        node, pieces = make_grid(self.config.horizon).node, self.pieces
        return (
            settings, offsets, self.first_s, self.which, self.oncoming, node, self.cells,
            pieces.reach, pieces.item, pieces.beside, pieces.count, self.obstacles.track_id,
        )  # fmt: skip

    def _sizes(self, inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
        rows, nodes, circles = self._shape
        obstacles = self.obstacles.d_lo
        of_agent = obstacles[0, 0].numel()
        fine, listed = inputs[0].shape[-1], self.pieces.item.shape[-1]
        return rows, nodes, fine, circles, *self.profiles.shape, obstacles.shape[1], of_agent, listed

    def _threads(self, rows: int, microseconds: float) -> int:
        return workers(rows, self.config.solver.threads, microseconds)

    def plain(
        self, s: Tensor, floor: Tensor, profiles: Tensor, d_lo: Tensor, d_hi: Tensor,
        s0: Tensor, v0: Tensor, d0: Tensor, psi0: Tensor, bend0: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """What the compiled version computes: the fields of LateralBounds, and the piece ``[2, R, 2, N, C]`` that is
        beside each circle, by its number as in Pieces, -1 where there is none."""
        settings, offsets = _settings(self.vehicle, self.config)
        room, margin = settings[:2].tolist()
        s = s[..., make_grid(self.config.horizon).node]
        scene = self.which // profiles.shape[1]
        cell = ((s.detach()[..., None] + offsets - self.first_s[scene][:, None, None, None]) / GRID).round()
        cell = cell.clamp(-1, floor.shape[-1] - 2).long() + 1
        walls = floor[:, scene, self.oncoming]
        fixed = torch.stack([w.gather(1, cell.flatten(1)).view(cell.shape) for w in walls])

        # A start outside the corridor may return over distance, not time: at standstill nobody returns anywhere.
        now = d0[:, None] + offsets * psi0[:, None] - offsets**2 / 2 * bend0[:, None]
        now = torch.stack([now, -now])[:, :, None, None]
        outside = (fixed[:, :, :, :1] - now).clamp(min=0) + 0.02
        settle = 2.0 * v0 + 2.0
        moved = s - (s0 + settle)[:, None, None]
        fade = (1 - moved / settle.clamp(min=6.0)[:, None, None]).clamp(min=0).clamp(max=1)
        fixed = fixed - outside * fade[..., None]

        # The floors raised where agents are beside.
        piece = self._strictest_plain(s.detach().numpy())
        beside, number = piece >= 0, piece.clamp(min=0)
        above = torch.stack([d_hi.reshape(-1)[number[0]], -d_lo.reshape(-1)[number[1]]]) + room
        gone = (s - s0[:, None, None]).detach()[..., None]
        # Already closer than the margin to what is right here: do not come closer.
        closer = torch.maximum(above - margin, now - 0.01)
        above = torch.where(gone < NEAR, torch.minimum(above, closer), above)
        above = torch.where(gone < STILL, torch.minimum(above, now - 0.05), above)
        sets = beside & (above > fixed)
        raised = torch.where(beside, torch.maximum(fixed, above), fixed)
        agent = number // d_lo[0, 0].numel()
        ids = torch.where(sets, self.obstacles.track_id.reshape(-1)[agent], -1)
        return raised[0], -raised[1], ids[0], ids[1], *self._profile_plain(s, profiles), piece

    def _strictest_plain(self, at: np.ndarray) -> Tensor:
        offsets, p = circle_offsets(self.vehicle).numpy(), self.pieces
        reach, item, beside, count = (x.numpy() for x in (p.reach, p.item, p.beside, p.count))
        found = np.full((2, *at.shape, len(offsets)), -1, dtype=np.int64)
        for r, b, n in np.ndindex(*at.shape):
            k, v = divmod(int(self.which[r]), beside.shape[2])
            total = count[k, n]
            if not total:
                continue
            own, (first, last, *floors) = item[k, n, :total], reach[k, n, :, :total]
            point = (at[r, b, n] + offsets)[:, None]
            for side in (0, 1):
                meets = (point > first) & (point < last) & beside[k, n, v, side, :total]
                strictest = np.where(meets, floors[side], -np.inf).argmax(1)  # of equals, the first
                found[side, r, b, n] = np.where(meets.any(1), own[strictest], -1)
        return torch.from_numpy(found)

    def _profile_plain(self, s: Tensor, profiles: Tensor) -> tuple[Tensor, Tensor]:
        """Offset (m) and heading error (rad) ``[R, 2, N]`` that the manoeuvre aims for at s."""
        scene = self.which // profiles.shape[1]
        last = (self.cells[scene] - 2)[:, None, None]
        first = self.first_s[scene][:, None, None]
        whole = torch.minimum(((s.detach() - first) / GRID).long(), last).clamp(min=0)
        values = profiles.flatten(0, 1)[self.which]
        before, after = (values.gather(1, (whole + i).flatten(1)).view(whole.shape) for i in (0, 1))
        rise = after - before
        # Beyond the ends of the profile it does not change with s.
        within = (s - (first + GRID * whole)).clamp(min=0).clamp(max=GRID) / GRID
        return before + rise * torch.where(whole < last, within, 0.0), torch.atan(rise / GRID)


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
    which = candidates.scene * manoeuvres.profile.shape[1] + candidates.manoeuvre
    oncoming = manoeuvres.oncoming.reshape(-1)[which].long()
    pieces = pieces_beside(which, manoeuvres, obstacles, surface, vehicle, config)
    first_s, rows = surface.s.detach()[:, 0].contiguous(), start.rows(candidates.scene)
    return Corridor(
        map_floor(surface), which, oncoming, manoeuvres.profile, first_s, surface.count, rows, obstacles, pieces,
        vehicle, config,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _settings(vehicle: VehicleParameters, config: PlannerConfig) -> tuple[Tensor, Tensor]:
    """Room beside a circle's centre, margin, NEAR, STILL and GRID (m); offsets of the circles ``[C]`` m."""
    side = config.margins.side
    return torch.tensor([vehicle.width / 2 + side, side, NEAR, STILL, GRID], dtype=torch.float64), circle_offsets(
        vehicle
    )


_BOUNDS = compiled.kernel("dds_corridor", "TTT IIII T IBII TTTTT TTTTT RRJJRRJ nnnnnnnnnnn")
_BOUNDS_ADJOINT = compiled.kernel("dds_corridor_adjoint", "TTT IIII T IBII TTTTT TTTTT I TTTT RRRRR RRRRR nnnnnnnnnnn")

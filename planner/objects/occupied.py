"""Which places along ego's way the forecasts take up: where they block it, and where they come nearest.

Which places these are is decided on plain arrays; what is read there keeps its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.config import PlannerConfig
from planner.decisions.right_of_way import Encounters
from planner.decisions.stopping import shortest_stop
from planner.objects.forecasts import array, flat_pieces, piece_index
from planner.objects.obstacles import Obstacles, risk_quantile
from planner.path.surface import Start
from planner.scene import VehicleParameters

INF = torch.tensor(torch.inf, dtype=torch.float64)


@dataclass
class Blocks:
    """Where forecasts block ego's way: E of them, in C rows that ask something of ego, M modes, N nodes, P pieces.

    shape: (C, M, N); row, mode, node ``[E]``: place in it. agent ``[E]``: scene * A + agent. ours ``[P, E]``: the
    pieces that do, place ``[P, E]``: in `flat_pieces`. crossing ``[E]``: rather than leading.
    """

    shape: tuple[int, int, int]
    row: Int[np.ndarray, " E"]
    mode: Int[np.ndarray, " E"]
    node: Int[np.ndarray, " E"]
    agent: Int[np.ndarray, " E"]
    ours: Bool[np.ndarray, "P E"]
    place: Int[np.ndarray, "P E"]
    crossing: Bool[np.ndarray, " E"]

    @classmethod
    def of(cls, obstacles: Obstacles, met: Encounters, rows: np.ndarray) -> Blocks:
        _, agents, modes, nodes, pieces = obstacles.s_lo.shape
        position = np.zeros(len(met), np.int64)
        position[rows] = np.arange(len(rows))
        lane, node = met.ours.any(0).nonzero()
        at, row, mode = lane * nodes + node, met.row[lane], met.mode[lane]
        agent = (met.scene * agents + met.agent)[row]
        ours = met.ours.reshape(pieces, -1).take(at, 1)
        place, crossing = piece_index(obstacles, agent * modes + mode, node), met.crossing.reshape(-1)[at]
        return cls((len(rows), modes, nodes), position[row], mode, node, agent, ours, place, crossing)

    def spread(self, mask: Bool[np.ndarray, " E"]) -> Bool[np.ndarray, "C M N"]:
        """By row, mode and node; False where nobody blocks."""
        out = np.zeros(self.shape, bool)
        out[self.row, self.mode, self.node] = mask
        return out


def occupied(
    obstacles: Obstacles,
    blocks: Blocks,
    s_lo: Float[Tensor, "P E"],
    s_hi: Float[Tensor, "P E"],
    config: PlannerConfig,
) -> tuple[Float[Tensor, "3 C M N"], Bool[np.ndarray, "C M N"]]:
    """What is taken up of ego's way, and which modes count there.

    Where they count, the first is the begin of the forecast, and begin and end with the part of its uncertainty that
    counts (m). W is the probability that the agent exists and blocks where this mode begins to, or earlier. A mode
    counts when W exceeds the accepted probability eps, and grows by Phi^-1(1 - eps / W) standard deviations: an
    unlikely mode fades out, several that agree add up.
    """
    rows, modes, nodes = blocks.shape
    mask = torch.from_numpy(blocks.ours)
    begin, end = torch.where(mask, s_lo, INF).amin(0), torch.where(mask, s_hi, -INF).amax(0)  # [E]
    where = np.full(blocks.shape, np.inf)
    where[blocks.row, blocks.mode, blocks.node] = array(begin)
    earlier = torch.from_numpy(where[blocks.row, :, blocks.node] <= array(begin)[:, None] + 0.5)  # [E, M]
    weight = obstacles.weight.flatten(0, 1).index_select(0, torch.from_numpy(blocks.agent))
    total = (earlier * weight).sum(1).clamp(max=1.0)
    eps, most = config.risk.hit_probability, config.risk.longitudinal_max
    sigma = obstacles.sigma_s.take(torch.from_numpy((blocks.agent * modes + blocks.mode) * nodes + blocks.node))
    grow = (risk_quantile(total, eps) * sigma).clamp(min=-most, max=most)
    cell = torch.from_numpy((blocks.row * modes + blocks.mode) * nodes + blocks.node)
    ends = torch.stack([begin, begin - grow, end + grow])
    dense = torch.zeros(3, rows * modes * nodes, dtype=torch.float64).index_copy(1, cell, ends)
    return dense.reshape(3, *blocks.shape), blocks.spread(array(total) > eps)


@dataclass
class Nearest:
    """Begin of what agents may occupy: forecasts of any likelihood, widened by what the agents could do.

    rows ``[c]``: encounters with one. place ``[E]`` in `flat_pieces`, owner ``[E]`` in rows and stray ``[E]`` m of the
    nearest places. Several may be equally near, such as those of an agent that stands: they share the gradient.
    """

    rows: Int[np.ndarray, " c"]
    place: Int[np.ndarray, " E"]
    owner: Int[np.ndarray, " E"]
    stray: Float[np.ndarray, " E"]

    @classmethod
    def of(
        cls, obstacles: Obstacles, met: Encounters, start: Start, vehicle: VehicleParameters, config: PlannerConfig
    ) -> Nearest:
        """The tail stops short of it where full braking still can.

        Where it cannot there is no row: the decision about the agent and the checker have to do.
        """
        lane = met.wary.any(0).any(1).nonzero()[0]
        row = met.row[lane]
        forecast = (met.scene * obstacles.s_lo.shape[1] + met.agent)[row] * obstacles.s_lo.shape[2] + met.mode[lane]
        place = piece_index(obstacles, forecast[:, None], np.arange(met.stray.shape[1]))
        far = array(flat_pieces(obstacles.s_lo)).take(place) - met.stray[row]
        far = np.where(met.wary.take(lane, 1), far, np.inf)
        least = np.full(len(met), np.inf)
        np.minimum.at(least, row, far.min((0, 2)))
        firm = array(start.s + vehicle.front) + shortest_stop(start, config)
        kept = np.isfinite(least) & (least > firm[met.scene] + 0.2)
        piece, which, node = (far == np.where(kept, least, np.nan)[row][:, None]).nonzero()
        owner = (kept.cumsum() - 1)[row[which]]
        return cls(kept.nonzero()[0], place[piece, which, node], owner, met.stray[row[which], node])

    def begin(self, s_lo: Float[Tensor, " E"]) -> Float[Tensor, " c"]:
        """m, for values read from `place`."""
        share = 1.0 / np.bincount(self.owner, minlength=len(self.rows))[self.owner]
        value = (s_lo - torch.from_numpy(self.stray)) * torch.from_numpy(share)
        return torch.zeros(len(self.rows), dtype=s_lo.dtype).index_add(0, torch.from_numpy(self.owner), value)

"""Who is who, as a convex program: the relaxed assignment of tracks and detections on our own batched solver.

    max  sum_e  s_e P_e - r/2 (P_e^2 - P_e)      over the candidate pairs e = (track i, detection j)
    s.t. P >= 0,  sum_j P_ij <= 1 for every track,  sum_i P_ij <= 1 for every detection

P_e is the share of pair e. What a row or a column leaves of its 1 is its slack: the track was missed (it coasts, and
dies), the detection is somebody new. Slacks score 0, so a pair is worth linking where its score s_e is positive. The
quadratic term makes P unique, with gradients; below some r > 0 the solution is that of the linear program where that
has only one, and its vertices are assignments (Birkhoff).

Connected components of the graph of candidates do not know of each other, are small, and are solved as a batch. In a
component the smaller side's members are the states of a stage program and the larger side's members its stages: the
state is how much of each one's capacity is used so far, the input is the stage's row of P.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from planner.qp.layer import solve_differentiable
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs. track, detection ``[E]`` int64: what each joins, no pair twice; tracks, detections: how many
    there are. Several frames under numbers of their own may be put together: they do not touch each other.
    """

    track: Tensor
    detection: Tensor
    tracks: int
    detections: int


@dataclass
class Assignment:
    """share ``[E]``, missed ``[tracks]``, new ``[detections]``: in [0, 1], float64, differentiable with respect to the
    scores. solved ``[E]`` bool: False where the solver gave no answer; the shares there are those of the best
    assignment (0 or 1) and have no gradient.
    """

    share: Tensor
    missed: Tensor
    new: Tensor
    solved: Tensor


def assign(score: Tensor, pairs: Pairs, regularisation: float, smoothing: float = 0.0, threads: int = 1) -> Assignment:
    """The relaxed assignment for scores ``[E]``. regularisation: r > 0.

    smoothing > 0 stops on the solver's central path: all shares are then strictly between 0 and 1 and no gradient
    vanishes; for training. Raises ValueError for other signs, for a wrong shape and for scores without a number.
    """
    if regularisation <= 0 or smoothing < 0:
        raise ValueError(f"regularisation, smoothing: expected > 0 and >= 0, got {regularisation} and {smoothing}")
    if score.shape != pairs.track.shape or not bool(torch.isfinite(score).all()):
        raise ValueError(f"score: expected {len(pairs.track)} finite numbers, got shape {tuple(score.shape)}")
    score, options = score.double(), SolveOptions(smoothing=smoothing, threads=threads, effort=0)
    share, solved = torch.zeros_like(score), torch.ones(len(score), dtype=torch.bool)
    for part in _parts(pairs):
        own = score[part.pair]
        if part.states == part.stages == 1 and not smoothing:
            found = (0.5 + own / regularisation).clamp(0.0, 1.0)  # a single pair competes with nobody
        else:
            found, good = _solve(own, part, regularisation, options)
            if not bool(good.all()):
                instead = matching(own, part.as_pairs()).double()
                found, solved[part.pair] = torch.where(good, found, instead), good
        share = share.index_put((part.pair,), found)
    one = torch.ones((), dtype=score.dtype)
    missed = one.expand(pairs.tracks).index_add(0, pairs.track, -share)
    new = one.expand(pairs.detections).index_add(0, pairs.detection, -share)
    return Assignment(share, missed, new, solved)


def matching(score: Tensor, pairs: Pairs) -> Tensor:
    """``[E]`` bool: the pairs of the assignment with the highest sum of scores, none of a score that is not positive
    (Hungarian method).
    """
    rows, row = np.unique(pairs.track.numpy(), return_inverse=True)
    columns, column = np.unique(pairs.detection.numpy(), return_inverse=True)
    worth = np.zeros((len(rows), len(columns)))
    worth[row, column] = score.detach().double().clamp(min=0).numpy()
    first, second = linear_sum_assignment(worth, maximize=True)
    chosen = np.zeros(worth.shape, bool)
    chosen[first, second] = worth[first, second] > 0
    return torch.from_numpy(chosen[row, column])


def decided(found: Assignment, pairs: Pairs) -> Tensor:
    """``[E]`` bool: the assignment nearest to the shares. A pair gains its share and loses half of what it takes from
    the two slacks; shares that are 0 or 1 stay as they are.
    """
    slack = found.missed[pairs.track] + found.new[pairs.detection]
    return matching(found.share - 0.5 * slack, pairs)


@dataclass
class _Part:
    """All components of one size. pair ``[e]``: which pairs; member ``[e]``: their component; stage, state ``[e]``:
    their places in its program of `stages` stages and `states` states.
    """

    pair: Tensor
    member: Tensor
    stage: Tensor
    state: Tensor
    stages: int
    states: int

    def as_pairs(self) -> Pairs:
        return Pairs(self.member * self.stages + self.stage, self.member * self.states + self.state, 0, 0)


def _parts(pairs: Pairs) -> Iterator[_Part]:
    """Components by size; small sides are filled up to powers of two, so that many share a size."""
    i, j = pairs.track.numpy(), pairs.detection.numpy()
    if not len(i):
        return
    nodes = pairs.tracks + pairs.detections
    graph = coo_matrix((np.ones(len(i)), (i, j + pairs.tracks)), shape=(nodes, nodes))
    label = connected_components(graph, directed=False)[1]
    side = np.arange(nodes) >= pairs.tracks
    place = _place(2 * label + side)
    count = np.bincount(2 * label + side, minlength=2 * (label.max() + 1)).reshape(-1, 2)
    long, short = (np.where(n == 3, 4, n) for n in (count.max(1), count.min(1)))
    component = label[i]
    turned = (count[:, 0] < count[:, 1])[component]
    row, column = place[i], place[j + pairs.tracks]
    stage, state = np.where(turned, column, row), np.where(turned, row, column)
    size = np.stack([long, short], 1)[component]
    for stages, states in np.unique(size, axis=0).tolist():
        chosen = np.flatnonzero((size == (stages, states)).all(1))
        member = np.unique(component[chosen], return_inverse=True)[1]
        pair, member, at, of = (torch.from_numpy(a) for a in (chosen, member, stage[chosen], state[chosen]))
        yield _Part(pair, member, at, of, stages, states)


def _place(group: np.ndarray) -> np.ndarray:
    """``[n]``: the how-manieth of its group each one is, in order of appearance."""
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    place = np.empty_like(order)
    place[order] = np.arange(len(group)) - np.searchsorted(ranked, ranked)
    return place


def _solve(score: Tensor, part: _Part, regularisation: float, options: SolveOptions) -> tuple[Tensor, Tensor]:
    """Shares and whether solved, ``[e]`` each."""
    b, n, k = int(part.member.max()) + 1, part.stages, part.states
    at = (part.member, part.stage, part.state)
    zero, inf, kind = torch.zeros((), dtype=torch.float64), torch.inf, torch.float64
    there = zero.new_zeros(b, n, k).index_put(at, zero + 1)
    # What is no candidate moves nothing, counts nowhere and has no bounds: its entry stays at 0.
    gain = zero.new_zeros(b, n, k).index_put(at, score + regularisation / 2)
    floor = torch.where(there > 0, 0.0, -inf)
    full = torch.full((n, 2 * k), inf, dtype=kind)
    full[-1, :k] = 1.0  # every state's capacity, once all stages have taken theirs
    same = torch.eye(k, dtype=kind)
    program = StageProgram(
        tuple(range(-1, n - 1)),
        x0=zero.expand(b, k),
        A=same.expand(b, n, k, k),
        B=torch.diag_embed(there),
        c=zero.expand(b, n, k),
        H=torch.diag(torch.cat([zero.new_zeros(k), zero.new_full((k,), regularisation)])).expand(b, n, 2 * k, 2 * k),
        g=torch.cat([zero.expand(b, n, k), -gain], -1),
        z_lower=torch.cat([torch.full((b, n, k), -inf, dtype=kind), floor], -1),
        z_upper=full.expand(b, n, 2 * k),
        C=torch.cat([zero.expand(b, n, k), there], -1)[:, :, None],
        lower=torch.full((1, n, 1), -inf, dtype=kind).expand(b, n, 1),
        upper=torch.ones((1, n, 1), dtype=kind).expand(b, n, 1),
        compliance=zero.expand(b, n, 1),
    )
    z, report = solve_differentiable(program, options)
    return z[..., k:][at].clamp(0.0, 1.0), report.solution.solved[part.member]

"""The two-branch time grid: which input acts when, and what follows from it linearly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.config import Horizon


@dataclass(frozen=True)
class Grid:
    """Constant matrices of the horizon. Branch 0 is nominal, branch 1 the tail; F fine steps, n inputs, N nodes.

    step (s). time ``[F]`` s after each fine step. input_index ``[2, F]``: the input held during the fine step.
    node ``[N]``: fine indices at the ends of the nominal intervals, where rows stand; node_time, node_dt ``[N]`` s.
    tail_own ``[N]``: the node lies after the shared part. input_dt ``[n]`` s. input_branch ``[n]``: 1 = tail only.
    """

    step: float
    time: Float[Tensor, " F"]
    input_index: Int[Tensor, "2 F"]
    hold: Float[Tensor, "2 F n"]
    node: Int[Tensor, " N"]
    node_time: Float[Tensor, " N"]
    node_dt: Float[Tensor, " N"]
    tail_own: Tensor
    input_dt: Float[Tensor, " n"]
    input_branch: Int[Tensor, " n"]
    shared_steps: int

    @property
    def inputs(self) -> int:
        return self.hold.shape[-1]

    def first_fine(self, branch: int) -> Tensor:
        """``[n]``: fine index at which each input starts to act in the given branch (0 if it never does)."""
        index = self.input_index[branch]
        first = torch.zeros(self.inputs, dtype=torch.long)
        for f in range(len(index) - 1, -1, -1):
            first[index[f]] = f
        return first


@lru_cache(maxsize=8)
def make_grid(horizon: Horizon) -> Grid:
    """The grid of a validated horizon. Raises ValueError as `Horizon.validate` does."""
    horizon.validate()
    h = horizon.step
    time = horizon.fine_time()
    nominal = _intervals(horizon.nominal, h)
    tail = _intervals(horizon.tail, h)
    shared_steps = round(horizon.shared / h)
    shared_inputs = nominal[shared_steps - 1] + 1
    if shared_steps and nominal[shared_steps] == nominal[shared_steps - 1]:
        raise ValueError(f"horizon.shared: {horizon.shared} s does not end at an interval of the nominal branch")
    if nominal[:shared_steps] != tail[:shared_steps]:
        raise ValueError("horizon: expected both branches to have the same intervals in the shared part")
    count = nominal[-1] + 1
    index = torch.tensor([nominal, [i if f < shared_steps else i - shared_inputs + count for f, i in enumerate(tail)]])
    inputs = int(index.max()) + 1
    hold = torch.nn.functional.one_hot(index, inputs).double()
    ends = [f for f in range(len(nominal)) if f + 1 == len(nominal) or nominal[f + 1] != nominal[f]]
    node = torch.tensor(ends)
    node_time = time[node]
    node_dt = torch.diff(node_time, prepend=torch.zeros(1, dtype=torch.float64))
    branch = torch.arange(inputs) >= count
    # Shared inputs act in both branches; their duration counts once.
    input_dt = torch.where(branch, hold[1].sum(0), hold[0].sum(0)) * h
    return Grid(
        h, time, index, hold, node, node_time, node_dt, node_time > horizon.shared + 1e-9, input_dt, branch.long(),
        shared_steps,
    )  # fmt: skip


def _intervals(pairs: tuple[tuple[float, int], ...], step: float) -> list[int]:
    """Interval number of every fine step."""
    out: list[int] = []
    number = 0
    for length, count in pairs:
        for _ in range(count):
            out += [number] * round(length / step)
            number += 1
    return out

"""The two-branch time grid: a tree of intervals over which the inputs are constant, and the fine steps inside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.config import Horizon


@dataclass(frozen=True)
class Grid:
    """Constants of the horizon. Branch 0 is nominal, branch 1 the tail; F fine steps, N nodes, n stages.

    step (s). time ``[F]`` s after each fine step. node ``[N]``: fine indices at the ends of the intervals, where limits
    stand; node_time, node_dt ``[N]`` s; node_time_from_now ``[N + 1]`` starts with 0. tail_own ``[N]``: the node lies
    after the shared part.

    Stages are the N nominal intervals, then the tail's own ones, each with one input and the node at its end. parent:
    stage before, -1 for now. stage_branch, stage_node: branch and index into `node`. stage_time, stage_dt ``[n]`` s;
    stage_tail ``[n]`` bool.

    interval_stage ``[2, N]``: the stage of each branch's intervals; interval_before ``[2, N]``: its parent plus one.
    groups: (first interval, number of intervals, fine steps in each) of runs of equally long intervals.
    by_step ``[F]``: the fine steps run by run, in each the first of every interval, then the second, and so on;
    by_time: the way back. fine_per_interval ``[N]``, interval_of_fine ``[F]``.
    since ``[F]`` s: from the begin of the interval to the end of the fine step.
    stage_first, stage_last ``[n]``: indices into a flattened ``[2, F]`` of the fine steps at the ends of every stage.
    """

    step: float
    time: Float[Tensor, " F"]
    node: Int[Tensor, " N"]
    node_time: Float[Tensor, " N"]
    node_dt: Float[Tensor, " N"]
    node_time_from_now: Float[Tensor, " N1"]
    tail_own: Bool[Tensor, " N"]
    parent: tuple[int, ...]
    stage_branch: tuple[int, ...]
    stage_node: tuple[int, ...]
    stage_time: Float[Tensor, " n"]
    stage_dt: Float[Tensor, " n"]
    stage_tail: Bool[Tensor, " n"]
    interval_stage: Int[Tensor, "2 N"]
    interval_before: Int[Tensor, "2 N"]
    groups: tuple[tuple[int, int, int], ...]
    by_step: Int[Tensor, " F"]
    by_time: Int[Tensor, " F"]
    interval_of_fine: Int[Tensor, " F"]
    fine_per_interval: Int[Tensor, " N"]
    since: Float[Tensor, " F"]
    stage_first: Int[Tensor, " n"]
    stage_last: Int[Tensor, " n"]

    @property
    def stages(self) -> int:
        return len(self.parent)

    @cached_property
    def told_time(self) -> tuple[float, ...]:
        """stage_time as people read it, in hundredths."""
        return tuple(round(t, 2) for t in self.stage_time.tolist())

    @cached_property
    def in_tail(self) -> tuple[bool, ...]:
        """stage_tail as plain values."""
        return tuple(branch == 1 for branch in self.stage_branch)

    def at_stages(self, values: Tensor) -> Tensor:
        """Per-branch values at the nodes ``[R, 2, N, ...]`` as values at the stages ``[R, n, ...]``."""
        own = self.stages - values.shape[2]
        return torch.cat([values[:, 0], values[:, 1, -own:]], 1)

    def by_branch(self, nominal: float, tail: float) -> Float[Tensor, " n"]:
        """A constant of each branch, at the stages."""
        of = torch.tensor([nominal, tail], dtype=torch.float64, device=self.stage_tail.device)
        return of[self.stage_tail.long()]


@lru_cache(maxsize=16)
def make_grid(horizon: Horizon, device: torch.device | None = None) -> Grid:
    """The grid of a validated horizon. Raises ValueError as `Horizon.validate` does, and for branches that do not share
    their first intervals or whose nodes differ."""
    horizon.validate()
    h = horizon.step
    time = horizon.fine_time()
    nominal, tail = _intervals(horizon.nominal, h), _intervals(horizon.tail, h)
    shared_steps = round(horizon.shared / h)
    if not 0 <= shared_steps < len(nominal):
        raise ValueError(f"horizon.shared: expected less than {horizon.duration} s, got {horizon.shared}")
    if shared_steps and nominal[shared_steps] == nominal[shared_steps - 1]:
        raise ValueError(f"horizon.shared: {horizon.shared} s does not end at an interval of the nominal branch")
    if nominal != tail:
        raise ValueError("horizon: expected both branches to have the same intervals")
    shared = nominal[shared_steps - 1] + 1 if shared_steps else 0
    count = nominal[-1] + 1
    own = count - shared
    parent = (*range(-1, count - 1), *(shared - 1 if i == 0 else count + i - 1 for i in range(own)))
    branch = (0,) * count + (1,) * own
    stage_node = (*range(count), *range(shared, count))

    ends = [f for f in range(len(nominal)) if f + 1 == len(nominal) or nominal[f + 1] != nominal[f]]
    begins = [0, *(e + 1 for e in ends[:-1])]
    groups: list[tuple[int, int, int]] = []
    for i, length in enumerate(e - b + 1 for b, e in zip(begins, ends)):
        if groups and groups[-1][2] == length:
            groups[-1] = (groups[-1][0], groups[-1][1] + 1, length)
        else:
            groups.append((i, 1, length))
    by_step = [begins[i + k] + j for i, number, length in groups for j in range(length) for k in range(number)]
    node = torch.tensor(ends)
    node_time = time[node]
    node_dt = torch.diff(node_time, prepend=torch.zeros(1, dtype=torch.float64))
    interval_stage = torch.tensor([list(range(count)), [i if i < shared else i + own for i in range(count)]])
    fine = len(nominal)
    grid = Grid(
        step=h,
        time=time,
        node=node,
        node_time=node_time,
        node_dt=node_dt,
        node_time_from_now=torch.cat([torch.zeros(1, dtype=torch.float64), node_time]),
        tail_own=node_time > horizon.shared + 1e-9,
        parent=parent,
        stage_branch=branch,
        stage_node=stage_node,
        stage_time=node_time[list(stage_node)],
        stage_dt=node_dt[list(stage_node)],
        stage_tail=torch.tensor(branch) == 1,
        interval_stage=interval_stage,
        interval_before=torch.tensor([p + 1 for p in parent])[interval_stage],
        groups=tuple(groups),
        by_step=torch.tensor(by_step),
        by_time=torch.tensor(by_step).argsort(),
        interval_of_fine=torch.tensor(nominal),
        fine_per_interval=torch.tensor([e - b + 1 for b, e in zip(begins, ends)]),
        since=torch.tensor([f - begins[i] + 1 for f, i in enumerate(nominal)], dtype=torch.float64) * h,
        stage_first=torch.tensor([b * fine + begins[i] for b, i in zip(branch, stage_node)]),
        stage_last=torch.tensor([b * fine + ends[i] for b, i in zip(branch, stage_node)]),
    )
    if device is None or device.type == "cpu":
        return grid
    moved = {name: value.to(device) for name, value in vars(grid).items() if isinstance(value, Tensor)}
    return Grid(**{**vars(grid), **moved})


def _intervals(pairs: tuple[tuple[float, int], ...], step: float) -> list[int]:
    """Interval number of every fine step."""
    out: list[int] = []
    number = 0
    for length, count in pairs:
        for _ in range(count):
            out += [number] * round(length / step)
            number += 1
    return out

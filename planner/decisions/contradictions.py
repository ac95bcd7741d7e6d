"""Decisions whose own limits along the path contradict each other: shown to be empty before anything is solved.

Who is passed first has to be behind ego where who is yielded to is still ahead: a lower limit on s above the upper one.
No motion meets both, whatever the rest of the program says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from planner.decisions.candidates import CandidateSet
from planner.grid import Grid
from planner.path.surface import Start
from planner.programs.longitudinal import LIMIT_RULES, LongitudinalBounds
from planner.programs.longitudinal_constants import S
from planner.qp.phase_one import PROVEN
from planner.result import RowLabel


class Apart(NamedTuple):
    """What is left to be solved, and what need not be; either is a part of what there was."""

    open: CandidateSet
    empty: EmptyCandidates | None


@dataclass
class EmptyCandidates:
    """E candidates without any motion.

    gap (m): between the two limits that contradict each other most, whose upper one `label` names. A least-squares
    compromise would break both by half of it.
    """

    candidates: CandidateSet
    gap: list[float]
    label: list[RowLabel]


def without_contradictions(candidates: CandidateSet, start: Start, grid: Grid) -> Apart:
    """Candidates whose limits leave room everywhere, and the others. Where nothing leaves room one stays open all the
    same: its solve says so as well, and nobody has to think of empty batches. start: ego's, of the scenes."""
    gap, stage = widest_contradiction(candidates.bounds, start.s.detach()[candidates.scene], grid)
    gaps = gap.tolist()
    empty = [i for i, metres in enumerate(gaps) if metres > 0]
    empty = empty[1:] if len(empty) == len(gaps) else empty
    if not empty:
        return Apart(candidates, None)
    names = candidates.bounds.upper_id[empty].tolist()
    labels = []
    for ids, at in zip(names, stage[empty].tolist()):
        branch, node = grid.stage_branch[at], grid.stage_node[at]
        rule = LIMIT_RULES[S] + (" (tail)" if branch else "")
        labels.append(RowLabel(rule, ids[branch][node], grid.told_time[at]))
    refused = set(empty)
    kept = candidates.part([i for i in range(len(gaps)) if i not in refused])
    return Apart(kept, EmptyCandidates(candidates.part(empty), [gaps[i] for i in empty], labels))


def widest_contradiction(
    bounds: LongitudinalBounds, s0: Float[Tensor, " R"], grid: Grid
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """By how much (m) the limits on s contradict each other at most, and at which stage; 0 where they do not.

    s0 (m): from where the programs count. As `planner.qp.phase_one.find_violation`: beyond rounding.
    """
    lower, upper = ((grid.at_stages(x.detach()) - s0[:, None]).numpy() for x in (bounds.s_lower, bounds.s_upper))
    gap = lower - upper
    gap = np.where(gap > PROVEN * (1 + np.abs(lower)), gap, 0.0)
    stage = gap.argmax(1)
    return gap[np.arange(len(gap)), stage], stage

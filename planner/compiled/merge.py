"""`planner.decisions.candidates.plain_merge` compiled: one call for all candidates, one for the derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from planner import compiled
from planner.compiled.stage import apply
from planner.config import PlannerConfig
from planner.decisions.conflicts import Longitudinal
from planner.decisions.options import Choice, Options
from planner.decisions.stopping import crawling_stop
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start
from planner.programs.longitudinal import LongitudinalBounds
from planner.programs.safe_distance import SafeDistance
from planner.scene import VehicleParameters

_forward = compiled.kernel("dds_merge", "SSSSS RR RRRRRR JJ")
_backward = compiled.kernel("dds_merge_back", "SSSSS TTTTTTT RRRRRRR")
_ASKS = compiled.record("Asks", "n I BB")
_CHOSEN = compiled.record("Chosen", "nnn III II B")
_SCENES = compiled.record("Scenes", "TTTTT I")
_RULES = compiled.record("MergeRules", "ff ffff f ffffff")
_VALUES = compiled.record("Values", "TTT T TTT")


class _Discrete(NamedTuple):
    """What has no gradient."""

    asks: Any
    chosen: Any
    scenes: Any
    rules: Any


class _Merge:
    """A `planner.compiled.stage.Stage`; upper_id, lower_id ``[R, 2, N]`` and headway ``[R, N]`` once applied."""

    def __init__(self, given: _Discrete, rows: int, safe: bool) -> None:
        self.given, self.rows, self.safe = given, rows, safe

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """From yield, worst, pass, caution, s, speed_s, v_profile: upper, lower ``[R, 2, N]``, gap_s, speed, v_ref,

        v_cap and, if wanted, safe ``[R, N]``.
        """
        rows, nodes = self.rows, inputs[-1].shape[1]
        sides, flat = (
            torch.empty(2, rows, 2, nodes, dtype=torch.float64),
            torch.empty(6, rows, nodes, dtype=torch.float64),
        )
        self.upper_id, self.lower_id = torch.empty(2, rows, 2, nodes, dtype=torch.int64).unbind(0)
        gap_s, self.headway, speed, v_ref, v_cap, safe = flat.unbind(0)
        assert _forward is not None
        _forward(
            *self.given, _VALUES(*inputs), *sides.unbind(0), gap_s, self.headway, speed, v_ref, v_cap,
            safe if self.safe else None, self.upper_id, self.lower_id,
        )  # fmt: skip
        return *sides.unbind(0), gap_s, speed, v_ref, v_cap, *((safe,) if self.safe else ())

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> tuple[Tensor, ...]:
        found = tuple(torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        assert _backward is not None
        _backward(*self.given, _VALUES(*inputs), *gradients, *(() if self.safe else (None,)), *found)
        return found


def merged_bounds(
    longitudinal: Longitudinal,
    options: Options,
    choices: Sequence[tuple[int, Choice]],
    scene: Tensor,
    hold: Tensor,
    v_profile: Tensor,
    obstacles: Obstacles,
    start: Start,
    path_end: Tensor,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> LongitudinalBounds | None:
    """The candidates' bounds; None where nothing is compiled."""
    if _forward is None:
        return None
    x, limits, rule = longitudinal, config.limits, config.safe_distances
    spans = [options.rows(k, choice.manoeuvre) for k, choice in choices]
    first, last = torch.tensor([[rows.start for rows in spans], [rows.stop for rows in spans]]).unbind(0)
    passed, let_in = _filled([c.passed for _, c in choices]), _filled([c.let_in for _, c in choices])
    agent = torch.from_numpy(x.scene * obstacles.speed_s.shape[1] + x.agent)
    given = _Discrete(
        _ASKS(x.moving.shape[1], agent, *(torch.from_numpy(np.ascontiguousarray(m)) for m in (x.moving, x.conflict))),
        _CHOSEN(len(choices), passed.shape[1], let_in.shape[1], scene, first, last, passed, let_in, hold),
        _SCENES(
            start.s, start.v, start.a, path_end, torch.from_numpy(crawling_stop(start, config)), obstacles.track_id
        ),
        _RULES(
            vehicle.front, vehicle.rear, config.margins.ahead, config.margins.behind, config.comfort.gap,
            config.comfort.headway, rule.leader_braking, limits.acceleration_max, limits.braking_max, limits.jerk_max,
            limits.tail_braking_max, limits.tail_jerk_max, config.horizon.shared,
        ),
    )  # fmt: skip
    stage = _Merge(given, len(choices), rule.rows)
    upper, lower, gap_s, speed, v_ref, v_cap, *safe = apply(
        stage, x.yield_front, x.worst_front, x.pass_rear, x.caution_front, start.s, obstacles.speed_s, v_profile
    )
    distance = SafeDistance(safe[0], stage.upper_id[:, 0], rule.response, rule.braking) if safe else None
    return LongitudinalBounds(
        upper, lower, stage.upper_id, stage.lower_id, gap_s, stage.headway, speed, v_ref, v_cap, safe=distance
    )


def _filled(rows: Sequence[tuple[int, ...]]) -> Tensor:
    """``[R, K]`` int64, filled up with -1."""
    most = max(map(len, rows))
    return torch.tensor([[*r, *[-1] * (most - len(r))] for r in rows], dtype=torch.int64)

"""Decisions: yield or pass, left or right, stop or go -- each combination a convex program.

*All-yield* and *hold* always own the first two slots of a scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.compiled.merge import merged_bounds
from planner.config import PlannerConfig
from planner.decisions.conflicts import Longitudinal
from planner.decisions.manoeuvres import Manoeuvres
from planner.decisions.options import SLACK, Choice, Options, table
from planner.decisions.stopping import crawling_stop, full_stop, shortest_stop
from planner.objects.forecasts import array
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start
from planner.programs.longitudinal import LongitudinalBounds
from planner.programs.safe_distance import SafeDistance
from planner.scene import VehicleParameters


@dataclass
class CandidateSet:
    """R decisions of S scenes ready to be solved, scene by scene.

    kind: one of `planner.decisions.options.KINDS`. scene, manoeuvre ``[R]``; hold ``[R]``: aims for standing still.
    bounds: of the longitudinal program. text, duties (track id -> what is done about it): for people, written when
    first read.
    """

    kind: list[str]
    scene: Int[Tensor, " R"]
    manoeuvre: Int[Tensor, " R"]
    hold: Bool[Tensor, " R"]
    bounds: LongitudinalBounds
    options: Options
    choices: list[tuple[int, Choice]]

    def part(self, rows: list[int]) -> CandidateSet:
        """Some of the candidates, in that order."""
        at = torch.tensor(rows, dtype=torch.int64)
        kind, choices = [self.kind[i] for i in rows], [self.choices[i] for i in rows]
        return CandidateSet(
            kind, self.scene[at], self.manoeuvre[at], self.hold[at], self.bounds.part(at), self.options, choices
        )

    @cached_property
    def text(self) -> list[str]:
        """Names, unique within a scene, that stay the same from cycle to cycle as long as the decision does."""
        return [self.name(i) for i in range(len(self.choices))]

    def name(self, i: int) -> str:
        """The text of one candidate."""
        return self.options.text(*self.choices[i])

    @cached_property
    def duties(self) -> list[dict[int, str]]:
        """Per candidate and track id "left", "right", "pass", "yield", or of who has to wait "ignored: their duty",
        "insist: their duty" (could be let in) or "yield: their duty" (is let in)."""
        return [self.options.duties(scene, choice) for scene, choice in self.choices]


def assemble(
    longitudinal: Longitudinal,
    manoeuvres: Manoeuvres,
    obstacles: Obstacles,
    start: Start,
    v_profile: Float[Tensor, "S N"],
    path_end: Float[Tensor, " S"],
    preferred: Sequence[str],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> CandidateSet:
    """Choose at most `max_candidates` combinations per scene and merge the agents' bounds.

    v_profile m/s: free-flow speed at the nodes. path_end m: where the rear axle may go at most. preferred: text of each
    scene's last decision, which keeps its place among the candidates as long as it exists.
    """
    options = Options(longitudinal, manoeuvres, obstacles, start, vehicle, config)
    choices = [(s, choice) for s, text in enumerate(preferred) for choice in options.choose(s, text)]
    scene = torch.tensor([s for s, _ in choices])
    hold = torch.tensor([choice.hold for _, choice in choices])
    given = (longitudinal, options, choices, scene, hold, v_profile, obstacles, start, path_end, vehicle, config)
    bounds = merged_bounds(*given) or plain_merge(*given)
    kinds, manoeuvre = [choice.kind for _, choice in choices], torch.tensor([c.manoeuvre for _, c in choices])
    return CandidateSet(kinds, scene, manoeuvre, hold, bounds, options, choices)


def plain_merge(
    longitudinal: Longitudinal,
    options: Options,
    choices: Sequence[tuple[int, Choice]],
    scene: Int[Tensor, " R"],
    hold: Bool[Tensor, " R"],
    v_profile: Float[Tensor, "S N"],
    obstacles: Obstacles,
    start: Start,
    path_end: Float[Tensor, " S"],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> LongitudinalBounds:
    """The candidates' bounds. The definition: compiled/merge.cpp is the same.

    Whose bound it is, is decided on plain arrays; its value is then read from one table, with gradients. A tail may
    stop anywhere, so going first bounds the intended motion only.
    """
    rows, passed, left = table(options, choices, longitudinal.conflict)
    v_free = v_profile[scene]
    v_ref = torch.where(hold[:, None], 0.0, v_free)
    margin, comfort = config.margins, config.comfort
    bounds, at, row = _strictest(longitudinal, rows, passed, left)
    value = bounds.take(torch.from_numpy(at))
    ids = np.append(array(obstacles.track_id)[longitudinal.scene, longitudinal.agent], -1)[row]

    # The margin, not the object, gives way where even braking could not keep it; who crawls may always stop.
    front = start.s + vehicle.front
    room = torch.from_numpy(np.stack([full_stop(start, config), shortest_stop(start, config)], 1))
    stops = (front[:, None] + room).index_select(0, scene)[..., None]
    ahead = value[:, :2]
    kept = torch.maximum(ahead - margin.ahead, torch.minimum(ahead - SLACK, stops))
    least = front + torch.from_numpy(crawling_stop(start, config))
    kept = torch.maximum(kept, least.index_select(0, scene)[:, None, None])
    end = torch.maximum(path_end - 1.0, front.detach() + room[:, 0] + 1.0)
    upper = torch.minimum(kept, end.index_select(0, scene)[:, None, None]) - vehicle.front
    lower = value[:, 2] + margin.behind + vehicle.rear
    lower = torch.stack([lower, torch.full_like(lower, -torch.inf)], 1)

    # Comfort: bumper gap, growing with speed behind leaders.
    nobody = np.zeros((1, longitudinal.moving.shape[1]), bool)
    moving = np.concatenate([longitudinal.moving, nobody])[row[:, 0], np.arange(row.shape[-1])]
    agent = np.append(longitudinal.scene * obstacles.speed_s.shape[1] + longitudinal.agent, 0)[row[:, 0]]
    follows = torch.from_numpy(moving)
    speed = torch.where(follows, obstacles.speed_s.take(torch.from_numpy(agent)).clamp(min=0), 0.0)
    headway = follows.double() * comfort.headway
    gap = value[:, 0] - vehicle.front - comfort.gap
    upper_id, lower_id = torch.from_numpy(ids[:, :2]), torch.from_numpy(ids[:, 2:]).expand(-1, 2, -1)
    safe = None
    if config.safe_distances.rows:
        rule = config.safe_distances
        own = value[:, 0] + speed**2 / (2 * rule.leader_braking) - vehicle.front
        limit = torch.where(follows & torch.isfinite(value[:, 0]), own, torch.inf)
        safe = SafeDistance(limit, torch.from_numpy(ids[:, 0]), rule.response, rule.braking)
    return LongitudinalBounds(upper, lower, upper_id, lower_id, gap, headway, speed, v_ref, v_free + 0.3, safe=safe)


def _strictest(
    longitudinal: Longitudinal, rows: np.ndarray, passed: np.ndarray, left: np.ndarray
) -> tuple[Tensor, Int[np.ndarray, "R 3 N"], Int[np.ndarray, "R 3 N"]]:
    """What bounds each candidate: the intended motion's front, the tail's front, and ego's rear.

    Returns a flat table of all bounds with gradients, the places in it, and whose they are (rows of Longitudinal; their
    number for nobody). The table holds yield_front, worst_front and pass_rear ``[C + 1, N]``, then caution_front.
    """
    count, nodes = longitudinal.moving.shape
    inf = torch.full((1, nodes), torch.inf, dtype=torch.float64)
    parts = [longitudinal.yield_front, inf, longitudinal.worst_front, inf, longitudinal.pass_rear, -inf]
    bounds = torch.cat([*(p.reshape(-1) for p in parts), longitudinal.caution_front, inf[0, :1]])
    size = (count + 1) * nodes
    ahead, worst, behind = array(bounds)[: 3 * size].reshape(3, count + 1, nodes)
    caution = array(bounds)[3 * size :]
    column = np.arange(nodes)

    def least(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of ``[R, C, N]`` over C: value and row."""
        which = values.argmin(1)[:, None]
        value = np.take_along_axis(values, which, 1)[:, 0]
        row = np.take_along_axis(rows[..., None], which, 1)[:, 0]
        return value, np.where(np.isfinite(value), row, count)

    skip = (passed | left)[..., None]
    _, nominal = least(np.where(skip, np.inf, ahead[rows]))
    yields = np.where(skip, np.inf, np.minimum(ahead, worst)[rows])
    value, tail = least(np.minimum(yields, caution[rows][..., None]))
    _, first = least(np.where(passed[..., None], -behind[rows], np.inf))
    by_caution = np.isfinite(value) & (caution[tail] == value)
    by_worst = np.where(worst[tail, column] == value, size, 0)
    tail_at = np.where(by_caution, 3 * size + tail, by_worst + tail * nodes + column)
    at = np.stack([nominal * nodes + column, tail_at, 2 * size + first * nodes + column], 1)
    return bounds, at, np.stack([nominal, tail, first], 1)

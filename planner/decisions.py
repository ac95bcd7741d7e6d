"""Decisions: yield or pass, left or right, stop or go -- each combination a convex program.

*All-yield* and *hold* always own the first two slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from planner.config import PlannerConfig
from planner.conflicts import ONCOMING_ANGLE, Longitudinal, full_stop, shortest_stop
from planner.longitudinal import LongitudinalBounds
from planner.manoeuvres import Manoeuvre, Start
from planner.obstacles import Obstacles
from planner.scene import VehicleParameters


@dataclass
class CandidateSet:
    """K decisions ready to be solved.

    kind, text, duties: for people. manoeuvre: index per candidate. passed: agents passed first.
    hold ``[K]``: aims for standing still. bounds: of the longitudinal program.
    """

    kind: list[str]
    text: list[str]
    duties: list[dict[int, str]]
    manoeuvre: list[int]
    hold: list[bool]
    bounds: LongitudinalBounds


def assemble(
    longitudinal: Longitudinal,
    manoeuvres: list[Manoeuvre],
    obstacles: Obstacles,
    start: Start,
    v_profile: Tensor,
    path_end: float,
    preferred: str,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> CandidateSet:
    """Choose at most `max_candidates` combinations and merge the agents' bounds.

    v_profile ``[N]`` m/s: free-flow speed at the nodes. preferred: text of the last decision, which keeps its place
    among the candidates as long as it exists.
    """
    choices = _choose(longitudinal, manoeuvres, obstacles, preferred, config)
    rows = [
        _merge(longitudinal, index, passed, obstacles, start, path_end, vehicle, config)
        for _, index, passed, _ in choices
    ]
    v_ref = torch.stack([torch.zeros_like(v_profile) if hold else v_profile for *_, hold in choices])
    merged = [torch.stack(column) for column in zip(*rows)]
    v_cap = v_profile.expand(len(choices), -1) + 0.3
    bounds = LongitudinalBounds(*merged, v_ref, v_cap)  # type: ignore[call-arg]  # seven columns of seven fields
    texts, duties = zip(*(_describe(choice, longitudinal, manoeuvres, obstacles) for choice in choices))
    return CandidateSet(
        [kind for kind, *_ in choices],
        list(texts),
        list(duties),
        [c[1] for c in choices],
        [c[3] for c in choices],
        bounds,
    )


Choice = tuple[str, int, tuple[int, ...], bool]
"""kind, manoeuvre, agents passed first, hold."""


def _choose(
    longitudinal: Longitudinal, manoeuvres: list[Manoeuvre], obstacles: Obstacles, preferred: str, config: PlannerConfig
) -> list[Choice]:
    choices: list[Choice] = [("yield", 0, (), False), ("hold", 0, (), True)]
    more: list[Choice] = []
    for i, manoeuvre in enumerate(manoeuvres):
        kind = "yield" if manoeuvre.kind == "keep" else manoeuvre.kind
        when = longitudinal.first_time[i].tolist()
        candidates = longitudinal.passable[i].nonzero()[:, 0].tolist()
        candidates.sort(key=when.__getitem__)
        candidates = candidates[: config.decisions.max_conflicts]
        if manoeuvre.oncoming and _opposed(longitudinal, i, obstacles):
            continue
        if i > 0:
            more.append((kind, i, (), False))
        for count in range(len(candidates), 0, -1):
            more += [("pass" if i == 0 else kind, i, chosen, False) for chosen in combinations(candidates, count)]
    # Who was chosen last keeps a slot: options persist until infeasible or unsafe.
    more.sort(key=lambda c: _describe(c, longitudinal, manoeuvres, obstacles)[0] != preferred)
    others = [c for c in more if c[1] > 0 and not c[2]]
    rest = [c for c in more if c not in others]
    ordered = more[:1] + [c for pair in _interleave(others, rest) for c in pair if c != more[0]] if more else []
    return choices + ordered[: max(config.decisions.max_candidates - len(choices), 0)]


def _opposed(longitudinal: Longitudinal, index: int, obstacles: Obstacles) -> bool:
    """Somebody comes towards us on the oncoming surface within the horizon: not the time to use it."""
    comes = (obstacles.relative_heading[:, :, 0].abs() > ONCOMING_ANGLE).any(1) & ~obstacles.standing
    return bool((longitudinal.conflict[index] & comes).any())


def _interleave(first: list[Choice], second: list[Choice]) -> list[list[Choice]]:
    length = max(len(first), len(second))
    return [first[i : i + 1] + second[i : i + 1] for i in range(length)]


def _merge(
    longitudinal: Longitudinal,
    index: int,
    passed: tuple[int, ...],
    obstacles: Obstacles,
    start: Start,
    path_end: float,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, ...]:
    """One candidate's bounds, in the order of LongitudinalBounds up to gap_speed.

    A tail may stop anywhere, so going first bounds the intended motion only.
    """
    yields = torch.ones(len(obstacles), dtype=torch.bool)
    yields[list(passed)] = False
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    margin, comfort = config.margins, config.comfort
    front = start.s + vehicle.front
    stops = (front + full_stop(start, config), front + shortest_stop(start, config))
    uppers, ids = [], []
    for tail, stop in zip((False, True), stops):
        bound = torch.where(yields[:, None], longitudinal.yield_front[index], inf)
        if tail:
            worst = torch.where(yields[:, None], longitudinal.worst_front[index], inf)
            bound = torch.minimum(torch.minimum(bound, worst), longitudinal.caution_front[index][:, None])
        value, who = bound.min(0)
        # The margin, not the object, gives way where even braking could not keep it; standing still is always allowed.
        kept = torch.maximum(value - margin.ahead, torch.minimum(value - 0.05, stop))
        if float(start.v.detach()) < 0.3:
            kept = torch.maximum(kept, front + 0.02)
        kept = torch.minimum(
            kept, torch.tensor(path_end - 1.0, dtype=torch.float64).clamp(min=float(stops[0].detach()) + 1.0)
        )
        uppers.append(kept - vehicle.front)
        ids.append(torch.where(torch.isfinite(value), obstacles.track_id[who], -1))
    value, who = torch.where(~yields[:, None], longitudinal.pass_rear[index], -inf).max(0)
    lower = value + margin.behind + vehicle.rear
    lower_id = torch.where(torch.isfinite(value), obstacles.track_id[who], -1)
    # Comfort: bumper gap, growing with speed behind leaders.
    lead = torch.where(yields[:, None], longitudinal.yield_front[index], inf)
    nearest, who = lead.min(0)
    moving = longitudinal.moving[index].gather(0, who[None])[0]
    follows = moving & torch.isfinite(nearest)
    headway = torch.where(follows, comfort.headway, 0.0)
    speed = torch.where(follows, obstacles.speed_s[who].clamp(min=0), 0.0)
    gap_s = nearest - vehicle.front - comfort.gap
    lowers = torch.stack([lower, torch.full_like(lower, -torch.inf)])
    return torch.stack(uppers), lowers, torch.stack(ids), torch.stack([lower_id, lower_id]), gap_s, headway, speed


def _describe(
    choice: Choice, longitudinal: Longitudinal, manoeuvres: list[Manoeuvre], obstacles: Obstacles
) -> tuple[str, dict[int, str]]:
    kind, index, passed, hold = choice
    name = obstacles.track_id.tolist()
    duties: dict[int, str] = {}
    for a in range(len(obstacles)):
        if a in manoeuvres[index].side:
            duties[name[a]] = "left" if manoeuvres[index].side[a] > 0 else "right"
        elif a in passed:
            duties[name[a]] = "pass"
        elif bool(longitudinal.conflict[index, a]):
            duties[name[a]] = "yield"
        elif bool(longitudinal.theirs[index, a]):
            duties[name[a]] = "ignored: their duty"
    words = {"yield": "yield to", "pass": "pass before", "left": "go left of", "right": "go right of"}
    parts = []
    for duty, phrase in words.items():
        who = sorted(n for n, d in duties.items() if d == duty)
        if who:
            parts.append(f"{phrase} {', '.join(map(str, who))}")
    head = "hold: " if hold else ("over the oncoming surface: " if kind == "oncoming" else "")
    return head + ("; ".join(parts) if parts else "drive on"), duties

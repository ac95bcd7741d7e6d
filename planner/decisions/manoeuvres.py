"""Lateral manoeuvres: which offset profile to aim for, and on which side to pass whom."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.compiled.profiles import compiled_extents
from planner.config import CostWeights, PlannerConfig
from planner.decisions.neighbour_lanes import SIDES, NeighbourLanes, lane_profile
from planner.decisions.offset_profile import WALKING, WALKING_BERTH, Attempt, Wish, base_profile, shape_profiles
from planner.decisions.room import give_room
from planner.objects.obstacles import Obstacles
from planner.path.reference_path import ReferencePath
from planner.path.surface import GRID, Start, Surface
from planner.scene import AgentClass, VehicleParameters

OFFSET = [f.name for f in fields(CostWeights)].index("offset")
LOOK_AHEAD = 70.0
NUDGE_SPEED = 2.5
"""Objects up to this speed (m/s) may be passed beside within the own surface,"""
NUDGE_ACROSS = 0.8
"""and those that move across our way slower than this (m/s)."""


@dataclass
class Manoeuvres:
    """Up to V ways to go laterally in each of S scenes, "keep" first; scenes with fewer are padded.

    kind: "keep", "left", "right" or "oncoming", of each scene's own ones. profile ``[S, V, G]`` m over the surface's
    grid: offset to aim for. side ``[S, V, A]``: +1 if ego passes on the agent's left, -1 on its right, 0 if the
    manoeuvre does not say. oncoming ``[S, V]``: uses the oncoming surface. valid ``[S, V]``: exists. lane ``[S, V]``:
    +1 changes to the lane on the left, -1 to the one on the right. urgency ``[S]``: factor on the weight of the offset.
    """

    kind: list[list[str]]
    profile: Float[Tensor, "S V G"]
    side: Int[Tensor, "S V A"]
    oncoming: Bool[Tensor, "S V"]
    valid: Bool[Tensor, "S V"]
    lane: Int[Tensor, "S V"]
    urgency: Float[Tensor, " S"]

    def hurried(self, weights: Float[Tensor, "*R W"], scene: Int[Tensor, " R"]) -> Float[Tensor, "*R W"]:
        """Cost weights of candidates of the scenes `scene` with the urgency on that of the offset."""
        if not (self.urgency > 1.0).any():
            return weights
        factor = torch.ones(len(scene), weights.shape[-1], dtype=weights.dtype)
        factor[:, OFFSET] = self.urgency[scene]
        return weights * factor


def enumerate_manoeuvres(
    path: ReferencePath,
    obstacles: Obstacles,
    surface: Surface,
    start: Start,
    standing_time: list[dict[int, float]],
    vehicle: VehicleParameters,
    config: PlannerConfig,
    lanes: NeighbourLanes | None = None,
) -> Manoeuvres:
    """Keep first, then the ways round what stands or crawls in the way, then the neighbouring lanes.

    Which sides are tried is discrete; the profiles follow surface and boxes with gradients. standing_time: of each
    scene, seconds each track has stood. lanes: those that may be entered.
    """
    base, urgency = give_room(base_profile(surface, start), obstacles, surface, start, vehicle, config)
    view = _View(path, obstacles, surface, base, start)
    scenes, agents = obstacles.track_id.shape
    blockers = _blockers(view, vehicle, config)
    attempts = [t for k in range(scenes) for t in _attempts(view, k, blockers[k], standing_time[k], vehicle, config)]
    profiles, taken = shape_profiles(attempts, view.extent_rows, surface, base, start, vehicle, config)
    kinds, index = [["keep"] for _ in range(scenes)], [[k] for k in range(scenes)]
    # Who is passed on which side, by agent.
    sides: list[list[dict[int, int]]] = [[{}] for _ in range(scenes)]
    lane = [[0] for _ in range(scenes)]
    for number, (attempt, which) in enumerate(zip(attempts, taken)):
        side = {wish.agent: w for wish, w in zip(attempt.wishes, which) if w}
        k, first = attempt.scene, next(iter(side.values()), 0)
        if attempt.blocker not in side if attempt.oncoming else side in sides[k]:
            continue  # pointless; nobody passed, or as before
        kinds[k].append("oncoming" if attempt.oncoming else ("left" if first > 0 else "right"))
        index[k].append(scenes + number)
        sides[k].append(side)
        lane[k].append(0)
    changes: list[Tensor] = []
    if lanes is not None:
        for k, i in np.argwhere(lanes.open).tolist():
            index[k].append(scenes + len(attempts) + len(changes))
            changes.append(lane_profile(base, lanes, surface, start, k, i))
            kinds[k].append("left" if SIDES[i] > 0 else "right")
            sides[k].append({})
            lane[k].append(SIDES[i])
    most = max(map(len, kinds))
    passed = np.zeros((scenes, most, agents), np.int64)
    for k, own_sides in enumerate(sides):
        for v, side in enumerate(own_sides):
            passed[k, v, list(side)] = list(side.values())
    for own, own_lane in zip(index, lane):
        own_lane += [0] * (most - len(own))
        own += own[:1] * (most - len(own))
    padded = [kind + [""] * (most - len(kind)) for kind in kinds]
    return Manoeuvres(
        kinds,
        torch.cat([base, profiles, *(c[None] for c in changes)])[torch.tensor(index)] if most > 1 else base[:, None],
        torch.from_numpy(passed),
        torch.tensor([[kind == "oncoming" for kind in row] for row in padded]),
        torch.tensor([[kind != "" for kind in row] for row in padded]),
        torch.tensor(lane),
        urgency,
    )


class _View:
    """Plain numbers of S scenes, for what is discrete."""

    def __init__(self, path: ReferencePath, obstacles: Obstacles, surface: Surface, base: Tensor, start: Start) -> None:
        speed = obstacles.speed.detach().numpy()
        across = speed * np.abs(np.sin(obstacles.relative_heading[..., 0, 0].detach().numpy()))
        slow = obstacles.present.numpy() & (speed <= NUDGE_SPEED) & (across <= NUDGE_ACROSS)
        rows = torch.from_numpy(np.flatnonzero(slow))
        self.slow = slow.nonzero()
        """Scenes and agents of the rows of extent_rows."""
        extents = compiled_extents(obstacles, rows)
        self.extent_rows = obstacles.extents_of(rows) if extents is None else extents
        """``[Q, 4]``, with gradients: extents of all slow agents."""
        self.extents: list[dict[int, list[float]]] = [{} for _ in slow]
        self.row: list[dict[int, int]] = [{} for _ in slow]
        """Of each scene's slow agents, by number: extent, and its row in extent_rows."""
        numbers = self.extent_rows.detach().tolist()
        for row, (k, a) in enumerate(zip(*(x.tolist() for x in self.slow))):
            self.extents[k][a], self.row[k][a] = numbers[row], row
        self.kind = obstacles.agent_class.tolist()
        self.standing = obstacles.standing.tolist()
        self.track = obstacles.track_id.tolist()
        self.count = surface.count.tolist()
        self.s = surface.s.numpy()
        self.base = base.detach().numpy()
        self.surface = surface
        self.start_s = start.s.tolist()
        self.junction = path.junction.numpy()
        self.knots = path.count.tolist()

    def attempt(self, k: int, sides: dict[int, int], blocker: int = -1) -> Attempt:
        """Passing agents of scene k on the given sides."""
        berth = [WALKING_BERTH if self.kind[k][a] in WALKING else 0.0 for a in sides]
        wishes = [Wish(a, side, self.row[k][a], extra) for (a, side), extra in zip(sides.items(), berth)]
        return Attempt(k, wishes, blocker)

    def near_junction(self, k: int, first: float, last: float) -> bool:
        """A junction at any metre from `first` on, before `last`."""
        at = np.clip(np.arange(first, last), 0.0, self.knots[k] - 1.0)
        i = np.minimum(at.astype(np.int64), self.knots[k] - 2)
        return bool(self.junction[k, i + (at - i >= 0.5)].any())

    def cells(self, k: int, lower: float, upper: float) -> slice:
        """Cells of a scene's grid within an interval; the nearest one if there is none."""
        s = self.s[k, : self.count[k]]
        first, last = int(np.searchsorted(s, lower, "left")), int(np.searchsorted(s, upper, "right"))
        if first < last:
            return slice(first, last)
        i = self.cell(k, lower)
        return slice(i, i + 1)

    def cell(self, k: int, s: float) -> int:
        return min(max(round((s - float(self.s[k, 0])) / GRID), 0), self.count[k] - 1)

    def center(self, k: int, a: int) -> tuple[float, float]:
        lo_s, hi_s, lo_d, hi_d = self.extents[k][a]
        return (lo_s + hi_s) / 2, (lo_d + hi_d) / 2


def _attempts(
    view: _View,
    k: int,
    blockers: list[int],
    standing_time: dict[int, float],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> list[Attempt]:
    """What to try in scene k: the natural side of everybody in the way, the other side of the nearest, only the nearest
    where there is room to stop before the next, the oncoming surface.
    """
    wish: dict[int, int] = {}
    for a in sorted(blockers, key=lambda a: view.center(k, a)[0]):
        s, d = view.center(k, a)
        on_lane = float(view.base[k, view.cell(k, s)])
        # A vehicle in the middle of the lane is a queue, not an obstacle to steer round.
        queue = not (view.kind[k][a] == AgentClass.STATIC or view.kind[k][a] in WALKING)
        if not queue or abs(d - on_lane) > config.decisions.nudge_offset:
            wish[a] = 1 if d < on_lane else -1
    out = []
    if wish:
        out = [view.attempt(k, wish)]
        nearest = min((a for a in blockers if a in wish), key=lambda a: view.center(k, a)[0])
        wish[nearest] = -wish[nearest]
        out.append(view.attempt(k, wish))
        if _room_behind(view, k, nearest, list(wish)) > vehicle.length + 2 * config.comfort.gap:
            out.append(view.attempt(k, {nearest: -wish[nearest]}))
    if blockers:
        out += _oncoming(view, k, blockers, standing_time, config)
    return out


def _room_behind(view: _View, k: int, a: int, others: list[int]) -> float:
    """m between agent a's end and the begin of the next one; 0 if a is the only one."""
    begins = [view.extents[k][b][0] for b in others if b != a]
    return min(begins) - view.extents[k][a][1] if begins else 0.0


def _blockers(view: _View, vehicle: VehicleParameters, config: PlannerConfig) -> list[list[int]]:
    """Of each scene, slow or standing agents ahead that the base profile would touch, nearest first."""
    k, a = view.slow
    lo_s, hi_s, lo_d, hi_d = (x[:, None] for x in view.extent_rows.detach().numpy().T)
    front = np.array(view.start_s)[k, None] + vehicle.front
    ahead = (hi_s >= front - 3.0) & (lo_s <= front + LOOK_AHEAD)
    # Cells within reach of the agent along the path; the nearest one if there is none.
    s, base, last = view.s[k], view.base[k], np.array(view.count)[k, None] - 1
    cell = np.arange(s.shape[1])
    lower = lo_s - vehicle.front
    beside = (s >= lower) & (s <= hi_s + vehicle.rear) & (cell <= last)
    nearest = np.rint((lower - s[:, :1]) / GRID).clip(0, last)
    beside |= (cell == nearest) & ~beside.any(1, keepdims=True)
    walking = np.isin(np.array(view.kind)[k, a], WALKING)
    reach = vehicle.width / 2 + config.margins.side + np.where(walking, WALKING_BERTH, 0.0)[:, None]
    touched = ahead[:, 0] & (beside & (base + reach > lo_d) & (base - reach < hi_d)).any(1)
    found: list[list[int]] = [[] for _ in view.start_s]
    order = np.lexsort((a, lo_s[:, 0]))
    for q in order[touched[order]].tolist():
        found[k[q]].append(int(a[q]))
    return found


def _oncoming(
    view: _View, k: int, blockers: list[int], standing_time: dict[int, float], config: PlannerConfig
) -> list[Attempt]:
    """Round what has stood in the way for a while, over the oncoming surface; not near junctions, not past a queue."""
    first = blockers[0]
    lo_s, hi_s = view.extents[k][first][:2]
    stood = standing_time.get(view.track[k][first], 0.0)
    if not view.standing[k][first] or stood < config.decisions.standing_time:
        return []
    if view.near_junction(k, lo_s, hi_s + 25.0):
        return []
    group = [a for a in blockers if view.extents[k][a][0] < hi_s + 12.0 and view.standing[k][a]]
    here = view.cells(k, lo_s, hi_s)
    of = view.surface
    upper_all, upper, lower, lower_all = (
        x.detach().numpy()[k, here] for x in (of.upper_all, of.upper, of.lower, of.lower_all)
    )
    room = [float((upper_all - upper).min()), float((lower - lower_all).min())]
    if max(room) < 1.0:
        return []
    which = 1 if room[0] >= room[1] else -1
    group.sort(key=lambda a: view.center(k, a)[0])
    return [view.attempt(k, dict.fromkeys(group, which), first)]

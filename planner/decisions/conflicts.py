"""Conflicts: what each agent asks of ego's motion along the path.

An agent can be

- followed: it moves our way in front of us, the bound moves with it;
- crossing: it enters and leaves our band at an angle (or head on): the bound is the entry of the zone it
  sweeps, for as long as it is there, so that ego never waits inside the zone;
- standing in the band: the bound stays;
- passed beside: a lateral matter (`planner.decisions.manoeuvres`, `planner.programs.corridor`);
- theirs: behind us or beside us, waiting to enter or to turn across our way. Recorded, not a row.

Which of these it is, `planner.decisions.right_of_way` decides on plain arrays. Here the bounds follow, with
gradients, for the few agents that matter at all. `plain_bounds` is the definition; compiled/conflicts.cpp is the same,
many times faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.compiled.conflicts import conflict_rows
from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.decisions.right_of_way import Encounters, encounters
from planner.decisions.stopping import braking_distance, full_stop
from planner.objects.forecasts import array, flat_pieces
from planner.objects.obstacles import Obstacles
from planner.objects.occupied import INF, Blocks, Nearest, occupied
from planner.path.surface import Start, Surface
from planner.scene import VehicleParameters

FIRM_BRAKING = 4.5
"""m/s^2: who merges into where we would be even if we braked like this has the duty not to."""
COURTEOUS_BRAKING = 3.0
"""m/s^2: nobody who has to wait is let in where that takes harder braking than this."""
SOON = 4.0
"""s: zones entered earlier than this bound the tail."""
MERGING = 2.0
"""s: how long ego stays in front of whoever merges behind it."""
SAME_TIME = 1e-6
"""s: node times are sums, so equal ones differ by rounding."""


@dataclass
class Longitudinal:
    """What agents would ask of ego under a manoeuvre. C rows, one per agent that matters there; N nodes; s in m.

    scene, manoeuvre, agent ``[C]``: whose row it is, ascending; agents without a row ask nothing.
    yield_front: upper bound for ego's front; worst_front: the same for the tail, by bounds instead of forecasts;
    caution_front ``[C]``: where the tail had better stop short of, whatever the decision about the agent;
    pass_rear: lower bound for ego's rear; infinite where there is none.
    moving ``[C, N]``: the yield bound belongs to a leader, whose gap grows with speed.
    conflict, passable ``[C]``: imposes anything; passing it first is worth a candidate. theirs ``[C]``: keeping clear
    is their duty. courtesy ``[C]``: of theirs, who could be let in all the same; the row's bounds say how, and bind
    only the candidates that do so.
    first_time ``[C]`` s: when the conflict begins. All but the bounds are plain arrays without gradient.
    """

    scene: Int[np.ndarray, " C"]
    manoeuvre: Int[np.ndarray, " C"]
    agent: Int[np.ndarray, " C"]
    yield_front: Float[Tensor, "C N"]
    worst_front: Float[Tensor, "C N"]
    caution_front: Float[Tensor, " C"]
    pass_rear: Float[Tensor, "C N"]
    moving: Bool[np.ndarray, "C N"]
    conflict: Bool[np.ndarray, " C"]
    passable: Bool[np.ndarray, " C"]
    theirs: Bool[np.ndarray, " C"]
    courtesy: Bool[np.ndarray, " C"]
    first_time: Float[np.ndarray, " C"]

    def __len__(self) -> int:
        return len(self.scene)


def conflict_bounds(
    obstacles: Obstacles,
    manoeuvres: Manoeuvres,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Longitudinal:
    """What every agent would ask of ego's longitudinal motion under every manoeuvre.

    obstacles: on node times with 0 first; the returned N axis leaves that first node out.
    """
    found = conflict_rows(obstacles, manoeuvres, surface, start, vehicle, config)
    if found is None:
        return plain_bounds(obstacles, manoeuvres, surface, start, vehicle, config)
    rows, (yield_front, worst_front, pass_rear, caution) = found
    scene, manoeuvre, agent = rows.who.numpy()
    conflict, passable, theirs, courtesy = rows.flags.numpy()
    return Longitudinal(
        scene, manoeuvre, agent, yield_front, worst_front, caution, pass_rear,
        rows.moving.numpy(), conflict, passable, theirs, courtesy, rows.first_time.numpy(),
    )  # fmt: skip


def plain_bounds(
    obstacles: Obstacles,
    manoeuvres: Manoeuvres,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Longitudinal:
    """`conflict_bounds` without anything compiled."""
    met = encounters(obstacles, manoeuvres, surface, start, vehicle, config)
    asks = (met.asks | met.yields).nonzero()[0]
    blocks, nearest = Blocks.of(obstacles, met, asks), Nearest.of(obstacles, met, start, vehicle, config)
    # Read in one go: every reading costs a gradient as large as all obstacles.
    split = len(nearest.place)
    s_lo = flat_pieces(obstacles.s_lo).take(torch.from_numpy(np.append(nearest.place, blocks.place)))
    s_hi = flat_pieces(obstacles.s_hi).take(torch.from_numpy(blocks.place))
    caution = nearest.begin(s_lo[:split])
    fronts = _fronts(obstacles, met, asks, blocks, s_lo[split:].reshape(s_hi.shape), s_hi, start, vehicle, config)
    count, nodes = len(met), len(obstacles.node_time) - 1
    moving, (conflict, passable, courtesy) = np.zeros((count, nodes), bool), np.zeros((3, count), bool)
    moving[asks], conflict[asks], passable[asks] = fronts.moving, fronts.conflict, fronts.passable
    courtesy[asks] = fronts.courtesy
    first = np.full(count, np.inf)
    first[asks] = fronts.first_time
    return Longitudinal(
        met.scene,
        met.manoeuvre,
        met.agent,
        _spread(fronts.yield_front, asks, count, torch.inf),
        _spread(fronts.worst_front, asks, count, torch.inf),
        _spread(caution, nearest.rows, count, torch.inf),
        _spread(fronts.pass_rear, asks, count, -torch.inf),
        moving,
        conflict,
        passable,
        met.theirs,
        courtesy,
        first,
    )


def _spread(values: Tensor, rows: Int[np.ndarray, " c"], count: int, fill: float) -> Tensor:
    """``[count, ...]`` with the values ``[c, ...]`` in the given rows, `fill` in the others."""
    out = torch.full((count, *values.shape[1:]), fill, dtype=values.dtype)
    return out.index_copy(0, torch.from_numpy(rows), values)


@dataclass
class _Fronts:
    """The fields of Longitudinal for the agents in ego's way, without the node now."""

    yield_front: Tensor
    worst_front: Tensor
    pass_rear: Tensor
    moving: np.ndarray
    conflict: np.ndarray
    passable: np.ndarray
    courtesy: np.ndarray
    first_time: np.ndarray


def _fronts(
    obstacles: Obstacles,
    met: Encounters,
    rows: np.ndarray,
    blocks: Blocks,
    s_lo: Float[Tensor, "P E"],
    s_hi: Float[Tensor, "P E"],
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> _Fronts:
    """Bounds by the encounters `rows` ``[C]``: their modes that count, with the part of their uncertainty that does."""
    t, margin = array(obstacles.node_time), config.margins
    scene, ahead = met.scene[rows], met.ahead[rows]
    (forecast, begin, end), counts = occupied(obstacles, blocks, s_lo, s_hi, config)
    crossing = blocks.spread(blocks.crossing)
    zone, follow = counts & crossing, counts & ~crossing
    zone_mask, follow_mask = torch.from_numpy(zone), torch.from_numpy(follow)

    follow_front = torch.where(follow_mask, begin, INF).amin(1)
    entry = torch.where(zone_mask, begin, INF).amin(2)  # [C, M]
    enter_time = np.where(zone, t, np.inf).min(-1)
    exit_time = np.where(zone, t, -np.inf).max(-1)
    waiting = torch.from_numpy(t <= exit_time[..., None] + margin.zone_time)
    zone_front = torch.where(waiting, entry[..., None], INF).amin(1)
    yield_front = torch.minimum(follow_front, zone_front)

    # Passing first: out of the zone before it is entered; in front of whom merges, for a while. Whoever walks gets
    # more time, unless ego can no longer stop for them anyhow: then going first is the kinder way.
    front = array(start.s)[scene] + vehicle.front
    can_stop = array(entry) - margin.ahead > (front + full_stop(start, config)[scene])[:, None]
    early = np.where(met.vulnerable[rows, None] & can_stop, margin.zone_time_walking, margin.zone_time)
    due = torch.from_numpy(t >= (enter_time - early)[..., None] - SAME_TIME)
    leave = torch.where(zone_mask, end, -INF).amax(2)
    merge_time = np.where(follow.any(1), t, np.inf).min(-1)
    soon = torch.from_numpy(follow & (t <= merge_time[:, None] + MERGING)[:, None])
    pass_rear = torch.where(due, leave[..., None], -INF).amax(1)
    pass_rear = torch.maximum(pass_rear, torch.where(soon, end, -INF).amax(1))

    # The tail: leaders brake as hard as assumed, zones are entered early.
    worst = torch.where(follow_mask, forecast, INF).amin(1)
    speed = array(start.v)[scene]
    merges = array(worst) < front[:, None] + braking_distance(speed, FIRM_BRAKING, t)
    worst = torch.where(torch.from_numpy(merges), INF, worst)
    if ahead.any():
        now = torch.where(torch.from_numpy(counts[:, :, 0]), forecast[:, :, 0], INF).amin(1)
        driven = obstacles.speed_s.take(torch.from_numpy(scene * obstacles.speed_s.shape[1] + met.agent[rows]))
        until = now[:, None] + _braking(driven, config.worst_case.vehicle_braking, obstacles.node_time)
        worst = torch.where(torch.from_numpy(ahead)[:, None], until, worst)
    stop = torch.where(torch.from_numpy(enter_time <= SOON), entry, INF).amin(1)
    worst = torch.minimum(worst, stop[:, None])

    standing = array(obstacles.standing)[scene, met.agent[rows]]
    reach = array(start.s)[scene, None] + speed[:, None] * t + config.limits.acceleration_max * t**2 / 2
    needed = array(pass_rear) + margin.behind + vehicle.rear
    conflict = counts.any((1, 2))
    room = front[:, None] + braking_distance(speed, COURTEOUS_BRAKING, t)
    courtesy = conflict & met.yields[rows] & (array(yield_front) >= room).all(-1)
    conflict &= ~met.yields[rows]
    passable = conflict & ~ahead & ~standing & (needed <= reach + 0.5).all(-1)
    moving = (array(follow_front) <= array(zone_front)) & ~standing[:, None]
    first = np.minimum(enter_time.min(-1), merge_time)
    fronts = yield_front[:, 1:], worst[:, 1:], pass_rear[:, 1:]
    return _Fronts(*fronts, moving[:, 1:], conflict, passable, courtesy, first)


def _braking(speed: Float[Tensor, " C"], braking: float, t: Float[Tensor, " N"]) -> Float[Tensor, "C N"]:
    """Distance covered after t by who drives at `speed` (forwards) and brakes to rest."""
    speed = speed.clamp(min=0)[:, None]
    until = torch.minimum(t, speed / braking)
    return speed * until - braking * until**2 / 2

"""Conflicts: what each agent asks of ego's motion along the path, and whose duty it is.

An agent can be

- followed: it moves our way in front of us, the bound moves with it;
- crossing: it enters and leaves our band at an angle (or head on): the bound is the entry of the zone it
  sweeps, for as long as it is there, so that ego never waits inside the zone;
- standing in the band: the bound stays;
- passed beside: a lateral matter (`planner.manoeuvres`, `planner.corridor`);
- theirs: behind us or beside us, waiting to enter or to turn across our way. Recorded, not a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.longitudinal import stop_time
from planner.manoeuvres import GRID, Manoeuvre, Start, Surface
from planner.obstacles import Obstacles, risk_quantile
from planner.scene import AgentClass, VehicleParameters

CROSSING_ANGLE = 0.6
"""Relative heading (rad) from which an agent in the band crosses rather than leads."""
ONCOMING_ANGLE = 2.4
"""Relative heading (rad) from which an agent counts as oncoming."""
WAITING_SPEED, WAITING_OFFSET = 2.0, 2.0
"""A vehicle slower (m/s) than this and further (m) beside our path waits to enter; nearer or faster it does not."""
FIRM_BRAKING = 4.5
EASY_BRAKING = 2.0
"""m/s^2: who stays behind us even when we brake like this has the duty to keep clear."""


@dataclass
class Longitudinal:
    """Bounds each agent would impose, per manoeuvre. Mv manoeuvres, A agents, N nodes; s in m.

    yield_front: upper bound for ego's front; worst_front: the same for the tail, by bounds instead of forecasts;
    caution_front ``[Mv, A]``: where the tail had better stop short of, whatever the decision about the agent;
    pass_rear: lower bound for ego's rear; infinite where there is none.
    moving ``[Mv, A, N]``: the yield bound belongs to a leader, whose gap grows with speed.
    conflict, passable ``[Mv, A]``: imposes anything; passing it first is worth a candidate. theirs ``[Mv, A]``.
    first_time ``[Mv, A]`` s: when the conflict begins.
    """

    yield_front: Float[Tensor, "Mv A N"]
    worst_front: Float[Tensor, "Mv A N"]
    caution_front: Float[Tensor, "Mv A"]
    pass_rear: Float[Tensor, "Mv A N"]
    moving: Bool[Tensor, "Mv A N"]
    conflict: Bool[Tensor, "Mv A"]
    passable: Bool[Tensor, "Mv A"]
    theirs: Bool[Tensor, "Mv A"]
    first_time: Float[Tensor, "Mv A"]


def conflict_bounds(
    obstacles: Obstacles,
    manoeuvres: list[Manoeuvre],
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Longitudinal:
    """What every agent would ask of ego's longitudinal motion under every manoeuvre.

    obstacles: on node times with 0 first; the returned N axis leaves that first node out.
    """
    t = obstacles.node_time
    half = vehicle.width / 2 + config.margins.side - 0.02
    profile = torch.stack([m.profile for m in manoeuvres])
    middle = (obstacles.s_lo + obstacles.s_hi) / 2
    cell = ((middle.detach() - surface.s[0]) / GRID).round().long().clamp(0, len(surface.s) - 1)
    band = profile[:, cell]  # [Mv, A, M, N, P]
    touch = (obstacles.d_hi > band - half) & (obstacles.d_lo < band + half) & obstacles.active[..., None]
    beside = torch.zeros(len(manoeuvres), len(obstacles), dtype=torch.bool)
    for i, m in enumerate(manoeuvres):
        beside[i, list(m.side)] = True
    touch = touch & ~beside[:, :, None, None, None]

    front, rear = start.s + vehicle.front, start.s - vehicle.rear
    crossing = (obstacles.relative_heading.abs() > CROSSING_ANGLE) & ~obstacles.standing[:, None, None]
    # Whoever comes from behind keeps clear of us. Someone beside us is in front of us only where we would not be
    # even if we braked gently. Who turns across our way from the other direction waits for us, until it no longer does.
    easy = front.detach() + _stopping(start.v.detach(), EASY_BRAKING, t)
    hind, fore = obstacles.s_lo[:, :, 0].amin((1, 2)), obstacles.s_hi[:, :, 0].amax((1, 2))
    same_way = (obstacles.relative_heading[:, 0, 0].abs() < CROSSING_ANGLE) & ~obstacles.standing
    behind = (fore < rear + 0.3) | (same_way & (hind < rear) & (fore < front))
    # Already in contact: nothing that we do about the way ahead undoes that.
    low, high = obstacles.d_lo[:, :, 0].amin((1, 2)), obstacles.d_hi[:, :, 0].amax((1, 2))
    width = vehicle.width / 2
    contact = (hind < front) & (fore > rear) & (low < start.d + width) & (high > start.d - width)
    overlaps_now = touch[:, :, :, 0].any(-1).any(-1) & (obstacles.s_lo[:, :, 0].amin((1, 2)) >= front - 1.0)
    passive = ~crossing[..., None] & (obstacles.s_lo < easy[:, None]) & ~overlaps_now[:, :, None, None, None]
    passive = passive & ~obstacles.standing[:, None, None, None]
    own_space = crossing[..., None] & (obstacles.s_lo < front - 0.3)
    left_behind = obstacles.s_hi < rear + 0.3
    not_ours = (behind | contact)[:, None, None, None] | own_space
    ours = touch & ~passive & ~not_ours & ~left_behind
    waits = _waits_for_us(obstacles, ours, crossing, overlaps_now, start, surface)[..., None, None]
    ours = ours & ~waits
    likely, grow = _likely(obstacles, ours, config)
    theirs = touch.flatten(2).any(-1) & ~ours.flatten(2).any(-1)
    ours = ours & likely[..., None]
    s_lo, s_hi = obstacles.s_lo - grow[..., None], obstacles.s_hi + grow[..., None]

    inf = torch.tensor(torch.inf, dtype=torch.float64)
    zone = ours & crossing[..., None]
    follow = ours & ~crossing[..., None]
    follow_front = torch.where(follow, s_lo, inf).amin((2, 4))
    entry = torch.where(zone, s_lo, inf).amin((3, 4))  # [Mv, A, M]
    in_zone = zone.any(-1)
    enter_time = torch.where(in_zone, t, inf).amin(-1)
    exit_time = torch.where(in_zone, t, -inf).amax(-1)
    waiting = t <= exit_time[..., None] + config.margins.zone_time
    zone_front = torch.where(waiting, entry[..., None], inf).amin(2)
    yield_front = torch.minimum(follow_front, zone_front)

    # Passing first: out of the zone before it is entered; in front of whom merges, for two seconds.
    leave = torch.where(zone, s_hi, -inf).amax((3, 4))
    margin = config.margins
    # Whoever walks gets more time, unless ego can no longer stop for them anyhow: then going first is the kinder way.
    can_stop = entry.detach() - margin.ahead > front.detach() + full_stop(start, config)
    early = torch.where(_vulnerable(obstacles)[:, :, 0, 0] & can_stop, margin.zone_time_walking, margin.zone_time)
    due = t >= (enter_time - early)[..., None]
    zone_rear = torch.where(due, leave[..., None], -inf).amax(2)
    merge_time = torch.where(follow.any(-1), t, inf).amin((2, 3))
    soon = t <= merge_time[..., None] + 2.0
    merge_rear = torch.where(follow, s_hi, -inf).amax((2, 4))
    pass_rear = torch.maximum(zone_rear, torch.where(soon, merge_rear, -inf))

    firm = front.detach() + _stopping(start.v.detach(), FIRM_BRAKING, t)
    worst = _worst_front(obstacles, ours, zone, entry, enter_time, overlaps_now, firm, t, config)
    wary = ~(not_ours | waits | left_behind) & (crossing[..., None] | _vulnerable(obstacles))
    caution = _caution_front(obstacles, wary, band, half, start, vehicle, config)
    conflict = ours.flatten(2).any(-1)
    reach = _reach(start, config, t)
    needed = pass_rear + config.margins.behind + vehicle.rear
    reachable = (needed <= reach + 0.5).all(-1)
    passable = conflict & ~overlaps_now & ~obstacles.standing & reachable
    first = torch.minimum(enter_time.amin(-1), merge_time)
    moving = follow_front <= zone_front
    moving = moving & ~obstacles.standing[:, None]
    return Longitudinal(
        yield_front[..., 1:],
        worst[..., 1:],
        caution,
        pass_rear[..., 1:],
        moving[..., 1:],
        conflict,
        passable,
        theirs,
        first,
    )


def _likely(obstacles: Obstacles, ours: Tensor, config: PlannerConfig) -> tuple[Tensor, Tensor]:
    """Which modes count ``[Mv, A, M, N]``, and by how much they grow along the path (m).

    At every node the modes in the way are ranked by where they begin; W is the probability that the object
    exists and blocks there or earlier. A mode counts when W exceeds the accepted probability eps, moved by
    Phi^-1(1 - eps / W) standard deviations: an unlikely mode fades out, several that agree add up.
    """
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    blocks = ours.any(-1)
    begin = torch.where(ours, obstacles.s_lo.detach(), inf).amin(-1)  # [Mv, A, M, N]
    earlier = (begin[:, :, None] <= begin[:, :, :, None] + 0.5) & blocks[:, :, None]  # [Mv, A, M, M', N]
    total = (earlier * obstacles.weight[None, :, None, :, None]).sum(3).clamp(max=1.0)
    eps = config.risk.hit_probability
    grow = (risk_quantile(total, eps) * obstacles.sigma_s).clamp(
        min=-config.risk.longitudinal_max, max=config.risk.longitudinal_max
    )
    return blocks & (total > eps), grow


def _waits_for_us(
    obstacles: Obstacles, ours: Tensor, crossing: Tensor, overlaps_now: Tensor, start: Start, surface: Surface
) -> Tensor:
    """``[Mv, A, M]``: who has to give way to us.

    Oncoming traffic that would turn across our way while that is still two seconds off, and vehicles that stand or
    creep beside our way and point at it.
    """
    t = obstacles.node_time
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    oncoming = obstacles.relative_heading[:, :, 0].abs() > ONCOMING_ANGLE
    turning = (obstacles.relative_heading.abs() < ONCOMING_ANGLE) & crossing
    across = (ours & crossing[..., None]).any(-1)
    first = torch.where(across, t, inf).amin(-1)
    turns = (across & turning).any(-1)
    vehicle = (obstacles.agent_class != AgentClass.PEDESTRIAN)[:, None]
    turner = oncoming & turns & (first > 2.0) & surface.straight
    sideways = torch.sin(obstacles.relative_heading[:, :, 0].abs()) > 0.56
    far = torch.minimum(obstacles.d_lo[:, :, 0].abs(), obstacles.d_hi[:, :, 0].abs()).amin(-1) > WAITING_OFFSET
    apart = (obstacles.d_lo[:, :, 0].amin(-1) > 0) | (obstacles.d_hi[:, :, 0].amax(-1) < 0)
    waiting = sideways & (obstacles.speed < WAITING_SPEED)[:, None] & far & apart
    return (turner | waiting) & vehicle & ~overlaps_now[..., None]


def _worst_front(
    obstacles: Obstacles,
    ours: Tensor,
    zone: Tensor,
    entry: Tensor,
    enter_time: Tensor,
    leads: Tensor,
    firm: Tensor,
    t: Tensor,
    config: PlannerConfig,
) -> Tensor:
    """Upper bound for the tail's front ``[Mv, A, N]``: leaders brake as hard as assumed, zones are entered early."""
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    now = torch.where(ours[:, :, :, 0], obstacles.s_lo[:, :, 0], inf).amin((2, 3))
    speed = obstacles.speed_s.clamp(min=0)
    braking = now[..., None] + _stopping(speed[:, None], config.worst_case.vehicle_braking, t)
    follow = ours & ~zone
    later = torch.where(follow, obstacles.s_lo, inf).amin((2, 4))
    # Who merges into where we would be even if we braked firmly has the duty not to.
    later = torch.where(later < firm, inf, later)
    soon = enter_time <= 4.0
    stop = torch.where(soon, entry, inf).amin(2)
    return torch.minimum(torch.where(leads[..., None], braking, later), stop[..., None])


def _vulnerable(obstacles: Obstacles) -> Tensor:
    """``[A, 1, 1, 1]``: on foot or on two wheels, free to go anywhere."""
    kinds = torch.tensor([AgentClass.PEDESTRIAN, AgentClass.BICYCLE])
    return torch.isin(obstacles.agent_class, kinds)[:, None, None, None]


def _caution_front(
    obstacles: Obstacles,
    wary: Tensor,
    band: Tensor,
    half: float,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Tensor:
    """``[Mv, A]`` m: begin of what an agent may occupy: forecasts of any likelihood, widened by what it could do.

    The tail stops short of it where full braking still can. Where it cannot there is no row: the decision about the
    agent and the checker have to do.
    """
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    t = obstacles.node_time
    bounds = config.worst_case
    free = (bounds.pedestrian_acceleration * t**2 / 2).clamp(max=1.0)
    wide = torch.where(_vulnerable(obstacles), free[:, None], bounds.lateral)
    likely = (obstacles.weight > bounds.probability)[:, :, None, None]
    soon = (t <= stop_time(start.v, config) + 0.3)[:, None]
    inside = (obstacles.d_hi + wide > band - half) & (obstacles.d_lo - wide < band + half)
    inside = inside & obstacles.active[..., None] & likely & soon & wary
    begin = torch.where(inside, obstacles.s_lo - wide, inf).amin((2, 3, 4))
    firm = start.s + vehicle.front + shortest_stop(start, config)
    return torch.where(begin > firm + 0.2, begin, inf)


def shortest_stop(start: Start, config: PlannerConfig) -> float:
    """Distance to rest (m), rounded up a little, of the tail's hardest braking, shared first steps included."""
    limits, step = config.limits, 0.02
    v, a, t, distance = float(start.v.detach()), float(start.a.detach()), 0.0, 0.0
    while v > 0.0:
        shared = t < config.horizon.shared
        hardest = limits.braking_max if shared else limits.tail_braking_max
        a = max(a - (limits.jerk_max if shared else limits.tail_jerk_max) * step, -hardest)
        distance += max(v * step + a * step**2 / 2, 0.0)
        v, t = v + a * step, t + step
    return distance + 0.4


def _stopping(speed: Tensor, braking: float, t: Tensor) -> Tensor:
    """Distance covered after t when braking from `speed` to rest."""
    until = torch.minimum(t + 0 * speed, speed / braking)
    return speed * until - braking * until**2 / 2


def full_stop(start: Start, config: PlannerConfig) -> Tensor:
    """Distance to rest (m) under the hardest braking of the intended motion, its build-up included."""
    limits, v = config.limits, start.v.detach()
    build_up = (limits.braking_max + start.a.detach().clamp(-limits.braking_max, 3.0)) / limits.jerk_max
    return v * build_up / 2 + v**2 / (2 * limits.braking_max)


def _reach(start: Start, config: PlannerConfig, t: Tensor) -> Tensor:
    """Largest s at each time under the acceleration limit."""
    v, a = start.v.detach(), config.limits.acceleration_max
    return start.s.detach() + v * t + a * t**2 / 2

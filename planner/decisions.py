"""Decisions: yield or pass, left or right, stop or go -- each combination a convex corridor.

*All-yield* and *hold* always own the first two slots. An agent can be

- followed: it moves our way in front of us, the bound moves with it;
- crossing: it enters and leaves our band at an angle (or head on): the bound is the entry of the zone it
  sweeps, for as long as it is there, so that ego never waits inside the zone;
- standing in the band: the bound stays;
- passed beside: a lateral matter (`planner.manoeuvres`);
- theirs: behind us or beside us, and in the way only of where we already are. Recorded, not a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.grid import make_grid
from planner.lateral import LateralBounds, circle_offsets
from planner.longitudinal import LongitudinalBounds, LongitudinalMotion, stop_time
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
    early = torch.where(_vulnerable(obstacles)[:, :, 0, 0], margin.zone_time_walking, margin.zone_time)
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
        yield_front[..., 1:], worst[..., 1:], caution, pass_rear[..., 1:], moving[..., 1:], conflict, passable, theirs, first
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
    """``[Mv, A, M]``: who has to give way to us: oncoming traffic that would turn across our way while that is still two
    seconds off, and vehicles that stand or creep beside our way and point at it."""
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
    """``[Mv, A]`` m: begin of what an agent may come to occupy by forecasts of any likelihood, widened by what it could do.

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
    firm = start.s + vehicle.front + _shortest_stop(start, config)
    return torch.where(begin > firm + 0.2, begin, inf)


def _shortest_stop(start: Start, config: PlannerConfig) -> float:
    """Distance to rest (m), a little rounded up, of the hardest braking the tail can do, its shared first steps included."""
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


def _full_stop(start: Start, config: PlannerConfig) -> Tensor:
    """Distance to rest (m) under the hardest braking of the intended motion, its build-up included."""
    limits, v = config.limits, start.v.detach()
    build_up = (limits.braking_max + start.a.detach().clamp(-limits.braking_max, 3.0)) / limits.jerk_max
    return v * build_up / 2 + v**2 / (2 * limits.braking_max)


def _reach(start: Start, config: PlannerConfig, t: Tensor) -> Tensor:
    """Largest s at each time under the acceleration limit."""
    v, a = start.v.detach(), config.limits.acceleration_max
    return start.s.detach() + v * t + a * t**2 / 2


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
    bounds = LongitudinalBounds(
        *(torch.stack(column) for column in zip(*rows)), v_ref=v_ref, v_cap=v_profile.expand(len(choices), -1) + 0.3
    )
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
        candidates = longitudinal.passable[i].nonzero()[:, 0].tolist()
        candidates.sort(key=lambda a, i=i: float(longitudinal.first_time[i, a].detach()))
        candidates = candidates[: config.decisions.max_conflicts]
        if i > 0:
            more.append((kind, i, (), False))
        for count in range(len(candidates), 0, -1):
            more += [("pass" if i == 0 else kind, i, chosen, False) for chosen in combinations(candidates, count)]
    # Who was chosen last keeps a slot: options persist until infeasible or unsafe.
    more.sort(key=lambda c: _describe(c, longitudinal, manoeuvres, obstacles)[0] != preferred)
    others = [c for c in more if c[1] > 0 and not c[2]]
    rest = [c for c in more if c not in others]
    ordered = more[:1] + [c for pair in _interleave(others, rest) for c in pair if c != more[0]] if more else []
    return (choices + ordered)[: config.decisions.max_candidates]


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
    """One candidate's s_upper, s_lower ``[2, N]``, upper_id, lower_id ``[2, N]``, gap_s, gap_headway, gap_speed ``[N]``."""
    yields = torch.ones(len(obstacles), dtype=torch.bool)
    yields[list(passed)] = False
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    margin, comfort = config.margins, config.comfort
    front = start.s + vehicle.front
    stops = (front + _full_stop(start, config), front + _shortest_stop(start, config))
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
        kept = torch.minimum(kept, torch.tensor(path_end - 1.0, dtype=torch.float64).clamp(min=float(stops[0].detach()) + 1.0))
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
    return (
        torch.stack(uppers), torch.stack([lower, torch.full_like(lower, -torch.inf)]), torch.stack(ids), torch.stack([lower_id, lower_id]),
        gap_s, headway, speed,
    )  # fmt: skip


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


def lateral_bounds(
    candidates: CandidateSet,
    manoeuvres: list[Manoeuvre],
    obstacles: Obstacles,
    surface: Surface,
    motion: LongitudinalMotion,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> LateralBounds:
    """Corridor of every candidate at every circle, given where it will be when."""
    grid = make_grid(config.horizon)
    s_exact = motion.s[:, :, grid.node]
    s = s_exact.detach()  # [K, 2, N]; gates and cells are discrete
    offsets = circle_offsets(vehicle)
    at = s[..., None] + offsets  # [K, 2, N, C]
    index = torch.tensor(candidates.manoeuvre)
    oncoming = torch.tensor([manoeuvres[i].oncoming for i in candidates.manoeuvre])
    reach = vehicle.length / (2 * len(offsets))
    lower = torch.where(oncoming[:, None], surface.lower_all, surface.lower)
    upper = torch.where(oncoming[:, None], surface.upper_all, surface.upper)
    lower, upper = _window(lower, at, surface, torch.maximum), _window(upper, at, surface, torch.minimum)
    closed = lower > upper - 0.1
    middle = (lower + upper) / 2
    lower, upper = torch.where(closed, middle - 0.05, lower), torch.where(closed, middle + 0.05, upper)

    # A start outside the corridor may return over time instead of emptying the problem.
    d0 = start.d + offsets * start.psi - start.bend * offsets**2 / 2
    out_low = (lower[:, :, :1] - d0).clamp(min=0) + 0.02
    out_high = (d0 - upper[:, :, :1]).clamp(min=0) + 0.02
    # Over distance, not time: at standstill nobody returns anywhere.
    settle = 2.0 * start.v + 2.0
    fade = (1 - (s_exact - start.s - settle) / settle.clamp(min=6.0)).clamp(0, 1)[..., None]
    lower, upper = lower - out_low * fade, upper + out_high * fade

    profile = torch.stack([m.profile for m in manoeuvres])[index]  # [K, S]
    sides = torch.zeros(len(manoeuvres), len(obstacles), dtype=torch.int64)
    for i, m in enumerate(manoeuvres):
        for a, which in m.side.items():
            sides[i, a] = which
    above, below, who_above, who_below = _beside(
        candidates, profile, sides[index], obstacles, surface, at, reach, vehicle, config
    )
    # Already closer than the margin: do not come closer.
    side = config.margins.side
    above = torch.minimum(above, torch.maximum(above - side, d0 - 0.01))
    below = torch.maximum(below, torch.minimum(below + side, d0 + 0.01))
    # Where ego has not moved yet, staying is allowed, whoever comes close.
    stays = (s - start.s.detach() < 0.5)[..., None]
    above = torch.where(stays, torch.minimum(above, d0 - 0.05), above)
    below = torch.where(stays, torch.maximum(below, d0 + 0.05), below)
    lower_id, upper_id = torch.where(above > lower, who_above, -1), torch.where(below < upper, who_below, -1)
    lower, upper = torch.maximum(lower, above), torch.minimum(upper, below)

    cell = ((s_exact - surface.s[0]) / GRID).clamp(0, len(surface.s) - 2)
    i, f = cell.long(), cell - cell.long()
    take = lambda j: profile.gather(1, j.flatten(1)).reshape(j.shape)  # noqa: E731
    here, after = take(i), take(i + 1)
    slope = torch.atan((after - here) / GRID)
    return LateralBounds(lower, upper, lower_id, upper_id, here + (after - here) * f, slope)


def _beside(
    candidates: CandidateSet,
    profile: Float[Tensor, "K S"],
    sides: Tensor,
    obstacles: Obstacles,
    surface: Surface,
    at: Float[Tensor, "K 2 N C"],
    reach: float,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets ``[K, 2, N, C]`` that the axis points must stay above and below because of agents beside, and whose they are.

    A piece of an agent lies on the side of the profile on which it is; agents that the manoeuvre passes have their side
    given. Pieces that touch the band are longitudinal matters, or were accepted as unlikely.
    """
    inf = torch.tensor(torch.inf, dtype=torch.float64)
    room = vehicle.width / 2 + config.margins.side
    d_lo, d_hi = obstacles.d_lo[:, :, 1:], obstacles.d_hi[:, :, 1:]
    s_lo, s_hi = obstacles.s_lo[:, :, 1:], obstacles.s_hi[:, :, 1:]
    # Only (agent, mode) pairs that come close to any profile at all.
    cell = (((s_lo + s_hi).detach() / 2 - surface.s[0]) / GRID).round().long().clamp(0, len(surface.s) - 1)
    band_low, band_high = profile.amin(0)[cell], profile.amax(0)[cell]
    close = (d_hi > band_low - room - 2.0) & (d_lo < band_high + room + 2.0) & obstacles.active[:, :, 1:, None]
    pair = close.flatten(2).any(-1).nonzero()
    if not len(pair):
        nobody = torch.full(at.shape, -1, dtype=torch.int64)
        return (
            torch.full(at.shape, -torch.inf, dtype=torch.float64),
            torch.full(at.shape, torch.inf, dtype=torch.float64),
            nobody,
            nobody,
        )
    a, m = pair[:, 0], pair[:, 1]
    d_lo, d_hi, s_lo, s_hi = (x[a, m] for x in (d_lo, d_hi, s_lo, s_hi))  # [Q, N, P]
    active = obstacles.active[a, m, 1:]
    here = profile[:, cell[a, m]]  # [K, Q, N, P]
    touches = (d_hi > here - room + 0.02) & (d_lo < here + room - 0.02)
    given = sides[:, a][..., None, None]
    likely = (obstacles.weight[a, m] > 0.5 * config.risk.hit_probability)[None, :, None, None]
    on_left = torch.where(given != 0, given < 0, (d_lo + d_hi) / 2 > here)
    counts = active[None, ..., None] & torch.where(given != 0, likely | touches, ~touches)
    # [K, 2, N, C, Q, P]
    near = (at[..., None, None] > s_lo.transpose(0, 1)[:, None] - reach - 0.3) & (
        at[..., None, None] < s_hi.transpose(0, 1)[:, None] + reach + 0.3
    )
    order = lambda x: x.transpose(1, 2)[:, None, :, None]  # noqa: E731  [K, Q, N, P] -> [K, 1, N, 1, Q, P]
    keep_above = near & order(counts & ~on_left)
    keep_below = near & order(counts & on_left)
    floor = torch.where(keep_above, d_hi.transpose(0, 1)[:, None], -inf).amax(-1)
    ceiling = torch.where(keep_below, d_lo.transpose(0, 1)[:, None], inf).amin(-1)
    above, first = floor.max(-1)
    below, second = ceiling.min(-1)
    names = obstacles.track_id[a]
    return above + room, below - room, names[first], names[second]


def _window(values: Tensor, at: Tensor, surface: Surface, pick: object) -> Tensor:
    """Strictest of per-cell values ``[K, S]`` over the cells within one cell of the points ``[K, 2, N, C]``."""
    cell = ((at - surface.s[0]) / GRID).round().long()
    out = None
    for shift in (-1, 0, 1):
        j = (cell + shift).clamp(0, values.shape[1] - 1)
        part = values.gather(1, j.flatten(1)).reshape(at.shape)
        out = part if out is None else pick(out, part)  # type: ignore[operator]
    assert out is not None
    return out

"""Lateral manoeuvres: which offset profile to aim for, and on which side to pass whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.obstacles import Obstacles
from planner.reference_path import ReferencePath
from planner.scene import AgentClass, VehicleParameters
from planner.scene.frames import wrap_angle

GRID = 1.0
"""Spacing of the s grid on which profiles are given, m."""
LOOK_AHEAD = 70.0
NUDGE_SPEED = 2.5
"""Objects up to this speed (m/s) may be passed beside within the own surface,"""
WALKING_BERTH = 0.6
"""m beyond the hard margin: people closer than this to our way are given a wider berth where there is room."""
NUDGE_ACROSS = 0.8
"""and those that move across our way slower than this (m/s)."""


@dataclass
class Start:
    """Ego's initial Frenet state: s, d (m), psi (rad), kappa (1/m), v (m/s), a (m/s^2), as scalar tensors.

    bend (1/m): curvature of the path there.
    """

    s: Tensor
    d: Tensor
    psi: Tensor
    kappa: Tensor
    v: Tensor
    a: Tensor
    bend: Tensor


@dataclass
class Manoeuvre:
    """One way to go laterally.

    kind: "keep", "left", "right" or "oncoming". profile ``[S]`` m over the s grid: offset to aim for.
    side: agent position in Obstacles -> +1 if ego passes on its left, -1 on its right.
    """

    kind: str
    profile: Float[Tensor, " S"]
    side: dict[int, int] = field(default_factory=dict)

    @property
    def oncoming(self) -> bool:
        return self.kind == "oncoming"


@dataclass
class Surface:
    """Room for the rear-axle point on the s grid ``[S]``: its offset may lie in [lower, upper] m.

    Half the width and the boundary margin are taken off. lower_all, upper_all include the oncoming surface.
    straight: our own way does not turn within the next 40 m, so others who turn across it wait.
    """

    s: Tensor
    lower: Tensor
    upper: Tensor
    lower_all: Tensor
    upper_all: Tensor
    straight: bool


def usable_surface(path: ReferencePath, start: Start, vehicle: VehicleParameters, config: PlannerConfig) -> Surface:
    """The corridor of the map along the path, from a little behind ego to the end of what matters."""
    first = max(float(start.s.detach()) - 10.0, 0.0)
    s = torch.arange(first, min(first + 160.0, path.length), GRID, dtype=torch.float64)
    inside = vehicle.width / 2 + config.margins.boundary
    left, right = path.attribute("left", s), path.attribute("right", s)
    left_all = left + path.attribute("left_oncoming", s)
    right_all = right + path.attribute("right_oncoming", s)
    lower, upper = _ordered(inside - right, left - inside)
    lower_all, upper_all = _ordered(inside - right_all, left_all - inside)
    here = float(start.s.detach())
    ahead = torch.linspace(here, min(here + 40.0, path.length), 9, dtype=torch.float64)
    heading = path.evaluate(ahead)[1].detach()
    straight = bool((wrap_angle(heading - heading[0]).abs() < 0.4).all())
    return Surface(s, lower, upper, lower_all, upper_all, straight)


def enumerate_manoeuvres(
    path: ReferencePath,
    obstacles: Obstacles,
    surface: Surface,
    start: Start,
    standing_time: dict[int, float],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> list[Manoeuvre]:
    """Keep first, then the ways round what stands or crawls in the way.

    Which sides are tried is discrete; the profiles follow surface and boxes with gradients.
    """
    base = _base_profile(surface, start)
    keep = Manoeuvre("keep", base)
    with torch.no_grad():
        blockers = _blockers(obstacles, surface, base, start, vehicle, config)
        preferred: dict[int, int] = {}
        for a in blockers:
            center = _center(obstacles, a)
            natural = 1 if center[1] < float(_at(surface, base, center[0])) else -1
            if _offset_enough(obstacles, a, center[1], surface, base, config):
                preferred[a] = natural
    out = [keep]
    for flip in (False, True) if preferred else ():
        wish = dict(preferred)
        if flip:
            nearest = min(wish, key=lambda a: _center(obstacles, a)[0])
            wish[nearest] = -wish[nearest]
        made = _shape(obstacles, surface, base, wish, start, vehicle, config, oncoming=False)
        if made.side and not any(made.side == other.side for other in out):
            out.append(made)
    around = _oncoming(obstacles, surface, base, blockers, standing_time, start, path, vehicle, config)
    if around is not None:
        out.append(around)
    return out


def _ordered(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Where the map leaves no room at all, its width is not believed: 0.1 m about the middle remains.

    Whether the vehicle really fits is for the checker, which uses the exact drivable area.
    """
    middle = (lower + upper) / 2
    closed = lower > upper - 0.1
    return torch.where(closed, middle - 0.05, lower), torch.where(closed, middle + 0.05, upper)


def _base_profile(surface: Surface, start: Start) -> Tensor:
    """The path itself where there is room, reached from the present offset over about three seconds."""
    s = surface.s
    room = (surface.upper - surface.lower).clamp(min=0)
    inset = torch.clamp(room / 2, max=0.2)
    target = torch.zeros_like(s).clamp(min=surface.lower + inset, max=surface.upper - inset)
    target = _smooth(target, 4)
    x = ((s - start.s) / (3.0 * start.v).clamp(min=12.0)).clamp(0, 1)
    ease = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    here = _at(surface, target, float(start.s.detach()))
    return target + (start.d - here) * ease


def _smooth(values: Tensor, half: int) -> Tensor:
    kernel = torch.ones(1, 1, 2 * half + 1, dtype=values.dtype) / (2 * half + 1)
    padded = torch.nn.functional.pad(values[None, None], (half, half), mode="replicate")
    return torch.nn.functional.conv1d(padded, kernel)[0, 0]


def _at(surface: Surface, values: Tensor, s: float) -> Tensor:
    i = round((s - float(surface.s[0])) / GRID)
    return values[min(max(i, 0), len(values) - 1)]


def _blockers(
    obstacles: Obstacles,
    surface: Surface,
    base: Tensor,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> list[int]:
    """Slow or standing agents ahead that the base profile would touch, nearest first."""
    half = vehicle.width / 2 + config.margins.side
    front = float(start.s) + vehicle.front
    found = []
    for a in range(len(obstacles)):
        lo_s, hi_s, lo_d, hi_d = _extent(obstacles, a)
        across = float(obstacles.speed[a] * torch.sin(obstacles.relative_heading[a, 0, 0]).abs())
        if (
            float(obstacles.speed[a]) > NUDGE_SPEED
            or across > NUDGE_ACROSS
            or hi_s < front - 3.0
            or lo_s > front + LOOK_AHEAD
        ):
            continue
        near = _range_mask(surface, lo_s - vehicle.front, hi_s + vehicle.rear)
        reach = half + (WALKING_BERTH if _walks(obstacles, a) else 0.0)
        if bool(((base[near] + reach > lo_d) & (base[near] - reach < hi_d)).any()):
            found.append((lo_s, a))
    return [a for _, a in sorted(found)]


def _extent(obstacles: Obstacles, a: int) -> tuple[float, float, float, float]:
    """Interval the agent takes up now, and within the next 3 s for slow movers: s and d, lower and upper."""
    return obstacles.extents[a]


def _walks(obstacles: Obstacles, a: int) -> bool:
    return int(obstacles.agent_class[a]) in (AgentClass.PEDESTRIAN, AgentClass.BICYCLE)


def _center(obstacles: Obstacles, a: int) -> tuple[float, float]:
    lo_s, hi_s, lo_d, hi_d = _extent(obstacles, a)
    return (lo_s + hi_s) / 2, (lo_d + hi_d) / 2


def _range_mask(surface: Surface, lower: float, upper: float) -> Tensor:
    mask = (surface.s >= lower) & (surface.s <= upper)
    if not bool(mask.any()):
        i = round((lower - float(surface.s[0])) / GRID)
        mask[min(max(i, 0), len(mask) - 1)] = True
    return mask


def _offset_enough(
    obstacles: Obstacles, a: int, center_d: float, surface: Surface, base: Tensor, config: PlannerConfig
) -> bool:
    """A vehicle in the middle of the lane is a queue, not an obstacle to steer round (prototype trap 2)."""
    if int(obstacles.agent_class[a]) in (AgentClass.STATIC, AgentClass.PEDESTRIAN, AgentClass.BICYCLE):
        return True
    on_lane = float(_at(surface, base, _center(obstacles, a)[0]))
    return abs(center_d - on_lane) > config.decisions.nudge_offset


def _shape(
    obstacles: Obstacles,
    surface: Surface,
    base: Tensor,
    wish: dict[int, int],
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
    oncoming: bool,
) -> Manoeuvre:
    """Offset profile past the wished sides; blockers without room on that side are left out."""
    lower_room = surface.lower_all if oncoming else surface.lower
    upper_room = surface.upper_all if oncoming else surface.upper
    comfort, speed = config.comfort, start.v
    hard = vehicle.width / 2 + config.margins.side + 0.05
    soft = vehicle.width / 2 + comfort.side_gap + comfort.side_gap_per_speed * speed
    ramp = 2.0 / (2.0 * speed).clamp(min=9.0)
    lower, upper = torch.full_like(base, -1e3), torch.full_like(base, 1e3)
    side: dict[int, int] = {}
    for a, which in sorted(wish.items(), key=lambda item: _center(obstacles, item[0])[0]):
        lo_s, hi_s, lo_d, hi_d = obstacles.extent(a)
        first, last = lo_s - vehicle.front - 1.0, hi_s + vehicle.rear + 1.0
        beside = _range_mask(surface, float(first.detach()), float(last.detach()))
        wish_gap = soft + (WALKING_BERTH if _walks(obstacles, a) else 0.0)
        away = torch.maximum(first - surface.s, surface.s - last).clamp(min=0)
        if which > 0:
            room = torch.minimum(upper_room, upper)[beside].min()
            if bool(hi_d + hard > room):
                continue
            aim = torch.minimum(hi_d + wish_gap, torch.maximum(room - 0.05, hi_d + hard))
            lower = torch.maximum(lower, aim - ramp * away)
        else:
            room = torch.maximum(lower_room, lower)[beside].max()
            if bool(lo_d - hard < room):
                continue
            aim = torch.maximum(lo_d - wish_gap, torch.minimum(room + 0.05, lo_d - hard))
            upper = torch.minimum(upper, aim + ramp * away)
        side[a] = which
    profile = _smooth(torch.maximum(torch.minimum(base, upper), lower), 2)
    profile = profile.clamp(min=torch.minimum(lower_room, base), max=torch.maximum(upper_room, base))
    kind = "oncoming" if oncoming else ("left" if next(iter(side.values()), 1) > 0 else "right")
    return Manoeuvre(kind, profile, side)


def _oncoming(
    obstacles: Obstacles,
    surface: Surface,
    base: Tensor,
    blockers: list[int],
    standing_time: dict[int, float],
    start: Start,
    path: ReferencePath,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Manoeuvre | None:
    """Round what has stood in the way for a while, over the oncoming surface; not near junctions, not past a queue."""
    if not blockers:
        return None
    first = blockers[0]
    lo_s, hi_s, *_ = _extent(obstacles, first)
    stood = standing_time.get(int(obstacles.track_id[first]), 0.0)
    if not bool(obstacles.standing[first]) or stood < config.decisions.standing_time:
        return None
    ahead = torch.arange(lo_s, hi_s + 25.0, 1.0, dtype=torch.float64)
    if bool(path.attribute("junction", ahead).any()):
        return None
    group = [a for a in blockers if _extent(obstacles, a)[0] < hi_s + 12.0 and bool(obstacles.standing[a])]
    spare = surface.upper_all - surface.upper, surface.lower - surface.lower_all
    here = _range_mask(surface, lo_s, hi_s)
    room = [float(side[here].min().detach()) for side in spare]
    which = 1 if room[0] >= room[1] else -1
    if max(room) < 1.0:
        return None
    made = _shape(obstacles, surface, base, dict.fromkeys(group, which), start, vehicle, config, oncoming=True)
    return made if first in made.side else None

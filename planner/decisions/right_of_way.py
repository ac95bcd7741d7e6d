"""Whose duty it is: which agents are in ego's way under which manoeuvre, and which of them give way to ego.

Everything here is discrete, on plain arrays, without gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.decisions.stopping import braking_distance
from planner.objects.forecasts import Forecasts, array
from planner.objects.obstacles import Obstacles
from planner.path.surface import GRID, Start, Surface
from planner.programs.longitudinal import stop_time
from planner.scene import AgentClass, VehicleParameters

CROSSING_ANGLE = 0.6
"""Relative heading (rad) from which an agent in the band crosses rather than leads."""
ONCOMING_ANGLE = 2.4
"""Relative heading (rad) from which an agent counts as oncoming."""
WAITING_SPEED, WAITING_OFFSET = 2.0, 2.0
"""A vehicle slower (m/s) than this and further (m) beside our path waits to enter; nearer or faster it does not."""
EASY_BRAKING = 2.0
"""m/s^2: who stays behind us even when we brake like this has the duty to keep clear."""
WALKING_STRAY = 1.0
"""m: how far somebody on foot or on two wheels may stray from the forecast, at most."""


@dataclass
class Encounters:
    """Agents that may touch ego's band under a manoeuvre: C rows; L lanes, one per mode of a row that does.

    M modes, N nodes (the first is now), P pieces. scene, manoeuvre, agent ``[C]``: whose row it is, ascending.
    asks ``[C]``: in the band, ours to keep clear of. theirs ``[C]``: in the band, but nowhere ours. yields ``[C]``: of
    these, who comes into the band from beside it and could be let in. ahead ``[C]``: in the band in front of us already
    now. vulnerable ``[C]``: on foot or on two wheels. stray ``[C, N]`` m: how far it
    may stray from its forecast.

    row, mode ``[L]``: whose lane it is, ascending. crossing ``[L, N]``: crosses rather than leads. ours ``[P, L, N]``:
    the piece is in the band and keeping clear of it is ego's duty, or of who `yields` would be its courtesy. wary
    ``[P, L, N]``: with what it may stray, the piece gets into the band while the tail moves, and is none that ego may
    leave to itself.
    """

    scene: Int[np.ndarray, " C"]
    manoeuvre: Int[np.ndarray, " C"]
    agent: Int[np.ndarray, " C"]
    asks: Bool[np.ndarray, " C"]
    theirs: Bool[np.ndarray, " C"]
    yields: Bool[np.ndarray, " C"]
    ahead: Bool[np.ndarray, " C"]
    vulnerable: Bool[np.ndarray, " C"]
    stray: Float[np.ndarray, "C N"]
    row: Int[np.ndarray, " L"]
    mode: Int[np.ndarray, " L"]
    crossing: Bool[np.ndarray, "L N"]
    ours: Bool[np.ndarray, "P L N"]
    wary: Bool[np.ndarray, "P L N"]

    def __len__(self) -> int:
        return len(self.scene)


def opposed(obstacles: Obstacles) -> Bool[np.ndarray, "S A"]:
    """Agents that come towards us in some forecast."""
    comes = np.abs(array(obstacles.relative_heading)[..., 0]) > ONCOMING_ANGLE
    return (comes & array(obstacles.active).any(-1)).any(-1) & ~array(obstacles.standing)  # type: ignore[no-any-return]


def encounters(
    obstacles: Obstacles,
    manoeuvres: Manoeuvres,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Encounters:
    """Everybody who may touch ego's band under some manoeuvre. obstacles: on node times with 0 first."""
    t = array(obstacles.node_time)
    kind, standing = array(obstacles.agent_class), array(obstacles.standing)
    walks = (kind == AgentClass.PEDESTRIAN) | (kind == AgentClass.BICYCLE)  # [S, A]
    near = _near(obstacles, manoeuvres, walks, vehicle, config)
    each, (scene, manoeuvre, agent, mode) = Forecasts.of(obstacles, *near.any(1).nonzero()), near.nonzero()
    # Whose forecast a lane is, and the row it is in.
    place = np.empty(near[:, 0].shape, np.int64)
    place[each.scene, each.agent, each.mode] = np.arange(len(each.scene))
    unit = place[scene, agent, mode]
    key = (scene * near.shape[1] + manoeuvre) * near.shape[2] + agent
    new = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    first, row = new.nonzero()[0], new.cumsum() - 1

    # Whoever comes from behind keeps clear of us. Someone beside us is in front of us only where we would not be
    # even if we braked gently. Already in contact: nothing that we do about the way ahead undoes that.
    at = each.scene, each.agent
    front, rear = array(start.s + vehicle.front), array(start.s - vehicle.rear)
    hind, fore, low, high = _extent(obstacles)
    d, width = array(start.d)[:, None], vehicle.width / 2
    same_way = (np.abs(array(obstacles.relative_heading)[:, :, 0, 0]) < CROSSING_ANGLE) & ~standing
    behind = (fore < rear[:, None] + 0.3) | (same_way & (hind < rear[:, None]) & (fore < front[:, None]))
    contact = (hind < front[:, None]) & (fore > rear[:, None]) & (low < d + width) & (high > d - width)
    crossing = (each.turn > CROSSING_ANGLE) & ~standing[at][:, None]
    apart = each.s_hi >= (rear + 0.3)[each.scene, None]
    apart &= each.s_lo >= np.where(crossing, (front - 0.3)[each.scene, None], -np.inf)
    apart &= ~contact[at][:, None]
    clear = apart & ~behind[at][:, None]
    easy = front[:, None] + braking_distance(array(start.v), EASY_BRAKING, t)
    beyond = (each.s_lo >= easy[each.scene]) | (crossing | standing[at][:, None])

    touch, inside = _in_band(each, unit, manoeuvre, manoeuvres, surface, _stray(walks, t, config), vehicle, config)
    any_mode = lambda lanes: np.logical_or.reduceat(lanes, first) if len(first) else np.zeros(0, bool)  # noqa: E731
    scene, manoeuvre, agent = scene[first], manoeuvre[first], agent[first]
    now = any_mode(touch[:, :, 0].any(0))
    ahead = now & (hind >= front[:, None] - 1.0)[scene, agent]
    crossing, clear, beyond = crossing.take(unit, 0), clear.take(unit, 1), beyond.take(unit, 1)
    beyond |= ahead[row, None]
    ours = touch & clear
    ours &= beyond
    across = ours.any(0) & crossing
    waits = _waits_for_us(each, unit, across, array(surface.straight), array(obstacles.speed), t)
    waits &= ((kind[scene, agent] != AgentClass.PEDESTRIAN) & ~ahead)[row]
    clear &= ~waits[:, None]
    ours &= clear
    asks = any_mode(ours.any(0).any(1))
    theirs = any_mode(touch.any(0).any(1)) & ~asks
    yields = theirs & ~now & ~standing[scene, agent]
    ours |= touch & apart.take(unit, 1) & (yields[row, None] & ~crossing)

    # The tail stops short of whoever may cross or is free to go anywhere, as long as it moves, however unlikely.
    vulnerable = walks[scene, agent]
    soon = t <= array(stop_time(start.v.detach(), config))[:, None] + 0.3
    likely = array(obstacles.weight)[each.scene, each.agent, each.mode] > config.worst_case.probability
    wary = inside & clear
    wary &= (crossing | vulnerable[row, None]) & (likely[:, None] & soon[each.scene]).take(unit, 0)
    stray = _stray(vulnerable, t, config)
    return Encounters(
        scene, manoeuvre, agent, asks, theirs, yields, ahead, vulnerable, stray, row, mode, crossing, ours, wary
    )  # fmt: skip


def _near(
    obstacles: Obstacles,
    manoeuvres: Manoeuvres,
    walks: Bool[np.ndarray, "S A"],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> Bool[np.ndarray, "S V A M"]:
    """Forecasts that the band about a profile may meet, by what both take up as a whole."""
    profile = array(manoeuvres.profile)
    reach = band_half(vehicle, config) + np.where(walks, WALKING_STRAY, config.worst_case.lateral)[..., None]
    low = array(obstacles.d_lo.detach().amin(-1).amin(-1)) - reach
    high = array(obstacles.d_hi.detach().amax(-1).amax(-1)) + reach
    bottom, top = profile.min(-1)[..., None, None], profile.max(-1)[..., None, None]
    near = (high[:, None] > bottom) & (low[:, None] < top) & array(obstacles.active).any(-1)[:, None]
    return near & array(manoeuvres.valid)[..., None, None]


def _in_band(
    each: Forecasts,
    unit: Int[np.ndarray, " L"],
    manoeuvre: Int[np.ndarray, " L"],
    manoeuvres: Manoeuvres,
    surface: Surface,
    stray: Float[np.ndarray, "S A N"],
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[Bool[np.ndarray, "P L N"], Bool[np.ndarray, "P L N"]]:
    """Is a piece in the band of a manoeuvre that does not pass its agent beside, and could it stray there?"""
    profile, half = array(manoeuvres.profile), band_half(vehicle, config)
    cell = each.s_lo + each.s_hi
    cell /= 2
    cell -= array(surface.s)[each.scene, :1]
    cell /= GRID
    np.rint(cell, out=cell)
    np.maximum(cell, 0, out=cell)
    np.minimum(cell, profile.shape[2] - 1, out=cell)
    first = (each.scene[unit] * profile.shape[1] + manoeuvre) * profile.shape[2]
    index = cell.astype(np.int64).take(unit, 1)
    index += first[:, None]
    band = profile.reshape(-1).take(index)
    apart = each.d_lo.take(unit, 1)
    apart -= band
    band -= each.d_hi.take(unit, 1)
    np.maximum(apart, band, out=apart)
    active = each.active.take(unit, 0)
    beside = array(manoeuvres.side)[each.scene[unit], manoeuvre, each.agent[unit]] != 0
    touch = apart < half
    touch &= active & ~beside[:, None]
    inside = apart < half + stray[each.scene, each.agent].take(unit, 0)
    inside &= active
    return touch, inside


def band_half(vehicle: VehicleParameters, config: PlannerConfig) -> float:
    """Half the width (m) of the band that ego keeps free for itself."""
    return vehicle.width / 2 + config.margins.side - 0.02


def _stray(walks: Bool[np.ndarray, "*C"], t: np.ndarray, config: PlannerConfig) -> Float[np.ndarray, "*C N"]:
    """How far (m) an agent may stray from its forecast."""
    free = np.minimum(config.worst_case.pedestrian_acceleration * t**2 / 2, WALKING_STRAY)
    return np.where(walks[..., None], free, config.worst_case.lateral)


def _extent(obstacles: Obstacles) -> list[Float[np.ndarray, "S A"]]:
    """What the agents take up now: s_lo, s_hi, d_lo, d_hi over their modes that are ever active."""
    spoken = obstacles.active.any(-1)[..., None]
    s_lo, s_hi, d_lo, d_hi = (
        x.detach()[:, :, :, 0] for x in (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi)
    )
    least = lambda x: array(torch.where(spoken, x, torch.inf).amin((2, 3)))  # noqa: E731
    most = lambda x: array(torch.where(spoken, x, -torch.inf).amax((2, 3)))  # noqa: E731
    return [least(s_lo), most(s_hi), least(d_lo), most(d_hi)]


def _waits_for_us(
    each: Forecasts,
    unit: Int[np.ndarray, " L"],
    across: Bool[np.ndarray, "L N"],
    straight: Bool[np.ndarray, " S"],
    speed: Float[np.ndarray, "S A"],
    t: np.ndarray,
) -> Bool[np.ndarray, " L"]:
    """Who has to give way to us, if it drives and is not in front of us already. across: crosses our band.

    Oncoming traffic that would turn across our way while that is still two seconds off, and vehicles that stand or
    creep beside our way and point at it.
    """
    now = each.turn[:, 0]
    early = (across & (t <= 2.0)).any(-1)
    turns = (across & (each.turn < ONCOMING_ANGLE).take(unit, 0)).any(-1)
    slow = (np.sin(now) > 0.56) & (speed[each.scene, each.agent] < WAITING_SPEED)
    low, high = each.d_lo[:, slow, 0], each.d_hi[:, slow, 0]
    far = np.minimum(np.abs(low), np.abs(high)).min(0) > WAITING_OFFSET
    slow[slow] = far & ((low.min(0) > 0) | (high.max(0) < 0))
    return ((now > ONCOMING_ANGLE) & straight[each.scene])[unit] & turns & ~early | slow[unit]  # type: ignore[no-any-return]

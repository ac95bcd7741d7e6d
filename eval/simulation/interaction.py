"""Whom a reactive vehicle has to react to: everybody's boxes now and soon, against the corridors ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eval.simulation.agent_path import SPACING, AgentPath
from eval.simulation.corridor import first_contact, near_pairs
from eval.simulation.simulation_config import IdmConfig
from eval.simulation.vehicle import VehicleState, advance
from planner.scene import VehicleParameters

SLICES = 32
STANDING = 0.3  # m/s; slower objects are not extrapolated
_STEP = 0.5  # s between extrapolated boxes
_TIE = 1.0  # s; whoever is this much earlier at a crossing goes first, else the recorded order holds
_STOPPABLE = 5.0  # m/s per s before the conflict: faster vehicles cannot be expected to give way


class PathTable:
    """The paths of ``R`` vehicles as padded arrays, for look-ups at many places at once."""

    def __init__(self, paths: list[AgentPath]) -> None:
        size = max((len(path.xy) for path in paths), default=1)
        pad = lambda values: np.pad(values, (0, size - len(values)), mode="edge")  # noqa: E731
        self._columns = {
            "x": [pad(path.xy[:, 0]) for path in paths],
            "y": [pad(path.xy[:, 1]) for path in paths],
            **{
                name: [pad(getattr(path, name)) for path in paths]
                for name in ("yaw", "direction", "speed", "acceleration", "log_time")
            },
        }
        self._table = {name: np.array(values).reshape(len(paths), size) for name, values in self._columns.items()}
        self.end = np.array([(len(path.xy) - 1) * SPACING for path in paths])

    def look(self, name: str, s: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Values at s (m) on the paths `row` (same shape as s), linear between points, constant beyond the ends."""
        table = self._table[name]
        place = np.clip(s, 0.0, self.end[row]) / SPACING
        i = np.minimum(place.astype(np.int64), table.shape[1] - 2)
        share = place - i
        return (1 - share) * table[row, i] + share * table[row, i + 1]

    def pose(self, s: np.ndarray, row: np.ndarray) -> np.ndarray:
        """``[..., 3]`` box centre x, y (m), yaw (rad)."""
        return np.stack([self.look(name, s, row) for name in ("x", "y", "yaw")], -1)


@dataclass
class Boxes:
    """``B`` boxes of others: box ``[B, 3]`` (x, y, yaw), half ``[B, 2]`` size, velocity ``[B, 2]`` now, agent ``[B]``
    index of the agent (N for the ego), later ``[B]`` s ahead of now, moves ``[B]``."""

    box: np.ndarray
    half: np.ndarray
    velocity: np.ndarray
    agent: np.ndarray
    later: np.ndarray
    moves: np.ndarray


@dataclass
class Reactive:
    """The ``R`` reactive vehicles now: agent ``[R]`` index, driving ``[R]`` bool, s ``[R]`` m, v ``[R]`` m/s, half
    ``[R, 2]`` size (m), and the table of their paths."""

    agent: np.ndarray
    driving: np.ndarray
    s: np.ndarray
    v: np.ndarray
    half: np.ndarray
    table: PathTable


def desired_gap(v: np.ndarray, leader: np.ndarray, config: IdmConfig) -> np.ndarray:
    """s* of the IDM (m): s0 + max(0, v T + v (v - v_leader) / (2 sqrt(a b)))."""
    approach = v * (v - leader) / (2 * math.sqrt(config.acceleration * config.deceleration))
    return config.gap_min + np.maximum(v * config.headway + approach, 0.0)


def entry_speed(gap: float, leader: float, config: IdmConfig) -> float:
    """Highest speed (m/s) at which the IDM brakes at most comfortably: s* = gap sqrt(1 + b / a), solved for v."""
    if not math.isfinite(gap):
        return math.inf
    c = 2 * math.sqrt(config.acceleration * config.deceleration)
    half = (config.headway * c - leader) / 2
    room = gap * math.sqrt(1 + config.deceleration / config.acceleration) - config.gap_min
    return max(-half + math.sqrt(max(half**2 + c * room, 0.0)), 0.0) if room > 0 else 0.0


def ego_boxes(ego: VehicleState, vehicle: VehicleParameters, later: np.ndarray) -> np.ndarray:
    """``[len(later), 3]``: the ego's box after `later` seconds at its present speed and curvature."""
    steady = VehicleState(ego.x, ego.y, ego.yaw, max(ego.v, 0.0), 0.0, ego.curvature)
    poses = np.array([advance(steady, 0.0, 0.0, float(t)).pose if t > 0 else ego.pose for t in later])
    poses[:, 0] += vehicle.rear_axle_to_center * np.cos(poses[:, 2])
    poses[:, 1] += vehicle.rear_axle_to_center * np.sin(poses[:, 2])
    return poses


def boxes_now_and_soon(
    present: np.ndarray,
    pose: np.ndarray,
    velocity: np.ndarray,
    half: np.ndarray,
    reactive: Reactive,
    ego: VehicleState,
    vehicle: VehicleParameters,
    config: IdmConfig,
) -> Boxes:
    """Boxes of everybody and the ego now, and of whoever moves every 0.5 s up to `anticipation` ahead: reactive
    vehicles on their paths at constant speed, the ego on its circle, others straight on."""
    count = len(present)
    agent = np.append(np.flatnonzero(present), count)
    heading = np.array([[math.cos(ego.yaw), math.sin(ego.yaw)]])
    pose = np.concatenate([pose[present], ego_boxes(ego, vehicle, np.zeros(1))])
    velocity = np.concatenate([velocity[present], ego.v * heading])
    half = np.concatenate([half[present], [[vehicle.length / 2, vehicle.width / 2]]])
    moves = np.hypot(velocity[:, 0], velocity[:, 1]) > STANDING

    later = np.arange(1, int(config.anticipation / _STEP + 1e-9) + 1) * _STEP
    movers = np.flatnonzero(moves)
    ahead = np.repeat(pose[movers, None], len(later), axis=1)
    ahead[..., :2] += velocity[movers, None] * later[:, None]
    row = row_of_agent(reactive, count)[agent[movers]]
    on_path = np.flatnonzero(row >= 0)
    rows = np.repeat(row[on_path, None], len(later), axis=1)
    ahead[on_path] = reactive.table.pose(reactive.s[rows] + reactive.v[rows] * later, rows)
    if moves[-1] and len(later):
        ahead[-1] = ego_boxes(ego, vehicle, later)
    chosen = np.concatenate([np.arange(len(pose)), np.repeat(movers, len(later))])
    return Boxes(
        np.concatenate([pose, ahead.reshape(-1, 3)]), half[chosen], velocity[chosen], agent[chosen],
        np.concatenate([np.zeros(len(pose)), np.tile(later, len(movers))]), moves[chosen],
    )  # fmt: skip


def row_of_agent(reactive: Reactive, count: int) -> np.ndarray:
    """``[count + 1]`` row of each agent among the reactive vehicles, -1 for the others and the ego."""
    rows = np.full(count + 1, -1)
    rows[reactive.agent] = np.arange(len(reactive.agent))
    return rows


@dataclass
class Leaders:
    """Per reactive vehicle ``[R]``, whoever asks for the hardest braking.

    ratio: s*/s of the IDM (0 if nobody); gap: s (m, infinite if nobody); speed along the path (m/s); agent: index
    (N for the ego, -1 for nobody); later: how far ahead of now it is in the way (s).
    """

    ratio: np.ndarray
    gap: np.ndarray
    speed: np.ndarray
    agent: np.ndarray
    later: np.ndarray


def leaders(reactive: Reactive, others: Boxes, ignored: np.ndarray, config: IdmConfig) -> Leaders:
    """Whom each reactive vehicle has to heed.

    ignored ``[R, N + 1]``: agents a vehicle does not react to. An extrapolated box does not count if it comes from
    beside or behind, or if the vehicle gets to the place first. Between two reactive vehicles that means: clearly
    first, or about as early, but first in the recording while the other one can still stop.
    """
    count = len(reactive.agent)
    zero = np.zeros(count)
    found = Leaders(zero, np.full(count, np.inf), zero.copy(), np.full(count, -1), zero.copy())
    active = np.flatnonzero(reactive.driving)
    if not len(active):
        return found
    slices, slice_half, front = _corridors(reactive, active, config)
    half_width = reactive.half[active, 1]
    near = near_pairs(slices, half_width + slice_half + config.corridor_margin, others.box, others.half)
    near &= ~ignored[active][:, others.agent] & (others.agent != reactive.agent[active][:, None])
    a, which = np.nonzero(near)
    width = half_width[a] + np.where(others.moves[which], config.corridor_margin, 0.0)
    distance = first_contact(slices, slice_half, width, a, others.box[which], others.half[which])
    hit = np.flatnonzero(np.isfinite(distance))
    a, which, distance = a[hit], which[hit], distance[hit]

    row, v, later = active[a], reactive.v[active[a]], others.later[which]
    station = front[a] + distance
    direction = reactive.table.look("direction", station, row)
    velocity = others.velocity[which]
    along = np.maximum(velocity[:, 0] * np.cos(direction) + velocity[:, 1] * np.sin(direction), 0.0)
    space = distance - along * later
    rival = row_of_agent(reactive, ignored.shape[1] - 1)[others.agent[which]]
    mine = reactive.table.look("log_time", station, row)
    theirs = reactive.table.look("log_time", reactive.s[rival] + reactive.v[rival] * later, rival)
    earlier = later - distance / np.maximum(v, 0.5)
    can_stop = np.hypot(velocity[:, 0], velocity[:, 1]) < _STOPPABLE * later
    recorded_first = (mine < theirs) & can_stop & (earlier > -_TIE)
    left_alone = np.where(rival >= 0, (earlier > _TIE) | recorded_first, earlier > 0)
    counts = (later == 0) | ((space > 0) & ~left_alone)
    # A gap that opens needs no braking, however small it is.
    space = np.maximum(space, np.where(along >= v, config.gap_min, 0.1))
    ratio = desired_gap(v, along, config) / space
    # What is only extrapolated is no emergency: at most twice the comfortable deceleration.
    mild = math.sqrt(1 + 2 * config.deceleration / config.acceleration)
    ratio = np.where(later > 0, np.minimum(ratio, mild), ratio)
    order = np.argsort(np.where(counts, ratio, -1.0), kind="stable")[int((~counts).sum()) :]
    # Of several contacts of a vehicle the last one written stays: the one with the largest ratio.
    i = row[order]
    found.ratio[i], found.gap[i], found.speed[i] = ratio[order], space[order], along[order]
    found.later[i], found.agent[i] = later[order], others.agent[which[order]]
    return found


def _corridors(reactive: Reactive, active: np.ndarray, config: IdmConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slices ``[A, SLICES, 3]``, their half length ``[A]`` (m), the stations ``[A]`` (m) of the front bumpers."""
    v = reactive.v[active]
    reach = np.clip(desired_gap(v, np.zeros(len(v)), config) * 1.2 + 10.0, 10.0, 100.0)
    front = reactive.s[active] + reactive.half[active, 0]
    station = front[:, None] + (np.arange(SLICES) + 0.5) / SLICES * reach[:, None]
    rows = np.repeat(active[:, None], SLICES, axis=1)
    slices = np.stack([reactive.table.look(name, station, rows) for name in ("x", "y", "direction")], -1)
    return slices, reach / SLICES / 2, front

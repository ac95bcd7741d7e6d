"""Which ways the moving objects may take: the arc of their present velocity, and every lane they are on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.assumptions import RAW, Assumptions
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects

STATION = 1.0  # m between samples of a way
_TOLERANCE = 1.3  # on what cornering allows where somebody is already


@dataclass(frozen=True)
class Ways:
    """``n`` ways: owner ``[n]``; path ``[n, J, 3]`` (x, y, heading) every STATION metres, arcs first, then lanes;
    earliest ``[l, J]``: for the lanes, the earliest time (s) at each sample."""

    owner: np.ndarray
    path: np.ndarray
    earliest: np.ndarray

    @property
    def arcs(self) -> int:
        """How many of them are arcs."""
        return len(self.owner) - len(self.earliest)


def ways_of(
    objects: Objects,
    moving: np.ndarray,
    lanes: LaneGraph,
    table: Assumptions,
    reach: float,
    yielding: np.ndarray,
    braking: np.ndarray,
    acceleration: np.ndarray,
) -> Ways:
    """Of the objects with the indices `moving`, until `reach` (m) from where they are.

    yielding ``[A]``: who does not turn off its way. braking, acceleration ``[A]`` m/s^2: the most it does.
    """
    samples = int(np.ceil(reach / STATION)) + 2
    arc = _arcs(objects, moving, samples, table)
    drivers = moving[(objects.drives | (objects.kind == RAW))[moving]]
    heading = np.arctan2(objects.velocity[drivers, 1], objects.velocity[drivers, 0])
    which, lane = lanes.paths(objects.pose[drivers, :2], heading, samples, STATION, table)
    owner = drivers[which]
    turn = np.abs(lane[:, :, 2] - lane[:, :1, 2]).max(1)
    straight = ~(yielding[owner] & (turn > table.priority_turn))
    owner, lane = owner[straight], lane[straight]
    earliest, possible = _earliest(
        lane[:, :, 2], objects.speed[owner], braking[owner], acceleration[owner], table.cornering
    )
    owner, lane = owner[possible], lane[possible]
    lane = _entered(lane, objects, owner, table)
    return Ways(np.concatenate([moving, owner]), np.concatenate([arc, lane]), earliest[possible])


def _entered(lane: np.ndarray, o: Objects, owner: np.ndarray, table: Assumptions) -> np.ndarray:
    """Lanes ``[l, J, 3]`` as their owners can take them: from where they are, in the direction in which they move.

    A lane that begins at an angle is turned into within `cornering`; until then it is left behind sideways. Taken at
    once, a lane that joins or leaves the object's own would put it metres aside within a few tenths of a second.
    """
    if not len(owner):
        return lane
    # A velocity measured from the past lags in bends, a box may be turned by mistake: the smaller angle counts.
    motion = np.arctan2(o.velocity[owner, 1], o.velocity[owner, 0])
    angles = np.stack([motion, o.pose[owner, 2]]) - lane[:, 0, 2]
    angles = np.arctan2(np.sin(angles), np.cos(angles))
    off = np.where(angles[0] * angles[1] > 0, np.sign(angles[0]) * np.abs(angles).min(0), 0.0)[:, None]
    mechanical = table.column("curvature_max", o.kind[owner])
    mechanical = np.where(o.kind[owner] == RAW, np.inf, mechanical)  # nobody knows what it is, nor how it can turn
    sharpest = np.minimum(mechanical, _TOLERANCE * table.cornering / o.speed[owner] ** 2)
    turning = np.maximum(np.abs(off) / np.maximum(sharpest, 1e-6)[:, None], 1e-9)  # m of way
    s = np.minimum(STATION * np.arange(lane.shape[1]), turning)
    aside = off * (s - s**2 / (2 * turning))
    out = lane + (np.concatenate([o.pose[owner, :2], lane[:, 0, 2:]], 1) - lane[:, 0])[:, None]
    out[..., 0] -= aside * np.sin(lane[..., 2])
    out[..., 1] += aside * np.cos(lane[..., 2])
    out[..., 2] += off * (1 - s / turning)
    return out


def _earliest(
    heading: np.ndarray, speed: np.ndarray, braking: np.ndarray, acceleration: np.ndarray, cornering: float
) -> tuple[np.ndarray, np.ndarray]:
    """Earliest times ``[l, J]`` (s) along lanes taken within `cornering`, and whether the speed now permits it."""
    bend = np.abs(heading[:, 4:] - heading[:, :-4]) / (4 * STATION)
    bend = np.concatenate([bend[:, :1], bend[:, :1], bend, bend[:, -1:], bend[:, -1:]], 1)
    allowed = cornering / np.maximum(bend, 1e-4)
    # Before a bend: as fast as braking still permits. allowed(s) <= allowed(s') + 2 b (s' - s).
    station = STATION * np.arange(heading.shape[1])
    gain = 2 * braking[:, None] * station
    allowed = np.minimum.accumulate((allowed + gain)[:, ::-1], 1)[:, ::-1] - gain
    possible = speed**2 <= _TOLERANCE * allowed[:, 0]
    gain = 2 * acceleration[:, None] * station
    squared = speed[:, None] ** 2 + gain
    # After a bend: accelerate again from what it allowed.
    squared = np.minimum(squared, np.minimum.accumulate(allowed - gain, 1) + gain)
    fastest = np.sqrt(np.maximum(squared, 0.01))
    steps = 2 * STATION / (fastest[:, 1:] + fastest[:, :-1])
    return np.concatenate([np.zeros((len(heading), 1)), np.cumsum(steps, 1)], 1), possible


def _arcs(o: Objects, moving: np.ndarray, samples: int, table: Assumptions) -> np.ndarray:
    """``[m, J, 3]``: along the velocity, turning at the present rate, then straightening."""
    speed = o.speed[moving]
    heading = np.arctan2(o.velocity[moving, 1], o.velocity[moving, 0])
    sharpest = table.column("curvature_max", o.kind[moving])
    bend = np.minimum(np.maximum(o.turn_rate[moving] / np.maximum(speed, 1.0), -sharpest), sharpest)
    s = STATION * (np.arange(samples - 1) + 0.5)
    fade = np.minimum(np.maximum(1.0 - (s / speed[:, None] - table.turn_hold) / table.turn_fade, 0.0), 1.0)
    path = np.empty((len(moving), samples, 3))
    angle = path[..., 2]
    angle[:, 0] = heading
    angle[:, 1:] = heading[:, None] + np.cumsum(bend[:, None] * fade * STATION, 1)
    middle = 0.5 * (angle[:, 1:] + angle[:, :-1])
    path[:, 0, :2] = start = o.pose[moving, :2]
    path[:, 1:, 0] = start[:, 0:1] + np.cumsum(STATION * np.cos(middle), 1)
    path[:, 1:, 1] = start[:, 1:2] + np.cumsum(STATION * np.sin(middle), 1)
    return path

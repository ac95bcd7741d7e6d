"""Who gets onto ego's way only behind ego: a follower, who keeps its distance like any other.

A vehicle beside ego that drifts over, or whose lane joins ego's, may be anywhere in its set; but if even the fastest
motion of the set reaches ego's way only where ego has left it already, every motion does, and later ones farther back.
What happens then is between a leader and who gets behind it: the follower answers as RSS has it, from now on. A
forecast does not answer to anything; what it does behind ego says nothing.
"""

from __future__ import annotations

import numpy as np

from planner.checker.footprint import Boxes, Sweeps, sweep_box_separation
from planner.checker.forecast import Forecasts
from planner.checker.occupancy import Occupancy

LEFT_BEHIND = 1
"""Steps of the grid: ego has left the place for at least so long when the first can be there."""


def ways_behind(occupancy: Occupancy, wanted: np.ndarray, sweeps: Sweeps, clearance: float) -> np.ndarray:
    """``[n]``: the ways of vehicles in `wanted` ``[A]`` that lead onto ego's way only behind ego.

    sweeps: of ego's motion from now until it stands, one an interval of the occupancy's grid.
    """
    found = np.zeros(occupancy.ways_count, bool)
    for n in occupancy.ways_of(wanted):
        found[n] = _gets_behind(occupancy.fastest(n, len(sweeps)), sweeps, clearance)
    return found


def modes_behind(forecasts: Forecasts, modes: np.ndarray, sweeps: Sweeps, clearance: float) -> np.ndarray:
    """``[m]``: which of the modes with these numbers lead onto ego's way only behind ego."""
    count = min(len(sweeps), forecasts.intervals)
    boxes = (forecasts.boxes(n, count) for n in modes)
    return np.array([_gets_behind(box, sweeps, clearance) for box in boxes], bool)


def _gets_behind(boxes: Boxes, sweeps: Sweeps, clearance: float) -> bool:
    """Whether boxes ``[K]``, one an interval, are first on ego's way where ego has been and is no more.

    What crosses ego's way is on it once: from there on it goes along behind ego, or away.
    """
    # Interval of the other, interval of ego whose place it is.
    apart = np.hypot(*(boxes.center[:, None] - sweeps.center).transpose(2, 0, 1))
    k, j = np.nonzero(apart < boxes.reach[:, None] + sweeps.reach + clearance)
    touch = sweep_box_separation(sweeps, j, boxes.take(k)) < clearance
    k, j = k[touch], j[touch]
    return bool(len(k) and j[k == k[0]].max() < k[0] - LEFT_BEHIND)

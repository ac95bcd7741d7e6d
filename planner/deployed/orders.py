"""From what the supervisor published to what the actuators keep: a command, and the stop to drive if no more comes."""

from __future__ import annotations

import numpy as np

from planner.limiter import Command, Order
from planner.scene import Trajectory


def order(counter: int, time: float, command: Command, tail: Trajectory, step: float = 0.1) -> Order:
    """`command` for now, protected, with the tail as commands of `step` s each until it stands.

    counter: 1, 2, ...; time (s): by the actuators' clock; tail: from now on, in any frame: open loop, only acceleration
    and curvature matter.
    """
    t, a, k = (getattr(tail, n).detach().double().numpy() for n in ("time", "a", "curvature"))
    grid = np.arange(0.0, t[-1] + step, step)
    # The acceleration that is reached at the end of a step is what is ordered for it, as a tracker does.
    acceleration, curvature = np.interp(grid[1:], t, a), np.interp(grid, t, k)
    stop = zip(acceleration, np.diff(curvature) / step)
    return Order(counter, time, command, tuple(Command(float(u), float(w)) for u, w in stop), step)

"""Another way to stop for a motion whose own tail is refused: along its own way, later or harder.

A candidate comes with one tail; which stop is clear of all bounded behaviour, only the checker knows. A tail that
creeps to its end may still be moving when another vehicle can be there, or ends where one that begins a second later
is past. So where nothing but the tail is refused, the second channel tries stops of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from planner import fallback
from planner.checker import CheckReport
from planner.scene import EgoState, Trajectory, VehicleParameters

LEADS = ("tail_object", "tail_sight", "tail_phantom_driver", "tail_place")
BRAKES = ("tail_braking", "tail_lateral_acceleration", "tail_grip")
_FIELDS = ("x", "y", "yaw", "v", "a", "curvature")


def only_the_tail(report: CheckReport, slippery: bool = False) -> bool:
    """Whether every violation is one of where and when the tail leads; slippery: or one of how hard it brakes, because
    the planner does not know that the road gives less.
    """
    about = LEADS + (BRAKES if slippery else ())
    return all(v.rule in about for v in report.violations)


def stops_along(
    trajectory: Trajectory, vehicle: VehicleParameters, begins: tuple[float, ...]
) -> Iterator[tuple[float, Trajectory]]:
    """(begin, tail): the trajectory for `begin` seconds, then full braking along its way. Those beyond its end are
    left out; a trajectory from which none can be made has none.
    """
    time = trajectory.time.detach().double()
    columns = {name: getattr(trajectory, name).detach().double() for name in _FIELDS}
    for begin in begins:
        i = int(torch.searchsorted(time, begin - 1e-6))
        if i >= len(time) - 1:
            continue
        at = {name: column[i] for name, column in columns.items()}
        ego = EgoState.at_origin(float(at["v"]), float(at["a"]), float(at["curvature"]))
        ego = ego.replace(x=at["x"], y=at["y"], yaw=at["yaw"])
        try:
            stop = fallback.maximum_braking(ego, vehicle, trajectory)
        except ValueError:
            continue
        yield (
            float(time[i]),
            Trajectory(
                torch.cat([time[:i], stop.time + time[i]]),
                *(torch.cat([columns[name][:i], getattr(stop, name)]) for name in _FIELDS),
            ),
        )

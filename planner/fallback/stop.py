"""The page: a stop as a trajectory. First the speed over time, then the steering along it.

Braking is jerk-limited, keeps within the grip that cornering leaves, grows as ego gets slower, and ends at rest with
zero acceleration; the curvature stays within its rate. Positions are integrated exactly between entries (constant jerk
and curvature rate, `planner.scene.Trajectory`), so the checker finds the kinematics consistent.
"""

from __future__ import annotations

import itertools
import math

import torch

from planner.fallback.motion import advance
from planner.fallback.speed import braked
from planner.fallback.way import Grip, Way, steered
from planner.scene import EgoState, Trajectory, VehicleParameters


def maximum_braking(
    ego: EgoState,
    vehicle: VehicleParameters | None = None,
    path: Trajectory | None = None,
    aside: float = 0.0,
    held: bool = False,
) -> Trajectory:
    """The hardest stop that jerk and grip allow, in ego's frame; steers along `path` (same frame) if given.

    Without a path the present curvature is kept. aside (m): bears away to this far left of the path (negative: right),
    as much of the way as the grip that braking leaves allows. held: the brake is not released before ego stands.
    Raises ValueError for a batch or a state that is not finite.
    """
    vehicle = vehicle or VehicleParameters()
    return _stop(ego, vehicle, vehicle.braking_max, path, aside, held)


def brake_in_path(
    ego: EgoState, path: Trajectory, vehicle: VehicleParameters | None = None, braking: float = 4.0
) -> Trajectory:
    """Stop with `braking` (m/s^2, magnitude) along the way of `path` (ego's frame), from where ego really is.

    Raises ValueError for a batch, a state that is not finite or braking that is not positive.
    """
    if not braking > 0:
        raise ValueError(f"brake_in_path: expected braking > 0 m/s^2, got {braking}")
    vehicle = vehicle or VehicleParameters()
    return _stop(ego, vehicle, min(braking, vehicle.braking_max), path)


def _stop(
    ego: EgoState,
    vehicle: VehicleParameters,
    braking: float,
    path: Trajectory | None,
    aside: float = 0.0,
    held: bool = False,
) -> Trajectory:
    x, y, yaw, v, a, curvature = (float(f) for f in (ego.x, ego.y, ego.yaw, ego.v, ego.a, ego.curvature))
    if not all(map(math.isfinite, (x, y, yaw, v, a, curvature))):
        raise ValueError("fallback: expected a finite ego state")
    v = max(v, 0.0)
    a = min(max(a, -vehicle.braking_max), vehicle.acceleration_max)
    way = None if path is None else Way.of(path)
    grip = Grip.of(way, x, y, v, curvature, vehicle)
    # Sampling compares jerk at the limit; a hair inside keeps rounding out of the verdict.
    profile = braked(v, a, min(braking, grip.braking), 0.99 * vehicle.jerk_max, grip.allowed, held)
    time = profile.times()
    rows = [(0.0, x, y, yaw, v, a, curvature)]
    for begin, end in itertools.pairwise(time):
        h = end - begin
        (v0, a0), (v1, a1) = profile.at(begin), profile.at(end)
        wanted = curvature if way is None else way.steer(x, y, yaw, v0, aside)
        bent = steered(curvature, wanted, v0, v1, a1, h, vehicle)
        x, y, yaw = advance(x, y, yaw, v0, a0, (a1 - a0) / h, curvature, (bent - curvature) / h, h)
        curvature = bent
        rows.append((end, x, y, yaw, v1, a1, curvature))
    columns = torch.tensor(rows, dtype=torch.float64).T
    return Trajectory(*(c.clone() for c in columns))

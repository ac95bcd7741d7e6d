"""Could anybody have avoided it by braking? Closed kinematics and exact rectangles; no planner involved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.simulation.generate.boxes import rear_axle_to_center, separation
from eval.simulation.generate.curves import Path
from eval.simulation.occlusion import visible
from eval.simulation.trace import Trace
from perception.recording import ObjectStates, Recording
from planner.scene import VehicleParameters

STEP = 0.02  # s


@dataclass(frozen=True)
class BestBraking:
    """The drive of somebody who brakes as hard as the vehicle can from the first moment on at which the hazard shows.

    noticed (s): that moment. contact (s): first touch, None without one. impact_speed (m/s): ego's speed then.
    """

    noticed: float
    contact: float | None
    impact_speed: float

    @property
    def unavoidable(self) -> bool:
        return self.contact is not None


def best_braking(
    recording: Recording,
    track_id: int,
    onset: float,
    reaction: float = 0.0,
    *,
    road: VehicleParameters | None = None,
    driven: Trace | None = None,
) -> BestBraking:
    """Full braking along the route with the vehicle's jerk limit, `reaction` (s) after the hazard can be noticed.

    The hazard can be noticed from `onset` (s) on, where nobody hides it from the nominal ego. Steering is not counted,
    so a contact here means "not avoidable by braking", not "not avoidable at all". road: what the road really gives of
    the vehicle; whoever brakes fully from the first sign on need not know it. driven: a drive of which everything up
    to that sign counts, place and speed, instead of the speed at the start held until then.
    """
    road = road or recording.vehicle
    i = int(np.flatnonzero(recording.agents.track_id == track_id)[0])
    noticed = _first_seen(recording, track_id, onset) + reaction
    since, pose, v0 = 0.0, recording.ego.pose[0], float(recording.ego.v[0])
    if driven is not None:
        k = max(int(np.searchsorted(driven.time, noticed + 1e-9)) - 1, 0)
        since, pose, v0 = float(driven.time[k]), driven.pose[k], float(driven.v[k])
    time = np.arange(since, float(recording.time[-1]) + 1e-9, STEP)
    travelled, speed = braked(v0, time - noticed, road)
    route = Path(recording.route_xy)
    start = float(route.project(pose[None, :2])[0][0])
    ego = rear_axle_to_center(
        route.pose(start + v0 * (np.minimum(time, noticed) - since) + travelled), _forward(recording)
    )
    other = np.stack([np.interp(time, recording.time, recording.agents.pose[i, :, n]) for n in range(2)], -1)
    yaw = np.interp(time, recording.time, np.unwrap(recording.agents.pose[i, :, 2]))
    size = np.array([recording.vehicle.length, recording.vehicle.width])
    ones = np.ones((len(time), 1))
    gap = separation(ego, ones * size, np.column_stack([other, yaw]), ones * recording.agents.size[i])
    # Contact of a standing ego is the other's doing.
    touch = np.flatnonzero((gap < 0.0) & (speed > 0.0))
    if not len(touch):
        return BestBraking(noticed, None, 0.0)
    return BestBraking(noticed, float(time[touch[0]]), float(speed[touch[0]]))


def braked(v: float, time: np.ndarray, vehicle: VehicleParameters) -> tuple[np.ndarray, np.ndarray]:
    """Distance (m) and speed (m/s) at times (s) since the brakes were hit; before that no distance and speed v.

    Braking grows with `jerk_max` to `braking_max` and stays until rest.
    """
    t = np.clip(time, 0.0, None)
    jerk, full = vehicle.jerk_max, vehicle.braking_max
    ramp = min(full / jerk, np.sqrt(2 * v / jerk))
    after = v - jerk * ramp**2 / 2
    rest = after / full if after > 1e-12 else 0.0
    a, b = np.clip(t, 0.0, ramp), np.clip(t - ramp, 0.0, rest)
    distance = v * a - jerk * a**3 / 6 + after * b - full * b**2 / 2
    return distance, np.maximum(v - jerk * a**2 / 2 - full * b, 0.0)


def r157_cut_in_must_be_avoided(speed: float, other: float, gap_at_intrusion: float) -> bool:
    """UN R157 5.2.5.2: the time to collision when the cutting-in vehicle intrudes exceeds v_rel / (2 * 6) + 0.35 s."""
    closing = speed - other
    return closing <= 0 or gap_at_intrusion / closing > closing / 12.0 + 0.35


def _first_seen(recording: Recording, track_id: int, onset: float) -> float:
    if not recording.metadata.get("occlusion"):
        return onset
    a = recording.agents
    for k in range(round(onset / recording.dt), len(recording.time)):
        there = a.valid[:, k]
        states = ObjectStates(
            a.track_id[there], a.agent_class[there], a.size[there], a.pose[there, k], a.velocity[there, k]
        )
        if track_id in visible(states, recording.ego.pose[k]).track_id:
            return max(float(recording.time[k]), onset)
    return float(recording.time[-1])


def _forward(recording: Recording) -> float:
    return recording.vehicle.rear_axle_to_center

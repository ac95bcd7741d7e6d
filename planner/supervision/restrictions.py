"""What a degraded state changes: slower and farther away, in what the planner sees and in what the checker accepts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.checker import CheckerConfig, CheckReport, SceneSets, Violation
from planner.scene import Trajectory, VectorScene, VehicleParameters

SLOWING = 0.3  # m/s^2, at least, while faster than the restricted limit
_PATIENCE = 0.5  # s until slowing must show
_LOOK = 3.0  # s
_GRIP_LEAST = 0.1  # share of the vehicle's; less is not believed


def restricted_scene(scene: VectorScene, speed: float, margin: float) -> VectorScene:
    """The scene for the planner: speed limits times `speed`, every object `margin` (m) larger on each side."""
    box = scene.agents.box.clone()
    box[..., 3:5] += 2.0 * margin
    route = scene.route.replace(speed_limit=scene.route.speed_limit * speed)
    return scene.replace(agents=scene.agents.replace(box=box), route=route)


def restricted_check(
    sets: SceneSets, config: CheckerConfig, speed: float, margin: float
) -> tuple[SceneSets, CheckerConfig]:
    """Sets and settings for judging candidates: as above. Fallbacks are judged by the ordinary ones: a tail accepted
    before the restriction must stay accepted.
    """
    stricter = replace(
        config,
        clearance=config.clearance + margin,
        speed_factor=config.speed_factor * speed,
    )
    # What is nearer than the wider clearance already may not come closer; it does not forbid to move.
    return replace(sets, touching=sets.gap < stricter.clearance), stricter


def slows_down(report: CheckReport, trajectory: Trajectory, sets: SceneSets, config: CheckerConfig) -> CheckReport:
    """An accepted report, refused if the plan holds a speed above the restricted limit instead of leaving it.

    The checker's own rule lets ego keep a speed that it has, so that a lower limit ahead forces nobody to brake hard.
    """
    if not report.accepted or not len(sets.route_xy):
        return report
    time, x, y, v = (getattr(trajectory, n).detach().double().numpy() for n in ("time", "x", "y", "v"))
    distance2 = (x[:, None] - sets.route_xy[:, 0]) ** 2 + (y[:, None] - sets.route_xy[:, 1]) ** 2
    limit = config.speed_factor * sets.route_limit[distance2.argmin(1)] + config.speed_extra
    leaving = v[0] - SLOWING * np.maximum(time - _PATIENCE, 0.0) + 0.05
    short = np.where(time <= _LOOK, np.maximum(limit, leaving) - v, np.inf)
    k = int(short.argmin())
    if short[k] >= 0:
        return report
    held = Violation("degraded_speed", -1, float(time[k]), float(short[k]), f"{v[k]:.1f} m/s is held, not left")
    return replace(report, accepted=False, violations=(held,))


def slippery(vehicle: VehicleParameters, grip: float) -> VehicleParameters:
    """What the vehicle can do where the road gives the share `grip` of its grip; anything but a number is the least."""
    if grip >= 1.0:
        return vehicle
    share = max(grip, _GRIP_LEAST) if grip == grip else _GRIP_LEAST
    return replace(
        vehicle,
        braking_max=share * vehicle.braking_max,
        lateral_acceleration_max=share * vehicle.lateral_acceleration_max,
        acceleration_max=min(vehicle.acceleration_max, share * vehicle.braking_max),
    )

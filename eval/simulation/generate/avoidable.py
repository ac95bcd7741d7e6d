"""Whether a careful driver could avoid contact: closed kinematics, no planner and no simulation of one.

The driver notices the hazard the moment it can be seen, reacts after `REACTION`, builds up
deceleration with `JERK` until `BRAKING`, and brakes to rest on its path. Swerving is not
counted, so "avoidable" is never claimed because of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

REACTION = 0.3  # s, from seeing to the first braking
BRAKING = 8.0  # m/s^2, what the vehicle can do on a dry road
JERK = 12.0  # m/s^3, build-up of braking
CLEARANCE = 0.2  # m, left at rest


@dataclass
class Verdict:
    """avoidable, the argument in words, and its numbers (SI)."""

    avoidable: bool
    argument: str
    numbers: dict[str, float] = field(default_factory=dict)


def required_deceleration(speed: float, distance: float) -> float:
    """Constant deceleration (m/s^2) that stops from `speed` (m/s) within `distance` (m) after the reaction.

    v^2 / (2 (d - v t_r)); infinite where the reaction alone uses up the distance.
    """
    left = distance - speed * REACTION
    if speed <= 0.0:
        return 0.0
    return speed**2 / (2 * left) if left > 0.0 else float("inf")


def braked_travel(speed: float, time: np.ndarray | float) -> np.ndarray:
    """Distance (m) covered in the given times (s) under reaction, build-up and full braking, until rest."""
    t = np.asarray(time, float)
    full = BRAKING / JERK
    rest_in_ramp = np.sqrt(2 * speed / JERK)
    ramp = min(full, rest_in_ramp)
    speed_after = max(speed - 0.5 * JERK * ramp**2, 0.0)
    t_react, t_ramp = np.clip(t, 0, REACTION), np.clip(t - REACTION, 0, ramp)
    t_brake = np.clip(t - REACTION - ramp, 0, speed_after / BRAKING)
    return (
        speed * t_react
        + speed * t_ramp - JERK * t_ramp**3 / 6
        + speed_after * t_brake - 0.5 * BRAKING * t_brake**2
    )  # fmt: skip


def stopping_distance(speed: float) -> float:
    """Distance (m) from seeing the hazard to rest: `braked_travel` for all times."""
    return float(braked_travel(speed, 1e3))


def sight_limited_speed(distance: float) -> float:
    """Largest speed (m/s) whose stopping distance fits in the distance (m); by bisection."""
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if stopping_distance(middle) + CLEARANCE <= distance else (low, middle)
    return low


def stop_before(speed: float, distance: float, what: str) -> Verdict:
    """A place that must not be entered, `distance` (m) ahead of the front bumper when it is noticed."""
    needed = stopping_distance(speed) + CLEARANCE
    numbers = {
        "speed": speed,
        "distance": distance,
        "stopping_distance": needed,
        "required_deceleration": required_deceleration(speed, distance - CLEARANCE),
        "sight_limited_speed": sight_limited_speed(distance),
    }
    ok = needed <= distance
    text = (
        f"{what}: at {speed:.1f} m/s stopping takes {needed:.1f} m with {REACTION} s reaction, "
        f"{JERK:.0f} m/s^3 build-up and {BRAKING:.0f} m/s^2; {distance:.1f} m are left when it can be noticed, so it "
        f"{'can' if ok else 'cannot'} be avoided by braking"
    )
    return Verdict(ok, text, numbers)


def behind_leader(
    speed: float, gap: float, leader_speed: float, leader_braking: float, what: str, enters: float = 0.0
) -> Verdict:
    """Somebody `gap` (m) ahead of the front bumper at the moment ego can notice, driving in ego's direction.

    leader_speed (m/s): then; leader_braking (m/s^2): from then on until rest, 0 if it keeps its
    speed. enters (s): from then until it is in ego's lane; earlier gaps do not count.
    Ego brakes fully until it is no faster than the leader.
    """
    t = np.arange(0.0, 12.0, 0.005)
    rolling = np.minimum(t, leader_speed / leader_braking) if leader_braking > 0 else t
    ahead = gap + leader_speed * rolling - 0.5 * leader_braking * rolling**2 - braked_travel(speed, t)
    smallest = float(ahead[t >= enters].min())
    ok = smallest >= CLEARANCE
    if leader_braking > 0:
        needed = required_deceleration(speed, gap + leader_speed**2 / (2 * leader_braking) - CLEARANCE)
    else:
        # In the leader's frame: the speed difference has to be braked away within the gap.
        needed = required_deceleration(max(speed - leader_speed, 0.0), gap - CLEARANCE)
    numbers = {
        "speed": speed,
        "distance": gap,
        "leader_speed": leader_speed,
        "leader_braking": leader_braking,
        "enters": enters,
        "smallest_gap": smallest,
        "required_deceleration": needed,
    }
    text = (
        f"{what}: {gap:.1f} m ahead at {leader_speed:.1f} m/s, "
        f"braking with {leader_braking:.1f} m/s^2; "
        f"full braking from {speed:.1f} m/s leaves at least {smallest:.1f} m, "
        f"so it {'can' if ok else 'cannot'} be avoided by braking"
    )
    return Verdict(ok, text, numbers)

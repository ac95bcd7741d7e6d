"""Settings of the checker: tolerances and horizons. What is assumed about others stands in `assumptions`."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.checker.assumptions import Assumptions


@dataclass(frozen=True)
class CheckerConfig:
    """Limits and tolerances of the checker. SI units.

    step: spacing of the grid on which rectangles are swept. nominal_horizon: how far the intended
    trajectory is checked. tail_horizon: a tail must be at rest by then. shared_time: trajectory and
    tail must agree this long. rest_speed: slower is standing.
    clearance, boundary_clearance (m): distance kept by the exact rectangle.
    mode_probability: forecasts below are not looked at in the nominal check. early (s), likely: until then any
    such mode counts; later a conflict counts when the conflicting modes of an object together reach `likely`,
    because ego can still stop clear of all of them: the tail is checked for exactly that.
    existence: objects below are not looked at by either check.
    start_*: how far a plan may start from the ego state; a kept tail, which carries the tracking
    error of the cycles since, may be `kept_factor` times as far away.
    step_*: kinematic consistency between two entries; drift (m): accumulated over one second.
    envelope: factor on every actuator limit, for rounding and sampling.
    lateral_jerk_max (m/s^3): v^2 times curvature rate; the limiter enforces the same number.
    speed_factor, speed_extra: intended speed <= factor * limit + extra.
    touching_tolerance (m): what already touches may come this much closer (rounding).
    rear_bearing (rad), side_move (m): what lies behind this bearing is the follower's duty, unless ego
    moves sideways by more than `side_move` relative to its route.
    raw_explained (m): raw obstacles within a scene object's box widened by this are the same object, unless it is
    slower than raw_velocity (m/s) and their velocity is known and differs from its by more than that.
    rss_braking (m/s^2), rss_sideways (m/s): an answer to danger may fall short by this (rounding).
    sight_margin (m): a tail may lead this far behind what limits the sight (rounding of sectors and boxes).
    wrong_way_angle (rad): who drives turned from the route's direction by more goes the wrong way.
    widening: factor on every acceleration and deviation of the worst-case sets, set by the coverage monitor.
    """

    step: float = 0.1
    nominal_horizon: float = 3.0
    tail_horizon: float = 12.0
    shared_time: float = 0.3
    rest_speed: float = 0.05
    clearance: float = 0.05
    boundary_clearance: float = 0.0
    mode_probability: float = 0.1
    early: float = 1.5
    likely: float = 0.5
    existence: float = 0.1
    start_position: float = 0.1
    start_yaw: float = 0.03
    start_speed: float = 0.2
    start_acceleration: float = 1.0
    start_curvature: float = 0.03
    kept_factor: float = 6.0
    step_position: float = 0.05
    step_yaw: float = 0.02
    step_speed: float = 0.1
    drift: float = 0.3
    envelope: float = 1.05
    lateral_jerk_max: float = 20.0
    speed_factor: float = 1.1
    speed_extra: float = 0.5
    touching_tolerance: float = 0.02
    rear_bearing: float = 2.618
    side_move: float = 0.75
    raw_explained: float = 0.5
    raw_velocity: float = 1.0
    rss_braking: float = 0.1
    rss_sideways: float = 0.1
    sight_margin: float = 2.0
    wrong_way_angle: float = 2.0
    widening: float = 1.0
    assumptions: Assumptions = field(default_factory=Assumptions)

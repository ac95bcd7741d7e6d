"""Settings of the checker, and the one table of assumptions about other road users."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.scene import AgentClass


@dataclass(frozen=True)
class ClassBounds:
    """What is assumed of road users of one class while ego comes to rest. SI units, magnitudes.

    acceleration, braking (m/s^2): along the path. speed_max (m/s): not exceeded by accelerating.
    lateral_acceleration (m/s^2), lateral_deviation (m): sideways growth min(a t^2 / 2, deviation).
    standing_speed (m/s): below it the object counts as standing. standing_acceleration (m/s^2),
    standing_deviation (m): growth min(a t^2 / 2, deviation) of a standing object.
    source: where the numbers come from.
    """

    acceleration: float
    braking: float
    speed_max: float
    lateral_acceleration: float
    lateral_deviation: float
    standing_speed: float
    standing_acceleration: float
    standing_deviation: float
    source: str


_VEHICLE = (
    "braking: below the 8 m/s^2 worst case of RSS (ad-rss), at its minimum braking 4 plus 1, the usual emergency "
    "threshold of R157; acceleration: urban driving, below ad-rss 3.5; standing: CARLA's RSS integration likewise "
    "lets stationary cars stay"
)
_TWO_WHEELS = "braking and acceleration of ordinary riders; sideways: lane position wanders more than a car's"
_WALKING = "0.6 m/s^2 covers ordinary changes of walking speed; braking 2 m/s^2 (CARLA's RSS pedestrian minimum)"

DEFAULT_BOUNDS: dict[AgentClass, ClassBounds] = {
    AgentClass.CAR: ClassBounds(1.5, 5.0, 25.0, 0.5, 0.5, 0.5, 0.3, 0.5, _VEHICLE),
    AgentClass.TRUCK: ClassBounds(1.0, 5.0, 22.0, 0.5, 0.5, 0.5, 0.2, 0.5, _VEHICLE),
    AgentClass.BUS: ClassBounds(1.0, 5.0, 22.0, 0.5, 0.5, 0.5, 0.2, 0.5, _VEHICLE),
    AgentClass.MOTORCYCLE: ClassBounds(2.0, 6.0, 25.0, 0.6, 0.6, 0.5, 0.3, 0.5, _TWO_WHEELS),
    AgentClass.BICYCLE: ClassBounds(1.0, 4.0, 10.0, 0.6, 0.6, 0.5, 0.3, 0.4, _TWO_WHEELS),
    AgentClass.PEDESTRIAN: ClassBounds(0.6, 2.0, 4.0, 0.6, 1.0, 0.3, 0.3, 0.4, _WALKING),
    AgentClass.STATIC: ClassBounds(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, "does not move by itself"),
}


@dataclass(frozen=True)
class OccupancyAssumptions:
    """Everything the occupancy sets assume. The only place where such a number is written.

    bounds: per class. turn_hold, turn_fade (s): a turning vehicle keeps its turn rate this long, then
    straightens over the fade. lane_distance (m), lane_angle (rad): an object within both of a
    centreline may follow it. lane_joint (m): centrelines whose ends are this close are joined.
    cornering (m/s^2): nobody takes a lane's bend with more lateral acceleration, and brakes for it at
    `ClassBounds.braking` at most; a lane that cannot be followed so is not followed.
    priority_angle, priority_turn (rad), priority_rate (rad/s), priority_ahead (m): while ego's route goes straight
    on over this distance, oncoming vehicles (heading against it by more than the angle) do not turn across it by
    more than the turn: whoever turns gives way. One that already turns faster than the rate has given the
    assumption up and may go anywhere its lanes lead.
    waiting_speed (m/s), waiting_angle (rad), waiting_offset (m), waiting_acceleration (m/s^2): a vehicle slower
    than this that points at ego's route by more than the angle from further beside it than the offset is
    waiting to enter: it may creep on, gaining speed at most like this. A faster or nearer one may do anything.
    paths_max: lane paths followed per object. pieces: convex pieces a set along a path is cut into.
    """

    bounds: dict[AgentClass, ClassBounds] = field(default_factory=lambda: dict(DEFAULT_BOUNDS))
    turn_hold: float = 1.0
    turn_fade: float = 1.0
    lane_distance: float = 1.75
    lane_angle: float = 0.35
    lane_joint: float = 1.0
    cornering: float = 4.0
    priority_angle: float = 2.5
    priority_turn: float = 0.6
    priority_rate: float = 0.1
    priority_ahead: float = 40.0
    waiting_speed: float = 2.0
    waiting_angle: float = 0.6
    waiting_offset: float = 2.5
    waiting_acceleration: float = 0.3
    paths_max: int = 4
    pieces: int = 6


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
    assumptions: OccupancyAssumptions = field(default_factory=OccupancyAssumptions)

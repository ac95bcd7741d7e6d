"""Settings of the closed-loop simulation. Every value has a default that works."""

from __future__ import annotations

from dataclasses import dataclass, field

from eval.simulation.lidar import LidarConfig
from eval.simulation.lidar_surroundings import SurroundingsConfig


@dataclass(frozen=True)
class TrackerConfig:
    """Feedback of the trajectory tracker; the plan's own acceleration and curvature are fed forward.

    longitudinal_rate, lateral_rate (rad/s): how fast an error decays, as the natural frequency of a
    critically damped oscillator. lateral_speed_min (m/s): below it the lateral feedback does not grow stiffer.
    hold_speed (m/s): plans that stay below this speed for hold_time (s) mean "stand still".
    """

    longitudinal_rate: float = 1.5
    lateral_rate: float = 1.5
    lateral_speed_min: float = 3.0
    hold_speed: float = 0.05
    hold_time: float = 1.0


@dataclass(frozen=True)
class IdmConfig:
    """Reactive traffic: the intelligent driver model with the parameters of nuPlan's reactive agents.

    gap_min (m), headway (s), acceleration (m/s^2), deceleration (m/s^2, comfortable, magnitude).
    braking_max (m/s^2): hardest braking of a reactive vehicle, magnitude.
    moving_distance (m): vehicles that move less than this in the recording stand still in the simulation too.
    stop_speed (m/s): a vehicle whose recording ends slower than this stands there for good.
    corridor_margin (m): per side, added to a vehicle's width when it looks for others on its path.
    anticipation (s): how far ahead moving others are extrapolated onto the path.
    range (m): vehicles that are further from the ego after the end of their recording leave the simulation.
    """

    gap_min: float = 1.0
    headway: float = 1.5
    acceleration: float = 1.0
    deceleration: float = 2.0
    braking_max: float = 8.0
    moving_distance: float = 2.0
    stop_speed: float = 0.4
    corridor_margin: float = 0.1
    anticipation: float = 2.0
    range: float = 120.0


@dataclass(frozen=True)
class SimulationConfig:
    """One closed-loop drive at the recording's 10 Hz.

    duration (s): None drives as long as the recording lasts; longer is cut to that.
    actuator_lag (s): time constant with which acceleration and curvature rate follow the command; 0 = at once.
    seed: recorded in the trace; draws the noise of rendered sensors, the rest of the simulation draws no numbers.
    render_lidar: render a LiDAR at every step and let drivers with a second perception channel hear what it sees
    (about 30 ms a step). lidar: that sensor. surroundings: what it sees beside the road.
    """

    duration: float | None = None
    actuator_lag: float = 0.0
    seed: int = 0
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    idm: IdmConfig = field(default_factory=IdmConfig)
    render_lidar: bool = False
    lidar: LidarConfig = field(default_factory=LidarConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)

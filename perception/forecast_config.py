"""Constants of the rule-based forecasts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """How a standard deviation grows: sqrt(floor^2 + ((rate + relative v) t)^2 + (acceleration t^2 / 2)^2).

    floor (m); rate (m/s); relative: per m/s of today's speed v; acceleration (m/s^2); limit (m): largest value.
    """

    floor: float
    rate: float = 0.0
    relative: float = 0.0
    acceleration: float = 0.0
    limit: float = 1e3


@dataclass(frozen=True)
class Uncertainty:
    """Of a position, along and across the direction of motion."""

    along: Spread
    across: Spread


@dataclass(frozen=True)
class GroupUncertainty:
    """Per kind of mode; see `perception.forecast.ModeKind`."""

    lane: Uncertainty
    free: Uncertainty
    stop: Uncertainty
    stay: Uncertainty
    start: Uncertainty


def _vehicle() -> GroupUncertainty:
    return GroupUncertainty(
        lane=Uncertainty(Spread(0.2, 0.40, 0.01, 0.55), Spread(0.2, 0.16, 0.0, 0.04, 2.5)),
        free=Uncertainty(Spread(0.2, 0.20, 0.0, 0.55), Spread(0.2, 0.05, 0.005, 0.08)),
        stop=Uncertainty(Spread(0.2, 0.05, 0.15), Spread(0.2, 0.05, 0.03, 0.0, 2.5)),
        stay=Uncertainty(Spread(0.15, 0.02), Spread(0.15, 0.02)),
        start=Uncertainty(Spread(0.2, 0.20, 0.0, 0.75), Spread(0.2, 0.06, 0.0, 0.04, 2.5)),
    )


def _cyclist() -> GroupUncertainty:
    return GroupUncertainty(
        lane=Uncertainty(Spread(0.2, 0.30, 0.03, 0.20), Spread(0.2, 0.12, 0.01, 0.12, 3.0)),
        free=Uncertainty(Spread(0.2, 0.10, 0.02, 0.16), Spread(0.2, 0.12, 0.0, 0.14)),
        stop=Uncertainty(Spread(0.2, 0.10, 0.15, 0.20), Spread(0.2, 0.05, 0.03, 0.0, 3.0)),
        stay=Uncertainty(Spread(0.15, 0.03), Spread(0.15, 0.03)),
        start=Uncertainty(Spread(0.2, 0.30, 0.0, 0.30), Spread(0.2, 0.15, 0.0, 0.10)),
    )


def _pedestrian() -> GroupUncertainty:
    return GroupUncertainty(
        # Pedestrians have no lane mode; the column exists for a uniform table.
        lane=Uncertainty(Spread(0.15, 0.06, 0.01, 0.07), Spread(0.15, 0.05, 0.01, 0.08)),
        free=Uncertainty(Spread(0.15, 0.06, 0.01, 0.07), Spread(0.15, 0.05, 0.01, 0.08)),
        stop=Uncertainty(Spread(0.15, 0.30, 0.05, 0.30), Spread(0.15, 0.10, 0.05, 0.20)),
        stay=Uncertainty(Spread(0.15, 0.03), Spread(0.15, 0.03)),
        start=Uncertainty(Spread(0.2, 0.60), Spread(0.2, 0.30)),
    )


def _static() -> Uncertainty:
    return Uncertainty(Spread(0.1), Spread(0.1))


@dataclass(frozen=True)
class ForecastConfig:
    """Rules and their constants. SI units. Set by measurement: `benchmarks/forecast.py`.

    Moving: faster than moving_speed (vehicles), walking_speed (pedestrians); above heading_speed the direction of
    motion is trusted more than the box's yaw.

    Lanes: matched within match_distance (m) and match_heading (rad), judged match_preview (s) ahead; offset_sigma,
    heading_sigma say how well a driver keeps to a lane; speed_sigma (m/s): how much faster than comfortable a curve
    is taken; turn_reluctance: a way that turns by one radian at a fork is exp(-turn_reluctance) times as probable as
    straight on. A lane is approached with time constant offset_time (s). free_weight (cyclists: cyclist_free_weight):
    weight of going on freely against a perfectly kept lane; stop_share (pedestrians: walking_stop_share):
    probability that a moving object brakes to a stop; below slow_speed (slow_walking) it rises to slow_stop_share.

    A standing vehicle farther than parked_offset (m) from every lane is parked and stays; others set off with
    probability vehicle_start_share (pedestrians pedestrian_start_share).

    lateral_acceleration, curve_braking (m/s^2): comfort in and before curves; hard_braking: where that is too late.
    turn_time (s): how fast a turn rate fades. stop_braking, walking_braking (m/s^2): of the stop mode.
    An object within queue_offset (m) of a lane holds up who follows there: they keep queue_gap (m) plus
    queue_time (s) times speed, approached with time constant queue_response (s).
    start_acceleration (m/s^2), start_speed (m/s), walking_start (m/s): of the start mode. speed_up: share of what a
    moving vehicle lacks to start_speed that it makes up for.
    modes: most modes per object; lanes: most lanes among them; same_distance (m): lane modes that never differ
    by more are one; least_probability: below it a mode is dropped.
    """

    moving_speed: float = 0.5
    walking_speed: float = 0.25
    heading_speed: float = 2.0
    match_distance: float = 3.5
    match_heading: float = 1.0
    match_preview: float = 1.0
    offset_sigma: float = 1.1
    heading_sigma: float = 0.3
    speed_sigma: float = 1.0
    offset_time: float = 2.5
    free_weight: float = 0.14
    cyclist_free_weight: float = 0.4
    stop_share: float = 0.06
    walking_stop_share: float = 0.03
    slow_stop_share: float = 0.5
    slow_speed: float = 2.5
    slow_walking: float = 0.8
    parked_offset: float = 1.6
    vehicle_start_share: float = 0.08
    pedestrian_start_share: float = 0.05
    start_acceleration: float = 1.2
    start_speed: float = 8.0
    speed_up: float = 0.1
    walking_start: float = 1.2
    stop_braking: float = 2.0
    walking_braking: float = 0.8
    queue_offset: float = 0.9
    queue_gap: float = 2.0
    queue_time: float = 0.6
    queue_response: float = 2.0
    lateral_acceleration: float = 2.5
    curve_braking: float = 1.0
    turn_reluctance: float = 0.7
    hard_braking: float = 2.5
    turn_time: float = 1.5
    turn_rate_max: float = 0.6  # rad/s; no object is believed to turn faster
    modes: int = 5
    lanes: int = 3
    same_distance: float = 1.0
    least_probability: float = 0.01
    vehicle: GroupUncertainty = field(default_factory=_vehicle)
    cyclist: GroupUncertainty = field(default_factory=_cyclist)
    pedestrian: GroupUncertainty = field(default_factory=_pedestrian)
    static: Uncertainty = field(default_factory=_static)

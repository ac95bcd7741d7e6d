"""Everything about the planner that a user may change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch


@dataclass(frozen=True)
class Horizon:
    """Time grids. Both branches are simulated every `step`; inputs are held constant over longer intervals.

    nominal, tail: (interval length s, count) pairs, fine then coarse; both end at the same time.
    shared: seconds over which the two branches are one.
    lateral_hard: seconds up to which corridor and obstacle rows of the nominal branch are hard; linear
    time-varying models drift beyond.
    """

    step: float = 0.1
    nominal: tuple[tuple[float, int], ...] = ((0.2, 10), (0.5, 8))
    tail: tuple[tuple[float, int], ...] = ((0.2, 10), (0.5, 8))
    shared: float = 0.4
    lateral_hard: float = 4.0

    @property
    def duration(self) -> float:
        return sum(length * count for length, count in self.nominal)

    def fine_time(self) -> torch.Tensor:
        """``[F]`` s: the simulated times, without 0."""
        return torch.arange(1, round(self.duration / self.step) + 1, dtype=torch.float64) * self.step

    def validate(self) -> Horizon:
        """Raises ValueError when the grids do not fit together."""
        for name in ("nominal", "tail"):
            if abs(sum(length * count for length, count in getattr(self, name)) - self.duration) > 1e-9:
                raise ValueError(f"horizon.{name}: expected the same duration for both branches")
            for length, _ in getattr(self, name):
                if abs(length / self.step - round(length / self.step)) > 1e-9:
                    raise ValueError(f"horizon.{name}: {length} s is not a multiple of step {self.step} s")
        return self


@dataclass(frozen=True)
class MotionLimits:
    """Hard limits of the intended motion; within VehicleParameters, wider than what is comfortable.

    The tail may brake harder: it is what keeps the promise.
    """

    acceleration_max: float = 2.0  # m/s^2
    braking_max: float = 4.0  # m/s^2
    jerk_max: float = 4.0  # m/s^3
    tail_braking_max: float = 6.5  # m/s^2
    tail_jerk_max: float = 10.0  # m/s^3
    lateral_acceleration_max: float = 4.0  # m/s^2
    tail_lateral_acceleration_max: float = 4.5  # m/s^2
    yaw_rate_max: float = 0.8  # rad/s
    yaw_acceleration_max: float = 1.5  # rad/s^2; bounds the curvature rate as v * rate
    heading_error_max: float = 0.8  # rad, against the reference path

    def firm(self) -> MotionLimits:
        """Those of an intended motion that may brake and steer as the tail may."""
        return replace(
            self,
            braking_max=self.tail_braking_max,
            jerk_max=self.tail_jerk_max,
            lateral_acceleration_max=self.tail_lateral_acceleration_max,
        )


@dataclass(frozen=True)
class Comfort:
    """What is aimed for, as references and costs."""

    lateral_acceleration: float = 2.5  # m/s^2, sets the speed in curves
    braking: float = 1.5  # m/s^2, for slowing down ahead of curves and lower limits
    curvature_rate: float = 0.2  # 1/(m s), sets the speed where the path's curvature changes
    gap: float = 2.0  # m, bumper to bumper at standstill
    headway: float = 1.2  # s
    side_gap: float = 0.7  # m, beside obstacles
    side_gap_per_speed: float = 0.04  # s: grows the side gap with speed
    speed_fraction: float = 0.97  # of the speed limit


@dataclass(frozen=True)
class Margins:
    """Hard clearances: small, and never such that standing still becomes impossible."""

    ahead: float = 0.6  # m, to what is ahead
    behind: float = 1.0  # m, to what was passed
    side: float = 0.25  # m, to obstacles
    boundary: float = 0.15  # m, to the edge of the drivable area
    zone_time: float = 0.8  # s, kept before and after another road user in a crossing zone
    zone_time_walking: float = 2.0  # s, before somebody on foot or on a bicycle enters it


@dataclass(frozen=True)
class Risk:
    """How uncertainty becomes distance.

    hit_probability: accepted probability, in the intended motion, that one object blocks the planned place at one time;
    the tail and the checker cover the rest. With W the probability that the object exists and takes one of the
    modes in the way, P(inside | mode) <= hit / W, so unlikely modes fade out.
    sigma_floor (m): no covariance counts as less. longitudinal_max, lateral_max (m): cap on the
    probabilistic enlargement of the nominal branch; the tail covers the worst case by sets.
    """

    hit_probability: float = 0.25
    sigma_floor: float = 0.05
    longitudinal_max: float = 3.0
    lateral_max: float = 0.3


@dataclass(frozen=True)
class WorstCase:
    """Bounds the tail assumes of others."""

    vehicle_braking: float = 5.0  # m/s^2
    vehicle_acceleration: float = 1.5  # m/s^2
    pedestrian_acceleration: float = 0.6  # m/s^2
    lateral: float = 0.3  # m, what a vehicle may stray sideways from its forecast
    probability: float = 0.04  # of a mode, from which the tail takes it seriously


@dataclass(frozen=True)
class SafeDistances:
    """Hard rows that keep the RSS distance to followed leaders in the intended motion (IEEE 2846, same direction).

    rows: whether there are any; tail and checker keep worst-case distances in any case. response (s), braking
    (m/s^2): of ego. leader_braking (m/s^2): of the leader at worst. Rows give way where full braking breaks them.
    """

    rows: bool = False
    response: float = 0.3
    braking: float = 4.0
    leader_braking: float = 5.0


@dataclass(frozen=True)
class CostWeights:
    """Positive weights. A network may scale them (EgoProposal.cost_weight, in this order)."""

    speed: float = 1.0  # on the squared distance to the reference speed
    acceleration: float = 1.0  # squared
    jerk: float = 0.6  # squared
    gap: float = 4.0  # on what is missing of the comfortable gap, squared
    offset: float = 1.0  # on the squared distance to the reference path
    heading: float = 4.0  # squared, against the reference path
    curvature: float = 60.0  # squared, against the reference path
    curvature_rate: float = 60.0  # squared


@dataclass(frozen=True)
class Tracking:
    """Weights on the squared distance to a proposed trajectory, at the nodes, per second.

    comfort: factor on the planner's own nominal weights, which stay beside these. The defaults are for a learned
    reference (EgoProposal.reference), which pulls; `planner.safety_layer.CLOSE` is for a projection.
    """

    position: float = 0.02  # 1/m^2, along the path
    speed: float = 0.3  # s^2/m^2
    offset: float = 0.5  # 1/m^2
    heading: float = 2.0  # 1/rad^2
    comfort: float = 1.0


@dataclass(frozen=True)
class Decisions:
    """Which decisions are enumerated, and how candidates compare."""

    max_candidates: int = 12  # solved per cycle, all-yield and hold included
    max_conflicts: int = 3  # objects for which both yield and pass are tried
    nudge_offset: float = 0.8  # m: an object this far off the reference may be passed beside
    standing_time: float = 3.0  # s: an object must have stood this long before the oncoming surface is used
    traffic_patience: float = 6.0  # s longer for who was seen driving: it will most likely go on
    room: float = 0.6  # m: kept away within the lane from who drifts towards it while being passed
    lane_change: bool = True  # offer the neighbouring lanes of our direction
    progress_cost: float = 1.0  # per metre behind the best candidate, over the horizon
    discomfort_cost: float = 1.0  # on squared accelerations and jerks, over the horizon
    switch_cost: float = 2.0  # for another decision than the last one
    oncoming_cost: float = 6.0  # for using the oncoming surface
    lane_change_cost: float = 2.0  # for leaving the route's lane
    insist_cost: float = 18.0  # for not letting in who has the duty to wait but is forecast to come
    closeness_cost: float = 4.0  # on the squared shortfall of free space around forecasts
    proposal_cost: float = 1.0  # on the negative log probability of a learned ranking (EgoProposal.decision_logit)


@dataclass(frozen=True)
class SolverConfig:
    """backend: "auto" (compiled kernel, or torch where there is none), "native", "torch", or a reference: "daqp",
    "clarabel".

    passes: linearisations of the lateral model per cycle. threads: of the compiled kernel. tolerance: of its stopping
    test. smoothing: 0 for the exact optimum; mu > 0 plans and differentiates on the central path (training only).
    """

    backend: str = "auto"
    passes: int = 2
    threads: int = 2
    tolerance: float = 1e-13
    smoothing: float = 0.0


@dataclass(frozen=True)
class PlannerConfig:
    """Configuration of `planner.plan.ConvexPlanner`."""

    horizon: Horizon = field(default_factory=Horizon)
    limits: MotionLimits = field(default_factory=MotionLimits)
    comfort: Comfort = field(default_factory=Comfort)
    margins: Margins = field(default_factory=Margins)
    risk: Risk = field(default_factory=Risk)
    worst_case: WorstCase = field(default_factory=WorstCase)
    safe_distances: SafeDistances = field(default_factory=SafeDistances)
    weights: CostWeights = field(default_factory=CostWeights)
    tracking: Tracking = field(default_factory=Tracking)
    decisions: Decisions = field(default_factory=Decisions)
    solver: SolverConfig = field(default_factory=SolverConfig)

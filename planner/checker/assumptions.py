"""The one table of assumptions about others (and about ego's own answer), with where each number comes from.

Read by the worst-case sets (`occupancy`), by RSS (`rss`, `rules.danger`), by the sight rules (`sight`) and by the rule
about where a tail may end (`rules.rest`). Categories are those of IEEE 2846-2022 (reasonably foreseeable assumptions
about other road users); a test changes every entry and demands that the checker's answer changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from planner.scene import AgentClass

RAW = -1
"""Stands for a class where there is none: an obstacle of the raw channel."""


def _bound(unit: str, category: str) -> Any:
    return field(metadata={"unit": unit, "category": category})


@dataclass(frozen=True)
class ClassBounds:
    """What is assumed of road users of one class. SI units, magnitudes.

    acceleration, braking (m/s^2): the most it speeds up or brakes, along its path. speed_max (m/s): not exceeded by
    accelerating. lateral_acceleration (m/s^2), lateral_deviation (m): sideways growth min(a t^2 / 2, deviation).
    curvature_max (1/m): of an arc it drives; 0 for who is free to turn anywhere.
    standing_speed (m/s): below it the object counts as standing. standing_acceleration (m/s^2),
    standing_deviation (m): growth min(a t^2 / 2, deviation) of a standing object.
    response_time (s): until it answers a dangerous situation. braking_min (m/s^2): how hard it brakes then at least;
    braking_correct (m/s^2): the same of a vehicle in the right lane towards an oncoming one. lateral_braking
    (m/s^2): how hard it ends a sideways motion at least. lateral_margin (m): how far it wanders within its lane.
    A zero says that the class does not do such a thing. source: where the numbers come from.
    """

    acceleration: float = _bound("m/s^2", "maximum longitudinal acceleration")
    braking: float = _bound("m/s^2", "maximum longitudinal deceleration")
    speed_max: float = _bound("m/s", "maximum longitudinal velocity")
    lateral_acceleration: float = _bound("m/s^2", "maximum lateral acceleration")
    lateral_deviation: float = _bound("m", "maximum lateral displacement while unanswered")
    curvature_max: float = _bound("1/m", "maximum heading rate per speed")
    standing_speed: float = _bound("m/s", "stationary road user")
    standing_acceleration: float = _bound("m/s^2", "stationary road user")
    standing_deviation: float = _bound("m", "stationary road user")
    response_time: float = _bound("s", "response time")
    braking_min: float = _bound("m/s^2", "minimum longitudinal deceleration")
    braking_correct: float = _bound("m/s^2", "minimum longitudinal deceleration, oncoming, correct lane")
    lateral_braking: float = _bound("m/s^2", "minimum lateral deceleration")
    lateral_margin: float = _bound("m", "lateral fluctuation margin")
    source: str = ""


_VEHICLE = (
    "braking: below the 8 m/s^2 worst case of RSS (ad-rss), at its minimum braking 4 plus 1, the usual emergency "
    "threshold of R157; acceleration: urban driving, below ad-rss 3.5; standing: CARLA's RSS integration likewise "
    "lets stationary cars stay; response 1 s: half of ad-rss's 2 s, R157's careful driver takes 0.75 s; minimum "
    "braking 4 and 3, lateral braking 0.8, margin 0.1: ad-rss; curvature: turning circle of the class"
)
_TWO_WHEELS = (
    "braking and acceleration of ordinary riders; sideways: lane position wanders more than a car's; response as "
    "ad-rss's ego 1 s; minimum braking 3: below the class's maximum; lateral braking, margin: ad-rss"
)
_WALKING = (
    "0.6 m/s^2 covers ordinary changes of walking speed; braking 2 m/s^2 and response 0.5 s: CARLA's RSS pedestrian; "
    "lateral braking as braking: a walker stops alike in every direction"
)
_RAW = (
    "measured without a class: accelerates like a car, strays like a two-wheeler, goes straight on or along its lane; "
    "what is seen to stand stays, because walls and poles are raw obstacles, too"
)

DEFAULT_BOUNDS: dict[AgentClass, ClassBounds] = {
    AgentClass.CAR: ClassBounds(1.5, 5.0, 25.0, 0.5, 0.5, 0.20, 0.5, 0.3, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1, _VEHICLE),
    AgentClass.TRUCK: ClassBounds(1.0, 5.0, 22.0, 0.5, 0.5, 0.12, 0.5, 0.2, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1, _VEHICLE),
    AgentClass.BUS: ClassBounds(1.0, 5.0, 22.0, 0.5, 0.5, 0.12, 0.5, 0.2, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1, _VEHICLE),
    AgentClass.MOTORCYCLE: ClassBounds(
        2.0, 6.0, 25.0, 0.6, 0.6, 0.20, 0.5, 0.3, 0.5, 1.0, 3.0, 3.0, 0.8, 0.1, _TWO_WHEELS
    ),
    AgentClass.BICYCLE: ClassBounds(
        1.0, 4.0, 10.0, 0.6, 0.6, 0.30, 0.5, 0.3, 0.4, 1.0, 3.0, 3.0, 0.8, 0.1, _TWO_WHEELS
    ),
    AgentClass.PEDESTRIAN: ClassBounds(0.6, 2.0, 4.0, 0.6, 1.0, 0.0, 0.3, 0.3, 0.4, 0.5, 2.0, 0.0, 2.0, 0.1, _WALKING),
    AgentClass.STATIC: ClassBounds(
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "does not move by itself"
    ),
}
RAW_BOUNDS = ClassBounds(1.5, 5.0, 25.0, 0.6, 0.6, 0.0, 0.5, 0.0, 0.0, 1.0, 3.0, 0.0, 0.8, 0.1, _RAW)


@dataclass(frozen=True)
class EgoBounds:
    """What RSS assumes of ego itself. Its acceleration until it responds is the plan's own, not an assumption.

    response_time (s): from a dangerous situation to ego's full answer, cycle, shared part and build-up included.
    braking_min (m/s^2): the answer to who is ahead or crosses; braking_correct (m/s^2): to an oncoming one while ego is
    on its own side. lateral_acceleration (m/s^2): how much more than planned it may drift until then;
    lateral_braking (m/s^2), lateral_margin (m): as in `ClassBounds`.
    source: where the numbers come from.
    """

    response_time: float = field(default=0.75, metadata={"unit": "s", "category": "response time"})
    braking_min: float = field(default=4.0, metadata={"unit": "m/s^2", "category": "minimum longitudinal deceleration"})
    braking_correct: float = field(
        default=3.0,
        metadata={"unit": "m/s^2", "category": "minimum longitudinal deceleration, oncoming, correct lane"},
    )
    lateral_acceleration: float = field(
        default=0.2, metadata={"unit": "m/s^2", "category": "maximum lateral acceleration"}
    )
    lateral_braking: float = field(default=0.8, metadata={"unit": "m/s^2", "category": "minimum lateral deceleration"})
    lateral_margin: float = field(default=0.1, metadata={"unit": "m", "category": "lateral fluctuation margin"})
    source: str = (
        "response 0.75 s: the careful driver of UN R157, and 0.3 s of shared plan plus building up 4 m/s^2; the rest: "
        "ad-rss"
    )


@dataclass(frozen=True)
class PhantomBounds:
    """What is assumed of road users nobody can see yet. SI units, magnitudes.

    walking_speed (m/s): of a pedestrian behind an occluder; walking_side (m): closer beside ego's way than this nobody
    is assumed to step out unseen, because then no street with parked cars could be driven; walking_impact (m/s): a
    hidden pedestrian must not be met faster than this. driving_speed (m/s), driving_response (s), driving_braking
    (m/s^2): of a vehicle on a lane that crosses ego's way, where it is out of sight: it gives way wherever it could
    still stop, for it sees ego as late as ego sees it. While ego's route goes straight on it has to wait in any case
    (`Assumptions.priority_turn`).
    source: where the numbers come from.
    """

    walking_speed: float = field(default=1.4, metadata={"unit": "m/s", "category": "occluded road user, speed"})
    walking_side: float = field(default=2.0, metadata={"unit": "m", "category": "occluded road user, position"})
    walking_impact: float = field(default=2.8, metadata={"unit": "m/s", "category": "occluded road user, severity"})
    driving_speed: float = field(default=8.3, metadata={"unit": "m/s", "category": "occluded road user, speed"})
    driving_response: float = field(
        default=1.0, metadata={"unit": "s", "category": "occluded road user, response time"}
    )
    driving_braking: float = field(
        default=4.0, metadata={"unit": "m/s^2", "category": "occluded road user, minimum deceleration"}
    )
    source: str = (
        "walking 5 km/h and 10 km/h of impact: Euro NCAP CPNCO and its rating; 2 m: what allows 48 km/h, the "
        "urban limit, past parked cars; driving 30 km/h: an urban side street; "
        "response and braking as a visible car's"
    )


@dataclass(frozen=True)
class Assumptions:
    """Everything the checker assumes about others. The only place where such a number is written.

    bounds: per class; raw: of raw obstacles, which have none. ego, phantom: see their classes.
    turn_hold, turn_fade (s): a turning vehicle keeps its turn rate this long, then
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
    claim_time (s), claim_angle (rad): who will be there within this time, across ego's heading by more than the
    angle, needs the place where a tail would come to rest.
    paths_max: lane paths followed per object. pieces: convex pieces a set along a path is cut into.
    """

    bounds: dict[AgentClass, ClassBounds] = field(default_factory=lambda: dict(DEFAULT_BOUNDS))
    raw: ClassBounds = RAW_BOUNDS
    ego: EgoBounds = EgoBounds()
    phantom: PhantomBounds = PhantomBounds()
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
    claim_time: float = 6.0
    claim_angle: float = 0.6
    paths_max: int = 4
    pieces: int = 6

    def of(self, kind: int) -> ClassBounds:
        """The bounds of an AgentClass value, or of `RAW`."""
        return self.raw if kind == RAW else self.bounds[AgentClass(kind)]

    def column(self, name: str, kind: np.ndarray) -> np.ndarray:
        """One entry of `ClassBounds` for each of the AgentClass values, or `RAW`, ``[A]``."""
        return self._columns[name][kind]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        """Every number of the bounds by AgentClass value; `RAW`, as -1, finds the last place."""
        rows = [self.bounds[c] for c in sorted(AgentClass)] + [self.raw]
        names = [f.name for f in fields(ClassBounds) if f.name != "source"]
        return {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in names}

"""Settings of the raw-obstacle channel. SI units."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DoorConfig:
    """When a sweep is believed.

    age_max, future_max (s): against the receiver's clock. returns_min: rays with a return outside the own vehicle.
    rings_min: rings with such returns. covered_min: share of all directions (10 degree sectors) with them.
    same_max: share of points that may equal the last sweep's to the last bit before it counts as frozen.
    """

    age_max: float = 0.15
    future_max: float = 0.02
    returns_min: int = 3000
    rings_min: int = 24
    covered_min: float = 0.5
    same_max: float = 0.5


@dataclass(frozen=True)
class GroundConfig:
    """Ground, grown outwards from the wheels in polar cells.

    sectors: number of them. step (m): radial width of a cell. step_up, step_down (m): jump from cell to cell that is
    still ground; what lies lower is hardly ever anything else. slope: rise or fall per metre that is still ground, over
    at most slope_reach (m) without a return.
    """

    sectors: int = 120
    step: float = 1.5
    step_up: float = 0.12
    step_down: float = 0.45
    slope: float = 0.06
    slope_reach: float = 4.0


@dataclass(frozen=True)
class ClusterConfig:
    """height_min (m), height_slope: a return higher above the ground than height_min + height_slope * range is an
    obstacle; height_max (m): above it nothing stands in the way. cell (m): returns in touching cells belong together,
    from sparse_from (m) on with one cell between along the line of sight.
    long_max, wide_max (m): a cluster with a larger box is no single object; it is cut into tiles of `tile` (m).
    points_min: returns that make a cluster. count_max: nearest boxes that are reported.
    """

    height_min: float = 0.30
    height_slope: float = 0.004
    height_max: float = 2.2
    cell: float = 0.35
    sparse_from: float = 20.0
    long_max: float = 14.0
    wide_max: float = 3.1
    tile: float = 2.0
    points_min: int = 2
    count_max: int = 192


@dataclass(frozen=True)
class TrackConfig:
    """memory: sweeps over which motion is measured. reach (m): by which boxes may miss each other and still be the
    same; speed_new (m/s): and how much more per second while a velocity is not known, 0.4 of it when it is.
    agree (m): by which the two ends of a box may have moved differently for its velocity to be known.
    moved (m): both ends have gone at least so far in one direction: then it moves, however much looks as before.
    known_after: sweeps before a velocity is known; known_within (m): range up to which it is. persist: share of a
    tile's cells that were there before, for it to be known at rest. speed_max (m/s): faster is a wrong association.
    vehicle_max (m): what is longer is no vehicle, so its ends cannot tell that it moves.
    """

    memory: int = 5
    reach: float = 0.5
    speed_new: float = 12.0
    agree: float = 0.6
    moved: float = 0.4
    known_after: int = 4
    known_within: float = 35.0
    persist: float = 0.75
    speed_max: float = 45.0
    vehicle_max: float = 26.0


@dataclass(frozen=True)
class RawObstacleConfig:
    """range_max (m): nothing is reported beyond. sectors: of the free sight. own_margin (m): returns closer than this
    to the own vehicle's outline, and below own_height (m), are its own."""

    range_max: float = 60.0
    sectors: int = 180
    own_margin: float = 0.15
    own_height: float = 2.0
    door: DoorConfig = field(default_factory=DoorConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    track: TrackConfig = field(default_factory=TrackConfig)

"""What can be driven when no candidate is: the stops, in the order in which they are tried."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from planner import fallback
from planner.checker import CheckReport
from planner.scene import EgoState, Trajectory, VehicleParameters

_ASIDE = 0.6  # m; within a lane 3.2 m wide


@dataclass(frozen=True)
class Option:
    """A motion that may be driven. source: "candidate", "tail" or "braking". report: None until checked.
    index: of the candidate; own_stop: its tail was replaced by one of the supervisor's.
    """

    source: str
    name: str
    trajectory: Trajectory
    tail: Trajectory
    report: CheckReport | None = None
    index: int | None = None
    own_stop: bool = False

    @property
    def worst_margin(self) -> float:
        """Of the report (m)."""
        return -math.inf if self.report is None else self.report.worst_margin


def stops(
    ego: EgoState,
    vehicle: VehicleParameters,
    braking: float,
    kept: Trajectory | None,
    spare: Trajectory | None,
    *,
    emergency: bool = False,
    standing: bool = False,
    bear_away: bool = True,
) -> Iterator[Option]:
    """Stops from the ego state (float64, finite), the preferred one first; at least one always comes.

    kept: the kept tail as of now; spare: the tail of a candidate that was accepted but is not driven. emergency: the
    hardest stop along the kept tail comes first. standing: ego stands and shall, wherever the tail ends.
    bear_away: stops beside the kept tail's way come last.
    """
    stop = lambda source, name, motion: Option(source, name, motion, motion)  # noqa: E731
    if standing:
        yield stop("tail", "standing", fallback.maximum_braking(ego, vehicle))
    if emergency and kept is not None:
        yield stop("braking", "full braking along the kept tail", fallback.maximum_braking(ego, vehicle, kept))
    if kept is not None:
        yield stop("tail", "kept tail", kept)
    if spare is not None:
        yield stop("tail", "tail of an accepted plan", spare)
    if kept is not None:
        yield stop("braking", "braking along the kept tail", fallback.brake_in_path(ego, kept, vehicle, braking))
        yield stop("braking", "full braking", fallback.maximum_braking(ego, vehicle, kept))
    yield stop("braking", "full braking, steering held", fallback.maximum_braking(ego, vehicle))
    yield stop("braking", "full braking, held to the end", fallback.maximum_braking(ego, vehicle, kept, held=True))
    if kept is not None and bear_away:
        for side, aside in (("left", _ASIDE), ("right", -_ASIDE)):
            yield stop("braking", f"full braking, bearing {side}", fallback.maximum_braking(ego, vehicle, kept, aside))


def last_known(scene: object, vehicle: VehicleParameters) -> Trajectory:
    """Full braking from ego's motion in a scene that is otherwise unusable; standing still, the strongest request to
    stop, if that is unusable too. Never raises.
    """
    try:
        v, a, k = (float(getattr(scene.ego, n)) for n in ("v", "a", "curvature"))  # type: ignore[attr-defined]
        sane = all(map(math.isfinite, (v, a, k))) and abs(v) <= 2 * vehicle.speed_max and abs(k) <= 1.0 and abs(a) <= 30
        if sane:
            return fallback.maximum_braking(EgoState.at_origin(v=v, a=a, curvature=k), vehicle)
    except Exception:
        pass
    return fallback.maximum_braking(EgoState.at_origin(v=0.0), vehicle)

"""What can be driven when no candidate is: the stops, in the order in which they are tried."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from planner import fallback
from planner.checker import CheckReport
from planner.scene import EgoState, Trajectory, VehicleParameters
from planner.supervision.own_stop import LEADS

_ASIDE = 0.6  # m; within a lane 3.2 m wide
_AS_LATE = 0.25  # s: contacts so close together are equally late


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

    @property
    def contact(self) -> float:
        """When (s) somebody may touch ego first, by the report; inf for never."""
        return math.inf if self.report is None else self.report.contact

    @property
    def contact_speed(self) -> float:
        """Ego's speed (m/s) then."""
        time, v = self.trajectory.time.double(), self.trajectory.v.double()
        return float(v[torch.searchsorted(time, self.contact).clamp(max=len(v) - 1)])


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
    onwards: Trajectory | None = None,
) -> Iterator[Option]:
    """Stops from the ego state (float64, finite), the preferred one first; at least one always comes.

    kept: the kept tail as of now; spare: the tail of a candidate that was accepted but is not driven. emergency: the
    hardest stop along the kept tail comes first. standing: ego stands and shall, wherever the tail ends.
    bear_away: stops beside the kept tail's way. onwards: a stop that begins later, along the way of a candidate.
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
    if onwards is not None:
        yield stop("tail", "driving on, then full braking", onwards)


def least_bad(options: list[Option]) -> Option:
    """Of stops of which none passes. Raises ValueError without any.

    Where some keep to the road and clear of all that is likely, of those the one that the worst case touches last: with
    every cycle less of it is left, and a stop beside somebody who comes over is no better than passing; of equally late
    ones the slowest then. Otherwise, and where none is touched, the best margin.
    """
    clear = [option for option in options if option.report is not None and keeps_clear(option.report)]
    last = max((option.contact for option in clear), default=-math.inf)
    late = [option for option in clear if option.contact >= last - _AS_LATE]
    if math.isfinite(last):
        return min(late, key=lambda option: option.contact_speed)
    return max(late or options, key=lambda option: option.worst_margin)


def keeps_clear(report: CheckReport) -> bool:
    """Whether the motion touches nobody's likely forecast, and nothing else is wrong but where its tail leads."""
    about = (*LEADS, "nominal_object")
    return report.likely_contact == math.inf and all(v.rule in about for v in report.violations)


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

"""What became of a drive with a fault: common criteria, row-specific criteria, detection. Compared with its twin, the
same drive without the fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eval.metrics.collision import find_collisions
from eval.metrics.drivable_area import TOLERANCE, corner_excess
from eval.metrics.drive import Drive
from eval.simulation.trace import Trace
from eval.studies.fault_base import Fault
from eval.studies.fault_models import MODELS
from eval.studies.physics import best_braking
from perception.recording import Recording

DESIGN_BIAS = 0.2  # m: position errors up to this are inside the tube the planner is designed for
LATE_BUDGET = 0.1  # s: the supervisor's deadline
_ALIKE = 0.1  # m/s: two impacts that differ by less are the same; a step of the simulation
_HELD = ("MINIMAL_RISK", "EMERGENCY")


@dataclass
class Judged:
    """A drive beside its twin. k: first step of the fault."""

    fault: Fault
    recording: Recording
    trace: Trace
    twin: Trace

    @property
    def k(self) -> int:
        return min(int(np.ceil(self.fault.onset / self.trace.dt - 1e-6)), len(self.trace.time) - 1)

    @cached_property
    def contacts(self) -> list[Any]:
        return [c for c in find_collisions(Drive(self.trace, self.recording)) if c.at_fault]

    @cached_property
    def off_road(self) -> float:
        """How far (m) ego gets off the drivable area from the onset on, where the twin stays on it; 0 within the
        metric's tolerance."""
        here, there = (corner_excess(Drive(t, self.recording))[self.k :].max() for t in (self.trace, self.twin))
        return float(here) if here >= TOLERANCE > there else 0.0

    @cached_property
    def flagged(self) -> np.ndarray:
        """``[T]`` bool: something other than a normally accepted plan is driven, or the state is not NORMAL."""
        return flags(self.trace)

    @cached_property
    def states(self) -> list[str]:
        return [str(step.get("state", "")) for step in self.trace.steps]

    def detected(self, wanted: np.ndarray | None = None) -> float | None:
        """s from the onset to the first step that is flagged (or wanted) and at which the twin does something else, or
        does it for another reason; None if there is none."""
        flagged = self.flagged if wanted is None else wanted
        new = np.flatnonzero((flagged & (_doing(self.trace) != _doing(self.twin)))[self.k :])
        return float(new[0] * self.trace.dt) if len(new) else None

    def held(self) -> float | None:
        """s from the onset to MINIMAL_RISK or EMERGENCY."""
        return self.detected(np.array([state in _HELD for state in self.states]))

    def braking(self, trace: Trace) -> float:
        """Hardest braking (m/s^2) from the onset on."""
        return float(-trace.a[self.k :].min(initial=0.0))

    def off_line(self, trace: Trace) -> float:
        """Largest distance (m) of the rear axle from the route's centreline from the onset on."""
        import shapely

        line = shapely.LineString(self.recording.route_xy)
        return float(shapely.distance(line, shapely.points(trace.pose[self.k :, :2])).max())


def flags(trace: Trace) -> np.ndarray:
    """``[T]`` bool: not a normally accepted plan, or a state other than NORMAL."""
    quiet = ("NORMAL", "UNSUPERVISED", "CHECKED", "")
    state = np.array([str(step.get("state", "")) not in quiet for step in trace.steps])
    return state | np.array([source != "candidate" for source in trace.source])


def _doing(trace: Trace) -> np.ndarray:
    """``[T]``: what is driven in which state and, without its numbers, why."""
    whys = (reason.partition(":")[0] for reason in trace.reason)
    states = (str(step.get("state", "")) for step in trace.steps)
    return np.array(["|".join(parts) for parts in zip(trace.source, states, whys)])


Criterion = Callable[[Judged], tuple[bool, str]]


def _no_collision(d: Judged) -> tuple[bool, str]:
    return not d.contacts, "no collision at fault"


def _missed(d: Judged) -> tuple[bool, str]:
    if d.fault.size > 0.5:
        return _no_collision(d)
    hardest, allowed = d.braking(d.trace), max(4.0, d.braking(d.twin))
    return hardest <= allowed + 0.05, f"braking {hardest:.1f} of {allowed:.1f} m/s2"


def _ghost(d: Judged) -> tuple[bool, str]:
    if d.fault.size > 0.15:
        return _no_collision(d)
    hardest, allowed = d.braking(d.trace), max(2.0, d.braking(d.twin))
    return hardest <= allowed + 0.05, f"braking {hardest:.1f} of {allowed:.1f} m/s2"


def _bias(d: Judged) -> tuple[bool, str]:
    if abs(d.fault.size) <= DESIGN_BIAS or d.fault.kind != "position_bias":
        return _no_collision(d)
    return _within(d.detected(), 0.5, "flag")


def _frozen(d: Judged) -> tuple[bool, str]:
    found, held = d.detected(), d.held()
    ok = found is not None and found <= 0.2 and (d.fault.size < 0.5 or (held is not None and held <= 0.5))
    return ok, f"found {_s(found)} (0.2 s), held {_s(held)} (0.5 s)"


def _late(d: Judged) -> tuple[bool, str]:
    if d.fault.size <= LATE_BUDGET:
        return _no_collision(d)
    return _within(d.detected(), d.trace.dt, "tail")


def _refused(d: Judged) -> tuple[bool, str]:
    """Every broken message is answered by something other than a plan made from it; what is driven is finite."""
    finite = bool(np.isfinite(d.trace.pose).all() and np.isfinite(d.trace.a).all())
    return finite and not d.contacts, "finite, no collision at fault"


def _within(time: float | None, limit: float, what: str) -> tuple[bool, str]:
    return time is not None and time <= limit + 1e-9, f"{what} {_s(time)} ({limit:g} s)"


def _map(d: Judged) -> tuple[bool, str]:
    """A shift of more than 0.5 m is found within 1 s, and ego stays on the road with a smaller one, too."""
    wanted = _within(d.detected(), 1.0, "flag") if abs(d.fault.size) > 0.5 else _no_collision(d)
    return _on_the_road(d, wanted)


def _localisation(d: Judged) -> tuple[bool, str]:
    return _on_the_road(d, _within(d.held(), 1.0, "held"))


def _drift(d: Judged) -> tuple[bool, str]:
    return _on_the_road(d, _no_collision(d))


def _on_the_road(d: Judged, rest: tuple[bool, str]) -> tuple[bool, str]:
    return (False, f"{rest[1]}, {d.off_road:.1f} m off the road") if d.off_road else rest


def _stopped(d: Judged) -> tuple[bool, str]:
    """The kept tail is driven in the same cycle; a planner that stays away is followed by a stop."""
    found = d.detected()
    left = float(d.trace.time[-1]) - d.fault.onset
    rests = d.fault.size < left or left < 4.0 or bool(d.trace.v[-1] < 0.3)
    return found is not None and found <= 1e-9 and rests, f"tail {_s(found)} (same cycle)" + (
        "" if rests else ", moves on"
    )


def _checked(d: Judged) -> tuple[bool, str]:
    """Whatever the solver claims, every plan that is driven as a plan carries a tail that the checker accepted."""
    plans = np.array([source == "candidate" for source in d.trace.source])
    bad = int((plans & ~d.trace.tail_accepted)[d.k :].sum())
    return bad == 0, f"{bad} plans driven unaccepted"


def _blackout(d: Judged) -> tuple[bool, str]:
    found, off = d.held(), d.off_line(d.trace) - d.off_line(d.twin)
    ok = found is not None and found <= 0.3 and off <= 0.3
    return ok, f"held {_s(found)} (0.3 s), {off:.2f} m off its way (0.3)"


def _road(d: Judged) -> tuple[bool, str]:
    """Nobody is hit whom full braking from the first sign on, with what this road gives, would have spared."""
    hazard = d.recording.metadata.get("hazard", {})
    if not d.contacts or d.contacts[0].track_id != hazard.get("track_id", -1):
        return _no_collision(d)
    road = MODELS[d.fault.kind](d.fault).vehicle(d.recording.vehicle)
    best = best_braking(d.recording, hazard["track_id"], hazard["time"], road=road, driven=d.trace)
    hit = d.contacts[0].ego_speed
    ok = best.unavoidable and hit <= best.impact_speed + _ALIKE
    return ok, f"hit at {hit:.1f} m/s, full braking from the first sign: " + (
        f"{best.impact_speed:.1f} m/s" if best.unavoidable else "none hit"
    )


CRITERIA: dict[str, Criterion] = {
    "missed": _missed, "ghost": _ghost, "position_bias": _bias, "speed_bias": _bias, "yaw_bias": _bias,
    "frozen": _frozen, "late": _late, "corrupt": _refused, "bad_command": _refused, "map_shift": _map,
    "jump": _localisation, "drift": _drift, "wrong_success": _checked, "no_solution": _stopped, "dead": _stopped,
    "total_blackout": _blackout, "friction": _road, "downhill": _road, "brake_fade": _road,
}  # fmt: skip


def judge_fault(judged: Judged) -> dict[str, Any]:
    """The facts of one drive; plain values.

    survived: nobody hit by ego's fault, on the road, the vehicle's envelope kept, every number finite. passed: the
    row's own criterion. off_road (m): how far off the road where the twin stays on it. margin (m): the smallest gap
    from the onset on, minus the impact's speed (m/s) where there was contact.
    """
    trace, twin = judged.trace, judged.twin
    hit = judged.contacts[0] if judged.contacts else None
    passed, why = CRITERIA.get(judged.fault.kind, _no_collision)(judged)
    gap = float(trace.min_gap[judged.k :].min())
    return {
        "at_fault": len(judged.contacts),
        "twin_at_fault": sum(c.at_fault for c in find_collisions(Drive(twin, judged.recording))),
        "impact_speed": hit.ego_speed if hit else 0.0,
        "margin": gap - (hit.ego_speed if hit else 0.0),
        "detection": judged.detected(),
        "without_tail": int((~trace.tail_accepted)[judged.k :].sum()),
        "unlogged": int(sum(s != "candidate" and not r for s, r in zip(trace.source, trace.reason))),
        "envelope": envelope_kept(trace, judged.recording),
        "off_road": judged.off_road,
        "survived": hit is None and not judged.off_road and envelope_kept(trace, judged.recording),
        "passed": passed,
        "criterion": why,
        "braking": judged.braking(trace),
    }


def envelope_kept(trace: Trace, recording: Recording) -> bool:
    """Acceleration, jerk and curvature that were driven, and all numbers, are inside the vehicle's limits."""
    v = recording.vehicle
    numbers = (trace.pose, trace.v, trace.a, trace.curvature)
    if not all(np.isfinite(n).all() for n in numbers):
        return False
    # Coming to rest ends the braking at once; that is no command.
    moving = trace.v[1:] > 1e-3
    jerk = np.abs(np.diff(trace.a))[moving] / trace.dt
    turn = np.abs(np.diff(trace.curvature)) / trace.dt
    return bool(
        (-trace.a <= v.braking_max + 1e-6).all() and (trace.a <= v.acceleration_max + 1e-6).all()
        and (jerk <= v.jerk_max + 1e-6).all() and (turn <= v.curvature_rate_max + 1e-6).all()
    )  # fmt: skip


def _s(time: float | None) -> str:
    return "never" if time is None else f"{time:.1f} s"

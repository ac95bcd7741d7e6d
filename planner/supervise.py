"""The page: which motion is driven this cycle, and why.

scene sound? plan in time? -> candidates in order, the first the checker accepts is driven and its tail kept
-> none: the kept tail, where it still passes -> otherwise the better of braking along it and braking fully.
Rejecting is always possible because the last accepted tail is always there.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from planner import fallback
from planner.checker import CheckerConfig, CheckReport, SceneSets, check_prepared, prepare
from planner.kept_tail import KeptTail
from planner.result import PlanResult, PlanStatus
from planner.scene import EgoState, Trajectory, VectorScene, VehicleParameters
from planner.supervisor_state import State, StateConfig, StateMachine


@dataclass(frozen=True)
class SupervisorConfig:
    """deadline (s): a plan that took longer is not driven. period (s): of the cycle, for dead reckoning.
    max_checked: candidates checked per cycle; check_budget (s): no further candidate is begun after it.
    braking (m/s^2): of the stop along the kept tail's way, when the tail itself no longer passes.
    """

    deadline: float = 0.1
    period: float = 0.1
    max_checked: int = 6
    check_budget: float = 0.03
    braking: float = 5.0
    checker: CheckerConfig = field(default_factory=CheckerConfig)
    states: StateConfig = field(default_factory=StateConfig)


@dataclass(frozen=True)
class SupervisedPlan:
    """What is driven, in the frame of the scene (of the dead-reckoned ego if the scene was rejected).

    source: "candidate", "tail" or "braking". reason: why not the first candidate; empty in the normal case.
    state: of the supervisor. candidate_index: into PlanResult.candidates. report: on what is driven, None if
    it could not be checked. tail_accepted: what is driven carries a tail that passes the checker.
    rejected: (decision, report) of every candidate that was refused, and of refused fallbacks.
    """

    trajectory: Trajectory
    tail: Trajectory
    source: str
    reason: str
    state: str
    candidate_index: int | None
    report: CheckReport | None
    tail_accepted: bool
    rejected: tuple[tuple[str, CheckReport], ...] = ()


class Supervisor:
    """Keeps the last accepted tail and the state between cycles; one per vehicle."""

    def __init__(self, vehicle: VehicleParameters | None = None, config: SupervisorConfig | None = None) -> None:
        self.vehicle, self.config = vehicle or VehicleParameters(), config or SupervisorConfig()
        self._kept: KeptTail | None = None
        self._states = StateMachine(self.config.states)

    @property
    def state(self) -> State:
        """The present state."""
        return self._states.state

    def reset(self) -> None:
        """Forget everything: a new drive begins."""
        self._kept, self._states = None, StateMachine(self.config.states)

    def supervise(
        self, scene: VectorScene, plan: PlanResult | None, *, elapsed: float, failure: str = ""
    ) -> SupervisedPlan:
        """Decide this cycle. Never raises for anything in the scene or the plan.

        elapsed (s): from the scene's time to now, planning included. failure: the planner's error, if any.
        """
        sets, problem = self._prepare(scene)
        if sets is None:
            return self._blind(scene, f"scene rejected: {problem}")
        if self._kept is not None:
            self._kept = self._kept.seen(scene)
        rejected: list[tuple[str, CheckReport]] = []
        reason = self._unusable(plan, elapsed, failure)
        chosen = None if reason or plan is None else self._first_accepted(sets, plan, rejected)
        if chosen is not None and plan is not None and not self._states.holds_back(self._tail_passes(scene, sets)):
            index, report = chosen
            candidate = plan.candidates[index]
            assert candidate.trajectory is not None
            assert candidate.tail is not None
            self._kept = KeptTail.keep(candidate.tail, scene)
            state = self._states.accepted()
            why = f"candidate 0 rejected: {rejected[0][1].reason}" if rejected else ""
            return SupervisedPlan(
                candidate.trajectory, candidate.tail, "candidate", why, state, index, report, True, tuple(rejected)
            )
        if chosen is not None:
            self._states.health_check()
            reason = "recovering: plan accepted, waiting for a steady run of them"
        elif not reason:
            reason = f"no candidate accepted: {rejected[0][1].reason}" if rejected else "no candidate solved"
            self._states.failed_check()
        else:
            self._states.failed_check()
        return self._fall_back(scene, sets, reason, rejected)

    # -- judging the inputs --------------------------------------------------------------
    def _prepare(self, scene: VectorScene) -> tuple[SceneSets | None, str]:
        try:
            scene.validate()
            return prepare(scene.double(), self.vehicle, self.config.checker), ""
        except Exception as error:  # whatever a broken scene raises, the vehicle must be driven on
            return None, f"{type(error).__name__}: {error}"

    def _unusable(self, plan: PlanResult | None, elapsed: float, failure: str) -> str:
        """Why the plan as a whole cannot be used; empty if it can."""
        if failure:
            return f"planner failed: {failure}"
        if plan is None:
            return "no plan"
        if not elapsed <= self.config.deadline:
            return f"deadline: {elapsed * 1e3:.0f} ms of {self.config.deadline * 1e3:.0f} ms"
        return ""

    def _first_accepted(
        self, sets: SceneSets, plan: PlanResult, rejected: list[tuple[str, CheckReport]]
    ) -> tuple[int, CheckReport] | None:
        begin, checked = time.perf_counter(), 0
        for index, candidate in enumerate(plan.candidates):
            if candidate.status is not PlanStatus.SOLVED or candidate.trajectory is None or candidate.tail is None:
                continue
            spent = time.perf_counter() - begin
            if checked >= self.config.max_checked or (checked and spent > self.config.check_budget):
                break
            checked += 1
            report = self._check(sets, candidate.trajectory, candidate.tail)
            if report.accepted:
                return index, report
            rejected.append((candidate.decision, report))
        return None

    def _check(self, sets: SceneSets, trajectory: Trajectory, tail: Trajectory, kept: bool = False) -> CheckReport:
        try:
            return check_prepared(sets, trajectory, tail, self.vehicle, self.config.checker, kept)
        except Exception as error:  # a malformed plan is a rejected plan
            return CheckReport.refused(f"{type(error).__name__}: {error}")

    def _tail_passes(self, scene: VectorScene, sets: SceneSets) -> bool:
        if not self._states.latched or self._kept is None:
            return False
        tail = self._kept.now(scene)
        return self._check(sets, tail, tail, kept=True).accepted

    # -- falling back --------------------------------------------------------------------
    def _fall_back(
        self, scene: VectorScene, sets: SceneSets, reason: str, rejected: list[tuple[str, CheckReport]]
    ) -> SupervisedPlan:
        """Kept tail, then braking along its way, then full braking: the first that passes, else the best."""
        ego = scene.ego.double()
        options: list[tuple[str, str, Trajectory]] = []
        tail = self._kept.now(scene) if self._kept is not None else None
        if tail is not None:
            options.append(("tail", "kept tail", tail))
            options.append(
                ("braking", "braking along the kept tail",
                 fallback.brake_in_path(ego, tail, self.vehicle, self.config.braking))
            )  # fmt: skip
            options.append(("braking", "full braking", fallback.maximum_braking(ego, self.vehicle, tail)))
        options.append(("braking", "full braking, steering held", fallback.maximum_braking(ego, self.vehicle)))
        best: tuple[str, str, Trajectory, CheckReport] | None = None
        for source, name, motion in options:
            report = self._check(sets, motion, motion, kept=source == "tail")
            if report.accepted:
                best = (source, name, motion, report)
                break
            rejected.append((name, report))
            if best is None or report.worst_margin > best[3].worst_margin:
                best = (source, name, motion, report)
        assert best is not None
        source, name, motion, report = best
        if source == "braking":
            # What is driven from now on is this stop; the old tail's way is no longer where ego goes.
            self._kept = KeptTail.keep(motion, scene)
        if not report.accepted:
            reason += f"; nothing passes, best margin: {name} ({report.reason})"
        elif source == "braking" and tail is not None:
            reason += f"; kept tail no longer passes, {name}"
        elif source == "braking" and abs(float(scene.ego.v)) > 0.2:
            reason += f"; nothing kept, {name}"
        state = self._states.fell_back(emergency=source == "braking" and float(scene.ego.v) > 0.2)
        return SupervisedPlan(motion, motion, source, reason, state, None, report, report.accepted, tuple(rejected))

    def _blind(self, scene: object, reason: str) -> SupervisedPlan:
        """No usable scene: the kept tail from where it should have brought ego by now; unchecked."""
        self._states.failed_check()
        if self._kept is not None:
            self._kept = self._kept.dead_reckoned(self.config.period)
            state = self._states.fell_back(emergency=False)
            motion = self._kept.in_own_frame()
            return SupervisedPlan(motion, motion, "tail", reason, state, None, None, False)
        motion = fallback.maximum_braking(_last_known(scene), self.vehicle)
        state = self._states.fell_back(emergency=True)
        return SupervisedPlan(motion, motion, "braking", reason + "; nothing kept", state, None, None, False)


def _last_known(scene: object) -> EgoState:
    """Ego's motion from a scene that is otherwise unusable; at rest, the strongest request to stop, if that is too."""
    try:
        v, a, k = (float(getattr(scene.ego, n)) for n in ("v", "a", "curvature"))  # type: ignore[attr-defined]
        known = all(map(math.isfinite, (v, a, k)))
    except Exception:
        known = False
    return EgoState.at_origin(v=v, a=a, curvature=k) if known else EgoState.at_origin(v=0.0)

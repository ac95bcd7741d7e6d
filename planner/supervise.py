"""The page: which motion is driven this cycle, and why.

scene sound? plan in time? -> candidates in order, the first the checker accepts is driven and its tail kept
-> none: the kept tail, where it still passes -> otherwise the better of braking along it and braking fully.
Rejecting is always possible because the last accepted tail is always there. What the states change is in
`planner.supervision.supervisor_state`: in DEGRADED candidates must be slower and farther
away, below it they are not driven.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from planner.checker import CheckerConfig, CheckReport, SceneSets, check_prepared, prepare
from planner.result import PlanResult, PlanStatus
from planner.scene import RawObstacles, Trajectory, VectorScene, VehicleParameters
from planner.supervision.kept_tail import Certificate, KeptTail
from planner.supervision.last_resort import Option, last_known, least_bad, stops
from planner.supervision.own_stop import only_the_tail, stops_along
from planner.supervision.restrictions import restricted_check, restricted_scene, slippery, slows_down
from planner.supervision.scene_door import SceneDoor, hear, plan_problem
from planner.supervision.supervisor_state import (
    Cycle,
    Level,
    Outcome,
    Restrictions,
    State,
    StateConfig,
    StateMachine,
    Transition,
)
from planner.supervision.watchdog import Watchdog

WIDENING_MAX = 4.0
_LOG = logging.getLogger("dualdrive.supervisor")


@dataclass(frozen=True)
class SupervisorConfig:
    """deadline (s): a plan that took longer is not driven. period (s): of the cycle, for dead reckoning.
    max_checked: candidates checked per cycle; check_budget (s): no further candidate is begun after it.
    braking (m/s^2): of the stop along the kept tail's way, when the tail itself no longer passes.
    own_stops (s): where nothing but a candidate's tail is refused, stops that begin then along its way are tried.
    checker: its limits. states: entry, exit, hysteresis. degraded: what DEGRADED changes.
    """

    deadline: float = 0.1
    period: float = 0.1
    max_checked: int = 6
    check_budget: float = 0.03
    braking: float = 5.0
    own_stops: tuple[float, float] = (0.3, 1.2)
    checker: CheckerConfig = field(default_factory=CheckerConfig)
    states: StateConfig = field(default_factory=StateConfig)
    degraded: Restrictions = field(default_factory=Restrictions)


@dataclass(frozen=True)
class SupervisedPlan:
    """What is driven, in the frame of the scene (of the dead-reckoned ego if the scene was rejected).

    source: "candidate", "tail" or "braking". reason: why not the first candidate; empty in the normal case.
    state: of the supervisor, after this cycle. candidate_index: into PlanResult.candidates. report: on what is driven,
    None if it could not be checked. tail_accepted: what is driven carries a tail that passes the checker.
    rejected: (decision, report) of every candidate that was refused, and of refused fallbacks.
    plan_accepted: a candidate passed, driven or not.
    transitions: changes of state in this cycle. secured: ego stands and must stay so (brake held, hazard lights).
    certificate: of the tail that is kept now; None if none is.
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
    plan_accepted: bool = False
    transitions: tuple[Transition, ...] = ()
    secured: bool = False
    certificate: Certificate | None = None


@dataclass
class _Now:
    """One cycle's working data. tight: sets and settings for candidates. onwards: the first candidate of which only the
    tail was refused.
    """

    scene: VectorScene
    sets: SceneSets
    checker: CheckerConfig
    tight: tuple[SceneSets, CheckerConfig]
    level: Level
    at_rest: bool
    rejected: list[tuple[str, CheckReport]] = field(default_factory=list)
    onwards: Trajectory | None = None
    transitions: list[Transition] = field(default_factory=list)


class Supervisor:
    """Keeps the last accepted tail and the state between cycles; one per vehicle."""

    def __init__(
        self,
        vehicle: VehicleParameters | None = None,
        config: SupervisorConfig | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.vehicle, self.config = vehicle or VehicleParameters(), config or SupervisorConfig()
        self.watchdog = watchdog or Watchdog()
        self.reset()

    @property
    def state(self) -> State:
        """The present state."""
        return self._states.state

    def reset(self) -> None:
        """Forget everything: a new drive begins."""
        self._kept: KeptTail | None = None
        self._borne_away = False  # by the kept stop; once is enough
        self._able = self.vehicle  # what the road leaves of it
        self._states = StateMachine(self.config.states)
        self._door = SceneDoor()

    def planning_scene(self, scene: VectorScene) -> VectorScene:
        """The scene as the planner shall see it in the present state. Never raises: a broken scene is handed on."""
        try:
            return restricted_scene(scene, *self._restriction(scene)) if self.state is not State.NORMAL else scene
        except Exception:
            return scene

    def supervise(
        self,
        scene: VectorScene,
        plan: PlanResult | None,
        *,
        elapsed: float,
        failure: str = "",
        raw: RawObstacles | None = None,
        health: Iterable[Any] = (),
        widening: float = 1.0,
        grip: float = 1.0,
        probation: str = "",
    ) -> SupervisedPlan:
        """Decide this cycle. Never raises for anything in scene, plan, raw obstacles or verdicts.

        elapsed (s): from the scene's time to now, planning included. failure: the planner's error, if any.
        raw: the second perception channel; None where there is none. health: `MonitorVerdict`s; the worst one counts.
        widening: factor >= 1 on the checker's sets, from the coverage monitor. grip: share of the vehicle's grip that
        the road gives, from the grip monitor; nothing beyond it is accepted or driven. probation: why accepted plans
        are not driven yet, if so.
        """
        self._able = slippery(self.vehicle, grip)
        try:
            return self._supervise(scene, plan, elapsed, failure, raw, health, widening, probation)
        except Exception as error:
            return self._blind(scene, f"supervisor failed: {type(error).__name__}: {error}")

    def _supervise(
        self,
        scene: VectorScene,
        plan: PlanResult | None,
        elapsed: float,
        failure: str,
        raw: RawObstacles | None,
        health: Iterable[Any],
        widening: float,
        probation: str,
    ) -> SupervisedPlan:
        level, alarm = worst_verdict(health)
        raw, heard, said = hear(raw, scene)
        level, alarm = max(level, heard), "; ".join(filter(None, (alarm, said)))
        if problem := self._door.problem(scene):
            return self._blind(scene, f"scene rejected: {problem}", level)
        now = self._prepare(scene, raw, widening, level)
        if isinstance(now, str):
            return self._blind(scene, f"scene rejected: {now}", level)
        self._refresh(scene)
        self._note(now, self._states.listen(level, now.at_rest, alarm))

        fault = self._unusable(plan, elapsed, failure)
        chosen = None if fault or plan is None else self._first_accepted(now, plan)
        if chosen is not None and not (held := self._held_back(probation)):
            return self._drive(now, chosen, alarm)
        if chosen is not None:
            outcome, reason = Outcome.ACCEPTED, f"plan accepted, but {held}"
        elif fault:
            outcome, reason = Outcome.FAULT, fault
        else:
            why = now.rejected[0][1].reason if now.rejected else ""
            outcome, reason = Outcome.REFUSED, f"no candidate accepted: {why}" if why else "no candidate solved"
        return self._fall_back(now, outcome, "; ".join(filter(None, (reason, alarm))), chosen)

    # -- judging the inputs --------------------------------------------------------------
    def _restriction(self, scene: VectorScene) -> tuple[float, float]:
        """Speed factor and additional clearance (m) of the present state."""
        if self.state is State.NORMAL:
            return 1.0, 0.0
        degraded = self.config.degraded
        return degraded.speed(self._states.counters.in_state), degraded.margin(float(scene.ego.v))

    def _prepare(self, scene: VectorScene, raw: RawObstacles | None, widening: float, level: Level) -> _Now | str:
        """The cycle's working data, or why there can be none."""
        # Anything but a number in the range is the widest: a monitor that cannot say how much says the most.
        factor = min(max(widening, 1.0), WIDENING_MAX) if widening == widening else WIDENING_MAX
        checker = replace(self.config.checker, widening=factor) if factor > 1.0 else self.config.checker
        try:
            sets = prepare(scene.double(), self._able, checker, raw)
            speed, margin = self._restriction(scene)
            tight = restricted_check(sets, checker, speed, margin) if speed < 1.0 or margin > 0.0 else (sets, checker)
            at_rest = abs(float(scene.ego.v)) <= checker.rest_speed
        except Exception as error:  # whatever a broken scene raises, the vehicle must be driven on
            return f"{type(error).__name__}: {error}"
        return _Now(scene, sets, checker, tight, level, at_rest)

    def _refresh(self, scene: VectorScene) -> None:
        """The kept tail seen from this scene's time; one that was changed in memory is no longer kept."""
        if self._kept is not None:
            self._kept = self._kept.seen(scene) if self._kept.intact else None

    def _unusable(self, plan: PlanResult | None, elapsed: float, failure: str) -> str:
        """Why the plan as a whole cannot be used; empty if it can."""
        if failure:
            return f"planner failed: {failure}"
        if plan is None:
            return "no plan"
        if not elapsed <= self.config.deadline:
            return f"deadline: {elapsed * 1e3:.0f} ms of {self.config.deadline * 1e3:.0f} ms"
        if not isinstance(plan, PlanResult) or not isinstance(plan.candidates, list):
            return f"malformed plan: expected a PlanResult with a list of candidates, got {type(plan).__name__}"
        return ""

    def _held_back(self, probation: str) -> str:
        """Why an accepted plan must wait although it could be driven."""
        if self._states.latched:
            return f"{self.state} is latched"
        return probation

    def _first_accepted(self, now: _Now, plan: PlanResult) -> Option | None:
        """The first candidate that passes, as (index, trajectory, tail, report) in an `Option`."""
        begin, checked = time.perf_counter(), 0
        for index, candidate in enumerate(plan.candidates):
            try:
                if candidate.status is not PlanStatus.SOLVED:
                    continue
                name, trajectory, tail = str(candidate.decision), candidate.trajectory, candidate.tail
            except Exception as error:
                name, trajectory, tail = f"candidate {index}: {type(error).__name__}: {error}", None, None
            spent = time.perf_counter() - begin
            if checked >= self.config.max_checked or (checked and spent > self.config.check_budget):
                break
            checked += 1
            if problem := plan_problem(trajectory, tail):
                now.rejected.append((name, CheckReport.refused(problem)))
                continue
            assert trajectory is not None
            assert tail is not None
            report = self._judge(now, trajectory, tail)
            if not report.accepted:
                now.rejected.append((name, report))
                if only_the_tail(report, self._able.braking_max < self.vehicle.braking_max):
                    now.onwards = now.onwards or trajectory
                    tail, report = self._own_stop(now, trajectory, begin) or (tail, report)
            if report.accepted:
                own = tail is not candidate.tail
                return Option("candidate", name, trajectory, tail, report, index, own)
        return None

    def _judge(self, now: _Now, trajectory: Trajectory, tail: Trajectory) -> CheckReport:
        """A candidate under the present restrictions."""
        report = self._check(now.tight, trajectory, tail)
        return report if self.state is State.NORMAL else slows_down(report, trajectory, *now.tight)

    def _own_stop(self, now: _Now, trajectory: Trajectory, begin: float) -> tuple[Trajectory, CheckReport] | None:
        """A tail of the second channel's own for a candidate whose tail alone was refused, and the report on it."""
        for _, tail in stops_along(trajectory, self._able, self.config.own_stops):
            if time.perf_counter() - begin > self.config.check_budget:
                return None
            report = self._judge(now, trajectory, tail)
            if report.accepted:
                return tail, report
        return None

    def _check(
        self, against: tuple[SceneSets, CheckerConfig], trajectory: Trajectory, tail: Trajectory, kept: bool = False
    ) -> CheckReport:
        sets, config = against
        try:
            return check_prepared(sets, trajectory, tail, self._able, config, kept)
        except Exception as error:  # a malformed plan is a rejected plan
            return CheckReport.refused(f"{type(error).__name__}: {error}")

    # -- deciding ------------------------------------------------------------------------
    def _drive(self, now: _Now, chosen: Option, alarm: str) -> SupervisedPlan:
        """The normal case: an accepted candidate, whose tail is kept."""
        assert chosen.report is not None
        self._kept = KeptTail.keep(chosen.tail, now.scene, chosen.report)
        self._borne_away = False
        rejected = f"candidate 0 rejected: {now.rejected[0][1].reason}" if now.rejected else ""
        own = f"candidate {chosen.index} with a stop of the supervisor's own" if chosen.own_stop else ""
        reason = "; ".join(filter(None, (rejected, own, alarm)))
        return self._publish(now, chosen, Outcome.ACCEPTED, reason)

    def _fall_back(self, now: _Now, outcome: Outcome, reason: str, spare: Option | None) -> SupervisedPlan:
        """Kept tail, an accepted candidate's tail, braking along the kept tail, full braking: the first that passes,
        else the best margin. In EMERGENCY the hardest stop comes first; at rest in a latched state, standing.
        """
        kept = self._kept.now(now.scene) if self._kept is not None else None
        best, refused = None, []
        for option in stops(
            now.scene.ego.double(), self._able, self.config.braking, kept,
            None if spare is None else spare.tail,
            emergency=self._states.hardest, standing=self._states.latched and now.at_rest,
            bear_away=not self._borne_away, onwards=self._onwards(now),
        ):  # fmt: skip
            against = now.tight if option.name == "tail of an accepted plan" else (now.sets, now.checker)
            report = self._check(against, option.trajectory, option.tail, kept=option.name == "kept tail")
            option = replace(option, report=report)
            if report.accepted:
                best = option
                break
            now.rejected.append((option.name, report))
            refused.append(option)
        best = best or least_bad(refused)
        assert best.report is not None
        if best.name != "kept tail":
            # What is driven from now on is this stop; the old tail's way is no longer where ego goes.
            self._kept = KeptTail.keep(best.tail, now.scene, best.report)
            self._borne_away |= "bearing" in best.name
        if not best.report.accepted:
            reason += f"; nothing passes, best: {best.name} ({best.report.reason})"
        elif best.source == "braking" and not now.at_rest:
            reason += f"; {'kept tail no longer passes' if kept is not None else 'nothing kept'}, {best.name}"
        return self._publish(now, best, outcome, reason)

    def _onwards(self, now: _Now) -> Trajectory | None:
        """A stop that begins later, along a candidate of which nothing but the tail was refused; None in a state in
        which ego is to stop."""
        if now.onwards is None or self._states.latched:
            return None
        return next((tail for _, tail in stops_along(now.onwards, self._able, self.config.own_stops[-1:])), None)

    def _publish(self, now: _Now, driven: Option, outcome: Outcome, reason: str) -> SupervisedPlan:
        assert driven.report is not None
        off_tail = driven.source == "braking" and not now.at_rest
        cycle = Cycle(outcome, now.level, off_tail, at_rest=now.at_rest)
        self._note(now, self._states.conclude(cycle, reason))
        if driven.report.accepted:
            self.watchdog.serve(driven.report)
        return SupervisedPlan(
            driven.trajectory, driven.tail, driven.source, reason, self.state, driven.index, driven.report,
            driven.report.accepted, tuple(now.rejected), outcome is Outcome.ACCEPTED, tuple(now.transitions),
            secured=self._states.latched and now.at_rest,
            certificate=None if self._kept is None else self._kept.certificate,
        )  # fmt: skip

    def _blind(self, scene: object, reason: str, level: Level = Level.OK) -> SupervisedPlan:
        """No usable scene: the kept tail from where it should have brought ego by now; unchecked."""
        kept = self._kept if self._kept is not None and self._kept.intact else None
        if kept is not None:
            self._kept = kept = kept.dead_reckoned(self.config.period)
            motion, source = kept.in_own_frame(), "tail"
        else:
            motion, source = last_known(scene, self._able), "braking"
            reason += "; nothing kept"
        at_rest = abs(float(motion.v[0])) <= self.config.checker.rest_speed and kept is not None
        cycle = Cycle(Outcome.FAULT, level, off_tail=kept is None, blind=True, at_rest=at_rest)
        moved = self._states.conclude(cycle, reason)
        transitions = (moved,) if moved else ()
        for transition in transitions:
            _log(transition)
        return SupervisedPlan(
            motion, motion, source, reason, self.state, None, None, False, transitions=transitions,
            secured=self._states.latched and at_rest, certificate=None if kept is None else kept.certificate,
        )  # fmt: skip

    def _note(self, now: _Now, transition: Transition | None) -> None:
        if transition is not None:
            now.transitions.append(transition)
            _log(transition)


def worst_verdict(health: Iterable[Any]) -> tuple[Level, str]:
    """The highest level among the monitors' verdicts, and what those above OK say. Never raises."""
    level, said = Level.OK, []
    try:
        for verdict in health:
            found = Level.of(verdict.level)
            level = max(level, found)
            if found > Level.OK:
                said.append(f"{verdict.name}: {verdict.reason}")
    except Exception as error:
        return Level.EMERGENCY, f"monitors cannot be read: {type(error).__name__}: {error}"
    return level, "; ".join(said)


def _log(transition: Transition) -> None:
    _LOG.info("%s -> %s (%s): %s", transition.source, transition.target, transition.rule, transition.reason)

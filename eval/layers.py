"""The safety layers as switches, for measuring what each is worth.

planner alone      the cheapest solved candidate is driven, unchecked; without one, the last plan goes on.
checker            candidates are checked in order; if none passes: full braking with the steering held.
tail               the whole supervisor: kept tail, states, deadline.
second_channel     the checker is told of raw obstacles and free sight.
monitors           the supervisor is told what the monitors say.

Each layer needs those before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from planner import fallback
from planner.checker import CheckReport, check_prepared, prepare
from planner.result import PlanResult, PlanStatus
from planner.scene import EgoState, RawObstacles, Trajectory, VectorScene, VehicleParameters
from planner.supervise import SupervisedPlan, Supervisor, SupervisorConfig
from planner.supervision.kept_tail import KeptTail

LAYERS = ("checker", "tail", "second_channel", "monitors")


class Supervising(Protocol):
    """What `eval.pipeline.DualDrive` asks of its supervisor."""

    def planning_scene(self, scene: VectorScene) -> VectorScene: ...

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
    ) -> SupervisedPlan: ...


def make_supervisor(layers: tuple[str, ...], vehicle: VehicleParameters, config: SupervisorConfig) -> Supervising:
    """The supervisor with the given layers. Raises ValueError for layers that are not the first ones of `LAYERS`."""
    if tuple(layers) != LAYERS[: len(layers)]:
        raise ValueError(f"layers: expected the first ones of {', '.join(LAYERS)}, got {', '.join(layers)}")
    if not layers:
        return PlannerAlone()
    return CheckerAlone(vehicle, config) if layers == ("checker",) else Supervisor(vehicle, config)


class _Unrestricted:
    """No states, so the planner always sees the scene as it is."""

    def planning_scene(self, scene: VectorScene) -> VectorScene:
        return scene


class PlannerAlone(_Unrestricted):
    """No second channel at all."""

    def __init__(self) -> None:
        self._last: KeptTail | None = None

    def supervise(
        self, scene: VectorScene, plan: PlanResult | None, *, elapsed: float, failure: str = "", **more: Any
    ) -> SupervisedPlan:
        """Drive the first candidate; the last plan goes on while there is none."""
        chosen = plan.chosen if plan is not None else None
        if chosen is not None and chosen.trajectory is not None:
            motion, reason = chosen.trajectory, ""
            if _finite(motion):
                self._last = KeptTail.keep(motion, scene, CheckReport.refused("unchecked"))
                return SupervisedPlan(motion, motion, "candidate", reason, "UNSUPERVISED", 0, None, False)
        reason = failure or "no plan that can be driven"
        if self._last is None:
            motion = fallback.maximum_braking(EgoState.at_origin(0.0))
        else:
            self._last = self._last.dead_reckoned(0.1)
            motion = self._last.in_own_frame()
        return SupervisedPlan(motion, motion, "last plan", reason, "UNSUPERVISED", None, None, False)


class CheckerAlone(_Unrestricted):
    """The checker without a kept tail, without states and without a deadline."""

    def __init__(self, vehicle: VehicleParameters, config: SupervisorConfig) -> None:
        self.vehicle, self.config = vehicle, config

    def supervise(
        self, scene: VectorScene, plan: PlanResult | None, *, elapsed: float, failure: str = "", **more: Any
    ) -> SupervisedPlan:
        """The first candidate that the checker accepts; otherwise full braking."""
        try:
            scene.validate()
            sets = prepare(scene.double(), self.vehicle, self.config.checker)
        except Exception as error:  # whatever a broken scene raises, the vehicle must be driven on
            return self._brake(scene, f"scene rejected: {type(error).__name__}: {error}")
        rejected: list[tuple[str, CheckReport]] = []
        tried = 0
        for index, candidate in enumerate(plan.candidates if plan is not None else []):
            if candidate.status is not PlanStatus.SOLVED or candidate.trajectory is None or candidate.tail is None:
                continue
            if tried >= self.config.max_checked:
                break
            tried += 1
            try:
                report = check_prepared(sets, candidate.trajectory, candidate.tail, self.vehicle, self.config.checker)
            except Exception as error:  # a malformed plan is a rejected plan
                return self._brake(scene, f"plan malformed: {type(error).__name__}: {error}")
            if report.accepted:
                why = f"candidate 0 rejected: {rejected[0][1].reason}" if rejected else ""
                return SupervisedPlan(
                    candidate.trajectory, candidate.tail, "candidate", why, "CHECKED", index, report, True,
                    tuple(rejected),
                )  # fmt: skip
            rejected.append((candidate.decision, report))
        return self._brake(scene, failure or (rejected[0][1].reason if rejected else "no candidate solved"))

    def _brake(self, scene: VectorScene, reason: str) -> SupervisedPlan:
        try:
            motion = fallback.maximum_braking(scene.ego.double(), self.vehicle)
        except Exception:  # not even ego's motion is known
            motion = fallback.maximum_braking(EgoState.at_origin(0.0), self.vehicle)
        return SupervisedPlan(motion, motion, "braking", reason, "CHECKED", None, None, False)


def _finite(motion: Trajectory) -> bool:
    return all(bool(value.isfinite().all()) for value in (motion.x, motion.y, motion.yaw, motion.v, motion.a))

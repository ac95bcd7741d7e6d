"""THE PAGE: the deployed driver. VectorScene -> plan -> supervise -> what is driven, and the picture of why."""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter

from eval.config import DriverConfig
from eval.layers import Supervising, make_supervisor
from eval.picture import step_picture
from eval.simulation.drivers import DriveOutput
from eval.simulation.injection import Injection
from perception.recording import Recording
from planner.config import PlannerConfig
from planner.plan import ConvexPlanner
from planner.result import PlanResult
from planner.scene import VectorScene
from planner.supervise import SupervisorConfig


class DualDrive:
    """The planner joined with its second channel; implements `eval.simulation.drivers.Driver`.

    The planner may fail in any way: what is driven then is decided by the supervisor, with the reason in
    `DriveOutput.reason`.
    """

    name = "dualdrive"

    def __init__(
        self,
        planner: PlannerConfig | None = None,
        supervisor: SupervisorConfig | None = None,
        config: DriverConfig | None = None,
        injection: Injection | None = None,
    ) -> None:
        self.planner_config = planner or PlannerConfig()
        self.supervisor_config = supervisor or SupervisorConfig()
        self.config = config or DriverConfig()
        self.injection = injection or Injection()

    def reset(self, recording: Recording) -> None:
        """A new planner and a new supervisor for the recording's vehicle; nothing is carried over."""
        self._planner = ConvexPlanner(self.planner_config, recording.vehicle)
        supervisor = self.supervisor_config
        if not self.config.enforce_deadline:  # no decision may depend on how fast the machine is
            supervisor = replace(supervisor, check_budget=math.inf)
        self._supervisor: Supervising = make_supervisor(self.config.layers, recording.vehicle, supervisor)
        self._first = True

    def drive(self, scene: VectorScene) -> DriveOutput:
        """One cycle. Always returns something to drive."""
        started = perf_counter()
        plan, failure = self.injection.plan(*self._plan(scene))
        elapsed = self.injection.elapsed(perf_counter() - started if self.config.enforce_deadline else 0.0)

        checking = perf_counter()
        driven = self._supervisor.supervise(scene, plan, elapsed=elapsed, failure=failure)
        check_ms = 1e3 * (perf_counter() - checking)

        picture = step_picture(scene, plan, driven, with_reference=self._first) if self.config.picture else {}
        self._first = False
        return DriveOutput(
            trajectory=driven.trajectory,
            source=str(driven.source),
            reason=driven.reason,
            tail_accepted=driven.tail_accepted,
            solve_ms=1e3 * plan.solve_time if plan is not None else 0.0,
            check_ms=check_ms,
            picture=picture,
        )

    def _time_to_plan(self) -> float | None:
        """s: what the supervisor's deadline leaves when the checks have had their share."""
        config = self.supervisor_config
        return config.deadline - config.check_budget if self.config.enforce_deadline else None

    def _plan(self, scene: VectorScene) -> tuple[PlanResult | None, str]:
        try:
            return self._planner.plan(self._supervisor.planning_scene(scene), self._time_to_plan()), ""
        except Exception as error:  # a dead planner must not be a dead vehicle
            return None, f"planner raised {type(error).__name__}: {error}"

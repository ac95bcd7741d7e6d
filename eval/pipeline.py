"""THE PAGE: the deployed driver. VectorScene -> plan -> supervise -> what is driven, and the picture of why."""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter
from typing import Any

from eval.config import DriverConfig
from eval.layers import Supervising, make_supervisor
from eval.picture import step_picture
from eval.simulation.drivers import DriveOutput
from eval.simulation.injection import Injection
from perception.recording import Recording
from planner.config import PlannerConfig
from planner.deployed import PlannerProcess
from planner.monitors import Monitors, MonitorVerdict
from planner.plan import ConvexPlanner
from planner.result import PlanResult
from planner.scene import RawObstacles, VectorScene, VehicleParameters
from planner.supervise import SupervisedPlan, SupervisorConfig
from planner.supervision.scene_door import absurdity


class PlannerHere:
    """The planner in this process: simple, but it can take the supervisor down with it."""

    probation = ""

    def __init__(self, config: PlannerConfig, vehicle: VehicleParameters) -> None:
        self._planner = ConvexPlanner(config, vehicle)

    def reset(self) -> None:
        """A new drive begins."""
        self._planner.reset()

    def plan(self, scene: VectorScene, deadline: float | None) -> tuple[PlanResult | None, str]:
        """The plan, or why there is none."""
        try:
            return self._planner.plan(scene, deadline), ""
        except Exception as error:  # a dead planner must not be a dead vehicle
            return None, f"planner raised {type(error).__name__}: {error}"

    def judged(self, accepted: bool) -> None:
        """Nothing to watch here."""


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
        self._process: PlannerProcess | None = None
        self._raw: RawObstacles | None = None
        self._clock_us: int | None = None

    def reset(self, recording: Recording) -> None:
        """A new planner and a new supervisor for the recording's vehicle; nothing is carried over."""
        self._planner = self._make_planner(recording.vehicle)
        supervisor = self.supervisor_config
        if not self.config.enforce_deadline:  # no decision may depend on how fast the machine is
            supervisor = replace(supervisor, check_budget=math.inf)
        self._supervisor: Supervising = make_supervisor(self.config.layers, recording.vehicle, supervisor)
        self._monitors = Monitors(self.config.monitors, recording.vehicle)
        self._first, self._raw, self._clock_us = True, None, None

    def hear(self, raw: RawObstacles) -> None:
        """What the second perception channel says; for the next `drive`."""
        self._raw = raw if "second_channel" in self.config.layers else None

    def drive(self, scene: VectorScene) -> DriveOutput:
        """One cycle. Always returns something to drive."""
        started = perf_counter()
        health = self._health(scene)
        scene = self._monitors.trusted(scene)
        shown = self._supervisor.planning_scene(scene)
        plan, failure = self.injection.plan(*self._plan(shown))
        elapsed = self.injection.elapsed(perf_counter() - started if self.config.enforce_deadline else 0.0)

        checking = perf_counter()
        driven = self._supervisor.supervise(
            scene, plan, elapsed=elapsed, failure=failure, raw=self._raw, health=health,
            widening=self._monitors.widening, grip=self._monitors.grip, probation=self._planner.probation,
        )  # fmt: skip
        self._monitors.driven(scene, driven.trajectory)
        check_ms = 1e3 * (perf_counter() - checking)
        self._planner.judged(driven.plan_accepted)

        picture = self._picture(scene, plan, driven) if self.config.picture else {}
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

    def _plan(self, scene: VectorScene) -> tuple[PlanResult | None, str]:
        """The planner's answer, or why there is none."""
        if problem := absurdity(scene):
            return None, f"not planned for: {problem}"
        return self._planner.plan(scene, self._time_to_plan())

    def _health(self, scene: VectorScene) -> tuple[MonitorVerdict, ...]:
        """What the monitors say about this cycle's inputs and the last one's drive."""
        if "monitors" not in self.config.layers:
            return ()
        # The cycle's own clock starts with the first stamp and never asks a later one.
        period = round(self.supervisor_config.period * 1e6)
        try:
            self._clock_us = int(scene.ego.time_us) if self._clock_us is None else self._clock_us + period
        except Exception:  # not even a stamp: the supervisor's door rejects the scene and says why
            return ()
        return self._monitors.update(scene, self._raw, now_us=self._clock_us, with_raw=self._raw is not None)

    def _picture(self, scene: VectorScene, plan: PlanResult | None, driven: SupervisedPlan) -> dict[str, Any]:
        """What a report draws; a scene that is too broken to be drawn must not stop the drive."""
        try:
            return step_picture(scene, plan, driven, with_reference=self._first)
        except Exception as error:
            return {"state": str(driven.state), "explanation": f"not drawn: {type(error).__name__}: {error}"}

    def _time_to_plan(self) -> float | None:
        """s: what the supervisor's deadline leaves when the checks have had their share."""
        config = self.supervisor_config
        return config.deadline - config.check_budget if self.config.enforce_deadline else None

    def _make_planner(self, vehicle: VehicleParameters) -> PlannerHere | PlannerProcess:
        if not self.config.deployed:
            return PlannerHere(self.planner_config, vehicle)
        if self._process is None or self._process.vehicle != vehicle:
            self.close()
            self._process = PlannerProcess(self.planner_config, vehicle, self.config.process)
        self._process.reset()
        self._process.wait_until_ready()
        return self._process

    def close(self) -> None:
        """End the planner's process, if there is one; it also ends with this one."""
        if self._process is not None:
            self._process.close()
            self._process = None

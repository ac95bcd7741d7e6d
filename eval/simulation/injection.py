"""Where a study may reach into the loop between world and vehicle. The base changes nothing.

One object per drive; the rollout tells it the time before every step. What an injection does to the truth itself is
only `vehicle`; everything else changes what is told, asked or done about it.
"""

from __future__ import annotations

from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from planner.limiter import Command
from planner.result import PlanResult
from planner.scene import EgoState, VectorScene, VehicleParameters


class Injection:
    """time (s): of the present step, since the recording's start."""

    time: float = 0.0

    def reset(self, recording: Recording) -> None:
        """A new drive begins. Ground truth may be read: the adversary knows the world."""

    def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
        """What the road and the brakes really allow; everybody else goes on believing `vehicle`."""
        return vehicle

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        """The others as the first perception channel reports them (global frame). ego: the true state."""
        return objects

    def localised(self, ego: EgoState) -> EgoState:
        """Ego as its localisation reports it (global frame)."""
        return ego

    def scene(self, scene: VectorScene) -> VectorScene:
        """The scene as it reaches the driver."""
        return scene

    def sweep(self, sweep: LidarSweep) -> LidarSweep | None:
        """The sweep of the second perception channel's LiDAR; None: none arrived."""
        return sweep

    def plan(self, plan: PlanResult | None, failure: str) -> tuple[PlanResult | None, str]:
        """The planner's answer, and its error, on the way to the supervisor."""
        return plan, failure

    def elapsed(self, seconds: float) -> float:
        """How long the planner has taken, as the supervisor's clock sees it."""
        return seconds

    def command(self, command: Command) -> Command:
        """The tracker's command on its way to the limiter."""
        return command

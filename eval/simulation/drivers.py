"""What the simulator expects of anything that drives: our planner, a baseline, the recorded human."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from perception.recording import Recording
from planner.scene import RawObstacles, Trajectory, VectorScene


@dataclass
class DriveOutput:
    """One decision of a driver.

    trajectory: what to track, rear axle, in the ego frame of the scene that was handed over; time[0] = 0.
    source: "candidate", "tail" or "braking" (our planner), "baseline", "replay".
    reason: why this and not the normal case; empty for the normal case.
    tail_accepted: the plan carries a tail to rest that the checker accepted.
    solve_ms, check_ms: time inside the solver and the checker (ms).
    picture: what a report draws for this step, as described in `docs/trace.md`; JSON-serialisable.
    """

    trajectory: Trajectory
    source: str = "baseline"
    reason: str = ""
    tail_accepted: bool = False
    solve_ms: float = 0.0
    check_ms: float = 0.0
    picture: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Driver(Protocol):
    """Drives one scenario after another; `reset` comes before each.

    A driver with the attribute ``replays_log = True`` is not simulated: the rollout puts the ego
    on its recorded states. Exceptions leave the rollout: the caller records them and counts the
    scenario as failed.
    """

    name: str

    def reset(self, recording: Recording) -> None:
        """Forget the last scenario. Of the recording, a planner may use what is known in advance: the map, the route
        and the vehicle. Only a reference driver such as the recorded expert may look at the rest."""
        ...

    def drive(self, scene: VectorScene) -> DriveOutput:
        """Decide on one scene. Called every simulation step, in order of time."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A driver that has a use for the second perception channel: told before each `drive`, beside the scene."""

    def hear(self, raw: RawObstacles) -> None: ...


def replays_log(driver: Driver) -> bool:
    """Whether the ego shall be put on its recorded states instead of being simulated."""
    return bool(getattr(driver, "replays_log", False))

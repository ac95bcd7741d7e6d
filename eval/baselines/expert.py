"""The recorded driver, replayed: what the metrics must find nothing wrong with."""

from __future__ import annotations

import numpy as np
import torch

from eval.simulation.drivers import DriveOutput
from perception.recording import Recording
from planner.scene import Trajectory, VectorScene, frames

HORIZON = 6.0  # s of the recorded future shown as the plan


class Expert:
    """Puts ego on its recorded states. The trajectory it reports is the recorded future, for pictures only."""

    name = "expert"
    replays_log = True

    def __init__(self) -> None:
        self._recording: Recording | None = None

    def reset(self, recording: Recording) -> None:
        self._recording = recording

    def drive(self, scene: VectorScene) -> DriveOutput:
        """Raises RuntimeError before the first `reset`."""
        recording = self._recording
        if recording is None:
            raise RuntimeError("Expert.drive: expected reset(recording) to be called first")
        now = (int(scene.ego.time_us) - recording.start_us) * 1e-6
        first = int(np.clip(round(now / recording.dt), 0, len(recording.time) - 1))
        last = min(first + round(HORIZON / recording.dt), len(recording.time) - 1)
        # A trajectory needs two points: on the last step of the log ego is shown to stay.
        steps = np.arange(first, last + 1) if last > first else np.array([first, first])
        ego = recording.ego
        global_from_plan = torch.as_tensor(ego.pose[steps], dtype=torch.float64)
        plan = frames.compose(frames.inverse(scene.global_from_ego).expand_as(global_from_plan), global_from_plan)
        t = lambda values: torch.as_tensor(values[steps], dtype=torch.float64)  # noqa: E731
        trajectory = Trajectory(
            time=torch.arange(len(steps), dtype=torch.float64) * recording.dt,
            x=plan[:, 0], y=plan[:, 1], yaw=plan[:, 2], v=t(ego.v), a=t(ego.a), curvature=t(ego.curvature),
        )  # fmt: skip
        return DriveOutput(trajectory, source="replay")

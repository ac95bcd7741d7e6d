"""Straight ahead at the present speed: the lower end of what a planner can be compared with."""

from __future__ import annotations

import torch

from eval.simulation.drivers import DriveOutput
from perception.recording import Recording
from planner.scene import Trajectory, VectorScene

HORIZON, STEP = 6.0, 0.1  # s


def straight_on(v: float) -> Trajectory:
    """Along the x axis of the ego frame at speed v (m/s), 6 s at 10 Hz."""
    time = torch.arange(round(HORIZON / STEP) + 1, dtype=torch.float64) * STEP
    zero = torch.zeros_like(time)
    return Trajectory(time=time, x=v * time, y=zero, yaw=zero, v=zero + v, a=zero, curvature=zero)


class ConstantVelocity:
    """Keeps speed and heading, whatever comes."""

    name = "constant_velocity"

    def reset(self, recording: Recording) -> None:
        """Nothing to forget."""

    def drive(self, scene: VectorScene) -> DriveOutput:
        return DriveOutput(straight_on(float(scene.ego.v)))

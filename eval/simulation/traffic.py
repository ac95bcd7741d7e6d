"""How the other road users move: exactly as recorded, or as recorded but with reactions.

``log_replay`` (non-reactive, NR): everybody is where the recording has them, and only while it has them.
``idm`` (reactive, R): see `eval.simulation.reactive_traffic`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from eval.simulation.reactive_traffic import ReactiveTraffic
from eval.simulation.simulation_config import IdmConfig
from eval.simulation.vehicle import VehicleState
from perception.recording import Recording
from planner.scene import VehicleParameters

TRAFFIC = ("log_replay", "idm")


class Traffic(Protocol):
    """``N`` agents in the order of the recording's agents, now. Global frame.

    pose ``[N, 3]`` box centre x, y (m), yaw (rad); velocity ``[N, 2]`` (m/s); present ``[N]`` bool. Numbers of
    absent agents mean nothing. events: what happened in the last step that is worth a note, for people.
    """

    pose: np.ndarray
    velocity: np.ndarray
    present: np.ndarray
    events: list[str]

    def step(self, ego: VehicleState, vehicle: VehicleParameters) -> None:
        """Move on by one time step; the ego is where it was at the beginning of that step."""
        ...


class LogReplay:
    """Non-reactive traffic: poses, velocities and presence are those of the recording."""

    def __init__(self, recording: Recording) -> None:
        self._agents = recording.agents
        self._index = 0
        self.events: list[str] = []
        self._show()

    def step(self, ego: VehicleState, vehicle: VehicleParameters) -> None:
        """The next recorded moment."""
        self._index += 1
        self._show()

    def _show(self) -> None:
        self.pose = self._agents.pose[:, self._index]
        self.velocity = self._agents.velocity[:, self._index]
        self.present = self._agents.valid[:, self._index]


def make_traffic(kind: str, recording: Recording, config: IdmConfig) -> Traffic:
    """Traffic by name. Raises ValueError for an unknown name."""
    if kind == "log_replay":
        return LogReplay(recording)
    if kind == "idm":
        return ReactiveTraffic(recording, config)
    raise ValueError(f"traffic: expected one of {', '.join(TRAFFIC)}, got {kind!r}")

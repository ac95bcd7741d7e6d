"""The simulated world: the ego, everybody else, and time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eval.simulation.occlusion import visible
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.traffic import Traffic, make_traffic
from eval.simulation.vehicle import Bicycle, VehicleState
from perception.recording import ObjectStates, Recording
from planner.limiter import Command
from planner.scene import EgoState


class World:
    """One recording brought to life. Global frame, 10 Hz.

    recording: map, agents and the start state of the ego. traffic: "log_replay" or "idm".
    ego: the simulated rear axle; the start state is the recorded one, brought inside the vehicle's limits.
    Raises ValueError for an unknown kind of traffic.
    """

    def __init__(self, recording: Recording, traffic: str, config: SimulationConfig | None = None) -> None:
        config = SimulationConfig() if config is None else config
        self.recording = recording
        self.vehicle = recording.vehicle
        self.bicycle = Bicycle(self.vehicle, config.actuator_lag)
        self.traffic: Traffic = make_traffic(traffic, recording, config.idm)
        self.index = 0
        self.ego = VehicleState.from_track(recording.ego, 0, self.vehicle)

    @property
    def dt(self) -> float:
        """Length of a step, s."""
        return self.recording.dt

    @property
    def time(self) -> float:
        """Seconds since the recording's start."""
        return float(self.recording.time[self.index])

    @property
    def time_us(self) -> int:
        """Absolute time, microseconds."""
        return self.recording.start_us + round((self.time - float(self.recording.time[0])) * 1e6)

    def ego_state(self) -> EgoState:
        """The ego as the driver's localisation reports it, global frame."""
        return self.ego.to_ego_state(self.time_us)

    def objects(self) -> ObjectStates:
        """Everybody who is there now."""
        t, agents = self.traffic, self.recording.agents
        there = t.present
        return ObjectStates(
            agents.track_id[there], agents.agent_class[there], agents.size[there], t.pose[there], t.velocity[there]
        )

    def seen(self) -> ObjectStates:
        """Everybody whom perfect sensors on the ego would see now.

        All of them, or where the recording asks for it (`metadata["occlusion"]`) all that nobody hides. Velocities of
        annotated objects are those of the last half second: the annotations' own know half a second of the future.
        """
        everybody = self.objects()
        if self.recording.source == "nuscenes":
            everybody = replace(everybody, velocity=self._past_velocity())
        return visible(everybody, self.ego.pose) if self.recording.metadata.get("occlusion") else everybody

    def _past_velocity(self) -> np.ndarray:
        """``[present, 2]`` m/s: `AgentLog.past_velocity` for who is replayed, the simulated one for the others."""
        agents, t = self.recording.agents, self.traffic
        replayed = (t.velocity == agents.velocity[:, self.index]).all(1, keepdims=True)
        return np.where(replayed, agents.past_velocity(self.index, self.dt), t.velocity)[t.present]

    def step(self, command: Command) -> None:
        """One time step: the others react to what they see now, the ego obeys the command."""
        self._advance(self.bicycle.step(self.ego, command, self.dt))

    def replay_ego(self) -> None:
        """One time step in which the ego moves as recorded."""
        self._advance(VehicleState.from_track(self.recording.ego, self.index + 1))

    def _advance(self, ego: VehicleState) -> None:
        if self.index + 1 >= len(self.recording.time):
            raise ValueError(f"world {self.recording.name}: the recording ended at {self.time:.1f} s")
        self.traffic.step(self.ego, self.vehicle)
        self.ego = ego
        self.index += 1


def ego_box(state: VehicleState, rear_axle_to_center: float) -> np.ndarray:
    """Centre and yaw ``[3]`` of the ego's box, from the rear axle."""
    return state.pose + np.array([np.cos(state.yaw), np.sin(state.yaw), 0.0]) * rear_axle_to_center

"""Who is where at a moment of a recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from eval.simulation.sensors import moved
from perception.recording import ObjectStates, Recording
from planner.scene import EgoState


def at_step(recording: Recording, k: int) -> tuple[EgoState, ObjectStates]:
    """Ego and everybody there at an entry of the recording's time grid, global frame."""
    ego, agents = recording.ego, recording.agents
    f = lambda value: torch.tensor(float(value), dtype=torch.float64)  # noqa: E731
    time_us = recording.start_us + round(float(recording.time[k] - recording.time[0]) * 1e6)
    state = EgoState(
        x=f(ego.pose[k, 0]), y=f(ego.pose[k, 1]), yaw=f(ego.pose[k, 2]), v=f(ego.v[k]), a=f(ego.a[k]),
        curvature=f(ego.curvature[k]), yaw_rate=f(ego.yaw_rate[k]), time_us=torch.tensor(time_us),
        v_source=ego.source, a_source=ego.source,
    )  # fmt: skip
    there = agents.valid[:, k]
    return state, ObjectStates(
        agents.track_id[there], agents.agent_class[there], agents.size[there], agents.pose[there, k],
        agents.velocity[there, k],
    )  # fmt: skip


def at_time(recording: Recording, time_us: int) -> tuple[EgoState, ObjectStates]:
    """Ego and everybody there at any moment: from the nearest entry of the grid on, at constant speed."""
    after = (time_us - recording.start_us) / 1e6
    k = int(np.clip(round(after / recording.dt), 0, len(recording.time) - 1))
    ego, objects = moved(*at_step(recording, k), after - float(recording.time[k] - recording.time[0]))
    return ego.replace(time_us=torch.tensor(int(time_us))), objects


def at(recording: Recording, time_us: int, pose: np.ndarray) -> tuple[EgoState, ObjectStates]:
    """`at_time` with the ego at a given global_from_ego ``[4, 4]``."""
    ego, objects = at_time(recording, time_us)
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    f = lambda value: torch.tensor(float(value), dtype=torch.float64)  # noqa: E731
    return ego.replace(x=f(pose[0, 3]), y=f(pose[1, 3]), yaw=f(yaw)), replace(objects)

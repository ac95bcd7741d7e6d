"""Recorded human driving as (scene, trajectory, tail) triples for the checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from checker_scenes import with_tail

from perception.nuscenes import list_scenes, load_recording
from perception.oracle import OraclePerception
from perception.recording import ObjectStates, Recording
from perception.route_surface import RouteSurface
from planner.scene import EgoState, Trajectory, VectorScene

SPAN = 30  # steps of 0.1 s


def human_pairs(
    root: Path, braking: float, cache: Path | None = None
) -> Iterator[tuple[str, float, VectorScene, Trajectory, Trajectory]]:
    """(scene name, time s, scene, the next 3 s as driven, a stop from 0.3 s on) at every keyframe that has 3 s left."""
    for name in list_scenes(root, "v1.0-mini"):
        recording = load_recording(root, "v1.0-mini", name, cache)
        surface = RouteSurface(recording.road, recording.route, recording.route_xy)
        perception = OraclePerception(recording.road, surface)
        for i in np.flatnonzero(recording.keyframe):
            if i + SPAN >= len(recording.time):
                continue
            driven = driven_from(recording, int(i))
            scene = perception.observe(_ego(recording, int(i)), _objects(recording, int(i)), name)
            yield name, float(recording.time[i]), scene, driven, with_tail(driven, braking)


def driven_from(recording: Recording, i: int) -> Trajectory:
    """The recorded motion from step i on, in the ego frame of that step."""
    e = recording.ego
    s = slice(i, i + SPAN + 1)
    c, n = np.cos(e.pose[i, 2]), np.sin(e.pose[i, 2])
    to = e.pose[s, :2] - e.pose[i, :2]
    columns = (
        recording.time[s] - recording.time[i], c * to[:, 0] + n * to[:, 1], c * to[:, 1] - n * to[:, 0],
        np.unwrap(e.pose[s, 2]) - e.pose[i, 2], e.v[s], e.a[s], e.curvature[s],
    )  # fmt: skip
    return Trajectory(*(torch.tensor(f, dtype=torch.float64) for f in columns))


def _ego(recording: Recording, i: int) -> EgoState:
    e = recording.ego
    f = lambda value: torch.tensor(float(value), dtype=torch.float64)  # noqa: E731
    at = torch.tensor(recording.start_us + round(recording.time[i] * 1e6))
    return EgoState(
        f(e.pose[i, 0]), f(e.pose[i, 1]), f(e.pose[i, 2]), f(e.v[i]), f(e.a[i]), f(e.curvature[i]), f(e.yaw_rate[i]), at
    )


def _objects(recording: Recording, i: int) -> ObjectStates:
    a = recording.agents
    there = a.valid[:, i]
    return ObjectStates(a.track_id[there], a.agent_class[there], a.size[there], a.pose[there, i], a.velocity[there, i])

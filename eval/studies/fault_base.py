"""What all faults share: their time, their size, and how objects are seen from ego."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from eval.simulation.injection import Injection
from perception.recording import ObjectStates, Recording
from planner.scene import EgoState

FOR_EVER = 1e3  # s


@dataclass(frozen=True)
class Fault:
    """Plain and picklable. kind: a key of `fault_models.MODELS`. onset, duration (s). seed: of what is drawn."""

    kind: str
    onset: float
    size: float
    duration: float = FOR_EVER
    seed: int = 0

    @property
    def name(self) -> str:
        lasts = "" if self.duration >= FOR_EVER else f"_for{self.duration:g}"
        return f"{self.kind}_{self.size:g}_at{self.onset:g}{lasts}"


class Faulty(Injection):
    """Base: `active` within the fault's time, random numbers of its own."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.size = fault, fault.size

    def reset(self, recording: Recording) -> None:
        self.recording = recording
        self.rng = np.random.default_rng([self.fault.seed, round(1e3 * self.fault.onset)])

    @property
    def active(self) -> bool:
        return self.fault.onset - 1e-9 <= self.time < self.fault.onset + self.fault.duration - 1e-9

    @property
    def since(self) -> float:
        """s since the onset."""
        return self.time - self.fault.onset


def most_relevant(objects: ObjectStates, ego: EgoState, recording: Recording) -> int | None:
    """Track id of the recording's hazard if it is seen, else of the nearest object ahead within 4 m beside it."""
    hazard = recording.metadata.get("hazard", {}).get("track_id", -1)
    if hazard in objects.track_id:
        return int(hazard)
    away = turned(objects.pose[:, :2] - ego_xy(ego), -float(ego.yaw))
    ahead = (away[:, 0] > 0.0) & (np.abs(away[:, 1]) < 4.0)
    return int(objects.track_id[ahead][away[ahead, 0].argmin()]) if ahead.any() else None


def ahead_on_route(recording: Recording, ego: EgoState, distance: float) -> np.ndarray:
    """Pose ``[3]`` on the route, `distance` (m) ahead of ego's rear axle."""
    xy = recording.route_xy
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    here = arc[((xy - ego_xy(ego)) ** 2).sum(1).argmin()]
    ends = [np.array([np.interp(here + distance + d, arc, xy[:, i]) for i in (0, 1)]) for d in (-1.0, 1.0)]
    step = ends[1] - ends[0]
    return np.array([*(ends[0] + step / 2), math.atan2(step[1], step[0])])


def ego_xy(ego: EgoState) -> np.ndarray:
    """Position ``[2]`` of the rear axle."""
    return np.array([float(ego.x), float(ego.y)])


def turned(vectors: np.ndarray, angle: float) -> np.ndarray:
    """Vectors ``[N, 2]`` turned by an angle (rad)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([c * vectors[:, 0] - s * vectors[:, 1], s * vectors[:, 0] + c * vectors[:, 1]], -1)


def moved_to(objects: ObjectStates, xy: np.ndarray) -> ObjectStates:
    """The same objects at other places ``[N, 2]``."""
    return replace(objects, pose=np.column_stack([xy, objects.pose[:, 2]]))


def kept_objects(objects: ObjectStates, kept: np.ndarray) -> ObjectStates:
    """The objects for which `kept` ``[N]`` holds."""
    return ObjectStates(
        objects.track_id[kept],
        objects.agent_class[kept],
        objects.size[kept],
        objects.pose[kept],
        objects.velocity[kept],
    )


def seen_from_ego(objects: ObjectStates, ego: EgoState) -> ObjectStates:
    """Poses and velocities in the frame of ego's rear axle."""
    yaw = float(ego.yaw)
    xy = turned(objects.pose[:, :2] - ego_xy(ego), -yaw)
    return replace(
        objects, pose=np.column_stack([xy, objects.pose[:, 2] - yaw]), velocity=turned(objects.velocity, -yaw)
    )


def as_if_from_ego(objects: ObjectStates, ego: EgoState) -> ObjectStates:
    """Inverse of `seen_from_ego`, for a possibly different ego."""
    yaw = float(ego.yaw)
    xy = turned(objects.pose[:, :2], yaw) + ego_xy(ego)
    return replace(
        objects, pose=np.column_stack([xy, objects.pose[:, 2] + yaw]), velocity=turned(objects.velocity, yaw)
    )

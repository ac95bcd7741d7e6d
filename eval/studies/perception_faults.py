"""Faults of the first perception channel: rows 1 to 5, 7 and 16 of the catalogue.

They leave the second channel alone, except where both are lost: that is what the second one is for.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np

from eval.studies.fault_base import (
    Faulty,
    ahead_on_route,
    as_if_from_ego,
    ego_xy,
    kept_objects,
    most_relevant,
    moved_to,
    seen_from_ego,
    turned,
)
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from planner.scene import AgentClass, EgoState, VectorScene

GHOST_ID = 990_001


class Missed(Faulty):
    """Row 1: the most relevant object is not reported for `size` seconds."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.victim: int | None = None

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active or self.since >= self.size - 1e-9:
            return objects
        if self.victim is None:
            self.victim = most_relevant(objects, ego, self.recording)
        return kept_objects(objects, objects.track_id != self.victim)


class Ghost(Faulty):
    """Row 2: a car that is not there, standing 1.5 s ahead of ego in its lane, for `size` seconds."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.pose: np.ndarray | None = None

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active or self.since >= self.size - 1e-9:
            return objects
        if self.pose is None:
            ahead = max(1.5 * float(ego.v), 8.0) + self.recording.vehicle.front + 2.2
            self.pose = ahead_on_route(self.recording, ego, ahead)
        return ObjectStates(
            np.append(objects.track_id, GHOST_ID), np.append(objects.agent_class, int(AgentClass.CAR)),
            np.concatenate([objects.size, [[4.4, 1.85]]]), np.concatenate([objects.pose, self.pose[None]]),
            np.concatenate([objects.velocity, np.zeros((1, 2))]),
        )  # fmt: skip


class PositionBias(Faulty):
    """Row 3: everything is reported `size` metres farther away along the line of sight."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active or not len(objects):
            return objects
        away = objects.pose[:, :2] - ego_xy(ego)
        unit = away / np.maximum(np.hypot(*away.T), 1e-6)[:, None]
        return moved_to(objects, objects.pose[:, :2] + self.size * unit)


class SpeedBias(Faulty):
    """Row 3: everything that moves is reported `size` m/s faster in its direction of travel (slower if negative)."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active:
            return objects
        speed = np.hypot(*objects.velocity.T)
        factor = np.where(speed > 0.2, np.maximum(speed + self.size, 0.0) / np.maximum(speed, 1e-6), 1.0)
        return replace(objects, velocity=objects.velocity * factor[:, None])


class YawBias(Faulty):
    """Row 3: headings and directions of travel are reported turned by `size` degrees."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active:
            return objects
        angle = math.radians(self.size)
        pose = objects.pose + np.array([0.0, 0.0, angle])
        return replace(objects, pose=pose, velocity=turned(objects.velocity, angle))


class FrameDrop(Faulty):
    """Row 4: with probability `size` per cycle the last reported objects come again, as they were seen from ego."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.last: ObjectStates | None = None

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if self.active and self.last is not None and self.rng.uniform() < self.size:
            return as_if_from_ego(self.last, ego)
        self.last = seen_from_ego(objects, ego)
        return objects


class Frozen(Faulty):
    """Row 4: for `size` seconds the same content comes under new stamps, as it was seen from ego at the onset."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.content: ObjectStates | None = None

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active or self.since >= self.size - 1e-9:
            return objects
        if self.content is None:
            self.content = seen_from_ego(objects, ego)
        return as_if_from_ego(self.content, ego)


class Latency(Faulty):
    """Row 5: objects are reported where they were `size` seconds ago, under the present stamp."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.past: deque[ObjectStates] = deque(maxlen=round(self.size / recording.dt) + 1)

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        self.past.append(objects)
        return self.past[0] if self.active else objects


class OutOfOrder(Faulty):
    """Row 5: with probability `size` per cycle the scene of the cycle before comes instead, with its own stamp."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.last: VectorScene | None = None

    def scene(self, scene: VectorScene) -> VectorScene:
        old, self.last = self.last, scene
        return old if self.active and old is not None and self.rng.uniform() < self.size else scene


class Calibration(Faulty):
    """Row 7: the sensor is turned by `size` degrees on the vehicle; everything is seen turned about ego."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active:
            return objects
        angle, centre = math.radians(self.size), ego_xy(ego)
        seen = moved_to(objects, centre + turned(objects.pose[:, :2] - centre, angle))
        pose = seen.pose + np.array([0.0, 0.0, angle])
        return replace(seen, pose=pose, velocity=turned(objects.velocity, angle))


class FocalLength(Faulty):
    """Row 7: distances are seen `size` per cent too long."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active:
            return objects
        centre = ego_xy(ego)
        return moved_to(objects, centre + (1 + self.size / 100) * (objects.pose[:, :2] - centre))


class Blackout(Faulty):
    """Row 16: for `size` seconds the front camera (70 degrees) shows nothing."""

    half_angle = math.radians(35.0)

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        if not self.active or self.since >= self.size - 1e-9:
            return objects
        away = turned(objects.pose[:, :2] - ego_xy(ego), -float(ego.yaw))
        return kept_objects(objects, np.abs(np.arctan2(away[:, 1], away[:, 0])) > self.half_angle)


class FrozenSweep(Faulty):
    """Row 4: for `size` seconds the LiDAR's old sweep comes under new stamps; the first channel is as it was."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.content: LidarSweep | None = None

    def sweep(self, sweep: LidarSweep) -> LidarSweep | None:
        if not self.active or self.since >= self.size - 1e-9:
            return sweep
        self.content = self.content or sweep
        return replace(self.content, time_us=sweep.time_us)


class TotalBlackout(Faulty):
    """Row 16: for `size` seconds neither channel reports anything."""

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        lost = self.active and self.since < self.size - 1e-9
        return kept_objects(objects, np.zeros(len(objects), bool)) if lost else objects

    def sweep(self, sweep: LidarSweep) -> LidarSweep | None:
        return None if self.active and self.since < self.size - 1e-9 else sweep

"""One drive as nuScenes records it: sensor files, and the rows of the tables that speak of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.simulation.generate import generate
from eval.simulation.record.annotations import Observed, annotation_rows, observed
from eval.simulation.record.config import KEYFRAME_PERIOD, RecordConfig
from eval.simulation.record.moments import at_step
from eval.simulation.record.schema import (
    LIDAR,
    quaternion,
    token,
    yaw_quaternion,
)
from eval.simulation.record.sensor_files import write_image, write_sweep
from eval.simulation.record.towns import Place, moved_recording, with_crossings
from eval.simulation.sensing.camera_rig import CameraRig, nominal_rig
from eval.simulation.sensing.rendered_cameras import Shot
from eval.simulation.sensors import TURN, SensorSuite, moved
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import Boxes3D
from planner.scene import EgoState

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class ScenePlan:
    """One scene to record. name: as in the tables. split: train or val. start_us: time of its first key frame."""

    name: str
    split: str
    family: str
    seed: int
    place: Place
    start_us: int


def town_of(plan: ScenePlan, config: RecordConfig) -> Recording:
    """The generated drive at its place on the map, with its additional crossings. Its name is the generated one."""
    recording = moved_recording(generate(plan.family, plan.seed), plan.place.move)
    if config.crossings_every > 0:
        rng = np.random.default_rng([config.sensors.seed, plan.seed, 31])
        recording = with_crossings(recording, rng, config.crossings_every)
    return replace(recording, start_us=plan.start_us)


def record_scene(
    plan: ScenePlan, config: RecordConfig, root: Path, progress: Callable[[float], None] = lambda _: None
) -> tuple[Rows, Recording]:
    """Render and write the sensor files of one scene below `root`; returns its rows by table, and the drive.

    Nothing depends on other scenes or on what is there already: a scene recorded again gives the same bytes.
    """
    recording = town_of(plan, config)
    rig = _calibrated(plan, config)
    suite = SensorSuite(recording, config.sensors, rig=rig)
    writer = _Writer(plan, config, root, recording, suite)
    step = round(KEYFRAME_PERIOD / recording.dt)
    keyframes = range(0, len(recording.time), step)
    for index, k in enumerate(keyframes):
        writer.key_frame(index, k)
        progress((index + 1) / len(keyframes))
    return writer.finish(), recording


def _calibrated(plan: ScenePlan, config: RecordConfig) -> CameraRig:
    """The nominal rig, every camera turned and moved a little, the same for a whole scene."""
    rig = nominal_rig(config.sensors.cameras.height, config.sensors.cameras.width)
    rng = np.random.default_rng([config.sensors.seed, plan.seed, 32])
    poses = rig.ego_from_camera.copy()
    for pose in poses:
        angle = np.deg2rad(config.calibration_spread) * rng.standard_normal(3)
        skew = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
        # Cayley's map: an exact rotation near the identity.
        pose[:3, :3] = pose[:3, :3] @ np.linalg.solve(np.eye(3) + skew / 2, np.eye(3) - skew / 2)
        pose[:3, 3] += 0.01 * config.calibration_spread * rng.standard_normal(3)
    return replace(rig, ego_from_camera=poses)


class _Writer:
    """Collects the rows of one scene, key frame by key frame."""

    def __init__(
        self, plan: ScenePlan, config: RecordConfig, root: Path, recording: Recording, suite: SensorSuite
    ) -> None:
        self.plan, self.config, self.root, self.recording, self.suite = plan, config, root, recording, suite
        self.log = f"sim-{plan.family}-{plan.seed:04d}"
        self.rows: Rows = {"ego_pose": [], "sample_data": [], "sample": []}
        self.frames: list[Observed] = []
        self._last: dict[str, dict[str, Any]] = {}

    def key_frame(self, index: int, k: int) -> None:
        """Render, write and note everything of the key frame at entry k of the recording."""
        ego, objects = at_step(self.recording, k)
        sample = token("sample", self.plan.name, index)
        self.rows["sample"].append(
            {"token": sample, "timestamp": int(ego.time_us), "scene_token": token("scene", self.plan.name)}
        )
        sweep = None
        if self.suite.lidar is not None:
            for back in range(self.config.past_sweeps, 0, -1):
                if k - (back + 1) // 2 >= 0:
                    past = at_step(self.recording, k - back // 2)
                    past = moved(*past, -TURN) if back % 2 else past
                    self._sweep(sample, *past, key=False)
            sweep = self._sweep(sample, ego, objects, key=True)
        shots = self.suite.cameras.shots(ego, objects) if self.suite.cameras is not None else []
        for index_of_camera, shot in enumerate(shots):
            self._image(sample, index_of_camera, shot)
        self.frames.append(observed(objects, self._boxes(objects), sweep, shots))

    def _sweep(self, sample: str, ego: EgoState, objects: ObjectStates, key: bool):
        assert self.suite.lidar is not None
        sweep = self.suite.lidar.sweep(ego, objects)
        name = self._data(sample, LIDAR, sweep.time_us, sweep.global_from_ego, key, "pcd.bin", (0, 0))
        write_sweep(self.root / name, sweep, self.config.keep_misses)
        return sweep

    def _image(self, sample: str, index: int, shot: Shot) -> None:
        assert self.suite.cameras is not None
        channel = self.suite.cameras.rig.channel[index]
        size = shot.image.shape[0], shot.image.shape[1]
        name = self._data(sample, channel, shot.time_us, shot.global_from_ego, True, "jpg", size)
        write_image(self.root / name, shot.image, self.config.jpeg_quality)

    def _data(
        self, sample: str, channel: str, time_us: int, pose: np.ndarray, key: bool, ending: str, size: tuple[int, int]
    ) -> str:
        """Rows for one sensor file; returns its name below the root."""
        own = token("sample_data", self.plan.name, channel, time_us)
        folder = "samples" if key else "sweeps"
        name = f"{folder}/{channel}/{self.log}__{channel}__{time_us}.{ending}"
        before = self._last.get(channel)
        row = {
            "token": own, "sample_token": sample, "ego_pose_token": own,
            "calibrated_sensor_token": token("calibrated_sensor", self.plan.name, channel), "timestamp": time_us,
            "fileformat": ending.split(".")[0], "is_key_frame": key, "height": size[0], "width": size[1],
            "filename": name, "prev": before["token"] if before else "", "next": "",
        }  # fmt: skip
        if before:
            before["next"] = own
        self._last[channel] = row
        self.rows["sample_data"].append(row)
        self.rows["ego_pose"].append(
            {
                "token": own,
                "timestamp": time_us,
                "rotation": quaternion(pose[:3, :3]),
                "translation": pose[:3, 3].tolist(),
            }
        )
        return name

    def _boxes(self, objects: ObjectStates) -> Boxes3D:
        """The objects' boxes, standing on the ground."""
        agents = self.recording.agents
        height = dict(zip(agents.track_id.tolist(), agents.height.tolist()))
        tall = np.array([height[t] for t in objects.track_id.tolist()])
        level = self.suite.lidar.surroundings.ground.waves(objects.pose[:, :2]) if self.suite.lidar else 0.0
        return Boxes3D(
            center=np.c_[objects.pose[:, :2], level + tall / 2],
            size=np.c_[objects.size, tall],
            yaw=objects.pose[:, 2],
            agent_class=objects.agent_class,
        )

    def finish(self) -> Rows:
        """All rows of the scene."""
        plan, samples = self.plan, self.rows["sample"]
        for i, row in enumerate(samples):
            row["prev"] = samples[i - 1]["token"] if i else ""
            row["next"] = samples[i + 1]["token"] if i + 1 < len(samples) else ""
        light = self.suite.cameras.light.kind if self.suite.cameras is not None else "no cameras"
        log = token("log", plan.name)
        self.rows["log"] = [
            {"token": log, "logfile": self.log, "vehicle": "sim", "date_captured": "2023-11-14",
             "location": plan.place.location}
        ]  # fmt: skip
        self.rows["scene"] = [
            {"token": token("scene", plan.name), "log_token": log, "nbr_samples": len(samples), "name": plan.name,
             "first_sample_token": samples[0]["token"], "last_sample_token": samples[-1]["token"],
             "description": f"Simulated, {plan.family} {plan.seed:04d}, {light}"}
        ]  # fmt: skip
        self.rows["calibrated_sensor"] = self._calibrations()
        samples_of = [row["token"] for row in samples]
        self.rows |= annotation_rows(
            plan.name, samples_of, self.recording, self.frames, round(KEYFRAME_PERIOD / self.recording.dt),
            self.config.annotation_range,
        )  # fmt: skip
        return self.rows

    def _calibrations(self) -> list[dict[str, Any]]:
        sensors: list[tuple[str, np.ndarray, list[Any]]] = []
        if self.suite.lidar is not None:
            sensors.append((LIDAR, self.suite.lidar.sensor.ego_from_lidar, []))
        if self.suite.cameras is not None:
            rig = self.suite.cameras.rig
            sensors += [(c, p, k.tolist()) for c, p, k in zip(rig.channel, rig.ego_from_camera, rig.intrinsics)]
        return [
            {"token": token("calibrated_sensor", self.plan.name, channel), "sensor_token": token("sensor", channel),
             "translation": pose[:3, 3].tolist(), "rotation": quaternion(pose[:3, :3]), "camera_intrinsic": intrinsic}
            for channel, pose, intrinsic in sensors
        ]  # fmt: skip


def ego_path(recording: Recording) -> list[dict[str, Any]]:
    """The CAN bus expansion's `pose` messages: 50 Hz along the recorded drive."""
    ego, start = recording.ego, float(recording.time[0])
    time = np.arange(start, float(recording.time[-1]) + 1e-9, 0.02)
    yaw = np.interp(time, recording.time, np.unwrap(ego.pose[:, 2]))
    x, y = (np.interp(time, recording.time, ego.pose[:, i]) for i in (0, 1))
    v, a, rate = (np.interp(time, recording.time, column) for column in (ego.v, ego.a, ego.yaw_rate))
    return [
        {"utime": recording.start_us + round((t - start) * 1e6), "pos": [float(x[i]), float(y[i]), 0.0],
         "orientation": yaw_quaternion(float(yaw[i])), "vel": [float(v[i]), 0.0, 0.0],
         "accel": [float(a[i]), float(v[i] * rate[i]), 9.81], "rotation_rate": [0.0, 0.0, float(rate[i])]}
        for i, t in enumerate(time)
    ]  # fmt: skip

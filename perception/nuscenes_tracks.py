"""nuScenes poses and annotations -> ego track and agents on a uniform 10 Hz grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solveh_banded

from perception.nuscenes_tables import DatasetError, get, numbers, table_path, yaw_of
from perception.polyline import wrap
from perception.recording import AgentLog, EgoTrack
from planner.scene import AgentClass

STEP = 0.1  # s
POSE_SIGMA = 0.05  # m (and rad / 5): how far the smooth motion may leave the recorded poses

CLASS_OF = {
    "vehicle.car": AgentClass.CAR,
    "vehicle.emergency.police": AgentClass.CAR,
    "vehicle.truck": AgentClass.TRUCK,
    "vehicle.trailer": AgentClass.TRUCK,
    "vehicle.construction": AgentClass.TRUCK,
    "vehicle.emergency.ambulance": AgentClass.TRUCK,
    "vehicle.bus.bendy": AgentClass.BUS,
    "vehicle.bus.rigid": AgentClass.BUS,
    "vehicle.motorcycle": AgentClass.MOTORCYCLE,
    "vehicle.bicycle": AgentClass.BICYCLE,
    "animal": AgentClass.PEDESTRIAN,
}


def agent_class(category: str) -> AgentClass:
    """Class of a nuScenes category; unknown vehicles are cars, unknown humans pedestrians, the rest static."""
    if category in CLASS_OF:
        return CLASS_OF[category]
    kinds = {"human": AgentClass.PEDESTRIAN, "vehicle": AgentClass.CAR}
    return kinds.get(category.split(".")[0], AgentClass.STATIC)


def time_grid(samples: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(time ``[T]`` s after the first key frame, 0.1 s apart; keyframe ``[T]`` bool).

    Raises DatasetError where the samples' times do not increase.
    """
    stamp = np.array([s["timestamp"] for s in samples], dtype=np.int64)
    if (np.diff(stamp) <= 0).any():
        raise DatasetError(f"sample.json: times do not increase near sample {samples[0]['token']}", "copy it again")
    after = (stamp - stamp[0]) / 1e6
    time = np.arange(round(after[-1] / STEP) + 1) * STEP
    keyframe = np.zeros(len(time), bool)
    keyframe[np.clip(np.rint(after / STEP).astype(int), 0, len(time) - 1)] = True
    return time, keyframe


def ego_poses(tables: Any, samples: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(seconds after the first key frame ``[K]``, pose ``[K, 3]``) of every LIDAR_TOP record of the scene.

    Sweeps between the key frames are used where the tables have them. Raises DatasetError for
    missing records, NaN and broken rotations.
    """
    channel = "LIDAR_TOP" if "LIDAR_TOP" in samples[0]["data"] else next(iter(sorted(samples[0]["data"])), None)
    if channel is None:
        raise DatasetError(f"sample_data.json has no sensor record for sample {samples[0]['token']}", "copy it again")
    where = str(table_path(tables.dataroot, tables.version, "ego_pose"))
    begin, end = samples[0]["timestamp"], samples[-1]["timestamp"]
    tokens = {s["data"].get(channel) for s in samples} - {None}
    sweep, seen = samples[0]["data"][channel], set()
    while sweep and sweep not in seen:
        seen.add(sweep)
        record = get(tables, "sample_data", sweep, f"the chain of {channel}")
        if record["timestamp"] > end + 100_000:
            break
        tokens.add(sweep)
        sweep = record.get("next", "")
    poses: dict[float, list[float]] = {}
    for token in tokens:
        record = get(tables, "sample_data", token, f"a sample of {samples[0]['token']}'s scene")
        pose = get(tables, "ego_pose", record["ego_pose_token"], f"sample_data {token}")
        xyz = numbers(pose, "translation", 3, where)
        poses[(record["timestamp"] - begin) / 1e6] = [xyz[0], xyz[1], yaw_of(pose, where)]
    if len(poses) < 2:
        raise DatasetError(f"{where}: fewer than 2 ego poses for the scene", "copy the tables again")
    time = np.array(sorted(poses))
    return time, np.array([poses[t] for t in time])


def smooth(known_time: np.ndarray, known: np.ndarray, time: np.ndarray, sigma: float, jerk: float) -> np.ndarray:
    """Values ``[T]`` on a uniform grid: the maximum-likelihood motion under white jerk and white noise.

    Minimises sum(((x(t_k) - X_k) / sigma)^2) + sum((x''' / jerk)^2), a banded least-squares problem
    (penalised smoothing with third differences; Eilers, Anal. Chem. 75, 2003). x(t_k) is linear
    between grid points. sigma in the unit of x, jerk in its unit / s^3.
    """
    count, step = len(time), float(time[1] - time[0])
    bands = np.zeros((4, count))
    if count > 3:
        d = np.array([-1.0, 3.0, -3.0, 1.0]) / (step**3 * jerk)
        for i in range(4):
            for j in range(i + 1):
                bands[3 - (i - j), i : count - 3 + i] += d[i] * d[j]
    position = np.clip((known_time - time[0]) / step, 0, count - 1)
    low = np.minimum(position.astype(int), count - 2)
    share = position - low
    # A straight line costs nothing: taking it out keeps the numbers small and the tiny ridge harmless.
    slope = (known[-1] - known[0]) / (known_time[-1] - known_time[0])
    line = known[0] + slope * (time - known_time[0])
    rest = known - known[0] - slope * (known_time - known_time[0])
    right = np.zeros(count)
    for index, weight in ((low, 1 - share), (low + 1, share)):
        np.add.at(bands[3], index, (weight / sigma) ** 2)
        np.add.at(right, index, weight * rest / sigma**2)
    np.add.at(bands[2], low + 1, share * (1 - share) / sigma**2)
    bands[3] += 1e-6 / sigma**2
    return line + solveh_banded(bands, right)


def ego_track(known_time: np.ndarray, known: np.ndarray, time: np.ndarray) -> EgoTrack:
    """Ego on the grid ``[T]`` from poses ``[K, 3]``.

    Poses are interpolated (they pass through the recorded ones to a millimetre or so); v, a, yaw
    rate and curvature come from a smoother fit, because a second difference of poses is mostly noise.
    v is along the heading and signed. Below 0.5 m/s curvature says nothing and fades to 0.
    """
    yaw = np.unwrap(known[:, 2])
    origin = known[0, :2]
    tight = [smooth(known_time, c, time, 1e-3, 5.0) for c in (*(known[:, :2] - origin).T, yaw)]
    x, y = (smooth(known_time, c, time, POSE_SIGMA, 1.0) for c in (known[:, :2] - origin).T)
    smooth_yaw = smooth(known_time, yaw, time, POSE_SIGMA / 5, 0.5)
    vx, vy, yaw_rate = (np.gradient(c, time) for c in (x, y, smooth_yaw))
    v = np.cos(smooth_yaw) * vx + np.sin(smooth_yaw) * vy
    forward = _recorded_speed(known_time, known, time)
    v = np.where(forward > -0.05, np.maximum(v, 0.0), v)
    still = np.abs(forward) < 0.02
    v[still], yaw_rate[still] = 0.0, 0.0
    curvature = yaw_rate * v / np.maximum(v**2, 0.25)
    pose = np.stack([tight[0] + origin[0], tight[1] + origin[1], wrap(tight[2])], 1)
    return EgoTrack(pose, v, np.gradient(v, time), curvature, yaw_rate, "poses")


def _recorded_speed(known_time: np.ndarray, known: np.ndarray, time: np.ndarray) -> np.ndarray:
    """``[T]`` m/s: mean signed speed along the heading between the two recorded poses around each time."""
    step = np.diff(known[:, :2], axis=0) / np.diff(known_time)[:, None]
    yaw = np.unwrap(known[:, 2])
    yaw = (yaw[:-1] + yaw[1:]) / 2
    speed = np.cos(yaw) * step[:, 0] + np.sin(yaw) * step[:, 1]
    return speed[np.clip(np.searchsorted(known_time, time, side="right") - 1, 0, len(speed) - 1)]


def agent_log(tables: Any, samples: list[dict[str, Any]], time: np.ndarray) -> AgentLog:
    """All annotated objects on the grid ``[T]``, ordered by instance token.

    Between two annotations position is linear and heading turns the short way. An object exists
    only from its first to its last annotation. Velocities are the devkit's: central differences of
    the annotated positions (one-sided at the ends), linear between key frames, 0 for an object
    annotated once. Raises DatasetError for NaN, broken rotations and sizes.
    """
    where = str(table_path(tables.dataroot, tables.version, "sample_annotation"))
    tracks: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    begin = samples[0]["timestamp"]
    for sample in samples:
        for token in sample["anns"]:
            record = get(tables, "sample_annotation", token, f"sample {sample['token']}")
            tracks.setdefault(record["instance_token"], []).append(((sample["timestamp"] - begin) / 1e6, record))
    ids = sorted(tracks)
    log = AgentLog.empty(len(time))
    log.id, log.track_id = ids, np.arange(1, len(ids) + 1, dtype=np.int64)
    log.agent_class = np.array([agent_class(tracks[i][0][1]["category_name"]) for i in ids], dtype=np.int64)
    log.size, log.height = np.ones((len(ids), 2)), np.ones(len(ids))
    log.pose, log.velocity = np.zeros((len(ids), len(time), 3)), np.zeros((len(ids), len(time), 2))
    log.valid = np.zeros((len(ids), len(time)), bool)
    for n, i in enumerate(ids):
        at = np.array([t for t, _ in tracks[i]])
        records = [record for _, record in tracks[i]]
        xy = np.array([numbers(r, "translation", 3, where)[:2] for r in records])
        yaw = np.unwrap([yaw_of(r, where) for r in records])
        sizes = np.array([numbers(r, "size", 3, where) for r in records])
        if (sizes <= 0).any():
            raise DatasetError(f"{where}: instance {i} has a size that is not positive", "repair or remove the record")
        width, length, log.height[n] = np.median(sizes, axis=0)
        log.size[n] = length, width
        velocity = annotated_velocity(at, xy)
        for k, column in enumerate((xy[:, 0], xy[:, 1], yaw)):
            log.pose[n, :, k] = np.interp(time, at, column)
        log.pose[n, :, 2] = wrap(log.pose[n, :, 2])
        for k in range(2):
            log.velocity[n, :, k] = np.interp(time, at, velocity[:, k])
        # Key frames fall between grid points: half a step of tolerance keeps every annotation visible.
        log.valid[n] = (time >= at[0] - STEP / 2 - 1e-9) & (time <= at[-1] + STEP / 2 - 1e-9)
    return log


def annotated_velocity(at: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """``[K, 2]`` m/s at the annotations' times ``[K]``: `NuScenes.box_velocity`, but never NaN.

    0 for a single annotation; over long gaps the difference is used all the same.
    """
    if len(at) < 2:
        return np.zeros_like(xy)
    k = np.arange(len(at))
    before, after = np.maximum(k - 1, 0), np.minimum(k + 1, len(at) - 1)
    return (xy[after] - xy[before]) / (at[after] - at[before])[:, None]

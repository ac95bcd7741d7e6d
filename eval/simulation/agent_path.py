"""What a recorded vehicle intends: its path, how fast it takes it, and where it stops until when."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import maximum_filter1d
from scipy.signal import savgol_filter

from eval.simulation.simulation_config import IdmConfig
from perception.road_map import Lane, RoadMap

SPACING = 0.5  # m between the points of an AgentPath
_CREEP = 1.0  # m/s; nobody is asked to drive slower than this between stops, so that nobody gets stuck
_EXTENSION = 150.0  # m of path beyond the last recorded pose
_BLEND = 20.0  # m over which an extension turns from the recorded pose onto its lane
_GRIP = 3.0  # m/s^2, lateral, on the extension


@dataclass
class AgentPath:
    """The path of one vehicle, points every `SPACING` metres along the way of its box centre.

    xy ``[n, 2]`` (m), yaw ``[n]`` of the box (rad, unwrapped), direction ``[n]`` of travel (rad, unwrapped; opposite
    to yaw for a vehicle that backs up), speed ``[n]`` upper speed (m/s), acceleration ``[n]`` the recorded one where
    it is positive (m/s^2), log_time ``[n]`` when the recorded vehicle was there (s).
    schedule ``[T]`` where the recorded vehicle is on the path at each time of the recording (m; 0 before, infinite
    after its last time if it left while moving), schedule_speed ``[T]`` how fast (m/s).
    first, last: indices of its first and last time. recorded_length (m): the path beyond is extrapolated.
    """

    xy: np.ndarray
    yaw: np.ndarray
    direction: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    log_time: np.ndarray
    schedule: np.ndarray
    schedule_speed: np.ndarray
    first: int
    last: int
    recorded_length: float


@dataclass(frozen=True)
class RecordingQuality:
    """How far a recording's speeds can be believed.

    smoothing (s): window of the straight lines whose slope is the speed. braking (m/s^2): decelerations beyond this
    are taken for noise.
    """

    smoothing: float
    braking: float


ANNOTATED = RecordingQuality(smoothing=2.0, braking=4.0)
"""Interpolated annotations: distances jump by tens of per cent from key frame to key frame."""

EXACT = RecordingQuality(smoothing=0.4, braking=9.0)
"""Generated recordings."""


def build_path(
    pose: np.ndarray,
    valid: np.ndarray,
    time: np.ndarray,
    road: RoadMap,
    config: IdmConfig,
    quality: RecordingQuality = ANNOTATED,
) -> AgentPath | None:
    """The path of one recorded vehicle; None if it stood all the time, or moved both forwards and backwards.

    pose ``[T, 3]`` (m, m, rad), valid ``[T]``, time ``[T]`` (s). The speed profile is the slope of the distance
    covered, smoothed as `quality` says and lowered ahead of slower places so that no harder braking is needed for
    them. Beyond the recorded end the path follows the lane the vehicle is in and the straightest successors (without
    a lane: straight on to the edge of the drivable area) at the last recorded speed, slower in bends.
    """
    index = np.flatnonzero(valid)
    if len(index) < 3:
        return None
    first, last, times = int(index[0]), int(index[-1]), len(time)
    pose, time = pose[index], time[index]
    yaw = np.unwrap(pose[:, 2])
    sense = _sense(pose[:, :2], yaw)
    kept = _kept(pose[:, :2], yaw, sense) if sense else []
    if len(kept) < 2:
        return None
    s_kept = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(pose[kept, :2], axis=0), axis=1))])
    if s_kept[-1] < config.moving_distance:
        return None
    s_log = _progress(pose[:, :2], kept, s_kept)
    dt = float(time[1] - time[0])
    window = min(2 * round(quality.smoothing / dt / 2) + 1, len(s_log) - (1 - len(s_log) % 2))
    v_log = np.maximum(savgol_filter(s_log, window, 1, deriv=1, delta=dt), 0.0)

    length = float(s_kept[-1])
    s = np.arange(0.0, length, SPACING)
    xy = np.stack([np.interp(s, s_kept, pose[kept, i]) for i in (0, 1)], -1)
    path_yaw = np.interp(s, s_kept, yaw[kept])
    # The time of first arrival and of last presence differ where it stood; for "who was first" the arrival counts.
    arrival = np.concatenate([[True], np.diff(s_log) > 1e-6])
    log_time = np.interp(s, s_log[arrival], time[arrival])
    speed = np.interp(s, s_log[arrival], v_log[arrival])
    if sense > 0:
        ahead = _extension(np.array([*xy[-1], path_yaw[-1]]), road, float(v_log[-1]))
        end_yaw = np.unwrap(np.concatenate([path_yaw[-1:], ahead[:, 2]]))[1:]
        step = SPACING / max(float(v_log[-1]), _CREEP)
        log_time = np.concatenate([log_time, float(time[-1]) + step * np.arange(1, len(ahead) + 1)])
        xy, path_yaw = np.concatenate([xy, ahead[:, :2]]), np.concatenate([path_yaw, end_yaw])
        speed = np.concatenate([speed, ahead[:, 3]])
    if len(xy) < 3:
        return None
    tangent = np.gradient(xy, axis=0)
    direction = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    speed = _brakeable(np.maximum(speed, _CREEP), quality.braking)
    # The slope over the distance is steep and short where a vehicle sets off; the filter widens it to 2 m either side.
    acceleration = maximum_filter1d(np.clip(speed * np.gradient(speed, SPACING), 0.0, 4.0), 9)
    place = np.interp(
        np.arange(times), index, np.maximum(np.maximum.accumulate(savgol_filter(s_log, window, 1)), s_log)
    )
    pace = np.interp(np.arange(times), index, v_log)
    if v_log[-1] >= config.stop_speed:
        place[last + 1 :] = np.inf
    return AgentPath(xy, path_yaw, direction, speed, acceleration, log_time, place, pace, first, last, length)


def _sense(xy: np.ndarray, yaw: np.ndarray) -> int:
    """+1 for a vehicle that drives forwards, -1 backwards, 0 for both."""
    stride = min(5, len(xy) - 1)
    step = xy[stride:] - xy[:-stride]
    along = (step[:, 0] * np.cos(yaw[:-stride]) + step[:, 1] * np.sin(yaw[:-stride])) / stride
    along = along[np.linalg.norm(step, axis=1) > 0.1]
    forwards, backwards = along[along > 0].sum(), -along[along < 0].sum()
    if min(forwards, backwards) > 1.5:
        return 0
    return 1 if forwards >= backwards else -1


def _kept(xy: np.ndarray, yaw: np.ndarray, sense: int) -> list[int]:
    """Indices that trace the path without the jitter of a standing box: 0.3 m apart and in the sense of travel."""
    kept = [0]
    for i in range(1, len(xy)):
        step = xy[i] - xy[kept[-1]]
        distance = math.hypot(*step)
        along = sense * (step[0] * math.cos(yaw[i]) + step[1] * math.sin(yaw[i]))
        if distance > 0.3 and along > 0.7 * distance:
            kept.append(i)
    return kept


def _progress(xy: np.ndarray, kept: list[int], s_kept: np.ndarray) -> np.ndarray:
    """``[T]`` metres along the path at each recorded time, never decreasing."""
    s = np.full(len(xy), s_kept[-1])
    for a, b, s0, s1 in zip(kept[:-1], kept[1:], s_kept[:-1], s_kept[1:]):
        segment = xy[b] - xy[a]
        share = (xy[a:b] - xy[a]) @ segment / float(segment @ segment)
        s[a:b] = s0 + np.clip(share, 0.0, 1.0) * (s1 - s0)
    return np.maximum.accumulate(s)


def _brakeable(speed: np.ndarray, braking: float) -> np.ndarray:
    """Speeds (m/s) every `SPACING` metres, lowered ahead of slow places: v^2 <= v_next^2 + 2 b ds."""
    # v^2 + 2 b s may not exceed its own value further on.
    slope = 2 * braking * SPACING * np.arange(len(speed))
    return np.sqrt(np.minimum.accumulate((speed**2 + slope)[::-1])[::-1] - slope)


def _extension(pose: np.ndarray, road: RoadMap, speed: float) -> np.ndarray:
    """``[n, 4]`` x, y, yaw, speed every `SPACING` metres after a pose ``[3]``; empty where there is nowhere to go."""
    steps = np.arange(1, int(_EXTENSION / SPACING) + 1) * SPACING
    line = _lane_ahead(pose, road)
    if line is None:
        xy = pose[:2] + steps[:, None] * np.array([math.cos(pose[2]), math.sin(pose[2])])
        outside = ~_contains(road, xy)
        xy = xy[: int(np.argmax(outside))] if outside.any() else xy
    else:
        s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        steps = steps[steps <= s[-1]]
        fade = np.clip(1 - steps / _BLEND, 0.0, 1.0)
        xy = np.stack([np.interp(steps, s, line[:, i]) for i in (0, 1)], -1)
        xy = xy + (fade * fade * (3 - 2 * fade))[:, None] * (pose[:2] - line[0])
    if len(xy) < 3:
        return np.zeros((0, 4))
    step = np.gradient(np.concatenate([pose[None, :2], xy]), axis=0)[1:]
    yaw = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    bend = np.abs(np.gradient(yaw, SPACING))
    bend = np.convolve(np.pad(bend, 5, mode="edge"), np.ones(11) / 11, mode="valid")
    return np.column_stack([xy, yaw, np.minimum(speed, np.sqrt(_GRIP / np.maximum(bend, 1e-3)))])


def _lane_ahead(pose: np.ndarray, road: RoadMap) -> np.ndarray | None:
    """``[n, 2]`` centreline from the point nearest to a pose on along the straightest successors."""
    best: tuple[float, Lane, int] | None = None
    for lane in road.lanes_at(pose[:2], 1.0):
        distance = np.linalg.norm(lane.centerline - pose[:2], axis=1)
        i = int(np.argmin(distance))
        turned = abs(_turn(float(lane.heading[i]), pose[2]))
        score = float(distance[i]) + 2 * turned
        if turned < math.radians(30) and (best is None or score < best[0]):
            best = (score, lane, i)
    if best is None:
        return None
    _, lane, i = best
    parts, length, seen = [lane.centerline[i:]], lane.length - float(lane.arc_length[i]), {lane.id}
    while length < _EXTENSION:
        following = [road.lanes[j] for j in lane.successors if j in road.lanes and j not in seen]
        if not following:
            break
        end = float(lane.heading[-1])
        lane = min(following, key=lambda option: abs(_turn(float(option.heading[-1]), end)))
        seen.add(lane.id)
        parts.append(lane.centerline)
        length += lane.length
    line = np.concatenate(parts)
    distinct = np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3])
    return line[distinct] if distinct.sum() >= 2 else None


def _contains(road: RoadMap, xy: np.ndarray) -> np.ndarray:
    return shapely.contains_xy(road.prepared_drivable, xy[:, 0], xy[:, 1])


def _turn(a: float, b: float) -> float:
    return (a - b + math.pi) % (2 * math.pi) - math.pi

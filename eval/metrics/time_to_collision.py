"""Time to collision at constant velocities, as nuPlan scores it."""

from __future__ import annotations

import numpy as np

from eval.metrics import geometry
from eval.metrics.collision import BEHIND, find_collisions
from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

LEAST = 0.95  # s
STEP, HORIZON = 0.1, 3.0  # s
STOPPED_SPEED = 0.005  # m/s
AHEAD = np.deg2rad(30.0)


def times_to_collision(drive: Drive) -> tuple[np.ndarray, np.ndarray]:
    """TTC (s) ``[T]``, inf where nothing is hit before 3 s; and the index ``[T]`` of the agent, -1 if none.

    Ego moves on along its heading, agents along their velocity vector; both keep their heading.
    Looked at are agents ahead (bearing < 30 degrees) and, where ego is between lanes or in a
    junction, all that are not behind (> 150 degrees); an agent already touched no longer counts.
    """
    trace = drive.trace
    ttc, who = np.full(drive.steps, np.inf), np.full(drive.steps, -1)
    looked_at = trace.agent_valid.copy()
    hits = find_collisions(drive)
    row = {int(track): i for i, track in enumerate(trace.track_id)}
    for hit in hits:
        looked_at[row[hit.track_id], hit.step :] = False
    looked_at &= np.abs(trace.v) > STOPPED_SPEED

    reach = HORIZON * (np.abs(trace.v) + drive.agent_speed) + 0.5 * np.hypot(*trace.size.T)[:, None] + 10.0
    looked_at &= np.linalg.norm(trace.agent_pose[..., :2] - drive.center[:, :2], axis=-1) < reach
    angle = geometry.bearing(trace.pose, trace.agent_pose[..., :2])
    wide = drive.between_lanes | drive.in_junction
    looked_at &= (angle < AHEAD) | (wide & (angle <= BEHIND))

    agent, step = np.nonzero(looked_at)
    heading = trace.pose[step, 2]
    ego_velocity = trace.v[step, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    closing = trace.agent_velocity[agent, step] - ego_velocity
    ego, other = drive.corners[step], drive.agent_corners[agent, step]
    open_pairs = np.ones(len(agent), bool)
    # Only the relative motion matters to an overlap, so ego is held still.
    for ahead in np.arange(1, round(HORIZON / STEP)) * STEP:
        i = np.flatnonzero(open_pairs)
        hit = i[geometry.boxes_overlap(ego[i], other[i] + ahead * closing[i, None])]
        open_pairs[hit] = False
        sooner = hit[ahead < ttc[step[hit]]]
        ttc[step[sooner]], who[step[sooner]] = ahead, agent[sooner]
    for hit in hits:
        if hit.at_fault:
            ttc[hit.step], who[hit.step] = 0.0, row[hit.track_id]
    return ttc, who


def time_to_collision(drive: Drive) -> MetricResult:
    """TTC: 1 if the time to collision exceeds 0.95 s at every step, else 0."""
    ttc, who = times_to_collision(drive)
    return _result(drive, float(ttc.min() > LEAST), "score", ttc, who)


def min_time_to_collision(drive: Drive) -> MetricResult:
    """Smallest time to collision (s) of the drive; 3.0 means none below three seconds."""
    ttc, who = times_to_collision(drive)
    return _result(drive, min(float(ttc.min()), HORIZON), "s", ttc, who)


def _result(drive: Drive, value: float, unit: str, ttc: np.ndarray, who: np.ndarray) -> MetricResult:
    detail: dict = {}
    if np.isfinite(ttc.min()):
        step = int(ttc.argmin())
        detail = {
            "min_s": round(float(ttc[step]), 2),
            "time": round(float(drive.trace.time[step]), 3),
            "track_id": int(drive.trace.track_id[who[step]]),
            "steps_below": int((ttc <= LEAST).sum()),
        }
    if drive.annotation_gap:
        return MetricResult(value, False, unit, {**detail, "why": drive.annotation_gap})
    return MetricResult(value, True, unit, detail)

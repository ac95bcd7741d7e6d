"""Keeping the speed limit, weighed by excess and duration."""

from __future__ import annotations

import numpy as np

from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult
from perception.road_map import Lane

WORST_EXCESS = 2.23  # m/s (5 mph); driven all the time this far above the limit scores 0


def _limit(drive: Drive, lane: Lane | None) -> float:
    """Limit (m/s) that applies in a lane, inf if unknown; on a connector the highest of the lanes it joins."""
    if lane is None:
        return np.inf
    lanes = drive.recording.road.lanes
    joined = [lanes[i] for i in (*lane.predecessors, *lane.successors) if i in lanes] if lane.connector else []
    limits = [x.speed_limit for x in (joined or [lane])]
    return max(limits) if all(np.isfinite(limit) and limit > 0 for limit in limits) else np.inf


def speed_limit(drive: Drive) -> MetricResult:
    """SL: max(0, 1 - sum of excess * dt / (2.23 m/s * duration)); 1 if never above the limit."""
    by_lane = {lane.id if lane else None: _limit(drive, lane) for lane in drive.lane}
    limit = np.array([by_lane[lane.id if lane else None] for lane in drive.lane])
    if not np.isfinite(limit).any():
        return MetricResult(1.0, False, "score", {"why": "no speed limit known where ego drove"})
    excess = np.maximum(np.abs(drive.trace.v) - limit, 0.0)
    if not excess.any():
        return MetricResult(1.0, True, "score")
    duration = max(drive.trace.time[-1] - drive.trace.time[0], drive.dt)
    score = max(0.0, 1.0 - float(excess.sum()) * drive.dt / (WORST_EXCESS * duration))
    step = int(excess.argmax())
    detail = {"worst_m_s": round(float(excess[step]), 3), "time": round(float(drive.trace.time[step]), 3)}
    return MetricResult(score, True, "score", detail)

"""Driving with the traffic: nuPlan's driving direction compliance."""

from __future__ import annotations

import numpy as np

from eval.metrics import geometry
from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

COMPLIANCE, VIOLATION = 2.0, 6.0  # m against the traffic within the horizon
HORIZON = 1.0  # s


def progress_along_own_lane(drive: Drive) -> np.ndarray:
    """Metres ``[T]`` that each step advanced along the centreline of the lane ego is in.

    Zero off all lanes, at the step that enters a lane and at the one after it (both as in
    nuPlan, where the position in the new lane is first known one step late).
    """
    out = np.zeros(drive.steps)
    last_id = drive.lane[0].id if drive.lane[0] else None
    last_s: float | None = None
    for step, lane in enumerate(drive.lane):
        if lane is None:
            continue
        if lane.id != last_id:
            last_id, last_s = lane.id, None
            continue
        s = float(geometry.project(drive.center[step : step + 1, :2], lane.centerline, lane.arc_length)[0][0])
        if last_s is not None:
            out[step] = s - last_s
        last_s = s
    return out


def driving_direction(drive: Drive) -> MetricResult:
    """DDC: most metres against the traffic in any second: < 2 m scores 1, < 6 m scores 0.5, else 0."""
    if drive.steps < 2:
        return MetricResult(1.0, False, "score", {"why": "fewer than two steps"})
    window = round(HORIZON / drive.dt)
    total = np.concatenate([[0.0], np.cumsum(progress_along_own_lane(drive))])
    end = np.arange(1, drive.steps + 1)
    over_horizon = total[end] - total[np.maximum(end - 1 - window, 0)]
    against = max(0.0, -float(over_horizon.min()))
    score = 1.0 if against < COMPLIANCE else 0.5 if against < VIOLATION else 0.0
    detail = {"against_traffic_m": round(against, 3)}
    if score < 1.0:
        detail["time"] = round(float(drive.trace.time[over_horizon.argmin()]), 3)
    on_lane = any(lane is not None for lane in drive.lane)
    if not on_lane:
        detail["why"] = "ego was on no lane of the map"  # type: ignore[assignment]
    return MetricResult(score, on_lane, "score", detail)

"""Progress along the route, in metres and against the recorded driver."""

from __future__ import annotations

import numpy as np

from eval.metrics import geometry
from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

EPSILON = 2.0  # m; nuPlan's documentation says 0.1, its shipped configuration 2
ENOUGH = 0.2  # of the expert's progress


def route_progress(pose: np.ndarray, drive: Drive) -> float:
    """Metres that the box centre advanced along the route over rear-axle poses ``[n, 3]``."""
    center = geometry.ego_center(pose, drive.recording.vehicle)[:, :2]
    s = geometry.follow(center, drive.recording.route_xy)
    return float(s[-1] - s[0])


def _expert_poses(drive: Drive) -> np.ndarray:
    covered = drive.recording.time <= drive.trace.time[-1] + 0.5 * drive.dt
    return drive.recording.ego.pose[covered] if covered.any() else drive.recording.ego.pose[:1]


def progress(drive: Drive) -> MetricResult:
    """Metres along the route, with the expert's over the same time beside it."""
    expert = route_progress(_expert_poses(drive), drive)
    made = route_progress(drive.trace.pose, drive)
    return MetricResult(made, True, "m", {"expert_m": round(expert, 3)})


def expert_progress(drive: Drive) -> MetricResult:
    """EP: min(1, max(s_ego, 2 m) / max(s_expert, 2 m)); 0 if ego went back more than 2 m.

    Compared over the time that ego drove, where that is shorter than the recording. An expert who
    stands all the time gives 1 to everyone who does not reverse.
    """
    expert = route_progress(_expert_poses(drive), drive)
    made = route_progress(drive.trace.pose, drive)
    ratio = 0.0 if made < -EPSILON else min(1.0, max(made, EPSILON) / max(expert, EPSILON))
    detail = {"ego_m": round(made, 3), "expert_m": round(expert, 3)}
    covered = float(drive.trace.time[-1] - drive.trace.time[0])
    if drive.recording.time[-1] - drive.recording.time[0] > covered + 1.5 * drive.dt:
        detail["compared_over_s"] = round(covered, 3)
    return MetricResult(ratio, True, "score", detail)


def making_progress(drive: Drive) -> MetricResult:
    """MP: 1 if EP reaches 0.2, else 0."""
    ratio = expert_progress(drive)
    return MetricResult(float(ratio.value >= ENOUGH), ratio.valid, "score", ratio.detail)

"""What a report draws of one step: candidates, chosen plan, tail, active rows, verdicts. See docs/trace.md.

Global frame, numbers rounded to what a picture can show, plain lists and dictionaries only.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from planner.result import Candidate, PlanResult
from planner.scene import Trajectory, VectorScene, frames
from planner.supervise import SupervisedPlan

PLAN_STEP = 0.5  # s between drawn points of the plan
SHAPE_STEP = 1.0  # s between drawn points of the other candidates
MODE_STEP = 0.6  # s between drawn points of a forecast
ACTIVE_ROWS = 12
MODE_PROBABILITY_MIN = 0.05
MODE_RANGE = 60.0  # m from ego


def step_picture(
    scene: VectorScene, plan: PlanResult | None, driven: SupervisedPlan, *, with_reference: bool = False
) -> dict[str, Any]:
    """The picture dictionary of one step of our planner."""
    shown = _driven_candidate(plan, driven)
    picture: dict[str, Any] = {
        "plan": {**_path(scene, driven.trajectory, PLAN_STEP), **_profile(driven.trajectory, PLAN_STEP)},
        "tail": _path(scene, driven.tail, PLAN_STEP) if driven.tail is not None else None,
        "candidates": [_candidate(scene, c) for c in (plan.candidates if plan else [])],
        "modes": _modes(scene),
        "active": _active(scene, shown),
        "check": _check(driven),
        "rejected": _rejected(driven),
        "state": str(driven.state),
        "explanation": plan.explanation if plan and driven.source == "candidate" else driven.reason,
    }
    if with_reference and plan is not None:
        picture["reference"] = _points(scene, plan.reference_xy)
    return picture


def perceived(scene: VectorScene) -> list[dict[str, Any]]:
    """The agents as perception tells them, for drives in which that is not the truth: global frame."""
    tracks = scene.agents
    xy = _points(scene, tracks.box[:, :2])
    out = []
    for i in tracks.valid.nonzero()[:, 0].tolist():
        yaw, length, width = (float(v) for v in tracks.box[i, 2:])
        out.append({
            "track_id": int(tracks.track_id[i]), "class": int(tracks.agent_class[i]), "xy": xy[i],
            "yaw": round(yaw + float(scene.global_from_ego[2]), 3), "size": [round(length, 2), round(width, 2)],
            "p": round(float(tracks.existence[i]), 3),
        })  # fmt: skip
    return out


def _driven_candidate(plan: PlanResult | None, driven: SupervisedPlan) -> Candidate | None:
    if plan is None or driven.candidate_index is None:
        return None
    return plan.candidates[driven.candidate_index]


def _points(scene: VectorScene, xy: Tensor) -> list[list[float]]:
    return _rounded(frames.transform_points(scene.global_from_ego, xy.detach().to(scene.global_from_ego)), 2)


def _every(trajectory: Trajectory, step: float) -> Tensor:
    """Indices of the points about `step` seconds apart, the last one included."""
    wanted = torch.arange(0.0, float(trajectory.time[-1]) + 1e-6, step, dtype=trajectory.time.dtype)
    index = torch.searchsorted(trajectory.time.contiguous(), wanted - 1e-6).clamp(max=len(trajectory.time) - 1)
    return torch.unique(torch.cat([index, torch.tensor([len(trajectory.time) - 1])]))


def _path(scene: VectorScene, trajectory: Trajectory, step: float) -> dict[str, Any]:
    return {"xy": _points(scene, trajectory.xy[_every(trajectory, step)])}


def _profile(trajectory: Trajectory, step: float) -> dict[str, Any]:
    index = _every(trajectory, step)
    return {"v": _rounded(trajectory.v[index], 2), "time": _rounded(trajectory.time[index], 2)}


def _candidate(scene: VectorScene, candidate: Candidate) -> dict[str, Any]:
    trajectory = candidate.trajectory
    return {
        "decision": candidate.decision,
        "kind": candidate.kind,
        "status": str(candidate.status),
        "cost": None if candidate.cost is None else round(float(candidate.cost), 3),
        "xy": [] if trajectory is None else _path(scene, trajectory, SHAPE_STEP)["xy"],
    }


def _modes(scene: VectorScene) -> list[dict[str, Any]]:
    futures, tracks = scene.futures, scene.agents
    if not futures.mean.shape[0] or not futures.time.shape[0]:
        return []
    spoken = futures.valid.any(-1) & tracks.valid[:, None] & (futures.probability >= MODE_PROBABILITY_MIN)
    spoken &= (tracks.box[:, :2].norm(dim=-1) <= MODE_RANGE)[:, None]
    moving = (futures.mean[:, :, -1] - futures.mean[:, :, 0]).norm(dim=-1) > 0.5  # a standing one draws as its box
    stride = max(1, round(MODE_STEP / float(futures.time[0])))
    # The larger eigenvalue of a symmetric 2x2 matrix, in closed form for all modes at once.
    c = futures.covariance
    half_trace, half_gap = (c[..., 0, 0] + c[..., 1, 1]) / 2, (c[..., 0, 0] - c[..., 1, 1]) / 2
    sigma = (half_trace + (half_gap**2 + c[..., 0, 1] ** 2).sqrt()).clamp(min=0).sqrt()
    xy = frames.transform_points(scene.global_from_ego, futures.mean)
    out = []
    for agent, mode in (spoken & moving).nonzero().tolist():
        keep = futures.valid[agent, mode].nonzero()[::stride, 0]
        out.append(
            {
                "track_id": int(tracks.track_id[agent]),
                "p": round(float(futures.probability[agent, mode]), 3),
                "xy": _rounded(xy[agent, mode, keep], 2),
                "sigma": _rounded(sigma[agent, mode, keep], 2),
            }
        )
    return out


def _active(scene: VectorScene, candidate: Candidate | None) -> list[dict[str, Any]]:
    """The rows that cost most, each at the place of the plan at the row's time."""
    if candidate is None or candidate.certificate is None or candidate.trajectory is None:
        return []
    rows = sorted(candidate.certificate.active, key=lambda row: -abs(row.dual))[:ACTIVE_ROWS]
    time = candidate.trajectory.time.contiguous()
    out = []
    for row in rows:
        index = int(torch.searchsorted(time, row.label.time - 1e-6).clamp(max=len(time) - 1))
        out.append(
            {
                "rule": row.label.rule,
                "track_id": int(row.label.track_id),
                "time": round(float(row.label.time), 2),
                "margin": round(float(row.margin), 3),
                "dual": round(float(row.dual), 3),
                "xy": _points(scene, candidate.trajectory.xy[index]),
            }
        )
    return out


def _check(driven: SupervisedPlan) -> dict[str, Any] | None:
    if driven.report is None:
        return None
    violations = [_violation(violation) for violation in driven.report.violations]
    return {
        "accepted": bool(driven.report.accepted),
        "worst_margin": _finite(driven.report.worst_margin),
        "violations": violations,
    }


def _finite(value: float) -> float | None:
    """Rounded; None where there was nothing to measure."""
    return round(float(value), 3) if math.isfinite(value) else None


def _rejected(driven: SupervisedPlan) -> list[dict[str, Any]]:
    """The first violation of every candidate that the checker refused."""
    return [
        {"decision": decision, **_violation(report.violations[0])}
        for decision, report in driven.rejected
        if report.violations
    ]


def _violation(violation: Any) -> dict[str, Any]:
    return {
        "rule": violation.rule,
        "track_id": int(violation.track_id),
        "time": round(float(violation.time), 2),
        "margin": round(float(violation.margin), 3),
    }


def _rounded(values: Tensor, decimals: int) -> Any:
    return torch.round(values.detach().double(), decimals=decimals).tolist()

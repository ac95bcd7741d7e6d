"""Collisions: which, when, and whether ego is to blame.

Classification of nuPlan (and NAVSIM), re-implemented from its definition: the first contact of
each object is judged once.

1. ego stands (<= 0.05 m/s): "ego_stopped", not at fault;
2. the object stands, or is static: "object_stopped", at fault;
3. the object's centre bears more than 150 degrees from the rear axle: "rear", not at fault;
4. ego's front edge touches it: "front", at fault;
5. otherwise "lateral": at fault only if ego is not inside one lane or two in a row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from eval.metrics import geometry
from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult
from planner.scene import AgentClass

STOPPED_SPEED = 0.05  # m/s
BEHIND = np.deg2rad(150.0)
_TOLERATED = {"vulnerable": 0, "vehicle": 0, "object": 1}  # at-fault hits before the score reaches zero, minus one


@dataclass(frozen=True)
class Collision:
    """First contact with one object. time (s), speeds (m/s)."""

    track_id: int
    agent_class: str
    step: int
    time: float
    kind: str
    at_fault: bool
    ego_speed: float
    agent_speed: float


def find_collisions(drive: Drive) -> list[Collision]:
    """First contacts in order of time."""
    found = []
    contact = drive.gap <= 0.0
    for agent in np.flatnonzero(contact.any(1)):
        step = int(contact[agent].argmax())
        kind = _kind(drive, int(agent), step)
        lateral_fault = kind == "lateral" and bool(drive.between_lanes[step])
        found.append(
            Collision(
                track_id=int(drive.trace.track_id[agent]),
                agent_class=AgentClass(int(drive.trace.agent_class[agent])).name.lower(),
                step=step,
                time=round(float(drive.trace.time[step]), 3),
                kind=kind,
                at_fault=kind in ("front", "object_stopped") or lateral_fault,
                ego_speed=round(float(abs(drive.trace.v[step])), 3),
                agent_speed=round(float(drive.agent_speed[agent, step]), 3),
            )
        )
    return sorted(found, key=lambda c: (c.step, c.track_id))


def _kind(drive: Drive, agent: int, step: int) -> str:
    if abs(drive.trace.v[step]) <= STOPPED_SPEED:
        return "ego_stopped"
    static = drive.trace.agent_class[agent] == AgentClass.STATIC
    if static or drive.agent_speed[agent, step] <= STOPPED_SPEED:
        return "object_stopped"
    if geometry.bearing(drive.trace.pose[step], drive.trace.agent_pose[agent, step, :2]) > BEHIND:
        return "rear"
    front_left, front_right = drive.corners[step, 0], drive.corners[step, 3]
    if geometry.segment_meets_box(front_left, front_right, drive.agent_corners[agent, step]):
        return "front"
    return "lateral"


def _group(collision: Collision) -> str:
    kind = AgentClass[collision.agent_class.upper()]
    if kind is AgentClass.STATIC:
        return "object"
    return "vulnerable" if kind.is_vulnerable else "vehicle"


def no_collision(drive: Drive) -> MetricResult:
    """NC: product over {vulnerable, vehicle, object} of max(0, 1 - n / (tolerated + 1)), n at-fault hits."""
    at_fault = [c for c in find_collisions(drive) if c.at_fault]
    score = 1.0
    for group, tolerated in _TOLERATED.items():
        hits = sum(_group(c) == group for c in at_fault)
        score *= max(0.0, 1.0 - hits / (tolerated + 1))
    return _judged(drive, score, "score", [asdict(c) for c in at_fault])


def at_fault_collisions(drive: Drive) -> MetricResult:
    """Number of objects hit by ego's fault."""
    at_fault = [asdict(c) for c in find_collisions(drive) if c.at_fault]
    return _judged(drive, len(at_fault), "count", at_fault)


def collisions(drive: Drive) -> MetricResult:
    """Number of objects touched, whoever is to blame, each with its classification."""
    found = [asdict(c) for c in find_collisions(drive)]
    return _judged(drive, len(found), "count", found)


def min_gap(drive: Drive) -> MetricResult:
    """Smallest exact distance (m) from ego's box to any other; invalid (inf) if nothing came within 30 m."""
    if not np.isfinite(drive.gap).any():
        return MetricResult(np.inf, False, "m", {"why": "no object came within 30 m"})
    agent, step = np.unravel_index(np.argmin(drive.gap), drive.gap.shape)
    detail = {"track_id": int(drive.trace.track_id[agent]), "time": round(float(drive.trace.time[step]), 3)}
    return _with_gap(drive, MetricResult(float(drive.gap[agent, step]), True, "m", detail))


def _judged(drive: Drive, value: float, unit: str, found: list[dict]) -> MetricResult:
    return _with_gap(drive, MetricResult(float(value), True, unit, {"collisions": found} if found else {}))


def _with_gap(drive: Drive, result: MetricResult) -> MetricResult:
    if not drive.annotation_gap:
        return result
    return MetricResult(result.value, False, result.unit, {**result.detail, "why": drive.annotation_gap})

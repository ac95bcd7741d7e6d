"""The registry of closed-loop metrics and the score that gates and weighs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.metrics import (
    collision,
    comfort,
    direction,
    drivable_area,
    progress,
    speed_limit,
    time_to_collision,
    timing,
)
from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult
from eval.simulation.trace import Trace
from perception.recording import Recording

Metric = Callable[[Drive], MetricResult]

METRICS: dict[str, Metric] = {
    "no_collision": collision.no_collision,
    "drivable_area": drivable_area.drivable_area,
    "making_progress": progress.making_progress,
    "driving_direction": direction.driving_direction,
    "time_to_collision": time_to_collision.time_to_collision,
    "expert_progress": progress.expert_progress,
    "speed_limit": speed_limit.speed_limit,
    "comfort": comfort.comfort,
    "at_fault_collisions": collision.at_fault_collisions,
    "collisions": collision.collisions,
    "off_road": drivable_area.off_road,
    "min_gap": collision.min_gap,
    "min_time_to_collision": time_to_collision.min_time_to_collision,
    "progress": progress.progress,
    "fallback_rate": timing.fallback_rate,
    "plans_without_tail": timing.plans_without_tail,
    "cycle_time": timing.cycle_time,
    "solve_time": timing.solve_time,
    "check_time": timing.check_time,
}

GATES = ("no_collision", "drivable_area", "making_progress", "driving_direction")
WEIGHTS = {"time_to_collision": 5.0, "expert_progress": 5.0, "speed_limit": 4.0, "comfort": 2.0}


def score_cls(results: dict[str, MetricResult]) -> MetricResult:
    """nuPlan-style closed-loop score in [0, 1]: the gates' product times the weighted mean.

    CLS = NC * DAC * MP * DDC * (5 TTC + 5 EP + 4 SL + 2 C) / 16. Valid if every part is, except
    that a part with nothing to measure (speed limit unknown) does not make the score invalid.
    """
    gate = float(np.prod([results[name].value for name in GATES]))
    mean = sum(weight * results[name].value for name, weight in WEIGHTS.items()) / sum(WEIGHTS.values())
    doubtful = [name for name in (*GATES, *WEIGHTS) if not results[name].valid and name != "speed_limit"]
    detail: dict = {name: round(results[name].value, 4) for name in (*GATES, *WEIGHTS)}
    if doubtful:
        detail["why"] = "not valid: " + ", ".join(doubtful)
    return MetricResult(gate * mean, not doubtful, "score", detail)


def evaluate(trace: Trace, recording: Recording) -> dict[str, MetricResult]:
    """All metrics of one drive by name, `cls` first.

    Raises ValueError for an empty trace or one whose arrays do not fit together; everything
    that can happen on the road (standing, no traffic, a single step) gives a result.
    """
    _check(trace)
    drive = Drive(trace, recording)
    results = {name: metric(drive) for name, metric in METRICS.items()}
    return {"cls": score_cls(results), **results}


def _check(trace: Trace) -> None:
    steps, agents = len(trace.time), len(trace.track_id)
    if steps == 0:
        raise ValueError(f"trace of {trace.scenario} by {trace.planner}: expected at least one step, got none")
    expected = {
        "pose": (steps, 3), "v": (steps,), "a": (steps,), "yaw_rate": (steps,), "size": (agents, 2),
        "agent_pose": (agents, steps, 3), "agent_velocity": (agents, steps, 2), "agent_valid": (agents, steps),
    }  # fmt: skip
    for name, shape in expected.items():
        if getattr(trace, name).shape != shape:
            raise ValueError(f"trace.{name}: expected shape {shape}, got {getattr(trace, name).shape}")
    for name in ("pose", "v", "a", "yaw_rate"):
        if not np.isfinite(getattr(trace, name)).all():
            raise ValueError(f"trace.{name}: expected finite numbers")

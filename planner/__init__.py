"""VectorScene in, PlanResult out: a convex planner with hard constraints, gradients and reasons.

Names are loaded on first use, so that importing the second channel (`planner.checker`, `planner.fallback`,
`planner.limiter`) runs none of the planner's code.
"""

from __future__ import annotations

from typing import Any

_HOME = {
    "Candidate": "planner.result",
    "ConvexPlanner": "planner.plan",
    "PlanResult": "planner.result",
    "PlanStatus": "planner.result",
    "PlannerConfig": "planner.config",
}

__all__ = ["Candidate", "ConvexPlanner", "PlanResult", "PlanStatus", "PlannerConfig"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)

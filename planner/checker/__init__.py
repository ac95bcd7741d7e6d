"""The independent second channel: verifies a plan in float64 with exact geometry and sets.

Imports `planner.scene` only. Shares no code with the planner.
"""

from planner.checker.assumptions import DEFAULT_BOUNDS, Assumptions, ClassBounds, EgoBounds, PhantomBounds
from planner.checker.check import check, check_prepared
from planner.checker.config import CheckerConfig
from planner.checker.report import CheckReport, Violation
from planner.checker.scene_sets import SceneSets, prepare

__all__ = [
    "DEFAULT_BOUNDS",
    "Assumptions",
    "CheckReport",
    "CheckerConfig",
    "ClassBounds",
    "EgoBounds",
    "PhantomBounds",
    "SceneSets",
    "Violation",
    "check",
    "check_prepared",
    "prepare",
]

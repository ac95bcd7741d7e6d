"""Minimal-risk motions computed from the ego state alone: no solver, no scene, always an answer.

Imports `planner.scene` alone. `stop` is the page, `speed` the jerk-limited braking, `way` the steering and the grip.
"""

from planner.fallback.motion import advance
from planner.fallback.stop import brake_in_path, maximum_braking

__all__ = ["advance", "brake_in_path", "maximum_braking"]

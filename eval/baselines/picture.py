"""What a baseline's decision looks like in the report (`docs/trace.md`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.baselines.follow_path import STEP, Motion
from planner.scene import VectorScene

EVERY = 5  # steps between drawn points


def picture(
    scene: VectorScene, motion: Motion, chosen: int, names: list[str] | None = None, scores: np.ndarray | None = None
) -> dict[str, Any]:
    """Plan and, where names and scores ``[P]`` are given, the proposals; global frame."""
    x0, y0, yaw = (float(value) for value in scene.global_from_ego)
    c, s = np.cos(yaw), np.sin(yaw)
    x, y = motion.x[:, ::EVERY], motion.y[:, ::EVERY]
    xy = np.round(np.stack([x0 + c * x - s * y, y0 + s * x + c * y], -1), 2)
    time = np.round(np.arange(motion.x.shape[1])[::EVERY] * STEP, 2)
    plan = {"xy": xy[chosen].tolist(), "v": np.round(motion.v[chosen, ::EVERY], 2).tolist(), "time": time.tolist()}
    out: dict[str, Any] = {"plan": plan}
    if names is not None and scores is not None:
        out["candidates"] = [
            {
                "decision": n,
                "kind": "proposal",
                "status": "scored",
                "cost": round(1.0 - float(g), 4),
                "xy": w.tolist(),
            }
            for n, g, w in zip(names, scores, xy)
        ]
    return out

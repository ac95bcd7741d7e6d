"""Boxes in the devkit's formats of submissions: what detections and tracks have in common."""

from __future__ import annotations

import math
from typing import Any

from eval.perception.run import Seen
from planner.scene import AgentClass, AgentTracks

NAMES = {
    AgentClass.CAR: "car", AgentClass.TRUCK: "truck", AgentClass.BUS: "bus", AgentClass.MOTORCYCLE: "motorcycle",
    AgentClass.BICYCLE: "bicycle", AgentClass.PEDESTRIAN: "pedestrian",
}  # fmt: skip
"""The devkit's classes of what moves by itself; trailers are no class of ours."""
HEIGHT = {
    "car": 1.7, "truck": 2.8, "bus": 3.4, "motorcycle": 1.5, "bicycle": 1.4, "pedestrian": 1.75, "traffic_cone": 0.9,
    "barrier": 1.0,
}  # fmt: skip
"""m: nominal, since height is not perceived. It enters the scale error alone: centres are compared in the plane."""
META = {f"use_{s}": s in ("lidar", "camera") for s in ("camera", "lidar", "radar", "map", "external")}


def global_box(seen: Seen, agents: AgentTracks, row: int, name: str, ground: float = 0.0) -> dict[str, Any]:
    """One agent (ego frame) of a key frame in the global frame. name: the devkit's class. ground (m): height there."""
    x0, y0, yaw0 = seen.global_from_ego.tolist()
    x, y, yaw, length, width = agents.box[row].tolist()
    vx, vy = agents.velocity[row].tolist()
    cos, sin, half, height = math.cos(yaw0), math.sin(yaw0), (yaw + yaw0) / 2, HEIGHT[name]
    return {
        "sample_token": seen.token,
        "translation": [x0 + cos * x - sin * y, y0 + sin * x + cos * y, ground + height / 2],
        "size": [width, length, height],
        "rotation": [math.cos(half), 0.0, 0.0, math.sin(half)],
        "velocity": [cos * vx - sin * vy, sin * vx + cos * vy],
    }

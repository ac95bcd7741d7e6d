"""What is the same in every nuScenes data set: names of tables' constants, tokens, sensors, rotations."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from planner.scene import AgentClass

LIDAR = "LIDAR_TOP"
CATEGORIES = (
    "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck",
)  # fmt: skip
ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down",
)  # fmt: skip
VISIBILITY = {"1": ("v0-40", 0.0), "2": ("v40-60", 0.4), "3": ("v60-80", 0.6), "4": ("v80-100", 0.8)}
_CATEGORY = {
    AgentClass.CAR: "vehicle.car", AgentClass.TRUCK: "vehicle.truck", AgentClass.BUS: "vehicle.bus.rigid",
    AgentClass.MOTORCYCLE: "vehicle.motorcycle", AgentClass.BICYCLE: "vehicle.bicycle",
    AgentClass.PEDESTRIAN: "human.pedestrian.adult",
}  # fmt: skip
MOVING = {"vehicle": 0.2, "human": 0.1}
"""m/s: from which speed a vehicle, a pedestrian counts as moving."""


def token(*parts: object) -> str:
    """32 hexadecimal digits, the same for the same parts in every run."""
    return hashlib.md5("|".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def category_of(agent_class: int, size: np.ndarray) -> str:
    """Category of an object. size ``[2]``: length, width (m); what is static and short is a cone, else a barrier."""
    if agent_class == AgentClass.STATIC:
        return "movable_object.trafficcone" if size.max() < 1.0 else "movable_object.barrier"
    return _CATEGORY[AgentClass(int(agent_class))]


def attribute_of(category: str, speed: float, ever_moves: bool) -> str | None:
    """Attribute of an object at a speed (m/s); ever_moves: at any time of the recording."""
    kind = category.split(".")[0]
    if category in ("vehicle.bicycle", "vehicle.motorcycle"):
        return "cycle.with_rider"
    if kind == "human":
        return "pedestrian.moving" if speed > MOVING["human"] else "pedestrian.standing"
    if kind == "vehicle":
        return "vehicle.moving" if speed > MOVING["vehicle"] else "vehicle.stopped" if ever_moves else "vehicle.parked"
    return None


def visibility_of(share: float) -> str:
    """Token of the visibility level that holds a share in [0, 1]."""
    return max(level for level, (_, least) in VISIBILITY.items() if share >= least)


def constant_tables(channels: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """The tables category, attribute, visibility and sensor."""
    return {
        "category": [{"token": token("category", n), "name": n, "description": ""} for n in CATEGORIES],
        "attribute": [{"token": token("attribute", n), "name": n, "description": ""} for n in ATTRIBUTES],
        "visibility": [
            {"token": key, "level": level, "description": f"visible share of the whole object: {level[1:]} %"}
            for key, (level, _) in VISIBILITY.items()
        ],
        "sensor": [
            {"token": token("sensor", c), "channel": c, "modality": "lidar" if c == LIDAR else "camera"}
            for c in channels
        ],
    }


def quaternion(rotation: np.ndarray) -> list[float]:
    """(w, x, y, z) of a rotation matrix ``[3, 3]`` (Shepperd 1978: divides by the largest component)."""
    m = rotation
    squared = np.array([1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
                        1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]])  # fmt: skip
    k = int(squared.argmax())
    sums = {
        0: [squared[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        1: [m[2, 1] - m[1, 2], squared[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]],
        2: [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], squared[2], m[2, 1] + m[1, 2]],
        3: [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squared[3]],
    }[k]
    q = np.array(sums) / (2 * np.sqrt(squared[k]))
    return [float(v) for v in q / np.linalg.norm(q)]


def yaw_quaternion(yaw: float) -> list[float]:
    """(w, x, y, z) of a turn about the vertical axis (rad)."""
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]

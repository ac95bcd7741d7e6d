"""Builds a recording and a trace from the tiny hand-written scenes in `tests/scenes`.

A scene is straight lanes along x, an ego and agents moving on arcs at constant acceleration:
enough to state the expected value of every metric by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from eval.simulation.trace import Trace
from perception.recording import AgentLog, EgoTrack, Recording
from perception.road_map import Lane, RoadMap
from planner.scene import AgentClass

SCENES = Path(__file__).parent / "scenes"
DT = 0.1


def load(name: str) -> dict[str, Any]:
    return json.loads((SCENES / f"{name}.json").read_text())


def build(scene: dict[str, Any]) -> tuple[Trace, Recording]:
    """Trace of the scene's ego and the recording it drove in (expert = ego unless the scene has one)."""
    steps = scene.get("steps", 50)
    time = np.arange(steps) * DT
    logged = np.arange(max(steps, 2)) * DT  # a recording has at least two entries
    road = _road(scene)
    ego = _motion(scene["ego"], time)
    expert = _motion(scene.get("expert", scene["ego"]), logged)
    agents = _agents(scene.get("agents", []), time)
    route = scene.get("route", [road.lane_ids[0]])
    keyframe = np.ones(len(logged), bool)
    for first, last in scene.get("unannotated", []):
        keyframe[first:last] = False
    recording = Recording(
        "hand-drawn", "generated", logged, 0, expert, _agents(scene.get("agents", []), logged), road, route,
        np.concatenate([road.lanes[i].centerline for i in route]), keyframe,
    )  # fmt: skip
    trace = Trace(
        "hand-drawn", scene.get("planner", "test"), "log_replay", 0, time, ego.pose, ego.v, ego.a, ego.curvature,
        ego.yaw_rate, agents.track_id, agents.agent_class, agents.size, agents.pose, agents.velocity, agents.valid,
        scene.get("source", ["baseline"] * steps), scene.get("reason", [""] * steps),
        np.array(scene.get("tail_accepted", [True] * steps), bool),
        np.array(scene.get("cycle_ms", [1.0] * steps)), np.zeros(steps), np.zeros(steps), np.full(steps, np.inf),
    )  # fmt: skip
    return trace, recording


def _motion(ego: dict[str, Any], time: np.ndarray) -> EgoTrack:
    x, y, yaw = ego["start"]
    v0, a, kappa = ego.get("v", 0.0), ego.get("a", 0.0), ego.get("curvature", 0.0)
    way = v0 * time + 0.5 * a * time**2
    heading = yaw + kappa * way
    chord = way * np.sinc(kappa * way / (2 * np.pi))
    middle = yaw + 0.5 * kappa * way
    pose = np.stack([x + chord * np.cos(middle), y + chord * np.sin(middle), heading], -1)
    v = v0 + a * time
    return EgoTrack(pose, v, np.full_like(v, a), np.full_like(v, kappa), kappa * v, "simulation")


def _agents(agents: list[dict[str, Any]], time: np.ndarray) -> AgentLog:
    if not agents:
        return AgentLog.empty(len(time))
    pose, velocity, valid = [], [], []
    for agent in agents:
        speed = np.array(agent.get("velocity", [0.0, 0.0]))
        xy = np.array(agent["start"][:2]) + time[:, None] * speed
        pose.append(np.column_stack([xy, np.full(len(time), agent["start"][2])]))
        velocity.append(np.tile(speed, (len(time), 1)))
        first, last = agent.get("present", [0, len(time)])
        valid.append((np.arange(len(time)) >= first) & (np.arange(len(time)) < last))
    ids = np.array([agent["track_id"] for agent in agents])
    kinds = np.array([AgentClass[agent.get("class", "CAR")] for agent in agents], np.int64)
    size = np.array([agent.get("size", [4.0, 2.0]) for agent in agents])
    return AgentLog(
        [str(i) for i in ids], ids, kinds, size, np.full(len(ids), 1.5), np.stack(pose), np.stack(velocity),
        np.stack(valid),
    )  # fmt: skip


def _road(scene: dict[str, Any]) -> RoadMap:
    lanes = {}
    for lane in scene["lanes"]:
        x0, x1, y, width = *lane["x"], lane["y"], lane.get("width", 3.5)
        x = np.linspace(x0, x1, int(abs(x1 - x0)) + 1)
        lanes[lane["id"]] = Lane(
            lane["id"], np.column_stack([x, np.full_like(x, y)]),
            shapely.box(min(x0, x1), y - width / 2, max(x0, x1), y + width / 2), lane.get("limit", 15.0),
            connector=lane.get("connector", False), successors=lane.get("successors", []),
            predecessors=lane.get("predecessors", []),
        )  # fmt: skip
    return RoadMap("hand-drawn", lanes, shapely.union_all([lane.polygon for lane in lanes.values()]))

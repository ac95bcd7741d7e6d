"""The proving ground: a straight road, a nominal ego at constant speed, others on prescribed ways.

Global frame: ego's rear axle starts at the origin and looks along +x in the middle of its lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.simulation.generate.actors import DT, Body
from eval.simulation.generate.curves import Path
from eval.simulation.generate.layouts import route_points
from eval.simulation.generate.record import START_US
from eval.simulation.generate.roads import TownBuilder
from perception.recording import AgentLog, EgoTrack, Recording
from planner.scene import AgentClass, VehicleParameters

LANE_WIDTH = 3.5  # m
BEHIND, BEYOND = 60.0, 160.0  # m, road behind ego's start and beyond its nominal end
KMH = 1 / 3.6

EGO = VehicleParameters()
CAR = Body(AgentClass.CAR, 4.3, 1.9, 1.5)
PEDESTRIAN = Body(AgentClass.PEDESTRIAN, 0.6, 0.5, 1.8)
CHILD = Body(AgentClass.PEDESTRIAN, 0.5, 0.4, 1.2)
BICYCLE = Body(AgentClass.BICYCLE, 1.9, 0.5, 1.9)


@dataclass(frozen=True)
class Mover:
    """One other road user: box centre ``[T, 2]`` (m), yaw ``[T]`` (rad)."""

    name: str
    body: Body
    xy: np.ndarray
    yaw: np.ndarray


@dataclass(frozen=True)
class Road:
    """Lanes in ego's direction, ego's index among them (0 leftmost), lanes of the other direction, width (m).

    junction: x (m) of a crossing with a side road at right angles, None for none. turn: ego turns left there.
    parking: x from and to (m) of a strip on the right.
    """

    forward: int = 1
    index: int = 0
    backward: int = 1
    width: float = LANE_WIDTH
    junction: float | None = None
    turn: bool = False
    parking: tuple[float, float] | None = None


def times(seconds: float) -> np.ndarray:
    """The recording's times up to `seconds`."""
    return np.arange(round(seconds / DT) + 1) * DT


def half_cosine(t: np.ndarray, begins: float, distance: float, peak: float) -> np.ndarray:
    """0 before `begins` (s), `distance` (m) in the end, along half a cosine with the largest speed `peak` (m/s)."""
    lasts = np.pi / 2 * abs(distance) / peak
    u = np.clip((t - begins) / lasts, 0.0, 1.0)
    return distance * (1 - np.cos(np.pi * u)) / 2


def braking(t: np.ndarray, begins: float, speed: float, final: float, deceleration: float) -> np.ndarray:
    """Distance (m) at times t of somebody who brakes evenly from `speed` to `final` (m/s) from `begins` (s) on."""
    brakes = np.clip(t - begins, 0.0, max(speed - final, 0.0) / deceleration)
    coasts = np.clip(t - begins - brakes, 0.0, None)
    return speed * np.minimum(t, begins) + speed * brakes - deceleration * brakes**2 / 2 + final * coasts


def along(name: str, body: Body, x: np.ndarray, y: np.ndarray | float) -> Mover:
    """Somebody who drives in ego's direction, centre at x, y (m); the heading follows the way."""
    xy = np.stack([x, np.broadcast_to(np.asarray(y, float), x.shape)], -1)
    step = np.gradient(xy, DT, axis=0)
    return Mover(name, body, xy, np.where(np.hypot(*step.T) > 0.1, np.arctan2(step[:, 1], step[:, 0]), 0.0))


def across(name: str, body: Body, x: float, y: np.ndarray, leftwards: bool) -> Mover:
    """Somebody who crosses ego's way at x, centre at y (m), looking left (+y) or right."""
    heading = np.pi / 2 if leftwards else -np.pi / 2
    return Mover(name, body, np.stack([np.full_like(y, x), y], -1), np.full_like(y, heading))


def parked(name: str, body: Body, x: float, y: float, t: np.ndarray) -> Mover:
    """A vehicle that stands, parallel to the road."""
    return Mover(name, body, np.tile([x, y], (len(t), 1)), np.zeros(len(t)))


def track_scene(
    name: str, speed: float, t: np.ndarray, movers: list[Mover], hazard: dict[str, Any], road: Road | None = None
) -> Recording:
    """A recording whose ego goes on at `speed` (m/s), which is also the limit, whatever happens.

    hazard: name of the dangerous mover as "actor", "onset" (s): when it can be noticed, "in_lane": a leader or an
    obstacle rather than somebody who comes in from the side, "models": whether the reference models are defined for it.
    """
    road = road or Road()
    builder, route_ids = _build(name, road, speed, BEYOND + speed * float(t[-1]))
    route = Path(route_points(builder, route_ids))
    start = float(route.project(np.zeros((1, 2)))[0][0])
    station = start + speed * t
    pose = route.pose(station)
    curvature = route.curvature_at(station)
    ego = EgoTrack(pose, np.full(len(t), speed), np.zeros(len(t)), curvature, speed * curvature, "simulation")
    index = [m.name for m in movers].index(hazard["actor"])
    route_xy = route.point(np.linspace(0.0, route.length, round(route.length)))
    return Recording(
        name=name, source="generated", time=t, start_us=START_US, ego=ego, agents=_agents(movers, len(t)),
        road=builder.finish(), route=route_ids, route_xy=route_xy,
        keyframe=np.ones(len(t), bool), vehicle=EGO,
        metadata={"hazard": {**hazard, "track_id": index, "time": hazard["onset"]}, "occlusion": True},
    ).validate()  # fmt: skip


def road_path(name: str, road: Road, speed: float, ahead: float) -> Path:
    """Ego's route on a road that reaches `ahead` (m) beyond its start."""
    return Path(route_points(*_build(name, road, speed, ahead)))


def _build(name: str, road: Road, speed: float, ahead: float) -> tuple[TownBuilder, list[str]]:
    builder = TownBuilder(name)
    y = (road.index + 0.5) * road.width
    x = np.arange(-BEHIND, ahead + 1.0)
    line = Path(np.stack([x, np.full_like(x, y)], -1))
    common: dict[str, Any] = {"forward": road.forward, "backward": road.backward, "width": road.width, "speed": speed}
    if road.junction is None:
        builder.add_road("main0", line, 0.0, line.length, priority=2, **common)
        if road.parking is not None:
            builder.add_parking("main0", "right", BEHIND + road.parking[0], BEHIND + road.parking[1], 3.0)
        return builder, [f"main0:f{road.index}"]
    reach, centre = 12.0, BEHIND + road.junction
    builder.add_road("main0", line, 0.0, centre - reach, priority=2, **common)
    builder.add_road("main1", line, centre + reach, line.length, priority=2, **common)
    arms = [("main0", True), ("main1", False)]
    for side, turn in (("left", 1.0), ("right", -1.0)):
        far = np.arange(0.0, 121.0)
        points = np.stack([np.full_like(far, road.junction), y + turn * (reach + far)], -1)
        builder.add_road(side, Path(points), 0.0, 120.0, width=road.width, speed=min(speed, 14.0))
        arms.append((side, False))
    builder.add_junction(arms, speed=speed, yielding=["left", "right"])
    first, out = f"main0:f{road.index}", "left:f0" if road.turn else f"main1:f{road.index}"
    return builder, [first, f"{first}>{out}", out]


def _agents(movers: list[Mover], steps: int) -> AgentLog:
    pose = np.stack([np.concatenate([m.xy, m.yaw[:, None]], 1) for m in movers])
    return AgentLog(
        id=[m.name for m in movers], track_id=np.arange(len(movers), dtype=np.int64),
        agent_class=np.array([int(m.body.agent_class) for m in movers], np.int64),
        size=np.array([[m.body.length, m.body.width] for m in movers]),
        height=np.array([m.body.height for m in movers]),
        pose=pose, velocity=np.gradient(pose[..., :2], DT, axis=1), valid=np.ones((len(movers), steps), bool),
    )  # fmt: skip

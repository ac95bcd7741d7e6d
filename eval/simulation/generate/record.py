"""From a family's script to a recording: reference driver, traffic behind it, proof that it is clean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely

from eval.simulation.generate import boxes
from eval.simulation.generate.actors import DT, Actor, Body, drive, on_path
from eval.simulation.generate.avoidable import Verdict
from eval.simulation.generate.curves import Path, quintic_step
from eval.simulation.generate.expert import Drive, NoSafeDrive, plan_drive
from eval.simulation.generate.layouts import Town
from perception.recording import AgentLog, EgoTrack, Recording
from planner.scene import VehicleParameters

START_US = 1_700_000_000_000_000  # absolute time of the first step of every generated recording


class Rejected(Exception):
    """The draw does not make a valid scene; another one is tried."""


@dataclass
class Shift:
    """The reference driver moves sideways by `offset` m (left positive) between two route stations (m)."""

    start: float
    end: float
    offset: float


@dataclass
class Hazard:
    """What the scene is about: the actor's name, when it shows (s), what it does."""

    actor: str
    time: float
    kind: str


@dataclass
class Script:
    """A scene before anybody has driven it. s0, v0: ego's rear axle on the route (m) and speed (m/s) at the start.

    zones: (start m, end m, speed m/s) where the reference driver goes slowly. followers: bodies behind ego and
    the gaps (m) in front of them.
    """

    town: Town
    steps: int
    s0: float
    v0: float
    hazard: Hazard
    verdict: Verdict
    parameters: dict[str, float]
    actors: list[Actor] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    zones: list[tuple[float, float, float]] = field(default_factory=list)
    followers: list[tuple[Body, float]] = field(default_factory=list)

    def add(self, actor: Actor, margin: float = 0.4) -> bool:
        """Add an actor of the dressing unless it comes closer than `margin` (m) to one already there."""
        if not any(_touch(actor, other, margin) for other in self.actors):
            self.actors.append(actor)
            return True
        return False


def record(script: Script, name: str, vehicle: VehicleParameters | None = None) -> Recording:
    """Let the reference driver and the traffic behind it drive. Raises Rejected if the drive is not clean."""
    vehicle = vehicle or VehicleParameters()
    town, steps = script.town, script.steps
    path = ego_path(town.route, script.shifts)
    try:
        motion = plan_drive(path, script.actors, vehicle, steps, script.s0, script.v0, town.limit, script.zones)
    except NoSafeDrive as error:
        raise Rejected(str(error)) from error
    ego = _ego_track(path, motion)
    actors = [*script.actors, *_follow(script, path, ego, motion, vehicle)]
    agents = _agent_log(actors)
    _require_clean(town, ego, actors, vehicle)
    used = [actor.name for actor in actors]
    track = used.index(script.hazard.actor) if script.hazard.actor in used else -1
    metadata: dict[str, Any] = {
        "parameters": script.parameters,
        "hazard": {"track_id": track, "time": script.hazard.time, "kind": script.hazard.kind},
        "avoidable": script.verdict.avoidable,
        "argument": script.verdict.argument,
        "numbers": script.verdict.numbers,
        "occlusion": True,
    }
    return Recording(
        name=name, source="generated", time=np.arange(steps) * DT, start_us=START_US, ego=ego, agents=agents,
        road=town.road, route=list(town.route_ids), route_xy=_resample(town.route), keyframe=np.ones(steps, bool),
        vehicle=vehicle, metadata=metadata,
    ).validate()  # fmt: skip


def ego_path(route: Path, shifts: list[Shift]) -> Path:
    """The reference driver's path: the route, moved sideways by the shifts one after another."""
    stations = np.arange(0.0, route.length, 1.0)
    offset = np.zeros(len(stations))
    for shift in shifts:
        offset += shift.offset * quintic_step((stations - shift.start) / (shift.end - shift.start))
    return route.shifted(stations, offset)


def _resample(route: Path) -> np.ndarray:
    return route.point(np.linspace(0.0, route.length, round(route.length) + 1))


def _ego_track(path: Path, motion: Drive) -> EgoTrack:
    pose = path.pose(motion.s)
    pose[:, 2] = (pose[:, 2] + np.pi) % (2 * np.pi) - np.pi
    curvature = path.curvature_at(motion.s)
    return EgoTrack(pose, motion.v, motion.a, curvature, motion.v * curvature, "simulation")


def _follow(script: Script, path: Path, ego: EgoTrack, motion: Drive, vehicle: VehicleParameters) -> list[Actor]:
    """Vehicles behind ego, nearest first, each keeping its distance from the one before it."""
    rear, speed = motion.s - vehicle.rear, ego.v
    made: list[Actor] = []
    for number, (body, gap) in enumerate(script.followers):
        start = rear[0] - gap - body.length / 2
        if start < body.length / 2:
            break
        s, v = drive(
            path, script.steps, start, float(speed[0]), script.town.limit, length=body.length,
            leader_rear=rear, leader_speed=speed, time_gap=2.0,
        )  # fmt: skip
        actor = on_path(f"follower{number}", body, path, s)
        if any(_touch(actor, other, 0.2) for other in script.actors):
            break
        made.append(actor)
        rear, speed = s - body.length / 2, v
    return made


def _agent_log(actors: list[Actor]) -> AgentLog:
    pose = np.stack([a.pose for a in actors]) if actors else np.zeros((0, 0, 3))
    valid = np.stack([a.valid for a in actors])
    pose[..., 2] = (pose[..., 2] + np.pi) % (2 * np.pi) - np.pi
    velocity = np.gradient(pose[..., :2], DT, axis=1)
    return AgentLog(
        id=[a.name for a in actors], track_id=np.arange(len(actors), dtype=np.int64),
        agent_class=np.array([int(a.body.agent_class) for a in actors], np.int64),
        size=np.array([[a.body.length, a.body.width] for a in actors]),
        height=np.array([a.body.height for a in actors]),
        pose=pose, velocity=velocity, valid=valid,
    )  # fmt: skip


def _require_clean(town: Town, ego: EgoTrack, actors: list[Actor], vehicle: VehicleParameters) -> None:
    """The reference drive touches nobody and stays on the drivable area."""
    center = boxes.rear_axle_to_center(ego.pose, vehicle.rear_axle_to_center)
    body = Actor(
        "ego", Body(actors[0].body.agent_class, vehicle.length, vehicle.width, 1.5), center, np.ones(len(center), bool)
    )
    for actor in actors:
        if _touch(body, actor, 0.15):
            raise Rejected(f"the reference driver comes too close to {actor.name}")
    points = boxes.corners(center, vehicle.length, vehicle.width).reshape(-1, 2)
    inside = shapely.contains_xy(town.road.prepared_drivable, points[:, 0], points[:, 1])
    if not inside.all():
        raise Rejected("the reference driver leaves the drivable area")


def _touch(a: Actor, b: Actor, margin: float) -> bool:
    """Whether two actors come closer than the margin (m, along separating axes) while both are there."""
    both = a.valid & b.valid
    reach = (np.hypot(a.body.length, a.body.width) + np.hypot(b.body.length, b.body.width)) / 2 + margin
    k = np.flatnonzero(both & (((a.pose[:, :2] - b.pose[:, :2]) ** 2).sum(-1) < reach**2))
    if len(k) == 0:
        return False
    size = [np.broadcast_to([x.body.length, x.body.width], (len(k), 2)) for x in (a, b)]
    return bool((boxes.separation(a.pose[k], size[0], b.pose[k], size[1]) < margin).any())

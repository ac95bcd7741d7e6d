"""Small synthetic recordings and drivers for the tests of the simulator."""

from __future__ import annotations

import numpy as np
import shapely
import shapely.affinity
import torch

from eval.simulation.drivers import DriveOutput
from eval.simulation.vehicle import VehicleState
from perception.recording import AgentLog, EgoTrack, ObjectStates, Recording
from perception.road_map import Lane, RoadMap
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    Route,
    Trajectory,
    VectorScene,
    VehicleParameters,
)

DT = 0.1
SIZE = {AgentClass.CAR: (4.5, 1.9), AgentClass.PEDESTRIAN: (0.6, 0.6), AgentClass.STATIC: (0.5, 0.5)}


def straight_road(length: float = 600.0) -> RoadMap:
    """Two lanes along +x, 3.5 m wide, centred on y = 0 and y = 3.5."""
    lanes = {}
    for name, y in (("right", 0.0), ("left", 3.5)):
        x = np.arange(-100.0, length + 1.0)
        line = np.stack([x, np.full_like(x, y)], -1)
        lanes[name] = Lane(name, line, shapely.box(-100, y - 1.75, length, y + 1.75), speed_limit=15.0)
    lanes["right"].left, lanes["left"].right = "left", "right"
    return RoadMap("straight", lanes, shapely.box(-100, -1.75, length, 5.25))


def straight_track(x: np.ndarray, y: float | np.ndarray = 0.0) -> np.ndarray:
    """``[T, 3]`` poses along +x."""
    return np.stack([x, np.broadcast_to(y, x.shape), np.zeros_like(x)], -1)


def agent(pose: np.ndarray, kind: AgentClass = AgentClass.CAR, valid: np.ndarray | None = None) -> dict:
    """One agent of `recording`: poses ``[T, 3]``, class, valid ``[T]``."""
    return {"pose": pose, "kind": kind, "valid": np.ones(len(pose), bool) if valid is None else valid}


def recording(ego: np.ndarray, *agents: dict, road: RoadMap | None = None, name: str = "synthetic") -> Recording:
    """A recording of an ego (rear axle ``[T, 3]``) and agents, on a straight road."""
    times = len(ego)
    road = straight_road() if road is None else road
    v = np.gradient(ego[:, 0], DT)
    track = EgoTrack(ego, v, np.gradient(v, DT), np.zeros(times), np.zeros(times), "simulation")
    log = AgentLog.empty(times)
    if agents:
        pose = np.stack([a["pose"] for a in agents])
        log = AgentLog(
            id=[f"agent-{i}" for i in range(len(agents))],
            track_id=np.arange(1, len(agents) + 1),
            agent_class=np.array([int(a["kind"]) for a in agents]),
            size=np.array([SIZE[a["kind"]] for a in agents], dtype=float),
            height=np.full(len(agents), 1.6),
            pose=pose,
            velocity=np.gradient(pose[..., :2], DT, axis=1),
            valid=np.stack([a["valid"] for a in agents]),
        )
    line = road.lanes[next(iter(road.lanes))].centerline
    return Recording(
        name, "generated", np.arange(times) * DT, 0, track, log, road, list(road.lanes)[:1], line,
        np.ones(times, bool),
    ).validate()  # fmt: skip


def observe(ego: EgoState, objects: ObjectStates, name: str) -> VectorScene:
    """A double for perception: ego and route only, no agents, no map."""
    zero = torch.zeros((), dtype=torch.float64)
    route = torch.stack([torch.linspace(0, 100, 50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)], -1)
    width = torch.full((50,), 1.75, dtype=torch.float64)
    none = torch.zeros_like(width)
    return VectorScene(
        ego=ego.replace(x=zero, y=zero, yaw=zero),
        agents=AgentTracks.empty(),
        futures=AgentFutures.empty(torch.tensor([0.5], dtype=torch.float64)),
        map=MapPolylines.from_lists([]),
        route=Route(
            route, torch.full((50,), 15.0, dtype=torch.float64), torch.zeros(50, dtype=torch.int64), width, width, none,
            none, torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool),
        ),
        global_from_ego=torch.stack([ego.x, ego.y, ego.yaw]),
        name=name,
    ).validate()  # fmt: skip


class Cruise:
    """Drives straight on with the acceleration of `profile(time since reset)`; for tests."""

    name = "cruise"

    def __init__(self, acceleration: float = 0.0) -> None:
        self.acceleration = acceleration

    def reset(self, recording: Recording) -> None:
        pass

    def drive(self, scene: VectorScene) -> DriveOutput:
        time = torch.arange(0, 4.01, 0.1, dtype=torch.float64)
        v0, a = float(scene.ego.v), self.acceleration
        moving = torch.clamp(time, max=v0 / -a) if a < 0 else time
        v = torch.clamp(v0 + a * moving, min=0.0)
        x = v0 * moving + a * moving**2 / 2
        zero = torch.zeros_like(time)
        accelerations = torch.where(v > 0, torch.full_like(time, a), zero)
        return DriveOutput(Trajectory(time, x, zero, zero, v, accelerations, zero))


class Recorded(Cruise):
    """The recorded ego; what it plans does not matter."""

    name = "recorded"
    replays_log = True


def ego_at(x: float, y: float = 0.0, v: float = 0.0, yaw: float = 0.0) -> VehicleState:
    """An ego whose box centre is at (x, y)."""
    back = VehicleParameters().rear_axle_to_center
    return VehicleState(x - back * np.cos(yaw), y - back * np.sin(yaw), yaw, v, 0.0, 0.0)


def box(pose: np.ndarray, size: tuple[float, float] | np.ndarray) -> shapely.Polygon:
    """The rectangle of length and width `size` (m) at a pose ``[3]``; shapely is the tests' independent witness."""
    length, width = size
    flat = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    turned = shapely.affinity.rotate(flat, pose[2], origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(turned, pose[0], pose[1])

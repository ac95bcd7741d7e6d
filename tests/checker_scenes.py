"""Small scenes and motions for the safety tests: a straight two-lane road along x, and arcs."""

from __future__ import annotations

import numpy as np
import torch

from planner import fallback
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    Trajectory,
    VectorScene,
)

F64 = torch.float64
FUTURE_TIME = torch.arange(1, 31, dtype=F64) * 0.2


def agent(
    x: float,
    y: float,
    yaw: float = 0.0,
    v: float = 0.0,
    kind: AgentClass = AgentClass.CAR,
    size: tuple[float, float] | None = None,
    track_id: int = 0,
) -> dict:
    """One object; velocity along its yaw."""
    default = {AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.STATIC: (0.5, 0.5)}.get(kind, (4.5, 1.9))
    return {"pose": (x, y, yaw), "v": v, "kind": kind, "size": size or default, "id": track_id}


def make_scene(
    v: float = 8.0,
    agents: tuple[dict, ...] = (),
    a: float = 0.0,
    curvature: float = 0.0,
    half_width: float = 5.25,
    right_edge: float = 1.75,
    time_us: int = 0,
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    limit: float = 15.0,
    lines: tuple = (),
    boundary: bool = True,
) -> VectorScene:
    """Ego at the origin heading along +x in the right lane, the opposite lane on the left; constant velocities."""
    count, steps = len(agents), len(FUTURE_TIME)
    box = torch.tensor([[*g["pose"], *g["size"]] for g in agents], dtype=F64).reshape(count, 5)
    velocity = torch.tensor(
        [[g["v"] * np.cos(g["pose"][2]), g["v"] * np.sin(g["pose"][2])] for g in agents], dtype=F64
    ).reshape(count, 2)
    tracks = AgentTracks(
        box, velocity, torch.eye(2, dtype=F64).expand(count, 2, 2) * 0.01,
        torch.tensor([int(g["kind"]) for g in agents], dtype=torch.int64), torch.ones(count, dtype=F64),
        torch.tensor([g["id"] for g in agents], dtype=torch.int64), torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    mean = box[:, None, None, :2] + velocity[:, None, None] * FUTURE_TIME[None, None, :, None]
    futures = AgentFutures(
        mean, box[:, None, None, 2].expand(count, 1, steps).clone(),
        torch.eye(2, dtype=F64).expand(count, 1, steps, 2, 2) * 0.01, torch.ones(count, 1, dtype=F64), FUTURE_TIME,
        torch.ones(count, 1, steps, dtype=torch.bool),
    )  # fmt: skip
    line = lambda x0, x1, y: torch.stack(  # noqa: E731
        [torch.linspace(x0, x1, 101, dtype=F64), torch.full((101,), float(y), dtype=F64)], -1
    )
    polylines = [
        (line(-50, 150, 0.0), PolylineType.CENTERLINE),
        (line(150, -50, 3.5), PolylineType.CENTERLINE),
        *lines,
    ]
    if boundary:
        polylines += [
            (line(-50, 150, -right_edge), PolylineType.BOUNDARY),
            (line(150, -50, half_width), PolylineType.BOUNDARY),
        ]
    route_xy = line(-25, 150, 0.0)
    full = lambda value: torch.full((101,), float(value), dtype=F64)  # noqa: E731
    route = Route(
        route_xy, full(limit), torch.zeros(101, dtype=torch.int64), full(1.75), full(1.75), full(3.5), full(0),
        torch.zeros(101, dtype=torch.bool), torch.ones(101, dtype=torch.bool),
    )  # fmt: skip
    return VectorScene(
        EgoState.at_origin(v, a, curvature, time_us),
        tracks,
        futures,
        MapPolylines.from_lists(polylines),
        route,
        torch.tensor(pose, dtype=F64),
    ).validate()


def drive(
    v: float,
    duration: float = 5.0,
    a: float = 0.0,
    curvature: float = 0.0,
    yaw: float = 0.0,
    x: float = 0.0,
    y: float = 0.0,
) -> Trajectory:
    """Constant acceleration (until standstill) and curvature, exactly integrated, every 0.1 s."""
    time = np.arange(0.0, duration + 1e-9, 0.1)
    rows = [(0.0, x, y, yaw, v, a, curvature)]
    for t in time[1:]:
        _, x, y, yaw, v, _, _ = rows[-1]
        x, y, yaw = fallback.advance(x, y, yaw, v, a, 0.0, curvature, 0.0, 0.1)
        rows.append((t, x, y, yaw, v + a * 0.1, a, curvature))
    return Trajectory(*(c.clone() for c in torch.tensor(np.array(rows), dtype=F64).T))


def with_tail(trajectory: Trajectory, braking: float = 4.0, shared: float = 0.3) -> Trajectory:
    """The first `shared` seconds of a trajectory (0.1 s grid), then a stop along its way."""
    n = round(shared / 0.1)
    pick = lambda f: f[n].clone()  # noqa: E731
    ego = EgoState(
        *(pick(f) for f in (trajectory.x, trajectory.y, trajectory.yaw, trajectory.v, trajectory.a)),
        pick(trajectory.curvature), pick(trajectory.v * trajectory.curvature), torch.tensor(0),
    )  # fmt: skip
    stop = fallback.brake_in_path(ego, trajectory, braking=braking)
    join = lambda name: torch.cat([getattr(trajectory, name)[:n], getattr(stop, name)])  # noqa: E731
    tail = Trajectory(*(join(name) for name in ("time", "x", "y", "yaw", "v", "a", "curvature")))
    tail.time[n:] = stop.time + trajectory.time[n]
    return tail

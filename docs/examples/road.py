"""Scenes for the examples, from the public contract only: a straight road along x and one other road user."""

from __future__ import annotations

import torch

from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    VectorScene,
)

TIME = torch.arange(1, 31, dtype=torch.float64) * 0.2  # s, of the forecasts
SIZE = {AgentClass.CAR: (4.5, 1.9), AgentClass.PEDESTRIAN: (0.7, 0.7)}  # m
LEFT, RIGHT = 3.5, 1.75  # m, from the middle of our lane to the edges of the road


def road_scene(
    v: float, x: float, y: float, vx: float = 0.0, vy: float = 0.0, kind: AgentClass = AgentClass.CAR
) -> VectorScene:
    """Ego at the origin with speed v (m/s), limit 10 m/s; somebody at (x, y) m with velocity (vx, vy) m/s."""
    f64 = {"dtype": torch.float64}
    s = torch.arange(-25.0, 150.0, **f64)
    zero, one = torch.zeros_like(s), torch.ones_like(s)
    no = torch.zeros(len(s), dtype=torch.bool)
    route = Route(torch.stack([s, zero], -1), 10 * one, no.long(), LEFT * one, RIGHT * one, zero, zero, no, ~no)
    # The drivable surface lies to the left of a boundary's direction.
    edges = [torch.stack([s, zero - RIGHT], -1), torch.stack([s.flip(0), zero + LEFT], -1)]
    boundaries = MapPolylines.from_lists([(edge, PolylineType.BOUNDARY) for edge in edges])

    velocity = torch.tensor([[vx, vy]], **f64)
    yaw = torch.atan2(velocity[:, 1], velocity[:, 0])
    box = torch.cat([torch.tensor([[x, y]], **f64), yaw[:, None], torch.tensor([SIZE[kind]], **f64)], -1)
    yes = torch.ones(1, dtype=torch.bool)
    now = 0.01 * torch.eye(2, **f64)
    tracks = AgentTracks(box, velocity, now[None], torch.tensor([int(kind)]), torch.ones(1, **f64), yes.long(), yes)
    mean = box[:, None, None, :2] + TIME[:, None] * velocity[:, None, None]
    covariance = now * (1 + TIME[:, None, None] ** 2)
    futures = AgentFutures(
        mean, yaw.expand(1, 1, len(TIME)), covariance[None, None], torch.ones(1, 1, **f64), TIME,
        torch.ones(1, 1, len(TIME), dtype=torch.bool),
    )  # fmt: skip
    return VectorScene(EgoState.at_origin(v), tracks, futures, boundaries, route, torch.zeros(3, **f64))

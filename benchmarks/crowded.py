"""Crowded street scenes, random and reproducible: what the planner benchmark plans for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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

F64 = torch.float64
STEP = 0.2  # s, of the forecasts
KINDS = ("ahead", "oncoming", "parked", "walking", "crossing")
SIZES = {AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.CAR: (4.5, 1.9)}
RIGHT, LEFT, ONCOMING = 2.6, 1.75, 3.5
"""m: room beside the path: with parked cars on the right, and with the oncoming lane on the left."""


def crowded_scene(seed: int, agents: int = 20, modes: int = 6, seconds: float = 6.0) -> VectorScene:
    """A bent two-way street. The agents are in turn cars ahead, oncoming and parked, people who cross on foot, and cars
    that cross; each has `modes` forecasts over `seconds` that differ in speed and in how they bend.
    """
    draw = torch.Generator().manual_seed(seed)
    uniform = lambda low, high: float(low + (high - low) * torch.rand(1, generator=draw, dtype=F64))  # noqa: E731
    bend = uniform(-0.006, 0.006)
    speed = uniform(5.0, 9.0)
    poses, velocity, curvature, kinds = [], [], [], []
    for i in range(agents):
        kind = KINDS[i % len(KINDS)]
        row = i // len(KINDS)  # of each kind one after the other along the street
        s = 22.0 + 14.0 * row + uniform(0.0, 10.0)
        side = 1.0 if uniform(0.0, 1.0) < 0.5 else -1.0
        if kind == "ahead":
            s, offset, turn, v = s + 12.0, 0.0, 0.0, uniform(4.0, 8.0)
        elif kind == "oncoming":
            offset, turn, v = ONCOMING, math.pi, uniform(4.0, 9.0)
        elif kind == "parked":
            offset, turn, v = -uniform(1.9, 2.5), 0.0, 0.0
        elif kind == "walking":
            v, turn = uniform(0.8, 1.6), -side * math.pi / 2
            offset = side * (2.0 + v * uniform(2.0, 6.0))  # reaches the path within the horizon
        else:
            v, turn = uniform(3.0, 8.0), -side * math.pi / 2
            s, offset = s + 10.0, side * (3.0 + v * uniform(2.0, 6.0))
        point, normal = _arc(torch.tensor([s], dtype=F64), bend)
        where = point[0] + offset * normal[0]
        poses.append([float(where[0]), float(where[1]), s * bend + turn])
        velocity.append(v)
        curvature.append({"ahead": bend, "oncoming": -bend}.get(kind, 0.0))
        kinds.append(AgentClass.PEDESTRIAN if kind == "walking" else AgentClass.CAR)
    motion = torch.tensor([velocity, curvature], dtype=F64)
    time = torch.arange(1, round(seconds / STEP) + 1, dtype=F64) * STEP
    tracks, futures = _tracks(torch.tensor(poses, dtype=F64), motion, kinds, modes, time, draw)
    ego = EgoState.at_origin(speed, uniform(-0.5, 0.5), bend, 0)
    return VectorScene(ego, tracks, futures, _edges(bend), _route(bend), torch.zeros(3, dtype=F64)).validate()


def _tracks(
    poses: Tensor, motion: Tensor, kinds: list[AgentClass], modes: int, time: Tensor, draw: torch.Generator
) -> tuple[AgentTracks, AgentFutures]:
    """motion ``[2, A]``: speed (m/s) and curvature (1/m) of each agent's first forecast."""
    count, speed = len(poses), motion[0]
    size = torch.tensor([SIZES[kind] for kind in kinds], dtype=F64)
    forward = torch.stack([torch.cos(poses[:, 2]), torch.sin(poses[:, 2])], -1)
    pace = 0.6 + 0.8 * torch.rand(count, modes, generator=draw, dtype=F64)
    pace[:, 0] = 1.0
    swerve = 0.001 * torch.randn(count, modes, generator=draw, dtype=F64)
    swerve[:, 0] = 0.0
    swerve = swerve + motion[1][:, None]
    way = speed[:, None, None] * pace[..., None] * time
    yaw = poses[:, 2, None, None] + swerve[..., None] * way
    chord = poses[:, 2, None, None] + 0.5 * swerve[..., None] * way
    mean = poses[:, None, None, :2] + way[..., None] * torch.stack([torch.cos(chord), torch.sin(chord)], -1)
    variance = 0.1**2 + (0.15 * time) ** 2
    eye = torch.eye(2, dtype=F64)
    tracks = AgentTracks(
        box=torch.cat([poses, size], 1),
        velocity=forward * speed[:, None],
        position_covariance=(0.01 * eye).expand(count, 2, 2).clone(),
        agent_class=torch.tensor([int(kind) for kind in kinds]),
        existence=torch.ones(count, dtype=F64),
        track_id=torch.arange(1, count + 1),
        valid=torch.ones(count, dtype=torch.bool),
    )
    futures = AgentFutures(
        mean=mean, yaw=yaw,
        covariance=(variance[:, None, None] * eye).expand(count, modes, -1, 2, 2).clone(),
        probability=torch.softmax(torch.linspace(1.5, 0.0, modes, dtype=F64), 0).expand(count, -1).clone(),
        time=time, valid=torch.ones(count, modes, len(time), dtype=torch.bool),
    )  # fmt: skip
    return tracks, futures


def _route(bend: float) -> Route:
    point, _ = _arc(_stations(), bend)
    one, count = torch.ones(len(point), dtype=F64), len(point)
    return Route(
        point, 10.0 * one, torch.zeros(count, dtype=torch.int64), LEFT * one, RIGHT * one, ONCOMING * one, 0 * one,
        torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool),
    )  # fmt: skip


def _edges(bend: float) -> MapPolylines:
    point, normal = _arc(_stations(), bend)
    edges = [point - RIGHT * normal, (point + (LEFT + ONCOMING) * normal).flip(0)]
    return MapPolylines.from_lists([(edge, PolylineType.BOUNDARY) for edge in edges])


def _stations() -> Tensor:
    return torch.arange(-25.0, 150.0, 1.0, dtype=F64)


def _arc(s: Tensor, bend: float) -> tuple[Tensor, Tensor]:
    """Points (m) of a path of curvature bend through the origin along +x, and its left normals."""
    heading = s * bend
    half = torch.sinc(heading / (2 * math.pi)) * s  # s sin(x) / x: exact for a straight road
    point = torch.stack([half * torch.cos(heading / 2), half * torch.sin(heading / 2)], -1)
    return point, torch.stack([-torch.sin(heading), torch.cos(heading)], -1)

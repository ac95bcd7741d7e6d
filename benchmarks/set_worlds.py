"""Small worlds on a two-way street whose road users stay within the checker's assumptions, or leave them on purpose.

consistent  everyone accelerates and brakes at will within the bounds of its class and keeps to its line; what stands
            stays. Every new set is then contained in the old one, as recursive feasibility presumes.
bounded     in addition sideways and creeping motion up to the bounds. A set that starts anew from where somebody has
            got to reaches farther than the old one did: the bounds on deviations are not nested.
open        as consistent; then somebody appears from nowhere, or brakes harder or swerves farther than assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from planner.checker import DEFAULT_BOUNDS
from planner.scene import (
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    VectorScene,
    frames,
)

F64 = torch.float64
WORLDS = ("consistent", "bounded", "open")
_SIZE = {
    AgentClass.CAR: (4.5, 1.9), AgentClass.TRUCK: (8.0, 2.5), AgentClass.BICYCLE: (1.8, 0.6),
    AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.STATIC: (0.6, 0.6),
}  # fmt: skip
_FUTURE = torch.arange(1, 31, dtype=F64) * 0.2


@dataclass
class Walker:
    """A road user: pose (global x, y, yaw), speed along it, class; a: present acceleration; aside: sideways profile
    (acceleration m/s^2, largest deviation m, direction); base: the line it keeps to.
    """

    kind: AgentClass
    x: float
    y: float
    yaw: float
    v: float
    a: float = 0.0
    aside: tuple[float, float, float] = (0.0, 0.0, 0.0)
    off: float = 0.0
    age: float = 0.0
    reckless: bool = False
    born: float = -1.0

    def step(self, rng: np.random.Generator, dt: float) -> None:
        """One step within the bounds, or beyond them if reckless."""
        b = DEFAULT_BOUNDS[self.kind]
        if rng.random() < 0.15:
            self.a = float(rng.uniform(-b.braking, b.acceleration)) if b.acceleration else 0.0
            if rng.random() < 0.2:
                self.a = -b.braking
        if self.reckless:
            self.a = -2.0 * max(b.braking, 1.0)
        moving = self.v >= b.standing_speed
        v = min(max(self.v + self.a * dt, 0.0), b.speed_max) if moving else self.v
        length = 0.5 * (self.v + v) * dt
        self.x += length * np.cos(self.yaw)
        self.y += length * np.sin(self.yaw)
        self.v = v if v >= b.standing_speed or not moving else 0.0
        self.age += dt
        strength, most, way = self.aside
        off = way * min(0.5 * strength * self.age**2, most)
        self.x -= (off - self.off) * np.sin(self.yaw)
        self.y += (off - self.off) * np.cos(self.yaw)
        self.off = off


@dataclass
class World:
    """kind: of WORLDS. ego: global x, y, yaw, v, a, curvature. agents by track id; suspects: ids outside the
    assumptions, with what they did.
    """

    kind: str
    rng: np.random.Generator
    ego: np.ndarray = field(default_factory=lambda: np.zeros(6))
    agents: dict[int, Walker] = field(default_factory=dict)
    suspects: dict[int, str] = field(default_factory=dict)
    time: float = 0.0
    event: float = np.inf

    @classmethod
    def drawn(cls, kind: str, seed: int) -> World:
        """A random one: 1 to 5 road users, ego at 3 to 14 m/s."""
        rng = np.random.default_rng([seed, WORLDS.index(kind)])
        world = cls(kind, rng, np.array([0.0, rng.uniform(-0.3, 0.3), 0.0, rng.uniform(3.0, 14.0), 0.0, 0.0]))
        for i in range(int(rng.integers(1, 6))):
            world.agents[i + 1] = _drawn(rng, sideways=kind == "bounded")
        world.event = float(rng.uniform(0.1, 2.0)) if kind == "open" else np.inf
        return world

    def step(self, dt: float) -> None:
        """Everybody moves on; in an open world, something happens once."""
        self.time += dt
        for agent in self.agents.values():
            agent.step(self.rng, dt)
        if self.time < self.event:
            return
        self.event = np.inf
        ahead = [i for i, g in self.agents.items() if 0 < g.x - self.ego[0] < 40 and g.v > 1.0]
        if ahead and self.rng.random() < 0.5:
            chosen = int(self.rng.choice(ahead))
            self.agents[chosen].reckless = True
            if self.rng.random() < 0.5:
                self.agents[chosen].aside = (3.0, 3.0, float(np.sign(self.ego[1] - self.agents[chosen].y) or 1.0))
                self.agents[chosen].age = 0.0
            self.suspects[chosen] = "broken assumption"
        else:
            place = self.ego[0] + self.rng.uniform(4.0, 5.0 + 2.5 * self.ego[3])
            kind = AgentClass(int(self.rng.choice([AgentClass.PEDESTRIAN, AgentClass.CAR, AgentClass.STATIC])))
            self.agents[99] = Walker(kind, place, float(self.rng.uniform(-1.5, 2.5)), 1.57, 0.0)
            self.suspects[99] = "birth"

    def scene(self) -> VectorScene:
        """What perfect perception shows: everybody, with a forecast of constant velocity."""
        return _scene(self.ego, list(self.agents.items()), self.time)


def _drawn(rng: np.random.Generator, sideways: bool) -> Walker:
    kind = int(rng.integers(6))
    yaw, v = 0.0, float(rng.uniform(2.0, 13.0))
    if kind == 0:
        agent = Walker(AgentClass.CAR, float(rng.uniform(12, 60)), 0.0, yaw, v)
    elif kind == 1:
        agent = Walker(AgentClass(int(rng.integers(2))), float(rng.uniform(20, 90)), 3.5, np.pi, v)
    elif kind == 2:
        agent = Walker(AgentClass.BICYCLE, float(rng.uniform(10, 40)), -1.1, yaw, float(rng.uniform(2.0, 7.0)))
    elif kind == 3:
        heading, side = float(rng.choice([0.0, np.pi, 1.57, -1.57])), float(rng.choice([-3.2, 6.5]))
        agent = Walker(AgentClass.PEDESTRIAN, float(rng.uniform(8, 45)), side, heading, float(rng.uniform(0.5, 1.8)))
    elif kind == 4:
        agent = Walker(AgentClass.CAR, float(rng.uniform(15, 60)), float(rng.choice([0.0, -2.6])), yaw, 0.0)
    else:
        agent = Walker(AgentClass.STATIC, float(rng.uniform(10, 50)), float(rng.choice([-1.6, 1.75])), yaw, 0.0)
    b = DEFAULT_BOUNDS[agent.kind]
    if sideways:
        moving = agent.v >= b.standing_speed
        strength, most = b.lateral_acceleration, b.lateral_deviation
        if not moving:
            strength, most = (
                (b.standing_acceleration, b.standing_deviation) if agent.kind is AgentClass.PEDESTRIAN else (0, 0)
            )
        agent.aside = (float(rng.uniform(0, 1)) * strength, most, float(rng.choice([-1.0, 1.0])))
    return agent


def _scene(ego: np.ndarray, agents: list[tuple[int, Walker]], time: float) -> VectorScene:
    count, steps = len(agents), len(_FUTURE)
    box = torch.tensor([[g.x, g.y, g.yaw, *_SIZE[g.kind]] for _, g in agents], dtype=F64).reshape(count, 5)
    velocity = torch.tensor([[g.v * np.cos(g.yaw), g.v * np.sin(g.yaw)] for _, g in agents], dtype=F64).reshape(
        count, 2
    )
    small = torch.eye(2, dtype=F64) * 0.01
    tracks = AgentTracks(
        box, velocity, small.expand(count, 2, 2), torch.tensor([int(g.kind) for _, g in agents], dtype=torch.int64),
        torch.ones(count, dtype=F64), torch.tensor([i for i, _ in agents], dtype=torch.int64),
        torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    futures = AgentFutures(
        box[:, None, None, :2] + velocity[:, None, None] * _FUTURE[None, None, :, None],
        box[:, None, None, 2].expand(count, 1, steps).clone(), small.expand(count, 1, steps, 2, 2),
        torch.ones(count, 1, dtype=F64), _FUTURE, torch.ones(count, 1, steps, dtype=torch.bool),
    )  # fmt: skip
    x0 = float(np.floor(ego[0] / 10) * 10)
    line = lambda a, b, y: torch.stack(  # noqa: E731
        [torch.linspace(x0 + a, x0 + b, 61, dtype=F64), torch.full((61,), y, dtype=F64)], -1
    )
    road = MapPolylines.from_lists(
        [
            (line(-50, 150, 0.0), PolylineType.CENTERLINE), (line(150, -50, 3.5), PolylineType.CENTERLINE),
            (line(-50, 150, -1.75), PolylineType.BOUNDARY), (line(150, -50, 5.25), PolylineType.BOUNDARY),
        ]
    )  # fmt: skip
    full = lambda value: torch.full((61,), value, dtype=F64)  # noqa: E731
    no, yes = torch.zeros(61, dtype=torch.bool), torch.ones(61, dtype=torch.bool)
    route = Route(
        line(-25, 150, 0.0), full(15.0), torch.zeros(61, dtype=torch.int64), full(1.75), full(1.75), full(3.5),
        full(0.0), no, yes,
    )  # fmt: skip
    x, y, yaw, v, a, k = (torch.tensor(float(f), dtype=F64) for f in ego)
    state = EgoState(x, y, yaw, v, a, k, v * k, torch.tensor(round(time * 1e6)))
    scene = VectorScene(state, tracks, futures, road, route, torch.zeros(3, dtype=F64))
    return scene.transformed(frames.inverse(torch.stack([x, y, yaw])))

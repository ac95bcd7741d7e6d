"""Headings of moving vehicles from where they went: wheels do not slide, so a vehicle's way says how it points.

A network that looks at one moment tells a bus's place to decimetres, but its heading to several degrees, and a degree
decides which lane a worst-case set turns into.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from planner.scene import AgentClass, AgentTracks, frames

WHEELED = (AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS, AgentClass.MOTORCYCLE, AgentClass.BICYCLE)


@dataclass(frozen=True)
class HeadingConfig:
    """span (s): the last stretch of a track's way that is looked at; points: fewest places in it; moved (m): it is at
    least so long, otherwise the heading stays as detected."""

    span: float = 0.4
    points: int = 4
    moved: float = 1.5


@dataclass
class Headings:
    """One per drive; `update` once per frame, in order of time."""

    config: HeadingConfig = field(default_factory=HeadingConfig)
    _ways: dict[int, list[tuple[int, np.ndarray]]] = field(default_factory=dict)

    def reset(self) -> None:
        """A new drive begins."""
        self._ways = {}

    def update(self, agents: AgentTracks, global_from_ego: Tensor, time_us: int) -> AgentTracks:
        """Agents of one scene (ego frame, no batch axis, tracked); box heading and velocity turned along the way."""
        box, velocity = agents.box.clone(), agents.velocity.clone()
        place = frames.transform_points(global_from_ego, agents.box[:, :2]).detach().numpy()
        known: dict[int, list[tuple[int, np.ndarray]]] = {}
        for i in agents.valid.nonzero()[:, 0].tolist():
            track = int(agents.track_id[i])
            way = [*self._ways.get(track, []), (time_us, place[i])]
            known[track] = [(t, xy) for t, xy in way if time_us - t <= round(self.config.span * 1e6)]
            if int(agents.agent_class[i]) in WHEELED and (yaw := self._along(known[track])) is not None:
                box[i, 2] = frames.wrap_angle(torch.tensor(yaw, dtype=box.dtype) - global_from_ego[2])
                speed = velocity[i].norm()
                velocity[i] = speed * torch.stack([box[i, 2].cos(), box[i, 2].sin()])
        self._ways = known
        return agents.replace(box=box, velocity=velocity)

    def _along(self, way: list[tuple[int, np.ndarray]]) -> float | None:
        """Global direction (rad) of the straight line through the places (least squares); None: it says nothing."""
        if len(way) < self.config.points:
            return None
        xy = np.stack([place for _, place in way])
        step = xy[-1] - xy[0]
        if float(np.hypot(*step)) < self.config.moved:
            return None
        line = np.linalg.svd(xy - xy.mean(0))[2][0]
        line = line if line @ step >= 0 else -line
        return float(np.arctan2(line[1], line[0]))

"""Other road users of a generated scene: bodies, and the ways they move.

A motion is a function of time on the recording's grid. Vehicles follow a path with the
Intelligent Driver Model (Treiber, Hennecke, Helbing 2000); pedestrians follow a script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.simulation.generate.curves import Path
from planner.scene import AgentClass

DT = 0.1  # s, the recording's time step
LATERAL_COMFORT = 2.0  # m/s^2, in curves
STEERING_COMFORT = 0.15  # 1/(m s), change of curvature
IDM_TIME_GAP = 1.6  # s
IDM_MINIMUM_GAP = 2.5  # m
IDM_ACCELERATION = 1.4  # m/s^2
IDM_BRAKING = 2.0  # m/s^2
BRAKING_MAX = 8.0  # m/s^2


@dataclass(frozen=True)
class Body:
    """What a road user is: class, length, width and height in metres."""

    agent_class: AgentClass
    length: float
    width: float
    height: float


_RANGES: dict[str, tuple[AgentClass, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "car": (AgentClass.CAR, (3.9, 4.9), (1.72, 1.92), (1.4, 1.8)),
    "van": (AgentClass.CAR, (4.9, 5.6), (1.95, 2.05), (1.9, 2.4)),
    "truck": (AgentClass.TRUCK, (7.0, 9.5), (2.3, 2.5), (2.8, 3.5)),
    "bus": (AgentClass.BUS, (10.5, 12.2), (2.5, 2.55), (3.0, 3.3)),
    "motorcycle": (AgentClass.MOTORCYCLE, (2.0, 2.3), (0.75, 0.9), (1.4, 1.6)),
    "bicycle": (AgentClass.BICYCLE, (1.6, 1.85), (0.55, 0.7), (1.6, 1.8)),
    "pedestrian": (AgentClass.PEDESTRIAN, (0.55, 0.8), (0.55, 0.75), (1.5, 1.9)),
    "cone": (AgentClass.STATIC, (0.35, 0.45), (0.35, 0.45), (0.7, 0.9)),
}


def draw_body(rng: np.random.Generator, kind: str) -> Body:
    """A body of the kind (a key such as "car", "bus", "pedestrian") with its size drawn."""
    agent_class, *ranges = _RANGES[kind]
    return Body(agent_class, *(float(rng.uniform(*r)) for r in ranges))


@dataclass
class Actor:
    """One road user over the recording: box-centre pose ``[T, 3]`` and presence ``[T]``."""

    name: str
    body: Body
    pose: np.ndarray
    valid: np.ndarray
    path: Path | None = field(default=None, repr=False)
    station: np.ndarray | None = field(default=None, repr=False)

    @property
    def rear(self) -> np.ndarray:
        """Arc length (m) of the rear bumper along the actor's own path; +inf where absent."""
        assert self.station is not None
        return np.where(self.valid, self.station - self.body.length / 2, np.inf)


def standing(name: str, body: Body, pose: np.ndarray, steps: int) -> Actor:
    """An actor that stays at the pose ``[3]``."""
    return Actor(name, body, np.tile(pose, (steps, 1)), np.ones(steps, bool))


def on_path(name: str, body: Body, path: Path, station: np.ndarray) -> Actor:
    """An actor whose box centre is at the given stations ``[T]`` (m) of the path; absent unless wholly on it."""
    valid = (station >= body.length / 2) & (station <= path.length - body.length / 2)
    return Actor(name, body, path.pose(station), valid, path, station)


def comfortable_speed(
    path: Path, limit: float, braking: float = 1.5, zones: Sequence[tuple[float, float, float]] = ()
) -> np.ndarray:
    """Speed (m/s) at each sample of the path: the limit, the curves, slow zones, and braking ahead of both.

    zones: (start m, end m, speed m/s).
    """
    speed = np.minimum(limit, np.sqrt(LATERAL_COMFORT / np.maximum(np.abs(path.curvature), 1e-6)))
    # Averaged over 2 m: the steering wheel does not follow the joints between lanes.
    bend = np.convolve(np.pad(path.curvature, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    speed = np.minimum(speed, STEERING_COMFORT / np.maximum(np.abs(np.gradient(bend, path.s)), 1e-6))
    for start, end, slow in zones:
        speed[(path.s >= start) & (path.s <= end)] = np.minimum(speed, slow)[(path.s >= start) & (path.s <= end)]
    squared, step = speed**2, np.diff(path.s)
    for i in range(len(squared) - 2, -1, -1):
        squared[i] = min(squared[i], squared[i + 1] + 2 * braking * step[i])
    return np.sqrt(squared)


def drive(
    path: Path,
    steps: int,
    station: float,
    speed: float,
    limit: float,
    *,
    length: float,
    leader_rear: np.ndarray | None = None,
    leader_speed: np.ndarray | None = None,
    command: Callable[[float, float, float], float | None] | None = None,
    time_gap: float = IDM_TIME_GAP,
) -> tuple[np.ndarray, np.ndarray]:
    """Box-centre stations and speeds ``[T]`` of a vehicle that follows the path by the IDM.

    leader_rear (m, along the same path), leader_speed ``[T]``: whom it follows, +inf where nobody.
    command(time, station, speed): a scripted acceleration (m/s^2), or None to follow the model;
    it takes the smaller of the two while the script speaks.
    """
    free = comfortable_speed(path, limit)
    s, v = np.empty(steps), np.empty(steps)
    s[0], v[0] = station, speed
    for k in range(1, steps):
        wish = max(float(np.interp(s[k - 1], path.s, free)), 0.1)
        a = IDM_ACCELERATION * (1 - min((v[k - 1] / wish) ** 4, 6.0))
        if leader_rear is not None and np.isfinite(leader_rear[k - 1]):
            gap = max(leader_rear[k - 1] - (s[k - 1] + length / 2), 0.1)
            closing = v[k - 1] - (leader_speed[k - 1] if leader_speed is not None else 0.0)
            desired = IDM_MINIMUM_GAP + max(
                0.0, v[k - 1] * time_gap + v[k - 1] * closing / (2 * np.sqrt(IDM_ACCELERATION * IDM_BRAKING))
            )
            a -= IDM_ACCELERATION * (desired / gap) ** 2
        ordered = command((k - 1) * DT, s[k - 1], v[k - 1]) if command is not None else None
        a = a if ordered is None else min(a, ordered)
        a = min(max(a, -BRAKING_MAX), 2.5)
        v[k] = max(v[k - 1] + a * DT, 0.0)
        s[k] = s[k - 1] + 0.5 * (v[k - 1] + v[k]) * DT
    return s, v


def walk(name: str, body: Body, points: np.ndarray, start: float, speed: float, steps: int, ramp: float = 0.3) -> Actor:
    """A pedestrian that stands at the first of the points ``[n, 2]`` and walks along them from `start` (s).

    The speed (m/s) is reached evenly within `ramp` (s); at the last point the pedestrian stops.
    """
    leg = np.diff(points, axis=0)
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*leg.T))])
    t = np.clip(np.arange(steps) * DT - start, 0.0, None)
    gone = np.where(t < ramp, 0.5 * speed * t**2 / ramp, speed * (t - ramp / 2))
    gone = np.clip(gone, 0.0, arc[-1])
    xy = np.stack([np.interp(gone, arc, points[:, i]) for i in (0, 1)], -1)
    heading = np.arctan2(leg[:, 1], leg[:, 0])
    index = np.clip(np.searchsorted(arc, gone, side="right") - 1, 0, len(leg) - 1)
    return Actor(name, body, np.column_stack([xy, heading[index]]), np.ones(steps, bool))

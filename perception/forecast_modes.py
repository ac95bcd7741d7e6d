"""Single modes of motion, one row per object and mode; lanes are `perception.lane_motion`'s matter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from perception.forecast_config import ForecastConfig, GroupUncertainty, Uncertainty
from perception.lane_following import wrap
from planner.scene import AgentClass

CYCLISTS = (AgentClass.BICYCLE, AgentClass.MOTORCYCLE)


class ModeKind(IntEnum):
    """What an object does in a mode; NONE marks an empty slot."""

    NONE = -1
    LANE = 0  # follows a lane
    FREE = 1  # keeps its velocity
    STOP = 2  # brakes to a stop
    STAY = 3  # stands
    START = 4  # stood and sets off


@dataclass(frozen=True)
class Movers:
    """What the rules ask about the objects; ``N`` rows, global frame, SI.

    position ``[N, 2]``, length, yaw, speed, course (direction of motion, yaw where it stands), turn_rate ``[N]``.
    moves, pedestrian, static, cyclist ``[N]`` bool.
    """

    position: np.ndarray
    length: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    course: np.ndarray
    turn_rate: np.ndarray
    moves: np.ndarray
    pedestrian: np.ndarray
    cyclist: np.ndarray
    static: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)


@dataclass(frozen=True)
class ModeRows:
    """``R`` modes: owner ``[R]`` index of the object, kind ``[R]``, weight ``[R]``, mean ``[R, T, 2]`` m."""

    owner: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    mean: np.ndarray

    def where(self, mask: np.ndarray) -> ModeRows:
        return ModeRows(self.owner[mask], self.kind[mask], self.weight[mask], self.mean[mask])

    @staticmethod
    def concatenate(rows: list[ModeRows]) -> ModeRows:
        return ModeRows(*(np.concatenate([getattr(r, f) for r in rows]) for f in ("owner", "kind", "weight", "mean")))


def straight(movers: Movers, owner: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Positions ``[R, T, 2]`` after the distances ``[R, T]`` (m) straight along the course."""
    course = movers.course[owner]
    direction = np.stack([np.cos(course), np.sin(course)], -1)
    return movers.position[owner][:, None] + distance[..., None] * direction[:, None]


def free_mean(movers: Movers, owner: np.ndarray, time: np.ndarray, config: ForecastConfig) -> np.ndarray:
    """Positions ``[R, T, 2]`` at constant speed, the turn rate fading with time constant `turn_time`.

    Exact for the angle; the position uses the mean angle of each interval.
    """
    turn = movers.turn_rate[owner, None]
    edges = np.concatenate([[0.0], time])
    angle = movers.course[owner, None] + turn * config.turn_time * (1 - np.exp(-edges / config.turn_time))
    middle = (angle[:, 1:] + angle[:, :-1]) / 2
    step = movers.speed[owner, None] * np.diff(edges)
    moved = np.cumsum(np.stack([step * np.cos(middle), step * np.sin(middle)], -1), axis=1)
    return movers.position[owner][:, None] + moved


def stop_distance(speed: np.ndarray, braking: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Distance ``[R, T]`` (m) covered at the times while braking to a stop from `speed` ``[R]``."""
    t = np.minimum(time[None], (speed / braking)[:, None])
    return speed[:, None] * t - braking[:, None] * t**2 / 2


def tangents(movers: Movers, owner: np.ndarray, mean: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction of motion and yaw ``[R, T]`` (rad) along the modes.

    Both are held while a mode is slower than 0.3 m/s. Yaw starts from today's value and turns into the direction of
    motion within about a second; a vehicle that reverses keeps its back in front.
    """
    step = np.diff(np.concatenate([movers.position[owner][:, None], mean], 1), axis=1)
    fast = np.hypot(step[..., 0], step[..., 1]) > 0.3 * np.diff(np.concatenate([[0.0], time]))
    last = np.maximum.accumulate(np.where(fast, np.arange(len(time)), -1), axis=1)
    angle = np.arctan2(step[..., 1], step[..., 0])
    held = np.take_along_axis(angle, np.maximum(last, 0), 1)
    course = np.where(last >= 0, held, movers.course[owner][:, None])
    gap = wrap(movers.yaw[owner] - movers.course[owner])
    reverse = (np.abs(gap) > np.pi / 2) & ~movers.pedestrian[owner] & movers.moves[owner]
    gap = wrap(gap + np.pi * reverse)
    yaw = course + np.pi * reverse[:, None] + gap[:, None] * np.exp(-time)
    yaw = np.where(last >= 0, yaw, movers.yaw[owner][:, None])
    return course, wrap(yaw)


def covariances(
    movers: Movers, rows: ModeRows, course: np.ndarray, time: np.ndarray, config: ForecastConfig
) -> np.ndarray:
    """Position covariance ``[R, T, 2, 2]`` (m^2), oriented along and across the course ``[R, T]``."""
    group = np.select(
        [movers.static[rows.owner], movers.pedestrian[rows.owner], movers.cyclist[rows.owner]], [3, 2, 1], 0
    )
    table = _table(config)[group, rows.kind]
    floor, rate, relative, acceleration, limit = np.moveaxis(table, -1, 0)[..., None]
    speed = movers.speed[rows.owner][:, None, None]
    variance = floor**2 + ((rate + relative * speed) * time) ** 2 + (acceleration * time**2 / 2) ** 2
    along, across = np.moveaxis(np.minimum(variance, limit**2), 1, 0)
    c, s = np.cos(course), np.sin(course)
    xx, yy, xy = along * c**2 + across * s**2, along * s**2 + across * c**2, (along - across) * c * s
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)


def _table(config: ForecastConfig) -> np.ndarray:
    """Parameters ``[group, kind, along/across, 5]``."""
    static = GroupUncertainty(*(config.static,) * 5)
    groups = (config.vehicle, config.cyclist, config.pedestrian, static)
    return np.array([[_numbers(u) for u in (g.lane, g.free, g.stop, g.stay, g.start)] for g in groups])


def _numbers(u: Uncertainty) -> list[list[float]]:
    return [[s.floor, s.rate, s.relative, s.acceleration, s.limit] for s in (u.along, u.across)]

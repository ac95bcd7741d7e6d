"""The same agent over time: Hungarian association and one Kalman filter each. The plain baseline; nothing is learned.

State per track: x, y (m), vx, vy (m/s), global frame, constant velocity with white acceleration. Detections carry
position and velocity with their own covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from planner.scene import AgentClass, AgentFutures, AgentTracks, frames

GROUPS = {
    AgentClass.CAR: 0, AgentClass.TRUCK: 0, AgentClass.BUS: 0, AgentClass.MOTORCYCLE: 1, AgentClass.BICYCLE: 1,
    AgentClass.PEDESTRIAN: 2, AgentClass.STATIC: 3,
}  # fmt: skip
"""Classes that may be taken for each other from one frame to the next."""


@dataclass(frozen=True)
class TrackConfig:
    """acceleration (m/s^2): standard deviation of what constant velocity leaves out. velocity_sigma (m/s): of a
    detected velocity. gate: largest Mahalanobis distance of position and reach (m): largest distance that may be
    associated. birth: least existence of a new track. coast (s): how long a track lives on without detections, told as
    long as it lives, its existence falling with this time constant. A pause longer than gap (s) starts afresh.
    """

    acceleration: float = 2.0
    velocity_sigma: float = 1.5
    gate: float = 4.0
    reach: float = 4.0
    birth: float = 0.1
    coast: float = 0.4
    gap: float = 1.0


@dataclass
class _Track:
    """mean ``[4]``, covariance ``[4, 4]`` (global); yaw, size: as last seen; missed (s) since then."""

    id: int
    mean: np.ndarray
    covariance: np.ndarray
    yaw: float
    size: np.ndarray
    agent_class: int
    existence: float
    missed: float = 0.0
    row: int = -1


@dataclass
class Tracker:
    """Follows one drive; `update` once per frame, in order of time."""

    config: TrackConfig = field(default_factory=TrackConfig)
    _tracks: list[_Track] = field(default_factory=list)
    _next: int = 0
    _time_us: int | None = None

    def reset(self) -> None:
        """A new drive begins: no tracks, ids from 0."""
        self._tracks, self._next, self._time_us = [], 0, None

    def update(
        self, agents: AgentTracks, futures: AgentFutures, global_from_ego: Tensor, time_us: int
    ) -> tuple[AgentTracks, AgentFutures]:
        """Detections of one scene (ego frame, no batch axis) as tracks: filtered position and velocity, stable ids.

        Tracks without a detection are told too, with a constant-velocity future, until they have coasted away.
        Raises ValueError for a time before the last one.
        """
        dt = 0.0 if self._time_us is None else (time_us - self._time_us) / 1e6
        if dt < 0:
            raise ValueError(f"time_us: expected at least {self._time_us}, got {time_us}")
        if dt > self.config.gap:
            self._tracks = []
        self._time_us = time_us
        rows = torch.nonzero(agents.valid)[:, 0].tolist()
        seen = _Detections(agents, global_from_ego, self.config)
        for track in self._tracks:
            _predict(track, dt, self.config)
            track.missed, track.row = track.missed + dt, -1
        for track, row in self._associate(seen, rows):
            _correct(track, seen, row)
        taken = {track.row for track in self._tracks}
        for row in rows:
            if row not in taken and seen.existence[row] >= self.config.birth:
                self._tracks.append(_born(self._next, seen, row))
                self._next += 1
        self._tracks = [t for t in self._tracks if t.missed <= self.config.coast]
        return self._told(agents, futures, global_from_ego)

    def _associate(self, seen: _Detections, rows: list[int]) -> list[tuple[_Track, int]]:
        if not self._tracks or not rows:
            return []
        row = np.array(rows)
        mean = np.stack([t.mean[:2] for t in self._tracks])
        spread = np.stack([t.covariance[:2, :2] for t in self._tracks])[:, None] + seen.noise[row, :2, :2]
        away = seen.state[row, :2] - mean[:, None]
        distance = np.sqrt((away * np.linalg.solve(spread, away[..., None])[..., 0]).sum(-1))
        near = (np.hypot(away[..., 0], away[..., 1]) <= self.config.reach) & (distance <= self.config.gate)
        group = np.array([GROUPS[AgentClass(t.agent_class)] for t in self._tracks])
        alike = group[:, None] == np.array([GROUPS[AgentClass(int(k))] for k in seen.agent_class[row]])
        cost = np.where(near & alike, distance, 1e6)
        first, second = linear_sum_assignment(cost)
        return [(self._tracks[i], rows[j]) for i, j in zip(first, second) if cost[i, j] < 1e5]

    def _told(self, agents: AgentTracks, futures: AgentFutures, pose: Tensor) -> tuple[AgentTracks, AgentFutures]:
        if not self._tracks:
            return _rows(agents, []), _future_rows(futures, [])
        # A track without a detection takes the row of zeros behind the last.
        found = [t.row if t.row >= 0 else len(agents.valid) for t in self._tracks]
        out, ahead = _rows(agents, found), _future_rows(futures, found)
        ego_from_global = frames.inverse(pose.double())
        mean = torch.from_numpy(np.stack([t.mean for t in self._tracks]))
        covariance = torch.from_numpy(np.stack([t.covariance for t in self._tracks]))
        xy = frames.transform_points(ego_from_global, mean[:, :2])
        velocity = frames.transform_vectors(ego_from_global[2], mean[:, 2:])
        yaw = frames.wrap_angle(torch.tensor([t.yaw for t in self._tracks], dtype=torch.float64) + ego_from_global[2])
        size = torch.from_numpy(np.stack([t.size for t in self._tracks]))
        turned = frames.transform_covariance(ego_from_global[2], covariance[:, :2, :2])
        fade = torch.tensor(
            [t.existence * np.exp(-t.missed / self.config.coast) for t in self._tracks], dtype=torch.float64
        )
        moved = xy - out.box[:, :2]
        out = AgentTracks(
            box=torch.cat([xy, yaw[:, None], size], 1), velocity=velocity, position_covariance=turned,
            agent_class=torch.tensor([t.agent_class for t in self._tracks]), existence=fade,
            track_id=torch.tensor([t.id for t in self._tracks]), valid=torch.ones(len(self._tracks), dtype=torch.bool),
        )  # fmt: skip
        coasting = torch.tensor([t.row < 0 for t in self._tracks])
        time = ahead.time[:, None]
        straight = xy[:, None, None] + velocity[:, None, None] * time
        grown = covariance[:, None, None, :2, :2] + covariance[:, None, None, 2:, 2:] * time[..., None] ** 2
        grown = frames.transform_covariance(ego_from_global[2], grown)
        pick = coasting[:, None, None]
        ahead = AgentFutures(
            mean=torch.where(pick[..., None], straight, ahead.mean + moved[:, None, None]),
            yaw=torch.where(pick, yaw[:, None, None].expand_as(ahead.yaw), ahead.yaw),
            covariance=torch.where(pick[..., None, None], grown.expand_as(ahead.covariance), ahead.covariance),
            probability=torch.where(coasting[:, None], 1.0 / ahead.probability.shape[1], ahead.probability),
            time=ahead.time, valid=torch.ones_like(ahead.valid),
        )  # fmt: skip
        return out, ahead


class _Detections:
    """Detections in the global frame: state ``[n, 4]``, noise ``[n, 4, 4]``, and what else a track keeps."""

    def __init__(self, agents: AgentTracks, pose: Tensor, config: TrackConfig) -> None:
        pose = pose.double()
        xy = frames.transform_points(pose, agents.box[:, :2].double())
        velocity = frames.transform_vectors(pose[2], agents.velocity.double())
        self.state = torch.cat([xy, velocity], 1).detach().numpy()
        self.noise = np.zeros((len(xy), 4, 4))
        self.noise[:, :2, :2] = (
            frames.transform_covariance(pose[2], agents.position_covariance.double()).detach().numpy()
        )
        self.noise[:, :2, :2] += 0.05**2 * np.eye(2)
        self.noise[:, 2:, 2:] = config.velocity_sigma**2 * np.eye(2)
        self.yaw = (agents.box[:, 2].double() + pose[2]).detach().numpy()
        self.size = agents.box[:, 3:].double().detach().numpy()
        self.agent_class = agents.agent_class.numpy()
        self.existence = agents.existence.detach().numpy()


def _born(number: int, seen: _Detections, row: int) -> _Track:
    return _Track(
        number, seen.state[row].copy(), seen.noise[row].copy(), float(seen.yaw[row]), seen.size[row].copy(),
        int(seen.agent_class[row]), float(seen.existence[row]), row=row,
    )  # fmt: skip


def _predict(track: _Track, dt: float, config: TrackConfig) -> None:
    """x = F x, P = F P F' + G G' a^2, G of a constant acceleration over dt."""
    f = np.eye(4)
    f[:2, 2:] = dt * np.eye(2)
    g = np.concatenate([dt**2 / 2 * np.eye(2), dt * np.eye(2)])
    track.mean = f @ track.mean
    track.covariance = f @ track.covariance @ f.T + config.acceleration**2 * g @ g.T


def _correct(track: _Track, seen: _Detections, row: int) -> None:
    """The Kalman update with the full state measured (Joseph form, which stays positive)."""
    gain = np.linalg.solve((track.covariance + seen.noise[row]).T, track.covariance.T).T
    rest = np.eye(4) - gain
    track.mean = track.mean + gain @ (seen.state[row] - track.mean)
    track.covariance = rest @ track.covariance @ rest.T + gain @ seen.noise[row] @ gain.T
    track.yaw, track.agent_class = float(seen.yaw[row]), int(seen.agent_class[row])
    track.size = 0.8 * track.size + 0.2 * seen.size[row]
    track.existence = 0.5 * track.existence + 0.5 * float(seen.existence[row])
    track.missed, track.row = 0.0, row


def _rows(agents: AgentTracks, rows: list[int]) -> AgentTracks:
    return agents.apply(lambda t: _with_zeros(t)[rows])


def _future_rows(futures: AgentFutures, rows: list[int]) -> AgentFutures:
    time = futures.time
    return futures.apply(lambda t: t if t is time else _with_zeros(t)[rows])


def _with_zeros(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])

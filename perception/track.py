"""The same agent over time: predict, gate, associate, correct, births and deaths.

Association is a choice: "hungarian", the plain baseline, links the nearest by Mahalanobis distance; "qp" solves the
relaxed assignment with births and deaths (`perception.assignment`), with affinities set by hand or learned
(`perception.affinity`), and is differentiable from the detections to the tracks. "auto" is "qp" where there is a
learned affinity and "hungarian" where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from perception.affinity import Affinity, mahalanobis
from perception.assignment import Pairs, assign, decided
from perception.track_filter import Detections, Tracks, born, corrected, observed, predicted, spread
from planner.scene import AgentClass, AgentFutures, AgentTracks, frames

GROUPS = {
    AgentClass.CAR: 0, AgentClass.TRUCK: 0, AgentClass.BUS: 0, AgentClass.MOTORCYCLE: 1, AgentClass.BICYCLE: 1,
    AgentClass.PEDESTRIAN: 2, AgentClass.STATIC: 3,
}  # fmt: skip
"""Classes that may be taken for each other from one frame to the next."""
_GROUP = torch.tensor([GROUPS[kind] for kind in AgentClass])
FAR = 1e6
Associate = Callable[[Tracks, Detections, Pairs], tuple[Tensor, Tensor]]
"""Predicted tracks, detections and candidate pairs -> share ``[E]``, linked ``[E]`` bool."""


@dataclass(frozen=True)
class TrackConfig:
    """association: hungarian (plain), qp (relaxed assignment), or auto: qp where there is a learned affinity.
    acceleration (m/s^2): standard deviation of what constant velocity leaves out. velocity_sigma (m/s): of a detected
    velocity. gate: largest Mahalanobis distance of position that may be associated. reach (m): largest distance that
    may be. nearest: most candidates per track. regularisation: of the relaxed assignment. birth: least existence of a
    new track. coast (s): how long a track lives on without detections, told as long as it lives, its existence falling
    with this time constant. gap (s): a longer pause starts afresh.
    """

    association: Literal["auto", "hungarian", "qp"] = "auto"
    acceleration: float = 2.0
    velocity_sigma: float = 3.0
    gate: float = 4.0
    reach: float = 4.0
    nearest: int = 8
    regularisation: float = 0.1
    birth: float = 0.1
    coast: float = 0.4
    gap: float = 1.0


KEY_FRAMES = TrackConfig(velocity_sigma=1.5, gate=6.0, reach=6.0, coast=1.2, gap=3.0)
"""For frames half a second apart, as a data set annotates them."""


@dataclass
class Tracker:
    """Follows one drive; `update` once per frame, in order of time. affinity: learned; None: "qp" takes the one set by
    hand.
    """

    config: TrackConfig = field(default_factory=TrackConfig)
    affinity: Affinity | None = None
    _tracks: Tracks | None = None
    _next: int = 0
    _time_us: int | None = None

    def __post_init__(self) -> None:
        asked = self.config.association
        if asked not in ("auto", "hungarian", "qp"):
            raise ValueError(f"association: expected 'auto', 'hungarian' or 'qp', got {asked!r}")
        self.association = ("hungarian" if self.affinity is None else "qp") if asked == "auto" else asked
        if self.affinity is None:
            self.affinity = Affinity(self.config.gate).requires_grad_(False)

    def reset(self) -> None:
        """A new drive begins: no tracks, ids from 0."""
        self._tracks, self._next, self._time_us = None, 0, None

    @property
    def coasting(self) -> Tensor:
        """``[N]`` bool: which of the tracks told last had no detection then."""
        return torch.zeros(0, dtype=torch.bool) if self._tracks is None else self._tracks.missed > 0

    def uncertainty(self, time: Tensor, global_from_ego: Tensor) -> Tensor:
        """Covariance ``[N, T, 2, 2]`` (m^2, ego frame) of where the tracks told last would be at constant velocity at
        times ``[T]`` (s) from now: what is not known of place and velocity today, nothing of what somebody may do."""
        if self._tracks is None:
            return torch.zeros(0, len(time), 2, 2, dtype=torch.float64)
        return _grown(self._tracks, time.double(), frames.inverse(global_from_ego.double())[2])

    def update(
        self, agents: AgentTracks, futures: AgentFutures, global_from_ego: Tensor, time_us: int
    ) -> tuple[AgentTracks, AgentFutures]:
        """Detections of one scene (ego frame, no batch axis) as tracks: filtered position and velocity, stable ids.

        Tracks without a detection are told too, with a constant-velocity future, until they have coasted away.
        Raises ValueError for a time before the last one.
        """
        config = self.config
        dt = 0.0 if self._time_us is None else (time_us - self._time_us) / 1e6
        if dt < 0:
            raise ValueError(f"time_us: expected at least {self._time_us}, got {time_us}")
        self._time_us = time_us
        agents, futures = chosen(agents, futures, agents.valid)
        seen = observed(agents, global_from_ego, config.velocity_sigma)
        if self._tracks is None or dt > config.gap:
            self._tracks = born(seen, torch.zeros(0, dtype=torch.int64), 0)
        self._tracks, row, self._next = advanced(self._tracks, seen, dt, self._next, config, self.associate)
        return _told(self._tracks, row, agents, futures, global_from_ego.double(), config)

    def associate(self, tracks: Tracks, seen: Detections, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """share ``[E]`` float64 and linked ``[E]`` bool, the latter one-to-one. tracks: predicted."""
        if self.association == "hungarian":
            linked = nearest(tracks, seen, pairs)
            return linked.double(), linked
        assert self.affinity is not None
        found = assign(self.affinity(tracks, seen, pairs), pairs, self.config.regularisation)
        return found.share, decided(found, pairs)


def advanced(
    tracks: Tracks, seen: Detections, dt: float, next_id: int, config: TrackConfig, associate: Associate
) -> tuple[Tracks, Tensor, int]:
    """dt (s) later: the tracks that live, ``[N]`` which detection each is linked to (-1: none), the next free id."""
    # Where everybody should be by now, and who might be whom.
    tracks = predicted(tracks, dt, config.acceleration)
    pairs = candidates(tracks, seen, config)

    # Who is whom: the share of each pair, and the one detection that a track is linked to.
    share, linked = associate(tracks, seen, pairs)
    tracks = corrected(tracks, seen, pairs, share, linked)
    row = torch.full((len(tracks),), -1).index_put((pairs.track[linked],), pairs.detection[linked])

    # Births and deaths.
    unknown = torch.ones(len(seen), dtype=torch.bool).index_fill(0, pairs.detection[linked], False)
    new = torch.nonzero(unknown & (seen.existence >= config.birth))[:, 0]
    tracks, row = tracks.with_more(born(seen, new, next_id)), torch.cat([row, new])
    alive = tracks.missed <= config.coast
    return tracks.pick(alive), row[alive], next_id + len(new)


def candidates(tracks: Tracks, seen: Detections, config: TrackConfig) -> Pairs:
    """Pairs of like classes within gate and reach; of each track's the nearest ones."""
    away = seen.state.detach()[None, :, :2] - tracks.mean.detach()[:, None, :2]
    near = away.norm(dim=-1) <= config.reach
    near &= _GROUP[tracks.agent_class][:, None] == _GROUP[seen.agent_class]
    i, j = torch.nonzero(near).unbind(1)
    pairs = Pairs(i, j, len(tracks), len(seen))
    distance = mahalanobis(away[i, j], spread(tracks, seen, pairs)[:, :2, :2].detach()).sqrt()
    table = torch.full(near.shape, torch.inf, dtype=torch.float64).index_put((i, j), distance)
    if table.shape[1] > config.nearest:
        table = torch.where(table <= table.kthvalue(config.nearest, dim=1, keepdim=True)[0], table, torch.inf)
    i, j = torch.nonzero(table <= config.gate).unbind(1)
    return Pairs(i, j, len(tracks), len(seen))


def nearest(tracks: Tracks, seen: Detections, pairs: Pairs) -> Tensor:
    """``[E]`` bool: as many links as possible, of these the least sum of Mahalanobis distances."""
    away = seen.state[pairs.detection, :2] - tracks.mean[pairs.track, :2]
    distance = mahalanobis(away, spread(tracks, seen, pairs)[:, :2, :2]).sqrt().detach()
    cost = np.full((len(tracks), len(seen)), FAR)
    cost[pairs.track, pairs.detection] = distance.numpy()
    linked = np.zeros(cost.shape, bool)
    linked[linear_sum_assignment(cost)] = True
    return torch.from_numpy(linked)[pairs.track, pairs.detection]


def chosen(agents: AgentTracks, futures: AgentFutures, index: Tensor) -> tuple[AgentTracks, AgentFutures]:
    """Some agents of a scene with their futures, by numbers or by a mask."""
    time = futures.time
    return agents.apply(lambda t: t[index]), futures.apply(lambda t: t if t is time else t[index])


def _told(
    tracks: Tracks, row: Tensor, agents: AgentTracks, futures: AgentFutures, pose: Tensor, config: TrackConfig
) -> tuple[AgentTracks, AgentFutures]:
    """Tracks in the ego frame. row ``[N]``: of each one's detection, whose futures it takes along; -1 where missed."""
    # A track without a detection takes the row of zeros behind the last.
    agents, futures = chosen(*_with_zeros(agents, futures), torch.where(row >= 0, row, len(agents.valid)))
    ego_from_global = frames.inverse(pose)
    xy = frames.transform_points(ego_from_global, tracks.mean[:, :2])
    velocity = frames.transform_vectors(ego_from_global[2], tracks.mean[:, 2:])
    yaw = frames.wrap_angle(tracks.yaw + ego_from_global[2])
    told = AgentTracks(
        box=torch.cat([xy, yaw[:, None], tracks.size], 1), velocity=velocity,
        position_covariance=frames.transform_covariance(ego_from_global[2], tracks.covariance[:, :2, :2]),
        agent_class=tracks.agent_class, existence=tracks.existence * torch.exp(-tracks.missed / config.coast),
        track_id=tracks.id, valid=torch.ones(len(tracks), dtype=torch.bool),
    )  # fmt: skip
    coasting = (row < 0)[:, None, None]
    straight = xy[:, None, None] + velocity[:, None, None] * futures.time[:, None]
    grown = _grown(tracks, futures.time, ego_from_global[2])[:, None]
    moved = (xy - agents.box[:, :2])[:, None, None]
    ahead = AgentFutures(
        mean=torch.where(coasting[..., None], straight, futures.mean + moved),
        yaw=torch.where(coasting, yaw[:, None, None], futures.yaw),
        covariance=torch.where(coasting[..., None, None], grown, futures.covariance),
        probability=torch.where(coasting[..., 0], 1.0 / futures.probability.shape[1], futures.probability),
        time=futures.time, valid=torch.ones_like(futures.valid),
    )  # fmt: skip
    return told, ahead


def _grown(tracks: Tracks, time: Tensor, yaw: Tensor) -> Tensor:
    """Covariance ``[N, T, 2, 2]`` (m^2) of the places at times ``[T]`` (s) ahead at constant velocity, axes turned by
    yaw (rad): of today's place, velocity, and of both together."""
    eye = torch.eye(2, dtype=torch.float64).expand(len(time), 2, 2)
    later = torch.cat([eye, eye * time[:, None, None]], -1)  # place from state
    return frames.transform_covariance(yaw, later @ tracks.covariance[:, None] @ later.mT)


def _with_zeros(agents: AgentTracks, futures: AgentFutures) -> tuple[AgentTracks, AgentFutures]:
    time = futures.time

    def longer(t: Tensor) -> Tensor:
        return t if t is time else torch.cat([t, t.new_zeros(1, *t.shape[1:])])

    return agents.apply(longer), futures.apply(longer)

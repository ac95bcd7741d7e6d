"""What tracks are made of: one Kalman filter per track, all at once, differentiable.

State: x, y (m), vx, vy (m/s), global frame, constant velocity with white acceleration. Detections carry position and
velocity with their own covariance. float64.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from perception.assignment import Pairs
from planner.scene import AgentTracks, frames

NEGLIGIBLE = 1e-9
"""Shares up to this take no part in a correction."""
POSITION_FLOOR = 0.05
"""m: no detection is surer of its position than this."""


@dataclass
class Tracks:
    """N tracks. mean ``[N, 4]``, covariance ``[N, 4, 4]``; yaw ``[N]`` rad, size ``[N, 2]`` m, agent_class,
    existence, id ``[N]``: as last seen; missed ``[N]`` s: since then; sightings ``[N]``: frames in which it was seen.
    """

    mean: Tensor
    covariance: Tensor
    yaw: Tensor
    size: Tensor
    agent_class: Tensor
    existence: Tensor
    id: Tensor
    missed: Tensor
    sightings: Tensor

    def __len__(self) -> int:
        return len(self.id)

    def pick(self, index: Tensor) -> Tracks:
        """Some of them, by numbers or by a mask."""
        return Tracks(*(getattr(self, f.name)[index] for f in fields(self)))

    def with_more(self, others: Tracks) -> Tracks:
        """These, then the others."""
        return Tracks(*(torch.cat([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)))


@dataclass
class Detections:
    """M detections, global frame. state ``[M, 4]``, noise ``[M, 4, 4]``, yaw ``[M]`` rad, size ``[M, 2]`` m,
    agent_class, existence ``[M]``.
    """

    state: Tensor
    noise: Tensor
    yaw: Tensor
    size: Tensor
    agent_class: Tensor
    existence: Tensor

    def __len__(self) -> int:
        return len(self.yaw)


def observed(agents: AgentTracks, global_from_ego: Tensor, velocity_sigma: float) -> Detections:
    """Detections in the ego frame (no batch axis, no padding) in the global one. velocity_sigma: m/s, of each axis."""
    pose = global_from_ego.double()
    xy = frames.transform_points(pose, agents.box[:, :2].double())
    velocity = frames.transform_vectors(pose[2], agents.velocity.double())
    position = frames.transform_covariance(pose[2], agents.position_covariance.double())
    floor = torch.tensor([POSITION_FLOOR**2] * 2 + [velocity_sigma**2] * 2, dtype=torch.float64)
    noise = torch.nn.functional.pad(position, (0, 2, 0, 2)) + torch.diag(floor)
    return Detections(
        torch.cat([xy, velocity], 1), noise, agents.box[:, 2].double() + pose[2], agents.box[:, 3:].double(),
        agents.agent_class, agents.existence.double(),
    )  # fmt: skip


def born(seen: Detections, index: Tensor, first_id: int) -> Tracks:
    """New tracks of the detections ``index``, numbered from first_id."""
    zero = torch.zeros(len(index), dtype=torch.float64)
    return Tracks(
        seen.state[index], seen.noise[index], seen.yaw[index], seen.size[index], seen.agent_class[index],
        seen.existence[index], torch.arange(first_id, first_id + len(index)), zero, zero + 1,
    )  # fmt: skip


def predicted(tracks: Tracks, dt: float, acceleration: float) -> Tracks:
    """dt (s) later: x = F x, P = F P F' + G G' a^2, G of a constant acceleration over dt."""
    eye = torch.eye(2, dtype=torch.float64)
    f = torch.eye(4, dtype=torch.float64)
    f[:2, 2:] = dt * eye
    g = torch.cat([dt**2 / 2 * eye, dt * eye])
    return Tracks(
        tracks.mean @ f.mT, f @ tracks.covariance @ f.mT + acceleration**2 * g @ g.mT, tracks.yaw, tracks.size,
        tracks.agent_class, tracks.existence, tracks.id, tracks.missed + dt, tracks.sightings,
    )  # fmt: skip


def spread(tracks: Tracks, seen: Detections, pairs: Pairs) -> Tensor:
    """``[E, 4, 4]``: covariance of the innovation of each pair."""
    return tracks.covariance[pairs.track] + seen.noise[pairs.detection]


def corrected(tracks: Tracks, seen: Detections, pairs: Pairs, share: Tensor, linked: Tensor) -> Tracks:
    """After the detections, of which a track takes shares ``[E]`` and is linked ``[E]`` bool to at most one.

    With shares of 0 and 1 the Kalman update (Joseph form, which stays positive); else the Gaussian with the moments of
    the mixture of "it is j" with its share and "it was missed" with the rest, as in probabilistic data association
    (Bar-Shalom). Heading, size, class and existence are those of the linked detection.
    """
    taken = share.detach() > NEGLIGIBLE
    at, j, weight = pairs.track[taken], pairs.detection[taken], share[taken]
    mean, covariance, noise = tracks.mean[at], tracks.covariance[at], seen.noise[j]
    gain = torch.linalg.solve(covariance + noise, covariance).mT
    rest = torch.eye(4, dtype=torch.float64) - gain
    moved = (gain @ (seen.state[j] - mean)[..., None])[..., 0]
    narrowed = rest @ covariance @ rest.mT + gain @ noise @ gain.mT
    # Of the mixture, about the predicted mean: sums over what a track takes.
    shift = torch.zeros_like(tracks.mean).index_add(0, at, weight[:, None] * moved)
    change = narrowed - covariance + moved[:, :, None] * moved[:, None]
    total = tracks.covariance.index_add(0, at, weight[:, None, None] * change) - shift[:, :, None] * shift[:, None]

    i, j = pairs.track[linked], pairs.detection[linked]
    half, seen_now = 0.5 * tracks.existence[i] + 0.5 * seen.existence[j], tracks.sightings[i] + 1
    return Tracks(
        tracks.mean + shift, total, tracks.yaw.index_put((i,), seen.yaw[j]),
        tracks.size.index_put((i,), 0.8 * tracks.size[i] + 0.2 * seen.size[j]),
        tracks.agent_class.index_put((i,), seen.agent_class[j]), tracks.existence.index_put((i,), half), tracks.id,
        tracks.missed.index_put((i,), torch.zeros_like(half)), tracks.sightings.index_put((i,), seen_now),
    )  # fmt: skip

"""Sequences of detections whose true names are known: what the association of tracks is trained on.

Simulated: recorded objects as a mediocre detector would tell them, with noise, misses, doubles and inventions.
Real: a network's detections, named after the annotated objects that they lie on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from perception.recording import AgentLog, Recording
from perception.track import GROUPS, TrackConfig
from planner.scene import AgentClass, AgentTracks, frames

REACH = 2.0
"""m: a detection nearer than this to an annotated object of its group may be that object."""


@dataclass
class NamedFrame:
    """One frame. agents ``[n]``: detections, ego frame; name ``[n]`` int64: which object each one is, -1 for none, no
    object twice. global_from_ego ``[3]``; time_us.
    """

    agents: AgentTracks
    name: np.ndarray
    global_from_ego: np.ndarray
    time_us: int


@dataclass
class NamedDrive:
    """A drive's frames in order of time, and how a tracker is set for frames that far apart."""

    frames: list[NamedFrame]
    config: TrackConfig


@dataclass(frozen=True)
class DetectorNoise:
    """A detector's faults; each scene draws its own share of them, between a half and one and a half times these.

    position (m), position_per_m: standard deviation of a position, at range 0 and per metre. velocity (m/s), heading
    (rad), size (share): likewise. flip: share of headings that are turned around. missed: share of detections that
    lack at random; hidden (1/s): rate at which objects vanish, for hidden_for (s) on average. doubles: share of
    objects told twice. inventions: per frame. confused: share of vehicles told as another kind of vehicle.
    radius (m): how far is seen.
    """

    position: float = 0.2
    position_per_m: float = 0.008
    velocity: float = 0.8
    heading: float = 0.1
    size: float = 0.06
    flip: float = 0.04
    missed: float = 0.12
    hidden: float = 0.06
    hidden_for: float = 0.8
    doubles: float = 0.03
    inventions: float = 3.0
    confused: float = 0.04
    radius: float = 55.0


def simulated(
    recording: Recording, step: int, rng: np.random.Generator, noise: DetectorNoise | None = None
) -> list[NamedFrame]:
    """A scene as a detector tells it, every `step` times of the recording."""
    d, log, dt = noise or DetectorNoise(), recording.agents, step * recording.dt
    strength = rng.uniform(0.5, 1.5)
    hidden = np.zeros(len(log), bool)
    out = []
    for k in range(0, len(recording.time), step):
        pose = recording.ego.pose[k]
        away = np.hypot(*(log.pose[:, k, :2] - pose[:2]).T)
        chance = rng.random(len(log))
        hidden = np.where(hidden, chance > dt / d.hidden_for, chance < strength * d.hidden * dt)
        lost = hidden | (rng.random(len(log)) < strength * d.missed * np.where(away > 0.6 * d.radius, 2.0, 0.6))
        real = np.flatnonzero(log.valid[:, k] & (away < d.radius) & ~lost)
        double = real[rng.random(len(real)) < strength * d.doubles]
        told = [_told(log, k, real, away, strength, d, rng), _told(log, k, double, away, strength, d, rng, 0.7)]
        if len(log):
            told.append(_invented(log, pose, rng.poisson(strength * d.inventions), d, rng))
        boxes = {name: np.concatenate([part[name] for part in told]) for name in told[0]}
        names = np.full(len(boxes["yaw"]), -1, dtype=np.int64)
        names[: len(real)] = log.track_id[real]
        order = torch.from_numpy(rng.permutation(len(names)))
        agents = _in_ego_frame(boxes, pose).apply(lambda t: t[order])  # noqa: B023
        time_us = recording.start_us + round(float(recording.time[k] - recording.time[0]) * 1e6)
        out.append(NamedFrame(agents, names[order.numpy()], pose, time_us))
    return out


def named(agents: AgentTracks, global_from_ego: np.ndarray, time_us: int, recording: Recording) -> NamedFrame:
    """A detector's answers (ego frame, no batch axis), named after the recorded objects of their group within reach.

    As many as possible, the nearest ones; the recording's time nearest to time_us counts.
    """
    log = recording.agents
    k = int(np.argmin(np.abs(recording.time - recording.time[0] - (time_us - recording.start_us) / 1e6)))
    there = np.flatnonzero(log.valid[:, k])
    agents = agents.apply(lambda t: t[agents.valid])
    xy = frames.transform_points(torch.from_numpy(global_from_ego), agents.box[:, :2].double()).detach().numpy()
    distance = np.hypot(*(xy[:, None] - log.pose[there, k, :2]).transpose(2, 0, 1))
    group = np.array([GROUPS[kind] for kind in AgentClass])
    near = (distance < REACH) & (group[agents.agent_class.numpy()][:, None] == group[log.agent_class[there]])
    first, second = linear_sum_assignment(np.where(near, distance, 1e6))
    name = np.full(len(xy), -1, dtype=np.int64)
    hit = near[first, second]
    name[first[hit]] = log.track_id[there[second[hit]]]
    return NamedFrame(agents, name, np.asarray(global_from_ego, float), time_us)


Boxes = dict[str, np.ndarray]
"""Global frame: xy ``[n, 2]``, yaw, size, velocity, kind, existence, and sigma (m), the error that is admitted to."""


def _told(
    log: AgentLog, k: int, index: np.ndarray, away: np.ndarray, strength: float, d: DetectorNoise,
    rng: np.random.Generator, beside: float = 0.0,
) -> Boxes:  # fmt: skip
    """Objects `index` at time k with noise. beside (m): put off by as much, and little believed in."""
    n = len(index)
    sigma = strength * (d.position + d.position_per_m * away[index])
    turned = np.pi * (rng.random(n) < d.flip)
    kind = log.agent_class[index].copy()
    other = (kind <= AgentClass.BUS) & (rng.random(n) < d.confused)
    kind[other] = rng.integers(0, AgentClass.BUS + 1, other.sum())
    return {
        "xy": log.pose[index, k, :2] + np.hypot(sigma, beside)[:, None] * rng.normal(size=(n, 2)),
        "yaw": log.pose[index, k, 2] + strength * d.heading * rng.normal(size=n) + turned,
        "size": log.size[index] * np.exp(strength * d.size * rng.normal(size=(n, 2))),
        "velocity": log.velocity[index, k] + strength * d.velocity * rng.normal(size=(n, 2)),
        "kind": kind,
        "existence": rng.beta(2, 4, n) if beside else rng.beta(6, 2 + away[index] / 25),
        "sigma": sigma * np.exp(rng.normal(0, 0.3, n)),
    }


def _invented(log: AgentLog, pose: np.ndarray, n: int, d: DetectorNoise, rng: np.random.Generator) -> Boxes:
    """Anywhere around ego; what does not exist looks like what does."""
    like = rng.integers(0, len(log), n)
    return {
        "xy": pose[:2] + rng.uniform(-d.radius, d.radius, (n, 2)),
        "yaw": rng.uniform(-np.pi, np.pi, n),
        "size": log.size[like],
        "velocity": rng.normal(0, 2.0, (n, 2)),
        "kind": log.agent_class[like],
        "existence": rng.beta(1.5, 5, n),
        "sigma": np.full(n, 0.5),
    }


def _in_ego_frame(boxes: Boxes, pose: np.ndarray) -> AgentTracks:
    back = frames.inverse(torch.from_numpy(pose))
    tensors = {name: torch.from_numpy(value) for name, value in boxes.items()}
    heading = frames.wrap_angle(tensors["yaw"] + back[2])[:, None]
    n = len(heading)
    return AgentTracks(
        box=torch.cat([frames.transform_points(back, tensors["xy"]), heading, tensors["size"]], 1),
        velocity=frames.transform_vectors(back[2], tensors["velocity"]),
        position_covariance=torch.eye(2, dtype=torch.float64) * tensors["sigma"].square()[:, None, None],
        agent_class=tensors["kind"].long(), existence=tensors["existence"],
        track_id=torch.full((n,), -1), valid=torch.ones(n, dtype=torch.bool),
    )  # fmt: skip

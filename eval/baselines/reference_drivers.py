"""Encounters driven by the reference models: who would have avoided this collision?

Straight road, 10 Hz, explicit steps as the published comparisons use them (speed of the next step first, then the
position with it): a model that has reacted once does not speed up again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from eval.baselines.reference_models import MODELS, Model, View
from perception.recording import Recording

ACCELERATION_FREE = 1.0  # m/s^2, back to the wanted speed while nothing is dangerous
STANDING = 0.05  # m/s


@dataclass(frozen=True)
class Encounters:
    """``N`` encounters over ``T`` times, `dt` (s) apart.

    v ``[N]``: ego's speed at first (m/s). start ``[N]``: its centre (m). x, offset ``[N, T]``: the other's centre along
    ego's lane and its distance from the lane's middle (m); v_other, approach ``[N, T]``: its speeds along the lane and
    towards the middle (m/s). length, width ``[N, 2]``: ego's and the other's (m). begins ``[N]``: step from which the
    model looks. in_lane: see `Model`.
    """

    v: np.ndarray
    start: np.ndarray
    x: np.ndarray
    offset: np.ndarray
    v_other: np.ndarray
    approach: np.ndarray
    length: np.ndarray
    width: np.ndarray
    begins: np.ndarray
    in_lane: bool = False
    dt: float = 0.1

    @classmethod
    def of_recording(cls, recording: Recording, track_id: int, begins: float, in_lane: bool) -> Self:
        """The encounter with one agent of a recording whose route is straight; ego's speed is the recorded one.

        begins (s): see the class. Times at which the agent is absent must lie after those at which it is there.
        """
        agents, ego, vehicle = recording.agents, recording.ego, recording.vehicle
        i = int(np.flatnonzero(agents.track_id == track_id)[0])
        origin, yaw = ego.pose[0, :2], ego.pose[0, 2]
        away = agents.pose[i, :, :2] - origin
        x = away @ np.array([np.cos(yaw), np.sin(yaw)])
        offset = away @ np.array([-np.sin(yaw), np.cos(yaw)])
        velocity = agents.velocity[i]
        v_other = velocity @ np.array([np.cos(yaw), np.sin(yaw)])
        approach = -np.sign(offset) * (velocity @ np.array([-np.sin(yaw), np.cos(yaw)]))
        turn = agents.pose[i, :, 2] - yaw
        size = agents.size[i]
        # The models know rectangles parallel to the lane: who crosses lies across it, a lane change does not turn him.
        there = agents.valid[i]
        crosses = np.abs(np.sin(turn[there])).mean() > np.sqrt(0.5)
        along, across = size[::-1] if crosses else size
        x = np.where(there, x, 1e6)
        return cls(
            np.array([ego.v[0]]), np.array([vehicle.rear_axle_to_center]), x[None], np.abs(offset)[None],
            v_other[None], approach[None],
            np.array([[vehicle.length, along]]), np.array([[vehicle.width, across]]),
            np.array([round(begins / recording.dt)]), in_lane, recording.dt,
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Per encounter ``[N]``.

    collided: as published, by rectangles along the lane. rear_end: ego ran into the other rather than being hit from
    beside or behind. impact_speed (m/s): closing speed at the first contact, 0 without one. braking: hardest used
    (m/s^2). smallest: least gap (m) while the lateral extents overlapped. position, v ``[N, T]``: ego's centre along
    its lane (m) and speed (m/s), as driven.
    """

    collided: np.ndarray
    rear_end: np.ndarray
    impact_speed: np.ndarray
    braking: np.ndarray
    smallest: np.ndarray
    position: np.ndarray
    v: np.ndarray


def drive_encounters(encounters: Encounters, model: Model | str) -> Outcome:
    """Let a reference model drive the encounters. Raises KeyError for an unknown name."""
    model = MODELS[model]() if isinstance(model, str) else model
    e = encounters
    count, steps = e.x.shape
    model.start(count)
    half_length, half_width = e.length.sum(1) / 2, e.width.sum(1) / 2
    position, v, a = e.start.astype(float), e.v.astype(float), np.zeros(count)
    reacted = collided = settled = np.zeros(count, bool)
    rear_end, impact, hardest = np.zeros(count, bool), np.zeros(count), np.zeros(count)
    smallest, driven = np.full(count, np.inf), np.empty((2, count, steps))
    for k in range(steps):
        driven[:, :, k] = position, v
        distance = e.x[:, k] - position
        gap, side = np.abs(distance) - half_length, np.abs(e.offset[:, k]) - half_width
        touch = (gap < 0.0) & (side < 0.0) & ~collided & ~settled
        rear_end = rear_end | (touch & (distance >= 0.0))
        impact = np.where(touch, np.abs(v - e.v_other[:, k]), impact)
        collided = collided | touch
        smallest = np.where((side < 0.0) & (distance >= 0.0), np.minimum(smallest, gap), smallest)
        view = View(gap, distance >= 0.0, side, v, e.v_other[:, k], e.approach[:, k], a, half_length)
        act = model.dangerous(view, e.in_lane) & (k >= e.begins)
        reacted = reacted | act
        braking = model.brake(view, act, e.dt)
        faster = np.minimum(v + ACCELERATION_FREE * e.dt, e.v)
        after = np.where(act, np.maximum(v - braking * e.dt, 0.0), np.where(reacted, v, faster))
        hardest = np.maximum(hardest, braking)
        settled = settled | (model.settled(view, e.in_lane) & ~collided)
        a, v = (after - v) / e.dt, after
        position = position + v * e.dt
    return Outcome(collided, rear_end, impact, hardest, smallest, *driven)


def avoided_by(encounters: Encounters) -> dict[str, Outcome]:
    """The outcome under each of the four models."""
    return {name: drive_encounters(encounters, name) for name in MODELS}


def published_cut_ins(
    ego_kmh: np.ndarray, other_kmh: np.ndarray, gap: np.ndarray, lateral: np.ndarray, steps: int = 350
) -> Encounters:
    """The cut-ins on which the models were compared in public (JRC): each argument ``[N]``, km/h, m, m/s.

    Both cars 4.3 m x 1.9 m; the other starts 3.5 m beside ego's lane middle with a gap of `gap`, moves sideways with
    `lateral` after building that up with 1.5 m/s^2, and stops moving sideways once it is in ego's lane.
    """
    dt, length, width, beside = 0.1, 4.3, 1.9, 3.5
    v, u = np.asarray(ego_kmh) / 3.6, np.asarray(other_kmh) / 3.6
    lateral = np.asarray(lateral, float)
    lead = np.maximum(np.ceil(lateral / 0.15), 0).astype(int)  # steps of the build-up, different per encounter
    longest = int(lead.max(initial=0))
    count = len(v)
    total = steps + longest + 1
    x, offset, approach = (np.empty((count, total)) for _ in range(3))
    start, k = np.empty(count), np.arange(total)
    for i in range(count):
        moving = int((beside / dt) // lateral[i] + 1) if lateral[i] > 0 else 0
        sideways = np.where(np.arange(steps) < moving, lateral[i], 0.0)
        before = np.arange(lead[i]) * 0.15
        y = np.concatenate([np.cumsum(before[::-1])[::-1] * dt, [0.0], -np.cumsum(sideways) * dt]) + beside
        speed = np.concatenate([before, lateral[i : i + 1], sideways])
        rest = total - len(y)  # those that start later stand still at the end
        offset[i], approach[i] = np.pad(y, (0, rest), mode="edge"), np.pad(speed, (0, rest))
        x[i] = gap[i] + length + (k - lead[i]) * u[i] * dt
        start[i] = -lead[i] * v[i] * dt
    both = np.full((count, 2), 1.0)
    along = np.broadcast_to(u[:, None], x.shape)
    return Encounters(
        v, start, x, np.abs(offset), along, approach, both * length, both * width, np.zeros(count, int), False, dt
    )

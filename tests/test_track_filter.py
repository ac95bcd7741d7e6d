"""The tracks' filter against least squares over the whole drive, and against the same drive in a turned world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_track import F64, TIME, US, seen

from perception.affinity import features
from perception.assignment import Pairs
from perception.track import TrackConfig, Tracker
from perception.track_filter import Detections, Tracks
from planner.scene import AgentClass, AgentFutures, AgentTracks, frames

Detected = tuple[AgentTracks, AgentFutures, torch.Tensor]


def drive(rng: np.random.Generator, frames_: int = 7) -> list[Detected]:
    """Two vehicles seen from a turning ego, surer along than across; in the last frame one is missed."""
    out = []
    for k in range(frames_):
        pose = (0.6 * k, 0.1 * k, 0.15 * k)
        places = [(10.0 + 0.5 * k + rng.normal(0, 0.1), 3.0), (20.0, -6.0 - 0.3 * k + rng.normal(0, 0.1))]
        agents, futures, here = seen(places[: 1 if k == frames_ - 1 else 2], pose, velocity=(4.0, -1.0))
        spread = torch.tensor([[0.04, 0.05], [0.05, 0.16]], dtype=F64).expand_as(agents.position_covariance)
        out.append((agents.replace(position_covariance=spread.clone()), futures, here))
    return out


@pytest.mark.parametrize("association", ["hungarian", "qp"])
def test_a_turned_world_changes_nothing_that_ego_is_told(rng: np.random.Generator, association: str) -> None:
    turned = torch.tensor([500.0, -300.0, 2.1], dtype=F64)
    config = TrackConfig(association=association)  # type: ignore[arg-type]
    one, two = Tracker(config), Tracker(config)
    for k, (agents, futures, pose) in enumerate(drive(rng)):
        here, there = pose, frames.compose(turned, pose)
        (a, ahead), (b, beyond) = (
            one.update(agents, futures, here, k * US // 10),
            two.update(agents, futures, there, k * US // 10),
        )
        for name in ("box", "velocity", "position_covariance", "existence"):
            assert torch.allclose(getattr(a, name), getattr(b, name), atol=1e-9), (k, name)
        for name in ("mean", "yaw", "covariance"):
            assert torch.allclose(getattr(ahead, name), getattr(beyond, name), atol=1e-9), (k, name)
    assert one.coasting.tolist() == [False, True]
    assert float(a.box[0, 2]) == pytest.approx(-0.15 * 6)  # as detected: the global heading is 0


def test_the_filter_is_least_squares_over_all_that_was_seen(rng: np.random.Generator) -> None:
    """The last state of one batch problem: every detection, and between them F with the noise of an acceleration."""
    config, dt = TrackConfig(acceleration=3.0, velocity_sigma=0.7), 0.1
    tracker, zero = Tracker(config), np.zeros((2, 2))
    step = np.block([[np.eye(2), dt * np.eye(2)], [zero, np.eye(2)]])
    push = np.vstack([dt**2 / 2 * np.eye(2), dt * np.eye(2)])
    # An acceleration drives place and speed together: Q has rank 2; a little more makes it a matrix to invert.
    between = np.linalg.inv(config.acceleration**2 * push @ push.T + 1e-12 * np.eye(4))
    count = 6
    matrix, right = np.zeros((4 * count, 4 * count)), np.zeros(4 * count)
    for k in range(count):
        place = np.array([10 + 0.4 * k, 1.0]) + rng.normal(0, 0.3, 2)
        speed = np.array([4.0, 0.0]) + rng.normal(0, 0.5, 2)
        spread = np.array([[0.09, 0.06], [0.06, 0.16]]) * (1 + 0.2 * k)
        agents, futures, pose = seen([tuple(place)], velocity=tuple(speed))
        told, _ = tracker.update(
            agents.replace(position_covariance=torch.from_numpy(spread)[None]), futures, pose, round(k * dt * 1e6)
        )
        noise = np.block([[spread + 0.05**2 * np.eye(2), zero], [zero, config.velocity_sigma**2 * np.eye(2)]])
        here = slice(4 * k, 4 * k + 4)
        matrix[here, here] += np.linalg.inv(noise)
        right[here] += np.linalg.solve(noise, np.r_[place, speed])
        if k:
            before = slice(4 * k - 4, 4 * k)
            matrix[before, before] += step.T @ between @ step
            matrix[before, here] -= step.T @ between
            matrix[here, before] -= between @ step
            matrix[here, here] += between
    assert told.track_id.tolist() == [0]
    state = np.linalg.solve(matrix, right)[-4:]
    covariance = np.linalg.inv(matrix)[-4:, -4:]
    assert np.allclose(torch.cat([told.box[0, :2], told.velocity[0]]), state, atol=1e-5)
    assert np.allclose(told.position_covariance[0], covariance[:2, :2], atol=1e-6)
    assert np.linalg.det(covariance[:2, :2]) < 0.3 * 0.09 * 0.16  # it has learned something


def test_forecasts_start_where_the_track_is() -> None:
    """Seen: the detection's own forecast, moved with the box. Missed: straight on, as unsure as the state makes it."""
    tracker = Tracker(TrackConfig(association="hungarian"))
    for k in range(4):
        agents, futures, pose = seen([(10.0 + 0.5 * k, (-0.3) ** k)], (0.0, 0.0, 0.4), velocity=(5.0, 0.0))
        told, ahead = tracker.update(agents, futures.replace(mean=futures.mean + 7.0), pose, k * US // 10)
    assert float((told.box[0, :2] - agents.box[0, :2]).norm()) > 0.01
    moved = (futures.mean + 7.0 - agents.box[:, None, None, :2]) + told.box[:, None, None, :2]
    assert torch.allclose(ahead.mean, moved, atol=1e-9)

    told, ahead = tracker.update(*seen([], (0.0, 0.0, 0.4)), 4 * US // 10)
    straight = told.box[0, :2] + TIME[:, None] * told.velocity[0]
    assert torch.allclose(ahead.mean[0], straight.expand(2, 3, 2), atol=1e-9)
    assert tracker._tracks is not None
    state = tracker._tracks.covariance[0].numpy()
    for n, t in enumerate(TIME.tolist()):
        later = np.hstack([np.eye(2), t * np.eye(2)])
        expected = frames.transform_covariance(-pose[2], torch.from_numpy(later @ state @ later.T))
        assert torch.allclose(ahead.covariance[0, :, n], expected.expand(2, 2, 2), atol=1e-9), t


def test_the_features_of_a_pair_are_these_eighteen() -> None:
    """A learned affinity knows them by their places: another order or meaning silently makes it worthless."""
    track = Tracks(
        mean=torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=F64), covariance=torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])),
        yaw=torch.tensor([0.2], dtype=F64), size=torch.tensor([[4.0, 2.0]], dtype=F64),
        agent_class=torch.tensor([int(AgentClass.CAR)]), existence=torch.tensor([0.7], dtype=F64),
        id=torch.tensor([5]), missed=torch.tensor([0.3], dtype=F64), sightings=torch.tensor([6.0], dtype=F64),
    )  # fmt: skip
    track = replace(track, covariance=track.covariance[None].double())
    there = Detections(
        state=torch.tensor([[2.0, 4.0, 5.0, 4.5]], dtype=F64), noise=torch.eye(4, dtype=F64)[None],
        yaw=torch.tensor([0.5], dtype=F64), size=torch.tensor([[2.0, 6.0]], dtype=F64),
        agent_class=torch.tensor([int(AgentClass.TRUCK)]), existence=torch.tensor([0.4], dtype=F64),
    )  # fmt: skip
    values = features(track, there, Pairs(torch.tensor([0]), torch.tensor([0]), 1, 1))[0]
    assert values.tolist() == pytest.approx([
        1 / 2 + 4 / 3, 4 / 4 + 0.25 / 5, np.log(2 * 3), 5**0.5, (4 + 0.25) ** 0.5, 5.0, np.log(2), np.log(3),
        np.cos(0.3), np.cos(0.6), 0.0, 0.7, 0.4, 0.3, 6.0, 1.0, 0.0, 0.0,
    ])  # fmt: skip

"""Tracks: one id per agent, filtered speeds, births and deaths, no swapping where paths cross."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.track import TrackConfig, Tracker
from planner.scene import AgentClass, AgentFutures, AgentTracks, frames

F64 = torch.float64
TIME = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
US = 1_000_000


def seen(
    places: list[tuple[float, float]], pose: tuple[float, float, float] = (0.0, 0.0, 0.0), sigma: float = 0.2,
    velocity: tuple[float, float] = (0.0, 0.0), kind: AgentClass = AgentClass.CAR, existence: float = 0.9,
) -> tuple[AgentTracks, AgentFutures, torch.Tensor]:  # fmt: skip
    """Detections at global places, as an ego at the pose sees them; two modes of futures that stand still."""
    n = len(places)
    here = torch.tensor(pose, dtype=F64)
    back = frames.inverse(here)
    xy = frames.transform_points(back, torch.tensor(places, dtype=F64).reshape(n, 2))
    box = torch.cat([xy, -here[2].expand(n, 1), torch.tensor([[4.5, 1.9]], dtype=F64).expand(n, 2)], 1)
    moving = frames.transform_vectors(back[2], torch.tensor(velocity, dtype=F64).expand(n, 2))
    eye = torch.eye(2, dtype=F64) * sigma**2
    agents = AgentTracks(
        box, moving, eye.expand(n, 2, 2).clone(), torch.full((n,), int(kind)), torch.full((n,), existence, dtype=F64),
        torch.full((n,), -1), torch.ones(n, dtype=torch.bool),
    )  # fmt: skip
    futures = AgentFutures(
        xy[:, None, None].expand(n, 2, 3, 2).clone(), box[:, 2][:, None, None].expand(n, 2, 3).clone(),
        eye.expand(n, 2, 3, 2, 2).clone(), torch.full((n, 2), 0.5, dtype=F64), TIME,
        torch.ones(n, 2, 3, dtype=torch.bool),
    )  # fmt: skip
    return agents, futures, here


def test_ids_stay_and_speeds_are_found_from_places_alone(rng: np.random.Generator) -> None:
    tracker = Tracker(TrackConfig(velocity_sigma=50.0))
    for k in range(30):
        ego = (8.0 * 0.1 * k, 0.0, 0.02 * k)
        places = [(10.0 + 5.0 * 0.1 * k, 3.0), (30.0, -4.0 - 0.1 * k), (60.0, 0.0)]
        noisy = [(x + rng.normal(0, 0.1), y + rng.normal(0, 0.1)) for x, y in places]
        agents, futures = tracker.update(*seen(noisy, ego), k * US // 10)
        agents.validate()
        futures.validate()
        assert agents.track_id.tolist() == [0, 1, 2]
    velocity = frames.transform_vectors(torch.tensor(ego[2], dtype=F64), agents.velocity)
    assert torch.allclose(velocity, torch.tensor([[5.0, 0.0], [0.0, -1.0], [0.0, 0.0]], dtype=F64), atol=0.6)
    xy = frames.transform_points(torch.tensor(ego, dtype=F64), agents.box[:, :2])
    assert torch.allclose(xy, torch.tensor(places, dtype=F64), atol=0.15)
    error = agents.position_covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert bool((error < 0.19).all())  # surer than one detection


def test_a_newcomer_that_is_said_to_stand_is_known_to_drive_soon_and_not_believed_before() -> None:
    """A network that has seen somebody for the first time tells next to no velocity; the places say otherwise."""
    tracker = Tracker(TrackConfig(), None)
    time, speed = torch.tensor([1.0], dtype=F64), 8.0
    errors, sigmas = [], []
    for k in range(12):
        said = (0.0, 0.0) if k < 5 else (speed, 0.0)  # half a second later a past sweep shows it too
        told, _ = tracker.update(*seen([(10.0 + speed * 0.1 * k, 3.0)], velocity=said), k * US // 10)
        errors.append(abs(float(told.velocity[0, 0]) - speed))
        sigmas.append(float(tracker.uncertainty(time, torch.zeros(3, dtype=F64))[0, 0, 0, 0].sqrt()))
    assert told.track_id.tolist() == [0]
    assert all(error < 3.0 * sigma for error, sigma in zip(errors, sigmas))
    assert errors[4] < 4.0
    assert errors[-1] < 1.0
    assert sigmas[0] >= 3.0 > 1.0 > sigmas[-1]


def test_uncertainty_grows_with_the_square_of_time_and_turns_with_ego() -> None:
    config = TrackConfig(velocity_sigma=2.0)
    tracker, time = Tracker(config), torch.tensor([0.5, 3.0], dtype=F64)
    here = torch.tensor([4.0, 5.0, 0.7], dtype=F64)
    assert tracker.uncertainty(time, here).shape == (0, 2, 2, 2)
    told, _ = tracker.update(*seen([(9.0, 1.0)], tuple(here.tolist())), 0)
    grown = tracker.uncertainty(time, here)
    expected = told.position_covariance[:, None] + (2.0 * time).square()[:, None, None] * torch.eye(2)
    assert torch.allclose(grown, expected, atol=1e-12)
    turned = tracker.uncertainty(time, torch.tensor([4.0, 5.0, 0.2], dtype=F64))
    assert torch.allclose(turned, frames.transform_covariance(torch.tensor(0.5, dtype=F64), grown), atol=1e-12)


def test_paths_that_cross_do_not_swap_ids() -> None:
    tracker = Tracker(TrackConfig(velocity_sigma=0.5))
    for k in range(21):
        t = 0.1 * k
        one, _, here = seen([(5.0 * t, 5.0 * t - 5.0)], velocity=(5.0, 5.0))
        two, futures, _ = seen([(5.0 * t, 5.0 - 5.0 * t)], velocity=(5.0, -5.0))
        both = AgentTracks(
            **{n: torch.cat([getattr(two, n), getattr(one, n)]) for n in AgentTracks.__dataclass_fields__}
        )
        ahead = futures.apply(lambda x: x if x.shape == TIME.shape else torch.cat([x, x]))
        out, _ = tracker.update(both, ahead, here, k * US // 10)
        if k == 0:
            first = {int(i): y for i, y in zip(out.track_id, out.box[:, 1] > 0)}
    assert {int(i): y for i, y in zip(out.track_id, out.box[:, 1] < 0)} == first


def test_a_lost_agent_coasts_then_dies_and_comes_back_as_another() -> None:
    tracker = Tracker(TrackConfig(coast=0.35))
    for k in range(8):
        agents, _ = tracker.update(*seen([(10.0 + 0.4 * k, 0.0)], velocity=(4.0, 0.0)), k * US // 10)
    nobody = seen([])
    told = []
    for k in range(8, 13):
        agents, futures = tracker.update(*nobody, k * US // 10)
        told.append(len(agents.track_id))
        if told[-1]:
            assert float(agents.box[0, 0]) == pytest.approx(10.0 + 0.4 * k, abs=0.1)
            assert float(futures.mean[0, 0, 0, 0]) == pytest.approx(10.0 + 0.4 * k + 4.0, abs=0.4)
            assert float(agents.existence[0]) < 0.9 * np.exp(-0.1 * (k - 8) / 0.35)
            futures.validate()
    assert told == [1, 1, 1, 0, 0]
    agents, _ = tracker.update(*seen([(15.2, 0.0)]), 13 * US // 10)
    assert agents.track_id.tolist() == [1]


def test_a_pedestrian_is_no_car_but_a_truck_may_be() -> None:
    for kind, same in ((AgentClass.TRUCK, True), (AgentClass.PEDESTRIAN, False)):
        tracker = Tracker()
        tracker.update(*seen([(10.0, 0.0)]), 0)
        agents, _ = tracker.update(*seen([(10.0, 0.1)], kind=kind), US // 10)
        assert (len(agents.track_id) == 1) == same


def test_what_is_far_off_is_somebody_else() -> None:
    for away, same in ((3.9, True), (4.1, False)):
        tracker = Tracker(TrackConfig(velocity_sigma=50.0, gate=100.0, reach=4.0))
        tracker.update(*seen([(10.0, 0.0)], sigma=5.0), 0)
        agents, _ = tracker.update(*seen([(10.0, away)], sigma=5.0), US // 10)
        assert (len(agents.track_id) == 1) == same


def test_faint_detections_do_not_start_tracks_but_keep_them() -> None:
    tracker = Tracker(TrackConfig(birth=0.5))
    agents, _ = tracker.update(*seen([(10.0, 0.0)], existence=0.49), 0)
    assert not len(agents.track_id)
    tracker.update(*seen([(10.0, 0.0)], existence=0.5), US // 10)
    agents, _ = tracker.update(*seen([(10.0, 0.0)], existence=0.2), US // 5)
    assert agents.track_id.tolist() == [0]
    assert float(agents.existence[0]) == pytest.approx(0.35)


def test_time_and_reset() -> None:
    tracker = Tracker()
    tracker.update(*seen([(10.0, 0.0)]), US)
    with pytest.raises(ValueError, match=r"time_us: expected at least 1000000, got 1"):
        tracker.update(*seen([]), 1)
    agents, _ = tracker.update(*seen([(10.0, 0.0)]), 3 * US)  # a pause: not known to be the same one
    assert agents.track_id.tolist() == [1]
    tracker.reset()
    agents, _ = tracker.update(*seen([(10.0, 0.0)]), 0)
    assert agents.track_id.tolist() == [0]


def test_empty_in_empty_out() -> None:
    agents, futures = Tracker().update(*seen([]), 0)
    agents.validate()
    futures.validate()
    assert len(agents.track_id) == 0

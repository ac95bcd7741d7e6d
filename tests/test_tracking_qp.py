"""Association by the relaxed assignment: tracks differentiable from the detections on, affinities that are learned."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sim_scenes import agent, recording
from test_track import F64, US, seen

from perception.affinity import FEATURES, Affinity, features
from perception.assignment import Pairs, assign
from perception.recording import Recording
from perception.track import KEY_FRAMES, TrackConfig, Tracker, candidates
from perception.track_filter import born, observed, predicted
from perception.train.detections import DetectorNoise, NamedDrive, named, simulated
from perception.train.tracking import AffinityTraining, asked, assignment_loss, train_affinity
from planner.scene import AgentClass, AgentFutures, AgentTracks

QP = TrackConfig(association="qp")
SOFT = replace(QP, regularisation=20.0)
NOWHERE = torch.zeros(3, dtype=F64)
SILENT = DetectorNoise(*[0.0] * 6, missed=0.0, hidden=0.0, doubles=0.0, inventions=0.0, confused=0.0)


def test_far_apart_both_associations_say_the_same(rng: np.random.Generator) -> None:
    places = [(12.0 * k, 9.0 * (k % 3)) for k in range(6)]
    plain, program = Tracker(), Tracker(QP)
    for k in range(8):
        there = [p for p in places if rng.random() < 0.8]
        noisy = [(x + rng.normal(0, 0.2), y + rng.normal(0, 0.2)) for x, y in there]
        one, two = (tracker.update(*seen(noisy), k * US // 10)[0] for tracker in (plain, program))
        assert one.track_id.tolist() == two.track_id.tolist()
        assert torch.allclose(one.box, two.box, atol=1e-6)
        assert torch.allclose(one.position_covariance, two.position_covariance, atol=1e-6)


def test_the_order_of_detections_means_nothing(rng: np.random.Generator) -> None:
    """Crowded, so that they compete."""
    one, two = Tracker(SOFT), Tracker(SOFT)
    base = rng.uniform(0, 5, (9, 2))
    for k in range(6):
        places = [tuple(p + rng.normal(0, 0.2, 2)) for p in base[rng.random(9) < 0.9]]
        order = rng.permutation(len(places))
        a = one.update(*seen(places), k * US // 10)[0]
        b = two.update(*seen([places[i] for i in order]), k * US // 10)[0]
        a, b = (t.apply(lambda v, t=t: v[torch.argsort(t.box[:, 0])]) for t in (a, b))
        assert torch.allclose(a.box, b.box, atol=1e-6)
        pairs = set(zip(a.track_id.tolist(), b.track_id.tolist()))
        assert len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(a.track_id)


def test_a_loss_on_tracks_reaches_the_detections_through_the_program() -> None:
    """Two tracks, two detections between them: central differences, and a share of it only through the shares."""
    first = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=F64)
    weight = torch.tensor([[0.3, 1.0], [-0.7, 0.4]], dtype=F64)

    def loss(places: torch.Tensor, config: TrackConfig = SOFT) -> torch.Tensor:
        tracker = Tracker(config)
        tracker.update(*at(first), 0)
        agents, _ = tracker.update(*at(places), US // 10)
        assert agents.track_id.tolist() == [0, 1]
        return (agents.box[:, :2] * weight).sum()

    places = torch.tensor([[0.1, 0.8], [-0.1, 1.3]], dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(loss(places), places)
    (decided,) = torch.autograd.grad(loss(places, replace(SOFT, association="hungarian")), places)
    expected = torch.zeros(2, 2, dtype=F64)
    with torch.no_grad():
        for k in range(4):
            step = torch.zeros(4, dtype=F64).index_fill(0, torch.tensor(k), 1e-5).view(2, 2)
            expected.view(-1)[k] = (loss(places + step) - loss(places - step)) / 2e-5
    assert torch.allclose(found, expected, atol=1e-6)
    assert float((found - decided).abs().max()) > 0.1


def at(places: torch.Tensor) -> tuple[AgentTracks, AgentFutures, torch.Tensor]:
    """Detections that carry gradients."""
    agents, futures, pose = seen([(0.0, 0.0)] * len(places), sigma=0.5)
    return agents.replace(box=torch.cat([places, agents.box[:, 2:].to(F64)], 1)), futures, pose


def test_a_split_decision_is_a_mixture() -> None:
    """Between two equal detections the track stays in the middle, unsure along their distance."""
    tracker = Tracker(replace(SOFT, birth=2.0))
    tracker._tracks = born(observed(seen([(0.0, 0.0)])[0], NOWHERE, 1.5), torch.tensor([0]), 0)
    tracker._next, tracker._time_us = 1, 0
    agents, _ = tracker.update(*seen([(0.0, 0.4), (0.0, -0.4)]), US // 10)
    assert agents.track_id.tolist() == [0]
    assert torch.allclose(agents.box[0, :2], torch.zeros(2, dtype=F64), atol=1e-6)
    spread = agents.position_covariance[0]
    assert float(spread[1, 1]) > float(spread[0, 0]) + 0.02
    agents.validate()


def test_a_fresh_affinity_is_the_one_set_by_hand_and_its_facts_are_all_of_it() -> None:
    tracks = predicted(born(observed(seen([(0.0, 0.0), (3.0, 0.0)])[0], NOWHERE, 1.5), torch.arange(2), 0), 0.1, 2.0)
    there = observed(seen([(0.5, 0.0)])[0], NOWHERE, 1.5)
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([0, 0]), 2, 1)
    affinity = Affinity(4.0)
    total = tracks.covariance[0, 0, 0] + there.noise[0, 0, 0]
    assert float(affinity(tracks, there, pairs)[0].detach()) == pytest.approx(0.5 * (16 - 0.25 / float(total)))
    with torch.no_grad():
        for p in affinity.parameters():
            p.add_(torch.randn_like(p))
    again = Affinity.from_facts(affinity.to_facts())
    assert again is not None
    assert torch.equal(again(tracks, there, pairs), affinity(tracks, there, pairs).detach())
    assert sum(p.numel() for p in affinity.parameters()) < 1000
    assert Affinity.from_facts(None) is None
    facts = affinity.to_facts()
    del facts["parameters"]["net.0.bias"]
    with pytest.raises(ValueError, match="affinity: its parameters do not fit"):
        Affinity.from_facts(facts)


def test_candidates_are_the_nearest_of_their_kind_within_reach() -> None:
    config = replace(QP, nearest=2, reach=3.0, gate=100.0)
    tracks = born(observed(seen([(0.0, 0.0)])[0], NOWHERE, 1.5), torch.tensor([0]), 0)
    places = [(2.9, 0.0), (0.5, 0.0), (3.1, 0.0), (-1.0, 0.0)]
    pairs = candidates(tracks, observed(seen(places)[0], NOWHERE, 1.5), config)
    assert pairs.detection.tolist() == [1, 3]
    walker = observed(seen(places, kind=AgentClass.PEDESTRIAN)[0], NOWHERE, 1.5)
    assert len(candidates(tracks, walker, config).track) == 0


def test_an_unknown_association_is_refused() -> None:
    with pytest.raises(ValueError, match=r"association: expected 'auto', 'hungarian' or 'qp', got 'auction'"):
        Tracker(TrackConfig(association="auction"))  # type: ignore[arg-type]


def test_what_is_learned_is_used_where_it_is_there() -> None:
    assert Tracker().association == "hungarian"
    assert Tracker(affinity=Affinity()).association == "qp"
    assert Tracker(TrackConfig(association="hungarian"), Affinity()).association == "hungarian"


def crossing(times: int = 31) -> Recording:
    """A truck and a car pass through each other's places, and somebody walks beside."""
    t = np.arange(times) * 0.1
    line = lambda x, y: np.stack([x, y, 0 * x], -1)  # noqa: E731
    out = recording(
        line(0 * t, 0 * t), agent(line(10 + 4 * t, 2 - 1.4 * t)), agent(line(10 + 4 * t, -2 + 1.4 * t)),
        agent(line(12 + t, 4 + 0 * t), AgentClass.PEDESTRIAN),
    )  # fmt: skip
    out.agents.agent_class[0], out.agents.size[0] = AgentClass.TRUCK, (8.0, 2.5)
    return out


def test_a_perfect_detector_tells_the_recording_itself(rng: np.random.Generator) -> None:
    drive = crossing()
    told = simulated(drive, 5, rng, SILENT)
    assert [frame.time_us for frame in told] == [k * 500_000 for k in range(7)]
    for k, frame in enumerate(told):
        assert sorted(frame.name) == [1, 2, 3]
        there = drive.agents.pose[frame.name - 1, 5 * k]
        assert np.allclose(frame.agents.box[:, :3].numpy(), there, atol=1e-9)  # ego stands at the origin
        frame.agents.replace(position_covariance=torch.eye(2, dtype=F64).expand(3, 2, 2)).validate()


def test_a_mediocre_detector_is_mediocre_and_repeatable() -> None:
    drive = crossing(101)
    told, again = (simulated(drive, 1, np.random.default_rng(4)) for _ in range(2))
    for a, b in zip(told, again):
        a.agents.validate()
        assert np.array_equal(a.name, b.name)
        assert torch.equal(a.agents.box, b.agents.box)
        real = a.name[a.name >= 0]
        assert len(real) == len(set(real))
    there, invented = (np.mean([(f.name >= 0).sum() for f in told]), np.mean([(f.name < 0).sum() for f in told]))
    assert 1.5 < there < 2.95
    assert 0.5 < invented < 6


def test_detections_are_named_after_what_they_lie_on() -> None:
    drive = crossing()
    (frame,) = simulated(drive, 31, np.random.default_rng(0), SILENT)
    agents = frame.agents.apply(lambda t: torch.cat([t, t[:1]]))
    agents.box[3, :2] += 0.3  # a double
    agents.box[list(frame.name).index(3), 0] += 2.1  # too far off
    assert named(agents, NOWHERE.numpy(), 0, drive).name.tolist() == [n if n != 3 else -1 for n in frame.name] + [-1]
    agents.agent_class[:] = int(AgentClass.MOTORCYCLE)
    assert (named(agents, NOWHERE.numpy(), 0, drive).name == -1).all()


def drives(count: int, seed: int) -> list[NamedDrive]:
    """Of vehicles that are hard to tell apart by place, easy by size."""
    noise = DetectorNoise(position=0.9, velocity=3.0, flip=0.0, confused=0.0, inventions=1.0)
    scenes = (simulated(crossing(), 5, np.random.default_rng([seed, k]), noise) for k in range(count))
    return [NamedDrive(frames, KEY_FRAMES) for frames in scenes]


def wrong(sequences: list[NamedDrive], affinity: Affinity) -> float:
    """Share of tracks' links that go to another object than the track's, of all that might have been right."""
    errors = total = 0
    for sequence in sequences:
        for question in asked(sequence, affinity):
            share = assign(affinity.score(question.values), question.pairs, 0.1).share
            errors += int(((share > 0.5) != question.true).sum())
            total += int(question.true.sum())
    return errors / total


def test_what_is_learned_beats_what_is_set_by_hand_where_size_tells() -> None:
    settings = AffinityTraining(rounds=1, epochs=6, batch=16, learning_rate=2e-2)
    losses: list[float] = []
    learned = train_affinity(drives(16, 1), settings, lambda _, loss: losses.append(loss))
    with torch.no_grad():
        by_hand, now = (wrong(drives(16, 2), affinity) for affinity in (Affinity(), learned))
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert now < 0.75 * by_hand
    once, again = (train_affinity(drives(2, 1), replace(settings, epochs=1)).to_facts() for _ in range(2))
    assert once == again
    with pytest.raises(ValueError, match="no frame has a candidate pair"):
        train_affinity([NamedDrive([], KEY_FRAMES)], settings)


def test_the_loss_descends_along_its_gradient_through_the_program() -> None:
    """The derivative with respect to a parameter against a central difference; right answers make it small."""
    with torch.no_grad():
        questions = [q for drive in drives(2, 3) for q in asked(drive, Affinity())]
    affinity, settings = Affinity(), AffinityTraining()
    loss = lambda: assignment_loss(affinity, questions, settings)  # noqa: E731
    loss().backward()
    bias = affinity.net[-1].bias
    values = []
    with torch.no_grad():
        for step in (1e-4, -2e-4):
            bias += step
            values.append(float(loss()))
    assert bias.grad is not None
    assert float(bias.grad) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-4)
    assert math.isfinite(float(bias.grad))
    assert bool(torch.isfinite(features_of(questions)).all())


def features_of(questions: list) -> torch.Tensor:
    values = torch.cat([q.values for q in questions])
    assert values.shape[1] == FEATURES
    assert features.__name__ == "features"
    return values

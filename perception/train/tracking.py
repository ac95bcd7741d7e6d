"""Training of the learned affinity: follow drives, then descend on the assignments' loss, through the program.

    affinity = train_affinity(drives, AffinityTraining(seed=0))

Each round follows all drives with the affinity found so far and keeps what every frame asked: the candidate pairs,
their features, and which of them are true. Then the shares of the relaxed assignment (on the central path, where
nothing is decided for good) are to be 1 for true pairs and 0 for the others, as a cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from perception.affinity import Affinity, features
from perception.assignment import Pairs, assign
from perception.track import Tracker, advanced
from perception.track_filter import Detections, Tracks, born, observed
from perception.train.detections import NamedDrive


@dataclass(frozen=True)
class AffinityTraining:
    """rounds: of following all drives; epochs: passes over what they asked, per round. batch: frames per step.
    learning_rate, decay: of AdamW, the former falling to a tenth. regularisation, smoothing: of the assignment that is
    trained through (`perception.assignment.assign`). gate: of the affinity set by hand that is begun from.
    """

    rounds: int = 3
    epochs: int = 4
    batch: int = 64
    learning_rate: float = 5e-3
    decay: float = 1e-3
    regularisation: float = 0.1
    smoothing: float = 0.05
    gate: float = 4.0
    seed: int = 0


@dataclass
class Question:
    """One frame's association. values ``[E, FEATURES]`` of its pairs; true ``[E]`` bool."""

    pairs: Pairs
    values: Tensor
    true: Tensor


def train_affinity(
    drives: Sequence[NamedDrive],
    settings: AffinityTraining,
    progress: Callable[[float, float], None] = lambda share, loss: None,
) -> Affinity:
    """An affinity for trackers with the drives' settings. progress: share done, loss of the step.

    Raises ValueError where no drive asks anything.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    torch_state = torch.get_rng_state()
    torch.manual_seed(settings.seed)
    affinity = Affinity(settings.gate)
    torch.set_rng_state(torch_state)
    optimiser = torch.optim.AdamW(affinity.parameters(), settings.learning_rate, weight_decay=settings.decay)
    done, epochs = 0, settings.rounds * settings.epochs
    for _ in range(settings.rounds):
        with torch.no_grad():
            questions = [q for drive in drives for q in asked(drive, affinity)]
        if not questions:
            raise ValueError("drives: no frame has a candidate pair")
        for _ in range(settings.epochs):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * 0.1 ** (done / epochs)
            order = torch.randperm(len(questions), generator=generator).tolist()
            for first in range(0, len(order), settings.batch):
                optimiser.zero_grad(set_to_none=True)
                batch = [questions[k] for k in order[first : first + settings.batch]]
                loss = assignment_loss(affinity, batch, settings)
                loss.backward()
                optimiser.step()
                progress((done + first / len(order)) / epochs, float(loss.detach()))
            done += 1
    return affinity.eval().requires_grad_(False)


def assignment_loss(affinity: Affinity, questions: Sequence[Question], settings: AffinityTraining) -> Tensor:
    """Mean cross-entropy of the shares per pair; the questions are one assignment, for they do not touch each other."""
    tracks = np.cumsum([0, *(q.pairs.tracks for q in questions)])
    detections = np.cumsum([0, *(q.pairs.detections for q in questions)])
    pairs = Pairs(
        torch.cat([q.pairs.track + int(n) for q, n in zip(questions, tracks)]),
        torch.cat([q.pairs.detection + int(n) for q, n in zip(questions, detections)]),
        int(tracks[-1]), int(detections[-1]),
    )  # fmt: skip
    score = affinity.score(torch.cat([q.values for q in questions]))
    share = assign(score, pairs, settings.regularisation, settings.smoothing).share.clamp(1e-6, 1 - 1e-6)
    true = torch.cat([q.true for q in questions])
    return -torch.where(true, share.log(), (-share).log1p()).mean()


def asked(drive: NamedDrive, affinity: Affinity) -> list[Question]:
    """Follow one drive with the affinity; every frame's question. A track is the object whose detection it was linked
    to last; of several tracks of one object the one that saw it last is right.
    """
    config = drive.config
    tracker = Tracker(replace(config, association="qp"), affinity)
    out: list[Question] = []
    tracks: Tracks | None = None
    names: dict[int, int] = {}
    next_id, last = 0, None
    for frame in drive.frames:
        dt = 0.0 if last is None else (frame.time_us - last) / 1e6
        last = frame.time_us
        seen = observed(frame.agents, torch.from_numpy(frame.global_from_ego), config.velocity_sigma)
        if tracks is None or dt > config.gap:
            tracks = born(seen, torch.zeros(0, dtype=torch.int64), 0)

        def associate(predicted: Tracks, seen: Detections, pairs: Pairs) -> tuple[Tensor, Tensor]:
            if len(pairs.track):
                owner = _owners(predicted, names)[pairs.track.numpy()]
                true = (owner >= 0) & (owner == frame.name[pairs.detection.numpy()])  # noqa: B023
                out.append(Question(pairs, features(predicted, seen, pairs), torch.from_numpy(true)))
            return tracker.associate(predicted, seen, pairs)

        tracks, row, next_id = advanced(tracks, seen, dt, next_id, config, associate)
        for number, r in zip(tracks.id.tolist(), row.tolist()):
            if r >= 0 and frame.name[r] >= 0:
                names[number] = int(frame.name[r])
    return out


def _owners(tracks: Tracks, names: dict[int, int]) -> np.ndarray:
    """``[N]``: the object of each track, -1 where it has none or another track saw it later (or is older)."""
    taken: set[int] = set()
    out = np.full(len(tracks), -1, dtype=np.int64)
    for k in torch.argsort(tracks.missed, stable=True).tolist():
        name = names.get(int(tracks.id[k]), -1)
        if name >= 0 and name not in taken:
            out[k] = name
            taken.add(name)
    return out

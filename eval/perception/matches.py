"""Which detection saw which annotated object: what forecasts and calibration are judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.perception.precision import match_nearest_free
from eval.perception.run import Seen
from eval.perception.truth import Truth

REACH = 2.0
"""m: a detection nearer than this to an annotated object of its class saw it."""


@dataclass
class Frame:
    """One key frame with its answers in the global frame. ``n`` detections, ``m`` of them right.

    place ``[n, 3]`` x, y (m), yaw; size ``[n, 2]``; velocity ``[n, 2]`` m/s; position_covariance ``[n, 2, 2]``;
    existence, kind ``[n]``; mean ``[n, M, T, 2]``, covariance ``[n, M, T, 2, 2]``, probability ``[n, M]`` of the
    forecasts. found ``[n]``: index of the annotated object, -1 for none. index: of the scene.
    """

    index: int
    seen: Seen
    truth: Truth
    place: np.ndarray
    size: np.ndarray
    velocity: np.ndarray
    position_covariance: np.ndarray
    existence: np.ndarray
    kind: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    probability: np.ndarray
    found: np.ndarray

    def right(self, existence: float) -> np.ndarray:
        """Rows of detections at least this certain that saw somebody."""
        return np.flatnonzero((self.found >= 0) & (self.existence >= existence))


def matched_frames(seen: dict[str, list[Seen]], truth: dict[str, list[Truth]]) -> list[Frame]:
    """Every key frame of every scene; the most certain detection of a class takes the nearest free object of it.

    Raises ValueError where answers and annotations are not of the same key frames.
    """
    out = []
    for index, (scene, frames) in enumerate(seen.items()):
        if [one.token for one in frames] != [one.token for one in truth[scene]]:
            raise ValueError(f"{scene}: expected answers for its {len(truth[scene])} key frames, got {len(frames)}")
        for one, true in zip(frames, truth[scene]):
            out.append(_frame(index, one, true))
    return out


def _frame(index: int, seen: Seen, truth: Truth) -> Frame:
    agents, futures = seen.detections, seen.detected_futures
    rows = np.flatnonzero(agents.valid.numpy())
    pose = seen.global_from_ego
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[cos, -sin], [sin, cos]])
    box = agents.box.numpy()[rows]
    place = np.concatenate([box[:, :2] @ turn.T + pose[:2], box[:, 2:3] + pose[2]], 1)
    kind, existence = agents.agent_class.numpy()[rows], agents.existence.numpy()[rows]
    found = np.full(len(rows), -1)
    for k in np.unique(kind):
        said, true = np.flatnonzero(kind == k), np.flatnonzero(truth.kind == k)
        distance = np.hypot(*(place[said, None, :2] - truth.box[None, true, :2]).transpose(2, 0, 1))
        hit = match_nearest_free(existence[said], distance, REACH)
        found[said[hit >= 0]] = true[hit[hit >= 0]]
    return Frame(
        index, seen, truth, place, box[:, 3:], agents.velocity.numpy()[rows] @ turn.T,
        turn @ agents.position_covariance.numpy()[rows] @ turn.T, existence, kind,
        futures.mean.numpy()[rows] @ turn.T + pose[:2], turn @ futures.covariance.numpy()[rows] @ turn.T,
        futures.probability.numpy()[rows], found,
    )  # fmt: skip

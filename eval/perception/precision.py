"""Matching and average precision, once for boxes and once for lines. Scenes carry weights, for resampling.

Within a key frame an answer's match does not depend on other key frames, so that a resampled set of scenes needs no
new matching: only the sums change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_RECALL, LEAST_PRECISION = 0.1, 0.1
"""Of the devkit's detection_cvpr_2019."""


@dataclass
class Answers:
    """``n`` answers of one class, over all key frames, and how many were asked for.

    score ``[n]``; right ``[n]`` bool; scene ``[n]``: index of the scene; asked ``[S]``: annotated ones per scene.
    """

    score: np.ndarray
    right: np.ndarray
    scene: np.ndarray
    asked: np.ndarray

    def precision_curve(self, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(recall, precision) after each answer, most certain first. weight ``[S]``: how often each scene counts."""
        weight = np.ones(len(self.asked)) if weight is None else weight
        order = np.lexsort((np.arange(len(self.score)), self.score))[::-1]  # of equals the later one, as the devkit
        of = weight[self.scene[order]]
        order, of = order[of > 0], of[of > 0]
        right = np.cumsum(self.right[order] * of)
        return right / max(float(weight @ self.asked), 1e-9), right / np.maximum(np.cumsum(of), 1e-9)


def devkit_precision(answers: Answers, weight: np.ndarray | None = None) -> float:
    """nuScenes' average precision: mean over recalls 0.11 to 1 of max(0, precision - 0.1) / 0.9; nan if none is asked.

    Precision at a recall is interpolated linearly along the curve, as `nuscenes.eval.detection.algo` does.
    """
    if _asked(answers, weight) == 0:
        return float("nan")
    recall, precision = answers.precision_curve(weight)
    if not len(recall) or recall[-1] == 0:
        return 0.0
    at = np.interp(np.linspace(0, 1, 101), recall, precision, right=0)[round(100 * LEAST_RECALL) + 1 :]
    return float(np.maximum(at - LEAST_PRECISION, 0).mean() / (1 - LEAST_PRECISION))


def area_precision(answers: Answers, weight: np.ndarray | None = None) -> float:
    """MapTR's average precision: area under the curve with precision made falling; nan if none is asked."""
    if _asked(answers, weight) == 0:
        return float("nan")
    recall, precision = answers.precision_curve(weight)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * falling).sum())


def match_nearest_free(score: np.ndarray, distance: np.ndarray, limit: float) -> np.ndarray:
    """``[n]`` index of the truth that each answer found, -1 for none: nuScenes' rule.

    distance ``[n, m]``. In the order of score, each takes the nearest truth that is still free, if nearer than limit.
    """
    out, free = np.full(len(score), -1), np.ones(distance.shape[1], bool)
    if not distance.shape[1]:
        return out
    for i in np.lexsort((np.arange(len(score)), score))[::-1]:
        away = np.where(free, distance[i], np.inf)
        j = int(away.argmin())
        if away[j] < limit:
            out[i], free[j] = j, False
    return out


def match_nearest(score: np.ndarray, distance: np.ndarray, limit: float) -> np.ndarray:
    """``[n]`` as above by MapTR's rule: each has only its nearest truth, which the first one to come takes."""
    out, free = np.full(len(score), -1), np.ones(distance.shape[1], bool)
    if not distance.shape[1]:
        return out
    nearest = distance.argmin(1)
    for i in np.argsort(-score, kind="stable"):
        j = int(nearest[i])
        if distance[i, j] <= limit and free[j]:
            out[i], free[j] = j, False
    return out


def _asked(answers: Answers, weight: np.ndarray | None) -> float:
    return float(answers.asked.sum() if weight is None else weight @ answers.asked)

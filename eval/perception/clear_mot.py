"""CLEAR MOT events counted scene by scene (Bernardin and Stiefelhagen, 2008), as the devkit counts them on all at once.

The devkit's own accumulator takes minutes for a split and tells no scene apart; a bootstrap over scenes needs both.
That the sums are the devkit's is tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

COUNTS = ("gt", "tp", "fp", "fn", "ids", "distance")
"""distance (m): summed over tp and ids."""
_NEVER = 1e9


class SceneTracks:
    """One class of one scene. true, told: time -> boxes of the devkit (`TrackingBox`); reach (m): of a match."""

    def __init__(
        self, true: Mapping[int, Iterable[Any]], told: Mapping[int, Iterable[Any]], name: str, reach: float
    ) -> None:
        self.frames = []
        for time in true:
            there = [b for b in true[time] if b.tracking_name == name]
            said = [b for b in told[time] if b.tracking_name == name]
            if there or said:
                a, b = (np.array([box.translation[:2] for box in boxes]).reshape(-1, 2) for boxes in (there, said))
                away = np.hypot(*(a[:, None] - b).transpose(2, 0, 1))
                away[away >= reach] = np.nan
                score = np.array([box.tracking_score for box in said])
                self.frames.append(([b.tracking_id for b in there], [b.tracking_id for b in said], away, score))

    @property
    def objects(self) -> int:
        return sum(len(there) for there, *_ in self.frames)

    def counted(self, threshold: float = -np.inf) -> tuple[np.ndarray, list[float]]:
        """`COUNTS` among tracks with at least this score, and the scores of the matches."""
        partner: dict[str, str] = {}
        counts, scores = np.zeros(len(COUNTS)), []
        for true, told, away, score in self.frames:
            kept = np.flatnonzero(score >= threshold)
            said, distance, sure = [told[k] for k in kept], away[:, kept], score[kept]
            pairs = _matched(true, said, distance, partner)
            switches = 0
            for i, j in pairs:
                if partner.get(true[i], said[j]) != said[j]:
                    switches += 1
                else:
                    scores.append(float(sure[j]))
                partner[true[i]] = said[j]
            hits = len(pairs)
            metres = sum(distance[i, j] for i, j in pairs)
            counts += [len(true), hits - switches, len(said) - hits, len(true) - hits, switches, metres]
        return counts, scores


def thresholds(scenes: Sequence[SceneTracks], least: float, number: int) -> np.ndarray:
    """``[number]``: scores at which recalls from 1 down to `least` are reached, NaN for those that are not."""
    objects = sum(scene.objects for scene in scenes)
    scores = np.sort([s for scene in scenes for s in scene.counted()[1]])[::-1]
    if not len(scores):
        return np.full(number, np.nan)
    recall = np.arange(1, len(scores) + 1) / objects
    wanted = np.linspace(least, 1, number).round(12)
    return np.where(wanted > recall[-1], np.nan, np.interp(wanted, recall, scores, right=0))[::-1]


def _matched(
    true: list[str], said: list[str], distance: np.ndarray, partner: Mapping[str, str]
) -> list[tuple[int, int]]:
    """Former partners that still fit, then of the others as many as possible at the least distance."""
    pairs: list[tuple[int, int]] = []
    place = {name: j for j, name in enumerate(said)}
    rows, columns = set(range(len(true))), set(range(len(said)))
    for i, name in enumerate(true):
        j = place.get(partner.get(name, ""), -1)
        if j in columns and np.isfinite(distance[i, j]):
            pairs.append((i, j))
            rows.discard(i)
            columns.discard(j)
    left, right = sorted(rows), sorted(columns)
    if left and right:
        rest = distance[np.ix_(left, right)]
        cost = np.where(np.isfinite(rest), rest, _NEVER)
        for a, b in zip(*linear_sum_assignment(cost)):
            if np.isfinite(rest[a, b]):
                pairs.append((left[a], right[b]))
    return pairs

"""Guided search for the worst case in a box: the cross-entropy method with few, expensive evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc


class CrossEntropy:
    """Asks for points, is told their margins, and looks where margins are small.

    Starts with a scrambled Sobol set over the whole box; later batches are drawn from a Gaussian around the worst
    quarter of what is known, never narrower than `least` of the box, with one point in four from anywhere, so that a
    second bad region is not given up. The same seed and answers give the same points.

    box: (low, high) per dimension; equal bounds fix a dimension.
    """

    def __init__(
        self, box: Sequence[tuple[float, float]], seed: Sequence[int], batch: int = 4, least: float = 0.05
    ) -> None:
        self.low, self.high = np.array(box, float).T
        if (self.high < self.low).any():
            raise ValueError(f"CrossEntropy: expected low <= high, got {box}")
        self.batch, self.least = batch, least
        self._rng = np.random.default_rng(list(seed))
        self._sobol = qmc.Sobol(len(box), seed=self._rng)
        self._points = np.zeros((0, len(box)))
        self._margins = np.zeros(0)

    def ask(self, count: int) -> np.ndarray:
        """``[count, D]`` points of the box."""
        if len(self._margins) < 2 * self.batch:
            unit = self._sobol.random(count)
        else:
            worst = np.argsort(self._margins, kind="stable")[: max(len(self._margins) // 4, 2)]
            elite = self._points[worst]
            spread = np.maximum(elite.std(0), self.least)
            unit = np.clip(self._rng.normal(elite.mean(0), spread, (count, len(spread))), 0.0, 1.0)
            anywhere = self._rng.uniform(size=count) < 0.25
            unit[anywhere] = self._rng.uniform(size=(int(anywhere.sum()), len(spread)))
        return self.low + unit * (self.high - self.low)

    def tell(self, points: np.ndarray, margins: Sequence[float] | np.ndarray) -> None:
        """The margins (smaller is worse) of points that were asked for."""
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        self._points = np.concatenate([self._points, (np.asarray(points) - self.low) / width])
        self._margins = np.concatenate([self._margins, np.asarray(margins, float)])

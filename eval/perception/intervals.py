"""How sure a figure is: resampling of scenes, and spread over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95
RESAMPLES = 500


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; low and high are nan where there is nothing to resample (one scene, one seed)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def facts(self) -> dict[str, Any]:
        """JSON values; nan becomes None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


def over_scenes(
    figure: Callable[[np.ndarray], float], scenes: int, resamples: int | None = None, seed: int = 0
) -> Estimate:
    """A figure of weighted scenes with its percentile bootstrap interval (Efron, 1979).

    figure: of weights ``[S]``, how often each scene counts; nan where a resample says nothing, which is left out.
    Key frames of one scene are alike: whole scenes are drawn, not key frames. resamples: `RESAMPLES` unless told.
    """
    value = figure(np.ones(scenes))
    if scenes < 2 or value != value:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(scenes, np.full(scenes, 1 / scenes), resamples or RESAMPLES).astype(float)
    drawn = np.array([figure(weight) for weight in weights])
    drawn = drawn[~np.isnan(drawn)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (float("nan"),) * 2
    return Estimate(value, float(low), float(high))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over training runs, with Student's interval; values that are nan are left out."""
    known = np.array([v for v in values if v == v])
    if not len(known):
        return Estimate(float("nan"))
    if len(known) < 2:
        return Estimate(float(known.mean()))
    half = float(student.ppf(0.5 + CONFIDENCE / 2, len(known) - 1)) * known.std(ddof=1) / np.sqrt(len(known))
    return Estimate(float(known.mean()), float(known.mean() - half), float(known.mean() + half))

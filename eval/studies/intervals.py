"""Confidence intervals of rates."""

from __future__ import annotations

import math

from scipy.stats import beta, norm


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate: right on average, also for rates near 0 and 1. (0, 1) for no trial.

    Wilson, JASA 22 (1927). Raises ValueError unless 0 <= hits <= total.
    """
    _check(hits, total)
    if total == 0:
        return 0.0, 1.0
    z, p = float(norm.ppf(0.5 + confidence / 2)), hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    # Rounding must not leave a bound beside 0 or 1 where it is exactly there.
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return (0.0 if hits == 0 else low), (1.0 if hits == total else high)


def clopper_pearson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate: never covers less than it says. (0, 1) for no trial.

    Clopper and Pearson, Biometrika 26 (1934). Raises ValueError unless 0 <= hits <= total.
    """
    _check(hits, total)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(1 - tail, hits + 1, total - hits))
    return low, high


def _check(hits: int, total: int) -> None:
    if not 0 <= hits <= total:
        raise ValueError(f"interval: expected 0 <= hits <= total, got {hits} of {total}")

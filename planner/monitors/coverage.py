"""Do others stay where they were predicted to stay? Finds a shortfall of coverage and says how much to widen."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict

BETS = (1.0, 2.0, 4.0, 8.0, 12.0)
"""Stakes of the test, per miss beyond the nominal share; several, because the true share is not known."""


@dataclass(frozen=True)
class CoverageConfig:
    """miss: nominal share of predictions that fail. patience: mean number of samples to a false alarm, at least.

    window: last samples that decide the widening; widening_max: more is not believed, the vehicle stops instead.
    release: samples at the nominal rate that end the widening.
    """

    miss: float = 0.02
    patience: float = 2000.0
    window: int = 100
    widening_max: float = 3.0
    release: int = 200


class CoverageMonitor:
    """Sequential test of the share of misses, and the conformal widening that would have repaired it.

    A score is the factor by which a predicted set had to be scaled to hold what happened: above 1 it missed. Test: an
    e-detector, the sum over all starting points of the wealth of somebody who bets on more misses than nominal,
    R <- (1 + R) (1 + bet (miss - nominal)), averaged over `BETS`. Its mean time to a false alarm is at least `patience`
    samples whatever the distribution, if samples are independent (Shin, Ramdas, Rinaldo, "E-detectors", 2023).
    Widening: the conformal quantile of the last `window` scores, rank ceil((n + 1)(1 - miss)) (Vovk et al. 2005).
    Rule: shortfall -> DEGRADED with widening until `release` samples at the nominal rate; a quantile beyond
    `widening_max` -> MINIMAL_RISK.
    """

    name = "coverage"

    def __init__(self, config: CoverageConfig | None = None) -> None:
        self.config = config or CoverageConfig()
        # A bet is lost slowly, by `miss` of its stake per hit, and never more than half of it.
        stakes, miss = np.minimum(BETS, 0.5 / self.config.miss), self.config.miss
        self._gain = [((1.0 - s * miss).item(), (1.0 + s * (1.0 - miss)).item()) for s in stakes]
        self._wealth = [0.0] * len(BETS)
        self._scores: deque[float] = deque(maxlen=self.config.window)
        self._short = False
        self._clean = 0
        self._clean_misses = 0
        self.widening = 1.0

    def update(self, scores: np.ndarray) -> MonitorVerdict:
        """New scores ``[n]`` >= 0, independent of each other as far as possible; n may be 0. NaN counts as a miss."""
        for score in np.nan_to_num(np.asarray(scores, dtype=float), nan=math.inf, posinf=math.inf):
            self._add(float(score))
        nominal, wealth = 1 - self.config.miss, sum(self._wealth) / len(BETS)
        if not self._short:
            return MonitorVerdict(self.name, MonitorLevel.OK, "", wealth, self.config.patience)
        covered = float(np.mean([s <= 1.0 for s in self._scores]))
        need, most = self._quantile(), self.config.widening_max
        self.widening = min(max(need, 1.0), most)
        if need > most:
            reason = f"predictions would have to be {need:.2g} times as wide, believed up to {most:g}"
            return MonitorVerdict(self.name, MonitorLevel.MINIMAL_RISK, reason, need, most)
        reason = (
            f"{covered:.0%} of the last {len(self._scores)} predictions held, expected {nominal:.0%}; "
            f"sets widened by {self.widening:.2f}"
        )
        return MonitorVerdict(self.name, MonitorLevel.DEGRADED, reason, covered, nominal)

    def _add(self, score: float) -> None:
        missed = score > 1.0
        self._scores.append(score)
        self._wealth = [(1.0 + wealth) * gain[missed] for wealth, gain in zip(self._wealth, self._gain)]
        if sum(self._wealth) >= self.config.patience * len(BETS):
            self._short = True
            self._wealth = [0.0] * len(BETS)
            self._clean = self._clean_misses = 0
        if self._short:
            self._clean += 1
            self._clean_misses += missed
            allowed = self.config.miss * self._clean + 2 * math.sqrt(self.config.miss * self._clean)
            if self._clean_misses > allowed + 1:
                self._clean = self._clean_misses = 0
            elif self._clean >= self.config.release:
                self._short, self.widening = False, 1.0

    def _quantile(self) -> float:
        """Factor that would have covered the nominal share of the window; the largest score if it is too short."""
        ordered = np.sort(self._scores)
        rank = math.ceil((len(ordered) + 1) * (1 - self.config.miss))
        return float(ordered[min(rank, len(ordered)) - 1])

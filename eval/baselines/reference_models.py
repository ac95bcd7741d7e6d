"""Four published models of a careful driver, as UN R157's research uses them: when they brake, and how hard.

Re-implemented from their definitions, so that "avoidable" is somebody else's word:

CC      competent and careful human driver, UN R157 Annex 4 Appendix 3: reacts to whoever is in the lane with a time to
        collision of at most 2 s, lifts the foot for 0.75 s (0.4 m/s^2), then brakes to 0.774 g with 12.65 m/s^3.
Reg157  UN R157 5.2.5.2: reacts when the other is within 0.5 m of ego's side and its time to collision is at most
        v_rel / (2 * 6 m/s^2) + 0.35 s (evaluated a step of 0.1 s early), then after 0.35 s brakes with 6 m/s^2 at once.
RSS     Shalev-Shwartz et al., arXiv:1708.06374: longitudinally and laterally unsafe with response 0.75 s, acceleration
        3, braking 6 m/s^2 of both, lateral acceleration 1 m/s^2, margin 0.3 m; brakes like CC.
FSM     Mattas et al., Accident Analysis & Prevention 148 (2020) 105794: proactive and critical fuzzy safety metric;
        brakes 4 PFS, or 4 + 2 CFS where CFS > 0.

All quantities are arrays ``[N]`` over encounters. They know one other vehicle and brake only; nobody steers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

G = 9.81  # m/s^2
HARD_BRAKING = 0.774 * G  # m/s^2
BRAKING_JERK = 12.65  # m/s^3: 0.774 g is reached in 0.6 s


@dataclass(frozen=True)
class View:
    """What a model sees at one moment, each ``[N]``.

    gap: bumper to bumper (m), negative beside or past each other. ahead: the other's centre is not behind ego's.
    side: distance between the facing sides (m), negative where the lateral extents overlap. v, v_other: speeds (m/s).
    approach: the other's speed towards ego's lane (m/s). a: ego's last acceleration. lengths: sum of both half lengths.
    """

    gap: np.ndarray
    ahead: np.ndarray
    side: np.ndarray
    v: np.ndarray
    v_other: np.ndarray
    approach: np.ndarray
    a: np.ndarray
    lengths: np.ndarray

    @property
    def closing(self) -> np.ndarray:
        return self.v - self.v_other

    @property
    def time_to_collision(self) -> np.ndarray:
        """|gap / closing speed|, s; the models' definitions take the magnitude."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.abs(self.gap / self.closing), nan=np.inf)


@dataclass
class Model:
    """Base of the four: waits `delay` (s) from the first dangerous moment on, then brakes.

    `in_lane`: the other is a leader or an obstacle in ego's own lane, not somebody who cuts in.
    """

    name: ClassVar[str]
    delay: ClassVar[float]
    release: ClassVar[float] = 0.0  # m/s^2 while waiting
    waited: np.ndarray = field(default_factory=lambda: np.zeros(0))
    braking: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def start(self, count: int) -> None:
        """Begin `count` encounters."""
        self.waited, self.braking = np.full(count, self.delay), np.zeros(count)

    def dangerous(self, view: View, in_lane: bool) -> np.ndarray:
        """``[N]`` bool: has to react now."""
        raise NotImplementedError

    def settled(self, view: View, in_lane: bool) -> np.ndarray:
        """``[N]`` bool: the encounter is over without a collision."""
        return np.zeros_like(view.ahead)

    def target(self, view: View) -> tuple[np.ndarray, float]:
        """Braking (m/s^2) asked for, ``[N]``, and the jerk (m/s^3) with which it is built up."""
        raise NotImplementedError

    def brake(self, view: View, who: np.ndarray, dt: float) -> np.ndarray:
        """Braking ``[N]`` (m/s^2) of this step for those in `who`; advances their waiting time."""
        waiting = who & (self.waited > 0)
        acting = who & ~waiting
        self.waited = np.where(waiting, self.waited - dt, self.waited)
        wanted, jerk = self.target(view)
        built = np.minimum(self.braking + jerk * dt, wanted)
        self.braking = np.where(acting, built, np.where(waiting, self.release, self.braking))
        return np.where(who, self.braking, 0.0)


class CarefulHuman(Model):
    """CC; see the module."""

    name, delay, release = "CC", 0.75, 0.4
    critical_ttc = 2.0

    def dangerous(self, view: View, in_lane: bool) -> np.ndarray:
        if in_lane:
            return np.ones_like(view.ahead)
        return view.ahead & (view.side <= 0.0) & (view.time_to_collision <= self.critical_ttc)

    def settled(self, view: View, in_lane: bool) -> np.ndarray:
        """Whoever is in the lane with more time than critical is no risk any more: he is followed."""
        return view.ahead & (view.side <= 0.0) & (view.time_to_collision > self.critical_ttc) & (not in_lane)

    def target(self, view: View) -> tuple[np.ndarray, float]:
        return np.full_like(view.v, HARD_BRAKING), BRAKING_JERK


class Reg157(Model):
    """See the module."""

    name, delay = "Reg157", 0.35
    side_distance, deceleration = 0.5, 6.0

    def dangerous(self, view: View, in_lane: bool) -> np.ndarray:
        if in_lane:
            return np.ones_like(view.ahead)
        critical = view.closing / (2 * self.deceleration) + self.delay + 0.1
        return view.ahead & (view.side <= self.side_distance) & (view.time_to_collision <= critical)

    def target(self, view: View) -> tuple[np.ndarray, float]:
        return np.full_like(view.v, self.deceleration), np.inf


class RssDriver(Model):
    """See the module."""

    name, delay = "RSS", 0.75
    acceleration, deceleration, lateral_acceleration, margin = 3.0, 6.0, 1.0, 0.3

    def safe_distance(self, v: np.ndarray, v_front: np.ndarray) -> np.ndarray:
        """Longitudinal, same direction (m); the bracket [.]+ is left to the comparison."""
        after = v + self.delay * self.acceleration
        travelled = v * self.delay + self.acceleration * self.delay**2 / 2
        return travelled + (after**2 - v_front**2) / (2 * self.deceleration)

    def safe_side(self, approach: np.ndarray) -> np.ndarray:
        """Lateral (m): the other may speed up sideways during the response time and then slows down."""
        u, a, t = np.abs(approach), self.lateral_acceleration, self.delay
        return self.margin + (2 * u + a * t) * t / 2 + (u + a * t) ** 2 / (2 * a)

    def dangerous(self, view: View, in_lane: bool) -> np.ndarray:
        near = view.gap < self.safe_distance(view.v, view.v_other)
        return view.ahead & near & (view.side < self.safe_side(view.approach))

    def target(self, view: View) -> tuple[np.ndarray, float]:
        return np.full_like(view.v, HARD_BRAKING), BRAKING_JERK


class FuzzyDriver(Model):
    """FSM; see the module."""

    name, delay = "FSM", 0.75
    comfortable, hardest, leader_braking = 4.0, 6.0, 7.0
    distance_margin, safe_margin = 2.0, 2.0

    def proactive(self, gap: np.ndarray, v: np.ndarray, v_front: np.ndarray) -> np.ndarray:
        """PFS in [0, 1]: would the leader's hardest braking be survived with comfortable (0) or hardest (1) braking?"""
        leader = v_front**2 / (2 * self.leader_braking)
        safe = v * self.delay + v**2 / (2 * self.comfortable) - leader + self.safe_margin
        unsafe = v * self.delay + v**2 / (2 * self.hardest) - leader
        return np.clip((safe - (gap - self.distance_margin)) / (safe - unsafe), 0.0, 1.0)

    def critical(self, gap: np.ndarray, v: np.ndarray, v_front: np.ndarray, a: np.ndarray) -> np.ndarray:
        """CFS in [0, 1]: the same for a leader that keeps its speed, after ego's delay at its present acceleration."""
        kept = np.maximum(a, -self.comfortable)
        rest = v + self.delay * kept - v_front  # closing speed after the delay
        travelled = (v + kept * self.delay / 2 - v_front) * self.delay
        safe = travelled + rest**2 / (2 * self.comfortable)
        unsafe = travelled + rest**2 / (2 * self.hardest)
        with np.errstate(divide="ignore", invalid="ignore"):
            fuzzy = np.clip((safe - gap) / (safe - unsafe), 0.0, 1.0)
            fuzzy = np.where(safe > unsafe, fuzzy, (gap < safe).astype(float))
            # The closing speed is gone before the delay is: only what is covered until then counts.
            soon = ((v - v_front) ** 2 / np.abs(2 * a) > gap).astype(float)
        return np.where(v <= v_front, 0.0, np.where(rest < 0.0, soon, fuzzy))

    def scores(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """PFS and CFS of a view."""
        return (
            self.proactive(view.gap, view.v, view.v_other),
            self.critical(view.gap, view.v, view.v_other, view.a),
        )

    def dangerous(self, view: View, in_lane: bool) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            enters = view.side / view.approach
            passed = (view.gap + 2 * view.lengths) / view.closing
        comes = (view.side <= 0.0) | ((view.approach > 0.0) & ~(enters > passed + 0.1))
        proactive, critical = self.scores(view)
        return view.ahead & comes & (proactive + critical > 0.0)

    def target(self, view: View) -> tuple[np.ndarray, float]:
        proactive, critical = self.scores(view)
        more = self.comfortable + critical * (self.hardest - self.comfortable)
        return np.where(critical > 0.0, more, self.comfortable * proactive), BRAKING_JERK


MODELS: dict[str, type[Model]] = {model.name: model for model in (CarefulHuman, Reg157, RssDriver, FuzzyDriver)}
"""The four by their short names."""

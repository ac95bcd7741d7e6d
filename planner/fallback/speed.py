"""Speed over time of a stop: jerk-limited phases, as hard as the grip that cornering leaves allows at every moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

STEP = 0.1  # s between entries
_HOLD = 1.0  # s of standing at the end
_LET_GO = 2e-3  # s: where the brake cannot be released in time it lets go at rest, within this
_UNHINDERED = 0.02  # m/s^2: what cornering takes is less than this

Allowed = Callable[[float, float], float]
"""Braking (m/s^2, magnitude) that the grip allows at a speed (m/s), after a distance (m)."""


@dataclass(frozen=True)
class Phase:
    """Constant jerk from `start` s on, where the state is v, a."""

    start: float
    v: float
    a: float
    jerk: float


@dataclass(frozen=True)
class SpeedProfile:
    """A stop: its phases, and when (s) it stands."""

    phases: tuple[Phase, ...]
    rest: float

    def at(self, t: float) -> tuple[float, float]:
        """v, a at time t."""
        if not self.phases or t >= self.rest - 1e-9:
            return 0.0, 0.0
        p = [q for q in self.phases if q.start <= t + 1e-9][-1]
        s = max(t - p.start, 0.0)
        return max(p.v + p.a * s + 0.5 * p.jerk * s * s, 0.0), p.a + p.jerk * s

    def times(self) -> list[float]:
        """The regular grid plus the moments at which the jerk changes; entries closer than 1 ms are merged."""
        regular = STEP * np.arange(math.ceil((self.rest + _HOLD) / STEP) + 1)
        marks = [p.start for p in self.phases] + [self.rest]
        if self.phases and self.rest > 2 * _LET_GO and self.at(self.rest - _LET_GO)[1] < -0.1:
            marks.append(self.rest - _LET_GO)
        every = np.unique(np.concatenate([regular, marks]))
        exact = {round(t, 9) for t in marks} | {0.0}
        kept = [0.0]
        for t in every[1:]:
            if t - kept[-1] > 1e-3:
                kept.append(float(t))
            elif round(float(t), 9) in exact and kept[-1] > 0:
                kept[-1] = float(t)
        return kept


def braked(v: float, a: float, braking: float, jerk: float, allowed: Allowed, held: bool = False) -> SpeedProfile:
    """Stop from v >= 0, a with at most `braking` and at most what is allowed, `jerk` (m/s^3) limited.

    While cornering takes grip, braking follows what is left of it in steps of `STEP`; the last phases bring v and a to
    zero together, or, held, hold the brake until ego stands: a jerk at the end, but standing sooner. The most that is
    possible at every moment is also the shortest: whoever is slower may brake harder.
    """
    t = s = 0.0
    phases: list[Phase] = []
    while (limit := allowed(v, s)) < braking - _UNHINDERED:
        reached = a
        for _ in range(3):  # what is allowed at the end of the step, where ego is slower
            later = max(v + (a + reached) / 2 * STEP, 0.0)
            wanted = -min(allowed(later, s + (v + later) / 2 * STEP), braking)
            reached = min(max(wanted, a - jerk * STEP), a + jerk * STEP)
        later = v + (a + reached) / 2 * STEP
        if later <= (reached * reached / (2 * jerk) if reached < 0 else 0.0) + 1e-6:
            break  # from here on the brake would have to be released
        phases.append(Phase(t, v, a, (reached - a) / STEP))
        t, s, v, a = t + STEP, s + (v + later) / 2 * STEP, later, reached
    end, rest = _profile(v, a, min(braking, limit), jerk, held)
    return SpeedProfile((*phases, *(replace(p, start=p.start + t) for p in end)), t + rest)


def _profile(v: float, a: float, braking: float, jerk: float, held: bool) -> tuple[list[Phase], float]:
    """Jerk-limited stop: build up braking, keep it, and release it so that v and a reach zero together, or hold it."""
    if v <= 1e-6:
        return [], 0.0
    peak = min(braking, math.sqrt(jerk * v + 0.5 * a * a) if jerk * v + 0.5 * a * a > 0 else 0.0)
    peak, released = (braking, 0.0) if held else (peak, peak * peak / (2 * jerk))
    phases, t = [], 0.0
    for target in (-peak, None) if held else (-peak, None, 0.0):
        if target is None:
            hold = (v - released) / peak
            if hold > 1e-9:
                phases.append(Phase(t, v, a, 0.0))
                t, v = t + hold, v + a * hold
            continue
        change = target - a
        length = abs(change) / jerk
        if length > 1e-9:
            j = math.copysign(jerk, change)
            stop = _first_zero(v, a, j, length)
            phases.append(Phase(t, v, a, j))
            t += stop
            v, a = v + a * stop + 0.5 * j * stop * stop, a + j * stop
            if stop < length:
                break  # already braking too hard to release in time: stands earlier, brake lets go at rest
    return phases, t


def _first_zero(v: float, a: float, j: float, length: float) -> float:
    """First time in (0, length) at which v + a t + j t^2 / 2 is zero, else `length`."""
    root = a * a - 2 * j * v
    if root < 0:
        return length
    times = [(-a + s * math.sqrt(root)) / j for s in (-1.0, 1.0)]
    return min([t for t in times if 1e-9 < t < length - 1e-6], default=length)

"""How long planning took and how often something other than the planner's own plan was driven."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

_OWN_PLAN, _FALLBACK = "candidate", ("tail", "braking")


def percentile(values: np.ndarray, q: float) -> float:
    """The smallest value that at least q percent do not exceed: no interpolation towards faster cycles."""
    if not len(values):
        return 0.0
    rank = math.ceil(q / 100.0 * len(values) - 1e-9)  # rounding must not push 99.9 % of 1000 to the maximum
    return float(np.sort(values)[max(rank, 1) - 1])


def cycle_time(drive: Drive) -> MetricResult:
    """Median planner cycle (ms), from scene to supervised plan; 99th and 99.9th percentile beside it."""
    return _percentiles(drive.trace.cycle_ms)


def solve_time(drive: Drive) -> MetricResult:
    """Median time in the solver (ms), with the same percentiles."""
    return _percentiles(drive.trace.solve_ms)


def check_time(drive: Drive) -> MetricResult:
    """Median time in the checker (ms), with the same percentiles."""
    return _percentiles(drive.trace.check_ms)


def _percentiles(milliseconds: np.ndarray) -> MetricResult:
    p50, p99, p999 = (percentile(milliseconds, q) for q in (50, 99, 99.9))
    detail = {"p50": round(p50, 3), "p99": round(p99, 3), "p999": round(p999, 3), "samples": len(milliseconds)}
    return MetricResult(p50, len(milliseconds) > 0, "ms", detail)


def fallback_rate(drive: Drive) -> MetricResult:
    """Share of steps driven on a tail or by braking; `detail` counts them by source and reason."""
    trace = drive.trace
    pairs = [(s, r) for s, r in zip(trace.source, trace.reason) if s in _FALLBACK]
    by_reason = Counter(f"{source}: {reason or 'no reason given'}" for source, reason in pairs)
    planned = any(s == _OWN_PLAN or s in _FALLBACK for s in trace.source)
    detail = {"by_reason": dict(sorted(by_reason.items()))} if pairs else {}
    if not planned:
        detail["why"] = "the driver has no supervisor"  # type: ignore[assignment]
    return MetricResult(len(pairs) / drive.steps, planned, "share", detail)


def plans_without_tail(drive: Drive) -> MetricResult:
    """Number of steps on which a supervised plan was driven without a checker-accepted tail."""
    supervised = np.array([s == _OWN_PLAN or s in _FALLBACK for s in drive.trace.source], bool)
    missing = supervised & ~np.asarray(drive.trace.tail_accepted, bool)
    detail: dict = {"first_time": round(float(drive.trace.time[missing.argmax()]), 3)} if missing.any() else {}
    if not supervised.any():
        detail["why"] = "the driver has no supervisor"
    return MetricResult(float(missing.sum()), bool(supervised.any()), "steps", detail)

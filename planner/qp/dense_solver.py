"""Batched solve with a status per member: one bad member never harms another."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from planner.qp.backends import BACKENDS, Backend
from planner.qp.dense import QPSolution, QuadraticProgram, SolveStatus, certify

PRIMAL_TOLERANCE = 1e-6
"""Largest violation (in the row's unit, after recomputation) of an answer that counts as solved."""
DUAL_TOLERANCE = 1e-5
INFEASIBLE_RELAXATION = 1e-6
"""A problem is empty when even its best uniform relaxation exceeds this."""


def solve(
    problem: QuadraticProgram,
    backend: str = "daqp",
    second_opinion: str | None = "clarabel",
    deadline: float | None = None,
) -> QPSolution:
    """Solve every member of the batch; see QPSolution for what comes back.

    An answer counts as SOLVED only if its residuals, recomputed from the raw data, are within tolerance; else the
    second backend is asked. A member counts as INFEASIBLE only if the phase-1 program (smallest uniform
    relaxation of the rows, variable bounds kept) confirms it.
    deadline: `time.perf_counter()` value after which remaining members get ITERATION_LIMIT.
    Raises ValueError for an unknown backend or malformed problem.
    """
    for name in (backend, second_opinion):
        if name is not None and name not in BACKENDS:
            raise ValueError(f"backend: expected one of {sorted(BACKENDS)}, got {name!r}")
    problem.validate()
    started = time.perf_counter()
    batch, n, m = problem.size
    data = [t.detach().cpu().double().numpy() for t in problem.tensors()]
    x, y, z = np.zeros((batch, n)), np.zeros((batch, m)), np.zeros((batch, n))
    relaxation, blocking = np.zeros(batch), np.zeros((batch, m))
    status = [SolveStatus.NUMERICAL] * batch
    order = [BACKENDS[backend]] + ([BACKENDS[second_opinion]] if second_opinion else [])
    waiting = list(range(batch))
    for attempt in order:
        for i in waiting:
            if deadline is not None and time.perf_counter() > deadline:
                status[i] = SolveStatus.ITERATION_LIMIT
                continue
            status[i], answer = _attempt([d[i] for d in data], attempt)
            if status[i] is SolveStatus.SOLVED:
                x[i], y[i], z[i] = answer
            elif status[i] is SolveStatus.INFEASIBLE:
                relaxation[i], blocking[i] = answer
        _reject_unproven(problem, waiting, status, x, y, z)
        waiting = [i for i in waiting if status[i] not in (SolveStatus.SOLVED, SolveStatus.INFEASIBLE)]
        if not waiting:
            break
    as_tensor = lambda array: torch.from_numpy(array)  # noqa: E731
    primal, dual, gap = certify(problem, as_tensor(x), as_tensor(y), as_tensor(z))
    return QPSolution(
        as_tensor(x), as_tensor(y), as_tensor(z), status, primal, dual, gap, as_tensor(relaxation),
        as_tensor(blocking), time.perf_counter() - started,
    )  # fmt: skip


def _attempt(member: list[np.ndarray], backend: Backend) -> tuple[SolveStatus, tuple[Any, ...]]:
    """One backend's answer; emptiness only with the proof of phase 1."""
    _, _, A, lower, upper, x_lower, x_upper = member
    crossed = bool((lower > upper).any() or (x_lower > x_upper).any())
    outcome, x, y, z = ("infeasible", None, None, None) if crossed else backend(*member)
    if outcome == "solved":
        return SolveStatus.SOLVED, (x, y, z)
    if outcome == "infeasible":
        slack, weights = _phase_one(A, lower, upper, x_lower, x_upper, backend)
        if slack > INFEASIBLE_RELAXATION:
            return SolveStatus.INFEASIBLE, (slack, weights)
    return (SolveStatus.ITERATION_LIMIT if outcome == "iteration_limit" else SolveStatus.NUMERICAL), ()


def _reject_unproven(
    problem: QuadraticProgram,
    members: list[int],
    status: list[SolveStatus],
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
) -> None:
    """Take SOLVED back where the recomputed residuals are too large, and blank the answer."""
    primal, dual, _ = certify(problem, *(torch.from_numpy(v) for v in (x, y, z)))
    for i in members:
        small = float(primal[i]) <= PRIMAL_TOLERANCE and float(dual[i]) <= DUAL_TOLERANCE
        if status[i] is SolveStatus.SOLVED and not small:  # NaN compares false and is rejected too
            status[i] = SolveStatus.NUMERICAL
            x[i], y[i], z[i] = 0.0, 0.0, 0.0


def _phase_one(
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x_lower: np.ndarray,
    x_upper: np.ndarray,
    backend: Backend,
) -> tuple[float, np.ndarray]:
    """min t  s.t.  lower - t <= Ax <= upper + t, variable bounds kept (actuators are rigid).

    A small quadratic term makes the program strictly convex. Returns t and the rows' normalised
    multipliers: a Farkas-type certificate, non-zero on the rows that contradict each other.
    """
    m, n = A.shape
    if (x_lower > x_upper).any():
        return float((x_lower - x_upper).max()), np.zeros(m)
    ones = np.ones((m, 1))
    rows = np.vstack([np.hstack([A, -ones]), np.hstack([A, ones])])
    lo = np.concatenate([np.full(m, -np.inf), lower])
    hi = np.concatenate([upper, np.full(m, np.inf)])
    quadratic = np.diag(np.concatenate([np.full(n, 1e-6), [1e-6]]))
    linear = np.concatenate([np.zeros(n), [1.0]])
    x_lo, x_hi = np.append(x_lower, 0.0), np.append(x_upper, np.inf)
    outcome, x, y, _ = backend(quadratic, linear, rows, lo, hi, x_lo, x_hi)
    if outcome != "solved" or x is None or y is None:
        return 0.0, np.zeros(m)
    weights = np.abs(y[:m]) + np.abs(y[m:])
    return float(x[-1]), weights / max(weights.sum(), 1e-300)

"""Solvers for one quadratic program at a time, behind one signature.

Each takes numpy float64 arrays ``(P, q, A, lower, upper, x_lower, x_upper)`` and returns
``(outcome, x, y, z)`` with outcome "solved", "infeasible", "iteration_limit" or "numerical" and
multipliers signed as in `planner.qp.dense.QPSolution`. What they claim is checked by the caller.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Answer = tuple[str, np.ndarray | None, np.ndarray | None, np.ndarray | None]
Backend = Callable[..., Answer]

_BIG = 1e30
"""DAQP's infinity."""


def daqp_backend(
    P: np.ndarray,
    q: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x_lower: np.ndarray,
    x_upper: np.ndarray,
    iteration_limit: int = 2000,
) -> Answer:
    """DAQP: a dual active-set method, exact at the vertex it ends in (Arnstrom et al. 2022)."""
    import daqp

    n = len(q)
    hi = np.clip(np.concatenate([x_upper, upper]), -_BIG, _BIG)
    lo = np.clip(np.concatenate([x_lower, lower]), -_BIG, _BIG)
    # Type 5 marks an equation that stays active; two equal bounds alone would cycle.
    sense = np.where(hi - lo <= 1e-12, 5, 0).astype(np.intc)
    x, _, flag, info = daqp.solve(
        np.ascontiguousarray(P), q, np.ascontiguousarray(A), hi, lo, sense,
        primal_tol=1e-9, dual_tol=1e-11, iter_limit=iteration_limit,
    )  # fmt: skip
    if flag in (1, 2):
        dual = np.asarray(info["lam"])
        return "solved", np.asarray(x), dual[n:], dual[:n]
    outcome = {-1: "infeasible", -4: "iteration_limit"}.get(flag, "numerical")
    return outcome, None, None, None


def clarabel_backend(
    P: np.ndarray,
    q: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x_lower: np.ndarray,
    x_upper: np.ndarray,
    iteration_limit: int = 200,
) -> Answer:
    """Clarabel: a homogeneous interior-point method; slower, used as the second opinion."""
    import clarabel
    from scipy import sparse

    rows = np.vstack([A, np.eye(len(q))])
    lo, hi = np.concatenate([lower, x_lower]), np.concatenate([upper, x_upper])
    equal = np.isfinite(lo) & (hi - lo <= 1e-12)
    up, down = np.isfinite(hi) & ~equal, np.isfinite(lo) & ~equal
    matrix = np.vstack([rows[equal], rows[up], -rows[down]])
    rhs = np.concatenate([hi[equal], hi[up], -lo[down]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(up.sum() + down.sum()))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = iteration_limit
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solver = clarabel.DefaultSolver(sparse.csc_matrix(np.triu(P)), q, sparse.csc_matrix(matrix), rhs, cones, settings)
    solution = solver.solve()
    status = str(solution.status)
    if status in ("Solved", "AlmostSolved"):
        multiplier = np.asarray(solution.z)
        dual = np.zeros(len(rows))
        e, u = int(equal.sum()), int(up.sum())
        dual[equal] = multiplier[:e]
        dual[up] += multiplier[e : e + u]
        dual[down] -= multiplier[e + u :]
        return "solved", np.asarray(solution.x), dual[: len(A)], dual[len(A) :]
    if "Infeasible" in status:
        return "infeasible", None, None, None
    return ("iteration_limit" if "MaxIter" in status else "numerical"), None, None, None


BACKENDS: dict[str, Backend] = {"daqp": daqp_backend, "clarabel": clarabel_backend}

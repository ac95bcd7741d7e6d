"""Solvers for one quadratic program at a time, behind one signature.

Each takes numpy float64 arrays ``(P, q, A, lower, upper, x_lower, x_upper)`` and returns
``(outcome, x, y, z)`` with outcome "solved", "infeasible", "iteration_limit" or "numerical" and
multipliers signed as in `planner.qp.dense.QPSolution`. What they claim is checked by the caller. Stage programs reach
them through `planner.qp.condense`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planner.qp.dense import QuadraticProgram

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


def cvxpylayers_backend(
    P: np.ndarray,
    q: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x_lower: np.ndarray,
    x_upper: np.ndarray,
    iteration_limit: int = 200,
) -> Answer:
    """The program that cvxpylayers would differentiate, solved by cvxpy with Clarabel; needs the extra `reference`.

    cvxpylayers itself returns no multipliers, so this reads them from cvxpy. For its gradients see
    `cvxpylayers_solution`.
    """
    import cvxpy

    member = (P, q, A, lower, upper, x_lower, x_upper)
    pattern = _pattern(member)
    program, x, parameters, sides = _cvxpy_program(len(q), pattern)
    for parameter, value in zip(parameters, _cvxpy_values(tuple(map(torch.from_numpy, member)), pattern)):
        parameter.value = value.numpy()
    try:
        program.solve(solver="CLARABEL", max_iter=iteration_limit, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    except cvxpy.SolverError:
        return "numerical", None, None, None
    if program.status in ("optimal", "optimal_inaccurate"):
        dual = np.zeros(len(A) + len(q))
        for kind, sign, constraint in sides:
            dual[np.frombuffer(pattern[kind], bool)] += sign * np.asarray(constraint.dual_value)
        return "solved", np.asarray(x.value), dual[: len(A)], dual[len(A) :]
    return ("infeasible" if "infeasible" in program.status else "iteration_limit"), None, None, None


def _pattern(member: tuple[np.ndarray, ...]) -> tuple[bytes, bytes, bytes]:
    """Which rows (A first, then the variables' bounds) are equations, bounded above, bounded below; as flags."""
    _, _, _, lower, upper, x_lower, x_upper = member
    lo, hi = np.concatenate([lower, x_lower]), np.concatenate([upper, x_upper])
    equal = np.isfinite(lo) & (hi - lo <= 1e-12)
    return equal.tobytes(), (np.isfinite(hi) & ~equal).tobytes(), (np.isfinite(lo) & ~equal).tobytes()


@lru_cache(maxsize=64)
def _cvxpy_program(n: int, pattern: tuple[bytes, bytes, bytes]) -> tuple[Any, Any, list[Any], list[Any]]:
    """The disciplined parametrised program of one pattern: (program, x, parameters, (kind, sign, constraint) each)."""
    import cvxpy

    x, root, q = cvxpy.Variable(n), cvxpy.Parameter((n, n)), cvxpy.Parameter(n)
    parameters, sides = [root, q], []
    for kind, flags in enumerate(pattern):
        rows = sum(flags)
        if rows:
            matrix, limit = cvxpy.Parameter((rows, n)), cvxpy.Parameter(rows)
            parameters += [matrix, limit]
            value = matrix @ x
            constraint = (value == limit, value <= limit, value >= limit)[kind]
            sides.append((kind, -1.0 if kind == 2 else 1.0, constraint))
    cost = 0.5 * cvxpy.sum_squares(root @ x) + q @ x
    return cvxpy.Problem(cvxpy.Minimize(cost), [c for _, _, c in sides]), x, parameters, sides


def _cvxpy_values(member: tuple[Tensor, ...], pattern: tuple[bytes, bytes, bytes]) -> list[Tensor]:
    """Values of the parameters, differentiable."""
    P, q, A, lower, upper, x_lower, x_upper = member
    rows = torch.cat([A, torch.eye(len(q), dtype=A.dtype)])
    lo, hi = torch.cat([lower, x_lower]), torch.cat([upper, x_upper])
    values = [torch.linalg.cholesky(P).mT, q]
    for kind, flags in enumerate(pattern):
        at = torch.tensor(list(flags), dtype=torch.bool)
        if bool(at.any()):
            values += [rows[at], (lo if kind == 2 else hi)[at]]
    return values


BACKENDS: dict[str, Backend] = {"daqp": daqp_backend, "clarabel": clarabel_backend}
REFERENCES: dict[str, Backend] = {**BACKENDS, "cvxpylayers": cvxpylayers_backend}
"""For stage programs, through `planner.qp.reference_kernel`; the last one needs the extra `reference`."""


def cvxpylayers_solution(problem: QuadraticProgram, **solver_args: Any) -> Tensor:
    """x ``[B, n]``, solved and differentiated by cvxpylayers (diffcp over Clarabel); needs the extra `reference`.

    solver_args: passed on; by default dense differentiation and Clarabel at 1e-10. Raises what it raises when a member
    has no solution.
    """
    from cvxpylayers.torch import CvxpyLayer

    arguments = {"solve_method": "Clarabel", "mode": "dense", "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10}
    arguments |= {"tol_feas": 1e-10, **solver_args}
    members = []
    for i in range(problem.size[0]):
        member = tuple(t[i] for t in problem.tensors())
        pattern = _pattern(tuple(t.detach().numpy() for t in member))
        program, x, parameters, _ = _cvxpy_program(len(member[1]), pattern)
        layer = CvxpyLayer(program, parameters=parameters, variables=[x])
        members.append(layer(*_cvxpy_values(member, pattern), solver_args=arguments)[0])
    return torch.stack(members)

"""Random stage-structured programs: chains and trees, feasible ones with a known inner point, and empty ones."""

from __future__ import annotations

import numpy as np
import torch

from planner.qp.problem import StageProgram

TREES: dict[str, tuple[int, ...]] = {
    "chain": tuple(range(-1, 11)),
    "branch": (-1, 0, 1, 2, 3, 4, 2, 6, 7, 8),
    "many children": (-1, 0, 0, 0, 1, 1, 2, 3, 6, 7),
    "two roots": (-1, -1, 0, 1, 2, 3, 4),
    "one stage": (-1,),
}


def random_program(
    rng: np.random.Generator,
    parent: tuple[int, ...] = TREES["chain"],
    nx: int = 3,
    nu: int = 1,
    m: int = 2,
    soft: float = 0.2,
    equations: float = 0.0,
    room: float = 1.0,
) -> StageProgram:
    """One member (batch of 1), admissible by construction: a known motion keeps 0 to `room` away from every limit.

    A quarter of the states' bounds and rows is one-sided, a quarter of the states' bounds absent; of the rows `soft`
    have a compliance in (0, 1) and `equations` have equal bounds. Dynamics have a spectral radius near 1; the state
    cost is singular, the input cost definite; inputs are bounded on both sides.
    """
    n, nz = len(parent), nx + nu
    A = np.eye(nx) + 0.25 * rng.normal(size=(n, nx, nx))
    A /= np.maximum(1.0, np.abs(np.linalg.eigvals(A)).max(1))[:, None, None]
    B, c, x0 = rng.normal(size=(n, nx, nu)), 0.1 * rng.normal(size=(n, nx)), rng.normal(size=nx)
    root = rng.normal(size=(n, nz, nz - 1))
    H = root @ root.transpose(0, 2, 1) / nz
    H[:, nx:, nx:] += 0.1 * np.eye(nu)
    u = rng.normal(size=(n, nu))
    x = np.zeros((n, nx))
    for t, p in enumerate(parent):
        x[t] = A[t] @ (x0 if p < 0 else x[p]) + B[t] @ u[t] + c[t]
    z, C = np.concatenate([x, u], 1), rng.normal(size=(n, m, nz))
    value = np.einsum("tij,tj->ti", C, z)
    z_lower, z_upper = z - rng.uniform(0, room, z.shape), z + rng.uniform(0, room, z.shape)
    lower, upper = value - rng.uniform(0, room, value.shape), value + rng.uniform(0, room, value.shape)
    free = rng.random((n, nx))
    z_lower[:, :nx][free < 0.375], z_upper[:, :nx][(free < 0.25) | (free > 0.875)] = -np.inf, np.inf
    side = rng.random((n, m))
    lower[side < 0.25], upper[side > 0.75] = -np.inf, np.inf
    equal = rng.random((n, m)) < equations
    lower[equal] = upper[equal] = value[equal]
    compliance = np.where((rng.random((n, m)) < soft) & ~equal, rng.uniform(0.01, 1, (n, m)), 0.0)
    data = (x0, A, B, c, H, 2 * rng.normal(size=(n, nz)), z_lower, z_upper, C, lower, upper, compliance)
    return StageProgram(parent, *(torch.from_numpy(np.asarray(d))[None] for d in data))


def batch_of(programs: list[StageProgram]) -> StageProgram:
    """One batch of programs over the same tree."""
    return programs[0].with_tensors([torch.cat(parts) for parts in zip(*(p.tensors() for p in programs))])

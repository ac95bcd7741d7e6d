"""Random stage-structured programs: chains and trees, feasible ones with a known inner point, and empty ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from planner.qp.problem import StageProgram
from planner.qp.solver import native_kernel

KERNELS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(native_kernel() is None, reason="no compiled kernel here")),
]
"""Parameters of a test that holds for both kernels."""

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


def emptied(rng: np.random.Generator, program: StageProgram, gap: float, limits: int = 3) -> StageProgram:
    """The same program with some of its limits moved so that no admissible input meets them all.

    Weights w of one sign per limit give  sum of w x (violation) >= gap x sum of w  for all inputs within their bounds,
    and some input comes that close. With one limit: a state or row out of reach by `gap`.
    """
    p = program.with_tensors([t.clone() for t in program.tensors()])
    _, n, nx, nu, m = p.size
    nz = nx + nu
    p.compliance.zero_()
    places = [(t, i) for t in range(n) for i in [*range(nx), *range(nz, nz + m)]]
    chosen = [places[i] for i in rng.choice(len(places), min(limits, len(places)), replace=False)]
    weight = torch.zeros(n, nz + m, dtype=torch.float64)
    for t, i in chosen:
        weight[t, i] = rng.uniform(0.2, 1) * rng.choice([-1.0, 1.0])
    slope = weight[:, :nz] + (p.C[0].mT @ weight[:, nz:, None])[..., 0]
    total = slope[:, :nx].clone()
    for t in range(n - 1, -1, -1):
        if p.parent[t] >= 0:
            total[p.parent[t]] += p.A[0, t].mT @ total[t]
    push = slope[:, nx:] + (p.B[0].mT @ total[..., None])[..., 0]
    u = torch.where(push > 0, p.z_lower[0, :, nx:], p.z_upper[0, :, nx:])
    x: list[torch.Tensor] = []
    for t, parent in enumerate(p.parent):
        before = p.x0[0] if parent < 0 else x[parent]
        x.append(p.A[0, t] @ before + p.B[0, t] @ u[t] + p.c[0, t])
    z = torch.cat([torch.stack(x), u], 1)
    value = torch.cat([z, (p.C[0] @ z[..., None])[..., 0]], 1)
    for t, i in chosen:
        lower, upper, at = (p.z_lower, p.z_upper, i) if i < nz else (p.lower, p.upper, i - nz)
        if weight[t, i] > 0:
            upper[0, t, at] = value[t, i] - gap
            lower[0, t, at] = torch.minimum(lower[0, t, at], upper[0, t, at] - rng.uniform(0.1, 1))
        else:
            lower[0, t, at] = value[t, i] + gap
            upper[0, t, at] = torch.maximum(upper[0, t, at], lower[0, t, at] + rng.uniform(0.1, 1))
    return p

"""Random stage programs over trees, and their solution by a solver that shares no code with ours."""

from __future__ import annotations

import torch
from torch import Tensor

from planner.qp.backends import clarabel_backend
from planner.qp.problem import StageProgram

INF = float("inf")


def random_program(
    seed: int, batch: int = 3, stages: int = 8, nx: int = 3, nu: int = 1, rows: int = 3, equations: bool = True
) -> StageProgram:
    """A random tree with soft rows, infinite sides and equations; wide enough to be feasible nearly always."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    nz = nx + nu
    parent = tuple(-1 if t == 0 or uniform(1) < 0.05 else int(uniform(1) ** 0.3 * t) for t in range(stages))
    H = normal(batch, stages, nz, nz) * (uniform(batch, 1, nz, 1) < 0.7)
    H = 0.3 * H.mT @ H
    H[..., range(nx, nz), range(nx, nz)] += 0.1 + uniform(batch, stages, nu)
    z_lower, z_upper = -1.5 - 3 * uniform(batch, stages, nz), 1.5 + 3 * uniform(batch, stages, nz)
    z_lower[uniform(batch, stages, nz) < 0.4] = -INF
    z_upper[uniform(batch, stages, nz) < 0.4] = INF
    lower, upper = -0.6 - 3 * uniform(batch, stages, rows), 0.6 + 3 * uniform(batch, stages, rows)
    lower[uniform(batch, stages, rows) < 0.5] = -INF
    upper[uniform(batch, stages, rows) < 0.5] = INF
    soft = uniform(batch, stages, rows) < 0.5
    if equations:
        met = (uniform(batch, stages, rows) < 0.1) & soft
        lower[met] = upper[met] = 0.3
        fixed = uniform(batch, stages, nz) < 0.04
        fixed[..., :nx] = False
        z_lower[fixed] = z_upper[fixed] = 0.2
    return StageProgram(
        parent, 0.5 * normal(batch, nx), torch.eye(nx, dtype=torch.float64) + 0.3 * normal(batch, stages, nx, nx),
        normal(batch, stages, nx, nu), 0.1 * normal(batch, stages, nx), H, 3 * normal(batch, stages, nz),
        z_lower, z_upper, normal(batch, stages, rows, nz) * (uniform(batch, stages, rows, nz) < 0.6), lower, upper,
        torch.where(soft, 10 ** (3 * uniform(batch, stages, rows) - 2), 0.0),
    ).validate()  # fmt: skip


def member(p: StageProgram, b: int) -> StageProgram:
    return p.with_tensors([t[b : b + 1] for t in p.tensors()])


def by_clarabel(p: StageProgram, b: int) -> Tensor | None:
    """``[N, nz]``: the program in its inputs and one excess per side of a soft row, solved as one dense program."""
    _, n, nx, nu, _ = p.size
    map_z, at_zero = torch.zeros(n, nx + nu, n * nu, dtype=torch.float64), torch.zeros(n, nx + nu, dtype=torch.float64)
    for t, past in enumerate(p.parent):
        before = map_z[past, :nx] if past >= 0 else torch.zeros(nx, n * nu, dtype=torch.float64)
        map_z[t, :nx] = p.A[b, t] @ before
        map_z[t, :nx, t * nu : (t + 1) * nu] += p.B[b, t]
        map_z[t, nx:, t * nu : (t + 1) * nu] = torch.eye(nu, dtype=torch.float64)
        at_zero[t, :nx] = p.A[b, t] @ (at_zero[past, :nx] if past >= 0 else p.x0[b]) + p.c[b, t]
    H = (map_z.mT @ p.H[b] @ map_z).sum(0)
    g = torch.einsum("tij,ti->j", map_z, (p.H[b] @ at_zero[..., None])[..., 0] + p.g[b])
    matrix = torch.cat([map_z, p.C[b] @ map_z], 1).flatten(0, 1)
    offset = torch.cat([at_zero, (p.C[b] @ at_zero[..., None])[..., 0]], 1).flatten()
    lower, upper, compliance = (limit[b].flatten() for limit in p.limits())
    keep = torch.isfinite(lower) | torch.isfinite(upper)
    matrix, lower, upper, compliance = matrix[keep], (lower - offset)[keep], (upper - offset)[keep], compliance[keep]
    soft = torch.eye(len(lower), dtype=torch.float64)[:, compliance > 0]
    price = torch.diag(1 / compliance[compliance > 0])
    zero, free = torch.zeros(2 * soft.shape[1], dtype=torch.float64), torch.full((n * nu,), INF, dtype=torch.float64)
    data = (
        torch.block_diag(H, price, price), torch.cat([g, zero]), torch.cat([matrix, -soft, soft], 1), lower, upper,
        torch.cat([-free, zero]), torch.cat([free, zero + INF]),
    )  # fmt: skip
    outcome, x, _, _ = clarabel_backend(*(d.numpy() for d in data))
    return map_z @ torch.from_numpy(x[: n * nu]) + at_zero if outcome == "solved" else None

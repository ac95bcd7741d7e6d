"""Arithmetic on one batched stage program in torch: roll-out, adjoint recursion and Riccati factorisation over a tree.

Stages are sorted by depth and a whole depth is one batched operation, so the number of operations grows with the depth
of the tree, not with its stages. Axes: [stage, member, ...], with a leading 2 for the sides of a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from planner.qp.problem import StageProgram

EQUAL = 1e-12
"""Bounds closer than this are an equation."""
DELTA = 1e-9
"""Ratio slack / multiplier of an equation, in units of the limit's scale squared over the cost's."""
TINY = 1e-300
"""Keeps quotients of what may be zero finite."""


@dataclass(frozen=True)
class Tree:
    """Stages sorted by depth. order: sorted -> original; levels: ranges of one depth; parent: sorted position in the
    level above of each stage's parent, or None where the level maps one to one."""

    order: Tensor
    back: Tensor
    levels: tuple[tuple[int, int], ...]
    parent: tuple[Tensor | None, ...]


@lru_cache(maxsize=64)
def sorted_tree(parent: tuple[int, ...], device: torch.device) -> Tree:
    depth: list[int] = []
    for p in parent:
        depth.append(0 if p < 0 else depth[p] + 1)
    order = sorted(range(len(parent)), key=lambda t: depth[t])
    # Within a level the children stand in the order of their parents, so that chains side by side map one to one.
    place = {t: i for i, t in enumerate(order)}
    levels: list[tuple[int, int]] = []
    parents: list[Tensor | None] = []
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and depth[order[stop]] == depth[order[start]]:
            stop += 1
        if levels:
            before = levels[-1]
            order[start:stop] = sorted(order[start:stop], key=lambda t: place[parent[t]])
            place.update({t: i for i, t in enumerate(order)})
            local = [place[parent[t]] - before[0] for t in order[start:stop]]
            identity = local == list(range(before[1] - before[0]))
            parents.append(None if identity else torch.tensor(local, device=device))
        else:
            parents.append(None)
        levels.append((start, stop))
        start = stop
    forward = torch.tensor(order, device=device)
    return Tree(forward, torch.argsort(forward), tuple(levels), tuple(parents))


class Workspace:
    """One problem in the kernel's own order and scales. Stage-major: every tensor is [N, B, ...] or [2, N, B, L]."""

    def __init__(self, problem: StageProgram, bound_compliance: Tensor | None = None) -> None:
        _, self.n, self.nx, self.nu, self.m = problem.size
        self.nz = self.nx + self.nu
        self.tree = sorted_tree(problem.parent, problem.B.device)
        at = self.tree.order
        take = lambda t: t.detach().double().transpose(0, 1)[at].contiguous()  # noqa: E731
        self.x0 = problem.x0.detach().double()
        self.batch = len(self.x0)
        self.A, self.B, self.c = take(problem.A), take(problem.B), take(problem.c)
        self.H, self.g, self.C = take(problem.H), take(problem.g), take(problem.C)
        self.H = 0.5 * (self.H + self.H.mT)
        lower, upper, compliance = problem.limits()
        if bound_compliance is not None:
            compliance = torch.cat([bound_compliance.expand_as(problem.g), problem.compliance], -1)
        lower, upper, self.r = take(lower), take(upper), take(compliance)
        self.crossed = ((lower > upper) & (self.r == 0)).flatten(2).any(2).any(0)
        self.equal = (upper - lower <= EQUAL) & (upper >= lower)
        limit = torch.stack([upper, -lower])
        self.side = torch.isfinite(limit) & ~self.equal & ((lower <= upper) | (self.r > 0))
        self.limit = torch.where(self.side, limit, 0.0)
        self.level = torch.where(self.equal, 0.5 * (lower + upper), 0.0)
        self.mask = self.side.double()
        # Filled on the device: a copy from the host would break the capture of a CUDA graph.
        self.sign = torch.ones(2, 1, 1, 1, dtype=torch.float64, device=lower.device)
        self.sign[1].neg_()
        self.count = self.mask.sum((0, 1, 3)).clamp(min=1.0)
        # Scales: of a limit, the largest coefficient of its row; of the cost, its largest gradient or curvature.
        rows = self.C.abs().amax(-1)
        self.scale = torch.cat([torch.ones_like(self.g), torch.where(rows > 0, rows, 1.0)], -1)
        curvature = torch.diagonal(self.H, dim1=-2, dim2=-1).amax((0, 2))
        soft = torch.where((self.r > 0) & (self.side.any(0) | self.equal), self.scale**2 / self.r.clamp(min=TINY), 0.0)
        self.price = torch.maximum(
            torch.maximum(curvature, self.g.abs().amax((0, 2))), soft.amax((0, 2)).clamp(max=1.0)
        ).clamp(min=1e-12)
        self.delta = DELTA * self.scale**2 / self.price[:, None]
        self.reach = self._transition()

    def _transition(self) -> Tensor:
        """F of (x, 1, u)_t = F (x_p, 1, u_t) for steps (no constant): ``[N, B, nx + 1 + nu, nx + 1 + nu]``."""
        nx, k = self.nx, self.nz + 1
        f = torch.zeros(self.n, self.batch, k, k, dtype=torch.float64, device=self.A.device)
        f[..., :nx, :nx], f[..., :nx, nx + 1 :] = self.A, self.B
        f[..., nx:, nx:] = torch.eye(1 + self.nu, dtype=torch.float64, device=self.A.device)
        return f

    def values(self, z: Tensor) -> Tensor:
        """z and C z, ``[N, B, L]``."""
        return torch.cat([z, (self.C @ z[..., None])[..., 0]], -1)

    def push(self, y: Tensor) -> Tensor:
        """The limits' multipliers as a gradient in z, ``[N, B, nz]``."""
        return y[..., : self.nz] + (self.C.mT @ y[..., self.nz :, None])[..., 0]

    def rollout(self, u: Tensor) -> Tensor:
        """z ``[N, B, nz]`` of the inputs."""
        drive = (self.B @ u[..., None])[..., 0] + self.c
        x = torch.empty_like(self.c)
        past = self.x0.expand(self.tree.levels[0][1], -1, -1)
        for (a, b), parent in zip(self.tree.levels, self.tree.parent):
            past = past if parent is None else past[parent]
            x[a:b] = (self.A[a:b] @ past[..., None])[..., 0] + drive[a:b]
            past = x[a:b]
        return torch.cat([x, u], -1)

    def costate(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Adjoint recursion: costate ``[N, B, nx]`` and what is left of the gradient in the inputs ``[N, B, nu]``."""
        total = gradient[..., : self.nx].clone()
        transposed = self.A.mT
        for d in range(len(self.tree.levels) - 1, 0, -1):
            a, b = self.tree.levels[d]
            self._carry(total, (transposed[a:b] @ total[a:b, :, :, None])[..., 0], d)
        return total, gradient[..., self.nx :] + (self.B.mT @ total[..., None])[..., 0]

    def _carry(self, target: Tensor, value: Tensor, depth: int) -> None:
        """Add what the stages of one depth pass on to their parents."""
        above = slice(*self.tree.levels[depth - 1])
        parent = self.tree.parent[depth]
        if parent is None:
            target[above] += value
        else:
            target[above].index_add_(0, parent, value)

    def factor(self, weight: Tensor, gradient: Tensor) -> Factor:
        """Riccati recursion for the weights ``[N, B, L]`` together with one right-hand side ``[N, B, nz]``."""
        nx, nz = self.nx, self.nz
        c = self.C
        q = self.H + (c.mT * weight[..., None, nz:]) @ c if self.m else self.H.clone()
        q.diagonal(dim1=-2, dim2=-1).add_(weight[..., :nz])
        # (x, 1, u): the linear term rides along as the coefficient of the constant.
        whole = torch.zeros_like(self.reach)
        x, one, u = slice(0, nx), nx, slice(nx + 1, None)
        whole[..., x, x], whole[..., x, u], whole[..., u, x] = q[..., :nx, :nx], q[..., :nx, nx:], q[..., nx:, :nx]
        whole[..., u, u] = q[..., nx:, nx:]
        whole[..., x, one], whole[..., u, one] = gradient[..., :nx], gradient[..., nx:]
        whole[..., one, x], whole[..., one, u] = gradient[..., :nx], gradient[..., nx:]
        root = self.A.new_empty(self.n, self.batch, self.nu, self.nu)
        gain = self.A.new_empty(self.n, self.batch, self.nu, nx + 1)
        state = whole[..., : nx + 1, : nx + 1]
        for d in range(len(self.tree.levels) - 1, -1, -1):
            a, b = self.tree.levels[d]
            f = self.reach[a:b]
            g = f.mT @ (whole[a:b] @ f)
            inverse = _inverse_root(g[..., u, u])
            y = inverse @ g[..., u, : nx + 1]
            root[a:b], gain[a:b] = inverse, inverse.mT @ y
            if d:
                self._carry(state, g[..., : nx + 1, : nx + 1] - y.mT @ y, d)
        gain.neg_()
        return Factor(self, root, gain[..., :nx], gain[..., nx])


class Factor:
    """Feedback u = gain dx_p + offset of one factorisation, and solves for further right-hand sides."""

    def __init__(self, work: Workspace, root: Tensor, gain: Tensor, offset: Tensor) -> None:
        self.work, self.root, self.gain, self.offset = work, root, gain, offset
        self.closed = work.A + work.B @ gain
        self.passed = torch.cat([self.closed, gain], -2).mT.contiguous()

    def step(self, offset: Tensor | None = None) -> Tensor:
        """dz ``[N, B, nz]`` of a feed-forward, by default that of the first right-hand side."""
        w = self.work
        offset = self.offset if offset is None else offset
        drive = (w.B @ offset[..., None])[..., 0]
        dx, past = torch.empty_like(w.c), torch.zeros_like(w.c)
        for d, (a, b) in enumerate(w.tree.levels):
            if d == 0:
                dx[a:b] = drive[a:b]
                continue
            before, parent = dx[slice(*w.tree.levels[d - 1])], w.tree.parent[d]
            past[a:b] = before if parent is None else before[parent]
            dx[a:b] = (self.closed[a:b] @ past[a:b, :, :, None])[..., 0] + drive[a:b]
        return torch.cat([dx, (self.gain @ past[..., None])[..., 0] + offset], -1)

    def solve(self, gradient: Tensor) -> Tensor:
        """dz ``[N, B, nz]`` that minimises the same quadratic with another gradient ``[N, B, nz]``."""
        w, nx = self.work, self.work.nx
        total = gradient.clone()
        state = total[..., :nx]
        for d in range(len(w.tree.levels) - 1, 0, -1):
            a, b = w.tree.levels[d]
            w._carry(state, (self.passed[a:b] @ total[a:b, :, :, None])[..., 0], d)
        h = total[..., nx:, None] + w.B.mT @ state[..., None]
        return self.step(-(self.root.mT @ (self.root @ h))[..., 0])


def _inverse_root(m: Tensor) -> Tensor:
    """Inverse of the lower Cholesky factor of small matrices; NaN where one is not positive definite."""
    if m.shape[-1] == 1:
        return m.rsqrt()
    if m.shape[-1] == 2:
        a = m[..., 0, 0].rsqrt()
        ratio = m[..., 1, 0] * a * a
        b = (m[..., 1, 1] - ratio * m[..., 1, 0]).rsqrt()
        return torch.stack([a, torch.zeros_like(a), -ratio * b, b], -1).unflatten(-1, (2, 2))
    factor, info = torch.linalg.cholesky_ex(m)
    eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device).expand_as(m)
    inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
    return torch.where((info == 0)[..., None, None], inverse, torch.nan)


def finite_members(tensors: tuple[Tensor, ...]) -> Tensor:
    """``[B]``: members without NaN or infinity; the member axis is the last but one."""
    return torch.stack([t.isfinite().movedim(-2, 0).flatten(1).all(1) for t in tensors]).all(0)

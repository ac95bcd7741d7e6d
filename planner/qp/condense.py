"""A stage program as a dense one in its inputs alone: what the reference solvers understand.

States are eliminated by roll-out, z = Z u + z_0; a soft side of a row becomes a variable excess >= 0 with
cost excess^2 / (2 compliance). Grows with the square of the horizon: an oracle, not a method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planner.qp.dense import QuadraticProgram
from planner.qp.problem import StageProgram


@dataclass
class Condensed:
    """The dense program and the way back.

    program: variables (inputs by stage, then excesses); rows: states' bounds and hard rows by stage, then soft sides.
    motion ``[B, N, nz, N * nu]``, rest ``[B, N, nz]``: z = motion @ inputs + rest. constant ``[B]``: cost left out.
    row_limit ``[rows]``: flat index (stage * L + limit) of each row; row_side: 0 two-sided, +1 upper soft, -1 lower.
    """

    program: QuadraticProgram
    motion: Tensor
    rest: Tensor
    constant: Tensor
    row_limit: Tensor
    row_side: Tensor

    def trajectory(self, x: Tensor) -> Tensor:
        """z ``[B, N, nz]`` of the dense program's variables ``[B, n]``."""
        inputs = x[:, : self.motion.shape[-1]]
        return (self.motion @ inputs[:, None, :, None])[..., 0] + self.rest


def condense(problem: StageProgram) -> Condensed:
    """Differentiable in all data. A side that is soft in any member is soft in all (its rows are added for all).

    A member whose row is hard where another's is soft keeps the excess at zero by its bounds.
    """
    p = problem.with_tensors([t.double() for t in problem.tensors()])
    batch, n, nx, nu, _ = p.size
    motion, rest = _roll_out(p)
    flat, offset = motion.flatten(1, 2), rest.flatten(1)
    H = torch.stack([torch.block_diag(*h) for h in 0.5 * (p.H + p.H.mT)])
    P = flat.mT @ H @ flat
    slope = (H @ offset[..., None])[..., 0] + p.g.flatten(1)
    q = (flat.mT @ slope[..., None])[..., 0]
    constant = (offset * (0.5 * (H @ offset[..., None])[..., 0] + p.g.flatten(1))).sum(1)

    lower, upper, compliance = p.limits()
    jacobian = torch.cat([motion, p.C @ motion], 2).flatten(1, 2)
    value = p.limit_values(rest).flatten(1)
    lower, upper, compliance = (t.flatten(1) for t in (lower, upper, compliance))
    inputs = torch.zeros(lower.shape[1], dtype=torch.bool).unflatten(0, (n, -1))
    inputs[:, nx : nx + nu] = True
    inputs = inputs.flatten()
    soft = (compliance > 0).any(0)
    finite = (torch.isfinite(lower) | torch.isfinite(upper)).any(0)
    hard = (~soft & ~inputs & finite).nonzero()[:, 0]
    above = (soft & torch.isfinite(upper).any(0)).nonzero()[:, 0]
    below = (soft & torch.isfinite(lower).any(0)).nonzero()[:, 0]
    infinite = torch.full((batch, 1), torch.inf, dtype=torch.float64)

    eased = torch.cat([above, below])
    k, e = n * nu, len(eased)
    sign = torch.cat([-torch.ones(len(above)), torch.ones(len(below))]).double()
    A = torch.cat([jacobian[:, hard], jacobian[:, eased]], 1)
    excess = torch.cat([torch.zeros(len(hard), e, dtype=torch.float64), torch.diag(sign)])
    A = torch.cat([A, excess.expand(batch, -1, -1)], 2)
    row_lower = torch.cat([lower[:, hard], -infinite.expand(-1, len(above)), lower[:, below]], 1)
    row_upper = torch.cat([upper[:, hard], upper[:, above], infinite.expand(-1, len(below))], 1)
    index = torch.cat([hard, eased])
    r = compliance[:, eased]
    price = torch.where(r > 0, 1 / r.clamp(min=1e-300), 1.0)
    P = torch.stack([torch.block_diag(a, torch.diag(b)) for a, b in zip(P, price)])
    u_lower, u_upper = lower[:, inputs], upper[:, inputs]
    program = QuadraticProgram(
        P, torch.cat([q, torch.zeros(batch, e, dtype=torch.float64)], 1), A,
        row_lower - value[:, index], row_upper - value[:, index],
        torch.cat([u_lower, torch.zeros(batch, e, dtype=torch.float64)], 1),
        torch.cat([u_upper, torch.where(r > 0, torch.inf, 0.0)], 1),
    )  # fmt: skip
    assert program.q.shape[1] == k + e
    return Condensed(program, motion, rest, constant, index, torch.cat([torch.zeros(len(hard)), -sign]).long())


def _roll_out(p: StageProgram) -> tuple[Tensor, Tensor]:
    """z = motion @ inputs + rest; motion ``[B, N, nz, N * nu]``, rest ``[B, N, nz]``."""
    batch, n, _, nu, _ = p.size
    states: list[tuple[Tensor, Tensor]] = []
    selectors = torch.eye(n * nu, dtype=torch.float64).unflatten(0, (n, nu))
    for t, parent in enumerate(p.parent):
        own = p.B[:, t] @ selectors[t]
        if parent < 0:
            states.append((own, (p.A[:, t] @ p.x0[..., None])[..., 0] + p.c[:, t]))
        else:
            before, offset = states[parent]
            states.append((p.A[:, t] @ before + own, (p.A[:, t] @ offset[..., None])[..., 0] + p.c[:, t]))
    motion = torch.stack([torch.cat([m, s.expand(batch, -1, -1)], 1) for (m, _), s in zip(states, selectors)], 1)
    zero = torch.zeros(batch, nu, dtype=torch.float64)
    return motion, torch.stack([torch.cat([r, zero], 1) for _, r in states], 1)

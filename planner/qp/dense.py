"""A batch of convex quadratic programs, as matrices only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class QuadraticProgram:
    """B programs of one shape:  min 1/2 x'Px + q'x   s.t.  lower <= Ax <= upper,  x_lower <= x <= x_upper.

    P symmetric positive definite. Bounds may be infinite; a row with equal bounds is an equation.
    Bounds on single variables are kept apart from the rows because solvers treat them cheaply.
    """

    P: Float[Tensor, "B n n"]
    q: Float[Tensor, "B n"]
    A: Float[Tensor, "B m n"]
    lower: Float[Tensor, "B m"]
    upper: Float[Tensor, "B m"]
    x_lower: Float[Tensor, "B n"]
    x_upper: Float[Tensor, "B n"]

    @property
    def size(self) -> tuple[int, int, int]:
        """(batch, variables, rows)."""
        return self.A.shape[0], self.A.shape[2], self.A.shape[1]

    def tensors(self) -> tuple[Tensor, ...]:
        return self.P, self.q, self.A, self.lower, self.upper, self.x_lower, self.x_upper

    def validate(self) -> QuadraticProgram:
        """Check shapes, NaN and bounds that no number meets. Raises ValueError naming the datum.

        Bounds that cross each other are no error: such a member is INFEASIBLE.
        """
        b, n, m = self.size
        expected = {"P": (b, n, n), "q": (b, n), "lower": (b, m), "upper": (b, m), "x_lower": (b, n), "x_upper": (b, n)}
        for name, shape in expected.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape:
                raise ValueError(f"QuadraticProgram.{name}: expected shape {shape}, got {tuple(value.shape)}")
            if bool(torch.isnan(value).any()):
                raise ValueError(f"QuadraticProgram.{name}: has NaN")
        for name, never in (
            ("lower", torch.inf),
            ("upper", -torch.inf),
            ("x_lower", torch.inf),
            ("x_upper", -torch.inf),
        ):
            if bool((getattr(self, name) == never).any()):
                raise ValueError(f"QuadraticProgram.{name}: no number meets a bound of {never}")
        if not bool(torch.isfinite(self.A).all()):
            raise ValueError("QuadraticProgram.A: has NaN or infinite entries")
        return self


class SolveStatus(IntEnum):
    """How a member of the batch ended. Only SOLVED carries a usable x."""

    SOLVED = 0
    INFEASIBLE = 1  # confirmed: the smallest uniform relaxation of the rows is positive
    ITERATION_LIMIT = 2
    NUMERICAL = 3  # no answer, or one that did not survive the recomputation


@dataclass
class QPSolution:
    """Solutions and multipliers of a batch.

    x ``[B, n]``; zero where not SOLVED. y ``[B, m]``: multiplier of each row, positive at the upper bound,
    negative at the lower one; z ``[B, n]`` likewise for the variable bounds. At the solution
    Px + q + A'y + z = 0.
    primal_residual, dual_residual, gap ``[B]``: recomputed in float64 from the raw data (see `certify`).
    relaxation ``[B]``: for INFEASIBLE, the smallest uniform relaxation of all rows; blocking ``[B, m]``: the
    normalised multipliers of that relaxation, large where a row causes the emptiness; else zero.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    status: list[SolveStatus]
    primal_residual: Tensor
    dual_residual: Tensor
    gap: Tensor
    relaxation: Tensor
    blocking: Tensor
    solve_time: float = 0.0


def certify(problem: QuadraticProgram, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals of a claimed solution, from the raw data alone, in float64.

    Returns primal ``[B]`` (largest violation of a row or bound, in the row's unit), dual ``[B]`` (largest entry of
    the stationarity residual over 1 + the largest entry of its terms, wrong multiplier signs included) and gap ``[B]``
    (largest multiplier x distance to its bound, over 1 + |cost|).
    """
    p, q, a, lo, hi, xlo, xhi = (t.detach().double() for t in problem.tensors())
    x, y, z = x.detach().double(), y.detach().double(), z.detach().double()
    ax = (a @ x[..., None])[..., 0]
    px = (p @ x[..., None])[..., 0]
    aty = (a.transpose(1, 2) @ y[..., None])[..., 0]
    zero = torch.zeros_like(x[:, :1])
    primal = torch.cat([lo - ax, ax - hi, xlo - x, x - xhi, zero], 1).amax(1).clamp(min=0)
    scale = 1 + torch.stack([px.abs().amax(1), q.abs().amax(1), aty.abs().amax(1)]).amax(0)
    stationarity = (px + q + aty + z).abs().amax(1)
    # A multiplier that pushes against an infinite bound has the wrong sign.
    wrong = torch.cat([_wrong_sign(y, lo, hi), _wrong_sign(z, xlo, xhi), zero], 1).amax(1)
    slack = torch.cat([_complementarity(y, ax, lo, hi), _complementarity(z, x, xlo, xhi), zero], 1).amax(1)
    cost = (0.5 * (x * px).sum(1) + (q * x).sum(1)).abs()
    return primal, (stationarity + wrong) / scale, slack / (1 + cost)


def _wrong_sign(y: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    positive, negative = y.clamp(min=0), (-y).clamp(min=0)
    return torch.where(torch.isinf(hi), positive, 0 * y) + torch.where(torch.isinf(lo), negative, 0 * y)


def _complementarity(y: Tensor, value: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    upper = torch.where(torch.isinf(hi), 0 * y, y.clamp(min=0) * (hi - value).abs())
    lower = torch.where(torch.isinf(lo), 0 * y, (-y).clamp(min=0) * (value - lo).abs())
    return torch.maximum(torch.nan_to_num(upper), torch.nan_to_num(lower))

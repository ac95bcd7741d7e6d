"""A batch of convex quadratic programs with stage structure over a tree, as matrices only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class StageProgram:
    """B programs of one shape over a tree of N stages.

    Stage t has a state x (nx entries), the input u (nu entries) that led to it, and z = (x, u) with nz = nx + nu:

        min   sum_t  1/2 z_t' H_t z_t + g_t' z_t  +  sum over soft rows of  excess^2 / (2 compliance)
        s.t.  x_t = A_t x_p + B_t u_t + c_t,  p = parent[t],  x_p = x0 where parent[t] = -1
              z_lower_t <= z_t <= z_upper_t,
              lower_t <= C_t z_t <= upper_t        (hard where compliance = 0, else violated by `excess` at a price).

    A chain has parent = (-1, 0, 1, ...); several children share their parent's past. parent[t] < t.
    H_t symmetric positive semidefinite with a positive definite input block. Bounds may be infinite; equal bounds make
    an equation. A datum whose batch axis has size 1 or stride 0 (`expand`) is shared and not copied.
    An input that acts from stage t on to t + 1 in the textbook form (x_t, u_t) is the input of stage t + 1 here.
    """

    parent: tuple[int, ...]
    x0: Float[Tensor, "B nx"]
    A: Float[Tensor, "B N nx nx"]
    B: Float[Tensor, "B N nx nu"]
    c: Float[Tensor, "B N nx"]
    H: Float[Tensor, "B N nz nz"]
    g: Float[Tensor, "B N nz"]
    z_lower: Float[Tensor, "B N nz"]
    z_upper: Float[Tensor, "B N nz"]
    C: Float[Tensor, "B N m nz"]
    lower: Float[Tensor, "B N m"]
    upper: Float[Tensor, "B N m"]
    compliance: Float[Tensor, "B N m"]

    @property
    def size(self) -> tuple[int, int, int, int, int]:
        """(batch, stages, states, inputs, rows per stage)."""
        return self.B.shape[0], self.B.shape[1], self.B.shape[2], self.B.shape[3], self.C.shape[2]

    @property
    def parent_index(self) -> Tensor:
        """``[N]``: parents as a tensor, -1 at roots."""
        return torch.tensor(self.parent, dtype=torch.int64, device=self.B.device)

    def tensors(self) -> tuple[Tensor, ...]:
        """All data in the order of the fields, `parent` left out."""
        return (self.x0, self.A, self.B, self.c, self.H, self.g, self.z_lower, self.z_upper, self.C, self.lower,
                self.upper, self.compliance)  # fmt: skip

    def with_tensors(self, tensors: tuple[Tensor, ...] | list[Tensor]) -> StageProgram:
        """The same tree with other data."""
        return StageProgram(self.parent, *tensors)

    def limits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lower, upper and compliance of bounds and rows together, ``[B, N, L]`` with L = nz + m, bounds first."""
        none = torch.zeros_like(self.z_lower)
        return (
            torch.cat([self.z_lower, self.lower], -1),
            torch.cat([self.z_upper, self.upper], -1),
            torch.cat([none, self.compliance], -1),
        )

    def limit_values(self, z: Float[Tensor, "B N nz"]) -> Float[Tensor, "B N L"]:
        """What the limits bound: z itself, then C z."""
        return torch.cat([z, (self.C @ z[..., None])[..., 0]], -1)

    def parent_states(self, z: Float[Tensor, "B N nz"]) -> Float[Tensor, "B N nx"]:
        """The state that each stage starts from."""
        nx = self.x0.shape[-1]
        return torch.cat([z[..., :nx], self.x0[:, None].expand(len(z), -1, -1)], 1)[:, self.parent_index]

    def validate(self) -> StageProgram:
        """Check tree, shapes, NaN and bounds that no number meets. Raises ValueError naming the datum.

        Bounds that cross each other are no error: such a member is INFEASIBLE.
        """
        b, n, nx, nu, m = self.size
        nz = nx + nu
        if len(self.parent) != n or any(not -1 <= p < t for t, p in enumerate(self.parent)):
            raise ValueError(f"StageProgram.parent: expected {n} entries with -1 <= parent[t] < t, got {self.parent}")
        expected = {
            "x0": (b, nx), "A": (b, n, nx, nx), "c": (b, n, nx), "H": (b, n, nz, nz), "g": (b, n, nz),
            "z_lower": (b, n, nz), "z_upper": (b, n, nz), "C": (b, n, m, nz), "lower": (b, n, m), "upper": (b, n, m),
            "compliance": (b, n, m),
        }  # fmt: skip
        for name, shape in expected.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape:
                raise ValueError(f"StageProgram.{name}: expected shape {shape}, got {tuple(value.shape)}")
        for name in ("x0", "A", "B", "c", "H", "g", "C", "compliance"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"StageProgram.{name}: has NaN or infinite entries")
        for name, never in (
            ("z_lower", torch.inf),
            ("z_upper", -torch.inf),
            ("lower", torch.inf),
            ("upper", -torch.inf),
        ):
            value = getattr(self, name)
            if bool(torch.isnan(value).any()):
                raise ValueError(f"StageProgram.{name}: has NaN")
            if bool((value == never).any()):
                raise ValueError(f"StageProgram.{name}: no number meets a bound of {never}")
        if bool((self.compliance < 0).any()):
            raise ValueError("StageProgram.compliance: expected values >= 0")
        return self


class SolveStatus(IntEnum):
    """How a member of the batch ended. Only SOLVED carries a usable z."""

    SOLVED = 0
    INFEASIBLE = 1  # proven: see `StageSolution.proof`
    ITERATION_LIMIT = 2
    NUMERICAL = 3  # no answer, or one that did not survive the recomputation
    OUT_OF_TIME = 4


@dataclass
class StageSolution:
    """Solutions and multipliers of a batch. L = nz + m limits per stage, bounds first (see `StageProgram.limits`).

    z ``[B, N, nz]``; zero where not SOLVED. dual_lower, dual_upper ``[B, N, L]``: multipliers >= 0 of both sides.
    costate ``[B, N, nx]``: multiplier of the stage's dynamics, the cost's derivative with respect to c_t.
    At the solution, with y = dual_upper - dual_lower,
    H z + g + y_bounds + C' y_rows = (costate - sum over children of A' costate, -B' costate).
    status ``[B]``: SolveStatus values. iterations ``[B]``.
    primal_residual, dual_residual, gap ``[B]``: recomputed in float64 from the raw data (`certify`).
    violation ``[B, N, L]``: for INFEASIBLE, by how much the least-squares compromise breaks each limit (m, m/s, ...),
    negative at the lower side; also the multiplier of the proof. Else zero. proof ``[B]``: for INFEASIBLE, a lower
    bound > 0 on the weighted sum of violations that every admissible input leaves (`infeasibility_margin`), else zero.
    solve_time: s for the whole batch.
    """

    z: Tensor
    dual_lower: Tensor
    dual_upper: Tensor
    costate: Tensor
    status: Tensor
    iterations: Tensor
    primal_residual: Tensor
    dual_residual: Tensor
    gap: Tensor
    violation: Tensor
    proof: Tensor
    solve_time: float = 0.0

    @property
    def solved(self) -> Tensor:
        """``[B]`` bool."""
        return self.status == int(SolveStatus.SOLVED)

    @property
    def dual(self) -> Tensor:
        """``[B, N, L]``: signed multipliers, positive at the upper side."""
        return self.dual_upper - self.dual_lower


def certify(
    problem: StageProgram, z: Tensor, dual_lower: Tensor, dual_upper: Tensor, costate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals of a claimed solution, from the raw data alone, in float64.

    Returns primal ``[B]`` (largest violation of dynamics, bound or row, soft rows less their paid excess, in the
    row's unit), dual ``[B]`` (largest entry of the stationarity residual over 1 + the largest entry of its terms,
    negative multipliers and such at infinite bounds included) and gap ``[B]`` (largest multiplier x slack, over
    1 + |cost|).
    """
    p = problem.with_tensors([t.detach().double() for t in problem.tensors()])
    z, dual_lower, dual_upper, costate = (t.detach().double() for t in (z, dual_lower, dual_upper, costate))
    nx, nz = p.x0.shape[-1], z.shape[-1]
    y = dual_upper - dual_lower
    past = p.parent_states(z)
    predicted = (p.A @ past[..., None] + p.B @ z[..., nx:, None])[..., 0] + p.c
    lower, upper, compliance = p.limits()
    value = p.limit_values(z)
    above, below = value - upper - compliance * dual_upper, lower - compliance * dual_lower - value
    primal = torch.cat([(z[..., :nx] - predicted).abs().flatten(1), above.flatten(1), below.flatten(1)], 1)
    primal = primal.amax(1).clamp(min=0)

    hz = (p.H @ z[..., None])[..., 0]
    push = y[..., :nz] + (p.C.transpose(-1, -2) @ y[..., nz:, None])[..., 0]
    gradient = hz + p.g + push
    carried = (p.A.transpose(-1, -2) @ costate[..., None])[..., 0]
    from_children = torch.zeros(*z.shape[:2], nx, dtype=z.dtype, device=z.device)
    from_children = torch.cat([from_children, from_children[:, :1]], 1).index_add(
        1, p.parent_index % (z.shape[1] + 1), carried
    )
    in_state = gradient[..., :nx] + from_children[:, :-1] - costate
    in_input = gradient[..., nx:] + (p.B.transpose(-1, -2) @ costate[..., None])[..., 0]
    scale = 1 + torch.stack([t.abs().flatten(1).amax(1) for t in (hz, p.g.expand_as(hz), push)]).amax(0)
    stationarity = torch.cat([in_state.flatten(1), in_input.flatten(1)], 1).abs().amax(1)
    lost = torch.where(torch.isinf(upper), dual_upper, 0.0) + torch.where(torch.isinf(lower), dual_lower, 0.0)
    wrong = torch.maximum(lost, torch.maximum(-dual_upper, -dual_lower)).flatten(1).amax(1).clamp(min=0)
    paid = torch.maximum(_product(dual_upper, above), _product(dual_lower, below)).flatten(1).amax(1)
    cost = (0.5 * (z * hz) + p.g * z).sum((1, 2)).abs()
    return primal, (stationarity + wrong) / scale, paid / (1 + cost)


def infeasibility_margin(problem: StageProgram, weight_lower: Tensor, weight_upper: Tensor) -> Tensor:
    """``[B]``: what every admissible input leaves of the weighted sum of violations of the hard limits, at least.

    For weights w >= 0 the sum  w_upper'(value - upper) + w_lower'(lower - value)  is affine in the inputs; its minimum
    over the box of the inputs' bounds is computed exactly, from the raw data and in float64. If that is positive the
    program is empty (Farkas). Weights at infinite or soft limits count as zero; the inputs' own bounds carry none.
    -inf where an unbounded input matters.
    """
    p = problem.with_tensors([t.detach().double() for t in problem.tensors()])
    nx, nz = p.x0.shape[-1], p.H.shape[-1]
    lower, upper, compliance = p.limits()
    own = torch.zeros(lower.shape[-1], dtype=torch.bool, device=lower.device)
    own[nx:nz] = True
    use_l = torch.isfinite(lower) & (compliance == 0) & ~own
    use_u = torch.isfinite(upper) & (compliance == 0) & ~own
    wl = torch.where(use_l, weight_lower.detach().double().clamp(min=0), 0.0)
    wu = torch.where(use_u, weight_upper.detach().double().clamp(min=0), 0.0)
    w = wu - wl
    constant = (torch.where(use_l, lower, 0.0) * wl - torch.where(use_u, upper, 0.0) * wu).sum((1, 2))
    slope = w[..., :nz] + (p.C.transpose(-1, -2) @ w[..., nz:, None])[..., 0]
    total = slope[..., :nx].clone()
    for t in range(len(p.parent) - 1, -1, -1):
        constant = constant + (p.c[:, t] * total[:, t]).sum(-1)
        carried = (p.A[:, t].transpose(-1, -2) @ total[:, t, :, None])[..., 0]
        if p.parent[t] >= 0:
            total[:, p.parent[t]] += carried
        else:
            constant = constant + (carried * p.x0).sum(-1)
    per_input = slope[..., nx:] + (p.B.transpose(-1, -2) @ total[..., None])[..., 0]
    low = torch.where(per_input > 0, per_input * p.z_lower[..., nx:], per_input * p.z_upper[..., nx:])
    low = torch.where(per_input == 0, 0.0, low)
    return constant + low.sum((1, 2))


def _product(dual: Tensor, violation: Tensor) -> Tensor:
    return torch.where(torch.isfinite(violation), dual.clamp(min=0) * violation.abs(), 0.0)

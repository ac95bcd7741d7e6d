"""The solve as a differentiable function of every datum: implicit differentiation at the solution.

The kernel's adjoint gives the derivatives a = dz of g and nu of c; with the costate p, the signed multipliers y of the
limits and eta = -(d lower + d upper), the other data enter bilinearly:

    H: (a z' + z a') / 2      A_t: nu_t x_p' + p_t a_p'      B_t: nu_t u_t' + p_t a_u,t'      C: y a' + eta z'
    x0: sum over roots of A' nu                compliance: lambda_upper d upper - lambda_lower d lower

(x_p, a_p: the parent's state part). Works in float64 inside whatever the inputs are, autocast included. Two custom
operators, `dualdrive::solve_stages` and `dualdrive::adjoint_stages`, let torch.compile and torch.export pass over it;
eager calls go through the same two functions without the operators' dispatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from planner.qp.kernel import KernelAdjoint, KernelSolution
from planner.qp.native import Described
from planner.qp.native import judge as compiled
from planner.qp.problem import SolveStatus, StageProgram, StageSolution
from planner.qp.solver import DEFAULTS, SolveOptions, choose_kernel, native_kernel, solve, solve_described

RESIDUAL_TRUSTED = 1e-6
"""Largest relative residual of the adjoint system of a gradient that counts."""
KINK_TRUSTED = 1e-2
"""Largest `KernelAdjoint.kink`: beyond it the derivative is nearly one-sided, and off by about this share."""
_TWICE = "dualdrive: the solution of a stage program can be differentiated once, not twice"


class SolveReport:
    """solution: the `StageSolution` (without gradients). trusted ``[B]`` bool: members whose gradient counts.

    Before a backward pass `trusted` says solved and no limit undecided (no such limits with smoothing); the
    backward pass adds the residual of its linear system. Under torch.compile only the former is known. Members that
    are not trusted receive the gradient zero.
    """

    def __init__(self, problem: StageProgram, solution: StageSolution, options: SolveOptions) -> None:
        self.solution = solution
        self._problem, self._options = problem, options
        self._trusted: Tensor | None = None

    @property
    def trusted(self) -> Tensor:
        if self._trusted is None:
            solved = self.solution.solved
            self._trusted = (
                solved
                if self._options.smoothing
                else solved & (undecided(self._problem, self.solution) <= KINK_TRUSTED)
            )
        return self._trusted


def solve_differentiable(
    problem: StageProgram, options: SolveOptions = DEFAULTS, start: StageSolution | None = None
) -> tuple[Tensor, SolveReport]:
    """z ``[B, N, nz]`` in the dtype of the problem, with gradients to every datum, and a report.

    z is zero where not solved. start: as in `planner.qp.solver.solve`; not under torch.compile. Differentiating twice
    raises RuntimeError; otherwise raises what `solve` does.
    """
    if options.backend == "cvxpylayers":
        return _through_cvxpylayers(problem, options)
    if torch.compiler.is_compiling():
        if start is not None:
            raise ValueError("start: not under torch.compile or torch.export")
        o = options
        found = torch.ops.dualdrive.solve_stages(
            *problem.tensors(),
            list(problem.parent),
            o.backend,
            o.tolerance,
            o.iterations,
            o.threads,
            o.deadline,
            o.smoothing,
        )
        detached = [t.detach() for t in found]
        report = SolveReport(problem, _to_solution(detached), options)
        return found[0].to(_dtype(problem)), report
    data = problem.tensors()
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in data)):
        with torch.no_grad():
            solution, _ = solve_described(problem, options, start)
            return _as_data(solution.z, problem), SolveReport(problem, solution, options)
    # Data without gradients stay out of the graph: every input of a node costs time.
    wanted = [i for i, t in enumerate(data) if t.requires_grad]
    box: dict[str, Any] = {"problem": problem, "wanted": wanted, "options": options, "start": start}
    z = _Solve.apply(box, *(data[i] for i in wanted))
    return z, box["report"]


def undecided(problem: StageProgram, solution: StageSolution) -> Tensor:
    """``[B]``: how undecided the least decided hard or soft limit is, in [0, 1]; see `KernelAdjoint.kink`."""
    p = problem.with_tensors([t.detach().double() for t in problem.tensors()])
    lower, upper, compliance = p.limits()
    value = p.limit_values(solution.z)
    curvature = p.H.diagonal(dim1=-2, dim2=-1).amax((1, 2))
    price = torch.maximum(curvature, p.g.abs().amax((1, 2))).clamp(min=1e-12)[:, None, None]
    rows = p.C.abs().amax(-1)
    scale = torch.cat([torch.ones_like(p.g), torch.where(rows > 0, rows, 1.0)], -1)
    worst = torch.zeros_like(price)
    inside = upper - lower > 1e-12
    for limit, sign, dual in ((upper, 1.0, solution.dual_upper), (lower, -1.0, solution.dual_lower)):
        slack = (sign * (limit - value) + compliance * dual).clamp(min=1e-16) / scale
        worth = dual * scale / price
        ratio = torch.minimum(slack, worth) / torch.maximum(slack, worth)
        worst = torch.maximum(worst, torch.where(torch.isfinite(limit) & inside, ratio, 0.0).amax((1, 2), True))
    return worst[:, 0, 0]


class _Solve(torch.autograd.Function):
    """box: problem, options, start, and which of the data, by their place in `StageProgram.tensors`, are the inputs."""

    @staticmethod
    def forward(ctx: Any, box: dict[str, Any], *_: Tensor) -> Tensor:
        problem: StageProgram = box["problem"]
        solution, ctx.described = solve_described(problem, box["options"], box["start"])
        box["report"] = SolveReport(problem, solution, box["options"])
        ctx.parent, ctx.wanted, ctx.options, ctx.report = problem.parent, box["wanted"], box["options"], box["report"]
        point = (solution.z, solution.costate, solution.dual_lower, solution.dual_upper)
        ctx.save_for_backward(*problem.tensors(), *point)
        ctx.status = solution.status
        return _as_data(solution.z, problem)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        *data, z, costate, dual_lower, dual_upper = ctx.saved_tensors
        point, needed = (z, costate, dual_lower, dual_upper), [False] * len(data)
        for i, need in zip(ctx.wanted, ctx.needs_input_grad[1:]):
            needed[i] = need
        if ctx.described is not None:
            gradients, trusted = _differentiate(ctx.described, data, point, ctx.status, grad_z, ctx.options, needed)
        else:
            with torch.no_grad():
                problem = StageProgram(ctx.parent, *data)
                found, trusted = _adjoint(problem, point, ctx.status, grad_z, ctx.options)
                gradients = _gradients(problem, point, found, trusted, needed)
        ctx.report._trusted = trusted
        if torch.is_grad_enabled():
            gradients = [None if g is None else _Once.apply(t, g) for t, g in zip(data, gradients)]
        return None, *(gradients[i] for i in ctx.wanted)


class _Once(torch.autograd.Function):
    """A gradient that may be used, but not differentiated."""

    @staticmethod
    def forward(ctx: Any, datum: Tensor, gradient: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(_TWICE)


def _differentiate(
    described: Described, data: list[Tensor], point: tuple[Tensor, Tensor, Tensor, Tensor], status: Tensor,
    grad_z: Tensor, options: SolveOptions, needed: Sequence[bool],
) -> tuple[list[Tensor | None], Tensor]:  # fmt: skip
    """`_adjoint` and `_gradients` in one compiled call."""
    kernel = native_kernel()
    if kernel is None:
        raise RuntimeError("the compiled kernel was there in the forward pass and is gone in the backward pass")
    grad = grad_z.detach().to(torch.float64)
    shapes = [t.shape if need else None for t, need in zip(data, needed)]
    trust = (RESIDUAL_TRUSTED, KINK_TRUSTED)
    made, trusted = kernel.differentiate(
        described, shapes, point, status, grad, trust, options.for_kernel(options.deadline)
    )
    return [g if g is None or t.dtype is torch.float64 else g.to(t.dtype) for g, t in zip(made, data)], trusted


def _adjoint(
    problem: StageProgram, point: tuple[Tensor, ...], status: Tensor, grad_z: Tensor, options: SolveOptions
) -> tuple[KernelAdjoint, Tensor]:
    """The kernel's adjoint and whom to trust ``[B]``. point: z, costate, dual_lower, dual_upper."""
    problem = _in_double(problem)
    solved = status == int(SolveStatus.SOLVED)
    z, costate, dual_lower, dual_upper = point
    solution = KernelSolution(z, costate, dual_lower, dual_upper, status, status)
    kernel = choose_kernel(options.backend, grad_z.device)
    push = torch.where(solved[:, None, None], grad_z.detach().double(), 0.0)
    found: KernelAdjoint = kernel.adjoint(problem, solution, push, options.for_kernel(options.deadline))
    # NaN compares false and is not trusted.
    return found, solved & (found.residual <= RESIDUAL_TRUSTED) & (found.kink <= KINK_TRUSTED)


def _in_double(problem: StageProgram) -> StageProgram:
    tensors = [t.detach() if t.requires_grad else t for t in problem.tensors()]
    return problem.with_tensors([t if t.dtype == torch.float64 else t.double() for t in tensors])


def _kept(found: KernelAdjoint, trusted: Tensor) -> tuple[Tensor, ...]:
    """dz, dcostate, dlower, dupper; zero where not trusted."""
    keep = trusted[:, None, None]
    return tuple(torch.where(keep, t, 0.0) for t in (found.dz, found.dcostate, found.dlower, found.dupper))


def _gradients(
    problem: StageProgram, point: tuple[Tensor, ...], found: KernelAdjoint, trusted: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """One gradient per datum in the order of `StageProgram.tensors`, None where none is needed."""
    if trusted.device.type == "cpu" and compiled.library() is not None:
        made = compiled.pull_back(_in_double(problem), point, found, trusted, needed)
        return [None if g is None else g.to(t.dtype) for g, t in zip(made, problem.tensors())]
    return _gradients_in_torch(problem, point, _kept(found, trusted), needed)


def _gradients_in_torch(
    problem: StageProgram, point: tuple[Tensor, ...], sensitivity: tuple[Tensor, ...], needed: Sequence[bool]
) -> list[Tensor | None]:
    """The same anywhere, and where it has to be traced. sensitivity: dz, dcostate, dlower, dupper."""
    z, costate, dual_lower, dual_upper = point
    a, nu, lower, upper = sensitivity
    p = problem
    nx, nz = p.x0.shape[-1], z.shape[-1]
    outer = lambda left, right: left[..., :, None] * right[..., None, :]  # noqa: E731
    y, eta = (dual_upper - dual_lower)[..., nz:], -(lower + upper)[..., nz:]

    def of_x0() -> Tensor:
        roots = [t for t, q in enumerate(p.parent) if q < 0]
        return (p.A[:, roots].double().mT @ nu[:, roots, :, None])[..., 0].sum(1)

    def of_A() -> Tensor:
        still = torch.zeros_like(p.x0, dtype=z.dtype)
        moved = torch.cat([a[..., :nx], still[:, None]], 1)[:, p.parent_index]
        past = torch.cat([z[..., :nx], p.x0.double()[:, None]], 1)[:, p.parent_index]
        return outer(nu, past) + outer(costate, moved)

    formulas = (
        of_x0,
        of_A,
        lambda: outer(nu, z[..., nx:]) + outer(costate, a[..., nx:]),
        lambda: nu,
        lambda: 0.5 * (outer(a, z) + outer(z, a)),
        lambda: a,
        lambda: lower[..., :nz],
        lambda: upper[..., :nz],
        lambda: outer(y, a) + outer(eta, z),
        lambda: lower[..., nz:],
        lambda: upper[..., nz:],
        lambda: dual_upper[..., nz:] * upper[..., nz:] - dual_lower[..., nz:] * lower[..., nz:],
    )
    data = problem.tensors()
    return [formula().to(datum.dtype) if need else None for formula, need, datum in zip(formulas, needed, data)]


def _as_data(z: Tensor, problem: StageProgram) -> Tensor:
    """A copy in the data's dtype, so that what is done to it leaves the report alone."""
    dtype = _dtype(problem)
    return z.clone() if dtype == torch.float64 else z.to(dtype)


def _dtype(problem: StageProgram) -> torch.dtype:
    """The widest of the data's dtypes."""
    dtype = problem.g.dtype
    for t in problem.tensors():
        if t.dtype is not dtype:
            dtype = torch.promote_types(dtype, t.dtype)
    return dtype


def _to_solution(found: list[Tensor]) -> StageSolution:
    z, costate, lower, upper, status, iterations, primal, dual, gap, violation, proof = found
    return StageSolution(z, lower, upper, costate, status, iterations, primal, dual, gap, violation, proof)


def _through_cvxpylayers(problem: StageProgram, options: SolveOptions) -> tuple[Tensor, SolveReport]:
    """Forward and backward by cvxpylayers, members one by one; those that are not solved keep zero."""
    from planner.qp.reference_kernel import cvxpylayers_trajectory

    solution = solve(problem, options)
    members = solution.solved.nonzero()[:, 0]
    z = torch.zeros_like(solution.z)
    if len(members):
        part = problem.with_tensors([t[members].double() for t in problem.tensors()])
        z = z.index_put((members,), cvxpylayers_trajectory(part))
    return z.to(_dtype(problem)), SolveReport(problem, solution, options)


@torch.library.custom_op("dualdrive::solve_stages", mutates_args=())
def _solve_stages(
    x0: Tensor, A: Tensor, B: Tensor, c: Tensor, H: Tensor, g: Tensor, z_lower: Tensor, z_upper: Tensor, C: Tensor,
    lower: Tensor, upper: Tensor, compliance: Tensor, parent: list[int], backend: str, tolerance: float,
    iterations: int, threads: int, deadline: float, smoothing: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """z, costate, dual_lower, dual_upper, status, iterations, primal, dual, gap, violation, proof; all float64."""
    data = (x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance)
    options = SolveOptions(backend, tolerance, iterations, threads, deadline, smoothing)
    s = solve(StageProgram(tuple(parent), *data), options)
    found = (
        s.z, s.costate, s.dual_lower, s.dual_upper, s.status, s.iterations, s.primal_residual, s.dual_residual, s.gap,
        s.violation, s.proof,
    )  # fmt: skip
    # An operator's results may not share memory; a kernel's may.
    return tuple(t.clone(memory_format=torch.contiguous_format) for t in found)  # type: ignore[return-value]


@_solve_stages.register_fake
def _(x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance, parent, *options):  # type: ignore[no-untyped-def]
    (b, n, nx, nu), m = B.shape, C.shape[2]
    make = lambda *shape: g.new_empty(shape, dtype=torch.float64)  # noqa: E731
    limits = nx + nu + m
    whole = lambda: g.new_empty((b,), dtype=torch.int64)  # noqa: E731
    return (
        make(b, n, nx + nu), make(b, n, nx), make(b, n, limits), make(b, n, limits), whole(), whole(), make(b), make(b),
        make(b), make(b, n, limits), make(b),
    )  # fmt: skip


@torch.library.custom_op("dualdrive::adjoint_stages", mutates_args=())
def _adjoint_stages(
    x0: Tensor, A: Tensor, B: Tensor, c: Tensor, H: Tensor, g: Tensor, z_lower: Tensor, z_upper: Tensor, C: Tensor,
    lower: Tensor, upper: Tensor, compliance: Tensor, z: Tensor, costate: Tensor, dual_lower: Tensor,
    dual_upper: Tensor, status: Tensor, grad_z: Tensor, parent: list[int], backend: str, tolerance: float,
    iterations: int, threads: int, deadline: float, smoothing: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Sensitivities with respect to g, c and the limits, lower and upper; zero where not trusted."""
    problem = StageProgram(tuple(parent), x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance)
    options = SolveOptions(backend, tolerance, iterations, threads, deadline, smoothing)
    found, trusted = _adjoint(problem, (z, costate, dual_lower, dual_upper), status, grad_z, options)
    return tuple(t.clone(memory_format=torch.contiguous_format) for t in _kept(found, trusted))  # type: ignore[return-value]


@_adjoint_stages.register_fake
def _(*arguments):  # type: ignore[no-untyped-def]
    z, costate, dual_lower, dual_upper = arguments[12:16]
    return tuple(torch.empty_like(t) for t in (z, costate, dual_lower, dual_upper))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    data, ctx.rest = inputs[:12], inputs[12:]
    ctx.save_for_backward(*data, *output[:5])
    ctx.mark_non_differentiable(*output[1:])


def _pull_back(ctx: Any, grad_z: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *data, z, costate, dual_lower, dual_upper, status = ctx.saved_tensors
    point = (z, costate, dual_lower, dual_upper)
    found = torch.ops.dualdrive.adjoint_stages(*data, *point, status, grad_z, *ctx.rest)
    problem = StageProgram(tuple(ctx.rest[0]), *data)
    return *_gradients_in_torch(problem, point, found, ctx.needs_input_grad[:12]), *(None for _ in ctx.rest)


def _refuse(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError(_TWICE)


_solve_stages.register_autograd(_pull_back, setup_context=_setup)
_adjoint_stages.register_autograd(_refuse, setup_context=lambda ctx, inputs, output: None)

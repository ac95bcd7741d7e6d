"""Batched solve of stage programs with a judged status per member: one bad member never harms another.

The kernel proposes, the solver judges. SOLVED is said only of numbers whose residuals, recomputed from the raw data,
are small; INFEASIBLE only with a Farkas proof recomputed from the raw data. Everything else says what went wrong and
carries no solution.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from planner.qp.examine import Examination
from planner.qp.judge import Residuals, acceptable, residuals, standard
from planner.qp.kernel import Kernel, KernelOptions, KernelSolution
from planner.qp.native import Described, DescribedAtOnce, NativeKernel, available
from planner.qp.native.judge import library
from planner.qp.problem import SolveStatus, StageProgram, StageSolution
from planner.qp.torch_kernel import TorchKernel

REFERENCE_SLACKENING = 100.0
"""The reference solvers' own tolerances are looser by this."""
REFERENCES = ("daqp", "clarabel", "cvxpylayers")


@dataclass(frozen=True)
class SolveOptions:
    """backend: "native" (compiled), "torch", "auto" (native where it is there and the data are on the CPU), or a
    reference through condensation: "daqp", "clarabel", "cvxpylayers". tolerance, iterations, smoothing: as
    `planner.qp.kernel.KernelOptions`. threads: for this call only. deadline (s): from the call on; members not
    solved by then are OUT_OF_TIME. effort: for members that the kernel does not solve at once: 0 none (INFEASIBLE is
    never said), 1 a proof of emptiness or further attempts, 2 a second opinion of the torch kernel besides (slow,
    hardly ever needed)."""

    backend: str = "auto"
    tolerance: float = 1e-12
    iterations: int = 60
    threads: int = 1
    deadline: float = float("inf")
    smoothing: float = 0.0
    effort: int = 2

    def for_kernel(self, deadline: float) -> KernelOptions:
        return KernelOptions(self.tolerance, self.iterations, self.smoothing, deadline, self.threads)


DEFAULTS = SolveOptions()


def solve(problem: StageProgram, options: SolveOptions = DEFAULTS, start: StageSolution | None = None) -> StageSolution:
    """Solve every member of the batch; see `planner.qp.problem.StageSolution` for what comes back.

    start: solution of a similar problem of the same shape to begin from; members that were not solved there begin cold.
    With smoothing > 0 the solution is the point of the central path and `gap` its distance from the optimum.
    Raises ValueError for an unknown backend or a malformed problem.
    """
    with torch.no_grad():
        return solve_described(problem, options, start)[0]


def solve_described(
    problem: StageProgram, options: SolveOptions, start: StageSolution | None = None
) -> tuple[StageSolution, Described | None]:
    """`solve` where no gradients are recorded, and the data as the compiled kernel knows them (None for others)."""
    begun = time.perf_counter()
    kernel = choose_kernel(options.backend, problem.g.device)
    data = problem
    described: Described | None = None
    if isinstance(kernel, NativeKernel):
        at_once = described = DescribedAtOnce(problem)
        if not at_once.exact:
            data = raw_data(problem)
            described = Described(data)
            described.kept += data.tensors()
    else:
        data = raw_data(problem)
    claim, worth, status, refused = attempt(data, described, kernel, options, start)
    answer = StageSolution(
        claim.z, claim.dual_lower, claim.dual_upper, claim.costate, status, claim.iterations, worth.primal, worth.dual,
        worth.gap, *_nothing(claim.dual_upper.shape, status.device),
    )  # fmt: skip
    if refused:
        reference = options.backend in REFERENCES
        own = choose_kernel("auto", data.g.device) if reference else kernel
        answer.proof = torch.zeros_like(worth.primal)
        Examination(raw_data(data), claim, answer, own, options.for_kernel(begun + options.deadline)).run(
            0 if options.effort == 0 else (1 if reference else 1 + options.effort)
        )
    answer.solve_time = time.perf_counter() - begun
    return answer, described


@lru_cache(maxsize=64)
def _nothing(shape: torch.Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Zeros of the shape and of its first axis, which share one number and so cannot be written to."""
    with torch.inference_mode(False):  # kept, so of use to whoever calls next
        zero = torch.zeros((), dtype=torch.float64, device=device)
    return zero.expand(shape), zero.expand(shape[:1])


def attempt(
    data: StageProgram, described: Described | None, kernel: Kernel, options: SolveOptions, start: StageSolution | None
) -> tuple[KernelSolution, Residuals, Tensor, bool]:
    """One solve, judged: the claim, its residuals, status ``[B]`` (0 where it counts, else -1), whether any does not.

    data: as `raw_data` gives it. Raises ValueError where the data are invalid.
    """
    first = _to_start(start)
    if isinstance(kernel, NativeKernel) and described is not None:
        judged_by = standard(options.smoothing)
        found = kernel.solve_judged(described, options.for_kernel(options.deadline), first, judged_by)
        if found is None:
            data.validate()
            raise ValueError("StageProgram: invalid data")
        claim, numbers, status, refused = found
        return claim, Residuals(*numbers.unbind()), status, refused > 0
    slackening = REFERENCE_SLACKENING if options.backend in REFERENCES else 1.0
    claim = kernel.solve(data, None, options.for_kernel(options.deadline), first)
    worth = residuals(data, claim)
    good = acceptable(claim, worth, options.smoothing, slackening)
    return claim, worth, torch.where(good, int(SolveStatus.SOLVED), -1), not bool(good.all())


def raw_data(problem: StageProgram) -> StageProgram:
    """The validated problem in float64 without gradients. Raises ValueError."""
    tensors = [t.detach() if t.requires_grad else t for t in problem.tensors()]
    data = problem.with_tensors([t if t.dtype == torch.float64 else t.double() for t in tensors])
    # Values are looked at here only where no compiled judge does so on the way.
    if not _plain_shapes(data) or not (_judged_compiled(data) or _plain_values(data)):
        data.validate()
    return data


def choose_kernel(backend: str, device: torch.device) -> Kernel:
    """Raises ValueError for an unknown name, RuntimeError where the compiled kernel is asked for and absent."""
    if backend in REFERENCES:
        from planner.qp.reference_kernel import ReferenceKernel

        return ReferenceKernel(backend)
    if backend not in ("auto", "native", "torch"):
        raise ValueError(
            f"backend: expected one of {sorted(('auto', 'native', 'torch', *REFERENCES))}, got {backend!r}"
        )
    if backend == "torch" or (backend == "auto" and device.type != "cpu"):
        return TorchKernel()
    found = native_kernel()
    if found is None and backend == "native":
        raise RuntimeError("backend 'native': the compiled kernel is not installed; `dualdrive doctor` says why")
    return found or TorchKernel()


def native_kernel() -> NativeKernel | None:
    """The compiled kernel, None where it is not installed."""
    return _native_kernel() if available() else None


@lru_cache(maxsize=1)
def _native_kernel() -> NativeKernel:
    return NativeKernel()


def _judged_compiled(p: StageProgram) -> bool:
    return p.g.device.type == "cpu" and library() is not None


def _plain_shapes(p: StageProgram) -> bool:
    """The first half of `StageProgram.validate`; False where a closer look has to name the fault."""
    b, n, nx, nu, m = p.size
    nz = nx + nu
    shapes = ((b, nx), (b, n, nx, nx), (b, n, nx, nu), (b, n, nx), (b, n, nz, nz), (b, n, nz), (b, n, nz), (b, n, nz),
              (b, n, m, nz), (b, n, m), (b, n, m), (b, n, m))  # fmt: skip
    fits = all(t.shape == shape for t, shape in zip(p.tensors(), shapes))
    return fits and b > 0 and _is_tree(p.parent, n)


@lru_cache(maxsize=256)
def _is_tree(parent: tuple[int, ...], stages: int) -> bool:
    return len(parent) == stages and all(-1 <= q < t for t, q in enumerate(parent))


def _plain_values(p: StageProgram) -> bool:
    """The second half, in one look at the data."""
    tensors = [t[:1] if t.stride(0) == 0 else t for t in p.tensors()]
    x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance = tensors
    # A sum is finite only if every term is; amax and amin pass NaN on, and NaN compares false.
    checks = [torch.stack([t.sum() for t in (x0, A, B, c, H, g, C, compliance)]).sum().abs() < torch.inf]
    checks += [z_lower.amax() < torch.inf, z_upper.amin() > -torch.inf]
    if p.C.shape[2]:
        checks += [lower.amax() < torch.inf, upper.amin() > -torch.inf, compliance.amin() >= 0]
    return bool(torch.stack(checks).all())


def _to_start(start: StageSolution | None) -> KernelSolution | None:
    if start is None:
        return None
    return KernelSolution(
        start.z, start.costate, start.dual_lower, start.dual_upper, start.status, start.iterations
    )  # fmt: skip

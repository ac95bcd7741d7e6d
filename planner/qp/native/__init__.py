"""The compiled kernel: SIMD lanes over members, threads over blocks of them (`riccati_ipm.hpp`)."""

from __future__ import annotations

import ctypes
import functools
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planner.qp.kernel import KernelAdjoint, KernelOptions, KernelSolution
from planner.qp.problem import StageProgram

LIBRARY = "libdualdrive_qp.so"
VERSION = 1
"""Of the C interface, `DD_VERSION` in dualdrive_qp.h."""


class Level(IntEnum):
    """Instruction sets; AUTO is the widest that this CPU has."""

    AUTO = 0
    BASELINE = 1
    AVX2 = 2
    AVX512 = 3


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("stride", ctypes.c_int64)]


_DATA = ("x0", "A", "B", "c", "H", "g", "z_lower", "z_upper", "C", "lower", "upper", "compliance", "bound_compliance")


class _Problem(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "stages", "states", "inputs", "rows")),
        ("parent", ctypes.c_void_p),
        *((name, _Tensor) for name in _DATA),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("tolerance", "smoothing", "deadline")),
        *((name, ctypes.c_int64) for name in ("iterations", "threads", "level")),
    ]


class _Point(ctypes.Structure):
    _fields_ = [(name, _Tensor) for name in ("z", "dual_lower", "dual_upper")]


class _Solution(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p) for name in ("z", "costate", "dual_lower", "dual_upper", "outcome", "iterations")
    ]


class _Gradient(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("dz", "dcostate", "dlower", "dupper", "residual", "kink")]


@functools.cache
def _library() -> tuple[ctypes.CDLL | None, str]:
    path = Path(__file__).with_name(LIBRARY)
    if not path.exists():
        return None, f"{path} is missing: python -m planner.qp.native.build"
    try:
        library = ctypes.CDLL(str(path))
        found = library.dd_version()
    except (OSError, AttributeError) as error:
        return None, f"{path} cannot be loaded: {error}"
    if found != VERSION:
        return None, f"{path} is of version {found}, not {VERSION}: python -m planner.qp.native.build"
    return library, ""


def available() -> bool:
    """Whether the compiled library is there and loads."""
    return _library()[0] is not None


def why_not() -> str:
    """Why it is not available, with the command that mends it; empty where it is."""
    return _library()[1]


def best_level() -> Level:
    """The widest instruction set of this CPU that was compiled in. Raises RuntimeError where nothing was."""
    return Level(_loaded().dd_best_level())


def _loaded() -> Any:
    library, reason = _library()
    if library is None:
        raise RuntimeError(f"the compiled solver is not available: {reason}")
    return library


@functools.lru_cache(maxsize=64)
def _parents(parent: tuple[int, ...]) -> Any:
    return (ctypes.c_int64 * len(parent))(*parent)


def _describe(tensor: Tensor, kept: list[Tensor]) -> tuple[int, int]:
    """Address and batch stride, 0 where the members share; a copy only where a member is not contiguous."""
    if tensor.dtype is not torch.float64 or tensor.device.type != "cpu":
        raise ValueError(f"the compiled solver takes float64 on the CPU, got {tensor.dtype} on {tensor.device}")
    stride = tensor.stride(0) if len(tensor) > 1 else 0
    if not tensor.is_contiguous() and not tensor[:1].is_contiguous():
        tensor = tensor[:1].contiguous() if stride == 0 else tensor.contiguous()
        stride = tensor.stride(0) if stride else 0
    kept.append(tensor)
    return tensor.data_ptr(), stride


class NativeKernel:
    """`planner.qp.kernel.Kernel` in C++. Calls release the GIL. Raises ValueError where the CPU has no such level."""

    name = "native"

    def __init__(self, level: Level = Level.AUTO) -> None:
        self._library = _loaded()
        self._level = level
        if level > best_level():
            raise ValueError(f"this CPU has no {level.name}")

    def solve(
        self,
        problem: StageProgram,
        bound_compliance: Tensor | None,
        options: KernelOptions,
        start: KernelSolution | None = None,
    ) -> KernelSolution:
        """See `planner.qp.kernel.Kernel.solve`."""
        batch, stages, nx, nu, m = problem.size
        kept: list[Tensor] = []
        data = self._problem(problem, bound_compliance, kept)
        point = None
        if start is not None:
            values = (start.z, start.dual_lower, start.dual_upper)
            point = ctypes.byref(_Point(*(_Tensor(*_describe(t, kept)) for t in values)))
        duals = torch.empty(2, batch, stages, nx + nu + m, dtype=torch.float64)
        solution = KernelSolution(
            z=torch.empty(batch, stages, nx + nu, dtype=torch.float64),
            costate=torch.empty(batch, stages, nx, dtype=torch.float64),
            dual_lower=duals[0],
            dual_upper=duals[1],
            outcome=torch.empty(batch, dtype=torch.int64),
            iterations=torch.empty(batch, dtype=torch.int64),
        )
        out = _Solution(
            solution.z.data_ptr(), solution.costate.data_ptr(), solution.dual_lower.data_ptr(),
            solution.dual_upper.data_ptr(), solution.outcome.data_ptr(), solution.iterations.data_ptr(),
        )  # fmt: skip
        code = self._library.dd_solve(
            ctypes.byref(data), ctypes.byref(self._options(options)), point, ctypes.byref(out)
        )
        _check(code)
        return solution

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """See `planner.qp.kernel.Kernel.adjoint`."""
        batch, stages, nx, nu, m = problem.size
        kept: list[Tensor] = []
        data = self._problem(problem, None, kept)
        values = (solution.z, solution.dual_lower, solution.dual_upper)
        point = _Point(*(_Tensor(*_describe(t, kept)) for t in values))
        grad = _Tensor(*_describe(grad_z, kept))
        limits = torch.empty(2, batch, stages, nx + nu + m, dtype=torch.float64)
        numbers = torch.empty(2, batch, dtype=torch.float64)
        adjoint = KernelAdjoint(
            dz=torch.empty(batch, stages, nx + nu, dtype=torch.float64),
            dcostate=torch.empty(batch, stages, nx, dtype=torch.float64),
            dlower=limits[0], dupper=limits[1], residual=numbers[0], kink=numbers[1],
        )  # fmt: skip
        out = _Gradient(
            adjoint.dz.data_ptr(), adjoint.dcostate.data_ptr(), adjoint.dlower.data_ptr(), adjoint.dupper.data_ptr(),
            adjoint.residual.data_ptr(), adjoint.kink.data_ptr(),
        )  # fmt: skip
        code = self._library.dd_adjoint(
            ctypes.byref(data), ctypes.byref(self._options(options)), ctypes.byref(point), ctypes.byref(grad),
            ctypes.byref(out),
        )  # fmt: skip
        _check(code)
        return adjoint

    def _problem(self, problem: StageProgram, bound_compliance: Tensor | None, kept: list[Tensor]) -> _Problem:
        tensors = [_describe(t, kept) for t in problem.tensors()]
        tensors.append((0, 0) if bound_compliance is None else _describe(bound_compliance, kept))
        parent = ctypes.addressof(_parents(problem.parent))
        return _Problem(*problem.size, parent, *tensors)

    def _options(self, options: KernelOptions) -> _Options:
        return _Options(
            options.tolerance, options.smoothing, options.deadline, options.iterations, options.threads, self._level
        )


def _check(code: int) -> None:
    if code == -1:
        raise ValueError("the compiled solver refused the problem's sizes, tree or options")
    if code != 0:
        raise MemoryError("the compiled solver found no memory for its workspace")

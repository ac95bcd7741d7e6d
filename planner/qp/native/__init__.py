"""The compiled kernel: SIMD lanes over members, threads over blocks of them (`riccati_ipm.hpp`)."""

from __future__ import annotations

import ctypes
import functools
import struct
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


# The structs of dualdrive_qp.h as bytes: a tensor is its address and batch stride, everything is eight bytes wide.
_PROBLEM = struct.Struct("6q" + 13 * "2q")
_OPTIONS = struct.Struct("3d3q")
_POINT = struct.Struct(3 * "2q")
_TENSOR = struct.Struct("2q")
_POINTERS = struct.Struct("6q")


@functools.cache
def _library() -> tuple[ctypes.CDLL | None, str]:
    path = Path(__file__).with_name(LIBRARY)
    if not path.exists():
        return None, f"{path} is missing: python -m planner.build_native"
    try:
        library = ctypes.CDLL(str(path))
        found = library.dd_version()
    except (OSError, AttributeError) as error:
        return None, f"{path} cannot be loaded: {error}"
    if found != VERSION:
        return None, f"{path} is of version {found}, not {VERSION}: python -m planner.build_native"
    library.dd_solve.argtypes = [ctypes.c_char_p] * 4
    library.dd_adjoint.argtypes = [ctypes.c_char_p] * 5
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
def _parents(parent: tuple[int, ...]) -> Tensor:
    return torch.tensor(parent, dtype=torch.int64)


def _describe(tensor: Tensor, kept: list[Tensor]) -> tuple[int, int]:
    """Address and batch stride, 0 where the members share; a copy only where a member is not contiguous."""
    if tensor.dtype is not torch.float64 or not tensor.is_cpu:
        raise ValueError(f"the compiled solver takes float64 on the CPU, got {tensor.dtype} on {tensor.device}")
    stride = tensor.stride(0) if tensor.size(0) > 1 else 0
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
        self._level = int(level)
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
        data = _pack(problem, bound_compliance, kept)
        z, costate = _empty(batch, stages, nx + nu), _empty(batch, stages, nx)
        lower, upper = _empty(batch, stages, nx + nu + m), _empty(batch, stages, nx + nu + m)
        outcome, iterations = torch.empty(2, batch, dtype=torch.int64).unbind()
        outputs = (z, costate, lower, upper, outcome, iterations)
        code = self._library.dd_solve(
            data,
            self._pack_options(options),
            None if start is None else _pack_point(start, kept),
            _pack_outputs(outputs),
        )
        _check(code)
        return KernelSolution(z, costate, lower, upper, outcome, iterations)

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """See `planner.qp.kernel.Kernel.adjoint`."""
        batch, stages, nx, nu, m = problem.size
        kept: list[Tensor] = []
        data = _pack(problem, None, kept)
        dz, dcostate = _empty(batch, stages, nx + nu), _empty(batch, stages, nx)
        lower, upper = _empty(batch, stages, nx + nu + m), _empty(batch, stages, nx + nu + m)
        residual, kink = _empty(2, batch).unbind()
        outputs = (dz, dcostate, lower, upper, residual, kink)
        point, grad = _pack_point(solution, kept), _TENSOR.pack(*_describe(grad_z, kept))
        _check(self._library.dd_adjoint(data, self._pack_options(options), point, grad, _pack_outputs(outputs)))
        return KernelAdjoint(dz, dcostate, lower, upper, residual, kink)

    def _pack_options(self, options: KernelOptions) -> bytes:
        return _OPTIONS.pack(
            options.tolerance, options.smoothing, options.deadline, options.iterations, options.threads, self._level
        )


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64)


def _pack(p: StageProgram, bound_compliance: Tensor | None, kept: list[Tensor]) -> bytes:
    data = (p.x0, p.A, p.B, p.c, p.H, p.g, p.z_lower, p.z_upper, p.C, p.lower, p.upper, p.compliance)
    numbers = [*p.size, _parents(p.parent).data_ptr()]
    for tensor in data:
        numbers += _describe(tensor, kept)
    numbers += (0, 0) if bound_compliance is None else _describe(bound_compliance, kept)
    return _PROBLEM.pack(*numbers)


def _pack_point(point: KernelSolution, kept: list[Tensor]) -> bytes:
    values = (point.z, point.dual_lower, point.dual_upper)
    return _POINT.pack(*(number for value in values for number in _describe(value, kept)))


def _pack_outputs(outputs: tuple[Tensor, ...]) -> bytes:
    return _POINTERS.pack(*(tensor.data_ptr() for tensor in outputs))


def _check(code: int) -> None:
    if code == -1:
        raise ValueError("the compiled solver refused the problem's sizes, tree or options")
    if code != 0:
        raise MemoryError("the compiled solver found no memory for its workspace")

"""The compiled kernel: SIMD lanes over members, threads over blocks of them (`riccati_ipm.hpp`)."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import struct
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planner.qp.kernel import KernelAdjoint, KernelOptions, KernelSolution
from planner.qp.problem import StageProgram

LIBRARY = "libdualdrive_qp.so"
VERSION = 2
"""Of the C interface, `DD_VERSION` in dualdrive_qp.h."""


LEVEL_VARIABLE = "DUALDRIVE_LEVEL"
"""Environment variable that holds all compiled code to an instruction set, read when it is loaded."""


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
_STANDARD = struct.Struct("4d")
_TRUST = struct.Struct("2d")
_CLAIM = struct.Struct("4q")
_GRADIENTS = struct.Struct("12q")
_INVALID = -3


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
    library.dd_solve_judged.argtypes = [ctypes.c_char_p] * 5 + [ctypes.c_void_p] * 2
    library.dd_solve_judged.restype = ctypes.c_int64
    library.dd_differentiate.argtypes = [*[ctypes.c_char_p] * 3, ctypes.c_void_p, *[ctypes.c_char_p] * 2]
    library.dd_differentiate.argtypes += [ctypes.c_void_p, ctypes.c_char_p]
    library.dd_judge.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    library.dd_pull_back.argtypes = [*[ctypes.c_char_p] * 3, ctypes.c_void_p, ctypes.c_char_p]
    library.dd_margin.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3]
    return library, ""


def available() -> bool:
    """Whether the compiled library is there and loads."""
    return _library()[0] is not None


def why_not() -> str:
    """Why it is not available, with the command that mends it; empty where it is."""
    return _library()[1]


def best_level() -> Level:
    """The widest instruction set of this CPU that was compiled in, or a narrower one that $DUALDRIVE_LEVEL names.

    Raises RuntimeError where nothing was compiled, ValueError for an unknown name.
    """
    widest, wish = Level(_loaded().dd_best_level()), os.environ.get(LEVEL_VARIABLE, "").upper()
    if not wish:
        return widest
    if wish not in Level.__members__:
        raise ValueError(f"{LEVEL_VARIABLE}: expected one of {[level.name.lower() for level in Level]}, got {wish!r}")
    return min(Level[wish] or widest, widest)


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


Size = tuple[int, int, int, int, int]


@functools.lru_cache(maxsize=256)
def _layout(size: Size) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Shape, and numbers per member, of every datum in the order of `StageProgram.tensors`."""
    b, n, nx, nu, m = size
    nz = nx + nu
    shapes = ((nx,), (n, nx, nx), (n, nx, nu), (n, nx), (n, nz, nz), (n, nz), (n, nz), (n, nz), (n, m, nz), (n, m),
              (n, m), (n, m))  # fmt: skip
    return tuple((torch.Size((b, *shape)), math.prod(shape)) for shape in shapes)


class Described:
    """A problem as dd_problem: bytes for the compiled functions, valid while this object and the problem's data live.

    kept: copies that the bytes point to. Raises ValueError where the data are not float64 on the CPU. Their shapes are
    not looked at.
    """

    def __init__(self, problem: StageProgram, bound_compliance: Tensor | None = None) -> None:
        p = problem
        self.kept: list[Tensor] = []
        b, n, nx, nu = p.B.shape
        self.size: Size = (b, n, nx, nu, p.C.shape[2])
        numbers = [*self.size, _parents(p.parent).data_ptr()]
        for t in (p.x0, p.A, p.B, p.c, p.H, p.g, p.z_lower, p.z_upper, p.C, p.lower, p.upper, p.compliance):
            numbers += _describe(t, self.kept)
        numbers += (0, 0) if bound_compliance is None else _describe(bound_compliance, self.kept)
        self.bytes = _PROBLEM.pack(*numbers)


class DescribedAtOnce(Described):
    """The same for data that may be taken as they are; `exact` is False where they may not, and nothing else is set."""

    def __init__(self, problem: StageProgram) -> None:
        p = problem
        self.exact = False
        self.kept = []
        if p.B.ndim != 4 or p.C.ndim != 4 or not _is_tree(p.parent, p.B.shape[1]):
            return
        b, n, nx, nu = p.B.shape
        self.size = (b, n, nx, nu, p.C.shape[2])
        numbers: list[int] = [*self.size, _parents(p.parent).data_ptr()]
        data = (p.x0, p.A, p.B, p.c, p.H, p.g, p.z_lower, p.z_upper, p.C, p.lower, p.upper, p.compliance)
        for t, (shape, count) in zip(data, _layout(self.size)):
            if t.shape != shape or t.dtype is not torch.float64 or not t.is_cpu:
                return
            if t.is_contiguous():
                numbers += (t.data_ptr(), count if b > 1 else 0)
            else:
                numbers += _describe(t, self.kept)
        self.bytes = _PROBLEM.pack(*numbers, 0, 0)
        self.exact = b > 0


@functools.lru_cache(maxsize=256)
def _is_tree(parent: tuple[int, ...], stages: int) -> bool:
    return len(parent) == stages and all(-1 <= q < t for t, q in enumerate(parent))


class NativeKernel:
    """`planner.qp.kernel.Kernel` in C++. Calls release the GIL. Raises ValueError where the CPU has no such level."""

    name = "native"

    def __init__(self, level: Level = Level.AUTO) -> None:
        self._library = _loaded()
        self._level = int(level or best_level())
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
        data, out = Described(problem, bound_compliance), _Outputs(problem.size)
        kept: list[Tensor] = []
        point = None if start is None else _pack_point(start, kept)
        _check(self._library.dd_solve(data.bytes, self._pack_options(options), point, out.bytes))
        return out.solution

    def solve_judged(
        self,
        data: Described,
        options: KernelOptions,
        start: KernelSolution | None,
        standard: tuple[float, float, float, float],
    ) -> tuple[KernelSolution, Tensor, Tensor, int] | None:
        """`solve`, and each block of members judged at once by the thread that solved it.

        standard: of dd_standard in judge.hpp. Returns the claim, residuals ``[4, B]`` (primal, scaled, dual, gap),
        status ``[B]`` (0 where the standard is met, else -1) and how many do not meet it. None where the data are
        invalid.
        """
        out = _Outputs(data.size)
        batch = data.size[0]
        residuals, status = _empty(4, batch), torch.empty(batch, dtype=torch.int64)
        kept: list[Tensor] = []
        point = None if start is None else _pack_point(start, kept)
        refused = self._library.dd_solve_judged(
            data.bytes, self._pack_options(options), point, out.bytes, _STANDARD.pack(*standard),
            residuals.data_ptr(), status.data_ptr(),
        )  # fmt: skip
        if refused == _INVALID:
            return None
        _check(min(refused, 0))
        return out.solution, residuals, status, refused

    def differentiate(
        self,
        data: Described,
        shapes: list[torch.Size | None],
        point: tuple[Tensor, Tensor, Tensor, Tensor],
        status: Tensor,
        grad_z: Tensor,
        trust: tuple[float, float],
        options: KernelOptions,
    ) -> tuple[list[Tensor | None], Tensor]:
        """Gradients of the data whose shape is given, in the order of `StageProgram.tensors`; whom to trust ``[B]``.

        point: z, costate, dual_lower, dual_upper, dense. status ``[B]``: 0 where solved. trust: largest residual, kink.
        """
        kept: list[Tensor] = []
        out = [None if shape is None else torch.empty(shape, dtype=torch.float64) for shape in shapes]
        trusted = torch.empty(data.size[0], dtype=torch.bool)
        code = self._library.dd_differentiate(
            data.bytes, self._pack_options(options), pack_claim(point, kept), status.data_ptr(),
            _TENSOR.pack(*_describe(grad_z, kept)), _TRUST.pack(*trust), trusted.data_ptr(),
            _GRADIENTS.pack(*[0 if t is None else t.data_ptr() for t in out]),
        )  # fmt: skip
        _check(code)
        return out, trusted

    def adjoint(
        self, problem: StageProgram, solution: KernelSolution, grad_z: Tensor, options: KernelOptions
    ) -> KernelAdjoint:
        """See `planner.qp.kernel.Kernel.adjoint`."""
        batch, stages, nx, nu, m = problem.size
        kept: list[Tensor] = []
        data = Described(problem)
        dz, dcostate = _empty(batch, stages, nx + nu), _empty(batch, stages, nx)
        lower, upper = _empty(batch, stages, nx + nu + m), _empty(batch, stages, nx + nu + m)
        residual, kink = _empty(2, batch).unbind()
        outputs = (dz, dcostate, lower, upper, residual, kink)
        point, grad = _pack_point(solution, kept), _TENSOR.pack(*_describe(grad_z, kept))
        _check(self._library.dd_adjoint(data.bytes, self._pack_options(options), point, grad, _pack_outputs(outputs)))
        return KernelAdjoint(dz, dcostate, lower, upper, residual, kink)

    def _pack_options(self, options: KernelOptions) -> bytes:
        o = options
        return _OPTIONS.pack(o.tolerance, o.smoothing, o.deadline, o.iterations, o.threads, self._level)


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64)


class _Outputs:
    """Room for a solution, and where it is."""

    def __init__(self, size: Size) -> None:
        batch, stages, nx, nu, m = size
        limits = nx + nu + m
        z, costate = _empty(batch, stages, nx + nu), _empty(batch, stages, nx)
        lower, upper = _empty(batch, stages, limits), _empty(batch, stages, limits)
        outcome, iterations = torch.empty(batch, dtype=torch.int64), torch.empty(batch, dtype=torch.int64)
        self.solution = KernelSolution(z, costate, lower, upper, outcome, iterations)
        self.bytes = _pack_outputs((z, costate, lower, upper, outcome, iterations))


def pack_claim(tensors: tuple[Tensor, ...], kept: list[Tensor]) -> bytes:
    """z, costate, lower, upper as dd_claim; what had to be copied is added to `kept`."""
    dense = [t if t.is_contiguous() else t.contiguous() for t in tensors]
    kept.extend(dense)
    return _CLAIM.pack(*[t.data_ptr() for t in dense])


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

"""Compiled counterparts of `planner.qp.judge.residuals`, of the layer's gradients and of the proof (`judge.hpp`)."""

from __future__ import annotations

import ctypes
import functools
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planner.qp import native
from planner.qp.kernel import KernelAdjoint, KernelSolution
from planner.qp.problem import StageProgram

# dd_problem and dd_claim as bytes: sizes, the parents' address, then address and batch stride of each datum.
_PROBLEM = struct.Struct("6q" + 13 * "2q")
_CLAIM = struct.Struct("4q")
_GRADIENTS = struct.Struct("12q")


@functools.cache
def library() -> Any:
    """The compiled library if it is there and has these functions, else None."""
    if not native.available():
        return None
    found = ctypes.CDLL(str(Path(native.__file__).with_name(native.LIBRARY)))
    if not all(hasattr(found, name) for name in ("dd_judge", "dd_pull_back", "dd_margin")):
        return None
    found.dd_judge.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    found.dd_pull_back.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p]
    found.dd_margin.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return found


def margin(problem: StageProgram, weight_lower: Tensor, weight_upper: Tensor) -> Tensor:
    """``[3, B]``: `infeasibility_margin` of the weights ``[B, N, L]``; the weighted size of the limits; that of all
    terms that cancel in the margin."""
    kept: list[Tensor] = []
    out = torch.empty(3, problem.B.shape[0], dtype=torch.float64)
    lower, upper = weight_lower.contiguous(), weight_upper.contiguous()
    if library().dd_margin(_problem(problem, kept), lower.data_ptr(), upper.data_ptr(), out.data_ptr()):
        raise MemoryError("the compiled judge found no memory for its workspace")
    return out


def judge(problem: StageProgram, claim: KernelSolution) -> Tensor | None:
    """``[4, B]``: primal, scaled, dual, gap. None where the data are invalid. problem: float64 on the CPU."""
    kept: list[Tensor] = []
    out = torch.empty(4, problem.B.shape[0], dtype=torch.float64)
    numbers = _claim((claim.z, claim.costate, claim.dual_lower, claim.dual_upper), kept)
    code = library().dd_judge(_problem(problem, kept), numbers, out.data_ptr())
    if code < 0:
        raise MemoryError("the compiled judge found no memory for its workspace")
    return None if code else out


def pull_back(
    problem: StageProgram, solution: tuple[Tensor, ...], adjoint: KernelAdjoint, keep: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of the data in the order of `StageProgram.tensors`, None where not needed.

    solution: z, costate, dual_lower, dual_upper. keep ``[B]`` bool: the other members get zero.
    """
    kept: list[Tensor] = []
    out = [torch.empty(t.shape, dtype=torch.float64) if need else None for t, need in zip(problem.tensors(), needed)]
    library().dd_pull_back(
        _problem(problem, kept), _claim(solution, kept),
        _claim((adjoint.dz, adjoint.dcostate, adjoint.dlower, adjoint.dupper), kept), keep.data_ptr(),
        _GRADIENTS.pack(*(0 if t is None else t.data_ptr() for t in out)),
    )  # fmt: skip
    return out


@functools.lru_cache(maxsize=64)
def _parents(parent: tuple[int, ...]) -> Tensor:
    return torch.tensor(parent, dtype=torch.int64)


def _problem(problem: StageProgram, kept: list[Tensor]) -> bytes:
    places: list[int] = []
    for tensor in problem.tensors():
        shared = tensor.shape[0] == 1 or tensor.stride(0) == 0
        if not tensor.is_contiguous() and not tensor[:1].is_contiguous():
            tensor = tensor[:1].contiguous() if shared else tensor.contiguous()
            kept.append(tensor)
        places += (tensor.data_ptr(), 0 if shared else tensor.stride(0))
    return _PROBLEM.pack(*problem.size, _parents(problem.parent).data_ptr(), *places, 0, 0)


def _claim(tensors: tuple[Tensor, ...], kept: list[Tensor]) -> bytes:
    dense = [t if t.is_contiguous() else t.contiguous() for t in tensors]
    kept.extend(dense)
    return _CLAIM.pack(*(t.data_ptr() for t in dense))

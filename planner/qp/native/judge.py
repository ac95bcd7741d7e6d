"""The compiled counterparts of `planner.qp.judge.residuals` and of the layer's gradients (`judge.hpp`)."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from planner.qp import native
from planner.qp.kernel import KernelAdjoint, KernelSolution
from planner.qp.problem import StageProgram


class _Claim(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("z", "costate", "lower", "upper")]


@functools.cache
def library() -> Any:
    """The compiled library if it is there and has these functions, else None."""
    if not native.available():
        return None
    found = native._loaded()
    return found if hasattr(found, "dd_judge") and hasattr(found, "dd_pull_back") else None


def judge(problem: StageProgram, claim: KernelSolution) -> Tensor | None:
    """``[4, B]``: primal, scaled, dual, gap. None where the data are invalid. problem: float64 on the CPU."""
    kept: list[Tensor] = []
    data = _problem(problem, kept)
    out = torch.empty(4, problem.B.shape[0], dtype=torch.float64)
    numbers = _claim((claim.z, claim.costate, claim.dual_lower, claim.dual_upper), kept)
    code = library().dd_judge(ctypes.byref(data), ctypes.byref(numbers), ctypes.c_void_p(out.data_ptr()))
    if code < 0:
        raise MemoryError("the compiled judge found no memory for its workspace")
    return None if code else out


def pull_back(
    problem: StageProgram, solution: tuple[Tensor, ...], adjoint: KernelAdjoint, keep: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of the data in the order of `StageProgram.tensors`, None where not needed.

    solution: z, costate, dual_lower, dual_upper. keep ``[B]`` bool: the other members get zero.
    """
    kept: list[Tensor] = [keep]
    data = _problem(problem, kept)
    point = _claim(solution, kept)
    change = _claim((adjoint.dz, adjoint.dcostate, adjoint.dlower, adjoint.dupper), kept)
    out = [torch.empty(t.shape, dtype=torch.float64) if need else None for t, need in zip(problem.tensors(), needed)]
    places = (ctypes.c_void_p * 12)(*(None if t is None else t.data_ptr() for t in out))
    library().dd_pull_back(
        ctypes.byref(data), ctypes.byref(point), ctypes.byref(change), ctypes.c_void_p(keep.data_ptr()), places
    )
    return out


def _problem(problem: StageProgram, kept: list[Tensor]) -> Any:
    tensors = [native._describe(t, kept) for t in problem.tensors()]
    parent = ctypes.addressof(native._parents(problem.parent))
    return native._Problem(*problem.size, parent, *tensors, (0, 0))


def _claim(tensors: tuple[Tensor, ...], kept: list[Tensor]) -> _Claim:
    dense = [t if t.is_contiguous() else t.contiguous() for t in tensors]
    kept.extend(dense)
    return _Claim(*(t.data_ptr() for t in dense))

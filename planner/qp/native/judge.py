"""Compiled counterparts of `planner.qp.judge.residuals`, of the layer's gradients and of the proof (`judge.hpp`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from planner.qp import native
from planner.qp.kernel import KernelAdjoint, KernelSolution
from planner.qp.native import Described, pack_claim
from planner.qp.problem import StageProgram

_GRADIENTS = struct.Struct("12q")


def library() -> Any:
    """The compiled library if it is there, else None."""
    return native._library()[0]


def margin(problem: StageProgram, weight_lower: Tensor, weight_upper: Tensor) -> Tensor:
    """``[3, B]``: `infeasibility_margin` of the weights ``[B, N, L]``; the weighted size of the limits; that of all
    terms that cancel in the margin."""
    data = Described(problem)
    out = torch.empty(3, problem.B.shape[0], dtype=torch.float64)
    lower, upper = weight_lower.contiguous(), weight_upper.contiguous()
    if library().dd_margin(data.bytes, lower.data_ptr(), upper.data_ptr(), out.data_ptr()):
        raise MemoryError("the compiled judge found no memory for its workspace")
    return out


def judge(problem: StageProgram, claim: KernelSolution) -> Tensor | None:
    """``[4, B]``: primal, scaled, dual, gap. None where the data are invalid. problem: float64 on the CPU."""
    kept: list[Tensor] = []
    data = Described(problem)
    out = torch.empty(4, problem.B.shape[0], dtype=torch.float64)
    numbers = pack_claim((claim.z, claim.costate, claim.dual_lower, claim.dual_upper), kept)
    code = library().dd_judge(data.bytes, numbers, out.data_ptr())
    if code < 0:
        raise MemoryError("the compiled judge found no memory for its workspace")
    return None if code else out


def pull_back(
    problem: StageProgram, solution: tuple[Tensor, ...], adjoint: KernelAdjoint, keep: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of the data in the order of `StageProgram.tensors`, None where not needed.

    solution: z, costate, dual_lower, dual_upper. keep ``[B]`` bool: the other members get zero.
    """
    kept: list[Tensor] = []
    data = Described(problem)
    out = [torch.empty(t.shape, dtype=torch.float64) if need else None for t, need in zip(problem.tensors(), needed)]
    library().dd_pull_back(
        data.bytes, pack_claim(solution, kept),
        pack_claim((adjoint.dz, adjoint.dcostate, adjoint.dlower, adjoint.dupper), kept), keep.data_ptr(),
        _GRADIENTS.pack(*(0 if t is None else t.data_ptr() for t in out)),
    )  # fmt: skip
    return out

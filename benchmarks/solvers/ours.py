"""The project's own solver, on each of its kernels."""

from __future__ import annotations

import os
from typing import Any

import torch

from benchmarks.problem import NX, Instance, Parameters, StageForm, positions, stage_program
from benchmarks.solvers.base import Answer, Solver
from planner.qp.kernel import KernelOptions, Outcome
from planner.qp.layer import solve_differentiable
from planner.qp.problem import StageProgram
from planner.qp.solver import SolveOptions, choose_kernel, raw_data


class _Own(Solver):
    backend = ""

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        self.options = SolveOptions(backend=self.backend, threads=os.cpu_count() or 1)

    def bind(self, instance: Instance) -> StageForm:
        return StageForm(instance, self.half_planes)

    def forward(self, bound: StageForm, prepared: Parameters) -> Answer:
        z, report = solve_differentiable(bound.program(prepared), self.options)
        return Answer(z[..., NX:], positions(z), extra={"report": report})

    def report(self, bound: Any, answer: Answer) -> Answer:
        report = answer.extra["report"]
        answer.refused, answer.trusted = ~report.solution.solved, report.trusted.to(torch.bool)
        return answer


class Dualdrive(_Own):
    """The compiled kernel."""

    name, backend = "dualdrive", "native"


class DualdriveTorch(_Own):
    """The same algorithm in torch operations."""

    name, backend = "dualdrive-torch", "torch"


class DualdriveKernel(Solver):
    """The compiled kernel alone on a finished program: neither recomputed residuals nor torch's graph.

    What to hold against native solvers that are given finished matrices.
    """

    name, differentiable = "dualdrive-kernel", False

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        self.kernel = choose_kernel("native", torch.device("cpu"))
        self.options = KernelOptions(SolveOptions().tolerance, threads=os.cpu_count() or 1)

    def prepare(self, bound: Instance, parameters: Parameters) -> StageProgram:
        return raw_data(stage_program(bound, parameters))

    def forward(self, bound: Instance, prepared: StageProgram) -> Answer:
        solution = self.kernel.solve(prepared, None, self.options)
        z = solution.z
        return Answer(z[..., NX:], positions(z), extra={"outcome": solution.outcome})

    def report(self, bound: Any, answer: Answer) -> Answer:
        answer.refused = answer.extra["outcome"] != int(Outcome.CONVERGED)
        return answer

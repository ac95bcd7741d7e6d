"""What the benchmark asks of every solver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.problem import Instance, Parameters


@dataclass
class Answer:
    """inputs ``[B, T, 2]`` and positions (s, d) ``[B, T, 2]``. refused ``[B]`` bool or None: members that the solver
    itself reports as not solved; None where its interface reports nothing. trusted ``[B]`` bool or None: members whose
    gradient the solver vouches for.
    """

    inputs: Tensor
    positions: Tensor
    refused: Tensor | None = None
    trusted: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Solver:
    """One solver for one size of problem. The constructor may take its time: compiling, symbolic factorisation.

    differentiable: has a gradient. same_forward_as: name of a solver that differs in the backward pass only.
    """

    name = ""
    differentiable = True
    same_forward_as = ""

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        self.batch, self.horizon, self.half_planes = batch, horizon, half_planes

    def bind(self, instance: Instance) -> Any:
        """Whatever depends on the data that are not differentiated. Not timed."""
        return instance

    def prepare(self, bound: Any, parameters: Parameters) -> Any:
        """The input of `forward` in this solver's own terms. Not timed: a gift to solvers without gradients."""
        return parameters

    def forward(self, bound: Any, prepared: Any) -> Answer:
        raise NotImplementedError

    def gradient(self, bound: Any, prepared: Any, cotangent: Tensor) -> tuple[Answer, tuple[Tensor, ...]]:
        """The answer and the derivatives of (cotangent * positions).sum() with respect to the parameters."""
        leaves = prepared.leaves()
        answer = self.forward(bound, leaves)
        loss = (cotangent * answer.positions).sum()
        return answer, torch.autograd.grad(loss, leaves.tensors(), allow_unused=True, materialize_grads=True)

    def report(self, bound: Any, answer: Answer) -> Answer:
        """The answer with `refused` and `trusted` filled in, for solvers that keep them elsewhere. Not timed."""
        return answer

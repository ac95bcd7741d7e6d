"""Compiled stages as functions of tensors: recorded with their adjoints where a gradient is wanted, plain elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Tensors = tuple[Tensor | None, ...]


class Stage(Protocol):
    """A function of tensors and its adjoint. What is constant belongs to the object.

    It may also have `constant(outputs, needed)`: outputs without gradient if such inputs alone need one.
    """

    def forward(self, inputs: Any) -> tuple[Tensor, ...]:
        """The outputs, new tensors all of them."""

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        """The gradient of every input (None: no gradient) from those of the outputs (None: zero)."""


def apply(stage: Stage, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """The outputs; with a history where a gradient of any input is to be recorded. They can be differentiated once."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return _Recorded.apply(stage, *inputs)  # type: ignore[no-any-return]
    return stage.forward(inputs)


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stage: Stage, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        outputs = stage.forward(inputs)
        ctx.stage, ctx.count = stage, len(inputs)
        ctx.save_for_backward(*inputs, *outputs)
        ctx.set_materialize_grads(False)
        still = stage.constant(outputs, ctx.needs_input_grad[1:]) if hasattr(stage, "constant") else ()
        ctx.mark_non_differentiable(*still, *(x for x in outputs if not x.is_floating_point()))
        return outputs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> Tensors:
        saved = ctx.saved_tensors
        return None, *ctx.stage.backward(saved[: ctx.count], saved[ctx.count :], gradients)


def workers(rows: int, threads: int, microseconds: float) -> int:
    """How many of the allowed threads to use for rows that cost so much each: one costs as much to start as it does in
    about 0.1 ms."""
    return max(1, min(threads, int(rows * microseconds / 150.0)))

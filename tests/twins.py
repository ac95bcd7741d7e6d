"""Compiled kernels held to their plain twins: the same work done by both, and proof of who did it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeVar
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from planner import compiled

T = TypeVar("T")

needs_library = pytest.mark.skipif(not compiled.available(), reason=compiled.why_not() or "compiled")


def by_kernel(work: Callable[[], T], *kernels: tuple[ModuleType, str]) -> T:
    """What work returns; fails unless every one of the kernels was called."""
    spies = [mock.patch.object(module, name, mock.Mock(wraps=getattr(module, name))) for module, name in kernels]
    mocks = [spy.start() for spy in spies]
    try:
        result = work()
    finally:
        for spy in spies:
            spy.stop()
    idle = [name for (_, name), spy in zip(kernels, mocks) if not spy.called]
    assert not idle, f"not used: {idle}"
    return result


def by_twin(work: Callable[[], T], *kernels: tuple[ModuleType, str]) -> T:
    """What work returns where the kernels are missing."""
    patches = [mock.patch.object(module, name, None) for module, name in kernels]
    for patch in patches:
        patch.start()
    try:
        return work()
    finally:
        for patch in patches:
            patch.stop()


def assert_twins(work: Callable[[], Sequence[Tensor]], *kernels: tuple[ModuleType, str], rel: float = 1e-9) -> None:
    """Both ways give the same tensors: equal masks and integers, numbers to `rel` of the largest; NaN where NaN."""
    ours, twins = by_kernel(work, *kernels), by_twin(work, *kernels)
    assert len(ours) == len(twins)
    for k, (a, b) in enumerate(zip(ours, twins)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), k
        if not a.is_floating_point():
            assert torch.equal(a, b), k
            continue
        x, y = a.detach().numpy(), b.detach().numpy()
        scale = 1.0 + np.abs(y[np.isfinite(y)]).max(initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=rel * scale, err_msg=str(k))


def with_gradients(
    outputs: Callable[..., Sequence[Tensor]], *inputs: Tensor, seed: int = 0
) -> Callable[[], list[Tensor]]:
    """Work that gives the outputs of inputs, and the gradients of a random combination of them."""

    def work() -> list[Tensor]:
        leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
        found = list(outputs(*leaves))
        draw = torch.Generator().manual_seed(seed)
        moving = [x for x in found if x.requires_grad]
        weights = [torch.randn(x.shape, dtype=x.dtype, generator=draw) for x in moving]
        total = torch.stack([(x * w).sum() for x, w in zip(moving, weights)]).sum()
        wanted = [x for x in leaves if x.requires_grad]
        grads = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        return [x.detach() for x in found] + list(grads)

    return work

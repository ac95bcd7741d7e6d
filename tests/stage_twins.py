"""Stages whose inputs are nested dataclasses: their values and gradients, compiled and plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from twins import by_kernel, by_twin

Outputs = dict[str, Tensor]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of dataclasses and tuples with other tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: mapped(getattr(value, f.name), change) for f in fields(value) if f.init})
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(x, change) for x in value)
    return value


def with_leaves(inputs: Any) -> tuple[Any, list[Tensor]]:
    """The inputs with every floating tensor a leaf of its own."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        leaves.append(x.detach().clone().requires_grad_(True))
        return leaves[-1]

    return mapped(inputs, leaf), leaves


def values_and_gradients(function: Callable[..., Outputs], inputs: Any) -> tuple[Outputs, list[Tensor]]:
    """The outputs, and the gradients of a random weighted sum of their finite entries for every floating input."""
    own, leaves = with_leaves(inputs)
    outputs = function(*own)
    total = torch.zeros((), dtype=torch.float64)
    for i, value in enumerate(outputs.values()):
        if value.requires_grad:
            weight = torch.randn(value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
            total = total + (torch.where(torch.isfinite(value), value, 0.0) * weight).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found)]
    return {name: value.detach() for name, value in outputs.items()}, gradients


def assert_close(name: str, a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    """Within rounding of the largest entry; infinite and NaN entries in the same places."""
    assert a.shape == b.shape, name
    same = (a == b) | (a.isnan() & b.isnan())
    apart = torch.where(same, 0.0, (a - b).abs())
    size = a[torch.isfinite(a)].abs().max() if bool(torch.isfinite(a).any()) else torch.zeros(())
    assert bool((apart <= tolerance * (size + 1e-6)).all()), f"{name}: {float(apart.max())} of {float(size)}"


def assert_stage_twins(function: Callable[..., Outputs], inputs: Any, *kernels: tuple[ModuleType, str]) -> None:
    """The function gives the same values and gradients with and without these kernels, which are used."""
    work = lambda: values_and_gradients(function, inputs)  # noqa: E731
    (fast, fast_gradients), (slow, slow_gradients) = by_kernel(work, *kernels), by_twin(work, *kernels)
    with torch.no_grad():
        for name, value in function(*inputs).items():
            assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(fast[name])), name
    assert fast.keys() == slow.keys()
    for name in fast:
        assert_close(name, slow[name], fast[name])
    for i, (a, b) in enumerate(zip(slow_gradients, fast_gradients)):
        assert_close(f"gradient {i}", a, b)

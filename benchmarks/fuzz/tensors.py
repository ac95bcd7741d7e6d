"""Ways to spoil one field of a contract object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Spoil = Callable[[Tensor, np.random.Generator], Any]
_HUGE = (1e12, 1e30, 1e200, 1.7e308)


def _set(value: Tensor, number: float, rng: np.random.Generator) -> Tensor:
    out = value.clone()
    out.view(-1)[int(rng.integers(out.numel()))] = number
    return out


def nan(value: Tensor, rng: np.random.Generator) -> Tensor:
    return _set(value, float("nan"), rng)


def inf(value: Tensor, rng: np.random.Generator) -> Tensor:
    return _set(value, float(rng.choice([np.inf, -np.inf])), rng)


def denormal(value: Tensor, rng: np.random.Generator) -> Tensor:
    return _set(value, float(rng.choice([5e-324, -5e-324, 1e-310])), rng)


def huge(value: Tensor, rng: np.random.Generator) -> Tensor:
    return _set(value, float(rng.choice(_HUGE)) * float(rng.choice([-1, 1])), rng)


def all_nan(value: Tensor, rng: np.random.Generator) -> Tensor:
    return value * float("nan")


def wrong_shape(value: Tensor, rng: np.random.Generator) -> Tensor:
    how = int(rng.integers(3))
    if how == 0 or value.ndim == 0:
        return value[None]
    return torch.cat([value, value[:1]]) if how == 1 else value[..., None]


def truncated(value: Tensor, rng: np.random.Generator) -> Tensor:
    axis = int(rng.integers(value.ndim))
    return value.narrow(axis, 0, int(rng.integers(value.shape[axis])))


def wrong_type(value: Tensor, rng: np.random.Generator) -> Any:
    wrong = (None, "text", 3.5, value.numpy(), value.tolist(), value.to(torch.complex128), value.to(torch.int16))
    return wrong[int(rng.integers(len(wrong)))]


def huge_integer(value: Tensor, rng: np.random.Generator) -> Tensor:
    return _set(value, int(rng.choice([-(2**62), 2**62, -1, 10**6])), rng)


FLOATS: dict[str, Spoil] = {
    "nan": nan, "inf": inf, "denormal": denormal, "huge": huge, "all nan": all_nan, "wrong shape": wrong_shape,
    "truncated": truncated, "wrong type": wrong_type,
}  # fmt: skip
OTHERS: dict[str, Spoil] = {
    "huge": huge_integer,
    "wrong shape": wrong_shape,
    "truncated": truncated,
    "wrong type": wrong_type,
}
"""For integers and masks."""


def spoilt(value: Tensor, way: str, rng: np.random.Generator) -> Any:
    """The field, spoilt; raises KeyError where the way does not apply to it."""
    ways = FLOATS if value.is_floating_point() else OTHERS
    if not value.numel() or (way == "truncated" and value.ndim == 0) or (value.dtype == torch.bool and way == "huge"):
        raise KeyError(way)
    return ways[way](value, rng)

"""The same formulas on tensors with a history or, several times faster for single scenes, on plain arrays.

    xp = library(x, y)               # TENSORS if a gradient of any of them is to be recorded, else ARRAYS
    z = xp.at_least(xp.of(x) + xp.of(y), 0.0)
    return xp.tensor(z)

Operators, slices and assignments to slices are common to both; the rest has the names below.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor


class _Arrays:
    """numpy."""

    where, minimum, maximum = (staticmethod(np.where), staticmethod(np.minimum), staticmethod(np.maximum))
    sqrt, arctan, concat = (staticmethod(np.sqrt), staticmethod(np.arctan), staticmethod(np.concatenate))
    at_least, at_most = staticmethod(np.maximum), staticmethod(np.minimum)
    tensor = staticmethod(torch.from_numpy)
    abs = staticmethod(np.abs)

    @staticmethod
    def of(x: Tensor) -> np.ndarray:
        """The values of a tensor, not copied."""
        return x.detach().numpy()

    constant = of

    @staticmethod
    def full(shape: tuple[int, ...], value: float) -> np.ndarray:
        return np.full(shape, value)

    @staticmethod
    def copies(count: int, x: np.ndarray) -> np.ndarray:
        """``[count, ...]``: x again and again."""
        out = np.empty((count, *x.shape))
        out[:] = x
        return out

    @staticmethod
    def columns(shape: tuple[int, ...], values: Sequence[Any]) -> np.ndarray:
        """``[*shape, len(values)]`` of arrays that broadcast to shape, or numbers."""
        out = np.empty((*shape, len(values)))
        for i, value in enumerate(values):
            out[..., i] = value
        return out

    @staticmethod
    def diagonal(x: np.ndarray) -> np.ndarray:
        """``[..., k, k]``: diagonal matrices."""
        out = np.zeros((*x.shape, x.shape[-1]))
        np.einsum("...ii->...i", out)[...] = x
        return out

    @staticmethod
    def pick(x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """``[len(x), *index.shape]``: entries of each row of x, its other axes flattened."""
        return x.reshape(len(x), -1).take(index, 1)

    @staticmethod
    def plain(x: np.ndarray) -> np.ndarray:
        """A plain array, to go with the others."""
        return x

    values = plain  # the other way, without history

    @staticmethod
    def take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """``[*axes, *index.shape]``: entries of the last axis."""
        return x.take(index, -1)

    @staticmethod
    def put(x: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
        """A flat array with some entries replaced; x itself is used up. index: no entry twice."""
        x[index] = values
        return x

    @staticmethod
    def cos(x: np.ndarray) -> np.ndarray:
        """By torch, whose vectorised functions are several times faster."""
        return torch.cos(torch.from_numpy(x)).numpy()


class _Tensors:
    """torch."""

    where, minimum, maximum = (staticmethod(torch.where), staticmethod(torch.minimum), staticmethod(torch.maximum))
    sqrt, arctan, concat = (staticmethod(torch.sqrt), staticmethod(torch.atan), staticmethod(torch.cat))
    abs = staticmethod(torch.abs)

    @staticmethod
    def of(x: Tensor) -> Tensor:
        return x

    tensor = of

    @staticmethod
    def constant(x: Tensor) -> Tensor:
        """The tensor without its history."""
        return x.detach()

    @staticmethod
    def at_least(x: Tensor, low: Any) -> Tensor:
        return x.clamp(min=low)

    @staticmethod
    def at_most(x: Tensor, high: Any) -> Tensor:
        return x.clamp(max=high)

    @staticmethod
    def full(shape: tuple[int, ...], value: float) -> Tensor:
        return torch.full(shape, value, dtype=torch.float64)

    @staticmethod
    def copies(count: int, x: Tensor) -> Tensor:
        return x.expand(count, *x.shape).clone()

    @staticmethod
    def columns(shape: tuple[int, ...], values: Sequence[Any]) -> Tensor:
        parts = [torch.as_tensor(v, dtype=torch.float64).expand(shape) for v in values]
        return torch.stack(parts, -1)

    @staticmethod
    def diagonal(x: Tensor) -> Tensor:
        return torch.diag_embed(x)

    @staticmethod
    def pick(x: Tensor, index: Tensor) -> Tensor:
        return x.flatten(1).index_select(1, index.flatten()).unflatten(1, index.shape)

    plain = staticmethod(torch.from_numpy)

    @staticmethod
    def values(x: Tensor) -> np.ndarray:
        return x.detach().numpy()

    @staticmethod
    def take(x: Tensor, index: np.ndarray) -> Tensor:
        taken = x.index_select(-1, torch.from_numpy(index.reshape(-1)))
        return taken.view(*x.shape[:-1], *index.shape)

    @staticmethod
    def put(x: Tensor, index: np.ndarray, values: Tensor) -> Tensor:
        return x.index_put((torch.from_numpy(index),), values)

    cos = staticmethod(torch.cos)


ARRAYS, TENSORS = _Arrays(), _Tensors()


def library(*inputs: Tensor | None) -> Any:
    """TENSORS where a gradient of any of the inputs is to be recorded, else ARRAYS."""
    if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        return TENSORS
    return ARRAYS


class Constants:
    """Mixin for dataclasses of constant tensors that formulas of either kind read."""

    def of(self, xp: Any) -> Any:
        """The same, as tensors or as arrays; made once."""
        if xp is TENSORS:
            return self
        kept = self.__dict__.get("_arrays")
        if kept is None:
            kept = SimpleNamespace(**{n: xp.of(v) if isinstance(v, Tensor) else v for n, v in vars(self).items()})
            self.__dict__["_arrays"] = kept
        return kept

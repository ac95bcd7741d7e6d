"""Tensors of the contract as plain arrays, and angles."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, without gradient, on the CPU."""
    return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angles (rad) within half a turn of zero."""
    return angle - 2 * np.pi * np.rint(angle / (2 * np.pi))  # type: ignore[no-any-return]

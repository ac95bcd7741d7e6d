"""Tensors of the contract as plain arrays."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, without gradient, on the CPU."""
    return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]

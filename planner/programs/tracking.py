"""A proposed trajectory as what the programs stay close to, in place of the planner's own references."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass
class TrackingReference:
    """Where a proposal wants the rear axle to be at the N nodes, for R candidates.

    s (m, along the path), v (m/s), d (m), psi (rad against the path) ``[R, N]``. Weights ``[R]`` or ``[R, N]``, >= 0,
    on the squared distances: weight_s (1/m^2), weight_v (s^2/m^2), weight_d (1/m^2), weight_psi (1/rad^2), per second.
    comfort > 0: factor on the weights of acceleration, jerk, gap, curvature and curvature rate, which keep the optimum
    unique. Of the tail's cost only the weight of the jerk is scaled with them.
    """

    s: Float[Tensor, "R N"]
    v: Float[Tensor, "R N"]
    d: Float[Tensor, "R N"]
    psi: Float[Tensor, "R N"]
    weight_s: Tensor
    weight_v: Tensor
    weight_d: Tensor
    weight_psi: Tensor
    comfort: float = 0.1

    def __post_init__(self) -> None:
        """Raises ValueError unless comfort > 0."""
        if not self.comfort > 0:
            raise ValueError(f"TrackingReference.comfort: expected a positive factor, got {self.comfort}")


def per_node(weight: Tensor, like: Tensor) -> Tensor:
    """A weight ``[R]`` or ``[R, N]`` as ``[R, N]``."""
    return (weight[:, None] if weight.ndim == 1 else weight).expand_as(like)


def tensors(reference: TrackingReference | None) -> list[Tensor]:
    """All of its tensors; none of None."""
    return [] if reference is None else [x for x in vars(reference).values() if isinstance(x, Tensor)]

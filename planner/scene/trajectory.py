"""The planner's output contract: trajectories of the rear axle on a non-uniform time grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planner.scene.tensor_data import TensorData


@dataclass
class Trajectory(TensorData):
    """Motion of the rear axle at ``T`` times, in the frame of the scene it was planned for.

    time (s): after the scene's time, increasing; the first entry is 0 and holds the start state.
    x, y (m), yaw (rad), v (m/s), a (m/s^2), curvature (1/m).
    Between entries: jerk and curvature rate are constant.
    """

    time: Float[Tensor, "*batch T"]
    x: Float[Tensor, "*batch T"]
    y: Float[Tensor, "*batch T"]
    yaw: Float[Tensor, "*batch T"]
    v: Float[Tensor, "*batch T"]
    a: Float[Tensor, "*batch T"]
    curvature: Float[Tensor, "*batch T"]

    @property
    def xy(self) -> Float[Tensor, "*batch T 2"]:
        return torch.stack([self.x, self.y], -1)

    def _validate_values(self, path: str) -> None:
        if not bool((torch.diff(self.time, dim=-1) > 0).all()):
            raise ValueError(f"{path}.time: expected strictly increasing times (s)")

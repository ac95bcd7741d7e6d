"""Other road users: what they are now, and where they may go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.scene.tensor_data import TensorData


class AgentClass(IntEnum):
    """Road-user classes the planner and the checker distinguish."""

    CAR = 0
    TRUCK = 1
    BUS = 2
    MOTORCYCLE = 3
    BICYCLE = 4
    PEDESTRIAN = 5
    STATIC = 6  # cones, barriers, debris and anything else that does not move by itself

    @property
    def is_vehicle(self) -> bool:
        return self <= AgentClass.BICYCLE

    @property
    def is_vulnerable(self) -> bool:
        return self in (AgentClass.MOTORCYCLE, AgentClass.BICYCLE, AgentClass.PEDESTRIAN)


@dataclass
class AgentTracks(TensorData):
    """Agents at the scene's time. ``A`` agents.

    box: x (m), y (m) of the box centre, yaw (rad), length (m), width (m).
    velocity: vx, vy (m/s) in the scene's frame.
    position_covariance (m^2). agent_class: AgentClass values.
    existence: probability in [0, 1]. track_id: stable over time. valid: False = padding.
    """

    box: Float[Tensor, "*batch A 5"]
    velocity: Float[Tensor, "*batch A 2"]
    position_covariance: Float[Tensor, "*batch A 2 2"]
    agent_class: Int[Tensor, "*batch A"]
    existence: Float[Tensor, "*batch A"]
    track_id: Int[Tensor, "*batch A"]
    valid: Bool[Tensor, "*batch A"]

    @classmethod
    def empty(cls, dtype: torch.dtype = torch.float64) -> AgentTracks:
        """No agents."""
        z = lambda *shape: torch.zeros(*shape, dtype=dtype)  # noqa: E731
        i = torch.zeros(0, dtype=torch.int64)
        return cls(z(0, 5), z(0, 2), z(0, 2, 2), i, z(0), i.clone(), torch.zeros(0, dtype=torch.bool))

    def _validate_values(self, path: str) -> None:
        ok = self.valid
        if bool((self.box[..., 3:5][ok] <= 0).any()):
            raise ValueError(f"{path}.box: expected positive length and width for valid agents")
        if bool(((self.existence < 0) | (self.existence > 1))[ok].any()):
            raise ValueError(f"{path}.existence: expected probabilities in [0, 1]")
        known = (self.agent_class >= 0) & (self.agent_class < len(AgentClass))
        if bool((~known)[ok].any()):
            raise ValueError(f"{path}.agent_class: expected values 0 to {len(AgentClass) - 1}")
        _check_covariance(f"{path}.position_covariance", self.position_covariance, ok)


@dataclass
class AgentFutures(TensorData):
    """Multi-modal forecasts of the agents in AgentTracks, in the same order.

    mean: box centre (m) per mode and time. yaw (rad).
    covariance (m^2): of the position, per mode and time; includes today's position error.
    probability: of each mode, sums to one over the valid modes of a valid agent.
    time (s): after the scene's time, increasing, first entry > 0.
    valid: False where a mode or a step says nothing.
    """

    mean: Float[Tensor, "*batch A M T 2"]
    yaw: Float[Tensor, "*batch A M T"]
    covariance: Float[Tensor, "*batch A M T 2 2"]
    probability: Float[Tensor, "*batch A M"]
    time: Float[Tensor, "*batch T"]
    valid: Bool[Tensor, "*batch A M T"]

    @classmethod
    def empty(cls, time: Tensor, modes: int = 1) -> AgentFutures:
        """No agents on the given time grid (s), ``[T]``."""
        t, z = time.shape[-1], lambda *shape: torch.zeros(*shape, dtype=time.dtype)
        return cls(
            z(0, modes, t, 2), z(0, modes, t), z(0, modes, t, 2, 2), z(0, modes), time,
            torch.zeros(0, modes, t, dtype=torch.bool),
        )  # fmt: skip

    def _validate_values(self, path: str) -> None:
        if self.time.shape[-1] and not bool((torch.diff(self.time, dim=-1) > 0).all() & (self.time[..., :1] > 0).all()):
            raise ValueError(f"{path}.time: expected increasing times (s) after 0")
        spoken = self.valid.any(-1)
        p = torch.where(spoken, self.probability, torch.zeros_like(self.probability))
        if bool((p < 0).any()) or bool(((p.sum(-1) - 1).abs() > 1e-3)[spoken.any(-1)].any()):
            raise ValueError(f"{path}.probability: expected non-negative values summing to 1 over an agent's modes")
        _check_covariance(f"{path}.covariance", self.covariance, self.valid)


def _check_covariance(where: str, covariance: Tensor, valid: Tensor) -> None:
    c = covariance[valid]
    if not c.numel():
        return
    symmetric = (c - c.transpose(-1, -2)).abs().amax() <= 1e-5 * (1 + c.abs().amax())
    determinant = c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1] * c[:, 1, 0]
    # Relative to the size of the matrix, so that small covariances are judged as strictly as large ones.
    rounding = 1e-5 * (c[:, 0, 0] + c[:, 1, 1]) ** 2
    if not bool(symmetric) or bool((c.diagonal(dim1=-2, dim2=-1) < 0).any()) or bool((determinant < -rounding).any()):
        raise ValueError(f"{where}: expected symmetric positive semidefinite 2x2 matrices")

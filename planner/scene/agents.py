"""Other road users: what they are now, and where they may go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.scene.tensor_data import TensorData, plain

_BLOCK = 8192


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
        ok, box, existence, kind = (plain(x) for x in (self.valid, self.box, self.existence, self.agent_class))
        if ((box[..., 3:5] <= 0) & ok[..., None]).any():
            raise ValueError(f"{path}.box: expected positive length and width for valid agents")
        if (((existence < 0) | (existence > 1)) & ok).any():
            raise ValueError(f"{path}.existence: expected probabilities in [0, 1]")
        if (((kind < 0) | (kind >= len(AgentClass))) & ok).any():
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
        time, ok, p = plain(self.time), plain(self.valid), plain(self.probability)
        if time.size and ((time[..., 1:] <= time[..., :-1]).any() or (time[..., 0] <= 0).any()):
            raise ValueError(f"{path}.time: expected increasing times (s) after 0")
        spoken = ok.any(-1)
        p = np.where(spoken, p, 0.0)
        if (p < 0).any() or ((np.abs(p.sum(-1) - 1) > 1e-3) & spoken.any(-1)).any():
            raise ValueError(f"{path}.probability: expected non-negative values summing to 1 over an agent's modes")
        _check_covariance(f"{path}.covariance", self.covariance, ok)


def _check_covariance(where: str, covariance: Tensor, valid: np.ndarray) -> None:
    """Of the valid ones; first of all of them as strictly as any, since usually all of them are sound."""
    c = plain(covariance).reshape(-1, 4)
    if c.size and not _semidefinite(c, 1e-5):
        c = c[valid.ravel()]
        if c.size and not _semidefinite(c, 1e-5 * (1 + float(np.abs(c).max()))):
            raise ValueError(f"{where}: expected symmetric positive semidefinite 2x2 matrices")


def _semidefinite(covariance: np.ndarray, asymmetry: float) -> bool:
    """``[n, 4]``: all are positive semidefinite up to rounding, their mixed entries no further apart than told.

    In blocks that stay in the processor's cache.
    """
    for first in range(0, len(covariance), _BLOCK):
        xx, xy, yx, yy = np.ascontiguousarray(covariance[first : first + _BLOCK].T)
        if xx.min() < 0 or yy.min() < 0 or np.abs(xy - yx).max() > asymmetry:
            return False
        # Relative to the size of the matrix, so that small covariances are judged as strictly as large ones; of huge
        # ones both sides overflow, and nothing is said.
        with np.errstate(over="ignore", invalid="ignore"):
            rounding = 1e-5 * (xx + yy) ** 2
            if (xx * yy - xy * yx < -rounding).any():
                return False
    return True

"""The ego vehicle: its state and its fixed dimensions and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner.scene.tensor_data import TensorData


@dataclass(frozen=True)
class VehicleParameters:
    """Dimensions and physical limits of the ego vehicle.

    The defaults are the nuScenes vehicle (Renault Zoe): 4.084 m x 1.85 m as the
    open-loop benchmarks use it, its box centre 1.4 m ahead of the rear axle.
    Limits are what the actuators can do; what is comfortable is PlannerConfig's matter.
    """

    length: float = 4.084  # m
    width: float = 1.85  # m
    rear_axle_to_center: float = 1.4  # m, forward
    wheelbase: float = 2.588  # m
    speed_max: float = 25.0  # m/s
    acceleration_max: float = 3.0  # m/s^2
    braking_max: float = 8.0  # m/s^2, dry road, magnitude
    jerk_max: float = 12.0  # m/s^3, magnitude; emergency braking builds up in about 0.6 s
    curvature_max: float = 0.2  # 1/m
    curvature_rate_max: float = 0.25  # 1/(m s), at the rear axle
    lateral_acceleration_max: float = 5.0  # m/s^2

    @property
    def front(self) -> float:
        """Rear axle to front bumper, m."""
        return self.rear_axle_to_center + self.length / 2

    @property
    def rear(self) -> float:
        """Rear axle to rear bumper, m (positive)."""
        return self.length / 2 - self.rear_axle_to_center


@dataclass
class EgoState(TensorData):
    """Motion of the rear axle. Shapes ``[...]``; SI units.

    x, y (m), yaw (rad): pose in the frame of the scene that holds it (zero in the ego frame).
    v (m/s): signed speed along the heading. a (m/s^2): longitudinal acceleration.
    curvature (1/m): of the driven path, left positive. yaw_rate (rad/s).
    time_us: absolute time, microseconds.
    v_source, a_source: where v and a come from ("can_bus", "poses", "simulation", ...);
    in a batch a tuple where the states differ.
    """

    x: Float[Tensor, "*batch"]
    y: Float[Tensor, "*batch"]
    yaw: Float[Tensor, "*batch"]
    v: Float[Tensor, "*batch"]
    a: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]
    yaw_rate: Float[Tensor, "*batch"]
    time_us: Int[Tensor, "*batch"]
    v_source: str | tuple[Any, ...] = "unknown"
    a_source: str | tuple[Any, ...] = "unknown"

    @classmethod
    def at_origin(
        cls,
        v: float,
        a: float = 0.0,
        curvature: float = 0.0,
        time_us: int = 0,
        source: str = "unknown",
        dtype: torch.dtype = torch.float64,
    ) -> EgoState:
        """A single state at the origin of the ego frame, from plain numbers."""
        f = lambda value: torch.tensor(float(value), dtype=dtype)  # noqa: E731
        return cls(
            x=f(0), y=f(0), yaw=f(0), v=f(v), a=f(a), curvature=f(curvature), yaw_rate=f(v * curvature),
            time_us=torch.tensor(int(time_us)), v_source=source, a_source=source,
        )  # fmt: skip

"""The second perception channel's contract: what stands there and how far is free, from raw measurements alone.

No classes, no forecasts, no learned numbers: boxes around measured returns, and ranges without returns. Handed to the
checker beside the scene, never to the planner, so that an object the first channel misses cannot be planned away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.scene.tensor_data import TensorData


class RawStatus(StrEnum):
    """What the channel says about itself; anything but OK comes with a reason."""

    OK = "ok"  # measured now, content plausible
    STALE = "stale"  # the newest sweep is older than allowed
    FROZEN = "frozen"  # the same content under a new stamp
    BROKEN = "broken"  # a sweep came, but it cannot be one of this sensor: too few points, rings missing, NaN
    ABSENT = "absent"  # no sweep at all


@dataclass(frozen=True)
class RawObstacles(TensorData):
    """Obstacles and free sight at `time_us`, ego frame (rear axle on the ground, x forward, y left), SI units.

    centre (m), yaw (rad), length, width (m): of the box around an obstacle's returns, length along yaw. Only the side
    that faces the sensor is measured: the box is a lower bound of the object's extent, never a guess of its whole.
    velocity (m/s): motion over the ground, expressed in ego axes; zero where velocity_known is False, which means
    "any", not "at rest".
    observed: number of sweeps in which the obstacle was seen so far, at least 1.
    valid: False = padding.
    sight (m): free range per azimuth sector, from the ego frame's origin to the nearest return above the ground or to
    the range up to which the sensor was seen to reach the ground. ``K`` sectors of equal width, counter-clockwise, the
    first *centred* on straight ahead. sight_valid: the sector was measured; where False, nothing is known about it.
    time_us: time of the measurement, microseconds. Where the status is not OK, obstacles are the last known ones and
    `sight` says nothing, so no sector is valid: what was free is not known to be free any more.
    status, reason: see `RawStatus`; in a batch tuples where they differ.
    """

    centre: Float[Tensor, "*batch O 2"]
    yaw: Float[Tensor, "*batch O"]
    length: Float[Tensor, "*batch O"]
    width: Float[Tensor, "*batch O"]
    velocity: Float[Tensor, "*batch O 2"]
    velocity_known: Bool[Tensor, "*batch O"]
    observed: Int[Tensor, "*batch O"]
    valid: Bool[Tensor, "*batch O"]
    sight: Float[Tensor, "*batch K"]
    sight_valid: Bool[Tensor, "*batch K"]
    time_us: Int[Tensor, "*batch"]
    status: RawStatus | tuple[Any, ...] = RawStatus.OK
    reason: str | tuple[Any, ...] = ""

    def __post_init__(self) -> None:
        if isinstance(self.status, str) and not isinstance(self.status, RawStatus):  # as it comes from a file
            object.__setattr__(self, "status", RawStatus(self.status))

    @property
    def sectors(self) -> int:
        """``K``."""
        return int(self.sight.shape[-1])

    @property
    def azimuth(self) -> Tensor:
        """``[K]`` rad in (-pi, pi]: the direction of each sector's middle, in the ego frame."""
        middle = torch.arange(self.sectors, dtype=self.sight.dtype, device=self.sight.device) * (2 * math.pi)
        middle = middle / max(self.sectors, 1)
        return torch.where(middle > math.pi, middle - 2 * math.pi, middle)

    @classmethod
    def nothing(
        cls, time_us: int, status: RawStatus = RawStatus.ABSENT, reason: str = "no sweep", sectors: int = 180
    ) -> Self:
        """No obstacle and no measured sector: nothing is known."""
        z = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
        no = torch.zeros(0, dtype=torch.bool)
        return cls(
            z(0, 2), z(0), z(0), z(0), z(0, 2), no, torch.zeros(0, dtype=torch.int64), no.clone(), z(sectors),
            torch.zeros(sectors, dtype=torch.bool), torch.tensor(int(time_us)), status, reason,
        )  # fmt: skip

    @classmethod
    def stack(cls, items: Any) -> Self:
        """As `TensorData.stack`. Raises ValueError for unequal numbers of sectors: padding would turn them."""
        counts = {item.sectors for item in items}
        if len(counts) > 1:
            raise ValueError(f"RawObstacles.stack: expected one number of sectors, got {sorted(counts)}")
        return super().stack(items)

    def _validate_values(self, path: str) -> None:
        ok = self.valid
        if bool(((self.length <= 0) | (self.width <= 0))[ok].any()):
            raise ValueError(f"{path}: expected positive length and width of valid obstacles")
        if bool((self.observed < 1)[ok].any()):
            raise ValueError(f"{path}.observed: expected at least 1 for valid obstacles")
        if bool((self.velocity != 0).any(-1)[ok & ~self.velocity_known].any()):
            raise ValueError(f"{path}.velocity: expected zero where velocity_known is False")
        if bool((self.sight < 0)[self.sight_valid].any()):
            raise ValueError(f"{path}.sight: expected ranges of at least 0 m where sight_valid")
        if bool(self.sight_valid.any()) and self.status != RawStatus.OK and not isinstance(self.status, tuple):
            raise ValueError(f"{path}.sight_valid: expected no valid sector with status {self.status}")
        states = self.status if isinstance(self.status, tuple) else (self.status,)
        reasons = self.reason if isinstance(self.reason, tuple) else (self.reason,) * len(states)
        for status, reason in zip(states, reasons):
            if status not in set(RawStatus):
                raise ValueError(f"{path}.status: expected one of {', '.join(RawStatus)}, got {status!r}")
            if status != RawStatus.OK and not reason:
                raise ValueError(f"{path}.reason: expected a sentence for status {status}")

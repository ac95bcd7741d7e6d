"""Map geometry as polylines, and the route to follow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.scene.tensor_data import TensorData, plain


class PolylineType(IntEnum):
    """What a map polyline is."""

    CENTERLINE = 0  # of a lane, in driving direction
    DIVIDER = 1  # between lanes or between directions
    BOUNDARY = 2  # edge of the drivable area; drivable surface lies to the LEFT of the polyline's direction
    CROSSING = 3  # outline of a pedestrian crossing
    STOP_LINE = 4


@dataclass
class MapPolylines(TensorData):
    """``L`` polylines of up to ``P`` points in the scene's frame.

    xy (m). kind: PolylineType values. confidence in [0, 1].
    closed: for a stop line, whether it must not be passed now (red light); else False.
    valid: which points exist; the valid points of a polyline come first.

    The drivable area is given by its BOUNDARY polylines (outer edge counter-clockwise, holes
    clockwise, long rings cut into pieces that share their end points).
    """

    xy: Float[Tensor, "*batch L P 2"]
    kind: Int[Tensor, "*batch L"]
    confidence: Float[Tensor, "*batch L"]
    closed: Bool[Tensor, "*batch L"]
    valid: Bool[Tensor, "*batch L P"]

    @classmethod
    def from_lists(
        cls,
        polylines: list[tuple[Tensor, PolylineType]],
        dtype: torch.dtype = torch.float64,
    ) -> MapPolylines:
        """From (xy ``[n, 2]``, kind) pairs of any lengths; confidence 1, nothing closed."""
        count, points = len(polylines), max((len(xy) for xy, _ in polylines), default=2)
        out = torch.zeros(count, points, 2, dtype=dtype)
        valid = torch.zeros(count, points, dtype=torch.bool)
        for i, (xy, _) in enumerate(polylines):
            out[i, : len(xy)] = torch.as_tensor(xy, dtype=dtype)
            valid[i, : len(xy)] = True
        kind = torch.tensor([int(k) for _, k in polylines], dtype=torch.int64)
        return cls(out, kind, torch.ones(count, dtype=dtype), torch.zeros(count, dtype=torch.bool), valid)

    def _validate_values(self, path: str) -> None:
        kind, valid = plain(self.kind), plain(self.valid)
        if ((kind < 0) | (kind >= len(PolylineType))).any():
            raise ValueError(f"{path}.kind: expected values 0 to {len(PolylineType) - 1}")
        if (valid[..., 1:] > valid[..., :-1]).any():
            raise ValueError(f"{path}.valid: expected the valid points of a polyline to come first")


@dataclass
class Route(TensorData):
    """The way to go: ``R`` points along a lane-level path, in driving direction.

    xy (m). speed_limit (m/s) per point. lane_id: index of the lane in the map the route
    was made from (-1 unknown).
    left, right (m, >= 0): from the point sideways to the end of the surface that this
    direction of travel may use. left_oncoming, right_oncoming (m, >= 0): how much further the
    surface of oncoming traffic reaches (0 where there is none).
    junction: the point lies on a lane connector or in an intersection.
    valid: valid points come first.
    alternative, alternative_valid: ``K`` further continuations after the route's end, ``R`` points each.
    """

    xy: Float[Tensor, "*batch R 2"]
    speed_limit: Float[Tensor, "*batch R"]
    lane_id: Int[Tensor, "*batch R"]
    left: Float[Tensor, "*batch R"]
    right: Float[Tensor, "*batch R"]
    left_oncoming: Float[Tensor, "*batch R"]
    right_oncoming: Float[Tensor, "*batch R"]
    junction: Bool[Tensor, "*batch R"]
    valid: Bool[Tensor, "*batch R"]
    alternative: Float[Tensor, "*batch K R 2"] | None = None
    alternative_valid: Bool[Tensor, "*batch K R"] | None = None

    def _validate_values(self, path: str) -> None:
        valid = plain(self.valid)
        for name in ("left", "right", "left_oncoming", "right_oncoming", "speed_limit"):
            if ((plain(getattr(self, name)) < 0) & valid).any():
                raise ValueError(f"{path}.{name}: expected values >= 0")
        if (valid.sum(-1) < 2).any():
            raise ValueError(f"{path}.valid: expected at least 2 route points")
        if (valid[..., 1:] > valid[..., :-1]).any():
            raise ValueError(f"{path}.valid: expected the valid points to come first")

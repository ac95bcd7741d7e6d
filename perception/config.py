"""Settings of the learned perception: what is seen, how it is encoded, how many queries. SI units.

`tiny` trains on two CPU cores; `base` wants a GPU. Both have the same inputs and outputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from planner.scene import AgentClass, PolylineType

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
CLASSES = len(AgentClass)
LINE_KINDS = (PolylineType.CENTERLINE, PolylineType.DIVIDER, PolylineType.BOUNDARY, PolylineType.CROSSING)
"""Kinds of map polylines that are detected, in the order of the network's outputs."""


@dataclass(frozen=True)
class Preprocessing:
    """Everything that happens to sensor data before the network; it travels inside a checkpoint.

    extent: half-side (m) of the square bird's-eye grid around ego. pillar: side (m) of its finest cells.
    slices: heights (m above the ground under ego) between which a pillar's points are counted.
    lidar_lags: age (s) of the sweeps used, now first; past ones are moved into the present ego frame.
    lag_tolerance: by how much (s) a past sweep may miss its age; without one in reach it is missing.
    points: most points per sweep; a larger sweep is thinned evenly. own_body: half length, half width (m) of the
    box around the middle of ego in which returns are its own.
    image: height, width (pixels) of the images as the network sees them. cameras: channels, in order; none: LiDAR only.
    """

    extent: float = 51.2
    pillar: float = 0.4
    slices: tuple[float, ...] = (-2.0, 0.2, 0.5, 0.9, 1.3, 1.8, 2.6, 5.0)
    lidar_lags: tuple[float, ...] = (0.0, 0.5, 1.0)
    lag_tolerance: float = 0.3
    points: int = 32768
    own_body: tuple[float, float] = (2.2, 1.1)
    image: tuple[int, int] = (96, 160)
    cameras: tuple[str, ...] = CAMERAS

    @property
    def cells(self) -> int:
        """Pillars along one side of the grid."""
        return round(2 * self.extent / self.pillar)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def validate(self) -> None:
        """Raises ValueError where the grid cannot be halved three times, or nothing at all is looked at."""
        if self.cells % 8 or abs(self.cells * self.pillar - 2 * self.extent) > 1e-6:
            raise ValueError(f"extent, pillar: expected a multiple of 8 pillars, got {2 * self.extent / self.pillar}")
        if not self.lidar_lags or self.lidar_lags[0] != 0.0:
            raise ValueError(f"lidar_lags: expected ages that start with 0, got {self.lidar_lags}")
        if self.image[0] % 16 or self.image[1] % 16:
            raise ValueError(f"image: expected multiples of 16 pixels, got {self.image}")


@dataclass(frozen=True)
class PerceptionConfig:
    """The network.

    channels, blocks: of the three stages of the bird's-eye trunk (strides 2, 4 and 8 pillars). neck: channels of its
    fused output. image_channels: of the camera encoder at strides 2, 4, 8, 16. lift_channels: of its output, which is
    sampled at lift_heights (m) above each cell. query: width of a query; heads, layers: of the decoder's attention.
    agents, lines: queries. line_points: points per map polyline. line_range: half length, half width (m) of the
    window in which the map is detected. refinements: rounds in which a polyline is corrected from what lies under it.
    modes, horizon (s), steps: of the forecasts. groups: of the normalisation.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (1, 2, 2)
    neck: int = 48
    image_channels: tuple[int, int, int, int] = (16, 32, 48, 64)
    lift_channels: int = 32
    lift_heights: tuple[float, ...] = (0.2, 1.0, 2.2)
    query: int = 96
    heads: int = 4
    layers: int = 2
    agents: int = 100
    lines: int = 60
    line_points: int = 20
    line_range: tuple[float, float] = (30.0, 15.0)
    refinements: int = 2
    modes: int = 6
    horizon: float = 6.0
    steps: int = 12
    groups: int = 8

    def validate(self) -> None:
        """Raises ValueError naming the setting."""
        self.preprocessing.validate()
        if self.query % self.heads:
            raise ValueError(f"query: expected a multiple of {self.heads} heads, got {self.query}")
        if max(self.line_range) > self.preprocessing.extent:
            raise ValueError(f"line_range: expected at most the grid's {self.preprocessing.extent} m")


TINY = PerceptionConfig()
BASE = PerceptionConfig(
    preprocessing=replace(Preprocessing(), pillar=0.2, lidar_lags=(0.0, 0.25, 0.5), image=(256, 448)),
    channels=(64, 128, 256),
    blocks=(2, 3, 3),
    neck=128,
    image_channels=(32, 64, 128, 256),
    lift_channels=96,
    lift_heights=(0.2, 0.8, 1.6, 2.6),
    query=256,
    heads=8,
    layers=4,
    agents=200,
    lines=100,
    refinements=3,
)
SIZES = {"tiny": TINY, "base": BASE}

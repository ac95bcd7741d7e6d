"""Settings of what a driver is shown of the simulated world."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from eval.simulation.sensing.conditions import KINDS
from eval.typed_config import ConfigError
from perception.checkpoint import CheckpointError, shipped
from perception.decode import DecodeConfig
from perception.oracle import OracleConfig
from perception.track import TrackConfig

SOURCES = ("oracle", "network")
MAPS = ("hd_map", "network")
FUTURES = ("rules", "network")


@dataclass(frozen=True)
class NetworkObserverConfig:
    """A trained network on rendered sensors; their noise, light and plants are drawn from simulation.seed.

    checkpoint: tiny, the shipped one, or a file of `dualdrive train`. map: where lanes, boundaries and crossings come
    from; hd_map as the oracle's, or the network, which sees 30 m ahead and behind and 15 m to the sides. lidar,
    cameras: which sensors there are. futures: of the agents that the network tells; rules, as the oracle's forecasts on
    the HD map, or the network's own modes. weather: of the images; any, or clear, overcast, low_sun, rain, dusk, night.
    decode: what of the network's answers is told. tracking: how they are followed.
    """

    checkpoint: str = "tiny"
    map: str = "hd_map"
    futures: str = "rules"
    lidar: bool = True
    cameras: bool = True
    weather: str = "any"
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    tracking: TrackConfig = field(default_factory=lambda: TrackConfig(birth=0.3))

    def __post_init__(self) -> None:
        if self.map not in MAPS:
            raise ValueError(f"map: expected one of {', '.join(MAPS)}, got {self.map!r}")
        if self.futures not in FUTURES:
            raise ValueError(f"futures: expected one of {', '.join(FUTURES)}, got {self.futures!r}")
        if self.weather not in (*KINDS, "any"):
            raise ValueError(f"weather: expected any or one of {', '.join(KINDS)}, got {self.weather!r}")

    def path(self) -> Path:
        """The checkpoint's file. Raises ConfigError where there is none."""
        if self.checkpoint == "tiny":
            try:
                return shipped("tiny")
            except CheckpointError as error:
                raise ConfigError(f"perception.network.checkpoint: {error}") from error
        path = Path(self.checkpoint).expanduser()
        if not path.is_file():
            raise ConfigError(f"perception.network.checkpoint: expected tiny or a file, got {self.checkpoint!r}")
        return path


@dataclass(frozen=True)
class ObserverConfig:
    """What the drivers are shown of the world.

    source: for planners whose name does not say (NAME@oracle, NAME@network); oracle tells the true boxes with
    rule-based forecasts, network asks a trained network about rendered LiDAR and camera images. oracle: what it tells.
    network: which one, and what it looks at.
    """

    source: str = "oracle"
    oracle: OracleConfig = field(default_factory=OracleConfig)
    network: NetworkObserverConfig = field(default_factory=NetworkObserverConfig)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source: expected one of {', '.join(SOURCES)}, got {self.source!r}")

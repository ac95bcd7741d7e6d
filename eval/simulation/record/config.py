"""What `dualdrive record` writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from eval.simulation.sensors import SensorConfig

KEYFRAME_PERIOD = 0.5  # s, nuScenes' own
FIRST_SCENE = {"train": 2000, "val": 6000}
"""Number of the first scene of each split: names as nuScenes writes them, none of which it uses itself."""


@dataclass(frozen=True)
class RecordConfig:
    """A data set of generated drives.

    families: of towns and hazards. train_seeds, val_seeds: drawn from each family; every seed is a town of its own, and
    no seed may be in both. version: name of the table folder. past_sweeps: LiDAR turns kept before each key frame, 20 a
    second; 9 fills the whole time between two. sensors: their settings; `sensors.seed` draws light, paint, noise.
    jpeg_quality: 1 to 95. calibration_spread (degrees; and cm): normal deviation of each scene's camera mounts from the
    nominal ones. crossings_every (m): distance between additional painted crossings, 0: none. annotation_range (m):
    farther objects are not annotated. keep_misses: write rays without a return, as nuScenes does.
    """

    families: tuple[str, ...] = ()
    train_seeds: tuple[int, ...] = tuple(range(10))
    val_seeds: tuple[int, ...] = (1000, 1001)
    version: str = "v1.0-sim"
    past_sweeps: int = 0
    jpeg_quality: int = 92
    calibration_spread: float = 0.5
    crossings_every: float = 90.0
    annotation_range: float = 90.0
    keep_misses: bool = True
    sensors: SensorConfig = field(default_factory=SensorConfig)

    def validate(self) -> RecordConfig:
        """Raises ValueError naming the field, what was expected and what came."""
        if shared := set(self.train_seeds) & set(self.val_seeds):
            raise ValueError(f"val_seeds: expected seeds that are not in train_seeds, got {sorted(shared)} in both")
        if not self.train_seeds and not self.val_seeds:
            raise ValueError("train_seeds, val_seeds: expected at least one seed")
        if not 0 <= self.past_sweeps <= 9:
            raise ValueError(f"past_sweeps: expected 0 to 9, got {self.past_sweeps}")
        if not 1 <= self.jpeg_quality <= 95:
            raise ValueError(f"jpeg_quality: expected 1 to 95, got {self.jpeg_quality}")
        if not self.version.startswith("v1.0-") or "/" in self.version:
            raise ValueError(f"version: expected a name that starts with v1.0-, got {self.version!r}")
        return self

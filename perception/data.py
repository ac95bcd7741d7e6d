"""Training samples: prepared once per key frame, kept on disk, augmented and joined when they are read.

    paths = prepare_scene(dataroot, version, scene, folder, config)  # perception.training_data
    batch = load_batch([paths[i] for i in (3, 1)], config, Augmentation(), seed=(0, 0))

A prepared sample holds points, small images and the scene that shall be seen; two cores can read and augment it faster
than they train. Its name says what it was made from and how, so that a changed setting makes a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception.augment import Augmentation, augmented
from perception.config import PerceptionConfig
from perception.heads import ROUTE_POINTS
from perception.network import NetworkInputs
from perception.preprocess import ROUTE_STEP, network_inputs
from perception.sample import SCHEMA, Sample, load_sample, save_sample
from perception.targets import Targets
from planner.scene import VectorScene


@dataclass
class Batch:
    """inputs: of the network; targets and scenes: one per sample, in the frame of the inputs."""

    inputs: NetworkInputs
    targets: list[Targets]
    scenes: list[VectorScene | None]


def load_batch(
    samples: Sequence[Path],
    config: PerceptionConfig,
    augment: Augmentation | None = None,
    seed: tuple[int, ...] = (),
    with_scenes: bool = True,
) -> Batch:
    """Read, augment (with a generator of its own per sample and seed, whatever was read before) and join samples."""
    loaded = [load_sample(path, with_scenes) for path in samples]
    if augment is not None:
        loaded = [augmented(s, augment, np.random.default_rng([*seed, _number(p)])) for s, p in zip(loaded, samples)]
    return join(loaded, config)


def join(samples: Sequence[Sample], config: PerceptionConfig) -> Batch:
    """A batch of samples, which may differ in points, sensors, agents and lines."""
    inputs = network_inputs(
        [s.sensors for s in samples], [s.ego for s in samples], [s.route for s in samples], config.preprocessing
    )
    return Batch(inputs, [s.targets for s in samples], [s.scene for s in samples])


def data_hash(samples: Sequence[Path]) -> str:
    """16 hexadecimal digits of the list of samples: their names, which carry sources and preprocessing."""
    return hashlib.sha256(json.dumps([path.name for path in samples]).encode()).hexdigest()[:16]


def prepared(
    names: Sequence[str],
    folder: Path,
    config: PerceptionConfig,
    make: Callable[[str], Sample],
    origin: str,
    since: float = 0.0,
) -> list[Path]:
    """Paths of the samples called `names`, made where they are missing. origin: what they are made from, which came
    about at the time `since`: older samples are made again."""
    folder.mkdir(parents=True, exist_ok=True)
    key = sample_key(config, origin)
    paths = [folder / f"{name}.{key}.npz" for name in names]
    for name, path in zip(names, paths):
        if not kept(path, since):
            save_sample(path, make(name))
    return paths


def kept(path: Path, since: float) -> bool:
    """Whether a file is there, and not older than what it was made from."""
    return path.is_file() and path.stat().st_mtime >= since


def sample_key(config: PerceptionConfig, origin: str) -> str:
    """Part of samples' file names: changes with whatever changes what is in them."""
    asked = (config.horizon, config.steps, config.line_range, ROUTE_POINTS, ROUTE_STEP)
    return hashlib.sha256(f"{SCHEMA} {origin} {config.preprocessing.hash} {asked}".encode()).hexdigest()[:12]


def _number(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little")

"""What a run drives: the list of scenarios that a configuration names, and how to load one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.config import DataConfig
from eval.typed_config import ConfigError
from perception.recording import Recording

SIGNAL_UNKNOWN = ("scene-0553", "scene-0757")
"""nuScenes scenes in which traffic lights decide who goes, which the data does not tell: scored separately."""


@dataclass(frozen=True)
class Sample:
    """One scenario: its unique name, and for generated ones the family and the seed to draw it from."""

    name: str
    family: str = ""
    seed: int = 0


def list_samples(data: DataConfig) -> list[Sample]:
    """The scenarios of a data configuration, in a fixed order.

    Raises ConfigError for an unknown family or scene, perception.nuscenes.DatasetError for an unusable data set.
    """
    if data.dataset == "generated":
        from eval.simulation.generate import FAMILIES

        families = _chosen("family", data.families, list(FAMILIES))
        return [Sample(f"{family}_{seed:04d}", family, seed) for family in families for seed in data.seeds]
    from perception.nuscenes import list_scenes

    if not data.dataroot:
        raise ConfigError("data.dataroot: nuScenes scenes need --dataroot, the folder that holds the tables and maps/")
    scenes = list_scenes(Path(data.dataroot), data.version)
    return [Sample(name) for name in _chosen("scene", data.scenes, scenes)]


def load_sample(sample: Sample, data: DataConfig) -> Recording:
    """The recording of a sample. Raises what the data set's reader or the generator raises."""
    if data.dataset == "generated":
        from eval.simulation.generate import generate

        recording = generate(sample.family, sample.seed)
    else:
        from perception.nuscenes import load_recording

        cache_dir = Path(data.cache_dir).expanduser() if data.cache_dir else None
        recording = load_recording(
            Path(data.dataroot), data.version, sample.name, cache_dir, missing_map=data.missing_map
        )
    return recording.validate()


def _chosen(kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"unknown {kind} {name!r}; {hint}")
    return list(dict.fromkeys(wanted)) or list(known)

"""Key frames of any data set in nuScenes schema as prepared training samples, recorded simulation included."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from perception.config import PerceptionConfig
from perception.data import kept, prepared, sample_key
from perception.nuscenes import list_scenes, load_recording, load_sensor_frame
from perception.nuscenes_tables import (
    DatasetError,
    open_tables,
    recorded_at,
    scene_record,
    scene_samples,
    table_path,
)
from perception.route_surface import RouteSurface
from perception.sample import Sample, make_sample
from perception.training_scene import training_scene

PAST_SWEEPS = 10
"""Earlier LiDAR records that are looked through for the ages that the network asks for: half a second of turns."""
AFTER = 5
"""Steps of the recording that a key frame needs after it, for something to have happened next."""


def split_scenes(dataroot: str | Path, version: str, split: str) -> list[str]:
    """Names of a split's scenes in the tables: of the set's own `splits.json`, else nuScenes' (needs the devkit).

    "all" is every scene. Raises DatasetError for an unknown split or one without scenes.
    """
    known = list_scenes(dataroot, version)
    if split == "all":
        return known
    own = table_path(dataroot, version, "splits")
    if own.is_file():
        splits = json.loads(own.read_text())
    else:
        try:
            from nuscenes.utils.splits import create_splits_scenes
        except ImportError as error:
            raise DatasetError(
                f"the devkit cannot be imported: {error}", 'pip install "dualdrive[nuscenes]"'
            ) from error
        splits = create_splits_scenes()
    if split not in splits:
        raise DatasetError(f"no split {split!r} in {version}", f"choose one of all, {', '.join(splits)}")
    found = [name for name in splits[split] if name in known]
    if not found:
        raise DatasetError(f"split {split!r} has no scene in {version}", "choose another split or version")
    return found


def prepare_scene(
    dataroot: str | Path,
    version: str,
    scene: str,
    folder: Path,
    config: PerceptionConfig,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Path]:
    """Samples of a scene's key frames, made where `folder` does not hold them, or those of an earlier recording.

    Key frames at the very end, which nothing follows, are left out. progress: share done. Raises DatasetError.
    """
    origin = f"{Path(dataroot).resolve()} {version}"
    done = folder / f"{scene}.{sample_key(config, origin)}.json"  # names of a scene that is finished
    since = recorded_at(dataroot, scene)
    if kept(done, since):
        paths = [folder / name for name in json.loads(done.read_text())]
        if all(kept(path, since) for path in paths):
            return paths
    tables = open_tables(dataroot, version)
    samples = scene_samples(tables, scene_record(tables, scene))
    recording = load_recording(dataroot, version, scene)
    surface = RouteSurface(recording.road, recording.route, recording.route_xy)
    index = {
        f"{scene}@{n:03d}": (s["token"], round((s["timestamp"] - recording.start_us) / 1e6 / recording.dt))
        for n, s in enumerate(samples)
    }
    names = [name for name, (_, k) in index.items() if k + AFTER < len(recording.time)]
    wanted: Iterator[int] = iter(range(1, len(names) + 1))

    def make(name: str) -> Sample:
        token, k = index[name]
        frame = load_sensor_frame(dataroot, version, token, PAST_SWEEPS)
        surface.reset()
        sample = make_sample(frame, training_scene(recording, k, surface, config, frame.lidar), config)
        progress(next(wanted) / len(names))
        return sample

    paths = prepared(names, folder, config, make, origin, since)
    partial = done.with_name(f"{done.name}.{os.getpid()}.tmp")
    partial.write_text(json.dumps([path.name for path in paths]))
    partial.replace(done)
    return paths

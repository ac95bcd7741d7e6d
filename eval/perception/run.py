"""Ask a network about every key frame of a scene, and keep what it said.

    seen = see_scene(dataroot, version, "scene-0103", checkpoint)  # one Seen per key frame
    write_seen(path, seen); seen = read_seen(path)

Everything that is judged afterwards (detections, tracks, forecasts, map, calibration) reads these answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from eval.run.manifest import code_hash
from perception.data import kept
from perception.nuscenes import load_recording, load_sensor_frame
from perception.nuscenes_tables import open_tables, reading, recorded_at, scene_record, scene_samples
from perception.perceive import Perception, planar
from perception.route_surface import RouteSurface
from perception.track import chosen
from perception.training_data import PAST_SWEEPS
from planner.scene import AgentFutures, AgentTracks, MapPolylines

SCHEMA = 1
"""Version of the files of answers. A reader refuses any other."""
LEAST = 0.02
"""Least existence of a kept detection and least confidence of a kept polyline: average precision wants the doubtful
ones too. The scene of tracks is what the planner would be told, at the usual threshold."""


@dataclass
class Seen:
    """What perception said at one key frame; present ego frame, no batch axis.

    scene: its name; token: of the sample; time_us. global_from_ego ``[3]``: x (m), y (m), yaw (rad).
    detections, detected_futures: ``n`` agents before tracking, existence at least `LEAST`, most certain first, track
    ids -1. tracks, futures: ``m`` agents as the tracker tells them. map: polylines, confidence at least `LEAST`.
    cycle_s: time of the whole cycle; nan where nobody measured it.
    missing: a sentence per sensor that was absent.
    """

    scene: str
    token: str
    time_us: int
    global_from_ego: np.ndarray
    detections: AgentTracks
    detected_futures: AgentFutures
    tracks: AgentTracks
    futures: AgentFutures
    map: MapPolylines
    cycle_s: float = float("nan")
    missing: tuple[str, ...] = ()

    def validate(self) -> Self:
        """Check shapes, finite numbers and that futures belong to agents. Raises ValueError naming the field."""
        if self.global_from_ego.shape != (3,) or not np.isfinite(self.global_from_ego).all():
            raise ValueError(f"seen {self.token}: global_from_ego: expected 3 finite numbers")
        for name in ("detections", "detected_futures", "tracks", "futures", "map"):
            getattr(self, name).validate()
        for agents, futures in (("detections", "detected_futures"), ("tracks", "futures")):
            count, given = len(getattr(self, agents).valid), len(getattr(self, futures).probability)
            if count != given:
                raise ValueError(f"seen {self.token}: {futures}: expected {count} agents as in {agents}, got {given}")
        return self


class _Listener:
    """A tracker that keeps what it is told of, and passes on what is certain enough to be tracked."""

    def __init__(self, tracker: Any, existence: float) -> None:
        self.tracker, self.existence = tracker, existence
        self.heard: tuple[AgentTracks, AgentFutures] | None = None

    def reset(self) -> None:
        self.tracker.reset()

    def update(
        self, agents: AgentTracks, futures: AgentFutures, global_from_ego: Tensor, time_us: int
    ) -> tuple[AgentTracks, AgentFutures]:
        self.heard = chosen(agents, futures, agents.valid)
        sure = agents.valid & (agents.existence >= self.existence)
        ahead = futures.replace(valid=futures.valid & sure[:, None, None])
        return self.tracker.update(agents.replace(valid=sure), ahead, global_from_ego, time_us)


def see_scene(
    dataroot: str | Path,
    version: str,
    scene: str,
    perception: Perception,
    progress: Callable[[float], None] = lambda _: None,
    only: str | None = None,
) -> list[Seen]:
    """One drive, key frame by key frame, with tracks and past sweeps from nothing. Raises DatasetError.

    `perception` is left as it was found, but reset. only: token of the one key frame to look at, without those before.
    """
    tables = open_tables(dataroot, version)
    samples = [s for s in scene_samples(tables, scene_record(tables, scene)) if only in (None, s["token"])]
    recording = load_recording(dataroot, version, scene)
    surface = RouteSurface(recording.road, recording.route, recording.route_xy)
    perception.reset()
    usual, tracker = perception.settings, perception.tracker
    listener = _Listener(tracker, usual.existence)
    out = []
    try:
        perception.settings = replace(usual, existence=min(LEAST, usual.existence), line=min(LEAST, usual.line))
        perception.tracker = listener  # type: ignore[assignment]
        for number, sample in enumerate(samples):
            frame = load_sensor_frame(dataroot, version, sample["token"], PAST_SWEEPS)
            route = surface.local(planar(frame.global_from_ego))
            started = time.perf_counter()
            told = perception.observe(frame, route)
            cycle = time.perf_counter() - started
            assert listener.heard is not None
            assert told.global_from_ego is not None
            out.append(
                Seen(
                    scene, sample["token"], int(sample["timestamp"]), told.global_from_ego.numpy(), *listener.heard,
                    told.agents, told.futures, told.map, cycle, frame.missing,
                ).validate()
            )  # fmt: skip
            progress((number + 1) / len(samples))
    finally:
        perception.settings, perception.tracker = usual, tracker
        perception.reset()
    return out


def answers_path(folder: Path, dataroot: str | Path, version: str, scene: str, checkpoint: str) -> Path:
    """Where a scene's answers lie: another data set, checkpoint (its hash) or code of perception is another file."""
    what = json.dumps([SCHEMA, str(Path(dataroot).resolve()), version, checkpoint, code_hash(("perception",))])
    return folder / f"{scene}.{hashlib.sha256(what.encode()).hexdigest()[:12]}.npz"


def answered(path: Path, dataroot: str | Path, scene: str) -> bool:
    """Whether a scene's answers are there, and of the recording that the data set holds now."""
    return kept(path, recorded_at(dataroot, scene))


def write_seen(path: Path, seen: Sequence[Seen]) -> Path:
    """Write a scene's answers; the file appears under its name only when it is complete."""
    arrays: dict[str, np.ndarray] = {}
    head = []
    for number, one in enumerate(seen):
        head.append([one.scene, one.token, one.time_us, one.cycle_s, one.missing])
        arrays[f"{number}.global_from_ego"] = one.global_from_ego
        for name in ("detections", "detected_futures", "tracks", "futures", "map"):
            # A tenth of a millimetre is enough, at half the size.
            stored = getattr(one, name).apply(lambda t: t.float() if t.is_floating_point() else t)
            arrays |= stored.to_arrays(f"{number}.{name}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(partial, "wb") as file:
        np.savez_compressed(file, schema=SCHEMA, head=np.array(json.dumps(head)), **arrays)
    partial.replace(path)
    return path


def read_seen(path: Path) -> list[Seen]:
    """Inverse of `write_seen`, float64. Raises DatasetError for a damaged file and for one of another schema."""
    with reading(path, "remove it and run the same command again: the network is asked anew"):
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["schema"]) != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA}, got {int(stored['schema'])}")
            arrays = dict(stored)
        out = []
        for number, (scene, token, time_us, cycle, missing) in enumerate(json.loads(str(arrays["head"]))):
            part = lambda kind, name: kind.from_arrays(arrays, f"{number}.{name}.").double()  # noqa: B023, E731
            seen = Seen(
                scene, token, time_us, arrays[f"{number}.global_from_ego"], part(AgentTracks, "detections"),
                part(AgentFutures, "detected_futures"), part(AgentTracks, "tracks"), part(AgentFutures, "futures"),
                part(MapPolylines, "map"), cycle, tuple(missing),
            )  # fmt: skip
            out.append(seen.validate())
    return out

"""All figures of one checkpoint on a list of scenes, and the headline over several checkpoints."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.perception.calibration import calibration_scenes, evaluate_calibration
from eval.perception.detection import PROTOCOL as DETECTION
from eval.perception.detection import evaluate_detections
from eval.perception.intervals import over_seeds
from eval.perception.map_ap import PROTOCOL as MAP
from eval.perception.map_ap import evaluate_map
from eval.perception.matches import matched_frames
from eval.perception.prediction import METHODS, evaluate_forecasts
from eval.perception.prediction import PROTOCOL as FORECAST
from eval.perception.run import Seen
from eval.perception.tracking import PROTOCOL as TRACKING
from eval.perception.tracking import tracking_facts
from eval.perception.truth import Truth
from perception.affinity import Affinity
from perception.calibration import Calibration
from perception.nuscenes import load_recording
from perception.nuscenes_tables import open_tables, quiet_devkit
from perception.road_map import RoadMap

PUBLISHED = ("v1.0-mini", "v1.0-trainval", "v1.0-test")
"""Versions of nuScenes as it is published."""


@dataclass
class DataSet:
    """What is judged on. scenes: the chosen ones; split_scenes: all of the split. whole: `DetectionEval` knows the
    split and all of it was chosen. label: in words, how its sensor data came about. tracks: judge them as well."""

    dataroot: Path
    version: str
    split: str
    scenes: list[str]
    split_scenes: list[str]
    whole: bool
    label: str
    tracks: bool = True
    truth: dict[str, list[Truth]] = field(default_factory=dict)
    roads: dict[str, RoadMap] = field(default_factory=dict)

    def load_roads(self) -> None:
        """The roads of the scenes, for lane following."""
        for scene in self.scenes:
            self.roads[scene] = load_recording(self.dataroot, self.version, scene).road


def data_label(dataroot: str | Path, version: str) -> str:
    """How a data set's sensor data came about, in words: by a vehicle, simulated, or rendered into a real set.

    `dualdrive record` notes it beside what it writes.
    """
    path = Path(dataroot) / "record" / "manifest.json"
    if not path.is_file():
        return "of the vehicle" if version in PUBLISHED else "of unknown origin: the data set does not say"
    made = json.loads(path.read_text()).get("configuration", {})
    if source := made.get("dataroot"):
        return f"RENDERED sensor data on the annotations and maps of {Path(source).name}, real only where it had files"
    return "SIMULATED towns, traffic and sensors"


def evaluate(
    data: DataSet,
    seen: dict[str, list[Seen]],
    facts: dict[str, Any],
    folder: Path,
    step: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Everything about one checkpoint as JSON values; the devkit's files go to `folder`. facts: of the checkpoint.

    step: told what is judged next. Raises ValueError where answers and annotations do not fit together.
    """
    tables = open_tables(data.dataroot, data.version)
    step("detections")
    detections = evaluate_detections(tables, seen, data.split, data.whole, folder)
    frames = matched_frames(seen, data.truth)
    step("forecasts")
    forecasts = evaluate_forecasts(frames, data.roads, len(seen), folder)
    step("map")
    lines, _ = evaluate_map(seen, data.truth)
    tracks = None
    if data.whole and data.tracks:
        step("tracks")
        affinity, drives = Affinity.from_facts(facts.get("affinity")), list(seen.values())
        with quiet_devkit(), open(os.devnull, "w") as sink, redirect_stderr(sink):  # progress bars
            tracks = tracking_facts(drives, data.dataroot, data.version, data.split, folder / "tracks", affinity)
    step("calibration")
    calibration = Calibration.from_facts(facts.get("calibration"))
    used = set(calibration_scenes(facts, data.version, data.split, data.split_scenes))
    free = [scene for scene in seen if scene not in used]
    index = {list(seen).index(scene): number for number, scene in enumerate(free)}
    rest = [f for f in frames if f.index in index]
    for f in rest:
        f.index = index[f.index]
    reliability = evaluate_calibration(rest, calibration, len(free)) if rest else None
    if reliability is not None:
        reliability |= {"scenes": free, "left_out": sorted(used & set(seen))}
    every = [one for part in seen.values() for one in part]
    absent = Counter(name for one in every for name in {sentence.split(":")[0] for sentence in one.missing})
    return {
        "detection": detections.facts, "map": lines, "forecast": forecasts, "tracking": tracks,
        "calibration": reliability,
        "sensors_missing": dict(sorted(absent.items())),
        "cycle_ms": {f"p{q}": _milliseconds(every, q) for q in (50, 99)},
    }  # fmt: skip


def headline(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures to read first. With one checkpoint the interval is over scenes, with several over them (seeds)."""
    rows: list[dict[str, Any]] = []

    def add(name: str, protocol: str, pick: Callable[[dict[str, Any]], Any], unit: str = "") -> None:
        found = [pick(part) for part in parts]
        plain = [v if isinstance(v, int | float) or v is None else v["value"] for v in found]
        values = [float("nan") if v is None else float(v) for v in plain]
        if len(parts) == 1:
            estimate = found[0] if isinstance(found[0], dict) else {"value": plain[0], "low": None, "high": None}
            over = "scenes"
        else:
            estimate, over = over_seeds(values).facts(), "seeds"
        estimate = {key: estimate[key] for key in ("value", "low", "high")}
        rows.append({"name": name, "unit": unit, "protocol": protocol, "over": over, **estimate, "each": plain})

    add("mAP of car and pedestrian", DETECTION, lambda p: p["detection"]["mean_ap_car_pedestrian"])
    add("mAP of the classes that occur", DETECTION, lambda p: p["detection"]["mean_ap_occurring"])
    add("mAP of all ten classes", DETECTION, lambda p: p["detection"]["mean_ap"])
    add("NDS", DETECTION, lambda p: p["detection"]["nd_score"])
    add("map mAP", MAP, lambda p: p["map"]["mean_ap"])
    add("map AP of centrelines", MAP, lambda p: p["map"]["classes"]["centreline"]["mean_ap"])
    for group, words in (("every", "all"), ("moving", "moving")):
        for method in METHODS:
            add(f"minADE_6, 3 s, {words}: {method}", FORECAST, partial(_min_ade, group=group, method=method), "m")
    if all(part["tracking"] for part in parts):
        for name, words in (("amota", "AMOTA"), ("amotp", "AMOTP"), ("ids", "identity switches")):
            add(words, TRACKING, partial(_tracks, name=name), "m" if name == "amotp" else "")
    for when in ("before", "after"):
        name = f"existence error {when} calibration"
        add(name, "expected calibration error, 10 bins", partial(_existence_error, when=when))
    return rows


def _min_ade(part: dict[str, Any], group: str, method: str) -> Any:
    return part["forecast"]["horizons"]["3"][group]["all"]["methods"][method]["min_ade_6"]


def _tracks(part: dict[str, Any], name: str) -> Any:
    return part["tracking"]["averages"][name]


def _existence_error(part: dict[str, Any], when: str) -> Any:
    return part["calibration"] and part["calibration"][when]["existence_error"]


def _milliseconds(seen: Sequence[Seen], quantile: float) -> float | None:
    times = np.array([one.cycle_s for one in seen])
    times = times[~np.isnan(times)]
    return float(np.percentile(times, quantile) * 1e3) if len(times) else None

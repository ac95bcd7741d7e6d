"""Tracks judged by the devkit's own tracking evaluation (nuScenes tracking challenge, configuration of 2019).

    report = evaluate(drives, dataroot, version, "sim_val", folder, KEY_FRAMES, affinity)

A submission is written (`tracks.json`), the unmodified `TrackingEval` reads and judges it: AMOTA, AMOTP, identity
switches, recall, each at its own thresholds. Key frames are 0.5 s apart, and the tracker sees only them. Intervals are
a bootstrap over scenes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.perception.clear_mot import COUNTS, SceneTracks, thresholds
from eval.perception.intervals import Estimate, over_scenes
from eval.perception.run import Seen
from eval.perception.submission import META, NAMES, global_box
from eval.run.store import write_atomic
from perception.affinity import Affinity
from perception.decode import DecodeConfig
from perception.nuscenes_tables import DatasetError
from perception.track import KEY_FRAMES, TrackConfig, Tracker
from planner.scene import AgentClass, AgentTracks

CONFIGURATION = "tracking_nips_2019"
PROTOCOL = f"devkit {CONFIGURATION}, key frames"
AVERAGES = ("amota", "amotp", "ids", "recall")
MOST = 500
"""Boxes per sample that the devkit takes."""


@dataclass
class TrackingReport:
    """metrics: the devkit's summary: averages and, under "label_metrics", each class. counts ``[S, K, T, 6]``: of S
    scenes, K classes (`classes`) and T score thresholds what `eval.perception.clear_mot.COUNTS` names, NaN where a
    threshold was not reached. scenes: their tokens.
    """

    metrics: dict[str, Any]
    counts: np.ndarray
    classes: tuple[str, ...]
    scenes: tuple[str, ...]


def evaluate(
    drives: Sequence[Sequence[Seen]],
    dataroot: str | Path,
    version: str,
    split: str,
    folder: Path,
    config: TrackConfig,
    affinity: Affinity | None = None,
    quick: bool = False,
) -> TrackingReport:
    """Follow every drive from its detections and have the tracks judged. drives: all scenes of the split.

    folder gets the submission and the devkit's summary. quick: the devkit reads and filters, its events are only
    counted here, which says the same in seconds; `metrics` is empty. Raises DatasetError where the devkit or what its
    tracking evaluation needs is not installed.
    """
    try:
        from nuscenes.eval.common.config import config_factory
        from nuscenes.eval.tracking.evaluate import TrackingEval
    except ImportError as error:
        raise DatasetError(f"the devkit's tracking evaluation cannot be imported: {error}",
                           'pip install "dualdrive[nuscenes,tracking]"') from error  # fmt: skip
    path = folder / "tracks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(submission(drives, [followed(drive, config, affinity) for drive in drives])))
    devkit = TrackingEval(config_factory(CONFIGURATION), str(path), split, str(folder), version, str(dataroot), False)
    summary, reached = {}, None
    if not quick:
        metrics, details = devkit.evaluate()
        summary = metrics.serialize()
        write_atomic(folder / "tracks.metrics.json", json.dumps(summary, indent=1) + "\n")
        reached = [details[name].confidence for name in devkit.cfg.class_names]
    return TrackingReport(summary, _counted(devkit, reached), tuple(devkit.cfg.class_names), tuple(devkit.tracks_gt))


def tracking_facts(
    drives: Sequence[Sequence[Seen]], dataroot: str | Path, version: str, split: str, folder: Path,
    affinity: Affinity | None,
) -> dict[str, Any] | None:  # fmt: skip
    """`evaluate` with the settings for key frames as JSON values: averages with intervals over scenes, and classes.

    None where motmetrics or pandas is not installed.
    """
    if not all(find_spec(name) for name in ("motmetrics", "pandas")):
        return None
    report = evaluate(drives, dataroot, version, split, folder, KEY_FRAMES, affinity)
    per_class = report.metrics["label_metrics"]
    return {
        "protocol": PROTOCOL, "association": Tracker(KEY_FRAMES, affinity).association,
        "averages": {name: estimate([report], name).facts() for name in AVERAGES},
        "classes": {c: {name: per_class[name][c] for name in (*AVERAGES, "mota", "fp", "fn")} for c in report.classes},
    }  # fmt: skip


def followed(drive: Sequence[Seen], config: TrackConfig, affinity: Affinity | None = None) -> list[AgentTracks]:
    """Tracks of one drive at its key frames, from those detections that are tracked in driving, by a fresh tracker.

    Without those that only coast: the devkit fills gaps by itself, and what never came back was no object.
    """
    tracker, out = Tracker(config, affinity), []
    with torch.no_grad():
        for seen in drive:
            pose = torch.from_numpy(seen.global_from_ego)
            sure = seen.detections.valid & (seen.detections.existence >= DecodeConfig().existence)
            told = seen.detections.replace(valid=sure)
            agents, _ = tracker.update(told, seen.detected_futures, pose, seen.time_us)
            shown = ~tracker.coasting
            out.append(agents.apply(lambda t: t[shown]))  # noqa: B023
    return out


def submission(drives: Sequence[Sequence[Seen]], told: Sequence[Sequence[AgentTracks]]) -> dict[str, Any]:
    """A tracking submission; track ids carry the scene's name. told: per drive and key frame, ego frame."""
    results: dict[str, list[dict[str, Any]]] = {}
    for drive, tracks in zip(drives, told):
        for seen, agents in zip(drive, tracks):
            results[seen.token] = _boxes(seen, agents)
    return {"meta": META, "results": results}


def estimate(reports: Sequence[TrackingReport], name: str) -> Estimate:
    """A figure as `averaged` names them, with its interval over scenes; of two reports, of their difference on the
    same scenes, second - first.

    Score thresholds stay those of all scenes. Raises ValueError for reports on different scenes.
    """
    if len({(r.scenes, r.classes) for r in reports}) != 1:
        raise ValueError("reports: expected counts of the same scenes and classes")

    def figure(weight: np.ndarray) -> float:
        values = [float(averaged(np.tensordot(weight, r.counts, 1), name)) for r in reports]
        return values[0] if len(values) == 1 else values[1] - values[0]

    return over_scenes(figure, len(reports[0].scenes))


def averaged(counts: np.ndarray, name: str) -> np.ndarray:
    """``[...]``: a metric from counts ``[..., K, T, 6]``, as the devkit defines it, averaged over the classes that
    occur ("ids": summed): AMOTA and AMOTP over all thresholds, ids and recall at each class's best MOTA.
    """
    gt, tp, fp, fn, ids, distance = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (tp + ids) / gt
        motar = np.maximum(1 - (ids + fp + fn - (gt - tp)) / tp, 0)
        mota = np.maximum(1 - (ids + fp + fn) / gt, 0)
        away = distance / (tp + ids)
    occurs = np.nan_to_num(gt).max(-1) > 0
    if name == "amota":
        value = np.nan_to_num(motar, nan=0.0).mean(-1)
    elif name == "amotp":
        value = np.nan_to_num(away, nan=2.0).mean(-1)
    elif name in ("ids", "recall"):
        best = np.nan_to_num(mota, nan=-1.0).argmax(-1)[..., None]
        value = np.nan_to_num(np.take_along_axis(ids if name == "ids" else recall, best, -1)[..., 0])
    else:
        raise ValueError(f"name: expected amota, amotp, ids or recall, got {name!r}")
    total = np.where(occurs, value, 0.0).sum(-1)
    return total if name == "ids" else total / np.maximum(occurs.sum(-1), 1)


def _boxes(seen: Seen, agents: AgentTracks) -> list[dict[str, Any]]:
    out = []
    for k in agents.existence.argsort(descending=True)[:MOST].tolist():
        name = NAMES.get(AgentClass(int(agents.agent_class[k])))
        if name is None or not bool(agents.valid[k]):
            continue
        who = {"tracking_id": f"{seen.scene}/{int(agents.track_id[k])}", "tracking_name": name}
        out.append(global_box(seen, agents, k, name) | who | {"tracking_score": float(agents.existence[k])})
    return out


def _counted(devkit: Any, reached: Sequence[np.ndarray] | None) -> np.ndarray:
    """``[S, K, T, 6]``. reached: per class the devkit's score thresholds, found on all scenes; None: found here."""
    cfg, scenes = devkit.cfg, list(devkit.tracks_gt)
    out = np.full((len(scenes), len(cfg.class_names), cfg.num_thresholds, len(COUNTS)), np.nan)
    for k, name in enumerate(cfg.class_names):
        tracks = [SceneTracks(devkit.tracks_gt[s], devkit.tracks_pred[s], name, cfg.dist_th_tp) for s in scenes]
        limits = thresholds(tracks, cfg.min_recall, cfg.num_thresholds) if reached is None else reached[k]
        for s, scene in enumerate(tracks):
            out[s, k, :, 0] = scene.objects
            known = {float(limit): scene.counted(float(limit))[0] for limit in set(limits[~np.isnan(limits)])}
            for t in np.flatnonzero(~np.isnan(limits)):
                out[s, k, t] = known[float(limits[t])]
    return out

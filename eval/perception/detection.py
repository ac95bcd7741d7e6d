"""Detections by the nuScenes devkit: a submission in its format, its own evaluation, and intervals over scenes.

What `DetectionEval` says is what is told. Our own matching repeats it (a test holds the two together) because the
devkit can neither resample scenes nor tell average precision by distance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eval.perception.intervals import over_scenes
from eval.perception.precision import Answers, devkit_precision, match_nearest_free
from eval.perception.run import Seen
from eval.perception.submission import META, NAMES, global_box
from eval.run.store import write_atomic
from perception.nuscenes_tables import quiet_devkit, table_path
from planner.scene import AgentClass

PROTOCOL = "nuScenes devkit DetectionEval, detection_cvpr_2019"
CLASSES = (
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle", "traffic_cone",
    "barrier",
)  # fmt: skip
ISSUED = ("car", "pedestrian")
"""Classes whose mean is a headline figure: recorded simulation has no others in number."""
THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
BANDS = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
"""m from ego: edges of the distances that are told apart."""
SURE = 0.3
"""Least existence of a detection that counts as said where one threshold is needed."""
_CONE = 1.0
"""m: static objects whose longer side is below this are cones, others barriers."""
_WALKS, _DRIVES = 0.3, 0.5
"""m/s: above these a pedestrian, a vehicle, counts as moving."""


def detection_name(agent_class: int, length: float, width: float) -> str:
    """The devkit's class of an object."""
    if agent_class == AgentClass.STATIC:
        return "traffic_cone" if max(length, width) < _CONE else "barrier"
    return NAMES[AgentClass(agent_class)]


def attribute_name(name: str, speed: float) -> str:
    """The devkit's attribute: attributes are not perceived, so this is a guess from class and speed (m/s)."""
    if name == "pedestrian":
        return "pedestrian.moving" if speed > _WALKS else "pedestrian.standing"
    if name in ("bicycle", "motorcycle"):
        return "cycle.with_rider" if speed > _DRIVES else "cycle.without_rider"
    if name in ("traffic_cone", "barrier"):
        return ""
    return "vehicle.moving" if speed > _DRIVES else "vehicle.parked"


def submission(seen: Sequence[Seen], ground: dict[str, float] | None = None) -> dict[str, Any]:
    """Detections before tracking as a submission. ground: height (m) under ego per sample token; 0 where absent."""
    results = {one.token: _boxes(one, (ground or {}).get(one.token, 0.0)) for one in seen}
    return {"meta": META, "results": results}


def _boxes(seen: Seen, ground: float) -> list[dict[str, Any]]:
    agents, out = seen.detections, []
    for row in np.flatnonzero(agents.valid.numpy()).tolist():
        length, width = agents.box[row, 3:].tolist()
        name = detection_name(int(agents.agent_class[row]), length, width)
        box = global_box(seen, agents, row, name, ground)
        speed = float(np.hypot(*box["velocity"]))
        score = float(agents.existence[row])
        out.append(
            box | {"detection_name": name, "detection_score": score, "attribute_name": attribute_name(name, speed)}
        )
    return out


@dataclass
class Detections:
    """facts: the devkit's figures and ours as JSON values. answers: per class and threshold, for intervals."""

    facts: dict[str, Any]
    answers: dict[tuple[str, float], Answers]


def evaluate_detections(tables: Any, seen: dict[str, list[Seen]], split: str, whole: bool, folder: Path) -> Detections:
    """Write a submission into `folder` and judge it. seen: per scene. tables: the devkit's NuScenes.

    whole: the scenes are all of a split that the devkit knows: then `DetectionEval` itself is constructed; of other
    sets (some scenes, "all") its steps are run on their key frames. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "detections.json"
    every = [one for frames in seen.values() for one in frames]
    write_atomic(path, json.dumps(submission(every, _ground(tables, every))))
    with quiet_devkit(), open(os.devnull, "w") as sink, redirect_stderr(sink):  # progress bars
        judge = _judge(tables, path, split, [one.token for one in every], whole, folder)
        metrics, _ = judge.evaluate()
    said = metrics.serialize()
    scene_of = {one.token: number for number, frames in enumerate(seen.values()) for one in frames}
    answers, facts = _own(judge, scene_of, len(seen))
    occurring = [name for name in CLASSES if answers[name, 2.0].asked.sum()]
    issued = [name for name in ISSUED if name in occurring]

    def mean_of(names: Sequence[str]) -> Any:
        def figure(weight: np.ndarray) -> float:
            values = [devkit_precision(answers[name, limit], weight) for name in names for limit in THRESHOLDS]
            return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

        return over_scenes(figure, len(seen)).facts()

    return Detections(
        {
            "protocol": PROTOCOL, "mean_ap": said["mean_ap"], "nd_score": said["nd_score"],
            "tp_errors": said["tp_errors"],
            "classes": {
                name: {
                    "annotated": int(answers[name, 2.0].asked.sum()), "said": len(answers[name, 2.0].score),
                    "ap": {str(limit): said["label_aps"][name][limit] for limit in THRESHOLDS},
                    "mean_ap": said["mean_dist_aps"][name], "errors": said["label_tp_errors"][name],
                }
                for name in CLASSES
            },
            "absent": [name for name in CLASSES if name not in occurring],
            "mean_ap_occurring": mean_of(occurring) if occurring else None,
            "mean_ap_car_pedestrian": mean_of(issued) | {"classes": issued} if issued else None,
            **facts,
        },
        answers,
    )  # fmt: skip


def devkit_knows(dataroot: str | Path, version: str, split: str) -> bool:
    """Whether `DetectionEval` can be constructed for a split: nuScenes' own of this version, or one of splits.json."""
    own = {"trainval": ("train", "val"), "mini": ("mini_train", "mini_val"), "test": ("test",)}
    if split in {s for names in own.values() for s in names}:
        return split in own.get(version.rsplit("-", 1)[-1], ())
    path = table_path(dataroot, version, "splits")
    return path.is_file() and split in json.loads(path.read_text())


def _ground(tables: Any, seen: Sequence[Seen]) -> dict[str, float]:
    out = {}
    for one in seen:
        data = tables.get("sample_data", tables.get("sample", one.token)["data"]["LIDAR_TOP"])
        out[one.token] = float(tables.get("ego_pose", data["ego_pose_token"])["translation"][2])
    return out


def _judge(tables: Any, path: Path, split: str, tokens: list[str], whole: bool, folder: Path) -> Any:
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import (
        add_center_dist,
        filter_eval_boxes,
        load_gt_of_sample_tokens,
        load_prediction_of_sample_tokens,
    )
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    config = config_factory("detection_cvpr_2019")
    if whole:
        return DetectionEval(tables, config, str(path), split, str(folder), verbose=False)

    class ChosenEval(DetectionEval):
        """`DetectionEval` on key frames by name: the same loaders and filters, no look-up of a split."""

        def __init__(self) -> None:
            self.nusc, self.cfg, self.verbose = tables, config, False
            said, self.meta = load_prediction_of_sample_tokens(
                str(path), config.max_boxes_per_sample, DetectionBox, tokens
            )
            true = load_gt_of_sample_tokens(tables, tokens, DetectionBox)
            self.pred_boxes, self.gt_boxes = (
                filter_eval_boxes(tables, add_center_dist(tables, boxes), config.class_range) for boxes in (said, true)
            )
            self.sample_tokens = self.gt_boxes.sample_tokens

    return ChosenEval()


def _own(judge: Any, scene_of: dict[str, int], scenes: int) -> tuple[dict[tuple[str, float], Answers], dict[str, Any]]:
    """Matches of the devkit's filtered boxes, class by class; average precision and recall by distance."""
    answers, by_distance = {}, {}
    for name in CLASSES:
        said, true = _table(judge.pred_boxes, name, scene_of), _table(judge.gt_boxes, name, scene_of)
        asked = np.bincount(true.scene, minlength=scenes)
        bands = np.zeros((len(THRESHOLDS), len(BANDS) - 1))
        for k, limit in enumerate(THRESHOLDS):
            found = _matched(said, true, limit)
            answers[name, limit] = Answers(said.score, found >= 0, said.scene, asked)
            # A right answer belongs where its truth is, a wrong one where it was given.
            away = np.where(found >= 0, true.away[found], said.away) if len(true.away) else said.away
            for b, (near, far) in enumerate(pairwise(BANDS)):
                here, there = (away >= near) & (away < far), (true.away >= near) & (true.away < far)
                part = Answers(said.score[here], found[here] >= 0, said.scene[here], _count(true.scene[there], scenes))
                bands[k, b] = devkit_precision(part)
            if limit == 2.0:
                hit = np.zeros(len(true.away), bool)
                hit[found[(found >= 0) & (said.score >= SURE)]] = True
        by_distance[name] = [
            {
                "from": near, "to": far, "annotated": int(inside.sum()), "ap": _number(bands[:, b].mean()),
                "recall": _number(hit[inside].mean() if inside.any() else float("nan")),
            }
            for b, (near, far) in enumerate(pairwise(BANDS))
            for inside in [(true.away >= near) & (true.away < far)]
        ]  # fmt: skip
    return answers, {"by_distance": by_distance, "recall_existence": SURE}


@dataclass
class _Boxes:
    """Boxes of one class: place ``[n, 2]``, score, away (m from ego), frame and scene index ``[n]``."""

    place: np.ndarray
    score: np.ndarray
    away: np.ndarray
    frame: np.ndarray
    scene: np.ndarray


def _table(boxes: Any, name: str, scene_of: dict[str, int]) -> _Boxes:
    rows = [
        (*box.translation[:2], box.detection_score, box.ego_dist, frame, scene_of[token])
        for frame, token in enumerate(scene_of)
        for box in boxes[token]
        if box.detection_name == name
    ]
    table = np.array(rows, float).reshape(-1, 6)
    return _Boxes(table[:, :2], table[:, 2], table[:, 3], table[:, 4].astype(int), table[:, 5].astype(int))


def _matched(said: _Boxes, true: _Boxes, limit: float) -> np.ndarray:
    """``[n]`` index into `true`, -1 for none. Rows of both are ordered by frame."""
    out = np.full(len(said.score), -1)
    for frame in np.unique(said.frame):
        a, b = (slice(*np.searchsorted(t.frame, [frame, frame + 1])) for t in (said, true))
        distance = np.hypot(*(said.place[a, None] - true.place[None, b]).transpose(2, 0, 1))
        found = match_nearest_free(said.score[a], distance, limit)
        out[a] = np.where(found >= 0, found + b.start, -1)
    return out


def _count(scene: np.ndarray, scenes: int) -> np.ndarray:
    return np.bincount(scene, minlength=scenes)


def _number(value: float) -> float | None:
    return None if value != value else float(value)

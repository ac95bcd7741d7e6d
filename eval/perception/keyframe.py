"""One key frame: detections beside annotations in the images and from above, and how much of it was found."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eval.perception.detection import BANDS, SURE, detection_name
from eval.perception.matches import REACH, Frame, matched_frames
from eval.perception.run import see_scene
from eval.perception.submission import HEIGHT
from eval.perception.truth import scene_truth
from perception.keyframe_picture import draw_keyframe
from perception.nuscenes_tables import DatasetError, open_tables
from perception.perceive import Perception
from perception.sensor_frame import Boxes3D
from planner.scene import AgentClass


def draw_detections(
    dataroot: str | Path, version: str, token: str, perception: Perception, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Draw a key frame into `folder`: the picture's path, and recall by distance as JSON values.

    The key frame is looked at alone: past sweeps where the data set has them, no tracks. Raises DatasetError (no such
    key frame, broken data), ImportError without matplotlib.
    """
    tables = open_tables(dataroot, version)
    try:
        scene = tables.get("scene", tables.get("sample", token)["scene_token"])["name"]
    except KeyError:
        fix = "pass the token of a key frame of this version, or a scene's name for its first one"
        raise DatasetError(f"no key frame {token!r} in {version}", fix) from None
    truth = [t for t in scene_truth(dataroot, version, scene) if t.token == token]
    seen = see_scene(dataroot, version, scene, perception, only=token)
    (frame,) = matched_frames({scene: seen}, {scene: truth})
    recall = recall_by_distance(frame)
    sure = np.flatnonzero(frame.existence >= SURE)
    ground = float(np.median(frame.truth.z - frame.truth.height / 2)) if len(frame.truth.z) else 0.0
    height = np.array([HEIGHT[detection_name(int(frame.kind[i]), *frame.size[i])] for i in sure])
    said = Boxes3D(
        np.c_[frame.place[sure, :2], ground + height / 2], np.c_[frame.size[sure], height], frame.place[sure, 2],
        frame.kind[sure],
    )  # fmt: skip
    found, there = (sum(b[key] for bands in recall.values() for b in bands) for key in ("found", "annotated"))
    title = f"{scene}, key frame {token}: {found} of {there} annotated objects within {BANDS[-1]:g} m found"
    path = draw_keyframe(dataroot, version, token, folder / f"keyframe-{token}.png", said=said, title=title)
    near = np.hypot(*(frame.place[:, :2] - frame.truth.pose[:2]).T) < BANDS[-1]
    return path, {
        "scene": scene, "token": token, "existence": SURE, "reach": REACH, "recall": recall,
        "said": int((near & (frame.existence >= SURE)).sum()),
        "wrong": int((near & (frame.existence >= SURE) & (frame.found < 0)).sum()),
        "missing": list(frame.seen.missing),
    }  # fmt: skip


def recall_by_distance(frame: Frame) -> dict[str, list[dict[str, Any]]]:
    """Per class that is annotated: found and annotated objects with a return, by distance (`BANDS`)."""
    truth = frame.truth
    hit = np.zeros(len(truth.kind), bool)
    hit[frame.found[frame.right(SURE)]] = True
    asked = truth.points > 0
    out = {}
    for kind in AgentClass:
        mine = asked & (truth.kind == kind) & (truth.distance < BANDS[-1])
        if mine.any():
            out[kind.name.lower()] = [
                {"from": a, "to": b, "annotated": int(here.sum()), "found": int((hit & here).sum())}
                for a, b in pairwise(BANDS)
                for here in [mine & (truth.distance >= a) & (truth.distance < b)]
            ]
    return out

"""Annotated boxes: who is annotated when, and how much of it the sensors saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from eval.simulation.record.schema import attribute_of, category_of, token, visibility_of, yaw_quaternion
from eval.simulation.sensing.rendered_cameras import Shot
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import Boxes3D, LidarSweep


@dataclass(frozen=True)
class Observed:
    """What the sensors of one key frame saw of each object there ``[N]``.

    objects, boxes: the objects and their boxes; points: LiDAR returns inside each box; share: visible part of the
    pixels that the object would cover in the six images, 0 where it is in none.
    """

    objects: ObjectStates
    boxes: Boxes3D
    points: np.ndarray
    share: np.ndarray


def observed(objects: ObjectStates, boxes: Boxes3D, sweep: LidarSweep | None, shots: Sequence[Shot]) -> Observed:
    """boxes: of the objects, in their order; sweep, shots: of the key frame."""
    points = np.zeros(len(boxes), dtype=int)
    if sweep is not None and len(boxes):
        returned = sweep.points_in_global()[sweep.returned()]
        reach = np.linalg.norm(boxes.size, axis=1) / 2
        for i in range(len(boxes)):  # one box against the points around it
            near = returned[(np.abs(returned[:, :2] - boxes.center[i, :2]) < reach[i]).all(1)]
            points[i] = _inside(boxes, i, near)
    seen: dict[int, int] = defaultdict(int)
    total: dict[int, int] = defaultdict(int)
    for shot in shots:
        for track, shown, whole in zip(*(column.tolist() for column in shot.seen())):
            seen[track] += shown
            total[track] += whole
    share = np.array([seen[t] / total[t] if total[t] else 0.0 for t in objects.track_id.tolist()])
    return Observed(objects, boxes, points, share)


def _inside(boxes: Boxes3D, i: int, points: np.ndarray) -> int:
    one = Boxes3D(boxes.center[i : i + 1], boxes.size[i : i + 1], boxes.yaw[i : i + 1], boxes.agent_class[i : i + 1])
    return int(one.contains(points).sum())


def annotated(frames: Sequence[Observed]) -> dict[int, tuple[int, int]]:
    """First and last key frame of each track that is annotated: those in which a sensor saw it.

    In between it is annotated wherever it is within range, seen or not, as nuScenes does.
    """
    spans: dict[int, tuple[int, int]] = {}
    for k, frame in enumerate(frames):
        for track in frame.objects.track_id[(frame.points > 0) | (frame.share > 0)].tolist():
            spans[track] = (spans.get(track, (k, k))[0], k)
    return spans


def annotation_rows(
    scene: str, samples: Sequence[str], recording: Recording, frames: Sequence[Observed], step: int, reach: float
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables sample_annotation and instance.

    scene: its name. samples: tokens of the key frames, frames: what was seen in each; they lie `step` entries of the
    recording apart. reach (m): objects farther from the ego are left out.
    """
    chains: dict[int, list[dict[str, Any]]] = {}
    spans, agents = annotated(frames), recording.agents
    fast = (np.hypot(agents.velocity[..., 0], agents.velocity[..., 1]) > 0.5) & agents.valid
    moves = dict(zip(agents.track_id.tolist(), fast.any(1).tolist()))
    category = {
        track: category_of(int(kind), size)
        for track, kind, size in zip(agents.track_id.tolist(), agents.agent_class, agents.size)
    }
    for k, (sample, frame) in enumerate(zip(samples, frames)):
        objects, boxes, ego = frame.objects, frame.boxes, recording.ego.pose[k * step, :2]
        for i, track in enumerate(objects.track_id.tolist()):
            first, last = spans.get(track, (1, 0))
            if not first <= k <= last or np.hypot(*(objects.pose[i, :2] - ego)) > reach:
                continue
            attribute = attribute_of(category[track], float(np.hypot(*objects.velocity[i])), moves[track])
            chains.setdefault(track, []).append({
                "token": token("annotation", scene, track, k), "sample_token": sample,
                "instance_token": token("instance", scene, track),
                "visibility_token": visibility_of(float(frame.share[i])),
                "attribute_tokens": [token("attribute", attribute)] if attribute else [],
                "translation": boxes.center[i].tolist(), "size": boxes.size[i, [1, 0, 2]].tolist(),
                "rotation": yaw_quaternion(float(boxes.yaw[i])), "prev": "", "next": "",
                "num_lidar_pts": int(frame.points[i]), "num_radar_pts": 0,
            })  # fmt: skip
    instances = []
    for track, chain in chains.items():
        for a, b in pairwise(chain):
            a["next"], b["prev"] = b["token"], a["token"]
        instances.append({
            "token": token("instance", scene, track), "category_token": token("category", category[track]),
            "nbr_annotations": len(chain), "first_annotation_token": chain[0]["token"],
            "last_annotation_token": chain[-1]["token"],
        })  # fmt: skip
    return {"sample_annotation": [row for chain in chains.values() for row in chain], "instance": instances}

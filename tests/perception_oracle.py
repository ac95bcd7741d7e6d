"""Annotations as if a perfect network had said them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from eval.perception.detection import CLASSES
from eval.perception.run import Seen
from eval.perception.truth import STEP, Truth
from perception.config import LINE_KINDS
from planner.scene import AgentFutures, AgentTracks, MapPolylines


def oracle_seen(truth: Sequence[Truth], score: float = 0.9) -> list[Seen]:
    """Every annotated object with a return, its true velocity and future; every line. Tracks are instances."""
    ids: dict[str, int] = {}
    out = []
    for t in truth:
        rows = np.array([i for i in np.flatnonzero(t.points > 0) if detected(t.category[i])], int)
        cos, sin = np.cos(t.pose[2]), np.sin(t.pose[2])
        turn = np.array([[cos, sin], [-sin, cos]])
        yaw = (t.box[rows, 2] - t.pose[2] + np.pi) % (2 * np.pi) - np.pi
        count, steps = len(rows), t.future.shape[1]
        box = np.c_[(t.box[rows, :2] - t.pose[:2]) @ turn.T, yaw, t.box[rows, 3:]]
        agents = AgentTracks(
            box=torch.from_numpy(box), velocity=torch.from_numpy(t.velocity[rows] @ turn.T),
            position_covariance=0.01 * torch.eye(2, dtype=torch.float64).repeat(count, 1, 1),
            agent_class=torch.from_numpy(t.kind[rows]), existence=torch.full((count,), score, dtype=torch.float64),
            track_id=torch.tensor([ids.setdefault(t.instance[i], len(ids)) for i in rows], dtype=torch.int64),
            valid=torch.ones(count, dtype=torch.bool),
        )  # fmt: skip
        mean = (t.future[rows] - t.pose[:2]) @ turn.T
        futures = AgentFutures(
            mean=torch.from_numpy(mean)[:, None], yaw=torch.from_numpy(np.repeat(yaw[:, None, None], steps, 2)),
            covariance=0.01 * torch.eye(2, dtype=torch.float64).repeat(count, 1, steps, 1, 1),
            probability=torch.ones(count, 1, dtype=torch.float64),
            time=torch.arange(1, steps + 1, dtype=torch.float64) * STEP,
            valid=torch.ones(count, 1, steps, dtype=torch.bool),
        )  # fmt: skip
        lines = MapPolylines.from_lists([(torch.from_numpy(xy), LINE_KINDS[k]) for xy, k in zip(t.line, t.line_kind)])
        out.append(Seen(t.scene, t.token, t.time_us, t.pose, agents, futures, agents, futures, lines).validate())
    return out


def detected(category: str) -> bool:
    """Whether the devkit's detection task knows a category."""
    from nuscenes.eval.detection.utils import category_to_detection_name

    return category_to_detection_name(category) in CLASSES

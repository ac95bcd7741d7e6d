"""Learned perception in the loop, judged: the same scenes with the oracle and with the network, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.config import RunConfig
from eval.layers import LAYERS
from eval.metrics import evaluate
from eval.simulation.occlusion import visible
from eval.simulation.trace import Trace
from eval.studies.drives import DriveTask, Scene, drive_task, store_drive
from eval.studies.intervals import wilson
from perception.recording import ObjectStates

NEAR = 30.0
"""m: within it seen objects are compared with told ones."""
SAME = 2.0
"""m: a told box whose centre is at most so far from a true one's, or half its length, means it."""
BELIEVED = 0.3
"""Least existence of a told box that counts as a claim."""
BRAKING_HARD = -4.0
"""m/s^2: beyond it braking is felt as an emergency."""


SUMS = ("steps", "interventions", "episodes", "without_tail", "braking_hard", "seen", "found", "told", "ghosts")


class Variant(NamedTuple):
    """Who perceives, and which safety layers are on."""

    name: str
    perception: str
    layers: tuple[str, ...]


VARIANTS = (
    Variant("oracle", "oracle", LAYERS[:2]),
    Variant("oracle, all layers", "oracle", LAYERS),
    Variant("network", "network", LAYERS[:2]),
    Variant("network, second channel", "network", LAYERS[:3]),
    Variant("network, all layers", "network", LAYERS),
)


def tasks_of(variant: Variant, scenes: Iterable[Scene], traffic: str, seconds: float | None) -> list[DriveTask]:
    """One drive per scene."""
    return [
        DriveTask(s.label, s, variant.layers, seconds, traffic, facts={"variant": variant.name, "family": s.name},
                  perception=variant.perception)
        for s in scenes
    ]  # fmt: skip


def drive_and_judge(
    task: DriveTask, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path
) -> dict[str, Any]:
    """Drive one task and say what came of it; the work of the study."""
    recording, trace = drive_task(task, config, progress)
    metrics = evaluate(trace, recording)
    value = {name: float(metrics[name].value) for name in ("cls", "collisions", "at_fault_collisions", "off_road")}
    progress_share = metrics["expert_progress"]
    other = [source != "candidate" for source in trace.source]
    facts = {
        **value,
        "progress": float(progress_share.value) if progress_share.valid else None,
        "steps": len(trace.v),
        "interventions": sum(other),
        "episodes": sum(now and not before for now, before in zip(other, [False, *other])),
        "without_tail": int((~trace.tail_accepted).sum()),
        "braking_hard": int((trace.a < BRAKING_HARD).sum()),
        **seen_and_told(trace, bool(recording.metadata.get("occlusion"))),
    }
    note = f"score {value['cls']:.2f}, {sum(other)} interventions" + (
        ", hit by fault" if value["at_fault_collisions"] else ", touched" if value["collisions"] else ""
    )
    return store_drive(task, recording, trace, run_dir, notable=True, facts={**facts, "note": note})


def seen_and_told(trace: Trace, occlusion: bool) -> dict[str, int]:
    """Objects that can be seen within 30 m and how many of them were told; boxes told there and how many mean nobody.

    Sums over the steps; zeros for a drive in which the oracle told. occlusion: whether big vehicles hide others.
    """
    seen = found = told = ghosts = 0
    for k, step in enumerate(trace.steps):
        if "perceived" not in step:
            continue
        ego, there = trace.pose[k], trace.agent_valid[:, k]
        everybody = ObjectStates(
            trace.track_id[there], trace.agent_class[there], trace.size[there], trace.agent_pose[there, k],
            trace.agent_velocity[there, k],
        )  # fmt: skip
        boxes = [box for box in step["perceived"] if box["p"] >= BELIEVED]
        claimed = np.array([box["xy"] for box in boxes], float).reshape(-1, 2)
        shown = visible(everybody, ego) if occlusion else everybody
        shown_near = np.hypot(*(shown.pose[:, :2] - ego[:2]).T) <= NEAR
        claimed_near = np.hypot(*(claimed - ego[:2]).T) <= NEAR
        seen += int(shown_near.sum())
        found += int(_met(shown.pose[shown_near, :2], shown.size[shown_near], claimed).sum())
        told += int(claimed_near.sum())
        away = np.linalg.norm(claimed[claimed_near, None] - everybody.pose[None, :, :2], axis=-1)
        ghosts += int((away > np.maximum(SAME, everybody.size[:, 0] / 2)).all(1).sum())
    return {"seen": seen, "found": found, "told": told, "ghosts": ghosts}


def _met(centre: np.ndarray, size: np.ndarray, claimed: np.ndarray) -> np.ndarray:
    """``[n]``: some claim ``[m, 2]`` means the object ``[n, 2]``."""
    away = np.linalg.norm(centre[:, None] - claimed[None], axis=-1)
    return (away <= np.maximum(SAME, size[:, :1] / 2)).any(1)


def rows_of(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant; rates are shares of drives with their 95 % Wilson intervals."""
    rows = []
    for variant in dict.fromkeys(f["variant"] for f in facts):
        mine = [f for f in facts if f["variant"] == variant]
        hits, touched = (sum(f[name] > 0 for f in mine) for name in ("at_fault_collisions", "collisions"))
        shares = [f["progress"] for f in mine if f["progress"] is not None]
        total = {name: sum(f[name] for f in mine) for name in SUMS}
        rows.append({
            "variant": variant, "drives": len(mine), "collisions": touched, "at_fault": hits,
            "collision_interval": wilson(touched, len(mine)), "at_fault_interval": wilson(hits, len(mine)),
            "off_road": sum(f["off_road"] > 0 for f in mine), "score": float(np.mean([f["cls"] for f in mine])),
            "progress": float(np.mean(shares)) if shares else None, **total,
        })  # fmt: skip
    return rows

"""The adversary's study: rounds of gradient against closed-loop drives, and search with the same bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.baselines.reference_drivers import Encounters, avoided_by
from eval.config import RunConfig
from eval.layers import LAYERS
from eval.metrics.collision import find_collisions
from eval.metrics.drive import Drive
from eval.run.store import Key
from eval.run.task import trace_path
from eval.simulation.trace import Trace
from eval.studies.adversary import Rollout, adversary_of, perturbed, soft_distance, worst_controls
from eval.studies.drives import DriveTask, Scene, drive_task, load_scene, store_drive
from eval.studies.intervals import clopper_pearson
from eval.studies.search import CrossEntropy
from eval.studies.study import Study, completed
from perception.recording import Recording


@dataclass(frozen=True)
class Attack:
    """method: "none", "gradient" (starts from the drive named `after`) or "search" (controls given). budget (m)."""

    method: str
    budget: float = 0.0
    after: str = ""
    controls: tuple[float, ...] = ()


def attack_task(scene: Scene, attack: Attack, number: int, seconds: float, layers: tuple[str, ...]) -> DriveTask:
    """One drive against one attack."""
    label = "none" if attack.method == "none" else f"{attack.method}{number}_{attack.budget:g}m"
    facts = {"method": attack.method, "budget": attack.budget, "number": number}
    return DriveTask(f"{scene.label}~{label}", scene, layers, seconds, injection=attack, facts=facts)


def run_attacks(
    study: Study,
    scenes: list[Scene],
    budget: float,
    rounds: int,
    searched: int,
    seconds: float,
    layers: tuple[str, ...] = LAYERS,
) -> list[dict[str, Any]]:
    """Facts of all drives. rounds: of the gradient per scene; searched: drives of the search per scene."""  # fmt: skip
    tasks = {scene: attack_task(scene, Attack("none"), 0, seconds, layers) for scene in scenes}
    facts = completed(study.run(list(tasks.values())))
    free = {f["scene"]: f for f in facts}
    for number in range(1, rounds + 1):
        tasks = {
            scene: attack_task(scene, Attack("gradient", budget, after=last.name), number, seconds, layers)
            for scene, last in tasks.items()
            if free.get(scene.label, {}).get("knots")
        }
        facts += completed(study.run(list(tasks.values())))
    if searched:
        for index, scene in enumerate(scenes):
            if knots := free.get(scene.label, {}).get("knots"):
                facts += _search(study, scene, knots, budget, searched, seconds, layers, index)
    return facts


def _search(
    study: Study,
    scene: Scene,
    knots: int,
    budget: float,
    drives: int,
    seconds: float,
    layers: tuple[str, ...],
    seed: int,
) -> list[dict[str, Any]]:
    """Cross-entropy over displacements at four places of the drive, along and across."""
    found = CrossEntropy([(-budget, budget)] * 8, seed=[17, seed])
    facts: list[dict[str, Any]] = []
    for first in range(0, drives, found.batch):
        points = found.ask(min(found.batch, drives - first))
        tasks = []
        for n, point in enumerate(points):
            places = np.linspace(0, 1, 4)
            spread = [np.interp(np.linspace(0, 1, knots), places, half) for half in (point[:4], point[4:])]
            controls = tuple(float(f"{x:.4g}") for x in np.concatenate(spread))
            attack = Attack("search", budget, controls=controls)
            tasks.append(attack_task(scene, attack, first + n + 1, seconds, layers))
        lines = study.run(tasks)
        found.tell(points, [line["study"].get("margin", -100.0) for line in lines])
        facts += completed(lines)
    return facts


def drive_attack(
    task: DriveTask, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path
) -> dict[str, Any]:
    """Drive against one attack; the work of the study."""
    attack: Attack = task.injection
    recording, knots = load_scene(task.scene, config.data), 0
    if attack.method != "none":
        recording = _attacked(recording, task, run_dir)
    recording, trace = drive_task(task, config, progress, recording=recording)
    if attack.method == "none":
        rollout = adversary_of(recording, trace)
        knots = rollout.knots if rollout is not None else 0
    hits = [c for c in find_collisions(Drive(trace, recording)) if c.at_fault]
    gap = float(trace.min_gap.min())
    facts = {
        "at_fault": len(hits),
        "impact_speed": hits[0].ego_speed if hits else 0.0,
        "margin": gap - (hits[0].ego_speed if hits else 0.0),
        "knots": knots,
        "avoided_by": _reference(recording) if hits else {},
        "note": f"{'hit, ' if hits else ''}gap {gap:.1f} m",
    }
    return store_drive(task, recording, trace, run_dir, notable=bool(hits), facts=facts)


def _attacked(recording: Recording, task: DriveTask, run_dir: Path) -> Recording:
    """The recording under the task's attack. A gradient's controls are kept for the next round to start from."""
    attack: Attack = task.injection
    free = Trace.load(run_dir / trace_path(Key(f"{task.scene.label}~none", task.key.planner, task.traffic)))
    rollout = adversary_of(recording, free)
    assert rollout is not None
    if attack.method == "search":
        wanted = torch.tensor(attack.controls, dtype=torch.float64).reshape(2, rollout.knots)
        return perturbed(recording, rollout, rollout.bounded(wanted, attack.budget))
    last = Trace.load(run_dir / trace_path(Key(attack.after, task.key.planner, task.traffic)))
    start = _kept(run_dir, attack.after)
    controls = _best_of(recording, last, rollout, attack.budget, start)
    path = run_dir / "attacks" / f"{task.name}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, controls.numpy())
    return perturbed(recording, rollout, controls)


def _best_of(
    recording: Recording, last: Trace, rollout: Rollout, budget: float, start: torch.Tensor | None
) -> torch.Tensor:
    """The better of going on from the last round and starting anew: ego may have left the old minimum."""
    starts = [None] if start is None else [start, None]
    options = [worst_controls(recording, last, rollout, budget, begin) for begin in starts]
    return min(options, key=lambda c: float(soft_distance(recording, last, rollout, c)))


def _kept(run_dir: Path, name: str) -> torch.Tensor | None:
    path = run_dir / "attacks" / f"{name}.npy"
    return torch.from_numpy(np.load(path)) if path.exists() else None


def _reference(recording: Recording) -> dict[str, bool]:
    """Which reference drivers avoid the attacked encounter; only on straight roads, for which they are defined."""
    hazard = recording.metadata.get("hazard", {})
    if not hazard.get("models"):
        return {}
    encounter = Encounters.of_recording(recording, hazard["track_id"], hazard["onset"], hazard["in_lane"])
    return {name: not bool(outcome.collided[0]) for name, outcome in avoided_by(encounter).items()}


def at_fault_rate(facts: list[dict[str, Any]], method: str) -> tuple[int, int, tuple[float, float]]:
    """Scenes in which a method found a collision at fault, scenes, and the exact 95 % interval of the rate."""
    mine = [f for f in facts if f["method"] == method]
    scenes = {f["scene"] for f in mine}
    hit = {f["scene"] for f in mine if f["at_fault"]}
    return len(hit), len(scenes), clopper_pearson(len(hit), len(scenes))

"""Fault injection: sweeps, guided search and pairs of the catalogue's faults, on generated, protocol and real scenes.

Every drive with a fault has a twin without; a row's criterion looks at the difference. See `fault_catalogue`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eval.config import RunConfig
from eval.layers import LAYERS
from eval.run.store import Key
from eval.run.task import trace_path
from eval.simulation.trace import Trace
from eval.studies.adversary import attacked
from eval.studies.drives import DriveTask, Scene, drive_task, load_scene, store_drive
from eval.studies.fault_base import Fault
from eval.studies.fault_catalogue import (
    BY_KIND,
    CATALOGUE,
    ONSET_RANGE,
    ONSETS_COARSE,
    ONSETS_FULL,
    Entry,
)
from eval.studies.fault_judge import Judged, judge_fault
from eval.studies.fault_models import MODELS, make_injection
from eval.studies.pairs import covering_pairs
from eval.studies.search import CrossEntropy
from eval.studies.study import Study, completed

SCENES_COARSE = (
    Scene("generated", "emergency_braking_leader", (("seed", 3),)),
    Scene("generated", "crossing_pedestrian", (("seed", 0),)),
)
SECONDS = 8.0


@dataclass(frozen=True)
class Plan:
    """What is injected. rows: of the catalogue. scenes: to inject into. full: all sizes and onsets instead of a few.
    layers: that are on. search: drives per kind in the guided search, 0 for none. seconds: of each drive.
    """

    rows: tuple[int, ...]
    scenes: tuple[Scene, ...] = SCENES_COARSE
    full: bool = False
    layers: tuple[str, ...] = LAYERS
    search: int = 0
    seconds: float = SECONDS

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry in CATALOGUE if entry.row in self.rows]


def twin(scene: Scene, plan: Plan) -> DriveTask:
    """The drive without a fault."""
    facts = {"row": 0, "kind": "none", "size": 0.0, "onset": 0.0, "mode": "twin"}
    return DriveTask(f"{scene.label}~none", scene, plan.layers, plan.seconds, injection=(), facts=facts)


def faulty(scene: Scene, faults: tuple[Fault, ...], plan: Plan, mode: str, row: int) -> DriveTask:
    """The drive with one fault, or with several."""
    first = faults[0]
    facts = {
        "row": row, "kind": "+".join(f.kind for f in faults), "size": first.size, "onset": first.onset, "mode": mode,
        "faults": [f.name for f in faults],
    }  # fmt: skip
    name = f"{scene.label}~{'~'.join(f.name for f in faults)}"
    return DriveTask(name, scene, plan.layers, plan.seconds, injection=faults, facts=facts)


def task_of(entry: Entry, size: float, onset: float, scene: Scene, plan: Plan, mode: str) -> DriveTask:
    """The drive for one entry of the catalogue; situations bring their own scene."""
    if entry.axis:
        own = entry.situation(size)
        facts = {"row": entry.row, "kind": entry.kind, "size": size, "onset": 0.0, "mode": mode}
        return DriveTask(f"{own.label}~situation", own, plan.layers, None, injection=(), facts=facts)
    return faulty(scene, (Fault(entry.kind, onset, size),), plan, mode, entry.row)


def sweep_tasks(plan: Plan) -> list[DriveTask]:
    """All sizes and onsets of the plan's rows on all its scenes."""
    tasks: dict[str, DriveTask] = {}
    for entry in plan.entries:
        sizes = entry.full if plan.full else entry.coarse
        onsets = (ONSETS_FULL if plan.full else ONSETS_COARSE) if entry.place != "road" else (0.0,)
        scenes: Sequence[Scene] = plan.scenes
        if entry.axis:
            scenes, onsets = scenes[:1], (0.0,)
        for scene, onset, size in itertools.product(scenes, onsets, sizes):
            task = task_of(entry, size, onset, scene, plan, "sweep")
            tasks[task.name] = task
    return list(tasks.values())


def run_twins(study: Study, plan: Plan) -> None:
    """Drive every scene once without a fault."""
    study.run([twin(scene, plan) for scene in plan.scenes])


def run_sweep(study: Study, plan: Plan) -> list[dict[str, Any]]:
    """Facts of all drives of the sweep."""
    return completed(study.run(sweep_tasks(plan)))


def run_search(study: Study, plan: Plan, seed: int = 0) -> list[dict[str, Any]]:
    """Look for the worst onset and size of every kind: cross-entropy on the drives' margins, scene by scene."""
    facts: list[dict[str, Any]] = []
    for entry in plan.entries:
        scenes = plan.scenes[:1] if entry.axis else plan.scenes
        for number, scene in enumerate(scenes):
            budget = plan.search // len(scenes) + (number < plan.search % len(scenes))
            onsets = (0.0, 0.0) if entry.axis or entry.place == "road" else ONSET_RANGE
            found = CrossEntropy((onsets, entry.search), seed=[seed, entry.row, number])
            while budget > 0:
                points = found.ask(min(budget, found.batch))
                tasks = [
                    task_of(entry, _round(size), _round(onset), scene, plan, "search") for onset, size in points
                ]  # fmt: skip
                unique = list({task.name: task for task in tasks}.values())
                lines = {line["scenario"]: line["study"] for line in study.run(unique)}
                # A drive that broke down is as bad as can be: it must not be hidden from the search.
                found.tell(points, [lines[task.name].get("margin", -100.0) for task in tasks])
                facts += completed([study.store.results[task.key] for task in unique])
                budget -= len(points)
    return list({f["key"]: f for f in facts}.values())


def run_pairs(study: Study, plan: Plan, seed: int = 0) -> tuple[list[dict[str, Any]], int, int]:
    """Drives that together contain every pair of kinds from different places; facts, pairs covered, pairs there are."""
    by_place: dict[str, list[str]] = {}
    for entry in CATALOGUE:
        if entry.kind in MODELS:
            by_place.setdefault(entry.place, []).append(entry.kind)
    rows, covered, total = covering_pairs(list(by_place.values()), seed=seed)
    tasks = []
    for number, row in enumerate(rows):
        scene = plan.scenes[number % len(plan.scenes)]
        faults = tuple(Fault(kind, ONSETS_COARSE[0], BY_KIND[kind].coarse[0], seed=seed) for kind in row)
        tasks.append(faulty(scene, faults, plan, "pairs", 19))
    return completed(study.run(tasks)), covered, total


def drive_fault(
    task: DriveTask, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path
) -> dict[str, Any]:
    """Drive one task and judge it beside its twin; the work of the study."""
    faults: tuple[Fault, ...] = task.injection
    if faults and faults[0].kind == "adversary":
        recording = attacked(load_scene(task.scene, config.data), _twin_trace(run_dir, task), faults[0])
        recording, trace = drive_task(task, config, progress, recording=recording)
    else:
        recording, trace = drive_task(task, config, progress, make_injection(faults) if faults else None)
    mode = task.facts["mode"]
    if task.facts["row"] in (12, 13, 14, 15):
        facts = _judge_situation(recording, trace)
    elif mode == "twin":
        judged = Judged(Fault("none", 0.0, 0.0), recording, trace, trace)
        facts = judge_fault(judged)
    else:
        facts = judge_fault(Judged(faults[0], recording, trace, _twin_trace(run_dir, task)))
        if len(faults) > 1:
            facts |= {"passed": facts["survived"], "criterion": "common criteria of all its faults"}
    facts["note"] = ("hit " if facts["at_fault"] else "") + f"margin {facts['margin']:.1f}, {facts['criterion']}"
    notable = not (facts["survived"] and facts["passed"])
    return store_drive(task, recording, trace, run_dir, notable=notable, facts=facts)


def _judge_situation(recording: Any, trace: Trace) -> dict[str, Any]:
    """Rows 12 to 15: no collision where a reference driver avoids it, or where braking could."""
    from eval.studies.grids import judge_cell

    cell = judge_cell(recording, trace)
    common = judge_fault(Judged(Fault("situation", 0.0, 0.0), recording, trace, trace))
    avoidable = [name for name, good in cell.get("avoided_by", {}).items() if good]
    # Not everything that ego must avoid is its fault by the metric's rule; here whoever is hit counts.
    passed = not cell["collided"] or (not avoidable and cell["unavoidable_by_braking"])
    hit = cell["impact_speed"] if cell["collided"] else 0.0
    return common | {
        "passed": passed,
        "criterion": f"avoided by {', '.join(avoidable) or 'nobody'}",
        "impact_speed": hit,
        "margin": cell["smallest_gap"] - hit,
    }


def _twin_trace(run_dir: Path, task: DriveTask) -> Trace:
    key = Key(f"{task.scene.label}~none", task.key.planner, task.traffic)
    return _load(run_dir / trace_path(key))


@lru_cache(maxsize=8)
def _load(path: Path) -> Trace:
    return Trace.load(path)


def _round(value: float) -> float:
    """Three digits: what stands in a drive's name is what was driven."""
    return float(f"{value:.3g}")


def parse_rows(text: str) -> tuple[int, ...]:
    """Rows from "1-4,10". Raises ValueError."""
    rows: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        rows += range(int(first), int(last or first) + 1)
    if bad := [row for row in rows if not 1 <= row <= 19]:
        raise ValueError(f"rows: expected numbers from 1 to 19, got {bad[0]}")
    return tuple(dict.fromkeys(rows))


def with_layers(plan: Plan, layers: Iterable[str]) -> Plan:
    """The same plan with other layers."""
    return replace(plan, layers=tuple(layers))


def margins(facts: list[dict[str, Any]]) -> np.ndarray:
    """Margins of the facts, for comparing searches."""
    return np.array([f["margin"] for f in facts])

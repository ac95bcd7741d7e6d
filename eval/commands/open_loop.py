"""`dualdrive evaluate open-loop`: planned points against the recorded drive, both published protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from eval.commands.console import console
from eval.config import RunConfig
from eval.open_loop import HUMAN, OpenLoopPlanner, poses_of, table
from eval.open_loop import evaluate_open_loop as evaluate
from eval.run.manifest import code_hash, start_manifest, write_manifest
from eval.run.samples import list_samples
from eval.run.store import CONFIG, SUMMARY, write_atomic
from planner import ConvexPlanner
from planner.scene import VectorScene


def evaluate_open_loop(config: RunConfig, out: Path) -> int:
    """Evaluate, print the tables and leave `summary.json`, `config.yaml` and `manifest.json` in `out`."""
    names = [sample.name for sample in list_samples(config.data)]
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / CONFIG, config.to_yaml())
    identity = {"configuration": config.identity(), "code": code_hash()}
    manifest = start_manifest(identity, seed=config.simulation.seed, samples=names, total=len(names))
    write_manifest(out, manifest, "running")
    try:
        results = _evaluate(config, names)
    except BaseException as error:
        write_manifest(out, manifest, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    manifest["sample_list_hash"] = results["sample_list_sha256"]
    write_atomic(out / SUMMARY, json.dumps({"schema": 1, "command": "evaluate open-loop", **results}, indent=2) + "\n")
    write_manifest(out, manifest, "completed")

    _print(table(results), f"All {results['samples']} samples")
    if results["turning_samples"]:
        _print(table(results, "turning"), f"The {results['turning_samples']} samples that turn")
    console.print(
        f"{HUMAN} is the self-test: the recorded drive measured against itself. Open-loop numbers say how well a plan "
        "imitates, not how well it drives.",
        style="dim", highlight=False,
    )  # fmt: skip
    console.print(f"Results: {out}  (summary.json, {CONFIG}, manifest.json)", highlight=False, soft_wrap=True)
    return 0


def _evaluate(config: RunConfig, names: list[str]) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("scenes", total=len(names))
        return evaluate(
            config.data.dataroot,
            config.data.version,
            {"dualdrive": _planner(config)},
            progress=lambda done, total, name: bar.update(task, completed=done, description=name),
            scenes=names,
        )


def _planner(config: RunConfig) -> OpenLoopPlanner:
    """Our planner's preferred plan, each scene by itself: nothing is carried from key frame to key frame."""
    planner = ConvexPlanner(config.planner)

    def plan(scene: VectorScene) -> np.ndarray | None:
        planner.reset()
        chosen = planner.plan(scene).chosen
        return None if chosen is None or chosen.trajectory is None else poses_of(chosen.trajectory)

    return plan


def _print(rows: list[dict[str, str]], title: str) -> None:
    if not rows:
        return
    shown = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )
    for number, name in enumerate(rows[0]):
        shown.add_column(name.replace(" (", "\n("), justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row.values())
    console.print(shown)

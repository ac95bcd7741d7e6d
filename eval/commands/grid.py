"""`dualdrive grid`: regulation and rating grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.baselines.reference_models import MODELS
from eval.commands.console import EXIT_FAILED, console
from eval.commands.tables import study_table
from eval.config import RunConfig
from eval.report import write_report
from eval.run.store import SUMMARY, write_atomic
from eval.studies.grids import PROTOCOLS, drive_cell, grid_tasks, summarise, violates
from eval.studies.page import Cell, Table, write_page
from eval.studies.study import completed, open_study
from eval.typed_config import ConfigError


def grid(
    config: RunConfig, protocol: str, run_dir: Path, *, full: bool, cell: str, sample: int, seed: int, fresh: bool
) -> int:
    """Drive a grid, print and write its tables. Returns the exit code: 1 where a cell breaks the gate or fails."""
    try:
        tasks = grid_tasks(protocol, full=full, cell=cell, sample=sample, seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # Not the size of a sample: a larger one of the same seed goes on where the smaller one ended.
    settings = {"protocol": protocol, "full": full, "cell": cell, **({"sample_seed": seed} if sample else {})}
    with open_study("grid", run_dir, config, drive_cell, settings, fresh=fresh) as study:
        lines = study.run(tasks)
        facts = completed(lines)
        rows = summarise(protocol, facts)
        failed = [line["scenario"] for line in lines if line["status"] == "failed"]
        summary = {"schema": 1, "command": "grid", "protocol": PROTOCOLS[protocol], "full": full, "rows": rows}
        summary |= {"sample": sample, "sample_seed": seed} if sample else {}
        write_atomic(run_dir / SUMMARY, json.dumps({**summary, "failed": failed}, indent=2) + "\n")
    drawn = f"{len(facts)} cells drawn at random with seed {seed}" if sample else "all cells"
    lead = [
        "One cell." if cell else f"{'Full' if full else 'Coarse'} grid, {drawn}.",
        *_lead(protocol),
        *_published(rows[-1]),
    ]
    _print(rows, facts, run_dir, failed, lead)
    if facts and config.execution.report:
        write_report(run_dir)
        path = write_page(run_dir / "grid.html", f"{protocol} grid", lead, _pages(protocol, facts))
        console.print(f"Page:    [bold]{path}[/]", highlight=False, soft_wrap=True)
    return EXIT_FAILED if failed or rows[-1]["violations"] else 0


def _print(
    rows: list[dict[str, Any]], facts: list[dict[str, Any]], run_dir: Path, failed: list[str], lead: list[str]
) -> None:
    table = study_table(
        "family", "cells", "ours avoid", "95 %", *MODELS, "no braking", "worst impact", "gate broken",
        "published",
    )  # fmt: skip
    for row in rows:
        low, high = row["interval"]
        of = "" if row["defined"] == row["cells"] else f"/{row['defined']}"
        models = ["-" if row[name] is None else f"{row[f'{name}_here']}{of}" for name in MODELS]
        family = row["family"].removeprefix("r157_")
        table.add_row(
            family, str(row["cells"]), str(row["avoided"]), f"{low:.0%}-{high:.0%}", *models,
            str(row["unavoidable"]), f"{row['worst_impact_kmh']:.0f} km/h", str(len(row["violations"])),
            str(len(row["published"])),
        )  # fmt: skip
    console.print()
    console.print(table)
    console.print(*lead, sep="\n", style="dim", highlight=False, soft_wrap=True)
    for name in [f["name"] for f in facts if f["collided"]]:
        console.print(f"Hit:     dualdrive explain {run_dir} {name}", highlight=False, soft_wrap=True)
    for name in failed:
        console.print(f"[bold red]Failed:[/] {name}", highlight=False, soft_wrap=True)


def _lead(protocol: str) -> list[str]:
    gate = (
        "Gate: no collision where CC or FSM avoids one."
        if protocol == "r157"
        else "Gate: avoided, or hit with at most 10 km/h, or not avoidable by braking."
    )
    return [
        f"{PROTOCOLS[protocol]}. {gate}",
        "CC, Reg157, RSS, FSM: published careful drivers in ego's place, on the same motions of the others, judged by "
        "the same rectangles as ours; they only brake. For crossing pedestrians and cyclists they were not published.",
        "no braking: full braking from the first moment at which the hazard shows still ends in contact.",
    ]


def _published(everything: dict[str, Any]) -> list[str]:
    """What the reference drivers' publications would say, and the gate by that."""
    if not everything["defined"]:
        return []
    counts = ", ".join(f"{name} {everything[name]}" for name in MODELS)
    return [
        "published: cells in which ours is hit and CC or FSM is not by their publications' rectangles, which lie along "
        f"the lane however a car is turned; by those {counts} avoid."
    ]


def _pages(protocol: str, facts: list[dict[str, Any]]) -> list[Table]:
    """One heat map per family: the last parameter across, the others down."""
    tables = []
    groups = dict.fromkeys((f["family"], tuple(f["parameters"])) for f in facts)
    for family, names in groups:
        mine = [f for f in facts if (f["family"], tuple(f["parameters"])) == (family, names)]
        across = sorted({f["parameters"][names[-1]] for f in mine})
        down = sorted({tuple(f["parameters"][n] for n in names[:-1]) for f in mine})
        by_place = {tuple(f["parameters"].values()): f for f in mine}
        table = Table(family, [" / ".join(names[:-1]) or "", *(f"{names[-1]} {value:g}" for value in across)])
        for label in down:
            row: list[Cell | str] = [" / ".join(f"{value:g}" for value in label)]
            row += [_heat(protocol, by_place.get((*label, value))) for value in across]
            table.rows.append(row)
        tables.append(table)
    return tables


def _heat(protocol: str, f: dict[str, Any] | None) -> Cell:
    if f is None:
        return Cell("", tone="none")
    note = ""
    if "avoided_by" in f:
        avoid = [name for name in MODELS if name not in f["hit_here_by"]]
        along = [name for name in MODELS if f["avoided_by"][name] and name not in avoid]
        note = f"avoided by {', '.join(avoid) or 'nobody'}"
        note += f"; by rectangles along the lane {', '.join(along)}, too" if along else ""
    note += "; no braking helps" if f["unavoidable_by_braking"] else ""
    text = f"hit, {3.6 * f['impact_speed']:.0f} km/h" if f["collided"] else f"{f['smallest_gap']:.1f} m"
    tone = "good" if not f["collided"] else "bad" if violates(protocol, f) else "warn"
    return Cell(text, note, tone, f["key"], f"dualdrive grid {protocol} --cell {f['name']}")

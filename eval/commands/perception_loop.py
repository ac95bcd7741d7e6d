"""`dualdrive perception-loop`: learned perception in the closed loop, with and without the second channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.commands.console import EXIT_FAILED, console
from eval.commands.tables import study_table
from eval.config import RunConfig
from eval.report import write_report
from eval.run.store import SUMMARY, write_atomic
from eval.simulation.observers import describe, network_hash
from eval.studies.drives import Scene
from eval.studies.page import Cell, Table, write_page
from eval.studies.perception_loop import VARIANTS, drive_and_judge, rows_of, tasks_of
from eval.studies.study import completed, open_study


def perception_loop(
    config: RunConfig, run_dir: Path, scenes: list[Scene], *, seconds: float | None, fresh: bool
) -> int:
    """All scenes with the oracle, then with the network and more and more layers. Returns the exit code."""
    network = describe(config.perception.network)
    settings = {
        "scenes": [scene.label for scene in scenes], "seconds": seconds, "traffic": config.traffic,
        "network": network_hash(config.perception.network),
    }  # fmt: skip
    facts: list[dict[str, Any]] = []
    with open_study("perception-loop", run_dir, config, drive_and_judge, settings, fresh=fresh) as study:
        for traffic in config.traffic:
            for variant in VARIANTS:
                facts += completed(study.run(tasks_of(variant, scenes, traffic, seconds)))
        failed = sorted({line["scenario"] for line in study.store.results.values() if line["status"] == "failed"})
        rows = rows_of(facts)
        summary = {"schema": 1, "command": "perception-loop", "network": network, "rows": rows, "failed": failed}
        write_atomic(run_dir / SUMMARY, json.dumps(summary, indent=2) + "\n")
    _print(rows, network, failed)
    if config.execution.report and facts:
        write_report(run_dir)
        page = write_page(
            run_dir / "perception_loop.html", "Learned perception in the loop", _lead(network), [_page(facts)]
        )
        console.print(f"Page:    [bold]{page}[/]", highlight=False, soft_wrap=True)
    return EXIT_FAILED if failed else 0


def _print(rows: list[dict[str, Any]], network: str, failed: list[str]) -> None:
    names = (
        "drives",
        "at fault",
        "95 %",
        "touched",
        "95 %",
        "score",
        "progress",
        "stepped in",
        "no tail",
        "recall",
        "ghosts",
    )
    table = study_table("perception", *names)
    for row in rows:
        table.add_row(
            row["variant"], str(row["drives"]), str(row["at_fault"]), _span(row["at_fault_interval"]),
            str(row["collisions"]), _span(row["collision_interval"]), f"{row['score']:.3f}",
            "-" if row["progress"] is None else f"{row['progress']:.2f}",
            f"{row['interventions'] / max(row['steps'], 1):.1%}", str(row["without_tail"]),
            f"{row['found'] / row['seen']:.2f}" if row["seen"] else "-",
            f"{row['ghosts'] / row['told']:.2f}" if row["told"] else "-",
        )  # fmt: skip
    console.print()
    console.print(table)
    console.print(*_lead(network), sep="\n", style="dim", highlight=False, soft_wrap=True)
    for name in failed:
        console.print(f"[bold red]Failed:[/] {name}", highlight=False, soft_wrap=True)


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.0%}-{interval[1]:.0%}"


def _lead(network: str) -> list[str]:
    return [
        f"network: {network}. oracle: true boxes, rule-based forecasts, HD map. Checker and tail are on in every row.",
        "at fault, touched: drives with such a contact. stepped in: steps in which no candidate was driven. recall: of "
        "visible objects within 30 m, told with existence 0.3 or more; ghosts: share of such boxes that mean nobody.",
    ]


def _page(facts: list[dict[str, Any]]) -> Table:
    """One row per scene, one column per variant."""
    variants = list(dict.fromkeys(f["variant"] for f in facts))
    table = Table("Score by scene", ["scene", *variants])
    for scene in dict.fromkeys((f["scene"], f["key"].traffic) for f in facts):
        row: list[Cell | str] = [" ".join(scene)]
        for variant in variants:
            f = next((f for f in facts if (f["scene"], f["key"].traffic, f["variant"]) == (*scene, variant)), None)
            if f is None:
                row.append(Cell("", tone="none"))
                continue
            tone = "bad" if f["at_fault_collisions"] else "warn" if f["collisions"] or f["cls"] < 0.5 else "good"
            row.append(
                Cell(f"{f['cls']:.2f}", f"{f['interventions']} of {f['steps']} steps stepped in", tone, f["key"])
            )
        table.rows.append(row)
    return table

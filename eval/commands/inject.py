"""`dualdrive inject`: the fault catalogue, its table and its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.commands.console import EXIT_FAILED, console
from eval.commands.tables import study_table
from eval.config import RunConfig
from eval.report import write_report
from eval.run.store import SUMMARY, Key, write_atomic
from eval.studies.fault_catalogue import BY_KIND, ROW_NAMES
from eval.studies.faults import Plan, drive_fault, run_pairs, run_search, run_sweep, run_twins
from eval.studies.intervals import clopper_pearson, wilson
from eval.studies.page import Cell, Table, write_page
from eval.studies.study import open_study


def inject(config: RunConfig, run_dir: Path, plan: Plan, *, fresh: bool) -> int:
    """Sweep, search and pairs of one configuration. Returns the exit code: 1 where somebody was hit by ego's fault."""
    settings = {"plan": repr(plan)}
    with open_study("inject", run_dir, config, drive_fault, settings, fresh=fresh) as study:
        run_twins(study, plan)
        facts = run_sweep(study, plan)
        searched = run_search(study, plan) if plan.search else []
        paired, covered, total = run_pairs(study, plan) if 19 in plan.rows else ([], 0, 0)
        broken = [line["scenario"] for line in study.store.results.values() if line["status"] == "failed"]
        rows = table_rows(facts + searched + paired)
        summary: dict[str, Any] = {
            "schema": 1, "command": "inject", "layers": list(plan.layers), "rows": rows, "failed": broken,
            "pairs": {"covered": covered, "of": total}, "search": search_rows(facts, searched),
        }  # fmt: skip
        write_atomic(run_dir / SUMMARY, json.dumps(summary, indent=2) + "\n")
    everything = facts + searched + paired
    _print_faults(rows, run_dir, everything, broken)
    for row in summary["search"]:
        console.print(
            f"Search:  {row['kind']}: worst margin {row['searched']:.2f} in {row['drives']} drives"
            f" (sweep {row['swept']:.2f}), at onset {row['onset']:g} s, size {row['size']:g}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if total:
        console.print(f"Pairs:   {covered} of {total} pairs of kinds from different places, in {len(paired)} drives")
    if config.execution.report and everything:
        write_report(run_dir)
        path = write_page(run_dir / "faults.html", "Fault injection", [ABOUT], _pages(rows, everything))
        console.print(f"Page:    [bold]{path}[/]", highlight=False, soft_wrap=True)
    return EXIT_FAILED if broken or any(f["at_fault"] for f in everything) else 0


def table_rows(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind of fault; see docs/faults.md for the columns."""
    rows = []
    for kind in dict.fromkeys(_group(f) for f in sorted(facts, key=lambda f: f["row"])):
        mine = [f for f in facts if _group(f) == kind]
        found = [f["detection"] for f in mine if f["detection"] is not None]
        survived, hits = sum(f["survived"] for f in mine), [f for f in mine if f["at_fault"]]
        worst = min(mine, key=lambda f: f["margin"])
        rows.append(
            {
                "row": mine[0]["row"], "kind": kind, "injected": len(mine), "survived": survived,
                "survival_interval": wilson(survived, len(mine)), "collisions": len(hits),
                "collision_interval": clopper_pearson(len(hits), len(mine)),
                "passed": sum(f["passed"] for f in mine), "detected": len(found),
                "detection_s": max(found) if found else None, "median_detection_s": _median(found),
                "worst_margin": worst["margin"], "worst": list(worst["key"]), "worst_criterion": worst["criterion"],
                "without_tail": sum(f["without_tail"] for f in mine),
                "not_by_fault": sum(bool(f["at_fault"]) and bool(f["twin_at_fault"]) for f in mine),
            }
        )  # fmt: skip
    return rows


def search_rows(swept: Sequence[dict[str, Any]], searched: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the search found beyond the sweep, per kind."""
    rows = []
    for kind in dict.fromkeys(f["kind"] for f in searched):
        mine = [f for f in searched if f["kind"] == kind]
        worst = min(mine, key=lambda f: f["margin"])
        before = min((f["margin"] for f in swept if f["kind"] == kind), default=float("inf"))
        rows.append({
            "kind": kind, "drives": len(mine), "searched": worst["margin"], "swept": before, "onset": worst["onset"],
            "size": worst["size"], "worst": list(worst["key"]),
        })  # fmt: skip
    return rows


ABOUT = (
    "Every drive with a fault is compared with the same drive without. survived: nobody hit by ego's fault, on "
    "the road, the vehicle's envelope kept. row passed: the catalogue's own criterion. margin: smallest gap (m), "
    "minus ego's speed (m/s) at a contact. detection: from the onset to the first step that reacts. Intervals: 95 %."
)


def _print_faults(rows: list[dict[str, Any]], run_dir: Path, facts: list[dict[str, Any]], broken: list[str]) -> None:
    table = study_table(
        "row", "fault", "injected", "survived", "95 %", "at fault", "95 %", "row passed", "detected", "latest",
        "worst margin",
    )  # fmt: skip
    for row in rows:
        low, high = row["survival_interval"]
        least, most = row["collision_interval"]
        latest = "-" if row["detection_s"] is None else f"{row['detection_s']:.1f} s"
        table.add_row(
            str(row["row"]), row["kind"], str(row["injected"]), str(row["survived"]), f"{low:.0%}-{high:.0%}",
            str(row["collisions"]), f"{least:.0%}-{most:.0%}", str(row["passed"]), str(row["detected"]), latest,
            f"{row['worst_margin']:.1f}",
        )  # fmt: skip
    console.print()
    console.print(table)
    console.print(ABOUT, style="dim", highlight=False, soft_wrap=True)
    for f in facts:
        if f["at_fault"]:
            twin = " (also without the fault)" if f["twin_at_fault"] else ""
            console.print(
                f"Hit:     dualdrive explain {run_dir} '{f['key'][0]}'{twin}", highlight=False, soft_wrap=True
            )
    for name in broken:
        console.print(f"[bold red]Failed:[/] {name}", highlight=False, soft_wrap=True)


def _pages(rows: list[dict[str, Any]], facts: list[dict[str, Any]]) -> list[Table]:
    columns = [
        "fault",
        "injected",
        "survived (95 %)",
        "at fault (95 %)",
        "row passed",
        "detected, latest",
        "worst margin",
    ]
    overview = Table("Faults", columns)
    for row in rows:
        low, high = row["survival_interval"]
        least, most = row["collision_interval"]
        latest = "-" if row["detection_s"] is None else f"{row['detected']}, {row['detection_s']:.1f} s"
        all_survived, all_passed = row["survived"] == row["injected"], row["passed"] == row["injected"]
        cells: list[Cell | str] = [f"{row['row']} {row['kind']}", str(row["injected"])]
        cells.append(Cell(f"{row['survived']}", f"{low:.0%} to {high:.0%}", "good" if all_survived else "bad"))
        cells.append(Cell(f"{row['collisions']}", f"{least:.0%} to {most:.0%}", "bad" if row["collisions"] else "good"))
        cells += [Cell(str(row["passed"]), tone="good" if all_passed else "warn"), latest]
        cells.append(Cell(f"{row['worst_margin']:.1f}", row["worst_criterion"], key=Key(*row["worst"])))
        overview.rows.append(cells)
    tables = [overview]
    for number in dict.fromkeys(row["row"] for row in rows):
        mine = [f for f in facts if f["row"] == number]
        tables.append(_drives(f"{number} {ROW_NAMES[number]}", mine))
    return tables


def _drives(title: str, facts: list[dict[str, Any]]) -> Table:
    table = Table(title, ["fault", "scene", "size", "onset", "margin", "detection", "criterion", "how chosen"])
    for f in sorted(facts, key=_margin):
        unit = BY_KIND[f["kind"]].size if f["kind"] in BY_KIND else ""
        tone = "bad" if f["at_fault"] else "good" if f["passed"] else "warn"
        found = "-" if f["detection"] is None else f"{f['detection']:.1f} s"
        table.rows.append([
            f["kind"], f["scene"], f"{f['size']:g} {unit}", f"{f['onset']:g} s",
            Cell(f"{f['margin']:.1f}", tone=tone, key=f["key"]), found, f["criterion"], f["mode"],
        ])  # fmt: skip
    return table


def _group(f: dict[str, Any]) -> str:
    return "pairs" if f["mode"] == "pairs" else str(f["kind"])


def _margin(f: dict[str, Any]) -> float:
    return float(f["margin"])


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None

"""`dualdrive ablation`: what every safety layer is worth on the fault catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.commands.console import console
from eval.commands.inject import ABOUT
from eval.commands.tables import study_table
from eval.config import RunConfig
from eval.layers import LAYERS
from eval.report import write_report
from eval.run.store import SUMMARY, write_atomic
from eval.studies.faults import Plan, drive_fault, run_sweep, run_twins, with_layers
from eval.studies.intervals import wilson
from eval.studies.page import Cell, Table, write_page
from eval.studies.study import open_study

LIVE = {
    (): "planner alone", ("checker",): "+ checker", LAYERS[:2]: "+ tail", LAYERS[:3]: "+ second channel",
    LAYERS: "+ monitors",
}  # fmt: skip


def ablation(config: RunConfig, run_dir: Path, plan: Plan, *, fresh: bool) -> int:
    """The same sweep with more and more layers. Returns 0: it measures, it does not judge."""
    sets = [LAYERS[:count] for count in range(len(LAYERS) + 1)]
    by_layers = {}
    with open_study("ablation", run_dir, config, drive_fault, {"plan": repr(plan)}, fresh=fresh) as study:
        for layers in sets:
            run_twins(study, with_layers(plan, layers))
            by_layers[layers] = run_sweep(study, with_layers(plan, layers))
        rows = ablation_rows(by_layers)
        write_atomic(run_dir / SUMMARY, json.dumps({"schema": 1, "command": "ablation", "rows": rows}, indent=2) + "\n")
    table = study_table("layers", "drives", "at fault", "95 %", "survived", "row passed", "worst margin", "no tail")
    for row in rows:
        low, high = row["interval"]
        table.add_row(
            row["layers"], str(row["drives"]), str(row["at_fault"]), f"{low:.0%}-{high:.0%}", str(row["survived"]),
            str(row["passed"]), f"{row['worst_margin']:.1f}", str(row["without_tail"]),
        )  # fmt: skip
    console.print()
    console.print(table)
    for row in rows[1:]:
        console.print(f"Worth:   {row['layers']}: {row['worth']}", highlight=False, soft_wrap=True)
    if config.execution.report:
        write_report(run_dir)
        path = write_page(run_dir / "ablation.html", "Safety layers", [ABOUT], _ablation_pages(by_layers))
        console.print(f"Page:    [bold]{path}[/]", highlight=False, soft_wrap=True)
    return 0


def ablation_rows(by_layers: dict[tuple[str, ...], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row per set of layers, each with what it changed against the one before, fault by fault."""
    rows: list[dict[str, Any]] = []
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for layers, facts in by_layers.items():
        hits, now = sum(bool(f["at_fault"]) for f in facts), {_same(f): f for f in facts}
        saved = [k for k, f in now.items() if k in before and before[k]["at_fault"] and not f["at_fault"]]
        lost = [k for k, f in now.items() if k in before and f["at_fault"] and not before[k]["at_fault"]]
        gained = sum(f["passed"] - before[k]["passed"] for k, f in now.items() if k in before)
        worth = f"{len(saved)} collisions fewer, {len(lost)} more, row criteria {gained:+d}"
        rows.append({
            "layers": LIVE[layers], "drives": len(facts), "at_fault": hits, "interval": wilson(hits, len(facts)),
            "survived": sum(f["survived"] for f in facts), "passed": sum(f["passed"] for f in facts),
            "worst_margin": min((f["margin"] for f in facts), default=float("nan")),
            "without_tail": sum(f["without_tail"] for f in facts),
            "worth": worth if before and (saved or lost or gained) else "nothing on these drives" if before else "",
        })  # fmt: skip
        before = now
    return rows


def _ablation_pages(by_layers: dict[tuple[str, ...], list[dict[str, Any]]]) -> list[Table]:
    table = Table("Margin by fault and layers", ["fault", *(LIVE[layers] for layers in by_layers)])
    lookup = {layers: {_same(f): f for f in facts} for layers, facts in by_layers.items()}
    for same in dict.fromkeys(k for facts in lookup.values() for k in facts):
        row: list[Cell | str] = [f"{same[1]} in {same[0]}"]
        for layers in by_layers:
            f = lookup[layers].get(same)
            tone = "none" if f is None else "bad" if f["at_fault"] else "good" if f["passed"] else "warn"
            row.append(Cell("", tone=tone) if f is None else Cell(f"{f['margin']:.1f}", f["criterion"], tone, f["key"]))
        table.rows.append(row)
    return [table]


def _same(f: dict[str, Any]) -> tuple[str, str]:
    return f["scene"], "+".join(f.get("faults", [f"{f['kind']} {f['size']:g}"]))

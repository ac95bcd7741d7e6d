"""`dualdrive adversary`: others who drive so that ego runs into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.commands.console import EXIT_FAILED, console
from eval.commands.tables import study_table
from eval.config import RunConfig
from eval.report import write_report
from eval.run.store import SUMMARY, write_atomic
from eval.studies.attacks import at_fault_rate, drive_attack, run_attacks
from eval.studies.drives import Scene
from eval.studies.study import open_study


def adversary(
    config: RunConfig, run_dir: Path, scenes: list[Scene], *, budget: float, rounds: int, search: int, seconds: float,
    fresh: bool,
) -> int:  # fmt: skip
    """Attack every scene. Returns the exit code: 1 where ego was at fault."""
    settings = {"scenes": repr(scenes), "budget": budget, "rounds": rounds, "search": search, "seconds": seconds}
    with open_study("adversary", run_dir, config, drive_attack, settings, fresh=fresh) as study:
        facts = run_attacks(study, scenes, budget, rounds, search, seconds)
        methods = [m for m in ("none", "gradient", "search") if any(f["method"] == m for f in facts)]
        rows = []
        for method in methods:
            hit, total, interval = at_fault_rate(facts, method)
            mine = [f for f in facts if f["method"] == method]
            rows.append({
                "method": method, "scenes": total, "drives": len(mine), "at_fault": hit, "interval": interval,
                "mean_margin": sum(f["margin"] for f in mine) / max(len(mine), 1),
                "worst_margin": min(f["margin"] for f in mine), "worst": list(min(mine, key=_margin)["key"]),
            })  # fmt: skip
        write_atomic(
            run_dir / SUMMARY, json.dumps({"schema": 1, "command": "adversary", "rows": rows}, indent=2) + "\n"
        )
    table = study_table("adversary", "scenes", "drives", "scenes at fault", "95 %", "mean margin", "worst margin")
    for row in rows:
        low, high = row["interval"]
        table.add_row(
            row["method"], str(row["scenes"]), str(row["drives"]), str(row["at_fault"]), f"{low:.1%}-{high:.1%}",
            f"{row['mean_margin']:.2f}", f"{row['worst_margin']:.2f}",
        )  # fmt: skip
    console.print()
    console.print(table)
    for f in (f for f in facts if f["at_fault"]):
        avoided = [name for name, good in f["avoided_by"].items() if good]
        console.print(
            f"Hit:     dualdrive explain {run_dir} '{f['key'][0]}'  (avoided by {', '.join(avoided) or 'nobody'})",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if config.execution.report:
        write_report(run_dir)
    return EXIT_FAILED if any(f["at_fault"] for f in facts) else 0


def _margin(f: dict[str, Any]) -> float:
    return float(f["margin"])

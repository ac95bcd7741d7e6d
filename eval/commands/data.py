"""`dualdrive data check`: what of a data set is there, and what follows."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from eval.commands.console import EXIT_FAILED, console, fail
from eval.run.store import SUMMARY, write_atomic

_COLOURS = {
    "ok": "green", "full": "green", "degraded": "yellow", "missing": "yellow", "broken": "bold red",
    "unavailable": "yellow",
}  # fmt: skip


def check(dataroot: Path, version: str, out: Path | None = None) -> int:
    """Print the report; non-zero exit code where no scene can be driven."""
    from perception.data_check import check_dataset

    report = check_dataset(dataroot, version)
    sound = [row for row in report.rows() if row[1] == "ok" and row[0].startswith("table ")]
    rows = [("tables", "ok", str(len(sound)), "")] if sound else []
    rows += [row for row in report.rows() if row not in sound]
    console.print(_table(("item", "state", "count", "what follows"), rows, title=f"{dataroot}, {version}"))
    console.print(_table(("feature", "mode", "needs", "why not in full"), report.feature_rows()))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        values = {"schema": 1, "command": "data check", **report.to_dict()}
        write_atomic(out / SUMMARY, json.dumps(values, indent=2) + "\n")
    if report.ok:
        console.print(f"{len(report.scenes)} scenes can be driven closed-loop.", highlight=False)
        return 0
    broken = [item for item in report.items if item.status.value in ("missing", "broken") and item.fix]
    first = broken[0] if broken else None
    message = f"no closed-loop drive with this data set: {first.name}: {first.consequence}" if first else "no scenes"
    return fail(message, first.fix if first else "").exit_code or EXIT_FAILED


def _table(header: tuple[str, ...], rows: list[tuple[str, str, str, str]], title: str | None = None) -> Table:
    table = Table(title=title and escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for name in header:
        table.add_column(name)
    for name, state, *rest in rows:
        colour = _COLOURS.get(state, "")
        table.add_row(escape(name), f"[{colour}]{state}[/]" if colour else state, *map(escape, rest))
    return table

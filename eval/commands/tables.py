"""The summary of a run as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

TRAFFIC_NAMES = {"log_replay": "log replay (NR)", "idm": "IDM-reactive (R)"}


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """One row per planner and kind of traffic, then what went wrong, by name."""
    runs = summary["runs"]
    separate = any("score_cls_signal_unknown" in run for run in runs)
    table = Table(
        title=f"Closed loop. Score: {summary['protocol']}",
        caption="at fault, off road: lower is better; without tail: steps driven without a checker-accepted stop",
        title_justify="left",
        caption_justify="left",
    )
    for name, justify in (("planner", "left"), ("traffic", "left"), ("scenarios", "right"), ("score", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    if separate:
        table.add_column("score without\n0553, 0757", justify="right")
    for name in ("at fault", "off road", "without tail", "cycle ms p50", "p99", "p99.9"):
        table.add_column(name, justify="right")
    for run in runs:
        cells = [run["planner"], TRAFFIC_NAMES[run["traffic"]], f"{run['completed']}/{run['scenarios']}"]
        cells.append(_score(run["score_cls"], run["score_valid"]))
        if separate:
            cells.append(_score(run.get("score_cls_other"), run["score_valid"]))
        cells += [_bad(run["at_fault_collisions"]), _bad(run["off_road"])]
        cells.append(_bad(run["plans_without_tail"]) if run["planner"] == "dualdrive" else "-")
        cells += ["-" if value is None else f"{value:.1f}" for value in run["cycle_ms"].values()]
        table.add_row(*cells)
    console.print(table)
    for run in runs:
        where = f"{run['planner']}, {TRAFFIC_NAMES[run['traffic']]}"
        if run["failed"]:
            console.print(f"[bold red]Failed[/] ({where}): {escape(', '.join(run['failed']))}", highlight=False)
        if not run["score_valid"]:
            console.print(
                f"[bold red]Score invalid[/] ({where}): {run['completed']} of {run['scenarios']} scenarios completed; "
                "a score counts only at 100 % coverage.",
                highlight=False,
            )
        if run["planner"] == "dualdrive":
            for key, words in (("scenarios_with_collision", "At-fault collision"), ("scenarios_off_road", "Off road")):
                if run[key]:
                    console.print(f"[yellow]{words}[/] ({where}): {escape(', '.join(run[key]))}", highlight=False)


def _score(value: float | None, valid: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if valid else f"[red]({value:.3f})[/]"


def _bad(count: int) -> str:
    return f"[red]{count}[/]" if count else "0"

"""The summary of a run as tables for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

TRAFFIC_NAMES = {"log_replay": "NR", "idm": "R"}


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """One row per planner and kind of traffic, then what went wrong, by name."""
    runs = summary["runs"]
    separate = any("score_cls_signal_unknown" in run for run in runs)
    notes = [
        f"score: {summary['protocol']}, 0 to 1. NR: log replay, R: IDM-reactive traffic.",
        "at fault: collisions; off road: scenarios; no tail: steps without a verified stop. ms: planner cycle.",
    ]
    for told in dict.fromkeys(run["perception"] for run in runs if run["planner"] != "expert" and "perception" in run):
        names = [run["planner"] for run in runs if run.get("perception") == told and run["planner"] != "expert"]
        notes.append(f"perception of {', '.join(dict.fromkeys(names))}: {told}.")
    if separate:
        notes.append("score*: without scenes 0553 and 0757, where unknown traffic lights decide who goes.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column("planner", no_wrap=True)
    table.add_column("traffic", no_wrap=True)
    columns = ["done", "score", *(["score*"] if separate else []), "at\nfault", "off\nroad", "no\ntail"]
    for name in [*columns, "ms\np50", "ms\np99", "ms\np99.9"]:
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        cells = [run["planner"], TRAFFIC_NAMES[run["traffic"]], f"{run['completed']}/{run['scenarios']}"]
        cells.append(_score(run["score_cls"], run["score_valid"]))
        if separate:
            cells.append(_score(run.get("score_cls_other"), run["score_valid"]))
        cells += [_bad(run["at_fault_collisions"]), _bad(run["off_road"])]
        cells.append(_bad(run["plans_without_tail"]) if _ours(run) else "-")
        cells += ["-" if value is None else f"{value:.0f}" for value in run["cycle_ms"].values()]
        table.add_row(*cells)
    console.print()
    console.print(table)
    console.print(*notes, sep="\n", style="dim", highlight=False, soft_wrap=True)
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
        if _ours(run):
            for key, words in (("scenarios_with_collision", "At-fault collision"), ("scenarios_off_road", "Off road")):
                if run[key]:
                    console.print(f"[yellow]{words}[/] ({where}): {escape(', '.join(run[key]))}", highlight=False)


def _ours(run: dict[str, Any]) -> bool:
    return run["planner"].partition("@")[0] == "dualdrive"


def _score(value: float | None, valid: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if valid else f"[red]({value:.3f})[/]"


def _bad(count: int) -> str:
    return f"[red]{count}[/]" if count else "0"


def study_table(*columns: str) -> Table:
    """A table of a study: words to the left, numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(
            name, justify="left" if name in ("family", "fault", "layers", "adversary", "perception") else "right"
        )
    return table

"""`dualdrive report` and `dualdrive explain`: look at a finished run."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from eval.commands.console import EXIT_USAGE, console, fail
from eval.run.store import RESULTS, RunDirError, read_lines
from eval.simulation.trace import Trace

EVENTS_SHOWN = 12


def write_run_report(run_dir: Path) -> int:
    """Write the report again and say where it is."""
    from eval.report import write_report

    _lines(run_dir)
    path = write_report(run_dir)
    console.print(f"Report: [bold]{path}[/]", highlight=False, soft_wrap=True)
    return 0


def explain_drive(run_dir: Path, scenario: str, planner: str, traffic: str | None, time: float | None) -> int:
    """Print what cost score in a drive and what happened, or why the plan of one moment is as it is."""
    line = _find(_lines(run_dir), scenario, planner, traffic)
    console.print(f"[bold]{escape(scenario)}[/]  {planner}  {line['traffic']}", highlight=False)
    if line["status"] != "completed":
        console.print("[bold red]failed:[/]")
        console.print(escape(str(line["error"])), highlight=False)
        return 0
    trace = Trace.load(run_dir / line["trace"])
    if time is None:
        _explain_score(line["metrics"])
        _explain_events(trace)
        worst = float(trace.time[_worst_step(trace)])
        console.print(f"\nThe moment with the dearest rule is {worst:.1f} s:", highlight=False)
        time = worst
    elif not trace.time[0] - 0.05 <= time <= trace.time[-1] + 0.05:
        raise fail(f"--time {time:g}: the drive lasts from {trace.time[0]:g} to {trace.time[-1]:g} s", code=EXIT_USAGE)
    _explain_moment(trace, int(np.abs(trace.time - time).argmin()))
    return 0


def _lines(run_dir: Path) -> list[dict[str, Any]]:
    if not (run_dir / RESULTS).exists():
        raise RunDirError(f"{run_dir} holds no {RESULTS}", "give the directory of a `dualdrive drive --out`")
    return read_lines(run_dir / RESULTS)


def _find(lines: list[dict[str, Any]], scenario: str, planner: str, traffic: str | None) -> dict[str, Any]:
    for line in lines:
        if (line["scenario"], line["planner"]) == (scenario, planner) and traffic in (None, line["traffic"]):
            return line
    there = [f"{line['scenario']} {line['planner']} {line['traffic']}" for line in lines]
    near = difflib.get_close_matches(f"{scenario} {planner} {traffic or ''}", there, n=3, cutoff=0.3)
    wanted = " ".join(filter(None, [scenario, planner, traffic]))
    raise fail(f"no result {wanted!r} in this run", f"nearest: {'; '.join(near)}" if near else "", EXIT_USAGE)


def _explain_score(metrics: dict[str, Any]) -> None:
    table = _table("metric", "value", "facts")
    for name, metric in metrics.items():
        value = "-" if metric["value"] is None else f"{metric['value']:.3g}"
        unit = "" if metric["unit"] in ("score", "count") else f" {metric['unit']}"
        doubt = "" if metric["valid"] else " [yellow](not valid)[/]"
        cost = metric["unit"] == "score" and metric["value"] is not None and metric["value"] < 1.0
        shown = f"[red]{value}[/]" if cost else value
        table.add_row(name, f"{shown}{unit}{doubt}", escape(_facts(metric.get("detail") or {})))
    console.print(table)


def _facts(detail: dict[str, Any]) -> str:
    parts = [f"{key} {value}" for key, value in detail.items() if not isinstance(value, dict | list)]
    for key, value in detail.items():
        if isinstance(value, dict):
            parts += [f"{inner} {v}" for inner, v in value.items()]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts += [", ".join(f"{k} {v}" for k, v in entry.items()) for entry in value]
        elif isinstance(value, list) and value:
            parts.append(f"{key} {', '.join(map(str, value))}")
    return "; ".join(parts)


def _explain_events(trace: Trace) -> None:
    """When something other than the planner's own choice was driven; runs of the same reason in one row."""
    table, rows, start = _table("time s", "driven", "reason"), 0, 0
    for k in range(1, len(trace.time) + 1):
        if k < len(trace.time) and _event(trace, k) == _event(trace, start):
            continue
        if trace.reason[start]:
            rows += 1
            if rows <= EVENTS_SHOWN:
                span = f"{trace.time[start]:.1f}" + (f" to {trace.time[k - 1]:.1f}" if k - 1 > start else "")
                table.add_row(span, trace.source[start], escape(trace.reason[start]))
        start = k
    if rows:
        console.print(table)
    if rows > EVENTS_SHOWN:
        console.print(f"… and {rows - EVENTS_SHOWN} more", highlight=False)


def _event(trace: Trace, k: int) -> tuple[str, str]:
    """What was driven and why, without the numbers that differ from step to step."""
    return trace.source[k], re.sub(r"-?\d+(\.\d+)?", "#", trace.reason[k])


def _worst_step(trace: Trace) -> int:
    """The step whose active rows have the highest price; where nothing has one, the smallest gap."""
    price = [max((row["dual"] for row in step.get("active") or []), default=0.0) for step in trace.steps]
    return int(np.argmax(price)) if price and max(price) > 0 else int(np.argmin(trace.min_gap))


def _explain_moment(trace: Trace, k: int) -> None:
    step = trace.steps[k] if k < len(trace.steps) else {}
    console.print(
        f"[bold]{trace.time[k]:.1f} s[/]: {trace.v[k]:.2f} m/s, {trace.a[k]:+.2f} m/s², nearest object "
        f"{trace.min_gap[k]:.2f} m; driven: {trace.source[k]}{', state ' + step['state'] if step.get('state') else ''}",
        highlight=False,
    )
    for words in filter(None, (step.get("explanation"), trace.reason[k])):
        console.print(f"  {escape(words)}", highlight=False)
    if active := step.get("active"):
        table = _table("rule", "object", "at s", "margin", "price")
        for row in active:
            table.add_row(*_rule(row), f"{row['dual']:.3g}")
        console.print("Rules that hold the plan back (price: cost saved per unit of relaxation):", highlight=False)
        console.print(table)
    refused = [("driven plan", v) for v in (step.get("check") or {}).get("violations", [])]
    refused += [(row["decision"], row) for row in step.get("rejected") or []]
    if refused:
        table = _table("refused by the checker", "rule", "object", "at s", "margin")
        for decision, row in refused:
            table.add_row(escape(decision), *_rule(row))
        console.print(table)
    if candidates := step.get("candidates"):
        table = _table("decision", "kind", "status", "cost")
        for row in candidates:
            cost = "-" if row["cost"] is None else f"{row['cost']:.2f}"
            table.add_row(escape(row["decision"]), row["kind"], row["status"], cost)
        console.print(table)
    if not step.get("candidates") and not active:
        console.print("  (this planner records no reasons)", highlight=False)


def _rule(row: dict[str, Any]) -> tuple[str, str, str, str]:
    name = str(row["track_id"]) if row["track_id"] >= 0 else "-"
    return escape(row["rule"]), name, f"{row['time']:.1f}", f"{row['margin']:.2f}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table

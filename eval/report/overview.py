"""The overview table: planners side by side, every number with the protocol it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

PROTOCOL = "closed loop, 10 Hz, kinematic bicycle with actuator limits"
CLS = "CLS, nuPlan-style closed-loop score, re-implemented: NC·DAC·MP·DDC·(5·TTC + 5·EP + 4·SL + 2·C)/16"

# key, heading, unit, which way is better, protocol (the tooltip of the heading)
COLUMNS: tuple[tuple[str, str, str, str, str], ...] = (
    ("score_cls", "CLS score", "0–1", "high", f"{CLS}. Mean over scenarios."),
    ("at_fault_collisions", "At-fault collisions", "count", "low", f"NC of {CLS.split(':')[0]}; {PROTOCOL}."),
    ("off_road", "Off-road", "scenarios", "low", f"DAC of {CLS.split(':')[0]}: any corner ≥ 0.3 m off the drivable area."),
    ("plans_without_tail", "Plans without tail", "steps", "low",
     "Steps driven without a checker-accepted fail-safe tail. Only planners with a tail have this number."),
    ("min_gap", "Smallest gap", "m", "high", f"Ego box to any agent box, smallest over all steps; {PROTOCOL}."),
    ("progress", "Progress", "of expert", "high", f"EP of {CLS.split(':')[0]}: progress along the expert's route."),
    ("cycle_p50", "Cycle p50", "ms", "low", "Scene to supervised plan, wall clock on this machine, all steps pooled."),
    ("cycle_p99", "Cycle p99", "ms", "low", "Scene to supervised plan, wall clock on this machine, all steps pooled."),
)  # fmt: skip

# how the same quantity may be named in a row's metrics, first match taken
ALIASES = {
    "score_cls": ("score_cls", "cls"),
    "at_fault_collisions": ("at_fault_collisions", "at_fault_collision", "collisions_at_fault"),
    "off_road": ("off_road", "drivable_area", "drivable_area_violation"),
    "progress": ("progress", "ego_progress", "progress_ratio"),
}
PLANNERS_WITH_TAIL = ("dualdrive",)


def overview(rows: list[dict[str, Any]], facts: list[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
    """{"columns", "runs"}: one run per planner and traffic, in order of appearance.

    facts: per row, what its trace says (cycle_ms, without_tail, min_gap). A number of `summary.json` wins
    over one collected here. A run's score is "valid" only if every scenario of the run was completed.
    """
    stated = {(run.get("planner"), run.get("traffic")): run for run in summary.get("runs", [])}
    keys = list(dict.fromkeys((row["planner"], row["traffic"]) for row in rows)) or list(stated)
    runs = []
    for planner, traffic in sorted(keys, key=lambda key: _order(key, keys)):
        own = [(row, fact) for row, fact in zip(rows, facts) if (row["planner"], row["traffic"]) == (planner, traffic)]
        runs.append(_run(planner, traffic, own, stated.get((planner, traffic), {})))
    columns = [
        {"key": key, "label": label, "unit": unit, "better": better, "protocol": protocol}
        for key, label, unit, better, protocol in COLUMNS
    ]
    return {"columns": columns, "runs": runs}


def metric(row: dict[str, Any], name: str) -> float | None:
    """The row's valid value of a metric under any of its names, as a number."""
    for alias in ALIASES.get(name, (name,)):
        found = (row.get("metrics") or {}).get(alias)
        if found is not None and found.get("valid", True) and found.get("value") is not None:
            return float(found["value"])
    return None


def _order(key: tuple[str, str], keys: list[tuple[str, str]]) -> tuple[int, bool, int]:
    """Traffic kinds together, our planner first in each."""
    traffics = list(dict.fromkeys(traffic for _, traffic in keys))
    return traffics.index(key[1]), key[0] not in PLANNERS_WITH_TAIL, keys.index(key)


def _run(planner: str, traffic: str, own: list[tuple[dict, dict]], stated: dict[str, Any]) -> dict[str, Any]:
    done = [(row, fact) for row, fact in own if row["status"] == "completed"]
    values: dict[str, float | None] = {}
    for name in ("score_cls", "progress"):
        found = [value for row, _ in done if (value := metric(row, name)) is not None]
        values[name] = float(np.mean(found)) if found else None
    for name in ("at_fault_collisions", "off_road"):
        found = [value for row, _ in done if (value := metric(row, name)) is not None]
        values[name] = sum(found) if found else None
    traced = [fact for _, fact in done if fact]
    values["plans_without_tail"] = sum(fact["without_tail"] for fact in traced) if traced else None
    gaps = [fact["min_gap"] for fact in traced if fact["min_gap"] is not None]
    values["min_gap"] = min(gaps) if gaps else None
    cycle = np.concatenate([np.zeros(0), *(fact["cycle_ms"] for fact in traced)])
    cycle = cycle[np.isfinite(cycle)]
    values["cycle_p50"], values["cycle_p99"] = np.percentile(cycle, [50, 99]).tolist() if len(cycle) else (None, None)
    values |= {name: stated[name] for name in values if stated.get(name) is not None}
    for name in ("p50", "p99"):
        if (stated.get("cycle_ms") or {}).get(name) is not None:
            values[f"cycle_{name}"] = stated["cycle_ms"][name]
    if planner not in PLANNERS_WITH_TAIL:
        values["plans_without_tail"] = None
    scenarios = max(len(own), stated.get("scenarios", 0))
    failed = [
        {"scenario": row["scenario"], "error": row.get("error")} for row, _ in own if row["status"] != "completed"
    ]
    return {
        "planner": planner,
        "traffic": traffic,
        "scenarios": scenarios,
        "completed": len(done),
        "valid": scenarios > 0 and len(done) == scenarios,
        "failed": failed,
        "values": values,
    }

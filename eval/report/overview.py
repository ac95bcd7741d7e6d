"""The overview table: planners side by side, every number with the protocol it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

CLS = "CLS, nuPlan-style closed-loop score, re-implemented"
SIMULATION = "closed loop, 10 Hz, kinematic bicycle with actuator limits"
CLOCK = "Wall clock from scene to supervised plan on the machine of this run, all steps pooled."

# key, heading, unit, protocol (shown with the heading)
COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("score_cls", "CLS score", "0 to 1",
     f"{CLS}: NC·DAC·MP·DDC·(5·TTC + 5·EP + 4·SL + 2·C)/16, mean over scenarios; {SIMULATION}."),
    ("at_fault_collisions", "At-fault collisions", "count", f"Objects hit by fault of the ego, as NC of {CLS} counts."),
    ("off_road", "Off-road", "scenarios", f"Any corner off the drivable area at any step, no tolerance; {SIMULATION}."),
    ("plans_without_tail", "Plans without tail", "steps",
     "Steps driven without a checker-accepted fail-safe tail; only planners with a tail have this number."),
    ("min_gap", "Smallest gap", "m", f"Ego box to any other box, smallest over all steps; {SIMULATION}."),
    ("progress", "Progress", "of expert", f"EP of {CLS}: progress along the route over the expert's, at most 1."),
    ("cycle_p50", "Cycle p50", "ms", CLOCK),
    ("cycle_p99", "Cycle p99", "ms", CLOCK),
)  # fmt: skip

# how the same quantity may be named in a row's metrics, first match taken
ALIASES = {
    "score_cls": ("score_cls", "cls"),
    "off_road": ("off_road", "off_road_steps"),
    "progress": ("expert_progress",),
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
        {"key": key, "label": label, "unit": unit, "protocol": protocol} for key, label, unit, protocol in COLUMNS
    ]
    return {"columns": columns, "runs": runs}


def metric(row: dict[str, Any], name: str) -> float | None:
    """The row's valid value of a metric under any of its names, as a number."""
    for alias in ALIASES.get(name, (name,)):
        found = (row.get("metrics") or {}).get(alias)
        if found is not None and found.get("valid", True) and found.get("value") is not None:
            return float(found["value"])
    return None


def _has_tail(planner: str) -> bool:
    return planner.partition("@")[0] in PLANNERS_WITH_TAIL


def _order(key: tuple[str, str], keys: list[tuple[str, str]]) -> tuple[int, bool, int]:
    """Traffic kinds together, our planner first in each."""
    traffics = list(dict.fromkeys(traffic for _, traffic in keys))
    return traffics.index(key[1]), not _has_tail(key[0]), keys.index(key)


def _run(planner: str, traffic: str, own: list[tuple[dict, dict]], stated: dict[str, Any]) -> dict[str, Any]:
    done = [(row, fact) for row, fact in own if row["status"] == "completed"]
    values: dict[str, float | None] = {}
    for name in ("score_cls", "progress"):
        found = [value for row, _ in done if (value := metric(row, name)) is not None]
        values[name] = float(np.mean(found)) if found else None
    hits = [value for row, _ in done if (value := metric(row, "at_fault_collisions")) is not None]
    values["at_fault_collisions"] = sum(hits) if hits else None
    off_road = [value > 0 for row, _ in done if (value := metric(row, "off_road")) is not None]
    values["off_road"] = sum(off_road) if off_road else None
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
    if not _has_tail(planner):
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
        "note": _signals(stated),
        "perception": stated.get("perception", ""),
    }


def _signals(stated: dict[str, Any]) -> str:
    """Scores with and without the scenes whose traffic lights the data does not tell, where the summary splits them."""
    parts = (("signals known", "score_cls_other"), ("unknown", "score_cls_signal_unknown"))
    return " · ".join(f"{stated[key]:.2f} {name}" for name, key in parts if stated.get(key) is not None)

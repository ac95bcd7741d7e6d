"""`summary.json` of a run: per planner and kind of traffic, what was driven, how safely, and how fast.

The keys are documented in docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.run.samples import SIGNAL_UNKNOWN
from eval.run.store import SUMMARY, Key, write_atomic

SUMMARY_SCHEMA = 1
PROTOCOL = "nuPlan-style closed-loop score (CLS), re-implementation"


def summarize(
    run_dir: Path,
    expected: list[Key],
    results: Mapping[Key, dict[str, Any]],
    *,
    status: str = "completed",
    perceptions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The summary of a run. expected: every result it is to have; results: those that are there. perceptions: what
    showed each planner the world, in words."""
    runs = []
    for planner, traffic in dict.fromkeys((key.planner, key.traffic) for key in expected):
        keys = [key for key in expected if (key.planner, key.traffic) == (planner, traffic)]
        runs.append(_one_run(run_dir, planner, traffic, keys, results))
        if told := (perceptions or {}).get(planner):
            runs[-1]["perception"] = told
    return {"schema": SUMMARY_SCHEMA, "command": "drive", "protocol": PROTOCOL, "status": status, "runs": runs}


def write_summary(run_dir: Path, summary: dict[str, Any]) -> Path:
    """Write `summary.json`."""
    return write_atomic(run_dir / SUMMARY, json.dumps(summary, indent=2) + "\n")


def _one_run(
    run_dir: Path, planner: str, traffic: str, keys: list[Key], results: Mapping[Key, dict[str, Any]]
) -> dict[str, Any]:
    lines = [results[key] for key in keys if key in results]
    done = [line for line in lines if line["status"] == "completed"]
    cycle_ms, without_tail, steps = _from_traces(run_dir, done)
    coverage = len(done) / len(keys) if keys else 0.0
    run = {
        "planner": planner,
        "traffic": traffic,
        "scenarios": len(keys),
        "completed": len(done),
        "failed": [line["scenario"] for line in lines if line["status"] == "failed"],
        "coverage": coverage,
        "score_valid": bool(keys) and len(done) == len(keys),
        "at_fault_collisions": sum(_count(line, "at_fault_collisions") for line in done),
        "off_road": sum(_count(line, "off_road") > 0 for line in done),
        "plans_without_tail": without_tail,
        "steps": steps,
        "score_cls": _mean(done, "cls"),
        "cycle_ms": _percentiles(cycle_ms),
        "scenarios_with_collision": [line["scenario"] for line in done if _count(line, "at_fault_collisions")],
        "scenarios_off_road": [line["scenario"] for line in done if _count(line, "off_road")],
    }
    unknown = [line for line in done if line["scenario"] in SIGNAL_UNKNOWN]
    if unknown:
        known = [line for line in done if line["scenario"] not in SIGNAL_UNKNOWN]
        run["score_cls_signal_unknown"] = _mean(unknown, "cls")
        run["score_cls_other"] = _mean(known, "cls")
    return run


def _from_traces(run_dir: Path, done: list[dict[str, Any]]) -> tuple[np.ndarray, int, int]:
    """Planner cycle times (ms) of all steps, steps driven without a verified tail, steps."""
    cycle_ms, without_tail = [np.zeros(0)], 0
    for line in done:
        with np.load(run_dir / line["trace"], allow_pickle=False) as stored:
            cycle_ms.append(stored["cycle_ms"])
            without_tail += int((~stored["tail_accepted"]).sum())
    pooled = np.concatenate(cycle_ms)
    return pooled, without_tail, len(pooled)


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    """The smallest value that at least that share does not exceed: no interpolation towards faster cycles."""
    names = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
    return {
        name: round(float(np.percentile(values, q, method="inverted_cdf")), 3) if len(values) else None
        for name, q in names.items()
    }


def _count(line: dict[str, Any], name: str) -> int:
    value = line["metrics"].get(name, {}).get("value")
    return int(value or 0)


def _mean(lines: list[dict[str, Any]], name: str) -> float | None:
    values = [
        line["metrics"][name]["value"] for line in lines if line["metrics"].get(name, {}).get("value") is not None
    ]
    return round(float(np.mean(values)), 6) if values else None

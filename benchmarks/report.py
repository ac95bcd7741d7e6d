"""Tables from a run's figures: for the terminal, and docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.growth import exponent
from benchmarks.page import machine, write_part
from benchmarks.plots import write_plots

ROOT = Path(__file__).resolve().parents[1]
OWN, KERNEL = "dualdrive", "dualdrive-kernel"
COMMAND = "python benchmarks/solver.py --growth --memory --docs"
CURVES = ("batch", "horizon", "half_planes", "candidates")

Row = dict[str, Any]

__all__ = ["console", "markdown", "write_documents", "write_plots"]


def console(result: dict[str, Any]) -> str:
    """One line per row."""
    columns = "{:27}{:>5} {:>11} {:>7} {:>10} {:>7} {:>10} {:>9} {:>16}"
    lines = [
        columns.format("solver", "B", "forward ms", "x", "f+b ms", "x", "error max", "violated", "gradient 50/99 %")
    ]
    for row in result["rows"]:
        if row.get("skipped"):
            lines.append(f"{row['solver']:27}{row['batch']:>5} skipped: {row['skipped']}")
            continue
        times = (_figure(row.get("forward_ms")), _ratio(row.get("forward_ratio")))
        times += (_figure(row.get("forward_backward_ms")), _ratio(row.get("forward_backward_ratio")))
        gradient = f"{_power(row.get('gradient_error_median'))} / {_power(row.get('gradient_error_p99'))}"
        errors = (_power(row.get("error_max")), _power(row.get("violation_max")), gradient)
        lines.append(columns.format(row["solver"], row["batch"], *times, *errors))
    for row in result.get("infeasible", []):
        lines.append(f"one of 16 without a solution: {row['solver']:27} {_behaviour(row)}")
    if "memory" in result:
        lines.append(f"memory: {result['memory']}")
    return "\n".join(lines)


def write_documents(result: dict[str, Any]) -> None:
    """The solver's part of docs/benchmarks.md, and docs/images/benchmark_*."""
    images = write_plots(result, ROOT / "docs" / "images")
    write_part(ROOT / "docs" / "benchmarks.md", "solver", markdown(result, [image.name for image in images]))


def markdown(result: dict[str, Any], images: list[str]) -> str:
    """The solver's part of docs/benchmarks.md; images: names of the plots beside it in docs/images."""
    parts = [section(result) for section in (_introduction, _ratios, _native, _times, _accuracy, _infeasible)]
    if "growth" in result:
        parts.append(_growth(result))
    if "memory" in result:
        parts.append(_memory(result["memory"]))
    plots = "\n".join(f"![{image}](images/{image})" for image in images if image.endswith(".png"))
    parts += [plots, machine(result["environment"])]
    return "\n\n".join(parts) + "\n"


def _introduction(result: dict[str, Any]) -> str:
    p = result["problem"]
    active = f"{p['active_5']:.0f} to {p['active_95']:.0f} of them active at the optimum"
    return f"""# Solver benchmarks

Written by `{COMMAND}`; don't edit. Read the ratios: milliseconds belong to the
machine at the end of the page.

**Problem** (`benchmarks/problem.py`): a planner's horizon of {p["horizon"]} steps of 0.2 s. Longitudinal (s, v, a) with
the jerk, lateral (d, psi, kappa) with the curvature rate as input; the lateral dynamics are linear in a reference speed
that differs between members. Tracking and comfort costs. Limits on speed, acceleration, jerk, curvature (the vehicle's
and the lateral acceleration's merged), curvature rate, a corridor, and four half-planes in (s, d) per step:
{p["inputs"]} inputs, {p["one_sided_limits"]} one-sided limits, {active}
(5 % to 95 % of {p["members"]} random members; median {p["active_median"]:.0f}). The condensed Hessian's condition
number is {p["condition_number"]:.0e}. Differentiated are the reference and the half-planes' normals and offsets.

**Method.** All solvers run in one process, in rounds: each has a short block of calls in every round. Times are medians
over the calls of all blocks but the first of each, from the parameters to the trajectory and, for forward + backward,
on to the parameters' gradient: putting the numbers into a solver's own form counts for everyone alike. Peers run with
their default settings where nothing else is said, each on the form of the problem (over stages or condensed) that it
solves faster, and with one torch thread or one per core, whichever it is faster with: torch's threads contend with
those that a solver has of its own. `{OWN}` is this project's compiled kernel behind its torch layer, with the
recomputed residuals that decide whether a member counts as solved; `dualdrive-torch` is the same algorithm in
torch operations."""


def _ratios(result: dict[str, Any]) -> str:
    both = _by_batch(result, "forward_backward", lambda r: _ratio(r.get("forward_backward_ratio")))
    forward = _by_batch(result, "forward", lambda r: _ratio(r.get("forward_ratio")), differentiable=True)
    return f"## How many times as long as {OWN}\n\nForward + backward:\n\n{both}\n\nForward:\n\n{forward}"


def _native(result: dict[str, Any]) -> str:
    own = {r["batch"]: r.get("forward_ms") for r in result["rows"] if r["solver"] == OWN}

    def cell(row: Row) -> str:
        whole = own.get(row["batch"])
        return f"{_ratio(row.get('forward_ratio'))} ({_ratio(row['forward_ms'] / whole) if whole else '-'})"

    return f"""## Native solvers without gradients, forward

They are given finished matrices and called once per member; condensing is not counted but for `daqp+condensing`, which
starts from the stages' data. `{KERNEL}` is given a finished program. Times as long as that; in brackets, as long as
`{OWN}`, from the parameters on and judged.

{_by_batch(result, "forward", cell, differentiable=False)}"""


def _times(result: dict[str, Any]) -> str:
    table = _by_batch(result, "forward", lambda r: f"{_spread(r, 'forward')} / {_spread(r, 'forward_backward')}")
    return f"## Milliseconds\n\nMedian (quartiles), forward / forward + backward:\n\n{table}"


def _accuracy(result: dict[str, Any]) -> str:
    best: dict[str, Row] = {}
    for row in result["rows"]:
        if not row.get("skipped") and row["batch"] <= 128 and row["members"] >= best.get(row["solver"], row)["members"]:
            best[row["solver"]] = row
    p = result["problem"]
    text = f"""## Accuracy

Positions (m) against an independent optimum of about 1e-11, and violation over 1 + |limit| (negative where room is
left), of the members that the solver does not report as unsolved (refused). Gradients, relative, along random
directions, against central differences of that optimum, on the members that pass a check with two step sizes
({p["gradient_members"]} of {p["gradient_checked"]}), without those whose gradient the solver itself disowns. Of the
largest batch up to 128 that a solver managed.

| solver | members | position error, median / max | violation | gradient error, 50 / 99 / 100 % | disowned | refused |
|---|---|---|---|---|---|---|"""
    for name, row in best.items():
        position = f"{_power(row.get('error_median'))} / {_power(row.get('error_max'))}"
        gradient = " / ".join(_power(row.get(f"gradient_error_{k}")) for k in ("median", "p99", "max"))
        gradient = gradient if "gradient_members" in row else "-"
        cells = [row["members"], position, _power(row.get("violation_max")), gradient]
        cells += [row.get("disowned"), row["refused"]]
        text += "\n| " + " | ".join("-" if c is None else str(c) for c in (name, *cells)) + " |"
    return text


def _infeasible(result: dict[str, Any]) -> str:
    lines = ["## One member of 16 without a solution\n", "| solver | what happens |", "|---|---|"]
    lines += [f"| {row['solver']} | {_behaviour(row)} |" for row in result.get("infeasible", [])]
    return "\n".join(lines)


def _behaviour(row: Row) -> str:
    if row["outcome"] in ("raised", "timed out"):
        return f"{row['outcome']}, the batch is lost ({row['detail'][:60]})"
    silent = "returns numbers without a word" if row["finite"] else "returns NaN without a word"
    text = "says which member it is" if row["outcome"] == "flagged" else silent
    if row["outcome"] == "silent" and row["violation"] is not None:
        text += f", a limit broken by {row['violation']:.2g}"
    harmed = row["neighbours_harmed"]
    text += f"; {harmed} of 15 others harmed" if harmed else "; the others are right"
    if row.get("neighbours_flagged"):
        text += f"; {row['neighbours_flagged']} others flagged too"
    if "gradient_finite" in row:
        norm = row["gradient_norm"]
        text += "; its gradient is " + ("not finite" if norm is None else "zero" if norm == 0 else f"{norm:.1e}")
    return text


def _growth(result: dict[str, Any]) -> str:
    text = """## Growth

Exponent of the time of forward + backward (1 is linear), by least squares on logarithms; over the batch from 64 on.

"""
    text += "| solver | " + " | ".join(CURVES) + " |\n|---" + "|---" * len(CURVES) + "|"
    for name in dict.fromkeys(row["solver"] for row in result["growth"]):
        cells = []
        for curve in CURVES:
            rows = [r for r in result["growth"] if r["solver"] == name and r["curve"] == curve]
            value = exponent(rows, "forward_backward_ms", 64 if curve == "batch" else 0)
            cells.append("-" if value is None else f"{value:.2f}")
        text += f"\n| {name} | " + " | ".join(cells) + " |"
    return text


def _memory(memory: dict[str, Any]) -> str:
    return f"""## Memory

{memory["per_problem_kib"]:.0f} KiB per problem of {memory["horizon"]} stages, with its data, its gradient and torch's
graph. Over {memory["solves"]} solves with gradients the resident memory changed by {memory["growth_kib"]:.0f} KiB."""


def _by_batch(result: dict[str, Any], key: str, cell: Callable[[Row], str], differentiable: bool | None = None) -> str:
    """A table of solvers by batches. differentiable: only those with (True) or without (False) a gradient."""
    batches = sorted({row["batch"] for row in result["rows"]})
    has = {r["solver"] for r in result["rows"] if r.get("forward_backward_ms")}
    lines = ["| solver | " + " | ".join(f"B = {b}" for b in batches) + " |", "|---" * (len(batches) + 1) + "|"]
    for name in dict.fromkeys(row["solver"] for row in result["rows"]):
        rows = {row["batch"]: row for row in result["rows"] if row["solver"] == name}
        wanted = differentiable is None or (name in has) == differentiable
        if not wanted or not any(row.get(f"{key}_ms") for row in rows.values()):
            continue
        cells = [cell(rows[b]) if b in rows and rows[b].get(f"{key}_ms") else _why(rows.get(b)) for b in batches]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _why(row: Row | None) -> str:
    """Why there is no figure; of an error only its name, the whole message is in the JSON."""
    reason = (row or {}).get("skipped", "")
    error = reason.split(":", 1)[0]
    return "-" if not reason else f"*raises {error}*" if error.endswith("Error") else f"*{reason}*"


def _spread(row: Row, label: str) -> str:
    if not row.get(f"{label}_ms"):
        return "-"
    middle, low, high = (_figure(row[f"{label}_ms{end}"]) for end in ("", "_q25", "_q75"))
    return f"{middle} ({low}-{high})"


def _figure(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def _power(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"

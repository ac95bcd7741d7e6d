"""Tables and plots of the planner's benchmark: for the terminal, and the planner's part of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.growth import exponent
from benchmarks.page import machine, write_part
from benchmarks.plots import COLOURS, quieten, save

COMMAND = "python benchmarks/planner.py --docs"
CURVES = {"batch": "scenes", "horizon": "horizon, s", "candidates": "candidates at most", "agents": "agents per scene"}


def console(result: dict[str, Any]) -> str:
    cycle, batch = (next(r for r in result["rows"] if r["name"] == name) for name in ("cycle", "batch"))
    lines = [
        f"cycle: p50 {cycle['p50_ms']:.2f} ms, p99 {cycle['p99_ms']:.2f} ms, p99.9 {cycle['p999_ms']:.2f} ms, "
        f"{cycle['cycles']} cycles; {cycle['solver_p50_ms']:.2f} ms of it in the solver",
        f"{batch['scenes']} scenes: {batch['forward_ms']:.0f} ms, with gradients {batch['forward_backward_ms']:.0f} ms "
        f"({batch['candidates']} candidates)",
    ]
    for row in result.get("growth", []):
        lines.append(
            f"{row['curve']:11}{row['at']:>6} {row['forward_ms']:>9.1f} ms {row['forward_backward_ms']:>9.1f} ms "
            f"{row['candidates']:>6} candidates"
        )
    return "\n".join(lines)


def write_documents(result: dict[str, Any]) -> None:
    """The planner's part of docs/benchmarks.md, and docs/images/benchmark_planner.*."""
    folder = Path(__file__).resolve().parents[1] / "docs"
    images = write_plots(result, folder / "images")
    write_part(folder / "benchmarks.md", "planner", markdown(result, [image.name for image in images]))


def markdown(result: dict[str, Any], images: list[str]) -> str:
    cycle, batch = (next(r for r in result["rows"] if r["name"] == name) for name in ("cycle", "batch"))
    text = f"""# Planner benchmark

Written by `{COMMAND}`; don't edit.

A street with 20 agents of 6 forecasts each that gives 12 candidates ({cycle["solved_candidates"]:.1f} of them solved on
average, the others proven empty, before the solve where two of their own limits contradict each other). A cycle leads
from the scene to both trajectories, certificates and the explanation.
After the first round `gc.freeze()` takes what is loaded out of Python's garbage collection, as the planner's own
process does; without it a full collection now and then adds 0.1 s.

| one scene, {cycle["cycles"]} cycles, {cycle["scenes"]} scenes in turn | ms |
|---|---|
| p50 | {cycle["p50_ms"]:.2f} |
| p90 | {cycle["p90_ms"]:.2f} |
| p99 | {cycle["p99_ms"]:.2f} |
| p99.9 | {cycle["p999_ms"]:.2f} |
| longest | {cycle["max_ms"]:.2f} |
| of it in the solver, p50 | {cycle["solver_p50_ms"]:.2f} |

| {batch["scenes"]} scenes at once, {batch["candidates"]} candidates | median (quartiles), ms |
|---|---|
| forward | {_spread(batch, "forward")} |
| forward + backward, to forecasts and boxes | {_spread(batch, "forward_backward")} |"""
    if "growth" in result:
        cells = []
        for curve in CURVES:
            rows = [r for r in result["growth"] if r["curve"] == curve]
            cells.append(f"{exponent(rows, 'forward_backward_ms', 16 if curve == 'batch' else 0):.2f}")
        text += "\n\nExponent of the time of forward + backward (1 is linear; over the scenes from 16 on):\n\n"
        text += "| " + " | ".join(CURVES.values()) + " |\n" + "|---" * len(CURVES) + "|\n| " + " | ".join(cells) + " |"
    plots = "\n".join(f"![{image}](images/{image})" for image in images if image.endswith(".png"))
    return f"{text}\n\n{plots}\n\n{machine(result['environment'])}"


def write_plots(result: dict[str, Any], folder: Path) -> list[Path]:
    """benchmark_planner.{png,svg} where growth was measured. Returns the files."""
    if "growth" not in result:
        return []
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axis, (curve, title) in zip(figure.subplots(2, 2).flat, CURVES.items()):
        rows = [r for r in result["growth"] if r["curve"] == curve]
        for key, colour in (("forward", COLOURS[4]), ("forward_backward", COLOURS[0])):
            at, middle = [r["at"] for r in rows], [r[f"{key}_ms"] for r in rows]
            axis.plot(at, middle, "o-", ms=4, lw=1.6, color=colour, label=key.replace("_", " + "))
            low, high = ([r[f"{key}_ms_{end}"] for r in rows] for end in ("q25", "q75"))
            axis.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
        axis.set(xlabel=title, ylabel="ms", ylim=(0, None), xlim=(0, None))
    figure.axes[0].legend(fontsize=9, frameon=False)
    quieten(*figure.axes)
    return save({"benchmark_planner": figure}, folder)


def _spread(row: dict[str, Any], label: str) -> str:
    return f"{row[f'{label}_ms']:.1f} ({row[f'{label}_ms_q25']:.1f}-{row[f'{label}_ms_q75']:.1f})"

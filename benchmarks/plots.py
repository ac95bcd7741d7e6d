"""Plots of a run's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#8c564b")
"""After Okabe and Ito: told apart by colour-blind readers too. The project's solver has the first."""
SHOWN = (
    "dualdrive", "dualdrive-torch", "moreau", "cvxpylayers+clarabel", "qpax", "proxsuite", "qpth", "osqp.nn",
)  # fmt: skip


def write_plots(result: dict[str, Any], folder: Path) -> list[Path]:
    """benchmark_solvers.{png,svg} and, where growth was measured, benchmark_growth.{png,svg}. Returns the files."""
    figures = {"benchmark_solvers": _solvers(result)}
    if result.get("growth"):
        figures["benchmark_growth"] = _growth(result["growth"])
    return save(figures, folder)


def save(figures: dict[str, Any], folder: Path) -> list[Path]:
    """Each figure as PNG and SVG; the same figures give the same files."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "dualdrive"}):
        for name, figure in figures.items():
            for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = folder / f"{name}.{ending}"
                figure.savefig(path, dpi=130, metadata=metadata)
                paths.append(path)
    return paths


def _solvers(result: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [n for n in SHOWN if any(r["solver"] == n for r in result["rows"])]
    batches_checked = [min(r["batch"], 128) for r in result["rows"] if r.get("gradient_error_median")]
    for colour, name in zip(COLOURS, names):
        rows = [r for r in result["rows"] if r["solver"] == name and r.get("forward_backward_ms")]
        if not rows:
            continue
        at = [r["batch"] for r in rows]
        middle = [r["forward_backward_ms"] / r["batch"] for r in rows]
        spread = [
            [m - r["forward_backward_ms_q25"] / r["batch"] for m, r in zip(middle, rows)],
            [r["forward_backward_ms_q75"] / r["batch"] - m for m, r in zip(middle, rows)],
        ]
        left.errorbar(at, middle, spread, marker="o", ms=4, lw=1.6, capsize=2, color=colour, label=name)
        checked = [r for r in rows if r.get("gradient_error_median")]
        if checked:
            last = max(checked, key=lambda r: min(r["batch"], 128))
            point = last["forward_backward_ms"] / last["batch"], last["gradient_error_median"]
            right.loglog(*point, "o", ms=9, color=colour)
            if last["batch"] < max(batches_checked, default=0):
                note = f"B = {last['batch']}"
                right.annotate(note, point, xytext=(0, 8), textcoords="offset points", fontsize=8, ha="center")
    left.set(xscale="log", yscale="log", xlabel="batch", ylabel="ms per member", title="Forward + backward")
    batches = sorted({r["batch"] for r in result["rows"]})
    left.set_xticks(batches, [str(b) for b in batches])
    left.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    right.set(xlabel="ms per member, forward + backward", ylabel="median gradient error", title="Time and accuracy")
    right.margins(0.25)
    quieten(left, right)
    return figure


def _growth(rows: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    titles = {
        "batch": "batch", "horizon": "stages, B = 64", "half_planes": "half-planes per stage, B = 64",
        "candidates": "candidates per scene, 4 scenes",
    }  # fmt: skip
    figure = Figure(figsize=(11, 7), layout="constrained")
    names = list(dict.fromkeys(r["solver"] for r in rows))
    axes = figure.subplots(2, 2).flat
    for axis, (curve, title) in zip(axes, titles.items()):
        for colour, name in zip(COLOURS, names):
            for key, style in (("forward_ms", "--"), ("forward_backward_ms", "-")):
                points = [(r["at"], r[key]) for r in rows if r["curve"] == curve and r["solver"] == name and r.get(key)]
                if points:
                    label = f"{name}, {'forward' if style == '--' else 'forward + backward'}"
                    axis.plot(*zip(*points), style, marker="o", ms=3.5, lw=1.5, color=colour, label=label)
        scale = "linear" if curve == "half_planes" else "log"
        axis.set(xlabel=title, ylabel="ms", xscale=scale, yscale="log")
        if scale == "log" and axis.lines:
            at = sorted({r["at"] for r in rows if r["curve"] == curve})
            end, last = axis.lines[0].get_xydata()[-1]
            line = [last * n / end for n in at]
            axis.plot(at, line, ":", lw=1.2, color="#999999", label="linear growth")
            axis.set_xticks(at, [str(n) for n in at], fontsize=8)
            axis.minorticks_off()
    figure.axes[0].legend(fontsize=8, frameon=False)
    quieten(*figure.axes)
    return figure


def quieten(*axes: Any) -> None:
    """A faint grid, and no frame on the open sides."""
    for axis in axes:
        axis.grid(alpha=0.25, lw=0.6)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)

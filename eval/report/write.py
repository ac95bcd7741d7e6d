"""One HTML file from a result directory: everything inline, opens offline by double click."""

from __future__ import annotations

import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

from eval.report.data import Page, add_drive, read_run
from eval.report.geometry import SceneGeometry
from eval.report.overview import overview
from eval.run.store import REPORT
from eval.simulation.trace import Trace
from perception.recording import Recording
from planner.scene import AgentClass

SCRIPTS = (
    "codec.js",
    "palette.js",
    "drive.js",
    "camera.js",
    "layers.js",
    "plots.js",
    "overview.js",
    "moments.js",
    "panel.js",
    "player.js",
    "controls.js",
)


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write the report of a result directory; by default `run_dir`/report.html.

    Works on an unfinished run: shows what is there and says what is missing.
    Raises FileNotFoundError where `run_dir` is no result directory, RunDirError where its result lines are
    damaged, OSError where the file cannot be written (an earlier report then stays as it was).
    """
    page = read_run(run_dir)
    page.header["title"] = run_dir.resolve().name
    return _write(page, out or run_dir / REPORT)


def write_trace_html(trace: Trace, out: Path, recording: Recording | None = None) -> Path:
    """Write the player for a single drive. Without its recording there is no map and no expert to draw."""
    row: dict[str, Any] = {
        "scenario": trace.scenario, "planner": trace.planner, "traffic": trace.traffic,
        "status": "completed", "error": None, "metrics": {}, "trace": "", "state_hash": trace.state_hash(),
    }  # fmt: skip
    page = Page({"notes": [], "scenes": {}, "rows": [row], "manifest": {"seed": trace.seed}, "config": ""})
    add_drive(page, row, trace, SceneGeometry.from_recording(recording) if recording else None, {})
    page.header |= {
        "title": f"{trace.scenario} · {trace.planner}",
        "overview": overview([row], [{}], {}),
        "classes": [member.name.lower() for member in AgentClass],
    }
    return _write(page, out)


def _write(page: Page, out: Path) -> Path:
    """Fill the template; under its final name only when complete."""
    assets = resources.files("eval.report") / "assets"
    parts = {
        "TITLE": html.escape(page.header["title"]),
        "STYLE": (assets / "report.css").read_text("utf-8"),
        "SCRIPT": "\n".join((assets / name).read_text("utf-8") for name in SCRIPTS),
        # "<" could end the script element; inside JSON strings the escape means the same
        "HEADER": json.dumps(_finite(page.header), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".tmp")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            template = (assets / "report.html").read_text("utf-8")
            for number, piece in enumerate(template.split("@@")):  # @@NAME@@: every second piece is a name
                if number % 2 == 0:
                    file.write(piece)
                elif piece == "BLOBS":
                    for index, blob in enumerate(page.blobs):
                        file.write(f'<script type="application/octet-stream" id="blob-{index}">{blob}</script>\n')
                else:
                    file.write(parts[piece])
        return partial.replace(out)
    except BaseException:  # Ctrl-C too: nothing half-written stays
        partial.unlink(missing_ok=True)
        raise


def _finite(value: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and value - value != 0.0:
        return None
    return value

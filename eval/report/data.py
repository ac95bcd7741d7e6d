"""A result directory as the page needs it: identity, overview, one row per drive, packed drawings."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.geometry import SceneGeometry, load_geometry
from eval.report.overview import overview
from eval.report.pack import Quantised, pack
from eval.report.pictures import Words, columns
from eval.run.store import CONFIG, MANIFEST, RESULTS, SUMMARY, read_lines
from eval.simulation.trace import Trace
from planner.scene import AgentClass

FULL_PICTURES = ("dualdrive",)  # planners drawn with candidates, predictions and constraints
DEFAULT_VEHICLE = (4.084, 1.85, 1.4)  # length, width, rear axle to centre (m), where no geometry was stored
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
XY_STEP, YAW_STEP, SPEED_STEP = 0.01, 0.002, 0.1  # m, rad, m/s


@dataclass
class Page:
    """header: small, read at once. blobs: packed, base64, decoded one by one when a drive is opened.

    header: {"title", "manifest", "config", "notes", "overview", "rows", "scenes", "classes"}; a row
    is the line of `scenarios.jsonl` plus "blob" and "agents" (indices into blobs, None if unreadable).
    """

    header: dict[str, Any]
    blobs: list[str] = field(default_factory=list)

    def add(self, value: Any) -> int:
        self.blobs.append(pack(value))
        return len(self.blobs) - 1


def read_run(run_dir: Path) -> Page:
    """Read everything a report shows.

    A trace or geometry that is missing or damaged costs its picture and is noted, not the report.
    Raises FileNotFoundError where `run_dir` is no result directory, RunDirError where its lines are damaged.
    """
    if not (run_dir / RESULTS).exists():
        raise FileNotFoundError(
            f"{run_dir} holds no {RESULTS}: expected the directory given to `dualdrive drive --out`"
        )
    lines = {(line["scenario"], line["planner"], line["traffic"]): line for line in read_lines(run_dir / RESULTS)}
    rows = [dict(line) for line in lines.values()]
    page = Page({"notes": [], "scenes": {}, "rows": rows})
    facts: list[dict[str, Any]] = []
    geometries: dict[str, SceneGeometry | None] = {}
    shared: dict[str, int] = {}
    for row in rows:
        scenario = row["scenario"]
        if scenario not in geometries:
            geometries[scenario] = _read_geometry(run_dir / "recordings" / f"{scenario}.npz", page.header["notes"])
        trace = _read_trace(run_dir, row, page.header["notes"])
        if trace is not None:
            add_drive(page, row, trace, geometries[scenario], shared)
        facts.append(_facts(trace))
    page.header |= {
        "manifest": _read_json(run_dir / MANIFEST, page.header["notes"]),
        "config": (run_dir / CONFIG).read_text() if (run_dir / CONFIG).exists() else "",
        "overview": overview(rows, facts, _read_json(run_dir / SUMMARY, page.header["notes"])),
        "classes": [member.name.lower() for member in AgentClass],
    }
    return page


def add_drive(
    page: Page, row: dict[str, Any], trace: Trace, geometry: SceneGeometry | None, shared: dict[str, int]
) -> None:
    """Pack one drive into the page. shared: blobs of agents by content; log replay has the same ones everywhere."""
    scenario = row["scenario"]
    origin = trace.pose[0, :2].round() if geometry is None else geometry.expert["pose"][0, :2].round()
    if scenario not in page.header["scenes"]:
        scene = _scene(geometry, origin)
        page.header["scenes"][scenario] = page.add(scene)
    agents = _agents(trace, origin)
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (trace.agent_pose, trace.agent_valid, trace.track_id)))
    key = f"{scenario} {digest.hexdigest()}"
    if key not in shared:
        shared[key] = page.add(agents)
    row["agents"] = shared[key]
    row["blob"] = page.add(_drive(trace, geometry, origin))


def _scene(geometry: SceneGeometry | None, origin: np.ndarray) -> dict[str, Any]:
    """Map, route and expert of one scenario, relative to `origin`."""
    if geometry is None:
        return {"origin": origin.tolist(), "vehicle": DEFAULT_VEHICLE, "metadata": {}, "source": ""}
    names = ("drivable", "lanes", "dividers", "crossings", "stop_lines")
    expert = geometry.expert
    return {
        "origin": origin.tolist(),
        "source": geometry.source,
        "vehicle": geometry.vehicle,
        "metadata": geometry.metadata,
        **{name: [Quantised(line - origin, XY_STEP) for line in getattr(geometry, name)] for name in names},
        "connector": geometry.lane_connector.astype(int).tolist(),
        "route": Quantised(geometry.route - origin, XY_STEP),
        "expert": {
            "time": expert["time"],
            "xy": Quantised(expert["pose"][:, :2] - origin, XY_STEP),
            "yaw": Quantised(np.unwrap(expert["pose"][:, 2]), YAW_STEP),
            **{name: expert[name] for name in ("v", "a", "curvature")},
        },
    }


def _agents(trace: Trace, origin: np.ndarray) -> dict[str, Any]:
    """Boxes over time; where an agent is absent its last known numbers are repeated, which compresses to nothing."""
    agents, times = trace.agent_valid.shape
    known = np.where(trace.agent_valid, np.arange(times), 0)
    known = np.maximum.accumulate(known, axis=1)
    seen = trace.agent_valid.any(axis=1)
    pose = np.take_along_axis(trace.agent_pose, known[..., None], axis=1)
    velocity = np.take_along_axis(trace.agent_velocity, known[..., None], axis=1)
    present = np.maximum.accumulate(trace.agent_valid, axis=1) & seen[:, None]
    xy = np.where(present[..., None], pose[..., :2] - origin, 0.0)
    yaw = np.unwrap(np.where(present, pose[..., 2], 0.0), axis=1)
    speed = np.where(present, np.linalg.norm(velocity, axis=-1), 0.0)
    return {
        "id": trace.track_id.tolist(),
        "class": trace.agent_class.tolist(),
        "size": Quantised(trace.size, 0.01),
        "xy": Quantised(xy.transpose(1, 0, 2).reshape(times, agents * 2), XY_STEP),
        "yaw": Quantised(yaw.T, YAW_STEP),
        "speed": Quantised(speed.T, SPEED_STEP),
        "valid": Quantised(trace.agent_valid.T.astype(float), 1.0),
    }


def _drive(trace: Trace, geometry: SceneGeometry | None, origin: np.ndarray) -> dict[str, Any]:
    """The ego's motion, the plotted series and the pictures of one drive."""
    words = Words()
    xy = trace.pose[:, :2]
    return {
        "time": trace.time,
        "xy": Quantised(xy - origin, XY_STEP),
        "yaw": Quantised(np.unwrap(trace.pose[:, 2]), YAW_STEP),
        **{name: getattr(trace, name) for name in ("v", "a", "curvature", "cycle_ms", "solve_ms", "check_ms")},
        "min_gap": np.where(np.isfinite(trace.min_gap), trace.min_gap, np.nan),
        "speed_limit": np.full(len(xy), np.nan) if geometry is None else geometry.limit_along(xy),
        "tail_accepted": Quantised(np.asarray(trace.tail_accepted, float), 1.0),
        "source": words.column(trace.source),
        "reason": words.column(trace.reason),
        "words": list(words.words),
        "pictures": columns(trace.steps, xy, origin, full=trace.planner.partition("@")[0] in FULL_PICTURES),
    }


def _facts(trace: Trace | None) -> dict[str, Any]:
    """What the overview takes from the trace itself."""
    if trace is None:
        return {}
    gap = trace.min_gap[np.isfinite(trace.min_gap)]
    return {
        "cycle_ms": trace.cycle_ms,
        "without_tail": int((~np.asarray(trace.tail_accepted, bool)).sum()),
        "min_gap": float(gap.min()) if len(gap) else None,
    }


def _read_trace(run_dir: Path, row: dict[str, Any], notes: list[str]) -> Trace | None:
    name = row.get("trace")
    if not name:
        return None
    try:
        return Trace.load(run_dir / name)
    except DAMAGED as error:
        notes.append(f"{name} cannot be drawn: {error}")
        return None


def _read_geometry(path: Path, notes: list[str]) -> SceneGeometry | None:
    try:
        return load_geometry(path)
    except DAMAGED as error:
        notes.append(f"recordings/{path.name}: no map and no expert drawn: {error}")
        return None


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():
        notes.append(f"{path.name} is missing: the run was not finished")
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        notes.append(f"{path.name} is damaged: {error}")
        return {}

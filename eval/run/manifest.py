"""What a run was: versions, seed, samples, command. Written beside the results, so that a number can be traced."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.run.store import MANIFEST, write_atomic

MANIFEST_SCHEMA = 1
PACKAGES = ("dualdrive", "torch", "numpy", "scipy", "shapely", "clarabel", "daqp", "nuscenes-devkit", "cvxpy")


def versions() -> dict[str, str]:
    """Python, platform and the packages that can change a number; "absent" for what is not installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def sample_list_hash(samples: Iterable[str]) -> str:
    """SHA-256 over the sorted scenario names: runs with different hashes did not drive the same set."""
    return hashlib.sha256("\n".join(sorted(samples)).encode()).hexdigest()


def code_hash(packages: Iterable[str] = ("planner", "perception", "eval")) -> str:
    """SHA-256 over the source files of our packages: results of different code are never mixed."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def start_manifest(identity: dict[str, str], *, seed: int, samples: list[str], total: int) -> dict[str, Any]:
    """The manifest of a run that begins now. total: number of results it is to have."""
    return {
        "schema": MANIFEST_SCHEMA,
        "status": "running",
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": _now(),
        "finished": None,
        "seed": seed,
        "samples": len(samples),
        "sample_list_hash": sample_list_hash(samples),
        "results_expected": total,
        "identity": identity,
        "versions": versions(),
    }


def write_manifest(run_dir: Path, manifest: dict[str, Any], status: str) -> None:
    """Write the manifest with the given status ("running", "completed", "failed", "interrupted")."""
    manifest["status"] = status
    manifest["finished"] = None if status == "running" else _now()
    write_atomic(run_dir / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

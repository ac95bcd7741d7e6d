"""docs/benchmarks.md: one page in parts, each written by its own command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PARTS = ("planner", "solver")


def write_part(path: Path, part: str, text: str) -> None:
    """Replace one part of the page and keep the others."""
    found = parts(path.read_text()) if path.exists() else {}
    found[part] = text.strip()
    path.write_text("\n\n".join(f"{_mark(name)}\n{found[name]}" for name in PARTS if name in found) + "\n")


def parts(page: str) -> dict[str, str]:
    """The text of each part on a page."""
    found = {}
    for name in PARTS:
        if _mark(name) in page:
            rest = page.split(_mark(name), 1)[1]
            for other in PARTS:
                rest = rest.split(_mark(other), 1)[0]
            found[name] = rest.strip()
    return found


def machine(environment: dict[str, Any]) -> str:
    """A section on where the figures were measured."""
    e = environment
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    where = f"{e['cpu']}, {e['cores']} cores, {e['system']} {e['machine']}, Python {e['python']}"
    run = f"{e['torch_threads']} torch threads; the run took {e['duration_s']:.0f} s"
    return f"## Machine and versions\n\n{where}, {run}.\n\n{versions}."


def _mark(part: str) -> str:
    return f"<!-- part: {part} -->"

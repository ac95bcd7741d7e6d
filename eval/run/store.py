"""The result directory of a run: resumable, never half-written, nothing counted twice.

One line of `scenarios.jsonl` per finished scenario x planner x traffic, appended and forced to disk when the
scenario is finished; a line that a kill has torn is dropped on the next opening. Everything else is written
under another name first and renamed when it is complete.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

RESULTS = "scenarios.jsonl"
SUMMARY = "summary.json"
MANIFEST = "manifest.json"
CONFIG = "config.yaml"
REPORT = "report.html"


class RunDirError(Exception):
    """The result directory cannot be used as asked; the message says why, `fix` what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class Key(NamedTuple):
    """What identifies a result within a run."""

    scenario: str
    planner: str
    traffic: str


def write_atomic(path: Path, text: str) -> Path:
    """Write `text` so that `path` holds either its old or its new content, whatever happens.

    Raises OSError (disk full, no permission); the partial file is removed.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return path


def sync_file(path: Path) -> None:
    """Force a written file, and its name, to disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to disk (a rename is durable only then)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file. A torn last line is left out.

    Raises RunDirError if a line before the last is damaged: that is no interrupted write.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):  # no newline after it: the write was cut short
                break
            raise RunDirError(
                f"{path}: line {number} is damaged ({error})", "restore the file, or start again with --fresh"
            ) from error
        if number < len(lines):
            found.append(value)
    return found


@dataclass
class ResultStore:
    """Finished results of one run directory; the only writer of its `scenarios.jsonl`.

    results: what is finished, by key. Use as a context manager: it holds a lock, so that two commands cannot
    write into the same directory at once.
    """

    run_dir: Path
    results: dict[Key, dict[str, Any]] = field(default_factory=dict)
    _lock: IO[str] | None = None

    @classmethod
    def open(cls, run_dir: Path, identity: dict[str, str], *, config_yaml: str, fresh: bool = False) -> ResultStore:
        """Create or resume the directory.

        identity: named fingerprints (configuration, samples, code) that must not differ from those of the results
        already there. fresh: throw earlier results of this directory away.
        Raises RunDirError: another run is writing there, or its results belong to another identity.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        store = cls(run_dir, _lock=locked(run_dir))
        try:
            if fresh:
                store._clear()
            store._resume(identity)
            write_atomic(run_dir / CONFIG, config_yaml)
        except BaseException:
            store.close()
            raise
        return store

    def _resume(self, identity: dict[str, str]) -> None:
        stored = read_manifest(self.run_dir)
        lines = read_lines(self.run_dir / RESULTS)
        if stored is None and lines:
            raise RunDirError(
                f"{self.run_dir} holds results without a manifest", "choose another --out, or start again with --fresh"
            )
        previous = (stored or {}).get("identity", {})
        for name, value in identity.items():
            if lines and previous.get(name) != value:
                raise RunDirError(
                    f"{self.run_dir} holds {len(lines)} results of another {name}; they must not be mixed",
                    "choose another --out, or throw the earlier results away with --fresh",
                )
        kept = {}
        for line in lines:
            key = Key(line["scenario"], line["planner"], line["traffic"])
            complete = line["status"] == "completed" and (self.run_dir / line["trace"]).exists()
            if complete:  # a failed one gets another chance
                kept[key] = line
        self.results = kept
        self.remove_partial()
        # Rewritten whole: drops torn, failed and double lines.
        write_atomic(self.run_dir / RESULTS, "".join(json.dumps(line) + "\n" for line in kept.values()))

    def remove_partial(self) -> None:
        """Remove files that a stopped worker left half-written. Only while no worker runs."""
        for folder in ("traces", "recordings"):
            for path in [*(self.run_dir / folder).rglob("*.tmp"), *(self.run_dir / folder).rglob(".*.npz")]:
                path.unlink()

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else."""
        for name in (RESULTS, SUMMARY, MANIFEST, CONFIG, REPORT):
            (self.run_dir / name).unlink(missing_ok=True)
        for folder in ("traces", "recordings"):
            for path in (self.run_dir / folder).rglob("*.npz"):
                path.unlink()

    def add(self, line: dict[str, Any]) -> None:
        """Append one finished result and force it to disk.

        Raises OSError when that is impossible; the file is then cut back to its complete lines.
        Raises ValueError for a key that is already there.
        """
        key = Key(line["scenario"], line["planner"], line["traffic"])
        if key in self.results:
            raise ValueError(f"result {key} is already recorded")
        path = self.run_dir / RESULTS
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if path.exists():
                os.truncate(path, size)
            raise
        self.results[key] = line

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_manifest(run_dir: Path) -> dict[str, Any] | None:
    """The manifest of a run directory, or None where there is none. Raises RunDirError if it is unreadable."""
    path = run_dir / MANIFEST
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise RunDirError(f"{path} is damaged ({error})", "start again with --fresh") from error
    return dict(value)


def locked(folder: Path) -> IO[str]:
    """Holds `folder` for this process until closed. Raises RunDirError where another one has it."""
    lock = open(folder / ".lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise RunDirError(
            f"another dualdrive command is writing into {folder}", "wait for it, or choose another --out"
        ) from error
    return lock

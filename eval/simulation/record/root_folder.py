"""The folder a data set is recorded into: claimed before writing, never mixed, never another's."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from eval.run.manifest import start_manifest, versions
from eval.run.store import RunDirError, locked, write_atomic

NOTES = "record"
"""Folder below the root for manifest, lock and parts of scenes; no reader needs it."""
WRITTEN = ("samples", "sweeps", "maps", "can_bus", NOTES)
"""What a recording writes, beside its table folder."""


@dataclass
class RootFolder:
    """One data set being recorded. A context manager: it holds a lock, so that no two commands write into it."""

    root: Path
    manifest: dict[str, Any]
    _lock: IO[str]

    @classmethod
    def claim(cls, root: Path, config: Any, scenes: list[str], seed: int, version: str, *, fresh: bool = False) -> Self:
        """Create the folder, or go on with what the same call has begun there.

        config: a dataclass. fresh: remove what an earlier recording wrote there, and nothing else. Raises RunDirError:
        the folder holds other things, another recording, or another command is writing.
        """
        notes = root / NOTES
        begun = (notes / "manifest.json").is_file()
        if root.exists() and not root.is_dir():
            raise RunDirError(f"{root} is a file, not a folder", "choose another --out")
        if not begun and root.is_dir() and any(p.name != NOTES for p in root.iterdir()):
            raise RunDirError(
                f"{root} holds something that `dualdrive record` did not write", "choose an empty or new --out"
            )
        notes.mkdir(parents=True, exist_ok=True)
        lock = locked(notes)
        try:
            if fresh:
                cls._clear(root, version)
            identity = {"configuration": _digest(asdict(config)), "list of scenes": _digest(scenes), "code": _code()}
            stored = _stored(notes)
            for name, value in identity.items():
                if stored is not None and stored["identity"].get(name) != value:
                    raise RunDirError(
                        f"{root} holds a recording of another {name}; they must not be mixed",
                        "choose another --out, or throw the earlier recording away with --fresh",
                    )
            manifest = stored or start_manifest(identity, seed=seed, samples=scenes, total=len(scenes))
            manifest |= {"configuration": asdict(config), "versions": versions()}
            folder = cls(root, manifest, lock)
            folder.note("running")
            for part in root.glob("s*/*/*.part"):  # left by a process that was killed
                part.unlink()
        except BaseException:
            lock.close()
            raise
        return folder

    @staticmethod
    def _clear(root: Path, version: str) -> None:
        for name in (*WRITTEN, version):
            path = root / name
            if path.is_symlink():
                path.unlink()
            elif name == NOTES:
                for child in [p for p in path.iterdir() if p.name != ".lock"]:
                    shutil.rmtree(child) if child.is_dir() else child.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)

    def note(self, status: str) -> None:
        """Write the manifest with the status: running, completed, failed or interrupted."""
        self.manifest["status"] = status
        write_atomic(self.root / NOTES / "manifest.json", json.dumps(self.manifest, indent=2, default=str) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def _stored(notes: Path) -> dict[str, Any] | None:
    path = notes / "manifest.json"
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise RunDirError(f"{path} is damaged ({error})", "start again with --fresh") from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _code() -> str:
    """SHA-256 of the code that decides what is recorded."""
    package, digest = Path(__file__).resolve().parents[3], hashlib.sha256()
    files = [*(package / "eval" / "simulation").rglob("*.py"), *(package / "perception").glob("*.py")]
    for path in sorted(files):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

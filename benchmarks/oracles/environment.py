"""Where the third-party oracles live: an environment of their own, made once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
HOW = "python3.11 -m venv .venv-oracles && .venv-oracles/bin/pip install -r benchmarks/oracles/requirements.txt"


def oracle_python() -> Path | None:
    """Interpreter of the oracles' environment, $DUALDRIVE_ORACLES or .venv-oracles here; None if absent."""
    folder = Path(os.environ.get("DUALDRIVE_ORACLES", HERE.parent.parent / ".venv-oracles"))
    python = folder / "bin" / "python"
    return python if python.exists() else None


def ask(script: str, cases: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a script of this folder in the oracles' environment on the cases; its answers.

    Raises SystemExit with the command to run where the environment is missing, RuntimeError where the script fails.
    """
    python = oracle_python()
    if python is None:
        sys.exit(f"no environment for the oracles; make it with: {HOW}")
    with tempfile.TemporaryDirectory() as folder:
        given, answered = Path(folder) / "cases.npz", Path(folder) / "answers.npz"
        np.savez(given, **cases)
        done = subprocess.run(
            [str(python), "-W", "ignore", str(HERE / script), str(given), str(answered)], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr[-2000:]}")
        return dict(np.load(answered))

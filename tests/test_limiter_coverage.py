"""Every branch of the limiter is taken by its own tests, measured by coverage.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

pytest.importorskip("coverage", reason="coverage is not installed; it comes with the extra `dev`")
LIMITER = "planner/limiter.py"


def test_the_limiter_is_small_and_fully_covered(tmp_path) -> None:
    assert len((REPOSITORY / LIMITER).read_text().splitlines()) < 300
    environment = {**os.environ, "COVERAGE_FILE": str(tmp_path / "data")}
    run = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "coverage", *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    tested = run(
        "run", "--branch", f"--include={LIMITER}", "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider",
        "tests/test_limiter.py",
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout[-2000:]
    assert run("json", "-o", str(tmp_path / "out.json")).returncode == 0
    found = json.loads((tmp_path / "out.json").read_text())["files"][LIMITER]["summary"]
    assert found["num_branches"] >= 20
    assert (found["missing_lines"], found["missing_branches"]) == (0, 0)

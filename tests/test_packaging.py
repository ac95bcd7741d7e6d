"""What is installed: the three packages with their data files, the configurations, and the command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling is not installed: the wheel cannot be built offline")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    [path] = folder.glob("dualdrive-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_source_and_data_file(wheel) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "planner", "perception", "eval", "configs"],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert any(name.startswith("eval/report/assets/") for name in listed)
    assert any(name.startswith("configs/") and name.endswith(".yaml") for name in listed)
    missing = {name for name in listed if (REPOSITORY / name).exists()} - set(wheel.namelist())
    assert not missing


def test_the_wheel_holds_nothing_else(wheel) -> None:
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"planner", "perception", "eval", "configs"}


def test_the_wheel_declares_the_command_and_the_extras(wheel) -> None:
    [entry_points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "dualdrive = eval.cli:main" in wheel.read(entry_points).decode()
    [metadata] = [name for name in wheel.namelist() if name.endswith("METADATA")]
    text = wheel.read(metadata).decode()
    for extra in ("nuscenes", "report", "reference", "dev"):
        assert f"Provides-Extra: {extra}" in text

"""What is installed: the three packages with their data files, the configurations, the compiled solver, the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from planner import build_native

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


def test_the_wheel_holds_the_compiled_solver_and_is_tied_to_the_platform(wheel) -> None:
    if build_native.compiler() is None:
        pytest.skip("no C++ compiler: the wheel is pure Python")
    for library in build_native.LIBRARIES:
        assert str(library.path.relative_to(REPOSITORY)) in wheel.namelist()
    tags = Path(wheel.filename).stem.split("-")[-3:]
    assert tags[:2] == ["py3", "none"]
    assert tags[2] != "any"


def test_without_a_compiler_the_wheel_is_pure_python_and_says_why(tmp_path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed: the wheel cannot be built offline")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for folder in ("planner", "perception", "eval", "configs"):
        (tmp_path / folder).mkdir()
    shutil.copy(REPOSITORY / "planner/build_native.py", tmp_path / "planner")
    for native in ("planner/qp/native", "planner/compiled"):
        shutil.copytree(REPOSITORY / native, tmp_path / native, ignore=shutil.ignore_patterns("*.so", "__*__"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "CXX": "/no/such/compiler"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "no C++ compiler" in done.stdout + done.stderr
    [path] = (tmp_path / "out").glob("dualdrive-*.whl")
    assert path.stem.endswith("py3-none-any")
    assert not [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".so")]

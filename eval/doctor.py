"""`dualdrive doctor`: is this environment the one that was verified, what clashes, and which command mends it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PYTHON = ((3, 11), (3, 13))
"""First version that works, first that does not."""

REQUIRED = (
    "torch", "numpy", "scipy", "shapely", "jaxtyping", "clarabel", "daqp", "safetensors", "typer", "rich", "pyyaml",
)  # fmt: skip
EXTRAS = {
    "nuscenes": ("nuscenes-devkit", "pyquaternion", "pillow"),
    "tracking": ("motmetrics", "pandas"),
    "report": ("matplotlib",),
    "reference": ("cvxpy", "cvxpylayers"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "tensorboard": ("tensorboard",),
    "dev": ("pytest", "hypothesis", "pytest-xdist", "pytest-timeout", "hatchling", "ruff", "mypy", "pre-commit"),
}
IMPORT_NAMES = {
    "pyyaml": "yaml", "pillow": "PIL", "nuscenes-devkit": "nuscenes", "pytest-xdist": "xdist",
    "pytest-timeout": "pytest_timeout", "pre-commit": "pre_commit",
}  # fmt: skip
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FREE_SPACE_MIN = 1e9  # bytes; a run of the seven mini scenes with all baselines needs about a tenth


class State(StrEnum):
    """BROKEN makes the command fail; a NOTE costs a feature, or is worth knowing."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and the command that mends it."""

    name: str
    state: State
    detail: str
    fix: str = ""


VersionOf = Callable[[str], str | None]


def installed_version(name: str) -> str | None:
    """Version of an installed package, None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def verified_versions(constraints: Path | None = None) -> dict[str, str]:
    """The versions that were verified together, from constraints.txt; empty where the file is not at hand."""
    path = constraints or Path(__file__).resolve().parent.parent / "constraints.txt"
    if not path.exists():
        return {}
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s#;]+)", path.read_text(), re.MULTILINE)
    return {_normal(name): version for name, version in pins}


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The running Python against the supported range."""
    text = ".".join(map(str, version))
    if PYTHON[0] <= version[:2] < PYTHON[1]:
        return Finding("Python", State.OK, text)
    return Finding("Python", State.BROKEN, f"{text}; 3.11 or 3.12 is needed", "python3.11 -m venv .venv")


def check_packages(version_of: VersionOf = installed_version, verified: dict[str, str] | None = None) -> list[Finding]:
    """Every package of ours: there, importable, and in the verified version."""
    verified = verified_versions() if verified is None else verified
    findings = [_check_package(name, "", version_of, verified) for name in REQUIRED]
    for extra, names in EXTRAS.items():
        findings += [_check_package(name, extra, version_of, verified) for name in names]
    return findings


def check_clashes(version_of: VersionOf = installed_version) -> list[Finding]:
    """Combinations that install without complaint and then fail."""
    found = []
    numpy, devkit = _major_minor(version_of("numpy")), version_of("nuscenes-devkit")
    numpy_1 = numpy is not None and numpy < (2, 0)

    def clash(name: str, detail: str, fix: str) -> None:
        found.append(Finding(name, State.BROKEN, detail, fix))

    if numpy_1 and (arrow := _major_minor(version_of("pyarrow"))) and arrow >= (26, 0):
        clash("pyarrow", "26 and later refuse numpy 1 when imported", "pip install 'pyarrow<26'")
    if version_of("torchvision") and "+cu" not in str(version_of("torch")):
        clash("torchvision", "the CUDA build fails beside a CPU torch", "pip uninstall -y torchvision")
    if devkit and numpy and not numpy_1:
        clash(
            "numpy", f"{version_of('numpy')}: nuscenes-devkit {devkit} needs numpy < 2", "pip install 'numpy==1.26.4'"
        )
    for name, limit in (("cvxpylayers", (1, 1)), ("cvxpy", (1, 8))):
        if devkit and (version := _major_minor(version_of(name))) and version >= limit:
            fix = f"pip install '{name}<{limit[0]}.{limit[1]}'"
            clash(name, f"{version_of(name)} needs numpy 2, nuscenes-devkit {devkit} needs numpy 1", fix)
    if numpy_1 and (rerun := _major_minor(version_of("rerun-sdk"))) and rerun >= (0, 24):
        clash("rerun-sdk", "0.24 and later need numpy 2", "pip install 'rerun-sdk==0.23.1'")
    variants = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    several = [name for name in variants if version_of(name)]
    if len(several) > 1:
        fix = "pip uninstall -y " + " ".join(n for n in several if n != "opencv-python-headless")
        clash("opencv", f"{' and '.join(several)} overwrite each other", fix)
    opencv = next((v for name in several if (v := _major_minor(version_of(name)))), None)
    if numpy_1 and opencv and opencv >= (4, 12):
        clash("opencv", f"{opencv[0]}.{opencv[1]} needs numpy 2", "pip install 'opencv-python-headless<4.12'")
    return found or [Finding("known clashes", State.OK, "none")]


def check_machine(folder: Path | None = None) -> list[Finding]:
    """Writing, space, CPUs, threads, browser."""
    folder = folder or Path.cwd()
    cpus, affinity = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    findings = [
        _check_writable(folder),
        _check_space(folder),
        Finding("CPUs", State.OK, f"{affinity} usable of {cpus}; `--workers 0` starts {affinity} processes"),
    ]
    import torch

    threads = torch.get_num_threads()
    findings.append(Finding("torch threads", State.OK, f"{threads} here; every worker process uses 1"))
    browser = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if browser:
        findings.append(Finding("Chromium", State.OK, browser))
    else:
        detail = "not found: the report's browser tests are skipped; reports open in any browser"
        findings.append(Finding("Chromium", State.NOTE, detail, "apt-get install -y --no-install-recommends chromium"))
    return findings


def check_solver() -> Finding:
    """Whether the compiled solver and stages are there, and how many problems it treats side by side."""
    from planner import build_native, compiled
    from planner.qp import native

    if native.available() and compiled.available():
        level = native.best_level()
        lanes = {native.Level.BASELINE: 2, native.Level.AVX2: 4, native.Level.AVX512: 8}[level]
        return Finding("compiled planner", State.OK, f"yes, {level.name}: {lanes} problems side by side")
    why = native.why_not() or compiled.why_not()
    detail = f"no, its Python version is used, which is many times slower: {why}"
    build = "python -m planner.build_native"
    fix = build if build_native.compiler() else f"apt-get install -y g++ && {build}"
    return Finding("compiled planner", State.NOTE, detail, fix)


def run_doctor(console: Console) -> int:
    """Check everything, print it, and return the exit code: 1 if something required is broken."""
    findings = [check_python(), *check_packages(), *check_clashes(), *check_machine(), check_solver()]
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, title=f"dualdrive on {platform.platform()}", title_justify="left"
    )
    for name in ("", "state", "found"):
        table.add_column(name, overflow="fold")
    colours = {State.OK: "green", State.NOTE: "yellow", State.BROKEN: "bold red"}
    for finding in findings:
        colour = colours[finding.state]
        table.add_row(escape(finding.name), f"[{colour}]{finding.state.value}[/]", escape(finding.detail))
    console.print(table)
    _print_fixes(console, [finding for finding in findings if finding.fix])
    broken = [finding.name for finding in findings if finding.state is State.BROKEN]
    if broken:
        console.print(f"[bold red]Broken:[/] {escape(', '.join(broken))}", highlight=False)
        return 1
    console.print("[green]Everything that is required works.[/]")
    return 0


def _print_fixes(console: Console, findings: Iterable[Finding]) -> None:
    for finding in findings:
        console.print(f"{escape(finding.name)}: [bold]{escape(finding.fix)}[/]", highlight=False, soft_wrap=True)


def _check_package(name: str, extra: str, version_of: VersionOf, verified: dict[str, str]) -> Finding:
    title = f"{name} [{extra}]" if extra else name
    bad = State.NOTE if extra else State.BROKEN
    version, wanted = version_of(name), verified.get(_normal(name))
    pin = f"{name}=={wanted}" if wanted else name
    if version is None:
        return Finding(
            title,
            bad,
            "not installed",
            f"pip install -c constraints.txt '.[{extra}]'" if extra else f"pip install '{pin}'",
        )
    try:
        importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
    except Exception as error:
        reason = f"{version} cannot be imported: {type(error).__name__}: {error}"
        return Finding(title, bad, reason, f"pip install --force-reinstall '{pin}'")
    if wanted and version.split("+")[0] != wanted:
        return Finding(title, State.NOTE, f"{version}; verified with {wanted}", f"pip install '{pin}'")
    return Finding(title, State.OK, version)


def _check_writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        return Finding(
            "write access", State.BROKEN, f"{folder}: {error.strerror}", "choose a folder of yours with --out"
        )
    return Finding("write access", State.OK, str(folder))


def _check_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free"
    if free < FREE_SPACE_MIN:
        return Finding(
            "disk", State.NOTE, f"{detail}: little for a run", "make room, or choose another disk with --out"
        )
    return Finding("disk", State.OK, detail)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _major_minor(version: str | None) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None

"""The direction of imports, read from the source; optional packages stay optional."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

OURS = ("planner", "perception", "eval")

# The second perception channel: neither the first one nor anything learned.
RAW = (
    "planner.scene",
    "perception.sensor_frame",
    *(f"perception.{path.stem}" for path in sorted((REPOSITORY / "perception").glob("raw_obstacles*.py"))),
)
LEARNING = (
    "torch.nn",
    "torch.optim",
    "torch.autograd",
    "torch.jit",
    "torchvision",
    "onnxruntime",
    "safetensors",
    "sklearn",
)

# A module may import: itself and its own package listed here, by prefix. The longest matching rule counts.
ALLOWED = {
    "planner.scene": ("planner.scene",),
    "planner.checker": ("planner.scene", "planner.checker"),
    "planner.fallback": ("planner.scene", "planner.fallback"),
    "planner.limiter": ("planner.scene", "planner.limiter"),
    "planner.monitors": ("planner.scene", "planner.monitors"),
    "planner": ("planner",),
    "perception": ("perception", "planner.scene"),
    **{name: RAW for name in RAW if name.startswith("perception.raw")},
    "perception.train": ("perception", "planner"),
    "perception.assignment": ("perception", "planner.scene", "planner.qp"),
    "eval": ("eval", "perception", "planner"),
}
FORBIDDEN = {
    "planner.qp.solver": ("planner.scene", "planner.decisions", "planner.path", "planner.plan"),
    "planner.qp.layer": ("planner.scene", "planner.decisions", "planner.path", "planner.plan"),
    "eval.metrics": ("planner.checker", "planner.supervise"),
}
# Each needed for one feature only; importing the packages must not need them.
OPTIONAL = (
    "nuscenes", "pyquaternion", "plotly", "cvxpy", "cvxpylayers", "diffcp", "matplotlib", "PIL", "ray",
    "safetensors", "motmetrics", "pandas", "onnx", "onnxruntime", "onnxscript", "tensorboard",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Dotted names of all our modules."""
    files = [path for package in OURS for path in sorted((REPOSITORY / package).rglob("*.py"))]
    names = {}
    for path in files:
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(name: str, source: str, is_package: bool = False) -> set[str]:
    """Dotted names of everything a module's source imports, at any depth; relative ones resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            keep = len(parts) - node.level + (1 if is_package else 0)
            base = ".".join([*(parts[:keep] if node.level else []), *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def learned(name: str, imported: set[str]) -> list[str]:
    """Sentences about imports of learned code where there must be none."""
    return sorted(f"{name} imports {i}" for i in imported if any(within(i, package) for package in LEARNING))


def violations(name: str, imported: set[str]) -> list[str]:
    """Sentences about imports that the rules do not allow."""
    rule = max((r for r in ALLOWED if within(name, r)), key=len)
    bad = [f"{name} imports {i}" for i in imported if i.split(".")[0] in OURS and not _allowed(i, ALLOWED[rule])]
    for limited, prefixes in FORBIDDEN.items():
        if within(name, limited):
            bad += [f"{name} imports {i}" for i in imported if any(within(i, p) for p in prefixes)]
    return sorted(set(bad))


def _allowed(imported: str, prefixes: tuple[str, ...]) -> bool:
    return any(within(imported, prefix) for prefix in prefixes)


def test_every_module_keeps_to_the_import_rules() -> None:
    found = modules()
    assert "planner.scene.agents" in found
    bad = [
        sentence
        for name, path in found.items()
        for sentence in violations(name, imports(name, path.read_text(), path.name == "__init__.py"))
    ]
    assert not bad, "\n".join(bad)


def test_the_second_perception_channel_is_free_of_learned_code() -> None:
    found = {name: path for name, path in modules().items() if name.startswith("perception.raw_obstacles")}
    assert len(found) >= 5
    bad = [s for name, path in found.items() for s in learned(name, imports(name, path.read_text()))]
    assert not bad, "\n".join(bad)
    assert learned("perception.raw_obstacles", imports("perception.raw_obstacles", "from torch import nn"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("perception.raw_obstacles", "from perception.oracle import OraclePerception"),
        ("perception.raw_obstacles_tracks", "import perception.forecast"),
        ("perception.raw_obstacles", "from planner.checker import check"),
        ("planner.scene.ego", "import planner.result"),
        ("planner.scene.ego", "from perception import road_map"),
        ("planner.checker.check", "from planner.qp.solver import solve"),
        ("planner.checker.check", "from ..config import PlannerConfig"),
        ("planner.checker.check", "def f():\n    import planner.decisions.candidates"),
        ("planner.fallback", "from planner import plan"),
        ("planner.limiter", "from planner.checker import check"),
        ("planner.monitors.coverage", "from planner.checker import prepare"),
        ("planner.plan", "from perception.recording import Recording"),
        ("planner.plan", "import importlib\nimportlib.import_module('eval.metrics')"),
        ("perception.oracle", "from planner.plan import ConvexPlanner"),
        ("perception.oracle", "from planner import result"),
        ("perception.oracle", "import eval.simulation.trace"),
        ("eval.metrics.closed_loop", "from planner.checker import check"),
        ("planner.qp.solver", "from planner.scene import VectorScene"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str) -> None:
    assert violations(name, imports(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("planner.checker.check", "from planner.scene import VectorScene\nfrom .footprint import swept"),
        ("planner.supervise", "from planner.checker import check\nimport torch"),
        ("perception.oracle", "from planner.scene import VectorScene\nimport numpy as np"),
        ("perception.train", "from planner.plan import ConvexPlanner"),
        ("eval.pipeline", "from planner.plan import ConvexPlanner\nfrom perception.oracle import OraclePerception"),
    ],
)
def test_an_allowed_import_passes(name: str, source: str) -> None:
    assert not violations(name, imports(name, source))


def run_without(blocked: tuple[str, ...], wanted: list[str]) -> subprocess.CompletedProcess[str]:
    """Import the modules in a fresh interpreter in which the blocked packages cannot be imported."""
    script = (
        "import sys, importlib\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}:\n"
        "            raise ModuleNotFoundError(name + ' is blocked', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"for name in {wanted!r}:\n"
        "    importlib.import_module(name)\n"
    )
    return subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


def test_the_block_works() -> None:
    assert "numpy is blocked" in run_without(("numpy",), ["numpy"]).stderr


@pytest.mark.parametrize("package", OURS)
def test_modules_import_without_optional_packages(package: str) -> None:
    """Every module of a package; the planner in addition without perception and eval."""
    wanted = [name for name in modules() if within(name, package)]
    blocked = OPTIONAL + (("perception", "eval") if package == "planner" else ())
    result = run_without(blocked, wanted)
    assert result.returncode == 0, result.stderr[-2000:]

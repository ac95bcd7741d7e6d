"""Build hook of hatchling: compiles the solver for wheels and editable installs, or says why it did not."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "planner/qp/native"


class CompileSolver(BuildHookInterface):
    """With a compiler the wheel holds the library and is tied to the platform; without one it is pure Python."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files; version is "standard" or "editable"."""
        build = _load(Path(self.root) / NATIVE / "build.py")
        try:
            library = build.build_if_stale()
        except build.BuildError as error:
            self.app.display_warning(f"the solver is not compiled, its torch version is used: {error}")
            return
        build_data["artifacts"].append(f"/{NATIVE}/{library.name}")
        build_data["pure_python"] = False
        # No part of Python's binary interface is used, so any Python 3 of this platform will do.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _load(path: Path) -> Any:
    """The build script as a module; importing it as part of the package would need torch."""
    spec = importlib.util.spec_from_file_location("dualdrive_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Build hook of hatchling: compiles the C++ for wheels and editable installs, or says why it did not."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPT = "planner/build_native.py"


class CompilePlanner(BuildHookInterface):
    """With a compiler the wheel holds the library and is tied to the platform; without one it is pure Python."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files; version is "standard" or "editable"."""
        build = _load(Path(self.root) / SCRIPT)
        try:
            libraries = build.build_all()
        except build.BuildError as error:
            self.app.display_warning(f"nothing is compiled, the Python versions are used: {error}")
            return
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in libraries]
        build_data["pure_python"] = False
        # No part of Python's binary interface is used, so any Python 3 of this platform will do.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _load(path: Path) -> Any:
    """The build script as a module; importing it as part of the package would need torch."""
    spec = importlib.util.spec_from_file_location("dualdrive_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module

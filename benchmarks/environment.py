"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch", "numpy", "scipy", "moreau", "cvxpy", "cvxpylayers", "diffcp", "clarabel", "scs", "qpth", "proxsuite",
    "osqp", "qpax", "jax", "daqp", "quadprog", "piqp", "qoco",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """CPU, cores, threads, and the versions of what is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads(), "system": platform.system(),
        "machine": platform.machine(), "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def _cpu() -> str:
    """The processor's name and the widest vectors it offers."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    widest = next((f for f in ("avx512f", "avx2", "avx") if f in flags), "")
    return f"{name} ({widest})" if widest else name

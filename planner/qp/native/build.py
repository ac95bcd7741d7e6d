"""Compiles the solver into this folder: ``python -m planner.qp.native.build``, or this file by itself.

A C++17 compiler is all it needs.

The same source is compiled once per instruction set; the library takes the widest that the CPU has. Fast-math stays
off: it would change how the whole process treats denormal numbers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIBRARY = "libdualdrive_qp.so"
SOURCES = (
    "dispatch.cpp", "judge.cpp", "judge.hpp", "kernel.cpp", "kernel.hpp", "lanes.hpp", "stage_data.hpp",
    "stage_newton.hpp", "riccati_ipm.hpp", "adjoint.hpp", "dualdrive_qp.h",
)  # fmt: skip

FLAGS = "-std=c++17 -O3 -fPIC -fno-math-errno -fno-trapping-math -ffp-contract=fast -fvisibility=hidden -Wall -Wextra"
LEVELS = {
    "dd_kernel_baseline": "",
    "dd_kernel_avx2": "-mavx2 -mfma",
    "dd_kernel_avx512": "-mavx512f -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512",
}
"""Name of each compiled copy and what it may use; x86-64 has all, other processors the first."""


class BuildError(RuntimeError):
    """No compiler, or it failed; the message says which and how."""


def compiler() -> list[str] | None:
    """The command of the C++ compiler: $CXX, else the first of c++, g++, clang++ that is installed."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named if shutil.which(named[0]) else None
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return [found] if found else None


def build_if_stale(target: Path | None = None) -> Path:
    """The library, compiled anew unless it loads and is younger than its sources. Raises BuildError."""
    target = target or FOLDER / LIBRARY
    inputs = [*(FOLDER / name for name in SOURCES), Path(__file__)]
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        try:
            ctypes.CDLL(str(target)).dd_version()
            return target
        except (OSError, AttributeError):
            pass  # made for another machine, or broken
    return build(target)


def build(target: Path | None = None) -> Path:
    """Compile and put the library at `target`, whole or not at all. Raises BuildError."""
    target = target or FOLDER / LIBRARY
    cxx = compiler()
    if cxx is None:
        raise BuildError("no C++ compiler: $CXX, c++, g++ and clang++ are all missing")
    x86 = platform.machine() in ("x86_64", "AMD64")
    levels = LEVELS if x86 else {"dd_kernel_baseline": ""}
    flags = [*shlex.split(FLAGS), *(["-DDD_X86"] if x86 else []), f"-I{FOLDER}"]
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [
            ([*cxx, *flags, "-c", str(FOLDER / f"{name}.cpp")], Path(temporary) / f"{name}.o")
            for name in ("dispatch", "judge")
        ]
        for name, extra in levels.items():
            command = [*cxx, *flags, *extra.split(), f"-DDD_LEVEL={name}", "-c", str(FOLDER / "kernel.cpp")]
            jobs.append((command, Path(temporary) / f"{name}.o"))
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(lambda job: _run([*job[0], "-o", str(job[1])]), jobs))
        fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            _run([*cxx, "-shared", "-s", "-pthread", *(str(out) for _, out in jobs), "-o", str(fresh)])
            os.replace(fresh, target)
        finally:
            fresh.unlink(missing_ok=True)
    return target


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\n{done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    try:
        print(build_if_stale())
    except BuildError as error:
        sys.exit(f"the solver was not compiled: {error}")

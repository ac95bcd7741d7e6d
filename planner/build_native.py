"""Compiles the planner's C++ in place: ``python -m planner.build_native``, or this file by itself.

A C++17 compiler is all it needs. Two libraries: the solver, and the inner loops of the stages around it. Each source is
compiled once per instruction set, and the widest that the CPU has is used. Fast-math stays off: it would change how
the whole process treats denormal numbers.
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
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PLANNER = Path(__file__).resolve().parent
FLAGS = "-std=c++17 -O3 -fPIC -fno-math-errno -fno-trapping-math -ffp-contract=fast -fvisibility=hidden -Wall -Wextra"
AVX2 = "-mavx2 -mfma"
AVX512 = "-mavx512f -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512"
X86 = platform.machine() in ("x86_64", "AMD64")


class BuildError(RuntimeError):
    """No compiler, or it failed; the message says which and how."""


@dataclass(frozen=True)
class Library:
    """folder: with its sources. name: of the file made there. units: (source, further flags) to compile and link.

    version: a function without arguments that a sound library answers.
    """

    folder: Path
    name: str
    version: str
    units: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        """Where it belongs."""
        return self.folder / self.name

    @property
    def inputs(self) -> list[Path]:
        """What it is made from."""
        return [*(p for end in ("cpp", "hpp", "h") for p in sorted(self.folder.glob(f"*.{end}"))), Path(__file__)]


def _solver() -> Library:
    levels = {"dd_kernel_baseline": "", "dd_kernel_avx2": AVX2, "dd_kernel_avx512": AVX512}
    units = [(name, "-DDD_X86" if X86 else "") for name in ("dispatch.cpp", "judge.cpp")]
    for level, flags in levels.items():
        if X86 or not flags:
            units.append(("kernel.cpp", f"{flags} -DDD_LEVEL={level}"))
    return Library(PLANNER / "qp" / "native", "libdualdrive_qp.so", "dd_version", tuple(units))


def _stages(name: str, flags: str) -> Library:
    folder = PLANNER / "compiled"
    return Library(folder, name, "dds_version", tuple((p.name, flags) for p in sorted(folder.glob("*.cpp"))))


SOLVER = _solver()
STAGES = _stages("libdualdrive_stages.so", "")
STAGES_AVX2 = _stages("libdualdrive_stages_avx2.so", AVX2)
STAGES_AVX512 = _stages("libdualdrive_stages_avx512.so", AVX512)
LIBRARIES = (SOLVER, STAGES, STAGES_AVX2, STAGES_AVX512) if X86 else (SOLVER, STAGES)


def compiler() -> list[str] | None:
    """The command of the C++ compiler: $CXX, else the first of c++, g++, clang++ that is installed."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named if shutil.which(named[0]) else None
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return [found] if found else None


def build_all() -> list[Path]:
    """All libraries that this processor can use, compiled where they are stale. Raises BuildError."""
    return [build_if_stale(library) for library in LIBRARIES]


def build_if_stale(library: Library) -> Path:
    """The library, compiled anew unless it loads and is younger than its sources. Raises BuildError."""
    target = library.path
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in library.inputs):
        try:
            getattr(ctypes.CDLL(str(target)), library.version)()
            return target
        except (OSError, AttributeError):
            pass  # made for another machine, or broken
    return build(library)


def build(library: Library, target: Path | None = None) -> Path:
    """Compile and put the library at `target`, whole or not at all. Raises BuildError."""
    target = target or library.path
    cxx = compiler()
    if cxx is None:
        raise BuildError("no C++ compiler: $CXX, c++, g++ and clang++ are all missing")
    began = time.time()
    with tempfile.TemporaryDirectory() as temporary:
        objects = [f"{temporary}/{i}.o" for i in range(len(library.units))]
        common = [*cxx, *shlex.split(FLAGS), f"-I{library.folder}"]
        commands = [
            [*common, *shlex.split(flags), "-c", str(library.folder / source), "-o", out]
            for (source, flags), out in zip(library.units, objects)
        ]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(_run, commands))
        fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            _run([*cxx, "-shared", "-s", "-pthread", *objects, "-o", str(fresh)])
            os.utime(fresh, (began, began))  # a source written meanwhile is not in it, and must look younger
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
        print(*build_all(), sep="\n")
    except BuildError as error:
        sys.exit(f"the planner was not compiled: {error}")

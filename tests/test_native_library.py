"""The compiled library as a guest: threads, forks, memory, denormal numbers, the build, a program without Python."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from random_trees import random_program

from planner import build_native, compiled
from planner.build_native import SOLVER
from planner.qp import native
from planner.qp.kernel import KernelOptions
from planner.qp.native import NativeKernel

needs_library = pytest.mark.skipif(not native.available(), reason=native.why_not())


@needs_library
def test_two_python_threads_at_once() -> None:
    programs = [random_program(seed, batch=40) for seed in (1, 2)]
    alone = [NativeKernel().solve(p, None, KernelOptions()).z for p in programs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not torch.equal(NativeKernel().solve(programs[i], None, KernelOptions(threads=2)).z, alone[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@needs_library
def test_after_fork() -> None:
    code = """
import os, torch
from random_trees import random_program
from planner.qp.kernel import KernelOptions
from planner.qp.native import NativeKernel
p = random_program(1, batch=33)
z = NativeKernel().solve(p, None, KernelOptions(threads=2)).z
child = os.fork()
same = torch.equal(NativeKernel().solve(p, None, KernelOptions(threads=2)).z, z)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__), check=True, timeout=120)


@needs_library
def test_memory_does_not_grow() -> None:
    p = random_program(1, batch=2, stages=4)
    kernel, options = NativeKernel(), KernelOptions(threads=1)

    def run(times: int) -> int:
        for _ in range(times):
            found = kernel.solve(p, None, options)
            kernel.adjoint(p, found, found.z, options)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = run(500)
    assert run(10_000) - before < 2_000  # kB


@needs_library
def test_denormal_numbers_survive() -> None:
    p = random_program(1)
    NativeKernel().solve(p, None, KernelOptions())
    tiny = np.array([5e-324, 1e-310])
    assert (tiny * 1.0 > 0).all()
    assert (torch.from_numpy(tiny) + 0.0 > 0).all()


def test_without_a_compiler_the_build_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(build_native.BuildError, match="no C\\+\\+ compiler"):
        build_native.build(SOLVER, tmp_path / SOLVER.name)
    assert list(tmp_path.iterdir()) == []
    assert SOLVER.name == native.LIBRARY


def test_a_failed_compilation_shows_the_compilers_words(monkeypatch, tmp_path) -> None:
    compiler = tmp_path / "broken-c++"
    compiler.write_text("#!/bin/sh\necho cannot compile this >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build_native.BuildError, match="cannot compile this"):
        build_native.build(SOLVER, tmp_path / SOLVER.name)


@needs_library
@pytest.mark.skipif(build_native.compiler() is None, reason="no C++ compiler")
def test_a_program_without_python_can_call_it(tmp_path) -> None:
    source = os.path.join(os.path.dirname(__file__), "native_example.cpp")
    program, folder = tmp_path / "example", SOLVER.folder
    command = [
        *build_native.compiler(),
        "-std=c++17",
        source,
        f"-I{folder}",
        str(folder / SOLVER.name),
        "-o",
        str(program),
    ]
    subprocess.run([*command, f"-Wl,-rpath,{folder}"], check=True, capture_output=True, timeout=120)
    done = subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert "converged" in done.stdout


def test_a_source_written_during_the_build_makes_the_library_stale(monkeypatch, tmp_path) -> None:
    source = tmp_path / "a.cpp"
    source.write_text("")

    def compile_slowly(command: list[str]) -> None:
        source.write_text("// changed meanwhile")
        open(command[-1], "w").close()

    monkeypatch.setattr(build_native, "compiler", lambda: ["c++"])
    monkeypatch.setattr(build_native, "_run", compile_slowly)
    library = build_native.Library(tmp_path, "lib.so", "version", (("a.cpp", ""),))
    assert build_native.build(library).stat().st_mtime < source.stat().st_mtime


@pytest.mark.skipif(not compiled.available(), reason=compiled.why_not())
def test_a_library_older_than_its_caller_is_named() -> None:
    with pytest.warns(UserWarning, match="lacks dds_not_there.*planner.build_native"):
        assert compiled.kernel("dds_not_there", "n") is None

"""Do the tests notice a changed line? Mutants of the limiter or the checker, by cosmic-ray's operators.

    python -m benchmarks.mutation limiter --workers 2 --out runs/mutation

Every mutant is written into a copy of the project and its tests are run there in a forked process, so the working tree
is never touched and the libraries are loaded once. Mutations inside type annotations are left out: they are never
evaluated. Runs resume. Survivors are listed with their lines; those that were reviewed and found to mean the same, or
to be harmless, are named with the reason in benchmarks/mutation_reviewed.json.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REVIEWED = Path(__file__).with_name("mutation_reviewed.json")
_PRELOAD = ("torch", "numpy", "scipy.spatial", "shapely", "jaxtyping", "hypothesis", "pytest")


@dataclass(frozen=True)
class Target:
    """modules: files to mutate. tests: what has to notice. timeout (s of CPU): a longer run counts as noticed."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    timeout: float = 300.0


def targets() -> dict[str, Target]:
    """What can be mutated, by name."""
    checker = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "planner" / "checker").rglob("*.py"))
    tests = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_checker*.py"))
    more = ("test_footprint.py", "test_occupancy.py", "test_giving_way.py")
    return {
        "limiter": Target(("planner/limiter.py",), ("tests/test_limiter.py",)),
        "checker": Target(tuple(checker), (*tests, *(f"tests/{name}" for name in more))),
    }


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (line, column) of every type annotation."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            if isinstance(hint := getattr(node, name, None), ast.expr):
                assert hint.end_lineno is not None
                assert hint.end_col_offset is not None
                spans.append(((hint.lineno, hint.col_offset), (hint.end_lineno, hint.end_col_offset)))
    return spans


Position = tuple[int, int]


def within(start: Position, end: Position, spans: Iterable[tuple[Position, Position]]) -> bool:
    """Whether a mutation lies inside one of the spans."""
    return any(low <= start and end <= high for low, high in spans)


def mutants(target: Target, sample: int = 0) -> list[dict[str, Any]]:
    """Every mutation in a fixed order, or a random sample of so many; the key survives edits elsewhere in the file."""
    from cosmic_ray.commands.init import _all_work_items

    found, seen = [], Counter()
    for module in target.modules:
        source = (ROOT / module).read_text()
        lines, spans = source.splitlines(), annotations(source)
        for item in _all_work_items([ROOT / module], {}):
            spec = item.mutations[0]
            if within(tuple(spec.start_pos), tuple(spec.end_pos), spans):
                continue
            line = lines[spec.start_pos[0] - 1].strip()
            name = f"{module} | {spec.operator_name.removeprefix('core/')} | {line}"
            seen[name] += 1
            found.append(
                {
                    "key": f"{name} | {seen[name]}", "module": module, "line": spec.start_pos[0],
                    "operator": spec.operator_name, "occurrence": spec.occurrence, "args": spec.operator_args,
                }
            )  # fmt: skip
    return random.Random(0).sample(found, sample) if 0 < sample < len(found) else found


def run_shard(target: Target, sample: int, shard: int, count: int, results: Path) -> None:
    """Mutants shard, shard + count, ...; one JSON line each, appended to `results`."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    sys.dont_write_bytecode = True
    done = {json.loads(line)["key"] for line in results.read_text().splitlines()} if results.exists() else set()
    todo = [m for m in mutants(target, sample)[shard::count] if m["key"] not in done]
    with tempfile.TemporaryDirectory() as folder, results.open("a") as out:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns("__pycache__", ".*", "runs", "docs", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=ignored)
        shutil.copytree(ROOT / "docs", copy / "docs")  # some tests read them
        os.chdir(copy)
        sys.path[:] = [str(copy), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, copy))]
        for name in _PRELOAD:
            __import__(name)
        if _tests(target) != 0:
            raise SystemExit("mutation: the tests fail on the unchanged code")
        for mutant in todo:
            path = copy / mutant["module"]
            source = path.read_text()
            changed = mutate_code(source, get_operator(mutant["operator"])(**mutant["args"]), mutant["occurrence"])
            began = time.monotonic()
            try:
                path.write_text(changed)
                code = _tests(target)
            finally:
                path.write_text(source)
            verdict = "survived" if code == 0 else "killed"
            difference = [new for new in changed.splitlines() if new not in source.splitlines()][:3]
            line = {**mutant, "verdict": verdict, "code": code, "becomes": difference}
            out.write(json.dumps({**line, "seconds": round(time.monotonic() - began, 2)}) + "\n")
            out.flush()


def _tests(target: Target) -> int:
    """Exit code of the tests in a forked process; -1 for a timeout."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            # CPU time, not wall time: on a busy machine slow tests must not count as noticed.
            resource.setrlimit(resource.RLIMIT_CPU, (int(target.timeout), int(target.timeout) + 5))
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            import pytest

            arguments = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", "-m", "not slow", "--hypothesis-seed=0"]
            os._exit(int(pytest.main([*arguments, *target.tests])))
        os._exit(99)
    by = time.monotonic() + 20 * target.timeout  # for what waits without computing
    while time.monotonic() < by:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def summary(target: Target, sample: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and the survivors with the reviews there are."""
    wanted = {m["key"] for m in mutants(target, sample)}
    lines = list({line["key"]: line for line in lines if line["key"] in wanted}.values())
    reviews = json.loads(REVIEWED.read_text()) if REVIEWED.exists() else {}
    survivors = [line for line in lines if line["verdict"] == "survived"]
    for line in survivors:
        line["review"] = reviews.get(line["key"], "")
    killed = len(lines) - len(survivors)
    return {
        "mutants": len(wanted), "run": len(lines), "killed": killed, "survived": len(survivors),
        "score": killed / max(len(lines), 1), "reviewed": sum(bool(s["review"]) for s in survivors),
        "survivors": survivors,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(targets()))
    parser.add_argument("--out", type=Path, default=Path("runs/mutation"))
    parser.add_argument("--sample", type=int, default=0, help="only so many, drawn at random; 0: all")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    target, out = targets()[a.target], a.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{a.target}-{k}of{a.workers}.jsonl" for k in range(a.workers)]
    if a.shard is not None:
        run_shard(target, a.sample, a.shard, a.workers, files[a.shard])
        return
    command = [sys.executable, "-m", "benchmarks.mutation", a.target, "--out", str(out), "--workers", str(a.workers)]
    command += ["--sample", str(a.sample)]
    running = [subprocess.Popen([*command, "--shard", str(k)], cwd=ROOT) for k in range(a.workers)]
    failed = [process.wait() for process in running]
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    found = summary(target, a.sample, lines)
    (out / f"{a.target}.json").write_text(json.dumps(found, indent=1))
    for s in found["survivors"]:
        print(f"{s['module']}:{s['line']} {s['operator']} -> {s['becomes']}\n    {s['review'] or 'NOT REVIEWED'}")
    print(
        f"{a.target}: {found['killed']} of {found['run']} mutants killed ({100 * found['score']:.1f} %), "
        f"{found['survived']} survived, {found['reviewed']} of them reviewed"
    )
    sys.exit(int(any(failed)))


if __name__ == "__main__":
    main()

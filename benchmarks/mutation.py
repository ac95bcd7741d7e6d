"""Do the tests notice a changed line? Mutants of the limiter or the checker, by cosmic-ray's operators.

    python -m benchmarks.mutation limiter --workers 2 --out runs/mutation

Every mutant is written into a copy of the project and its tests are run there in a forked process, so the working tree
is never touched and the libraries are loaded once. Only tests that execute the changed statement are run, those first
that noticed other changes of the module in the shortest time, until one fails. Mutations inside type annotations are
left out: they are never evaluated. Runs resume. Survivors are listed with their lines; those that were reviewed and
found to mean the same, or to be harmless, are named with the reason in benchmarks/mutation_reviewed.json.

A sample (`--sample 400 --seed 3`) estimates the score; its 95 % interval is Wilson's.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REVIEWED = Path(__file__).with_name("mutation_reviewed.json")
_PRELOAD = ("torch", "numpy", "scipy.spatial", "scipy.integrate", "shapely", "jaxtyping", "hypothesis", "pytest")
_PRELOAD += ("planner.scene", "planner.fallback")  # no target imports or is imported by them
_FIRST = 8  # tests that are run before the files of all others are read
_EVERYTHING = "tests that run everything"
_NOT_A_VERDICT = (4, 5, 99)  # wrong usage, no tests, an error of our own
_MEMORY = 16 * 2**30  # bytes of address space: a mutant may ask for any amount


@dataclass(frozen=True)
class Target:
    """modules: files to mutate. tests: what has to notice. timeout (s of CPU): a longer run counts as noticed."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    timeout: float = 300.0


def chosen(name: str, modules: str, tests: list[str]) -> Target:
    """A target by name; only its modules whose path contains `modules`, noticed by `tests` alone if there are any."""
    target = targets()[name]
    part = tuple(m for m in target.modules if modules in m)
    return replace(target, modules=part, tests=tuple(tests) or target.tests)


def targets() -> dict[str, Target]:
    """What can be mutated, by name."""
    checker = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "planner" / "checker").rglob("*.py"))
    tests = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_checker*.py"))
    more = ("test_footprint.py", "test_occupancy.py", "test_giving_way.py", "test_rss.py")
    return {
        "limiter": Target(("planner/limiter.py",), ("tests/test_limiter.py",)),
        "checker": Target(tuple(checker), (*tests, *(f"tests/{name}" for name in more)), 120.0),
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


def mutants(target: Target, sample: int = 0, seed: int = 0) -> list[dict[str, Any]]:
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
    return random.Random(seed).sample(found, sample) if 0 < sample < len(found) else found


@dataclass
class Experience:
    """What is known of the tests: seconds each takes, the lines of a module it executes, the mutants it noticed."""

    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    noticed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def order(self, module: str, statement: range) -> list[str]:
        """Tests that execute a statement; all tests where it runs outside of any, on import."""
        known = self.runs.get(module, {})
        tests = set().union(*(known.get(line, set()) for line in statement)) or set(self.seconds)
        # One imagined notice for ten tests: who never noticed anything is ranked by its time alone.
        worth = {t: (self.noticed[module][t] + 0.1) / (self.seconds[t] + 0.02) for t in tests & set(self.seconds)}
        return sorted(worth, key=lambda t: (-worth[t], t))


def statement_of(source: str, line: int) -> range:
    """Lines of the innermost statement around a line; of a compound one its head."""
    best = range(line, line + 1)
    size = math.inf
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            last = max(body[0].lineno - 1, node.lineno) if body else node.end_lineno or node.lineno
            if first <= line <= last and last - first < size:
                best, size = range(first, last + 1), last - first
    return best


def run_shard(target: Target, sample: int, seed: int, shard: int, count: int, results: Path) -> None:
    """Mutants shard, shard + count, ...; one JSON line each, appended to `results`."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    done = {json.loads(line)["key"] for line in results.read_text().splitlines()} if results.exists() else set()
    todo = [m for m in mutants(target, sample, seed)[shard::count] if m["key"] not in done]
    with tempfile.TemporaryDirectory() as folder, results.open("a") as out:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns("__pycache__", ".*", "runs", "docs", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=ignored)
        shutil.copytree(ROOT / "docs", copy / "docs")  # some tests read them
        # Compiled files that are valid for their source's content only, never for its time.
        for part in ("planner", "tests"):
            compileall.compile_dir(copy / part, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        sys.dont_write_bytecode = True
        os.chdir(copy)
        sys.path[:] = [str(copy), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, copy))]
        for name in _PRELOAD:
            __import__(name)
        told = Experience()
        if _tests(target, list(target.tests), told, _EVERYTHING) != 0:
            raise SystemExit("mutation: the tests fail on the unchanged code")
        for mutant in todo:
            path = copy / mutant["module"]
            source = path.read_text()
            changed = mutate_code(source, get_operator(mutant["operator"])(**mutant["args"]), mutant["occurrence"])
            began = time.monotonic()
            tests = told.order(mutant["module"], statement_of(source, mutant["line"]))
            try:
                path.write_text(changed)
                code = 0
                for part in (tests[:_FIRST], tests[_FIRST:]):
                    code = code or (_tests(target, part, told, mutant["module"]) if part else 0)
            finally:
                path.write_text(source)
            verdict = "survived" if code == 0 else "killed"
            difference = [new for new in changed.splitlines() if new not in source.splitlines()][:3]
            line = {**mutant, "verdict": verdict, "code": code, "becomes": difference, "tests": len(tests)}
            out.write(json.dumps({**line, "seconds": round(time.monotonic() - began, 2)}) + "\n")
            out.flush()


class _Witness:
    """Pytest plugin in the forked process: runs the tests in a given order, and tells what they did through a pipe."""

    def __init__(self, order: list[str], pipe: int, coverage: Any) -> None:
        self._rank = {name: i for i, name in enumerate(order)}
        self._pipe, self._coverage = pipe, coverage

    def _tell(self, **what: Any) -> None:
        os.write(self._pipe, (json.dumps(what) + "\n").encode())

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if not self._coverage:
            items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])

    def pytest_runtest_setup(self, item: Any) -> None:
        if self._coverage:
            self._coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            self._tell(test=report.nodeid, seconds=report.duration, failed=report.failed)


def _tests(target: Target, tests: list[str], told: Experience, module: str) -> int:
    """Exit code of the tests in a forked process, -1 for a timeout; what it said about them goes into `told`."""
    listen, speak = os.pipe()
    lines = Path(tempfile.mkstemp(suffix=".json")[1])
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            # CPU time, not wall time: on a busy machine slow tests must not count as noticed.
            resource.setrlimit(resource.RLIMIT_CPU, (int(target.timeout), int(target.timeout) + 5))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            os._exit(_forked(target, tests, speak, lines if module == _EVERYTHING else None))
        os._exit(99)
    os.close(speak)
    try:
        with os.fdopen(listen) as pipe:
            said = [json.loads(line) for line in pipe]  # ends with the process, which its CPU limit ends at the latest
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code in _NOT_A_VERDICT:
            raise RuntimeError(f"mutation: pytest could not run {len(tests)} tests on {module}: exit code {code}")
        for one in said:
            if module == _EVERYTHING:
                told.seconds[one["test"]] = one["seconds"]
            elif one["failed"]:
                told.noticed[module][one["test"]] += 1
        if module == _EVERYTHING and code == 0:
            for name, found in json.loads(lines.read_text()).items():
                told.runs[name] = {int(line): set(who) for line, who in found.items()}
        return code
    finally:
        lines.unlink()


def _forked(target: Target, tests: list[str], speak: int, lines: Path | None) -> int:
    """Runs the tests; `lines`: the file into which goes which of them executes which line of the target's modules."""
    import pytest

    coverage: Any = None
    if lines:
        from coverage import Coverage

        coverage = Coverage(data_file=None, include=list(target.modules), config_file=False)
        coverage.start()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "-m", "not slow"]
    files = sorted({t.split("::")[0] for t in tests})
    code = int(pytest.main([*options, "--hypothesis-seed=0", *files], plugins=[_Witness(tests, speak, coverage)]))
    if lines:
        coverage.stop()
        data = coverage.get_data()
        found = {
            str(Path(file).relative_to(Path.cwd())): {
                line: [who for who in contexts if who] for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        lines.write_text(json.dumps(found))
    return code


def interval(good: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; everything where nothing was counted."""
    if not count:
        return 0.0, 1.0
    z, p = 1.96, good / count
    middle, half = p + z**2 / (2 * count), z * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    return (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)


def summary(target: Target, sample: int, seed: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and the survivors with the reviews there are."""
    wanted = {m["key"] for m in mutants(target, sample, seed)}
    lines = list({line["key"]: line for line in lines if line["key"] in wanted}.values())
    reviews = json.loads(REVIEWED.read_text()) if REVIEWED.exists() else {}
    survivors = [line for line in lines if line["verdict"] == "survived"]
    for line in survivors:
        line["review"] = reviews.get(line["key"], "")
    killed = len(lines) - len(survivors)
    return {
        "mutants": len(wanted), "run": len(lines), "killed": killed, "survived": len(survivors),
        "score": killed / max(len(lines), 1), "interval": interval(killed, len(lines)),
        "reviewed": sum(bool(s["review"]) for s in survivors),
        "survivors": survivors,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(targets()))
    parser.add_argument("--out", type=Path, default=Path("runs/mutation"))
    parser.add_argument("--sample", type=int, default=0, help="only so many, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--modules", default="", help="only files whose path contains this")
    parser.add_argument("--tests", nargs="*", default=[], help="only these test files have to notice")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    target, out = chosen(a.target, a.modules, a.tests), a.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{a.target}-{k}of{a.workers}.jsonl" for k in range(a.workers)]
    if a.shard is not None:
        run_shard(target, a.sample, a.seed, a.shard, a.workers, files[a.shard])
        return
    command = [sys.executable, "-m", "benchmarks.mutation", a.target, "--out", str(out), "--workers", str(a.workers)]
    command += ["--sample", str(a.sample), "--seed", str(a.seed), "--modules", a.modules, "--tests", *a.tests]
    running = [subprocess.Popen([*command, "--shard", str(k)], cwd=ROOT) for k in range(a.workers)]
    failed = [process.wait() for process in running]
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    found = summary(target, a.sample, a.seed, lines)
    (out / f"{a.target}.json").write_text(json.dumps(found, indent=1))
    for s in found["survivors"]:
        print(f"{s['module']}:{s['line']} {s['operator']} -> {s['becomes']}\n    {s['review'] or 'NOT REVIEWED'}")
    low, high = found["interval"]
    print(
        f"{a.target}: {found['killed']} of {found['run']} mutants killed ({100 * found['score']:.1f} %"
        + (f" [{100 * low:.1f}, {100 * high:.1f}]" if a.sample else "")
        + f"), {found['survived']} survived, {found['reviewed']} of them reviewed"
    )
    sys.exit(int(any(failed)))


if __name__ == "__main__":
    main()

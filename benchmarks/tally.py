"""Long counts in chunks: each finished chunk is one line of a file, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import Progress


def counted(
    total: int, chunk: int, path: Path | None, one: Callable[[int], Counter[str]], workers: int = 1
) -> Counter[str]:
    """The sum of `one(case)` over the cases 0 .. total - 1.

    path: the file of finished chunks, each a line {"first": case, "count": n, "tally": {...}}; None keeps nothing. A
    line that was cut off is computed again. workers: processes; with more than one, `one` is a function of a module.
    """
    done = _finished(path, chunk)
    tally: Counter[str] = Counter()
    for first, counts in done.items():
        tally.update(counts if first < total else {})
    left = [first for first in range(0, total, chunk) if first not in done]
    with Progress(disable=None) as progress, ProcessPoolExecutor(workers) as pool:
        bar = progress.add_task("cases", total=total, completed=total - chunk * len(left))
        jobs = (pool.submit(_chunk, one, first, min(first + chunk, total)) for first in left)
        answers = (job.result() for job in _ahead(jobs, 2 * workers)) if workers > 1 else _here(one, left, chunk, total)
        for first, counts in answers:
            tally.update(counts)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as out:
                    out.write(json.dumps({"first": first, "count": chunk, "tally": counts}) + "\n")
            progress.advance(bar, chunk)
    return tally


def _finished(path: Path | None, chunk: int) -> dict[int, dict[str, int]]:
    """The finished chunks of this size, by their first case."""
    done = {}
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["count"] == chunk:
            done[entry["first"]] = entry["tally"]
    return done


def _here(
    one: Callable[[int], Counter[str]], left: list[int], chunk: int, total: int
) -> Iterator[tuple[int, Counter[str]]]:
    return (_chunk(one, first, min(first + chunk, total)) for first in left)


def _ahead(jobs: Iterator[Future[Any]], count: int) -> Iterator[Future[Any]]:
    """The jobs in order, `count` of them begun ahead: finished ones are written down soon, none pile up."""
    waiting: deque[Future[Any]] = deque()
    for job in jobs:
        waiting.append(job)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _chunk(one: Callable[[int], Counter[str]], first: int, end: int) -> tuple[int, Counter[str]]:
    tally: Counter[str] = Counter()
    for case in range(first, end):
        tally.update(one(case))
    return first, tally


def upper_bound(count: int, of: int) -> float:
    """Upper end of the 95 % interval of a rate (Clopper-Pearson)."""
    from scipy.stats import beta

    return float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0

"""Long counts in chunks: each finished chunk is one line of a file, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress


def counted(total: int, chunk: int, path: Path | None, one: Callable[[int], Counter[str]]) -> Counter[str]:
    """The sum of `one(case)` over the cases 0 .. total - 1.

    path: the file of finished chunks, each a line {"first": case, "count": n, "tally": {...}}; None keeps nothing.
    """
    done: dict[int, dict[str, int]] = {}
    if path is not None and path.exists():
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["count"] == chunk:
                done[entry["first"]] = entry["tally"]
    total_tally: Counter[str] = Counter()
    with Progress(disable=None) as progress:
        bar = progress.add_task("cases", total=total)
        for first in range(0, total, chunk):
            if first in done:
                total_tally.update(done[first])
            else:
                tally: Counter[str] = Counter()
                for case in range(first, min(first + chunk, total)):
                    tally.update(one(case))
                total_tally.update(tally)
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("a") as out:
                        out.write(json.dumps({"first": first, "count": chunk, "tally": tally}) + "\n")
            progress.update(bar, completed=min(first + chunk, total))
    return total_tally


def upper_bound(count: int, of: int) -> float:
    """Upper end of the 95 % interval of a rate (Clopper-Pearson)."""
    from scipy.stats import beta

    return float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0

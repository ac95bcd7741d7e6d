"""Times differentiable solvers of planner programs side by side, and says how exact they are.

    python benchmarks/solver.py --json runs/solver.json --growth --memory --docs
    python benchmarks/solver.py --batch 1 16 --solvers dualdrive moreau daqp --repeats 5

The problem is described in `benchmarks/problem.py`, the solvers in `benchmarks/solvers/`, the environment in
`benchmarks/README.md`. Everything runs interleaved in this process. Read the ratios: milliseconds are this machine's.

Per solver and batch: median and quartiles of the time from the parameters to the trajectory (forward), and on to the
parameters' gradient (forward + backward); error of the positions against an independent optimum of about 1e-11; largest
violation of a limit; error of the gradient against central differences of that optimum; and what happens when one of 16
members has no solution. Native solvers have no gradient and are given finished matrices, condensed where they take
them dense; hold them against `dualdrive-kernel`, which is given a finished program.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Several thread pools that spin while they wait would slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import gradient_check, growth, infeasible, measure, problem
from benchmarks.environment import environment
from benchmarks.reference import Optimum, Reference
from benchmarks.report import console, write_documents, write_plots
from benchmarks.solvers import DEFAULT, SOLVERS

IN_TURN = 8
"""Members that a batch of one goes round."""
OWN = "dualdrive"
TORCH_THREADS = sorted({1, os.cpu_count() or 1})
"""Each solver gets the one with which it is faster."""


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    if options.render:
        result = json.loads(options.render.read_text())
    else:
        with silence():
            result = run(options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    if options.plots:
        write_plots(result, options.plots)
    if options.docs:
        write_documents(result)
    print(console(result))


@contextmanager
def silence() -> Iterator[None]:
    """Nothing of what compiled libraries print reaches the standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 128, 1024])
    parser.add_argument("--solvers", nargs="+", default=list(DEFAULT), choices=list(SOLVERS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=11, help="rounds; each solver has one block of calls in each")
    parser.add_argument("--budget", type=float, default=10.0, help="s per solver and batch")
    parser.add_argument("--gradient-members", type=int, default=128, help="members whose gradients are checked")
    parser.add_argument("--growth", action="store_true", help="also curves over horizon, rows, batch and candidates")
    parser.add_argument("--memory", action="store_true", help="also memory per problem and over many solves")
    parser.add_argument("--solves", type=int, default=100_000, help="for --memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and its plots")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing; report on an earlier run")
    return parser.parse_args(given)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements asked for, as JSON types."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(TORCH_THREADS[-1])
    begun = time.perf_counter()
    largest = max(*options.batch, IN_TURN, infeasible.BATCH)
    instance, parameters = problem.generate(largest)
    reference = Reference(instance, parameters)
    optima = reference.solve()
    say(f"reference: {largest} optima in {time.perf_counter() - begun:.1f} s")
    weight = problem.cotangent(largest, instance.horizon)
    truth = Truth(reference, optima, weight, min(options.gradient_members, largest))
    say(f"reference: gradients of {truth.differences.usable.sum()} members, {time.perf_counter() - begun:.1f} s")
    per_member: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for batch in sorted(options.batch):
        rows += compare(batch, truth, options, per_member)
        say(f"batch {batch}: {time.perf_counter() - begun:.1f} s")
    result = {"problem": statistics(instance, optima, truth), "rows": rows, "environment": environment()}
    result["infeasible"] = empty_member(truth, options)
    result["environment"]["torch_threads"] = " or ".join(map(str, TORCH_THREADS))
    if options.growth:
        result["growth"] = growth.curves([n for n in options.solvers if n in (OWN, "moreau")], TORCH_THREADS)
    if options.memory:
        result["memory"] = growth.memory(options.solves)
    result["environment"]["duration_s"] = round(time.perf_counter() - begun, 1)
    return result


class Truth:
    """The reference's optima and differences, and how far answers are from them."""

    def __init__(self, reference: Reference, optima: list[Optimum], weight: torch.Tensor, members: int) -> None:
        self.reference, self.weight = reference, weight
        self.instance, self.parameters = reference.instance, reference.parameters
        self.positions = reference.positions(optima)
        self.differences = gradient_check.differences(reference, optima, weight, members)

    def accuracy(self, contestant: measure.Contestant) -> dict[str, Any]:
        """Of the answers and gradients that the contestant gave when warming up."""
        position = torch.cat([a.positions.detach() for a in contestant.answers])
        inputs = torch.cat([a.inputs.detach() for a in contestant.answers])
        n = len(position)
        part = slice(0, n)
        error = (position - self.positions[:n]).abs().flatten(1).amax(1).nan_to_num(nan=torch.inf)
        broken = problem.violation(self.instance.members(part), self.parameters.members(part), inputs)
        refused = [a.refused for a in contestant.answers if a.refused is not None]
        claimed = ~torch.cat(refused) if refused else torch.ones(n, dtype=torch.bool)
        row: dict[str, Any] = {"members": n, "refused": int((~claimed).sum()) if refused else None}
        if bool(claimed.any()):
            row["error_max"], row["error_median"] = _number(error[claimed].max()), _number(error[claimed].median())
            row["violation_max"] = _number(broken[claimed].nan_to_num(nan=torch.inf).max())
        if contestant.gradients:
            checked = self.differences.members(n)
            gradient = tuple(torch.cat(parts) for parts in zip(*contestant.gradients))
            usable = checked.usable.clone()
            trusted = [a.trusted for a in contestant.answers if a.trusted is not None]
            if trusted:
                vouched = torch.cat(trusted)[: len(usable)]
                row["disowned"] = int((usable & ~vouched).sum())
                usable &= vouched
            row |= gradient_check.summary(checked.error(gradient), usable)
        return row


def compare(
    batch: int, truth: Truth, options: argparse.Namespace, per_member: dict[str, float]
) -> list[dict[str, Any]]:
    """One row per solver. per_member: s per member at the last batch, to skip what would take too long; updated."""
    horizon, half_planes = truth.instance.horizon, truth.parameters.offset.shape[2]
    contestants, rows = [], {}
    for name in options.solvers:
        rows[name] = {"solver": name, "batch": batch, "horizon": horizon, "half_planes": half_planes}
        expected = per_member.get(name, 0.0) * batch
        if expected > 2 * options.budget:
            slow = expected < float("inf")
            rows[name]["skipped"] = f"would take about {expected:.0f} s" if slow else "failed at a smaller batch"
            continue
        try:
            solver = SOLVERS[name](batch, horizon, half_planes)
        except ImportError as error:
            rows[name]["skipped"] = f"not installed: {error}"
            continue
        problems = IN_TURN if batch == 1 else 1
        contestant = measure.bind(name, solver, truth.instance, truth.parameters, truth.weight, problems)
        contestant.warm_up(3 * options.budget, TORCH_THREADS)
        contestants.append(contestant)
    measure.race(contestants, options.repeats, options.budget)
    for contestant in contestants:
        row = rows[contestant.name]
        if contestant.failure:
            row["skipped"] = contestant.failure
            per_member[contestant.name] = float("inf")
            continue
        row["torch_threads"] = contestant.torch_threads
        row |= measure.spread(contestant.forward, contestant.forward_cold, "forward")
        row |= measure.spread(contestant.both, contestant.both_cold, "forward_backward")
        row |= truth.accuracy(contestant)
        per_member[contestant.name] = (row.get("forward_backward_ms") or row["forward_ms"]) / 1e3 / batch
    _add_ratios(rows)
    return list(rows.values())


def _add_ratios(rows: dict[str, dict[str, Any]]) -> None:
    """How many times as long as the project's solver each takes; natives against the kernel on a finished program."""
    for row in rows.values():
        forward_base = "dualdrive-kernel" if row["solver"] in rows and not _differentiable(row["solver"]) else OWN
        for key, base in (("forward", forward_base), ("forward_backward", OWN)):
            own, other = rows.get(base, {}).get(f"{key}_ms"), row.get(f"{key}_ms")
            row[f"{key}_ratio"] = other / own if own and other else None


def _differentiable(name: str) -> bool:
    return SOLVERS[name].differentiable


def empty_member(truth: Truth, options: argparse.Namespace) -> list[dict[str, Any]]:
    """`infeasible.behaviour` of every solver."""
    part = slice(0, infeasible.BATCH)
    instance, parameters = truth.instance.members(part), truth.parameters.members(part)
    rows = []
    for name in options.solvers:
        if SOLVERS[name].same_forward_as in options.solvers:
            continue
        try:
            solver = SOLVERS[name](infeasible.BATCH, instance.horizon, parameters.offset.shape[2])
        except ImportError:
            continue
        found = infeasible.behaviour(
            solver, instance, parameters, truth.weight[part], truth.positions[part], 2 * options.budget
        )
        rows.append({"solver": name, **found})
    return rows


def statistics(instance: problem.Instance, optima: list[Optimum], truth: Truth) -> dict[str, Any]:
    """What the random members are like."""
    active = torch.tensor([float(o.active.sum()) for o in optima])
    eigenvalues = torch.linalg.eigvalsh(truth.reference.condenser.P[:64])
    quantile = lambda q: float(active.quantile(q))  # noqa: E731
    return {
        "members": len(optima), "horizon": instance.horizon, "inputs": 2 * instance.horizon,
        "one_sided_limits": len(optima[0].active),
        "active_min": quantile(0.0), "active_5": quantile(0.05), "active_median": quantile(0.5),
        "active_95": quantile(0.95), "active_max": quantile(1.0),
        "condition_number": float((eigenvalues[:, -1] / eigenvalues[:, 0]).median()),
        "gradient_members": int(truth.differences.usable.sum()), "gradient_checked": len(truth.differences.usable),
    }  # fmt: skip


def _number(value: torch.Tensor) -> float | None:
    return float(value) if bool(torch.isfinite(value)) else None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

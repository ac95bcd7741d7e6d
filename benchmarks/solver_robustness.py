"""Does the solver ever give a false verdict? Random stage programs, half of them empty, against two other solvers.

    python -m benchmarks.solver_robustness --members 10000 --json runs/robustness.json

Families: chains and trees, one to three inputs, soft rows, equations, room of 1 down to 1e-4 around a known motion.
Empty ones: one to eight limits in contradiction by 1e-4 to 10 (their own unit), so that no single limit tells.
Counted:
- solved but empty: called SOLVED where HiGHS (linear programming) or Clarabel says that no input meets the condensed
  rows. empty but not: called INFEASIBLE where a point exists by construction or by HiGHS.
- proofs: each INFEASIBLE verdict's violations taken as Farkas weights, the margin recomputed here in numpy from the raw
  data (dense, by roll-out of the condensed program; not the solver's recursion).
- largest violation of a SOLVED member's limits, divided by 1 + |limit|, recomputed from the condensed rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the folder of this file comes first, and planner.py in it would hide the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linprog
from stage_problems import TREES, batch_of, emptied, random_program

from planner.qp.backends import clarabel_backend
from planner.qp.condense import Condensed, condense
from planner.qp.problem import SolveStatus, StageProgram, StageSolution
from planner.qp.solver import SolveOptions, choose_kernel, solve

FAMILIES: dict[str, dict[str, object]] = {
    "chain": {},
    "tree": {"parent": TREES["branch"]},
    "wide tree": {"parent": TREES["many children"], "nx": 2, "m": 1},
    "two inputs": {"nx": 4, "nu": 2, "m": 3},
    "three inputs": {"nx": 4, "nu": 3, "m": 0},
    "equations": {"equations": 0.1, "soft": 0.0},
    "tight": {"room": 1e-2},
    "very tight": {"room": 1e-4},
    "long": {"parent": tuple(range(-1, 39)), "m": 1},
}
BATCH = 64


@dataclass
class Tally:
    """Counts over all members; see the module's text."""

    members: int = 0
    empty: int = 0
    solved_but_empty: int = 0
    empty_but_not: int = 0
    proofs: int = 0
    proofs_refuted: int = 0
    witnesses_disagree: int = 0
    largest_violation: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def row_limits(c: Condensed, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All limits of a member as  rows @ variables <= limit, and the flat index of each (-1: the variables' bounds)."""
    _, _, A, lower, upper, x_lower, x_upper = (t[i].numpy() for t in c.program.tensors())
    eye = np.eye(len(x_lower))
    rows, limit = np.vstack([A, -A, eye, -eye]), np.concatenate([upper, -lower, x_upper, -x_lower])
    index = np.concatenate([c.row_limit, c.row_limit, np.full(2 * len(eye), -1)])
    use = np.isfinite(limit)
    return rows[use], limit[use], index[use]


def has_point(c: Condensed, i: int) -> bool:
    """HiGHS: the least uniform excess over all limits is zero (to 1e-7, its tolerance)."""
    rows, limit, _ = row_limits(c, i)
    n = rows.shape[1]
    cost = np.append(np.zeros(n), 1.0)
    answer = linprog(
        cost,
        np.hstack([rows, -np.ones((len(rows), 1))]),
        limit,
        bounds=[(None, None)] * n + [(0, None)],
        method="highs",
    )
    assert answer.status == 0, answer.message
    return bool(answer.fun < 1e-7)


def clarabel_point(c: Condensed, i: int) -> bool | None:
    """Clarabel's word on the program: True solved, False infeasible, None neither."""
    outcome = clarabel_backend(*(t[i].numpy() for t in c.program.tensors()))[0]
    return {"solved": True, "infeasible": False}.get(outcome)


def refuted(problem: StageProgram, c: Condensed, i: int, violation: np.ndarray) -> bool:
    """The violations, as weights, do not prove the member empty when recomputed from the condensed rows."""
    n, nx, nu = problem.B.shape[1:]
    lower, upper, _ = (t[i].flatten(0).numpy() for t in problem.limits())
    w = violation.flatten()
    used = np.flatnonzero(w)
    motion = torch.cat([c.motion[i], problem.C[i] @ c.motion[i]], 1).flatten(0, 1).numpy()
    rest = torch.cat([c.rest[i], (problem.C[i] @ c.rest[i][..., None])[..., 0]], 1).flatten().numpy()
    slope = w[used] @ motion[used]
    constant = w[used] @ rest[used] - np.sum(np.where(w[used] > 0, w[used] * upper[used], w[used] * lower[used]))
    u_lower, u_upper = (t[i, :, nx : nx + nu].flatten().numpy() for t in (problem.z_lower, problem.z_upper))
    assert slope.size == n * nu
    return not constant + np.sum(np.where(slope > 0, slope * u_lower, slope * u_upper)) > 0


def examine(problem: StageProgram, empty: bool, answer: StageSolution, tally: Tally, witness: bool) -> None:
    """Add one batch to the tally. witness: ask Clarabel also where the solver agrees with the construction."""
    condensed = condense(problem)
    for i in range(problem.size[0]):
        status = SolveStatus(int(answer.status[i]))
        tally.members += 1
        tally.empty += empty
        tally.statuses[f"{'empty' if empty else 'not empty'}: {status.name}"] += 1
        said_empty, said_solved = status is SolveStatus.INFEASIBLE, status is SolveStatus.SOLVED
        point = has_point(condensed, i)
        tally.witnesses_disagree += point == empty
        second = clarabel_point(condensed, i) if witness or said_empty == point or said_solved != point else point
        tally.solved_but_empty += said_solved and (not point or second is False)
        tally.empty_but_not += said_empty and (point or not empty)
        if said_empty:
            tally.proofs += 1
            tally.proofs_refuted += refuted(problem, condensed, i, answer.violation[i].numpy())
        if said_solved:
            lower, upper, compliance = (t[i] for t in problem.limits())
            value = problem.limit_values(answer.z)[i]
            above = (value - upper - compliance * answer.dual_upper[i]) / (1 + upper.abs())
            below = (lower - compliance * answer.dual_lower[i] - value) / (1 + lower.abs())
            worst = torch.cat([above[upper.isfinite()], below[lower.isfinite()]]).amax()
            tally.largest_violation = max(tally.largest_violation, float(worst))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=BATCH, help="solved in one call; 1 takes a path of its own")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clarabel", action="store_true", help="ask Clarabel about every member, not the doubtful only"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(options.seed)
    tally = Tally()
    kernel = choose_kernel(options.backend, torch.device("cpu")).name
    k = 0
    while tally.members < options.members:
        family = FAMILIES[list(FAMILIES)[(k // 2) % len(FAMILIES)]]
        empty = k % 2 == 1
        programs = [random_program(rng, **family) for _ in range(min(options.batch, options.members - tally.members))]  # type: ignore[arg-type]
        if empty:
            programs = [emptied(rng, p, 10 ** rng.uniform(-4, 1), int(rng.integers(1, 9))) for p in programs]
        problem = batch_of(programs)
        begun = time.perf_counter()
        answer = solve(problem, SolveOptions(backend=options.backend))
        tally.seconds += time.perf_counter() - begun
        examine(problem, empty, answer, tally, options.clarabel)
        k += 1
    report = {
        "kernel": kernel, "members": tally.members, "empty": tally.empty,
        "solved_but_empty": tally.solved_but_empty, "empty_but_not": tally.empty_but_not,
        "proofs": tally.proofs, "proofs_refuted": tally.proofs_refuted,
        "witness_contradicts_construction": tally.witnesses_disagree,
        "largest_violation": tally.largest_violation, "statuses": dict(sorted(tally.statuses.items())),
        "solve_seconds": round(tally.seconds, 3),
    }  # fmt: skip
    for name, value in report.items():
        print(f"{name:34s} {value}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

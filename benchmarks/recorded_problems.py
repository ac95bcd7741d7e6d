"""Planner programs as they come up while driving, solved again by a reference: is it the same optimum?

    python benchmarks/recorded_problems.py [--count 1000] [--alone] [--reference clarabel] [--dataroot NUSCENES]

Drives generated scenarios (and, with --dataroot, annotated nuScenes scenes) with the default planner, takes the
longitudinal and the lateral programs of every candidate of cycles drawn at random, and solves them once more through
condensation with a solver that shares no code with ours. Compared are the optimal cost (relative to 1 + |cost|), the
trajectory, and the verdict.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the folder of this file comes first, and planner.py in it would hide the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.pipeline import DualDrive
from eval.simulation.generate import FAMILIES, generate
from eval.simulation.rollout import rollout
from perception.recording import Recording
from planner.plan import PlannerMemory, plan_scenes
from planner.qp.problem import SolveStatus, StageProgram, StageSolution
from planner.qp.solver import SolveOptions, solve
from planner.scene import VectorScene

AGREEMENT = 1e-6


class _Watched(DualDrive):
    """The default driver, remembering what it saw."""

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.seen: list[VectorScene] = getattr(self, "seen", [])

    def drive(self, scene: VectorScene):  # type: ignore[no-untyped-def]
        self.seen.append(scene)
        return super().drive(scene)


def recorded_scenes(dataroot: Path | None, seed: int) -> list[tuple[str, VectorScene]]:
    """Every scene of one drive per generated family, and of the annotated ones if there are any."""
    recordings = [generate(family, seed) for family in FAMILIES]
    if dataroot is not None:
        from perception.nuscenes import list_scenes, load_recording

        recordings += [load_recording(dataroot, "v1.0-mini", name) for name in list_scenes(dataroot, "v1.0-mini")]
    out = []
    for recording in track(recordings, description="driving"):
        driver = _Watched()
        rollout(recording, driver, "log_replay")
        out += [(recording.name, scene) for scene in driver.seen]
    return out


def cost(problem: StageProgram, z: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
    """``[B]``: objective at z, paid excess of soft rows included (excess = compliance * multiplier)."""
    paid = 0.5 * (problem.compliance * dual[..., z.shape[-1] :] ** 2).sum((1, 2))
    return (0.5 * (z * (problem.H @ z[..., None])[..., 0]) + problem.g * z).sum((1, 2)) + paid


def compare(scene: VectorScene, reference: str, alone: bool) -> list[dict[str, Any]]:
    """One row per program of the scene's candidates. alone: solved once more one by one, a path of its own."""
    planner = _planner()
    with torch.no_grad():
        batch = plan_scenes(scene.validate().apply(lambda t: t[None]), [PlannerMemory()], *planner)
    rows = []
    for name, program in zip(("longitudinal", "lateral"), batch.programs):
        ours, problem = program.solution, program.problem
        if alone:
            ours = one_by_one(problem)
        witness = solve(problem, SolveOptions(backend=reference))
        both = (ours.solved & witness.solved).tolist()
        mine, other = cost(problem, ours.z, ours.dual), cost(problem, witness.z, witness.dual)
        gap = (mine - other).abs() / (1 + other.abs())
        apart = (ours.z - witness.z).abs().flatten(1).amax(1)
        for i, usable in enumerate(both):
            rows.append(
                {
                    "program": name,
                    "ours": SolveStatus(int(ours.status[i])).name,
                    "reference": SolveStatus(int(witness.status[i])).name,
                    "cost_difference": float(gap[i]) if usable else None,
                    "trajectory_difference": float(apart[i]) if usable else None,
                }
            )
    return rows


def one_by_one(problem: StageProgram) -> StageSolution:
    """Every member in a call by itself."""
    parts = [
        vars(solve(problem.with_tensors([t[i : i + 1] for t in problem.tensors()]))) for i in range(len(problem.g))
    ]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "solve_time"}
    return StageSolution(**joined, solve_time=sum(part["solve_time"] for part in parts))


def _planner():  # type: ignore[no-untyped-def]
    from planner.config import PlannerConfig
    from planner.scene import VehicleParameters

    return PlannerConfig(), VehicleParameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="programs to compare")
    parser.add_argument("--reference", default="clarabel", choices=("clarabel", "daqp", "cvxpylayers"))
    parser.add_argument("--alone", action="store_true", help="each program in a call by itself")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--dataroot", type=Path, help="nuScenes root, to drive its scenes as well")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scenes = recorded_scenes(arguments.dataroot, arguments.seed)
    order = np.random.default_rng(arguments.seed).permutation(len(scenes))
    rows: list[dict[str, Any]] = []
    for index in track(order, description="comparing"):
        rows += [
            {"scenario": scenes[index][0], **row}
            for row in compare(scenes[index][1], arguments.reference, arguments.alone)
        ]
        if len(rows) >= arguments.count:
            break
    summary = summarise(rows)
    table = Table(title=f"recorded planner programs against {arguments.reference}")
    for column in ("quantity", "value"):
        table.add_column(column)
    for name, value in summary.items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"summary": summary, "rows": rows}, indent=1))


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and worst differences."""
    gaps = np.array([r["cost_difference"] for r in rows if r["cost_difference"] is not None])
    apart = np.array([r["trajectory_difference"] for r in rows if r["trajectory_difference"] is not None])
    return {
        "programs": len(rows),
        "solved by both": len(gaps),
        "solved by ours alone": sum(r["ours"] == "SOLVED" != r["reference"] for r in rows),
        "solved by the reference alone": sum(r["reference"] == "SOLVED" != r["ours"] for r in rows),
        "empty by both": sum(r["ours"] == r["reference"] == "INFEASIBLE" for r in rows),
        "cost difference, largest": float(gaps.max()),
        "cost difference within 1e-6": int((gaps <= AGREEMENT).sum()),
        "trajectory difference, median": float(np.median(apart)),
        "trajectory difference, largest": float(apart.max()),
    }


if __name__ == "__main__":
    main()

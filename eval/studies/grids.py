"""Regulation and rating grids: every cell driven by our planner and by four published reference drivers.

A cell is avoidable if somebody else's careful driver avoids it, driven in the same world and judged by the same
rectangles as ours, and unavoidable if full braking from the first moment at which the hazard shows does not. See
`eval.baselines.reference_models`, `eval.studies.physics`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.baselines.reference_drivers import Encounters, Outcome, avoided_by
from eval.baselines.reference_models import MODELS
from eval.config import RunConfig
from eval.metrics.collision import Collision, find_collisions
from eval.metrics.drive import Drive
from eval.simulation.generate.protocols import cell_name, protocol_scene
from eval.simulation.trace import Trace
from eval.studies.drives import DriveTask, Scene, drive_task, store_drive
from eval.studies.intervals import wilson
from eval.studies.physics import best_braking
from perception.recording import Recording

PROTOCOLS = {
    "r157": "UN R157 cut-in, cut-out, braking lead (ranges of asam-oss/OSC-ALKS-scenarios), re-implementation",
    "ncap": "Euro NCAP 2026 CA-FC families (ranges of vectorgrp/OSC-NCAP-scenarios), re-implementation",
}
GATE = ("CC", "FSM")
"""The reference drivers by which R157's gate goes."""
SLOW_IMPACT = 10 / 3.6  # m/s; what a rating cell may be hit with at most

Axes = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Block:
    """A family with the values of its parameters: few (the default) and all that the protocol has."""

    family: str
    coarse: Axes
    full: Axes


def _every(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(float(x) for x in np.arange(first, last + step / 2, step))


BLOCKS: dict[str, tuple[Block, ...]] = {
    "r157": (
        Block(
            "r157_cut_in",
            {"ego_kmh": (30, 60), "relative_kmh": (-20, -40), "gap": (10, 20, 40), "lateral": (1.0, 2.0)},
            {"ego_kmh": _every(20, 60, 10), "relative_kmh": _every(-50, -10, 10), "gap": _every(0, 60, 10),
             "lateral": _every(0.5, 3.0, 0.5), "side": (1, -1)},
        ),
        Block(
            "r157_cut_out",
            {"ego_kmh": (20, 40, 60), "distance": (10, 20, 40), "lateral": (1.0, 3.0)},
            {"ego_kmh": _every(5, 60, 5), "distance": _every(10, 100, 10), "lateral": _every(0.5, 3.0, 0.5)},
        ),
        Block(
            "r157_braking_lead",
            {"ego_kmh": (20, 40, 60), "deceleration": (4, 6, 8)},
            {"ego_kmh": (7.2, *_every(10, 60, 10)), "deceleration": _every(4, 8, 1)},
        ),
    ),
    "ncap": (
        Block("CCRs", {"ego_kmh": (10, 50), "overlap": (50, 100)},
              {"ego_kmh": _every(10, 50, 10), "overlap": _every(0, 100, 25)}),
        Block("CCRm", {"ego_kmh": (30, 80)}, {"ego_kmh": _every(30, 80, 10), "overlap": _every(0, 100, 25)}),
        Block("CCRb", {"ego_kmh": (30, 80)}, {"ego_kmh": _every(30, 80, 10), "overlap": _every(0, 100, 25)}),
        Block("CCFhos", {"ego_kmh": (50,), "target_kmh": (50,)},
              {"ego_kmh": _every(30, 80, 10), "target_kmh": (50, 70), "overlap": (25, 50, 75)}),
        Block("CCFtap", {"ego_kmh": (10, 20), "target_kmh": (30, 60)},
              {"ego_kmh": (10, 15, 20), "target_kmh": (30, 45, 60)}),
        Block("CCCscp", {"ego_kmh": (20, 60), "target_kmh": (20, 60)},
              {"ego_kmh": (20, 40, 60), "target_kmh": (20, 40, 60)}),
        Block("CPNA", {"ego_kmh": (20, 60), "impact": (25, 75)},
              {"ego_kmh": _every(10, 60, 10), "impact": (25, 50, 75)}),
        Block("CPNA", {"ego_kmh": (20, 60), "far": (1,)}, {"ego_kmh": _every(10, 60, 10), "far": (1,)}),
        Block("CPNCO", {"ego_kmh": (20, 40, 60)}, {"ego_kmh": _every(10, 60, 10), "impact": (25, 50, 75)}),
        Block("CPLA", {"ego_kmh": (30, 60)}, {"ego_kmh": _every(10, 60, 10), "rider": (0, 1)}),
        Block("CPLA", {"ego_kmh": (60,), "rider": (1,)}, {}),
        Block("CBNA", {"ego_kmh": (20, 60)}, {"ego_kmh": _every(10, 60, 10), "impact": (50, 75)}),
        Block("CBNA", {"ego_kmh": (60,), "far": (1,)},
              {"ego_kmh": _every(10, 60, 10), "impact": (25, 50), "far": (1,)}),
        Block("CBNAO", {"ego_kmh": (20, 60)}, {"ego_kmh": _every(10, 60, 10), "impact": (50, 75)}),
    ),
}  # fmt: skip


def cells(protocol: str, *, full: bool = False) -> Iterator[tuple[str, dict[str, float]]]:
    """(family, parameters) of every cell, those included that cannot be built. KeyError for an unknown protocol."""
    for block in BLOCKS[protocol]:
        axes = block.full if full else block.coarse
        for values in itertools.product(*axes.values()) if axes else ():
            yield block.family, dict(zip(axes, values))


def grid_tasks(protocol: str, *, full: bool = False, cell: str = "", sample: int = 0, seed: int = 0) -> list[DriveTask]:
    """One task per cell that can be built; `cell`: only the one of that name, of either size of the grid.

    sample: only so many, drawn at random; a larger sample of the same seed holds the smaller one. 0: all.
    Outside a protocol, and left out: vehicles that drive backwards or sideways, leaders that would crash first.
    Raises ValueError for a name that is not in the grid.
    """
    named = {
        cell_name(*entry): entry for size in ({True, False} if cell else {full}) for entry in cells(protocol, full=size)
    }
    if cell and cell not in named:
        near = difflib.get_close_matches(cell, named, n=1)
        raise ValueError(f"cell: {cell!r} is not in the grid {protocol}" + (f"; nearest: {near[0]}" if near else ""))
    tasks = []
    for name, (family, parameters) in named.items():
        if cell in ("", name) and _can_be_built(family, parameters):
            facts = {"name": name, "protocol": protocol, "family": family, "parameters": parameters}
            tasks.append(DriveTask(name, Scene("protocol", family, tuple(parameters.items())), facts=facts))
    if not sample:
        return tasks
    drawn = np.random.default_rng(seed).permutation(len(tasks))[:sample]
    return [tasks[i] for i in drawn]


def cell_scene(name: str) -> Scene:
    """The scene of a cell of either grid. Raises ValueError for a name that is in none."""
    for protocol in PROTOCOLS:
        for family, parameters in (*cells(protocol), *cells(protocol, full=True)):
            if cell_name(family, parameters) == name:
                return Scene("protocol", family, tuple(parameters.items()))
    raise ValueError(f"cell: {name!r} is in no grid")


def _can_be_built(family: str, parameters: dict[str, float]) -> bool:
    try:
        protocol_scene(family, parameters)
    except ValueError:
        return False
    return True


def drive_cell(
    task: DriveTask, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path
) -> dict[str, Any]:
    """Drive one cell and set it beside the reference drivers; the work of the study."""
    recording, trace = drive_task(task, config, progress)
    facts = judge_cell(recording, trace)
    bad = facts["collided"]
    facts["note"] = f"hit at {3.6 * facts['impact_speed']:.0f} km/h" if bad else f"gap {facts['smallest_gap']:.1f} m"
    return store_drive(task, recording, trace, run_dir, notable=bad or facts["smallest_gap"] < 0.5, facts=facts)


def judge_cell(recording: Recording, trace: Trace) -> dict[str, Any]:
    """Ours against the reference drivers and physics. Being run into from behind or while standing is not held against
    ego; everything else is, whoever is to blame."""
    hazard = recording.metadata["hazard"]
    contacts = _own_hits(Drive(trace, recording))
    own = contacts[0] if contacts else None
    best = best_braking(recording, hazard["track_id"], hazard["onset"])
    facts: dict[str, Any] = {
        "collided": own is not None,
        "kind": own.kind if own else "",
        "impact_speed": _closing(trace, own.track_id, own.step) if own else 0.0,
        "smallest_gap": float(trace.min_gap.min()),
        "hardest_braking": float(-trace.a.min()),
        "without_tail": int((~trace.tail_accepted).sum()),
        "unavoidable_by_braking": best.unavoidable,
        "best_impact_speed": best.impact_speed,
        "noticed": best.noticed,
    }
    if hazard["models"]:
        encounter = Encounters.of_recording(recording, hazard["track_id"], hazard["onset"], hazard["in_lane"])
        outcomes = avoided_by(encounter)
        facts["avoided_by"] = {name: not bool(o.collided[0]) for name, o in outcomes.items()}
        facts["hit_here_by"] = [name for name, o in outcomes.items() if _own_hits(_driven_as(recording, trace, o))]
        facts["reference_impact"] = {name: float(o.impact_speed[0]) for name, o in outcomes.items()}
    return facts


def _own_hits(drive: Drive) -> list[Collision]:
    """All contacts but those from behind and with a standing ego."""
    return [c for c in find_collisions(drive) if c.kind not in ("rear", "ego_stopped")]


def _driven_as(recording: Recording, trace: Trace, outcome: Outcome) -> Drive:
    """The drive with a reference driver in ego's place, in the middle of its lane."""
    x, y, yaw = recording.ego.pose[0]
    steps = len(trace.time)
    along = outcome.position[0, :steps] - recording.vehicle.rear_axle_to_center
    pose = np.stack([x + along * np.cos(yaw), y + along * np.sin(yaw), np.full(steps, yaw)], -1)
    return Drive(replace(trace, pose=pose, v=outcome.v[0, :steps]), recording)


def _closing(trace: Trace, track_id: int, step: int) -> float:
    """Ego's speed relative to the other along ego's heading (m/s) at a step, at least 0."""
    other = int(np.flatnonzero(trace.track_id == track_id)[0])
    yaw = trace.pose[step, 2]
    along = trace.agent_velocity[other, step] @ np.array([np.cos(yaw), np.sin(yaw)])
    return max(float(trace.v[step] - along), 0.0)


def summarise(protocol: str, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per family, and one over all: cells, ours and the reference drivers' avoided ones, the gate's violations.

    The gate: r157: no collision where CC or FSM avoids one (`violates`); published: where their published outcome, by
    rectangles along the lane, says that they do. ncap: avoided, or hit with at most 10 km/h, or not avoidable by
    braking.
    """
    rows = []
    for family in [*dict.fromkeys(f["family"] for f in facts), "all"]:
        chosen = [f for f in facts if family in ("all", f["family"])]
        hits = [f for f in chosen if f["collided"]]
        defined = [f for f in chosen if "avoided_by" in f]
        row: dict[str, Any] = {
            "family": family,
            "cells": len(chosen),
            "avoided": len(chosen) - len(hits),
            "interval": wilson(len(chosen) - len(hits), len(chosen)),
            "unavoidable": sum(f["unavoidable_by_braking"] for f in chosen),
            "worst_impact_kmh": 3.6 * max((f["impact_speed"] for f in hits), default=0.0),
            "violations": [f["name"] for f in chosen if violates(protocol, f)],
            "published": [f["name"] for f in hits if any(f.get("avoided_by", {}).get(name) for name in GATE)],
        }
        for name in MODELS:
            row[name] = sum(f["avoided_by"][name] for f in defined) if defined else None
            row[f"{name}_here"] = sum(_avoids_here(f, name) for f in defined) if defined else None
        row["defined"] = len(defined)
        rows.append(row)
    return rows


def violates(protocol: str, facts: dict[str, Any]) -> bool:
    """Whether a cell breaks its protocol's gate; see `summarise`."""
    if not facts["collided"]:
        return False
    if protocol == "r157":
        return any(_avoids_here(facts, name) for name in GATE)
    return facts["impact_speed"] > SLOW_IMPACT and not facts["unavoidable_by_braking"]


def _avoids_here(facts: dict[str, Any], model: str) -> bool:
    """Whether a reference driver in ego's place, judged like ours, avoids the cell."""
    return model not in facts["hit_here_by"]

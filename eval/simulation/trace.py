"""The record of one closed-loop drive: what metrics, reports and traces on disk are made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

TRACE_SCHEMA = 1


@dataclass
class Trace:
    """``T`` simulation steps of one scenario, one planner, one kind of traffic. Global frame, SI.

    time ``[T]`` s. Ego (rear axle), driven, not planned: pose ``[T, 3]``, v, a, curvature,
    yaw_rate ``[T]``. Agents: track_id, agent_class ``[N]``, size ``[N, 2]``, pose ``[N, T, 3]``,
    velocity ``[N, T, 2]``, valid ``[N, T]``.
    source ``T`` strings: what was driven ("candidate", "tail", "braking", "baseline", "replay");
    reason: why, empty for the normal case. tail_accepted ``[T]`` bool: the driven plan carried a
    checker-accepted tail. cycle_ms, solve_ms, check_ms ``[T]``: planner cycle (everything from
    scene to supervised plan), time inside the solver, time inside the checker.
    min_gap ``[T]`` m: smallest distance from the ego box to any agent box (inf if none).
    steps: ``T`` dictionaries for pictures, see `docs/trace.md`.
    """

    scenario: str
    planner: str
    traffic: str
    seed: int
    time: np.ndarray
    pose: np.ndarray
    v: np.ndarray
    a: np.ndarray
    curvature: np.ndarray
    yaw_rate: np.ndarray
    track_id: np.ndarray
    agent_class: np.ndarray
    size: np.ndarray
    agent_pose: np.ndarray
    agent_velocity: np.ndarray
    agent_valid: np.ndarray
    source: list[str]
    reason: list[str]
    tail_accepted: np.ndarray
    cycle_ms: np.ndarray
    solve_ms: np.ndarray
    check_ms: np.ndarray
    min_gap: np.ndarray
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def dt(self) -> float:
        return float(self.time[1] - self.time[0])

    def state_hash(self) -> str:
        """SHA-256 over everything that the simulation determines; times of computation are left out."""
        digest = hashlib.sha256()
        for name in _STATE_ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        digest.update("\n".join(self.source).encode())
        return digest.hexdigest()

    def save(self, path: Path) -> Path:
        """Write as compressed npz under its final name only when complete."""
        partial = path.with_name(path.name + ".tmp")
        arrays = {name: getattr(self, name) for name in (*_STATE_ARRAYS, *_TIMING_ARRAYS)}
        meta = {
            name: getattr(self, name)
            for name in ("scenario", "planner", "traffic", "seed", "source", "reason", "steps")
        }
        with open(partial, "wb") as file:
            np.savez_compressed(file, meta=json.dumps({"schema": TRACE_SCHEMA, **meta}), **arrays)
        return partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Inverse of `save`. Raises ValueError on another schema version."""
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            if (schema := meta.pop("schema", None)) != TRACE_SCHEMA:
                raise ValueError(f"{path}: trace schema {schema}, expected {TRACE_SCHEMA}")
            return cls(**meta, **{name: stored[name] for name in (*_STATE_ARRAYS, *_TIMING_ARRAYS)})


_STATE_ARRAYS = (
    "time", "pose", "v", "a", "curvature", "yaw_rate", "track_id", "agent_class", "size",
    "agent_pose", "agent_velocity", "agent_valid", "tail_accepted", "min_gap",
)  # fmt: skip
_TIMING_ARRAYS = ("cycle_ms", "solve_ms", "check_ms")

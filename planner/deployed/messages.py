"""Scenes and plans as bytes and back, strictly: whatever the bytes are, the outcome is data or a ValueError.

No pickle: bytes from a process that may be broken must not be able to do anything. A message is a JSON head (name,
dtype, shape of every array, and plain values) followed by the arrays' raw bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from planner.result import ActiveRow, Candidate, Certificate, PlanResult, PlanStatus, RowLabel
from planner.scene import Trajectory, VectorScene

_LENGTH = struct.Struct("<I")
_DTYPES = {np.dtype(t).str for t in ("f8", "f4", "i8", "i4", "bool")}
_COLUMNS = ("time", "x", "y", "yaw", "v", "a", "curvature")
CANDIDATES_MAX = 64


def pack(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Plain values (JSON) and arrays as bytes."""
    flat = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    head = json.dumps({"values": values, "arrays": [[n, a.dtype.str, a.shape] for n, a in flat.items()]}).encode()
    return b"".join([_LENGTH.pack(len(head)), head, *(a.tobytes() for a in flat.values())])


def unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Inverse of `pack`. Raises ValueError for anything that `pack` cannot have written."""
    try:
        size = _LENGTH.unpack_from(payload)[0]
        head = json.loads(payload[_LENGTH.size : _LENGTH.size + size].decode())
        values, listed = head["values"], head["arrays"]
        if not isinstance(values, dict) or not isinstance(listed, list):
            raise ValueError("message: expected values and arrays")
        at, arrays = _LENGTH.size + size, {}
        for name, dtype, shape in listed:
            if dtype not in _DTYPES or not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
                raise ValueError(f"message: expected numbers of a known type, got {dtype} {shape}")
            count = math.prod(shape)
            length = count * np.dtype(dtype).itemsize
            if at + length > len(payload):
                raise ValueError(f"message: array {name} ends {at + length - len(payload)} bytes after the message")
            arrays[str(name)] = np.frombuffer(payload, dtype, count, at).reshape(shape).copy()
            at += length
        if at != len(payload):
            raise ValueError(f"message: {len(payload) - at} bytes left over")
    except ValueError:
        raise
    except Exception as error:  # struct, JSON, unpacking, recursion: all the same here
        raise ValueError(f"message: {type(error).__name__}: {error}") from error
    return values, arrays


def scene_to_bytes(scene: VectorScene, values: Mapping[str, Any]) -> bytes:
    """A scene and plain values beside it."""
    stored = scene.to_arrays()
    texts = {name: str(a) for name, a in stored.items() if a.dtype.kind == "U"}
    return pack({**values, "texts": texts}, {name: a for name, a in stored.items() if name not in texts})


def scene_from_bytes(payload: bytes) -> tuple[VectorScene, dict[str, Any]]:
    """Inverse of `scene_to_bytes`. Raises ValueError or TypeError, also for a scene that does not validate."""
    values, arrays = unpack(payload)
    texts = values.pop("texts", {})
    return VectorScene.from_arrays({**arrays, **{name: np.array(text) for name, text in texts.items()}}), values


def plan_to_bytes(plan: PlanResult) -> bytes:
    """What the supervisor and the pictures need of a plan: all candidates, the certificate of the first one."""
    arrays: dict[str, np.ndarray] = {"reference_xy": plan.reference_xy.detach().double().numpy()}
    heads = []
    for i, c in enumerate(plan.candidates[:CANDIDATES_MAX]):
        solved = c.status is PlanStatus.SOLVED and c.trajectory is not None and c.tail is not None
        cost = None if c.cost is None else float(c.cost)
        heads.append([c.decision, c.kind, str(c.status), cost, _certificate(c) if solved and i == 0 else None])
        if solved:
            for name, motion in (("trajectory", c.trajectory), ("tail", c.tail)):
                arrays[f"{name}{i}"] = np.stack([getattr(motion, n).detach().double().numpy() for n in _COLUMNS])
    values = {
        "kind": "plan", "status": str(plan.status), "candidates": heads, "explanation": plan.explanation,
        "notes": list(plan.notes), "solve_time": plan.solve_time, "total_time": plan.total_time,
    }  # fmt: skip
    return pack(values, arrays)


def plan_from_bytes(payload: bytes) -> PlanResult:
    """Inverse of `plan_to_bytes`. Raises ValueError for anything else; what the numbers are worth is the checker's
    matter. An error that the planner reported is raised as RuntimeError with its text.
    """
    values, arrays = unpack(payload)
    try:
        if values.get("kind") == "error":
            raise RuntimeError(str(values.get("error"))[:500])
        if values["kind"] != "plan" or len(values["candidates"]) > CANDIDATES_MAX:
            raise ValueError("message: expected a plan")
        candidates = [_candidate(i, head, arrays) for i, head in enumerate(values["candidates"])]
        return PlanResult(
            PlanStatus(values["status"]), candidates, torch.from_numpy(_shaped(arrays["reference_xy"], 2)),
            float(values["solve_time"]), float(values["total_time"]), str(values["explanation"]),
            [str(note) for note in values["notes"]],
        )  # fmt: skip
    except (ValueError, RuntimeError):
        raise
    except Exception as error:
        raise ValueError(f"message: {type(error).__name__}: {error}") from error


def _candidate(i: int, head: list[Any], arrays: Mapping[str, np.ndarray]) -> Candidate:
    decision, kind, status, cost, certificate = head
    trajectory, tail = (
        Trajectory(*(torch.from_numpy(row.copy()) for row in _shaped(arrays[f"{name}{i}"], 2, len(_COLUMNS))))
        if f"{name}{i}" in arrays
        else None
        for name in ("trajectory", "tail")
    )
    return Candidate(
        str(decision), str(kind), {}, PlanStatus(status), None if cost is None else float(cost), trajectory, tail,
        certificate=None if certificate is None else _read_certificate(certificate),
    )  # fmt: skip


def _shaped(array: np.ndarray, axes: int, rows: int | None = None) -> np.ndarray:
    if array.ndim != axes or array.dtype != np.float64 or (rows is not None and len(array) != rows):
        raise ValueError(f"message: expected {axes} axes of float64, got {array.dtype} {array.shape}")
    return array


def _certificate(candidate: Candidate) -> list[Any] | None:
    c = candidate.certificate
    if c is None:
        return None
    label = lambda row: [row.rule, int(row.track_id), float(row.time)]  # noqa: E731
    rows = [[label(r.label), float(r.margin), float(r.dual)] for r in c.active]
    numbers = [float(n) for n in (c.primal_residual, c.dual_residual, c.gap, c.worst_margin)]
    return [numbers, label(c.worst), rows]


def _read_certificate(stored: list[Any]) -> Certificate:
    (primal, dual, gap, margin), worst, rows = stored
    label = lambda r: RowLabel(str(r[0]), int(r[1]), float(r[2]))  # noqa: E731
    active = tuple(ActiveRow(label(r[0]), float(r[1]), float(r[2])) for r in rows)
    return Certificate(float(primal), float(dual), float(gap), label(worst), float(margin), active)

"""Numbers for the page: nested values whose arrays travel as compressed binary, not as decimal text.

A packed value is ``deflate(uint32 header length | header JSON | padding | arrays)`` in base64. In the
header an array is ``{"@": [offset, rows, columns, dtype, step]}``: dtype "f4" as it is, "i2"/"i4" column
by column as differences of neighbouring rows, of the numbers divided by `step` (motion is smooth, so
the differences are small and compress well). `assets/codec.js` is the inverse; it yields flat arrays,
row by row.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Quantised:
    """Finite numbers ``[rows]`` or ``[rows, ...]``, stored to the nearest multiple of `step`.

    Neighbouring rows should be alike (times, points along a line); the other axes are independent columns.
    """

    values: np.ndarray
    step: float


def pack(value: Any) -> str:
    """Encode nested dicts, lists, strings, numbers, `np.ndarray` (as float32, NaN kept) and `Quantised`.

    Raises ValueError where a quantised array is not finite or does not fit 31 bits.
    """
    buffers: list[bytes] = []
    size = 0

    def store(rows: int, columns: int, dtype: str, step: float, data: bytes) -> dict[str, list[Any]]:
        nonlocal size
        reference = {"@": [size, rows, columns, dtype, step]}
        padded = data + b"\0" * (-len(data) % 4)
        buffers.append(padded)
        size += len(padded)
        return reference

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): walk(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [walk(entry) for entry in item]
        if isinstance(item, Quantised):
            return store(*_differences(item))
        if isinstance(item, np.ndarray):
            return store(item.size, 1, "f4", 1.0, np.ascontiguousarray(item, "<f4").tobytes())
        if isinstance(item, np.generic):
            item = item.item()
        return None if isinstance(item, float) and not np.isfinite(item) else item

    header = json.dumps(walk(value), separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 4)
    return base64.b64encode(zlib.compress(b"".join([struct.pack("<I", len(header)), header, *buffers]), 9)).decode()


def _differences(item: Quantised) -> tuple[int, int, str, float, bytes]:
    """(rows, columns, dtype, step, bytes) of the differences along the first axis."""
    values = np.asarray(item.values, float)
    if not np.isfinite(values).all():
        raise ValueError("pack: a quantised array must be finite")
    rows = len(values)
    columns = int(np.prod(values.shape[1:], dtype=int))
    whole = np.round(values / item.step).reshape(rows, columns)
    if whole.size and np.abs(whole).max() >= 2**30:
        raise ValueError(f"pack: {np.abs(values).max():g} does not fit 31 bits in steps of {item.step:g}")
    steps = np.diff(whole.astype(np.int64), axis=0, prepend=np.zeros((1, columns), np.int64)).T
    dtype = "<i2" if not steps.size or np.abs(steps).max() < 2**15 else "<i4"
    return rows, columns, dtype[1:], item.step, np.ascontiguousarray(steps, dtype).tobytes()

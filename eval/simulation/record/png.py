"""Grey pictures row by row: maps of square kilometres do not fit into memory at once."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_grey_png(path: Path, width: int, height: int, bands: Iterable[np.ndarray]) -> None:
    """Write an 8-bit grey PNG from bands of rows ``[n, width]`` uint8, from top to bottom; complete or not at all.

    Raises ValueError where the bands do not make up the height.
    """
    part = path.with_name(path.name + ".part")
    packer, rows = zlib.compressobj(1), 0
    try:
        with open(part, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            for band in bands:
                if band.dtype != np.uint8 or band.ndim != 2 or band.shape[1] != width:
                    raise ValueError(f"png: expected rows of {width} uint8, got {band.shape} {band.dtype}")
                rows += len(band)
                # Each row begins with the number of its filter: none.
                data = packer.compress(np.pad(band, ((0, 0), (1, 0))).tobytes())
                if data:
                    _chunk(file, b"IDAT", data)
            if rows != height:
                raise ValueError(f"png: expected {height} rows, got {rows}")
            _chunk(file, b"IDAT", packer.flush())
            _chunk(file, b"IEND", b"")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _chunk(file, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

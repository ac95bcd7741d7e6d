"""Sensor files as nuScenes keeps them, written complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from perception.nuscenes_tables import DatasetError
from perception.sensor_frame import LidarSweep


def write_sweep(path: Path, sweep: LidarSweep, keep_misses: bool = True) -> None:
    """`.pcd.bin`: x, y, z (m, sensor frame), intensity (0 to 255), ring; five float32 a point."""
    rows = np.c_[sweep.points, sweep.intensity, sweep.ring].astype(np.float32)
    if not keep_misses:
        rows = rows[sweep.returned(closest=0.1)]
    _write(path, rows.tobytes())


def write_image(path: Path, image: np.ndarray, quality: int, size: tuple[int, int] | None = None) -> None:
    """JPEG of ``[H, W, 3]`` uint8; size: height, width to stretch it to. Raises DatasetError where pillow is absent."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetError(f"pillow cannot be imported: {error}", 'pip install "dualdrive[nuscenes]"') from error
    import io

    picture = Image.fromarray(image)
    if size is not None and size != image.shape[:2]:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, subsampling=0)  # small images: colours keep their edges
    _write(path, data.getvalue())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

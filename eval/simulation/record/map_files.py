"""Map files of a data set: expansion, drivable mask, base map; one of each per location."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from shapely.geometry.base import BaseGeometry

from eval.run.store import write_atomic
from eval.simulation.record.map_layers import Layers, drivable_area, joined
from eval.simulation.record.png import write_grey_png
from eval.simulation.record.towns import MARGIN
from eval.simulation.sensing.raster import rastered

MASK_NAME = {
    "singapore-onenorth": "53992ee3023e5494b90c316c183be829",
    "singapore-hollandvillage": "37819e65e09e5547b8a3ceaefba56bb2",
    "singapore-queenstown": "93406b464a165eaba6d9de76ca09f5da",
    "boston-seaport": "36092f0b03a857c6a3403e25b4b7aab3",
}
"""File names that the devkit has built in for the masks of its four locations."""
PIXELS_PER_METRE = {"mask": 10, "basemap": 1}
_BAND = 512  # rows written at a time


def write_maps(root: Path, location: str, parts: list[Layers]) -> str:
    """Expansion 1.3, mask (10 pixels a metre, 255 on drivable ground) and base map of the towns of one location.

    Returns the mask's name below the root. Memory does not grow with the number of towns.
    """
    areas = [drivable_area(part) for part in parts]
    edge = np.array([area.bounds[2:] for area in areas]).max(0) + MARGIN
    canvas = (float(np.ceil(edge[0])), float(np.ceil(edge[1])))
    (root / "maps" / "expansion").mkdir(parents=True, exist_ok=True)
    (root / "maps" / "basemap").mkdir(parents=True, exist_ok=True)
    write_atomic(root / "maps" / "expansion" / f"{location}.json", json.dumps(joined(parts, canvas)))
    mask = f"maps/{MASK_NAME[location]}.png"
    for name, scale, values in ((mask, PIXELS_PER_METRE["mask"], (0, 255)),
                                (f"maps/basemap/{location}.png", PIXELS_PER_METRE["basemap"], (235, 150))):  # fmt: skip
        width, height = int(canvas[0] * scale), int(canvas[1] * scale)
        write_grey_png(root / name, width, height, _bands(areas, width, height, scale, values))
    return mask


def _bands(
    areas: list[BaseGeometry], width: int, height: int, scale: int, values: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Rows from the top (largest y) down; values: off and on the areas."""
    bounds = [area.bounds for area in areas]
    for top in range(height, 0, -_BAND):
        rows = min(_BAND, top)
        low, high = (top - rows) / scale, top / scale
        band = np.full((rows, width), values[0], dtype=np.uint8)
        for area, (x0, y0, x1, y1) in zip(areas, bounds):
            if y1 < low or y0 > high:
                continue
            first, last = max(int(x0 * scale) - 1, 0), min(int(x1 * scale) + 2, width)
            corner, cells = np.array([first / scale, low]), np.array([last - first, rows])
            inside = rastered(area, corner, cells, 1 / scale)
            band[:, first:last][inside.T[::-1]] = values[1]
        yield band

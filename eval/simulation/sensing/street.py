"""The painted ground: a picture of the street from above, seen by cameras at any distance.

Reflectance and still shadows are drawn once per recording; coarser copies (mip maps, Williams 1983) keep far
ground free of flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from eval.simulation.lidar_solids import Material, Solids
from eval.simulation.sensing.conditions import FAINT, Conditions
from eval.simulation.sensing.lane_paint import Painted
from eval.simulation.sensing.raster import rastered
from perception.recording import Recording

CELL = 0.125
"""Width (m) of the finest cells: a lane line is about one cell wide."""
LEVELS = 6
REACH = 75.0
"""m around the ego's way that are drawn."""
PAVEMENT = 2.6
"""m of pavement beside the kerb."""


@dataclass(frozen=True)
class Street:
    """The picture at all its levels.

    low ``[2]``: its corner (m, global frame). size ``[L, 2]``: cells of each level; begin ``[L]``: where they begin
    in colour ``[K, 3]`` uint8 (reflectance x 255, still shadows included). shaded ``[X, Y]`` bool: which cells of 0.5 m
    lie in the shadow of what stands still. beyond ``[3]``: reflectance outside the picture.
    """

    low: np.ndarray
    size: np.ndarray
    begin: np.ndarray
    colour: np.ndarray
    shaded: np.ndarray
    beyond: np.ndarray

    def at(self, xy: np.ndarray, width: np.ndarray) -> np.ndarray:
        """Colour ``[N, 3]`` uint8 of ground at ``[N, 2]`` (m from `low`) where a pixel is `width` ``[N]`` m wide."""
        level = np.rint(np.log2(np.maximum(width / CELL, 1.0))).astype(np.int32).clip(0, LEVELS - 1)
        cell = (xy / np.float32(CELL)).astype(np.int32)
        inside = ((cell >= 0) & (cell < self.size[0])).all(1) & (xy >= 0).all(1)
        cell = np.minimum(np.where(inside[:, None], cell, 0) >> level[:, None], self.size[level] - 1)
        found = self.colour[self.begin[level] + cell[:, 0] * self.size[level, 1] + cell[:, 1]]
        found[~inside] = self.beyond
        return found

    def shade(self, xy: np.ndarray) -> np.ndarray:
        """``[N]`` bool: which global points ``[N, 2]`` of the ground lie in a still shadow."""
        cell = np.floor((xy - self.low) / (4 * CELL)).astype(int)
        inside = ((cell >= 0) & (cell < self.shaded.shape)).all(1)
        cell = np.where(inside[:, None], cell, 0)
        return inside & self.shaded[cell[:, 0], cell[:, 1]]


def draw_street(
    recording: Recording, still: Solids, paint: Painted, light: Conditions, rng: np.random.Generator
) -> Street:
    """The ground around the recording's way. still: what casts shadows that stay."""
    way = recording.ego.pose[:, :2]
    low, high = way.min(0) - REACH, way.max(0) + REACH
    step = 2 ** (LEVELS - 1)
    cells = (np.ceil((high - low) / CELL / step) * step).astype(int)
    window = shapely.box(*low, *(low + cells * CELL))
    drivable = shapely.intersection(recording.road.drivable, window).buffer(0)

    def mask(area: BaseGeometry) -> np.ndarray:
        return rastered(area, low, cells, CELL)

    palette, code = _surface(rng, drivable, mask)
    for area, colour in paint:
        code[mask(area)] = len(palette)
        palette.append(colour)
    grain = _grain(rng)
    across = [np.arange(n) % len(grain) for n in cells]
    worn = grain[across[0][:, None], across[1][None]]
    colour = np.clip(np.array(palette) * (1.0 - 0.35 * light.wetness), 0, 1)
    picture = (colour * 255).astype(np.uint16)[code]
    picture *= worn[..., None]
    picture >>= 7
    shaded = mask(_shadows(still, light, window)) if max(light.sun) > FAINT else np.zeros(cells, dtype=bool)
    dark = np.rint(256 * _left_in_shadow(light)).astype(np.uint16)
    picture[shaded] = (picture[shaded] * dark) >> 8
    levels = _levels(np.minimum(picture, 255).astype(np.uint8))
    size = np.array([level.shape[:2] for level in levels])
    return Street(
        low=low,
        size=size,
        begin=np.concatenate([[0], np.cumsum(size.prod(1))[:-1]]),
        colour=np.concatenate([level.reshape(-1, 3) for level in levels]),
        shaded=shaded[2::4, 2::4],
        beyond=(255 * np.array(palette[0]) * 0.9).astype(np.uint8),
    )


def _left_in_shadow(light: Conditions) -> np.ndarray:
    """``[3]``: light on shaded ground as a share of that on sunlit ground."""
    sky = np.array(light.sky)
    return sky / (sky + np.array(light.sun) * light.to_sun[2])


def _surface(rng: np.random.Generator, drivable: BaseGeometry, mask) -> tuple[list[np.ndarray], np.ndarray]:
    """Palette (linear RGB rows) and ``[X, Y]`` index into it: grass or paving, pavement, kerb, road."""
    asphalt = rng.uniform(0.07, 0.20) * rng.uniform(0.95, 1.05, 3)
    pavement = rng.uniform(0.22, 0.42) * rng.uniform(0.92, 1.08, 3)
    grass = np.array([0.11, 0.14, 0.07]) * rng.uniform(0.7, 1.3, 3)
    paving = rng.uniform(0.15, 0.35) * rng.uniform(0.9, 1.1, 3)
    soil = np.array([0.2, 0.15, 0.1]) * rng.uniform(0.7, 1.2, 3)
    palette = [grass if rng.uniform() < 0.6 else paving, soil, pavement, np.full(3, 0.45), asphalt, asphalt]
    kerb_is_striped = rng.uniform() < 0.3
    palette.append(np.full(3, 0.04) if kerb_is_striped else palette[3] * 0.9)
    palette[5] = asphalt * rng.uniform(0.75, 0.95)  # patches of newer road
    road = mask(drivable)
    code = np.zeros(road.shape, dtype=np.uint8)
    patch = _blotches(rng, road.shape)
    code[patch > 0.72] = 1
    code[mask(drivable.buffer(PAVEMENT))] = 2
    kerb = mask(drivable.buffer(0.25))
    code[kerb] = 3
    x, y = (np.arange(n) for n in road.shape)
    code[kerb & ((x[:, None] // 8 + y[None] // 8) % 2 == 0)] = 6
    code[road] = 4
    code[road & (patch < 0.22)] = 5
    return palette, code


def _blotches(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """``[X, Y]`` evenly distributed in (0, 1), in smooth blotches of some 8 m."""
    coarse = rng.random((shape[0] // 64 + 3, shape[1] // 64 + 3)).astype(np.float32)
    for axis in (0, 1):
        position = np.arange(shape[axis], dtype=np.float32) / 64
        index, part = position.astype(int), position % 1
        part = (part * part * (3 - 2 * part)).reshape((-1, 1) if axis == 0 else (1, -1))
        coarse = np.take(coarse, index, axis) * (1 - part) + np.take(coarse, index + 1, axis) * part
    return coarse


def _grain(rng: np.random.Generator) -> np.ndarray:
    """``[512, 512]`` uint16 around 128: brightness of a worn surface, repeatable side by side."""
    field = np.zeros((512, 512), dtype=np.float32)
    for cells, weight in ((512, 0.07), (64, 0.06), (8, 0.08)):
        noise = rng.standard_normal((cells, cells)).astype(np.float32)
        field += weight * np.kron(noise, np.ones((512 // cells, 512 // cells), dtype=np.float32))
    return np.clip(128 * (1 + field), 64, 192).astype(np.uint16)


def _shadows(still: Solids, light: Conditions, window: BaseGeometry) -> BaseGeometry:
    """Ground in the shadow of upright boxes: the hull of bottom and top, moved along the sun's rays."""
    casting = still[(still.top > 1.0) & (still.material != Material.KERB)]
    if not len(casting):
        return shapely.Polygon()
    c, s = np.cos(casting.yaw)[:, None], np.sin(casting.yaw)[:, None]
    local = casting.half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    corner = casting.centre[:, None] + np.stack(
        [c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]], -1
    )
    away = -np.array(light.to_sun[:2]) / light.to_sun[2]
    ends = [corner + np.maximum(z, 0.0)[:, None, None] * away for z in (casting.bottom, casting.top)]
    hulls = shapely.convex_hull(shapely.multipoints(np.concatenate(ends, 1)))
    return shapely.intersection(shapely.union_all(hulls), window).buffer(0)


def _levels(finest: np.ndarray) -> list[np.ndarray]:
    """The picture and its halvings; each cell of a level is the mean of four of the level before."""
    out = [finest]
    for _ in range(LEVELS - 1):
        last = out[-1].astype(np.uint16)
        out.append(((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2] + 2) >> 2).astype(np.uint8))
    return out

"""The still world a LiDAR sees beside a road: ground, kerbs, walls, poles, trees, bushes; drawn from a seed.

A road map knows where the drivable area ends and nothing of what stands beyond. Kerbs follow its edge; everything else
is invented, always outside the drivable area and clear of everybody in the recording.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from eval.simulation.lidar_solids import Material, Solids
from eval.simulation.sensing.lane_paint import Painted, lane_paint
from eval.simulation.sensing.raster import rastered
from perception.recording import Recording

CELL = 0.25
"""Width (m) of the cells in which the drivable area is rastered."""
PAINT_CELL = 0.125
"""Width (m) of the cells in which paint is rastered: a lane line is about one cell wide."""
ASPHALT, PAVEMENT = 0.10, 0.16
"""Reflectivity for near infrared of what is not painted."""


@dataclass(frozen=True)
class SurroundingsConfig:
    """SI units. kerb: height of the pavement above the road. relief: amplitude of the ground's long waves.

    reach: how far from the ego's way anything is drawn. walls: rows of house fronts, each (least, most distance from
    the edge of the drivable area, share of the row that is there, least, most height). plants: rows of poles, trees and
    bushes, each (least, most distance from the edge, mean distance along the row). clear: distance of all that to
    everybody in the recording. seed: of what is drawn, together with the recording's name.
    """

    kerb: float = 0.14
    relief: float = 0.04
    reach: float = 110.0
    walls: tuple[tuple[float, ...], ...] = ((5.0, 9.0, 0.3, 2.5, 10.0), (18.0, 32.0, 0.75, 8.0, 25.0))
    plants: tuple[tuple[float, ...], ...] = ((1.5, 4.5, 14.0), (8.0, 14.0, 10.0))
    clear: float = 1.2
    seed: int = 0


class Ground:
    """Height (m) and reflectivity of the ground at global points: road, pavement one kerb higher, long waves of both;
    paint on the road."""

    def __init__(
        self,
        drivable: BaseGeometry,
        low: np.ndarray,
        high: np.ndarray,
        config: SurroundingsConfig,
        paint: Painted = (),
        bare: tuple[float, float] = (ASPHALT, PAVEMENT),
    ) -> None:
        """low, high ``[2]``: corners of the region in which the edge of the drivable area is known; road beyond it.
        bare: reflectivity of road and pavement."""
        self.config, self.bare, self._low = config, bare, low
        self._raster = rastered(drivable, low, np.ceil((high - low) / CELL).astype(int), CELL)
        cells = np.ceil((high - low) / PAINT_CELL).astype(int)
        self._paint = np.zeros(cells if len(paint) else (0, 0), dtype=np.float16)
        for area, colour in paint:
            # Of the three colours, red is the one nearest to the laser's infrared: yellow paint is bright there too.
            self._paint[rastered(area, low, cells, PAINT_CELL)] = colour[0]

    def waves(self, xy: np.ndarray) -> np.ndarray:
        """Of the ground at points ``[..., 2]``."""
        x, y = xy[..., 0], xy[..., 1]
        return self.config.relief * (np.sin(0.11 * x + 0.05 * y) + np.sin(0.07 * y - 0.13 * x + 1.0)) / 2

    def on_road(self, xy: np.ndarray) -> np.ndarray:
        """Which points ``[..., 2]`` lie on the drivable area."""
        inside, cell = self._cell(xy, CELL, self._raster.shape)
        return np.where(inside, self._raster[cell[..., 0], cell[..., 1]], True)

    def reflectivity(self, xy: np.ndarray) -> np.ndarray:
        """Of the ground at points ``[..., 2]``, 0 to 1."""
        bare = np.where(self.on_road(xy), *self.bare)
        if not self._paint.size:
            return bare
        inside, cell = self._cell(xy, PAINT_CELL, self._paint.shape)
        paint = np.where(inside, self._paint[cell[..., 0], cell[..., 1]], 0.0)
        return np.where(paint > 0, paint, bare)

    def _cell(self, xy: np.ndarray, width: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Whether points lie in a raster, and in which of its cells (the first one for those outside)."""
        cell = np.floor((xy - self._low) / width).astype(np.int32)
        inside = ((cell >= 0) & (cell < shape)).all(-1)
        return inside, np.where(inside[..., None], cell, 0)


@dataclass(frozen=True)
class Surroundings:
    """The still world of one recording. paint: what lies on its road, for every sensor the same."""

    ground: Ground
    solids: Solids
    paint: Painted = ()

    @classmethod
    def of(cls, recording: Recording, config: SurroundingsConfig | None = None) -> Surroundings:
        """Drawn from the recording's name and the configuration's seed: the same in every run."""
        config = config or SurroundingsConfig()
        rng = np.random.default_rng([config.seed, zlib.crc32(recording.name.encode())])
        way = recording.ego.pose[:, :2]
        low, high = way.min(0) - config.reach, way.max(0) + config.reach
        region = shapely.box(*low, *high)
        drivable = shapely.intersection(recording.road.drivable, region).buffer(0)
        paint, bare = _surface(recording, drivable, region, config.seed)
        kept_free = _kept_free(recording, config.clear)
        solids = [_kerbs(drivable, region, config.kerb)]
        near = shapely.LineString(way).buffer(config.reach) if len(np.unique(way, axis=0)) > 1 else None
        near = shapely.Point(way[0]).buffer(config.reach) if near is None else near
        rows = [*_walls(rng, drivable, near, config), *_plants(rng, drivable, near, config)]
        if rows:
            standing = Solids.from_rows(rows)
            solids.append(standing[_free(standing, kept_free, drivable)])
        return cls(Ground(drivable, low, high, config, paint, bare), Solids.concatenate(solids), paint)


def _surface(
    recording: Recording, drivable: BaseGeometry, region: BaseGeometry, seed: int
) -> tuple[Painted, tuple[float, float]]:
    """What is painted, and the reflectivity of bare road and of what lies beside it (paving to grass)."""
    rng = np.random.default_rng([seed, zlib.crc32(recording.name.encode()), 3])
    bare = float(rng.uniform(0.06, 0.13)), float(rng.uniform(0.12, 0.40))
    return lane_paint(rng, recording.road, drivable, region), bare


def _kerbs(drivable: BaseGeometry, region: BaseGeometry, height: float) -> Solids:
    """Thin boxes just outside the edge; where the region cuts the area off there is none."""
    rows = []
    for a, b in _edges(drivable.simplify(0.08)):
        middle, along = (a + b) / 2, b - a
        length = float(np.hypot(*along))
        if length < 0.05 or region.boundary.distance(shapely.Point(middle)) < 0.01:
            continue
        outward = np.array([along[1], -along[0]]) / length * 0.1
        rows.append(
            (
                *(middle + outward),
                np.arctan2(along[1], along[0]),
                length / 2,
                0.1,
                -0.3,
                height,
                0.3,
                0.0,
                Material.KERB,
            )
        )
    return Solids.from_rows(rows)


def _walls(
    rng: np.random.Generator, drivable: BaseGeometry, near: BaseGeometry, config: SurroundingsConfig
) -> list[tuple[float, ...]]:
    """House fronts: straight pieces of 6 to 25 m along a line outside the drivable area."""
    rows: list[tuple[float, ...]] = []
    for least, most, share, lowest, highest in config.walls:
        outline = drivable.buffer(float(rng.uniform(least, most)), join_style="mitre").simplify(0.5)
        for line in _rings(outline):
            rows += _fronts(rng, line, near, share, (lowest, highest))
    return rows


def _fronts(
    rng: np.random.Generator, line: shapely.LinearRing, near: BaseGeometry, share: float, heights: tuple[float, float]
) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    station = 0.0
    while station < line.length:
        piece = float(rng.uniform(6.0, 25.0))
        a, b = (np.array(line.interpolate(s).coords[0]) for s in (station, min(station + piece, line.length)))
        station += piece
        top, reflectivity = float(rng.uniform(*heights)), float(rng.uniform(0.15, 0.5))
        if rng.uniform() < share and near.contains(shapely.Point((a + b) / 2)):
            half, (dx, dy) = float(np.hypot(*(b - a))) / 2, b - a
            rows.append(
                (*((a + b) / 2), float(np.arctan2(dy, dx)), half, 0.15, -0.5, top, reflectivity, 0.05, Material.WALL)
            )
    return rows


def _plants(
    rng: np.random.Generator, drivable: BaseGeometry, near: BaseGeometry, config: SurroundingsConfig
) -> list[tuple[float, ...]]:
    """Poles, trees (trunk and crown), bushes."""
    rows: list[tuple[float, ...]] = []
    lines = [
        (line, every)
        for least, most, every in config.plants
        for line in _rings(drivable.buffer(float(rng.uniform(least, most))).simplify(0.3))
    ]
    for line, every in lines:
        station = float(rng.exponential(every))
        while station < line.length:
            x, y = line.interpolate(station).coords[0]
            station += float(rng.exponential(every))
            kind, yaw = rng.uniform(), float(rng.uniform(0.0, np.pi))
            width, height = float(rng.uniform(0.4, 1.4)), float(rng.uniform(0.5, 1.5))
            if not near.contains(shapely.Point(x, y)):
                continue
            if kind < 0.35:
                rows.append((x, y, yaw, 0.08, 0.08, -0.3, 6.0, 0.4, 0.0, Material.POLE))
            elif kind < 0.7:
                rows.append((x, y, yaw, 0.16, 0.16, -0.3, 2.4, 0.2, 0.0, Material.TRUNK))
                rows.append((x, y, yaw, 1.0 + width, 1.0 + width, 2.4, 3.5 + 2 * height, 0.25, 0.55, Material.LEAVES))
            else:
                rows.append((x, y, yaw, width, 0.6 * width, -0.2, height, 0.25, 0.35, Material.LEAVES))
    return rows


def _kept_free(recording: Recording, clear: float) -> shapely.STRtree:
    """Places where somebody of the recording is at any time, as discs around their boxes every half second."""
    agents = recording.agents
    places = [
        shapely.Point(x, y).buffer(float(np.hypot(*agents.size[i])) / 2 + clear)
        for i in range(len(agents))
        for x, y in np.unique(np.round(agents.pose[i, agents.valid[i]][::5, :2], 1), axis=0)
    ]
    return shapely.STRtree([*places, *(shapely.Point(p).buffer(6.0) for p in recording.ego.pose[::5, :2])])


def _free(solids: Solids, kept_free: shapely.STRtree, drivable: BaseGeometry) -> np.ndarray:
    """``[N]`` bool: which boxes touch neither the drivable area nor a place that is kept free."""
    shapely.prepare(drivable)
    c, s = np.cos(solids.yaw)[:, None], np.sin(solids.yaw)[:, None]
    local = solids.half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    x, y = c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]
    outlines = shapely.polygons(solids.centre[:, None] + np.stack([x, y], -1))
    free = ~shapely.intersects(drivable, outlines)
    # Crowns and overhanging parts do not stand in anybody's way.
    free |= solids.bottom > 2.0
    touched = np.unique(kept_free.query(outlines, predicate="intersects")[0])
    free[touched] = False
    return free


def _rings(geometry: BaseGeometry) -> list[shapely.LinearRing]:
    """Exterior and interior rings, the area on the left of each."""
    polygons = [orient(part) for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return [ring for p in polygons for ring in (p.exterior, *p.interiors)]


def _edges(geometry: BaseGeometry) -> list[tuple[np.ndarray, np.ndarray]]:
    points = [np.array(ring.coords)[:, :2] for ring in _rings(geometry)]
    return [(a, b) for line in points for a, b in pairwise(line)]

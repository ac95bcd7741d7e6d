"""Where the ground is, from the returns alone."""

from __future__ import annotations

import numpy as np

from perception.raw_obstacles_config import GroundConfig

FIRST = 2.0
"""Radius (m) at which the growing begins, at the height of the wheels' contact."""


def height_above_ground(points: np.ndarray, config: GroundConfig, range_max: float) -> np.ndarray:
    """``[N]`` m for points ``[N, 3]`` in the ego frame (z = 0 under the wheels).

    In every sector the lowest return of each radial cell (its neighbours' included, so that one object does not hide
    the ground of a whole sector) continues the ground if it lies within a step and a slope of the cell before;
    otherwise the ground goes on level. Idea: Moosmann, Pink, Stiller, "Segmentation of 3D lidar data in non-flat urban
    environments using a local convexity criterion", IV 2009, reduced to its slope test on a polar grid
    (Himmelsbach, von Hundelshausen, Wuensche, IV 2010).
    """
    sectors, cells = config.sectors, int(np.ceil((range_max - FIRST) / config.step)) + 1
    radius = np.hypot(points[:, 0], points[:, 1])
    sector = ((np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5) * sectors).astype(np.int32) % sectors
    along = (radius - FIRST) / config.step
    cell = np.clip(along.astype(np.int32), 0, cells - 1)

    lowest = np.full(sectors * cells, np.inf, dtype=np.float32)
    np.minimum.at(lowest, sector * cells + cell, points[:, 2].astype(np.float32))
    lowest = lowest.reshape(sectors, cells)
    lowest = np.minimum(np.minimum(lowest, np.roll(lowest, 1, 0)), np.roll(lowest, -1, 0))

    ground = np.zeros((sectors, cells), dtype=np.float32)
    level = np.zeros(sectors, dtype=np.float32)
    since = np.zeros(sectors, dtype=np.float32)  # m without ground
    for k in range(cells):
        since += config.step
        inclined = config.slope * np.minimum(since, config.slope_reach)
        rise = lowest[:, k] - level
        is_ground = (rise <= config.step_up + inclined) & (rise >= -config.step_down - inclined)
        level = np.where(is_ground, lowest[:, k], level)
        since[is_ground] = 0.0
        ground[:, k] = level
    # Between the middles of two cells the ground is a straight line.
    middle = np.clip(along - 0.5, 0, cells - 1.001).astype(np.float32)
    inner = middle.astype(np.int32)
    part = middle - inner
    under = (1 - part) * ground[sector, inner] + part * ground[sector, inner + 1]
    return points[:, 2] - under

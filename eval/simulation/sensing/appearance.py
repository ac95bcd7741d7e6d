"""Colours of boxes: paint, glass, lights, clothes, leaves, house fronts. Linear RGB, from fixed palettes by a hash."""

from __future__ import annotations

import numpy as np

from eval.simulation.lidar_solids import NOBODY, Material, Solids

_CAR_PAINT = np.array(
    [[0.75, 0.75, 0.75], [0.45, 0.46, 0.48], [0.18, 0.19, 0.2], [0.03, 0.03, 0.035], [0.35, 0.03, 0.03],
     [0.04, 0.08, 0.28], [0.05, 0.16, 0.09], [0.5, 0.42, 0.28], [0.6, 0.28, 0.03], [0.1, 0.25, 0.4]]
)  # fmt: skip
_CLOTHES = np.array(
    [[0.6, 0.6, 0.58], [0.05, 0.05, 0.06], [0.3, 0.05, 0.05], [0.06, 0.1, 0.3], [0.1, 0.25, 0.12], [0.5, 0.4, 0.1],
     [0.25, 0.22, 0.2], [0.45, 0.15, 0.3]]
)  # fmt: skip
_CARGO = np.array([[0.7, 0.7, 0.68], [0.55, 0.5, 0.4], [0.1, 0.2, 0.45], [0.45, 0.1, 0.08], [0.2, 0.35, 0.2]])
_WALLS = np.array(
    [[0.45, 0.42, 0.38], [0.3, 0.3, 0.32], [0.5, 0.32, 0.22], [0.55, 0.5, 0.42], [0.28, 0.16, 0.12], [0.35, 0.38, 0.42]]
)
_LEAVES = np.array([[0.05, 0.10, 0.03], [0.07, 0.13, 0.04], [0.09, 0.12, 0.05], [0.04, 0.08, 0.04]])
_SKIN = np.array([[0.55, 0.36, 0.27], [0.35, 0.22, 0.15], [0.2, 0.12, 0.08]])
_PALETTE: dict[Material, np.ndarray] = {
    Material.KERB: np.array([[0.45, 0.45, 0.43]]),
    Material.WALL: _WALLS,
    Material.POLE: np.array([[0.3, 0.3, 0.32]]),
    Material.TRUNK: np.array([[0.12, 0.09, 0.06]]),
    Material.LEAVES: _LEAVES,
    Material.BODY: _CAR_PAINT,
    Material.CABIN: np.array([[0.035, 0.04, 0.045]]),
    Material.ROOF: _CAR_PAINT,
    Material.WHEEL: np.array([[0.02, 0.02, 0.02]]),
    Material.CARGO: _CARGO,
    Material.CAB: _CAR_PAINT,
    Material.CHASSIS: np.array([[0.03, 0.03, 0.03]]),
    Material.COACH: _CAR_PAINT,
    Material.COACH_WINDOWS: _CAR_PAINT,
    Material.CYCLE: np.array([[0.04, 0.04, 0.04]]),
    Material.TORSO: _CLOTHES,
    Material.LEGS: _CLOTHES * 0.5,
    Material.HEAD: _SKIN,
    Material.OBSTACLE: np.array([[0.75, 0.2, 0.03]]),
}
_GLASS = np.array([0.04, 0.05, 0.06])
_WHITE, _RED = np.array([0.75, 0.75, 0.75]), np.array([0.55, 0.03, 0.02])
FRONT, REAR, LEFT, RIGHT, TOP, BOTTOM = range(6)
"""Faces of a box, in its own frame."""


def base_colours(solids: Solids, name_hash: int) -> np.ndarray:
    """``[N, 3]``: paint of each box. The parts of a road user share one draw; the same name gives the same colours."""
    own = np.where(solids.owner == NOBODY, np.floor(7.0 * solids.centre @ [1.0, 3.7]).astype(np.int64), solids.owner)
    draw = ((own.astype(np.uint64) + np.uint64(name_hash)) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    out = np.full((len(solids), 3), 0.35)
    for material, palette in _PALETTE.items():
        which = solids.material == material
        out[which] = palette[(draw[which] % np.uint64(len(palette))).astype(int)]
    return out


def emitted_and_reflected(
    material: np.ndarray, colour: np.ndarray, local: np.ndarray, half: np.ndarray, face: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance and own light ``[N, 3]`` at points on boxes.

    material ``[N]``; colour ``[N, 3]`` of the box; local ``[N, 3]``: place on the box, each axis from -1 to 1; half
    ``[N, 3]``: half extents (m); face ``[N]``.
    """
    reflected, emitted = colour.copy(), np.zeros_like(colour)
    x, y, z = local.T
    across = np.where(face <= REAR, y, x)  # along the visible side, -1 to 1
    end, side = face <= REAR, (face == LEFT) | (face == RIGHT)
    is_ = {m: material == m for m in np.unique(material)}

    def at(kind: Material) -> np.ndarray:
        return is_.get(kind, np.zeros(len(material), dtype=bool))

    wall = at(Material.WALL) & (face != TOP)
    if wall.any():
        u, v = half[:, 0] * (x + 1), half[:, 2] * (z + 1)  # m along and up the front
        window = wall & (u % 3.0 > 0.8) & (v % 3.2 > 1.2)
        reflected[window] = _GLASS * 2.0
    body = at(Material.BODY)
    lamp = body & end & (np.abs(y) > 0.55) & (z > 0.05) & (z < 0.65)
    reflected[lamp & (face == FRONT)] = _WHITE
    reflected[lamp & (face == REAR)] = _RED
    emitted[lamp & (face == REAR)] = _RED * 0.35
    emitted[lamp & (face == FRONT)] = _WHITE * 0.1
    reflected[body & (z < -0.75)] *= 0.3
    reflected[body & end & (np.abs(y) < 0.25) & (z > -0.55) & (z < -0.25)] = _WHITE * 0.8
    reflected[at(Material.CABIN) & side & (np.abs((x * 1.6) % 1.0 - 0.5) < 0.06)] = 0.15
    cab = at(Material.CAB) & (z > 0.1) & (z < 0.8) & (face != TOP)
    reflected[cab & ((face == FRONT) | (side & (x > -0.2)))] = _GLASS
    cargo = at(Material.CARGO)
    reflected[cargo & (face == REAR) & (np.abs(y) < 0.03)] *= 0.4
    rear_lamp = cargo & (face == REAR) & (np.abs(y) > 0.75) & (z < -0.85)
    reflected[rear_lamp], emitted[rear_lamp] = _RED, _RED * 0.35
    coach = at(Material.COACH_WINDOWS) & (z > -0.75) & (z < 0.45) & (face != TOP)
    reflected[coach & ((np.abs((across * 4.0) % 1.0 - 0.5) < 0.44) | end)] = _GLASS
    bus_lamp = at(Material.COACH) & end & (np.abs(y) > 0.7) & (z < 0.0)
    reflected[bus_lamp & (face == REAR)], reflected[bus_lamp & (face == FRONT)] = _RED, _WHITE
    obstacle = at(Material.OBSTACLE)
    long_one = obstacle & (half[:, :2].max(1) > 0.5)
    reflected[obstacle & ~long_one & (np.abs(z - 0.1) < 0.25)] = _WHITE
    reflected[long_one & (np.floor(half[:, :2].max(1) * (across + 1) / 1.0) % 2 == 1)] = _WHITE
    return reflected, emitted


def leaf_holes(place: np.ndarray) -> np.ndarray:
    """``[N]`` in (0, 1), fixed in space in cells of 0.15 m; place ``[N, 3]`` m."""
    cell = np.floor(place / 0.15).astype(np.int64)
    mixed = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
    return ((mixed * 2654435761) & 0xFFFF).astype(np.float32) / 65536.0

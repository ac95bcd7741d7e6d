"""Lanes of our direction beside ours, read from the scene's centrelines: where a change of lane could lead.

Discrete, on plain arrays, without gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.objects.forecasts import array
from planner.objects.obstacles import Obstacles
from planner.path.reference_path import ReferencePath
from planner.path.surface import Start, Surface
from planner.scene import MapPolylines, PolylineType, VectorScene, VehicleParameters

APART = (2.2, 5.0)
"""m from the path: centrelines nearer than this are our own lane's, farther ones not the next lane's."""
PARALLEL = 0.3
"""rad: largest angle of a neighbouring centreline against the path."""
HOLE = 6.0
"""m: a longer stretch without points ends the lane."""
EASY_BRAKING = 2.0
"""m/s^2: who comes from behind in the other lane must not have to brake harder for us (the safety criterion of MOBIL,
Kesting, Treiber and Helbing 2007)."""
REACTION, NEAREST = 1.0, 2.0
"""s and m: the room behind us that remains for whoever comes, apart from what braking takes."""
SIDES = (1, -1)
"""Left and right, in the order of the axis of two."""


@dataclass
class NeighbourLanes:
    """offset ``[S, 2, G]`` m: the neighbours' centrelines over the surface's grid, left and right.

    open ``[S, 2]``: there is one, it has room, and nobody in it stands in the way of a change now.
    """

    offset: Float[np.ndarray, "S 2 G"]
    open: Bool[np.ndarray, "S 2"]


def neighbour_lanes(
    scenes: VectorScene,
    path: ReferencePath,
    obstacles: Obstacles,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> NeighbourLanes:
    """Where the lanes beside ours run, and which of them may be entered."""
    s, v = array(surface.s), array(start.v)
    out = NeighbourLanes(np.zeros((len(s), 2, s.shape[1])), np.zeros((len(s), 2), bool))
    if not config.decisions.lane_change:
        return out
    here = array(start.s)
    needed = here + change_length(v) + vehicle.front
    room = array(surface.lower), array(surface.upper)
    for k, points in _parallel_points(scenes.map, path, here, needed):
        for i, side in enumerate(SIDES):
            along = points[:, points[1] * side > 0]
            if not _covers(along[0], here[k], needed[k]):
                continue
            order = along[0].argsort()
            out.offset[k, i] = np.interp(s[k], along[0, order], along[1, order])
            ahead = (s[k] >= here[k]) & (s[k] <= needed[k])
            fits = (room[0][k] <= out.offset[k, i] + 0.1) & (out.offset[k, i] - 0.1 <= room[1][k])
            aim = float(np.interp(here[k], s[k], out.offset[k, i]))
            out.open[k, i] = fits[ahead].all() and _free(k, aim, obstacles, start, vehicle)
    return out


def change_length(v: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """m that a change of lane takes at speed v: about four seconds."""
    return np.maximum(4.0 * v, 25.0)


def lane_profile(
    base: Float[Tensor, "S G"], lanes: NeighbourLanes, surface: Surface, start: Start, scene: int, side: int
) -> Float[Tensor, " G"]:
    """The offset profile that leads from the base profile into the neighbouring lane. side: 0 left, 1 right."""
    length = float(change_length(array(start.v)[scene : scene + 1])[0])
    x = np.clip((array(surface.s)[scene] - float(start.s[scene].detach())) / length, 0.0, 1.0)
    ease = torch.from_numpy(x * x * x * ((6 * x - 15) * x + 10))
    target = torch.from_numpy(lanes.offset[scene, side])
    target = torch.maximum(torch.minimum(target, surface.upper[scene]), surface.lower[scene])
    return base[scene] + ease * (target - base[scene])


def _parallel_points(
    polylines: MapPolylines, path: ReferencePath, first: np.ndarray, last: np.ndarray
) -> list[tuple[int, Float[np.ndarray, "2 q"]]]:
    """Scene, and (s, d) of the points of centrelines that run beside its path, where first and last (m) matter."""
    lines = (polylines.kind == int(PolylineType.CENTERLINE))[..., None] & polylines.valid
    xy = array(polylines.xy)
    use = array(lines).copy()
    forward = np.zeros_like(xy)
    forward[..., :-1, :] = np.diff(xy, axis=-2)
    # A polyline's last point has no successor; it lies where the next one begins.
    use[..., :-1] &= array(polylines.valid)[..., 1:]
    use[..., -1] = False
    out = []
    for k in np.flatnonzero(use.any((1, 2))).tolist():
        points, step = xy[k][use[k]], forward[k][use[k]]
        knots = array(path.knots)[k]
        middle = knots[np.clip(int((first[k] + last[k]) / 2), 0, len(knots) - 1)]
        near = np.abs(points - middle).max(1) < (last[k] - first[k]) / 2 + 2 * HOLE
        if not near.any():
            continue
        row = path.rows(torch.tensor([k]))
        s, d, valid, heading, _ = (array(x)[0] for x in row.locate(torch.from_numpy(points[near])[None]))
        turn = np.arctan2(step[near, 1], step[near, 0]) - heading
        turn = np.abs(turn - 2 * np.pi * np.round(turn / (2 * np.pi)))
        beside = valid & (turn < PARALLEL) & (np.abs(d) > APART[0]) & (np.abs(d) < APART[1])
        if beside.any():
            out.append((k, np.stack([s[beside], d[beside]])))
    return out


def _covers(s: Float[np.ndarray, " q"], first: float, last: float) -> bool:
    """Points at s reach from first to last (m) without a hole."""
    inside = np.sort(s[(s > first - HOLE) & (s < last + HOLE)])
    if not len(inside) or inside[0] > first + HOLE or inside[-1] < last - HOLE:
        return False
    return bool((np.diff(inside) <= HOLE).all())


def _free(k: int, aim: float, obstacles: Obstacles, start: Start, vehicle: VehicleParameters) -> bool:
    """Nobody in the lane at offset `aim` is beside us, or comes from behind so fast that it would have to brake hard.

    Once we are more in that lane than in ours, who follows there follows us.
    """
    d, v = float(start.d[k].detach()), float(start.v[k].detach())
    if abs(d - aim) < abs(aim) / 2:
        return True
    front, rear = float(start.s[k].detach()) + vehicle.front, float(start.s[k].detach()) - vehicle.rear
    active = array(obstacles.active)[k, :, :, 0, None]
    s_lo, d_lo = (np.where(active, array(x)[k, :, :, 0], np.inf).min((1, 2)) for x in (obstacles.s_lo, obstacles.d_lo))
    s_hi, d_hi = (np.where(active, array(x)[k, :, :, 0], -np.inf).max((1, 2)) for x in (obstacles.s_hi, obstacles.d_hi))
    half = vehicle.width / 2
    there = (d_hi > aim - half) & (d_lo < aim + half) & (s_lo < front + NEAREST)
    speed = np.maximum(array(obstacles.speed_s)[k], 0.0)
    wanted = NEAREST + REACTION * speed + np.maximum(speed - v, 0.0) ** 2 / (2 * EASY_BRAKING)
    return not bool((there & (s_hi > rear - wanted)).any())

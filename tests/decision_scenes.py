"""Brute force for decisions: which orders and sides some drive of a dense family really has room for.

The family: accelerations in two phases, ramped like a driver's, times smooth shifts to an offset ahead of what stands
in the way. The witness is geometry alone: exact rectangles, swept over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import shapely
from planner_scenes import Other, make_scene, rectangle

from planner.config import PlannerConfig
from planner.decisions.candidates import CandidateSet, assemble
from planner.decisions.conflicts import conflict_bounds
from planner.decisions.manoeuvres import enumerate_manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import project_obstacles
from planner.path.reference_path import build_reference_path
from planner.path.speed_profile import free_speed
from planner.path.surface import start_state, usable_surface
from planner.scene import AgentClass, VectorScene, VehicleParameters

VEHICLE = VehicleParameters()
WALKER = AgentClass.PEDESTRIAN
TIME = np.arange(0.0, 6.01, 0.2)
SPARE_TIME, SPARE_ROOM, SPARE_SIDE = 0.3, 1.0, 0.35
"""s, m and m beyond the planner's own margins that a way must leave before it is asked for: the planner's grid, its

uncertainty and its smooth inputs cost something, and a way that only just exists is no option.
"""
RAMP = 18.0
"""m: over which a drive shifts sideways."""


def decide(
    scenes: VectorScene | Sequence[VectorScene], config: PlannerConfig, preferred: Sequence[str] | None = None
) -> CandidateSet:
    """The candidates of one scene or of a batch, as the planner makes them, not solved."""
    if isinstance(scenes, VectorScene):
        scenes = [scenes]
    batch = VectorScene.stack(scenes).double()
    preferred = preferred or [""] * len(scenes)
    path, grid = build_reference_path(batch.route), make_grid(config.horizon)
    start = start_state(batch, path)
    obstacles = project_obstacles(batch, path, grid.node_time_from_now, config)
    surface = usable_surface(path, start, VEHICLE, config)
    manoeuvres = enumerate_manoeuvres(path, obstacles, surface, start, [{} for _ in scenes], VEHICLE, config)
    conflicts = conflict_bounds(obstacles, manoeuvres, surface, start, VEHICLE, config)
    v_profile = free_speed(path, start, config, grid.node_time)
    end = path.length - VEHICLE.front
    return assemble(conflicts, manoeuvres, obstacles, start, v_profile, end, list(preferred), VEHICLE, config)


def letters(duties: dict[int, str], count: int) -> str:
    """What a candidate does about tracks 1 .. count: before it, after it, to its left, to its right, nothing."""
    letter = {"pass": "b", "yield": "a", "yield: their duty": "a", "insist: their duty": "b", "left": "L", "right": "R"}
    return "".join(letter.get(duties.get(i + 1, ""), "-") for i in range(count))


def profiles(v: float) -> np.ndarray:
    """``[n, T]`` m driven: two accelerations, ramped at 3 m/s^3, within speed limit and the planner's brakes."""
    step = float(TIME[1])
    out = []
    for first, second, switch in product(np.linspace(-3.4, 1.7, 9), np.linspace(-3.4, 1.7, 9), (1.2, 2.6)):
        a, speed, s, row = 0.0, v, 0.0, []
        for t in TIME:
            row.append(s)
            wanted = first if t < switch else second
            a += min(max(wanted - a, -3.0 * step), 3.0 * step)
            after = min(max(speed + a * step, 0.0), 9.3)
            s += (speed + after) / 2 * step
            speed = after
        out.append(row)
    return np.array(out)


def drivable_classes(others: Sequence[Other], v: float, left: float, right: float, zone_time: float) -> set[str]:
    """Classes, as `letters`, that some drive has room for; ego at the origin of a road along x from -right to left.

    At all times ego's rectangle, longer and wider by the spare room, is clear of whatever the others sweep within the
    spare time before and after.
    """
    window = zone_time + SPARE_TIME
    s = profiles(v)
    standing = [o for o in others if o.v == 0.0]
    first = min((o.x - _size(o)[0] / 2 for o in standing), default=0.0) - VEHICLE.front - 1.0
    offsets = np.array([-2.7, -2.1, -1.5, 0.0, 1.5, 2.1, 2.7]) if standing else np.zeros(1)
    away = [_swept(o, window) for o in others]
    found: set[str] = set()
    for offset in offsets:
        reach = abs(offset) + VEHICLE.width / 2 + 0.15 + 0.1
        if offset and (reach > (left if offset > 0 else right)):
            continue
        x = np.clip((s - (first - RAMP)) / RAMP, 0.0, 1.0)
        y = offset * x**3 * (10 - 15 * x + 6 * x**2)
        slope = offset * 30 * x**2 * (1 - x) ** 2 / RAMP
        ways = np.array(["".join(way) for way in zip(*(_way(o, s, y, window) for o in others))])
        new = ~np.isin(ways, list(found)) & (np.char.find(ways, "?") < 0)
        ego = _rectangles(s[new], y[new], np.arctan(slope[new]), 2 * SPARE_ROOM, 2 * (0.25 + SPARE_SIDE))
        free = np.ones(len(ego), bool)
        for swept in away:
            free[free] = ~shapely.intersects(ego[free], swept[None]).any(1)
        found |= set(ways[new][free].tolist())
    return found


def _way(o: Other, s: np.ndarray, y: np.ndarray, window: float) -> np.ndarray:
    """``[n]``: the letter of one other road user under every drive, "?" where it is neither."""
    length = _size(o)[0]
    front, rear = s + VEHICLE.front, s - VEHICLE.rear
    if o.v == 0.0:
        beside = (front > o.x - length / 2) & (rear < o.x + length / 2)
        above, below = (~beside | (y > o.y)).all(1), (~beside | (y < o.y)).all(1)
        after = (front < o.x - length / 2).all(1)
        return np.where(after, "a", np.where(above & beside.any(1), "L", np.where(below & beside.any(1), "R", "?")))
    boxes = [b.bounds for b in _boxes(o)]
    band = VEHICLE.width / 2 + SPARE_SIDE
    inside = np.array([b[1] < y.max() + band and b[3] > y.min() - band for b in boxes])
    if not inside.any():
        return np.full(len(s), "-")
    low, high = min(b[0] for b, i in zip(boxes, inside) if i), max(b[2] for b, i in zip(boxes, inside) if i)
    near = (TIME >= TIME[inside][0] - window) & (TIME <= TIME[inside][-1] + window)
    before, after = (rear[:, near] > high).all(1), (front[:, near] < low).all(1)
    return np.where(before, "b", np.where(after, "a", "?"))


def _size(o: Other) -> tuple[float, float]:
    return o.size or {WALKER: (0.7, 0.7)}.get(o.kind, (4.5, 1.9))


def _boxes(o: Other, margin: float = 0.0) -> list[shapely.Polygon]:
    """The other's rectangle at every time."""
    length, width = _size(o)
    dx, dy = math.cos(o.yaw) * o.v, math.sin(o.yaw) * o.v
    return [rectangle(o.x + dx * t, o.y + dy * t, o.yaw, length + margin, width + margin) for t in TIME]


def _swept(o: Other, window: float) -> np.ndarray:
    """``[T]``: what the other covers from `window` seconds before each time until as long after it."""
    boxes = np.array(_boxes(o))
    return np.array([
        shapely.convex_hull(shapely.multipolygons(boxes[np.abs(TIME - t) <= window])) for t in TIME
    ])  # fmt: skip


def _rectangles(x: np.ndarray, y: np.ndarray, yaw: np.ndarray, longer: float, wider: float) -> np.ndarray:
    """Ego's outlines, enlarged, with the rear axle at the poses of any shape."""
    along = np.array([VEHICLE.front, VEHICLE.front, -VEHICLE.rear, -VEHICLE.rear]) + longer / 2 * np.array(
        [1, 1, -1, -1]
    )
    across = (VEHICLE.width + wider) / 2 * np.array([-1, 1, 1, -1])
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    corners = np.stack([x[..., None] + along * cos - across * sin, y[..., None] + along * sin + across * cos], -1)
    return shapely.polygons(corners)


def small_scene(rng: np.random.Generator, dynamic: int, stands: bool) -> tuple[tuple[Other, ...], dict[str, float]]:
    """Up to three who cross or merge, each at its own place and time, and a car at one side; then the road."""
    others: list[Other] = []
    for i in range(dynamic):
        kind = rng.choice(["car", "walker", "merging"])
        side = float(rng.choice([-1.0, 1.0]))
        speed = float(rng.uniform(1.2, 2.2) if kind == "walker" else rng.uniform(4.0, 8.0))
        yaw = -side * (math.pi / 2 if kind != "merging" else float(rng.uniform(0.3, 0.5)))
        meets, x = float(rng.uniform(2.0, 6.5)), float(rng.uniform(12.0, 26.0)) + 5.0 * i
        ahead = x if kind != "merging" else x - math.cos(yaw) * speed * meets + 8.0
        y = -math.sin(yaw) * speed * meets
        others.append(Other(ahead, y, yaw, speed, WALKER if kind == "walker" else AgentClass.CAR, track_id=i + 1))
    if stands:
        y = float(rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 1.9))
        others.append(Other(float(rng.uniform(28.0, 36.0)), y, kind=AgentClass.CAR, track_id=dynamic + 1))
    left, right = rng.uniform(2.0, 4.6, 2) if stands else (2.5, 2.5)
    return tuple(others), {"v": float(rng.uniform(6.0, 9.2)), "left": float(left), "right": float(right)}


def scene_of(others: tuple[Other, ...], road: dict[str, float]) -> VectorScene:
    """The planner's input for a small scene."""
    return make_scene(road["v"], others, left=road["left"], right=road["right"])


def named(found: CandidateSet, count: int) -> list[str]:
    """The letters of all candidates that do not just hold."""
    return [letters(d, count) for d, hold in zip(found.duties, found.hold.tolist()) if not hold]

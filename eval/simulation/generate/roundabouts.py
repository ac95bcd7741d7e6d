"""A roundabout with three or four arms and one lane, driven counter-clockwise."""

from __future__ import annotations

import numpy as np
import shapely

from eval.simulation.generate.curves import Path
from eval.simulation.generate.layouts import Town, bent_line, route_points
from eval.simulation.generate.roads import TownBuilder, strip
from perception.road_map import Lane

RING_WIDTH = 5.0  # m
ARM_DISTANCE = 16.0  # m, from the ring's centreline to where the arms begin
RING_SPEED = 7.0  # m/s, limit inside
MOUTH = np.radians(36.0)  # between an arm's axis and the points where it leaves and joins the ring


def roundabout_town(
    rng: np.random.Generator, name: str, *, approach: float, beyond: float, width: float, limit: float
) -> tuple[Town, Path, float, float]:
    """A town around one roundabout.

    approach, beyond: lengths (m) of ego's road before it and after it. Returns the town, the
    path of the circulating traffic, the station (m) where that passes ego's entry, and the
    ring's radius (m).
    """
    radius = float(rng.uniform(15.0, 19.0))
    # Ego comes along arm 0; traffic in the ring comes to it from the arm with the next smaller angle.
    angles = np.array([0.0, 0.5, 1.0, 1.5]) * np.pi + np.concatenate([[0.0], rng.uniform(-0.1, 0.1, 3)])
    if rng.uniform() < 0.35:
        angles = np.delete(angles, 1)
    center, turn = rng.uniform(-500, 500, 2), rng.uniform(-np.pi, np.pi)
    angles = angles + turn
    leave = int(rng.integers(1, len(angles)))
    if len(angles) == 4 and leave == 1:
        leave = 2
    builder = TownBuilder(name)
    for i, angle in enumerate(angles):
        length = approach if i == 0 else beyond if i == leave else 120.0
        out = np.array([np.cos(angle), np.sin(angle)])
        line = bent_line(rng, length, 0.003, np.array([*(center + (radius + ARM_DISTANCE) * out), angle]))
        arm = "main0" if i == 0 else f"side{i}"
        builder.add_road(arm, line, 0.0, line.length, width=width, speed=limit)
        builder.stop_lines.append(line.point(np.zeros(2), np.array([0.0, width])))
    arms = list(builder.roads)
    _ring(builder, center, radius, angles, arms, width)
    route = ["main0:b0", f"main0:b0>ring{0}"]
    ring = _pieces(0, leave, len(angles))
    route += [*ring, f"{ring[-1]}>{arms[leave]}:f0", f"{arms[leave]}:f0"]
    spine = builder.roads["main0"].line
    stations = np.arange(spine.length, -1.0, -1.0).clip(0.0)
    town = Town(builder, Path(spine.point(stations)), width, limit, 1, 1, -0.5 * width, route)
    source = len(angles) - 1
    around = _pieces(source, 1, len(angles))
    ids = [
        f"{arms[source]}:b0",
        f"{arms[source]}:b0>ring{source}",
        *around,
        f"{around[-1]}>{arms[1]}:f0",
        f"{arms[1]}:f0",
    ]
    path = Path(route_points(builder, ids))
    entry = center + radius * np.array([np.cos(angles[0] + MOUTH), np.sin(angles[0] + MOUTH)])
    return town, path, float(path.project(entry)[0][0]), radius


def _ring(
    builder: TownBuilder, center: np.ndarray, radius: float, angles: np.ndarray, arms: list[str], width: float
) -> None:
    """Ring lanes, entries and exits.

    ``ring{i}`` leads from arm i's entry to arm i+1's exit, ``mouth{i}`` past arm i.
    """
    count = len(angles)
    for i in range(count):
        following = angles[(i + 1) % count] + (2 * np.pi if i + 1 == count else 0.0)
        _arc(builder, f"ring{i}", center, radius, angles[i] + MOUTH, following - MOUTH)
        _arc(builder, f"mouth{i}", center, radius, angles[i] - MOUTH, angles[i] + MOUTH)
    for i, arm in enumerate(arms):
        before = f"ring{(i - 1) % count}"
        builder.join(before, f"mouth{i}")
        builder.join(f"mouth{i}", f"ring{i}")
        builder.connect(f"{arm}:b0", f"ring{i}", speed=RING_SPEED, priority=0, width=width + 0.6)
        builder.connect(before, f"{arm}:f0", speed=RING_SPEED, priority=2, width=width + 0.6)
        road = builder.roads[arm]
        side = [road.line.point(0.0, road.left_edge), road.line.point(0.0, road.right_edge)]
        outer = radius + RING_WIDTH / 2 - 0.1
        mouth = [center + outer * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(-MOUTH, MOUTH, 9) + angles[i]]
        builder.surfaces.append(shapely.MultiPoint(np.array([*side, *mouth])).convex_hull)


def _arc(builder: TownBuilder, name: str, center: np.ndarray, radius: float, start: float, end: float) -> None:
    angle = np.linspace(start, end, max(round((end - start) * radius), 4) + 1)
    points = center + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    path = Path(points)
    surface = strip(path, np.linspace(0.0, path.length, len(angle)), -RING_WIDTH / 2, RING_WIDTH / 2)
    builder.lanes[name] = Lane(name, points, surface, RING_SPEED, connector=True, priority=2)
    builder.surfaces.append(surface)


def _pieces(first: int, last: int, count: int) -> list[str]:
    """Ring lanes from arm `first`'s entry to arm `last`'s exit."""
    names, i = [f"ring{first}"], (first + 1) % count
    while i != last:
        names += [f"mouth{i}", f"ring{i}"]
        i = (i + 1) % count
    return names

"""Hand-made roads for tests: small enough to know every answer."""

from __future__ import annotations

import numpy as np
import shapely

from perception.recording import ObjectStates
from perception.road_map import Lane, RoadMap
from planner.scene import AgentClass

WIDTH = 3.5


def make_lane(name: str, xy: np.ndarray, successors: tuple[str, ...] = (), connector: bool = False) -> Lane:
    """A lane 3.5 m wide along the points ``[n, 2]``, speed limit 14 m/s."""
    xy = np.asarray(xy, float)
    surface = shapely.LineString(xy).buffer(WIDTH / 2, cap_style="flat")
    return Lane(name, xy, surface, 14.0, connector=connector, successors=list(successors))


def line(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Points about 1 m apart from one place to the other."""
    count = int(np.hypot(x1 - x0, y1 - y0)) + 1
    return np.stack([np.linspace(x0, x1, count), np.linspace(y0, y1, count)], -1)


def arc(x: float, radius: float, side: float) -> np.ndarray:
    """A quarter circle from (x, 0), heading along x, to the left (side 1) or right (side -1)."""
    angle = np.linspace(0, np.pi / 2, int(radius * np.pi / 2) + 2)
    return np.stack([x + radius * np.sin(angle), side * radius * (1 - np.cos(angle))], -1)


def join(name: str, lanes: list[Lane], **lines: list[np.ndarray]) -> RoadMap:
    """A road whose drivable area is the lanes' surface."""
    surface = shapely.union_all([lane.polygon for lane in lanes])
    return RoadMap(name, {lane.id: lane for lane in lanes}, surface, **lines)


def straight_road(length: float = 300.0) -> RoadMap:
    """Lane "east" along x at y = 0, lane "west" the other way at y = 3.5."""
    return join(
        "straight",
        [make_lane("east", line(0, 0, length, 0)), make_lane("west", line(length, WIDTH, 0, WIDTH))],
        dividers=[line(0, WIDTH / 2, length, WIDTH / 2)],
    )


def fork() -> RoadMap:
    """Lane "in" ends at (50, 0); from there left (radius 15 m), straight on, or right (radius 8 m)."""
    return join(
        "fork",
        [
            make_lane("in", line(0, 0, 50, 0), ("left", "straight", "right")),
            make_lane("left", arc(50, 15, 1), ("north",), connector=True),
            make_lane("right", arc(50, 8, -1), ("south",), connector=True),
            make_lane("straight", line(50, 0, 80, 0), ("on",), connector=True),
            make_lane("north", line(65, 15, 65, 100)),
            make_lane("south", line(58, -8, 58, -100)),
            make_lane("on", line(80, 0, 160, 0)),
        ],
        stop_lines=[np.array([[48.0, -1.75], [48.0, 1.75]])],
    )


def moved(road: RoadMap, pose: np.ndarray) -> RoadMap:
    """The road turned by pose[2] about the origin, then shifted."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[c, s], [-s, c]])
    place = lambda xy: np.asarray(xy) @ turn + pose[:2]  # noqa: E731
    lanes = [make_lane(n, place(lane.centerline), tuple(lane.successors)) for n, lane in road.lanes.items()]
    return RoadMap(
        road.name, {lane.id: lane for lane in lanes}, shapely.transform(road.drivable, place),
        [place(xy) for xy in road.dividers], [place(xy) for xy in road.crossings],
        [place(xy) for xy in road.stop_lines],
    )  # fmt: skip


def objects(*rows: tuple[AgentClass, float, float, float, float], reverse: bool = False) -> ObjectStates:
    """Objects from (class, x, y, yaw, speed along the yaw; against it if reverse)."""
    size = {AgentClass.PEDESTRIAN: (0.7, 0.7), AgentClass.STATIC: (0.5, 0.5), AgentClass.BICYCLE: (1.8, 0.7)}
    values = np.array([row[1:] for row in rows], float).reshape(-1, 4)
    speed = values[:, 3:] * (-1 if reverse else 1)
    return ObjectStates(
        track_id=np.arange(1, len(rows) + 1),
        agent_class=np.array([int(row[0]) for row in rows], np.int64),
        size=np.array([size.get(row[0], (4.5, 1.9)) for row in rows], float).reshape(-1, 2),
        pose=values[:, :3],
        velocity=speed * np.stack([np.cos(values[:, 2]), np.sin(values[:, 2])], -1),
    )

"""What every town has besides the hazard: parked cars, people on the pavement, traffic elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from eval.simulation.generate.actors import Actor, draw_body, drive, on_path, standing, walk
from eval.simulation.generate.curves import Path
from eval.simulation.generate.layouts import LOOK_BACK, Town
from eval.simulation.generate.record import Script


@dataclass
class Basics:
    """Draws common to all families: speed limit and start speed (m/s), lane width (m), steps, ego's start (m)."""

    limit: float
    speed: float
    width: float
    steps: int
    s0: float

    @property
    def length(self) -> float:
        """Route length (m) that leaves 200 m ahead of a driver who never slows down, with some to spare."""
        return self.s0 + self.limit * self.steps * 0.1 + 240.0

    def arrival(self, station: float) -> float:
        """When (s) ego's rear axle reaches the station at its start speed: the nominal drive."""
        return (station - self.s0) / self.speed


def draw_basics(
    rng: np.random.Generator, limits: tuple[float, float] = (8.0, 14.0), durations: tuple[float, float] = (13.0, 17.0)
) -> Basics:
    """Speed limit, start speed, lane width, duration and start of ego."""
    limit = float(rng.uniform(*limits))
    return Basics(
        limit=limit,
        speed=float(limit * rng.uniform(0.88, 1.0)),
        width=float(rng.uniform(3.2, 3.75)),
        steps=round(rng.uniform(*durations) * 10) + 1,
        s0=float(LOOK_BACK + rng.uniform(5.0, 25.0)),
    )


def dress(rng: np.random.Generator, script: Script, *, oncoming: bool = True, parked: float = 0.6) -> None:
    """Add everything that only decorates; whatever would touch the actors already there is left out.

    oncoming: traffic on the opposite lanes of the main road. parked: share of used parking space.
    """
    town = script.town
    _park(rng, script, parked)
    if oncoming:
        _oncoming(rng, script)
    _side_streets(rng, script)
    for number in range(int(rng.integers(3, 9))):
        actor = _pavement_walker(rng, town, script.steps, f"walker{number}", script.s0)
        # The pavement ends at side streets; nobody walks on over the roadway.
        if not shapely.contains_xy(town.road.prepared_drivable, *actor.pose[:, :2].T).any():
            script.add(actor)
    if rng.uniform() < 0.5:
        body = draw_body(rng, str(rng.choice(["car", "car", "van", "motorcycle", "truck"])))
        script.followers.append((body, float(rng.uniform(1.8, 2.6) * script.v0 + 6.0)))
    script.parameters["parked"] = float(sum(a.name.startswith("parked") for a in script.actors))
    script.parameters["followers"] = float(len(script.followers))


def _park(rng: np.random.Generator, script: Script, share: float) -> None:
    town, number = script.town, 0
    for strip in town.parking:
        sign, lanes = (1, town.backward) if strip.side == "left" else (-1, town.forward)
        station = strip.start + rng.uniform(0.0, 4.0)
        while True:
            body = draw_body(rng, "van" if rng.uniform() < 0.15 else "car")
            station += body.length / 2
            if station + body.length / 2 > strip.end:
                break
            offset = sign * (lanes * town.width + strip.depth / 2 + rng.uniform(-0.08, 0.1))
            pose = town.spine.pose(station)
            pose[:2] = town.spine.point(station, offset)
            pose[2] += rng.uniform(-0.03, 0.03) + (np.pi if strip.side == "left" else 0.0)
            if rng.uniform() < share:
                number += script.add(standing(f"parked{number}", body, pose, script.steps))
            station += body.length / 2 + rng.uniform(0.8, 2.5)


def _pavement_walker(rng: np.random.Generator, town: Town, steps: int, name: str, s0: float) -> Actor:
    """Somebody walking along, or standing on, the pavement of the main road."""
    side = str(rng.choice(["left", "right"]))
    sign = 1 if side == "left" else -1
    start = float(rng.uniform(s0, min(s0 + 200.0, town.spine.length - 10)))
    way = float(rng.choice([-1, 1])) * 30.0
    worst = town.edge(side)
    offset = worst + sign * rng.uniform(0.8, 2.5)
    stations = np.linspace(start, start + way, 31)
    points = town.spine.point(stations, np.full(31, offset))
    still = rng.uniform() < 0.25
    begin = 1e3 if still else -1.0
    return walk(name, draw_body(rng, "pedestrian"), points, begin, float(rng.uniform(0.8, 1.6)), steps)


def _oncoming(rng: np.random.Generator, script: Script) -> None:
    """A few vehicles on the opposite lanes, each behind the one before it."""
    town = script.town
    for lane in range(town.backward):
        path = lane_path(town, (lane + 0.5) * town.width, reverse=True)
        station = path.length - script.s0 - rng.uniform(20.0, 60.0)
        rear = speed = None
        for number in range(int(rng.integers(1, 5))):
            body = draw_body(rng, str(rng.choice(["car", "car", "car", "van", "truck", "bus", "motorcycle"])))
            v0 = town.limit * rng.uniform(0.75, 0.95)
            if station - body.length < 0:
                break
            s, v = drive(
                path,
                script.steps,
                station,
                v0,
                town.limit * 0.95,
                length=body.length,
                leader_rear=rear,
                leader_speed=speed,
            )
            if script.add(on_path(f"oncoming{lane}_{number}", body, path, s)):
                rear, speed = s - body.length / 2, v
            station -= body.length + rng.uniform(18.0, 70.0)


def _side_streets(rng: np.random.Generator, script: Script) -> None:
    """In some side streets somebody waits at the stop line or drives away."""
    town = script.town
    for road in [r for r in town.builder.roads.values() if r.name.startswith("side")]:
        if rng.uniform() < 0.35:
            continue
        kind = str(rng.choice(["car", "van", "bicycle", "motorcycle", "truck"]))
        body = draw_body(rng, kind)
        if rng.uniform() < 0.6:
            path = Path(road.line.point(np.arange(road.line.length, -1.0, -1.0), road.width / 2))
            goal = path.length - body.length / 2 - 1.5
            start = goal - rng.uniform(0.0, 45.0)
            v0 = min(6.0, np.sqrt(2 * 1.0 * (goal - start)))
            rear = np.full(script.steps, goal + body.length / 2 + 2.4)
            s, _ = drive(path, script.steps, start, v0, 8.0, length=body.length, leader_rear=rear)
            s = np.minimum(s, goal)
        else:
            path = Path(road.line.point(np.arange(0.0, road.line.length + 0.5), -road.width / 2))
            s, _ = drive(path, script.steps, rng.uniform(15.0, 40.0), 4.0, 5.0, length=body.length)
        script.add(on_path(f"{road.name}_{kind}", body, path, s))


def lane_path(town: Town, offset: float, reverse: bool = False) -> Path:
    """A path along the whole spine at the offset (m, left positive)."""
    stations = np.arange(0.0, town.spine.length, 1.0)
    points = town.spine.point(stations, np.full(len(stations), offset))
    return Path(points[::-1] if reverse else points)


def passing(
    path: Path, steps: int, at: float, time: float, limit: float, *, length: float, from_station: float = 0.0
) -> np.ndarray:
    """Stations ``[T]`` (m) of a vehicle on the path whose centre passes station `at` at `time` (s)."""
    extra = 600
    s, _ = drive(path, steps + extra, from_station, limit * 0.9, limit, length=length)
    clock = np.arange(len(s)) * 0.1
    reached = float(np.interp(at, s, clock))
    moment = np.arange(steps) * 0.1 + reached - time
    station = np.interp(moment, clock, s)
    return np.where(moment < 0.0, -1.0, station)

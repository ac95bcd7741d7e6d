"""Hazards from vehicles in ego's direction: slowing, cutting in, braking hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.simulation.generate.actors import draw_body, drive, on_path
from eval.simulation.generate.avoidable import behind_leader
from eval.simulation.generate.curves import Path, quintic_step
from eval.simulation.generate.dressing import draw_basics, dress, lane_path
from eval.simulation.generate.layouts import Parking, Town, spine_town
from eval.simulation.generate.record import Hazard, Rejected, Script
from planner.scene import VehicleParameters

VEHICLE = VehicleParameters()
FRONT = VEHICLE.front

Phase = tuple[float, float, float]  # from when (s), speed to reach (m/s), deceleration to use (m/s^2)


def speed_phases(phases: list[Phase]) -> Callable[[float, float, float], float | None]:
    """A command for `drive`: from each phase's time on, go no faster than its speed."""

    def command(time: float, station: float, speed: float) -> float | None:
        current = [p for p in phases if p[0] <= time]
        if not current:
            return None
        _, target, braking = current[-1]
        return max((target - speed) / 0.1, -braking) if speed > target else (0.0 if speed >= target - 0.05 else None)

    return command


def car_following(rng: np.random.Generator, name: str) -> Script:
    """The vehicle ahead slows down, perhaps to a stop, drives on, and slows down again."""
    basics = draw_basics(rng, durations=(15.0, 19.0))
    town = spine_town(
        rng, name, length=basics.length, limit=basics.limit, width=basics.width,
        junctions=(basics.s0 + float(rng.uniform(60.0, 140.0)),),
    )  # fmt: skip
    _random_parking(rng, town, basics.s0)
    body = draw_body(rng, str(rng.choice(["car", "car", "van", "truck", "bus", "motorcycle"])))
    gap = float(rng.uniform(1.2, 2.2) * basics.speed + 3.0)
    slows, braking = float(rng.uniform(2.0, 4.0)), float(rng.uniform(1.0, 3.0))
    low = basics.speed * float(rng.choice([0.0, 0.3, 0.55]))
    resumes = slows + basics.speed / braking + float(rng.uniform(1.0, 3.0))
    again = resumes + float(rng.uniform(3.0, 5.0))
    command = speed_phases(
        [
            (0.0, basics.speed, 1.0),
            (slows, low, braking),
            (resumes, basics.speed, 1.0),
            (again, 0.5 * basics.speed, 1.5),
        ]
    )
    start = basics.s0 + FRONT + gap + body.length / 2
    s, _ = drive(town.route, basics.steps, start, basics.speed, basics.limit, length=body.length, command=command)
    verdict = behind_leader(basics.speed, gap, basics.speed, braking, "the vehicle ahead slows down")
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "gap": gap, "slows": slows,
        "braking": braking, "low_speed": low, "resumes": resumes, "slows_again": again,
    }  # fmt: skip
    script = Script(
        town, basics.steps, basics.s0, basics.speed, Hazard("hazard", slows, "leader slows"), verdict, parameters,
        actors=[on_path("hazard", body, town.route, s)],
    )  # fmt: skip
    dress(rng, script)
    return script


def emergency_braking_leader(rng: np.random.Generator, name: str) -> Script:
    """The vehicle ahead brakes hard to a stop without warning, and drives on later."""
    basics = draw_basics(rng, limits=(9.0, 14.0))
    town = spine_town(
        rng, name, length=basics.length, limit=basics.limit, width=basics.width,
        junctions=(basics.s0 + float(rng.uniform(120.0, 180.0)),),
    )  # fmt: skip
    _random_parking(rng, town, basics.s0)
    body = draw_body(rng, str(rng.choice(["car", "car", "van", "truck", "motorcycle"])))
    headway, braking = float(rng.uniform(0.75, 2.0)), float(rng.uniform(4.0, 8.0))
    gap = headway * basics.speed
    brakes = float(rng.uniform(2.5, 5.0))
    resumes = brakes + basics.speed / braking + float(rng.uniform(3.0, 6.0))
    command = speed_phases([(0.0, basics.speed, 1.0), (brakes, 0.0, braking), (resumes, basics.speed, 1.0)])
    start = basics.s0 + FRONT + gap + body.length / 2
    s, _ = drive(town.route, basics.steps, start, basics.speed, basics.limit, length=body.length, command=command)
    verdict = behind_leader(basics.speed, gap, basics.speed, braking, "the vehicle ahead brakes hard")
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "headway": headway, "gap": gap,
        "brakes": brakes, "braking": braking, "resumes": resumes,
    }  # fmt: skip
    script = Script(
        town, basics.steps, basics.s0, basics.speed,
        Hazard("hazard", brakes, "leader brakes hard"), verdict, parameters,
        actors=[on_path("hazard", body, town.route, s)],
    )  # fmt: skip
    dress(rng, script)
    return script


def cut_in(rng: np.random.Generator, name: str) -> Script:
    """A slower vehicle in the neighbouring lane changes into ego's lane ahead of ego."""
    basics = draw_basics(rng, limits=(9.0, 14.0))
    # Close to the limit: whoever drives at the limit is then not far from the nominal ego when it happens.
    basics.speed = basics.limit * float(rng.uniform(0.96, 1.0))
    lane = int(rng.integers(0, 2))
    town = spine_town(
        rng, name, length=basics.length, limit=basics.limit, width=basics.width, forward=2,
        backward=int(rng.integers(1, 3)), lane_index=lane, junctions=(basics.s0 + float(rng.uniform(190.0, 230.0)),),
    )  # fmt: skip
    _random_parking(rng, town, basics.s0)
    body = draw_body(rng, str(rng.choice(["car", "car", "van", "truck", "motorcycle"])))
    begins, lasts = float(rng.uniform(2.5, 4.5)), float(rng.uniform(2.4, 4.0))
    gap, speed = float(rng.uniform(4.0, 13.0)), float(basics.speed * rng.uniform(0.4, 0.85))
    front = basics.s0 + FRONT + basics.speed * begins
    at = front + gap + body.length / 2  # centre of the other vehicle when it begins to move over
    other = -(1.5 - lane) * town.width
    stations = np.arange(0.0, town.spine.length, 1.0)
    offset = other + (town.lane - other) * quintic_step((stations - at) / (speed * lasts))
    path: Path = town.spine.shifted(stations, offset)
    origin = float(path.project(town.spine.point(np.array([at]), other))[0][0])
    # Past the change it keeps its speed for a while and then goes with the limit.
    relax = begins + lasts + float(rng.uniform(2.0, 4.0))
    command = speed_phases([(0.0, speed, 1.0), (relax, basics.limit, 1.0)])
    s, _v = drive(path, basics.steps, origin - speed * begins, speed, basics.limit, length=body.length, command=command)
    share = (town.width - (VEHICLE.width + body.width) / 2 - 0.2) / town.width
    u = np.linspace(0.0, 1.0, 1001)
    enters = lasts * float(np.interp(share, quintic_step(u), u))
    verdict = behind_leader(basics.speed, gap, speed, 0.0, "a slower vehicle cuts in", enters=enters)
    if not verdict.avoidable and rng.uniform() > 0.1:
        raise Rejected("unavoidable")
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "lane": float(lane), "begins": begins,
        "lasts": lasts, "gap": gap, "cutter_speed": speed, "relaxes": relax,
    }  # fmt: skip
    script = Script(
        town, basics.steps, basics.s0, basics.speed, Hazard("hazard", begins, "cut-in"), verdict, parameters,
        actors=[on_path("hazard", body, path, s)],
    )  # fmt: skip
    if rng.uniform() < 0.6:
        slow = draw_body(rng, str(rng.choice(["truck", "bus", "van"])))
        neighbour = lane_path(town, other)
        ahead = origin + speed * lasts * 0.5 + slow.length / 2 + float(rng.uniform(14.0, 25.0))
        crawl = speed * 0.5
        s, _ = drive(neighbour, basics.steps, ahead - crawl * begins, crawl, crawl, length=slow.length)
        script.add(on_path("slow", slow, neighbour, s), margin=1.0)
    dress(rng, script)
    return script


def _random_parking(rng: np.random.Generator, town: Town, s0: float) -> None:
    for side in ("left", "right"):
        if rng.uniform() < 0.6:
            start = s0 + float(rng.uniform(-10.0, 60.0))
            town.add_parking(Parking(side, start, start + float(rng.uniform(30.0, 90.0))))

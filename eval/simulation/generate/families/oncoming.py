"""Places where ego needs the oncoming lane, or where only one vehicle fits through."""

from __future__ import annotations

import numpy as np

from eval.simulation.generate.actors import Actor, draw_body, on_path, standing
from eval.simulation.generate.avoidable import Verdict, stop_before
from eval.simulation.generate.curves import Path
from eval.simulation.generate.dressing import Basics, draw_basics, dress, lane_path, passing
from eval.simulation.generate.layouts import Parking, Town, spine_town
from eval.simulation.generate.record import Hazard, Script, Shift
from planner.scene import VehicleParameters

VEHICLE = VehicleParameters()
FRONT = VEHICLE.front


def blocked_lane_oncoming(rng: np.random.Generator, name: str) -> Script:
    """A vehicle stands in ego's lane; oncoming traffic has to pass before ego can drive around it."""
    basics = draw_basics(rng, limits=(8.0, 12.0), durations=(17.0, 20.0))
    arrival = float(rng.uniform(4.5, 6.5))
    body = draw_body(rng, str(rng.choice(["truck", "van", "van", "car"])))
    rear = basics.s0 + FRONT + basics.speed * arrival
    town = _town(rng, name, basics, after=rear + rng.uniform(75.0, 110.0))
    beside = -float(rng.uniform(0.1, 0.45))  # m, the standing vehicle's centre from the lane's centre, towards the kerb
    center = float(town.spine.project(town.route.point(rear + body.length / 2))[0][0])
    pose = town.spine.pose(center)
    pose[:2] = town.spine.point(center, town.lane + beside)
    blocker = standing("hazard", body, pose, basics.steps)
    clearance = float(rng.uniform(0.6, 0.9))
    offset = beside + body.width / 2 + VEHICLE.width / 2 + clearance
    cones = _cones(rng, town, center, body.length, pose, beside, basics.steps)
    stream, parameters, last = _stream(rng, town, basics, center, arrival)
    verdict = _wait_verdict(basics, rear - basics.s0 - FRONT, last, "a vehicle blocks the lane and others are oncoming")
    parameters |= {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "arrival": arrival,
        "blocker_length": body.length, "blocker_width": body.width, "blocker_offset": beside,
        "cones": float(len(cones)),
    }  # fmt: skip
    reach = float(rng.uniform(18.0, 24.0))
    ahead = 5.0 + FRONT + (1.5 if cones else 0.0)
    shifts = [
        Shift(rear - ahead - reach + 4.0, rear - ahead + 4.0, offset),
        Shift(rear + body.length + VEHICLE.rear + 1.5, rear + body.length + VEHICLE.rear + 1.5 + reach, -offset),
    ]
    script = Script(
        town, basics.steps, basics.s0, basics.speed, Hazard("hazard", 0.0, "blocked lane, oncoming traffic"),
        verdict, parameters, actors=[blocker, *cones, *stream], shifts=shifts,
        zones=[(rear - ahead, rear + body.length, float(rng.uniform(5.5, 7.0)))],
    )  # fmt: skip
    dress(rng, script, oncoming=False)
    return script


def narrow_passage(rng: np.random.Generator, name: str) -> Script:
    """Vehicles parked on both sides leave one lane in the middle; sometimes somebody comes through it first."""
    basics = draw_basics(rng, limits=(8.0, 11.0), durations=(17.0, 20.0))
    arrival = float(rng.uniform(4.5, 6.5))
    start = basics.s0 + FRONT + basics.speed * arrival
    town = _town(rng, name, basics, after=start + rng.uniform(90.0, 120.0))
    wide = float(rng.uniform(2.9, 3.6))
    middle = float(rng.uniform(-0.9, 0.3))  # m, the free lane's centre from the reference line
    length = float(rng.uniform(10.0, 26.0))
    for side in ("left", "right"):
        town.add_parking(Parking(side, start - 2.0, start + length + 10.0))
    obstacles, end = _both_sides(rng, town, start, length, middle, wide, basics.steps)
    oncoming = rng.uniform() < 0.6
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "arrival": arrival,
        "passage_width": wide, "passage_center": middle, "passage_length": end - start,
        "vehicles": float(len(obstacles)),
    }  # fmt: skip
    stream: list[Actor] = []
    last = 0.0
    if oncoming:
        stations = np.arange(0.0, town.spine.length, 1.0)
        lane = town.width / 2
        enter, leave = end + 26.0, start - 26.0
        blend = np.clip(np.minimum((enter - stations) / 22.0, (stations - leave) / 22.0), 0.0, 1.0)
        blend = blend**3 * (10 - 15 * blend + 6 * blend**2)
        points = town.spine.point(stations, lane + (middle - lane) * blend)
        path = Path(points[::-1])
        body = draw_body(rng, "car")
        time = arrival + float(rng.uniform(-0.5, 1.5))
        at = float(path.project(town.spine.point(np.array([start]), 0.0))[0][0])
        s = passing(path, basics.steps, at, time, min(basics.limit, 7.5), length=body.length)
        stream = [on_path("hazard", body, path, s)]
        last = time + 3.0
        parameters["oncoming_at_entry"] = time
    verdict = _wait_verdict(basics, start - basics.s0 - FRONT - 22.0, last, "only one vehicle fits between parked ones")
    shift = middle - town.lane
    shifts = [
        Shift(start - FRONT - 24.0, start - FRONT - 2.0, shift),
        Shift(end + VEHICLE.rear + 1.0, end + VEHICLE.rear + 23.0, -shift),
    ]
    hazard = Hazard("hazard" if oncoming else obstacles[0].name, 0.0, "narrow passage")
    script = Script(
        town,
        basics.steps,
        basics.s0,
        basics.speed,
        hazard,
        verdict,
        parameters,
        actors=[*obstacles, *stream],
        shifts=shifts,
        zones=[(start - FRONT - 4.0, end, float(rng.uniform(4.0, 6.5)))],
    )
    dress(rng, script, oncoming=False)
    return script


def _town(rng: np.random.Generator, name: str, basics: Basics, after: float) -> Town:
    town = spine_town(
        rng, name, length=basics.length, limit=basics.limit, width=basics.width, junctions=(after,), bend=0.0035
    )
    if rng.uniform() < 0.5:
        town.add_parking(Parking("left", after + 20.0, after + 90.0))
    if rng.uniform() < 0.5:
        town.add_parking(Parking("right", after + 20.0, after + 90.0))
    return town


def _cones(
    rng: np.random.Generator, town: Town, center: float, length: float, pose: np.ndarray, beside: float, steps: int
) -> list[Actor]:
    """Sometimes a cone or two behind the standing vehicle."""
    made: list[Actor] = []
    for number in range(int(rng.integers(0, 3))):
        station = center - length / 2 - 1.2 - 1.3 * number
        cone = pose.copy()
        cone[:2] = town.spine.point(station, town.lane + beside - 0.3 * number)
        made.append(standing(f"cone{number}", draw_body(rng, "cone"), cone, steps))
    return made


def _stream(
    rng: np.random.Generator, town: Town, basics: Basics, at: float, arrival: float
) -> tuple[list[Actor], dict[str, float], float]:
    """Oncoming vehicles; the first is beside the obstacle about when the nominal ego is. Then nobody comes."""
    path = lane_path(town, town.width / 2 + 0.15, reverse=True)
    station = float(path.project(town.spine.point(np.array([at]), 0.0))[0][0])
    time, made = arrival + float(rng.uniform(-1.0, 1.0)), []
    limit = basics.limit * float(rng.uniform(0.75, 0.95))
    count = int(rng.integers(1, 4))
    for number in range(count):
        body = draw_body(rng, str(rng.choice(["car", "car", "van", "motorcycle", "truck"])))
        s = passing(path, basics.steps, station, time, limit, length=body.length)
        made.append(on_path(f"oncoming{number}", body, path, s))
        if number + 1 < count:
            time += float(rng.uniform(1.4, 2.2))
    return made, {"oncoming": float(count), "oncoming_speed": limit, "last_oncoming": time}, time


def _wait_verdict(basics: Basics, distance: float, clear: float, what: str) -> Verdict:
    """Stopping before the narrow place is possible from the start, and it is free after `clear` s."""
    verdict = stop_before(basics.speed, distance, what)
    verdict.numbers["clear_after"] = clear
    return verdict


def _both_sides(
    rng: np.random.Generator, town: Town, start: float, length: float, middle: float, wide: float, steps: int
) -> tuple[list[Actor], float]:
    """Vehicles on both sides of the passage from the station `start` on; and where the last one ends."""
    made: list[Actor] = []
    end = start
    for side in (-1.0, 1.0):
        station = start + (0.0 if side < 0 else rng.uniform(0.0, 3.0))
        while station < start + length:
            body = draw_body(rng, str(rng.choice(["car", "car", "van"])))
            center = station + body.length / 2
            pose = town.spine.pose(center)
            pose[:2] = town.spine.point(center, middle + side * (wide / 2 + body.width / 2))
            pose[2] += np.pi if side > 0 else 0.0
            made.append(standing(f"parked_narrow{len(made)}", body, pose, steps))
            station += body.length + rng.uniform(0.8, 2.0)
            end = max(end, center + body.length / 2)
    return made, end

"""Places where ways meet: a lane that ends, a left turn across oncoming traffic, a roundabout."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.simulation.generate.actors import Actor, draw_body, on_path
from eval.simulation.generate.avoidable import Verdict, stop_before
from eval.simulation.generate.curves import Path
from eval.simulation.generate.dressing import Basics, draw_basics, dress, lane_path, passing
from eval.simulation.generate.layouts import (
    JUNCTION_REACH,
    Town,
    add_side_street,
    bent_line,
    route_points,
)
from eval.simulation.generate.record import Hazard, Script
from eval.simulation.generate.roads import TownBuilder
from eval.simulation.generate.roundabouts import roundabout_town
from planner.scene import VehicleParameters

FRONT = VehicleParameters().front


def merge(rng: np.random.Generator, name: str) -> Script:
    """Ego's lane ends; vehicles in the lane to its left are beside ego where both become one."""
    basics = draw_basics(rng, durations=(15.0, 18.0))
    arrival = float(rng.uniform(4.5, 7.0))
    taper = float(rng.uniform(45.0, 65.0))
    ends = basics.s0 + FRONT + basics.speed * arrival
    builder = TownBuilder(name)
    spine = bent_line(rng, basics.length, min(0.004, 0.8 / basics.limit**2))
    common: dict[str, Any] = {"width": basics.width, "speed": basics.limit, "priority": 2}
    builder.add_road("main0", spine, 0.0, ends, forward=2, **common)
    builder.add_road("main1", spine, ends + taper, spine.length, forward=1, **common)
    builder.add_junction([("main0", True), ("main1", False)], speed=basics.limit)
    builder.connect("main0:f1", "main1:f0", speed=basics.limit, priority=0)
    route = ["main0:f1", "main0:f1>main1:f0", "main1:f0"]
    town = Town(builder, spine, basics.width, basics.limit, 2, 1, -1.5 * basics.width, route)
    path = Path(route_points(builder, ["main0:f0", "main0:f0>main1:f0", "main1:f0"]))
    conflict = ends + 0.5 * taper
    at = float(path.project(spine.point(np.array([conflict]), -0.75 * basics.width))[0][0])
    actors, parameters, last = _stream(
        rng, path, at, basics, basics.arrival(conflict), kinds=("car", "car", "van", "truck"), after=(-1.0, 0.3)
    )
    verdict = _wait(basics, ends - basics.s0 - FRONT, last, "the lane ends beside other vehicles")
    parameters |= {"arrival": arrival, "taper": taper}
    return _script(rng, town, basics, actors, verdict, parameters, Hazard(actors[0].name, 0.0, "merge"))


def unprotected_left_turn(rng: np.random.Generator, name: str) -> Script:
    """Ego turns left at a junction without lights; oncoming vehicles go straight on and come first."""
    basics = draw_basics(rng, limits=(8.0, 10.0), durations=(16.0, 20.0))
    basics.speed *= 0.8
    arrival = float(rng.uniform(5.0, 7.0))
    center = basics.s0 + FRONT + basics.speed * arrival + JUNCTION_REACH
    builder = TownBuilder(name)
    spine = bent_line(rng, center + 220.0, 0.003)
    common: dict[str, Any] = {"width": basics.width, "speed": basics.limit, "priority": 2}
    builder.add_road("main0", spine, 0.0, center - JUNCTION_REACH, **common)
    builder.add_road("main1", spine, center + JUNCTION_REACH, spine.length, **common)
    left = add_side_street(
        rng, builder, spine, center, "left", 0, basics.length - center + 40.0, basics.width, basics.limit
    )
    streets = [left.name]
    if rng.uniform() < 0.6:
        streets.append(add_side_street(rng, builder, spine, center, "right", 0, 90.0, basics.width, basics.limit).name)
    arms = [("main0", True), ("main1", False), *((street, False) for street in streets)]
    builder.add_junction(arms, speed=basics.limit, yielding=streets)
    route = ["main0:f0", f"main0:f0>{left.name}:f0", f"{left.name}:f0"]
    town = Town(builder, spine, basics.width, basics.limit, 1, 1, -0.5 * basics.width, route, [center])
    path = lane_path(town, basics.width / 2, reverse=True)
    at = float(path.project(spine.point(np.array([center]), basics.width / 2))[0][0])
    actors, parameters, last = _stream(
        rng,
        path,
        at,
        basics,
        arrival + 1.0,
        kinds=("car", "car", "van", "bus", "motorcycle", "truck"),
        after=(-0.5, 1.0),
    )
    distance = center - JUNCTION_REACH - basics.s0 - FRONT
    verdict = _wait(basics, distance, last, "oncoming vehicles cross ego's left turn")
    parameters |= {"arrival": arrival, "arms": float(2 + len(streets))}
    return _script(rng, town, basics, actors, verdict, parameters, Hazard(actors[0].name, 0.0, "oncoming in left turn"))


def roundabout(rng: np.random.Generator, name: str) -> Script:
    """Ego enters a roundabout behind vehicles that are already in it and leaves at the second or third arm."""
    basics = draw_basics(rng, limits=(8.0, 10.0), durations=(17.0, 20.0))
    basics.speed *= 0.8
    arrival = float(rng.uniform(4.5, 6.5))
    approach = basics.s0 + FRONT + basics.speed * arrival
    town, circulating, at, radius = roundabout_town(
        rng, name, approach=approach, beyond=basics.length - approach, width=basics.width, limit=basics.limit
    )
    actors, parameters, last = _stream(
        rng, circulating, at, basics, arrival + 1.0, kinds=("car", "car", "van", "motorcycle"), after=(-0.5, 1.5)
    )
    verdict = _wait(basics, approach - basics.s0 - FRONT, last, "vehicles in the roundabout pass ego's entry")
    parameters |= {"arrival": arrival, "radius": radius, "lanes_on_route": float(len(town.route_ids))}
    return _script(rng, town, basics, actors, verdict, parameters, Hazard(actors[0].name, 0.0, "circulating traffic"))


def _stream(
    rng: np.random.Generator,
    path: Path,
    at: float,
    basics: Basics,
    arrival: float,
    *,
    kinds: tuple[str, ...],
    after: tuple[float, float],
) -> tuple[list[Actor], dict[str, float], float]:
    """One to three vehicles that pass station `at` of their path about when the nominal ego would; then nobody."""
    limit = basics.limit * float(rng.uniform(0.8, 0.98))
    time, count, made = arrival + float(rng.uniform(*after)), int(rng.integers(1, 4)), []
    for number in range(count):
        body = draw_body(rng, str(rng.choice(kinds)))
        s = passing(path, basics.steps, at, time, limit, length=body.length)
        made.append(on_path(f"stream{number}", body, path, s))
        if number + 1 < count:
            time += float(rng.uniform(1.7, 2.6)) + body.length / 12.0
    # A vehicle in front of these, far enough ahead to be of no concern, makes the first gap look like any other.
    if rng.uniform() < 0.5:
        body = draw_body(rng, "car")
        s = passing(
            path, basics.steps, at, arrival + after[0] - float(rng.uniform(3.5, 5.0)), limit, length=body.length
        )
        made.append(on_path("stream_early", body, path, s))
    return made, {"stream": float(count), "stream_speed": limit, "last_stream": time}, time


def _wait(basics: Basics, distance: float, clear: float, what: str) -> Verdict:
    """Ego can stop before the place where ways meet, and it is free after `clear` s."""
    verdict = stop_before(basics.speed, distance, what)
    verdict.numbers["clear_after"] = clear
    return verdict


def _script(
    rng: np.random.Generator,
    town: Town,
    basics: Basics,
    actors: list[Actor],
    verdict: Verdict,
    parameters: dict[str, float],
    hazard: Hazard,
) -> Script:
    parameters |= {"limit": basics.limit, "speed": basics.speed, "lane_width": basics.width}
    script = Script(town, basics.steps, basics.s0, basics.speed, hazard, verdict, parameters, actors=actors)
    dress(rng, script, oncoming=False)
    return script

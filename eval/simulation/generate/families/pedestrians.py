"""Pedestrians who cross ego's lane, seen all the time or hidden behind parked vehicles."""

from __future__ import annotations

import numpy as np

from eval.simulation.generate.actors import Actor, draw_body, standing, walk
from eval.simulation.generate.avoidable import REACTION, Verdict, stop_before
from eval.simulation.generate.dressing import Basics, draw_basics, dress
from eval.simulation.generate.layouts import PARKING_DEPTH, Parking, Town, spine_town
from eval.simulation.generate.record import Hazard, Rejected, Script
from eval.simulation.generate.visibility import line_of_sight
from planner.scene import VehicleParameters

FRONT = VehicleParameters().front
KEPT_UNAVOIDABLE = 0.1  # share of the unavoidable draws that are kept


def crossing_pedestrian(rng: np.random.Generator, name: str) -> Script:
    """Somebody stands at the kerb in full view and steps onto the road ahead of ego."""
    basics = draw_basics(rng)
    arrival = float(rng.uniform(5.0, 8.0))
    front = basics.s0 + FRONT + basics.speed * arrival
    junction = front + float(rng.uniform(45.0, 80.0))
    town = spine_town(
        rng, name, length=basics.length, limit=basics.limit, width=basics.width, junctions=(junction,)
    )  # fmt: skip
    side = str(rng.choice(["left", "right"]))
    other = "right" if side == "left" else "left"
    if rng.uniform() < 0.6:
        town.add_parking(Parking(other, front + 12.0, front + 110.0))
    wanted = float(rng.uniform(1.5, 7.0))
    ahead = basics.speed / (2 * wanted) + REACTION  # s of warning that make braking with `wanted` necessary
    body = draw_body(rng, "pedestrian")
    station = town.spine.project(town.route.point(front))[0][0]
    start = town.edge(side, station) + (0.7 if side == "left" else -0.7)
    across = abs(start - town.lane)
    # Whoever comes from the far side has the whole opposite lane to cross first.
    near = across - 0.925 - body.length / 2
    speed = float(np.clip(near / ahead, 0.9, 3.2))
    step_off = arrival - near / speed - float(rng.uniform(0.0, 0.9))
    crossing = rng.uniform() < 0.5
    if crossing:
        town.builder.add_crossing("main0", station)
    points = _across(town, station, start)
    walker = walk("hazard", body, points, step_off, speed, basics.steps)
    distance = front - (basics.s0 + FRONT + basics.speed * step_off) - body.width / 2 - 0.2
    verdict = stop_before(basics.speed, distance, "a pedestrian steps off the kerb in full view")
    if not verdict.avoidable and rng.uniform() > KEPT_UNAVOIDABLE:
        raise Rejected("unavoidable")
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "arrival": arrival,
        "walking_speed": speed, "step_off": step_off, "side": 1.0 if side == "left" else -1.0,
        "distance": distance, "zebra": float(crossing),
    }  # fmt: skip
    script = Script(
        town,
        basics.steps,
        basics.s0,
        basics.speed,
        Hazard("hazard", step_off, "pedestrian crosses"),
        verdict,
        parameters,
    )
    script.actors.append(walker)
    dress(rng, script, oncoming=bool(rng.uniform() < 0.6))
    return script


def occluded_pedestrian(rng: np.random.Generator, name: str) -> Script:
    """Somebody walks out between parked vehicles; nothing of them is seen before."""
    basics = draw_basics(rng, limits=(8.0, 10.5))
    arrival = float(rng.uniform(5.0, 8.0))
    front = basics.s0 + FRONT + basics.speed * arrival
    town = spine_town(
        rng,
        name,
        length=basics.length,
        limit=basics.limit,
        width=basics.width,
        junctions=(front + rng.uniform(70.0, 100.0),),
    )
    side = "right" if rng.uniform() < 0.75 else "left"
    town.add_parking(Parking(side, front - 60.0, front + 40.0))
    if rng.uniform() < 0.5:
        town.add_parking(Parking("left" if side == "right" else "right", front - 40.0, front + 40.0))
    station = float(town.spine.project(town.route.point(front))[0][0])
    hiding = _hiding_row(rng, town, side, station, basics.steps)
    body = draw_body(rng, "pedestrian")
    start = town.edge(side, station) + (0.6 if side == "left" else -0.6)
    near = abs(start - town.lane) - 0.925 - body.length / 2
    speed = float(rng.uniform(1.0, 2.4))
    step_off = arrival - near / speed - float(rng.uniform(0.2, 1.4))
    walker = walk("hazard", body, _across(town, station, start), step_off, speed, basics.steps)
    parameters = {
        "limit": basics.limit, "speed": basics.speed, "lane_width": basics.width, "arrival": arrival,
        "walking_speed": speed, "step_off": step_off, "side": 1.0 if side == "left" else -1.0,
    }  # fmt: skip
    hazard = Hazard("hazard", step_off, "pedestrian from behind parked vehicles")
    script = Script(
        town, basics.steps, basics.s0, basics.speed, hazard, Verdict(False, ""), parameters, actors=[walker, *hiding]
    )
    dress(rng, script, oncoming=bool(rng.uniform() < 0.5), parked=0.8)
    # Only now is everybody there who may stand in the line of sight.
    seen = hazard.time = _first_seen(town, basics, walker, [a for a in script.actors if a is not walker])
    distance = front - (basics.s0 + FRONT + basics.speed * seen) - body.width / 2 - 0.2
    script.verdict = stop_before(basics.speed, distance, "a pedestrian appears from behind parked vehicles")
    parameters |= {"first_seen": seen, "distance": distance}
    if not script.verdict.avoidable and rng.uniform() > KEPT_UNAVOIDABLE:
        raise Rejected("unavoidable")
    return script


def _across(town: Town, station: float, start: float) -> np.ndarray:
    """From the offset `start` straight over the road to the pavement on the other side, ``[2, 2]``."""
    far = town.edge("right" if start > 0 else "left") + (-1.0 if start > 0 else 1.0)
    return np.stack([town.spine.point(station, d) for d in (start, far)])


def _hiding_row(rng: np.random.Generator, town: Town, side: str, station: float, steps: int) -> list[Actor]:
    """Parked vehicles just before and after the place where the pedestrian comes out."""
    sign = 1.0 if side == "left" else -1.0
    edge = sign * (town.backward if side == "left" else town.forward) * town.width
    kinds = [str(rng.choice(["van", "van", "car", "truck"])), "car"]
    gap = float(rng.uniform(1.2, 1.9))
    made: list[Actor] = []
    for kind, way in zip(kinds, (-1.0, 1.0)):
        body = draw_body(rng, kind)
        pose = town.spine.pose(station + way * (gap / 2 + body.length / 2))
        # Wide vehicles stand with their kerb side on the kerb.
        offset = edge + sign * (PARKING_DEPTH - max(body.width, 1.9) / 2 - 0.05)
        pose[:2] = town.spine.point(station + way * (gap / 2 + body.length / 2), offset)
        made.append(standing(f"parked_hiding{len(made)}", body, pose, steps))
    return made


def _first_seen(town: Town, basics: Basics, walker: Actor, others: list[Actor]) -> float:
    """When (s) the nominal ego first sees the walker, who has begun to move, past all others."""
    size = np.array([[a.body.length, a.body.width] for a in others])
    for k in range(basics.steps):
        if np.hypot(*(walker.pose[k, :2] - walker.pose[0, :2])) <= 0.05:
            continue
        ego = town.route.pose(basics.s0 + basics.speed * 0.1 * k)
        there = [i for i, a in enumerate(others) if a.valid[k]]
        boxes = np.column_stack([np.array([others[i].pose[k] for i in there]), size[there]])
        if line_of_sight(ego, np.array([*walker.pose[k], walker.body.length, walker.body.width]), boxes):
            return 0.1 * k
    raise Rejected("the pedestrian is never seen")

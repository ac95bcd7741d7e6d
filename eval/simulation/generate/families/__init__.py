"""The scenario families: each a function from a random generator and a name to a script."""

from collections.abc import Callable

import numpy as np

from eval.simulation.generate.families import junctions, leaders, oncoming, pedestrians
from eval.simulation.generate.record import Script

FAMILIES: dict[str, Callable[[np.random.Generator, str], Script]] = {
    "car_following": leaders.car_following,
    "cut_in": leaders.cut_in,
    "merge": junctions.merge,
    "unprotected_left_turn": junctions.unprotected_left_turn,
    "crossing_pedestrian": pedestrians.crossing_pedestrian,
    "occluded_pedestrian": pedestrians.occluded_pedestrian,
    "blocked_lane_oncoming": oncoming.blocked_lane_oncoming,
    "narrow_passage": oncoming.narrow_passage,
    "roundabout": junctions.roundabout,
    "emergency_braking_leader": leaders.emergency_braking_leader,
}

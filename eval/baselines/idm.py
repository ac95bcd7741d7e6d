"""IDM on the route's centreline: keeps its distance, never leaves the line, never overtakes."""

from __future__ import annotations

import numpy as np

from eval.baselines.follow_path import STEP, IdmParameters, blocker_times, idm_speeds, track
from eval.baselines.picture import picture
from eval.baselines.route_path import RoutePath
from eval.baselines.traffic_ahead import Blockers, Objects
from eval.simulation.drivers import DriveOutput
from perception.recording import Recording
from planner.scene import VectorScene, VehicleParameters

NUPLAN_IDM = IdmParameters(gap=1.0, headway=1.5, acceleration=1.0, braking=3.0, exponent=4.0)
HORIZON = 6.0  # s


class IdmDriver:
    """The intelligent driver model with nuPlan's parameters, aiming for the speed limit.

    Unlike nuPlan's it also slows down for curves (3 m/s^2 sideways): a route without advisory
    speeds would otherwise throw it out of every bend.
    """

    name = "idm"

    def __init__(self, vehicle: VehicleParameters | None = None, parameters: IdmParameters = NUPLAN_IDM) -> None:
        self.vehicle = vehicle or VehicleParameters()
        self.parameters = parameters

    def reset(self, recording: Recording) -> None:
        self.vehicle = recording.vehicle

    def drive(self, scene: VectorScene) -> DriveOutput:
        path, objects = RoutePath.from_scene(scene), Objects.from_scene(scene)
        steps = round(HORIZON / STEP)
        blockers = Blockers.on_path(objects, path, blocker_times(steps), scene)
        one, on_line = np.ones(1), np.zeros(1)
        speed = idm_speeds(path, blockers, self.parameters, float(scene.ego.v), one, on_line, self.vehicle, steps)
        motion = track(scene.ego, path, speed, on_line, self.vehicle)
        return DriveOutput(motion.trajectory(0), picture=picture(scene, motion, 0))

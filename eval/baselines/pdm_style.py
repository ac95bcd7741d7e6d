"""A planner in the style of PDM-Closed, re-implemented from its published description.

Forecast -> propose -> simulate -> score -> brake or drive the best (Dauner et al., "Parting with
Misconceptions about Learning-based Vehicle Motion Planning", CoRL 2023). Not the authors' code,
and its numbers are not theirs: it sees a vector scene instead of nuPlan's map, slows for curves,
and hands over the simulated motion instead of the path it follows.
"""

from __future__ import annotations

import numpy as np

from eval.baselines.follow_path import STEP, IdmParameters, Motion, blocker_times, idm_speeds, track
from eval.baselines.picture import picture
from eval.baselines.proposal_score import score_proposals
from eval.baselines.route_path import RoutePath
from eval.baselines.traffic_ahead import Blockers, Objects
from eval.metrics.geometry import boxes_overlap, ego_corners
from eval.simulation.drivers import DriveOutput
from perception.recording import Recording
from planner.scene import EgoState, VectorScene, VehicleParameters

PDM_IDM = IdmParameters(gap=1.0, headway=1.5, acceleration=1.5, braking=3.0, exponent=10.0)
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the speed limit
OFFSETS = (0.0, -1.0, 1.0)  # m sideways; the centreline first, so that it wins ties
HORIZON = 4.0  # s
BRAKE_WITHIN, BRAKE_BELOW, BRAKING = 2.0, 5.0, 4.05  # s, m/s, m/s^2


class PdmStyle:
    """Fifteen IDM proposals (five speeds, three lateral offsets), the best-scored one driven."""

    name = "pdm_style"

    def __init__(self, vehicle: VehicleParameters | None = None) -> None:
        self.vehicle = vehicle or VehicleParameters()
        self._fraction = np.tile(FRACTIONS, len(OFFSETS))
        self._offset = np.repeat(OFFSETS, len(FRACTIONS))
        self._names = [f"{f:.0%} of the limit, {o:+.0f} m" for f, o in zip(self._fraction, self._offset)]

    def reset(self, recording: Recording) -> None:
        self.vehicle = recording.vehicle

    def drive(self, scene: VectorScene) -> DriveOutput:
        path, objects = RoutePath.from_scene(scene), Objects.from_scene(scene)
        ego_box = ego_corners(np.zeros((1, 3)), self.vehicle)
        objects = objects.without(boxes_overlap(ego_box, objects.corners(np.zeros(1))[:, 0]))
        steps = round(HORIZON / STEP)
        blockers = Blockers.on_path(objects, path, blocker_times(steps), scene)
        v = float(scene.ego.v)
        speed = idm_speeds(path, blockers, PDM_IDM, v, self._fraction, self._offset, self.vehicle, steps)
        motion = track(scene.ego, path, speed, self._offset, self.vehicle)
        scores = score_proposals(motion, path, objects, self.vehicle)
        best = int(scores.total.argmax())
        drawn = picture(scene, motion, best, self._names, scores.total)
        if scores.time_to_collision[best] <= BRAKE_WITHIN and v <= BRAKE_BELOW:
            stop = full_brake(scene.ego, steps)
            drawn["plan"] = picture(scene, stop, 0)["plan"]
            reason = f"emergency brake: collision in {scores.time_to_collision[best]:.1f} s"
            return DriveOutput(stop.trajectory(0), reason=reason, picture=drawn)
        return DriveOutput(motion.trajectory(best), picture=drawn)


def full_brake(ego: EgoState, steps: int) -> Motion:
    """To rest at 4.05 m/s^2 along the present arc, as ``[1, steps + 1]`` motion."""
    time = np.arange(steps + 1) * STEP
    v0, kappa = max(float(ego.v), 0.0), float(ego.curvature)
    until = np.minimum(time, v0 / BRAKING)
    way = v0 * until - 0.5 * BRAKING * until**2
    yaw = kappa * way
    # Position on an arc, written so that it is exact and finite for a straight line too.
    chord = way * np.sinc(yaw / (2 * np.pi))
    v = v0 - BRAKING * until
    values = (chord * np.cos(yaw / 2), chord * np.sin(yaw / 2), yaw, v, np.where(v > 0, -BRAKING, 0.0), 0 * v + kappa)
    return Motion(*(value[None] for value in values))

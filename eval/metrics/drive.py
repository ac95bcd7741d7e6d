"""A drive seen with the eyes of the metrics: boxes, lanes and contacts, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely

from eval.metrics import geometry
from eval.simulation.trace import Trace
from perception.recording import Recording
from perception.road_map import Lane

KEYFRAME_GAP = 0.75  # s; annotations farther apart were interpolated over a gap
_CENTER, _REAR_AXLE = 4, 5  # columns of `lanes_of_points` after the four corners


@dataclass
class Drive:
    """Trace and recording of one scenario, with derived quantities shared by the metrics."""

    trace: Trace
    recording: Recording

    @property
    def steps(self) -> int:
        return len(self.trace.time)

    @property
    def dt(self) -> float:
        """Step (s); that of the recording where the drive has a single step."""
        return self.trace.dt if self.steps > 1 else self.recording.dt

    @cached_property
    def center(self) -> np.ndarray:
        """Pose ``[T, 3]`` of the ego box centre."""
        return geometry.ego_center(self.trace.pose, self.recording.vehicle)

    @cached_property
    def corners(self) -> np.ndarray:
        """Ego corners ``[T, 4, 2]``."""
        return geometry.ego_corners(self.trace.pose, self.recording.vehicle)

    @cached_property
    def agent_speed(self) -> np.ndarray:
        """``[N, T]`` m/s."""
        return np.linalg.norm(self.trace.agent_velocity, axis=-1)

    @cached_property
    def agent_corners(self) -> np.ndarray:
        """``[N, T, 4, 2]``; meaningless where the agent is absent."""
        size = self.trace.size
        return geometry.box_corners(self.trace.agent_pose, size[:, None, 0], size[:, None, 1])

    @cached_property
    def gap(self) -> np.ndarray:
        """Exact distance (m) ``[N, T]`` from ego box to agent box; inf where absent or farther than 30 m."""
        out = np.full(self.trace.agent_valid.shape, np.inf)
        near = np.linalg.norm(self.trace.agent_pose[..., :2] - self.center[:, :2], axis=-1)
        reach = 30.0 + 0.5 * np.hypot(*self.trace.size.T)[:, None]
        agent, step = np.nonzero(self.trace.agent_valid & (near < reach))
        out[agent, step] = geometry.box_distance(self.corners[step], self.agent_corners[agent, step])
        return out

    @cached_property
    def lanes_of_points(self) -> list[list[frozenset[str]]]:
        """Per step: the lanes under the four corners, the box centre and the rear axle."""
        points = np.concatenate([self.corners, self.center[:, None, :2], self.trace.pose[:, None, :2]], 1)
        lanes = list(self.recording.road.lanes.values())
        found: list[list[set[str]]] = [[set() for _ in range(points.shape[1])] for _ in range(self.steps)]
        if lanes:
            tree = shapely.STRtree([lane.polygon for lane in lanes])
            hits = tree.query(shapely.points(points.reshape(-1, 2)), predicate="intersects")
            for point, lane in hits.T:
                found[point // points.shape[1]][point % points.shape[1]].add(lanes[lane].id)
        return [[frozenset(ids) for ids in row] for row in found]

    @cached_property
    def lane(self) -> list[Lane | None]:
        """The lane ego's box centre drives in, per step; None off all lanes.

        Among overlapping lanes: the one of the step before, else its successors, else the
        route's, else the one whose direction fits best. (nuPlan resolves overlapping connectors
        with hindsight, by the one ego leaves through; with a route there is no need to.)
        """
        road, route = self.recording.road, set(self.recording.route)
        chosen: list[Lane | None] = []
        last: Lane | None = None
        for step, row in enumerate(self.lanes_of_points):
            ids = row[_CENTER]
            if not ids:
                chosen.append(None)
                continue
            if last is not None and last.id in ids:
                pool = {last.id}
            else:
                pool = set(ids & set(last.successors) if last is not None else ()) or set(ids)
                pool = (pool & route) or pool
            last = min((road.lanes[i] for i in sorted(pool)), key=lambda lane: self._heading_difference(lane, step))
            chosen.append(last)
        return chosen

    def _heading_difference(self, lane: Lane, step: int) -> float:
        pose = self.center[step]
        nearest = np.linalg.norm(lane.centerline - pose[:2], axis=1).argmin()
        return float(abs(np.angle(np.exp(1j * (lane.heading[nearest] - pose[2])))))

    @cached_property
    def between_lanes(self) -> np.ndarray:
        """``[T]`` bool: ego is not inside one lane, or two in a row, with all four corners."""
        lanes = self.recording.road.lanes
        out = np.empty(self.steps, bool)
        for step, row in enumerate(self.lanes_of_points):
            corners = row[:4]
            single = frozenset.intersection(*corners)
            out[step] = not single and not any(
                all(first in ids or second in ids for ids in corners)
                for first in frozenset.union(*corners)
                for second in lanes[first].successors
            )
        return out

    @cached_property
    def in_junction(self) -> np.ndarray:
        """``[T]`` bool: the rear axle is on a lane connector."""
        lanes = self.recording.road.lanes
        return np.array([any(lanes[i].connector for i in row[_REAR_AXLE]) for row in self.lanes_of_points])

    @cached_property
    def annotation_gap(self) -> str:
        """Why statements about other road users cannot be trusted; empty if they can."""
        known = self.recording.time[self.recording.keyframe]
        if not len(known):
            return "the recording has no annotated key frame"
        steps = np.diff(known)
        if len(steps) and steps.max() > KEYFRAME_GAP:
            return f"no annotations for {steps.max():.2f} s from {known[steps.argmax()]:.1f} s on"
        return ""

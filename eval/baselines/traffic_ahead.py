"""Other road users as the rule-based baselines see them: constant velocity, and who is in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.baselines.route_path import RoutePath
from eval.metrics.geometry import box_corners
from planner.scene import AgentClass, PolylineType, VectorScene

RADIUS = 50.0  # m around ego, as PDM-Closed


@dataclass
class Objects:
    """``A`` objects at the scene's time, ego frame.

    pose ``[A, 3]`` (m, m, rad), size ``[A, 2]`` (m), velocity ``[A, 2]`` (m/s), static ``[A]`` bool.
    """

    pose: np.ndarray
    size: np.ndarray
    velocity: np.ndarray
    static: np.ndarray

    @classmethod
    def from_scene(cls, scene: VectorScene, radius: float = RADIUS) -> Objects:
        """All valid objects within `radius` (m) of the rear axle."""
        agents = scene.agents
        box = agents.box.detach().cpu().numpy().astype(np.float64)
        near = agents.valid.cpu().numpy() & (np.hypot(box[:, 0], box[:, 1]) < radius)
        velocity = agents.velocity.detach().cpu().numpy().astype(np.float64)[near]
        static = agents.agent_class.cpu().numpy()[near] == AgentClass.STATIC
        velocity[static] = 0.0
        return cls(box[near, :3], box[near, 3:5], velocity, static)

    def __len__(self) -> int:
        return len(self.pose)

    def without(self, ignored: np.ndarray) -> Objects:
        """Those where `ignored` ``[A]`` is False."""
        keep = ~ignored
        return Objects(self.pose[keep], self.size[keep], self.velocity[keep], self.static[keep])

    def poses(self, time: np.ndarray) -> np.ndarray:
        """Pose ``[A, K, 3]`` at times ``[K]`` (s), moving on at constant velocity and heading."""
        moved = self.pose[:, None, :2] + time[:, None] * self.velocity[:, None]
        heading = np.broadcast_to(self.pose[:, None, 2:], (*moved.shape[:2], 1))
        return np.concatenate([moved, heading], -1)

    def corners(self, time: np.ndarray) -> np.ndarray:
        """Corners ``[A, K, 4, 2]`` at times ``[K]`` (s)."""
        return box_corners(self.poses(time), self.size[:, None, 0], self.size[:, None, 1])


@dataclass
class Blockers:
    """Objects in the coordinates of a path at ``K`` times: extents s_rear, d_low, d_high, s_center ``[A, K]`` (m);
    speed along the path ``[A, K]`` (m/s)."""

    s_rear: np.ndarray
    s_center: np.ndarray
    d_low: np.ndarray
    d_high: np.ndarray
    speed: np.ndarray

    @classmethod
    def on_path(cls, objects: Objects, path: RoutePath, time: np.ndarray, scene: VectorScene) -> Blockers:
        """Objects forecast at constant velocity, and stop lines closed now as objects that stand."""
        corners = objects.corners(time)
        points = np.concatenate([corners, corners.mean(-2, keepdims=True)], -2)
        s, d = path.project(points)
        heading = path.at(s[..., 4], path.heading)
        along = np.cos(heading) * objects.velocity[:, None, 0] + np.sin(heading) * objects.velocity[:, None, 1]
        parts = [s[..., :4].min(-1), s[..., 4], d.min(-1), d.max(-1), along]
        lines = _closed_lines(scene, path)
        if len(lines):
            at = np.repeat(lines[:, None], len(time), 1)
            wide = np.full_like(at, 1e3)
            parts = [np.concatenate(pair) for pair in zip(parts, [at, at, -wide, wide, 0.0 * at])]
        return cls(*parts)

    def nearest(
        self, k: int, s: np.ndarray, offset: np.ndarray, half_width: float, front: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gap (m) to and speed (m/s) of the nearest object in the way at time k, each ``[P]``.

        For ``P`` followers whose rear axle is at arc length s, on paths offset sideways (m). In
        the way is what overlaps the strip of ego's width and has its centre ahead of the rear
        axle. inf and 0 where there is none.
        """
        if not len(self.s_rear):
            return np.full(len(s), np.inf), np.zeros(len(s))
        low, high = offset[:, None] - half_width, offset[:, None] + half_width
        inside = (self.d_low[:, k] <= high) & (self.d_high[:, k] >= low)
        ahead = self.s_center[:, k] > s[:, None]
        gap = np.where(inside & ahead, self.s_rear[:, k] - s[:, None] - front, np.inf)
        who = gap.argmin(1)
        return gap[np.arange(len(s)), who], np.where(np.isfinite(gap.min(1)), self.speed[who, k], 0.0)


def _closed_lines(scene: VectorScene, path: RoutePath) -> np.ndarray:
    """Arc lengths (m) at which stop lines that are closed now cross the path."""
    m = scene.map
    closed = (m.closed & (m.kind == PolylineType.STOP_LINE)).cpu().numpy()
    found = []
    for line in np.flatnonzero(closed):
        xy = m.xy[line][m.valid[line]].detach().cpu().numpy().astype(np.float64)
        if len(xy) < 2:
            continue
        s, d = path.project(xy)
        if d.min() <= 0.0 <= d.max() and np.abs(d).min() < 10.0:
            found.append(float(np.interp(0.0, np.sort(d), s[np.argsort(d)])))
    return np.array(found)

"""The route of a scene as a path to follow: arc length, offsets, curvature, limits and widths, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from planner.scene import VectorScene

SPACING = 0.5  # m between path points
COARSE = 6  # points skipped in the first search of a projection
SMOOTHING = 7  # points; kinks of the map's centreline up to 3 m apart are rounded off
LATERAL_ACCELERATION = 3.0  # m/s^2 accepted in curves
CURVE_BRAKING = 1.5  # m/s^2 spent on slowing down for a curve ahead


@dataclass
class RoutePath:
    """``n`` points along the centreline of the route, `SPACING` apart, ego frame.

    s ``[n]`` m; xy ``[n, 2]`` m; heading ``[n]`` rad, unwrapped; curvature ``[n]`` 1/m;
    limit ``[n]`` m/s from the map; curve_speed ``[n]`` m/s that curves here and ahead allow;
    left, right, left_oncoming, right_oncoming ``[n]`` m as in `planner.scene.Route`; junction ``[n]``.
    """

    s: np.ndarray
    xy: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    limit: np.ndarray
    curve_speed: np.ndarray
    left: np.ndarray
    right: np.ndarray
    left_oncoming: np.ndarray
    right_oncoming: np.ndarray
    junction: np.ndarray

    @classmethod
    def from_scene(cls, scene: VectorScene) -> RoutePath:
        """From the route of a single (unbatched) scene."""
        route = scene.route
        count = int(route.valid.sum())
        a = lambda tensor: tensor[:count].detach().cpu().numpy()  # noqa: E731
        xy = a(route.xy).astype(np.float64)
        step = np.linalg.norm(np.diff(xy, axis=0), axis=1)
        keep = np.concatenate([[True], step > 1e-6])
        xy, index = xy[keep], np.flatnonzero(keep)
        raw_s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])
        s = np.arange(0.0, raw_s[-1] + 1e-9, SPACING)
        after = np.clip(np.searchsorted(raw_s, s, side="right"), 1, len(raw_s) - 1)
        path = np.stack([np.interp(s, raw_s, xy[:, i]) for i in (0, 1)], -1)
        tangent = np.gradient(path, axis=0)
        heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
        heading = uniform_filter1d(heading, SMOOTHING, mode="nearest")
        curvature = uniform_filter1d(np.gradient(heading, SPACING), SMOOTHING, mode="nearest")
        # Between two route points the narrower width and the lower limit hold.
        low = lambda t: np.minimum(a(t)[index][after - 1], a(t)[index][after])  # noqa: E731
        return cls(
            s, path, heading, curvature, low(route.speed_limit), _curve_speed(curvature),
            low(route.left), low(route.right), low(route.left_oncoming), low(route.right_oncoming),
            a(route.junction)[index][after - 1],
        )  # fmt: skip

    def project(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length and signed lateral offset (m, left positive), each ``[...]``, of points ``[..., 2]``."""
        points = xy.reshape(-1, 2)
        # Nearest of every COARSE-th point first, then the best of its neighbours: a tenth of the work.
        sparse = self.xy[::COARSE].astype(np.float32)
        squared = (sparse**2).sum(1) - np.float32(2.0) * points.astype(np.float32) @ sparse.T
        around = squared.argmin(1)[:, None] * COARSE + np.arange(-COARSE, COARSE + 1)
        around = np.clip(around, 0, len(self.xy) - 1)
        fine = ((self.xy[around] - points[:, None]) ** 2).sum(-1).argmin(1)
        nearest = around[np.arange(len(points)), fine]
        offset = points - self.xy[nearest]
        c, n = np.cos(self.heading[nearest]), np.sin(self.heading[nearest])
        s = self.s[nearest] + c * offset[:, 0] + n * offset[:, 1]
        d = c * offset[:, 1] - n * offset[:, 0]
        return s.reshape(xy.shape[:-1]), d.reshape(xy.shape[:-1])

    def at(self, s: np.ndarray, values: np.ndarray) -> np.ndarray:
        """One of the path's arrays, interpolated at arc lengths s ``[...]``; held constant beyond the ends."""
        return np.interp(s, self.s, values)

    def index(self, s: np.ndarray) -> np.ndarray:
        """Index of the path point at or before arc length s ``[...]``."""
        return np.clip((s / SPACING).astype(int), 0, len(self.s) - 1)


def _curve_speed(curvature: np.ndarray) -> np.ndarray:
    """Speed from which every curve ahead can be reached in time by braking gently."""
    squared = LATERAL_ACCELERATION / np.maximum(np.abs(curvature), 1e-4)
    slope = 2.0 * CURVE_BRAKING * SPACING
    ramp = slope * np.arange(len(squared))
    return np.sqrt(np.minimum.accumulate((squared + ramp)[::-1])[::-1] - ramp)

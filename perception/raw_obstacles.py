"""THE PAGE of the second perception channel: a LiDAR sweep -> what stands there, and how far is free.

Geometry and counting only: nothing here is learned, and nothing from the first channel is used. What it reports feeds
the checker, so that an object that the network misses is still in somebody's way.
"""

from __future__ import annotations

import numpy as np
import torch

from perception.raw_obstacles_clusters import Clusters, clusters, tiled
from perception.raw_obstacles_config import RawObstacleConfig
from perception.raw_obstacles_door import NEAR, SweepDoor
from perception.raw_obstacles_ground import height_above_ground
from perception.raw_obstacles_tracks import Odometry, StillCells, Tracks, extents
from perception.sensor_frame import LidarSweep
from planner.scene import RawObstacles, RawStatus, VehicleParameters


class RawObstacleChannel:
    """One per vehicle; keeps the tracks, the odometry and the last sweep between cycles."""

    def __init__(self, vehicle: VehicleParameters | None = None, config: RawObstacleConfig | None = None) -> None:
        self.vehicle, self.config = vehicle or VehicleParameters(), config or RawObstacleConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new drive begins."""
        config = self.config
        self._door, self._odometry = SweepDoor(config.door), Odometry()
        self._tracks, self._still = Tracks(config.track), StillCells(config.track, config.cluster.cell)
        self._last: RawObstacles | None = None

    def observe(self, sweep: LidarSweep | None, now_us: int, v: float, yaw_rate: float) -> RawObstacles:
        """One cycle; never raises for anything in the sweep.

        sweep: the newest one, None if there is none. now_us: the receiver's clock (microseconds). v (m/s), yaw_rate
        (rad/s): the ego's own odometry. With a status other than OK: the last obstacles, no sight.
        """
        status, reason = self._door.judge(sweep, now_us)
        if status is not RawStatus.OK or sweep is None:
            return self._without(now_us, status, reason)
        if self._last is not None and int(self._last.time_us) == sweep.time_us:
            return self._last  # the same sweep once more, still young enough

        # 1. points of the world in the ego frame
        points = self._outside(sweep)
        # 2. ground and what stands on it
        height = height_above_ground(points, self.config.ground, self.config.range_max)
        radius = np.hypot(points[:, 0], points[:, 1])
        cluster = self.config.cluster
        above = height > cluster.height_min + cluster.height_slope * radius
        stands = above & (height < cluster.height_max)
        # 3. groups, boxes, motion
        dt = self._odometry.advance(sweep.time_us, v, yaw_rate)
        groups = clusters(points[stands, :2], cluster)
        box, velocity, known, seen = self._moving(groups, dt)
        # 4. free sight
        sight, measured = _sight(points, radius, stands, np.abs(height) < cluster.height_min, self.config.sectors)
        self._last = _contract(box, velocity, known, seen, sight, measured, sweep.time_us, cluster.count_max)
        return self._last

    def _outside(self, sweep: LidarSweep) -> np.ndarray:
        """``[N, 3]`` float32, ego frame: returns of anything but the own vehicle, up to the range."""
        far = (sweep.points * sweep.points).sum(1) > 1.0
        rotation, mount = sweep.ego_from_lidar[:3, :3], sweep.ego_from_lidar[:3, 3]
        points = sweep.points[far].astype(np.float32) @ rotation.T.astype(np.float32) + mount.astype(np.float32)
        x, y = points[:, 0], points[:, 1]
        margin, vehicle = self.config.own_margin, self.vehicle
        own = (x < vehicle.front + margin) & (x > -vehicle.rear - margin) & (np.abs(y) < vehicle.width / 2 + margin)
        own &= points[:, 2] < self.config.own_height
        return points[~own & (x * x + y * y < self.config.range_max**2)]

    def _moving(self, groups: Clusters, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(box ``[O, 5]``, velocity ``[O, 2]``, velocity known ``[O]``, sweeps seen ``[O]``), ego frame."""
        config, odometry = self.config.cluster, self._odometry
        fixed = odometry.out_of_ego(groups.points)
        motion = self._tracks.update(extents(fixed, groups.start), dt)
        cut = (groups.box[:, 3] > config.long_max) | (groups.box[:, 4] > config.wide_max)
        tiles, owner = tiled(groups, cut, config.tile, -odometry.pose[2])
        still, tile_seen = self._still.update(fixed, tiles, odometry.out_of_ego(tiles.points))
        # The middle of a long flank looks at rest although it slides by, and the visible part of a long wall seems to
        # slide along with ego: only what neither stays nor moves as a whole keeps the other's word.
        goes = (motion.moved & (groups.box[:, 3] < self.config.track.vehicle_max))[owner]
        carried = goes & ~still & motion.known[owner]
        whole = ~cut
        velocity = np.concatenate([motion.velocity[whole], motion.velocity[owner] * carried[:, None]])
        known = np.concatenate([motion.known[whole], carried | (still & ~goes)])
        seen = np.concatenate([motion.seen[whole], tile_seen])
        box = np.concatenate([groups.box[whole], tiles.box])
        known &= np.hypot(box[:, 0], box[:, 1]) < self.config.track.known_within
        return box, odometry.into_ego(velocity * known[:, None]), known, seen

    def _without(self, now_us: int, status: RawStatus, reason: str) -> RawObstacles:
        if self._last is None:
            return RawObstacles.nothing(now_us, status, reason, self.config.sectors)
        blind = torch.zeros_like(self._last.sight_valid)
        return self._last.replace(status=status, reason=reason, sight_valid=blind)


def _sight(
    points: np.ndarray, radius: np.ndarray, stands: np.ndarray, is_ground: np.ndarray, sectors: int
) -> tuple[np.ndarray, np.ndarray]:
    """(free range ``[K]`` m, measured ``[K]``): to the nearest obstacle, and no farther than the ground was seen."""
    sector = np.round(np.arctan2(points[:, 1], points[:, 0]) * (sectors / (2 * np.pi))).astype(int) % sectors
    nearest = np.full(sectors, np.inf)
    np.minimum.at(nearest, sector[stands], radius[stands])
    farthest = np.zeros(sectors)
    np.maximum.at(farthest, sector[is_ground], radius[is_ground])
    return np.minimum(nearest, farthest), (farthest > NEAR) | np.isfinite(nearest)


def _contract(
    box: np.ndarray,
    velocity: np.ndarray,
    known: np.ndarray,
    seen: np.ndarray,
    sight: np.ndarray,
    measured: np.ndarray,
    time_us: int,
    count_max: int,
) -> RawObstacles:
    """The nearest boxes as the contract has them."""
    order = np.argsort(np.hypot(box[:, 0], box[:, 1]), kind="stable")[:count_max]
    box = box[order]
    f = lambda a: torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64))  # noqa: E731
    return RawObstacles(
        f(box[:, :2]), f(np.arctan2(np.sin(box[:, 2]), np.cos(box[:, 2]))), f(box[:, 3]), f(box[:, 4]),
        f(velocity[order]), torch.from_numpy(known[order].copy()), torch.from_numpy(seen[order].astype(np.int64)),
        torch.ones(len(order), dtype=torch.bool), f(sight), torch.from_numpy(measured.copy()), torch.tensor(time_us),
    )  # fmt: skip

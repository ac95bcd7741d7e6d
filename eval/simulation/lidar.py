"""A spinning LiDAR of 32 rings (HDL-32E as nuScenes mounts it): the page that turns a world into a sweep.

Rays fire column by column while the sensor turns clockwise and the vehicle drives on; what comes back is written as
nuScenes writes it: all rays of a turn in firing order, moved into the sensor's frame at the end of the turn, rays
without a return at range zero (and so at the place the sensor was when they fired).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eval.simulation.lidar_hits import candidates, through_box
from eval.simulation.lidar_solids import Solids
from eval.simulation.lidar_surroundings import Ground
from perception.sensor_frame import LidarSweep

LOW_RANGE = 45.0
"""Beyond this (m) kerbs are not looked at: the rings are farther apart there than a kerb is high."""


@dataclass(frozen=True)
class LidarConfig:
    """The sensor. SI units, angles in degrees where the name says so.

    rings, columns: rays per turn; period (s): of a turn. lowest_deg, highest_deg: elevation of the outer rings.
    mount: x, y, z of the sensor in the ego frame (m). pitch_deg: nose down positive.
    range_max (m): farthest return. range_noise (m, standard deviation). dropout: share of returns lost at random.
    reach (m): range at which 1/e of the rays onto a white wall seen at a right angle still come back; it falls with the
    fourth root of reflectivity times cosine of incidence (fitted to the return rate of one real sweep's ground rings).
    """

    rings: int = 32
    columns: int = 1084
    period: float = 0.05
    lowest_deg: float = -30.67
    highest_deg: float = 10.67
    mount: tuple[float, float, float] = (0.94, 0.0, 1.84)
    pitch_deg: float = 0.0
    range_max: float = 105.0
    range_noise: float = 0.008
    dropout: float = 0.008
    reach: float = 225.0


@dataclass(frozen=True)
class SensorMotion:
    """The vehicle at the end of the turn: pose ``[3]`` of the rear axle (x m, y m, yaw rad; global frame), v (m/s),
    yaw_rate (rad/s); both are taken as constant during the turn."""

    pose: np.ndarray
    v: float
    yaw_rate: float
    time_us: int


# Own body in the ego frame (x, y, yaw, half length, half width, bottom, top, reflectivity, porosity): roof, bonnet.
_OWN_BODY = (
    (0.70, 0.0, 0.0, 0.72, 0.54, 1.0, 1.49, 0.3, 0.0),
    (2.35, 0.0, 0.0, 0.35, 0.65, 0.5, 0.97, 0.3, 0.0),
)
_OBLIQUE = 0.25
"""The ground's intensity goes with this power of the cosine of incidence: the sensor evens out most of it (seen in one
real sweep, in which asphalt keeps its intensity from 5 to 12 m and has half of it at 20 m)."""


class Lidar:
    """One sensor; holds its ray directions, nothing of the world."""

    def __init__(self, config: LidarConfig | None = None, ego_from_lidar: np.ndarray | None = None) -> None:
        """ego_from_lidar ``[4, 4]``: a calibration that replaces `config.mount` and `config.pitch_deg`."""
        self.config = config = config or LidarConfig()
        self.ego_from_lidar = _mounted(config) if ego_from_lidar is None else np.asarray(ego_from_lidar, dtype=float)
        elevation = np.deg2rad(np.linspace(config.lowest_deg, config.highest_deg, config.rings))
        azimuth = np.pi - 2 * np.pi * (np.arange(config.columns) + 0.5) / config.columns
        level = np.cos(elevation)
        direction = np.empty((config.columns, config.rings, 3))
        direction[..., 0] = np.cos(azimuth)[:, None] * level
        direction[..., 1] = np.sin(azimuth)[:, None] * level
        direction[..., 2] = np.sin(elevation)
        self._direction = direction @ self.ego_from_lidar[:3, :3].T
        self._time = -config.period * (1 - (np.arange(config.columns) + 1) / config.columns)
        self._ring = np.tile(np.arange(config.rings), config.columns)

    def sweep(self, solids: Solids, ground: Ground, motion: SensorMotion, rng: np.random.Generator) -> LidarSweep:
        """One turn that ends at the motion's time. solids, ground: of the global frame."""
        origin, direction = self._rays(motion)
        distance, brightness, glow = self._ground(ground, origin, direction, motion)
        near = solids.near(motion.pose[:2], np.where(solids.top < 0.3, LOW_RANGE, self.config.range_max))
        boxes = Solids.concatenate([_in_ego_frame(near, ground, motion), _own_body(motion.v)])
        self._hit(boxes, origin, direction, distance, brightness, glow, motion, rng)
        return self._returned(origin, direction, distance, brightness, glow, motion, rng)

    def _rays(self, motion: SensorMotion) -> tuple[np.ndarray, np.ndarray]:
        """Origin ``[C, 3]`` and direction ``[C, R, 3]`` in the ego frame at the end of the turn, float32."""
        turned = motion.yaw_rate * self._time
        c, s = np.cos(turned), np.sin(turned)
        half = turned / 2  # the chord of an arc of constant curvature points along half the turn
        moved = motion.v * self._time
        mount = self.ego_from_lidar[:3, 3]
        origin = np.empty((len(turned), 3))
        origin[:, 0] = moved * np.cos(half) + c * mount[0] - s * mount[1]
        origin[:, 1] = moved * np.sin(half) + s * mount[0] + c * mount[1]
        origin[:, 2] = mount[2]
        x, y = self._direction[..., 0], self._direction[..., 1]
        direction = np.empty(self._direction.shape, dtype=np.float32)
        direction[..., 0] = c[:, None] * x - s[:, None] * y
        direction[..., 1] = s[:, None] * x + c[:, None] * y
        direction[..., 2] = self._direction[..., 2]
        return origin.astype(np.float32), direction

    def _ground(
        self, ground: Ground, origin: np.ndarray, direction: np.ndarray, motion: SensorMotion
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range ``[C, R]`` to the ground (infinite above the horizon), how much light it sends back, and its intensity
        (of a white wall: 1)."""
        distance = np.full(direction.shape[:2], np.inf, dtype=np.float32)
        brightness = np.zeros(direction.shape[:2], dtype=np.float32)
        glow = np.zeros(direction.shape[:2], dtype=np.float32)
        column, ring = np.nonzero(direction[..., 2] < -0.01)
        d, o = direction[column, ring], origin[column]
        reached = _first_ground(ground, o, d, motion)
        hit = reached < self.config.range_max
        column, ring, d, o, reached = column[hit], ring[hit], d[hit], o[hit], reached[hit]
        reflectivity = ground.reflectivity(_to_global(o[:, :2] + reached[:, None] * d[:, :2], motion))
        cosine = np.maximum(-d[:, 2], 0.05)
        distance[column, ring] = reached
        brightness[column, ring] = reflectivity * cosine
        glow[column, ring] = reflectivity * cosine**_OBLIQUE
        return distance, brightness, glow

    def _hit(
        self,
        boxes: Solids,
        origin: np.ndarray,
        direction: np.ndarray,
        distance: np.ndarray,
        brightness: np.ndarray,
        glow: np.ndarray,
        motion: SensorMotion,
        rng: np.random.Generator,
    ) -> None:
        """Shorten `distance` and set `brightness` and `glow` wherever a box is hit first. Boxes in the ego frame."""
        config = self.config
        which, column = candidates(boxes, self.ego_from_lidar, config.columns, config.period, motion.v, motion.yaw_rate)
        o = origin[column]
        at = boxes.centre[which] + boxes.velocity[which] * self._time[column, None]
        enter, leave, cosine = through_box(
            o[:, :2] - at.astype(np.float32),
            o[:, 2],
            direction[column],
            boxes.yaw[which].astype(np.float32),
            boxes.half[which].astype(np.float32),
            boxes.bottom[which].astype(np.float32),
            boxes.top[which].astype(np.float32),
        )
        pair, ring = np.nonzero((enter < leave) & (enter > 0.05) & (enter < distance[column]))
        enter, depth, cosine = enter[pair, ring], (leave - enter)[pair, ring], cosine[pair, ring]
        box = which[pair]
        porous = boxes.porosity[box]
        soft = porous > 0.2
        enter = enter + np.where(soft, rng.uniform(0, 0.6, len(enter)) * np.minimum(depth, 2.0), 0.0)
        kept = rng.random(len(enter)) >= porous
        ray = (column[pair] * self.config.rings + ring)[kept]
        enter, box, cosine = enter[kept], box[kept], cosine[kept]
        # Written far to near, so that the nearest hit of a ray stays.
        order = np.argsort(-enter, kind="stable")
        ray, enter = ray[order], enter[order]
        closer = enter < distance.reshape(-1)[ray]
        ray, enter, order = ray[closer], enter[closer], order[closer]
        distance.reshape(-1)[ray] = enter
        brightness.reshape(-1)[ray] = boxes.reflectivity[box[order]] * np.maximum(cosine[order], 0.05)
        glow.reshape(-1)[ray] = brightness.reshape(-1)[ray]

    def _returned(
        self,
        origin: np.ndarray,
        direction: np.ndarray,
        distance: np.ndarray,
        brightness: np.ndarray,
        glow: np.ndarray,
        motion: SensorMotion,
        rng: np.random.Generator,
    ) -> LidarSweep:
        config, shape = self.config, distance.shape
        reach = config.reach * np.sqrt(np.sqrt(brightness))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            power = np.exp(-((distance / reach) ** 4))
        back = (distance < config.range_max) & (rng.random(shape, dtype=np.float32) < power * (1 - config.dropout))
        noise = config.range_noise * rng.standard_normal(shape, dtype=np.float32)
        measured = np.where(back, np.maximum(distance, 0.05) + noise, 0.0).astype(np.float32)
        points = origin[:, None] + measured[..., None] * direction
        rotation, mount = self.ego_from_lidar[:3, :3], self.ego_from_lidar[:3, 3]
        points = (points.reshape(-1, 3) - mount.astype(np.float32)) @ rotation.astype(np.float32)
        level = 150.0 * glow * np.exp(0.5 * rng.standard_normal(shape, dtype=np.float32))
        stray = np.round(4.0 * rng.random(shape, dtype=np.float32))
        intensity = np.where(back, np.clip(np.round(level), 1, 255), stray)
        return LidarSweep(
            points=points.astype(np.float32),
            intensity=intensity.reshape(-1).astype(np.float32),
            ring=self._ring,
            ego_from_lidar=self.ego_from_lidar,
            global_from_ego=_upright(motion.pose),
            time_us=motion.time_us,
        )


def _first_ground(ground: Ground, o: np.ndarray, d: np.ndarray, motion: SensorMotion) -> np.ndarray:
    """Range ``[P]``: onto the pavement where that comes first and is pavement, else onto the road."""
    down = -d[:, 2]

    def onto(level: np.ndarray | float) -> np.ndarray:
        return (o[:, 2] - level) / down

    def place(reached: np.ndarray) -> np.ndarray:
        return _to_global(o[:, :2] + reached[:, None] * d[:, :2], motion)

    level = ground.waves(place(np.minimum(onto(0.0), 200.0)))
    raised = onto(level + ground.config.kerb)
    on_road = ground.on_road(place(np.minimum(raised, 200.0)))
    return np.where(on_road, onto(level), raised).astype(np.float32)


def _own_body(v: float) -> Solids:
    """Moves with the sensor, so that it stays where it is seen from it."""
    body = Solids.from_rows(list(_OWN_BODY))
    return replace(body, velocity=np.tile([v, 0.0], (len(body), 1)))


def _in_ego_frame(solids: Solids, ground: Ground, motion: SensorMotion) -> Solids:
    """Global solids in the ego frame at the end of the turn, standing on the ground's waves."""
    x, y, yaw = motion.pose
    c, s = np.cos(yaw), np.sin(yaw)
    into = np.array([[c, -s], [s, c]])  # row vectors times this: global to ego axes
    level = ground.waves(solids.centre)
    return replace(
        solids,
        centre=(solids.centre - [x, y]) @ into,
        yaw=solids.yaw - yaw,
        bottom=solids.bottom + level,
        top=solids.top + level,
        velocity=solids.velocity @ into,
    )


def _to_global(xy: np.ndarray, motion: SensorMotion) -> np.ndarray:
    x, y, yaw = motion.pose
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([x + c * xy[..., 0] - s * xy[..., 1], y + s * xy[..., 0] + c * xy[..., 1]], -1)


def _upright(pose: np.ndarray) -> np.ndarray:
    """``[4, 4]`` from a planar pose ``[3]``."""
    out = np.eye(4)
    c, s = np.cos(pose[2]), np.sin(pose[2])
    out[:2, :2], out[:2, 3] = [[c, -s], [s, c]], pose[:2]
    return out


def _mounted(config: LidarConfig) -> np.ndarray:
    """ego_from_lidar ``[4, 4]``: the sensor's y looks forward, its x to the right."""
    p = np.deg2rad(config.pitch_deg)
    out = np.eye(4)
    out[:3, 0] = [0.0, -1.0, 0.0]
    out[:3, 1] = [np.cos(p), 0.0, -np.sin(p)]
    out[:3, 2] = [np.sin(p), 0.0, np.cos(p)]
    out[:3, 3] = config.mount
    return out

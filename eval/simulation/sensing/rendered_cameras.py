"""The cameras on the simulated ego: a recording's still world, everybody who is there now, one image each."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from eval.simulation.lidar_solids import NOBODY, Material, Solids, road_users
from eval.simulation.lidar_surroundings import Surroundings, SurroundingsConfig
from eval.simulation.sensing.camera import Stage, photograph
from eval.simulation.sensing.camera_rig import CameraRig, nominal_rig
from eval.simulation.sensing.conditions import Conditions, draw_conditions
from eval.simulation.sensing.depth_buffer import Hits
from eval.simulation.sensing.sky import cloud_noise
from eval.simulation.sensing.street import draw_street
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import CameraImages
from planner.scene import EgoState

SIGHT = 150.0
"""m: boxes that are farther away are not drawn."""


@dataclass(frozen=True)
class CameraConfig:
    """height, width (pixels) of every image. samples: rays per pixel along each axis; 2 smooths edges at four times the
    work. weather: a kind of `conditions.KINDS`, or "any". seed: of light and noise, with the recording's name.
    surroundings: what stands beside the road.
    """

    height: int = 96
    width: int = 160
    samples: int = 1
    weather: str = "any"
    seed: int = 0
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)


@dataclass(frozen=True)
class Shot:
    """image ``[H, W, 3]`` uint8; hits: what its samples see, of solids; global_from_ego ``[4, 4]`` and time_us at the
    exposure."""

    image: np.ndarray
    hits: Hits
    solids: Solids
    global_from_ego: np.ndarray
    time_us: int

    def seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(track ids, samples that show it, samples that would if nobody hid it) of the road users in the picture."""
        owner, count = self.solids.owner, len(self.hits.box)
        candidate = owner[self.hits.candidate_box]
        # An object has several parts: each of its samples counts once.
        place = np.unique((candidate * count + self.hits.candidate_pixel)[candidate != NOBODY])
        tracks, total = np.unique(place // count, return_counts=True)
        first = owner[self.hits.box[self.hits.box >= 0]]
        return tracks, np.array([(first == track).sum() for track in tracks], dtype=int), total


class RenderedCameras:
    """Images of one recording's world. The same moment gives the same images, in any order of calls."""

    def __init__(
        self,
        recording: Recording,
        config: CameraConfig | None = None,
        rig: CameraRig | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """rig: a calibration instead of the nominal one, with its own image sizes. surroundings: if drawn already."""
        self.config = config = config or CameraConfig()
        self.rig = rig or nominal_rig(config.height, config.width)
        self._name = zlib.crc32(recording.name.encode())
        rng = np.random.default_rng([config.seed, self._name, 1])
        self.light: Conditions = draw_conditions(rng, config.weather)
        surroundings = surroundings or Surroundings.of(recording, config.surroundings)
        still = surroundings.solids
        self._still = still[still.material != Material.KERB]  # kerbs are part of the painted ground
        self._street = draw_street(recording, self._still, surroundings.paint, self.light, rng)
        self._clouds = cloud_noise(rng)
        agents = recording.agents
        self._height = dict(zip(agents.track_id.tolist(), agents.height.tolist()))

    def images(self, ego: EgoState, objects: ObjectStates) -> CameraImages:
        """The images of the LiDAR's turn that ends now. ego: single state, global frame; objects: everybody there."""
        shots = self.shots(ego, objects)
        return CameraImages(
            channel=self.rig.channel,
            image=[shot.image for shot in shots],
            intrinsics=self.rig.intrinsics,
            ego_from_camera=self.rig.ego_from_camera,
            global_from_ego=np.stack([shot.global_from_ego for shot in shots]),
            time_us=np.array([shot.time_us for shot in shots], dtype=np.int64),
        )

    def shots(self, ego: EgoState, objects: ObjectStates) -> list[Shot]:
        """One per camera of the rig.

        Each camera exposes when the LiDAR sweeps past it (`CameraRig.trigger`); until then ego and objects keep the
        speed and yaw rate they have now.
        """
        out = []
        for index, before in enumerate(self.rig.trigger()):
            where = objects.pose.copy()
            where[:, :2] += before * objects.velocity
            time_us = int(ego.time_us) + round(before * 1e6)
            out.append(self.shot(index, ego_pose(ego, before), replace(objects, pose=where), time_us))
        return out

    def shot(self, index: int, global_from_ego: np.ndarray, objects: ObjectStates, time_us: int) -> Shot:
        """One camera's exposure. global_from_ego ``[4, 4]``, objects, time_us: at that moment."""
        solids = self.world(objects)
        position = global_from_ego[:2, 3]
        shaded = np.zeros(len(solids), dtype=bool)
        moving = slice(len(self._still), None)
        shaded[moving] = self._street.shade(solids.centre[moving])
        near = ((solids.centre - position) ** 2).sum(1) < (SIGHT + np.hypot(*solids.half.T)) ** 2
        stage = Stage(solids[near], shaded[near], self._street, self.light, self._clouds, self._name)
        size = (int(self.rig.height[index]), int(self.rig.width[index]))
        rng = np.random.default_rng([self.config.seed, self._name, time_us % 2**63, index, 2])
        image, hits = photograph(
            stage, global_from_ego @ self.rig.ego_from_camera[index], self.rig.intrinsics[index], size, rng,
            self.config.samples,
        )  # fmt: skip
        return Shot(image, hits, stage.solids, global_from_ego, time_us)

    def world(self, objects: ObjectStates) -> Solids:
        """All boxes: the still ones, then everybody's parts."""
        height = np.array([self._height[int(track)] for track in objects.track_id])
        users = road_users(objects.pose, objects.size, height, objects.velocity, objects.agent_class, objects.track_id)
        return Solids.concatenate([self._still, users])


def ego_pose(ego: EgoState, after: float) -> np.ndarray:
    """global_from_ego ``[4, 4]``, `after` (s, may be negative) the ego's time, at constant speed and yaw rate."""
    yaw, turned, moved = float(ego.yaw), float(ego.yaw_rate) * after, float(ego.v) * after
    along = yaw + turned / 2  # the chord of an arc of constant curvature points along half the turn
    c, s = np.cos(yaw + turned), np.sin(yaw + turned)
    out = np.eye(4)
    out[:2, :2] = [[c, -s], [s, c]]
    out[:2, 3] = float(ego.x) + moved * np.cos(along), float(ego.y) + moved * np.sin(along)
    return out

"""Who shows the driver the world: the oracle, or a trained network that looks at rendered sensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from eval.simulation.observer_config import NetworkObserverConfig, ObserverConfig
from eval.simulation.rollout import Observer
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.vehicle_sensors import VehicleSensors
from perception.checkpoint import checkpoint_hash
from perception.map_polylines import map_window
from perception.network import PerceptionNetwork
from perception.oracle import LocalRoute, OracleConfig, OraclePerception, agents_of
from perception.perceive import Perception, read_checkpoint
from perception.recording import ObjectStates, Recording
from perception.road_map import RoadMap
from perception.routing import RouteSurface
from planner.scene import AgentFutures, AgentTracks, EgoState, MapPolylines, VectorScene

LEAD_IN = tuple(float(after) for after in np.arange(10, 0, -1) / 10)
"""s before a drive's first moment at which the network has looked already: it knows half a second, and tracks."""


class NetworkObserver:
    """`perception.perceive.Perception` in the loop; one per drive.

    Agents, their futures and the proposal come from the network; the route from localisation and navigation, as the
    oracle's does. lines: the map around a pose, as the oracle serves it; None leaves what the network saw. futures: of
    the agents told, seen from a pose; None leaves the network's.
    """

    learned = True

    def __init__(
        self,
        surface: LocalRoute,
        perception: Perception,
        sensors: VehicleSensors,
        lines: Callable[[np.ndarray], MapPolylines] | None,
        futures: Callable[[AgentTracks, np.ndarray], AgentFutures] | None,
    ) -> None:
        self.surface, self.perception, self.sensors = surface, perception, sensors
        self._lines, self._futures = lines, futures

    def __call__(self, ego: EgoState, objects: ObjectStates, name: str) -> VectorScene:
        """The scene at ego's believed place (global frame). objects: not looked at; the sensors are."""
        pose = np.array([float(ego.x), float(ego.y), float(ego.yaw)])
        route = self.surface.local(pose)
        for frame in self.sensors.before(ego):
            self.perception.observe(frame, route)
        scene = self.perception.observe(self.sensors.frame(ego), route)
        if self._lines is not None:
            scene = scene.replace(map=self._lines(pose))
        if self._futures is not None:
            # What somebody may do, and what the tracker does not know of where he is and how fast.
            ahead = self._futures(scene.agents, pose)
            unknown = self.perception.tracker.uncertainty(ahead.time, scene.global_from_ego)[:, None]
            scene = scene.replace(futures=ahead.replace(covariance=ahead.covariance + unknown))
        return scene.replace(name=name)


def make_observer(
    recording: Recording, source: str, config: ObserverConfig, simulation: SimulationConfig, second_channel: bool
) -> tuple[Observer, VehicleSensors | None]:
    """Perception for one drive, and the rendered sensors that it or the second channel needs; None: nobody needs any.

    source: "oracle" or "network". Raises ConfigError for a checkpoint that is not there, CheckpointError for one that
    cannot be used.
    """
    surface = RouteSurface(recording.road, recording.route, recording.route_xy)
    if source == "oracle":
        oracle = OraclePerception(recording.road, surface, config.oracle)
        sensing = sensor_config(None, simulation)
        return oracle.observe, VehicleSensors(recording, sensing) if second_channel else None
    wanted = config.network
    network, calibration, affinity = _loaded(wanted.path())
    sensors = VehicleSensors(recording, sensor_config(wanted, simulation, network), second_channel, LEAD_IN)
    perception = Perception(network, calibration, wanted.decode, wanted.tracking, affinity)
    window, radius = map_window(recording.road, config.oracle.points), config.oracle.map_radius
    lines = partial(window.local, radius=radius) if wanted.map == "hd_map" else None
    futures = partial(rule_futures, road=recording.road, config=config.oracle) if wanted.futures == "rules" else None
    return NetworkObserver(surface, perception, sensors, lines, futures), sensors


def rule_futures(told: AgentTracks, pose: np.ndarray, road: RoadMap, config: OracleConfig) -> AgentFutures:
    """The oracle's forecasts for agents as told, in the frame of the pose ``[3]``, as if these were certain."""
    kept = told.valid.numpy()
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[cos, sin], [-sin, cos]])
    box, velocity = told.box.double().numpy(), told.velocity.double().numpy()
    objects = ObjectStates(
        told.track_id.numpy(),
        told.agent_class.numpy(),
        box[:, 3:],
        np.concatenate([box[:, :2] @ turn + pose[:2], box[:, 2:3] + pose[2]], 1),
        velocity @ turn,
    )
    _, futures = agents_of(objects, road, pose, config)
    return futures.replace(valid=futures.valid & torch.from_numpy(kept)[:, None, None])


def sensor_config(
    wanted: NetworkObserverConfig | None, simulation: SimulationConfig, network: PerceptionNetwork | None = None
) -> SensorConfig:
    """The sensors to render: the second channel's LiDAR alone without a network, else what that looks at."""
    plain = SensorConfig(
        with_cameras=False, seed=simulation.seed, lidar=simulation.lidar, surroundings=simulation.surroundings
    )
    if wanted is None or network is None:
        return plain
    height, width = network.config.preprocessing.image
    cameras = CameraConfig(height=height, width=width, weather=wanted.weather)
    with_cameras = wanted.cameras and bool(network.config.preprocessing.cameras)
    return replace(plain, with_lidar=wanted.lidar, with_cameras=with_cameras, cameras=cameras)


def describe(config: NetworkObserverConfig) -> str:
    """One line for tables and manifests: which network, looking at what. Raises ConfigError where it is not there."""
    sensors = [name for name, there in (("LiDAR", config.lidar), ("6 cameras", config.cameras)) if there]
    source = "HD map" if config.map == "hd_map" else "map as seen"
    ahead = "forecasts by rules" if config.futures == "rules" else "its own forecasts"
    seen = " + ".join(sensors) or "no sensor"
    path = Path(config.checkpoint)
    name = path.parent.name if path.stem == "network" and path.parent.name else path.stem  # what training calls it
    return f"{name} {checkpoint_hash(config.path())[:8]} on rendered {seen}, {ahead}, {source}"


def network_hash(config: NetworkObserverConfig) -> str:
    """SHA-256 of the checkpoint, tried out: whoever is to drive with it says so before the first drive.

    Raises ConfigError where it is not there, CheckpointError where it cannot be used.
    """
    path = config.path()
    read_checkpoint(path)
    return checkpoint_hash(path)


_loaded = lru_cache(maxsize=1)(read_checkpoint)

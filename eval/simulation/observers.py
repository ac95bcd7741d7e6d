"""Who shows the driver the world: the oracle, or a trained network that looks at rendered sensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from eval.simulation.observer_config import NetworkObserverConfig, ObserverConfig
from eval.simulation.rollout import Observer
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.vehicle_sensors import VehicleSensors
from perception.affinity import Affinity
from perception.calibration import Calibration
from perception.checkpoint import load_network
from perception.map_polylines import map_window
from perception.network import PerceptionNetwork
from perception.oracle import LocalRoute, OraclePerception
from perception.perceive import Perception
from perception.recording import ObjectStates, Recording
from perception.routing import RouteSurface
from planner.scene import EgoState, MapPolylines, VectorScene


class NetworkObserver:
    """`perception.perceive.Perception` in the loop; one per drive.

    Agents, their futures and the proposal come from the network; the route from localisation and navigation, as the
    oracle's does. lines: the map around a pose, as the oracle serves it; None leaves what the network saw.
    """

    learned = True

    def __init__(
        self,
        surface: LocalRoute,
        perception: Perception,
        sensors: VehicleSensors,
        lines: Callable[[np.ndarray], MapPolylines] | None,
    ) -> None:
        self.surface, self.perception, self.sensors, self._lines = surface, perception, sensors, lines

    def __call__(self, ego: EgoState, objects: ObjectStates, name: str) -> VectorScene:
        """The scene at ego's believed place (global frame). objects: not looked at; the sensors are."""
        pose = np.array([float(ego.x), float(ego.y), float(ego.yaw)])
        scene = self.perception.observe(self.sensors.frame(ego), self.surface.local(pose))
        if self._lines is not None:
            scene = scene.replace(map=self._lines(pose))
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
    sensors = VehicleSensors(recording, sensor_config(wanted, simulation, network), second_channel)
    perception = Perception(network, calibration, wanted.decode, wanted.tracking, affinity)
    window, radius = map_window(recording.road, config.oracle.points), config.oracle.map_radius
    lines = (lambda pose: window.local(pose, radius)) if wanted.map == "hd_map" else None
    return NetworkObserver(surface, perception, sensors, lines), sensors


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
    source = "the HD map" if config.map == "hd_map" else "the network"
    seen = " + ".join(sensors) or "no sensor"
    path = Path(config.checkpoint)
    name = path.parent.name if path.stem == "network" and path.parent.name else path.stem  # what training calls it
    return f"{name} {checkpoint_hash(config)[:8]} on rendered {seen}, map from {source}"


def checkpoint_hash(config: NetworkObserverConfig) -> str:
    """SHA-256 of the checkpoint's file. Raises ConfigError where it is not there."""
    return hashlib.sha256(config.path().read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def _loaded(path: Path) -> tuple[PerceptionNetwork, Calibration, Affinity | None]:
    network, facts = load_network(path)
    return network, Calibration.from_facts(facts.get("calibration")), Affinity.from_facts(facts.get("affinity"))

"""THE PAGE of perception: sensors -> encode -> fuse -> heads -> decode -> track -> VectorScene.

perception = Perception.shipped()  # or from_checkpoint("network.safetensors")
scene = perception.observe(frame, route)  # frame: SensorFrame, route: planner.scene.Route in the present ego frame
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from perception.affinity import Affinity
from perception.calibration import Calibration
from perception.checkpoint import CheckpointError, load_network, shipped
from perception.decode import DecodeConfig, decode
from perception.headings import Headings
from perception.network import NetworkOutputs, PerceptionNetwork
from perception.preprocess import ego_numbers, network_inputs, route_numbers, sensor_arrays
from perception.sensor_frame import LidarSweep, SensorFrame
from perception.track import TrackConfig, Tracker
from planner.scene import MapPolylines, Route, VectorScene


class Perception:
    """One drive's perception: a network, the sweeps it still needs, and the tracks. One instance per drive."""

    def __init__(
        self,
        network: PerceptionNetwork,
        calibration: Calibration | None = None,
        settings: DecodeConfig | None = None,
        tracking: TrackConfig | None = None,
        affinity: Affinity | None = None,
    ) -> None:
        self.network, self.config = network.eval(), network.config
        self.calibration, self.settings = calibration or Calibration(), settings or DecodeConfig()
        self.tracker = Tracker(tracking or TrackConfig(), affinity)
        self.headings = Headings()
        self._past: list[LidarSweep] = []

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Perception:
        """From a file of `dualdrive train`. Raises CheckpointError."""
        network, calibration, affinity = read_checkpoint(path, device)
        return cls(network, calibration, affinity=affinity)

    @classmethod
    def shipped(cls, size: str = "tiny", device: str = "cpu") -> Perception:
        """With the trained weights that come with the package. Raises CheckpointError where there are none."""
        return cls.from_checkpoint(shipped(size), device)

    def reset(self) -> None:
        """A new drive begins."""
        self._past = []
        self.tracker.reset()
        self.headings.reset()

    @torch.no_grad()
    def observe(self, frame: SensorFrame, route: Route) -> VectorScene:
        """The scene as the sensors show it, present ego frame, float64, validated.

        Sensors may be missing, all of them too: then nobody new is seen and known tracks coast. route: where to go,
        from localisation and map, in the present ego frame. Raises ValueError for a malformed frame or route.
        """
        frame = frame.validate()
        config, device = self.config.preprocessing, next(self.network.parameters()).device
        # Encode: points to pillars, images to the network's size, the last second moved into the present frame.
        sensors = sensor_arrays(frame, config, self._past)
        inputs = network_inputs([sensors], [ego_numbers(frame.ego)], [route_numbers(route)], config).to(device)
        self._remember(frame)

        # Fuse and ask the queries: tensors in, tensors out.
        outputs: NetworkOutputs = self.network(inputs)

        # Decode, each answer with its calibrated confidence.
        seen = decode(outputs, inputs, self.config, self.settings, self.calibration)
        agents, futures = seen.agents.to("cpu")[0], seen.futures.to("cpu")[0]
        if not inputs.lidar_seen[0, 0] and not inputs.camera_seen.any():
            agents = agents.replace(valid=torch.zeros_like(agents.valid))  # a network asked about nothing says anything

        # Track: who is who, filtered positions and velocities, headings from the way driven.
        pose = planar(frame.global_from_ego)
        agents, futures = self.tracker.update(agents, futures, torch.from_numpy(pose), frame.time_us)
        agents = self.headings.update(agents, torch.from_numpy(pose), frame.time_us)
        zero = torch.zeros((), dtype=torch.float64)
        return VectorScene(
            ego=frame.ego.double().replace(x=zero, y=zero.clone(), yaw=zero.clone()),
            agents=agents,
            futures=futures,
            map=_told(seen.map.to("cpu")[0]),
            route=route.double(),
            global_from_ego=torch.from_numpy(pose),
            proposal=seen.proposal.to("cpu")[0],
            name=frame.name,
        ).validate()

    def _remember(self, frame: SensorFrame) -> None:
        """Keep the sweeps that a later frame may ask for."""
        if frame.lidar is not None:
            self._past.append(frame.lidar)
        reach = max(self.config.preprocessing.lidar_lags) + self.config.preprocessing.lag_tolerance
        self._past = [s for s in self._past if 0 <= frame.time_us - s.time_us <= reach * 1e6]


def read_checkpoint(path: str | Path, device: str = "cpu") -> tuple[PerceptionNetwork, Calibration, Affinity | None]:
    """All that perception needs of a file of `dualdrive train`. Raises CheckpointError."""
    network, facts = load_network(path, device)
    try:
        calibration = Calibration.from_facts(facts.get("calibration"))
        calibration.then(torch.zeros(0, dtype=torch.int64), network.config.steps)
        return network, calibration, Affinity.from_facts(facts.get("affinity"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"its calibration or affinity does not fit this version: {error!r}"
        raise CheckpointError(f"{path}: {why}") from error


def planar(global_from_ego: np.ndarray) -> np.ndarray:
    """Pose ``[3]`` (x m, y m, yaw rad) of a nearly upright 4x4 transform."""
    return np.array([*global_from_ego[:2, 3], np.arctan2(global_from_ego[1, 0], global_from_ego[0, 0])])


def _told(polylines: MapPolylines) -> MapPolylines:
    """Without the rows that are only padding."""
    kept = polylines.valid.any(-1)
    return polylines.apply(lambda t: t[kept])

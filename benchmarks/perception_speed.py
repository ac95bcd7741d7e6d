"""How long one cycle of the learned perception takes, part by part, and how much memory it needs.

    python -m benchmarks.perception_speed --size tiny --threads 2

One frame of a full sweep (34 688 rays), two past sweeps and six cameras; weights as initialised (times do not depend on
them).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from perception.config import SIZES, PerceptionConfig
from perception.decode import decode
from perception.network import PerceptionNetwork, channels_last
from perception.perceive import Perception
from perception.preprocess import ego_numbers, network_inputs, route_numbers, sensor_arrays
from perception.sensor_frame import CameraImages, LidarSweep, SensorFrame
from planner.scene import EgoState, Route

RAYS = 34_688
F64 = torch.float64


def made_up_frame(config: PerceptionConfig, rng: np.random.Generator) -> SensorFrame:
    """Rings on the ground and walls, six cameras all around, images of the network's own size."""
    angle, reach = rng.uniform(-np.pi, np.pi, RAYS), 3 + rng.exponential(12, RAYS)
    points = np.stack([reach * np.cos(angle), reach * np.sin(angle), rng.uniform(-1.8, 1.0, RAYS)], 1)
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3, 3] = [0.9, 0.0, 1.8]

    def sweep(time_us: int) -> LidarSweep:
        intensity = rng.uniform(0, 90, RAYS).astype(np.float32)
        return LidarSweep(points.astype(np.float32), intensity, np.full(RAYS, -1), ego_from_lidar, np.eye(4), time_us)

    height, width = config.preprocessing.image
    names, mounts = config.preprocessing.cameras, []
    for yaw in np.linspace(0, -2 * np.pi, len(names), endpoint=False):
        mount = np.eye(4)
        mount[:3, :3] = np.array([[np.sin(yaw), 0, np.cos(yaw)], [-np.cos(yaw), 0, np.sin(yaw)], [0, -1, 0]])
        mount[:3, 3] = [1.0, 0.0, 1.5]
        mounts.append(mount)
    pixels = np.array([[width * 0.8, 0, width / 2], [0, width * 0.8, height / 2], [0, 0, 1]])
    cameras = CameraImages(
        names, [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in names], np.stack([pixels] *
        len(names)), np.stack(mounts), np.stack([np.eye(4)] * len(names)), np.full(len(names), 10**6),
    )  # fmt: skip
    ego = EgoState.at_origin(8.0, time_us=10**6)
    return SensorFrame(
        10**6, np.eye(4), ego, sweep(10**6), cameras, name="made up", past=(sweep(500_000), sweep(0))
    ).validate()


def straight_route() -> Route:
    """150 m straight on."""
    x = torch.arange(0.0, 150.0, 2.0, dtype=F64)
    side, no = torch.full_like(x, 3.0), torch.zeros(len(x), dtype=torch.bool)
    xy = torch.stack([x, torch.zeros_like(x)], 1)
    return Route(xy, side * 4, torch.zeros(len(x)).long(), side, side, side, side, no, ~no)


def times(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and worst wall time, ms."""
    work()
    out = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        out.append(1e3 * (time.perf_counter() - began))
    return statistics.median(out), max(out)


def peak_memory() -> float:
    """MB of this process at their highest, since it was started.

    Not `getrusage`, where Linux has something better: a program started by a large one begins with that one's peak.
    """
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = SIZES[options.size]
    network = channels_last(PerceptionNetwork(config)).eval().requires_grad_(False)
    frame, route = made_up_frame(config, np.random.default_rng(0)), straight_route()
    perception = Perception(network)

    def prepare() -> object:
        sensors = sensor_arrays(frame, config.preprocessing)
        return network_inputs([sensors], [ego_numbers(frame.ego)], [route_numbers(route)], config.preprocessing)

    def whole() -> object:
        perception.reset()
        return perception.observe(frame, route)

    inputs = network_inputs(
        [sensor_arrays(frame, config.preprocessing)],
        [ego_numbers(frame.ego)],
        [route_numbers(route)],
        config.preprocessing,
    )
    outputs = network(inputs)
    parts = {
        "points, images to inputs": prepare,
        "network": lambda: network(inputs),
        "decoding": lambda: decode(outputs, inputs, config),
        "whole cycle, tracking included": whole,
    }
    count = sum(p.numel() for p in network.parameters())
    print(f"{options.size}: {count / 1e6:.2f} M parameters, {count * 4 / 1e6:.1f} MB; {options.threads} threads")
    for name, work in parts.items():
        median, worst = times(work, options.repeats)
        print(f"{name:32s} median {median:7.1f} ms   worst {worst:7.1f} ms")
    print(f"peak memory of the process: {peak_memory():.0f} MB")


if __name__ == "__main__":
    main()

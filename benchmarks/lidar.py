"""The rendered LiDAR beside a recorded key frame, ring by ring; time of a sweep and of the raw-obstacle channel.

python benchmarks/lidar.py --dataroot ROOT [--scene scene-0061]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.simulation.rendered_lidar import RenderedLidar
from eval.simulation.vehicle import VehicleState
from eval.simulation.world import World
from perception.nuscenes import load_recording
from perception.nuscenes_sensors import first_sample, load_sensor_frame
from perception.raw_obstacles import RawObstacleChannel
from perception.sensor_frame import LidarSweep, transform

NEAR = 2.5  # m: closer are misses and the own roof


def main() -> None:
    """Print the comparison and the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", required=True)
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--scene", default="scene-0061")
    args = parser.parse_args()
    real = load_sensor_frame(args.dataroot, args.version, first_sample(args.dataroot, args.version, args.scene)).lidar
    if real is None:
        sys.exit(f"{args.scene}: the first key frame has no LiDAR file")
    recording = load_recording(args.dataroot, args.version, args.scene)
    world = World(recording, "log_replay")
    world.ego = VehicleState.from_track(recording.ego, 0)
    lidar = RenderedLidar(recording, ego_from_lidar=real.ego_from_lidar)
    rendered = lidar.sweep(world.ego_state(), world.objects())
    for name, sweep in (("recorded", real), ("rendered", rendered)):
        describe(name, sweep)
    spent = timed(lambda: lidar.sweep(world.ego_state(), world.objects()))
    print(f"sweep: p50 {1e3 * np.median(spent):.1f} ms, most {1e3 * spent.max():.1f} ms of CPU time")
    for name, sweep in (("recorded", real), ("rendered", rendered)):
        channel = RawObstacleChannel(recording.vehicle)

        def observe(channel: RawObstacleChannel = channel, sweep: LidarSweep = sweep) -> None:
            channel.reset()
            channel.observe(sweep, sweep.time_us, 9.0, 0.0)

        spent = timed(observe)
        print(f"raw channel, {name}: p50 {1e3 * np.median(spent):.1f} ms, most {1e3 * spent.max():.1f} ms of CPU time")


def describe(name: str, sweep: LidarSweep) -> None:
    """Counts, ranges and the ground's height of one sweep."""
    distance = np.linalg.norm(sweep.points, axis=1)
    far = distance > NEAR
    points = transform(sweep.ego_from_lidar, sweep.points)
    radius = np.hypot(points[:, 0], points[:, 1])
    edges = [2.5, 5, 10, 20, 30, 50, 80, 110]
    share = np.histogram(distance, edges)[0] / far.sum()
    print(f"{name}: {len(distance)} rays, {len(np.unique(sweep.ring))} rings, {(~far).sum()} misses or own roof")
    print("  range " + ", ".join(f"{a:g}-{b:g} m {s:.1%}" for a, b, s in zip(edges[:-1], edges[1:], share)))
    rings = range(1, 32, 3)
    print(
        "  median range by ring " + ", ".join(f"{r}: {np.median(distance[far & (sweep.ring == r)]):.1f}" for r in rings)
    )
    print("  returns by ring " + ", ".join(f"{r}: {(far & (sweep.ring == r)).sum()}" for r in rings))
    ground = far & (np.abs(points[:, 2]) < 0.4)
    bands = ((3, 5), (5, 8), (8, 12), (12, 20), (20, 30))
    within = [ground & (radius > a) & (radius < b) for a, b in bands]
    heights = (np.median(points[near, 2]) for near in within[:3])
    print("  ground height " + ", ".join(f"{a}-{b} m {h:+.3f} m" for (a, b), h in zip(bands, heights)))
    levels = (np.percentile(sweep.intensity[near], [10, 50, 90]) for near in within)
    print("  ground intensity (10, 50, 90 %) " + ", ".join(
        f"{a}-{b} m {low:.0f} {middle:.0f} {high:.0f}" for (a, b), (low, middle, high) in zip(bands, levels)
    ))  # fmt: skip


def timed(work) -> np.ndarray:
    """CPU seconds of 15 calls after a first one."""
    work()
    spent = []
    for _ in range(15):
        begin = process_time()
        work()
        spent.append(process_time() - begin)
    return np.array(spent)


if __name__ == "__main__":
    main()

"""How soon the monitors find what they watch for, and how often they cry wolf.

python benchmarks/monitors.py            # synthetic streams: detection delays, false alarms of the coverage test
python benchmarks/monitors.py --drives   # false alarms on recorded drives of the generated families, rendered LiDAR
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.studies.intervals import wilson
from planner.monitors import ContentMonitor, CoverageMonitor, LocalisationMonitor, MonitorLevel

RUNS = 500


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", action="store_true")
    parser.add_argument("--seeds", default="2")
    parser.add_argument("--dataset", choices=("generated", "nuscenes"), default="generated")
    parser.add_argument("--dataroot", default="")
    args = parser.parse_args()
    if args.drives:
        drives(args.dataset, args.dataroot, args.seeds)
        return
    print("coverage: share kept (98 % promised), after 200 sound samples; samples until found")
    for kept in (0.93, 0.90, 0.88, 0.85, 0.80, 0.70):
        found = [coverage_delay(1 - kept, run, 1000) for run in range(RUNS)]
        in_time = sum(n <= 100 for n in found)
        low, high = wilson(in_time, RUNS)
        p50, p95 = np.percentile(found, [50, 95])
        print(f"  {kept:.0%}: p50 {p50:.0f}, p95 {p95:.0f}; within 100: {in_time / RUNS:.1%} [{low:.1%}, {high:.1%}]")
    alarms = [coverage_delay(0.02, run, 2000, before=0) for run in range(RUNS)]
    count = sum(n <= 2000 for n in alarms)
    low, high = wilson(count, RUNS)
    print(f"  false alarms within 2000 samples at exactly 98 %: {count / RUNS:.1%} [{low:.1%}, {high:.1%}]")
    print("localisation at 10 m/s, noise 0.02 m: cycles of 0.1 s until found")
    for name, jump, rate in (("jump 0.5 m", 0.5, 0.0), ("jump 2 m", 2.0, 0.0), ("drift 0.3 m/s", 0.0, 0.3),
                             ("drift 0.5 m/s", 0.0, 0.5), ("drift 1 m/s", 0.0, 1.0)):  # fmt: skip
        found = [localisation_delay(jump, rate, run) for run in range(100)]
        print(f"  {name}: p50 {np.percentile(found, 50):.0f}, p95 {np.percentile(found, 95):.0f}")
    quiet = sum(localisation_delay(0.0, 0.0, run) <= 600 for run in range(100))
    print(f"  false alarms in 100 drives of 60 s: {quiet}")
    monitor, levels = ContentMonitor("stream"), []
    for k in range(8):
        levels.append(monitor.update(b"frozen", 100_000 * k, 100_000 * k).level)
    first = {level: 0.1 * levels.index(level) for level in (MonitorLevel.DEGRADED, MonitorLevel.MINIMAL_RISK)}
    print(f"freeze at 10 Hz: {', '.join(f'{level} after {t:.1f} s' for level, t in first.items())}")


def coverage_delay(miss: float, seed: int, most: int, before: int = 200) -> int:
    """Samples until a shortfall is said, most + 1 if it is not."""
    rng = np.random.default_rng([seed, round(1000 * miss)])
    monitor = CoverageMonitor()
    while monitor.update(np.where(rng.random(before) < 0.02, 1.2, 0.5)).level is not MonitorLevel.OK:
        monitor = CoverageMonitor()  # a false alarm before the change is no finding
    for n, missed in enumerate(rng.random(most) < miss, 1):
        if monitor.update(np.array([1.2 if missed else 0.5])).level is not MonitorLevel.OK:
            return n
    return most + 1


def localisation_delay(jump: float, rate: float, seed: int, cycles: int = 600) -> int:
    """Cycles until something is said about a pose that jumps (m) or drifts (m/s) from cycle 10 on, else cycles + 1."""
    rng, monitor, v = np.random.default_rng(seed), LocalisationMonitor(), 10.0
    for k in range(cycles + 10):
        off = jump * (k > 10) + rate * 0.1 * max(k - 10, 0)
        pose = np.array([v * 0.1 * k, off, 0.0]) + rng.normal(0, 0.02, 3) * [1.0, 1.0, 0.05]
        if monitor.update(pose, v, 0.0, 100_000 * k).level is not MonitorLevel.OK and k > 10:
            return k - 10
    return cycles + 1


def drives(dataset: str, dataroot: str, seeds: str) -> None:
    """Verdicts on recorded drives, oracle perception and rendered LiDAR: everything that is not OK is a false alarm."""
    from eval.config import DataConfig, parse_seeds
    from eval.run.samples import list_samples, load_sample
    from eval.simulation.rollout import oracle_observer
    from eval.simulation.vehicle import VehicleState
    from eval.simulation.vehicle_sensors import VehicleSensors
    from eval.simulation.world import World
    from planner.monitors import Monitors

    data = DataConfig(dataset=dataset, dataroot=dataroot, seeds=parse_seeds(seeds))
    total, cycles = Counter[tuple[str, str]](), 0
    for sample in list_samples(data):
        recording = load_sample(sample, data)
        world, observe, monitors = World(recording, "log_replay"), oracle_observer(recording), Monitors()
        world.ego, sensors = VehicleState.from_track(recording.ego, 0), VehicleSensors(recording)
        for k in range(len(recording.time)):
            ego = world.ego_state()
            sensors.expose(ego, world.objects())
            raw = sensors.raw()
            for verdict in monitors.update(observe(ego, world.seen(), recording.name), raw, now_us=int(ego.time_us)):
                if verdict.level is not MonitorLevel.OK:
                    total[verdict.name, verdict.level] += 1
                    print(f"  {recording.name} {0.1 * k:.1f} s {verdict.name} {verdict.level}: {verdict.reason}")
            cycles += 1
            if k + 1 < len(recording.time):
                world.replay_ego()
    print(f"{cycles} cycles: {dict(total) or 'no verdict but OK'}")


if __name__ == "__main__":
    main()

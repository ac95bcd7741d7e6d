"""Time of a whole simulated sensor frame (LiDAR and six cameras), and the cameras beside a recorded key frame.

python benchmarks/sensors.py [--size 96x160] [--seeds 2] [--dataroot ROOT [--scene scene-0061] [--picture OUT.png]]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.simulation.generate import FAMILIES, generate
from eval.simulation.record.moments import at_step
from eval.simulation.sensing.camera_rig import CameraRig
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig, SensorSuite
from perception.nuscenes import first_sample, load_recording, load_sensor_frame
from perception.recording import Recording
from perception.sensor_frame import CameraImages, SensorFrame

GOAL = 0.150  # s, on two cores
ORDER = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")


def main() -> None:
    """Print the times, and the comparison where there is a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="96x160")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dataroot")
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--scene", default="scene-0061")
    parser.add_argument("--picture")
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.split("x"))
    config = SensorConfig(cameras=CameraConfig(height=height, width=width))
    print(f"one process, one thread; images {height} x {width}; goal {1e3 * GOAL:.0f} ms a frame")
    spent = [s for family in FAMILIES for seed in range(args.seeds) for s in timed(generate(family, seed), config)]
    show("generated towns", np.array(spent))
    if args.dataroot:
        token = first_sample(args.dataroot, args.version, args.scene)
        real = load_sensor_frame(args.dataroot, args.version, token)
        recording = load_recording(args.dataroot, args.version, args.scene)
        show(args.scene, np.array(timed(recording, config)))
        if real.cameras is None or real.lidar is None:
            sys.exit(f"{args.scene}: the first key frame has no sensor files")
        compare(recording, real, config, args.picture)


def timed(recording: Recording, config: SensorConfig) -> list[tuple[float, float, float, float]]:
    """(CPU s, wall s, CPU s of the LiDAR alone, CPU s of the set-up) of frames along a recording."""
    begin = process_time()
    suite = SensorSuite(recording, config)
    setup = process_time() - begin
    assert suite.lidar is not None
    out = []
    for k in range(0, len(recording.time), max(len(recording.time) // 6, 1)):
        moment = at_step(recording, k)
        suite.frame(*moment)  # the first call fills caches
        cpu, wall = process_time(), perf_counter()
        suite.frame(*moment)
        cpu, wall = process_time() - cpu, perf_counter() - wall
        begin = process_time()
        suite.lidar.sweep(*moment)
        out.append((cpu, wall, process_time() - begin, setup))
    return out


def show(name: str, spent: np.ndarray) -> None:
    """spent ``[n, 4]``: as `timed` gives them."""
    cpu, wall, lidar, setup = (1e3 * column for column in spent.T)
    print(
        f"{name}: {len(cpu)} frames, CPU p50 {np.median(cpu):.0f} ms, p95 {np.quantile(cpu, 0.95):.0f}, "
        f"most {cpu.max():.0f} (LiDAR alone p50 {np.median(lidar):.0f}); wall p50 {np.median(wall):.0f}; "
        f"{np.mean(cpu > 1e3 * GOAL):.0%} above the goal; set-up p50 {np.median(setup):.0f}, most {setup.max():.0f}"
    )


def compare(recording: Recording, real: SensorFrame, config: SensorConfig, picture: str | None) -> None:
    """Trigger times and statistics of the images of the first key frame, recorded and rendered."""
    cameras, lidar = real.cameras, real.lidar
    assert cameras is not None
    assert lidar is not None
    size = [np.array([image.shape[side] for image in cameras.image]) for side in (0, 1)]
    rig = CameraRig(cameras.channel, *size, cameras.intrinsics, cameras.ego_from_camera)
    small = rig.resized(config.cameras.height, config.cameras.width)
    suite = SensorSuite(recording, config, lidar.ego_from_lidar, small)
    rendered = suite.frame(*at_step(recording, 0)).cameras
    assert rendered is not None
    late = (cameras.time_us - lidar.time_us) / 1e3 - 1e3 * rig.trigger()
    print("recorded trigger after the rendered one: " + ", ".join(f"{ms:+.1f}" for ms in late) + " ms")
    for name, images in (("recorded", shrunk(cameras, small)), ("rendered", rendered)):
        level = np.array([image.mean() for image in images.image])
        edges = np.mean([np.abs(np.diff(image.astype(float).mean(-1), axis=1)).mean() for image in images.image])
        print(f"{name}: mean grey {level.mean():.0f} ({level.min():.0f} to {level.max():.0f}), mean step {edges:.1f}")
        colour = np.mean([image.reshape(-1, 3).mean(0) for image in images.image], axis=0)
        print("  mean colour " + ", ".join(f"{c:.0f}" for c in colour))
    if picture:
        draw(cameras, rendered, picture)


def shrunk(cameras: CameraImages, rig: CameraRig) -> CameraImages:
    """The same images at the rig's size."""
    from PIL import Image

    sizes = zip(rig.width.tolist(), rig.height.tolist())
    image = [np.asarray(Image.fromarray(i).resize(s, Image.Resampling.BOX)) for i, s in zip(cameras.image, sizes)]
    return CameraImages(
        cameras.channel, image, rig.intrinsics, cameras.ego_from_camera, cameras.global_from_ego, cameras.time_us
    )


def draw(recorded: CameraImages, rendered: CameraImages, path: str) -> None:
    """Rendered images above the recorded ones. The picture holds data under the data set's licence."""
    from PIL import Image

    height, width = 270, 480
    sheet = Image.new("RGB", (3 * width, 4 * height))
    for i, channel in enumerate(ORDER):
        for row, images in enumerate((rendered, recorded)):
            image = Image.fromarray(images.image[images.channel.index(channel)]).resize((width, height))
            sheet.paste(image, ((i % 3) * width, (2 * (i // 3) + row) * height))
    sheet.save(path)


if __name__ == "__main__":
    main()

"""Recorded data sets: what the unmodified devkit and our own reader make of them, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes_files import START_US, VERSION, build_tables, write_nuscenes, write_table
from sim_scenes import agent, recording, straight_track
from typer.testing import CliRunner

from eval.run.store import RunDirError
from eval.simulation.generate import generate
from eval.simulation.lidar import LidarConfig
from eval.simulation.record.annotations import observed
from eval.simulation.record.arclines import TOLERANCE, arcline_path
from eval.simulation.record.config import RecordConfig
from eval.simulation.record.dataset import join_parts, part_path, plan_scenes, record_part
from eval.simulation.record.existing import RenderConfig, finish_root, render_part
from eval.simulation.record.moments import at_step, at_time
from eval.simulation.record.png import write_grey_png
from eval.simulation.record.root_folder import RootFolder
from eval.simulation.record.scene import town_of
from eval.simulation.record.schema import attribute_of, category_of, quaternion, visibility_of, yaw_quaternion
from eval.simulation.record.towns import MARGIN, place_towns, with_crossings
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig, SensorSuite
from perception.sensor_frame import Boxes3D, rigid
from planner.scene import AgentClass

TINY = SensorConfig(lidar=LidarConfig(columns=360), cameras=CameraConfig(height=24, width=40, weather="clear"))
CONFIG = RecordConfig(families=("cut_in",), train_seeds=(0,), val_seeds=(1000,), past_sweeps=1, sensors=TINY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, recorded once; do not change them."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    pytest.importorskip("PIL", reason="needs pillow")
    root = tmp_path_factory.mktemp("recorded")
    plans = plan_scenes(CONFIG)
    for plan in plans:
        record_part(plan, CONFIG, root)
    join_parts(plans, CONFIG, root)
    return root


@pytest.fixture(scope="module")
def tables(root: Path):
    from perception.nuscenes_tables import open_tables

    return open_tables(root, CONFIG.version)


# --- the devkit -------------------------------------------------------------------------------


def test_the_devkit_loads_tables_maps_and_can_bus(root: Path) -> None:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    from nuscenes.map_expansion.map_api import NuScenesMap
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.splits import get_scenes_of_split

    nusc = NuScenes(CONFIG.version, str(root), verbose=False)
    assert [s["name"] for s in nusc.scene] == ["scene-2000", "scene-6000"]
    assert get_scenes_of_split("sim_train", nusc) == ["scene-2000"]
    assert get_scenes_of_split("sim_val", nusc) == ["scene-6000"]
    for scene in nusc.scene:
        location = nusc.get("log", scene["log_token"])["location"]
        road = NuScenesMap(str(root), location)
        mask = next(m for m in nusc.map if scene["log_token"] in m["log_tokens"])
        token = scene["first_sample_token"]
        while token:
            sample = nusc.get("sample", token)
            lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            x, y, z = nusc.get("ego_pose", lidar["ego_pose_token"])["translation"]
            assert z == 0.0
            assert mask["mask"].is_on_mask(x, y).all()
            assert road.layers_on_point(x, y)["drivable_area"]
            token = sample["next"]
        for records in (road.lane, road.lane_connector):
            for lane in records:
                assert road.extract_polygon(lane["polygon_token"]).is_valid
        messages = NuScenesCanBus(str(root)).get_messages(scene["name"], "pose")
        assert np.diff([m["utime"] for m in messages]) == pytest.approx(20_000)
        sample = nusc.get("sample", scene["last_sample_token"])
        first = nusc.get("sample", scene["first_sample_token"])
        assert sample["timestamp"] - first["timestamp"] == (scene["nbr_samples"] - 1) * 500_000


def test_the_devkit_draws_a_sample_and_its_map(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from nuscenes.nuscenes import NuScenes

    nusc = NuScenes(CONFIG.version, str(root), verbose=False)
    sample = nusc.get("sample", nusc.scene[0]["first_sample_token"])
    for channel in ("CAM_FRONT", "LIDAR_TOP"):
        out = tmp_path / f"{channel}.png"
        nusc.render_sample_data(sample["data"][channel], out_path=str(out), verbose=False, underlay_map=False)
        assert out.stat().st_size > 5000
        pyplot.close("all")


def test_a_perfect_submission_is_perfect(root: Path, tmp_path: Path) -> None:
    """Annotations handed in as detections: average precision 1 and no error in every class that occurs.

    Those without a LiDAR point are left out: the devkit drops them from the ground truth, not from a submission.
    """
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.nuscenes import NuScenes

    nusc = NuScenes(CONFIG.version, str(root), verbose=False)
    names = {a["token"]: a["name"] for a in nusc.attribute}
    wanted = {s["token"] for s in nusc.scene if s["name"] == "scene-6000"}
    results = {
        sample["token"]: [
            {
                "sample_token": sample["token"], "translation": a["translation"], "size": a["size"],
                "rotation": a["rotation"], "velocity": nusc.box_velocity(a["token"])[:2].tolist(),
                "detection_name": category_to_detection_name(a["category_name"]), "detection_score": 0.9,
                "attribute_name": names[a["attribute_tokens"][0]] if a["attribute_tokens"] else "",
            }
            for a in (nusc.get("sample_annotation", t) for t in sample["anns"])
            if a["num_lidar_pts"] > 0
        ]
        for sample in nusc.sample
        if sample["scene_token"] in wanted
    }  # fmt: skip
    meta = {f"use_{s}": s == "lidar" for s in ("camera", "lidar", "radar", "map", "external")}
    path = tmp_path / "submission.json"
    path.write_text(json.dumps({"meta": meta, "results": results}))
    config = config_factory("detection_cvpr_2019")
    judge = DetectionEval(nusc, config, str(path), "sim_val", str(tmp_path), verbose=False)
    metrics, _ = judge.evaluate()
    present = {box.detection_name for sample in judge.gt_boxes.sample_tokens for box in judge.gt_boxes[sample]}
    assert {"car", "pedestrian"} <= present
    for name in present:
        assert metrics.mean_dist_aps[name] == pytest.approx(1.0)
        for error, value in metrics._label_tp_errors[name].items():
            assert np.isnan(value) or value == pytest.approx(0.0, abs=1e-6), (name, error)


# --- our reader -------------------------------------------------------------------------------


def test_our_reader_gives_back_the_drive(root: Path) -> None:
    """Poses, velocities, sizes, lanes and route of the generated drive, after tables, map and devkit."""
    from perception.nuscenes import load_recording

    plan = plan_scenes(CONFIG)[0]
    wanted, got = town_of(plan, CONFIG), load_recording(root, CONFIG.version, plan.name, False)
    steps = len(got.time)
    assert np.abs(got.ego.pose[:, :2] - wanted.ego.pose[:steps, :2]).max() < 0.1
    assert np.abs(got.ego.v - wanted.ego.v[:steps]).max() < 0.4
    assert got.start_us == plan.start_us
    keyframes = np.flatnonzero(got.keyframe)
    assert (np.diff(keyframes) == 5).all()
    compared = 0
    for i in range(len(got.agents)):
        k = keyframes[got.agents.valid[i, keyframes]]
        distance = np.linalg.norm(wanted.agents.pose[:, k, :2] - got.agents.pose[i, k, :2], axis=-1).max(1)
        j = int(distance.argmin())
        assert distance[j] < 1e-6
        np.testing.assert_allclose(got.agents.size[i], wanted.agents.size[j])
        assert got.agents.agent_class[i] == wanted.agents.agent_class[j]
        inner = k[1:-1]
        if len(inner) > 2:  # the devkit's velocities are differences over a second
            true = np.stack([(wanted.agents.pose[j, inner + 5] - wanted.agents.pose[j, inner - 5])[:, :2]])
            np.testing.assert_allclose(got.agents.velocity[i, inner], true[0] / 1.0, atol=1e-6)
            compared += len(inner)
    assert compared > 50
    assert len(got.road.lanes) == len(wanted.road.lanes)
    area = wanted.road.drivable
    assert got.road.drivable.symmetric_difference(area).area < 0.01 * area.area
    assert len(got.road.crossings) == len(wanted.road.crossings) > 0
    lines = shapely.MultiLineString([lane.centerline for lane in wanted.road.lanes.values()])
    for lane in got.road.lanes.values():
        assert shapely.distance(lines, shapely.points(lane.centerline)).max() < 2 * TOLERANCE
    route = shapely.LineString(wanted.route_xy)
    assert shapely.distance(route, shapely.points(got.ego.pose[:, :2])).max() < 4.0
    links = sum(len(lane.successors) for lane in got.road.lanes.values())
    assert links == sum(len(lane.successors) for lane in wanted.road.lanes.values())


def test_sensor_files_hold_what_the_suite_renders(root: Path) -> None:
    from perception.nuscenes import load_sensor_frame
    from perception.nuscenes_tables import open_tables

    tables = open_tables(root, CONFIG.version)
    sample = tables.get("sample", tables.get("sample", tables.scene[0]["first_sample_token"])["next"])
    frame = load_sensor_frame(root, CONFIG.version, sample["token"], past_sweeps=1)
    assert frame.missing == ()
    plan = plan_scenes(CONFIG)[0]
    drive = town_of(plan, CONFIG)
    suite = SensorSuite(drive, replace(TINY, with_cameras=False))
    sweep = suite.frame(*at_step(drive, 5)).lidar
    np.testing.assert_array_equal(frame.lidar.points, sweep.points)
    np.testing.assert_array_equal(frame.lidar.ring, sweep.ring)
    np.testing.assert_allclose(frame.lidar.global_from_ego, sweep.global_from_ego, atol=1e-9)
    assert [p.time_us - frame.time_us for p in frame.past] == [-50_000]
    assert all(image.shape == (24, 40, 3) for image in frame.cameras.image)
    # Mounts vary from scene to scene, by half a degree or so.
    turned = frame.cameras.ego_from_camera[:, :3, 2]
    other = load_sensor_frame(root, CONFIG.version, tables.scene[1]["first_sample_token"]).cameras
    angle = np.rad2deg(np.arccos(np.clip((turned * other.ego_from_camera[:, :3, 2]).sum(1), -1, 1)))
    assert 0.05 < angle.max() < 6.0


def test_annotations_say_what_the_sensors_saw(root: Path, tables) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    seen = {"4": 0, "1": 0}
    for sample in tables.sample[::9]:
        data = tables.get("sample_data", sample["data"]["LIDAR_TOP"])
        path, boxes, _ = tables.get_sample_data(data["token"])
        cloud = LidarPointCloud.from_file(path)
        kept = np.linalg.norm(cloud.points[:3], axis=0) > 1.0
        for box in boxes:
            record = tables.get("sample_annotation", box.token)
            seen[record["visibility_token"]] = seen.get(record["visibility_token"], 0) + 1
            inside = points_in_box(box, cloud.points[:3, kept]).sum()
            # Float32 points in the sensor's frame: those on the box's surface may fall to either side.
            assert record["num_lidar_pts"] == pytest.approx(inside, abs=max(3, 0.3 * inside))
    assert seen["4"] > 10
    assert seen["1"] > 3
    for instance in tables.instance:
        first = tables.get("sample_annotation", instance["first_annotation_token"])
        count, record = 1, first
        while record["next"]:
            record, count = tables.get("sample_annotation", record["next"]), count + 1
        assert count == instance["nbr_annotations"]
        assert record["token"] == instance["last_annotation_token"]


def test_visibility_is_the_share_that_nobody_hides() -> None:
    """Free: all of it. Behind the left half of a barrier as far as it is wide: half. Behind a tall wall: nothing."""
    still = lambda x, y: straight_track(np.full(10, x), y)  # noqa: E731
    everybody = [still(30.0, 8.0), still(24.0, 0.0), still(24.0, -12.0), still(12.0, 0.5), still(12.0, -5.5)]
    drive = recording(straight_track(np.zeros(10)), *(agent(pose, AgentClass.STATIC) for pose in everybody))
    drive.agents.size[:] = [[0.5, 2.0], [0.5, 2.0], [0.5, 2.0], [0.2, 1.0], [0.2, 6.0]]
    drive.agents.height[:] = [1.5, 1.5, 1.5, 5.0, 5.0]
    suite = SensorSuite(drive, replace(TINY, with_lidar=False, cameras=CameraConfig(450, 800, weather="clear")))
    suite.cameras._still = suite.cameras._still[[]]  # no house or tree in between
    ego, objects = at_step(drive, 0)
    boxes = Boxes3D(
        np.c_[objects.pose[:, :2], drive.agents.height / 2], np.c_[objects.size, drive.agents.height],
        objects.pose[:, 2], objects.agent_class,
    )  # fmt: skip
    seen = observed(objects, boxes, None, suite.cameras.shots(ego, objects))
    # The near barrier reaches from the camera's axis to the left, past the left edge of the one behind it.
    assert seen.share == pytest.approx([1.0, 0.5, 0.0, 1.0, 1.0], abs=0.04)
    assert (seen.points == 0).all()


def test_a_scene_recorded_again_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    plan = plan_scenes(CONFIG)[1]
    record_part(plan, CONFIG, tmp_path)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) > 100
    for file in files:
        assert (tmp_path / file).read_bytes() == (root / file).read_bytes(), file


# --- pieces -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.12, 0.12), st.floats(-0.004, 0.004), st.floats(-3, 3), st.integers(4, 60))
def test_arclines_stay_on_the_line(curvature: float, rate: float, heading: float, count: int) -> None:
    """The devkit's own discretisation of the pieces of a clothoid, against the clothoid."""
    discretize = pytest.importorskip("nuscenes.map_expansion.arcline_path_utils").discretize_lane
    s = np.arange(0, count, 0.02)
    yaw = heading + curvature * s + rate * s**2 / 2
    fine = 100 + np.stack([np.cumsum(np.cos(yaw)), np.cumsum(np.sin(yaw))], 1) * 0.02
    pieces = arcline_path(fine[::50])
    poses = np.array(discretize(pieces, 0.5))
    line = shapely.LineString(fine)
    assert shapely.distance(line, shapely.points(poses[:, :2])).max() < TOLERANCE + 0.02
    np.testing.assert_allclose(poses[0, :2], fine[0], atol=1e-5)
    assert np.hypot(*(poses[-1, :2] - fine[::50][-1])) < 0.05


def test_towns_do_not_overlap_and_no_map_holds_both_splits() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(-500, 500, (40, 2))
    bounds = [(*a, *(a + b)) for a, b in zip(low, rng.uniform(100, 500, (40, 2)))]
    splits = ["train"] * 30 + ["val"] * 10
    places = place_towns(bounds, splits)
    assert not {p.location for p in places[:30]} & {p.location for p in places[30:]}
    for location in {p.location for p in places}:
        boxes = [
            shapely.box(b[0] + p.move[0], b[1] + p.move[1], b[2] + p.move[0], b[3] + p.move[1]).buffer(MARGIN - 1.0)
            for b, p in zip(bounds, places)
            if p.location == location
        ]
        assert shapely.union_all(boxes).area == pytest.approx(sum(b.area for b in boxes))
        assert all(b.bounds[0] > -2 and b.bounds[1] > -2 for b in boxes)
    with pytest.raises(ValueError, match="split: expected one of train, val"):
        place_towns(bounds[:1], ["test"])


def test_additional_crossings_span_the_road_and_keep_off_junctions() -> None:
    drive = generate("unprotected_left_turn", 0)
    dressed = with_crossings(drive, np.random.default_rng(0), every=60.0)
    assert len(dressed.road.crossings) > len(drive.road.crossings)
    connectors = shapely.union_all([lane.polygon for lane in drive.road.lanes.values() if lane.connector])
    for outline in dressed.road.crossings[len(drive.road.crossings) :]:
        area = shapely.Polygon(outline)
        assert not connectors.intersects(area)
        assert area.intersection(drive.road.drivable).area > 0.97 * area.area
        assert area.area / 3.0 > 5.0
    assert drive.road.crossings is not dressed.road.crossings


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_quaternions_turn_as_their_matrices(values: list[float]) -> None:
    if np.linalg.norm(values) < 0.1:
        return
    matrix = rigid(np.array(values), np.zeros(3))[:3, :3]
    np.testing.assert_allclose(rigid(np.array(quaternion(matrix)), np.zeros(3))[:3, :3], matrix, atol=1e-9)


def test_names_of_categories_attributes_and_visibility() -> None:
    assert category_of(AgentClass.STATIC, np.array([0.4, 0.4])) == "movable_object.trafficcone"
    assert category_of(AgentClass.STATIC, np.array([2.0, 0.5])) == "movable_object.barrier"
    assert category_of(AgentClass.PEDESTRIAN, np.array([0.6, 0.6])) == "human.pedestrian.adult"
    assert attribute_of("vehicle.car", 0.0, False) == "vehicle.parked"
    assert attribute_of("vehicle.car", 0.1, True) == "vehicle.stopped"
    assert attribute_of("vehicle.car", 3.0, True) == "vehicle.moving"
    assert attribute_of("vehicle.bicycle", 3.0, True) == "cycle.with_rider"
    assert attribute_of("movable_object.barrier", 0.0, False) is None
    assert [visibility_of(s) for s in (0.0, 0.39, 0.4, 0.6, 0.8, 1.0)] == ["1", "1", "2", "3", "4", "4"]
    assert yaw_quaternion(np.pi) == pytest.approx([0, 0, 0, 1])


def test_a_png_written_in_bands_is_read_back(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    picture = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    path = tmp_path / "picture.png"
    write_grey_png(path, 53, 37, iter([picture[:10], picture[10:30], picture[30:]]))
    np.testing.assert_array_equal(np.asarray(image.open(path)), picture)
    with pytest.raises(ValueError, match="expected 37 rows, got 10"):
        write_grey_png(tmp_path / "short.png", 53, 37, iter([picture[:10]]))
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_moments_between_the_grid() -> None:
    drive = recording(straight_track(np.arange(80) * 0.8), agent(straight_track(np.arange(80) * 0.5 + 20)))
    ego, objects = at_time(drive, 1_030_000)
    assert float(ego.x) == pytest.approx(8.0 * 1.03)
    assert objects.pose[0, 0] == pytest.approx(20 + 5.0 * 1.03)
    assert int(ego.time_us) == 1_030_000


# --- the folder -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_seeds": (0,)}, r"val_seeds: .*got \[0\] in both"),
        ({"past_sweeps": 10}, "past_sweeps: expected 0 to 9, got 10"),
        ({"jpeg_quality": 0}, "jpeg_quality: expected 1 to 95"),
        ({"version": "mini"}, "version: expected a name that starts with v1.0-"),
        ({"train_seeds": (), "val_seeds": ()}, "expected at least one seed"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change).validate()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(RunDirError, match="holds something that `dualdrive record` did not write"):
            RootFolder.claim(tmp_path, CONFIG, ["a"], 0, "v1.0-sim", fresh=fresh)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_recordings_are_not_mixed_and_only_their_own_files_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "out"
    with RootFolder.claim(root, CONFIG, ["a"], 0, CONFIG.version):
        (root / "samples").mkdir()
        with pytest.raises(RunDirError, match="another dualdrive command is recording"):
            RootFolder.claim(root, CONFIG, ["a"], 0, CONFIG.version)
    (root / "notes.txt").write_text("mine")
    original = tmp_path / "original"
    original.mkdir()
    (original / "map.png").write_text("not ours")
    (root / "maps").symlink_to(original)
    other = replace(CONFIG, jpeg_quality=50)
    with pytest.raises(RunDirError, match="another configuration; they must not be mixed"):
        RootFolder.claim(root, other, ["a"], 0, CONFIG.version)
    with RootFolder.claim(root, other, ["a"], 0, CONFIG.version, fresh=True) as folder:
        assert folder.manifest["configuration"]["jpeg_quality"] == 50
    assert sorted(p.name for p in root.iterdir()) == ["notes.txt", "record"]
    assert (original / "map.png").read_text() == "not ours"
    (root / "record" / "manifest.json").write_text("{")
    with pytest.raises(RunDirError, match=r"manifest\.json is damaged"):
        RootFolder.claim(root, other, ["a"], 0, CONFIG.version)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "96"], "size: expected height x width such as 96x160, got '96'"),
        (["--size", "4x4"], "size: expected 8 to 4000 pixels"),
        (["--weather", "snow"], "weather: expected one of clear"),
        (["--family", "city"], "family: expected one of car_following"),
        (["--seeds", "3", "--val-seeds", "2-4"], r"val_seeds: expected seeds that are not in train_seeds, got [2]"),
        (["--dataroot", "DATA", "--out", "DATA/rendered"], "lies in the data set that is read"),
        (["--dataroot", "DATA", "--scene", "scene-1"], "no scene 'scene-1'"),
    ],
)
def test_the_command_says_what_is_wrong_and_writes_nothing(options: list[str], message: str, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from eval.cli import app

    data = write_nuscenes(tmp_path / "data")
    before = sorted(data.rglob("*"))
    options = [o.replace("DATA", str(data)) for o in options]
    result = CliRunner().invoke(app, ["record", "--out", str(tmp_path / "out"), *options])
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert sorted(data.rglob("*")) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_recording_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """The command, killed while it renders: the finished scene stays as it is, and the data set gets complete."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "eval.cli", "record", "--out", str(out), "--family", "cut_in", "--seeds", "1",
        "--val-seeds", "1000-1000", "--size", "24x40", "--sweeps", "1", "--weather", "clear", "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = part_path(out, "scene-2000")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.is_file()
    kept = first.stat().st_mtime_ns
    assert not (out / CONFIG.version / "scene.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are there and kept" in done.stdout
    assert first.stat().st_mtime_ns == kept
    whole = [*command[:4], "--out", str(tmp_path / "whole"), *command[6:]]
    assert subprocess.run(whole, env=environment, capture_output=True, timeout=240).returncode == 0
    for path in (p for p in out.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock")):
        assert path.read_bytes() == (tmp_path / "whole" / path.relative_to(out)).read_bytes(), path
    assert not list(out.rglob("*.part"))
    assert json.loads((out / "record" / "manifest.json").read_text())["status"] == "completed"


# --- an existing data set ---------------------------------------------------------------------


def with_cameras(folder: Path) -> Path:
    """The small synthetic data set, whose tables name images that are not there."""
    root = write_nuscenes(folder)
    tables = build_tables()
    tables["sensor"].append({"token": "cam", "channel": "CAM_FRONT", "modality": "camera"})
    tables["calibrated_sensor"].append(
        {"token": "cc", "sensor_token": "cam", "translation": [1.7, 0.0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5],
         "camera_intrinsic": [[1266.0, 0, 816], [0, 1266.0, 491], [0, 0, 1]]}
    )  # fmt: skip
    for row in [r for r in tables["sample_data"] if r["calibrated_sensor_token"] == "c"]:
        tables["sample_data"].append(
            {**row, "token": f"cam{row['token']}", "calibrated_sensor_token": "cc", "fileformat": "jpg", "height": 900,
             "width": 1600, "filename": f"samples/CAM_FRONT/{row['token']}.jpg", "prev": "", "next": ""}
        )  # fmt: skip
    for name in ("sensor", "calibrated_sensor", "sample_data"):
        write_table(root, name, tables[name])
    return root


def test_missing_files_are_rendered_into_a_new_root_and_the_original_stays_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    from perception.nuscenes import list_scenes, load_boxes, load_sensor_frame

    source, out = with_cameras(tmp_path / "data"), tmp_path / "rendered"
    before = {p: p.stat().st_mtime_ns for p in source.rglob("*")}
    config = RenderConfig(str(source), VERSION, sensors=replace(TINY, lidar=LidarConfig()))
    scenes = list_scenes(source, VERSION)
    for scene in scenes:
        render_part(scene, config, out)
    assert finish_root(scenes, config, out) == 8 + 9
    assert {p: p.stat().st_mtime_ns for p in source.rglob("*")} == before
    there = out / "samples" / "LIDAR_TOP" / "0.pcd.bin"
    assert there.is_symlink()
    assert there.read_bytes() == (source / "samples" / "LIDAR_TOP" / "0.pcd.bin").read_bytes()
    frame = load_sensor_frame(out, VERSION, "3")
    assert frame.lidar is not None
    assert len(frame.lidar.points) == 32 * 1084
    assert frame.time_us == START_US + 3 * 500_000
    assert image.open(out / "samples" / "CAM_FRONT" / "3.jpg").size == (1600, 900)
    boxes = load_boxes(out, VERSION, "3")
    inside = boxes.contains(frame.lidar.points_in_global()).sum(1)
    assert dict(zip(boxes.id, inside))["car"] > 5


def test_what_the_rendered_lidar_counts_replaces_the_counts(tmp_path: Path, nuscenes_root: Path) -> None:
    """On one real scene: counts by the new sweeps, tables otherwise as they were."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    from perception.nuscenes_tables import read_table

    config = RenderConfig(str(nuscenes_root), VERSION, sensors=TINY)
    render_part("scene-0796", config, tmp_path)
    finish_root(["scene-0796"], config, tmp_path)
    old = read_table(nuscenes_root, VERSION, "sample_annotation")
    new = read_table(tmp_path, VERSION, "sample_annotation")
    changed = [(a, b) for a, b in zip(old, new) if a != b]
    assert 400 < len(changed) <= 716
    counted = {"num_lidar_pts", "visibility_token"}
    assert all({k for k in a if a[k] != b[k]} <= counted for a, b in changed)
    assert max(b["num_lidar_pts"] for _, b in changed) > 300

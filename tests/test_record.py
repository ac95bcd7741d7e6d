"""Recorded data sets: what the unmodified devkit and our own reader make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from record_settings import CONFIG, TINY, recorded
from sim_scenes import agent, recording, straight_track

from eval.simulation.record.annotations import observed
from eval.simulation.record.arclines import TOLERANCE
from eval.simulation.record.dataset import plan_scenes, record_part
from eval.simulation.record.moments import at_step
from eval.simulation.record.scene import town_of
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorSuite
from perception.sensor_frame import Boxes3D
from planner.scene import AgentClass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, recorded once; do not change them."""
    return recorded(tmp_path_factory.mktemp("recorded"))


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

"""Sensor frames: transforms, projection, absent and damaged files, and whether the one real key frame lines up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes_files import SCENE, SPEED, START_US, VERSION, edit_table, write_nuscenes

from perception.nuscenes import DatasetError, first_sample, load_boxes, load_sensor_frame
from perception.sensor_frame import Boxes3D, CameraImages, SensorFrame, project, rigid, transform

finite = st.floats(-50, 50)
CAMERAS = {"CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    return write_nuscenes(tmp_path / "data")


@pytest.fixture(scope="module")
def real(nuscenes_root: Path) -> tuple[SensorFrame, Boxes3D]:
    """The one key frame whose sensor files are there."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    token = first_sample(nuscenes_root, VERSION, "scene-0061")
    frame = load_sensor_frame(nuscenes_root, VERSION, token)
    if frame.lidar is None or frame.cameras is None or len(frame.cameras) < 6:
        pytest.skip("the sensor files of scene-0061's first key frame are absent")
    return frame, load_boxes(nuscenes_root, VERSION, token)


def boxes(center: Any, size: Any, yaw: Any) -> Boxes3D:
    yaw = np.atleast_1d(np.asarray(yaw, float))
    shape = (len(yaw), 3)
    return Boxes3D(np.reshape(center, shape), np.reshape(size, shape), yaw, np.zeros(len(yaw), int))


# --- geometry ---------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.lists(finite, min_size=3, max_size=3))
def test_rigid_keeps_distances_and_inverts(quaternion: list[float], translation: list[float]) -> None:
    if np.linalg.norm(quaternion) < 0.1:
        return
    a_from_b = rigid(np.array(quaternion), np.array(translation))
    points = np.random.default_rng(0).normal(size=(10, 3)) * 10
    moved = transform(a_from_b, points)
    np.testing.assert_allclose(np.linalg.norm(moved - moved[0], axis=1), np.linalg.norm(points - points[0], axis=1))
    np.testing.assert_allclose(transform(np.linalg.inv(a_from_b), moved), points, atol=1e-9)


def test_projection_of_known_points() -> None:
    """2 m right and 1 m down at 10 m: 200 px right of and 100 px below the principal point."""
    intrinsics = np.array([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]])
    pixels, depth = project(intrinsics, np.array([[2.0, 1, 10], [0, 0, 5], [1, 1, -3]]))
    np.testing.assert_allclose(pixels[:2], [[1000, 550], [800, 450]])
    assert np.isnan(pixels[2]).all()
    np.testing.assert_allclose(depth, [10, 5, -3])


def test_box_corners() -> None:
    """A box 4 x 2 x 1.5 m that looks north: its front edge is 2 m north of its centre."""
    corners = boxes([10, 20, 1], [4, 2, 1.5], np.pi / 2).corners()[0]
    np.testing.assert_allclose(corners[:, 2], [0.25] * 4 + [1.75] * 4)
    np.testing.assert_allclose(corners[0, :2], [9, 22])  # front left
    np.testing.assert_allclose(corners[1, :2], [11, 22])
    np.testing.assert_allclose(corners[2, :2], [11, 18])


@settings(max_examples=30, deadline=None)
@given(finite, finite, st.floats(-4, 4), st.floats(0.3, 10), st.floats(0.3, 3), st.floats(0.3, 4))
def test_box_contains_what_is_just_inside(
    x: float, y: float, yaw: float, length: float, width: float, h: float
) -> None:
    box = boxes([x, y, 1], [length, width, h], yaw)
    toward = box.corners()[0] - box.center[0]
    assert box.contains(box.center[0] + 0.999 * toward).all()
    assert not box.contains(box.center[0] + 1.001 * toward).any()


# --- loading ----------------------------------------------------------------------------------


def test_synthetic_frame(root: Path) -> None:
    frame = load_sensor_frame(root, VERSION, first_sample(root, VERSION, SCENE))
    assert frame.lidar is not None
    np.testing.assert_allclose(frame.lidar.points[0], [10, 0, -1])
    # The sensor sits 1 m ahead of and 1.8 m above the rear axle, the ego at x = 20.
    np.testing.assert_allclose(frame.lidar.points_in_global(), [[31, 0, 0.8], [21, 5, 0]], atol=1e-6)
    assert frame.lidar.ring.tolist() == [0, 3]
    assert frame.time_us == frame.lidar.time_us == START_US
    assert frame.cameras is None
    assert len(frame.missing) == 6
    assert "CAM_FRONT: the tables have no record" in frame.missing[0]
    assert float(frame.ego.v) == pytest.approx(SPEED, abs=1e-2)
    assert float(frame.ego.x) == pytest.approx(20, abs=1e-2)
    assert frame.ego.v_source == "poses"


def test_earlier_turns_come_with_their_own_pose_and_time_and_share_one_ego_frame(root: Path) -> None:
    """One point at a fixed place of the world, seen from two key frames, comes out at one place of the ego frame."""
    place = np.array([50.0, 2.0, 0.5])
    for k in (2, 3, 4):
        sensor = np.array([20.0 + SPEED * 0.5 * k + 1.0, 0.0, 1.8])
        row = np.r_[place - sensor, 40.0 + k, 7.0]
        rows = np.stack([row, [0.0, 0.0, 0.0, 1.0, 0.0]])  # a miss lies where the sensor is
        rows.astype(np.float32).tofile(root / "samples" / "LIDAR_TOP" / f"{k}.pcd.bin")
    frame = load_sensor_frame(root, VERSION, "4", past_sweeps=2)
    assert [s.time_us - frame.time_us for s in frame.past] == [-500_000, -1_000_000]
    points, intensity, time = frame.lidar_in_ego()
    np.testing.assert_allclose(points, np.tile(place - [20.0 + SPEED * 2.0, 0, 0], (3, 1)), atol=1e-5)
    np.testing.assert_allclose(time, [0.0, -0.5, -1.0])
    np.testing.assert_allclose(intensity, [44, 43, 42])
    assert points.dtype == intensity.dtype == time.dtype == np.float32
    reaching_back = load_sensor_frame(root, VERSION, "3", past_sweeps=3)
    assert len(reaching_back.past) == 1
    assert any(s.startswith("LIDAR_TOP before: 2 of 3 earlier sweeps") for s in reaching_back.missing)
    assert not any(s.startswith("LIDAR_TOP:") for s in reaching_back.missing)  # the turn itself is there
    assert len(load_sensor_frame(root, VERSION, "1").lidar_in_ego()[0]) == 0


def test_absent_file_is_a_missing_sensor(root: Path) -> None:
    frame = load_sensor_frame(root, VERSION, "1")
    assert frame.lidar is None
    assert "LIDAR_TOP: file samples/LIDAR_TOP/1.pcd.bin is absent" in frame.missing


def test_damage_is_named(root: Path) -> None:
    path = root / "samples" / "LIDAR_TOP" / "0.pcd.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"0\.pcd\.bin has 37 bytes"):
        load_sensor_frame(root, VERSION, "0")
    with pytest.raises(DatasetError, match="no sample 'nonsense'"):
        load_sensor_frame(root, VERSION, "nonsense")
    edit_table(root, "calibrated_sensor", lambda rows: rows[0].update(rotation=[1.0, 0, 0]))
    path.write_bytes(b"\0" * 40)
    with pytest.raises(DatasetError, match=r"calibrated_sensor\.json.*rotation.*expected 4 finite numbers"):
        load_sensor_frame(root, VERSION, "0")


def test_points_that_are_not_finite_are_dropped(root: Path) -> None:
    points = np.array([[1, 2, 3, 4, 5], [np.nan, 0, 0, 0, 0]], dtype=np.float32)
    points.tofile(root / "samples" / "LIDAR_TOP" / "0.pcd.bin")
    lidar = load_sensor_frame(root, VERSION, "0").lidar
    assert lidar is not None
    assert len(lidar.points) == 1


def test_boxes_of_a_sample(root: Path) -> None:
    found = load_boxes(root, VERSION, "4")
    assert sorted(found.id) == ["car", "walker"]
    np.testing.assert_allclose(found.size[list(found.id).index("car")], [4.5, 1.9, 1.6])
    assert len(load_boxes(root, VERSION, "0")) == 0
    assert load_boxes(root, VERSION, "0").corners().shape == (0, 8, 3)


# --- validation -------------------------------------------------------------------------------


def camera() -> CameraImages:
    eye = np.eye(4)[None]
    return CameraImages(
        ("CAM_FRONT",), [np.zeros((4, 6, 3), np.uint8)], np.eye(3)[None], eye, eye.copy(), np.array([0])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": []}, "expected 1 images"),
        ({"image": [np.zeros((4, 6, 3))]}, "uint8"),
        ({"intrinsics": -np.eye(3)[None]}, "fx, fy > 0"),
        ({"intrinsics": np.eye(4)[None]}, r"expected shape \(1, 3, 3\)"),
        ({"ego_from_camera": 2 * np.eye(4)[None]}, "rigid"),
        ({"global_from_ego": np.full((1, 4, 4), np.nan)}, "rigid"),
        ({"ego_from_camera": np.diag([1.0, 1, -1, 1])[None]}, "rigid"),
    ],
)
def test_camera_validation(change: dict[str, Any], message: str) -> None:
    camera().validate()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(camera(), **change).validate()


def test_lidar_validation(root: Path) -> None:
    lidar = load_sensor_frame(root, VERSION, "0").lidar
    assert lidar is not None
    with pytest.raises(ValueError, match="intensity"):
        dataclasses.replace(lidar, intensity=np.zeros(5)).validate()
    with pytest.raises(ValueError, match="finite"):
        dataclasses.replace(lidar, points=np.full((2, 3), np.inf)).validate()


# --- the real key frame -----------------------------------------------------------------------


@pytest.mark.nuscenes
def test_real_frame_is_complete(real: tuple[SensorFrame, Boxes3D]) -> None:
    frame, found = real
    assert frame.missing == ()
    assert frame.lidar is not None
    assert frame.cameras is not None
    assert set(frame.cameras.channel) == CAMERAS
    assert all(image.shape == (900, 1600, 3) for image in frame.cameras.image)
    assert np.abs(frame.cameras.time_us - frame.time_us).max() < 50_000
    assert len(frame.lidar.points) == 34688
    assert len(found) == 68
    assert float(frame.ego.v) == pytest.approx(9.1, abs=0.2)


@pytest.mark.nuscenes
def test_real_boxes_hold_lidar_points(real: tuple[SensorFrame, Boxes3D]) -> None:
    """65 of the 68 boxes hold points; moved by 1.5 m in any direction at most a third does."""
    frame, found = real
    assert frame.lidar is not None
    points = frame.lidar.points_in_global()
    hit = (found.contains(points).sum(1) > 0).sum()
    assert hit >= 0.95 * len(found)
    for angle in np.arange(0, 2 * np.pi, np.pi / 2):
        shift = 1.5 * np.array([np.cos(angle), np.sin(angle), 0])
        moved = dataclasses.replace(found, center=found.center + shift)
        assert (moved.contains(points).sum(1) > 0).sum() < 0.4 * len(found)


@pytest.mark.nuscenes
def test_real_lidar_edges_fall_on_image_edges(real: tuple[SensorFrame, Boxes3D]) -> None:
    """Extrinsic calibration and time stamps, without annotations (after Levinson & Thrun, RSS 2013).

    Where the range jumps along a LiDAR ring, images change colour: the mean image gradient at the
    projected jumps is largest with no shift, within 5 pixels of 1600, and 15 % below that at 15 or more.
    """
    frame, _ = real
    assert frame.lidar is not None
    assert frame.cameras is not None
    jumps = frame.lidar.points_in_global()[range_jumps(frame.lidar.points, frame.lidar.ring)]
    shifts = np.arange(-60, 61, 5)
    curves = np.array([gradient_curve(frame.cameras, c, jumps, shifts) for c in range(len(frame.cameras))])
    for name, curve in zip(frame.cameras.channel, curves):
        assert abs(shifts[curve.argmax()]) <= 10, name
    mean = (curves / curves.mean(1, keepdims=True)).mean(0)
    assert abs(shifts[mean.argmax()]) <= 5
    assert mean[np.abs(shifts) >= 15].max() < 0.85 * mean[shifts == 0][0]


def range_jumps(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Bool: the neighbour on the ring is more than 1.5 m farther away."""
    distance, out = np.linalg.norm(points, axis=1), np.zeros(len(points), bool)
    for k in np.unique(ring):
        i = np.flatnonzero(ring == k)
        i = i[np.argsort(np.arctan2(points[i, 1], points[i, 0]))]
        d = distance[i]
        out[i] = np.maximum(np.roll(d, 1) - d, np.roll(d, -1) - d) > 1.5
    return out


def gradient_curve(cameras: CameraImages, index: int, points: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Mean horizontal image gradient at the points, moved sideways by each shift (pixels)."""
    from scipy.ndimage import gaussian_filter

    gray = cameras.image[index].astype(float).mean(-1)
    gradient = gaussian_filter(np.abs(np.gradient(gray, axis=1)), 1.5)
    pixels, depth = cameras.project(index, points)
    pixels = pixels[depth > 2]
    out = []
    for shift in shifts:
        u, v = pixels[:, 0] + shift, pixels[:, 1]
        seen = (u > 1) & (u < gray.shape[1] - 2) & (v > 1) & (v < gray.shape[0] - 2)
        out.append(gradient[v[seen].astype(int), u[seen].astype(int)].mean())
    return np.array(out)


@pytest.mark.nuscenes
def test_real_projection_is_the_devkits(real: tuple[SensorFrame, Boxes3D], nuscenes_root: Path) -> None:
    """Corners of every box in every image, against the devkit's own chain of transforms."""
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    from perception.nuscenes_tables import open_tables

    frame, found = real
    assert frame.cameras is not None
    tables, checked = open_tables(nuscenes_root, VERSION), 0
    sample = tables.get("sample", frame.name)
    for index, channel in enumerate(frame.cameras.channel):
        pixels, depth = frame.cameras.project(index, found.corners())
        _, theirs, intrinsics = tables.get_sample_data(sample["data"][channel], box_vis_level=BoxVisibility.NONE)
        for box, ours, ahead in zip(theirs, pixels, depth):
            if (ahead < 1).any():
                continue
            expected = view_points(box.corners(), intrinsics, normalize=True)[:2].T
            matched = np.linalg.norm(ours[:, None] - expected[None], axis=-1).min(1)
            assert matched.max() < 1e-3
            checked += 1
    assert checked > 100


@pytest.mark.nuscenes
def test_real_picture(real: tuple[SensorFrame, Boxes3D], nuscenes_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    from perception.keyframe_picture import draw_keyframe

    path = draw_keyframe(nuscenes_root, VERSION, real[0].name, tmp_path / "keyframe.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 1500
    assert pixels.std() > 30

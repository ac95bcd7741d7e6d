"""Sensors to inputs, scenes to targets: numbers by hand, nothing lost on disk, augmentation keeps the world whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from perception_samples import SMALL, frame_of, random_agents, sample_of, scene_of

from perception.augment import Augmentation, augmented
from perception.config import BASE, LINE_KINDS, TINY, Preprocessing
from perception.data import data_hash, join, load_batch, prepared
from perception.encoders import pillar_channels, pillars
from perception.nuscenes_tables import DatasetError
from perception.preprocess import route_numbers, sensor_arrays
from perception.sample import Sample, load_sample, save_sample
from perception.targets import encode, turned, windowed
from planner.scene import AgentClass, PolylineType

P = SMALL.preprocessing
CAR = (12.0, 3.0, 0.0, 5.0, AgentClass.CAR)
WALKER = (-8.0, -7.5, 1.2, 1.0, AgentClass.PEDESTRIAN)


def test_pillars_are_what_sums_by_hand_give(rng: np.random.Generator) -> None:
    points = np.c_[rng.uniform(-30, 30, (500, 2)), rng.uniform(-3, 6, 500), rng.uniform(0, 1, 500)].astype(np.float32)
    points[::7] = np.nan
    image = pillars(torch.from_numpy(points)[None, None], P)[0].numpy()
    assert image.shape == (pillar_channels(P), P.cells, P.cells)
    slices = len(P.slices) - 1
    inside = points[
        (np.abs(points[:, :2]) < P.extent).all(1) & (points[:, 2] > P.slices[0]) & (points[:, 2] <= P.slices[-1])
    ]
    cell = np.floor((inside[:, :2] + P.extent) / P.pillar).astype(int)
    for i, j in np.unique(cell, axis=0)[:40]:
        mine = inside[(cell == [i, j]).all(1)]
        count = np.histogram(mine[:, 2], P.slices)[0]
        offset = (2 * ((mine[:, :2] + P.extent) / P.pillar - [i, j]) - 1).mean(0)
        expected = [
            *np.log1p(count),
            *offset,
            mine[:, 2].mean(),
            mine[:, 2].max(),
            np.log1p(255 * mine[:, 3]).mean() / 4,
            np.log1p(len(mine)),
        ]
        assert image[:, i, j] == pytest.approx(expected, abs=1e-3)
    empty = np.ones((P.cells, P.cells), bool)
    empty[tuple(cell.T)] = False
    assert not image[:, empty].any()
    assert np.expm1(image[:slices]).sum() == pytest.approx(len(inside), rel=1e-4)


def test_nothing_to_see_gives_empty_pillars() -> None:
    assert not pillars(torch.full((2, 2, 1, 4), torch.nan), P).any()


def test_past_points_are_moved_into_the_present_frame() -> None:
    scene = scene_of([(10.0, 4.0, 0.0, 0.0, AgentClass.TRUCK)])  # parked, while ego drives 3 m
    past = frame_of(scene, ago=0.5).lidar
    arrays = sensor_arrays(frame_of(scene), P, [past])
    now, before = (p[p[:, 2] > 0.25] for p in arrays.points[:2])
    assert np.abs(now[:, :2].mean(0) - before[:, :2].mean(0)).max() < 0.5
    assert now[:, 0].max() == pytest.approx(14.0, abs=0.1) == before[:, 0].max()


def test_a_sweep_of_the_wrong_age_is_no_past() -> None:
    scene = scene_of([CAR])
    assert P.lidar_lags == (0.0, 0.5, 1.0)
    for ago, there in ((0.21, True), (0.5, True), (0.79, True), (0.19, False), (0.81, False)):
        arrays = sensor_arrays(frame_of(scene), P, [frame_of(scene, ago=ago).lidar])
        assert (arrays.points[1] is not None) == there
        assert (arrays.points[2] is not None) == (ago >= 0.7)


def test_own_body_is_not_seen() -> None:
    frame = frame_of(scene_of([]))
    frame.lidar.points[:50] = 0.0  # misses: at the sensor
    points = sensor_arrays(frame, P).points[0]
    assert (np.abs(points[:, :2] - [1.4, 0.0]) > P.own_body).any(1).all()


def test_cameras_project_where_the_frame_says() -> None:
    frame = frame_of(scene_of([CAR]), cameras=True)
    arrays = sensor_arrays(frame, P)
    spot = np.array([12.0, 1.0, 0.8])
    u, v, w = arrays.image_from_ego[0] @ [*spot, 1.0]
    pixel, depth = frame.cameras.project(0, spot)
    height, width = frame.cameras.image[0].shape[:2]
    assert w == pytest.approx(float(depth))
    assert [u / w, v / w] == pytest.approx(pixel * [P.image[1] / width, P.image[0] / height])
    assert (arrays.image_from_ego[1] @ [*spot, 1.0])[2] < 0  # behind the other camera


def test_missing_sensors_are_masks() -> None:
    scene = scene_of([CAR])
    frame = frame_of(scene, cameras=True)
    only_lidar, only_cameras, nothing = (
        replace(frame, cameras=None), replace(frame, lidar=None), replace(frame, lidar=None, cameras=None),
    )  # fmt: skip
    samples = [Sample(sensor_arrays(f, P), *_rest(scene)) for f in (frame, only_lidar, only_cameras, nothing)]
    inputs = join(samples, SMALL).inputs
    assert inputs.lidar_seen[:, 0].tolist() == [1, 1, 0, 0]
    assert inputs.camera_seen.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]
    assert not inputs.pillars[2:].any()
    assert all(torch.isfinite(t).all() for t in inputs.tensors())


def _rest(scene):  # type: ignore[no-untyped-def]
    sample = sample_of([CAR])
    return encode(scene, SMALL), scene, sample.ego, sample.route


def test_mixed_sizes_in_a_batch_are_what_each_is_alone(rng: np.random.Generator) -> None:
    samples = [sample_of(random_agents(rng, n), seed=n, cameras=n > 1) for n in (0, 1, 6)]
    together = join(samples, SMALL)
    for b, sample in enumerate(samples):
        alone = join([sample], SMALL).inputs
        for one, all_ in zip(alone.tensors(), together.inputs.tensors()):
            assert torch.allclose(one[0], all_[b], atol=1e-6)
    assert [len(t.box) for t in together.targets] == [0, 1, 6]


def test_a_sweep_with_too_many_points_is_thinned_evenly() -> None:
    few = replace(SMALL, preprocessing=replace(P, points=300))
    sample = sample_of([CAR])
    inputs = join([sample], few).inputs
    seen = np.expm1(inputs.pillars[0, pillar_channels(P) - 1].numpy()).sum()
    assert 250 < seen <= 300


# -- targets ----------------------------------------------------------------------------------
def test_lines_are_whole_and_cut_at_the_window() -> None:
    points, kind = windowed(encode(scene_of([CAR]), SMALL), SMALL)
    by_kind = {k: points[kind == i] for i, k in enumerate(LINE_KINDS)}
    assert [len(by_kind[k]) for k in LINE_KINDS] == [1, 1, 2, 1]
    lane = by_kind[PolylineType.CENTERLINE][0]
    assert lane[0] == pytest.approx([-20.0, 0.0], abs=0.11)
    assert lane[-1] == pytest.approx([20.0, 0.0], abs=0.11)
    assert np.ptp(np.diff(lane[:, 0])) < 1e-9
    for edge in by_kind[PolylineType.BOUNDARY]:  # the surface, where ego is, lies to the left
        along = edge[-1] - edge[0]
        assert along[0] * (0 - edge[0, 1]) - along[1] * (0 - edge[0, 0]) > 0
    ring = by_kind[PolylineType.CROSSING][0]
    assert ring[0] == pytest.approx(ring[-1])


@pytest.mark.parametrize("mirror", [False, True])
def test_turned_targets_keep_their_geometry(mirror: bool) -> None:
    before = encode(scene_of([CAR, WALKER]), SMALL)
    pose = np.array([1.0, -2.0, 0.3])
    after = turned(before, pose, mirror)
    gap = lambda t: np.hypot(*(t.box[0, :2] - t.box[1, :2]))  # noqa: E731
    assert gap(after) == pytest.approx(gap(before))
    heading = np.stack([np.cos(after.box[:, 2]), np.sin(after.box[:, 2])], 1)
    assert heading * np.hypot(*before.velocity.T)[:, None] == pytest.approx(after.velocity)
    for line, kind in zip(after.line, after.line_kind):
        if LINE_KINDS[kind] is PolylineType.BOUNDARY:
            along = line[-1] - line[0]
            assert along[0] * (after.ego[1] - line[0, 1]) - along[1] * (after.ego[0] - line[0, 0]) > 0


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_augmentation_moves_everything_alike(mirror: float) -> None:
    sample = sample_of([CAR, WALKER], cameras=True)
    how = Augmentation(
        rotation=0.5, shift=2.0, mirror=mirror, tilt=0, thin=0, drop_lidar=0, drop_past=0, drop_cameras=0, drop_camera=0
    )
    moved = augmented(sample, how, np.random.default_rng(3))
    assert abs(moved.targets.ego[2]) > 0.05
    for one in (sample, moved):
        points = one.sensors.points[0]
        for box in one.targets.box:
            c, s = np.cos(box[2]), np.sin(box[2])
            local = (points[points[:, 2] > 0.25][:, :2] - box[:2]) @ np.array([[c, -s], [s, c]])
            assert (np.abs(local) <= box[3:5] / 2 + 0.03).all(1).sum() == 60
    spot = sample.targets.box[0, :2]
    same = moved.targets.box[0, :2]
    project = lambda s, xy: s.sensors.image_from_ego[0] @ [*xy, 0.5, 1.0]  # noqa: E731
    assert project(sample, spot) == pytest.approx(project(moved, same))
    if mirror:
        assert moved.scene is None
    else:
        assert moved.scene.agents.box[:, :3].numpy() == pytest.approx(moved.targets.box[:, :3])
        assert moved.scene.ego.yaw.item() == pytest.approx(moved.targets.ego[2])
    assert np.abs(moved.route[0, :2] - moved.targets.ego[:2]).max() < 1.0


def test_points_are_tilted_thinned_and_brightened_within_bounds() -> None:
    sample = sample_of([CAR], cameras=True)
    how = Augmentation(0, 0, 0, tilt=0.02, thin=0.5, shine=0.6, light=0.4, drop_lidar=0, drop_past=0, drop_cameras=0)
    before = sample.sensors.points[0]
    for seed in range(10):
        moved = augmented(sample, how, np.random.default_rng(seed)).sensors
        after = moved.points[0]
        assert 0.4 * len(before) < len(after) <= len(before)
        place = {tuple(np.round(p, 4)): p_ for p, p_ in zip(before[:, :2], before)}
        pairs = [(place[tuple(np.round(p[:2], 4))], p) for p in after]
        rise = np.array([(b[2] - a[2]) / np.hypot(*a[:2]) for a, b in pairs])
        assert 0 < np.abs(rise).max() <= 0.02 * np.sqrt(2) + 1e-6
        assert np.exp(-0.6) <= after[0, 3] / before[0, 3] <= np.exp(0.6)
        assert moved.images.mean() != sample.sensors.images.mean()


def test_augmentation_never_takes_all_sensors() -> None:
    sample, lidar_only = sample_of([CAR], cameras=True), sample_of([CAR])
    how = Augmentation(drop_lidar=0.7, drop_cameras=0.7, drop_camera=0.7)
    lost = {"lidar": 0, "cameras": 0}
    for seed in range(60):
        for s in (sample, lidar_only):
            seen = augmented(s, how, np.random.default_rng(seed)).sensors
            assert seen.points[0] is not None or seen.camera_seen.any()
            lost["lidar"] += seen.points[0] is None
            lost["cameras"] += not seen.camera_seen.any()
    assert min(lost.values()) > 10


# -- on disk ----------------------------------------------------------------------------------
def test_a_sample_survives_the_disk(tmp_path: Path) -> None:
    sample = sample_of([CAR, WALKER], cameras=True)
    save_sample(tmp_path / "one.npz", sample)
    back = load_sample(tmp_path / "one.npz")
    assert [p is None for p in sample.sensors.points] == [p is None for p in back.sensors.points]
    for before, after in zip(sample.sensors.points, back.sensors.points):
        if before is None:
            continue
        assert np.abs(before[:, :3] - after[:, :3]).max() <= 0.00501
        assert np.abs(before[:, 3] - after[:, 3]).max() <= 0.002
    assert np.array_equal(sample.sensors.images, back.sensors.images)
    for name, value in vars(sample.targets).items():
        pairs = zip(value, getattr(back.targets, name)) if name == "line" else [(value, getattr(back.targets, name))]
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert np.array_equal(sample.route, back.route)
    assert torch.equal(sample.scene.agents.box, back.scene.agents.box)


def test_a_batch_depends_on_its_own_seed_only(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.npz" for n in range(3)]
    for n, path in enumerate(paths):
        save_sample(path, sample_of([CAR], seed=n))
    whole = load_batch(paths, SMALL, Augmentation(), (7, 1))
    part = load_batch(paths[1:], SMALL, Augmentation(), (7, 1))
    assert torch.equal(whole.inputs.pillars[1:], part.inputs.pillars)
    assert not torch.equal(load_batch(paths[1:], SMALL, Augmentation(), (7, 2)).inputs.pillars, part.inputs.pillars)


def test_prepared_samples_are_made_once_and_anew_for_other_settings(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> Sample:
        made.append(name)
        return sample_of([CAR])

    first = prepared(["a", "b"], tmp_path, SMALL, make, "origin")
    assert prepared(["b", "a"], tmp_path, SMALL, make, "origin") == first[::-1]
    assert made == ["a", "b"]
    other = prepared(["a"], tmp_path, replace(SMALL, preprocessing=replace(P, own_body=(2.0, 1.0))), make, "origin")
    assert made == ["a", "b", "a"]
    assert data_hash(first) != data_hash(other)


def test_another_schema_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    save_sample(tmp_path / "one.npz", sample_of([CAR]))
    with np.load(tmp_path / "one.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "two.npz", **{**arrays, "schema": 99})
    with pytest.raises(DatasetError, match="schema 1, got 99"):
        load_sample(tmp_path / "two.npz")
    whole = (tmp_path / "one.npz").read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(DatasetError, match=r"cut\.npz cannot be read"):
            load_sample(tmp_path / "cut.npz")


def test_a_route_that_ends_repeats_its_last_point() -> None:
    scene = scene_of([])
    short = scene.route.replace(valid=scene.route.xy[:, 0] < 21.0)
    table = route_numbers(short)
    assert table[:5, 0] == pytest.approx([0.0, 5.0, 10.0, 15.0, 20.0], abs=1e-5)
    assert (table[5:, 0] == 20.0).all()


@pytest.mark.parametrize("config", [TINY, BASE, SMALL])
def test_the_shipped_sizes_fit_together(config) -> None:  # type: ignore[no-untyped-def]
    config.validate()
    assert config.preprocessing.hash != Preprocessing(extent=10.0).hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pillar": 0.37}, "multiple of 8 pillars"),
        ({"lidar_lags": (0.5,)}, "start with 0"),
        ({"image": (90, 160)}, "multiples of 16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(P, **change).validate()

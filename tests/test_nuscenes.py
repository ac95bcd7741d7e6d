"""The nuScenes reader: what a recording holds, how every kind of damage is reported, and the cache."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes_files import LOCATION, SCENE, SPEED, VERSION, build_map, edit_table, load_mini, table_file, write_nuscenes

from perception.nuscenes import DatasetError, list_scenes, load_recording
from perception.nuscenes_map import load_road
from perception.nuscenes_tracks import agent_class, annotated_velocity, ego_track, smooth
from perception.polyline import wrap
from perception.recording import Recording
from perception.recording_file import RecordingFileError, load_recording_file, save_recording
from planner.scene import AgentClass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small synthetic data set."""
    pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    return write_nuscenes(tmp_path / "data")


@pytest.fixture(scope="module")
def mini(nuscenes_root: Path) -> dict[str, Recording]:
    """The seven real scenes."""
    return load_mini(nuscenes_root)


def corners(pose: np.ndarray, length: float, width: float, ahead: float = 0.0) -> np.ndarray:
    """``[T, 4, 2]``: written apart from the code under test."""
    x, y, yaw = (pose[:, k, None] for k in range(3))
    along = ahead + np.array([1, 1, -1, -1]) * length / 2
    across = np.array([1, -1, -1, 1]) * width / 2
    return np.stack(
        [x + np.cos(yaw) * along - np.sin(yaw) * across, y + np.sin(yaw) * along + np.cos(yaw) * across], -1
    )


# --- what a recording holds -------------------------------------------------------------------


def test_synthetic_scene(root: Path) -> None:
    assert list_scenes(root, VERSION) == [SCENE]
    recording = load_recording(root, VERSION, SCENE, False)
    assert len(recording.time) == 41
    assert recording.keyframe.sum() == 9
    np.testing.assert_allclose(recording.ego.pose[:, 0], 20 + SPEED * recording.time, atol=1e-3)
    np.testing.assert_allclose(recording.ego.v, SPEED, atol=1e-3)
    np.testing.assert_allclose(recording.ego.a, 0, atol=1e-3)
    assert recording.ego.source == "poses"


def test_objects_exist_only_between_first_and_last_annotation(root: Path) -> None:
    agents = load_recording(root, VERSION, SCENE, False).agents
    car, walker = agents.id.index("car"), agents.id.index("walker")
    assert np.flatnonzero(agents.valid[car]).tolist() == list(range(10, 31))
    assert np.flatnonzero(agents.valid[walker]).tolist() == [20]
    np.testing.assert_allclose(agents.velocity[car][agents.valid[car]], [[2.0, 0.0]] * 21, atol=1e-9)
    np.testing.assert_allclose(agents.velocity[walker, 20], 0)
    np.testing.assert_allclose(agents.size[car], [4.5, 1.9])
    assert agents.agent_class[car] == AgentClass.CAR
    assert agents.agent_class[walker] == AgentClass.PEDESTRIAN


def test_heading_turns_the_short_way_through_the_wrap(root: Path) -> None:
    """170 to 190 degrees in 2 s: 1 degree a step, never the 358 degrees the other way."""
    agents = load_recording(root, VERSION, SCENE, False).agents
    car = agents.id.index("car")
    yaw = agents.pose[car, agents.valid[car], 2]
    assert np.abs(yaw).max() <= np.pi
    np.testing.assert_allclose(np.degrees(wrap(np.diff(yaw))), 1.0, atol=1e-6)


def test_synthetic_map(root: Path) -> None:
    recording = load_recording(root, VERSION, SCENE, False)
    road = recording.road
    assert road.lanes["A"].successors == ["C"]
    assert road.lanes["B"].predecessors == ["C"]
    assert road.lanes["C"].connector
    assert (road.lanes["A"].right, road.lanes["A"].left) == ("A2", None)
    assert road.lanes["A2"].left == "A"
    assert (road.lanes["O"].left, road.lanes["O"].right) == (None, None)
    for lane in road.lanes.values():
        step = np.linalg.norm(np.diff(lane.centerline, axis=0), axis=1)
        assert 0.5 < step.min()
        assert step.max() < 1.2
        assert lane.speed_limit == 13.9
    np.testing.assert_allclose(sorted(road.stop_lines[0].tolist()), [[58.5, -1.75], [58.5, 1.75]], atol=1e-9)
    assert len(road.crossings) == len(road.dividers) == 1
    assert recording.route[:3] == ["A", "C", "B"]


def test_reading_is_silent_and_leaves_plot_styles_alone(root: Path, capfd) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    load_recording(root, VERSION, SCENE, False)
    assert capfd.readouterr() == ("", "")
    assert dict(matplotlib.rcParams) == before


def test_speed_limit_is_never_below_the_recorded_speed(root: Path) -> None:
    edit_table(root, "ego_pose", lambda rows: [r["translation"].__setitem__(0, 2 * r["translation"][0]) for r in rows])
    recording = load_recording(root, VERSION, SCENE, False)
    assert recording.road.lanes["A"].speed_limit == pytest.approx(16.0, abs=1e-3)


def test_broken_links_are_mended_and_reported(root: Path) -> None:
    content = build_map()
    content["connectivity"]["A"]["outgoing"] = []  # ends where C starts: mended
    content["connectivity"]["C"]["outgoing"] = ["O"]  # 340 m away: dropped
    content["connectivity"]["B"]["outgoing"] = ["gone"]  # not in the map
    del content["arcline_path_3"]["O"]
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(content))
    road = load_road(root, LOCATION, np.array([[20.0, 0.0], [60.0, 0.0]]))
    assert road.lanes["A"].successors == ["C"]
    assert road.lanes["C"].successors == []
    assert "O" not in road.lanes
    report = "\n".join(road.repairs)
    assert "link A -> C added" in report
    assert "1 lanes have no centreline" in report
    recording = load_recording(root, VERSION, SCENE, False)
    assert recording.route_xy[-1, 0] - recording.ego.pose[-1, 0] >= 200


def test_lane_without_polygon_is_widened_from_its_centreline(root: Path) -> None:
    content = build_map()
    next(p for p in content["polygon"] if p["token"] == "C-polygon")["exterior_node_tokens"] = []
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(content))
    road = load_road(root, LOCATION, np.array([[20.0, 0.0]]))
    assert road.lanes["C"].polygon.area == pytest.approx(20 * 3.5, rel=1e-3)
    assert any("1 lanes have no usable polygon" in line for line in road.repairs)


def test_impossible_link_is_dropped(root: Path) -> None:
    content = build_map()
    content["connectivity"]["A"]["outgoing"] = ["B", "C"]  # B starts 20 m further on
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(content))
    road = load_road(root, LOCATION, np.array([[20.0, 0.0]]))
    assert road.lanes["A"].successors == ["C"]
    assert any("A -> B dropped: its ends are 20.0 m apart" in line for line in road.repairs)


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("vehicle.bus.bendy", AgentClass.BUS),
        ("vehicle.trailer", AgentClass.TRUCK),
        ("vehicle.hovercraft", AgentClass.CAR),
        ("human.pedestrian.stroller", AgentClass.PEDESTRIAN),
        ("movable_object.debris", AgentClass.STATIC),
        ("static_object.bicycle_rack", AgentClass.STATIC),
        ("animal", AgentClass.PEDESTRIAN),
    ],
)
def test_classes(category: str, expected: AgentClass) -> None:
    assert agent_class(category) is expected


# --- damage -----------------------------------------------------------------------------------


def refused(root: Path, *parts: str, scene: str = SCENE) -> DatasetError:
    """The DatasetError of loading; its text must hold the given parts, and it must say what to do."""
    with pytest.raises(DatasetError) as caught:
        load_recording(root, VERSION, scene, False)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert caught.value.fix
    return caught.value


def test_wrong_dataroot_and_version(root: Path) -> None:
    refused(root / "nowhere", "nowhere", "not a folder")
    refused(root.parent, "no tables of version 'v1.0-mini'", "no nuScenes tables at all")
    with pytest.raises(DatasetError, match=r"v1.0-trainval.*--version v1.0-mini"):
        list_scenes(root, "v1.0-trainval")


def test_unknown_scene_lists_what_there_is(root: Path) -> None:
    refused(root, "no scene 'scene-0000'", SCENE, scene="scene-0000")


def test_without_the_devkit(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Names can be listed and cached recordings driven; reading says what to install."""
    load_recording(root, VERSION, SCENE, tmp_path / "cache")
    other = write_nuscenes(tmp_path / "other")
    for module in [m for m in sys.modules if m == "nuscenes" or m.startswith("nuscenes.")]:
        monkeypatch.setitem(sys.modules, module, None)
    assert list_scenes(other, VERSION) == [SCENE]
    assert load_recording(root, VERSION, SCENE, tmp_path / "cache").name == SCENE
    assert "pip install" in refused(other, "nuscenes-devkit cannot be imported").fix


@pytest.mark.parametrize("table", ["scene", "sample", "sample_annotation", "ego_pose", "map"])
def test_truncated_and_missing_table(root: Path, table: str) -> None:
    path = table_file(root, table)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    refused(root, f"{table}.json", "not valid JSON")
    path.write_text("{}")
    refused(root, f"{table}.json", "expected a list of records")
    path.unlink()
    refused(root, f"{table}.json", "missing")


def test_list_scenes_of_truncated_table(root: Path) -> None:
    table_file(root, "scene").write_text("[")
    with pytest.raises(DatasetError, match=r"scene\.json is not valid JSON"):
        list_scenes(root, VERSION)


@pytest.mark.parametrize("table", ["ego_pose", "sample_annotation"])
def test_nan_in_a_pose(root: Path, table: str) -> None:
    edit_table(root, table, lambda rows: rows[3]["translation"].__setitem__(1, float("nan")))
    refused(root, f"{table}.json", "translation", "expected 3 finite numbers")


def test_rotation_that_is_no_rotation(root: Path) -> None:
    edit_table(root, "ego_pose", lambda rows: rows[0].update(rotation=[0.0, 0.0, 0.0, 0.0]))
    refused(root, "ego_pose.json", "record p0", "no unit quaternion")


def test_missing_record(root: Path) -> None:
    edit_table(root, "ego_pose", lambda rows: rows.pop(4))
    refused(root, "ego_pose.json", "'p4'", "sample_data 4")


def test_times_that_run_backwards(root: Path) -> None:
    edit_table(root, "sample", lambda rows: rows[5].update(timestamp=rows[4]["timestamp"]))
    refused(root, "times do not increase")


def test_scene_without_map_is_an_error_or_a_corridor(root: Path) -> None:
    (root / "maps" / "expansion" / f"{LOCATION}.json").unlink()
    refused(root, "no map expansion for singapore-onenorth", "maps/")
    recording = load_recording(root, VERSION, SCENE, False, missing_map="corridor")
    assert recording.metadata["degraded"]
    assert any("no map" in line for line in recording.road.repairs)
    box = corners(recording.ego.pose, 4.084, 1.85, 1.4)
    assert shapely.contains_xy(recording.road.drivable, box.reshape(-1, 2)).all()
    assert recording.route_xy[-1, 0] - recording.ego.pose[-1, 0] >= 200
    with pytest.raises(ValueError, match="missing_map"):
        load_recording(root, VERSION, SCENE, False, missing_map="guess")


def test_damaged_map(root: Path) -> None:
    path = root / "maps" / "expansion" / f"{LOCATION}.json"
    whole = path.read_text()
    path.write_text(whole[:1000])
    refused(root, f"{LOCATION}.json", "not valid JSON")
    path.write_text(json.dumps({"version": "1.3"}))
    refused(root, f"{LOCATION}.json", "devkit cannot read")


def test_missing_map_picture(root: Path) -> None:
    (root / "maps" / "map.png").unlink()
    refused(root, "map.png")


@pytest.mark.parametrize(
    ("table", "field"), [("sample", "timestamp"), ("scene", "first_sample_token"), ("sample_annotation", "size")]
)
def test_record_without_a_field(root: Path, table: str, field: str) -> None:
    edit_table(root, table, lambda rows: rows[0].pop(field))
    refused(root, field)


def test_map_of_somewhere_else(root: Path) -> None:
    edit_table(root, "ego_pose", lambda rows: [r["translation"].__setitem__(1, 5000.0) for r in rows])
    refused(root, "has no lane within 400 m")


# --- the smooth track -------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(-5, 15), st.floats(-2, 2))
def test_constant_acceleration_is_reproduced(start: float, speed: float, acceleration: float) -> None:
    """Third differences vanish for a parabola, so smoothing must leave it as it is, between the knots too."""
    time, known = np.arange(0, 8.01, 0.1), np.arange(0, 8.01, 0.5)
    f = lambda t: start + speed * t + acceleration * t**2 / 2  # noqa: E731
    np.testing.assert_allclose(smooth(known, f(known), time, 0.05, 1.0), f(time), atol=1e-4)


def test_track_of_a_circle() -> None:
    """5 m/s on a radius of 20 m: curvature 1/20, yaw rate 1/4."""
    known, time = np.arange(0, 10.01, 0.5), np.arange(0, 10.01, 0.1)
    angle = 0.25 * known
    pose = np.stack([20 * np.sin(angle), 20 - 20 * np.cos(angle), wrap(angle + 0.0)], 1)
    track = ego_track(known, pose, time)
    inner = slice(10, -10)
    np.testing.assert_allclose(track.v[inner], 5.0, atol=0.03)
    np.testing.assert_allclose(track.curvature[inner], 0.05, atol=0.001)
    np.testing.assert_allclose(np.hypot(track.pose[:, 0], track.pose[:, 1] - 20), 20, atol=0.02)


def test_standing_and_reversing_track() -> None:
    time = np.arange(0, 5.01, 0.1)
    still = ego_track(np.arange(0, 5.01, 0.5), np.tile([3.0, 4.0, 2.0], (11, 1)), time)
    assert (still.v == 0).all()
    assert (still.curvature == 0).all()
    np.testing.assert_allclose(still.pose, np.tile([3.0, 4.0, 2.0], (51, 1)), atol=1e-6)
    known = np.arange(0, 5.01, 0.5)
    back = ego_track(known, np.stack([-2 * known, 0 * known, 0 * known], 1), time)
    np.testing.assert_allclose(back.v, -2.0, atol=0.01)


def test_velocity_of_uneven_annotations() -> None:
    at = np.array([0.0, 0.5, 1.5])
    velocity = annotated_velocity(at, np.array([[0.0, 0], [1, 0], [1, 3]]))
    np.testing.assert_allclose(velocity, [[2, 0], [1 / 1.5, 2], [0, 3]])


# --- cache ------------------------------------------------------------------------------------


def same(a: Recording, b: Recording) -> bool:
    return (
        np.array_equal(a.ego.pose, b.ego.pose)
        and np.array_equal(a.agents.pose, b.agents.pose)
        and a.road.lane_ids == b.road.lane_ids
        and all(np.array_equal(a.road.lanes[i].centerline, b.road.lanes[i].centerline) for i in a.road.lane_ids)
        and all(a.road.lanes[i].polygon.equals(b.road.lanes[i].polygon) for i in a.road.lane_ids)
        and all(a.road.lanes[i].successors == b.road.lanes[i].successors for i in a.road.lane_ids)
        and a.road.drivable.equals(b.road.drivable)
        and a.road.repairs == b.road.repairs
        and (a.route, a.metadata, a.vehicle, a.start_us) == (b.route, b.metadata, b.vehicle, b.start_us)
        and np.array_equal(a.route_xy, b.route_xy)
    )


def test_cache_gives_back_the_same_recording_without_reading_again(root: Path, tmp_path: Path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    first = load_recording(root, VERSION, SCENE, cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("perception.nuscenes._read", lambda *_: pytest.fail("the cache was not used"))
    assert same(first, load_recording(root, VERSION, SCENE, cache))


def test_cache_notices_a_change_of_the_same_size_and_time(root: Path, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", table_file(root, "ego_pose")
    load_recording(root, VERSION, SCENE, cache)
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace('"translation": [24.0, 0.0', '"translation": [24.0, 0.1'))
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = load_recording(root, VERSION, SCENE, cache)
    assert changed.ego.pose[5, 1] == pytest.approx(0.1, abs=1e-2)


def test_cache_notices_a_changed_map_but_not_a_touched_file(root: Path, tmp_path: Path, monkeypatch) -> None:
    cache, path = tmp_path / "cache", root / "maps" / "expansion" / f"{LOCATION}.json"
    load_recording(root, VERSION, SCENE, cache)
    content = build_map()
    content["connectivity"]["A"]["outgoing"] = []
    path.write_text(json.dumps(content))
    assert any("added" in line for line in load_recording(root, VERSION, SCENE, cache).road.repairs)
    path.touch()
    monkeypatch.setattr("perception.nuscenes._read", lambda *_: pytest.fail("same content, read again"))
    load_recording(root, VERSION, SCENE, cache)


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_damaged_cache_is_made_again_with_a_notice(root: Path, tmp_path: Path, damage: str, caplog) -> None:
    cache = tmp_path / "cache"
    first = load_recording(root, VERSION, SCENE, cache)
    (path,) = cache.iterdir()
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        raw[len(raw) // 2] ^= 0xFF
    path.write_bytes({"cut": raw[: len(raw) // 2], "flip": raw, "text": b"hello", "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, logger="dualdrive.data"):
        assert same(first, load_recording(root, VERSION, SCENE, cache))
    assert "made again" in caplog.text
    assert same(first, load_recording_file(path))


def test_cache_that_cannot_be_written_is_only_logged(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, logger="dualdrive.data"):
        recording = load_recording(root, VERSION, SCENE, tmp_path / "file" / "cache")
    assert recording.name == SCENE
    assert "is not cached" in caplog.text


def test_default_cache_is_in_the_users_cache_folder(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_recording(root, VERSION, SCENE, False)
    assert not (tmp_path / "xdg").exists()
    load_recording(root, VERSION, SCENE)
    assert len(list((tmp_path / "xdg" / "dualdrive" / "nuscenes").glob("*.npz"))) == 1


def test_recording_file_is_written_whole_or_not_at_all(root: Path, tmp_path: Path, monkeypatch) -> None:
    recording = load_recording(root, VERSION, SCENE, False)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        save_recording(tmp_path / "out" / "r.npz", recording)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(FileNotFoundError):
        load_recording_file(tmp_path / "out" / "r.npz")


def test_other_schema_is_refused(root: Path, tmp_path: Path, monkeypatch) -> None:
    recording = load_recording(root, VERSION, SCENE, False)
    monkeypatch.setattr("perception.recording_file.SCHEMA", 99)
    save_recording(tmp_path / "r.npz", recording)
    monkeypatch.undo()
    with pytest.raises(RecordingFileError, match="schema 99"):
        load_recording_file(tmp_path / "r.npz")


# --- the real scenes --------------------------------------------------------------------------


@pytest.mark.nuscenes
def test_real_expert_is_on_the_road_and_touches_nothing(mini: dict[str, Recording]) -> None:
    """What the data's own description states: no corner off the drivable area, smallest gap 0.66 m."""
    smallest = {}
    for scene, r in mini.items():
        box = corners(r.ego.pose, 4.084, 1.85, 1.4)
        assert shapely.contains_xy(r.road.drivable, box.reshape(-1, 2)).all(), scene
        ego, gap = shapely.polygons(box), np.inf
        for pose, size, valid in zip(r.agents.pose, r.agents.size, r.agents.valid):
            other = shapely.polygons(corners(pose[valid], *size))
            gap = min(gap, float(shapely.distance(ego[valid], other).min()))
        smallest[scene] = gap
    assert min(smallest.values()) == pytest.approx(0.66, abs=0.01), smallest
    assert smallest["scene-0757"] == pytest.approx(0.665, abs=0.005)


@pytest.mark.nuscenes
def test_real_counts_and_speeds(mini: dict[str, Recording], nuscenes_root: Path) -> None:
    counts = {scene: int(r.agents.valid[:, r.keyframe].sum()) for scene, r in mini.items()}
    assert counts["scene-0757"] >= 604  # gaps in a track are filled
    assert mini["scene-0061"].keyframe.sum() == 39
    assert np.hypot(*np.diff(mini["scene-0796"].ego.pose[:, :2], axis=0).T).sum() == pytest.approx(235.8, abs=0.2)
    assert mini["scene-0796"].ego.v.max() == pytest.approx(12.99, abs=0.1)
    standing = mini["scene-0553"].ego
    assert (standing.v == 0).all()
    assert (standing.curvature == 0).all()
    for r in mini.values():
        assert np.abs(r.ego.a).max() < 3.0
        assert (r.ego.v >= 0).all()
        speed = np.hypot(*np.moveaxis(r.agents.velocity, -1, 0))[r.agents.valid]
        assert speed.max() < 30


@pytest.mark.nuscenes
def test_real_velocities_are_the_devkits(mini: dict[str, Recording], nuscenes_root: Path) -> None:
    from perception.nuscenes_tables import open_tables

    tables = open_tables(nuscenes_root, VERSION)
    r = mini["scene-0103"]
    row, checked = {token: n for n, token in enumerate(r.agents.id)}, 0
    token, first = next(s["first_sample_token"] for s in tables.scene if s["name"] == r.name), None
    while token:
        sample = tables.get("sample", token)
        first = first or sample["timestamp"]
        k = round((sample["timestamp"] - first) / 1e5)
        for annotation in sample["anns"]:
            expected = tables.box_velocity(annotation)[:2]
            if np.isfinite(expected).all():
                n = row[tables.get("sample_annotation", annotation)["instance_token"]]
                np.testing.assert_allclose(r.agents.velocity[n, k], expected, atol=1e-6)
                checked += 1
        token = sample["next"]
    assert checked > 1000

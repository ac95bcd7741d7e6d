"""Pieces of the recorder: arc lines, places of towns, crossings, names, pictures, moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_scenes import agent, recording, straight_track

from eval.simulation.generate import generate
from eval.simulation.record.annotations import Observed, annotated
from eval.simulation.record.arclines import TOLERANCE, arcline_path
from eval.simulation.record.moments import at_time
from eval.simulation.record.png import write_grey_png
from eval.simulation.record.schema import attribute_of, category_of, quaternion, visibility_of, yaw_quaternion
from eval.simulation.record.towns import MARGIN, place_towns, with_crossings
from perception.recording import ObjectStates
from perception.sensor_frame import Boxes3D, rigid
from planner.scene import AgentClass


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


def test_annotated_is_whom_any_sensor_saw_from_the_first_to_the_last_time() -> None:
    def frame(**seen: tuple[int, float]) -> Observed:
        ids = np.array([int(name[1:]) for name in seen])
        zero = np.zeros((len(ids), 2))
        objects = ObjectStates(ids, np.zeros(len(ids), int), zero + 1, np.zeros((len(ids), 3)), zero)
        boxes = Boxes3D(np.zeros((len(ids), 3)), np.ones((len(ids), 3)), np.zeros(len(ids)), objects.agent_class)
        points, share = (np.array(column) for column in zip(*seen.values()))
        return Observed(objects, boxes, points, share)

    frames = [
        frame(t1=(0, 0.0), t2=(0, 0.3), t3=(0, 0.0)), frame(t1=(4, 0.0), t2=(0, 0.0), t3=(0, 0.0)),
        frame(t1=(0, 0.0), t2=(0, 0.01)), frame(t1=(1, 0.0), t2=(0, 0.0)),
    ]  # fmt: skip
    assert annotated(frames) == {1: (1, 3), 2: (0, 2)}

"""Open-loop protocols: the same trajectory, different numbers, each of them checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import geometry, open_loop_grid
from eval.metrics.open_loop import (
    LIDAR_AHEAD,
    PROTOCOLS,
    OpenLoopSample,
    anyhit_exact,
    lidar_points,
    uniad_noavg,
    vad_temavg,
    with_heading,
)
from eval.open_loop import CONSTANT_VELOCITY, HUMAN, evaluate_open_loop, poses_of, score, table
from planner.scene import AgentClass, Trajectory, VectorScene

CAR, PEDESTRIAN, STATIC = AgentClass.CAR, AgentClass.PEDESTRIAN, AgentClass.STATIC
TIMES = 0.5 * np.arange(1, 7)


def straight(v: float, y: float = 0.0) -> np.ndarray:
    return np.column_stack([v * TIMES, np.full(6, y), np.zeros(6)])


def sample(
    recorded: np.ndarray,
    agents: list[tuple[float, float, AgentClass]] | None = None,
    future: int = 6,
    size: tuple[float, float] = (4.0, 2.0),
) -> OpenLoopSample:
    """Agents stand at x, y (m), yaw 0, all the time; `future` steps are recorded."""
    agents = agents or []
    pose = np.array([[(x, y, 0.0)] * 7 for x, y, _ in agents]).reshape(-1, 7, 3)
    known = np.arange(1, 7) <= future
    present = np.tile(np.concatenate([[True], known]), (len(agents), 1))
    kinds = np.array([int(kind) for _, _, kind in agents], np.int64)
    return OpenLoopSample("s", 0, recorded, known, pose, np.tile(size, (len(agents), 1)), kinds, present)


# -- conventions of time -------------------------------------------------------------------
def test_one_trajectory_gives_a_different_l2_in_each_convention() -> None:
    """Error 0.1 m more each step: at 1 s 0.2 at the instant, 0.15 on average; at 3 s 0.6 and 0.35."""
    recorded = straight(5.0)
    plan = recorded + np.column_stack([0.1 * np.arange(1, 7), np.zeros((6, 2))])
    at_instant, averaged = uniad_noavg([sample(recorded)], [plan]), vad_temavg([sample(recorded)], [plan])
    assert at_instant.l2 == pytest.approx({"1s": 0.2, "2s": 0.4, "3s": 0.6, "avg": 0.4})
    assert averaged.l2 == pytest.approx({"1s": 0.15, "2s": 0.25, "3s": 0.35, "avg": 0.25})
    assert anyhit_exact([sample(recorded)], [plan]).extra["l2_at_instant_m"] == pytest.approx(at_instant.l2)


def test_uniad_counts_missing_steps_as_perfect_and_vad_drops_the_sample() -> None:
    recorded, plan = straight(5.0), straight(5.0, y=1.0)
    samples, plans = [sample(recorded), sample(recorded, future=3)], [plan, plan]
    diluted, dropped = uniad_noavg(samples, plans), vad_temavg(samples, plans)
    assert (diluted.samples, dropped.samples) == (2, 1)
    assert diluted.l2 == pytest.approx({"1s": 1.0, "2s": 0.5, "3s": 0.5, "avg": 2 / 3})
    assert dropped.l2["3s"] == pytest.approx(1.0)


def test_collision_rates_of_one_hit_in_the_last_step() -> None:
    """The plan reaches a standing car only at 3 s: 100 % at the instant and for any hit, a sixth on average."""
    recorded, plan = straight(2.0), straight(5.0)
    samples = [sample(recorded, [(15.0 + 3.0, 0.0, CAR)])]
    assert uniad_noavg(samples, [plan]).collision == pytest.approx({"1s": 0, "2s": 0, "3s": 100, "avg": 100 / 3})
    assert vad_temavg(samples, [plan]).collision["3s"] == pytest.approx(100 / 6)
    assert anyhit_exact(samples, [plan]).collision["3s"] == pytest.approx(100)


def test_collisions_at_steps_that_do_not_exist_are_not_counted() -> None:
    samples = [sample(straight(2.0), [(18.0, 0.0, CAR)], future=5)]
    samples[0].present[:] = True
    assert uniad_noavg(samples, [straight(5.0)]).collision["3s"] == 0.0


# -- agents --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "uniad", "vad", "exact"), [(CAR, 100, 100, 100), (PEDESTRIAN, 0, 100, 100), (STATIC, 0, 0, 100)]
)
def test_who_counts_depends_on_the_protocol(kind: AgentClass, uniad: float, vad: float, exact: float) -> None:
    """Someone 1 m wide stands where ego comes by at every step."""
    recorded = straight(0.0, y=8.0)
    samples, plans = [sample(recorded, [(2.0, 0.0, kind)], size=(1.0, 1.0))], [straight(0.0)]
    assert uniad_noavg(samples, plans).collision["3s"] == uniad
    assert vad_temavg(samples, plans).collision["3s"] == vad
    assert anyhit_exact(samples, plans).collision["3s"] == exact


def test_vad_looks_only_at_agents_annotated_now_and_ever_since() -> None:
    recorded, plan = straight(0.0, y=8.0), straight(0.0)
    late = sample(recorded, [(2.0, 0.0, CAR)])
    late.present[:, 0] = False
    gap = sample(recorded, [(2.0, 0.0, CAR)])
    gap.present[:, 3] = False
    assert vad_temavg([late], [plan]).collision["3s"] == 0.0
    assert uniad_noavg([late], [plan]).collision["3s"] == 100.0
    assert vad_temavg([gap], [plan]).collision["3s"] == pytest.approx(100 * 2 / 6)


def test_the_recorded_drivers_own_hits_are_filtered_step_by_step() -> None:
    """A car beside the recorded way, 0.1 m apart: cells say hit, and so the plan's hit there is not counted."""
    recorded = straight(4.0)
    agents = [(12.0, 0.925 + 0.1 + 1.0, CAR)]
    samples = [sample(recorded, agents)]
    grid = open_loop_grid.UNIAD
    box = geometry.box_corners(np.array([12.0 - LIDAR_AHEAD, 2.025, 0.0]), 4.0, 2.0)
    assert open_loop_grid.hits(lidar_points(recorded)[4], box[None], grid), "the grid must see a false hit here"
    through = straight(4.0, y=1.0)
    assert uniad_noavg(samples, [recorded]).collision["3s"] == 0.0
    assert uniad_noavg(samples, [through]).collision["3s"] == 0.0
    exact = anyhit_exact(samples, [through])
    assert exact.collision["3s"] == 100.0
    assert exact.extra["collision_filtered_percent"]["3s"] == 100.0, "exactly, the recorded driver never touches"


def test_filter_of_the_exact_protocol_only_forgives_the_same_step() -> None:
    recorded = straight(4.0)
    samples = [sample(recorded, [(8.0, 0.0, CAR)])]
    assert anyhit_exact(samples, [recorded]).collision["3s"] == 100.0
    assert anyhit_exact(samples, [recorded]).extra["collision_filtered_percent"]["3s"] == 0.0
    standing = straight(0.0) + np.array([6.6, 0, 0])
    assert anyhit_exact(samples, [standing]).extra["collision_filtered_percent"]["1s"] == 100.0


# -- geometry of the codebases ---------------------------------------------------------------
def test_ego_covers_thirty_two_cells_half_a_metre_ahead_of_the_lidar() -> None:
    cells = open_loop_grid.ego_cells(np.zeros(2), open_loop_grid.UNIAD)
    assert len(cells) == 32
    assert (cells.min(0).tolist(), cells.max(0).tolist()) == ([97, 98], [104, 101])
    moved = open_loop_grid.ego_cells(np.array([10.0, 3.0]), open_loop_grid.UNIAD)
    assert (moved - cells == [20, -6]).all(), "forward raises the row, left lowers the column"


def test_box_fill_touches_what_opencv_fills() -> None:
    """Corners round to whole numbers and edges are part of the fill: a 1 m box covers three by three cells."""
    box = geometry.box_corners(np.array([10.0, 5.0, 0.0]), 1.0, 1.0)
    cells = open_loop_grid.box_cells(box, open_loop_grid.UNIAD)
    assert cells.min(0).tolist() == [119, 89]
    assert cells.max(0).tolist() == [121, 91]
    assert len(cells) == 9


@settings(max_examples=60, deadline=None)
@given(st.floats(-45, 45), st.floats(-45, 45), st.floats(-3, 3), st.floats(0.5, 10), st.floats(0.5, 3))
def test_box_fill_agrees_with_opencv(x: float, y: float, yaw: float, length: float, width: float) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the nuscenes extra")
    box = geometry.box_corners(np.array([x, y, yaw]), length, width)
    vertex = np.round((np.stack([box[:, 0], -box[:, 1]], -1) + 50) / 0.5).astype(np.int32)
    image = np.zeros((200, 200))
    cv2.fillPoly(image, [vertex[:, ::-1].copy()], 1.0)
    own = np.zeros((200, 200))
    own[tuple(open_loop_grid.box_cells(box, open_loop_grid.UNIAD).T)] = 1.0
    # Versions of OpenCV break ties on edges differently; more than a few edge cells would be a mistake.
    assert np.abs(image - own).sum() <= max(6, 0.1 * image.sum())


def test_a_point_of_the_rear_axle_is_a_point_of_the_lidar_moved_by_the_turn() -> None:
    turned = np.array([[3.0, 1.0, np.pi / 2]])
    assert lidar_points(turned)[0] == pytest.approx([3.0 - LIDAR_AHEAD, 1.0 + LIDAR_AHEAD])
    assert lidar_points(straight(5.0)) == pytest.approx(straight(5.0)[:, :2])


def test_heading_from_points_follows_the_path_and_stays_zero_when_hardly_moving() -> None:
    angle = TIMES / 3.0
    arc = 10 * np.column_stack([np.sin(angle), 1 - np.cos(angle)])
    found = with_heading(arc)[:, 2]
    assert found[:-1] == pytest.approx(angle[:-1], abs=0.02)
    assert (with_heading(0.01 * arc)[:, 2] == 0).all()
    with pytest.raises(ValueError, match=r"\(6, 2\)"):
        with_heading(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        with_heading(np.full((6, 2), np.nan))


def test_poses_of_a_short_trajectory_hold_at_its_end() -> None:
    import torch

    time = torch.linspace(0, 2, 21, dtype=torch.float64)
    zero = torch.zeros_like(time)
    poses = poses_of(Trajectory(time, 3 * time, zero, zero, zero + 3, zero, zero))
    assert poses[:, 0] == pytest.approx([1.5, 3.0, 4.5, 6.0, 6.0, 6.0])


# -- whole evaluations -----------------------------------------------------------------------
def test_results_name_protocol_samples_and_the_turning_subset() -> None:
    angle = TIMES / 3.0
    bend = np.column_stack([10 * np.sin(angle), 10 * (1 - np.cos(angle)), angle])
    samples = [sample(straight(5.0)), sample(bend)]
    results = score(samples, {HUMAN: [s.recorded for s in samples], "straight": [straight(5.0)] * 2})
    assert (results["samples"], results["turning_samples"]) == (2, 1)
    assert len(results["sample_list_sha256"]) == 64
    assert results["planners"]["straight"]["turning"]["uniad_noavg"]["samples"] == 1
    rows = table(results)
    assert {row["protocol"] for row in rows} == set(PROTOCOLS)
    assert rows[0]["N"] == "2"


@pytest.mark.nuscenes
def test_recorded_human_passes_the_self_test_and_standing_still_does_not(nuscenes_root: Path) -> None:
    def stay(scene: VectorScene) -> None:
        return None

    results = evaluate_open_loop(nuscenes_root, "v1.0-mini", {"stay": stay}, scenes=["scene-0061"])
    human, standing = results["planners"][HUMAN], results["planners"]["stay"]
    assert human["uniad_noavg"]["samples"] - human["vad_temavg"]["samples"] == 6
    for tag in PROTOCOLS:
        assert human[tag]["l2_m"]["avg"] == 0.0
        assert human[tag]["collision_percent"]["avg"] == 0.0
        assert standing[tag]["l2_m"]["avg"] > results["planners"][CONSTANT_VELOCITY][tag]["l2_m"]["avg"] > 0.0
    assert standing["without_plan"] == human["uniad_noavg"]["samples"]

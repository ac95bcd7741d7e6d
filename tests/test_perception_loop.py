"""The study of learned perception in the loop: what counts as seen, told and nobody, and how rows are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_fixture import recording, trace

from eval.layers import LAYERS
from eval.simulation.trace import Trace
from eval.studies.drives import Scene
from eval.studies.perception_loop import VARIANTS, rows_of, seen_and_told, tasks_of


def drive(boxes: list[dict], leader: float = 20.0) -> Trace:
    """One step: ego at the origin, a car ahead and one 45 m behind; told: `boxes`."""
    full = trace(recording("bend-00"), "dualdrive", "idm")
    names = ("pose", "v", "a", "curvature", "yaw_rate", "time", "tail_accepted", "cycle_ms", "solve_ms", "check_ms")
    pose = np.array([[leader, 0.0, 0.0], [-45.0, 0.0, 0.0]])
    return replace(
        full, **{name: getattr(full, name)[:1] for name in (*names, "min_gap")},
        track_id=np.array([1, 2]), agent_class=np.array([0, 0]), size=np.array([[4.0, 2.0], [4.0, 2.0]]),
        agent_pose=pose[:, None], agent_velocity=np.zeros((2, 1, 2)), agent_valid=np.ones((2, 1), bool),
        steps=[{"perceived": boxes}], source=["candidate"], reason=[""],
    )  # fmt: skip


def box(x: float, y: float, p: float = 0.9) -> dict:
    return {"track_id": 5, "class": 0, "xy": [x, y], "yaw": 0.0, "size": [4.0, 2.0], "p": p}


@pytest.mark.parametrize(
    ("boxes", "found", "told", "ghosts"),
    [
        ([], 0, 0, 0),
        ([box(20.0, 1.9)], 1, 1, 0),
        ([box(20.0, 2.1)], 0, 1, 1),  # just too far from the car: it is missed, and the box means nobody
        ([box(20.0, 0.0, 0.29)], 0, 0, 0),  # not believed
        ([box(20.0, 0.0, 0.3), box(20.0, 0.5)], 1, 2, 0),
        ([box(-45.0, 0.0), box(31.0, 0.0)], 0, 0, 0),  # too far away to be asked for, or to be held against anybody
        ([box(-20.0, 0.0)], 0, 1, 1),
    ],
)
def test_what_was_seen_told_and_nobody(boxes: list[dict], found: int, told: int, ghosts: int) -> None:
    one = drive(boxes)
    one.pose = np.zeros((1, 3))
    assert seen_and_told(one, occlusion=False) == {"seen": 1, "found": found, "told": told, "ghosts": ghosts}


def test_who_is_hidden_is_not_asked_for() -> None:
    one = drive([])
    one.pose = np.zeros((1, 3))
    one.agent_pose[1, 0] = [28.0, 0.0, 0.0]  # behind the first car
    assert seen_and_told(one, occlusion=False)["seen"] == 2
    assert seen_and_told(one, occlusion=True)["seen"] == 1


def test_a_drive_with_the_oracle_has_nothing_to_compare() -> None:
    one = drive([])
    one.steps = [{}]
    assert seen_and_told(one, occlusion=True) == {"seen": 0, "found": 0, "told": 0, "ghosts": 0}


def test_rows_count_drives_and_carry_intervals() -> None:
    sums = dict.fromkeys(("episodes", "without_tail", "braking_hard", "seen", "found", "told", "ghosts"), 1)
    base = {"steps": 10, "interventions": 2, "off_road": 0.0, "cls": 0.5, "progress": 1.0, "collisions": 0.0, **sums}
    facts = [
        base | {"variant": "network", "at_fault_collisions": hits, "collisions": hits} for hits in (0.0, 2.0, 0.0, 0.0)
    ]
    facts.append(base | {"variant": "oracle", "at_fault_collisions": 0.0, "progress": None})
    network, oracle = rows_of(facts)
    assert (network["drives"], network["at_fault"], network["collisions"]) == (4, 1, 1)
    low, high = network["at_fault_interval"]
    assert low < 0.25 < high
    assert network["interventions"] == 8
    assert oracle["progress"] is None


def test_every_variant_drives_under_a_name_of_its_own() -> None:
    scenes = [Scene("generated", "merge", (("seed", 1000.0),))]
    keys = {task.key for variant in VARIANTS for task in tasks_of(variant, scenes, "log_replay", None)}
    assert len(keys) == len(VARIANTS)
    assert {key.planner.endswith("@network") for key in keys} == {True, False}
    assert VARIANTS[0].layers == LAYERS[:2]

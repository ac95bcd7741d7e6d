"""Scenes of the regulation and rating protocols have the parameters that their names say."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from sim_scenes import box

from eval.simulation.generate.protocols import BUILDERS, cell_name, protocol_scene
from eval.simulation.generate.protocols.track import EGO, half_cosine
from eval.simulation.occlusion import visible
from perception.recording import ObjectStates, Recording

CELLS: dict[str, tuple[dict[str, float], float]] = {
    "r157_cut_in": ({"ego_kmh": 60, "relative_kmh": -50, "gap": 10, "lateral": 2}, 2.2),
    "r157_cut_out": ({"ego_kmh": 40, "distance": 30, "lateral": 2}, 6.0),
    "r157_braking_lead": ({"ego_kmh": 60, "deceleration": 6}, 3.8),
    "CCRs": ({"ego_kmh": 50, "overlap": 75}, 4.5),
    "CCRm": ({"ego_kmh": 50}, 4.5),
    "CCRb": ({"ego_kmh": 50}, 3.7),
    "CCFhos": ({"ego_kmh": 50, "target_kmh": 50}, 4.5),
    "CCFtap": ({"ego_kmh": 15, "target_kmh": 45}, 4.5),
    "CCCscp": ({"ego_kmh": 40, "target_kmh": 20}, 4.5),
    "CPNA": ({"ego_kmh": 50, "impact": 25}, 4.5),
    "CPNCO": ({"ego_kmh": 40}, 4.5),
    "CPLA": ({"ego_kmh": 50}, 4.5),
    "CBNA": ({"ego_kmh": 50}, 6.1),
    "CBNAO": ({"ego_kmh": 40}, 4.5),
}


def nominal_contact(recording: Recording) -> float:
    """First time (s) at which the ego that does nothing touches the hazard; shapely decides."""
    i = recording.metadata["hazard"]["track_id"]
    for k, time in enumerate(recording.time):
        x, y, yaw = recording.ego.pose[k]
        centre = np.array([x + EGO.rear_axle_to_center * np.cos(yaw), y + EGO.rear_axle_to_center * np.sin(yaw), yaw])
        ours, theirs = box(centre, (EGO.length, EGO.width)), box(recording.agents.pose[i, k], recording.agents.size[i])
        if ours.intersects(theirs):
            return float(time)
    return float("inf")


def test_every_family_is_covered() -> None:
    assert set(CELLS) == set(BUILDERS)


@pytest.mark.parametrize("family", list(CELLS))
def test_doing_nothing_leads_to_the_intended_contact(family: str) -> None:
    parameters, expected = CELLS[family]
    recording = protocol_scene(family, parameters)
    assert recording.name == cell_name(family, parameters)
    assert nominal_contact(recording) == pytest.approx(expected, abs=0.45)
    shown = recording.metadata["hazard"]["onset"]
    assert 0 <= shown < expected
    # Nobody stands in anybody else, and ego's lane is on the road.
    assert recording.road.drivable.buffer(0.05).covers(shapely.LineString(recording.ego.pose[:, :2]))


def test_pedestrian_is_hit_where_the_protocol_says() -> None:
    for impact, y in ((25, -0.4625), (50, 0.0), (75, 0.4625)):
        recording = protocol_scene("CPNA", {"ego_kmh": 40, "impact": impact})
        i = recording.metadata["hazard"]["track_id"]
        assert recording.agents.pose[i, 45, 1] == pytest.approx(y, abs=0.02)
        assert np.abs(recording.agents.velocity[i, 45]).max() == pytest.approx(5 / 3.6, abs=1e-6)


def test_half_cosine_has_the_asked_peak_and_end() -> None:
    t = np.arange(0, 8, 0.001)
    y = half_cosine(t, 1.0, 3.5, 2.0)
    assert y[0] == 0
    assert y[-1] == pytest.approx(3.5)
    assert np.diff(y).max() / 0.001 == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("family", ["CPNCO", "CBNAO"])
def test_obstructed_users_are_hidden_at_first_and_seen_later(family: str) -> None:
    recording = protocol_scene(family, {"ego_kmh": 40})
    a, target = recording.agents, recording.metadata["hazard"]["track_id"]
    seen = []
    for k in range(46):
        everybody = ObjectStates(a.track_id, a.agent_class, a.size, a.pose[:, k], a.velocity[:, k])
        seen.append(target in visible(everybody, recording.ego.pose[k]).track_id)
    walking = round(recording.metadata["hazard"]["onset"] * 10)
    assert not any(seen[walking : walking + 10])
    assert any(seen[:46])


@pytest.mark.parametrize(
    ("family", "parameters", "words"),
    [
        ("r157_cut_in", {"ego_kmh": 20, "relative_kmh": -30, "gap": 10, "lateral": 1}, "backwards"),
        ("r157_cut_in", {"ego_kmh": 20, "relative_kmh": -10, "gap": 10, "lateral": 3}, "lateral"),
        ("r157_cut_out", {"ego_kmh": 60, "distance": 10, "lateral": 1}, "run into"),
        ("moose", {}, "expected one of"),
    ],
)
def test_impossible_cells_say_why(family: str, parameters: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        protocol_scene(family, parameters)
